//! The command line of the process above a container's first one: containerd's shim, or conmon where CRI-O or Podman runs
//! it. Both are root's and are told by flags what they watch, and what runs it.
//!
//! Not here: that the process is what it says; whoever reads it looks that it runs in no container of its own, and which
//! program it is. Its first word is not looked at: who starts a program calls it as he likes.

use super::logs::{self, LogNames};
use crate::model::identity::bounded_name;

/// Most bytes of a command line that are looked at.
pub const MAX_BYTES: usize = 64 << 10;
/// Most words of it.
const MAX_WORDS: usize = 256;

/// What watches a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// A shim of containerd's.
    Shim {
        /// containerd's namespace.
        namespace: String,
        /// The container that it was started for: a pod's sandbox, or the one container.
        id: String,
        /// containerd's socket.
        address: Option<String>,
        /// What runs the container, as containerd calls it: `io.containerd.runsc.v1` of `containerd-shim-runsc-v1`.
        handler: Option<String>,
    },
    /// conmon, of CRI-O and Podman.
    Conmon {
        /// The container.
        id: String,
        /// What the engine calls it.
        name: Option<String>,
        /// The folder of its `config.json`.
        bundle: Option<String>,
        /// The program that runs the container: `/usr/bin/runc`.
        handler: Option<String>,
        /// Whose log it writes, where the kubelet has named that.
        log: Option<LogNames>,
    },
}

/// What the words of a `/proc/PID/cmdline` tell of a process that runs the file `program`; none if that is neither.
pub fn parse(program: &str, cmdline: &[u8]) -> Option<Parent> {
    let cmdline = cmdline.get(..MAX_BYTES).unwrap_or(cmdline);
    let words: Vec<&str> = cmdline
        .split(|b| *b == 0)
        .take(MAX_WORDS)
        .map(|word| std::str::from_utf8(word).unwrap_or_default())
        .collect();
    let (_, words) = words.split_first()?;
    let program = program.rsplit('/').next()?;
    if let Some(shim) = program.strip_prefix("containerd-shim") {
        let name = |flag| value(words, &[flag]).filter(|word| is_plain(word)).map(ToOwned::to_owned);
        return Some(Parent::Shim {
            namespace: name("namespace")?,
            id: name("id")?,
            address: value(words, &["address"]).filter(|path| path.starts_with('/')).map(bounded_name),
            handler: handler(shim),
        });
    }
    if program != "conmon" {
        return None;
    }
    let id = value(words, &["c", "cid"]).filter(|id| is_plain(id))?;
    let path = |flags: &[&str]| value(words, flags).filter(|path| path.starts_with('/') && !goes_up(path));
    // `k8s-file:/path`, or the path alone.
    let log = value(words, &["l", "log-path"]).map(|log| log.split_once(':').map_or(log, |(_, path)| path));
    Some(Parent::Conmon {
        id: id.into(),
        name: value(words, &["n", "name"]).map(bounded_name),
        bundle: path(&["b", "bundle"]).filter(|path| path.len() <= 4_096).map(ToOwned::to_owned),
        // Cut short it would be another's name.
        handler: value(words, &["r", "runtime"]).filter(|path| path.len() <= 253).map(ToOwned::to_owned),
        log: log.and_then(logs::of_path),
    })
}

/// From the end of a shim's name to the runtime's, of which containerd makes it: `-kata-v2` to `io.containerd.kata.v2`,
/// `-aws-firecracker` to `aws.firecracker`.
fn handler(shim: &str) -> Option<String> {
    let (name, last) = shim.strip_prefix('-')?.rsplit_once('-')?;
    let is_version = last.strip_prefix('v').is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    Some(bounded_name(&format!("{}{name}.{last}", if is_version { "io.containerd." } else { "" })))
}

/// The word behind the first of `flags` that is there, with one dash or two; or behind its `=`.
fn value<'a>(words: &[&'a str], flags: &[&str]) -> Option<&'a str> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
        let (name, given) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        if flags.contains(&name) {
            return given.or_else(|| words.next().copied()).filter(|value| !value.is_empty());
        }
    }
    None
}

/// From the text of a `/proc/PID/stat`: the process above it, and when it began in ticks since the boot. A process may be
/// named anything.
pub fn parent_and_start(stat: &str) -> Option<(u32, u64)> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let mut fields = behind_name.split(' ');
    // Fields 4 and 22; 3 is the first behind the name.
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(17)?.parse().ok()?))
}

