//! Places to frames, and stacks of places to stacks of frames: the door of this room.
//!
//! Belongs to one ordinary thread and reads tenants' files there, each once. What is promised and decided:
//! - A place is looked up where the instruction is: exactly for the one that ran, one byte before for return
//!   addresses. The first user frame behind kernel frames is exact too: it is where the kernel was entered, often by
//!   a page fault on a function's first instruction.
//! - Code in no file and code in no known mapping are one frame each, `[anon]+0x0` and `[unknown]+0x0`, and a run of
//!   them is one: their addresses differ by process and would fill the dictionary of stacks with noise. So are kernel
//!   addresses that no symbol covers, `[kernel]+0x0_[k]`. Code made at run time that a perf map names is
//!   `name [jit]_[j]`. Where kallsyms cannot be read the kernel is one `[kernel]`.
//! - In a file, a function without a name is `module+0x<virtual address of its start>`; an instruction outside of
//!   every known function is `[module]+0x<offset in the file>`. Both count as unsymbolized, markers do not.
//! - Functions that were inlined are frames of their own where they are asked for: above the frame of the function
//!   that really ran, `_[i]`. They are looked up once for each distinct place.
//! - What a stripped file lacks is taken from a debug file, also from one that comes later: from then on, and for no
//!   stack made before.
//! - Memory is bounded by the constants below and in [`super::cache`], whatever tenants do: about 29 MiB in all. A
//!   single table may take more than its share, 24 MiB at most, until the next ones come; making one of a million
//!   functions takes about 60 MiB for a third of a second, and 80 MiB more while `.gnu_debugdata` is unpacked. Inlined
//!   functions, where asked for, take 100 MiB more, or one file's debug information: 256 MiB at most, and twice that
//!   while it is unpacked (35 MB for a program of 118 MB).

mod chains;
mod tables;
mod whole;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::chains::Lately;
use self::tables::Known;
use super::cache::{CacheStats, MEMORY_BYTES, TableCache};
use super::debugfile::DebugFiles;
use super::debuginfod::FetchStats;
use super::demangle::demangle;
use super::file::{MappedFile, Place};
use super::inlines::Inliner;
use super::kernel::KernelSymbols;
use super::memo::Memo;
use super::names::NameRef;
use super::options::SymbolOptions;
use super::source::Source;
use super::table::SymbolTable;
use super::vdso;
use crate::model::frame::{self, FrameName};
use crate::model::{Frame, FrameKind, Stack};

/// What is remembered of files (their keys), in bytes.
const FILES_BYTES: usize = 2 << 20;
/// What is remembered of places, in bytes.
const PLACES_BYTES: usize = 3 << 20;
/// What is remembered of functions, in bytes.
const FUNCTIONS_BYTES: usize = 2 << 20;
/// What is remembered of names of code made at run time, in bytes.
const JIT_BYTES: usize = 1 << 20;
const KERNEL_FUNCTIONS_BYTES: usize = 1 << 20;
/// What is remembered of whole stacks, in bytes; their frames are counted although stacks share them.
const STACKS_BYTES: usize = 4 << 20;

/// How long one place is looked up at most, where nothing is read for it: what takes longer counts for as many.
const PLACE: Duration = Duration::from_micros(30);
/// As how many it counts at most: debug information of a large program may take a second, once.
const MOST_PLACES: u128 = 20_000;
/// Most files remembered that are to be read again.
const MAX_OUTDATED: usize = 8192;

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SymbolStats {
    /// Places that were looked up, because they were not known. One that took longer than 30 us, because a file was read
    /// for it, counts for as many as that is, 20,000 at most.
    pub looked_up: u64,
    /// Tables made from files.
    pub tables_built: u64,
    /// Tables of files seen for the first time that were kept already, in memory or on disk.
    pub tables_from_cache: u64,
    /// Tables that were wanted again and could be found neither in memory nor on disk.
    pub tables_lost: u64,
    /// Files that were gone before they could be opened, or could not be read or understood.
    pub files_unreadable: u64,
    /// Files that were read and have no symbol at all.
    pub files_without_symbols: u64,
    /// Tables made with the symbols of a separate debug file.
    pub tables_with_debug_file: u64,
    /// Files whose debug information was given up: damaged, or too much work.
    pub inlines_given_up: u64,
    /// Debug files asked of servers.
    pub fetches: FetchStats,
    /// Damaged files of the cache.
    pub cache_corrupt: u64,
    /// Files of the cache that could not be read or written.
    pub cache_errors: u64,
}

