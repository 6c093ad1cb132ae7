/* Makes writes to regular files fail, or ends the program before one, when and how a file says that both sides have mapped. Loaded by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind { WRITES = 1, SYNCS = 2, SIZES = 4, OPENS = 8, NAMES = 16, LINKS = 32 };

/* As in disk.rs. */
struct plan {
    volatile int32_t kinds; /* that fail */
    volatile int32_t error; /* with this; none: the program is killed */
    volatile int32_t first; /* calls that still succeed */
    volatile int32_t many;  /* calls that fail behind those */
    volatile int32_t failed;
};

static struct plan *plan;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        abort();
    plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (plan == MAP_FAILED)
        abort();
    close(fd);
}

static int fails(enum kind kind)
{
    if (!plan || !(plan->kinds & kind))
        return 0;
    if (__sync_fetch_and_sub(&plan->first, 1) > 0)
        return 0;
    if (__sync_fetch_and_sub(&plan->many, 1) <= 0)
        return 0;
    __sync_fetch_and_add(&plan->failed, 1);
    if (!plan->error)
        kill(getpid(), SIGKILL);
    errno = plan->error;
    return 1;
}

/* Only a file that is not there yet needs room. */
static int is_new(const char *path, int flags)
{
    return flags & O_CREAT && access(path, F_OK) != 0;
}

/* The log and the sockets are none of the disk's. */
static int is_file(int fd)
{
    struct stat about;
    return fd > 2 && fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t length)
{
    return is_file(fd) && fails(WRITES) ? -1 : REAL(write)(fd, bytes, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at)
{
    return is_file(fd) && fails(WRITES) ? -1 : REAL(pwrite)(fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at)
{
    return is_file(fd) && fails(WRITES) ? -1 : REAL(pwrite64)(fd, bytes, length, at);
}

int fsync(int fd)
{
    return is_file(fd) && fails(SYNCS) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    return is_file(fd) && fails(SYNCS) ? -1 : REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t length)
{
    return is_file(fd) && fails(SIZES) ? -1 : REAL(ftruncate)(fd, length);
}

int ftruncate64(int fd, off64_t length)
{
    return is_file(fd) && fails(SIZES) ? -1 : REAL(ftruncate64)(fd, length);
}

int rename(const char *from, const char *to)
{
    return fails(NAMES) ? -1 : REAL(rename)(from, to);
}

int linkat(int at, const char *from, int there, const char *to, int flags)
{
    return fails(NAMES | LINKS) ? -1 : REAL(linkat)(at, from, there, to, flags);
}

int unlink(const char *path)
{
    return fails(NAMES) ? -1 : REAL(unlink)(path);
}

#define OPEN(name)                                                         \
    int name(const char *path, int flags, ...)                             \
    {                                                                      \
        va_list rest;                                                      \
        va_start(rest, flags);                                             \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                      \
        return is_new(path, flags) && fails(OPENS) ? -1 : REAL(name)(path, flags, mode); \
    }

OPEN(open)
OPEN(open64)
