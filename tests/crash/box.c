/* Runs a program, and stops it before one of the calls by which it makes something durable, or has that call fail.
 *
 *   box --root DIR --kept DIR --log FILE [--cut N] [--power SEED] [--fail N:WHAT] [--stay] [--plant WHAT] -- PROGRAM ...
 *
 * The kernel hands each such call of any thread to us before it is done (seccomp's user notification), so that there is
 * one count of them all. Only those below DIR count. A flush is not carried out: disk.c knows what is durable.
 *
 *   --cut N     no call after the N-th is done, nor that one: everybody is killed
 *   --power S   a cut, or the end, is one of the power: what is not durable is lost by the seed S, 0 for all of it
 *   --fail N:W  the N-th call fails: W is an errno; `short` for a write of less than it was given; `lost` for a flush that
 *               says that all is well, and nothing of it reaches the disk
 *   --stay      and so do those after it on the same file
 *   --plant W   a defect for the program: see struct plant
 *
 * On standard output: `listening` when it listens on a socket; `reboot` when it asked for one, whereupon it is ended by
 * SIGTERM; `hit` when the failing call was reached; at last `cut`, `ended` or `stuck`, with the number of calls and the
 * exit status (128 and the signal, if it was one). A line
 * on standard input, or its end, is a cut at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "calls.h"
#include "disk.h"

enum { SHORT = -1, LOST = -2, STOP_LIMIT_S = 15 };
typedef struct seccomp_notif_resp answer;

/* What is done wrong in the program's stead. */
static struct plant {
    /* Flushes of paths that end like this do nothing. */
    const char *no_flush;
    /* Renames to paths that end like this do nothing. */
    const char *no_rename;
    /* What is read past the cache comes from the cache. */
    int cached;
    /* The environment gets its slot by one write, and the trial by another. */
    int twice;
} plant;

static const char *root;
static long cut_at, fail_at, count;
static int fail_how, fail_stays, is_hit;
static char failing[NAME];
static FILE *record;
static int notices;
static pid_t child;

static void trap(void) {
    struct sock_filter code[128];
    unsigned short n = 0;
#define ADD(...) code[n++] = (struct sock_filter)__VA_ARGS__
#define ARGUMENT(i) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * (i))
    ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
    for (int i = 0; i < CALL_COUNT; i++) {
        int number = call_number(i);
        if (number == SYS_openat || number == SYS_prctl) continue;
        ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
        ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
    }
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 4));
    ADD(ARGUMENT(2));
    ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT | O_TRUNC, 0, 1));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3));
    ADD(ARGUMENT(0));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_DUMPABLE, 0, 1));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    struct sock_fprog program = {n, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) _exit(122);
    long listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    /* The parent takes it from here: by now writing is trapped. */
    if (listener != notices) _exit(123);
}

/* Sent over a socket: the listener is the child's, and is wanted here. */
static void start(char **arguments) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) fail("socketpair");
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    char byte = 0;
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    child = fork();
    if (child < 0) fail("fork");
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(0);
        notices = 0;
        trap();
        control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.head), &notices, sizeof notices);
        if (sendmsg(pair[1], &message, 0) != 1) _exit(124);
        close(notices);
        if (open("/dev/null", O_RDONLY) != 0) _exit(125);
        execv(arguments[0], arguments);
        _exit(126);
    }
    close(pair[1]);
    struct cmsghdr *head = recvmsg(pair[0], &message, MSG_CMSG_CLOEXEC) == 1 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!head) fail("the kernel has no seccomp user notification for us");
    memcpy(&notices, CMSG_DATA(head), sizeof notices);
    close(pair[0]);
}

/* Nobody of it lives on: not those either whom it started, which come to us when it is gone. How it ended itself. */
static int end_all(void) {
    char path[64];
    int status, how = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    kill(child, SIGKILL);
    for (;;) {
        FILE *children = fopen(path, "r");
        int other;
        while (children && fscanf(children, "%d", &other) == 1) kill(other, SIGKILL);
        if (children) fclose(children);
        pid_t gone = wait(&status);
        if (gone == child) how = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        if (gone < 0 && errno == ECHILD) return how;
    }
}

static void end(const char *how, const char *power) {
    int was_up = strcmp(how, "ended") != 0;
    int status = end_all();
    if (power && was_up)
        disk_forget(strtoull(power, NULL, 0));
    else
        disk_settle();
    fclose(record);
    printf("%s %ld %d\n", how, count, status);
    exit(0);
}

static int ends(const char *path, const char *tail) {
    size_t a = strlen(path), b = tail ? strlen(tail) : 0;
    return tail && a >= b && !strcmp(path + a - b, tail);
}

