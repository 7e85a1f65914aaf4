//! A profile as a flame graph: an SVG that stands alone, made by inferno. No other module names that crate.
//!
//! Frames are coloured by what they are (`Hue`), a shade for each name, the same in every graph; the line below the
//! title says which colours there are. Promises: a frame's text is only ever text in the SVG.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Write};

use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap};
use inferno::flamegraph::{self, Direction, Options, TextTruncateDirection};

use super::escape;
use crate::fold::{Measure, Profile};
use crate::model::{Frame, FrameKind};
use crate::query::FrameKey;

/// What stands around the graph, and how it is drawn.
#[derive(Debug, Clone, Default)]
pub struct Style {
    /// Its title.
    pub title: String,
    /// The line below.
    pub subtitle: String,
    /// Leaves at the root: who is called from where.
    pub reverse: bool,
    /// The root on top.
    pub inverted: bool,
    /// Narrower frames are left out; in percent of the whole.
    pub min_width_percent: f64,
}

/// Longest frame shown, in characters.
const MAX_FRAME: usize = 512;
/// Where the line below the title is broken: nobody's text has it, for it is none that is shown.
const BREAK: &str = "\u{2028}";

/// Writes the flame graph of `profile`. An empty one is an error of kind `InvalidData`.
pub fn write(profile: &Profile, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let mut colours = PaletteMap::default();
    // The name inferno gives the frame of all.
    colours.insert("", Color::new(226, 226, 226));
    let mut coloured = HashSet::new();
    let mut hues = BTreeSet::new();
    let mut lines = Vec::new();
    let measure = profile.measure();
    let folded = profile.folded();
    // inferno adds them up, in as many bits.
    let most = u64::MAX / (folded.len() as u64 + 1);
    for (stack, weight) in folded {
        let frames: Vec<String> = stack.split(';').map(shown).collect();
        for (frame, text) in stack.split(';').zip(&frames) {
            if coloured.insert(text.clone()) {
                let frame = Frame::parse(frame);
                hues.insert(Hue::of(&frame));
                colours.insert(text, colour(&frame, measure));
            }
        }
        lines.push(format!("{} {}", frames.join(";"), measure.told(weight).min(most)));
    }
    let legend: Vec<String> =
        hues.iter().map(|hue| format!("{} {}", hue.colour(measure), hue.meaning())).collect();
    let mut options = options(style, measure);
    options.subtitle = Some(options.subtitle.unwrap_or_default() + BREAK + &legend.join(", "));
    options.palette_map = Some(&mut colours);
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    out.write_all(in_two_lines(&String::from_utf8_lossy(&svg)).as_bytes())
}

/// The line below the title as two, where it is broken: with all colours it is wider than the graph. There is room for
/// them where inferno has one.
fn in_two_lines(svg: &str) -> String {
    let Some((before, after)) = svg.split_once(BREAK) else { return svg.into() };
    let (tag, first) = before.rsplit_once('>').unwrap_or(("", before));
    let (second, rest) = after.split_once('<').unwrap_or((after, ""));
    format!(r#"{tag}><tspan dy="-8">{first}</tspan><tspan x="50%" dy="15">{second}</tspan><{rest}"#)
}

/// Writes what `after` is against `before` as a differential flame graph: widths are those of `after`, a frame is red
/// where its own share grew and blue where it shrank. `before` is scaled to as many samples, so that shares are what
/// is compared. Frames are matched as [`FrameKey`] does. An empty `after` is an error of kind `InvalidData`.
pub fn write_difference(
    before: &Profile,
    after: &Profile,
    style: &Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let measure = after.measure();
    let (total_before, total_after) = (measure.told(before.total()), measure.told(after.total()));
    let scale = total_after as f64 / total_before.max(1) as f64;
    let mut stacks: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let matched = |stack: &str| -> String {
        let frame = |text: &str| {
            let (key, _) = FrameKey::of(text);
            let module = key.module.map(|module| format!(" [{module}]")).unwrap_or_default();
            shown(&(key.frame + &module).replace(';', ":"))
        };
        stack.split(';').map(frame).collect::<Vec<_>>().join(";")
    };
    for (stack, weight) in before.folded() {
        stacks.entry(matched(&stack)).or_default().0 += measure.told(weight);
    }
    for (stack, weight) in after.folded() {
        stacks.entry(matched(&stack)).or_default().1 += measure.told(weight);
    }
    let scaled = |samples: u64| (samples as f64 * scale).round() as u64;
    let lines: Vec<String> = stacks
        .iter()
        .map(|(stack, (before, after))| format!("{stack} {} {after}", scaled(*before)))
        .collect();
    let mut options = options(style, measure);
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), out)
}

