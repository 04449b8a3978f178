//! SHOW and `information_schema` on an FE without BEs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use imbl::OrdMap;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::super::frontend::{Frontend, Service};
use super::super::session::{Executor, StatementContext};
use super::super::{Outcome, Variables, information_schema};
use crate::catalog::{
    self, Amount, Catalog, Distribution, Draft, Failure, FailureCode, Job, JobKind, JobState, Key, Partition,
    Selection, Table,
};
use crate::clock::Clock;
use crate::config::FeConfig;
use crate::error::{Error, Result};
use crate::job::Jobs;
use crate::repository::Repository;
use crate::repository::manifest::{BUCKET_HASH, FORMAT, Info, Meta, TableMeta};
use crate::rpc::fleet::Fleet;
use crate::sql;
use crate::types::{
    Attempt, Column, ColumnType, Datum, JobId, Label, Name, PartitionId, RepositoryId, Schema, TableId, Timestamp,
};

/// A job that has just been submitted.
pub(super) fn job(id: u64, kind: JobKind) -> Job {
    Job {
        id: JobId(id),
        kind,
        state: JobState::Pending,
        attempt: Attempt(1),
        database: name("d"),
        label: Label::new("l").unwrap(),
        repository: RepositoryId(1),
        repository_name: name("r"),
        timestamp: "2026-11-21-02-30-00-123".into(),
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
        timeout_ms: 86_400_000,
        total: Amount::default(),
        moved: Amount::default(),
        failure: None,
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

type Rows = Vec<Vec<Option<String>>>;

/// An FE without BEs, with the database `d` and the table `d.t`.
struct Server {
    fe: Arc<Frontend>,
    dir: TempDir,
}

impl Server {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, config) = (Clock::system(), FeConfig::default());
        let (meta, opened) = (dir.path().join("meta"), clock.clone());
        std::fs::create_dir(&meta).unwrap();
        let path = meta.clone();
        let catalog = tokio::task::spawn_blocking(move || Catalog::open(&path, &opened).unwrap()).await.unwrap();
        let catalog = Arc::new(catalog);
        let fleet = Fleet::new(catalog.clone(), config.clone(), clock.clone());
        let shutdown = CancellationToken::new();
        let jobs = Jobs::new(catalog.clone(), fleet.clone(), clock.clone(), shutdown);
        let dirs: [&Path; 1] = [&meta];
        let fe = Frontend::new(catalog.clone(), fleet, jobs, config, clock, &dirs).unwrap();
        catalog
            .commit(|draft| {
                let database = draft.create_database(&name("d"), Timestamp(0))?;
                let partition = Partition {
                    id: PartitionId(draft.fresh_id()),
                    name: name("t"),
                    range: None,
                    version: 1,
                    changed: Timestamp(0),
                    replication: 1,
                    tablets: Vec::new(),
                };
                let id = TableId(draft.fresh_id());
                draft.add_table(Table {
                    id,
                    database,
                    name: name("t"),
                    schema: Arc::new(schema()),
                    comment: "a table".into(),
                    partition_column: None,
                    distribution: Distribution { columns: vec![name("k")], buckets: 1 },
                    replication: 1,
                    created: Timestamp(0),
                    raw: None,
                    partitions: OrdMap::unit(name("t"), Arc::new(partition)),
                })
            })
            .await
            .unwrap();
        Self { fe, dir }
    }

    async fn ask(&self, text: &str) -> Result<(Vec<String>, Rows)> {
        let context = StatementContext {
            connection: 1,
            user: name("root"),
            peer: "127.0.0.1:1".parse().unwrap(),
            database: Some(name("d")),
            variables: Variables::new("UTC".into(), 4096),
            global_variables: Variables::new("UTC".into(), 4096),
            user_variables: OrdMap::new(),
            cancel: CancellationToken::new(),
        };
        let parsed = sql::parse(text)?.remove(0);
        let Outcome::Rows { rows, .. } = Service(self.fe.clone()).run(&context, &parsed).await? else {
            panic!("{text} has no rows");
        };
        let mut texts = Vec::new();
        for batch in rows.batches.try_collect::<Vec<_>>().await? {
            for row in 0..batch.num_rows() {
                let cell = |(array, column): (&arrow::array::ArrayRef, &crate::query::ResultColumn)| {
                    Datum::at(array, row).unwrap().text(column.ty)
                };
                texts.push(batch.columns().iter().zip(&rows.columns).map(cell).collect());
            }
        }
        Ok((rows.columns.into_iter().map(|column| column.name).collect(), texts))
    }

    /// The rows, NULL as `-`.
    async fn rows(&self, text: &str) -> Vec<String> {
        let (_, rows) = self.ask(text).await.unwrap_or_else(|err| panic!("{text}: {}", err.report()));
        let line = |row: Vec<Option<String>>| {
            row.into_iter().map(|cell| cell.unwrap_or_else(|| "-".into())).collect::<Vec<_>>().join("|")
        };
        rows.into_iter().map(line).collect()
    }
}