/// Gives places their names.
#[derive(Debug)]
pub struct Symbolizer {
    kernel: KernelSymbols,
    vdso: Option<SymbolTable>,
    tables: TableCache,
    /// What is known of files.
    files: Memo<u64, Known>,
    debug_files: DebugFiles,
    /// Files whose debug file has come, but which were not open to be read again.
    outdated: HashSet<u64>,
    inliner: Option<Inliner>,
    /// Whether inlined functions were asked for.
    inlines: bool,
    places: Memo<Spot, Texts>,
    functions: Memo<(u64, Name, FrameKind), Text>,
    /// By where they begin.
    kernel_functions: Memo<u64, Text>,
    /// Numbers of names of code made at run time, none of them used twice.
    jit: Memo<Arc<str>, u64>,
    next_jit: u64,
    /// By the numbers of their texts, and how they end.
    stacks: Memo<Box<[u64]>, Arc<Stack>>,
    /// Numbers of texts by address, of those that were asked for lately.
    lately: Lately,
    /// Which names of chains still hold: those that were given since it has this number.
    valid_names: u64,
    /// Of the stack at hand: which of its places count, and where they are looked up.
    spots: Vec<(usize, Spot)>,
    /// What the stack at hand is known by.
    numbers: Vec<u64>,
    /// The latest number of a text: none is used twice.
    numbered: u64,
    stats: SymbolStats,
}

/// A place where it is looked up, without what makes no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Spot {
    File(u64, u64),
    Guessed(u64, u64),
    Kernel(u64),
    KernelUnreadable,
    Vdso(u64),
    Anonymous,
    Jit(u64),
    Unknown,
    Truncated,
    Short,
    Root,
}

/// What is known of the function at a place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    Symbol(NameRef),
    Start(u64),
    Offset(u64),
}

/// A place's frame, and those of what was inlined there, the innermost first.
#[derive(Debug, Clone)]
struct Texts {
    own: Text,
    inlined: Option<Arc<[Arc<str>]>>,
    /// Of all of them; its own frame's where nothing was inlined.
    number: u64,
}

/// A frame's text, shared.
#[derive(Debug, Clone)]
struct Text {
    text: Arc<str>,
    symbolized: bool,
    /// Stands for it as long as this lives.
    number: u64,
}

