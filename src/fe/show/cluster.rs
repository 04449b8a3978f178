//! SHOWs about where rows are and who serves them: partitions, tablets, BEs, FEs and their configuration.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::Listing;
use super::super::frontend::Frontend;
use super::capacity;
use crate::catalog::{Image, Table};
use crate::error::Result;
use crate::types::{BackendId, ColumnType, Datum, FileId, Name, PartitionRange};

pub(super) const PARTITIONS: &[&str] = &[
    "PartitionId",
    "PartitionName",
    "VisibleVersion",
    "VisibleVersionTime",
    "State",
    "PartitionKey",
    "Range",
    "DistributionKey",
    "Buckets",
    "ReplicationNum",
    "DataSize",
    "RowCount",
];

/// SHOW PARTITIONS, in the order of their ranges.
pub(super) fn partitions(image: &Image, database: &Name, table: &Table) -> Listing {
    let mut listing = Listing::new(PARTITIONS);
    let restoring = image.check_not_restoring(database, &table.name).is_err();
    let key = table.partition_column.as_ref();
    let ty = key.and_then(|key| table.schema.column(key)).map(|column| column.ty);
    let distribution: Vec<&str> = table.distribution.columns.iter().map(|name| &**name).collect();
    for partition in table.ordered_partitions() {
        let range = partition.range.as_ref().zip(ty).map(|(range, ty)| range_text(range, ty));
        listing.row([
            &partition.id.to_string(),
            &partition.name,
            &partition.version.to_string(),
            &partition.changed.to_string(),
            if restoring { "RESTORE" } else { "NORMAL" },
            key.map_or("", |key| key),
            &range.unwrap_or_default(),
            &distribution.join(", "),
            &partition.tablets.len().to_string(),
            &partition.replication.to_string(),
            &capacity(partition.files().map(|file| file.size).sum()),
            &partition.files().map(|file| file.rows).sum::<u64>().to_string(),
        ]);
    }
    listing
}

/// A range as StarRocks writes it.
pub(in crate::fe) fn range_text(range: &PartitionRange, ty: ColumnType) -> String {
    let bound = |bound: &Option<Datum>, none: &str| {
        let text = bound.as_ref().and_then(|value| value.text(ty)).unwrap_or_else(|| none.to_owned());
        format!("types: [{}]; keys: [{text}]; ", ty.to_string().to_uppercase())
    };
    format!("[{}..{})", bound(&range.lower, "MINVALUE"), bound(&range.upper, "MAXVALUE"))
}

pub(super) const TABLETS: &[&str] = &[
    "TabletId",
    "BackendId",
    "Version",
    "DataSize",
    "RowCount",
    "VersionCount",
    "PartitionName",
    "Bucket",
    "Alive",
    "MissingFiles",
];

/// SHOW TABLET: a row for each replica. Files are missing that its BE did not have when it was asked last.
pub(super) fn tablets(fe: &Frontend, table: &Table, only: &[Name]) -> Result<Listing> {
    let mut listing = Listing::new(TABLETS);
    let partitions = match only {
        [] => table.ordered_partitions(),
        names => names.iter().map(|name| table.partition(name)).collect::<Result<_>>()?,
    };
    let mut missing: HashMap<BackendId, HashSet<FileId>> = HashMap::new();
    for partition in partitions {
        for (bucket, tablet) in partition.tablets.iter().enumerate() {
            for backend in &tablet.replicas {
                let missing = missing.entry(*backend).or_insert_with(|| fe.missing(*backend));
                listing.row([
                    &tablet.id.to_string(),
                    &backend.to_string(),
                    &partition.version.to_string(),
                    &capacity(tablet.files.iter().map(|file| file.size).sum()),
                    &tablet.files.iter().map(|file| file.rows).sum::<u64>().to_string(),
                    &tablet.files.len().to_string(),
                    &partition.name,
                    &bucket.to_string(),
                    &fe.fleet.is_alive(*backend).to_string(),
                    &tablet.files.iter().filter(|file| missing.contains(&file.id)).count().to_string(),
                ]);
            }
        }
    }
    Ok(listing)
}

pub(super) const BACKENDS: &[&str] = &[
    "BackendId",
    "IP",
    "HeartbeatPort",
    "BePort",
    "HttpPort",
    "BrpcPort",
    "LastStartTime",
    "LastHeartbeat",
    "Alive",
    "SystemDecommissioned",
    "ClusterDecommissioned",
    "TabletNum",
    "DataUsedCapacity",
    "AvailCapacity",
    "TotalCapacity",
    "UsedPct",
    "MaxDiskUsedPct",
    "ErrMsg",
    "Version",
    "DataTotalCapacity",
    "DataUsedPct",
    "CpuCores",
];

