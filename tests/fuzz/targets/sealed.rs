//! A sealed store of which one file is changed: what is told is what was stored, or names a file of the set.

#![no_main]

use std::fs;
use std::sync::OnceLock;

use fnscope::model::Window;
use fnscope::query::{Event, PhaseFilter, Preempted, Scope, functions, open_event, open_for, stacks};
use fnscope_fuzz::sealed_store::{Sealed, make};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// A CRC32 notices so many flipped bits in any place; with more the fuzzer would forge one.
const FLIPS: usize = 3;

#[derive(Debug, Arbitrary)]
struct Damage {
    file: u8,
    cut: Option<u32>,
    edits: Vec<(u32, u8)>,
}

fuzz_target!(|damage: Damage| {
    static SEALED: OnceLock<Sealed> = OnceLock::new();
    let sealed = SEALED.get_or_init(make);
    let Some((path, whole)) = sealed.files.get(damage.file as usize % sealed.files.len()) else { return };
    let mut bytes = whole.clone();
    for (at, bit) in damage.edits.iter().take(FLIPS) {
        let at = *at as usize % bytes.len();
        bytes[at] ^= 1 << (bit % 8);
    }
    if let Some(cut) = damage.cut {
        bytes.truncate(cut as usize % (bytes.len() + 1));
    }
    fs::write(path, &bytes).expect("write to a file of our own");
    for scope in [Scope::All, Scope::Counts] {
        let view = open_for(&[&sealed.root], Window::ALL, scope, |_, _| {}).expect("damage is no error");
        let all = view.select(None, &[]).expect("everything is there");
        let samples: u64 = functions(&view, &all).iter().map(|row| row.samples).sum();
        assert!(
            samples == sealed.samples || !view.damage().is_empty(),
            "{samples} samples and nothing is told"
        );
        assert!(samples <= sealed.samples);
        let _ = stacks(&view, &all, PhaseFilter::All);
    }
    let waits = Event::OffCpu(Preempted::Include);
    let view =
        open_event(&[&sealed.root], Window::ALL, Scope::All, &waits, |_, _| {}).expect("damage is no error");
    let all = view.select(None, &[]).expect("everything is there");
    let found = stacks(&view, &all, PhaseFilter::All).profile.total().samples;
    assert!(
        found == sealed.waits || (found < sealed.waits && !view.damage().is_empty()),
        "{found} waits and nothing is told"
    );
    fs::write(path, whole).expect("write to a file of our own");
});
