/* Shows a process another wall clock than its machine's: ahead by as many seconds as the first eight bytes of the file $WALL_CLOCK
   say, a number in the machine's own order, at each moment that it looks. Loaded before the C library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *ahead;
static int (*look)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("WALL_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) ahead = mapped;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!look) *(void **)&look = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = look(clock, time);
    if (!failed && ahead && clock == CLOCK_REALTIME) time->tv_sec += *ahead;
    return failed;
}
