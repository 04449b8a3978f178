//! Raw keys as tables: the database `rawkv` has one for each column family, of keys and values.
//!
//! Keys are divided among BEs in regions, when the first is written. Each part of an INSERT or DELETE that a BE has
//! confirmed is durable and stays, whatever becomes of the rest: there are no transactions over raw keys, as in TiKV. A
//! query reads each region as it is when the query comes to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use sqlparser::ast::Query;

use super::frontend::{Frontend, SPILL, writable};
use super::load::convert;
use super::{Outcome, StatementContext, reading};
use crate::catalog::{Distribution, Draft, Job, Table, What};
use crate::error::{Error, Misfit, Result, blocking};
use crate::query::RowSet;
use crate::rawkv::store::{Change, ENTRY_BYTES, MAX_KEY, MAX_VALUE};
use crate::rpc::message::{RawEntries, RawGive, RawRange, RawSplit, RawWrite};
use crate::sql::{self, Delete};
use crate::types::{
    BackendId, Column, ColumnFamily, ColumnType, DatabaseId, Entity, KeyRange, Kind, Name, Region, RegionId, Schema,
    TableId, Timestamp,
};

type Batches = BoxStream<'static, Result<RecordBatch>>;

/// The database of the column families.
pub(super) const RAWKV: &str = "rawkv";

/// Keys and values sent to a BE at a time have about so many bytes.
const WRITE_BYTES: usize = 2 << 20;

/// To look at a region is to read it: this is done when so great a part of the size that splits it was written since.
const GROWTH: u64 = 4;

pub(super) fn is_rawkv(database: &str) -> bool {
    database == RAWKV
}

/// Refuses a statement that takes the database for one of tablets.
pub(super) fn refuse(database: &str, statement: &str) -> Result<()> {
    if !is_rawkv(database) {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "{statement} in database '{database}', whose tables are the column families of raw keys; INSERT, DELETE and \
         SELECT change and read them"
    )))
}

/// The table of a column family.
pub(super) fn table(id: TableId, database: DatabaseId, cf: ColumnFamily, now: Timestamp) -> Result<Table> {
    let name = |text: &str| Name::new(text).map_err(Error::internal);
    let column = |field: u32, text: &str| {
        let (name, ty, comment) = (name(text)?, ColumnType::Varbinary, String::new());
        Ok(Column { name, field, ty, nullable: false, default: None, comment })
    };
    Ok(Table {
        id,
        database,
        name: name(&cf.to_string())?,
        schema: Arc::new(Schema { version: 1, keys: 1, columns: vec![column(1, "k")?, column(2, "v")?] }),
        comment: String::new(),
        partition_column: None,
        distribution: Distribution { columns: vec![name("k")?], buckets: 0 },
        replication: 1,
        created: now,
        raw: Some(cf),
        partitions: imbl::OrdMap::new(),
    })
}

/// How often a query names a family.
pub(super) fn reads(context: &StatementContext, query: &Query, cf: ColumnFamily) -> usize {
    let cf = cf.to_string();
    sql::count_tables(query, |name| {
        let mut parts = name.0.iter().rev().map(|part| part.as_ident().map(|ident| ident.value.as_str()));
        let table = parts.next().flatten();
        let database = parts.next().map_or(context.database.as_deref(), |named| named);
        table.is_some_and(|table| table.eq_ignore_ascii_case(&cf)) && database.is_some_and(is_rawkv)
    })
}

/// Answers an INSERT. `targets` are the positions of the columns that the rows have; `aside`: whether they come from the
/// family itself, so that all must be read before the first is stored.
pub(super) async fn insert(
    fe: &Arc<Frontend>,
    context: &StatementContext,
    cf: ColumnFamily,
    table: &Table,
    targets: &[usize],
    rows: RowSet,
    aside: bool,
) -> Result<Outcome> {
    let positions = [0, 1].map(|column| targets.iter().position(|target| *target == column));
    let [Some(key), Some(value)] = positions else {
        return Err(Error::internal("an INSERT without all columns that need a value"));
    };
    let columns = &table.schema.columns;
    let columns = [(key, MAX_KEY, columns[0].clone()), (value, MAX_VALUE, columns[1].clone())];
    let entries = move |batch: RecordBatch| {
        let binary = |(at, most, column): &(usize, usize, Column)| {
            let array = convert(batch.column(*at), column)?;
            if array.null_count() > 0 {
                return Err(Misfit::Null.error(format!("Column '{}' cannot be null", column.name)));
            }
            let values: &BinaryArray = array.as_binary();
            let lengths = values.offsets().lengths();
            match lengths.max().filter(|longest| longest > most) {
                None => Ok((column.name.to_string(), array)),
                Some(longest) => Err(Misfit::TooLong
                    .error(format!("Data too long for column '{}': {longest} bytes, more than {most}", column.name))),
            }
        };
        let columns = columns.iter().map(binary).collect::<Result<Vec<_>>>()?;
        RecordBatch::try_from_iter(columns).map_err(Error::internal)
    };
    let rows = rows.batches.map(move |batch| batch.and_then(&entries)).boxed();
    change(fe, context, cf, rows, aside).await
}

