//! The truth program in Rust; see truth.c for its arguments and for what it says.

use std::ffi::{c_int, c_long};
use std::hint::black_box;
use std::os::unix::process::CommandExt as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

#[repr(C)]
struct Timespec {
    seconds: c_long,
    nanoseconds: c_long,
}

#[repr(C)]
struct Timer {
    interval: [c_long; 2],
    value: [c_long; 2],
}

unsafe extern "C" {
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    fn setitimer(which: c_int, new: *const Timer, old: *mut Timer) -> c_int;
    fn signal(number: c_int, handler: extern "C" fn(c_int)) -> usize;
    fn pause() -> c_int;
    fn _exit(status: c_int) -> !;
}

const PROCESS_CPU: c_int = 2;
const THREAD_CPU: c_int = 3;
const SIGALRM: c_int = 14;
const SIGTERM: c_int = 15;
/// About half a millisecond; a leaf runs from half of it to one and a half.
const ROUNDS: u64 = 300_000;
const NAMES: [&str; 10] = [
    "truth_sixty",
    "truth_thirty",
    "truth_ten",
    "truth_bottom",
    "truth_compare",
    "truth_threaded",
    "truth_panicking",
    "truth_caught",
    "truth_interrupted",
    "truth_handled",
];
const SIXTY: usize = 0;
const THIRTY: usize = 1;
const TEN: usize = 2;
const BOTTOM: usize = 3;
const COMPARE: usize = 4;
const THREADED: usize = 5;
const PANICKING: usize = 6;
const CAUGHT: usize = 7;
const INTERRUPTED: usize = 8;
const HANDLED: usize = 9;
static SPENT_NS: [AtomicI64; 10] = [const { AtomicI64::new(0) }; 10];
static CALLS: AtomicI64 = AtomicI64::new(0);
static DRAWN: AtomicU64 = AtomicU64::new(1);

fn clock_ns(clock: c_int) -> i64 {
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: it writes one timespec.
    unsafe { clock_gettime(clock, &mut time) };
    time.seconds * 1_000_000_000 + time.nanoseconds
}

/// Never twice the same: leaves that take turns at one pace may fall into step with who samples them.
#[inline(always)]
fn some() -> u64 {
    let drawn =
        DRAWN.load(Ordering::Relaxed).wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    DRAWN.store(drawn, Ordering::Relaxed);
    ROUNDS / 2 + (drawn >> 33) % ROUNDS
}

fn spent_ns(leaf: usize) -> i64 {
    SPENT_NS[leaf].load(Ordering::Relaxed)
}

fn add(leaf: usize, ns: i64) {
    SPENT_NS[leaf].fetch_add(ns, Ordering::Relaxed);
    CALLS.fetch_add(1, Ordering::Relaxed);
}

/// Runs `call` for `leaf`, and counts its time.
#[inline(always)]
fn timed<T>(leaf: usize, call: impl FnOnce() -> T) -> T {
    let before_ns = clock_ns(THREAD_CPU);
    let value = call();
    add(leaf, clock_ns(THREAD_CPU) - before_ns);
    value
}

/// Runs `call` again and again for so much CPU time of this thread.
#[inline(always)]
fn during(budget_ns: i64, mut call: impl FnMut()) {
    let end_ns = clock_ns(THREAD_CPU) + budget_ns;
    while clock_ns(THREAD_CPU) < end_ns {
        call();
    }
}

#[inline(always)]
fn spin(rounds: u64, key: u64) {
    let mut value = key;
    for _ in 0..rounds {
        value = black_box(value.wrapping_mul(6364136223846793005).wrapping_add(key));
    }
}

#[inline(never)]
fn truth_sixty(rounds: u64) {
    spin(rounds, 61);
}

#[inline(never)]
fn truth_thirty(rounds: u64) {
    spin(rounds, 31);
}

#[inline(never)]
fn truth_ten(rounds: u64) {
    spin(rounds, 11);
}

#[inline(never)]
fn truth_bottom(rounds: u64) {
    spin(rounds, 101);
}

#[inline(never)]
fn truth_threaded(rounds: u64) {
    spin(rounds, 21);
}

#[inline(never)]
fn truth_interrupted(rounds: u64) {
    spin(rounds, 41);
}

#[inline(never)]
fn truth_handled(rounds: u64) {
    spin(rounds, 51);
}

#[inline(never)]
fn truth_caught(rounds: u64) {
    spin(rounds, 91);
}

#[inline(never)]
fn truth_step() {
    let total = spent_ns(SIXTY) + spent_ns(THIRTY) + spent_ns(TEN);
    if 10 * spent_ns(SIXTY) <= 6 * total {
        timed(SIXTY, || truth_sixty(some()));
    } else if 10 * spent_ns(THIRTY) <= 3 * total {
        timed(THIRTY, || truth_thirty(some()));
    } else {
        timed(TEN, || truth_ten(some()));
    }
}

#[inline(never)]
fn truth_shares(budget_ns: i64) {
    during(budget_ns, || truth_step());
}

#[inline(never)]
fn truth_deep(depth: u32) -> u32 {
    if depth > 1 {
        return black_box(truth_deep(black_box(depth - 1))) + 1;
    }
    truth_bottom(some());
    black_box(1)
}

#[inline(never)]
fn truth_recursion(budget_ns: i64) {
    during(budget_ns, || {
        timed(BOTTOM, || black_box(truth_deep(black_box(100))));
    });
}

