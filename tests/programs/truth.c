// A program whose stacks are known: it says how long it ran in each of its leaf functions, by the clock of the thread.
// Built as C, and as C++ by truth.cpp. Which function calls which stands in tests/truth/graph.rs.
//
//   truth all CPU_MS [stay]      every phase, and once, at half time, an exec of itself
//   truth calls CPU_MS [stay]    every phase without the exec
//   truth shares CPU_MS [stay]   three functions at 60, 30 and 10 % alone
//
// Ends with one JSON line on stdout; with `stay` it waits for SIGTERM after that. The last line counts CPU time from the
// beginning of the first `main`: an exec keeps the clock.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifdef TRUTH_PLUGIN
#include <dlfcn.h>
#endif
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

// No inlining, no clones, no folding of equal functions.
#define FUNCTION static __attribute__((noipa, noinline, unused))
// After a call: it is none in tail position then.
#define STAY() __asm__ volatile("" ::: "memory")
// A chain of multiplications; KEY makes the functions differ.
#define SPIN(ROUNDS, KEY)                                       \
    do {                                                        \
        unsigned long value = (KEY);                            \
        for (long round = (ROUNDS); round > 0; round--) {       \
            value = value * 6364136223846793005UL + (KEY);      \
            __asm__ volatile("" : "+r"(value));                 \
        }                                                       \
    } while (0)

// About half a millisecond; a leaf runs from half of it to one and a half.
enum { ROUNDS = 300000, COMPARED = 64 };
enum { SIXTY, THIRTY, TEN, BOTTOM, COMPARE, THREADED, PLUGIN, THROWING, CAUGHT, INTERRUPTED, HANDLED, LEAVES };
static const char *const NAMES[LEAVES] = {
    "truth_sixty", "truth_thirty", "truth_ten", "truth_bottom", "truth_compare", "truth_threaded",
    "truth_plugin_leaf", "truth_throwing", "truth_caught", "truth_interrupted", "truth_handled",
};
static long spent_ns[LEAVES];
static long leaf_calls;
static volatile long in_handler_ns;

static inline long clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

#define TIMED(LEAF, CALL)                                                    \
    do {                                                                     \
        long before_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);                  \
        CALL;                                                                \
        spent_ns[LEAF] += clock_ns(CLOCK_THREAD_CPUTIME_ID) - before_ns;     \
        leaf_calls++;                                                        \
    } while (0)

FUNCTION void truth_sixty(long rounds) { SPIN(rounds, 61); }
FUNCTION void truth_thirty(long rounds) { SPIN(rounds, 31); }
FUNCTION void truth_ten(long rounds) { SPIN(rounds, 11); }
FUNCTION void truth_bottom(long rounds) { SPIN(rounds, 101); }
FUNCTION void truth_threaded(long rounds) { SPIN(rounds, 21); }
FUNCTION void truth_interrupted(long rounds) { SPIN(rounds, 41); }
FUNCTION void truth_handled(long rounds) { SPIN(rounds, 51); }

// Never twice the same: leaves that take turns at one pace may fall into step with who samples them.
static inline long some(void) {
    static unsigned long drawn = 1;
    drawn = drawn * 6364136223846793005UL + 1442695040888963407UL;
    return ROUNDS / 2 + (long)((drawn >> 33) % ROUNDS);
}

static inline long until(long budget_ns) { return clock_ns(CLOCK_THREAD_CPUTIME_ID) + budget_ns; }
#define WHILE(BUDGET_NS) for (long end_ns = until(BUDGET_NS); clock_ns(CLOCK_THREAD_CPUTIME_ID) < end_ns;)

FUNCTION void truth_step(void) {
    long total = spent_ns[SIXTY] + spent_ns[THIRTY] + spent_ns[TEN];
    if (10 * spent_ns[SIXTY] <= 6 * total)
        TIMED(SIXTY, truth_sixty(some()));
    else if (10 * spent_ns[THIRTY] <= 3 * total)
        TIMED(THIRTY, truth_thirty(some()));
    else
        TIMED(TEN, truth_ten(some()));
}

FUNCTION void truth_shares(long budget_ns) {
    WHILE(budget_ns) truth_step();
}

FUNCTION void truth_deep(int depth) {
    if (depth > 1)
        truth_deep(depth - 1);
    else
        truth_bottom(some());
    STAY();
}

FUNCTION void truth_recursion(long budget_ns) {
    WHILE(budget_ns) TIMED(BOTTOM, truth_deep(100));
}

FUNCTION int truth_compare(const void *one, const void *other) {
    SPIN(ROUNDS / 200, 71);
    unsigned a = *(const unsigned *)one, b = *(const unsigned *)other;
    return (a > b) - (a < b);
}

FUNCTION void truth_callback(long budget_ns) {
    unsigned values[COMPARED];
    WHILE(budget_ns) {
        for (unsigned at = 0; at < COMPARED; at++) values[at] = at * 2654435761u;
        TIMED(COMPARE, qsort(values, COMPARED, sizeof values[0], truth_compare));
    }
}

FUNCTION void *truth_thread(void *budget_ns) {
    WHILE(*(long *)budget_ns) TIMED(THREADED, truth_threaded(some()));
    return NULL;
}

