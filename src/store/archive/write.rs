//! The rows of a sealed hour to the bytes of its files. Pure.

use std::sync::Arc;

use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;

use super::columns::{Group, TableWriter, Written};
use super::names;
use super::order::RowGroup;
use super::readings::{self, UsageRow};
use super::rows::{HourRows, InstanceRow, Rows, WaitCounts};
use super::runs::Runs;
use super::schema::Table;
use crate::model::{CpuSource, CpuStats, Fact, FactKind, Stack, Timestamp, Window, WriterInfo};
use crate::store::contents::{self, InstanceRecord, JournalContents, StoredSample, StoredThread, Usage};
use crate::store::folded;
use crate::store::loss::Rates;

/// What stands in `event` for a wait.
const OFF_CPU: &str = "off-cpu";
/// What stands in `coverage_source` where samples stand for no time.
const NO_CLOCK: &str = "no-clock";
/// What the phases are called.
pub(super) const PHASES: [&str; 3] = ["runtime-init", "cold", "warm"];

/// The whole journal's texts, each kind by its numbers.
pub(super) struct Texts {
    node: [Option<ByteArray>; 1],
    event: [Option<ByteArray>; 1],
    off_cpu: [Option<ByteArray>; 1],
    /// The parts of names, each by the name's place in order.
    names: [Vec<Option<ByteArray>>; 4],
    keys: Vec<Option<ByteArray>>,
    comms: Vec<Option<ByteArray>>,
    phases: [Option<ByteArray>; 3],
}

impl Texts {
    pub(super) fn of(contents: &JournalContents, rows: &Rows) -> Texts {
        let text = |text: &str| Some(ByteArray::from(text));
        let mut names = [const { Vec::new() }; 4];
        for name in &rows.names {
            for (parts, part) in names.iter_mut().zip(name.parts()) {
                parts.push(part.and_then(text));
            }
        }
        Texts {
            node: [text(&contents.writer.node)],
            event: [text(&contents.writer.event)],
            off_cpu: [text(OFF_CPU)],
            names,
            keys: contents.instances.iter().map(|record| text(&record.info.key.0)).collect(),
            comms: contents.comms.iter().map(|comm| text(comm)).collect(),
            phases: PHASES.map(text),
        }
    }
}

/// Those of `stacks` that stand in `numbers`: frames, root first, parted by `;`. They lie in one block of memory, which is
/// gone when it is freed; a block for each would leave holes between what a service keeps.
fn stack_texts(stacks: &[Arc<Stack>], numbers: &Runs) -> Vec<Option<ByteArray>> {
    let mut places: Vec<Option<(usize, usize)>> = vec![None; stacks.len()];
    let mut lines = String::new();
    for run in numbers.iter() {
        let at = run.number as usize;
        let (Some(stack), Some(place @ None)) = (stacks.get(at), places.get_mut(at)) else { continue };
        let start = lines.len();
        if !stack.frames().is_empty() {
            folded::put_line(stack, &mut lines);
        }
        *place = Some((start, lines.len() - start));
    }
    let lines = ByteArray::from(lines.into_bytes());
    places.into_iter().map(|place| place.map(|(start, length)| lines.slice(start, length))).collect()
}

/// The samples table of `hour`.
pub(super) fn samples(
    contents: &JournalContents,
    rows: &Rows,
    hour: &HourRows,
    texts: &Texts,
    rates: &Rates,
) -> Result<Written, ParquetError> {
    let mut file = TableWriter::new(Table::Samples, Table::Samples.columns().len())?;
    let cuts: Vec<_> = contents.instances.iter().map(super::rows::PhaseCuts::of).collect();
    for of in &hour.groups {
        let all = || rows.samples(contents, of);
        file.group(|group| {
            taken(group, contents, texts, &cuts, &texts.event, all)?;
            group.int(std::iter::repeat_n(Some(signed(contents.writer.sampled_ns())), of.rows()))?;
            group.float(all().map(|(sample, _)| rates.lost_for(sample)))
        })?;
    }
    file.finish()
}

