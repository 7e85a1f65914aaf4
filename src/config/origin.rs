//! Where a value comes from, and what is wrong with values: all faults at once, each with its place.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from. Later ones go over earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The configuration file.
    File {
        /// As it was asked for.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line } => write!(out, "{}:{line}", path.display()),
            Origin::Variable(name) => write!(out, "variable {name}"),
            Origin::Flag(name) => write!(out, "flag {name}"),
        }
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where; several where a list was put together from them, none where it is nowhere in particular.
    pub origins: Vec<Origin>,
    /// What is wrong, and what to give instead.
    pub says: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.origins.is_empty() {
            write!(out, "{}: ", told(&self.origins))?;
        }
        out.write_str(&self.says)
    }
}

/// `origins` for people.
pub(super) fn told(origins: &[Origin]) -> String {
    origins.iter().map(Origin::to_string).collect::<Vec<_>>().join(" and ")
}

/// Everything that is wrong; at least one thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// In one line, for a log.
    pub fn in_a_line(&self) -> String {
        self.0.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [one] => write!(out, "configuration: {one}"),
            all => {
                write!(out, "the configuration has {} faults:", all.len())?;
                all.iter().try_for_each(|fault| write!(out, "\n  {fault}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_is_a_line_and_several_are_a_list() {
        let file = |line| Origin::File { path: "/etc/f.toml".into(), line };
        let fault = |origins: &[Origin], says: &str| Fault { origins: origins.to_vec(), says: says.into() };
        let mut faults = vec![
            fault(&[Origin::Flag("--hz")], "hz is 0"),
            fault(&[Origin::Variable("FNSCOPE_HZZ".into())], "x"),
            fault(&[file(10)], "b"),
            fault(&[file(9), Origin::Flag("--cgroup-parent")], "a"),
            fault(&[], "read it"),
        ];
        faults.sort();
        let all = Faults(faults);
        assert_eq!(
            all.to_string(),
            "the configuration has 5 faults:\n  read it\n  /etc/f.toml:9 and flag --cgroup-parent: a\n  \
             /etc/f.toml:10: b\n  variable FNSCOPE_HZZ: x\n  flag --hz: hz is 0"
        );
        assert!(all.in_a_line().starts_with("read it; /etc/f.toml:9 and flag --cgroup-parent: a; "));
        assert_eq!(Faults(vec![fault(&[], "a")]).to_string(), "configuration: a");
    }
}
