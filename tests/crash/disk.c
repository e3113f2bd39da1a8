/* A disk that forgets: what of a device's files is not durable yet, and what becomes of it when the power goes.
 *
 * The files themselves are what the page cache shows. Here is what the disk would hold where it differs: for each
 * sector that was written since the last flush, what it held then; and each change of a directory that was not flushed.
 *
 * A sector whose flush failed is lost, as on Linux: the cache shows the new bytes and takes them for clean, so the next
 * flush succeeds and writes nothing. Only what reads past the cache sees the old ones.
 *
 * A directory's changes are lost from the newest on, as by a file system with a journal. A file's own flush does not
 * make its name durable: on ext4 it would, POSIX does not promise it.
 */
#define _GNU_SOURCE
#include "disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTOR = 512, NAME = 512, MOST = 256 };

struct file {
    dev_t device;
    ino_t inode;
    int fd;
    /* As it is durable. */
    off_t size;
    size_t sectors;
    /* What the disk holds, where that is something else. */
    unsigned char **old;
    /* Its flush failed. */
    unsigned char *lost;
};

enum change_kind { CREATED, UNLINKED, RENAMED };
struct change {
    enum change_kind kind;
    char path[NAME], to[NAME], kept[NAME];
};

static struct file files[MOST];
static size_t file_count;
static struct change changes[MOST];
static size_t change_count;
static const char *kept_in;
static unsigned kept_count;

static void fail(const char *what) {
    perror(what);
    exit(120);
}

void disk_begin(const char *kept) {
    kept_in = kept;
}

static struct file *find(const char *path, int make) {
    struct stat now;
    if (stat(path, &now) || !S_ISREG(now.st_mode)) return NULL;
    for (size_t i = 0; i < file_count; i++)
        if (files[i].inode == now.st_ino && files[i].device == now.st_dev) return &files[i];
    if (!make) return NULL;
    if (file_count == MOST) fail("too many files");
    struct file *file = &files[file_count++];
    *file = (struct file){.device = now.st_dev, .inode = now.st_ino, .size = now.st_size};
    /* Held open: an inode that is gone must not lend its number to another file. */
    file->fd = open(path, O_RDWR | O_CLOEXEC);
    if (file->fd < 0) fail(path);
    return file;
}

static void reach(struct file *file, size_t sectors) {
    if (sectors <= file->sectors) return;
    file->old = realloc(file->old, sectors * sizeof *file->old);
    file->lost = realloc(file->lost, sectors);
    if (!file->old || !file->lost) fail("memory");
    memset(file->old + file->sectors, 0, (sectors - file->sectors) * sizeof *file->old);
    memset(file->lost + file->sectors, 0, sectors - file->sectors);
    file->sectors = sectors;
}

static void touch(struct file *file, off_t offset, off_t len) {
    if (len <= 0) return;
    size_t first = (size_t)offset / SECTOR, end = (size_t)(offset + len + SECTOR - 1) / SECTOR;
    reach(file, end);
    for (size_t at = first; at < end; at++) {
        file->lost[at] = 0;
        if (file->old[at]) continue;
        file->old[at] = calloc(1, SECTOR);
        /* What lies beyond the end reads as zeros. */
        if (!file->old[at] || pread(file->fd, file->old[at], SECTOR, (off_t)at * SECTOR) < 0) fail("reading");
    }
}

void disk_touch(const char *link, off_t offset, off_t len) {
    struct file *file = find(link, 1);
    if (file) touch(file, offset, len);
}

void disk_truncate(const char *path) {
    struct file *file = find(path, 1);
    struct stat now;
    if (file && !fstat(file->fd, &now)) touch(file, 0, now.st_size);
}

static void drop(struct file *file, size_t at) {
    free(file->old[at]);
    file->old[at] = NULL;
    file->lost[at] = 0;
}

static void revert(struct file *file, size_t at) {
    struct stat now;
    off_t offset = (off_t)at * SECTOR;
    if (fstat(file->fd, &now)) fail("fstat");
    off_t len = now.st_size - offset < SECTOR ? now.st_size - offset : SECTOR;
    if (len > 0 && pwrite(file->fd, file->old[at], (size_t)len, offset) != len) fail("taking back a write");
    drop(file, at);
}