/// The table of the waits of `hour`; none where nobody waited.
pub(super) fn off_cpu(
    contents: &JournalContents,
    rows: &Rows,
    hour: &HourRows,
    texts: &Texts,
) -> Result<Option<Written>, ParquetError> {
    if hour.wait_groups.is_empty() {
        return Ok(None);
    }
    let mut file = TableWriter::new(Table::OffCpu, Table::OffCpu.columns().len())?;
    let cuts: Vec<_> = contents.instances.iter().map(super::rows::PhaseCuts::of).collect();
    for of in &hour.wait_groups {
        let all = || rows.waits(contents, of);
        let back = || all().map(|(wait, rank)| (&wait.back, rank));
        file.group(|group| {
            taken(group, contents, texts, &cuts, &texts.off_cpu, back)?;
            group.int(all().map(|(wait, _)| Some(signed(wait.ns))))?;
            group.bool(all().map(|(wait, _)| Some(wait.preempted)))
        })?;
    }
    file.finish().map(Some)
}

/// The columns that samples and waits have in common: all up to how many a row stands for, which is one.
fn taken<'a, I: Iterator<Item = (&'a StoredSample, u32)> + Clone>(
    group: &mut Group<'_>,
    contents: &JournalContents,
    texts: &Texts,
    cuts: &[super::rows::PhaseCuts],
    event: &[Option<ByteArray>],
    all: impl Fn() -> I,
) -> Result<(), ParquetError> {
    let ranks = Runs::of(all().map(|(_, rank)| rank));
    let same = Runs::same(0, ranks.rows());
    let thread = |sample: &StoredSample| contents.threads.get(sample.thread as usize);
    let number = |value: fn(&StoredThread) -> u32| {
        Runs::of(all().map(|(sample, _)| thread(sample).map_or(u32::MAX, value)))
    };
    let int = |value: fn(&StoredThread) -> u32| {
        all().map(move |(sample, _)| thread(sample).map(|thread| i64::from(value(thread))))
    };
    group.int(all().map(|(sample, _)| Some(sample.time.0)))?;
    group.coded(&texts.node, &same)?;
    for parts in &texts.names {
        group.coded(parts, &ranks)?;
    }
    group.coded(&texts.keys, &number(|thread| thread.instance))?;
    let phases = all().map(|(sample, _)| {
        let cuts = contents.instance_of(sample).and_then(|instance| cuts.get(instance));
        let phase = cuts.map(|cuts| cuts.phase(sample.time));
        phase.map_or(u32::MAX, |phase| phase as u32)
    });
    group.coded(&texts.phases, &Runs::of(phases))?;
    group.int(int(|thread| thread.pid))?;
    group.int(int(|thread| thread.tid))?;
    group.coded(&texts.comms, &number(|thread| thread.comm))?;
    group.short(all().map(|(sample, _)| i32::try_from(sample.cpu).ok()))?;
    group.coded(event, &same)?;
    let stacks = Runs::of(all().map(|(sample, _)| sample.stack));
    group.coded(&stack_texts(&contents.stacks, &stacks), &stacks)?;
    group.short(all().map(|(sample, _)| {
        let stack = contents.stacks.get(sample.stack as usize);
        stack.map(|stack| i32::from(stack.quality().0))
    }))?;
    group.int(std::iter::repeat_n(Some(1), ranks.rows()))
}

/// The instances table of `hour`.
pub(super) fn instances(
    contents: &JournalContents,
    hour: &HourRows,
    texts: &Texts,
) -> Result<Written, ParquetError> {
    let waits = !hour.wait_groups.is_empty();
    let columns = if waits { Table::Instances.columns().len() } else { Table::Instances.least_columns() };
    let mut file = TableWriter::new(Table::Instances, columns)?;
    let mut rows: Vec<Row> = hour
        .instances
        .iter()
        .filter_map(|row| {
            let record = contents.instances.get(row.record)?;
            Some(Row { row, record, readings: readings::rising(record), stretch: hour.stretch })
        })
        .collect();
    // An instance's rows stay together, and functions too: for what is compressed and what is looked for.
    let ranks: std::collections::HashMap<usize, u32> =
        hour.instances.iter().rev().map(|row| (row.record, row.rank)).collect();
    rows.sort_by_key(|row| (ranks.get(&row.row.record).copied(), row.row.record));
    if rows.is_empty() {
        return file.finish();
    }
    let writer = &contents.writer;
    file.group(|group| {
        group.coded(&texts.node, &Runs::same(0, rows.len()))?;
        let ranks = Runs::of(rows.iter().map(|row| row.row.rank));
        for parts in &texts.names {
            group.coded(parts, &ranks)?;
        }
        group.coded(&texts.keys, &Runs::of(rows.iter().map(|row| row.row.record as u32)))?;
        group.int(rows.iter().map(|row| Some(row.identity()?.0.0)))?;
        group.text(rows.iter().map(|row| Some(names::confidence(row.identity()?.1.confidence).into())))?;
        group.text(rows.iter().map(|row| Some(row.identity()?.1.rule.as_str().into())))?;
        group
            .bool(rows.iter().map(|row| Some(row.identity().is_none_or(|(_, id)| id.function_container))))?;
        write_info(group, &rows)?;
        write_counts(group, &rows, writer)?;
        write_details(group, &rows)?;
        if waits { write_waits(group, &rows) } else { Ok(()) }
    })?;
    file.finish()
}

