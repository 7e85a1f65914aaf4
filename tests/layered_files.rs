//! Files that containers of one image share until one of them writes: on an overlay, what a container makes of its own
//! must never be read as another's.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use fnscope::model::{InstanceNo, Pid};
use fnscope::stack::{Files, Mapped, MappedFile};

use crate::store_faults::Disk;

const IMAGE: &[u8] = b"as in the image";
const FORGED: &[u8] = b"as is forged   ";

/// Two containers' file systems above one image.
struct Containers(Disk);

impl Containers {
    fn new() -> Containers {
        let containers = Containers(Disk::new("size=4M"));
        let disk = containers.0.path();
        fs::create_dir(disk.join("image")).expect("make a layer");
        fs::write(disk.join("image/lib"), IMAGE).expect("write the image");
        for name in ["first", "second"] {
            let layer = |kind: &str| {
                let path = disk.join(format!("{name}-{kind}"));
                fs::create_dir(&path).expect("make a layer");
                path.to_str().expect("a plain path").to_owned()
            };
            let image = disk.join("image");
            let options =
                format!("lowerdir={},upperdir={},workdir={}", image.display(), layer("own"), layer("work"));
            let mut mount = Command::new("mount");
            mount.args(["-t", "overlay", "-o", &options, "fnscope-test", &layer("root")]);
            assert!(mount.status().expect("run mount").success(), "{mount:?} needs root");
        }
        containers
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(format!("{name}-root/lib"))
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        for name in ["first", "second"] {
            let _ = Command::new("umount").arg(self.0.path().join(format!("{name}-root"))).status();
        }
    }
}

/// What a process of `owner` has mapped from `path`. Ours maps nothing at this place, so the path is followed.
fn mapped(files: &mut Files, owner: u32, path: &Path) -> Arc<MappedFile> {
    let path = path.to_str().expect("a plain path");
    match files.mapped(InstanceNo(owner), Pid(std::process::id()), 0, 1, path, None) {
        Mapped::File(file) => file,
        other => panic!("{other:?}"),
    }
}

fn content(file: &MappedFile) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    let read = file.read(|fd| rustix::io::pread(&fd, &mut bytes, 0).expect("read it"));
    bytes.truncate(read.expect("it is here"));
    bytes
}

#[test]
fn what_a_container_has_made_of_a_file_of_its_image_is_not_read_as_anothers() {
    let (containers, mut files) = (Containers::new(), Files::default());
    let (first, second) = (containers.file("first"), containers.file("second"));
    let its = mapped(&mut files, 1, &first);
    fs::write(&first, FORGED).expect("write a container's own");
    assert_eq!(content(&its), FORGED, "its own is for it to forge");
    let others = mapped(&mut files, 2, &second);
    assert_eq!(content(&others), IMAGE);
    assert_ne!(its.id, others.id);
    // Whoever comes later shares with those who have left it as it was.
    assert_eq!(mapped(&mut files, 3, &second).id, others.id);
}

#[test]
fn a_container_that_changes_a_file_others_have_mapped_too_takes_nothing_from_them() {
    for read_before in [false, true] {
        let (containers, mut files) = (Containers::new(), Files::default());
        let (first, second) = (containers.file("first"), containers.file("second"));
        let its = mapped(&mut files, 1, &first);
        let others = mapped(&mut files, 2, &second);
        assert_eq!(its.id, others.id, "known by its inode and times, whatever the mount");
        if read_before {
            assert_eq!(content(&its), IMAGE);
        }
        // An overlay gives a container's own even to who opened the file before.
        fs::write(&first, FORGED).expect("write a container's own");
        assert_eq!(content(&others), IMAGE);
    }
}

#[test]
fn what_a_container_writes_while_its_file_is_read_is_not_anothers() {
    let (containers, mut files) = (Containers::new(), Files::default());
    let (first, second) = (containers.file("first"), containers.file("second"));
    let its = mapped(&mut files, 1, &first);
    let mut others = None;
    let read = its.read(|fd| {
        if others.is_none() {
            fs::write(&first, FORGED).expect("write a container's own");
            others = Some(mapped(&mut files, 2, &second));
        }
        let mut bytes = [0; IMAGE.len()];
        rustix::io::pread(&fd, &mut bytes, 0).expect("read it");
        bytes
    });
    assert_eq!(others.expect("it was read").id, its.id, "not read yet when the second came");
    assert_eq!(read.as_ref().map(<[u8; IMAGE.len()]>::as_slice), Some(IMAGE));
    // All who share it have changed it: there is nothing left to read, and nothing wrong.
    fs::write(&second, FORGED).expect("write a container's own");
    assert_eq!(its.read(|_| ()), None);
}

#[test]
fn a_file_is_read_when_its_container_has_been_removed() {
    let (containers, mut files) = (Containers::new(), Files::default());
    let first = containers.file("first");
    // One of its own, not of the image.
    let own = first.with_file_name("own");
    fs::write(&own, FORGED).expect("write a container's own");
    let (its, image) = (mapped(&mut files, 1, &own), mapped(&mut files, 1, &first));
    let root = first.parent().expect("a folder");
    // The handles keep it mounted for themselves.
    let removed = Command::new("umount").arg("--lazy").arg(root).status().expect("run umount");
    assert!(removed.success());
    let layer = root.with_file_name("first-own");
    fs::remove_dir_all(layer).expect("remove its layer");
    assert_eq!(content(&its), FORGED);
    assert_eq!(content(&image), IMAGE);
}

#[test]
fn a_file_of_two_names_is_shown_by_the_one_it_was_mapped_by() {
    let (containers, mut files) = (Containers::new(), Files::default());
    let first = containers.0.path().join("image/lib");
    let second = first.with_file_name("other");
    fs::hard_link(&first, &second).expect("make a link");
    let names =
        [1, 2].map(|owner| [&first, &second].map(|path| mapped(&mut files, owner, path).name.clone()));
    assert_eq!(names, [["lib", "other"], ["lib", "other"]]);
}
