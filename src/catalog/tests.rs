use std::sync::Arc;

use super::*;
use crate::types::{
    Attempt, BackendId, Column, ColumnFamily, ColumnType, FileId, FileKind, KeyRange, Label, PartitionRange,
    RepositoryId, Sha256, TabletId, Timestamp,
};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn open(dir: &Path) -> Catalog {
    Catalog::open(dir, &Clock::system()).unwrap()
}

/// Opening blocks, so it must not run on a runtime thread.
async fn reopened(dir: &Path) -> Catalog {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || open(&dir)).await.unwrap()
}

fn table(draft: &mut Draft, database: DatabaseId, table: &str) -> Table {
    let column = |field: u32| Column {
        name: name(&format!("c{field}")),
        field,
        ty: ColumnType::Int,
        nullable: true,
        default: None,
        comment: String::new(),
    };
    let partition = Partition {
        id: PartitionId(draft.fresh_id()),
        name: name("p1"),
        range: Some(PartitionRange { lower: None, upper: None }),
        version: 1,
        changed: Timestamp(0),
        replication: 1,
        tablets: (0..2)
            .map(|_| {
                Arc::new(Tablet { id: TabletId(draft.fresh_id()), replicas: vec![BackendId(1)], files: Arc::new([]) })
            })
            .collect(),
    };
    Table {
        id: TableId(draft.fresh_id()),
        database,
        name: name(table),
        schema: Arc::new(Schema { version: 1, keys: 1, columns: (0..300).map(column).collect() }),
        comment: "c".into(),
        partition_column: Some(name("c0")),
        distribution: Distribution { columns: vec![name("c0")], buckets: 2 },
        replication: 1,
        created: Timestamp(5),
        raw: None,
        partitions: OrdMap::unit(name("p1"), Arc::new(partition)),
    }
}

fn file(tablet: TabletId, write: WriteId, number: u32) -> RowsetFile {
    RowsetFile {
        id: FileId { write, tablet, number },
        kind: FileKind::Rows,
        version: 0,
        schema_version: 1,
        size: 10,
        rows: 1,
        sha256: Sha256([7; 32]),
        bounds: None,
    }
}

fn job(id: u64, database: &str) -> Job {
    Job {
        id: JobId(id),
        kind: JobKind::Backup,
        state: JobState::Pending,
        attempt: Attempt(0),
        database: name(database),
        label: Label::new("s").unwrap(),
        repository: RepositoryId(1),
        repository_name: name("r"),
        timestamp: String::new(),
        source_database: None,
        replication: None,
        all_tables: false,
        allow_load: false,
        manifest: None,
        raw: None,
        write: None,
        created: Timestamp(0),
        meta_prepared: None,
        snapshot_finished: None,
        transfer_finished: None,
        finished: None,
        timeout_ms: 1000,
        total: Amount::default(),
        moved: Amount::default(),
        failure: None,
    }
}

#[tokio::test]
async fn what_is_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = reopened(dir.path()).await;
    let cluster = catalog.image().identity.cluster;
    let (table, write) = catalog
        .commit(|draft| {
            let database = draft.create_database(&name("d"), Timestamp(1))?;
            let table = table(draft, database, "t");
            draft.add_table(table.clone())?;
            Ok((table, draft.begin_write()?))
        })
        .await
        .unwrap();
    let partition = table.partitions.values().next().unwrap().clone();
    let files = partition.tablets.iter().map(|tablet| (tablet.id, vec![file(tablet.id, write, 0)])).collect();
    catalog
        .commit(|draft| {
            draft.end_write(write);
            draft.add_files(table.id, partition.id, files, Timestamp(9))
        })
        .await
        .unwrap();
    let before = catalog.image();
    drop(catalog);
    let after = reopened(dir.path()).await.image();
    assert_eq!(after.identity.cluster, cluster);
    assert_eq!(after.sequence, before.sequence);
    assert_eq!(after.next_id, before.next_id);
    assert!(after.writes.is_empty());
    let reread = after.table("d", "t").unwrap();
    assert_eq!(format!("{reread:?}"), format!("{:?}", before.table("d", "t").unwrap()));
    assert_eq!(reread.partition("p1").unwrap().version, 2);
    assert_eq!(reread.partition("p1").unwrap().files().count(), 2);
}