#[inline(never)]
fn truth_compare(one: &u32, other: &u32) -> std::cmp::Ordering {
    spin(ROUNDS / 200, 71);
    one.cmp(other)
}

#[inline(never)]
fn truth_callback(budget_ns: i64) {
    during(budget_ns, || {
        let mut values: Vec<u32> = (0..64u32).map(|at| at.wrapping_mul(2654435761)).collect();
        timed(COMPARE, || values.sort_by(truth_compare));
        black_box(values);
    });
}

#[inline(never)]
fn truth_thread(budget_ns: i64) {
    during(budget_ns, || timed(THREADED, || truth_threaded(some())));
}

#[inline(never)]
fn truth_threads(budget_ns: i64) {
    let thread = std::thread::spawn(move || {
        truth_thread(budget_ns);
        black_box(())
    });
    thread.join().unwrap();
}

#[inline(never)]
extern "C" fn truth_handler(_: c_int) {
    timed(HANDLED, || truth_handled(some()));
    black_box(());
}

#[inline(never)]
fn truth_signals(budget_ns: i64) {
    let timer = |us| Timer { interval: [0, us], value: [0, us] };
    // No rate of sampling is near a multiple of it.
    // SAFETY: both structures are whole, and nobody asks for the old timer.
    unsafe { setitimer(0, &timer(1370), std::ptr::null_mut()) };
    during(budget_ns, || {
        let handled_ns = spent_ns(HANDLED);
        timed(INTERRUPTED, || truth_interrupted(some()));
        SPENT_NS[INTERRUPTED].fetch_sub(spent_ns(HANDLED) - handled_ns, Ordering::Relaxed);
    });
    // SAFETY: as above.
    unsafe { setitimer(0, &timer(0), std::ptr::null_mut()) };
}

#[inline(never)]
fn truth_panicking(rounds: u64) {
    spin(rounds, 81);
    if black_box(rounds) > 0 {
        panic!("as it is meant");
    }
}

#[inline(never)]
fn truth_panics() {
    truth_panicking(some());
    black_box(());
}

#[inline(never)]
fn truth_unwinds(budget_ns: i64) {
    during(budget_ns, || {
        let caught = timed(PANICKING, || std::panic::catch_unwind(truth_panics));
        assert!(caught.is_err());
        timed(CAUGHT, || truth_caught(some()));
    });
}

#[inline(never)]
fn truth_pass(slice_ns: i64, only_shares: bool) {
    if only_shares {
        truth_shares(slice_ns);
    } else {
        truth_shares(slice_ns / 2);
        truth_recursion(slice_ns / 12);
        truth_callback(slice_ns / 12);
        truth_threads(slice_ns / 12);
        truth_signals(slice_ns / 12);
        truth_unwinds(slice_ns / 12);
    }
    black_box(());
}

/// Carries what was counted over the exec.
#[inline(never)]
fn truth_again(arguments: &[String], begin_ns: i64) {
    let mut so_far = format!("{begin_ns} {}", CALLS.load(Ordering::Relaxed));
    for leaf in 0..NAMES.len() {
        so_far.push_str(&format!(" {}", spent_ns(leaf)));
    }
    let error =
        std::process::Command::new(&arguments[0]).args(&arguments[1..]).env("TRUTH_SO_FAR", so_far).exec();
    panic!("exec {}: {error}", arguments[0]);
}

extern "C" fn leave(_: c_int) {
    // SAFETY: it ends the process, from a signal handler too.
    unsafe { _exit(0) }
}

fn main() {
    let mut begin_ns = clock_ns(PROCESS_CPU);
    let arguments: Vec<String> = std::env::args().collect();
    let [_, mode, cpu_ms, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: truth all|calls|shares CPU_MS [stay]");
        std::process::exit(64);
    };
    // SAFETY: both handlers do what a handler may.
    unsafe {
        signal(SIGTERM, leave);
        signal(SIGALRM, truth_handler);
    }
    std::panic::set_hook(Box::new(|_| {}));
    let budget_ns = cpu_ms.parse::<i64>().expect("milliseconds") * 1_000_000;
    let mut again = mode == "all";
    if let Ok(so_far) = std::env::var("TRUTH_SO_FAR") {
        again = false;
        let mut numbers = so_far.split(' ').map(|text| text.parse::<i64>().expect("a number"));
        begin_ns = numbers.next().expect("the beginning");
        CALLS.store(numbers.next().expect("calls"), Ordering::Relaxed);
        SPENT_NS.iter().zip(numbers).for_each(|(spent, ns)| spent.store(ns, Ordering::Relaxed));
    }
    loop {
        let left_ns = budget_ns - (clock_ns(PROCESS_CPU) - begin_ns);
        if left_ns <= 0 {
            break;
        }
        if again && left_ns < budget_ns / 2 {
            truth_again(&arguments, begin_ns);
        }
        truth_pass(left_ns.min(100_000_000), mode == "shares");
    }
    let leaves: Vec<String> = (0..NAMES.len())
        .filter(|leaf| spent_ns(*leaf) > 0)
        .map(|leaf| format!("\"{}\":{}", NAMES[leaf], spent_ns(leaf)))
        .collect();
    println!(
        "{{\"leaves\":{{{}}},\"calls\":{},\"cpu_ns\":{},\"exec_cpu_ns\":{begin_ns}}}",
        leaves.join(","),
        CALLS.load(Ordering::Relaxed),
        clock_ns(PROCESS_CPU) - begin_ns
    );
    if !rest.is_empty() {
        // SAFETY: it waits for a signal.
        unsafe { pause() };
    }
}