/// Whether it is an id or a namespace as containerd allows them: it becomes a part of a path.
pub(super) fn is_plain(word: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    word.len() <= 253 && word.bytes().all(allowed) && word.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn goes_up(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd";

    /// Of a process that is called like its program.
    fn read(line: &str) -> Option<Parent> {
        let words: Vec<u8> = line.split(' ').flat_map(|word| word.bytes().chain([0])).collect();
        parse(line.split(' ').next().unwrap_or_default(), &words)
    }

    #[test]
    fn shims_tell_namespace_and_sandbox() {
        for (line, namespace, id, address, handler) in [
            (
                format!(
                    "/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id {ID} -address /run/containerd/containerd.sock"
                ),
                "k8s.io",
                ID,
                Some("/run/containerd/containerd.sock"),
                Some("io.containerd.runc.v2"),
            ),
            (
                "containerd-shim-runsc-v1 -namespace openfaas-fn -id figlet".into(),
                "openfaas-fn",
                "figlet",
                None,
                Some("io.containerd.runsc.v1"),
            ),
            (
                "/x/containerd-shim-kata-qemu-v2 --debug --namespace=moby --id=a".into(),
                "moby",
                "a",
                None,
                Some("io.containerd.kata-qemu.v2"),
            ),
            (
                "containerd-shim-aws-firecracker -namespace a -id b".into(),
                "a",
                "b",
                None,
                Some("aws.firecracker"),
            ),
            ("containerd-shim -namespace a -id b".into(), "a", "b", None, None),
        ] {
            let expected = Parent::Shim {
                namespace: namespace.into(),
                id: id.into(),
                address: address.map(ToOwned::to_owned),
                handler: handler.map(ToOwned::to_owned),
            };
            assert_eq!(read(&line), Some(expected), "{line}");
        }
        for line in [
            "containerd-shim-runc-v2 -namespace k8s.io",
            "containerd-shim-runc-v2 -namespace ../.. -id a",
            "containerd-shim-runc-v2 -namespace a -id a/b",
            "containerd -namespace a -id b",
            "sh -c containerd-shim",
            "",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
        // Its program counts, and not what it calls itself.
        let words = b"containerd-shim-runc-v2\0-namespace\0moby\0-id\0a\0";
        assert_eq!((parse("/usr/bin/su", words), parse("", words)), (None, None));
        assert!(parse("/usr/bin/containerd-shim-runc-v2", words).is_some());
    }

    #[test]
    fn conmon_tells_name_bundle_and_log() {
        let bundle = format!("/run/containers/storage/overlay-containers/{ID}/userdata");
        let line = format!(
            "/usr/bin/conmon --api-version 1 -c {ID} -u {ID} -r /usr/bin/runc -b {bundle} -p /x/pidfile -n web \
             --exit-dir /x -l k8s-file:/var/log/pods/shop_web-1_3c1c2d3e-0000-4111-8222-123456789abc/main/0.log"
        );
        let Some(Parent::Conmon { id, name, bundle: found, handler, log }) = read(&line) else {
            panic!("{line}");
        };
        assert_eq!((id.as_str(), name.as_deref(), found), (ID, Some("web"), Some(bundle)));
        assert_eq!(handler.as_deref(), Some("/usr/bin/runc"));
        let log = log.expect("a log of the kubelet's");
        assert_eq!(
            (log.namespace.as_str(), log.pod.as_str(), log.container.as_deref()),
            ("shop", "web-1", Some("main"))
        );
        let podman = format!("conmon -c {ID} -n web -b /run/../etc -l k8s-file:/x/ctr.log");
        let Some(Parent::Conmon { bundle, handler, log, .. }) = read(&podman) else { panic!("{podman}") };
        assert_eq!((bundle, handler, log), (None, None, None));
    }

    #[test]
    fn a_process_named_to_confuse_still_has_its_parent() {
        let stat = "7 (a) b) R 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 2 3";
        assert_eq!(parent_and_start(stat), Some((3, 4711)));
        for broken in ["", "7 (a", "7 (a) R 1", "7 (a) R x 7 7 0 -1 1 1 0 0 0 0 0 0 0 20 0 1 0 4711"] {
            assert_eq!(parent_and_start(broken), None, "{broken}");
        }
        let own = std::fs::read_to_string("/proc/self/stat").expect("it is there");
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
        assert_eq!(parent_and_start(&own).map(|(parent, _)| parent), Some(parent.unwrap_or(0)));
    }

    proptest! {
        #[test]
        fn any_stat_is_read_or_left_and_no_name_forges_one(
            text in ".{0,80}|[0-9]{1,5} \\(.{0,9}\\)( -?[0-9]{1,21}){0,30}", name in "(\\) R 1 |[0-9 ()]|\\PC){0,15}",
        ) {
            let _ = parent_and_start(&text);
            let stat = format!("7 ({name}) R 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 2 3");
            prop_assert_eq!(parent_and_start(&stat), Some((3, 4711)));
        }

        #[test]
        fn any_bytes_are_survived(
            program in "/?(containerd-shim|conmon)(-|v[0-9]|runsc|\\PC){0,4}",
            words in prop::collection::vec(
                prop_oneof![
                    Just(b"-namespace".to_vec()), Just(b"-r".to_vec()), Just(b"-b".to_vec()), Just(b"/x/y".to_vec()),
                    Just(b"-id".to_vec()), Just(b"-c".to_vec()), Just(b"-l".to_vec()), Just(b"--id=x".to_vec()),
                    prop::collection::vec(any::<u8>(), 0..12),
                ],
                0..20,
            )
        ) {
            let handler = match parse(&program, &words.join(&0)) {
                Some(Parent::Shim { namespace, id, handler, .. }) => {
                    prop_assert!(is_plain(&namespace) && is_plain(&id));
                    handler
                }
                Some(Parent::Conmon { id, handler, .. }) => {
                    prop_assert!(is_plain(&id));
                    handler
                }
                None => None,
            };
            prop_assert!(handler.is_none_or(|handler| handler.len() <= 253));
        }
    }
}