/// What both kinds of graph have in common.
fn options(style: &Style, measure: Measure) -> Options<'static> {
    let mut options = Options::default();
    options.count_name = if measure == Measure::Waits { "us" } else { "samples" }.into();
    options.title = escape::line(escape::cut(&style.title, MAX_FRAME).as_ref()).into_owned();
    options.subtitle = Some(escape::line(&style.subtitle).into_owned()).filter(|text| !text.is_empty());
    options.bgcolors = Some(BackgroundColor::Flat(Color::new(252, 252, 252)));
    options.min_width = style.min_width_percent;
    options.direction = if style.inverted { Direction::Inverted } else { Direction::Straight };
    options.reverse_stack_order = style.reverse;
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.name_type = "Frame:".into();
    options
}

/// A frame as it stands in the graph. Folded text has no escapes of its own, so what inferno would take for a
/// separator, a comment or a count is changed here.
fn shown(frame: &str) -> String {
    let cut = escape::cut(frame, MAX_FRAME);
    let mut text = escape::line(&cut).trim().to_string();
    if text.is_empty() {
        text.push_str("\\x20");
    }
    if text.starts_with('#') {
        text.replace_range(..1, "\\x23");
    }
    if let Some((name, number)) = text.rsplit_once(' ')
        && number.chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        text = format!("{name}\u{a0}{number}");
    }
    text
}

/// What frames are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hue {
    Kernel,
    Native,
    Inlined,
    Jit,
    Interpreted,
    Guessed,
    /// Native, without a symbol.
    Unnamed,
    /// Where a stack ends that is not whole.
    End,
}

impl Hue {
    fn of(frame: &Frame) -> Hue {
        match frame.kind {
            FrameKind::Kernel => Hue::Kernel,
            FrameKind::Native if frame.is_symbolized() => Hue::Native,
            FrameKind::Native => Hue::Unnamed,
            FrameKind::Inlined => Hue::Inlined,
            FrameKind::Jit => Hue::Jit,
            FrameKind::Interpreted => Hue::Interpreted,
            FrameKind::Guessed => Hue::Guessed,
            FrameKind::Marker => Hue::End,
        }
    }

    fn rgb(self, measure: Measure) -> (u8, u8, u8) {
        match self {
            // What waits is cold: a glance tells such a graph from one of time on the CPU.
            Hue::Kernel if measure == Measure::Waits => (72, 116, 208),
            Hue::Native if measure == Measure::Waits => (132, 184, 246),
            Hue::Interpreted if measure == Measure::Waits => (244, 190, 84),
            Hue::Kernel => (236, 112, 64),
            Hue::Native => (244, 190, 84),
            Hue::Inlined => (116, 196, 196),
            Hue::Jit => (132, 200, 108),
            Hue::Interpreted => (140, 170, 232),
            Hue::Guessed => (206, 164, 224),
            Hue::Unnamed => (196, 192, 186),
            Hue::End => (248, 168, 188),
        }
    }

