//! The function that fnscope is shown with and tested against: one file, no dependency, statically linked, so that it
//! runs in a container that holds nothing else.
//!
//! Every command does real work in functions with names of their own, and ends with one JSON line on stdout (`ping` and
//! `echo`, whose stdout is their work: on stderr) that tells what it did by the kernel's own clocks. That line is the truth which profiles are compared with. In all of them
//! `exec_cpu_ms` is what the process's CPU clock showed when `main` began (a container's first process has spent CPU
//! time as `runc` before), `cpu_ms` is CPU time from there on, and `ended_ms` is when it ended by the monotonic clock,
//! which the whole host shares.
//!
//! Exit status: 0 done, 1 the work failed, 64 wrong usage.

use std::ffi::{c_int, c_long};
use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

const USAGE: &str = "\
usage: function COMMAND [--OPTION VALUE]...

  pi       --cpu-ms 300 --revision 1    digits of pi, written to a file and read back; revision 2 also verifies them
  fib      --cpu-ms 300                 recursion
  burn     --cpu-ms 300                 CPU time and nothing else
  shares   --cpu-ms 1000                three functions that take 60, 30 and 10 % of it
  part     --cpu-ms 1000 --per-mille 200
                                        a function that takes that part of it, and another that takes the rest
  pulse    --count 100 --cpu-us 3000 --pause-us-max 10000
                                        a warm container: short invocations with pauses of random length between them
  deep     --depth 300 --cpu-ms 300     a stack of that many frames
  threads  --count 2 --cpu-ms 300       as many threads, each with that much CPU time
  spawn    --count 100 --rate 0 --child-cpu-ms 1
                                        runs itself again and again, at most `rate` times a second (0: no limit)
  action-loop --stem-ms 500 --child-cpu-ms 300
                                        as OpenWhisk's prewarmed containers do: computes for nobody that long, then is
                                        given its action, and runs itself with that in its environment
  proxy    --stem-ms 300 --run-ms 300   as runtimes do that start no process for a function: computes for nobody that long,
                                        then so long for each line on stdin, and tells of each when it began and ended
  ping     --count 100000               writes a byte to stdout and waits for one on stdin, that often
  echo                                  writes what comes on stdin to stdout, byte by byte: the other end of `ping`
  idle                                  says `ready` and waits for SIGTERM or SIGINT
";

fn main() -> ExitCode {
    let exec_cpu = clock_ns(PROCESS_CPU);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((command, rest)) => run(command, rest, exec_cpu),
        None => Err(Failure::Usage("no command".into())),
    };
    let printed = outcome.and_then(|truth| {
        let cpu = millis(clock_ns(PROCESS_CPU) - exec_cpu);
        let exec = millis(exec_cpu);
        let ended = millis(clock_ns(MONOTONIC));
        let line = format!("{{{truth}\"cpu_ms\":{cpu},\"exec_cpu_ms\":{exec},\"ended_ms\":{ended}}}");
        match arguments.first().map(String::as_str) {
            Some("ping" | "echo") => {
                eprintln!("{line}");
                Ok(())
            }
            _ => say(&line),
        }
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Work(message)) => {
            eprintln!("function: {message}");
            ExitCode::FAILURE
        }
        Err(Failure::Usage(message)) => {
            eprintln!("function: {message}\n{USAGE}");
            ExitCode::from(64)
        }
    }
}

enum Failure {
    Usage(String),
    Work(String),
}

/// What a command has to tell: members of a JSON object, each with a comma behind it.
type Truth = String;

