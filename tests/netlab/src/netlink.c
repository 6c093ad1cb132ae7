/* Stands between a program and netlink, by the letter in a file: `r` refuses to report changes, as some sandboxes do, `s` agrees
   and never reports any, `n` refuses every new socket, `y` changes nothing. Loaded by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static volatile char *letter;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("NETLINK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        abort();
    void *mapped = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        abort();
    close(fd);
    letter = mapped;
}

int socket(int domain, int type, int protocol)
{
    static int (*real)(int, int, int);
    if (!real)
        real = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
    if (domain == AF_NETLINK && letter && *letter == 'n') {
        errno = EPERM;
        return -1;
    }
    return real(domain, type, protocol);
}

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
    static int (*real)(int, const struct sockaddr *, socklen_t);
    if (!real)
        real = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "bind");
    struct sockaddr_nl netlink;
    if (letter && length == sizeof netlink && address->sa_family == AF_NETLINK) {
        memcpy(&netlink, address, sizeof netlink);
        if (netlink.nl_groups && *letter == 'r') {
            errno = EPERM;
            return -1;
        }
        if (*letter == 's')
            netlink.nl_groups = 0;
        address = (const struct sockaddr *)&netlink;
    }
    return real(fd, address, length);
}
