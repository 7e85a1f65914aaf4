//! Programs made here by the compiler and taken apart by binutils and xz, as distributions do it. What the tools say
//! themselves is the truth compared with.

use std::io::Write;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::chain::Chain;
use super::demangle::demangle;
use super::file::{MappedFile, Place};
use super::inlines::names_in;
use super::options::SymbolOptions;
use super::space::{AddressSpace, Mapped, Mapping};
use super::symbolize::Symbolizer;
use super::table::SymbolTable;
use crate::model::Quality;

const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static __attribute__((noinline)) int hidden(int n) {
    volatile int sum = 0;
    for (int i = 0; i < n; i++) sum += i;
    return sum;
}
static inline __attribute__((always_inline)) int small(int n) { return hidden(n) * 3; }
static inline __attribute__((always_inline)) int middle(int n) { return small(n) + 7; }
__attribute__((noinline)) int outer(int n) { return middle(n) + 1; }
int main(int count, char **words) {
    char text[100];
    memset(text, count, sizeof text);
    printf("%d %d %d\n", outer(count), (int) strlen(words[0]), atoi(words[0]));
    return text[3];
}
"#;

/// A folder with a program in it.
struct Built {
    folder: tempfile::TempDir,
}

/// Runs `words`, split at blanks, in `folder`, and returns what it prints.
fn run(folder: &Path, words: &str) -> String {
    let mut parts = words.split(' ');
    let mut command = Command::new(parts.next().unwrap());
    command.args(parts).current_dir(folder).stdin(Stdio::null());
    let out = command.output().unwrap_or_else(|error| panic!("{words}: {error}"));
    assert!(out.status.success(), "{words}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

impl Built {
    /// Compiles the program as `program`, with more options for the compiler.
    fn new(options: &str) -> Built {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("program.c"), PROGRAM).unwrap();
        let built = Built { folder };
        built.run(&format!("cc -O2 -g -fno-builtin -Wl,--build-id program.c -o program{options}"));
        built
    }

    fn run(&self, words: &str) -> String {
        run(self.folder.path(), words)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn table(&self, name: &str) -> SymbolTable {
        SymbolTable::from_elf_bytes(&self.bytes(name)).unwrap()
    }

    /// The addresses of `function`, by nm.
    fn function(&self, function: &str) -> Range<u64> {
        let symbols = self.run("nm -S --defined-only program");
        let line = symbols.lines().find(|line| line.ends_with(&format!(" {function}"))).unwrap();
        let mut numbers = line.split(' ').map(|word| u64::from_str_radix(word, 16).unwrap_or(0));
        let (start, size) = (numbers.next().unwrap(), numbers.next().unwrap());
        start..start + size
    }

    /// The mapped file `name`, and the place of `function`'s third byte in it.
    fn place(&self, id: u64, name: &str, function: &str) -> (Arc<MappedFile>, Place) {
        let fd: OwnedFd = std::fs::File::open(self.path(name)).unwrap().into();
        let file = Arc::new(MappedFile::new(id, "program".into(), None, Some(fd)));
        let address = self.function(function).start + 3;
        let table = self.table("program");
        let offset = (0..0x10000).find(|offset| table.address(*offset) == Some(address)).unwrap();
        (Arc::clone(&file), Place::File { file, offset })
    }

    /// `objcopy --only-keep-debug` into the folder of debug files `debug`.
    fn keep_debug(&self) {
        let notes = self.run("readelf -n program");
        let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).unwrap();
        let path = format!("debug/.build-id/{}", &id[..2]);
        std::fs::create_dir_all(self.path(&path)).unwrap();
        self.run(&format!("objcopy --only-keep-debug program {path}/{}.debug", &id[2..]));
    }

    fn options(&self) -> SymbolOptions {
        let look_again = Duration::ZERO;
        SymbolOptions { debug_dirs: vec![self.path("debug")], look_again, ..SymbolOptions::default() }
    }
}

fn name_at(table: &SymbolTable, address: u64) -> Option<String> {
    table.lookup(address).map(|(name, _)| demangle(&name))
}

#[test]
fn unwind_tables_tell_functions_of_stripped_files_whatever_else_is_gone() {
    let built = Built::new("");
    let mut variants = vec!["stripped".to_string()];
    built.run("strip --strip-all program -o stripped");
    built.run("objcopy --remove-section .eh_frame_hdr stripped without-hdr");
    variants.push("without-hdr".into());
    let mut headless = built.bytes("stripped");
    headless[40..48].fill(0);
    headless[58..64].fill(0);
    std::fs::write(built.path("headless"), &headless).unwrap();
    variants.push("headless".into());
    for variant in &variants {
        let table = built.table(variant);
        for function in ["hidden", "outer", "main"] {
            let addresses = built.function(function);
            let piece = table.piece(addresses.start + 2).unwrap_or_else(|| panic!("{variant}: {function}"));
            assert_eq!((piece.start, piece.end), (addresses.start, addresses.end), "{variant}: {function}");
            assert_eq!(table.lookup(addresses.start + 2), None, "{variant}: it has no name");
            let behind = addresses.end;
            assert!(table.piece(behind).is_none_or(|piece| piece.start == behind), "{variant}: a gap");
        }
    }
    // Frames are the same for every process, and whatever is left of the file.
    let frames = variants.iter().enumerate().map(|(id, variant)| {
        let (_, place) = built.place(id as u64, variant, "hidden");
        Symbolizer::new(None).frame(&place, true).format()
    });
    let expected = format!("program+0x{:x}", built.function("hidden").start);
    assert!(frames.into_iter().all(|frame| frame == expected), "{expected}");
}

#[test]
fn the_small_symbols_of_fedora_are_read() {
    let built = Built::new("");
    let script = "nm -D program --format=posix --defined-only | awk '{ print $1 }' | sort > dynsyms
        nm program --format=posix --defined-only |
            awk '{ if ($2 == \"T\" || $2 == \"t\" || $2 == \"D\") print $1 }' | sort > funcsyms
        comm -13 dynsyms funcsyms > keep_symbols
        objcopy --only-keep-debug program debug
        objcopy -S --remove-section .gdb_index --remove-section .comment \
            --keep-symbols=keep_symbols debug mini_debuginfo
        strip --strip-all -R .comment program -o packed
        xz mini_debuginfo
        objcopy --add-section .gnu_debugdata=mini_debuginfo.xz packed";
    let status = Command::new("sh").args(["-ec", script]).current_dir(built.folder.path()).status().unwrap();
    assert!(status.success());
    let table = built.table("packed");
    for function in ["hidden", "outer", "main"] {
        let addresses = built.function(function);
        assert_eq!(name_at(&table, addresses.end - 1).as_deref(), Some(function));
    }
    // Damaged, it is left out, and starts of functions still are there.
    let mut bent = built.bytes("packed");
    let at = bent.windows(6).position(|bytes| bytes == b"\xfd7zXZ\0").unwrap();
    bent[at + 40] ^= 0xff;
    let table = SymbolTable::from_elf_bytes(&bent).unwrap();
    let hidden = built.function("hidden");
    assert_eq!(
        (name_at(&table, hidden.start), table.piece(hidden.start).unwrap().start),
        (None, hidden.start)
    );
}

#[test]
fn stubs_are_named_as_objdump_names_them() {
    for options in [" -Wl,-z,lazy", " -Wl,-z,now", " -fcf-protection=full -Wl,-z,ibtplt", " -no-pie"] {
        let built = Built::new(options);
        built.run("strip --strip-all program -o stripped");
        let table = built.table("stripped");
        let listing = built.run("objdump -d --section=.plt --section=.plt.sec --section=.plt.got program");
        let mut stubs = 0;
        for line in listing.lines() {
            let Some((address, name)) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")) else {
                continue;
            };
            let address = u64::from_str_radix(address, 16).unwrap();
            // The first entry of `.plt` finds functions for the others; objdump calls it by a neighbour's name.
            if !name.ends_with("@plt") || name.contains("-0x") || name.contains('*') {
                continue;
            }
            assert_eq!(name_at(&table, address + 1).as_deref(), Some(name), "{options} {address:x}");
            stubs += 1;
        }
        assert!(stubs >= 4, "{options}: {listing}");
    }
}