fn run(command: &str, rest: &[String], exec_cpu: u64) -> Result<Truth, Failure> {
    let until = |cpu_ms: u64| exec_cpu.saturating_add(cpu_ms.saturating_mul(1_000_000));
    match command {
        "pi" => {
            let [cpu_ms, revision] = options(rest, [("--cpu-ms", 300), ("--revision", 1)])?;
            pi(until(cpu_ms), revision)
        }
        "fib" => {
            let [cpu_ms] = options(rest, [("--cpu-ms", 300)])?;
            Ok(fib(until(cpu_ms)))
        }
        "burn" => {
            let [cpu_ms] = options(rest, [("--cpu-ms", 300)])?;
            let sum = burn(until(cpu_ms));
            Ok(format!("\"sum\":{sum},"))
        }
        "shares" => {
            let [cpu_ms] = options(rest, [("--cpu-ms", 1000)])?;
            Ok(shares(until(cpu_ms)))
        }
        "part" => {
            let [cpu_ms, per_mille] = options(rest, [("--cpu-ms", 1000), ("--per-mille", 200)])?;
            if per_mille > 1000 {
                return Err(Failure::Usage("--per-mille is 1000 at most".into()));
            }
            Ok(part(until(cpu_ms), per_mille))
        }
        "pulse" => {
            let defaults = [("--count", 100), ("--cpu-us", 3000), ("--pause-us-max", 10_000)];
            let [count, cpu_us, pause_us_max] = options(rest, defaults)?;
            Ok(pulse(count, cpu_us, pause_us_max))
        }
        "deep" => {
            let [depth, cpu_ms] = options(rest, [("--depth", 300), ("--cpu-ms", 300)])?;
            if depth > MAX_DEPTH {
                return Err(Failure::Usage(format!("--depth is {MAX_DEPTH} at most")));
            }
            let sum = descend(depth, until(cpu_ms));
            Ok(format!("\"depth\":{depth},\"sum\":{sum},"))
        }
        "threads" => {
            let [count, cpu_ms] = options(rest, [("--count", 2), ("--cpu-ms", 300)])?;
            threads(count, cpu_ms)
        }
        "spawn" => {
            let defaults = [("--count", 100), ("--rate", 0), ("--child-cpu-ms", 1)];
            let [count, rate, child_cpu_ms] = options(rest, defaults)?;
            spawn(count, rate, child_cpu_ms)
        }
        "action-loop" => {
            let [stem_ms, child_cpu_ms] = options(rest, [("--stem-ms", 500), ("--child-cpu-ms", 300)])?;
            action_loop(stem_ms, child_cpu_ms)
        }
        "proxy" => {
            let [stem_ms, run_ms] = options(rest, [("--stem-ms", 300), ("--run-ms", 300)])?;
            proxy(stem_ms, run_ms)
        }
        "ping" => {
            let [count] = options(rest, [("--count", 100_000)])?;
            ping(count)
        }
        "echo" => {
            let [] = options(rest, [])?;
            echo()
        }
        "idle" => {
            let [] = options(rest, [])?;
            idle()
        }
        _ => Err(Failure::Usage(format!("unknown command `{command}`"))),
    }
}

/// The values of `--name value` pairs, in the order of `defaults`, which names all that may stand there.
fn options<const N: usize>(rest: &[String], defaults: [(&str, u64); N]) -> Result<[u64; N], Failure> {
    let mut values = defaults.map(|(_, value)| value);
    let mut rest = rest.iter();
    while let Some(name) = rest.next() {
        let position = defaults.iter().position(|(known, _)| known == name);
        let slot = position.and_then(|at| values.get_mut(at));
        let slot = slot.ok_or_else(|| Failure::Usage(format!("unknown option `{name}`")))?;
        let value = rest.next().and_then(|text| text.parse().ok());
        *slot = value.ok_or_else(|| Failure::Usage(format!("{name} takes a whole number")))?;
    }
    Ok(values)
}

/// One line on stdout, out at once.
fn say(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Work(format!("write to stdout: {error}")))
}

/// Milliseconds with three digits behind the point.
fn millis(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000, ns / 1000 % 1000)
}

// ---- pi

/// Digits behind the point that one round computes.
const DIGITS: usize = 1200;