/// A row with what it is about.
struct Row<'a> {
    row: &'a InstanceRow,
    record: &'a InstanceRecord,
    readings: Vec<Usage>,
    stretch: Window,
}

impl Row<'_> {
    fn identity(&self) -> Option<&(Timestamp, crate::model::Identity)> {
        self.record.identities.get(self.row.identity?)
    }

    fn cpu_us(&self, part: Window) -> Option<i64> {
        let (from, to) = (part.from.max(self.row.window.from), part.to.min(self.row.window.to));
        if from >= to {
            return None;
        }
        readings::cpu_us(self.record, &self.readings, Window { from, to }, self.stretch).map(signed)
    }

    fn phase_cpu_us(&self, phase: usize) -> Option<i64> {
        let cuts = super::rows::PhaseCuts::of(self.record);
        let edges: Vec<Timestamp> =
            [Timestamp::MIN].into_iter().chain(cuts.cuts()).chain([Timestamp::MAX]).collect();
        let part = edges.windows(2).find_map(|pair| match pair {
            [from, to] if cuts.phase(*from) == phase => Some(Window { from: *from, to: *to }),
            _ => None,
        });
        let told = self.cpu_us(part?)?;
        let exec = cuts.exec_at.filter(|exec| cuts.from_birth && self.row.window.contains(*exec));
        let counts = &self.row.counts;
        if counts.samples == 0 || exec.is_none_or(|exec| readings::is_read_at(&self.readings, exec)) {
            return Some(told);
        }
        // The account was not read at the exec: readings are too far apart for what lies on its two sides.
        let of_phase = counts.phases.get(phase).copied()?;
        let part = of_phase as f64 / counts.samples as f64;
        self.cpu_us(Window::ALL).map(|cpu_us| (cpu_us as f64 * part).round() as i64)
    }

    fn ready_at(&self) -> Option<i64> {
        let ready = self.record.facts.iter().find(|(_, fact)| *fact == Fact::Ready);
        ready.map(|(at, _)| at.0)
    }

    fn handler(&self) -> Option<ByteArray> {
        let told = self.record.facts.iter().rev().find_map(|(_, fact)| match fact {
            Fact::RuntimeHandler(handler) => Some(handler),
            _ => None,
        });
        told.map(|handler| handler.as_str().into())
    }

    fn labels(&self) -> Option<ByteArray> {
        let told = self.record.facts.iter().rev().find_map(|(_, fact)| match fact {
            Fact::Labels(labels) => Some(labels),
            _ => None,
        });
        json(&told?.iter().map(|(key, value)| (key, value)).collect::<std::collections::BTreeMap<_, _>>())
    }
}