    fn colour(self, measure: Measure) -> &'static str {
        match self {
            Hue::Kernel if measure == Measure::Waits => "dark blue",
            Hue::Native if measure == Measure::Waits => "light blue",
            Hue::Interpreted if measure == Measure::Waits => "yellow",
            Hue::Kernel => "red",
            Hue::Native => "yellow",
            Hue::Inlined => "turquoise",
            Hue::Jit => "green",
            Hue::Interpreted => "blue",
            Hue::Guessed => "violet",
            Hue::Unnamed => "grey",
            Hue::End => "pink",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Hue::Kernel => "kernel",
            Hue::Native => "native",
            Hue::Inlined => "inlined",
            Hue::Jit => "JIT",
            Hue::Interpreted => "interpreted",
            Hue::Guessed => "guessed",
            Hue::Unnamed => "unnamed",
            Hue::End => "stack not whole",
        }
    }
}

fn colour(frame: &Frame, measure: Measure) -> Color {
    let (red, green, blue) = Hue::of(frame).rgb(measure);
    // A shade of 0 to 31 out of the name (FNV-1a), so that neighbours differ and a name keeps its own.
    let name = frame.label();
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let shade = u8::try_from((hash >> 16) % 32).unwrap_or(0);
    let darker = |channel: u8| channel.saturating_sub(shade);
    Color::new(darker(red), darker(green), darker(blue))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fold::Weight;
    use crate::model::{Quality, Stack};

    fn profile(stacks: &[(&[&str], u64)]) -> Profile {
        let made: Vec<Arc<Stack>> = stacks
            .iter()
            .map(|(frames, _)| {
                Arc::new(Stack::new(frames.iter().map(|f| (*f).into()).collect(), Quality::default()))
            })
            .collect();
        let weights: Vec<Weight> =
            stacks.iter().map(|(_, samples)| Weight { samples: *samples, time_ns: samples * 10 }).collect();
        Profile::from_weights(&made, &weights)
    }

    fn svg(profile: &Profile, style: &Style) -> String {
        let mut out = Vec::new();
        write(profile, style, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_stranger_s_name_is_only_ever_text() {
        let long = "y".repeat(10_000);
        let frames = [
            "</text></svg><script>alert(1)</script>",
            "\" onload=\"alert(1)",
            "a\u{202e}b\0c\u{1b}[31m",
            "<![CDATA[x]]> & <!-- y -->",
            &long,
        ];
        let style = Style { title: "<script>alert(2)</script>]]>".into(), ..Style::default() };
        for reverse in [false, true] {
            let svg = svg(&profile(&[(&frames, 3)]), &Style { reverse, ..style.clone() });
            assert!(!svg.contains("<script>alert"), "markup");
            let tags = svg.split('<').filter_map(|piece| piece.split_once('>')).map(|(tag, _)| tag);
            assert!(tags.into_iter().all(|tag| !tag.contains("alert(1)")), "attribute");
            assert!(
                !svg.contains(|c: char| c == '\u{202e}' || (c.is_control() && !c.is_whitespace())),
                "control"
            );
            assert!(!svg.contains(&"y".repeat(600)), "length");
            assert!(svg.contains("&lt;script&gt;alert(1)"), "it is shown, as text");
        }
    }

    #[test]
    fn every_sample_is_drawn_whatever_its_frames_look_like() {
        let stacks: &[(&[&str], u64)] = &[
            (&["main [pi]", "loop 17"], 3),
            (&["# not a comment", "x"], 4),
            (&["a;b", "c ."], 5),
            (&[" "], 6),
            (&[], 7),
            (&["loop 17", "main [pi]"], 8),
        ];
        for reverse in [false, true] {
            let svg = svg(&profile(stacks), &Style { reverse, ..Style::default() });
            assert!(svg.contains("total_samples=\"33\""), "reverse {reverse}");
        }
    }

    #[test]
    fn what_is_shown_and_its_colours_are_two_lines_below_the_title() {
        let hostile = "a\u{2028}b > c";
        let style =
            Style { title: hostile.into(), subtitle: format!("{hostile} 3 samples"), ..Style::default() };
        let svg = svg(&profile(&[(&["main [pi]", "read [kernel]_[k]", hostile], 3)]), &style);
        let below = svg.split_once(r#"<text id="subtitle""#).and_then(|(_, rest)| rest.split_once("</text>"));
        let (tag, lines) =
            below.and_then(|(below, _)| below.split_once('>')).expect("a line below the title");
        assert!(!tag.contains("tspan"), "{tag}");
        let first = r#"<tspan dy="-8">a\xe2\x80\xa8b &gt; c 3 samples</tspan>"#;
        let second = r#"<tspan x="50%" dy="15">red kernel, yellow native</tspan>"#;
        assert_eq!(lines, format!("{first}{second}"));
        assert!(!svg.contains('\u{2028}'));
    }

    #[test]
    fn a_difference_is_drawn_whole_and_its_names_are_only_text() {
        let hostile = "</text></svg><script>alert(1)</script>\u{202e} [m]";
        let before =
            profile(&[(&["main [pi]", "old [pi]"], 10), (&["main [pi]", "f::h0123456789abcdef [pi]"], 10)]);
        let after =
            profile(&[(&["main [pi]", hostile], 5), (&["main [pi]", "f::hfedcba9876543210 [pi]"], 35)]);
        let mut out = Vec::new();
        write_difference(&before, &after, &Style::default(), &mut out).unwrap();
        let svg = String::from_utf8(out).unwrap();
        assert!(svg.contains("total_samples=\"40\""), "widths are those of the second");
        // Half of 20 before is 20 of 40; 35 after: 37.5 % more of all.
        assert!(svg.contains("f [pi] (35 samples, 87.50%; +37.50%)"), "{svg}");
        assert!(!svg.contains("<script>alert") && !svg.contains('\u{202e}'));
        let nothing = write_difference(&before, &Profile::default(), &Style::default(), &mut Vec::new());
        assert_eq!(nothing.map_err(|e| e.kind()), Err(io::ErrorKind::InvalidData));
    }

    #[test]
    fn kinds_have_their_colours_and_nothing_is_an_error() {
        let frames = [
            ("[unwound short]", Hue::End),
            ("main [libc.so.6]", Hue::Native),
            ("libc.so.6+0x40", Hue::Unnamed),
            ("scanned [libc.so.6]_[g]", Hue::Guessed),
            ("small [pi]_[i]", Hue::Inlined),
            ("hot (x.js) [jit]_[j]", Hue::Jit),
            ("run (x.py) [python3]_[p]", Hue::Interpreted),
            ("read [kernel]_[k]", Hue::Kernel),
        ];
        let svg = svg(&profile(&[(&frames.map(|(frame, _)| frame), 2)]), &Style::default());
        for (frame, hue) in frames {
            // inferno leaves some of the suffixes out.
            let shown = frame.split("_[").next().expect("a first part");
            let after = svg.split(&format!("<title>{shown}")).nth(1).expect("drawn");
            let drawn =
                after.split("fill=\"rgb(").nth(1).and_then(|rest| rest.split(')').next()).expect("a colour");
            let drawn: Vec<u8> = drawn.split(',').map(|channel| channel.parse().expect("a number")).collect();
            let (red, green, blue) = hue.rgb(Measure::Clock);
            for (of, channel) in [red, green, blue].iter().zip(&drawn) {
                assert!((of - 31..=*of).contains(channel), "{frame}: {drawn:?} of {hue:?}");
            }
            assert!(
                svg.contains(&format!("{} {}", hue.colour(Measure::Clock), hue.meaning())),
                "{hue:?} is explained"
            );
        }
        assert!(
            !self::svg(&profile(&[(&["main [pi]"], 1)]), &Style::default()).contains("kernel"),
            "what is not there"
        );
        let nothing = write(&Profile::default(), &Style::default(), &mut Vec::new());
        assert_eq!(nothing.map_err(|e| e.kind()), Err(io::ErrorKind::InvalidData));
    }
}
