/* Records what a process writes to files of one directory, and when it syncs them: what a power cut may take is what was not
   synced. LD_PRELOAD; POWER_FOLDER names the directory, POWER_LOG the log.

   A record: kind (w t s d r u m), length of the path, of the data, offset; then path and data. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int log_fd = -1;
static const char *folder;

struct head { char kind; char pad[3]; uint32_t path; uint32_t data; uint32_t pad2; int64_t offset; };

static void start(void) {
    if (log_fd >= 0) return;
    folder = getenv("POWER_FOLDER");
    const char *name = getenv("POWER_LOG");
    if (!folder || !name) return;
    int (*open_)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    log_fd = open_(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void put(char kind, const char *path, const void *data, size_t length, int64_t offset) {
    if (log_fd < 0) return;
    struct head head = {.kind = kind, .path = strlen(path), .data = length, .offset = offset};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)path, head.path}, {(void *)data, length}};
    if (writev(log_fd, parts, 3) < 0) abort();
}

/* The path of a descriptor, if it is one of ours; a WAL index is memory that happens to have a name. */
static const char *ours(int fd) {
    static __thread char path[PATH_MAX];
    char link[64];
    start();
    if (log_fd < 0) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return NULL;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder))) return NULL;
    if (length > 4 && !strcmp(path + length - 4, "-shm")) return NULL;
    return path;
}

#define REAL(name, type, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, #name)

#define PWRITE(name, offset_type) \
    ssize_t name(int fd, const void *data, size_t length, offset_type offset) { \
        REAL(name, ssize_t, int, const void *, size_t, offset_type); \
        ssize_t done = real(fd, data, length, offset); \
        const char *path = done > 0 ? ours(fd) : NULL; \
        if (path) put('w', path, data, done, offset); \
        return done; \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t length) {
    REAL(write, ssize_t, int, const void *, size_t);
    ssize_t done = real(fd, data, length);
    const char *path = done > 0 ? ours(fd) : NULL;
    if (path) put('w', path, data, done, lseek(fd, 0, SEEK_CUR) - done);
    return done;
}

#define TRUNCATE(name, offset_type) \
    int name(int fd, offset_type length) { \
        REAL(name, int, int, offset_type); \
        int done = real(fd, length); \
        const char *path = done == 0 ? ours(fd) : NULL; \
        if (path) put('t', path, "", 0, length); \
        return done; \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name) \
    int name(int fd) { \
        REAL(name, int, int); \
        int done = real(fd); \
        const char *path = done == 0 ? ours(fd) : NULL; \
        if (path) put('s', path, "", 0, 0); \
        return done; \
    }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) {
    REAL(unlink, int, const char *);
    start();
    int done = real(path);
    if (done == 0 && log_fd >= 0 && !strncmp(path, folder, strlen(folder))) put('u', path, "", 0, 0);
    return done;
}
