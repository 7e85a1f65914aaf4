// Tenants that want more than their share. `hostile MODE COUNT SECONDS FOLDER`; everything it makes lies in FOLDER or
// below its own cgroup, and goes with it. It prints `ready` once what it makes is there, and burns CPU time until the
// end, which SIGTERM brings at once.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static volatile sig_atomic_t told_to_end;
static void tell_to_end(int signal) { (void)signal, told_to_end = 1; }

static int goes_on(double end) { return !told_to_end && now() < end; }

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void ready(void) {
    puts("ready");
    fflush(stdout);
}

// Runs wherever its bytes lie.
__attribute__((noinline, aligned(64))) static void spin(unsigned long rounds) {
    while (rounds--) __asm__ volatile("" ::: "memory");
}
__attribute__((noinline, aligned(64))) static void behind_spin(void) { __asm__ volatile("" ::: "memory"); }

static void burn_until(double end) {
    while (goes_on(end)) spin(100000);
}

static void forks(int count, double end) {
    pid_t group = 0;
    for (int n = 0; n < count; n++) {
        pid_t pid = fork();
        if (pid < 0) fail("fork");
        if (pid == 0) {
            spin(1000);
            pause();
            _exit(0);
        }
        setpgid(pid, group);
        if (group == 0) group = pid;
    }
    ready();
    burn_until(end);
    kill(-group, SIGKILL);
    while (wait(NULL) > 0) {}
}

static void execs(int a_second, double end) {
    ready();
    for (double due = now(); goes_on(end); due += 1.0 / a_second) {
        pid_t pid = vfork();
        if (pid < 0) fail("vfork");
        if (pid == 0) {
            execl("/proc/self/exe", "hostile", "nothing", NULL);
            _exit(127);
        }
        waitpid(pid, NULL, 0);
        double wait_s = due - now();
        if (wait_s > 0) usleep(wait_s * 1e6);
    }
}

typedef void (*Spin)(unsigned long);

// A copy of this very program at `path`, mapped as this one is: its `spin`.
static Spin copy(const char *path) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[4096];
    unsigned long start = 0, last = 0, offset = 0;
    while (maps && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx %*s %lx", &start, &last, &offset) == 3 && start <= (unsigned long)spin &&
            (unsigned long)spin < last)
            break;
    }
    if (maps) fclose(maps);
    int from = open("/proc/self/exe", O_RDONLY), to = open(path, O_RDWR | O_CREAT | O_TRUNC, 0755);
    struct stat about;
    if (from < 0 || to < 0 || fstat(from, &about)) fail("copy");
    char *bytes = malloc(about.st_size);
    if (read(from, bytes, about.st_size) != about.st_size || write(to, bytes, about.st_size) != about.st_size)
        fail("copy");
    free(bytes);
    char *code = mmap(NULL, last - start, PROT_READ | PROT_EXEC, MAP_PRIVATE, to, offset);
    if (code == MAP_FAILED) fail("mmap");
    close(from);
    close(to);
    return (Spin)(code + ((unsigned long)spin - start));
}

static void maps(int count, double end, const char *folder) {
    char path[4096];
    Spin *spins = calloc(count, sizeof *spins);
    for (int n = 0; n < count; n++) {
        snprintf(path, sizeof path, "%s/file-%d", folder, n);
        spins[n] = copy(path);
        spins[n](1000);
    }
    ready();
    for (int n = 0; goes_on(end); n = (n + 1) % count) spins[n](100000);
}

static void truncated(double end, const char *folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s/truncated", folder);
    Spin there = copy(path);
    there(50000000);
    if (truncate(path, 4096)) fail("truncate");
    ready();
    burn_until(end);
}

static void enter(const char *cgroup) {
    char path[8192];
    snprintf(path, sizeof path, "%s/cgroup.procs", cgroup);
    int file = open(path, O_WRONLY);
    if (file < 0 || write(file, "0", 1) != 1) fail("enter a cgroup");
    close(file);
}

// Every other one lies beside the others, the rest each in the one before.
static void place(char *path, size_t size, const char *own, int n) {
    int length = snprintf(path, size, "%s", own);
    if (n % 2 == 0) snprintf(path + length, size - length, "/;nested-%d", n);
    else
        for (int deep = 0; deep <= n / 2; deep++) length += snprintf(path + length, size - length, "/;n");
}

