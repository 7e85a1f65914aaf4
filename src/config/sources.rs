//! The configuration of this process: its file, its environment, its flags, read when asked and as often as asked.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::keys;
use super::layers::{File, Flag, Layers, Resolved, resolve};
use super::origin::{Fault, Faults, Origin};

/// Most bytes of a file: more is no configuration.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where to read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file; none is read unasked.
    pub file: Option<PathBuf>,
    /// What the command line says.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// Reads the file and the environment, and puts all together.
    ///
    /// # Errors
    /// Everything that is wrong, at once; a file that cannot be read too.
    pub fn load(&self) -> Result<Resolved, Faults> {
        let mut unreadable = Vec::new();
        let mut layers = Layers { flags: self.flags.clone(), ..Layers::default() };
        for (name, value) in std::env::vars_os() {
            match variable(name, value) {
                Ok(variable) => layers.variables.extend(variable),
                Err(fault) => unreadable.push(fault),
            }
        }
        // The order of the environment is nobody's choice.
        layers.variables.sort();
        match self.file.as_deref().map(read).transpose() {
            Ok(file) => layers.file = file,
            Err(fault) => unreadable.push(fault),
        }
        match resolve(&layers) {
            Ok(resolved) if unreadable.is_empty() => Ok(resolved),
            Ok(_) => Err(Faults(unreadable)),
            Err(Faults(faults)) => {
                unreadable.extend(faults);
                unreadable.sort();
                Err(Faults(unreadable))
            }
        }
    }
}

/// A variable that may be ours, as text.
fn variable(name: OsString, value: OsString) -> Result<Option<(String, String)>, Fault> {
    let Some(name) = name.to_str().filter(|name| name.starts_with(keys::PREFIX)) else { return Ok(None) };
    match value.into_string() {
        Ok(value) => Ok(Some((name.into(), value))),
        Err(_) => {
            Err(Fault { origins: vec![Origin::Variable(name.into())], says: "its value is not UTF-8".into() })
        }
    }
}

fn read(path: &Path) -> Result<File, Fault> {
    let fault = |why: String| Fault { origins: Vec::new(), says: format!("read {}: {why}", path.display()) };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| fault(error.to_string()))?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| fault(error.to_string()))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(fault("it is larger than 1 MiB: no configuration".into()));
    }
    Ok(File { path: path.into(), text })
}
