//! Stored samples of a truth program against its call graph and against what it told.

use std::collections::BTreeMap;
use std::path::Path;

use fnscope::model::{Frame, FrameKind, Quality, Stack, Window};
use fnscope::query::{PhaseFilter, Scope, Selector, each_sample, open_for};

use super::graph::{MODULES, Node, ROOT, is_root, may_call, may_call_glue, node};
use super::programs::{Language, Program, Told};

/// What a program's samples show.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Samples after the exec.
    pub samples: u64,
    /// Said to reach the thread's root, and beginning where a thread of the program begins.
    pub complete: u64,
    /// Said to reach the root, while the functions above are missing.
    pub cut: u64,
    /// With frames of the program, all of them named: by symbol, or by a function's start where it is stripped.
    pub named: u64,
    /// Without any frame of the program.
    pub strange: u64,
    /// With frames found by scanning.
    pub guessed: u64,
    /// By the innermost function of the program.
    pub leaves: BTreeMap<&'static str, u64>,
    /// Calls that were looked at.
    pub calls: u64,
    /// Calls that the program cannot make, by what they are.
    pub invented: BTreeMap<String, u64>,
    /// The same with a guessed frame in it.
    pub guessed_wrong: BTreeMap<String, u64>,
    /// By the program's functions alone, root first.
    pub stacks: BTreeMap<String, u64>,
    /// Stacks with something wrong, as they are stored, for whoever looks into it.
    pub examples: BTreeMap<String, u64>,
}

impl Tally {
    /// Samples of `function` in the store at `root`, after its exec.
    ///
    /// # Errors
    /// If the store cannot be read or has no such function.
    pub fn read(root: &Path, function: &str, program: &Program) -> anyhow::Result<Tally> {
        let selector: Selector = function.parse()?;
        let scope = Scope::Threads(std::slice::from_ref(&selector), &[]);
        let view = open_for(&[root], Window::ALL, scope, |_, _| {})?;
        let selection = view.select(Some(&selector), &[])?;
        let mut tally = Tally::default();
        each_sample(&view, &selection, PhaseFilter::Function, |row| {
            tally.add(row.stack, program);
            Ok(())
        })?;
        Ok(tally)
    }

    fn add(&mut self, stack: &Stack, program: &Program) {
        let frames: Vec<Frame> = stack.frames().iter().map(|text| Frame::parse(text)).collect();
        let nodes: Vec<(Node, &Frame)> =
            frames.iter().map(|frame| (node(frame, |start| program.symbol_at(start)), frame)).collect();
        self.samples += 1;
        self.guessed += u64::from(stack.quality().has(Quality::GUESSED));
        let mut own = frames.iter().filter(|frame| {
            MODULES.contains(&frame.module.as_str()) && !matches!(frame.kind, FrameKind::Kernel)
        });
        let has_own = own.clone().next().is_some();
        self.strange += u64::from(!has_own);
        let named = has_own && own.all(|frame| program.names(frame));
        self.named += u64::from(named);
        let outermost = nodes.iter().find_map(|(node, _)| match node {
            Node::Own(name) => Some(*name),
            _ => None,
        });
        if stack.quality().has(Quality::COMPLETE) {
            let is_cut = outermost.is_some_and(|name| !is_root(name));
            self.complete += u64::from(!is_cut);
            self.cut += u64::from(is_cut);
            if is_cut {
                self.example("callers missing", stack);
            }
        }
        if !named || !stack.quality().has(Quality::COMPLETE) {
            self.example("poor", stack);
        }
        let mut names = Vec::new();
        for (node, _) in &nodes {
            if let Node::Own(name) = node
                && names.last() != Some(name)
            {
                names.push(*name);
            }
        }
        if let Some(leaf) = names.last() {
            *self.leaves.entry(leaf).or_default() += 1;
        }
        *self.stacks.entry(names.join(";")).or_default() += 1;
        self.judge_calls(stack, &nodes, program.build.language == Language::Go);
    }