fn schema() -> Schema {
    let column = |field, column: &str, ty, default| Column {
        name: name(column),
        field,
        ty,
        nullable: field > 0,
        default,
        comment: String::new(),
    };
    let default = Some(Datum::Text("x".into()));
    Schema {
        version: 1,
        keys: 1,
        columns: vec![
            column(0, "k", ColumnType::Int, None),
            column(1, "v", ColumnType::String, default),
            column(2, "m", ColumnType::Decimal { precision: 9, scale: 2 }, None),
        ],
    }
}

#[tokio::test]
async fn databases_tables_and_columns_are_shown() {
    let server = Server::start().await;
    for (text, expected) in [
        ("SHOW DATABASES", &["d", "information_schema"][..]),
        ("SHOW DATABASES LIKE 'D%'", &["d"]),
        ("SHOW FULL TABLES", &["t|BASE TABLE"]),
        ("SHOW FULL TABLES FROM information_schema LIKE 'tables'", &["tables|SYSTEM VIEW"]),
        ("DESC t", &["k|int|NO|true|-|", "v|string|YES|false|x|", "m|decimal(9, 2)|YES|false|-|"]),
        ("SHOW FULL COLUMNS FROM t LIKE 'v'", &["v|varchar(65533)|utf8mb4_general_ci|YES|false|x||select|"]),
        ("DESC information_schema.collations sortlen", &["SORTLEN|bigint|YES|false|-|"]),
        ("SHOW CREATE DATABASE d", &["d|CREATE DATABASE `d`"]),
        ("SHOW INDEX FROM t", &[]),
        ("SHOW BACKENDS", &[]),
        ("SHOW REPOSITORIES", &[]),
        ("SHOW BACKUP", &[]),
        ("SHOW RESTORE FROM d", &[]),
        (
            "ADMIN SHOW FRONTEND CONFIG LIKE 'query_port'",
            &["query_port|[]|9030|int|false|The port of the MySQL protocol; 0 picks a free one."],
        ),
    ] {
        assert_eq!(server.rows(text).await, expected, "{text}");
    }
    let partitions = server.rows("SHOW PARTITIONS FROM t WHERE PartitionName = 't'").await;
    assert!(partitions[0].contains("|NORMAL|||k|0|1|0.000 B|0"), "{partitions:?}");
    let status = server.rows("SHOW TABLE STATUS LIKE 't'").await;
    assert!(status[0].starts_with("t|OLAP|-|-|0|0|0|") && status[0].ends_with("|a table"), "{status:?}");
    assert_eq!(server.rows("SHOW FRONTENDS").await.len(), 1);
    for text in ["DESC nothing", "DESC information_schema.nothing", "SHOW TABLES FROM nowhere", "SHOW BACKUP FROM no"] {
        assert!(matches!(server.ask(text).await, Err(Error::NotFound(_))), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_can_be_read() {
    let server = Server::start().await;
    for view in information_schema::names() {
        let (headers, _) = server.ask(&format!("SELECT * FROM information_schema.{view}")).await.unwrap();
        let described = server.ask(&format!("DESC information_schema.{view}")).await.unwrap().1;
        let columns: Vec<_> = described.into_iter().filter_map(|mut row| row.swap_remove(0)).collect();
        assert_eq!(headers, columns, "{view}");
    }
    let query = "SELECT column_name, data_type, column_type, numeric_precision, numeric_scale, is_nullable FROM \
                 INFORMATION_SCHEMA.COLUMNS WHERE table_schema = 'd' ORDER BY ordinal_position";
    assert_eq!(
        server.rows(query).await,
        ["k|int|int|10|0|NO", "v|varchar|varchar(65533)|-|-|YES", "m|decimal|decimal(9, 2)|9|2|YES",]
    );
    let query = "SELECT table_name, table_rows FROM information_schema.tables WHERE table_schema = 'd'";
    assert_eq!(server.rows(query).await, ["t|0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_job_of_each_kind_is_shown_and_all_are_history() {
    let server = Server::start().await;
    let commit = |id: u64, kind, state, failure: Option<Failure>| {
        let catalog = server.fe.catalog.clone();
        async move {
            let ended = Job { state, failure, finished: Some(Timestamp(0)), ..job(id, kind) };
            catalog.commit(|draft| draft.add_job(job(id, kind))).await.unwrap();
            let selection = Selection { table: name("t"), partitions: vec![name("t")], alias: None };
            catalog
                .commit(|draft| {
                    draft.put_row(Key::selection(JobId(id), 0), &selection)?;
                    draft.put_job(ended)
                })
                .await
                .unwrap();
        }
    };
    let pass = |draft: &mut Draft| {
        while draft.fresh_id() < 20_003 {}
        Ok(())
    };
    server.fe.catalog.commit(pass).await.unwrap();
    let failure = Failure { code: FailureCode::CommonError, message: "user cancelled".into(), state: None };
    commit(20_001, JobKind::Backup, JobState::Cancelled, Some(failure)).await;
    commit(20_002, JobKind::Backup, JobState::Finished, None).await;
    commit(20_003, JobKind::Restore, JobState::Finished, None).await;
    let epoch = Timestamp(0);
    assert_eq!(
        server.rows("SHOW BACKUP FROM d").await,
        [format!("20002|l|d|FINISHED|[d.t PARTITIONS (t)]|{epoch}|-|-|{epoch}||||[OK]|86400")]
    );
    assert_eq!(
        server.rows("SHOW RESTORE LIKE 'L'").await,
        [format!(
            "20003|l|2026-11-21-02-30-00-123|d|FINISHED|false|1|t PARTITIONS [t]|{epoch}|-|-|-|{epoch}||||[OK]|86400"
        )]
    );
    assert_eq!(server.rows("SHOW BACKUP LIKE 'x'").await, [""; 0]);
    let query = "SELECT job_id, state, error FROM information_schema.backup_jobs ORDER BY job_id";
    assert_eq!(server.rows(query).await, ["20001|CANCELLED|[COMMON_ERROR, msg: user cancelled]", "20002|FINISHED|-",]);
    assert_eq!(server.rows("SELECT job_id FROM information_schema.restore_jobs").await, ["20003"]);
}

#[tokio::test]
async fn a_damaged_snapshot_does_not_hide_the_others() {
    let server = Server::start().await;
    let clock = Clock::system();
    let location = format!("file://{}", server.dir.path().join("backups").display());
    let repository = Repository::open(&name("r"), &location, &Default::default()).unwrap();
    let made = repository.create(false, &clock).await.unwrap();
    let known = catalog::Repository {
        id: RepositoryId(30_001),
        name: name("r"),
        location: location.clone(),
        read_only: false,
        created: made.created,
        uuid: made.id,
        properties: Default::default(),
    };
    server.fe.catalog.commit(|draft| draft.put_repository(known)).await.unwrap();
    let timestamp = "2026-11-21-02-30-00-123";
    let (good, bad) = (Label::new("good").unwrap(), Label::new("bad").unwrap());
    let table = TableMeta {
        name: name("t"),
        schema: schema(),
        comment: String::new(),
        partition_column: None,
        distribution: vec![name("k")],
        buckets: 1,
        replication: 1,
        partitions: Vec::new(),
    };
    let meta = Meta { format: FORMAT, least_reader: FORMAT, bucket_hash: BUCKET_HASH.into(), tables: vec![table] };
    let cluster = server.fe.catalog.image().identity.cluster;
    for label in [&good, &bad] {
        let info = Info {
            format: FORMAT,
            least_reader: FORMAT,
            label: label.clone(),
            timestamp: timestamp.into(),
            backup_time: Timestamp(1),
            finish_time: Timestamp(2),
            deadline: Timestamp(3),
            cluster_id: cluster,
            job: JobId(1),
            database: name("d"),
            meta: repository.write_meta(label, timestamp, &meta).await.unwrap(),
            files: Vec::new(),
            file_count: 0,
            file_bytes: 0,
            ttl: None,
            expire_time: None,
        };
        repository.commit(&info).await.unwrap();
    }
    let root = repository.local_path().unwrap();
    std::fs::write(root.join(format!("__ss_bad/__info_{timestamp}")), "{}").unwrap();
    let rows = server.rows("SHOW SNAPSHOT ON r").await;
    assert!(rows[0].starts_with(&format!("bad|{timestamp}|ERROR: Failed to get info: corrupt ")), "{rows:?}");
    assert!(rows[0].ends_with("|-|-|-|-"), "{rows:?}");
    let finished = Timestamp(2);
    assert_eq!(rows[1], format!("good|{timestamp}|OK|{cluster}|{finished}|-|-"));
    assert_eq!(rows.len(), 2);
    let (_, detail) =
        server.ask(&format!("SHOW SNAPSHOT ON r WHERE timestamp = '{timestamp}' AND snapshot = 'good'")).await.unwrap();
    let details: serde_json::Value = serde_json::from_str(detail[0][3].as_deref().unwrap()).unwrap();
    assert_eq!(details["backup_objects"]["t"]["partitions"], serde_json::json!({}));
    assert_eq!((detail[0][2].as_deref(), detail[0][4].as_deref()), (Some("d"), Some("OK")));
    let missing = server.rows("SHOW SNAPSHOT ON r WHERE snapshot = 'good' AND timestamp = '../good'").await;
    assert!(missing[0].contains("|-|-|Failed to get info: "), "{missing:?}");
    assert!(matches!(server.ask("SHOW SNAPSHOT ON nowhere").await, Err(Error::NotFound(_))));

    let healthy = server.rows("SHOW REPOSITORIES LIKE 'R'").await;
    assert!(healthy[0].ends_with(&format!("|false|{location}||-")), "{healthy:?}");
    std::fs::rename(&root, root.with_extension("gone")).unwrap();
    let stop = CancellationToken::new();
    let watching = tokio::spawn(crate::fe::watch_repositories(server.fe.clone(), stop.clone()));
    let seen = async {
        while !server.rows("SHOW REPOSITORIES").await[0].contains("is the storage mounted?") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), seen).await.expect("the repository's absence is seen");
    stop.cancel();
    watching.await.unwrap();
    assert!(server.ask("SHOW SNAPSHOT ON r").await.is_err());
}
