//! Which function of a truth program calls which, and the one name a function has in every language.
//!
//! *Glue* is everything that is no named function of the program: libraries, language runtimes, generic code.

use std::collections::BTreeSet;

use fnscope::model::frame::{Frame, FrameKind, FrameName};

/// File names of the program and of the library that it opens.
pub const MODULES: [&str; 2] = ["truth", "libtruth.so"];

/// How a function comes to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// By its caller itself.
    Direct,
    /// By glue that its caller called.
    Glue,
    /// Both: what is inlined differs between compilers.
    Either,
}

use Through::{Direct, Either, Glue};

/// Stands for the thread's root, or glue below which no function of the program stands.
pub const ROOT: &str = "";

/// Callee, caller, and how.
const CALLS: &[(&str, &str, Through)] = &[
    ("main", ROOT, Either),
    // Rust's is called by the one that the C library calls.
    ("main", "main", Glue),
    ("truth_pass", "main", Direct),
    ("truth_again", "main", Direct),
    ("truth_shares", "truth_pass", Direct),
    ("truth_step", "truth_shares", Direct),
    ("truth_sixty", "truth_step", Direct),
    ("truth_thirty", "truth_step", Direct),
    ("truth_ten", "truth_step", Direct),
    ("truth_recursion", "truth_pass", Direct),
    ("truth_deep", "truth_recursion", Direct),
    ("truth_deep", "truth_deep", Direct),
    ("truth_bottom", "truth_deep", Direct),
    ("truth_callback", "truth_pass", Direct),
    ("truth_compare", "truth_callback", Glue),
    ("truth_threads", "truth_pass", Direct),
    ("truth_thread", ROOT, Either),
    ("truth_threaded", "truth_thread", Direct),
    ("truth_plugged", "truth_pass", Direct),
    ("truth_plugin_entry", "truth_plugged", Direct),
    ("truth_plugin_leaf", "truth_plugin_entry", Direct),
    ("truth_signals", "truth_pass", Direct),
    ("truth_interrupted", "truth_signals", Direct),
    // The frame of the signal's return stands between them, if it is shown.
    ("truth_handler", "truth_interrupted", Either),
    ("truth_handler", "truth_signals", Either),
    ("truth_handled", "truth_handler", Direct),
    ("truth_receiver", ROOT, Either),
    ("truth_signalled", "truth_receiver", Direct),
    // C++: exceptions.
    ("truth_exceptions", "truth_pass", Direct),
    ("truth_thrower", "truth_exceptions", Direct),
    ("truth_throwing", "truth_thrower", Direct),
    ("truth_caught", "truth_exceptions", Direct),
    // Rust and Go: panics.
    ("truth_unwinds", "truth_pass", Direct),
    ("truth_panics", "truth_unwinds", Either),
    ("truth_panicking", "truth_panics", Direct),
    ("truth_recovers", "truth_panicking", Glue),
    ("truth_recovers", "truth_panics", Either),
    ("truth_caught", "truth_unwinds", Direct),
];

/// Functions that compute and call nothing. What Go's runtime does is under any of its functions.
const PURE: &[&str] = &[
    "truth_sixty",
    "truth_thirty",
    "truth_ten",
    "truth_bottom",
    "truth_compare",
    "truth_threaded",
    "truth_plugin_leaf",
    "truth_handled",
    "truth_caught",
    "truth_deep",
    "truth_pass",
    "truth_thrower",
];

/// Where a thread's part of the program begins.
pub fn is_root(name: &str) -> bool {
    CALLS.iter().any(|(callee, caller, _)| *callee == name && *caller == ROOT)
}

/// Whether the program can have `callee` called by `caller`, with glue between them or without.
pub fn may_call(caller: &str, callee: &str, through_glue: bool) -> bool {
    let unwanted = if through_glue { Direct } else { Glue };
    CALLS.iter().any(|(of, by, how)| *of == callee && *by == caller && *how != unwanted)
}

/// Whether glue may run under `caller`.
pub fn may_call_glue(caller: &str, any: bool) -> bool {
    any || !PURE.contains(&caller)
}