/// Answers a DELETE: reads the keys of the rows, and deletes them.
pub(super) async fn delete(
    fe: &Arc<Frontend>,
    context: &StatementContext,
    delete: &Delete,
    text: &str,
) -> Result<Outcome> {
    let (database, name) = writable(context, &delete.table)?;
    let table = fe.catalog.image().table(database, name)?.clone();
    let Some(cf) = table.raw else {
        return Err(Error::Unsupported(format!("DELETE from tables that are not in database {RAWKV}")));
    };
    // A key is read before it is deleted; but what a subquery reads may be gone by then.
    let aside = sql::aside(text.len(), || reads(context, &delete.rows, cf)) > 1;
    let rows = reading::rows(fe, context, &delete.rows, text).await?;
    let keys = rows.batches.map(|batch| batch?.project(&[0]).map_err(Error::internal)).boxed();
    change(fe, context, cf, keys, aside).await
}

/// Sends changes to the BEs until there are no more rows, or the statement is killed. Rows are keys and values; those
/// without values delete their keys.
async fn change(
    fe: &Arc<Frontend>,
    context: &StatementContext,
    cf: ColumnFamily,
    mut rows: Batches,
    aside: bool,
) -> Result<Outcome> {
    let mut affected = 0;
    let work = async {
        if aside {
            rows = set_aside(&fe.directory()?.join(SPILL), rows).await?;
        }
        create_regions(fe, cf).await?;
        while let Some(batch) = rows.try_next().await? {
            let keys: &BinaryArray = batch.column(0).as_binary();
            let values: Option<&BinaryArray> = batch.columns().get(1).map(|values| values.as_binary());
            let value = |row| values.map(|values| values.value(row).to_vec());
            let change = |row| Change { key: keys.value(row).to_vec(), value: value(row) };
            write(fe, cf, (0..batch.num_rows()).map(change).collect()).await?;
            affected += batch.num_rows() as u64;
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = work => ended,
        err = context.killed() => Err(err),
    };
    match ended {
        Ok(()) => Ok(Outcome::Done { affected, info: String::new(), warnings: Vec::new() }),
        Err(err) if affected == 0 => Err(err),
        Err(err) => {
            tracing::warn!(affected, "a change of raw keys ended in its midst: {}", err.report());
            Err(err)
        }
    }
}

/// The same rows, of one schema, all of which were read by the time they are there: they are in a file, which goes with
/// them.
async fn set_aside(dir: &Path, mut rows: Batches) -> Result<Batches> {
    let Some(first) = rows.try_next().await? else { return Ok(rows) };
    let failed = {
        let dir = dir.to_owned();
        move |err| match err {
            ArrowError::IoError(_, err) => Error::io("set rows of the statement aside in", &dir)(err),
            other => Error::internal(other),
        }
    };
    let (dir, schema) = (dir.to_owned(), first.schema());
    let begin = move || {
        std::fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        tempfile::tempfile_in(&dir).map_err(Error::io("create a file in", &dir))
    };
    let mut file = blocking(begin).await?;
    let written = file.try_clone().map_err(Error::internal)?;
    let mut writer = StreamWriter::try_new_buffered(written, &schema).map_err(&failed)?;
    let mut next = Some(first);
    while let Some(batch) = next {
        let failed = failed.clone();
        let write = move || writer.write(&batch).map_err(failed).map(|()| writer);
        writer = blocking(write).await?;
        next = rows.try_next().await?;
    }
    let ended = failed.clone();
    let read = move || {
        let flushed = writer.into_inner().and_then(|mut written| Ok(written.flush()?));
        flushed.map_err(&ended)?;
        file.rewind().map_err(Error::internal)?;
        StreamReader::try_new_buffered(file, None).map_err(ended)
    };
    let reader = blocking(read).await?;
    let rows = stream::try_unfold(reader, move |mut reader| {
        let failed = failed.clone();
        blocking(move || Ok(reader.next().transpose().map_err(failed)?.map(|batch| (batch, reader))))
    });
    Ok(rows.boxed())
}

/// Divides the keys of a family among the BEs that live, if that has not been done.
pub(super) async fn create_regions(fe: &Frontend, cf: ColumnFamily) -> Result<()> {
    let divided = || fe.catalog.image().regions_in(cf, &KeyRange::default()).next().is_some();
    if divided() {
        return Ok(());
    }
    let _one = fe.jobs.raw_writes().giving.lock().await;
    if divided() {
        return Ok(());
    }
    let owners = fe.fleet.alive();
    if owners.is_empty() {
        return Err(Error::Refused("there is no available BE node to keep raw keys".into()));
    }
    let parts = Region::divide(&owners).map_err(Error::internal)?;
    give(fe, parts.into_iter().map(|(owner, range)| (owner, cf, vec![range])).collect()).await?;
    fe.catalog.commit(|draft| draft.create_regions(cf, &owners)).await
}

/// Makes BEs hold keys, before the catalog says that they do: whoever is asked for others later has lost them.
async fn give(fe: &Frontend, parts: Vec<(BackendId, ColumnFamily, Vec<KeyRange>)>) -> Result<()> {
    let count = parts.len();
    let numbers: Vec<u64> = fe.catalog.commit(|draft| Ok((0..count).map(|_| draft.fresh_id()).collect())).await?;
    // In the order of the numbers.
    for (number, (owner, cf, ranges)) in numbers.into_iter().zip(parts) {
        fe.fleet.backend(owner)?.raw_give(&RawGive { number, cf, ranges }).await?;
    }
    Ok(())
}

/// Regions that were given to other BEs, or are nobody's any more; their contents are lost.
#[derive(Default)]
pub(super) struct Moved(HashMap<RegionId, (Region, Option<BackendId>)>);

/// Gives the regions of BEs that are lost to others, which hold them empty. They are theirs with [`Moved::record`]. Where
/// no other BE lives, a family of which all is lost has no regions then: the next write divides it anew.
pub(super) async fn move_regions(fe: &Frontend, lost: &[BackendId]) -> Result<Moved> {
    let image = fe.catalog.image();
    let heirs: Vec<BackendId> = fe.fleet.alive().into_iter().filter(|backend| !lost.contains(backend)).collect();
    let regions = image.regions.values().filter(|region| lost.contains(&region.owner));
    let mut moved = HashMap::new();
    let mut parts: BTreeMap<(BackendId, ColumnFamily), Vec<KeyRange>> = BTreeMap::new();
    for (n, region) in regions.enumerate() {
        let heir = heirs.get(n % heirs.len().max(1)).copied();
        let is_lost = |region: &Arc<Region>| lost.contains(&region.owner);
        match heir {
            Some(heir) => parts.entry((heir, region.cf)).or_default().push(region.range.clone()),
            None if image.regions_in(region.cf, &KeyRange::default()).all(is_lost) => {}
            None => return Err(Error::Refused("there is no other available BE node to keep raw keys".into())),
        }
        moved.insert(region.id, (Region::clone(region), heir));
    }
    give(fe, parts.into_iter().map(|((heir, cf), ranges)| (heir, cf, ranges)).collect()).await?;
    Ok(Moved(moved))
}

impl Moved {
    /// Makes the regions their new owners'. Fails if one has changed meanwhile.
    pub(super) fn record(&self, draft: &mut Draft, lost: &[BackendId]) -> Result<()> {
        let regions = draft.image().regions.clone();
        for region in regions.values().filter(|region| lost.contains(&region.owner)) {
            match self.0.get(&region.id) {
                Some((known, Some(heir))) if **region == *known => draft.move_region(region, *heir)?,
                Some((known, None)) if **region == *known => draft.forget_region(region),
                _ => return Err(Error::Conflict(Entity::new(Kind::Region, region.id))),
            }
        }
        Ok(())
    }

    /// What to tell about the keys.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut counts: BTreeMap<ColumnFamily, usize> = BTreeMap::new();
        self.0.values().for_each(|(region, _)| *counts.entry(region.cf).or_default() += 1);
        let warning = |(cf, count)| {
            format!("the keys of {count} regions of {RAWKV}.{cf} are lost; RESTORE RAW brings back what a backup has")
        };
        counts.into_iter().map(warning).collect()
    }
}