/// Computes pi and writes it down, round after round, until the process's CPU clock shows `until`.
fn pi(until: u64, revision: u64) -> Result<Truth, Failure> {
    let mut rounds = 0_u64;
    let mut digits = String::new();
    while clock_ns(PROCESS_CPU) < until || rounds == 0 {
        digits = compute_pi();
        if revision >= 2 && !verify_digits(&digits) {
            return Err(Failure::Work("two formulas for pi disagree".into()));
        }
        store_digits(&digits)?;
        rounds += 1;
    }
    let shown = digits.get(..52).unwrap_or(&digits);
    Ok(format!("\"pi\":\"{shown}\",\"digits\":{DIGITS},\"rounds\":{rounds},\"revision\":{revision},"))
}

/// Machin's formula: 16 arctan(1/5) - 4 arctan(1/239).
#[inline(never)]
fn compute_pi() -> String {
    let mut sum = Fixed::zero();
    arctan_inverse(5, 16, Sign::Plus, &mut sum);
    arctan_inverse(239, 4, Sign::Minus, &mut sum);
    to_decimal(&sum)
}

/// What revision 2 does for every round: the same digits by Hutton's formula, 8 arctan(1/3) + 4 arctan(1/7).
#[inline(never)]
fn verify_digits(digits: &str) -> bool {
    let mut sum = Fixed::zero();
    arctan_inverse(3, 8, Sign::Plus, &mut sum);
    arctan_inverse(7, 4, Sign::Plus, &mut sum);
    to_decimal(&sum) == digits
}

#[derive(Clone, Copy, PartialEq)]
enum Sign {
    Plus,
    Minus,
}

impl Sign {
    fn flip(self) -> Sign {
        if self == Sign::Plus { Sign::Minus } else { Sign::Plus }
    }
}

/// A fixed-point number: whole part first, then groups of nine decimal digits, two of them to guard against rounding.
struct Fixed(Vec<u64>);

const GROUP: u64 = 1_000_000_000;
const GROUPS: usize = DIGITS.div_ceil(9) + 3;

impl Fixed {
    fn zero() -> Fixed {
        Fixed(vec![0; GROUPS])
    }
}

/// Adds `factor * arctan(1/x)`, or subtracts it: the sum of `factor / x^(2k+1) / (2k+1)` with alternating signs.
#[inline(never)]
fn arctan_inverse(x: u64, factor: u64, first: Sign, sum: &mut Fixed) {
    let mut power = Fixed::zero();
    power.0[0] = factor;
    divide(&mut power, x);
    let mut term = Fixed::zero();
    let mut sign = first;
    let mut odd = 1;
    while power.0.iter().any(|group| *group != 0) {
        term.0.copy_from_slice(&power.0);
        divide(&mut term, odd);
        match sign {
            Sign::Plus => add(sum, &term),
            Sign::Minus => subtract(sum, &term),
        }
        divide(&mut power, x * x);
        sign = sign.flip();
        odd += 2;
    }
}

#[inline(never)]
fn divide(number: &mut Fixed, divisor: u64) {
    let mut rest = 0;
    for group in &mut number.0 {
        let dividend = rest * GROUP + *group;
        *group = dividend / divisor;
        rest = dividend % divisor;
    }
}

#[inline(never)]
fn add(sum: &mut Fixed, term: &Fixed) {
    let mut carry = 0;
    for (into, group) in sum.0.iter_mut().zip(&term.0).rev() {
        let total = *into + group + carry;
        *into = total % GROUP;
        carry = total / GROUP;
    }
}

#[inline(never)]
fn subtract(sum: &mut Fixed, term: &Fixed) {
    let mut borrow = 0;
    for (into, group) in sum.0.iter_mut().zip(&term.0).rev() {
        let total = *into + GROUP - group - borrow;
        *into = total % GROUP;
        borrow = 1 - total / GROUP;
    }
}