    /// Each function of the program, and glue at the leaf, under its nearest function of the program.
    fn judge_calls(&mut self, stack: &Stack, nodes: &[(Node, &Frame)], any_glue: bool) {
        let (mut caller, mut glue, mut unknown, mut guessed) = (ROOT, false, false, false);
        let mut wrong: Vec<(String, bool)> = Vec::new();
        for (node, frame) in nodes {
            let is_guess = frame.kind == FrameKind::Guessed;
            match node {
                Node::Own(name) => {
                    // A stack that is cut says nothing of its first caller; an unnamed frame may be anything.
                    if !unknown && (caller != ROOT || is_root(name)) {
                        self.calls += 1;
                        if !may_call(caller, name, glue) {
                            let between = if glue { " > … > " } else { " > " };
                            wrong.push((format!("{caller}{between}{name}"), guessed || is_guess));
                        }
                    }
                    (caller, glue, unknown, guessed) = (name, false, false, is_guess);
                }
                Node::Unknown => (unknown, guessed) = (true, guessed || is_guess),
                Node::Glue => {
                    (glue, guessed) = (true, guessed || is_guess);
                }
                Node::Nothing => {}
            }
        }
        if glue && !unknown && caller != ROOT && !may_call_glue(caller, any_glue) {
            wrong.push((format!("{caller} > …"), guessed));
        }
        for (what, guessed) in wrong {
            self.example(&format!("call {what}"), stack);
            let into = if guessed { &mut self.guessed_wrong } else { &mut self.invented };
            *into.entry(what).or_default() += 1;
        }
    }

    fn example(&mut self, why: &str, stack: &Stack) {
        const MOST: usize = 400;
        let text = format!("{why}: q{} {}", stack.quality().0, stack.frames().join(";"));
        if self.examples.len() < MOST || self.examples.contains_key(&text) {
            *self.examples.entry(text).or_default() += 1;
        }
    }

    /// Calls that the program cannot make; guesses apart.
    pub fn invented(&self) -> u64 {
        self.invented.values().sum()
    }

    /// The leaf function whose share is furthest from the program's own account, and how far, as a part of 1. Both are
    /// shares of everything after `main` began.
    pub fn furthest_leaf(&self, told: &Told) -> (String, f64) {
        let off = |name: &str, ns: f64| {
            let seen = self.leaves.get(name).copied().unwrap_or(0) as f64 / self.samples.max(1) as f64;
            (seen - ns / told.cpu_ns).abs()
        };
        let all = told.leaves.iter().map(|(name, ns)| (name.clone(), off(name, *ns)));
        all.max_by(|one, other| one.1.total_cmp(&other.1)).unwrap_or(("none".into(), f64::NAN))
    }
}

/// Total variation distance of two counts over their `most` hottest keys each.
pub fn distance(one: &BTreeMap<String, u64>, other: &BTreeMap<String, u64>, most: usize) -> f64 {
    let hottest = |of: &BTreeMap<String, u64>| {
        let mut keys: Vec<(u64, String)> = of.iter().map(|(key, count)| (*count, key.clone())).collect();
        keys.sort_by(|a, b| b.cmp(a));
        keys.into_iter().take(most).map(|(_, key)| key).collect::<Vec<_>>()
    };
    let mut keys = [hottest(one), hottest(other)].concat();
    keys.sort();
    keys.dedup();
    let share = |of: &BTreeMap<String, u64>, key: &str| {
        of.get(key).copied().unwrap_or(0) as f64 / of.values().sum::<u64>() as f64
    };
    keys.iter().map(|key| (share(one, key) - share(other, key)).abs()).sum::<f64>() / 2.0
}

/// The lower end of Wilson's 99 % interval of `hits` of `all`.
pub fn wilson(hits: u64, all: u64) -> f64 {
    const Z: f64 = 2.575_829;
    if all == 0 {
        return 0.0;
    }
    let (n, p) = (all as f64, hits as f64 / all as f64);
    let z2 = Z * Z;
    let centre = p + z2 / (2.0 * n);
    let spread = Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    (centre - spread) / (1.0 + z2 / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilsons_interval_is_the_books() {
        // By hand: n = 5000, p = 0.985.
        assert!((wilson(4925, 5000) - 0.979_88).abs() < 1e-4, "{}", wilson(4925, 5000));
        assert!((wilson(5000, 5000) - 0.998_67).abs() < 1e-4, "{}", wilson(5000, 5000));
        assert!(wilson(0, 0).abs() < 1e-9);
    }

    #[test]
    fn distance_is_half_of_all_differences() {
        let of = |list: &[(&str, u64)]| list.iter().map(|(k, v)| (k.to_string(), *v)).collect();
        let (one, other) = (of(&[("a", 60), ("b", 40)]), of(&[("a", 50), ("b", 40), ("c", 10)]));
        assert!((distance(&one, &other, 20) - 0.1).abs() < 1e-9);
        assert!((distance(&one, &one, 20)).abs() < 1e-9);
    }
}