#[test]
fn a_debug_file_that_comes_later_names_frames_from_then_on() {
    let built = Built::new("");
    built.run("strip --strip-all program -o stripped");
    let cache = tempfile::tempdir().unwrap();
    let mut symbols = Symbolizer::new(Some(cache.path())).with_options(&built.options(), None);
    let (file, place) = built.place(1, "stripped", "hidden");
    let unnamed = format!("program+0x{:x}", built.function("hidden").start);
    let stack =
        |symbols: &mut Symbolizer| symbols.stack(&[place.clone(), Place::Root]).frames()[0].to_string();
    let Place::File { offset, .. } = place else { unreachable!() };
    let mapping =
        Mapping { start: 0x1000, end: 0x9000, file_offset: 0, what: Mapped::File(Arc::clone(&file)) };
    let chain = Chain::new(vec![0x1000 + offset], 0, AddressSpace::new(1, vec![mapping]).into(), false);
    let by_address = |symbols: &mut Symbolizer| symbols.stack_of(&chain).frames().last().unwrap().to_string();
    symbols.look_for_files();
    assert_eq!((stack(&mut symbols), by_address(&mut symbols)), (unnamed.clone(), unnamed.clone()));
    built.keep_debug();
    symbols.look_for_files();
    assert_eq!(by_address(&mut symbols), "hidden [program]");
    assert_eq!(stack(&mut symbols), "hidden [program]");
    assert_eq!(symbols.stats().tables_with_debug_file, 1);
    assert!(file.close());
    assert_eq!(stack(&mut symbols), "hidden [program]");
    // Another agent finds it at once, and one without debug files does not see what was kept with one.
    let (_, place) = built.place(2, "stripped", "hidden");
    let mut again = Symbolizer::new(Some(cache.path())).with_options(&built.options(), None);
    assert_eq!(again.frame(&place, true).format(), "hidden [program]");
    assert_eq!((again.stats().tables_built, again.stats().tables_from_cache), (0, 1));
    assert_eq!(Symbolizer::new(Some(cache.path())).frame(&place, true).format(), unnamed);
}

