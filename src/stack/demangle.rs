//! Names as a person wrote them: Rust (both manglings) and C++; every other name stays as it is.
//!
//! - Rust's trailing hash goes; C++ keeps its parameters (they tell overloads apart) and loses its return type.
//! - Symbol versions (`@@GLIBC_2.2.5`) go, and so do suffixes that say how a copy was compiled or linked (`.isra.0`,
//!   `.constprop.0`, `.llvm.123`, `.lto_priv.0`, `.localalias`, Go's `.abi0`): another build has others, and who reads
//!   the source knows one function.
//! - Suffixes that say which part of a function it is stay behind the name, without their number: `foo(int).cold`. A
//!   `.part` too, since its function calls it: without, that would read as recursion.
//! - `std::string` is called so, and inline namespaces of the C++ libraries are left out.
//! - A PLT stub keeps its `@plt`.
//!
//! Names come from tenants: input, depth and output are bounded, so a name that would unfold without end is cut.

use std::fmt::{self, Write};

/// Longest mangled name that is taken apart, in bytes.
const MAX_MANGLED_BYTES: usize = 4096;
/// Longest result in bytes; a longer one ends in `…`. Frames are cut at less.
const MAX_BYTES: usize = 2048;
/// Most suffixes that are looked at.
const MAX_SUFFIXES: usize = 8;
/// Depth of nesting in C++ names, for parsing and writing each.
const MAX_DEPTH: u32 = 96;

/// The name that `raw` stands for.
pub fn demangle(raw: &[u8]) -> String {
    if let Some(target) = raw.strip_suffix(b"@plt").filter(|target| !target.is_empty()) {
        return demangle_whole(target) + "@plt";
    }
    demangle_whole(raw)
}

fn demangle_whole(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let (name, parts) = without_suffixes(without_version(&text));
    if name.len() > MAX_MANGLED_BYTES {
        return bounded(|out| write!(out, "{name}{parts}"));
    }
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return bounded(|out| write!(out, "{rust:#}{parts}"));
    }
    if name.starts_with("_Z") {
        let (mangled, suffix) = name.split_at(name.find('.').unwrap_or(name.len()));
        if let Some(plain) = cpp(mangled) {
            return readable(&plain) + suffix + &parts;
        }
    }
    bounded(|out| write!(out, "{name}{parts}"))
}

/// A C++ name with the library's own names as people write them.
fn readable(name: &str) -> String {
    const SHORTER: [(&str, &str); 4] = [
        ("std::__cxx11::", "std::"),
        ("std::__1::", "std::"),
        ("std::basic_string<char, std::char_traits<char>, std::allocator<char> >", "std::string"),
        ("std::basic_string<char, std::char_traits<char>, std::allocator<char>>", "std::string"),
    ];
    let mut name = name.to_string();
    for (long, short) in SHORTER {
        if name.contains(long) {
            name = name.replace(long, short);
        }
    }
    name
}

fn cpp(mangled: &str) -> Option<String> {
    let parse = cpp_demangle::ParseOptions::default().recursion_limit(MAX_DEPTH);
    let show = cpp_demangle::DemangleOptions::new().no_return_type().recursion_limit(MAX_DEPTH);
    let symbol = cpp_demangle::BorrowedSymbol::new_with_options(mangled.as_bytes(), &parse).ok()?;
    let mut out = Bounded { text: String::new(), cut: false };
    let written = symbol.structured_demangle(&mut out, &show);
    (out.cut || written.is_ok()).then(|| out.finish())
}

/// `foo@@VERSION` and `foo@VERSION` without the version. An `@` elsewhere belongs to the name.
fn without_version(name: &str) -> &str {
    match name.split_once('@') {
        Some((plain, version)) if !plain.is_empty() => {
            let version = version.strip_prefix('@').unwrap_or(version);
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            if version.chars().all(word) { plain } else { name }
        }
        _ => name,
    }
}

/// Without what compilers and linkers append to copies of a function; and the suffixes of its parts.
fn without_suffixes(name: &str) -> (&str, String) {
    if let Some(plain) = name.strip_suffix(".abi0").filter(|plain| !plain.is_empty()) {
        return (plain, String::new());
    }
    let mut name = name;
    let mut parts = Vec::new();
    for _ in 0..MAX_SUFFIXES {
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let Some((front, last)) = name.rsplit_once('.') else { break };
        // A word alone, or a word and a number.
        let (plain, word, numbered) = match front.rsplit_once('.').filter(|_| number(last)) {
            Some((plain, word)) => (plain, word, true),
            None => (front, last, false),
        };
        if plain.is_empty() {
            break;
        }
        match (word, numbered) {
            ("isra" | "constprop" | "llvm" | "lto_priv" | "__uniq" | "localalias", true)
            | ("localalias", false) => {}
            ("cold" | "warm" | "part", true) => parts.push(word),
            ("cold" | "warm", false) => parts.push(word),
            _ => break,
        }
        name = plain;
    }
    (name, parts.iter().rev().flat_map(|part| [".", part]).collect())
}

