//! A store whose content is known to the sample, and what can befall it: a disk that is full at any moment, bits that
//! flip, ends that are cut off. What it tells afterwards is held against what is known.
//!
//! Every number is drawn from a seed, which stands in each failure. What is wrong comes back in words, a line each: an
//! empty list is the proof.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use fnscope::model::{
    Batch, CgroupId, Confidence, CpuSource, Entry, Identity, InstanceInfo, InstanceKey, InstanceNo, Quality,
    Sample, Stack, Timestamp, Window, WriterInfo,
};
use fnscope::query::{self, PhaseFilter, Scope};
use fnscope::store::archive::{Retention, TidyOptions};
use fnscope::store::{AtClose, Damage, JournalWriter, Store, StoreError};

/// 2026-11-23T08:00:00Z in microseconds.
pub const EIGHT: i64 = 1_795_420_800_000_000;
/// Batches are so far apart, in microseconds: twelve an hour.
pub const STEP_US: i64 = 300_000_000;
/// Batches of a whole store: two hours and a half.
pub const BATCHES: u32 = 30;
const INSTANCES: u32 = 3;

/// Numbers that are the same for the same seed (xorshift).
pub struct Random(u64);

impl Random {
    /// From `seed`; any number will do.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to `limit - 1`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit.max(1)
    }
}

/// A writer on `node`, booted as `boot`.
pub fn writer(node: &str, boot: &str) -> WriterInfo {
    WriterInfo {
        node: node.into(),
        boot_id: format!("{boot}-1111-2222-3333-444455556666"),
        writer: "agent".into(),
        version: "0.1.0".into(),
        kernel: "6.8.0".into(),
        cpu_model: None,
        cpus: 2,
        event: "cpu-clock".into(),
        hz: 100,
        period_ns: 10_000_000,
        started_at: Timestamp(EIGHT),
    }
}

fn introduction(boot: &str, no: u32) -> [Entry; 3] {
    let container_id = format!("{no:064x}");
    let info = InstanceInfo {
        key: InstanceKey::new(&container_id, boot, CgroupId(no.into())),
        runtime: Some("docker".into()),
        cgroup_path: format!("/docker/{container_id}"),
        container_id,
        cgroup_id: CgroupId(no.into()),
        image: Some("functions/figlet".into()),
        started_at: Timestamp(EIGHT),
        from_birth: true,
    };
    let identity = Identity {
        function_container: true,
        platform: Some("custom".into()),
        namespace: Some("demo".into()),
        function: Some(format!("function-{no}")),
        revision: Some("1".into()),
        instance_name: None,
        confidence: Confidence::Exact,
        rule: "fnscope-labels".into(),
    };
    let (no, at) = (InstanceNo(no), Timestamp(EIGHT));
    [Entry::Instance { no, info }, Entry::Identity { no, from: at, identity }, Entry::Exec { no, at }]
}

/// A sample of instance `no` in batch `n`; its stack is no other batch's.
pub fn sample(no: u32, n: u32, time: i64) -> Sample {
    let frames = ["main [figlet]".to_owned(), format!("batch-{n} [figlet]")];
    let frames = frames.iter().map(|frame| Arc::from(frame.as_str())).collect();
    Sample {
        time: Timestamp(time),
        instance: InstanceNo(no),
        pid: 100 + no,
        tid: 100 + no,
        comm: "figlet".into(),
        cpu: no % 2,
        stack: Arc::new(Stack::new(frames, Quality::COMPLETE)),
    }
}

/// Batch `n` of a host booted as `boot`. Each first batch of an hour has a late sample of the hour before.
pub fn batch(boot: &str, n: u32) -> Batch {
    let time = EIGHT + i64::from(n) * STEP_US;
    let mut batch = Batch::default();
    if n == 0 {
        batch.entries.extend((1..=INSTANCES).flat_map(|no| introduction(boot, no)));
    }
    for no in 1..=INSTANCES {
        let cpu_us = u64::from(n + 1) * 25_000;
        let at = Timestamp(time + 60_000);
        batch.entries.push(Entry::Usage { no: InstanceNo(no), at, cpu_us, source: CpuSource::Running });
        let count = 1 + i64::from((n + no) % 3);
        batch.samples.extend((0..count).map(|i| sample(no, n, time + i * 10_000 + i64::from(no))));
    }
    if n > 0 && n.is_multiple_of(12) {
        batch.samples.push(sample(1, n, time - 60_000_000));
    }
    batch.samples.sort_by_key(|sample| sample.time);
    batch
}