#[inline(never)]
fn to_decimal(number: &Fixed) -> String {
    let (whole, groups) = number.0.split_first().expect("a fixed-point number has a whole part");
    let mut text = format!("{whole}.");
    groups.iter().for_each(|group| text.push_str(&format!("{group:09}")));
    text.truncate(2 + DIGITS);
    text
}

/// Writes the digits to disk and reads them back: what a function does with its result, and kernel time in a profile.
#[inline(never)]
fn store_digits(digits: &str) -> Result<(), Failure> {
    let folder = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let path = folder.join(format!("pi-{}.txt", std::process::id()));
    let written = write_file(&path, digits.as_bytes())
        .and_then(|()| read_file(&path))
        .and_then(|read| std::fs::remove_file(&path).map(|()| read));
    match written {
        Ok(read) if read == digits.as_bytes() => Ok(()),
        Ok(_) => Err(Failure::Work(format!("{}: read something else than was written", path.display()))),
        Err(error) => Err(Failure::Work(format!("write and read {}: {error}", path.display()))),
    }
}

#[inline(never)]
fn write_file(path: &PathBuf, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[inline(never)]
fn read_file(path: &PathBuf) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

// ---- fib

/// The Fibonacci number that one round computes by plain recursion: a millisecond or so.
const FIB: u64 = 24;

fn fib(until: u64) -> Truth {
    let mut rounds = 0_u64;
    let mut number = 0;
    while clock_ns(PROCESS_CPU) < until || rounds == 0 {
        number = fibonacci(black_box(FIB));
        rounds += 1;
    }
    format!("\"fibonacci\":{number},\"n\":{FIB},\"rounds\":{rounds},")
}

#[inline(never)]
fn fibonacci(n: u64) -> u64 {
    if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
}

// ---- burn, deep, threads

/// Burns CPU time until the process's clock shows `until`.
#[inline(never)]
fn burn(until: u64) -> u64 {
    spend::<0x9e37_79b9_7f4a_7c15>(PROCESS_CPU, until)
}

/// Deeper than the main thread's stack of 8 MiB allows, with room to spare: a frame takes 64 bytes or less.
const MAX_DEPTH: u64 = 50_000;

/// `depth` frames of itself, and CPU time at the bottom.
#[inline(never)]
fn descend(depth: u64, until: u64) -> u64 {
    if depth == 0 {
        return burn(until);
    }
    // The addition after the call keeps it a call: a tail call would leave one frame.
    black_box(descend(black_box(depth - 1), until)).wrapping_add(depth)
}

fn threads(count: u64, cpu_ms: u64) -> Result<Truth, Failure> {
    let start = |number: u64| {
        std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || worker(cpu_ms))
            .map_err(|error| Failure::Work(format!("start a thread: {error}")))
    };
    let workers: Vec<_> = (1..=count).map(start).collect::<Result<_, _>>()?;
    let mut each = Vec::new();
    for worker in workers {
        let ns = worker.join().map_err(|_| Failure::Work("a thread panicked".into()))?;
        each.push(millis(ns));
    }
    Ok(format!("\"threads\":{count},\"thread_cpu_ms\":[{}],", each.join(",")))
}

/// A thread's work; returns the CPU time it took in nanoseconds.
#[inline(never)]
fn worker(cpu_ms: u64) -> u64 {
    let begin = clock_ns(THREAD_CPU);
    black_box(spend::<0xbf58_476d_1ce4_e5b9>(THREAD_CPU, begin + cpu_ms * 1_000_000));
    clock_ns(THREAD_CPU) - begin
}

// ---- shares