fn write_info(group: &mut Group<'_>, rows: &[Row<'_>]) -> Result<(), ParquetError> {
    let optional = |text: &Option<String>| text.as_deref().map(ByteArray::from);
    group.text(rows.iter().map(|row| optional(&row.record.info.runtime)))?;
    group.text(rows.iter().map(Row::handler))?;
    group.text(rows.iter().map(|row| Some(row.record.info.container_id.as_str().into())))?;
    group.text(rows.iter().map(|row| Some(path_pattern(&row.record.info).as_str().into())))?;
    group.int(rows.iter().map(|row| Some(row.record.info.cgroup_id.0 as i64)))?;
    group.text(rows.iter().map(|row| optional(&row.record.info.image)))?;
    group.text(rows.iter().map(|row| optional(&row.identity()?.1.instance_name)))?;
    group.int(rows.iter().map(|row| Some(row.record.info.started_at.0)))?;
    group.bool(rows.iter().map(|row| Some(row.record.info.from_birth)))?;
    group.int(rows.iter().map(|row| row.record.exec_at.map(|at| at.0)))?;
    group.int(rows.iter().map(Row::ready_at))?;
    group.int(rows.iter().map(|row| super::rows::PhaseCuts::of(row.record).warm_at.map(|at| at.0)))?;
    group.int(rows.iter().map(|row| row.record.ended.map(|ended| ended.at.0)))?;
    group.short(rows.iter().map(|row| row.record.ended.and_then(|ended| ended.exit_code)))?;
    group.bool(rows.iter().map(|row| row.record.ended.map(|ended| ended.oom)))
}

fn write_counts(group: &mut Group<'_>, rows: &[Row<'_>], writer: &WriterInfo) -> Result<(), ParquetError> {
    let time = |at: Option<Timestamp>| at.map(|at| at.0);
    group.int(rows.iter().map(|row| time(row.row.counts.first)))?;
    group.int(rows.iter().map(|row| time(row.row.counts.first_after_exec)))?;
    group.int(rows.iter().map(|row| time(row.row.counts.last)))?;
    group.int(rows.iter().map(|row| Some(signed(row.row.counts.samples))))?;
    let sampled_us = |row: &Row| signed(row.row.counts.samples.saturating_mul(writer.sampled_ns()) / 1_000);
    group.int(rows.iter().map(|row| Some(sampled_us(row))))?;
    group.int(rows.iter().map(|row| row.cpu_us(Window::ALL)))?;
    group.text(rows.iter().map(|row| {
        let last = row.readings.iter().rev().find(|usage| usage.at < row.row.window.to);
        last.map(|usage| if writer.is_clock() { source(usage.source) } else { NO_CLOCK }.into())
    }))?;
    let growth = |row: &Row, kind, pick: fn(&Fact) -> Option<u64>| {
        readings::growth(row.record, row.row.window, kind, pick).map(signed)
    };
    group.int(rows.iter().map(|row| growth(row, FactKind::Throttled, throttled_count)))?;
    group.int(rows.iter().map(|row| growth(row, FactKind::Throttled, throttled_us)))?;
    group.int(rows.iter().map(|row| growth(row, FactKind::Pressure, pressure_us)))?;
    group.int(rows.iter().map(|row| readings::frozen_us(row.record, row.row.window).map(signed)))?;
    group.float(rows.iter().map(|row| Some(row.row.counts.lost)))?;
    let quality = |row: &Row| row.row.counts.quality;
    group.int(rows.iter().map(|row| Some(signed(quality(row).truncated))))?;
    group.int(rows.iter().map(|row| Some(signed(quality(row).short))))?;
    group.int(rows.iter().map(|row| Some(signed(quality(row).guessed))))?;
    group.int(rows.iter().map(|row| Some(signed(quality(row).unsymbolized))))?;
    group.int(rows.iter().map(|row| Some(signed(quality(row).complete))))?;
    group.int(rows.iter().map(|row| Some(signed(quality(row).named(row.row.counts.samples)))))?;
    for phase in 0..PHASES.len() {
        group.int(rows.iter().map(|row| row.row.counts.phases.get(phase).copied().map(signed)))?;
    }
    for phase in 0..PHASES.len() {
        group.int(rows.iter().map(|row| row.phase_cpu_us(phase)))?;
    }
    Ok(())
}

fn write_details(group: &mut Group<'_>, rows: &[Row<'_>]) -> Result<(), ParquetError> {
    group.text(rows.iter().map(|row| row.labels().filter(|_| row.row.first)))?;
    group.text(rows.iter().map(|row| {
        let marks =
            row.row.marks.iter().map(|mark| (mark.at, mark.cpu_us, mark.source, mark.before, mark.until));
        json(&marks.collect::<Vec<_>>()).filter(|_| !row.row.marks.is_empty())
    }))?;
    group
        .text(rows.iter().map(|row| {
            json(&row.record.dropped).filter(|_| row.row.first && !row.record.dropped.is_empty())
        }))?;
    group.text(rows.iter().map(|row| {
        let facts = readings::facts(row.record, row.stretch);
        json(&facts).filter(|_| row.row.first && !facts.is_empty())
    }))?;
    group.short(rows.iter().map(|row| row.row.group.and_then(|at| i32::try_from(at).ok())))
}

