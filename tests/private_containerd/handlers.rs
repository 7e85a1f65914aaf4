//! OCI runtimes in front of runc, for what this machine has not: a systemd that makes slices, and a kernel of cgroup v2
//! alone, where containerd gives each container a cgroup namespace of its own.
//!
//! Shell, because a pod is made by three calls of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The runtime handler of pods whose `cgroup_parent` is a slice: its directories are those that systemd would make,
/// while the container's specification goes on naming `slice:prefix:id`, as on a node with systemd.
pub const SLICES: &str = "slices";

/// The runtime handler of pods whose containers have a cgroup namespace of their own.
pub const CGROUP_NAMESPACES: &str = "cgroupns";

/// All of them.
pub const ALL: [&str; 2] = [SLICES, CGROUP_NAMESPACES];

/// What both begin with: everything but `create` is runc's own affair; `$config` is the bundle's specification.
const BEGIN: &str = r#"#!/bin/sh
set -eu
case " $* " in
    *" create "*) ;;
    *) exec runc "$@" ;;
esac
before=
for word in "$@"; do
    if [ "$before" = --bundle ]; then config=$word/config.json; fi
    before=$word
done
"#;

/// `a-b-c.slice` lies in `a-b.slice`, and that in `a.slice`.
const IN_SLICES: &str = r#"
path=$(sed -n 's/.*"cgroupsPath":"\([^"]*\)".*/\1/p' "$config")
slice=${path%%:*}
unit=${path#*:}
dir=
name=
IFS=-
for part in ${slice%.slice}; do
    name=${name:+$name-}$part
    dir=$dir/$name.slice
done
unset IFS
dir=$dir/${unit%%:*}-${unit#*:}.scope
sed -i "s|\"cgroupsPath\":\"[^\"]*\"|\"cgroupsPath\":\"$dir\"|" "$config"
exec runc "$@"
"#;

const IN_NAMESPACE: &str = r#"
sed -i 's|"namespaces":\[|"namespaces":[{"type":"cgroup"},|' "$config"
exec runc "$@"
"#;

/// Writes them into `dir`, by their names.
pub fn install(dir: &Path) {
    for (name, rest) in [(SLICES, IN_SLICES), (CGROUP_NAMESPACES, IN_NAMESPACE)] {
        let path = dir.join(name);
        fs::write(&path, format!("{BEGIN}{rest}")).expect("write an OCI runtime");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it a program");
    }
}