/// The function of a truth program that `symbol` names, in whatever language; none for glue.
pub fn own_name(symbol: &str) -> Option<&'static str> {
    if matches!(symbol, "main" | "main.main" | "truth::main") {
        return Some("main");
    }
    if symbol.contains("{{closure}}") || symbol.contains("{closure") {
        return None;
    }
    let at = symbol.find("truth_").filter(|at| {
        let before = symbol.get(..*at).unwrap_or_default();
        matches!(before, "" | "main." | "truth::")
    })?;
    let rest = symbol.get(at..)?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let name = rest.get(..end)?;
    // A closure of Go's, which is no function of the table.
    if rest.get(end..)?.starts_with(".func") {
        return None;
    }
    CALLS.iter().map(|(callee, ..)| *callee).find(|callee| *callee == name)
}

/// What a frame is to the judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A function of the program.
    Own(&'static str),
    /// Code of the program's files without a name.
    Unknown,
    /// Other code.
    Glue,
    /// Not the program: the kernel, or a mark.
    Nothing,
}

/// What `frame` is; `start` names functions by their start, for stripped programs.
pub fn node(frame: &Frame, start: impl Fn(u64) -> Option<String>) -> Node {
    if matches!(frame.kind, FrameKind::Kernel | FrameKind::Marker) {
        return Node::Nothing;
    }
    if !MODULES.contains(&frame.module.as_str()) {
        return Node::Glue;
    }
    let named = |symbol: &str| own_name(symbol).map_or(Node::Glue, Node::Own);
    match &frame.name {
        FrameName::Symbol(symbol) => named(symbol),
        FrameName::FunctionStart(at) => start(*at).map_or(Node::Unknown, |symbol| named(&symbol)),
        FrameName::Offset(_) | FrameName::Marker(_) => Node::Unknown,
    }
}

/// The program's functions in a row of symbols, root first, recursion as one: what different profilers agree on.
pub fn normalized<'a>(symbols: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = symbols.into_iter().filter_map(own_name).collect();
    names.dedup();
    names.join(";")
}

/// Every name, for a check of the table.
#[allow(dead_code, reason = "its test alone")]
fn names() -> BTreeSet<&'static str> {
    CALLS.iter().map(|(callee, ..)| *callee).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_one_name_for_a_function() {
        for (symbol, name) in [
            ("truth_sixty", Some("truth_sixty")),
            ("truth_sixty(long)", Some("truth_sixty")),
            ("truth::truth_sixty", Some("truth_sixty")),
            ("main.truth_sixty", Some("truth_sixty")),
            ("truth_throwing(long) [clone .cold]", Some("truth_throwing")),
            ("truth::main", Some("main")),
            ("truth::truth_threads::{{closure}}", None),
            ("core::slice::sort::truth_sixty", None),
            ("truth_unheard_of", None),
            ("main.values.Less", None),
            ("main.truth_threads.func1", None),
            ("qsort", None),
        ] {
            assert_eq!(own_name(symbol), name, "{symbol}");
        }
    }

    #[test]
    fn calls_are_judged_with_what_stands_between() {
        assert!(may_call("truth_callback", "truth_compare", true));
        assert!(!may_call("truth_callback", "truth_compare", false));
        assert!(may_call("truth_step", "truth_sixty", false) && !may_call("truth_step", "truth_sixty", true));
        assert!(!may_call("truth_shares", "truth_sixty", false), "a caller left out is an invented edge");
        assert!(may_call(ROOT, "main", false) && is_root("truth_thread") && !is_root("truth_step"));
        assert!(!may_call_glue("truth_sixty", false) && may_call_glue("truth_sixty", true));
        let names = names();
        assert!(CALLS.iter().all(|(_, caller, _)| *caller == ROOT || names.contains(caller)));
        assert!(PURE.iter().all(|pure| names.contains(pure)));
    }

    #[test]
    fn stacks_are_the_programs_own_functions() {
        let symbols = ["_start", "main", "truth_deep", "truth_deep", "truth_bottom", "asm_sysvec"];
        assert_eq!(normalized(symbols), "main;truth_deep;truth_bottom");
    }
}
