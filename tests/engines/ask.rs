//! Other engines on a store, asked from here: installed where they are missing, told where the store is, and answered
//! in the words in which fnscope is asked the same.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fnscope::model::Timestamp;
use serde_json::Value;

use crate::store_data::{HOUR_US, MIDNIGHT};
use crate::support::Fnscope;

/// Samples by function, revision and hour since midnight.
pub type Totals = BTreeMap<(String, String, i64), u64>;

/// A file of this repository.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The Python that has the engines: `duckdb`, or `all` of them.
pub fn python(engines: &str) -> PathBuf {
    let output = Command::new(file("tests/engines/setup")).arg(engines).stdin(Stdio::null()).output();
    let output = output.expect("run tests/engines/setup");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tests/engines/setup {engines} ended with {}: {talk}", output.status);
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// What `tests/engines/ask.py` answers about the store at `store`.
pub fn ask(python: &Path, what: &str, store: &Path, files: &[&Path]) -> Value {
    let mut command = Command::new(python);
    command.arg(file("tests/engines/ask.py")).arg(what).arg(store).args(files);
    let output = command.stdin(Stdio::null()).output().expect("run Python");
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what} ended with {}: {talk}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{what}: {error}: {talk}"))
}

/// The totals that `engine` counts in the sealed part of the store at `store`.
pub fn totals(python: &Path, engine: &str, store: &Path) -> Totals {
    let rows = ask(python, engine, store, &[]);
    let rows = rows.as_array().expect("a list of rows");
    let total = |row: &Value| {
        let text = |at: usize| row[at].as_str().expect("a text").to_owned();
        let hour = row[2].as_i64().expect("an hour") - MIDNIGHT / HOUR_US;
        ((text(0), text(1), hour), row[3].as_u64().expect("a count"))
    };
    rows.iter().map(total).collect()
}

/// The totals that `fnscope ls` tells of each of `hours` since the first midnight.
pub fn own_totals(fnscope: &Fnscope, hours: Range<i64>) -> Totals {
    let mut totals = Totals::new();
    for hour in hours {
        let at = |hour: i64| Timestamp(MIDNIGHT + hour * HOUR_US).to_string();
        for row in fnscope.rows(&["ls", "--since", &at(hour), "--until", &at(hour + 1)]) {
            let text = |key: &str| row[key].as_str().expect("a text").to_owned();
            let samples = row["samples"].as_u64().expect("a count");
            if samples > 0 {
                totals.insert((text("function"), text("revision"), hour), samples);
            }
        }
    }
    totals
}
