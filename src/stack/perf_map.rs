//! A perf map: the text in which runtimes tell where their code of the moment lies, `start size name` a line, in hex.
//!
//! Pure: bytes in as they are appended, names out. It is the program's own word and may say anything: lines that make
//! no sense are skipped and counted, names are cut, entries and memory are bounded. A later line wins over an earlier
//! one where they overlap, because code moves and its place is used again. Not here: files, see [`super::perf_maps`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most stretches of a map.
const MAX_ENTRIES: usize = 256 << 10;
/// Most memory of a map, in bytes.
const MAX_BYTES: usize = 16 << 20;
/// Most lines that made no sense or for which there was no room, before no more is taken.
const MAX_SKIPPED: u64 = MAX_ENTRIES as u64;
/// Longest name that is kept, in bytes; the rest is cut off.
const MAX_NAME: usize = 512;
/// Longest line in bytes; a longer one is skipped.
const MAX_LINE: usize = 8 << 10;
/// What a stretch takes beside its name, roughly, in bytes.
const ENTRY_BYTES: usize = 80;

/// Names by address.
#[derive(Debug, Default)]
pub struct PerfMap {
    /// By first address: the first behind it, and the name. Without overlaps.
    stretches: BTreeMap<u64, (u64, Arc<str>)>,
    /// A line without its end.
    rest: Vec<u8>,
    /// Whether what comes up to the next end of a line is the rest of one that is too long.
    overlong: bool,
    bytes: usize,
    skipped: u64,
    /// Lines with nothing in them, and pieces of lines that are too long.
    blank: u64,
}

impl PerfMap {
    /// Takes what the file holds next. A line that is not whole waits for its end.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let is_whole = pieces.peek().is_some();
            if self.overlong {
                self.blank += (piece.len() / MAX_LINE) as u64;
                self.overlong = !is_whole;
            } else if self.rest.len() + piece.len() > MAX_LINE {
                self.skipped += 1;
                self.blank += (piece.len() / MAX_LINE) as u64;
                self.rest.clear();
                self.overlong = !is_whole;
            } else if !is_whole {
                self.rest.extend_from_slice(piece);
            } else if self.rest.is_empty() {
                self.line(piece);
            } else {
                let mut line = std::mem::take(&mut self.rest);
                line.extend_from_slice(piece);
                self.line(&line);
                line.clear();
                self.rest = line;
            }
        }
    }

    /// The name of the code at `address`.
    pub fn name(&self, address: u64) -> Option<Arc<str>> {
        let (_, (end, name)) = self.stretches.range(..=address).next_back()?;
        (address < *end).then(|| Arc::clone(name))
    }

    /// Stretches with a name.
    pub fn len(&self) -> usize {
        self.stretches.len()
    }

    /// Whether nothing has a name.
    pub fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Lines that made no sense or for which there was no room.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether so much led nowhere that reading on is not worth it. What was read stays.
    pub fn is_hopeless(&self) -> bool {
        self.skipped + self.blank >= MAX_SKIPPED
    }

    /// What it takes in memory, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.bytes + self.rest.capacity()
    }

    fn line(&mut self, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            self.blank += 1;
            return;
        }
        match parse(line) {
            Some((start, end, name)) => self.insert(start, end, &name),
            None => self.skipped += 1,
        }
    }

    fn insert(&mut self, start: u64, end: u64, name: &str) {
        self.cut(start, end);
        if self.stretches.len() >= MAX_ENTRIES || self.bytes + size(name) > MAX_BYTES {
            // What lay there before is gone all the same.
            self.skipped += 1;
            return;
        }
        self.put(start, end, name.into());
    }

    /// Takes everything out of `start..end`.
    fn cut(&mut self, start: u64, end: u64) {
        if let Some((&before, (stop, _))) = self.stretches.range(..start).next_back()
            && *stop > start
            && let Some((stop, name)) = self.take(before)
        {
            self.put(before, start, Arc::clone(&name));
            // Of what is cut in two, the end has room only where there is some.
            if stop > end && self.stretches.len() < MAX_ENTRIES && self.bytes + size(&name) <= MAX_BYTES {
                self.put(end, stop, name);
            }
        }
        while let Some(&at) = self.stretches.range(start..end).next().map(|(at, _)| at) {
            if let Some((stop, name)) = self.take(at)
                && stop > end
            {
                self.put(end, stop, name);
            }
        }
    }

    fn put(&mut self, start: u64, end: u64, name: Arc<str>) {
        self.bytes += size(&name);
        self.stretches.insert(start, (end, name));
    }

    fn take(&mut self, start: u64) -> Option<(u64, Arc<str>)> {
        let (end, name) = self.stretches.remove(&start)?;
        self.bytes -= size(&name);
        Some((end, name))
    }
}

fn size(name: &str) -> usize {
    ENTRY_BYTES + name.len()
}