/// SHOW BACKENDS. One port serves all that StarRocks has three ports for. What a BE says of its disk is from its last
/// heartbeat, and NULL before the first.
pub(super) fn backends(fe: &Frontend, image: &Image) -> Listing {
    let mut listing = Listing::new(BACKENDS);
    for backend in image.backends.values() {
        let health = fe.fleet.health(backend.id);
        let missing = fe.missing(backend.id).len();
        let error = match health.error {
            error if error.is_empty() && missing > 0 => {
                format!("rowset files are missing: {missing}; SHOW TABLETS tells whose, to be restored from a snapshot")
            }
            error => error,
        };
        let (tablets, used) = holdings(image, backend.id);
        let alive = health.alive.as_ref();
        let port = Some(backend.port.to_string());
        let used_pct = alive.map(|alive| percent(alive.disk_total.saturating_sub(alive.disk_free), alive.disk_total));
        let data_total = alive.map(|alive| used.saturating_add(alive.disk_free));
        listing.push(vec![
            Some(backend.id.to_string()),
            Some(backend.host.clone()),
            port.clone(),
            port.clone(),
            alive.map(|alive| alive.http_port.to_string()),
            port,
            alive.map(|alive| alive.started.to_string()),
            health.last_heartbeat.map(|time| time.to_string()),
            Some(fe.fleet.is_alive(backend.id).to_string()),
            // No BE is ever being emptied: DROP BACKEND refuses one that holds a last copy.
            Some(false.to_string()),
            Some(false.to_string()),
            Some(tablets.to_string()),
            Some(capacity(used)),
            alive.map(|alive| capacity(alive.disk_free)),
            alive.map(|alive| capacity(alive.disk_total)),
            used_pct.clone(),
            used_pct,
            Some(error),
            alive.map(|alive| alive.version.clone()),
            data_total.map(capacity),
            data_total.map(|total| percent(used, total)),
            alive.map(|alive| alive.cores.to_string()),
        ]);
    }
    listing
}

/// How many replicas a BE has, and their bytes.
fn holdings(image: &Image, backend: BackendId) -> (u64, u64) {
    let tablets = image.tables.values().flat_map(|table| table.partitions.values()).flat_map(|part| &part.tablets);
    let held = tablets.filter(|tablet| tablet.replicas.contains(&backend));
    held.fold((0, 0), |(count, bytes), tablet| {
        (count + 1, bytes + tablet.files.iter().map(|file| file.size).sum::<u64>())
    })
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 })
}

pub(super) const FRONTENDS: &[&str] = &[
    "Name",
    "IP",
    "EditLogPort",
    "HttpPort",
    "QueryPort",
    "RpcPort",
    "Role",
    "ClusterId",
    "Join",
    "Alive",
    "ReplayedJournalId",
    "LastHeartbeat",
    "IsHelper",
    "ErrMsg",
    "StartTime",
    "Version",
];

/// SHOW FRONTENDS: this one. It has no ports for other FEs.
pub(super) fn frontends(fe: &Frontend, image: &Image) -> Listing {
    let mut listing = Listing::new(FRONTENDS);
    let config = fe.config.get();
    let text = |text: &dyn ToString| Some(text.to_string());
    listing.push(vec![
        Some(format!("{}_{}", config.bind_address, fe.ports()[0])),
        text(&config.bind_address),
        None,
        text(&fe.ports()[1]),
        text(&fe.ports()[0]),
        None,
        text(&"LEADER"),
        text(&image.identity.cluster),
        text(&true),
        text(&true),
        text(&image.sequence),
        text(&fe.clock.now()),
        text(&true),
        text(&""),
        text(&fe.started),
        text(&env!("CARGO_PKG_VERSION")),
    ]);
    listing
}

pub(super) const FRONTEND_CONFIG: &[&str] = &["Key", "AliasNames", "Value", "Type", "IsMutable", "Comment"];

/// ADMIN SHOW FRONTEND CONFIG. No key has another name.
pub(super) fn frontend_config(fe: &Arc<Frontend>) -> Listing {
    let mut listing = Listing::new(FRONTEND_CONFIG);
    for setting in fe.config.list() {
        let mutable = setting.mutable.to_string();
        listing.row([setting.name, "[]", &setting.value, setting.kind, &mutable, setting.comment]);
    }
    listing
}
