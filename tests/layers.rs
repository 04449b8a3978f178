//! The rooms of `src` import only rooms below their own floor, in the order of the design.
//!
//! When this fails, either the import or the list is wrong.

use std::path::Path;

/// From the ground up. Rooms of one floor do not know each other, but for those of the program itself.
const FLOORS: &[&[&str]] = &[
    &["types"],
    &["error"],
    &["acknowledged", "clock", "config", "disk"],
    &["sql", "catalog", "tablet", "rawkv", "repository"],
    &["rpc"],
    &["be"],
    &["query"],
    &["job"],
    &["fe"],
    &["mysql", "http"],
    &["cli"],
    &["demo", "br"],
    &["main"],
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The rooms that a source names after `crate::`, or after `holdfast::` in the program. Comments may speak of any
/// room, and the tests at the end of a file may use any.
fn rooms_used(source: &str) -> Vec<&str> {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    let mut used = Vec::new();
    for line in lines {
        for prefix in ["crate::", "holdfast::"] {
            for (at, _) in line.match_indices(prefix) {
                let path = &line[at + prefix.len()..];
                let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
                used.push(&path[..end]);
            }
        }
    }
    used
}

/// What is wrong with the imports of one room's source.
fn wrong(room: &str, source: &str) -> Vec<String> {
    let Some(own) = floor(room) else { return vec![format!("{room} is on no floor")] };
    let upward = |used: &&str| *used != room && floor(used).is_some_and(|used| used >= own);
    rooms_used(source).into_iter().filter(upward).map(|used| format!("{room} uses {used}")).collect()
}

#[test]
fn rooms_import_only_what_is_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut complaints = Vec::new();
    let paths = walkdir::WalkDir::new(&src).into_iter().map(|entry| entry.unwrap().into_path());
    for path in paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let inside = path.strip_prefix(&src).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if room != "lib" {
            let found = wrong(room, &std::fs::read_to_string(&path).unwrap());
            complaints.extend(found.into_iter().map(|found| format!("{}: {found}", inside.display())));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn upward_and_sideways_imports_are_found() {
    assert!(wrong("job", "use crate::types::JobId;\nuse crate::catalog::{Catalog, Table};").is_empty());
    assert!(wrong("types", "/// See [`Error`](crate::error::Error).\nuse crate::types::Name;").is_empty());
    assert!(
        wrong("sql", "use crate::types::Name;\n#[cfg(test)]\nmod tests {\n    use crate::fe::Session;\n}").is_empty()
    );
    assert_eq!(wrong("tablet", "use crate::catalog::Catalog;"), ["tablet uses catalog"]);
    assert_eq!(wrong("be", "fn f() -> crate::fe::Session {"), ["be uses fe"]);
    assert_eq!(wrong("cellar", ""), ["cellar is on no floor"]);
}
