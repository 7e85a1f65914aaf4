//! Numbers of rows as runs of the same one, and Parquet's hybrid of runs and packed groups, in which they are told. Pure.

use crate::store::varint;

/// Numbers are packed so many at a time, which is also the least that a run is worth.
const GROUP: usize = 8;
/// Most groups that are packed behind one head, so that it is one byte.
const MOST_GROUPS: usize = 63;

/// Rows one behind the other with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) number: u32,
    pub(super) rows: u32,
}

/// A number for each row; runs that touch have different ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Runs {
    runs: Vec<Run>,
    rows: usize,
}

impl Runs {
    /// Those of rows with these `numbers`.
    pub(super) fn of(numbers: impl Iterator<Item = u32>) -> Runs {
        let mut runs = Runs::default();
        numbers.for_each(|number| runs.push(number, 1));
        runs
    }

    /// Those of `rows` rows that all have `number`.
    pub(super) fn same(number: u32, rows: usize) -> Runs {
        Runs::of_runs(std::iter::once((number, rows)))
    }

    /// Those of `runs`, each a number and how many rows have it.
    pub(super) fn of_runs(runs: impl Iterator<Item = (u32, usize)>) -> Runs {
        let mut all = Runs::default();
        runs.for_each(|(number, rows)| all.push(number, rows));
        all
    }

    /// Adds `rows` rows with `number`.
    pub(super) fn push(&mut self, number: u32, rows: usize) {
        self.rows += rows;
        let mut left = rows as u64;
        if let Some(last) = self.runs.last_mut().filter(|last| last.number == number) {
            let more = left.min(u64::from(u32::MAX - last.rows));
            last.rows += more as u32;
            left -= more;
        }
        while left > 0 {
            let rows = left.min(u64::from(u32::MAX)) as u32;
            self.runs.push(Run { number, rows });
            left -= u64::from(rows);
        }
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The runs.
    pub(super) fn iter(&self) -> impl Iterator<Item = Run> + Clone {
        self.runs.iter().copied()
    }

    /// The number of each row.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.iter().flat_map(|run| std::iter::repeat_n(run.number, run.rows as usize))
    }

    /// The greatest number.
    pub(super) fn most(&self) -> Option<u32> {
        self.iter().map(|run| run.number).max()
    }

    /// Their parts of `most` rows, the last of which may have fewer.
    pub(super) fn parts(&self, most: usize) -> impl Iterator<Item = Runs> {
        let (mut runs, mut left) = (self.iter(), None::<Run>);
        std::iter::from_fn(move || {
            let mut part = Runs::default();
            while part.rows < most {
                let Some(run) = left.take().or_else(|| runs.next()) else { break };
                let fits = run.rows.min(u32::try_from(most - part.rows).unwrap_or(u32::MAX));
                part.push(run.number, fits as usize);
                left = Some(Run { rows: run.rows - fits, ..run }).filter(|left| left.rows > 0);
            }
            (part.rows > 0).then_some(part)
        })
    }

    /// Appends them in numbers of `width` bits.
    pub(super) fn put(&self, width: u32, out: &mut Vec<u8>) {
        let mut packed: Vec<u32> = Vec::new();
        for (left, Run { number, rows }) in (0..self.runs.len()).rev().zip(self.iter()) {
            let rows = rows as usize;
            // What is packed comes in whole groups: a run gives the last one what it lacks. All that there is, is a run
            // however short: numbers of no bits are told by nothing else.
            let lacks = packed.len().next_multiple_of(GROUP) - packed.len();
            let is_run = rows >= lacks + GROUP || (packed.is_empty() && left == 0);
            let given = if is_run { lacks } else { rows };
            packed.extend(std::iter::repeat_n(number, given));
            if is_run {
                pack(&packed, width, out);
                packed.clear();
                varint::put(out, ((rows - given) as u64) << 1);
                let bytes = number.to_le_bytes();
                out.extend(bytes.iter().take(width.div_ceil(u8::BITS) as usize));
            }
        }
        pack(&packed, width, out);
    }
}

/// Appends `numbers` packed, the last group filled up with zeros.
fn pack(numbers: &[u32], width: u32, out: &mut Vec<u8>) {
    for numbers in numbers.chunks(MOST_GROUPS * GROUP) {
        let groups = numbers.len().div_ceil(GROUP);
        varint::put(out, (groups as u64) << 1 | 1);
        let end = out.len() + groups * width as usize;
        let (mut bits, mut held) = (0u64, 0);
        for number in numbers {
            bits |= u64::from(*number) << held;
            held += width;
            while held >= u8::BITS {
                out.push(bits as u8);
                bits >>= u8::BITS;
                held -= u8::BITS;
            }
        }
        if held > 0 {
            out.push(bits as u8);
        }
        out.resize(end, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_and_runs_are_the_same_rows(
            rows in proptest::collection::vec((0..4u32, 0..30usize), 0..40),
            most in 1..50usize,
        ) {
            let numbers: Vec<u32> =
                rows.iter().flat_map(|(number, rows)| std::iter::repeat_n(*number, *rows)).collect();
            let runs = Runs::of(numbers.iter().copied());
            prop_assert_eq!(&runs, &Runs::of_runs(rows.into_iter()));
            prop_assert!(runs.numbers().eq(numbers.iter().copied()));
            prop_assert_eq!((runs.rows(), runs.most()), (numbers.len(), numbers.iter().copied().max()));
            prop_assert!(runs.iter().zip(runs.iter().skip(1)).all(|(one, next)| one.number != next.number));
            let parts: Vec<Vec<u32>> = runs.parts(most).map(|part| part.numbers().collect()).collect();
            prop_assert_eq!(parts, numbers.chunks(most).map(<[u32]>::to_vec).collect::<Vec<_>>());
        }
    }
}
