//! A repository that an earlier build has written is read by this one: `tests/repository` is of format version 1.

use std::path::PathBuf;

use super::harness::{LATEST, Launch, Scratch, WAIT, files};
use super::sample;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/repository");

/// What its snapshots hold.
const CONTENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/repository/contents.txt");

fn create(statement: &str) -> String {
    format!("{statement} REPOSITORY golden WITH BROKER ON LOCATION 'file://{REPOSITORY}'")
}

/// Restores all that is there: packed objects and single ones, a list of files in several segments, a snapshot that
/// another's objects serve, one of a partition. Nothing is written to it. `HOLDFAST_WRITE_GOLDEN=1` makes it anew, where
/// the format has changed before a release.
#[tokio::test]
async fn a_repository_of_format_1_is_read() {
    let scratch = Scratch::new();
    if std::env::var_os("HOLDFAST_WRITE_GOLDEN").is_some() {
        write(&scratch).await;
    }
    let read = |path: PathBuf| (std::fs::read(&path).unwrap(), path);
    let stored = || files(REPOSITORY).into_iter().map(read).collect::<Vec<_>>();
    let before = stored();
    let (_server, mut client) = Launch::standalone(scratch.path()).open().await;
    client.run(create("CREATE READ ONLY")).await;
    assert_eq!(client.run("SHOW SNAPSHOT ON golden").await.column("Status"), ["OK"; 3]);
    let mut found = String::new();
    for label in ["whole", "more", "part"] {
        client.run(format!("RESTORE SNAPSHOT {label}.{label} FROM golden {LATEST}")).await;
        found += &format!("{label}: {:#?}\n", client.contents(label).await);
    }
    assert_eq!(found, std::fs::read_to_string(CONTENTS).unwrap());
    assert!(stored() == before, "it was written to");
}

async fn write(scratch: &Scratch) {
    let _ = std::fs::remove_dir_all(REPOSITORY);
    let other = scratch.path().join("writer");
    std::fs::create_dir(&other).unwrap();
    let launch = Launch::standalone(&other).set("compaction_interval_ms", 3_600_000);
    let (server, mut client) = launch.env("FAILPOINTS", "backup.segment-rows=return(1)").open().await;
    client.run(create("CREATE")).await;
    sample::create(&mut client, "shop").await;
    for load in 3..9 {
        client.run(sample::events("shop", load)).await;
    }
    client.run(format!("BACKUP SNAPSHOT shop.whole TO golden {WAIT}")).await;
    client.run("INSERT INTO shop.nothing VALUES (1, 'one')").await;
    client.run(format!("BACKUP SNAPSHOT shop.more TO golden {WAIT}")).await;
    client.run(format!("BACKUP SNAPSHOT shop.part TO golden ON (events PARTITION (feb)) {WAIT}")).await;
    let mut written = String::new();
    for label in ["whole", "more", "part"] {
        client.run(format!("RESTORE SNAPSHOT {label}.{label} FROM golden {LATEST}")).await;
        written += &format!("{label}: {:#?}\n", client.contents(label).await);
    }
    let shop = client.contents("shop").await;
    assert_eq!(client.contents("more").await, shop);
    assert!(server.stop().await.success());
    let segments = files(REPOSITORY).into_iter().filter(|file| file.to_str().unwrap().contains("__ss_whole/__files_"));
    assert!(segments.count() > 1);
    std::fs::write(CONTENTS, written).unwrap();
}
