//! Samples as speedscope's JSON: one profile of the kind `sampled`, a weight for each sample, in order of time: the
//! nanoseconds that it stands for, of a wait its microseconds, of a counter one, so that its three views all have something to show.
//!
//! Promises: as many samples as there are, of a total that is their time; memory for distinct frames and stacks, not
//! for samples: the table of frames comes last, and weights are told again from runs of equal ones.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use serde_json::json;

use super::{Source, text};
use crate::fold::Measure;
use crate::model::Stack;
use crate::model::frame::{Frame, UNWOUND_SHORT};

const SCHEMA: &str = "https://www.speedscope.app/file-format-schema.json";
/// Stacks whose text is remembered; more are told anew.
const MAX_REMEMBERED: usize = 1 << 16;

/// Writes the profile of `source`; how many samples are in it.
///
/// # Errors
/// If `out` cannot be written to or the store cannot be read.
pub fn write(source: &Source<'_>, out: &mut dyn Write) -> anyhow::Result<u64> {
    let measure = source.view.event().measure();
    let (unit, weigh): (_, fn(u64) -> u64) = match measure {
        Measure::Clock => ("nanoseconds", |ns| ns),
        Measure::Counter => ("none", |_| 1),
        Measure::Waits => ("microseconds", |ns| ns.saturating_add(500) / 1_000),
    };
    let mut frames = Frames::default();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut stacks: HashMap<Arc<Stack>, String> = HashMap::new();
    let title = json!(text::frame(source.title));
    let exporter = json!(format!("fnscope {}", env!("CARGO_PKG_VERSION")));
    write!(
        out,
        "{{\"$schema\":\"{SCHEMA}\",\"exporter\":{exporter},\"name\":{title},\"activeProfileIndex\":0,"
    )?;
    write!(out, "\"profiles\":[{{\"type\":\"sampled\",\"name\":{title},\"unit\":\"{unit}\",\"samples\":[")?;
    source.each(|row| {
        let first = runs.is_empty();
        let weight = weigh(row.period_ns);
        match runs.last_mut() {
            Some((of, count)) if *of == weight => *count += 1,
            _ => runs.push((weight, 1)),
        }
        if stacks.len() >= MAX_REMEMBERED {
            stacks.clear();
        }
        let stack = stacks.entry(Arc::clone(row.stack)).or_insert_with(|| frames.stack(row.stack));
        Ok(write!(out, "{}[{stack}]", if first { "\n" } else { ",\n" })?)
    })?;
    write!(out, "],\"weights\":[")?;
    weights(&runs, out)?;
    let total =
        runs.iter().fold(0u64, |sum, (period, count)| sum.saturating_add(period.saturating_mul(*count)));
    write!(out, "],\"startValue\":0,\"endValue\":{total}}}],\"shared\":{{\"frames\":[")?;
    for (at, frame) in frames.list.iter().enumerate() {
        write!(out, "{}{frame}", if at == 0 { "\n" } else { ",\n" })?;
    }
    writeln!(out, "]}}}}")?;
    Ok(runs.iter().map(|(_, count)| count).sum())
}

fn weights(runs: &[(u64, u64)], out: &mut dyn Write) -> io::Result<()> {
    let mut first = true;
    for (period, count) in runs {
        for _ in 0..*count {
            write!(out, "{}{period}", if first { "" } else { "," })?;
            first = false;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Frames {
    list: Vec<String>,
    numbers: HashMap<Arc<str>, usize>,
}

impl Frames {
    /// The numbers of the frames of `stack`, root first.
    fn stack(&mut self, stack: &Stack) -> String {
        let numbers: Vec<String> = match stack.frames() {
            [] => vec![self.number(&UNWOUND_SHORT.into()).to_string()],
            frames => frames.iter().map(|frame| self.number(frame).to_string()).collect(),
        };
        numbers.join(",")
    }

    fn number(&mut self, frame: &Arc<str>) -> usize {
        if let Some(number) = self.numbers.get(frame) {
            return *number;
        }
        let number = self.list.len();
        let (name, module) = {
            let parsed = Frame::parse(frame);
            let (name, module) = text::name_and_module(&parsed);
            (name, module.map(|module| text::frame(module).into_owned()))
        };
        // The schema knows no null.
        let told =
            module.map_or_else(|| json!({"name": name}), |module| json!({"name": name, "file": module}));
        self.list.push(told.to_string());
        self.numbers.insert(Arc::clone(frame), number);
        number
    }
}
