/* Disks in memory that note down what reaches them, in one order: each write, each range that is given up, each flush.
 *
 *   disks FILE=SIZE...
 *
 * Each FILE, which must be there, becomes a file system of a single file, that disk (FUSE, spoken plainly): what is written
 * to it comes here at once, past any cache of the kernel's. A loop device on top makes a block device of it.
 *
 * On standard output: one line with our process, and the numbers of its descriptors of the log, of struct control, and of
 * each disk's bytes, to be opened below /proc. Then a line for each line on standard input, 0 or what is wrong:
 *
 *   mount DEVICE DIRECTORY    as ext4
 *   umount DIRECTORY
 *   forget DEVICE             what the kernel remembers of it
 *
 * We end with standard input, and are to be run in a namespace of mounts that ends with us.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { MOST_DISKS = 4, PIECE = 1 << 20, PAGE = 4096 };

/* What the test sets. */
struct control {
    /* Whether to note down what comes. */
    uint32_t is_logging;
    /* So many writes are said to be done, and are not. */
    uint32_t lose[MOST_DISKS];
    /* Most bytes a second that are written, and so many milliseconds in which nothing moves after so many bytes; 0 is
     * as fast as it goes. For tests/bench/bench/storage.py, which knows the place. */
    uint32_t rate, stall_every, stall_ms;
};

/* An entry of the log; the bytes of a write follow it. */
struct entry {
    /* Write, Zero or Flush. */
    uint8_t what;
    uint8_t disk;
    uint8_t reserved[6];
    uint64_t offset;
    uint64_t len;
};

struct disk {
    int fuse, store;
    uint8_t *bytes;
    uint64_t size;
};

static struct disk disks[MOST_DISKS];
static volatile struct control *control;
static int log_file;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void note(int disk, char what, uint64_t offset, uint64_t len, const void *bytes)
{
    struct entry entry = { .what = what, .disk = disk, .offset = offset, .len = len };
    struct iovec parts[] = { { &entry, sizeof entry }, { (void *)bytes, bytes ? len : 0 } };
    ssize_t all = sizeof entry + parts[1].iov_len;
    if (control->is_logging && writev(log_file, parts, 2) != all)
        fail("the log");
}

static int is_within(const struct disk *disk, uint64_t offset, uint64_t len)
{
    return offset <= disk->size && len <= disk->size - offset;
}

/* A file in memory. */
static int memory(const char *name, uint64_t size)
{
    int file = memfd_create(name, 0);
    if (file < 0 || ftruncate(file, size))
        fail(name);
    return file;
}

static void *mapped(int file, uint64_t size)
{
    void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (bytes == MAP_FAILED)
        fail("mmap");
    return bytes;
}

static void begin(struct disk *disk, char *argument)
{
    char *size = strrchr(argument, '='), options[100];
    if (!size)
        exit(2);
    *size++ = 0;
    disk->size = strtoull(size, NULL, 0);
    disk->store = memory("disk", disk->size);
    disk->bytes = mapped(disk->store, disk->size);
    disk->fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (disk->fuse < 0)
        fail("/dev/fuse");
    snprintf(options, sizeof options, "fd=%d,rootmode=100000,user_id=0,group_id=0,allow_other", disk->fuse);
    if (mount("disk", argument, "fuse", MS_NOSUID | MS_NODEV, options))
        fail(argument);
}

static void answer(const struct disk *disk, uint64_t unique, int error, const void *body, size_t len)
{
    struct fuse_out_header head = { .len = sizeof head + len, .error = -error, .unique = unique };
    struct iovec parts[] = { { &head, sizeof head }, { (void *)body, len } };
    /* Who asked may have gone meanwhile. */
    if (writev(disk->fuse, parts, 2) < 0 && errno != ENOENT)
        fail("an answer");
}

static struct fuse_attr attributes(const struct disk *disk)
{
    return (struct fuse_attr){ .ino = FUSE_ROOT_ID, .size = disk->size, .blocks = disk->size / 512,
                               .mode = S_IFREG | 0600, .nlink = 1, .blksize = PAGE };
}

/* Takes the time that a write of so many bytes takes. What nobody wanted to write is not saved up. */
static void dawdle(uint64_t len)
{
    static uint64_t since_stall;
    static struct timespec free_at;
    struct timespec now;
    uint64_t pause = control->rate ? len * 1000000000 / control->rate : 0;
    since_stall += len;
    if (control->stall_every && since_stall >= control->stall_every) {
        since_stall -= control->stall_every;
        pause += control->stall_ms * 1000000ull;
    }
    if (!pause)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec > free_at.tv_sec || (now.tv_sec == free_at.tv_sec && now.tv_nsec > free_at.tv_nsec))
        free_at = now;
    pause += free_at.tv_nsec;
    free_at.tv_sec += pause / 1000000000;
    free_at.tv_nsec = pause % 1000000000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &free_at, NULL) == EINTR)
        ;
}

static int put(int index, const struct fuse_write_in *wanted)
{
    struct disk *disk = &disks[index];
    if (!is_within(disk, wanted->offset, wanted->size))
        return ENOSPC;
    if (control->lose[index]) {
        control->lose[index]--;
        return 0;
    }
    dawdle(wanted->size);
    memcpy(disk->bytes + wanted->offset, wanted + 1, wanted->size);
    note(index, 'W', wanted->offset, wanted->size, wanted + 1);
    return 0;
}