static uint32_t crc32(const unsigned char *bytes, size_t len) {
    uint32_t sum = ~0u;
    for (size_t i = 0; i < len; i++) {
        sum ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (0xedb88320u & -(sum & 1));
    }
    return ~sum;
}

/* One more point, at which the power may go. */
static void point(const struct call *call, const char *name, const char *power) {
    count++;
    fprintf(record, "%ld %s %s %lld+%lld%s\n", count, name, call->path + strlen(root) + 1, (long long)call->offset,
            (long long)call->len, count == cut_at ? " CUT" : "");
    if (count == cut_at) end("cut", power);
}

/* The planted defect: the slot first, durably, and that it is on trial by a second write. */
static void write_twice(const struct call *call, const char *power) {
    static const char ARMED[] = "upgrade_available=1";
    unsigned char *copy = malloc((size_t)call->len);
    copy_in((pid_t)call->notice->pid, call->notice->data.args[1], copy, (size_t)call->len);
    unsigned char *armed = memmem(copy, (size_t)call->len, ARMED, sizeof ARMED - 1);
    if (armed) {
        armed[sizeof ARMED - 2] = '0';
        uint32_t sum = crc32(copy + 5, (size_t)call->len - 5);
        memcpy(copy, &sum, 4);
        int file = open(call->path, O_WRONLY | O_CLOEXEC);
        disk_touch(call->path, call->offset, call->len);
        if (pwrite(file, copy, (size_t)call->len, call->offset) != call->len) fail(call->path);
        disk_flush(call->path);
        close(file);
        point(call, "pwrite", power);
    }
    free(copy);
}

/* The process that a thread is one of: the daemon, or a program that it has started. */
static pid_t process_of(pid_t thread) {
    char path[64], line[128];
    snprintf(path, sizeof path, "/proc/%d/status", (int)thread);
    FILE *status = fopen(path, "r");
    int process = -1;
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "Tgid: %d", &process) == 1) break;
    if (status) fclose(status);
    return process;
}

/* Half of it, by us: the program's own descriptor, so that its position moves along. */
static int write_half(const struct call *call, answer *reply) {
    off_t unit = is_direct(call) ? 4096 : 1, half = call->len / 2 / unit * unit;
    if (!is_write(call->number) || half == 0) return 0;
    void *bytes = NULL;
    if (posix_memalign(&bytes, 4096, (size_t)half)) fail("memory");
    copy_in((pid_t)call->notice->pid, call->notice->data.args[1], bytes, (size_t)half);
    int process = (int)syscall(SYS_pidfd_open, process_of((pid_t)call->notice->pid), 0);
    int file = (int)syscall(SYS_pidfd_getfd, process, (int)call->notice->data.args[0], 0);
    if (file < 0) fail("pidfd_getfd");
    disk_touch(call->link, call->offset, half);
    ssize_t done = call->number == SYS_write ? write(file, bytes, (size_t)half) : pwrite(file, bytes, (size_t)half, call->offset);
    close(file);
    close(process);
    free(bytes);
    reply->flags = 0;
    reply->val = done;
    return 1;
}

/* Whether this call is the one that fails; then the reply is made. */
static int fails(const struct call *call, answer *reply) {
    int again = is_hit && fail_stays && !strcmp(call->path, failing);
    if (!again && (count != fail_at || is_hit)) return 0;
    if (fail_how == SHORT && !write_half(call, reply)) return 0;
    if (fail_how == LOST && !is_flush(call->number)) return 0;
    if (!is_hit) puts("hit");
    is_hit = 1;
    if (fail_how == SHORT) return 1;
    snprintf(failing, NAME, "%s", call->path);
    fprintf(record, "  fails: %s\n", fail_how == LOST ? "all is well, it says" : strerror(fail_how));
    reply->flags = 0;
    reply->error = fail_how == LOST ? 0 : -fail_how;
    if (is_flush(call->number) && fail_how != EINTR) disk_lose(call->link);
    return 1;
}

/* It is going to be done: what was there before is noted. A flush is done by that. */
static void note(const struct call *call, answer *reply) {
    int number = call->number;
    if (is_write(number)) {
        disk_touch(call->link, call->offset, call->len);
    } else if (number == SYS_ftruncate) {
        disk_touch(call->link, 0, (off_t)call->notice->data.args[1] + 4096);
    } else if (number == SYS_fallocate) {
        disk_touch(call->link, call->offset, call->len);
    } else if (is_flush(number)) {
        struct stat now;
        if (!stat(call->link, &now) && S_ISDIR(now.st_mode))
            if (ends(call->path, plant.no_flush)) fprintf(record, "  planted: not flushed\n");
            else disk_flush_directory(call->path);
        else if (ends(call->path, plant.no_flush))
            fprintf(record, "  planted: not flushed\n");
        else
            disk_flush(call->link);
        reply->flags = 0;
    } else if (number == SYS_openat) {
        if (access(call->path, F_OK)) disk_create(call->path);
        else if (call->notice->data.args[2] & O_TRUNC) disk_truncate(call->path);
    } else if (call->to[0]) {
        if (ends(call->to, plant.no_rename)) reply->flags = 0;
        else disk_rename(call->path, call->to);
    } else if (!strcmp(call_name(number), "unlink")) {
        disk_unlink(call->path);
    }
}

