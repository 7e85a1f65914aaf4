//! The soak at small scale: most of a minute of everything that goes wrong, and every invariant that can be told by then.
//! The long form is `make soak`.

use std::time::Duration;

use crate::soak::{Ended, Options, run};

#[test]
fn what_is_promised_holds_while_the_host_goes_wrong() {
    let folder = tempfile::tempdir().expect("make a folder");
    let options = Options {
        seconds: 45,
        seed: Some(3),
        folder: folder.path().join("soak"),
        between: Duration::from_millis(2_500),
        ..Options::default()
    };
    let ended = run(&options);
    let report = std::fs::read_to_string(options.folder.join("report.md")).unwrap_or_default();
    assert!(matches!(ended, Ok(Ended::Holds)), "{ended:?}\n{report}");
    // Most of what can be done was: all but stepping the clock, and what this machine does not let anyone do.
    let done = report
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains(" | ") && !line.contains("not done"));
    assert!(done.count() > 16, "{report}");
}