static void cgroups(int count, double end, const char *own) {
    char path[8192];
    for (int n = 0; n < count; n++) {
        place(path, sizeof path, own, n);
        if (mkdir(path, 0755)) fail("make a cgroup");
    }
    ready();
    for (int n = 0; goes_on(end); n = (n + 1) % count) {
        place(path, sizeof path, own, n);
        enter(path);
        spin(3000000);
    }
    enter(own);
    for (int n = count - 1; n >= 0; n--) {
        place(path, sizeof path, own, n);
        if (rmdir(path)) fail("remove a cgroup");
    }
}

#define DEPTH 160
static unsigned long seed = 88172645463325252ul;
static unsigned draw(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed >> 20;
}
typedef void (*Level)(int);
static Level levels[64];
#define LEVEL(n)                                                 \
    __attribute__((noinline)) static void level_##n(int depth) { \
        if (depth >= DEPTH)                                      \
            spin(20000 + n);                                     \
        else                                                     \
            levels[draw() % 64](depth + 1);                      \
        __asm__ volatile("" ::: "memory");                       \
    }
#define EIGHT(n) LEVEL(n##0) LEVEL(n##1) LEVEL(n##2) LEVEL(n##3) LEVEL(n##4) LEVEL(n##5) LEVEL(n##6) LEVEL(n##7)
EIGHT(1) EIGHT(2) EIGHT(3) EIGHT(4) EIGHT(5) EIGHT(6) EIGHT(7) EIGHT(8)
#define NAMES(n) \
    level_##n##0, level_##n##1, level_##n##2, level_##n##3, level_##n##4, level_##n##5, level_##n##6, level_##n##7,

static void stacks(double end) {
    Level all[64] = {NAMES(1) NAMES(2) NAMES(3) NAMES(4) NAMES(5) NAMES(6) NAMES(7) NAMES(8)};
    memcpy(levels, all, sizeof all);
    ready();
    while (goes_on(end)) levels[draw() % 64](0);
}

// COUNT MiB, of which 64 at most are text; nothing is behind them.
static void perf_map(int count, double end) {
    char path[64];
    size_t bytes = (char *)behind_spin - (char *)spin;
    char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) fail("mmap");
    memcpy(code, (char *)spin, bytes < 4096 ? bytes : 4096);
    __builtin___clear_cache(code, code + 4096);
    snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
    FILE *file = fopen(path, "w");
    if (!file) fail("make a perf map");
    fprintf(file, "%lx 1000 made_at_run_time\n", (unsigned long)code);
    long text = (count < 64 ? count : 64) * 1048576l;
    for (unsigned long at = 0x1000; ftell(file) < text; at += 64) fprintf(file, "%lx 40 another;one %lx\n", at, at);
    fflush(file);
    if (ftruncate(fileno(file), count * 1048576l)) fail("lengthen a perf map");
    fclose(file);
    ready();
    while (goes_on(end)) ((Spin)code)(100000);
    unlink(path);
}

int main(int argc, char **argv) {
    if (argc < 5) return argc == 2 ? 0 : 64;
    const char *mode = argv[1], *folder = argv[4];
    int count = atoi(argv[2]);
    double end = now() + atof(argv[3]);
    signal(SIGTERM, tell_to_end);
    if (!strcmp(mode, "forks")) forks(count, end);
    else if (!strcmp(mode, "execs")) execs(count, end);
    else if (!strcmp(mode, "maps")) maps(count, end, folder);
    else if (!strcmp(mode, "cgroups")) cgroups(count, end, folder);
    else if (!strcmp(mode, "stacks")) stacks(end);
    else if (!strcmp(mode, "truncated")) truncated(end, folder);
    else if (!strcmp(mode, "perf-map")) perf_map(count, end);
    else if (!strcmp(mode, "comm")) {
        prctl(PR_SET_NAME, ";");
        ready();
        burn_until(end);
    } else if (!strcmp(mode, "symbols")) {
        ready();
        burn_until(end);
    } else return 64;
    return 0;
}
