//! Stacks of any frames: drawn and written whole, in every form.
#![no_main]

use std::sync::Arc;

use fnscope::fold::{Profile, StackTable, Weight};
use fnscope::model::{Quality, Stack};
use fnscope_fuzz::answers::{drawn, written};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, Vec<(Vec<&str>, u8)>)| {
    let (reverse, stacks) = input;
    let mut table = StackTable::default();
    let mut weights = Vec::new();
    for (frames, samples) in &stacks {
        // As the grammar of frames has it, which names cannot leave.
        let frames = frames.iter().map(|frame| frame.replace([';', '\n', '\r'], "_").into()).collect();
        let number = table.number(&Arc::new(Stack::new(frames, Quality(*samples)))) as usize;
        weights.resize(weights.len().max(number + 1), Weight::default());
        weights[number].add(Weight { samples: u64::from(*samples) + 1, time_ns: u64::from(*samples) << 56 });
    }
    let profile = Profile::from_weights(&table.into_stacks(), &weights);
    written(&profile);
    drawn(&profile, reverse);
});
