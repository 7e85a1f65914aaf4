//! What a sample costs on disk and in CPU time, on data like a busy host's.
//!
//! The generator: 2 CPUs whose sampling timers tick at 199 Hz on a grid of their own, with up to 20 us of jitter;
//! 10 functions of one instance, 3 threads each, 200 stacks each (10 to 40 frames out of 300 names a function);
//! which stack is Zipf-distributed; a thread, or nobody, keeps a CPU for 8 ticks on average; one batch a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::data::{EIGHT, identity, instance, only_journal, store, told, truth, writer};
use crate::model::{Batch, InstanceNo, Quality, Sample, Stack, Timestamp, Window};

const FUNCTIONS: u64 = 10;
const STACKS: u64 = 200;
const CPUS: u32 = 2;

struct Host {
    state: u64,
    stacks: Vec<Arc<Stack>>,
    running: [Option<(u64, u64)>; CPUS as usize],
}

impl Host {
    fn new() -> Host {
        let mut host =
            Host { state: 0x9e37_79b9_7f4a_7c15, stacks: Vec::new(), running: [None; CPUS as usize] };
        for function in 0..FUNCTIONS {
            for _ in 0..STACKS {
                let depth = 10 + host.random() % 31;
                let frames = (0..depth).map(|_| {
                    let name = host.random() % 300;
                    format!("function_{function}::module_{}::name_{name} [handler-{function}]", name % 17)
                        .into()
                });
                let frames = frames.collect();
                host.stacks.push(Arc::new(Stack::new(frames, Quality::COMPLETE)));
            }
        }
        host
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state >> 11
    }

    /// A second of samples; a CPU is busy `busy` % of the time.
    fn second(&mut self, second: i64, busy: u64) -> Batch {
        let mut samples = Vec::new();
        for tick in 0..199 {
            for cpu in 0..CPUS {
                if self.random().is_multiple_of(8) {
                    let next = (self.random() % FUNCTIONS, self.random() % 3);
                    self.running[cpu as usize] = Some(next).filter(|_| self.random() % 100 < busy);
                }
                let Some((function, thread)) = self.running[cpu as usize] else { continue };
                let time = EIGHT
                    + second * 1_000_000
                    + tick * 5_025
                    + i64::from(cpu) * 1_733
                    + (self.random() % 20) as i64;
                // Zipf with exponent 1 over 200: the inverse of ln(rank).
                let rank = ((self.random() % 1_000_000) as f64 / 1e6 * (STACKS as f64).ln()).exp() as u64 - 1;
                let stack = self.stacks[(function * STACKS + rank) as usize].clone();
                samples.push(Sample {
                    time: Timestamp(time),
                    instance: InstanceNo(function as u32),
                    pid: 40_000 + 97 * function as u32,
                    tid: 40_000 + 97 * function as u32 + thread as u32,
                    comm: format!("handler-{function}").into(),
                    cpu,
                    stack,
                });
            }
        }
        samples.sort_by_key(|sample| sample.time);
        Batch { samples, ..Batch::default() }
    }
}

#[test]
fn a_sample_takes_at_most_six_bytes() {
    // Ten minutes of a busy host, an hour of a quiet one: that pays a frame for every 59 samples.
    for (busy, seconds) in [(100, 600), (15, 3_600)] {
        let (_folder, store) = store();
        let mut journal = store.journal(writer("node-1")).unwrap();
        let mut host = Host::new();
        let mut batches: Vec<Batch> = (0..seconds).map(|second| host.second(second, busy)).collect();
        for no in 0..FUNCTIONS as u32 {
            batches[0].entries.extend([instance(no), identity(no, EIGHT, &format!("function-{no}"))]);
        }
        let mut times = Vec::new();
        for batch in &batches {
            let begin = Instant::now();
            journal.append(batch).unwrap();
            times.push(begin.elapsed());
        }
        let truth = truth(&batches);
        let begin = Instant::now();
        let file = only_journal(&store);
        let contents = file.load(Window::ALL).unwrap();
        let read = begin.elapsed();
        assert_eq!(told(&contents), truth);
        let file_bytes = std::fs::metadata(file.path()).unwrap().len();
        let bytes = file_bytes as f64 / truth.len() as f64;
        times.sort();
        let total: Duration = times.iter().sum();
        println!(
            "{} samples ({} a second): {bytes:.2} bytes each; append median {:?}, 99 % {:?}, {:?} a sample; read {read:?}",
            truth.len(),
            truth.len() as i64 / seconds,
            times[times.len() / 2],
            times[times.len() * 99 / 100],
            total / truth.len() as u32,
        );
        assert!(bytes <= 6.0, "{bytes}");
        let begin = Instant::now();
        journal.finish().unwrap();
        println!("folded in {:?}", begin.elapsed());
        let begin = Instant::now();
        let lock = store.lock().unwrap();
        let sealed = store.tidy(&lock, &Default::default(), |_, _| {}).unwrap().sealed;
        let sealed_bytes = sealed.bytes as f64 / truth.len() as f64;
        println!("sealed in {:?}: {sealed_bytes:.2} bytes each, all tables", begin.elapsed());
        assert!(sealed_bytes <= 8.0, "{sealed_bytes}");
    }
}
