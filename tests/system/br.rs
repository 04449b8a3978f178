//! `holdfast br`.

use std::path::Path;
use std::process::{Command, Output};

use super::harness::{HOLDFAST, Scratch};

fn br(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(HOLDFAST).arg("br").args(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A copy of a backup that an earlier Holdfast made.
fn golden_copy(to: &Path) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rawkv/golden");
    for entry in walkdir::WalkDir::new(&golden).min_depth(1) {
        let entry = entry.unwrap();
        let path = to.join(entry.path().strip_prefix(&golden).unwrap());
        match entry.file_type().is_dir() {
            true => std::fs::create_dir(path).unwrap(),
            false => drop(std::fs::copy(entry.path(), path).unwrap()),
        }
    }
}

#[test]
fn a_backup_is_looked_into_without_a_server() {
    let scratch = Scratch::new();
    golden_copy(scratch.path());
    let storage = format!("local://{}", scratch.path().display());

    let (code, out, err) = br(&["debug", "decode", "--pd", "127.0.0.1:2379", "-s", &storage]);
    assert_eq!((code, err.as_str()), (0, "warning: --pd has no effect here\n"));
    assert_eq!(out, format!("backupmeta decoded at {}\n", scratch.sub("backupmeta.json")));
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(scratch.sub("backupmeta.json")).unwrap()).unwrap();
    assert_eq!((&json["is_raw_kv"], json["files"].as_array().unwrap().len()), (&true.into(), 3));

    let (code, out, err) = br(&["debug", "checksum", "-s", &storage]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.ends_with("\nbackup data checksum succeed!\n"), "{out}");

    let name = json["files"][1]["name"].as_str().unwrap();
    let mut bytes = std::fs::read(scratch.path().join(name)).unwrap();
    bytes[100] ^= 1;
    std::fs::write(scratch.path().join(name), bytes).unwrap();
    let (code, out, err) = br(&["debug", "checksum", "-s", &storage]);
    assert_eq!((code, err), (1, format!("holdfast: {} is damaged\n", scratch.path().display())));
    assert!(out.contains(&format!("{name}: FAILED: corrupt backup file {name}: calculated sha256 is ")), "{out}");
    assert!(out.ends_with("backup data checksum failed: 1 of 3 files may be changed\n"), "{out}");

    std::fs::remove_file(scratch.sub("backupmeta")).unwrap();
    let (code, _, err) = br(&["debug", "decode", "-s", &storage]);
    assert_eq!(code, 1);
    assert!(err.starts_with(&format!("holdfast: read {}: No such file", scratch.sub("backupmeta"))), "{err}");

    let (code, _, err) = br(&["debug", "checksum"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("holdfast: empty store is not allowed: [BR:ExternalStorage:"), "{err}");
}