/// First address, first address behind it, and name of a line.
fn parse(line: &[u8]) -> Option<(u64, u64, String)> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (start, rest) = word(line)?;
    let (size, name) = word(rest)?;
    let (start, size) = (hex(start)?, hex(size)?);
    let end = start.checked_add(size).filter(|end| *end > start)?;
    let name = String::from_utf8_lossy(name);
    let name = name.trim();
    let cut = name.floor_char_boundary(MAX_NAME);
    let name = shown(name.get(..cut)?);
    (!name.is_empty()).then(|| (start, end, name.into_owned()))
}

/// What stands before the first blanks, and behind them.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.trim_ascii_start();
    let end = text.iter().position(u8::is_ascii_whitespace)?;
    Some((text.get(..end)?, text.get(end..)?.trim_ascii_start()))
}

fn hex(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok())?
}

/// A name as it is shown. What V8 writes of JavaScript, `JS:*price /app/shop.js:12:3`, is `price (shop.js)`: how far the
/// function was compiled when (`~`, `^`, `+`, `*`) would make several of it. All else stays as it is.
pub fn shown(name: &str) -> Cow<'_, str> {
    const KINDS: [&str; 5] = ["JS:", "LazyCompile:", "Function:", "Script:", "Eval:"];
    let Some(of_script) = KINDS.iter().find_map(|kind| name.strip_prefix(kind)) else { return name.into() };
    let whole = of_script.strip_prefix(['~', '^', '+', '*']).unwrap_or(of_script);
    let body = without_position(without_position(whole));
    let (function, script) = split(body);
    let function = if function.is_empty() { "(anonymous)" } else { function };
    match file_of(script) {
        "" => function.to_owned().into(),
        file => format!("{function} ({file})").into(),
    }
}

/// `text` without the `:12` that it ends in.
fn without_position(text: &str) -> &str {
    match text.rsplit_once(':') {
        Some((rest, digits)) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            rest
        }
        _ => text,
    }
}

/// Function and script. Either may hold blanks (`get price`, `/my app/x.js`): a script begins with a blank and what
/// begins a path or an address, else behind the last blank.
fn split(body: &str) -> (&str, &str) {
    const BEGINS: [&str; 5] = [" /", " file:", " node:", " http:", " https:"];
    let known = BEGINS.iter().filter_map(|begin| body.find(begin)).min();
    match known.or_else(|| body.rfind(' ')).and_then(|at| body.split_at_checked(at)) {
        Some((function, script)) => (function.trim(), script.trim()),
        None => (body.trim(), ""),
    }
}

