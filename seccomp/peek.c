/* What a tenant sees by perf_event_open from inside its container, and a neighbour to be seen. See seccomp/compare.
   `peek SECONDS` tells what it could open and what came; `peek neighbour` works under a name that is easy to find. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *NAME = "payroll-of-b";

static void neighbour(void) {
    for (;;) {
        pid_t child = fork();
        if (child == 0) {
            prctl(PR_SET_NAME, NAME);
            for (clock_t end = clock() + CLOCKS_PER_SEC / 5; clock() < end;) getppid();
            _exit(0);
        }
        if (child < 0 || waitpid(child, NULL, 0) < 0) exit(1);
    }
}

static int event(int pid, int cpu, int kernel) {
    struct perf_event_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.size = sizeof attr;
    attr.type = PERF_TYPE_SOFTWARE;
    attr.config = PERF_COUNT_SW_CPU_CLOCK;
    attr.sample_period = 2000000;
    attr.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID;
    attr.exclude_kernel = !kernel;
    attr.comm = 1;
    return syscall(SYS_perf_event_open, &attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

static unsigned long samples, kernel_addresses, foreign, told;
static uint64_t an_address;

static void drain(void *base, size_t page, size_t bytes) {
    struct perf_event_mmap_page *head = base;
    uint64_t end = __atomic_load_n(&head->data_head, __ATOMIC_ACQUIRE), at = end > bytes ? end - bytes : 0;
    static unsigned char text[1 << 20];
    unsigned char *data = (unsigned char *)base + page;
    if (end > bytes) at = head->data_tail;
    for (uint64_t i = at; i < end; i++) text[i - at] = data[i % bytes];
    for (uint64_t i = 0; i + sizeof(struct perf_event_header) <= end - at;) {
        struct perf_event_header *record = (void *)(text + i);
        if (record->size < sizeof *record) break;
        if (record->type == PERF_RECORD_SAMPLE) {
            uint64_t ip;
            uint32_t pid;
            memcpy(&ip, record + 1, 8);
            memcpy(&pid, (char *)(record + 1) + 8, 4);
            samples++;
            if (ip >> 63) kernel_addresses++, an_address = ip;
            if (pid != (uint32_t)getpid()) foreign++;
        } else if (record->type == PERF_RECORD_COMM && memmem(record, record->size, NAME, strlen(NAME)))
            told++;
        i += record->size;
    }
    __atomic_store_n(&head->data_tail, end, __ATOMIC_RELEASE);
}

static void look(const char *what, int everybody, int kernel, int seconds) {
    enum { PAGES = 64 };
    size_t page = sysconf(_SC_PAGESIZE);
    int cpus = everybody ? sysconf(_SC_NPROCESSORS_ONLN) : 1;
    void *rings[64];
    samples = kernel_addresses = foreign = told = 0;
    if (cpus > 64) cpus = 64;
    for (int cpu = 0; cpu < cpus; cpu++) {
        int fd = event(everybody ? -1 : 0, everybody ? cpu : -1, kernel);
        if (fd < 0) {
            printf("  %-32s refused: %s\n", what, strerror(errno));
            return;
        }
        rings[cpu] = mmap(NULL, (PAGES + 1) * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (rings[cpu] == MAP_FAILED) {
            printf("  %-32s opened, no ring: %s\n", what, strerror(errno));
            return;
        }
    }
    for (time_t end = time(NULL) + seconds + 1; time(NULL) < end;)
        for (int i = 0; i < 100000; i++) getppid();
    for (int cpu = 0; cpu < cpus; cpu++) drain(rings[cpu], page, PAGES * page);
    printf("  %-32s %s; kernel addresses: %s", what, samples ? "samples" : "no sample", kernel_addresses ? "yes" : "no");
    if (kernel_addresses) printf(" (such as %#llx)", (unsigned long long)an_address);
    printf("; others at work: %s; their names: %s\n", foreign ? "yes" : "no", told ? NAME : "no");
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "neighbour")) neighbour();
    int seconds = argc > 1 ? atoi(argv[1]) : 1;
    look("itself, its own code", 0, 0, seconds);
    look("itself, the kernel as well", 0, 1, seconds);
    look("the whole host, user code", 1, 0, seconds);
    look("the whole host, the kernel too", 1, 1, seconds);
    return 0;
}