#[tokio::test]
async fn dropping_a_database_leaves_no_record_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = reopened(dir.path()).await;
    let records = |catalog: &Catalog| catalog.store.scan(b"").filter(|entry| entry.is_ok()).count();
    // The first commit of a process also says whose it is.
    catalog.commit(|draft| Ok(draft.fresh_id())).await.unwrap();
    let before = records(&catalog);
    catalog
        .commit(|draft| {
            let database = draft.create_database(&name("d"), Timestamp(1))?;
            let table = table(draft, database, "t");
            draft.add_table(table)
        })
        .await
        .unwrap();
    assert!(records(&catalog) > before + 300);
    catalog.commit(|draft| draft.drop_database("d")).await.unwrap();
    assert_eq!(records(&catalog), before);
    assert!(catalog.image().tables.is_empty());
}

#[tokio::test]
async fn a_commit_that_fails_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = reopened(dir.path()).await;
    let failed: Result<()> = catalog
        .commit(|draft| {
            draft.create_database(&name("d"), Timestamp(1))?;
            Err(Error::internal("no"))
        })
        .await;
    assert!(failed.is_err());
    assert!(catalog.image().databases.is_empty());
    assert_eq!(catalog.image().sequence, 0);
}

#[tokio::test]
async fn what_is_known_of_snapshots_goes_with_what_it_is_about() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = reopened(dir.path()).await;
    let repository = Repository {
        id: RepositoryId(1),
        name: name("r"),
        location: "file:///r".into(),
        read_only: false,
        created: Timestamp(0),
        uuid: String::new(),
        properties: Default::default(),
    };
    let known = |repository, table: &str| Key::known_snapshot(RepositoryId(repository), "d", table);
    let dropped = catalog
        .commit(|draft| {
            let database = draft.create_database(&name("d"), Timestamp(1))?;
            let (kept, dropped) = (table(draft, database, "kept"), table(draft, database, "dropped"));
            let id = dropped.id;
            draft.add_table(kept)?;
            draft.add_table(dropped)?;
            draft.put_repository(repository)?;
            // The last two as jobs leave them whose table or repository is dropped meanwhile.
            let rows = [known(1, "kept"), known(1, "dropped"), known(1, "gone"), known(2, "kept")];
            rows.into_iter().try_for_each(|key| draft.put_row(key, &"snapshot"))?;
            Ok(id)
        })
        .await
        .unwrap();
    catalog.commit(|draft| draft.drop_table(dropped)).await.unwrap();
    let left = |catalog: &Catalog| catalog.keys(Key::new("rs")).unwrap();
    assert_eq!(left(&catalog), [known(1, "gone"), known(1, "kept"), known(2, "kept")].map(Key::bytes));
    drop(catalog);
    assert_eq!(left(&reopened(dir.path()).await), [known(1, "kept").bytes()]);
}

#[test]
fn a_restore_that_queries_see_cannot_be_cancelled() {
    let restore = Job { kind: JobKind::Restore, state: JobState::Committing, ..job(1, "d") };
    assert!(restore.leads_to(JobState::Finished) && !restore.leads_to(JobState::Cancelled));
    let earlier = Job { state: JobState::Commit, ..restore };
    assert!(earlier.leads_to(JobState::Committing) && earlier.leads_to(JobState::Cancelled));
}

#[tokio::test]
async fn one_unfinished_job_holds_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = reopened(dir.path()).await;
    catalog.commit(|draft| draft.add_job(job(1, "d"))).await.unwrap();
    let second = catalog.commit(|draft| draft.add_job(job(2, "d"))).await.unwrap_err();
    assert!(matches!(second, Error::Locked { holder: JobId(1), .. }));
    catalog.commit(|draft| draft.add_job(job(3, "other"))).await.unwrap();
    catalog
        .commit(|draft| {
            draft.reserve(&name("d"), &name("t"), JobId(1))?;
            draft.put_row(Key::job_row(JobId(1), 'p', 0), &"row")
        })
        .await
        .unwrap();
    assert!(catalog.image().check_not_restoring("d", "t").is_err());
    catalog.commit(|draft| draft.put_job(Job { state: JobState::Cancelled, ..job(1, "d") })).await.unwrap();
    assert!(catalog.image().check_not_restoring("d", "t").is_ok());
    catalog.commit(|draft| draft.add_job(job(4, "d"))).await.unwrap();
    drop(catalog);
    let catalog = reopened(dir.path()).await;
    let image = catalog.image();
    assert_eq!(
        image.locks.iter().map(|(name, id)| (name.to_string(), id.0)).collect::<Vec<_>>(),
        [("d".to_owned(), 4), ("other".to_owned(), 3)]
    );
    assert_eq!(catalog.history().count(), 3);
    // Its rows stay until what it has left elsewhere is put away.
    assert_eq!(catalog.jobs_with_rows().unwrap(), [JobId(1)].into());
}

