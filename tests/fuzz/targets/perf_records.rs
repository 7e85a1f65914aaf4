//! Any bytes of a ring are records or none; what they say of processes is taken in as the agent does.
#![no_main]

use fnscope::model::Pid;
use fnscope::perf::{
    Layout, Order, Record, SideBand, Switch, context, parse_sample, parse_side_band, parse_switch,
};
use fnscope::stack::{Mapped, Mapping, Mappings, Place, Processes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut processes = Processes::default();
    let mut order = Order::default();
    let mut rest = bytes;
    // A ring's records one after the other, each of the length its header tells.
    while let Some(header) = rest.first_chunk::<8>() {
        let length = usize::from(u16::from_ne_bytes([header[6], header[7]])).max(8);
        let (record, tail) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        rest = tail;
        let layout = Layout { copies: record.len() % 2 == 0, scoped: record.len() % 3 == 0 };
        if let Some(switch) = parse_switch(record, layout.copies)
            && let Switch::Leaves(sample) = switch.value
        {
            assert_eq!((switch.time_ns, switch.cpu), (sample.time_ns, sample.cpu));
        }
        if let Some(Record::Sample(sample)) = parse_sample(record, layout) {
            assert!(sample.chain.len() * 8 <= record.len());
            let mut mapped = Mappings::new(processes.mappings(sample.pid));
            for ip in sample.chain.iter().copied().filter(|ip| context(*ip).is_none()) {
                match mapped.place(ip) {
                    Place::Anonymous(found) | Place::Unknown(found) => assert_eq!(found, ip),
                    Place::Vdso(_) => {}
                    other => panic!("{other:?} was never mapped"),
                }
            }
        }
        let Some(stamped) = parse_side_band(record) else { continue };
        order.push(stamped.time_ns, stamped.value.clone());
        match stamped.value {
            SideBand::Mmap { pid, start, len, file_offset, path, .. } => {
                assert!(path.len() <= 3 * record.len());
                let what = if path == "[vdso]" { Mapped::Vdso } else { Mapped::Anonymous };
                processes.mmap(pid, Mapping { start, end: start.saturating_add(len), file_offset, what });
            }
            SideBand::Comm { pid, exec: true, comm, .. } => {
                processes.exec(pid, fnscope::model::InstanceNo(1), &comm)
            }
            SideBand::Comm { pid, tid, comm, .. } => processes.name(pid, tid, &comm),
            SideBand::Fork { pid, parent, .. } => processes.fork(pid, parent),
            SideBand::Exit { pid, .. } => processes.exit(pid, stamped.time_ns),
            SideBand::Cgroup { .. } | SideBand::Lost { .. } => {}
        }
        processes.expire(stamped.time_ns);
    }
    let _ = (parse_switch(bytes, true), parse_side_band(bytes));
    let _ = processes.comm(Pid(1), Pid(2));
    let pushed = order.len();
    let mut taken = Vec::new();
    order.take_before(u64::MAX, &mut taken);
    assert!(taken.is_sorted_by_key(|(time, _)| *time) && taken.len() + order.len() == pushed);
});
