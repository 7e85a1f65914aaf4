//! A samples file in which a row stands for several samples, as other writers may make it.

use std::fs;

use super::columns::TableWriter;
use super::decode::TableFile;
use super::read::{Detail, SealedSamples};
use super::schema::Table;
use super::set::SealedSet;
use super::sums::{FileSums, Sums};
use crate::model::{Batch, Window};
use crate::store::tests::data::{EIGHT, identity, instance, sample, store, writer};

const ROWS: i64 = 5;

/// Writes the samples file of `set` anew: the same rows, with `counts`; its checksum file tells of `samples`.
fn rewrite(set: &SealedSet, counts: [i64; ROWS as usize], samples: u64) {
    let sums = Sums::read(&set.sums_path()).unwrap().unwrap();
    let path = set.path(Table::Samples);
    let file = TableFile::open(&path, Table::Samples, sums.table(Table::Samples).unwrap()).unwrap();
    let texts = |name| file.texts(0, name).unwrap().into_iter().map(Some);
    let options = |name| {
        let texts = file.text_options(0, name).unwrap().into_iter();
        texts.map(|text| text.map(|text| text.as_str().into()))
    };
    let ints = |name| file.int_options(0, name).unwrap().into_iter();
    let shorts = |name| file.short_options(0, name).unwrap().into_iter();
    let mut made = TableWriter::new(Table::Samples, Table::Samples.columns().len()).unwrap();
    let fill = |group: &mut super::columns::Group<'_>| {
        group.int(ints("time"))?;
        group.text(texts("node"))?;
        for name in ["platform", "namespace", "function", "revision"] {
            group.text(options(name))?;
        }
        group.text(texts("instance"))?;
        group.text(texts("phase"))?;
        group.int(ints("pid"))?;
        group.int(ints("tid"))?;
        group.text(options("comm"))?;
        group.short(shorts("cpu"))?;
        group.text(texts("event"))?;
        group.text(texts("stack"))?;
        group.short(shorts("quality"))?;
        group.int(counts.iter().map(|count| Some(*count)))?;
        group.int(ints("weight_ns"))?;
        group.float((0..ROWS).map(|row| (row > 0).then_some(0.5)))
    };
    made.group(fill).unwrap();
    let written = made.finish().unwrap();
    let mut tables = sums.tables.clone();
    tables[0] = FileSums::of(&written).unwrap();
    fs::write(path, &written.bytes).unwrap();
    fs::write(set.sums_path(), Sums { samples, tables, ..sums }.to_bytes()).unwrap();
}

fn read(set: &SealedSet) -> SealedSamples {
    let hour = set.load(Detail::Totals).unwrap().unwrap();
    let groups = hour.rows.iter().map(|row| row.group).collect();
    hour.samples(&groups, Window::ALL, true, |_| Some(0)).unwrap().unwrap()
}

#[test]
fn a_row_counts_for_as_many_samples_as_it_says() {
    let (_folder, store) = store();
    let mut journal = store.journal(writer("node-1")).unwrap();
    let samples = (0..ROWS).map(|n| sample(1, EIGHT + n, &["main [figlet]"])).collect();
    let entries = vec![instance(1), identity(1, EIGHT, "figlet")];
    journal.append(&Batch { entries, samples, ..Batch::default() }).unwrap();
    journal.finish().unwrap();
    let lock = store.lock().unwrap();
    store.tidy(&lock, &Default::default(), |_, _| {}).unwrap();
    let set = store.sealed(Window::ALL).unwrap().sets.remove(0);
    let single = read(&set);
    assert_eq!((single.times.len(), single.lost.len()), (5, 0));

    rewrite(&set, [1, 3, 1, 0, 2], 7);
    let grouped = read(&set);
    assert_eq!(grouped.damage, []);
    let times: Vec<i64> = grouped.times.iter().map(|time| time.0 - EIGHT).collect();
    assert_eq!(times, [0, 1, 1, 1, 2, 4, 4]);
    for count in [grouped.instances.len(), grouped.stacks.len(), grouped.threads.len()] {
        assert_eq!(count, 7);
    }
    assert_eq!(grouped.lost, [(1, 0.5), (4, 0.5), (5, 0.5)], "once a row that counts");

    for (counts, says) in [([1, 3, 1, 0, i64::MAX], "stand for"), ([1, -3, 1, 0, 2], "below 0")] {
        rewrite(&set, counts, 7);
        let refused = read(&set);
        assert_eq!((refused.times.len(), refused.damage.len()), (0, 1));
        let damage = &refused.damage[0];
        assert!(damage.file == set.path(Table::Samples) && damage.what.contains(says), "{damage:?}");
    }
}