/// A writer that does what the agent does when the store refuses: samples are counted as lost, all else waits.
pub struct Feed {
    journal: JournalWriter,
    boot: String,
    next: u32,
    waiting: Vec<Entry>,
    /// What the store took, by stack.
    pub stored: BTreeMap<String, u64>,
    /// Samples that it refused.
    pub lost: u64,
}

impl Feed {
    /// Begins at batch 0.
    pub fn begin(store: &Store, node: &str, boot: &str, at_close: AtClose) -> Result<Feed, StoreError> {
        let journal = store.journal_with(writer(node, boot), at_close)?;
        let (waiting, stored) = (Vec::new(), BTreeMap::new());
        Ok(Feed { journal, boot: boot.into(), next: 0, waiting, stored, lost: 0 })
    }

    /// Appends batches until `end`; a full disk is no error.
    pub fn append_until(&mut self, end: u32) -> anyhow::Result<()> {
        while self.next < end {
            let made = batch(&self.boot, self.next);
            self.next += 1;
            self.append(made)?;
        }
        Ok(())
    }

    /// Appends `batch`.
    pub fn append(&mut self, mut batch: Batch) -> anyhow::Result<()> {
        batch.entries.splice(0..0, std::mem::take(&mut self.waiting));
        match self.journal.append(&batch) {
            Ok(_) => {
                for sample in &batch.samples {
                    *self.stored.entry(sample.stack.frames().join(";")).or_default() += 1;
                }
            }
            Err(error) if error.is_full() => {
                self.lost += batch.samples.len() as u64;
                self.waiting = batch.entries;
                for no in (1..=INSTANCES).map(InstanceNo) {
                    let of: Vec<_> = batch.samples.iter().filter(|sample| sample.instance == no).collect();
                    let Some(first) = of.first() else { continue };
                    let (at, count, reason) = (first.time, of.len() as u64, "store".into());
                    self.waiting.push(Entry::Dropped { no, at, reason, count });
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Begins a new journal.
    pub fn rotate(&mut self) -> Result<(), StoreError> {
        self.journal.rotate()
    }

    /// Closes the journal; what the store took, and how many samples it refused.
    pub fn finish(self) -> Result<(BTreeMap<String, u64>, u64), StoreError> {
        self.journal.finish()?;
        Ok((self.stored, self.lost))
    }
}

/// What a store tells.
#[derive(Default)]
pub struct Told {
    /// Samples by stack.
    pub counts: BTreeMap<String, u64>,
    /// Samples by the list of functions, from totals where there are some.
    pub listed: u64,
    /// Samples that are told as lost.
    pub lost: u64,
    /// What could not be read.
    pub damage: Vec<Damage>,
    /// Everything that people ask of samples, as text.
    pub of_samples: String,
    /// Everything that people ask of totals, as text.
    pub of_totals: String,
}

/// Asks the stores at `roots` about everything.
///
/// # Errors
/// If they cannot be read.
pub fn ask(roots: &[&Path]) -> anyhow::Result<Told> {
    let mut told = Told::default();
    ask_samples(roots, &mut told)?;
    ask_totals(roots, &mut told)?;
    Ok(told)
}

fn ask_samples(roots: &[&Path], told: &mut Told) -> anyhow::Result<()> {
    let view = query::open_for(roots, Window::ALL, Scope::All, |_, _| {})?;
    let all = view.select(None, &[])?;
    let found = query::stacks(&view, &all, PhaseFilter::All);
    let folded = found.profile.folded();
    told.of_samples = format!(
        "{:?}\n{:#?}\n{:#?}\n{:#?}\n{folded:#?}",
        query::coverage(&view, &all),
        query::functions(&view, &all),
        query::instances(&view, &all),
        query::top(&found.profile)
    );
    told.counts = folded.into_iter().map(|(stack, weight)| (stack, weight.samples)).collect();
    told.damage.extend_from_slice(view.damage());
    Ok(())
}

fn ask_totals(roots: &[&Path], told: &mut Told) -> anyhow::Result<()> {
    let view = query::open_for(roots, Window::ALL, Scope::Counts, |_, _| {})?;
    let all = view.select(None, &[])?;
    let rows = query::functions(&view, &all);
    told.of_totals = format!("{rows:#?}\n{:#?}", query::instances(&view, &all));
    told.listed = rows.iter().map(|row| row.samples).sum();
    told.lost = rows.iter().map(|row| row.lost).sum();
    told.damage.extend_from_slice(view.damage());
    Ok(())
}

/// What was done and what was wrong.
#[derive(Debug, Default)]
pub struct Report {
    /// Points, flips or cuts that were tried.
    pub tried: u64,
    /// Those at which something was refused, or was told as damaged.
    pub told: u64,
    /// Samples that were refused or are not in an answer, all of them told.
    pub samples: u64,
    /// What was wrong, each with its seed.
    pub wrong: Vec<String>,
}

impl Report {
    fn add(&mut self, other: Report) {
        self.tried += other.tried;
        self.told += other.told;
        self.samples += other.samples;
        self.wrong.extend(other.wrong);
    }

    fn take(&mut self, what: &str, point: impl FnOnce(&mut Report) -> anyhow::Result<()>) {
        self.tried += 1;
        let outcome = catch_unwind(AssertUnwindSafe(|| point(self)));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.wrong.push(format!("{what}: {error:#}")),
            Err(_) => self.wrong.push(format!("{what}: it panicked")),
        }
    }
}

/// A small file system, gone when this is dropped. Needs root.
pub struct Disk(tempfile::TempDir);

impl Disk {
    /// With `options` of tmpfs.
    pub fn new(options: &str) -> Disk {
        let folder = tempfile::tempdir().expect("make a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "fnscope-test"]).arg(folder.path());
        assert!(mount.status().expect("run mount").success(), "{mount:?} needs root");
        Disk(folder)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it until `left` pages, or `left` files, have room.
    fn fill(&self, left: u64, files: bool) -> anyhow::Result<()> {
        let ballast = self.path().join("ballast");
        fs::create_dir(&ballast)?;
        if files {
            let made = (0u64..).take_while(|n| File::create_new(ballast.join(n.to_string())).is_ok()).count();
            return (0..left.min(made as u64))
                .try_for_each(|n| Ok(fs::remove_file(ballast.join(n.to_string()))?));
        }
        let mut file = File::create_new(ballast.join("bytes"))?;
        for piece in [vec![1; 64 << 10], vec![1; 4 << 10]] {
            while file.write_all(&piece).is_ok() {}
        }
        let pages = file.metadata()?.len() / 4096;
        Ok(file.set_len(pages.saturating_sub(left) * 4096)?)
    }

    fn free(&self) -> anyhow::Result<()> {
        Ok(fs::remove_dir_all(self.path().join("ballast"))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// The disk is full at `points` random moments: while appending, beginning a journal, sealing, dropping hours, in the
/// thread that seals. Afterwards there is room again.
pub fn full_disk(points: u64, seed: u64) -> Report {
    let mut report = Report::default();
    let disk = Disk::new("size=4m,nr_inodes=600");
    for point in 0..points {
        let mut random = Random::new(seed.wrapping_add(point));
        let root = disk.path().join(format!("profiles-{point}"));
        report.take(&format!("seed {seed}, point {point}"), |report| full(&disk, &root, &mut random, report));
        let _ = disk.free();
        let _ = fs::remove_dir_all(&root);
    }
    report
}

fn full(disk: &Disk, root: &Path, random: &mut Random, report: &mut Report) -> anyhow::Result<()> {
    let store = Store::create(root)?;
    let lock = Arc::new(store.lock()?);
    let kind = random.below(5);
    let retention = match kind {
        3 => Retention { max_bytes: Some(random.below(80_000)), ..Retention::default() },
        _ => Retention::default(),
    };
    let options = TidyOptions { folded: random.below(4) > 0, retention, ..TidyOptions::default() };
    let at_close = if kind == 4 { AtClose::Seal(lock.clone(), options.into()) } else { AtClose::Keep };
    let mut feed = Feed::begin(&store, "node-1", "6e9d3f62", at_close)?;
    let mut dropped = 0;
    let tidy = |dropped: &mut u64| -> Result<_, StoreError> {
        let tidied = store.tidy(&lock, &options, |_, _| {})?;
        *dropped += tidied.dropped.samples;
        Ok(tidied)
    };
    let before = 3 + random.below(20) as u32;
    feed.append_until(before)?;
    ensure!(feed.lost == 0, "refused while there was room");
    if kind != 4 && random.below(2) == 0 {
        tidy(&mut dropped)?;
        feed.append_until(before + 2)?;
    }
    if matches!(kind, 2 | 3) {
        feed.rotate()?;
    }
    let few = feed.next + 1 + random.below(10) as u32;
    let files = random.below(3) == 0;
    // A frame takes less than a page and a journal two; a seal takes some dozens.
    let left = match kind {
        2 | 3 => random.below(20),
        _ => random.below(2),
    };
    disk.fill(left, files)?;
    let is_full = |error: StoreError| if error.is_full() { Ok(()) } else { Err(error) };
    let mut refused = 0;
    match kind {
        0 => feed.append_until(few)?,
        1 | 4 => {
            refused += u64::from(feed.rotate().map_err(is_full).is_err());
            feed.append_until(few)?;
        }
        _ => match tidy(&mut dropped) {
            Ok(tidied) => refused += tidied.sealed.failed,
            Err(error) => is_full(error)?,
        },
    }
    check(root, &feed.stored, dropped, None).context("while it is full")?;
    report.told += u64::from(refused > 0 || feed.lost > 0);
    disk.free()?;
    feed.append_until(BATCHES)?;
    // What waits is told when a writer ends, at the latest.
    feed.append(Batch::default())?;
    let (stored, lost) = match kind {
        // The thread told of what failed; it is tried again.
        4 => {
            let (stored, lost) = (feed.stored.clone(), feed.lost);
            let _ = feed.finish();
            (stored, lost)
        }
        _ => feed.finish()?,
    };
    report.samples += lost;
    let tidied = tidy(&mut dropped)?;
    ensure!(tidied.sealed.failed == 0 && tidied.left == 0, "with room again: {tidied:?}");
    ensure!(store.journals()?.is_empty(), "a journal is left unsealed");
    check(root, &stored, dropped, Some(lost)).context("with room again")?;
    if options.folded && retention == Retention::default() {
        let folded = folded_samples(&root.join("folded"))?;
        ensure!(folded == stored.values().sum::<u64>(), "the folded tree has {folded} samples");
    }
    Ok(())
}

/// Every stored sample is there once, but for `dropped` that retention told of.
fn check(root: &Path, stored: &BTreeMap<String, u64>, dropped: u64, lost: Option<u64>) -> anyhow::Result<()> {
    let told = ask(&[root])?;
    for damage in &told.damage {
        ensure!(damage.what.contains("closing frame"), "{damage:?}");
    }
    for (stack, count) in &told.counts {
        let known = stored.get(stack).copied().unwrap_or(0);
        ensure!(*count <= known, "{stack}: {count} samples of {known}");
    }
    let (seen, all): (u64, u64) = (told.counts.values().sum(), stored.values().sum());
    ensure!(seen + dropped == all, "{seen} samples of {all}, {dropped} were dropped");
    ensure!(told.listed == seen, "the list has {} samples, the stacks {seen}", told.listed);
    if let Some(lost) = lost.filter(|_| dropped == 0) {
        ensure!(told.lost == lost, "{} samples are told as lost, {lost} were", told.lost);
    }
    Ok(())
}

/// Samples in the folded tree at `folder`.
pub fn folded_samples(folder: &Path) -> anyhow::Result<u64> {
    let mut samples = 0;
    for path in files(folder) {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(File::open(&path)?), &mut text)?;
        for line in text.lines() {
            let count = line.rsplit_once(' ').and_then(|(_, count)| count.parse::<u64>().ok());
            samples += count.with_context(|| format!("{}: {line}", path.display()))?;
        }
    }
    Ok(samples)
}

/// Every file below `folder`, in order.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        if file.path().is_dir() { found.extend(files(&file.path())) } else { found.push(file.path()) }
    }
    found.sort();
    found
}

/// A store at `root` with two sealed hours and one that is not, everything folded; what it tells.
///
/// # Errors
/// If it cannot be made.
pub fn made(root: &Path) -> anyhow::Result<Told> {
    let store = Store::create(root)?;
    let lock = store.lock()?;
    let mut feed = Feed::begin(&store, "node-1", "6e9d3f62", AtClose::Fold)?;
    feed.append_until(24)?;
    feed.rotate()?;
    store.tidy(&lock, &TidyOptions::default(), |_, _| {})?;
    feed.append_until(BATCHES)?;
    feed.finish()?;
    let told = ask(&[root])?;
    ensure!(told.damage.is_empty() && store.journals()?.len() == 1, "it is not as it should be");
    Ok(told)
}

/// Flips `count` bits, one at a time, in files of every kind.
pub fn flips(count: u64, seed: u64) -> Report {
    let folder = tempfile::tempdir().expect("make a folder");
    let root = folder.path().join("profiles");
    let whole = made(&root).expect("make a store");
    let mut report = Report::default();
    let has_bytes = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.len() > 0);
    let files: Vec<PathBuf> = files(&root).into_iter().filter(has_bytes).collect();
    let mut random = Random::new(seed);
    for _ in 0..count {
        let file = &files[random.below(files.len() as u64) as usize];
        let bytes = fs::read(file).expect("read what was written");
        let (at, bit) = (random.below(bytes.len() as u64) as usize, random.below(8));
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        let what = format!("seed {seed}: bit {bit} of byte {at} of {}", file.display());
        changed(&mut report, &root, file, &flipped, &whole, &what);
        fs::write(file, &bytes).expect("write it back");
    }
    report
}

/// Cuts every file at every `step`th byte, and the last one.
pub fn cuts(step: usize) -> Report {
    let folder = tempfile::tempdir().expect("make a folder");
    let root = folder.path().join("profiles");
    let whole = made(&root).expect("make a store");
    // Each CPU cuts a copy of its own.
    let parts = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let (root, whole) = (&root, &whole);
        let started: Vec<_> = (0..parts)
            .map(|part| {
                let own = folder.path().join(format!("profiles-{part}"));
                copy(root, &own);
                scope.spawn(move || cuts_of(&own, whole, step, |nth| nth % parts == part))
            })
            .collect();
        let mut all = Report::default();
        started.into_iter().for_each(|part| all.add(part.join().expect("what panics is caught and told")));
        all
    })
}

/// Those cuts of the store at `root`, all of them counted from zero, that `are_ours`.
fn cuts_of(root: &Path, whole: &Told, step: usize, are_ours: impl Fn(usize) -> bool) -> Report {
    let mut report = Report::default();
    for file in files(root) {
        let bytes = fs::read(&file).expect("read what was written");
        let Some(last) = bytes.len().checked_sub(1) else { continue };
        for (_, cut) in (0..last).step_by(step).chain([last]).enumerate().filter(|(nth, _)| are_ours(*nth)) {
            let what = format!("{} cut at {cut} of {}", file.display(), bytes.len());
            changed(&mut report, root, &file, &bytes[..cut], whole, &what);
        }
        fs::write(&file, &bytes).expect("write it back");
    }
    report
}

/// Copies the folder `from`, with all that is in it, to `to`, which is not there yet.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().expect("run cp");
    assert!(status.success());
}

/// Asks the store at `root` when `file` holds `bytes`, in turn about samples and about totals: the whole answer, or one
/// that names the file.
fn changed(report: &mut Report, root: &Path, file: &Path, bytes: &[u8], whole: &Told, what: &str) {
    fs::write(file, bytes).expect("write to a file of the test");
    report.take(what, |report| {
        let mut told = Told::default();
        let of_samples = report.tried.is_multiple_of(2);
        let asked = if of_samples { ask_samples(&[root], &mut told) } else { ask_totals(&[root], &mut told) };
        if let Err(error) = asked {
            report.told += 1;
            let text = format!("{error:#}");
            let is_format = file.ends_with("FORMAT") && text.contains(&root.display().to_string());
            ensure!(is_format || text.contains(&file.display().to_string()), "does not name it: {text}");
            return Ok(());
        }
        let stem = file.file_stem();
        let named =
            told.damage.iter().any(|damage| damage.file.file_stem() == stem && !damage.what.is_empty());
        report.told += u64::from(named);
        let same = match of_samples {
            true => told.of_samples == whole.of_samples,
            false => told.of_totals == whole.of_totals,
        };
        ensure!(same || named, "another answer, and it is not named: {:?}", told.damage);
        for (stack, count) in told.counts.iter().filter(|(stack, _)| !stack.contains("[lost]")) {
            let known = whole.counts.get(stack).copied().unwrap_or(0);
            ensure!(*count <= known, "{stack}: {count} samples of {known}");
        }
        let seen = told.counts.values().sum::<u64>().max(told.listed);
        ensure!(seen <= whole.listed, "{seen} samples of {}", whole.listed);
        report.samples += whole.listed - seen;
        Ok(())
    });
}
