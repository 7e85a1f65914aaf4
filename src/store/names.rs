//! Any name to a safe file name: percent-encoding, bounded. Not the selectors' grammar, which people type.
//!
//! Promises: the result is never empty, `.` or `..`, starts with no dot, holds only `A-Za-z0-9-_.%~`, is at most
//! [`MAX_BYTES`] long, and two names never share one (beyond the limit: unless a 128-bit hash collides).

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Longest file name made here in bytes; the file system's limit is 255 and suffixes need room.
pub(super) const MAX_BYTES: usize = 200;

/// Stands for "there is none".
const NONE: &str = "-";

/// Bytes of the hash of a name that was cut.
const HASH_BYTES: usize = 16;

/// The file name of `name`, `-` without one.
pub(super) fn encode_optional(name: Option<&str>) -> String {
    name.map_or_else(|| NONE.into(), encode)
}

/// The file name of `name`. A cut one ends in `~` and a hash; `~` stands nowhere else.
pub(super) fn encode(name: &str) -> String {
    match name {
        "" => return "%".into(),
        NONE => return "%2D".into(),
        _ => {}
    }
    let head_bytes = MAX_BYTES - 1 - 2 * HASH_BYTES;
    let (mut out, mut head) = (String::new(), 0);
    for (position, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || (byte == b'.' && position > 0) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        if out.len() <= head_bytes {
            head = out.len();
        }
        if out.len() > MAX_BYTES {
            out.truncate(head);
            out.push('~');
            let hash = Sha256::digest(name.as_bytes());
            hash.iter().take(HASH_BYTES).for_each(|byte| {
                let _ = write!(out, "{byte:02x}");
            });
            return out;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_stay_readable_and_inside() {
        for (name, file) in [
            ("figlet", "figlet"),
            ("pi-1.2_3", "pi-1.2_3"),
            ("..", "%2E."),
            ("../etc", "%2E.%2Fetc"),
            (".hidden", "%2Ehidden"),
            ("a\n\u{1b}[31m", "a%0A%1B%5B31m"),
            ("-", "%2D"),
            ("", "%"),
            ("~", "%7E"),
            ("ä", "%C3%A4"),
        ] {
            assert_eq!(encode(name), file);
        }
        assert_eq!(encode_optional(None), "-");
        let long = ["x".repeat(65_536), "x".repeat(65_537), "/".repeat(65_536)].map(|name| encode(&name));
        assert!(long.iter().all(|name| name.len() <= MAX_BYTES), "{long:?}");
        assert!(long[0] != long[1] && long[1] != long[2]);
        assert_eq!(encode(&"x".repeat(MAX_BYTES)), "x".repeat(MAX_BYTES));
    }

    proptest! {
        #[test]
        fn any_name_is_a_plain_file_name(name in "(?s).{0,300}") {
            let file = encode(&name);
            prop_assert!(!file.is_empty() && file.len() <= MAX_BYTES && !file.starts_with('.'));
            prop_assert!(file.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.%~".contains(&b)), "{}", file);
        }
    }
}
