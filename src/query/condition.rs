//! Conditions under which a comparison fails a build: `share(json_*) > 10%`, `delta(share(hash)) > 2.5pt`,
//! `delta(total) > 15%`, `delta(cpu_per_start) > 20%`. Here: how they are written, and which frames they mean.
//!
//! ```text
//! condition = quantity ">" number unit
//! quantity  = share | "delta(" share ")" | "delta(" cpu ")"
//! share     = ( "share(" | "self(" ) frames ")"
//! cpu       = "total" | "cpu_per_start" | "cpu_per_instance"
//! unit      = "%" | "pt"            points for the delta of a share, per cent else
//! ```
//!
//! `frames` is a symbol, or a glob in which `*` stands for any text and `?` for a character; `\` takes their meaning
//! away. It may hold any character, parentheses and `>` too: the condition is read from both ends. Promises: what is
//! written is read back the same, and any text is a condition or an error.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::diff::FrameKey;

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What is measured.
    pub quantity: Quantity,
    /// What it must not exceed: a part of one, 0.1 for `10%`; of a share's delta 0.025 for `2.5pt`.
    pub bar: f64,
    text: String,
}

/// What a condition measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quantity {
    /// B's share of samples.
    Share(Frames),
    /// B's share of samples less that of A.
    ShareDelta(Frames),
    /// By which part B's CPU time exceeds A's.
    CpuDelta(Cpu),
}

/// Which CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// Of all instances together.
    Total,
    /// Of the mean cold start.
    PerStart,
    /// Of the mean instance.
    PerInstance,
}

/// Frames, all together, and where they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    /// Whether as the leaf alone (`self`) or anywhere on the stack (`share`).
    pub own: bool,
    /// Which.
    pub pattern: Pattern,
}

/// A symbol, or a glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Token>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Just(char),
    One,
    Any,
}

/// Why a text is no condition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConditionError {
    /// It has no `>`.
    #[error("write `QUANTITY > BAR`, such as `delta(share(parse)) > 2.5pt`")]
    NoBar,
    /// The bar is no number with a unit.
    #[error("`{0}` is no bar; write a number and `%` or `pt`, such as `10%`")]
    Bar(String),
    /// The bar's unit does not fit.
    #[error("{quantity} is measured in `{unit}`")]
    Unit {
        /// What is measured.
        quantity: &'static str,
        /// The unit it has.
        unit: &'static str,
    },
    /// What is measured is nothing known.
    #[error(
        "`{0}` is nothing to measure; write share(FRAME), self(FRAME), delta(share(FRAME)), delta(self(FRAME)), \
         delta(total), delta(cpu_per_start) or delta(cpu_per_instance)"
    )]
    Quantity(String),
    /// No frame is named, or its name is too long.
    #[error("name a frame of 1 to {MAX_PATTERN} bytes in `share(FRAME)`")]
    Frame,
}

/// Longest name of a frame in bytes: the longest symbol that is stored is no longer.
const MAX_PATTERN: usize = 2_048;

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Condition, ConditionError> {
        let text = text.trim();
        // The last one: a frame may hold others, a bar none.
        let (left, right) = text.rsplit_once('>').ok_or(ConditionError::NoBar)?;
        let quantity = quantity(left.trim())?;
        let (number, unit) = bar(right.trim())?;
        let (what, expected) = match &quantity {
            Quantity::Share(_) => ("a share", "%"),
            Quantity::ShareDelta(_) => ("the delta of a share", "pt"),
            Quantity::CpuDelta(_) => ("the delta of CPU time", "%"),
        };
        if unit != expected {
            return Err(ConditionError::Unit { quantity: what, unit: expected });
        }
        Ok(Condition { quantity, bar: number / 100.0, text: text.into() })
    }
}