/// Makes changes, those of one key in their order. On return they are durable.
async fn write(fe: &Frontend, cf: ColumnFamily, changes: Vec<Change>) -> Result<()> {
    let _no_cut = fe.jobs.raw_writes().barrier.read().await;
    let image = fe.catalog.image();
    let restoring = |job: &Job| matches!(job.what(), What::RawRestore(raw) if raw.cf == cf) && !job.state.is_terminal();
    if let Some(job) = image.jobs.values().find(|job| restoring(job)) {
        let text = format!("table {RAWKV}.{cf} is being restored by job {}; write to it when that has ended", job.id);
        return Err(Error::Refused(text));
    }
    let regions: BTreeMap<&[u8], &Arc<Region>> =
        image.regions_in(cf, &KeyRange::default()).map(|region| (region.range.start(), region)).collect();
    let mut of_owner: BTreeMap<_, Vec<(usize, Vec<Change>)>> = BTreeMap::new();
    let mut touched: HashMap<RegionId, (Arc<Region>, u64)> = HashMap::new();
    for change in changes {
        let (_, region) = regions
            .range(..=change.key.as_slice())
            .next_back()
            .ok_or_else(|| Error::Conflict(Entity::new(Kind::Table, format_args!("{RAWKV}.{cf}"))))?;
        let length = change.key.len() + change.value.as_ref().map_or(0, Vec::len);
        touched.entry(region.id).or_insert_with(|| (Arc::clone(region), 0)).1 += length as u64;
        let parts = of_owner.entry(region.owner).or_default();
        let length = length + ENTRY_BYTES;
        match parts.last_mut() {
            Some((bytes, part)) if *bytes < WRITE_BYTES => {
                *bytes += length;
                part.push(change);
            }
            _ => parts.push((length, vec![change])),
        }
    }
    let to_owner = async |(owner, parts)| {
        let backend = fe.fleet.backend(owner)?;
        for (_, changes) in parts {
            fe.catalog.check_not_held()?;
            backend.raw_write(&RawWrite { cf, changes }).await?;
        }
        Ok(())
    };
    let written = futures::future::join_all(of_owner.into_iter().map(to_owner)).await;
    let image = fe.catalog.image();
    for (region, bytes) in touched.values() {
        // It may have been split meanwhile.
        image.regions_in(cf, &region.range).for_each(|part| fe.jobs.raw_writes().grown.add(part.id, *bytes));
    }
    written.into_iter().collect::<Result<()>>()?;
    // What a BE has taken is lost if its keys were given up meanwhile.
    let is_kept = |region: &&Arc<Region>| {
        let mut owners = image.regions_in(cf, &region.range).map(|now| now.owner).peekable();
        owners.peek().is_some() && owners.all(|owner| owner == region.owner)
    };
    match touched.values().map(|(region, _)| region).find(|region| !is_kept(region)) {
        Some(region) => Err(Error::Conflict(Entity::new(Kind::Region, region.id))),
        None => Ok(()),
    }
}