FUNCTION void truth_threads(long budget_ns) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, truth_thread, &budget_ns) != 0) abort();
    pthread_join(thread, NULL);
}

FUNCTION void truth_handler(int signal_number) {
    (void)signal_number;
    long before_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    truth_handled(some());
    long taken_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - before_ns;
    spent_ns[HANDLED] += taken_ns;
    in_handler_ns += taken_ns;
    leaf_calls++;
}

FUNCTION void truth_signals(long budget_ns) {
    // No rate of sampling is near a multiple of it.
    struct itimerval often = {{0, 1370}, {0, 1370}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    WHILE(budget_ns) {
        long handled_ns = in_handler_ns;
        TIMED(INTERRUPTED, truth_interrupted(some()));
        spent_ns[INTERRUPTED] -= in_handler_ns - handled_ns;
    }
    setitimer(ITIMER_REAL, &never, NULL);
}

#ifdef TRUTH_PLUGIN
FUNCTION void truth_plugged(long budget_ns) {
    static void (*entry)(long);
    if (!entry) {
        void *plugin = dlopen("/libtruth.so", RTLD_NOW);
        if (!plugin) abort();
        entry = (void (*)(long))dlsym(plugin, "truth_plugin_entry");
        if (!entry) abort();
    }
    WHILE(budget_ns) TIMED(PLUGIN, entry(some()));
}
#endif

#ifdef __cplusplus
FUNCTION void truth_throwing(long rounds) {
    SPIN(rounds, 81);
    if (rounds > 0) throw rounds;
}

FUNCTION void truth_thrower(long rounds) {
    truth_throwing(rounds);
    STAY();
}

FUNCTION void truth_caught(long rounds) { SPIN(rounds, 91); }

FUNCTION void truth_exceptions(long budget_ns) {
    WHILE(budget_ns) {
        long before_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        try {
            truth_thrower(some());
        } catch (long rounds) {
            spent_ns[THROWING] += clock_ns(CLOCK_THREAD_CPUTIME_ID) - before_ns;
            leaf_calls++;
            TIMED(CAUGHT, truth_caught(rounds));
        }
    }
}
#endif

FUNCTION void truth_pass(long slice_ns, int only_shares) {
    if (only_shares) {
        truth_shares(slice_ns);
        STAY();
        return;
    }
    truth_shares(slice_ns / 2);
    truth_recursion(slice_ns / 12);
    truth_callback(slice_ns / 12);
    truth_threads(slice_ns / 12);
    truth_signals(slice_ns / 12);
#ifdef TRUTH_PLUGIN
    truth_plugged(slice_ns / 12);
#endif
#ifdef __cplusplus
    truth_exceptions(slice_ns / 12);
#endif
    STAY();
}

// Carries what was counted over the exec.
FUNCTION void truth_again(char **arguments, long begin_ns) {
    char text[32 * (LEAVES + 3)];
    int length = snprintf(text, sizeof text, "%ld %ld", begin_ns, leaf_calls);
    for (int leaf = 0; leaf < LEAVES; leaf++)
        length += snprintf(text + length, sizeof text - length, " %ld", spent_ns[leaf]);
    setenv("TRUTH_SO_FAR", text, 1);
    execv(arguments[0], arguments);
    abort();
}

static void say(long begin_ns) {
    printf("{\"leaves\":{");
    for (int leaf = 0, first = 1; leaf < LEAVES; leaf++) {
        if (spent_ns[leaf] == 0) continue;
        printf("%s\"%s\":%ld", first ? "" : ",", NAMES[leaf], spent_ns[leaf]);
        first = 0;
    }
    long cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - begin_ns;
    printf("},\"calls\":%ld,\"cpu_ns\":%ld,\"exec_cpu_ns\":%ld}\n", leaf_calls, cpu_ns, begin_ns);
    fflush(stdout);
}

static void leave(int signal_number) {
    (void)signal_number;
    _exit(0);
}

int main(int count, char **arguments) {
    long begin_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (count < 3) {
        fprintf(stderr, "usage: truth all|calls|shares CPU_MS [stay]\n");
        return 64;
    }
    signal(SIGTERM, leave);
    struct sigaction handler;
    memset(&handler, 0, sizeof handler);
    handler.sa_handler = truth_handler;
    handler.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &handler, NULL);
    long budget_ns = atol(arguments[2]) * 1000000;
    int only_shares = strcmp(arguments[1], "shares") == 0;
    int again = strcmp(arguments[1], "all") == 0;
    char *so_far = getenv("TRUTH_SO_FAR");
    if (so_far) {
        again = 0;
        begin_ns = strtol(so_far, &so_far, 10);
        leaf_calls = strtol(so_far, &so_far, 10);
        for (int leaf = 0; leaf < LEAVES; leaf++) spent_ns[leaf] = strtol(so_far, &so_far, 10);
    }
    for (;;) {
        long left_ns = budget_ns - (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - begin_ns);
        if (left_ns <= 0) break;
        if (again && left_ns < budget_ns / 2) truth_again(arguments, begin_ns);
        truth_pass(left_ns < 100000000 ? left_ns : 100000000, only_shares);
    }
    say(begin_ns);
    if (count > 3) pause();
    return 0;
}
