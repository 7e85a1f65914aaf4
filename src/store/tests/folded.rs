//! The folded tree.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::data::{EIGHT, identity, info, instance, only_journal, sample, store, writer};
use crate::model::{Batch, Confidence, Entry, Identity, InstanceNo, Timestamp};
use crate::store::Store;

/// Every file below `folder`, by its path from there, decompressed.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for file in fs::read_dir(next).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut text = String::new();
            flate2::read::GzDecoder::new(fs::File::open(&path).unwrap()).read_to_string(&mut text).unwrap();
            files.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned(), text);
        }
    }
    files
}

fn write(store: &Store, batches: &[Batch]) -> String {
    let mut journal = store.journal(writer("node-1")).unwrap();
    for batch in batches {
        journal.append(batch).unwrap();
    }
    let name = only_journal(store).name().to_owned();
    journal.finish().unwrap();
    name
}

#[test]
fn each_function_and_hour_has_its_file() {
    let (_folder, store) = store();
    let (no, hour) = (InstanceNo, 3_600_000_000);
    let entries = vec![
        instance(1),
        instance(2),
        instance(3),
        instance(4),
        identity(1, EIGHT, "figlet"),
        identity(2, EIGHT, "figlet"),
        Entry::Identity { no: no(3), from: Timestamp(EIGHT), identity: Identity::not_a_function("docker") },
        Entry::Exec { no: no(1), at: Timestamp(EIGHT + 10) },
        identity(2, EIGHT + 500, "pi"),
    ];
    let late = sample(1, EIGHT - 1, &["main [figlet]"]);
    let mut other_quality = sample(2, EIGHT + 2, &["main [figlet]", "a [figlet]"]);
    other_quality.stack =
        crate::model::Stack::new(other_quality.stack.frames().to_vec(), Default::default()).into();
    let samples = vec![
        sample(1, EIGHT + 9, &["runc [runc]"]),
        sample(1, EIGHT + 10, &["main [figlet]", "a [figlet]"]),
        sample(1, EIGHT + 11, &["main [figlet]"]),
        other_quality,
        sample(2, EIGHT + 1, &["main [figlet]", "a [figlet]"]),
        sample(2, EIGHT + 500, &["main [pi]"]),
        sample(2, EIGHT + 501, &[]),
        sample(3, EIGHT + 1, &["main [dockerd]"]),
        sample(4, EIGHT + 1, &["forged;frame\n [x]"]),
    ];
    let first = Batch { entries, samples, ..Batch::default() };
    // Named after its samples came, and with samples of the hour before.
    let entries = vec![instance(5), identity(5, EIGHT, "late")];
    let second =
        Batch { entries, samples: vec![late, sample(5, EIGHT - hour, &["main [late]"])], ..Batch::default() };
    let name = write(&store, &[first, second]);
    let files = tree(&store.root().join("folded"));
    let expected = [
        (
            format!("openfaas-swarm/-/figlet/v1/2026-11-23T08-{name}.folded.gz"),
            "main [figlet] 1\nmain [figlet];a [figlet] 3\n",
        ),
        (format!("openfaas-swarm/-/late/v1/2026-11-23T07-{name}.folded.gz"), "main [late] 1\n"),
        (
            format!("openfaas-swarm/-/pi/v1/2026-11-23T08-{name}.folded.gz"),
            "[unwound short] 1\nmain [pi] 1\n",
        ),
        (
            format!("unknown/-/{}/-/2026-11-23T08-{name}.folded.gz", info(4).unnamed_function()),
            "forged\\x3bframe\\x0a [x] 1\n",
        ),
    ];
    let expected: BTreeMap<String, String> =
        expected.into_iter().map(|(path, text)| (path, text.into())).collect();
    assert_eq!(files, expected);

    assert_eq!(store.fold_leftovers(None).unwrap(), Default::default(), "all is done");
    let journal = only_journal(&store);
    fs::remove_file(journal.path().with_extension("folded")).unwrap();
    fs::remove_dir_all(store.root().join("folded")).unwrap();
    fs::create_dir(store.root().join("folded")).unwrap();
    assert_eq!(store.fold_leftovers(Some(journal.path())).unwrap().journals, 0, "own");
    let folded = store.fold_leftovers(None).unwrap();
    assert_eq!((folded.journals, folded.files, folded.samples), (1, 4, 8));
    assert_eq!(tree(&store.root().join("folded")), expected, "the same files again");
}

#[test]
fn hostile_names_stay_inside_the_tree() {
    let (folder, store) = store();
    let names = [
        "../../../../escape",
        "..",
        ".",
        "",
        "-",
        "a\nb",
        "\u{1b}[31mred",
        "/etc/passwd",
        "a\0b",
        &"x".repeat(65_536),
    ];
    let mut batch = Batch::default();
    for (no, name) in names.iter().enumerate() {
        let name = Some((*name).to_owned());
        let identity = Identity {
            function_container: true,
            platform: name.clone(),
            namespace: name.clone(),
            function: name.clone(),
            revision: name.clone(),
            instance_name: name,
            confidence: Confidence::Guessed,
            rule: "test".into(),
        };
        let no = no as u32;
        batch
            .entries
            .extend([instance(no), Entry::Identity { no: InstanceNo(no), from: Timestamp(EIGHT), identity }]);
        batch.samples.push(sample(no, EIGHT + i64::from(no), &["main [x]"]));
    }
    let mut unnamed = info(100);
    unnamed.container_id = "../../escape".into();
    batch.entries.push(Entry::Instance { no: InstanceNo(100), info: unnamed });
    batch.samples.push(sample(100, EIGHT + 100, &["main [x]"]));
    write(&store, &[batch]);
    let files = tree(&store.root().join("folded"));
    assert_eq!(files.len(), names.len() + 1);
    for path in files.keys() {
        assert!(
            path.split('/').count() == 5
                && path.split('/').all(|part| part.len() <= 255 && !part.starts_with('.')),
            "{path}"
        );
        assert!(path.bytes().all(|b| b.is_ascii_graphic()), "{path}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing beside the store");
    assert_eq!(fs::read_dir(store.root()).unwrap().count(), 4, "nothing new in the store");
}