void disk_flush(const char *link) {
    struct file *file = find(link, 0);
    struct stat now;
    if (!file) return;
    for (size_t at = 0; at < file->sectors; at++)
        if (file->old[at] && !file->lost[at]) drop(file, at);
    if (!fstat(file->fd, &now)) file->size = now.st_size;
}

void disk_lose(const char *link) {
    struct file *file = find(link, 0);
    for (size_t at = 0; file && at < file->sectors; at++)
        if (file->old[at]) file->lost[at] = 1;
}

static void show(struct file *file, size_t from, size_t until) {
    for (size_t at = from; at < file->sectors && at < until; at++)
        if (file->lost[at]) revert(file, at);
}

void disk_show(const char *link, off_t offset, off_t len) {
    struct file *file = find(link, 0);
    size_t until = len ? (size_t)(offset + len + SECTOR - 1) / SECTOR : SIZE_MAX;
    if (file) show(file, (size_t)offset / SECTOR, until);
}

/* A second name, so that what is there can come back. */
static void keep(const char *path, char *kept) {
    struct stat now;
    kept[0] = 0;
    if (lstat(path, &now)) return;
    snprintf(kept, NAME, "%s/%u", kept_in, kept_count++);
    if (link(path, kept)) fail(path);
}

static struct change *add(enum change_kind kind, const char *path, const char *to) {
    if (change_count == MOST) fail("too many changes of directories");
    struct change *change = &changes[change_count++];
    *change = (struct change){.kind = kind};
    snprintf(change->path, NAME, "%s", path);
    snprintf(change->to, NAME, "%s", to);
    return change;
}

void disk_create(const char *path) {
    add(CREATED, path, "");
    /* The file comes after this; find() sees it at its first write. Nothing of it is durable: not even its length. */
}

void disk_unlink(const char *path) {
    struct stat now;
    if (lstat(path, &now) || S_ISDIR(now.st_mode)) return;
    keep(path, add(UNLINKED, path, "")->kept);
}

void disk_rename(const char *from, const char *to) {
    struct stat now;
    if (lstat(from, &now)) return;
    keep(to, add(RENAMED, from, to)->kept);
}

static int is_in(const char *path, const char *directory) {
    size_t len = strlen(directory);
    return !strncmp(path, directory, len) && path[len] == '/' && !strchr(path + len + 1, '/');
}

void disk_flush_directory(const char *path) {
    size_t left = 0;
    for (size_t i = 0; i < change_count; i++) {
        if (is_in(changes[i].path, path)) {
            if (changes[i].kept[0]) unlink(changes[i].kept);
        } else {
            changes[left++] = changes[i];
        }
    }
    change_count = left;
}

static void take_back(const struct change *change) {
    switch (change->kind) {
    case CREATED:
        unlink(change->path);
        break;
    case UNLINKED:
        rename(change->kept, change->path);
        break;
    case RENAMED:
        rename(change->to, change->path);
        if (change->kept[0]) rename(change->kept, change->to);
        break;
    }
}

void disk_settle(void) {
    for (size_t i = 0; i < file_count; i++) show(&files[i], 0, SIZE_MAX);
    for (size_t i = 0; i < change_count; i++)
        if (changes[i].kept[0]) unlink(changes[i].kept);
}

static uint64_t next(uint64_t *state) {
    /* splitmix64 */
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void disk_forget(uint64_t seed) {
    uint64_t dice = seed;
    /* How many of four sectors are gone. */
    uint64_t share = seed ? 1 + next(&dice) % 3 : 4;
    for (size_t i = 0; i < file_count; i++) {
        struct file *file = &files[i];
        struct stat now;
        for (size_t at = 0; at < file->sectors; at++) {
            if (!file->old[at]) continue;
            if (file->lost[at] || next(&dice) % 4 < share) revert(file, at);
        }
        if (!fstat(file->fd, &now) && now.st_size != file->size && next(&dice) % 4 < share
            && ftruncate(file->fd, file->size))
            fail("taking back a length");
    }
    while (change_count && next(&dice) % 4 < share) take_back(&changes[--change_count]);
    while (change_count) {
        const struct change *change = &changes[--change_count];
        if (change->kept[0]) unlink(change->kept);
    }
}
