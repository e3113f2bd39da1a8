/* The calls by which a program makes something durable: which they are, and what one of them is about. */
#define _GNU_SOURCE
#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static const struct {
    int number;
    const char *name;
} CALLS[] = {
    {SYS_write, "write"},         {SYS_pwrite64, "pwrite"},     {SYS_writev, "writev"},
    {SYS_pwritev, "pwritev"},     {SYS_fsync, "fsync"},         {SYS_fdatasync, "fdatasync"},
    {SYS_ftruncate, "ftruncate"}, {SYS_fallocate, "fallocate"}, {SYS_renameat, "rename"},
    {SYS_renameat2, "rename"},    {SYS_unlinkat, "unlink"},     {SYS_linkat, "link"},
    {SYS_symlinkat, "symlink"},   {SYS_mkdirat, "mkdir"},       {SYS_copy_file_range, "copy_file_range"},
    {SYS_syncfs, "syncfs"},       {SYS_sync_file_range, "sync_file_range"},
#ifdef SYS_rename
    {SYS_rename, "rename"},       {SYS_unlink, "unlink"},       {SYS_link, "link"},
    {SYS_symlink, "symlink"},     {SYS_mkdir, "mkdir"},         {SYS_rmdir, "rmdir"},
#endif
    /* Only where they make or empty a file. */
    {SYS_openat, "open"},
    /* These change nothing, but we need to see them. */
    {SYS_pread64, "pread"},       {SYS_fadvise64, "fadvise"},   {SYS_prctl, "prctl"},
    {SYS_listen, "listen"},
};
const int CALL_COUNT = sizeof CALLS / sizeof *CALLS;

void fail(const char *what) {
    perror(what);
    exit(121);
}

int call_number(int index) {
    return CALLS[index].number;
}

const char *call_name(int number) {
    for (int i = 0; i < CALL_COUNT; i++)
        if (CALLS[i].number == number) return CALLS[i].name;
    return "?";
}

void copy_in(pid_t pid, uint64_t from, void *to, size_t len) {
    struct iovec here = {to, len}, there = {(void *)(uintptr_t)from, len};
    if (process_vm_readv(pid, &here, 1, &there, 1, 0) != (ssize_t)len) fail("reading the program's memory");
}

static void text_in(pid_t pid, uint64_t from, char *to) {
    for (size_t i = 0; i < NAME; i += 64) {
        struct iovec here = {to + i, 64}, there = {(void *)(uintptr_t)(from + i), 64};
        ssize_t got = process_vm_readv(pid, &here, 1, &there, 1, 0);
        /* A short name right before the end of a page. */
        for (size_t k = 0; got < 0 && k < 64; k++) {
            copy_in(pid, from + i + k, to + i + k, 1);
            if (!to[i + k]) return;
        }
        if (memchr(to + i, 0, 64)) return;
    }
    fail("a name is too long");
}

/* The path of a file descriptor; empty if it is no file. */
static void resolve(struct call *call) {
    snprintf(call->link, sizeof call->link, "/proc/%d/fd/%d", (int)call->notice->pid, (int)call->notice->data.args[0]);
    ssize_t len = readlink(call->link, call->path, NAME - 1);
    call->path[len > 0 ? len : 0] = 0;
}

static off_t position(const struct call *call) {
    char path[64], line[128];
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", (int)call->notice->pid, (int)call->notice->data.args[0]);
    FILE *info = fopen(path, "r");
    long long at = 0;
    while (info && fgets(line, sizeof line, info))
        if (sscanf(line, "pos: %lld", &at) == 1) break;
    if (info) fclose(info);
    return at;
}

int is_direct(const struct call *call) {
    char path[64], line[128];
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", (int)call->notice->pid, (int)call->notice->data.args[0]);
    FILE *info = fopen(path, "r");
    unsigned flags = 0;
    while (info && fgets(line, sizeof line, info))
        if (sscanf(line, "flags: %o", &flags) == 1) break;
    if (info) fclose(info);
    return (flags & O_DIRECT) != 0;
}

static int is_below(const char *path, const char *root) {
    size_t len = strlen(root);
    return !strncmp(path, root, len) && path[len] == '/';
}

int is_write(int number) {
    return number == SYS_write || number == SYS_pwrite64 || number == SYS_writev || number == SYS_pwritev;
}

int is_flush(int number) {
    return number == SYS_fsync || number == SYS_fdatasync;
}

/* What it is about, and whether that is below our root. */
int understand(struct call *call, const char *root) {
    const __u64 *a = call->notice->data.args;
    pid_t pid = (pid_t)call->notice->pid;
    int number = call->number;
    if (is_write(number) || is_flush(number) || number == SYS_ftruncate || number == SYS_fallocate
        || number == SYS_syncfs || number == SYS_sync_file_range || number == SYS_pread64 || number == SYS_fadvise64) {
        resolve(call);
        if (!is_below(call->path, root)) return 0;
        call->len = (off_t)a[2];
        if (number == SYS_write) call->offset = position(call);
        if (number == SYS_fadvise64) call->offset = (off_t)a[1];
        if (number == SYS_pwrite64 || number == SYS_pread64) call->offset = (off_t)a[3];
        if (number == SYS_fallocate) call->offset = (off_t)a[2], call->len = (off_t)a[3];
        if (number == SYS_writev || number == SYS_pwritev) fail("a vector is written, which this does not know");
        return 1;
    }
#ifdef SYS_rename
    if (number == SYS_rename || number == SYS_unlink || number == SYS_mkdir || number == SYS_rmdir) {
        text_in(pid, a[0], call->path);
        if (number == SYS_rename) text_in(pid, a[1], call->to);
        return is_below(call->path, root);
    }
#endif
    if (number == SYS_openat || number == SYS_unlinkat || number == SYS_mkdirat) {
        text_in(pid, a[1], call->path);
        return is_below(call->path, root);
    }
    if (number == SYS_renameat || number == SYS_renameat2) {
        text_in(pid, a[1], call->path);
        text_in(pid, a[3], call->to);
        return is_below(call->path, root);
    }
    /* Links, and copies in the kernel: of these there are none, and one that comes must be thought about. */
    fail(call_name(number));
    return 0;
}

