/* The calls by which a program makes something durable, and what one of them is about. See calls.c. */
#ifndef CALLS_H
#define CALLS_H
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { NAME = 512 };

/* One call that waits for us. */
struct call {
    const struct seccomp_notif *notice;
    int number;
    char link[64];
    char path[NAME], to[NAME];
    off_t offset, len;
};

/* The numbers of all that we want to see. */
extern const int CALL_COUNT;
int call_number(int index);
const char *call_name(int number);
int is_write(int number);
int is_flush(int number);

/* Finds out what it is about. Whether that is below the directory `root`. */
int understand(struct call *call, const char *root);
/* Whether it is about a file that was opened to be used past the page cache. */
int is_direct(const struct call *call);
/* Copies from the program's memory. */
void copy_in(pid_t pid, uint64_t from, void *to, size_t len);
/* What must not happen has: says so, and ends. */
void fail(const char *what);
#endif