/// Three functions that share CPU time 60 : 30 : 10 in slices of random length, so that no sampling period can fall
/// into step with them. Each slice is measured: the answer is what they took, not what they were meant to take.
fn shares(until: u64) -> Truth {
    let mut random = Random::from_clock();
    let mut took = [0_u64; 3];
    while clock_ns(PROCESS_CPU) < until {
        for which in random.order_of_three() {
            // 0.05 to 0.15 ms for each tenth.
            let tenth = 50_000 + random.below(100_000);
            let begin = clock_ns(THREAD_CPU);
            let (share, function): (u64, fn(u64) -> u64) = match which {
                0 => (6, spend_sixty),
                1 => (3, spend_thirty),
                _ => (1, spend_ten),
            };
            black_box(function(begin + share * tenth));
            took[which] += clock_ns(THREAD_CPU) - begin;
        }
    }
    let [sixty, thirty, ten] = took.map(millis);
    format!("\"spend_sixty\":{sixty},\"spend_thirty\":{thirty},\"spend_ten\":{ten},")
}

// A multiplier of its own for each, or the compiler would make the three one function.

#[inline(never)]
fn spend_sixty(until: u64) -> u64 {
    spend::<0x94d0_49bb_1331_11eb>(THREAD_CPU, until)
}

#[inline(never)]
fn spend_thirty(until: u64) -> u64 {
    spend::<0xff51_afd7_ed55_8ccd>(THREAD_CPU, until)
}

#[inline(never)]
fn spend_ten(until: u64) -> u64 {
    spend::<0xc4ce_b9fe_1a85_ec53>(THREAD_CPU, until)
}

// ---- part

/// Two functions that part CPU time, in slices of random length as [`shares`] has them.
fn part(until: u64, per_mille: u64) -> Truth {
    let mut random = Random::from_clock();
    let mut took = [0_u64; 2];
    while clock_ns(PROCESS_CPU) < until {
        let first = random.below(2) as usize;
        for which in [first, 1 - first] {
            // 0.5 to 1.5 us for each thousandth.
            let thousandth = 500 + random.below(1_000);
            let begin = clock_ns(THREAD_CPU);
            let (share, function): (u64, fn(u64) -> u64) = match which {
                0 => (per_mille, spend_part),
                _ => (1000 - per_mille, spend_rest),
            };
            black_box(function(begin + share * thousandth));
            took[which] += clock_ns(THREAD_CPU) - begin;
        }
    }
    let [part, rest] = took.map(millis);
    format!("\"spend_part\":{part},\"spend_rest\":{rest},")
}

#[inline(never)]
fn spend_part(until: u64) -> u64 {
    spend::<0x9fb2_1c65_1e98_df25>(THREAD_CPU, until)
}

#[inline(never)]
fn spend_rest(until: u64) -> u64 {
    spend::<0xd1b5_4a32_d192_ed03>(THREAD_CPU, until)
}

/// The loop of all that burn CPU time, always part of the function that calls it: no call, no library, one frame.
/// The clock is read every few microseconds, which keeps the kernel's part small.
#[inline(always)]
fn spend<const MULTIPLIER: u64>(clock: c_int, until: u64) -> u64 {
    let mut value = MULTIPLIER;
    while clock_ns(clock) < until {
        for _ in 0..4096 {
            value = (value ^ (value >> 31)).wrapping_mul(MULTIPLIER);
        }
    }
    value
}

// ---- pulse

fn pulse(count: u64, cpu_us: u64, pause_us_max: u64) -> Truth {
    let mut random = Random::from_clock();
    for _ in 0..count {
        std::thread::sleep(Duration::from_micros(random.below(pause_us_max + 1)));
        black_box(invoke(clock_ns(PROCESS_CPU) + cpu_us * 1000));
    }
    format!("\"count\":{count},")
}

/// One invocation of a warm function.
#[inline(never)]
fn invoke(until: u64) -> u64 {
    spend::<0xd6e8_feb8_6659_fd93>(PROCESS_CPU, until)
}

// ---- spawn

