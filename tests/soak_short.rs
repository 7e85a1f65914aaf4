//! The soak at small scale: 25 seconds of everything that goes wrong, and every invariant that can be told by then.
//! The long form is `make soak`.

use std::time::Duration;

use crate::soak::{CLOCK_STEP, Ended, Options, run};

#[test]
fn what_is_promised_holds_while_the_host_goes_wrong() {
    let folder = tempfile::tempdir().expect("make a folder");
    let options = Options {
        seconds: 25,
        seed: Some(3),
        folder: folder.path().join("soak"),
        between: Duration::from_secs(2),
        keeps_broken: false,
        // Tests leave the clock of the machine alone.
        without: vec![CLOCK_STEP.into()],
    };
    let ended = run(&options);
    let report = std::fs::read_to_string(options.folder.join("report.md")).unwrap_or_default();
    assert!(matches!(ended, Ok(Ended::Holds)), "{ended:?}\n{report}");
    let told = std::fs::read_to_string(options.folder.join("report.json")).expect("a report");
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let done = told["faults"].as_array().expect("faults").iter().filter(|fault| fault["done"] == true);
    assert!(done.count() >= 5, "{report}");
}