fn bounded(write: impl FnOnce(&mut Bounded) -> fmt::Result) -> String {
    let mut out = Bounded { text: String::new(), cut: false };
    let _ = write(&mut out); // fails where it is cut, which shows
    out.finish()
}

/// Text up to [`MAX_BYTES`]; more is an error, which stops whoever writes.
struct Bounded {
    text: String,
    cut: bool,
}

impl Bounded {
    fn finish(mut self) -> String {
        if self.cut {
            self.text.push('…');
        }
        self.text
    }
}

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let free = MAX_BYTES.saturating_sub(self.text.len());
        let taken = part.get(..part.floor_char_boundary(free)).unwrap_or_default();
        self.text.push_str(taken);
        self.cut |= taken.len() < part.len();
        if self.cut { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_read_as_they_were_written() {
        for (raw, name) in [
            ("main", "main"),
            ("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad"),
            ("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE.llvm.1234567", "core::fmt::Formatter::pad"),
            ("_RNvCskwGfYPst2Cb_3foo16example_function", "foo::example_function"),
            ("_ZN3foo3barEi", "foo::bar(int)"),
            ("_ZN3foo3barEi.cold", "foo::bar(int).cold"),
            ("_ZN3foo3barEi.constprop.0", "foo::bar(int)"),
            ("_ZN3foo3barEi.isra.0.constprop.1.cold", "foo::bar(int).cold"),
            ("_ZN3foo3barEi.cold.17", "foo::bar(int).cold"),
            (
                "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE.llvm.1234567.cold",
                "core::fmt::Formatter::pad.cold",
            ),
            ("_RNvCskwGfYPst2Cb_3foo16example_function.warm", "foo::example_function.warm"),
            ("main.cold", "main.cold"),
            ("work.localalias", "work"),
            ("work.123", "work.123"),
            ("main.isra", "main.isra"),
            ("main.init.0", "main.init.0"),
            (".cold", ".cold"),
            ("memcpy@plt", "memcpy@plt"),
            ("_ZN3foo3barEi@plt", "foo::bar(int)@plt"),
            ("@plt", "@plt"),
            ("_Z4workNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE", "work(std::string)"),
            (
                "_ZNSt3__16vectorIiNS_9allocatorIiEEE9push_backEOi",
                "std::vector<int, std::allocator<int> >::push_back(int&&)",
            ),
            ("_Z3addIiET_S0_S0_", "add<int>(int, int)"),
            ("work.part.0.lto_priv.3", "work.part"),
            ("memcpy@@GLIBC_2.14", "memcpy"),
            ("memcpy@GLIBC_2.2.5", "memcpy"),
            ("_ZNSt6thread4joinEv@@GLIBCXX_3.4.11", "std::thread::join()"),
            ("main.(*Server).handle.func1", "main.(*Server).handle.func1"),
            ("gopkg.in/yaml%2ev3.(*decoder).scalar", "gopkg.in/yaml%2ev3.(*decoder).scalar"),
            ("runtime.rt0_go.abi0", "runtime.rt0_go"),
            ("Module.f@plus one", "Module.f@plus one"),
            ("_Zwhatever", "_Zwhatever"),
            ("_R", "_R"),
            ("@", "@"),
            ("", ""),
        ] {
            assert_eq!(demangle(raw.as_bytes()), name, "{raw}");
        }
        assert_eq!(demangle(b"\xff\xfea"), "\u{fffd}\u{fffd}a");
    }

    #[test]
    fn a_name_that_unfolds_without_end_is_cut() {
        // Each parameter is a pair of the one before: 2^n words.
        let pairs: String = (0..40).map(|n| format!("1PIS{}_S{}_E", base36(n), base36(n))).collect();
        let rust: String = format!("_RINvC1a1b{}E", "TB8_B8_E".repeat(300));
        for hostile in [format!("_Z1f1AIiE{pairs}"), rust, "x".repeat(1 << 20), "_Z".repeat(4000)] {
            let name = demangle(hostile.as_bytes());
            assert!(name.len() <= MAX_BYTES + '…'.len_utf8(), "{}", name.len());
        }
    }

    fn base36(number: usize) -> String {
        let digits: Vec<char> = ('0'..='9').chain('A'..='Z').collect();
        if number == 0 { String::new() } else { digits[(number - 1) % 36].to_string() }
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_name(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            mangled in "(_Z|_R|_ZN|_RIN)[A-Za-z0-9_.@]{0,80}",
        ) {
            prop_assert!(demangle(&bytes).len() <= MAX_BYTES + 3);
            prop_assert!(demangle(mangled.as_bytes()).len() <= MAX_BYTES + MAX_MANGLED_BYTES);
        }
    }
}