fn spawn(count: u64, rate: u64, child_cpu_ms: u64) -> Result<Truth, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::Work(format!("find this program: {error}")))?;
    let failed = |error: std::io::Error| Failure::Work(format!("run {}: {error}", program.display()));
    let begin = Instant::now();
    for number in 0..count {
        if rate > 0 {
            let due = begin + Duration::from_nanos(number.saturating_mul(1_000_000_000 / rate));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let mut child = Command::new(&program);
        child.args(["burn", "--cpu-ms", &child_cpu_ms.to_string()]);
        let status = child.stdin(Stdio::null()).stdout(Stdio::null()).status().map_err(failed)?;
        if !status.success() {
            return Err(Failure::Work(format!("child {number}: {status}")));
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let children = millis(children_cpu_ns());
    Ok(format!("\"count\":{count},\"seconds\":{seconds:.3},\"children_cpu_ms\":{children},"))
}

// ---- action loop

fn action_loop(stem_ms: u64, child_cpu_ms: u64) -> Result<Truth, Failure> {
    black_box(stem_cell(Instant::now() + Duration::from_millis(stem_ms)));
    let program = std::env::current_exe().map_err(|error| Failure::Work(format!("find this program: {error}")))?;
    let failed = |error: std::io::Error| Failure::Work(format!("run {}: {error}", program.display()));
    let mut child = Command::new(&program);
    child.args(["burn", "--cpu-ms", &child_cpu_ms.to_string()]);
    child.env("__OW_ACTION_NAME", "/guest/hello").env("__OW_ACTION_VERSION", "0.0.1");
    child.env("__OW_NAMESPACE", "guest").stdin(Stdio::null()).stdout(Stdio::null());
    let init_at_us = now_us();
    let status = child.status().map_err(failed)?;
    if !status.success() {
        return Err(Failure::Work(format!("the action: {status}")));
    }
    let children = millis(children_cpu_ns());
    Ok(format!("\"init_at_us\":{init_at_us},\"children_cpu_ms\":{children},"))
}

/// What a container computes before it is anybody's.
#[inline(never)]
fn stem_cell(until: Instant) -> u64 {
    let mut value = 0x2545_f491_4f6c_dd1d_u64;
    while Instant::now() < until {
        for _ in 0..4096 {
            value = (value ^ (value >> 31)).wrapping_mul(0x2545_f491_4f6c_dd1d);
        }
    }
    value
}

/// The wall clock, in microseconds since 1970.
fn now_us() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros())
}

// ---- proxy

fn proxy(stem_ms: u64, run_ms: u64) -> Result<Truth, Failure> {
    black_box(stem_cell(Instant::now() + Duration::from_millis(stem_ms)));
    say(&format!("{{\"waits_since_us\":{}}}", now_us()))?;
    let mut count = 0_u64;
    for line in std::io::stdin().lock().lines() {
        line.map_err(|error| Failure::Work(format!("read stdin: {error}")))?;
        let began_us = now_us();
        black_box(serve(Instant::now() + Duration::from_millis(run_ms)));
        count += 1;
        say(&format!("{{\"began_us\":{began_us},\"ended_us\":{}}}", now_us()))?;
    }
    Ok(format!("\"count\":{count},"))
}