/// To the nearest.
fn microseconds(ns: u64) -> i64 {
    signed(ns.saturating_add(500) / 1_000)
}

fn write_waits(group: &mut Group<'_>, rows: &[Row<'_>]) -> Result<(), ParquetError> {
    let of = |value: fn(&WaitCounts) -> Option<i64>| {
        rows.iter().map(move |row| Some(&row.row.waits).filter(|waits| waits.count > 0).and_then(value))
    };
    group.int(of(|waits| Some(microseconds(waits.ns))))?;
    group.int(of(|waits| Some(signed(waits.count))))?;
    group.int(of(|waits| Some(microseconds(waits.preempted_ns))))?;
    group.int(of(|waits| waits.first.map(|at| at.0)))?;
    group.int(of(|waits| waits.last.map(|at| at.0)))?;
    group.short(rows.iter().map(|row| row.row.wait_group.and_then(|at| i32::try_from(at).ok())))
}

/// The usage table of `hour`.
pub(super) fn usage(
    contents: &JournalContents,
    hour: &HourRows,
    texts: &Texts,
) -> Result<Written, ParquetError> {
    let mut file = TableWriter::new(Table::Usage, Table::Usage.columns().len())?;
    let mut rows: Vec<(u32, usize, UsageRow)> = Vec::new();
    for own in hour.instances.chunk_by(|a, b| a.record == b.record) {
        let Some(first) = own.first() else { continue };
        let Some(record) = contents.instances.get(first.record) else { continue };
        for row in readings::usage_rows(record, &readings::rising(record), hour.stretch) {
            let named = own.iter().rev().find(|own| own.window.from <= row.at).unwrap_or(first);
            rows.push((named.rank, first.record, row));
        }
    }
    rows.sort_by_key(|(rank, record, row)| (*rank, *record, row.at));
    if rows.is_empty() {
        return file.finish();
    }
    let number = |value: Option<u64>| value.map(signed);
    file.group(|group| {
        group.int(rows.iter().map(|(_, _, row)| Some(row.at.0)))?;
        group.coded(&texts.node, &Runs::same(0, rows.len()))?;
        let ranks = Runs::of(rows.iter().map(|(rank, _, _)| *rank));
        for parts in &texts.names {
            group.coded(parts, &ranks)?;
        }
        group.coded(&texts.keys, &Runs::of(rows.iter().map(|(_, record, _)| *record as u32)))?;
        group.int(rows.iter().map(|(_, _, row)| number(row.cpu.map(|(us, _)| us))))?;
        group.text(rows.iter().map(|(_, _, row)| row.cpu.map(|(_, from)| source(from).into())))?;
        group.int(rows.iter().map(|(_, _, row)| number(row.throttled.map(|(count, _)| count))))?;
        group.int(rows.iter().map(|(_, _, row)| number(row.throttled.map(|(_, us)| us))))?;
        group.int(rows.iter().map(|(_, _, row)| number(row.pressure_us)))?;
        group.bool(rows.iter().map(|(_, _, row)| row.frozen))
    })?;
    file.finish()
}

