/* A disk that forgets: what of a device's files is not durable yet. See disk.c. */
#ifndef DISK_H
#define DISK_H
#include <stdint.h>
#include <sys/types.h>

/* Where what was unlinked or replaced is kept until that is durable. */
void disk_begin(const char *kept);

/* Before `len` bytes at `offset` of the file behind this path of /proc/PID/fd are changed. */
void disk_touch(const char *link, off_t offset, off_t len);
/* Before the file at `path` is emptied. */
void disk_truncate(const char *path);
/* It was flushed: what was written is durable, but for what an earlier flush has lost. */
void disk_flush(const char *link);
/* The flush failed: what was written is in memory alone, and taken for clean there. */
void disk_lose(const char *link);
/* `len` bytes at `offset` are about to be read past the cache: what was lost of them shows. With 0 it is all from there on. */
void disk_show(const char *link, off_t offset, off_t len);

/* Before a name is made, taken away, or moved; and once its directory was flushed. */
void disk_create(const char *path);
void disk_unlink(const char *path);
void disk_rename(const char *from, const char *to);
void disk_flush_directory(const char *path);

/* The machine is switched off in an orderly way: all is written, but for what was lost. */
void disk_settle(void);
/* The power goes. Of what is not durable, a part is gone that the seed decides; with seed 0 all of it. */
void disk_forget(uint64_t seed);
#endif