/// What it computes for a function.
#[inline(never)]
fn serve(until: Instant) -> u64 {
    let mut value = 0x9e37_79b9_7f4a_7c15_u64;
    while Instant::now() < until {
        for _ in 0..4096 {
            value = (value ^ (value >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    value
}

// ---- ping, echo

/// A byte out and a byte in, `count` times: with `echo` behind both pipes, two switches of processes each.
#[inline(never)]
fn ping(count: u64) -> Result<Truth, Failure> {
    let failed = |error: std::io::Error| Failure::Work(format!("exchange a byte: {error}"));
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut byte = [0_u8];
    for _ in 0..count {
        output.write_all(&byte).and_then(|()| output.flush()).map_err(failed)?;
        input.read_exact(&mut byte).map_err(failed)?;
    }
    Ok(format!("\"count\":{count},"))
}

#[inline(never)]
fn echo() -> Result<Truth, Failure> {
    let failed = |error: std::io::Error| Failure::Work(format!("send a byte back: {error}"));
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let (mut byte, mut count) = ([0_u8], 0_u64);
    while input.read(&mut byte).map_err(failed)? > 0 {
        output.write_all(&byte).and_then(|()| output.flush()).map_err(failed)?;
        count += 1;
    }
    Ok(format!("\"count\":{count},"))
}

// ---- idle

fn idle() -> Result<Truth, Failure> {
    // Blocked before anyone is told to send one: a first process would otherwise ignore it, another would die of it.
    let mut stop = [0_u64; 16];
    // SAFETY: `stop` is 128 bytes, the size of glibc's and musl's sigset_t, and outlives the calls.
    let blocked = unsafe {
        sigemptyset(&mut stop);
        sigaddset(&mut stop, SIGINT);
        sigaddset(&mut stop, SIGTERM);
        sigprocmask(SIG_BLOCK, &stop, std::ptr::null_mut())
    };
    if blocked != 0 {
        return Err(Failure::Work("block SIGTERM: refused".into()));
    }
    say("ready")?;
    let mut signal = 0;
    // SAFETY: both point to live values of the types that sigwait takes.
    match unsafe { sigwait(&stop, &mut signal) } {
        0 => Ok(format!("\"signal\":{signal},")),
        error => Err(Failure::Work(format!("wait for a signal: error {error}"))),
    }
}

// ---- random numbers

/// xorshift64*: enough to keep out of step with a clock.
struct Random(u64);

impl Random {
    fn from_clock() -> Random {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |time| time.subsec_nanos());
        Random((u64::from(now) << 32 | u64::from(std::process::id())) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to `limit - 1`; `limit` is above 0.
    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }

    fn order_of_three(&mut self) -> [usize; 3] {
        [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][self.below(6) as usize]
    }
}

// ---- the kernel

const MONOTONIC: c_int = 1;
const PROCESS_CPU: c_int = 2;
const THREAD_CPU: c_int = 3;
const RUSAGE_CHILDREN: c_int = -1;
const SIGINT: c_int = 2;
const SIGTERM: c_int = 15;
const SIG_BLOCK: c_int = 0;

unsafe extern "C" {
    fn sigemptyset(set: *mut [u64; 16]) -> c_int;
    fn sigaddset(set: *mut [u64; 16], signal: c_int) -> c_int;
    fn sigprocmask(how: c_int, set: *const [u64; 16], old: *mut [u64; 16]) -> c_int;
    fn sigwait(set: *const [u64; 16], signal: *mut c_int) -> c_int;
    fn getrusage(who: c_int, usage: *mut [c_long; 18]) -> c_int;
}

/// A clock in nanoseconds, by a system call in the very function that asks: through libc and the vdso, samples
/// inside the kernel would show two frames without frame pointers and lose the caller.
#[inline(always)]
fn clock_ns(clock: c_int) -> u64 {
    let mut time = [0_i64; 2];
    // SAFETY: clock_gettime writes one 64-bit timespec, which `time` has the size and the life for, and no more.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("syscall", inlateout("rax") 228_i64 => _, in("rdi") clock as i64, in("rsi") &mut time,
            lateout("rcx") _, lateout("r11") _, options(nostack));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("svc 0", in("x8") 113_i64, inlateout("x0") clock as i64 => _, in("x1") &mut time,
            options(nostack));
    }
    time[0] as u64 * 1_000_000_000 + time[1] as u64
}

/// CPU time of all children that were waited for, in nanoseconds.
fn children_cpu_ns() -> u64 {
    let mut usage = [0; 18];
    // SAFETY: struct rusage is two timevals and fourteen longs, eighteen longs on every 64-bit Linux.
    unsafe { getrusage(RUSAGE_CHILDREN, &mut usage) };
    let [user_s, user_us, system_s, system_us, ..] = usage;
    ((user_s + system_s) * 1_000_000 + user_us + system_us) as u64 * 1000
}