/// The hosts table of `hour`.
pub(super) fn hosts(contents: &JournalContents, hour: &HourRows) -> Result<Written, ParquetError> {
    let writer = &contents.writer;
    let batches: Vec<_> = contents.batches.iter().filter(|batch| hour.stretch.contains(batch.to)).collect();
    let mut rings = std::collections::BTreeMap::<u32, CpuStats>::new();
    for cpu in batches.iter().flat_map(|batch| &batch.cpus) {
        let sum = rings.entry(cpu.cpu).or_insert(CpuStats { cpu: cpu.cpu, ..CpuStats::default() });
        sum.samples = sum.samples.saturating_add(cpu.samples);
        sum.lost = sum.lost.saturating_add(cpu.lost);
    }
    let rings: Vec<CpuStats> = rings.into_values().collect();
    let lost = rings.iter().fold(0u64, |sum, cpu| sum.saturating_add(cpu.lost));
    let unattributed = batches.iter().fold(0u64, |sum, batch| sum.saturating_add(batch.unattributed));
    let own_use = contents::own_use(batches.iter().copied());
    let samples: usize = hour.groups.iter().map(RowGroup::rows).sum();
    let offsets = || batches.iter().map(|batch| batch.clock_offset_ns).filter(|offset| *offset != 0);
    let one = |text: &str| std::iter::once(Some(ByteArray::from(text)));
    let number = |value: u64| std::iter::once(Some(signed(value)));
    let damage = super::seal::damage_texts(contents);
    let mut file = TableWriter::new(Table::Hosts, Table::Hosts.columns().len())?;
    file.group(|group| {
        group.int(std::iter::once(Some(hour.hour.window().from.0.max(0))))?;
        for text in [&writer.node, &writer.boot_id, &writer.writer, &writer.version, &writer.kernel] {
            group.text(one(text))?;
        }
        group.text(std::iter::once(writer.cpu_model.as_deref().map(ByteArray::from)))?;
        group.int(number(writer.cpus.into()))?;
        group.int(number(writer.hz.into()))?;
        group.int(number(writer.period_ns))?;
        group.text(one(&writer.event))?;
        group.int(std::iter::once(Some(writer.started_at.0)))?;
        group.int(number(samples as u64))?;
        group.text(std::iter::once(json(&rings).filter(|_| !rings.is_empty())))?;
        group.int(number(lost))?;
        group.int(number(unattributed))?;
        group.int(std::iter::once(offsets().next()))?;
        group.int(std::iter::once(offsets().next_back()))?;
        group.int(std::iter::once(own_use.map(|own_use| signed(own_use.cpu_us))))?;
        group.int(std::iter::once(own_use.map(|own_use| signed(own_use.memory_bytes))))?;
        group.text(std::iter::once(json(&damage).filter(|_| !damage.is_empty())))
    })?;
    file.finish()
}

/// How `source` is written.
pub(super) fn source(source: CpuSource) -> &'static str {
    match source {
        CpuSource::Final => "final",
        CpuSource::Exit => "exit",
        CpuSource::Running => "running",
    }
}

fn throttled_count(fact: &Fact) -> Option<u64> {
    match fact {
        Fact::Throttled { count, .. } => Some(*count),
        _ => None,
    }
}

fn throttled_us(fact: &Fact) -> Option<u64> {
    match fact {
        Fact::Throttled { us, .. } => Some(*us),
        _ => None,
    }
}

fn pressure_us(fact: &Fact) -> Option<u64> {
    match fact {
        Fact::Pressure { us } => Some(*us),
        _ => None,
    }
}

/// The cgroup's path with `*` in the place of the container's id, which stands in a column of its own. A path with a
/// star in it has `=` before it and is as it was.
fn path_pattern(info: &crate::model::InstanceInfo) -> String {
    let (path, id) = (&info.cgroup_path, info.container_id.as_str());
    match id.len() {
        _ if path.contains('*') => format!("={path}"),
        ..12 => path.clone(),
        _ => path.replace(id, "*"),
    }
}

/// The path that `pattern` was made from.
pub(super) fn path_from(pattern: &str, container_id: &str) -> String {
    match pattern.strip_prefix('=') {
        Some(path) => path.into(),
        None => pattern.replace('*', container_id),
    }
}

fn json(value: &impl serde::Serialize) -> Option<ByteArray> {
    serde_json::to_vec(value).ok().map(ByteArray::from)
}

/// Other engines have no unsigned numbers; none of these comes near the limit.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::frame;

    #[test]
    fn markers_are_text_too() {
        let stack = |frames| Arc::new(Stack::new(frames, Default::default()));
        let stacks = [vec!["other".into()], vec![], vec![frame::TRUNCATED.into(), "a [b]".into()]].map(stack);
        let texts = stack_texts(&stacks, &Runs::of([2, 1, 2, 7].into_iter()));
        let texts: Vec<Option<&[u8]>> = texts.iter().map(|text| text.as_ref().map(ByteArray::data)).collect();
        assert_eq!(texts, [None, Some(&b""[..]), Some(b"[truncated];a [b]")]);
    }
}