/// A number that no [`Symbolizer`] has had: a chain may be named by several.
fn new_names() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Symbolizer {
    /// Reads kallsyms and the vdso (before privileges are dropped) and keeps symbol tables under `cache_dir`, or in
    /// memory alone.
    pub fn new(cache_dir: Option<&Path>) -> Symbolizer {
        Symbolizer::with_kernel(cache_dir, KernelSymbols::read())
    }

    /// Like [`Symbolizer::new`], with names of the kernel that were read elsewhere.
    pub fn with_kernel(cache_dir: Option<&Path>, kernel: KernelSymbols) -> Symbolizer {
        Symbolizer {
            kernel,
            vdso: vdso::read(),
            tables: TableCache::new(cache_dir),
            files: Memo::new(FILES_BYTES),
            debug_files: DebugFiles::new(&SymbolOptions::default(), None),
            outdated: HashSet::new(),
            inliner: None,
            inlines: false,
            places: Memo::new(PLACES_BYTES),
            functions: Memo::new(FUNCTIONS_BYTES),
            kernel_functions: Memo::new(KERNEL_FUNCTIONS_BYTES),
            jit: Memo::new(JIT_BYTES),
            next_jit: 0,
            stacks: Memo::new(STACKS_BYTES),
            lately: Lately::default(),
            valid_names: new_names(),
            spots: Vec::new(),
            numbers: Vec::new(),
            numbered: 0,
            stats: SymbolStats::default(),
        }
    }

    /// The same with what was chosen; debug files that are fetched are kept under `cache_dir`.
    pub fn with_options(mut self, options: &SymbolOptions, cache_dir: Option<&Path>) -> Symbolizer {
        self.debug_files = DebugFiles::new(options, cache_dir);
        self.inlines = options.inlines;
        self.inliner = options.inlines.then(Inliner::new);
        self
    }

    /// Keeps a quarter of everything from now on and no inlined functions (`true`), or as much as ever.
    pub fn keep_less(&mut self, less: bool) {
        let part = if less { 4 } else { 1 };
        self.tables.limit_memory(MEMORY_BYTES / part);
        self.files.limit(FILES_BYTES / part);
        self.places.limit(PLACES_BYTES / part);
        self.functions.limit(FUNCTIONS_BYTES / part);
        self.kernel_functions.limit(KERNEL_FUNCTIONS_BYTES / part);
        self.jit.limit(JIT_BYTES / part);
        self.stacks.limit(STACKS_BYTES / part);
        self.forget_lately();
        self.inliner = (self.inlines && !less).then(Inliner::new);
    }

    /// Forgets names and stacks that were not asked for since this was called last. Each container brings its own where
    /// an engine gives it files of its own, and they would fill all there is.
    pub fn age(&mut self) {
        self.places.age();
        self.functions.age();
        self.kernel_functions.age();
        self.jit.age();
        self.stacks.age();
        // Or nobody would ask for what is in use.
        self.forget_lately();
    }

    /// Looks for debug files that have come; to be called once in a while. Those that they belong to are read again when
    /// the next stack leads through them.
    pub fn look_for_files(&mut self) {
        let known = self.outdated.len();
        self.outdated.extend(self.debug_files.arrived(Instant::now()));
        if self.outdated.len() > known {
            self.forget_lately();
        }
    }

    /// What was found lately may be found otherwise now.
    fn forget_lately(&mut self) {
        self.lately.clear();
        self.valid_names = new_names();
    }

    /// The frame at `place`. `exact`: the instruction at the place itself ran; else it is a return address and the
    /// call before it is meant.
    pub fn frame(&mut self, place: &Place, exact: bool) -> Frame {
        self.look_again(std::slice::from_ref(place));
        let spot = self.spot(place, exact);
        self.frame_at(place, spot)
    }

    /// Counts since the start.
    pub fn stats(&self) -> SymbolStats {
        let CacheStats { corrupt, errors, from_disk: _ } = self.tables.stats();
        SymbolStats {
            cache_corrupt: corrupt,
            cache_errors: errors,
            inlines_given_up: self.inliner.as_ref().map_or(0, Inliner::failed),
            fetches: self.debug_files.stats(),
            ..self.stats
        }
    }

    /// Whether kernel functions can be named.
    pub fn reads_kernel(&self) -> bool {
        self.kernel.is_readable()
    }

    /// Size of all that is remembered, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.kernel.memory_bytes()
            + self.vdso.as_ref().map_or(0, SymbolTable::memory_bytes)
            + self.tables.memory_bytes()
            + self.files.memory_bytes()
            + self.inliner.as_ref().map_or(0, Inliner::memory_bytes)
            + self.places.memory_bytes()
            + self.functions.memory_bytes()
            + self.kernel_functions.memory_bytes()
            + self.jit.memory_bytes()
            + self.stacks.memory_bytes()
            + self.lately.memory_bytes()
    }

    fn spot(&mut self, place: &Place, exact: bool) -> Spot {
        let at = |address: u64| if exact { address } else { address.saturating_sub(1) };
        match place {
            Place::File { file, offset } => Spot::File(file.id, at(*offset)),
            Place::Guessed { file, offset } => Spot::Guessed(file.id, offset.saturating_sub(1)),
            Place::Kernel(_) if !self.kernel.is_readable() => Spot::KernelUnreadable,
            Place::Kernel(address) => Spot::Kernel(at(*address)),
            Place::Vdso(offset) => Spot::Vdso(at(*offset)),
            Place::Anonymous(_) => Spot::Anonymous,
            Place::Jit { name } => Spot::Jit(self.jit_number(name)),
            Place::Unknown(_) => Spot::Unknown,
            Place::Truncated => Spot::Truncated,
            Place::Short => Spot::Short,
            Place::Root => Spot::Root,
        }
    }

    fn jit_number(&mut self, name: &Arc<str>) -> u64 {
        if let Some(number) = self.jit.get(name) {
            return number;
        }
        self.next_jit += 1;
        self.jit.insert(Arc::clone(name), self.next_jit, name.len());
        self.next_jit
    }

    fn texts(&mut self, place: &Place, spot: Spot) -> Texts {
        if let Some(texts) = self.places.get(&spot) {
            return texts;
        }
        let begun = Instant::now();
        let own = match (place, spot) {
            (Place::File { file, .. }, Spot::File(_, offset)) => {
                self.file_text(file, offset, FrameKind::Native)
            }
            (Place::Guessed { file, .. }, Spot::Guessed(_, offset)) => {
                self.file_text(file, offset, FrameKind::Guessed)
            }
            (Place::Kernel(_), Spot::Kernel(address)) => self.kernel_text(place, address),
            _ => {
                let frame = self.frame_at(place, spot);
                self.text(&frame)
            }
        };
        let inlined = match (place, spot) {
            (
                Place::File { file, .. } | Place::Guessed { file, .. },
                Spot::File(_, offset) | Spot::Guessed(_, offset),
            ) if self.inliner.is_some() => self.inlined(file, offset),
            _ => None,
        };
        let number = if inlined.is_some() { self.number() } else { own.number };
        let texts = Texts { own, inlined, number };
        let bytes =
            texts.inlined.iter().flat_map(|texts| texts.iter()).map(|text| text.len() + 32).sum::<usize>();
        self.places.insert(spot, texts.clone(), texts.own.text.len() + bytes);
        self.stats.looked_up += places_in(begun.elapsed());
        texts
    }

    /// Frames of what was inlined at `offset` of `file`, the innermost first.
    fn inlined(&mut self, file: &MappedFile, offset: u64) -> Option<Arc<[Arc<str>]>> {
        let address = self.table(file)?.address(offset)?;
        let build_id = self.files.get(&file.id).and_then(|known| known.build_id);
        let debug_files = &self.debug_files;
        let inliner = self.inliner.as_mut()?;
        let mut read = None;
        let names = inliner.names(file.id, address, || {
            read = file.fd();
            let own = read.clone().and_then(|fd| Source::file(fd).ok());
            own.into_iter().chain(build_id.and_then(|id| debug_files.open(id))).collect()
        });
        if read.is_some_and(|fd| !file.confirms(&fd)) {
            inliner.forget(file.id);
            return None;
        }
        let module = module_name(&file.name);
        let text = |name: &String| Frame::symbol(name, module, FrameKind::Inlined).format().into();
        (!names.is_empty()).then(|| names.iter().map(text).collect())
    }

    /// Reads files of `places` again whose debug file has come meanwhile; what was remembered of frames goes then.
    fn look_again(&mut self, places: &[Place]) {
        if self.outdated.is_empty() {
            return;
        }
        if self.outdated.len() > MAX_OUTDATED {
            self.outdated.clear();
        }
        let mut read = false;
        for place in places {
            let (Place::File { file, .. } | Place::Guessed { file, .. }) = place else { continue };
            if !self.outdated.contains(&file.id) {
                continue;
            }
            let begun = Instant::now();
            let Some(again) = file.read(|fd| self.read(fd, file)) else { continue };
            self.stats.looked_up += places_in(begun.elapsed());
            self.outdated.remove(&file.id);
            if let Ok((known, _)) = again {
                self.files.insert(file.id, known, 0);
            }
            if let Some(inliner) = &mut self.inliner {
                inliner.forget(file.id);
            }
            read = true;
        }
        if read {
            self.places.clear();
            self.functions.clear();
            self.stacks.clear();
            self.forget_lately();
        }
    }

    /// Like [`Symbolizer::frame_at`] for the kernel, with one text for all places of a function.
    fn kernel_text(&mut self, place: &Place, address: u64) -> Text {
        let start = self.kernel.start(address);
        if let Some(text) = start.and_then(|start| self.kernel_functions.get(&start)) {
            return text;
        }
        let frame = self.frame_at(place, Spot::Kernel(address));
        let text = self.text(&frame);
        if let Some(start) = start {
            self.kernel_functions.insert(start, text.clone(), text.text.len());
        }
        text
    }

    /// Like [`Symbolizer::frame_at`] for a file, with one text for all places of a function.
    fn file_text(&mut self, file: &MappedFile, offset: u64, kind: FrameKind) -> Text {
        let (name, table) = self.name(file, offset);
        let key = (file.id, name, kind);
        if let Some(text) = self.functions.get(&key) {
            return text;
        }
        let text = self.text(&file_frame(file, offset, name, table.as_deref(), kind));
        if !matches!(name, Name::Offset(_)) {
            self.functions.insert(key, text.clone(), text.text.len());
        }
        text
    }

    fn text(&mut self, frame: &Frame) -> Text {
        Text { text: frame.format().into(), symbolized: frame.is_symbolized(), number: self.number() }
    }

    /// The next number of a text.
    fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    fn frame_at(&mut self, place: &Place, spot: Spot) -> Frame {
        let marker =
            |text: &str, kind| Frame { name: FrameName::Marker(text.into()), module: String::new(), kind };
        match (place, spot) {
            (Place::File { file, .. }, Spot::File(_, offset)) => {
                let (name, table) = self.name(file, offset);
                file_frame(file, offset, name, table.as_deref(), FrameKind::Native)
            }
            (Place::Guessed { file, .. }, Spot::Guessed(_, offset)) => {
                let (name, table) = self.name(file, offset);
                file_frame(file, offset, name, table.as_deref(), FrameKind::Guessed)
            }
            (_, Spot::Kernel(address)) => match self.kernel.lookup(address) {
                Some((name, module)) => Frame::symbol(&name, &module, FrameKind::Kernel),
                None => Frame::offset("kernel", 0, FrameKind::Kernel),
            },
            (_, Spot::Vdso(offset)) => {
                let found = self.vdso.as_ref().and_then(|table| table.lookup(table.address(offset)?));
                match found {
                    Some((name, _)) => Frame::symbol(&demangle(&name), "vdso", FrameKind::Native),
                    None => Frame::offset("vdso", offset, FrameKind::Native),
                }
            }
            (_, Spot::KernelUnreadable) => marker(frame::KERNEL_UNREADABLE, FrameKind::Kernel),
            (_, Spot::Truncated) => marker(frame::TRUNCATED, FrameKind::Marker),
            // The root is no frame and is never asked for.
            (_, Spot::Short | Spot::Root) => marker(frame::UNWOUND_SHORT, FrameKind::Marker),
            (_, Spot::Anonymous) => Frame::offset("anon", 0, FrameKind::Native),
            (Place::Jit { name }, Spot::Jit(_)) => Frame::symbol(name, frame::JIT_MODULE, FrameKind::Jit),
            (_, Spot::Unknown | Spot::File(..) | Spot::Guessed(..) | Spot::Jit(_)) => {
                Frame::offset("unknown", 0, FrameKind::Native)
            }
        }
    }

    /// What is known of `offset` in `file`, and the table that knows it.
    fn name(&mut self, file: &MappedFile, offset: u64) -> (Name, Option<Arc<SymbolTable>>) {
        let table = self.table(file);
        let piece = table.as_ref().and_then(|table| table.piece(table.address(offset)?));
        let name = match piece {
            Some(piece) if piece.name == NameRef::NONE => Name::Start(piece.start),
            Some(piece) => Name::Symbol(piece.name),
            None => Name::Offset(offset),
        };
        (name, table)
    }
}

/// As how many places that were looked up it counts what took so long.
fn places_in(took: Duration) -> u64 {
    1 + (took.as_nanos() / PLACE.as_nanos()).min(MOST_PLACES) as u64
}

fn file_frame(
    file: &MappedFile,
    offset: u64,
    name: Name,
    table: Option<&SymbolTable>,
    kind: FrameKind,
) -> Frame {
    let module = module_name(&file.name);
    let symbol = match name {
        Name::Symbol(name) => table.and_then(|table| table.name(name)),
        Name::Start(_) | Name::Offset(_) => None,
    };
    match (symbol, name) {
        (Some(symbol), _) => Frame::symbol(&demangle(&symbol), module, kind),
        (None, Name::Start(start)) => {
            Frame { name: FrameName::FunctionStart(start), module: module.into(), kind }
        }
        (None, _) => Frame::offset(module, offset, kind),
    }
}

/// A mapped file's name without folders and without what the kernel adds to names of removed files. A file without
/// a name is `unknown`; a `memfd:name` stays one.
fn module_name(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.is_empty() { "unknown" } else { name }
}