static int give_up(int index, const struct fuse_fallocate_in *wanted)
{
    struct disk *disk = &disks[index];
    if (!(wanted->mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
        return EOPNOTSUPP;
    if (!is_within(disk, wanted->offset, wanted->length))
        return ENOSPC;
    memset(disk->bytes + wanted->offset, 0, wanted->length);
    note(index, 'Z', wanted->offset, wanted->length, NULL);
    return 0;
}

static void read_some(const struct disk *disk, uint64_t unique, const struct fuse_read_in *wanted)
{
    uint64_t from = wanted->offset < disk->size ? wanted->offset : disk->size;
    uint64_t len = wanted->size < disk->size - from ? wanted->size : disk->size - from;
    answer(disk, unique, 0, disk->bytes + from, len);
}

/* One request. */
static void serve(int index)
{
    static uint8_t request[PIECE + PAGE] __attribute__((aligned(8)));
    struct disk *disk = &disks[index];
    ssize_t len = read(disk->fuse, request, sizeof request);
    if (len < (ssize_t)sizeof(struct fuse_in_header)) {
        if (len >= 0 || errno == ENOENT || errno == EINTR || errno == EAGAIN)
            return;
        fail("a request");
    }
    const struct fuse_in_header *head = (void *)request;
    const void *body = head + 1;
    switch (head->opcode) {
    case FUSE_INIT: {
        const struct fuse_init_in *theirs = body;
        struct fuse_init_out ours = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
                                      .max_readahead = theirs->max_readahead,
                                      .flags = theirs->flags & (FUSE_BIG_WRITES | FUSE_MAX_PAGES),
                                      .max_background = 64, .congestion_threshold = 48, .max_write = PIECE,
                                      .time_gran = 1, .max_pages = PIECE / PAGE };
        return answer(disk, head->unique, 0, &ours, sizeof ours);
    }
    case FUSE_GETATTR:
    case FUSE_SETATTR: {
        struct fuse_attr_out ours = { .attr_valid = 3600, .attr = attributes(disk) };
        return answer(disk, head->unique, 0, &ours, sizeof ours);
    }
    case FUSE_OPEN: {
        struct fuse_open_out ours = { .open_flags = FOPEN_DIRECT_IO };
        return answer(disk, head->unique, 0, &ours, sizeof ours);
    }
    case FUSE_STATFS: {
        struct fuse_kstatfs ours = { .blocks = disk->size / PAGE, .bsize = PAGE, .frsize = PAGE, .namelen = 255 };
        return answer(disk, head->unique, 0, &ours, sizeof ours);
    }
    case FUSE_READ:
        return read_some(disk, head->unique, body);
    case FUSE_WRITE: {
        struct fuse_write_out ours = { .size = ((const struct fuse_write_in *)body)->size };
        int error = put(index, body);
        return answer(disk, head->unique, error, &ours, error ? 0 : sizeof ours);
    }
    case FUSE_FALLOCATE:
        return answer(disk, head->unique, give_up(index, body), NULL, 0);
    case FUSE_FSYNC:
        note(index, 'F', 0, 0, NULL);
        return answer(disk, head->unique, 0, NULL, 0);
    case FUSE_FLUSH:
    case FUSE_RELEASE:
        return answer(disk, head->unique, 0, NULL, 0);
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        return;
    default:
        return answer(disk, head->unique, ENOSYS, NULL, 0);
    }
}

static int forget(const char *device)
{
    int file = open(device, O_RDONLY | O_CLOEXEC);
    int failed = file < 0 || ioctl(file, BLKFLSBUF, 0);
    int error = errno;
    if (file >= 0)
        close(file);
    errno = error;
    return failed;
}

/* In a process of its own: whoever waits for a disk cannot be one. */
static int obey(void)
{
    char line[1024], first[500], second[500];
    while (fgets(line, sizeof line, stdin)) {
        int failed = 1;
        errno = EINVAL;
        if (sscanf(line, "mount %499s %499s", first, second) == 2)
            failed = mount(first, second, "ext4", 0, NULL);
        else if (sscanf(line, "umount %499s", first) == 1)
            failed = umount2(first, 0);
        else if (sscanf(line, "forget %499s", first) == 1)
            failed = forget(first);
        printf("%s\n", failed ? strerror(errno) : "0");
        fflush(stdout);
    }
    return 0;
}

int main(int count, char **arguments)
{
    struct pollfd wait[MOST_DISKS + 1];
    int alive[2], ready[2];
    char byte;
    count--;
    if (count < 1 || count > MOST_DISKS)
        return 2;
    if (pipe2(alive, O_CLOEXEC) || pipe2(ready, O_CLOEXEC))
        fail("pipe");
    pid_t disks_process = fork();
    if (disks_process < 0)
        fail("fork");
    if (disks_process) {
        close(alive[0]);
        close(ready[1]);
        /* Its line comes first. */
        return read(ready[0], &byte, 1) == 1 ? obey() : 1;
    }
    /* The other one's end is ours. */
    close(alive[1]);
    wait[0] = (struct pollfd){ .fd = alive[0], .events = POLLIN };
    log_file = memory("log", 0);
    int shared = memory("control", PAGE);
    control = mapped(shared, PAGE);
    printf("%d %d %d", getpid(), log_file, shared);
    for (int i = 0; i < count; i++) {
        begin(&disks[i], arguments[i + 1]);
        wait[i + 1] = (struct pollfd){ .fd = disks[i].fuse, .events = POLLIN };
        printf(" %d", disks[i].store);
    }
    printf("\n");
    fflush(stdout);
    if (write(ready[1], "", 1) != 1)
        fail("ready");
    for (;;) {
        if (poll(wait, count + 1, -1) < 0 && errno != EINTR)
            fail("poll");
        if (wait[0].revents)
            return 0;
        for (int i = 0; i < count; i++) {
            /* Taken down by whoever made it so. */
            if (wait[i + 1].revents & (POLLERR | POLLHUP | POLLNVAL))
                wait[i + 1].fd = -1;
            else if (wait[i + 1].revents)
                serve(i);
        }
    }
}
