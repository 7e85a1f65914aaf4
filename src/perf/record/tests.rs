//! Records as the kernel writes them, and as nobody does.

use super::*;
use proptest::prelude::*;

const COPIES: Layout = Layout { copies: true, scoped: false };
const SCOPED: Layout = Layout { copies: false, scoped: true };

fn record(kind: u32, misc: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_ne_bytes().to_vec();
    bytes.extend(u16::try_from(misc).unwrap().to_ne_bytes());
    bytes.extend(u16::try_from(body.len() + HEADER_BYTES).unwrap().to_ne_bytes());
    bytes.extend(body);
    bytes
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

fn trailer() -> Vec<u8> {
    words(&[0x0000_0002_0000_0001, 77, 3, 0])
}

#[test]
fn a_sample_is_read_field_by_field() {
    let pid_tid = u64::from(11u32) | (u64::from(12u32) << 32);
    let body = words(&[9, pid_tid, 1_000, 1, 5_025_125, 3, abi::PERF_CONTEXT_USER, 0x10, 0x20, 4242]);
    let bytes = record(abi::PERF_RECORD_SAMPLE, 2, &body);
    let Some(Record::Sample(sample)) = parse_sample(&bytes, Layout::default()) else { panic!("no sample") };
    assert_eq!((sample.pid, sample.tid, sample.cpu), (Pid(11), Pid(12), 1));
    assert_eq!((sample.time_ns, sample.period_ns, sample.cgroup), (1_000, 5_025_125, CgroupId(4242)));
    assert_eq!(*sample.chain, [abi::PERF_CONTEXT_USER, 0x10, 0x20]);
    assert_eq!(
        (cgroup_offset(bytes.len(), Layout::default()), cgroup_offset(8, SCOPED)),
        (Some(bytes.len() - 8), None)
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn registers_and_stack_are_read_as_far_as_they_were_copied() {
    let registers: Vec<u64> = (100..100 + REGISTERS as u64).collect();
    let sample = |abi: u64, registers: &[u64], stack: &[u64]| {
        let fixed = [9, 0, 1_000, 1, 5_025_125, 1, 0x10, abi];
        let body = words(&[&fixed[..], registers, stack, &[4242]].concat());
        parse_sample(&record(abi::PERF_RECORD_SAMPLE, 2, &body), COPIES)
    };
    let Some(Record::Sample(read)) = sample(2, &registers, &[16, 7, 8, 8]) else { panic!("no sample") };
    let user = read.user.unwrap();
    // ax, dx, cx, bx, and the instruction pointer at the end.
    assert_eq!(user.registers[..4], [100, 103, 102, 101]);
    assert_eq!((user.registers[7], user.registers[8], user.registers[16]), (107, 109, 108));
    assert_eq!((user.stack, read.cgroup), (7u64.to_ne_bytes().to_vec(), CgroupId(4242)));
    let without = |sample| matches!(sample, Some(Record::Sample(RawSample { user: None, .. })));
    assert!(without(sample(0, &[], &[0])), "no user mode");
    assert!(without(sample(1, &registers, &[8, 7, 8])), "32 bits");
    for (stack, lie) in [(&[1 << 40, 7, 8][..], "size"), (&[8, 7, 9], "copied")] {
        assert_eq!(sample(2, &registers, stack), None, "{lie}");
    }
}

#[test]
fn a_chain_longer_than_its_record_is_no_sample() {
    for lie in [4, 1 << 20, u64::MAX / 8, u64::MAX] {
        let body = words(&[9, 0, 0, 0, 0, lie, 1, 2, 3]);
        assert_eq!(
            parse_sample(&record(abi::PERF_RECORD_SAMPLE, 0, &body), Layout::default()),
            None,
            "{lie}"
        );
    }
}

#[test]
fn a_copy_is_read_as_far_as_it_goes() {
    let registers = [7; REGISTERS];
    let fixed = [9, 0, 1_000, 1, 5_025_125, 2, 0x10, 0x20, 2];
    let body = words(&[&fixed[..], &registers, &[32, 1, 2, 3, 4, 16, 4242]].concat());
    let bytes = record(abi::PERF_RECORD_SAMPLE, 2, &body);
    let word = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (begin, copied, end) = copied_parts(bytes.len(), word).unwrap();
    assert_eq!((word(begin - 8), word(begin), copied, word(end)), (Some(32), Some(1), 16, Some(16)));
    assert_eq!(end + 16, bytes.len());
    for lie in [u64::MAX, 1 << 40, 33, 0] {
        let lying = |at: usize| if at == begin - 8 { Some(lie) } else { word(at) };
        assert_eq!(copied_parts(bytes.len(), lying), None, "{lie}");
    }
}

#[test]
fn side_band_records_are_read() {
    let mut body = words(&[4711]);
    body.extend(b"/docker/abc\0\0\0\0\0");
    body.extend(trailer());
    let read = parse_side_band(&record(abi::PERF_RECORD_CGROUP, 0, &body));
    let value = SideBand::Cgroup { id: CgroupId(4711), path: "/docker/abc".into() };
    assert_eq!(read, Some(Stamped { time_ns: 77, cpu: 3, value }));

    let mut body = words(&[0x0000_0006_0000_0005]);
    body.extend(b"runc\0\0\0\0");
    body.extend(trailer());
    let read = parse_side_band(&record(abi::PERF_RECORD_COMM, abi::PERF_RECORD_MISC_COMM_EXEC, &body));
    let value = SideBand::Comm { pid: Pid(5), tid: Pid(6), exec: true, comm: "runc".into() };
    assert_eq!(read.map(|r| r.value), Some(value));
}

#[test]
fn a_scoped_sample_is_of_its_event() {
    let body = words(&[9, 0x0000_000c_0000_000b, 1_000, 1, 1, 1, 0x10]);
    let bytes = record(abi::PERF_RECORD_SAMPLE, 2, &body);
    let Some(Record::Sample(sample)) = parse_sample(&bytes, SCOPED) else { panic!("no sample") };
    assert_eq!((sample.cgroup, sample.tid, &*sample.chain), (CgroupId(9), Pid(12), &[0x10][..]));
    assert_eq!(cgroup_offset(bytes.len(), SCOPED), Some(HEADER_BYTES));
    assert_eq!(parse_sample(&bytes, Layout::default()), None, "no field for the cgroup");
    let read = parse_switch(&bytes, false).unwrap();
    assert!(matches!(read.value, Switch::Leaves(sample) if sample.cgroup == CgroupId(9)));
    for (kind, misc, expected) in [
        (abi::PERF_RECORD_SWITCH, 0, Switch::Back { tid: Pid(2) }),
        (abi::PERF_RECORD_SWITCH, 1 << 13, Switch::Left { tid: Pid(2), preempted: false }),
        (abi::PERF_RECORD_SWITCH_CPU_WIDE, 3 << 13, Switch::Left { tid: Pid(2), preempted: true }),
    ] {
        let mut body = if kind == abi::PERF_RECORD_SWITCH { Vec::new() } else { words(&[5]) };
        body.extend(trailer());
        let read = parse_switch(&record(kind, misc, &body), false);
        assert_eq!(read, Some(Stamped { time_ns: 77, cpu: 3, value: expected }), "{kind} {misc}");
    }
}

#[test]
fn a_build_id_is_believed_only_within_its_bounds() {
    for (size, expected) in [(0u8, None), (20, BuildId::new(&[7; 20])), (21, None), (255, None)] {
        let mut body = words(&[5, 0x1000, 0x2000, 0]);
        body.extend([size, 0, 0, 0]);
        body.extend([7; 20]);
        body.extend([0; 8]);
        body.extend(b"/bin/x\0\0");
        body.extend(trailer());
        let read =
            parse_side_band(&record(abi::PERF_RECORD_MMAP2, abi::PERF_RECORD_MISC_MMAP_BUILD_ID, &body));
        let Some(SideBand::Mmap { build_id, path, .. }) = read.map(|r| r.value) else { panic!("no mmap") };
        assert_eq!((build_id, path.as_str()), (expected, "/bin/x"), "{size}");
    }
}

proptest! {
    #[test]
    fn any_bytes_give_a_record_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = (parse_sample(&bytes, Layout::default()), parse_sample(&bytes, COPIES));
        let _ = (parse_side_band(&bytes), parse_switch(&bytes, false), parse_switch(&bytes, true));
        let _ = parse_sample(&bytes, SCOPED);
    }

    #[test]
    fn any_body_of_any_kind_gives_a_record_or_none(
        kind in 0u32..24, misc in 0u32..0x10000, body in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = record(kind, misc, &body);
        let _ = (parse_sample(&bytes, Layout::default()), parse_sample(&bytes, COPIES));
        let _ = (parse_side_band(&bytes), parse_switch(&bytes, false), parse_switch(&bytes, true));
        let _ = parse_sample(&bytes, SCOPED);
    }
}
