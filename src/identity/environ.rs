//! `/proc/PID/environ` of a process in a container, cut down to what names its function.
//!
//! The block is the tenant's to write, and full of secrets: nothing but the names that are asked for leaves this file,
//! and of those only what is whole and short. Pure; the file is read by whoever watches the process.

use super::later::LATER_ENV_ALLOW_LIST;

/// Most variables of a block that are kept.
const MAX_VARIABLES: usize = 256;

/// Most bytes of a block that are looked at; read no more of the file. The kernel allows some megabytes.
pub const MAX_ENVIRON_BYTES: usize = 256 << 10;
/// Longest value in bytes; a longer one is no name, and a part of one would be another's.
pub const MAX_VALUE_BYTES: usize = 1024;

/// The variables of `block` that tell of a function, at most one of a name: the first, as `getenv` has it.
///
/// A variable counts if the block holds its end, it is UTF-8, and its value is neither empty nor longer than
/// [`MAX_VALUE_BYTES`].
pub fn parse_environ(block: &[u8]) -> Vec<(String, String)> {
    let is_wanted = |name: &str| LATER_ENV_ALLOW_LIST.contains(&name);
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    wanted(block, is_wanted).into_iter().map(pair).collect()
}

/// The variables of `block` that `is_wanted` names, as `KEY=value`, by the same rules and at most some hundred.
pub fn variables(block: &[u8], is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
    wanted(block, is_wanted).into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn wanted(block: &[u8], is_wanted: impl Fn(&str) -> bool) -> Vec<(&str, &str)> {
    let block = block.get(..MAX_ENVIRON_BYTES).unwrap_or(block);
    // What stands behind the last NUL may have been cut by a reader's limit.
    let whole =
        block.iter().rposition(|byte| *byte == 0).and_then(|end| block.get(..end)).unwrap_or_default();
    let mut seen: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for line in whole.split(|byte| *byte == 0) {
        let Some(at) = line.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (line.get(..at).unwrap_or_default(), line.get(at + 1..).unwrap_or_default());
        let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_wanted(name)) else { continue };
        if seen.contains(&name) || seen.len() == MAX_VARIABLES {
            continue;
        }
        seen.push(name);
        if let Ok(value) = std::str::from_utf8(value)
            && !value.is_empty()
            && value.len() <= MAX_VALUE_BYTES
        {
            found.push((name, value));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_is_asked_for_is_read_and_only_whole() {
        let long = format!("__OW_NAMESPACE={}\0", "n".repeat(MAX_VALUE_BYTES + 1));
        let padded = format!("PAD={}\0__OW_NAMESPACE=late\0", "x".repeat(MAX_ENVIRON_BYTES));
        for (block, expected) in [
            (
                &b"PATH=/bin\0__OW_API_KEY=secret\0__OW_ACTION_NAME=/g/h\0"[..],
                &[("__OW_ACTION_NAME", "/g/h")][..],
            ),
            (b"__OW_NAMESPACE=a\0__OW_NAMESPACE=b\0", &[("__OW_NAMESPACE", "a")]),
            (b"__OW_NAMESPACE=\xff\0__OW_NAMESPACE=b\0", &[]),
            (b"__OW_NAMESPACE=a=b\0", &[("__OW_NAMESPACE", "a=b")]),
            (b"__OW_NAMESPACE=\0", &[]),
            (b"__OW_NAMESPACE=cut", &[]),
            (b"__OW_NAMESPACE\0=x\0\0", &[]),
            (b"", &[]),
            (b"\0", &[]),
            (long.as_bytes(), &[]),
            (padded.as_bytes(), &[]),
        ] {
            let found = parse_environ(block);
            let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(found, expected, "{:.60}", String::from_utf8_lossy(block));
        }
    }

    #[test]
    fn the_environment_of_a_real_process_is_read() {
        use std::io::{BufRead as _, BufReader, Write as _};
        use std::process::{Command, Stdio};

        let child = Command::new("cat")
            .env("__OW_ACTION_NAME", "/guest/utils/hello")
            .env("__OW_API_KEY", "secret")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("start cat");
        // Its answer says that its exec is over: until then the block is empty.
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(b"ready\n").expect("write to cat");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it answers");
        let block = std::fs::read(format!("/proc/{}/environ", child.id())).expect("read its environment");
        child.kill().expect("end it");
        child.wait().expect("it ends");
        assert_eq!(parse_environ(&block), [("__OW_ACTION_NAME".to_owned(), "/guest/utils/hello".to_owned())]);
    }

    proptest! {
        #[test]
        fn any_block_gives_bounded_names_of_the_list(
            block in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..20),
                    Just(b"__OW_NAMESPACE=a".to_vec()),
                    Just(b"\0__OW_ACTION_NAME=".to_vec()),
                    Just(vec![0]),
                ],
                0..20,
            )
        ) {
            let all = variables(&block.concat(), |_| true);
            prop_assert!(all.len() <= MAX_VARIABLES && all.iter().all(|line| line.contains('=')));
            let found = parse_environ(&block.concat());
            prop_assert!(found.len() <= LATER_ENV_ALLOW_LIST.len());
            for (name, value) in found {
                prop_assert!(LATER_ENV_ALLOW_LIST.contains(&name.as_str()));
                prop_assert!(!value.is_empty() && value.len() <= MAX_VALUE_BYTES && !value.contains('\0'));
            }
        }
    }
}
