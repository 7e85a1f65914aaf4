//! Samples as a profile for the Firefox profiler: a process for each instance, a thread for each thread, each sample
//! at its time.
//!
//! The format keeps samples in columns with their tables behind, so all of it stands in memory before it is written:
//! some 40 bytes a sample. The profiler itself, in a browser, needs more.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use fxprof_processed_profile::{
    CategoryColor, CategoryPairHandle, CpuDelta, Frame as FxFrame, FrameFlags, FrameInfo, ProcessHandle,
    Profile, SamplingInterval, StackHandle, ThreadHandle, Timestamp as FxTime, WeightType,
};

use super::{Source, text};
use crate::model::frame::{Frame, UNWOUND_SHORT};
use crate::model::{FrameKind, InstanceKey, Stack, Timestamp};
use crate::query::SampleRow;

/// Stacks of a thread whose handle is remembered.
const MAX_REMEMBERED: usize = 1 << 18;

/// Writes the profile of `source`; how many samples are in it.
///
/// # Errors
/// If `out` cannot be written to or the store cannot be read.
pub fn write(source: &Source<'_>, out: &mut dyn Write) -> anyhow::Result<u64> {
    let mut made: Option<Made> = None;
    let mut samples = 0;
    source.each(|row| {
        made.get_or_insert_with(|| Made::new(source.title, &row)).add(&row);
        samples += 1;
        Ok(())
    })?;
    if let Some(made) = made {
        serde_json::to_writer(&mut *out, &made.profile)?;
        writeln!(out)?;
    }
    Ok(samples)
}

struct Made {
    profile: Profile,
    begin: Timestamp,
    categories: HashMap<FrameKind, CategoryPairHandle>,
    processes: HashMap<InstanceKey, ProcessHandle>,
    threads: HashMap<(InstanceKey, u32, u32), ThreadHandle>,
    stacks: HashMap<(ThreadHandle, Arc<Stack>), Option<StackHandle>>,
    frames: HashMap<Arc<str>, (String, FrameKind)>,
}

impl Made {
    fn new(title: &str, first: &SampleRow<'_>) -> Made {
        let begin = first.time;
        let since = Duration::from_micros(u64::try_from(begin.0).unwrap_or(0));
        let interval = SamplingInterval::from_nanos(first.period_ns.max(1));
        let mut profile = Profile::new(&text::frame(title), (UNIX_EPOCH + since).into(), interval);
        // Names are known already: nothing is left to look up.
        profile.set_symbolicated(true);
        let mut category = |name: &str, color| CategoryPairHandle::from(profile.add_category(name, color));
        let categories = HashMap::from([
            (FrameKind::Native, category("Native", CategoryColor::Yellow)),
            (FrameKind::Kernel, category("Kernel", CategoryColor::Red)),
            (FrameKind::Inlined, category("Inlined", CategoryColor::LightBlue)),
            (FrameKind::Jit, category("JIT", CategoryColor::Green)),
            (FrameKind::Interpreted, category("Interpreted", CategoryColor::Blue)),
            (FrameKind::Guessed, category("Guessed", CategoryColor::Orange)),
            (FrameKind::Marker, category("Unknown", CategoryColor::Gray)),
        ]);
        let (processes, threads) = (HashMap::new(), HashMap::new());
        Made {
            profile,
            begin,
            categories,
            processes,
            threads,
            stacks: HashMap::new(),
            frames: HashMap::new(),
        }
    }

    fn add(&mut self, row: &SampleRow<'_>) {
        let us = u64::try_from(row.time.since_us(self.begin)).unwrap_or(0);
        let at = FxTime::from_nanos_since_reference(us.saturating_mul(1000));
        let thread = self.thread(row, at);
        let key = (thread, Arc::clone(row.stack));
        let stack = match self.stacks.get(&key) {
            Some(stack) => *stack,
            None => {
                let stack = self.stack(thread, row.stack);
                if self.stacks.len() >= MAX_REMEMBERED {
                    self.stacks.clear();
                }
                self.stacks.insert(key, stack);
                stack
            }
        };
        self.profile.add_sample(thread, at, stack, CpuDelta::from_nanos(row.period_ns), 1);
    }

    fn thread(&mut self, row: &SampleRow<'_>, at: FxTime) -> ThreadHandle {
        let instance = &row.instance.info.key;
        let key = (instance.clone(), row.pid, row.tid);
        if let Some(thread) = self.threads.get(&key) {
            return *thread;
        }
        let process = match self.processes.get(instance) {
            Some(process) => *process,
            None => {
                let name = format!("{} {}", row.function, text::frame(&instance.0));
                let process = self.profile.add_process(&name, row.pid, at);
                self.processes.insert(instance.clone(), process);
                process
            }
        };
        let thread = self.profile.add_thread(process, row.tid, at, row.pid == row.tid);
        self.profile.set_thread_name(thread, &text::comm(row.comm));
        self.profile.set_thread_samples_weight_type(thread, WeightType::Samples);
        self.threads.insert(key, thread);
        thread
    }

    fn stack(&mut self, thread: ThreadHandle, stack: &Stack) -> Option<StackHandle> {
        let marker = [Arc::from(UNWOUND_SHORT)];
        let frames = if stack.frames().is_empty() { &marker } else { stack.frames() };
        let mut handle = None;
        for frame in frames {
            let (name, kind) = self.frames.entry(Arc::clone(frame)).or_insert_with(|| shown(frame));
            let name = self.profile.intern_string(name);
            let category_pair = self.categories.get(kind).copied();
            let category_pair =
                category_pair.unwrap_or(fxprof_processed_profile::CategoryHandle::OTHER.into());
            let info = FrameInfo { frame: FxFrame::Label(name), category_pair, flags: FrameFlags::empty() };
            let frame = self.profile.intern_frame(thread, info);
            handle = Some(self.profile.intern_stack(thread, handle, frame));
        }
        handle
    }
}

/// `main (pi)`: the profiler has a place for modules only beside addresses.
fn shown(frame: &str) -> (String, FrameKind) {
    let parsed = Frame::parse(frame);
    let kind = parsed.kind;
    let (name, module) = text::name_and_module(&parsed);
    let name = match module.filter(|_| matches!(parsed.name, crate::model::frame::FrameName::Symbol(_))) {
        Some(module) => format!("{name} ({})", text::frame(module)),
        None => name,
    };
    (name, kind)
}
