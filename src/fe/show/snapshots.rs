//! SHOW REPOSITORIES, which asks no store, and SHOW SNAPSHOT, which does.
//!
//! A client waits, so there is little patience; what cannot be read is a row that says so and hides no other.

use futures::{StreamExt, stream};
use serde::Serialize;

use super::super::Listing;
use super::super::frontend::Frontend;
use crate::catalog::Image;
use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::repository::manifest::{Info, Lock, Meta};
use crate::sql;
use crate::types::{Label, Name, Timestamp};

/// Requests to object stores at one time.
const AT_ONCE: usize = 16;

pub(super) const SNAPSHOTS: &[&str] =
    &["Snapshot", "Timestamp", "Status", "ClusterId", "FinishTime", "TTL", "ExpireTime"];

/// Of one snapshot at one timestamp.
pub(super) const SNAPSHOT: &[&str] =
    &["Snapshot", "Timestamp", "Database", "Details", "Status", "ClusterId", "FinishTime", "TTL", "ExpireTime"];

pub(super) const REPOSITORIES: &[&str] =
    &["RepoId", "RepoName", "CreateTime", "IsReadOnly", "Location", "Broker", "ErrMsg"];

/// SHOW REPOSITORIES, each with what is known to be wrong with it.
pub(super) fn repositories(fe: &Frontend, image: &Image) -> Listing {
    let mut listing = Listing::new(REPOSITORIES);
    for repository in image.repositories.values() {
        listing.push(vec![
            Some(repository.id.to_string()),
            Some(repository.name.to_string()),
            Some(repository.created.to_string()),
            Some(repository.read_only.to_string()),
            Some(sql::mask_uri(&repository.location)),
            Some(String::new()),
            fe.jobs.health().problem(repository.id).map(|(time, problem)| format!("{time}: {problem}")),
        ]);
    }
    listing
}

/// SHOW SNAPSHOT: all snapshots or those of some labels, or one in detail if a timestamp is given. A snapshot that
/// cannot be read has a row that says why, and so has a label that a BACKUP is writing.
pub(super) async fn snapshots(
    image: &Image,
    now: Timestamp,
    repository: &Name,
    snapshots: &[String],
    timestamp: Option<&str>,
) -> Result<Listing> {
    let known = image.repository(repository)?;
    let repository = Repository::open(&known.name, &known.location, &known.properties)?.hasty();
    // A disk that is not mounted must not pass for an empty repository.
    repository.check(&known.uuid).await?;
    if let (Some(timestamp), [snapshot]) = (timestamp, snapshots) {
        return Ok(detail(&repository, snapshot, timestamp).await);
    }
    // What cannot be a label is none's.
    let mut labels = match snapshots {
        [] => repository.labels().await?,
        named => named.iter().filter_map(|text| Label::new(text.as_str()).ok()).collect(),
    };
    labels.sort();
    labels.dedup();
    let row = |label: Label| {
        let repository = &repository;
        async move { summary(image, now, repository, &label).await }
    };
    let rows: Vec<_> = stream::iter(labels.into_iter().map(row)).buffered(AT_ONCE).collect().await;
    let mut listing = Listing::new(SNAPSHOTS);
    rows.into_iter().for_each(|row| listing.push(row));
    Ok(listing)
}

