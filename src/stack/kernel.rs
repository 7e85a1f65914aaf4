//! Names of the kernel's functions, from `/proc/kallsyms`, read once.
//!
//! Without `CAP_SYSLOG`, or with `kernel.kptr_restrict`, every address there reads as zero: then there are no names
//! and the kernel is one frame `[kernel]`. Code that came after the reading (a module, a BPF program) has no name.

use std::io::{self, BufRead, BufReader};

use super::builder::{Candidate, Rank, TableBuilder};
use super::source::ReadError;
use super::table::SymbolTable;

/// Most of `/proc/kallsyms` read, in bytes; 200,000 symbols are 10 MB.
const MAX_BYTES: u64 = 64 << 20;
/// kallsyms tells no sizes: a function reaches to the next one, but not further than this, in bytes.
const MAX_FUNCTION_BYTES: u64 = 1 << 20;

/// The kernel's functions.
#[derive(Debug, Default)]
pub struct KernelSymbols {
    table: Option<SymbolTable>,
}

impl KernelSymbols {
    /// Reads `/proc/kallsyms`. Has to happen before privileges are dropped.
    pub fn read() -> KernelSymbols {
        let table =
            std::fs::File::open("/proc/kallsyms").ok().and_then(|file| parse(BufReader::new(file)).ok());
        KernelSymbols { table: table.flatten() }
    }

    /// From text in the form of `/proc/kallsyms`.
    pub fn parse(reader: impl BufRead) -> KernelSymbols {
        KernelSymbols { table: parse(reader).ok().flatten() }
    }

    /// Whether addresses can be told apart at all.
    pub fn is_readable(&self) -> bool {
        self.table.is_some()
    }

    /// Name and module of the function at `address`; the module is `kernel` for the kernel's own.
    pub fn lookup(&self, address: u64) -> Option<(String, String)> {
        let (name, _) = self.table.as_ref()?.lookup(address)?;
        let text = String::from_utf8_lossy(&name);
        Some(match text.split_once('\t') {
            Some((name, module)) => (name.into(), module_name(module).into()),
            None => (text.into_owned(), "kernel".into()),
        })
    }

    /// Where the function at `address` begins.
    pub fn start(&self, address: u64) -> Option<u64> {
        self.table.as_ref()?.piece(address).map(|piece| piece.start)
    }

    /// Size in memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.table.as_ref().map_or(0, SymbolTable::memory_bytes)
    }
}

/// `[nf_tables]` to `nf_tables`; what the kernel makes itself (`[__builtin__ftrace]`) to `ftrace`.
fn module_name(text: &str) -> &str {
    let name = text.trim().trim_start_matches('[').trim_end_matches(']');
    name.strip_prefix("__builtin__").unwrap_or(name)
}

/// The text symbols of `reader`; none where no address can be read. Lines of another form are passed over.
fn parse(reader: impl BufRead) -> Result<Option<SymbolTable>, ReadError> {
    let mut reader = reader.take(MAX_BYTES);
    let mut builder = TableBuilder::new(Vec::new());
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(ReadError::Malformed("/proc/kallsyms")),
        }
        if let Some((address, rank, name)) = symbol(line.trim_ascii_end()) {
            builder.add_named(Candidate::new(address, MAX_FUNCTION_BYTES, false, rank, 0), name)?;
        }
    }
    if builder.is_empty() { Ok(None) } else { builder.finish().map(Some) }
}

/// `ffffffff81000000 T name` or `ffffffffc0000000 t name\t[module]`: address, rank, name with its module.
fn symbol(line: &[u8]) -> Option<(u64, Rank, &[u8])> {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let address = u64::from_str_radix(std::str::from_utf8(words.next()?).ok()?, 16).ok()?;
    let rank = match words.next()? {
        b"T" | b"W" => Rank::Global,
        b"t" | b"w" => Rank::Local,
        _ => return None,
    };
    let name = words.next().filter(|name| !name.is_empty())?;
    (address != 0).then_some((address, rank, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "0000000000000000 A fixed_percpu_data\n\
        ffffffff81000000 T _stext\n\
        ffffffff81000000 T startup_64\n\
        ffffffff81000100 t __do_something\n\
        ffffffff81000200 D some_data\n\
        ffffffff81000300 W vfs_read\n\
        ffffffffc0001000 t nft_do_chain\t[nf_tables]\n\
        ffffffffc0201000 t bpf_prog_6deef7357e7b4530_sd_fw\t[bpf]\n\
        ffffffffc0400000 t ftrace_trampoline\t[__builtin__ftrace]\n";

    #[test]
    fn functions_are_named_with_their_module() {
        let kernel = KernelSymbols::parse(TEXT.as_bytes());
        for (address, expected) in [
            (0xffff_ffff_8100_0000, Some(("startup_64", "kernel"))),
            (0xffff_ffff_8100_01ff, Some(("__do_something", "kernel"))),
            (0xffff_ffff_8100_0304, Some(("vfs_read", "kernel"))),
            (0xffff_ffff_8200_0000, None),
            (0xffff_ffff_c000_1010, Some(("nft_do_chain", "nf_tables"))),
            (0xffff_ffff_c020_1001, Some(("bpf_prog_6deef7357e7b4530_sd_fw", "bpf"))),
            (0xffff_ffff_c040_0000, Some(("ftrace_trampoline", "ftrace"))),
            (0x1000, None),
        ] {
            let found = kernel.lookup(address);
            let found = found.as_ref().map(|(name, module)| (name.as_str(), module.as_str()));
            assert_eq!(found, expected, "{address:x}");
        }
    }

    #[test]
    fn addresses_that_read_as_zero_are_no_symbols() {
        let hidden = "0000000000000000 T _stext\n0000000000000000 t vfs_read\n";
        assert!(!KernelSymbols::parse(hidden.as_bytes()).is_readable());
        assert!(!KernelSymbols::parse(&b""[..]).is_readable());
    }

    #[test]
    fn two_hundred_thousand_symbols_take_less_than_8_mib() {
        let mut text = String::new();
        for n in 0..200_000u64 {
            let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            text += &format!(
                "{:x} t subsystem_{:x}_do_{}\n",
                0xffff_ffff_8100_0000 + n * 96,
                mixed >> 40,
                n % 977
            );
        }
        let kernel = KernelSymbols::parse(text.as_bytes());
        assert!(kernel.lookup(0xffff_ffff_8100_0000 + 96 * 199_999).is_some());
        assert!(kernel.memory_bytes() < 8 << 20, "{}", kernel.memory_bytes());
    }

    proptest! {
        #[test]
        fn any_text_is_read(
            bytes in prop::collection::vec(any::<u8>(), 0..500),
            lines in "([0-9a-f]{1,17} [TtWwDd] [a-z_]{0,8}(\t\\[[a-z]{0,4}\\]?)?\n){0,20}",
        ) {
            let _ = KernelSymbols::parse(&bytes[..]).lookup(0xffff);
            let _ = KernelSymbols::parse(lines.as_bytes()).lookup(0xffff);
        }
    }
}
