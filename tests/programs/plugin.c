// A library that the truth program opens while it runs.
__attribute__((noipa, noinline)) void truth_plugin_leaf(long rounds) {
    unsigned long value = 1;
    for (; rounds > 0; rounds--) {
        value = value * 6364136223846793005UL + 7;
        __asm__ volatile("" : "+r"(value));
    }
}

__attribute__((noipa, noinline)) void truth_plugin_entry(long rounds) {
    truth_plugin_leaf(rounds);
    __asm__ volatile("" ::: "memory");
}