/// Keys and values of ranges that ascend, in order.
pub(super) fn scan(
    fe: Arc<Frontend>,
    cf: ColumnFamily,
    ranges: Vec<KeyRange>,
) -> BoxStream<'static, Result<RecordBatch>> {
    let image = fe.catalog.image();
    let part = |region: &Arc<Region>, range: &KeyRange| {
        region.range.intersection(range).map(|range| (region.owner, RawRange { cf, range }))
    };
    let parts: Vec<_> = ranges
        .iter()
        .flat_map(|range| image.regions_in(cf, range).filter_map(move |region| part(region, range)))
        .collect();
    let read = move |(owner, range)| {
        let fe = fe.clone();
        async move { fe.fleet.backend(owner)?.raw_scan(&range).await }
    };
    stream::iter(parts).then(read).try_flatten().and_then(async |entries| batch(entries)).boxed()
}

fn batch(RawEntries { entries }: RawEntries) -> Result<RecordBatch> {
    let keys = BinaryArray::from_iter_values(entries.iter().map(|(key, _)| key));
    let values = BinaryArray::from_iter_values(entries.iter().map(|(_, value)| value));
    let columns: [(&str, ArrayRef); 2] = [("k", Arc::new(keys)), ("v", Arc::new(values))];
    RecordBatch::try_from_iter(columns).map_err(Error::internal)
}

/// Splits the regions that have grown larger than `raw_region_split_size`.
pub(super) async fn split_grown(fe: &Frontend) {
    let (grown, size) = (&fe.jobs.raw_writes().grown, fe.config.get().raw_region_split_size);
    let image = fe.catalog.image();
    let regions: HashSet<RegionId> = image.regions.values().map(|region| region.id).collect();
    let due = grown.take(size / GROWTH, |region| regions.contains(&region));
    for region in image.regions.values().filter(|region| due.contains(&region.id)) {
        match split(fe, region, size).await {
            // A write that knew the region as it was may have come to any part since its keys were looked at.
            Ok(true) => grown.again(fe.catalog.image().regions_in(region.cf, &region.range).map(|part| part.id)),
            Ok(false) => {}
            Err(err) => {
                tracing::warn!(region = %region.id, "splitting a region: {}", err.report());
                grown.again([region.id]);
            }
        }
    }
}

/// Whether it was large enough to be split, and its keys differ soon enough.
async fn split(fe: &Frontend, region: &Region, bytes: u64) -> Result<bool> {
    let of = RawRange { cf: region.cf, range: region.range.clone() };
    let keys = fe.fleet.backend(region.owner)?.raw_split(&RawSplit { of, bytes }).await?;
    fe.catalog.commit(|draft| draft.split_region(region, &keys)).await
}