impl fmt::Display for Condition {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn quantity(text: &str) -> Result<Quantity, ConditionError> {
    if let Some(frames) = frames(text)? {
        return Ok(Quantity::Share(frames));
    }
    let unknown = || ConditionError::Quantity(text.chars().take(80).collect());
    let inner = text.strip_prefix("delta(").and_then(|rest| rest.strip_suffix(')')).ok_or_else(unknown)?;
    let inner = inner.trim();
    if let Some(frames) = frames(inner)? {
        return Ok(Quantity::ShareDelta(frames));
    }
    match inner {
        "total" => Ok(Quantity::CpuDelta(Cpu::Total)),
        "cpu_per_start" => Ok(Quantity::CpuDelta(Cpu::PerStart)),
        "cpu_per_instance" => Ok(Quantity::CpuDelta(Cpu::PerInstance)),
        _ => Err(unknown()),
    }
}

fn frames(text: &str) -> Result<Option<Frames>, ConditionError> {
    let inner = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    let (own, name) = match (inner("share"), inner("self")) {
        (Some(name), _) => (false, name),
        (None, Some(name)) => (true, name),
        (None, None) => return Ok(None),
    };
    Ok(Some(Frames { own, pattern: name.parse()? }))
}

/// A number and its unit.
fn bar(text: &str) -> Result<(f64, &str), ConditionError> {
    let wrong = || ConditionError::Bar(text.chars().take(80).collect());
    let unit = ["%", "pt"].into_iter().find(|unit| text.ends_with(unit)).ok_or_else(wrong)?;
    let number = text.strip_suffix(unit).unwrap_or_default().trim_end();
    let plain = number.strip_prefix('-').unwrap_or(number);
    if !plain.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(wrong());
    }
    let number = number.parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(wrong)?;
    Ok((number, unit))
}

