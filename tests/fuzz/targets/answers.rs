//! Journals whose times and counts are the fuzzer's: every question has an answer, and the sums in it agree.
#![no_main]

use std::sync::Arc;

use fnscope::model::{
    CgroupId, Confidence, CpuSource, CpuStats, Fact, Identity, InstanceInfo, InstanceKey, Quality, Stack,
    Timestamp, Window, WriterInfo,
};
use fnscope::store::{
    BatchRecord, Ended, InstanceRecord, JournalContents, StoredSample, StoredThread, StoredWait, Usage,
};
use fnscope_fuzz::answers::{MIDDLE, ask, ask_waits};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// A time: near to all others, or any.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Time {
    Near(i8),
    Seconds(i8),
    Any(i64),
}

impl From<Time> for Timestamp {
    fn from(time: Time) -> Timestamp {
        Timestamp(match time {
            Time::Near(us) => us.into(),
            Time::Seconds(seconds) => i64::from(seconds) * 500_000,
            Time::Any(us) => us,
        })
    }
}

#[derive(Debug, Arbitrary)]
struct Life {
    key: u8,
    container: String,
    runtime: bool,
    from_birth: bool,
    started_at: Time,
    exec_at: Option<Time>,
    ended: Option<(Time, Option<i32>)>,
    names: Vec<(Time, Option<String>, u8)>,
    usage: Vec<(Time, u64, u8)>,
    dropped: Vec<(Time, u64)>,
    facts: Vec<(Time, u64, u8)>,
}

#[derive(Debug, Arbitrary)]
struct Journal {
    period_ns: u64,
    lives: Vec<Life>,
    stacks: Vec<(Vec<String>, u8)>,
    batches: Vec<Vec<(u8, u64, u64)>>,
    /// Time, instance, stack, batch, CPU.
    samples: Vec<(Time, u8, u8, u8, u8)>,
    /// Time, instance, stack, length, whether it was preempted.
    waits: Vec<(Time, u8, u8, u64, bool)>,
    clock: bool,
}

fuzz_target!(|journals: Vec<Journal>| {
    for window in [Window::ALL, MIDDLE] {
        ask(journals.iter().map(contents), window);
        ask_waits(journals.iter().map(contents), window);
    }
});

fn contents(journal: &Journal) -> JournalContents {
    let sample = |(time, instance, stack, batch, cpu): &(Time, u8, u8, u8, u8)| StoredSample {
        time: (*time).into(),
        thread: (*instance).into(),
        cpu: (*cpu).into(),
        stack: (*stack).into(),
        batch: (*batch).into(),
    };
    let mut samples: Vec<StoredSample> = journal.samples.iter().map(sample).collect();
    samples.sort_by_key(|sample| sample.time);
    let wait = |(time, instance, stack, ns, preempted): &(Time, u8, u8, u64, bool)| StoredWait {
        back: sample(&(*time, *instance, *stack, 255, 0)),
        ns: *ns,
        preempted: *preempted,
    };
    let mut waits: Vec<StoredWait> = journal.waits.iter().map(wait).collect();
    waits.sort_by_key(|wait| wait.back.time);
    let batch = |cpus: &Vec<(u8, u64, u64)>| BatchRecord {
        from: Timestamp(0),
        to: Timestamp(1),
        cpus: cpus
            .iter()
            .map(|(cpu, samples, lost)| CpuStats { cpu: (*cpu).into(), samples: *samples, lost: *lost })
            .collect(),
        unattributed: 0,
        clock_offset_ns: 0,
        own_use: Default::default(),
    };
    let stack = |(frames, quality): &(Vec<String>, u8)| {
        let plain = |frame: &String| Arc::from(frame.replace([';', '\n', '\r'], "_"));
        Arc::new(Stack::new(frames.iter().map(plain).collect(), Quality(*quality)))
    };
    // One for each instance there can be, whether there is or not.
    let thread = |instance| StoredThread { instance, pid: 1, tid: 1, comm: 0 };
    JournalContents {
        writer: WriterInfo {
            node: "node-1".into(),
            boot_id: "6e9d3f62".into(),
            writer: "agent".into(),
            version: "0".into(),
            kernel: "6".into(),
            cpu_model: None,
            cpus: 2,
            event: if journal.clock { "cpu-clock" } else { "cycles" }.into(),
            hz: 199,
            period_ns: journal.period_ns,
            started_at: Timestamp(0),
        },
        instances: journal.lives.iter().map(record).collect(),
        stacks: journal.stacks.iter().map(stack).collect(),
        comms: vec!["main".into()],
        threads: (0..=u8::MAX.into()).map(thread).collect(),
        samples,
        waits,
        batches: journal.batches.iter().map(batch).collect(),
        damage: Vec::new(),
    }
}

fn record(life: &Life) -> InstanceRecord {
    let source = |kind: u8| [CpuSource::Final, CpuSource::Exit, CpuSource::Running][usize::from(kind % 3)];
    let usage = |(at, cpu_us, kind): &(Time, u64, u8)| Usage {
        at: (*at).into(),
        cpu_us: *cpu_us,
        source: source(*kind),
    };
    let mut readings: Vec<Usage> = life.usage.iter().map(usage).collect();
    readings.sort_by_key(|usage| usage.at);
    let mut identities: Vec<(Timestamp, Identity)> =
        life.names.iter().map(|(from, name, kind)| ((*from).into(), identity(name.clone(), *kind))).collect();
    identities.sort_by_key(|(from, _)| *from);
    InstanceRecord {
        info: InstanceInfo {
            key: InstanceKey(format!("c{}.6e9d3f62.ff", life.key).into()),
            runtime: life.runtime.then(|| "docker".into()),
            container_id: life.container.clone(),
            cgroup_path: "/docker/c".into(),
            cgroup_id: CgroupId(255),
            image: Some(life.container.clone()),
            started_at: life.started_at.into(),
            from_birth: life.from_birth,
        },
        identities,
        exec_at: life.exec_at.map(Timestamp::from),
        ended: life.ended.map(|(at, exit_code)| Ended { at: at.into(), exit_code, oom: false }),
        usage: readings,
        dropped: life.dropped.iter().map(|(at, count)| ((*at).into(), "buffer".into(), *count)).collect(),
        facts: facts(&life.facts),
        retold: Default::default(),
    }
}

fn facts(told: &[(Time, u64, u8)]) -> Vec<(Timestamp, Fact)> {
    let fact = |(at, value, kind): &(Time, u64, u8)| {
        let fact = match kind % 4 {
            0 => Fact::Ready,
            1 => Fact::Frozen(value % 2 == 0),
            2 => Fact::Throttled { count: *value, us: value.rotate_left(8) },
            _ => Fact::Pressure { us: *value },
        };
        ((*at).into(), fact)
    };
    let mut facts: Vec<(Timestamp, Fact)> = told.iter().map(fact).collect();
    facts.sort();
    facts
}

fn identity(name: Option<String>, kind: u8) -> Identity {
    Identity {
        function_container: kind & 1 == 0,
        platform: Some("custom".into()),
        namespace: name.clone().filter(|_| kind & 2 == 0),
        function: name.clone(),
        revision: name.filter(|_| kind & 4 == 0),
        instance_name: None,
        confidence: if kind & 8 == 0 { Confidence::Exact } else { Confidence::Prewarm },
        rule: "fuzz".into(),
    }
}