/// Two BEs were once given one id, because a commit that only drew it was taken for one that changed nothing.
#[tokio::test]
async fn an_id_is_drawn_once_even_by_a_commit_without_records() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = reopened(dir.path()).await;
    let first = catalog.commit(|draft| Ok(draft.fresh_id())).await.unwrap();
    let second = catalog.commit(|draft| Ok(draft.fresh_id())).await.unwrap();
    assert_ne!(first, second);
    drop(catalog);
    let third = reopened(dir.path()).await.commit(|draft| Ok(draft.fresh_id())).await.unwrap();
    assert_ne!(second, third);
}

/// Clients were told that a database exists before it was there: another's commit of it was still on its way.
#[tokio::test]
async fn an_answer_waits_for_the_commits_that_it_rests_on() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = reopened(dir.path()).await;
    for n in 0..50 {
        let database = name(&format!("d{n}"));
        let mut first = Box::pin(catalog.commit(|draft| draft.create_database(&database, Timestamp(1))));
        assert!(futures::poll!(&mut first).is_pending());
        let again = catalog.commit(|draft| draft.create_database(&database, Timestamp(1))).await;
        assert!(matches!(again, Err(Error::AlreadyExists(_))), "{again:?}");
        catalog.image().database(&database).unwrap();
        first.await.unwrap();
        catalog.commit(|draft| draft.image().database(&database).map(drop)).await.unwrap();
    }
}

#[tokio::test]
async fn regions_divide_a_family_and_are_split() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = reopened(dir.path()).await;
    let all = KeyRange::default();
    let shown = |catalog: &Catalog, range: &KeyRange| {
        let image = catalog.image();
        let regions = image.regions_in(ColumnFamily::Write, range);
        regions.map(|region| format!("{} {} v{}", region.owner, region.range, region.version)).collect::<Vec<_>>()
    };
    let owners = [1, 2, 3].map(BackendId);
    catalog.commit(|draft| draft.create_regions(ColumnFamily::Write, &owners)).await.unwrap();
    let three = ["1 [, 55) v1", "2 [55, AA) v1", "3 [AA, ) v1"];
    assert_eq!(shown(&catalog, &all), three);
    // Whoever comes second finds them made.
    catalog.commit(|draft| draft.create_regions(ColumnFamily::Write, &owners[..1])).await.unwrap();
    assert_eq!(shown(&catalog, &all), three);
    assert_eq!(catalog.image().regions_in(ColumnFamily::Default, &all).count(), 0);

    let second = catalog.image().regions_in(ColumnFamily::Write, &all).nth(1).unwrap().clone();
    let long = vec![0x99; 5000];
    let keys = [vec![0x55], vec![0x60], vec![0x60], long, vec![0x99; 6000], vec![0xBB]];
    assert!(catalog.commit(|draft| draft.split_region(&second, &keys)).await.unwrap());
    let stale = catalog.commit(|draft| draft.split_region(&second, &keys)).await;
    assert!(matches!(stale, Err(Error::Conflict(_))));
    // Keys that are the same for so long divide nothing, and nothing is committed.
    let sequence = catalog.image().sequence;
    let same = catalog.image().regions_in(ColumnFamily::Write, &all).nth(3).unwrap().clone();
    assert!(!catalog.commit(|draft| draft.split_region(&same, &[vec![0x99; 5000]])).await.unwrap());
    assert_eq!(catalog.image().sequence, sequence);
    drop(catalog);

    let catalog = reopened(dir.path()).await;
    let bound = "99".repeat(1024);
    let five =
        ["1 [, 55) v1", "2 [55, 60) v3", &format!("2 [60, {bound}) v3"), &format!("2 [{bound}, AA) v3"), three[2]];
    assert_eq!(shown(&catalog, &all), five);
    let ids: std::collections::HashSet<_> = catalog.image().regions.values().map(|region| region.id).collect();
    assert!(ids.len() == 5 && ids.contains(&second.id));

    let part = |start: &[u8], end: &[u8]| shown(&catalog, &KeyRange::new(start.to_vec(), end.to_vec()).unwrap());
    assert_eq!(part(&[0x54, 0xFF], &[0x60]), five[..2]);
    assert_eq!(part(&[0x55], &[0x55, 0]), five[1..2]);
    assert_eq!(part(&[0xAA], &[]), five[4..]);
}
