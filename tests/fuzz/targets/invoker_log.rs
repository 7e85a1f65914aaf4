//! Any lines in place of the log of OpenWhisk's invoker, in pieces as they are read, and what they make of containers.
#![no_main]

use fnscope::agent::Lines;
use fnscope::identity::{IdentityConfig, InvokerLog, Later, LogTold, identify, identify_later};
use fnscope::model::{Container, Identity};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut log = InvokerLog::default();
    let config = IdentityConfig::default();
    for fact in lines(bytes).iter().filter_map(|line| log.line(line)) {
        assert!(
            !fact.container.is_empty()
                && fact.container.len() <= Identity::MAX_NAME
                && fact.at <= fact.written
        );
        let LogTold::Runs(action) = fact.what else { continue };
        let later = Later { invoked: Some(action), ..Later::default() };
        for name in ["wsk0_1_prewarm_nodejs20", "wsk0_1_guest_hello", "plain"] {
            let container = Container { name: Some(name.into()), ..Container::default() };
            let current = identify(&container, &config).identity;
            let Some(new) = identify_later(&current, &later, &config) else { continue };
            assert!(new.function.is_some_and(|function| function.len() <= Identity::MAX_NAME));
        }
    }
});

/// The lines of a log. However it is cut into pieces they are the same, and none is too long.
fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    let short = usize::from(bytes.first().copied().unwrap_or_default()) + 1;
    let [whole, pieces] = [bytes.len() + 1, short].map(|length| {
        let (mut lines, mut told) = (Lines::default(), Vec::new());
        // The end of the last line comes last.
        for piece in bytes.chunks(length).chain([&b"\n"[..]]) {
            lines.feed(piece, |line| told.push(line.to_vec()));
        }
        told
    });
    assert_eq!(whole, pieces);
    assert!(whole.iter().all(|line| line.len() <= Lines::MAX_BYTES && !line.contains(&b'\n')));
    assert_eq!(whole.len(), bytes.split(|byte| *byte == b'\n').count());
    whole
}
