/* A program of which the kernel's chains tell all: every function keeps a frame, and the first has none above it.
   No C library, whose code keeps none. Burns as many milliseconds of CPU time as its name ends in: chains-3000. */
#include <asm/unistd.h>

static long system_call(long number, long a, long b) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b) : "rcx", "r11", "memory");
    return result;
}

__attribute__((noinline)) long chains_leaf(long n) {
    long x = n;
    /* Or it is called once, and keeps no frame. */
    __asm__ volatile("" : "+r"(x) : "r"(__builtin_frame_address(0)));
    for (long i = 0; i < n; i++)
        x = x * 6364136223846793005L + 1442695040888963407L;
    return x;
}

__attribute__((noinline)) long chains_middle(long n) { return chains_leaf(n) ^ n; }

__attribute__((noinline)) void chains_begin(long *stack) {
    long milliseconds = 0, now[2] = {0, 0};
    for (char *at = (char *)stack[1]; *at; at++)
        milliseconds = *at == '-' ? 0 : milliseconds * 10 + (*at - '0');
    volatile long sink = 0;
    do {
        sink += chains_middle(1000000);
        system_call(__NR_clock_gettime, 2, (long)now);
    } while (now[0] * 1000 + now[1] / 1000000 < milliseconds);
    system_call(__NR_exit_group, 0, 0);
}

__asm__(".globl _start\n.type _start, @function\n_start:\n.cfi_startproc\n.cfi_undefined rip\n"
        "xor %ebp, %ebp\nmov %rsp, %rdi\ncall chains_begin\nhlt\n.cfi_endproc\n.size _start, . - _start\n");