/// The commits of a label are its snapshots: normally one.
async fn summary(image: &Image, now: Timestamp, repository: &Repository, label: &Label) -> Vec<Option<String>> {
    let (mut timestamps, mut newest, mut status) = (Vec::new(), None, None);
    let timestamps = match repository.label_content(label).await {
        Ok(content) => {
            for timestamp in &content.timestamps {
                match repository.read_info(label, timestamp).await {
                    Ok(Some(info)) => newest = Some(info),
                    // It was written after its time, or deleted meanwhile.
                    Ok(None) => continue,
                    Err(err) => status = Some(failed(&err)),
                }
                timestamps.push(timestamp.as_str());
            }
            if timestamps.is_empty() {
                let own = |lock: &Lock| lock.cluster == image.identity.cluster;
                let ended = |id| image.jobs.get(&id).is_none_or(|job| job.state.is_terminal());
                let is_over = |lock: &Lock| own(lock) && ended(lock.job);
                status = Some(match repository.live_lock(label, &content, now, is_over).await {
                    Ok(Some(lock)) if own(&lock) => format!("RUNNING: BACKUP job {} is writing it", lock.job),
                    Ok(Some(lock)) => format!("RUNNING: a BACKUP of cluster {} is writing it", lock.cluster),
                    Ok(None) => "ERROR: no snapshot".to_owned(),
                    Err(err) => failed(&err),
                });
            }
            (!timestamps.is_empty()).then(|| timestamps.join("\n"))
        }
        Err(err) => {
            status = Some(failed(&err));
            None
        }
    };
    let mut row = vec![Some(label.to_string()), timestamps, Some(status.unwrap_or_else(|| "OK".to_owned()))];
    row.extend(retention(newest.as_ref()));
    row
}

fn failed(err: &Error) -> String {
    format!("ERROR: Failed to get info: {}", err.report())
}

/// ClusterId, FinishTime, TTL, ExpireTime.
fn retention(info: Option<&Info>) -> [Option<String>; 4] {
    [
        info.map(|info| info.cluster_id.to_string()),
        info.map(|info| info.finish_time.to_string()),
        info.and_then(|info| info.ttl.clone()),
        info.and_then(|info| info.expire_time).map(|time| time.to_string()),
    ]
}

async fn detail(repository: &Repository, snapshot: &str, timestamp: &str) -> Listing {
    let read = async {
        let label = Label::new(snapshot).map_err(|err| Error::Refused(err.to_string()))?;
        // It becomes part of a path.
        Timestamp::check_backup_text(timestamp).map_err(|err| Error::Refused(err.to_string()))?;
        let info = repository.read_info(&label, timestamp).await?;
        let info = info.ok_or_else(|| Error::Refused("there is no such snapshot".into()))?;
        let meta = repository.read_meta(&info).await?;
        Ok::<_, Error>((details(&info, &meta)?, info))
    };
    let row = match read.await {
        Ok((details, info)) => {
            let database = info.database.to_string();
            let shown = [snapshot, timestamp, &database, &details, "OK"].map(|text| Some(text.to_owned()));
            [&shown[..], &retention(Some(&info))].concat()
        }
        Err(err) => {
            let status = Some(format!("Failed to get info: {}", err.report()));
            let shown = [Some(snapshot.to_owned()), Some(timestamp.to_owned()), None, None, status];
            [&shown[..], &retention(None)].concat()
        }
    };
    let mut listing = Listing::new(SNAPSHOT);
    listing.push(row);
    listing
}

/// What is in a snapshot: StarRocks' keys, and how much it is.
#[derive(Serialize)]
struct Details<'a> {
    name: &'a str,
    database: &'a str,
    backup_time: i64,
    backup_objects: serde_json::Map<String, serde_json::Value>,
    file_count: u64,
    file_bytes: u64,
    meta_version: u32,
    backup_result: &'static str,
}

fn details(info: &Info, meta: &Meta) -> Result<String> {
    let partitions = |table: &crate::repository::manifest::TableMeta| {
        let names = table.partitions.iter().map(|partition| (partition.name.to_string(), serde_json::json!({})));
        serde_json::json!({ "partitions": names.collect::<serde_json::Map<_, _>>() })
    };
    let details = Details {
        name: &info.label,
        database: &info.database,
        backup_time: info.backup_time.0,
        backup_objects: meta.tables.iter().map(|table| (table.name.to_string(), partitions(table))).collect(),
        file_count: info.file_count,
        file_bytes: info.file_bytes,
        meta_version: meta.format,
        backup_result: "succeed",
    };
    let mut text = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, format);
    details.serialize(&mut serializer).map_err(Error::internal)?;
    String::from_utf8(text).map_err(Error::internal)
}
