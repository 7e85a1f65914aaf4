//! The order of a journal's samples, or of its waits, in the sealed tables: by hour, by function, then as the journal has
//! them. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

use super::partition::Hour;

/// Where a row goes: its hour, and the place of its function among the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) hour: Hour,
    pub(super) rank: u32,
}

/// Rows of one function in one hour.
#[derive(Debug)]
struct Stretch {
    place: Place,
    /// Which of [`Order::at`].
    rows: Range<usize>,
}

/// A row group: whole stretches.
#[derive(Debug, Clone)]
pub(super) struct RowGroup {
    stretches: Range<usize>,
    rows: usize,
}

impl RowGroup {
    /// How many rows it has.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }
}

/// The order.
#[derive(Debug)]
pub(super) struct Order {
    stretches: Vec<Stretch>,
    /// Positions in the journal, one stretch behind the other.
    at: Vec<u32>,
}

impl Order {
    /// The order of rows that go to these `places`; one without is left out. A journal holds a million of both at most, and
    /// a batch.
    pub(super) fn of(places: impl ExactSizeIterator<Item = Option<Place>>) -> Order {
        // Rows of a few functions come in turns, and of each there are many: they are counted, not compared.
        let mut known: BTreeMap<Place, u32> = BTreeMap::new();
        let mut counts: Vec<usize> = Vec::new();
        let (mut last, mut before) = (None, None);
        let mut stretch_of: Vec<u32> = Vec::with_capacity(places.len());
        for place in places {
            let Some(place) = place else {
                stretch_of.push(u32::MAX);
                continue;
            };
            let stretch = match [last, before].into_iter().flatten().find(|(known, _)| *known == place) {
                Some((_, stretch)) => stretch,
                None => *known.entry(place).or_insert_with(|| {
                    counts.push(0);
                    counts.len() as u32 - 1
                }),
            };
            if last != Some((place, stretch)) {
                (last, before) = (Some((place, stretch)), last);
            }
            counts.get_mut(stretch as usize).into_iter().for_each(|count| *count += 1);
            stretch_of.push(stretch);
        }
        let mut next = vec![0; counts.len()];
        let mut stretches: Vec<Stretch> = Vec::with_capacity(counts.len());
        let mut end = 0;
        for (place, stretch) in known {
            let (Some(count), Some(next)) = (counts.get(stretch as usize), next.get_mut(stretch as usize))
            else {
                continue;
            };
            *next = end;
            stretches.push(Stretch { place, rows: end..end + count });
            end += count;
        }
        let mut at = vec![0; end];
        for (position, stretch) in (0..).zip(stretch_of) {
            let Some(next) = next.get_mut(stretch as usize) else { continue };
            at.get_mut(*next).into_iter().for_each(|at| *at = position);
            *next += 1;
        }
        Order { stretches, at }
    }

    /// The hours that have rows, in order; one with several functions stands there as often.
    pub(super) fn hours(&self) -> impl Iterator<Item = Hour> {
        self.stretches.iter().map(|stretch| stretch.place.hour)
    }

    /// The row groups of `hour`; one is cut at the first end of a function from `group_rows` rows on.
    pub(super) fn groups(&self, hour: Hour, group_rows: usize) -> Vec<RowGroup> {
        let first = self.stretches.partition_point(|stretch| stretch.place.hour < hour);
        let end = self.stretches.partition_point(|stretch| stretch.place.hour <= hour);
        let mut groups = Vec::new();
        let mut group = RowGroup { stretches: first..first, rows: 0 };
        for at in first..end {
            group.stretches.end = at + 1;
            group.rows += self.stretches.get(at).map_or(0, |stretch| stretch.rows.len());
            if group.rows >= group_rows || at + 1 == end {
                groups.push(group);
                group = RowGroup { stretches: at + 1..at + 1, rows: 0 };
            }
        }
        groups
    }

    /// The rows of `group`: the position of each in the journal, and its function's rank.
    pub(super) fn rows(&self, group: &RowGroup) -> impl Iterator<Item = (u32, u32)> + Clone {
        let stretches = self.stretches.get(group.stretches.clone()).unwrap_or_default();
        stretches.iter().flat_map(|stretch| {
            let rows = self.at.get(stretch.rows.clone()).unwrap_or_default();
            rows.iter().map(|at| (*at, stretch.place.rank))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Timestamp;

    const HOUR_US: i64 = 3_600_000_000;

    fn place((hour, rank): (i64, u32)) -> Place {
        Place { hour: Hour::of(Timestamp(hour * HOUR_US)), rank }
    }

    proptest! {
        #[test]
        fn every_row_is_where_it_belongs_once(
            rows in proptest::collection::vec(proptest::option::of((0..3i64, 0..4u32)), 0..200),
            group_rows in 1..50usize,
        ) {
            let order = Order::of(rows.iter().map(|row| row.map(place)));
            let placed = (0u32..).zip(&rows).filter_map(|(at, row)| row.map(|row| (place(row), at)));
            let mut wanted: Vec<(Place, u32)> = placed.collect();
            wanted.sort_unstable();
            let mut hours: Vec<Hour> = order.hours().collect();
            prop_assert!(hours.is_sorted());
            hours.dedup();
            let mut got = Vec::new();
            for hour in hours {
                let groups = order.groups(hour, group_rows);
                for (group, is_last) in groups.iter().zip((1..=groups.len()).map(|at| at == groups.len())) {
                    let all: Vec<(Place, u32)> =
                        order.rows(group).map(|(at, rank)| (Place { hour, rank }, at)).collect();
                    prop_assert_eq!(all.len(), group.rows());
                    prop_assert!(is_last || all.len() >= group_rows);
                    got.extend(all);
                }
            }
            prop_assert_eq!(got, wanted);
        }
    }

    #[test]
    fn a_group_ends_where_a_function_does() {
        let order = Order::of([1, 0, 1, 2, 0, 1].map(|rank| Some(place((0, rank)))).into_iter());
        let sizes = |group_rows| {
            let groups = order.groups(place((0, 0)).hour, group_rows);
            groups.iter().map(RowGroup::rows).collect::<Vec<_>>()
        };
        assert_eq!((sizes(1), sizes(3), sizes(6), sizes(7)), (vec![2, 3, 1], vec![5, 1], vec![6], vec![6]));
        assert!(order.groups(place((1, 0)).hour, 1).is_empty());
    }
}