impl FromStr for Pattern {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Pattern, ConditionError> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_PATTERN {
            return Err(ConditionError::Frame);
        }
        let mut parts = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let token = match c {
                '*' => Token::Any,
                '?' => Token::One,
                // Elsewhere it stands for itself: symbols have their own `\xNN`.
                '\\' => Token::Just(chars.next_if(|c| matches!(c, '*' | '?' | '\\')).unwrap_or('\\')),
                c => Token::Just(c),
            };
            // Two `*` are one; that also keeps matching short.
            if token != Token::Any || parts.last() != Some(&Token::Any) {
                parts.push(token);
            }
        }
        Ok(Pattern { text: text.into(), parts })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    /// Whether it means `frame`, by its name or by `name [module]`. A symbol that holds `*` or `?` itself is meant by
    /// its own text too.
    pub fn means(&self, frame: &FrameKey) -> bool {
        let with_module = || frame.module.as_ref().map(|module| format!("{} [{module}]", frame.frame));
        let is = |name: &str| self.text == name || self.matches(name);
        is(&frame.frame) || with_module().is_some_and(|name| is(&name))
    }

    /// Whether the whole of `name` fits. At most as many steps as both lengths multiplied: of two `*` only the last
    /// is ever tried again.
    fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut part) = (0, 0);
        let mut again: Option<(usize, usize)> = None;
        while at < name.len() {
            match (self.parts.get(part), name.get(at)) {
                (Some(Token::Any), _) => {
                    again = Some((at, part));
                    part += 1;
                }
                (Some(Token::One), _) => (at, part) = (at + 1, part + 1),
                (Some(Token::Just(c)), Some(found)) if c == found => (at, part) = (at + 1, part + 1),
                _ => match again {
                    Some((from, star)) => {
                        again = Some((from + 1, star));
                        (at, part) = (from + 1, star + 1);
                    }
                    None => return false,
                },
            }
        }
        self.parts.iter().skip(part).all(|rest| *rest == Token::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(name: &str) -> FrameKey {
        FrameKey { frame: name.into(), module: Some("pi".into()) }
    }

    #[test]
    fn conditions_say_what_they_measure() {
        let frames = |own, name: &str| Frames { own, pattern: name.parse().unwrap() };
        for (text, quantity, bar) in [
            ("share(hash) > 10%", Quantity::Share(frames(false, "hash")), 0.1),
            (" self( json_* )>0.5 % ", Quantity::Share(frames(true, "json_*")), 0.005),
            ("delta(share(hash)) > 2.5pt", Quantity::ShareDelta(frames(false, "hash")), 0.025),
            ("delta( self(a)) > -1pt", Quantity::ShareDelta(frames(true, "a")), -0.01),
            ("delta(total) > 15%", Quantity::CpuDelta(Cpu::Total), 0.15),
            ("delta(cpu_per_start) > 20%", Quantity::CpuDelta(Cpu::PerStart), 0.2),
            ("delta(cpu_per_instance)>20%", Quantity::CpuDelta(Cpu::PerInstance), 0.2),
            ("share(operator>(A, B)) > 1%", Quantity::Share(frames(false, "operator>(A, B)")), 0.01),
            ("share(f(int*)) > 1%", Quantity::Share(frames(false, "f(int*)")), 0.01),
        ] {
            let read: Condition = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read.quantity, quantity, "{text}");
            assert!((read.bar - bar).abs() < 1e-12, "{text}: {}", read.bar);
            assert_eq!(read.to_string(), text.trim());
        }
    }

    #[test]
    fn faults_are_named() {
        for (text, says) in [
            ("", "QUANTITY > BAR"),
            ("share(f) < 10%", "QUANTITY > BAR"),
            ("share(f) > ten%", "`ten%` is no bar"),
            ("share(f) > 10", "`10` is no bar"),
            ("share(f) > %", "`%` is no bar"),
            ("share(f) > 1e3%", "`1e3%` is no bar"),
            ("share(f) > inf%", "`inf%` is no bar"),
            ("share(f) > 10pt", "a share is measured in `%`"),
            ("delta(share(f)) > 10%", "the delta of a share is measured in `pt`"),
            ("delta(total) > 10pt", "the delta of CPU time is measured in `%`"),
            ("share() > 10%", "name a frame"),
            ("total > 10%", "`total` is nothing to measure"),
            ("delta(f) > 10%", "`delta(f)` is nothing to measure"),
            ("share(f > 10%", "`share(f` is nothing to measure"),
        ] {
            let error = text.parse::<Condition>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn frames_are_meant_by_name_or_glob() {
        for (pattern, name, meant) in [
            ("hash", "hash", true),
            ("hash", "hash2", false),
            ("json_*", "json_parse", true),
            ("json_*", "my_json_parse", false),
            ("*json*e", "my_json_parse", true),
            ("js?n", "json", true),
            ("js?n", "jsn", false),
            ("*", "", true),
            ("hash [pi]", "hash", true),
            ("*[pi]", "hash", true),
            ("f(char*)", "f(char*)", true),
            (r"a\*", "ab", false),
            (r"a\*", "a*", true),
            (r"a\x20b", r"a\x20b", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
        ] {
            let read: Pattern = pattern.parse().unwrap();
            assert_eq!(read.means(&frame(name)), meant, "{pattern} {name}");
        }
        // Many stars against a long name that does not fit: over in no time.
        let worst: Pattern = "*a".repeat(500).parse().unwrap();
        assert!(!worst.means(&frame(&("a".repeat(1_000) + "b"))));
    }

    proptest! {
        #[test]
        fn any_text_is_a_condition_or_an_error(
            text in r"(delta\(|share\(|self\(|total|\)|>| |%|pt|[0-9.-]{1,4}|[a-z*?\\]){0,12}|.*",
        ) {
            if let Ok(read) = text.parse::<Condition>() {
                prop_assert!(read.bar.is_finite());
                prop_assert_eq!(read.to_string().parse::<Condition>(), Ok(read));
            }
        }

        #[test]
        fn a_symbol_means_itself(name in "[^ ].{0,20}[^ ]", module in ".{0,5}") {
            let pattern: Pattern = match name.parse() {
                Ok(pattern) => pattern,
                Err(_) => return Ok(()),
            };
            let key = FrameKey { frame: name.trim().into(), module: Some(module) };
            prop_assert!(pattern.means(&key));
        }
    }
}