/// The file name of a script; of those inside of node all of it, `node:internal/timers`.
fn file_of(script: &str) -> &str {
    if script.starts_with("node:") {
        return script;
    }
    script.rsplit('/').find(|part| !part.is_empty()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(text: &str) -> PerfMap {
        let mut map = PerfMap::default();
        map.feed(text.as_bytes());
        map
    }

    fn at(map: &PerfMap, address: u64) -> Option<String> {
        map.name(address).map(|name| name.to_string())
    }

    #[test]
    fn names_are_as_people_know_them() {
        for (name, expected) in [
            ("JS:*price /app/shop.js:12:3", "price (shop.js)"),
            ("JS:~price /app/shop.js:12:3", "price (shop.js)"),
            ("LazyCompile:*get price file:///srv/my app/shop.mjs:1:19", "get price (shop.mjs)"),
            ("Function:~handler index.js:7", "handler (index.js)"),
            (
                "JS:~ node:internal/main/run_main_module:1:1",
                "(anonymous) (node:internal/main/run_main_module)",
            ),
            ("JS:^emit node:events:465:44", "emit (node:events)"),
            ("Script:~ /app/a.js:1:1", "(anonymous) (a.js)"),
            ("JS:*foo", "foo"),
            ("Builtin:ArrayMap", "Builtin:ArrayMap"),
            ("RegExp:[a-z]+", "RegExp:[a-z]+"),
            ("int32 [app] Shop::Price(int32)[Tier1]", "int32 [app] Shop::Price(int32)[Tier1]"),
            ("TRACE_7::shop.lua:12", "TRACE_7::shop.lua:12"),
            ("JS:", "(anonymous)"),
        ] {
            assert_eq!(shown(name), expected, "{name}");
        }
    }

    #[test]
    fn later_lines_win_where_they_overlap() {
        let mut map = map("1000 100 a\n1100 100 b\n0x1200 0x100 c\n");
        for (address, name) in [
            (0xfff, None),
            (0x1000, Some("a")),
            (0x10ff, Some("a")),
            (0x1100, Some("b")),
            (0x12ff, Some("c")),
            (0x1300, None),
        ] {
            assert_eq!(at(&map, address).as_deref(), name, "{address:x}");
        }
        // In the middle of one, over parts of two, and over all.
        map.feed(b"1040 10 d\n1180 100 e\n");
        for (address, name) in
            [(0x103f, "a"), (0x1040, "d"), (0x1050, "a"), (0x117f, "b"), (0x1180, "e"), (0x1280, "c")]
        {
            assert_eq!(at(&map, address).as_deref(), Some(name), "{address:x}");
        }
        map.feed(b"0 ffff f\n");
        assert_eq!((map.len(), at(&map, 0x1040).as_deref(), map.skipped()), (1, Some("f"), 0));
        assert_eq!(map.memory_bytes() - map.rest.capacity(), size("f"));
    }

    #[test]
    fn what_makes_no_sense_is_skipped_and_what_comes_in_pieces_is_whole() {
        for line in [
            "x 10 a",
            "10 x a",
            "10 10",
            "10 10 ",
            "10",
            "10 0 empty",
            "ffffffffffffffff 1 beyond",
            "fffffffffffffff0 20 beyond",
            "+10 10 a",
            "10000000000000000 1 a",
        ] {
            let map = map(&format!("{line}\n1000 10 good\n\n"));
            assert_eq!((map.skipped(), map.len()), (1, 1), "{line}");
        }
        let mut map = PerfMap::default();
        for piece in ["1000 1", "00 na", "me", "\n2000 10 b", "\n3000 10 unfinished"] {
            map.feed(piece.as_bytes());
        }
        assert_eq!((at(&map, 0x1080).as_deref(), at(&map, 0x2000).as_deref()), (Some("name"), Some("b")));
        assert_eq!(at(&map, 0x3000), None, "its end may still come");
        let long = format!("1000 10 {}\n2000 10 next\n", "x".repeat(2 * MAX_LINE));
        let mut map = PerfMap::default();
        long.as_bytes().chunks(1_000).for_each(|piece| map.feed(piece));
        assert_eq!((map.skipped(), at(&map, 0x2000).as_deref()), (1, Some("next")));
        let cut = self::map(&format!("1000 10 {}\n", "ä".repeat(MAX_NAME)));
        assert_eq!(cut.name(0x1000).map(|name| name.len()), Some(MAX_NAME));
    }

    #[test]
    fn a_map_without_end_is_bounded() {
        let mut map = PerfMap::default();
        for n in 0..(MAX_ENTRIES as u64 + 1_000) {
            map.feed(format!("{:x} 8 {n:0100}\n", n * 16).as_bytes());
        }
        assert!(map.len() <= MAX_ENTRIES && map.memory_bytes() <= MAX_BYTES + MAX_LINE);
        assert_eq!(map.len() as u64 + map.skipped(), MAX_ENTRIES as u64 + 1_000);
        assert!(at(&map, 0).is_some(), "what was there stays");
        assert!(!map.is_hopeless());
        let nonsense = "?\n".repeat(MAX_ENTRIES);
        map.feed(nonsense.as_bytes());
        assert!(map.is_hopeless());
        for nothing in ["\n", " \n"] {
            let mut map = PerfMap::default();
            map.feed(nothing.repeat(MAX_ENTRIES - 1).as_bytes());
            assert!(!map.is_hopeless());
            map.feed(nothing.as_bytes());
            assert!(map.is_hopeless() && map.skipped() == 0);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_pieces_make_no_difference(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            lines in prop::collection::vec("[0-9a-f]{1,4} [0-9a-f]{1,3} [ -~]{0,20}\n", 0..12),
            at in any::<prop::sample::Index>(),
        ) {
            let mut all = lines.concat().into_bytes();
            all.extend(&bytes);
            let mut whole = PerfMap::default();
            whole.feed(&all);
            let (first, second) = all.split_at(at.index(all.len() + 1));
            let mut pieces = PerfMap::default();
            pieces.feed(first);
            pieces.feed(second);
            prop_assert_eq!(&whole.stretches, &pieces.stretches);
            prop_assert_eq!((whole.skipped, whole.bytes), (pieces.skipped, pieces.bytes));
            let sizes: usize = whole.stretches.values().map(|(_, name)| size(name)).sum();
            prop_assert_eq!(sizes, whole.bytes);
        }

        #[test]
        fn the_last_line_that_covers_an_address_names_it(
            lines in prop::collection::vec((0u64..64, 1u64..32), 1..40),
        ) {
            let text: String =
                lines.iter().enumerate().map(|(n, (at, len))| format!("{at:x} {len:x} f{n}\n")).collect();
            let map = map(&text);
            for address in 0..100 {
                let last = lines.iter().rposition(|(at, len)| (*at..at + len).contains(&address));
                prop_assert_eq!(self::at(&map, address), last.map(|n| format!("f{n}")), "{:x}", address);
            }
        }

        #[test]
        fn any_name_is_shown(name in "(JS:|Script:)?[~*]?\\PC{0,40}") {
            let _ = shown(&name);
        }
    }
}
