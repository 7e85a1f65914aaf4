/* One thread that sleeps, reads and works, and tells how long that took: what accounts of its time have to add up to.
 * Argument: seconds. It reads a timer, and a file, past the cache where the file system allows that. Its last line is
 * `wall_ms=...`. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

__attribute__((noinline)) static void sleeps(void) {
    struct timespec t = {0, 7000000};
    nanosleep(&t, NULL);
    __asm__ volatile("");
}

__attribute__((noinline)) static void reads_timer(int timer) {
    struct itimerspec once = {.it_value = {0, 5000000}};
    uint64_t count;
    if (timerfd_settime(timer, 0, &once, NULL) || read(timer, &count, sizeof count) != sizeof count) exit(1);
}

__attribute__((noinline)) static void reads_file(int file) {
    static char *buffer;
    if (!buffer && posix_memalign((void **)&buffer, 4096, 4096)) exit(1);
    if (pread(file, buffer, 4096, 0) < 0) exit(1);
}

__attribute__((noinline)) static void works(void) {
    volatile unsigned long x = 1;
    for (int i = 0; i < 300000; i++) x = x * 31 + i;
}

int main(int argc, char **argv) {
    double begin = now_ms(), until = begin + (argc > 1 ? atof(argv[1]) : 1) * 1e3;
    int timer = timerfd_create(CLOCK_MONOTONIC, 0), file = open(argv[0], O_RDONLY | O_DIRECT);
    if (file < 0) file = open(argv[0], O_RDONLY);
    if (timer < 0 || file < 0) return 1;
    while (now_ms() < until) {
        sleeps();
        reads_timer(timer);
        reads_file(file);
        works();
    }
    printf("wall_ms=%.3f\n", now_ms() - begin);
    return 0;
}
