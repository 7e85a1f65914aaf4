//! The profiles directory and how much is kept in it: the `[store]` table.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::DEFAULT_STORE;

/// The profiles directory and what is kept in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Where it is.
    pub path: PathBuf,
    /// Hours older than this go, such as `30d`; `0` keeps them for ever.
    pub max_age: String,
    /// The oldest hours go until all take no more than this, `20GiB` unless given; `0` is no limit.
    pub max_bytes: String,
    /// The oldest hours go until so much of the file system is free, such as `256MiB`; `0` is no floor.
    pub min_free_bytes: String,
    /// Whether sealed hours get their folded files too: `on` or `off`.
    pub folded: String,
}

impl From<PathBuf> for StoreConfig {
    fn from(path: PathBuf) -> StoreConfig {
        StoreConfig { path, ..StoreConfig::default() }
    }
}

impl From<&Path> for StoreConfig {
    fn from(path: &Path) -> StoreConfig {
        path.to_path_buf().into()
    }
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            path: DEFAULT_STORE.into(),
            max_age: "30d".into(),
            max_bytes: "20GiB".into(),
            min_free_bytes: "256MiB".into(),
            folded: "on".into(),
        }
    }
}

impl StoreConfig {
    /// How old an hour may get; none for ever.
    ///
    /// # Errors
    /// If it is no time.
    pub fn max_age(&self) -> Result<Option<Duration>, String> {
        let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
        let seconds = quantity(&self.max_age, &units).ok_or_else(|| {
            format!("store.max_age is {:?}; give a time such as \"30d\" or \"12h\"", self.max_age)
        })?;
        Ok(Some(Duration::from_secs(seconds)).filter(|age| !age.is_zero()))
    }

    /// How many bytes it may take; none without limit.
    ///
    /// # Errors
    /// If it is no size.
    pub fn max_bytes(&self) -> Result<Option<u64>, String> {
        size("store.max_bytes", &self.max_bytes)
    }

    /// How many bytes are to stay free; none without floor.
    ///
    /// # Errors
    /// If it is no size.
    pub fn min_free_bytes(&self) -> Result<Option<u64>, String> {
        size("store.min_free_bytes", &self.min_free_bytes)
    }

    /// Whether to write the folded tree.
    ///
    /// # Errors
    /// If it is neither `on` nor `off`.
    pub fn folded(&self) -> Result<bool, String> {
        match self.folded.as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            other => Err(format!("store.folded is {other:?}; give \"on\" or \"off\"")),
        }
    }
}

/// A size in bytes, none for zero; `name` is the key that it is of.
pub(super) fn size(name: &str, text: &str) -> Result<Option<u64>, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    let bytes = quantity(text, &units)
        .ok_or_else(|| format!("{name} is {text:?}; give a size such as \"20GiB\" or \"500MiB\""))?;
    Ok(Some(bytes).filter(|bytes| *bytes > 0))
}

/// A whole number and one of `units`; zero needs none.
pub(super) fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (number, unit) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_key_is_read_and_checked() {
        let text =
            "[store]\nmax_age = \"7d\"\nmax_bytes = \"2 GiB\"\nmin_free_bytes = \"0\"\nfolded = \"off\"";
        let store = toml::from_str::<Config>(text).unwrap().store;
        assert_eq!(store.path, Path::new(DEFAULT_STORE));
        assert_eq!(store.max_age(), Ok(Some(Duration::from_secs(7 * 86_400))));
        assert_eq!((store.max_bytes(), store.min_free_bytes()), (Ok(Some(2 << 30)), Ok(None)));
        assert_eq!(store.folded(), Ok(false));
        for bad in ["7", "d", "-1d", "1.5GiB", "99999999999999999999d", ""] {
            let (max_age, max_bytes) = (bad.to_owned(), bad.to_owned());
            let store = StoreConfig { max_age, max_bytes, folded: bad.into(), ..StoreConfig::default() };
            assert_eq!(Config { store, ..Config::default() }.faults().len(), 3, "{bad}");
        }
        assert!(toml::from_str::<Config>("[store]\nmax_ages = \"7d\"").is_err());
    }
}