#[test]
fn a_debug_file_of_another_program_names_nothing() {
    let (built, other) = (Built::new(""), Built::new(" -O1"));
    built.run("strip --strip-all program -o stripped");
    built.keep_debug();
    let find = |built: &Built| {
        built.run("find debug -name *.debug").lines().next().map(|path| built.path(path)).unwrap()
    };
    other.keep_debug();
    std::fs::copy(find(&other), find(&built)).unwrap();
    let (_, place) = built.place(1, "stripped", "hidden");
    let mut symbols = Symbolizer::new(None).with_options(&built.options(), None);
    let frame = symbols.frame(&place, true).format();
    assert_eq!(frame, format!("program+0x{:x}", built.function("hidden").start));
}

/// What `addr2line` says is inlined at `addresses`, the innermost first, without the function itself.
fn told_by_addr2line(program: &Path, addresses: &[u64]) -> Vec<Vec<String>> {
    let mut child = Command::new("addr2line")
        .args(["-a", "-i", "-f", "-e"])
        .arg(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input: String = addresses.iter().map(|address| format!("{address:#x}\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let mut told: Vec<Vec<String>> = Vec::new();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("0x") {
            told.push(Vec::new());
        } else {
            told.last_mut().unwrap().push(demangle(line.as_bytes()));
            lines.next(); // file and line
        }
    }
    told.iter_mut().for_each(|names| drop(names.pop()));
    told
}

#[test]
fn inlined_functions_are_those_that_addr2line_tells() {
    for options in ["", " -gdwarf-4", " -gz=zlib", " -gdwarf-3", " -flto"] {
        let built = Built::new(options);
        let addresses: Vec<u64> = built.function("outer").chain(built.function("main")).collect();
        let told = told_by_addr2line(&built.path("program"), &addresses);
        let found = names_in(&built.bytes("program"), &addresses);
        assert_eq!(found, told, "{options}");
        assert!(found.iter().any(|names| *names == ["small", "middle"]), "{options}: {found:?}");
    }
}

#[test]
fn inlined_functions_stand_above_the_one_that_ran() {
    let built = Built::new("");
    built.run("strip --strip-debug program -o plain");
    built.keep_debug();
    let options = SymbolOptions { inlines: true, ..built.options() };
    for (id, name) in [(1, "program"), (2, "plain")] {
        let mut symbols = Symbolizer::new(None).with_options(&options, None);
        let (file, Place::File { offset, .. }) = built.place(id, name, "outer") else { unreachable!() };
        let length = built.function("outer").end - built.function("outer").start;
        let stacks: Vec<Vec<String>> = (0..length - 3)
            .map(|further| {
                let place = Place::File { file: Arc::clone(&file), offset: offset + further };
                let stack = symbols.stack(&[place, Place::Root]);
                assert_eq!(stack.quality(), Quality::COMPLETE);
                stack.frames().iter().map(|frame| frame.to_string()).collect()
            })
            .collect();
        let expected = ["outer [program]", "middle [program]_[i]", "small [program]_[i]"];
        assert!(stacks.iter().any(|stack| *stack == expected), "{name}: {stacks:?}");
        assert!(symbols.memory_bytes() < 12 << 20);
    }
}

#[test]
fn our_own_inlined_functions_are_those_that_addr2line_tells() {
    let path = std::env::current_exe().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let table = SymbolTable::from_elf_bytes(&bytes).unwrap();
    let addresses: Vec<u64> =
        (0..bytes.len() as u64).step_by(4999).filter_map(|offset| table.address(offset)).take(400).collect();
    let told = told_by_addr2line(&path, &addresses);
    let found = names_in(&bytes, &addresses);
    assert_eq!((found.len(), told.len()), (addresses.len(), addresses.len()));
    // The innermost of several, binutils calls by the symbol that covers the address if it knows no mangled name of it.
    let outer = |names: &[String]| names.get(1..).map(<[String]>::to_vec);
    for ((found, told), address) in found.iter().zip(&told).zip(&addresses) {
        assert_eq!(outer(found), outer(told), "{address:#x}: {found:?} {told:?}");
    }
    assert!(found.iter().any(|names| names.len() > 1));
}
