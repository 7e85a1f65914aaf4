//! The example function that a demonstration and the tests run: a static program, built by `build.rs` from
//! `deploy/functions/function.rs` and carried inside fnscope.
//!
//! Not here: running it. It needs no file, no library and no registry: it runs in an empty image.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The program, an ELF file for the host's own architecture.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/function"));

/// Writes the program to `dir/function`, executable for everyone, and returns its path. A reader sees the old file
/// or the whole new one, and a copy that runs is not disturbed.
///
/// # Errors
/// What the file system answers; nothing is left behind then.
pub fn install(dir: &Path) -> io::Result<PathBuf> {
    let path = dir.join("function");
    let unfinished = dir.join(format!(".function.{}", std::process::id()));
    // Left by a process of the same id that was killed.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_executable(&unfinished).and_then(|()| fs::rename(&unfinished, &path));
    if written.is_err() {
        // The first error says why; a second one would say the same.
        let _ = fs::remove_file(&unfinished);
    }
    written.map(|()| path)
}

fn write_executable(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path)?;
    // The mask of the caller may have taken bits away: containers run it as any user.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    file.write_all(PROGRAM)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_program_is_installed_whole_and_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let path = install(dir.path()).unwrap();
            assert_eq!(fs::read(&path).unwrap(), PROGRAM);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing unfinished is left");
    }

    #[test]
    fn a_folder_that_is_missing_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = install(&dir.path().join("missing")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    /// Parts of names as they stand in the symbol table: profiles and tests rely on them.
    #[test]
    fn the_program_is_static_and_names_its_functions() {
        let has = |text: &str| PROGRAM.windows(text.len()).any(|window| window == text.as_bytes());
        for name in [
            "spend_sixty",
            "spend_thirty",
            "spend_ten",
            "compute_pi",
            "verify_digits",
            "fibonacci",
            "descend",
        ] {
            assert!(has(name), "{name} is not in the symbol table");
        }
        assert!(!has("/lib64/ld-linux"), "a static program asks for no loader");
    }

    #[test]
    fn a_wrong_command_line_answers_with_usage() {
        let dir = tempfile::tempdir().unwrap();
        let path = install(dir.path()).unwrap();
        for arguments in [
            &[][..],
            &["dance"],
            &["burn", "--cpu-ms"],
            &["burn", "--cpu-ms", "x"],
            &["idle", "--count", "1"],
        ] {
            let output = Command::new(&path).args(arguments).output().unwrap();
            assert_eq!(output.status.code(), Some(64), "{arguments:?}");
            assert!(output.stdout.is_empty() && output.stderr.starts_with(b"function: "), "{arguments:?}");
        }
    }
}