/* One call. Whether it asked for a reboot by it. */
static int take(const struct seccomp_notif *notice, const char *power) {
    struct call call = {.notice = notice, .number = notice->data.nr};
    answer reply = {.id = notice->id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    int reboots = 0;
    if (call.number == SYS_prctl) {
        /* It wants nobody to look into it. We have to. */
        reply.flags = 0;
    } else if (call.number == SYS_listen) {
        puts("listening");
    } else if (!understand(&call, root)) {
    } else if (call.number == SYS_pread64) {
        if (!plant.cached && is_direct(&call)) disk_show(call.link, call.offset, call.len);
    } else if (call.number == SYS_fadvise64) {
        if (!plant.cached) disk_show(call.link, call.offset, call.len);
    } else {
        if (plant.twice && call.number == SYS_pwrite64 && strstr(call.path, "/env")) write_twice(&call, power);
        point(&call, call_name(call.number), power);
        if (!fails(&call, &reply)) {
            note(&call, &reply);
            reboots = is_flush(call.number) && ends(call.path, "/machine");
        }
    }
    /* It may have been interrupted meanwhile: then it asks again. */
    if (ioctl(notices, SECCOMP_IOCTL_NOTIF_SEND, &reply) && errno != ENOENT) fail("answering");
    return reboots;
}

static void parse(int argc, char **argv, const char **kept, const char **log, const char **power) {
    static const struct option OPTIONS[] = {
        {"root", 1, 0, 'r'}, {"kept", 1, 0, 'k'}, {"log", 1, 0, 'l'},  {"cut", 1, 0, 'c'},   {"power", 1, 0, 'p'},
        {"fail", 1, 0, 'f'}, {"stay", 0, 0, 's'}, {"plant", 1, 0, 't'}, {0, 0, 0, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "+", OPTIONS, NULL)) != -1) {
        char *value = optarg, *how;
        if (option == 'r') root = value;
        else if (option == 'k') *kept = value;
        else if (option == 'l') *log = value;
        else if (option == 'c') cut_at = atol(value);
        else if (option == 'p') *power = value;
        else if (option == 's') fail_stays = 1;
        else if (option == 'f' && (how = strchr(value, ':')))
            fail_at = atol(value), fail_how = !strcmp(how + 1, "short") ? SHORT : !strcmp(how + 1, "lost") ? LOST : atoi(how + 1);
        else if (option == 't' && !strncmp(value, "no-flush=", 9)) plant.no_flush = value + 9;
        else if (option == 't' && !strncmp(value, "no-rename=", 10)) plant.no_rename = value + 10;
        else if (option == 't' && !strcmp(value, "cached")) plant.cached = 1;
        else if (option == 't' && !strcmp(value, "twice")) plant.twice = 1;
        else exit(2);
    }
    if (!root || !*kept || !*log || optind == argc) exit(2);
}

int main(int argc, char **argv) {
    const char *kept = NULL, *log = NULL, *power = NULL;
    parse(argc, argv, &kept, &log, &power);
    setvbuf(stdout, NULL, _IOLBF, 0);
    record = fopen(log, "we");
    if (!record) fail(log);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    disk_begin(kept);
    start(argv + optind);
    struct seccomp_notif *notice = calloc(1, 4096);
    time_t stopping = 0;
    for (;;) {
        struct pollfd wait_for[] = {{notices, POLLIN, 0}, {0, POLLIN, 0}};
        if (poll(wait_for, 2, 1000) < 0 && errno != EINTR) fail("poll");
        if (stopping && time(NULL) > stopping + STOP_LIMIT_S) end("stuck", power);
        /* Nobody is left whom it could be about. */
        if (wait_for[0].revents & POLLHUP) end("ended", power);
        if (wait_for[1].revents) end("cut", power);
        if (!(wait_for[0].revents & POLLIN)) continue;
        memset(notice, 0, sizeof *notice);
        if (ioctl(notices, SECCOMP_IOCTL_NOTIF_RECV, notice)) {
            if (errno != ENOENT && errno != EINTR) fail("listening");
            continue;
        }
        if (take(notice, power) && !stopping) {
            stopping = time(NULL);
            puts("reboot");
            kill(child, SIGTERM);
        }
    }
}
