//! What is asked of a soak, and how it is asked for on its command line.

use std::path::PathBuf;
use std::time::Duration;

use super::faults::{CLOCK_STEP, KINDS};

/// In a line.
pub const USAGE: &str =
    "usage: soak [--minutes N] [--seed N] [--folder DIR] [--between SECONDS] [--without FAULT]...";

/// What is asked of a soak.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long in all, those before an interruption included.
    pub seconds: u64,
    /// Of all chance; by the clock where none is given.
    pub seed: Option<u64>,
    /// Where it keeps its state, its store and its report.
    pub folder: PathBuf,
    /// Faults that are left out.
    pub without: Vec<String>,
    /// From one fault to the next.
    pub between: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seconds: 1800,
            seed: None,
            folder: "target/soak".into(),
            without: Vec::new(),
            between: Duration::from_secs(8),
        }
    }
}

/// Whether the wall clock of the host is stepped.
pub fn steps_the_clock(options: &Options) -> bool {
    !options.without.iter().any(|name| name == CLOCK_STEP)
}

/// The names of all faults.
pub fn fault_names() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.name).collect()
}

/// From the words behind the program's name.
///
/// # Errors
/// What is wrong with them.
pub fn parse(mut rest: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(word) = rest.next() {
        let mut value = |of: &str| rest.next().ok_or(format!("{of} takes a value"));
        let number =
            |text: String| text.parse::<f64>().ok().filter(|n| *n > 0.0).ok_or("give a number above 0");
        match word.as_str() {
            "--minutes" => options.seconds = (number(value(&word)?)? * 60.0) as u64,
            "--seed" => options.seed = Some(number(value(&word)?)? as u64),
            "--folder" => options.folder = value(&word)?.into(),
            "--between" => {
                let seconds = Duration::try_from_secs_f64(number(value(&word)?)?);
                options.between = seconds.map_err(|error| error.to_string())?;
            }
            "--without" => {
                let name = value(&word)?;
                if !fault_names().contains(&name.as_str()) {
                    return Err(format!("there is no fault `{name}`"));
                }
                options.without.push(name);
            }
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_arguments_are_refused() {
        let parse = |words: &[&str]| parse(words.iter().map(ToString::to_string));
        let options =
            parse(&["--minutes", "0.5", "--between", "2", "--seed", "7", "--without", "cpu-off"]).ok();
        assert_eq!(options.map(|all| (all.seconds, all.between.as_secs())), Some((30, 2)));
        // All faults, unless one is left out.
        let steps = |words: &[&str]| parse(words).ok().map(|options| steps_the_clock(&options));
        assert_eq!((steps(&[]), steps(&["--without", "clock-step"])), (Some(true), Some(false)));
        for wrong in [
            &["--minutes"][..],
            &["--minutes", "x"],
            &["--minutes", "0"],
            &["--between", "inf"],
            &["--without", "rain"],
            &["now"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
