use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{concat, concat_batches};
use futures::TryStreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::error::{Error, Result};
use crate::types::{
    Column, ColumnType, Datum, FileId, Name, RowsetFile, Schema, TableId, TabletId, Timestamp, WriteId,
};

const TYPES: [ColumnType; 12] = [
    ColumnType::Int,
    ColumnType::Boolean,
    ColumnType::TinyInt,
    ColumnType::SmallInt,
    ColumnType::BigInt,
    ColumnType::Double,
    ColumnType::Decimal { precision: 9, scale: 2 },
    ColumnType::Decimal { precision: 38, scale: 10 },
    ColumnType::Date,
    ColumnType::DateTime,
    ColumnType::Varchar(300),
    ColumnType::String,
];

struct Fixture {
    _dir: tempfile::TempDir,
    store: Arc<Store>,
    schema: Schema,
    random: StdRng,
}

impl Fixture {
    /// A table with a column of each type, the first `keys` of them the key.
    fn new(keys: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path().join("be/storage")).unwrap());
        let columns = TYPES.iter().enumerate().map(|(at, ty)| column(&format!("c{at}"), at as u32 + 1, *ty)).collect();
        let schema = Schema { version: 1, keys, columns };
        Self { _dir: dir, store, schema, random: StdRng::seed_from_u64(7) }
    }

    fn batch(&mut self, rows: usize) -> RecordBatch {
        let random = &mut self.random;
        let columns = self.schema.columns.iter().map(|column| array(random, column.ty, rows)).collect();
        RecordBatch::try_new(self.schema.arrow(), columns).unwrap()
    }

    fn of(&self, write: u64) -> RowsetOf {
        let schema = self.schema.clone().into();
        RowsetOf { table: TableId(1), tablet: TabletId(5), write: WriteId(write), schema }
    }

    fn write(&self, write: u64, batches: &[RecordBatch], limits: Limits) -> Vec<RowsetFile> {
        let mut writer = RowsetWriter::new(self.store.clone(), self.of(write), 0, limits);
        for batch in batches {
            writer.write(batch.clone()).unwrap();
        }
        self.install(writer.finish().unwrap())
    }

    fn install(&self, made: Vec<(RowsetFile, Staged)>) -> Vec<RowsetFile> {
        let (files, staged): (Vec<_>, Vec<_>) =
            made.into_iter().map(|(file, staged)| (file.clone(), (staged, file.id))).unzip();
        self.store.install(staged).unwrap();
        files
    }

    fn spec(&self) -> ScanSpec {
        let projection = (0..self.schema.columns.len()).collect();
        ScanSpec { schema: self.schema.clone(), projection, filters: Vec::new(), limit: None }
    }

    fn scan(&self, files: &[RowsetFile], spec: &ScanSpec) -> Result<RecordBatch> {
        let scan = Scan::new(self.store.clone(), files.to_vec(), spec.clone())?;
        let schema = scan.schema();
        let batches = scan.collect::<Result<Vec<_>>>()?;
        Ok(concat_batches(&schema, &batches).unwrap())
    }
}

fn column(name: &str, field: u32, ty: ColumnType) -> Column {
    let name = Name::new(name).unwrap();
    Column { name, field, ty, nullable: true, default: None, comment: String::new() }
}

fn datum(random: &mut StdRng, ty: ColumnType) -> Datum {
    if random.random_ratio(1, 7) {
        return Datum::Null;
    }
    match ty {
        ColumnType::Boolean => Datum::Bool(random.random()),
        ColumnType::TinyInt => Datum::Int(random.random::<i8>().into()),
        ColumnType::SmallInt | ColumnType::Int | ColumnType::BigInt => Datum::Int(random.random_range(-1000..1000)),
        ColumnType::Double => Datum::Double(f64::from(random.random_range(-8..8_i32)) / 4.0),
        ColumnType::Decimal { .. } => Datum::Decimal(random.random_range(-1000..1000)),
        ColumnType::Date => Datum::Date(random.random_range(-1000..1000)),
        ColumnType::DateTime => Datum::DateTime(random.random_range(-1000..1000)),
        ColumnType::Char(_) | ColumnType::Varchar(_) | ColumnType::String => {
            let long = "x".repeat(if random.random_ratio(1, 50) { 100 } else { 0 });
            Datum::Text(format!("{long}é{}", random.random_range(0..300)))
        }
        ColumnType::Varbinary => Datum::Bytes(vec![random.random(); random.random_range(0..5)]),
    }
}

fn array(random: &mut StdRng, ty: ColumnType, rows: usize) -> ArrayRef {
    let values: Vec<ArrayRef> = (0..rows).map(|_| datum(random, ty).array(ty, 1).unwrap()).collect();
    let values: Vec<&dyn arrow::array::Array> = values.iter().map(|value| value.as_ref()).collect();
    concat(&values).unwrap()
}

fn row(batch: &RecordBatch, row: usize) -> Vec<Datum> {
    batch.columns().iter().map(|column| Datum::at(column, row).unwrap()).collect()
}

/// The rows of batches, counted, so that two tables can be compared whatever their order.
fn rows(batches: &[RecordBatch]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for batch in batches {
        for at in 0..batch.num_rows() {
            *counts.entry(format!("{:?}", row(batch, at))).or_default() += 1;
        }
    }
    counts
}

fn assert_sorted(batch: &RecordBatch, keys: usize) {
    for at in 1..batch.num_rows() {
        let (before, after) = (row(batch, at - 1), row(batch, at));
        let order = before.iter().zip(&after).take(keys).map(|(a, b)| a.compare(b).unwrap()).find(|o| o.is_ne());
        assert!(order.is_none_or(|order| order.is_lt()), "{before:?} {after:?}");
    }
}

fn small() -> Limits {
    Limits { file_bytes: 40_000, group_bytes: 1 << 20, group_rows: 300, buffer_bytes: 1 << 20 }
}

#[test]
fn rows_of_all_types_survive() {
    let mut fixture = Fixture::new(2);
    let batches = [fixture.batch(1000), fixture.batch(1), fixture.batch(1500)];
    let files = fixture.write(1, &batches, Limits::default());
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].rows, files[0].schema_version), (2501, 1));
    fixture.store.verify(&files[0]).unwrap();
    let read = fixture.scan(&files, &fixture.spec()).unwrap();
    assert_eq!(rows(std::slice::from_ref(&read)), rows(&batches));
    assert_sorted(&read, 2);
    let bounds = files[0].bounds.clone().unwrap();
    assert_eq!((bounds.min, bounds.max), (row(&read, 0)[0].clone(), row(&read, 2500)[0].clone()));
}

/// Others read the files too: here the Parquet crate alone, which knows nothing of the seal.
#[test]
fn a_file_is_plain_parquet_that_describes_itself() {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let mut fixture = Fixture::new(1);
    let batch = fixture.batch(700);
    let files = fixture.write(3, std::slice::from_ref(&batch), small());
    let file = fs::File::open(fixture.store.path(files[0].id)).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let footer = builder.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let value = |key: &str| footer.iter().find(|pair| pair.key == key).unwrap().value.clone().unwrap();
    assert_eq!(
        (value("holdfast.format"), value("holdfast.tablet"), value("holdfast.write")),
        ("1".into(), "5".into(), "3".into())
    );
    assert_eq!(serde_json::from_str::<Schema>(&value("holdfast.schema")).unwrap(), fixture.schema);
    let read: Vec<RecordBatch> = builder.build().unwrap().map(|batch| batch.unwrap()).collect();
    assert_eq!(rows(&read), rows(&[batch]));
}

#[test]
fn large_input_becomes_several_files() {
    let mut fixture = Fixture::new(3);
    let batches: Vec<_> = (0..40).map(|_| fixture.batch(500)).collect();
    let limits = Limits { group_rows: 4000, buffer_bytes: 64 << 20, ..small() };
    let files = fixture.write(1, &batches, limits);
    // Each is over the limit after the first 8192 rows.
    assert_eq!(files.iter().map(|file| file.rows).collect::<Vec<_>>(), [8192, 8192, 3616]);
    assert!(files.iter().enumerate().all(|(at, file)| file.id.number as usize == at));
    assert_eq!(rows(&[fixture.scan(&files, &fixture.spec()).unwrap()]), rows(&batches));
    for file in &files {
        fixture.store.verify(file).unwrap();
        assert_sorted(&fixture.scan(std::slice::from_ref(file), &fixture.spec()).unwrap(), 3);
    }
    let none = fixture.write(2, &[], limits);
    assert_eq!(none, []);
}

#[test]
fn a_merge_keeps_rows_and_order() {
    for keys in [0, 1, 4] {
        let mut fixture = Fixture::new(keys);
        let batches: Vec<_> = (0..6).map(|_| fixture.batch(900)).collect();
        let files: Vec<_> = batches
            .iter()
            .enumerate()
            .flat_map(|(at, batch)| fixture.write(at as u64, std::slice::from_ref(batch), small()))
            .collect();
        let merged = compact(&fixture.store, &files, fixture.of(9), 4, Limits::default()).unwrap();
        let merged = fixture.install(merged);
        assert_eq!((merged.len(), merged[0].id.number), (1, 4));
        let read = fixture.scan(&merged, &fixture.spec()).unwrap();
        assert_eq!(rows(std::slice::from_ref(&read)), rows(&batches));
        assert_sorted(&read, keys as usize);
    }
}

#[test]
fn columns_are_found_by_id_after_schema_changes() {
    let mut fixture = Fixture::new(1);
    let batch = fixture.batch(400);
    let files = fixture.write(1, std::slice::from_ref(&batch), small());
    // c1 is dropped, another column takes its name, two are added, and c10 moves.
    let mut now = fixture.schema.clone();
    now.version = 2;
    now.columns.remove(1);
    let moved = now.columns.remove(9);
    now.columns.insert(1, moved);
    now.columns.push(Column { default: Some(Datum::Int(7)), ..column("c1", 20, ColumnType::BigInt) });
    now.columns.push(column("added", 21, ColumnType::String));
    let last = now.columns.len() - 1;
    fixture.schema = now;

    let spec = ScanSpec { projection: vec![last, 1, last - 1, 0, 1], ..fixture.spec() };
    let read = fixture.scan(&files, &spec).unwrap();
    let names: Vec<_> = read.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["added", "c10", "c1", "c0", "c10"]);
    assert_eq!(row(&read, 0)[..3], [Datum::Null, row(&read, 0)[4].clone(), Datum::Int(7)]);
    let wanted = batch.project(&[10, 0]).unwrap();
    assert_eq!(rows(&[read.project(&[1, 3]).unwrap()]), rows(&[wanted]));

    let count = |filter| {
        let spec = ScanSpec { projection: vec![], filters: vec![filter], ..fixture.spec() };
        let scan = Scan::new(fixture.store.clone(), files.clone(), spec).unwrap();
        scan.map(|batch| batch.unwrap().num_rows()).sum::<usize>()
    };
    let compare = |value| ScanFilter::Compare { column: last - 1, op: Comparison::Eq, value };
    assert_eq!(count(compare(Datum::Int(7))), 400);
    assert_eq!(count(compare(Datum::Int(8))), 0);
    assert_eq!(count(ScanFilter::IsNull { column: last }), 400);
    assert_eq!(count(ScanFilter::IsNotNull { column: last }), 0);
}

fn holds(filter: &ScanFilter, row: &[Datum]) -> bool {
    let found = &row[filter.column()];
    let order = |value: &Datum| {
        if *found == Datum::Null || *value == Datum::Null { None } else { found.compare(value) }
    };
    match filter {
        ScanFilter::Compare { op, value, .. } => order(value).is_some_and(|order| match op {
            Comparison::Eq => order.is_eq(),
            Comparison::NotEq => order.is_ne(),
            Comparison::Lt => order.is_lt(),
            Comparison::LtEq => order.is_le(),
            Comparison::Gt => order.is_gt(),
            Comparison::GtEq => order.is_ge(),
        }),
        ScanFilter::In { values, .. } => values.iter().any(|value| order(value).is_some_and(|order| order.is_eq())),
        ScanFilter::IsNull { .. } => *found == Datum::Null,
        ScanFilter::IsNotNull { .. } => *found != Datum::Null,
    }
}

/// Random filters over many small files and row groups return what a plain loop over the rows returns.
#[test]
fn filters_return_what_a_plain_loop_does() {
    let mut fixture = Fixture::new(2);
    let batches: Vec<_> = (0..4).map(|_| fixture.batch(800)).collect();
    let limits = Limits { buffer_bytes: 1, ..small() };
    let files = fixture.write(1, &batches, limits);
    assert!(files.len() >= 4);
    let ops = [Comparison::Eq, Comparison::NotEq, Comparison::Lt, Comparison::LtEq, Comparison::Gt, Comparison::GtEq];
    let all: Vec<_> = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|at| row(batch, at))).collect();
    for _ in 0..120 {
        let filters = (0..fixture.random.random_range(1..3)).map(|_| {
            let column = fixture.random.random_range(0..TYPES.len());
            let mut value = || datum(&mut fixture.random, TYPES[column]);
            let values = vec![value(), value(), value()];
            match fixture.random.random_range(0..9) {
                0 => ScanFilter::IsNull { column },
                1 => ScanFilter::IsNotNull { column },
                2 => ScanFilter::In { column, values },
                op => ScanFilter::Compare { column, op: ops[op - 3], value: values[0].clone() },
            }
        });
        let spec = ScanSpec { filters: filters.collect(), ..fixture.spec() };
        let mut expected = BTreeMap::new();
        for row in all.iter().filter(|row| spec.filters.iter().all(|filter| holds(filter, row))) {
            *expected.entry(format!("{row:?}")).or_insert(0) += 1;
        }
        let found = fixture.scan(&files, &spec).unwrap();
        assert_eq!(rows(std::slice::from_ref(&found)), expected, "{:?}", spec.filters);
        let limited = ScanSpec { limit: Some(5), ..spec };
        let few = fixture.scan(&files, &limited).unwrap();
        assert_eq!(few.num_rows(), found.num_rows().min(5));
    }
}

/// Whatever byte of a file is changed, a scan fails and names the file, or returns the same rows.
#[test]
fn a_flipped_byte_is_never_a_wrong_row() {
    let mut fixture = Fixture::new(1);
    let batch = fixture.batch(2000);
    let files = fixture.write(1, &[batch], small());
    let spec = fixture.spec();
    let filters = vec![ScanFilter::Compare { column: 0, op: Comparison::Gt, value: Datum::Int(0) }];
    let filtered = ScanSpec { filters, projection: vec![0, 10], ..fixture.spec() };
    let right = (fixture.scan(&files, &spec).unwrap(), fixture.scan(&files, &filtered).unwrap());
    let path = fixture.store.path(files[0].id);
    let content = fs::read(&path).unwrap();
    let positions: Vec<usize> =
        (0..content.len()).step_by(content.len() / 60).chain(content.len() - 40..content.len()).collect();
    let mut harmless = 0;
    for at in positions {
        let mut damaged = content.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        assert!(matches!(fixture.store.verify(&files[0]), Err(Error::Corrupt { .. })), "byte {at}");
        for (spec, right) in [(&spec, &right.0), (&filtered, &right.1)] {
            match fixture.scan(&files, spec) {
                Ok(read) => {
                    assert_eq!(read, *right, "byte {at}");
                    harmless += 1;
                }
                Err(Error::Corrupt { path: named, .. }) => assert_eq!(named, path.display().to_string()),
                Err(err) => panic!("byte {at}: {err:?}"),
            }
        }
        if at > content.len() - 40 {
            assert!(fixture.scan(&files, &spec).is_err(), "byte {at}");
        }
    }
    assert!(harmless < 100, "the whole scan reads all but the first bytes: {harmless}");

    fs::write(&path, &content[..content.len() - 1]).unwrap();
    assert!(matches!(fixture.scan(&files, &spec), Err(Error::Corrupt { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(fixture.scan(&files, &spec), Err(Error::Io { .. })));
}

#[tokio::test]
async fn a_stream_returns_the_same_rows_and_ends_after_an_error() {
    let mut fixture = Fixture::new(1);
    let batches = [fixture.batch(20_000)];
    let files = fixture.write(1, &batches, Limits::default());
    let stream =
        |files: &[RowsetFile]| Scan::new(fixture.store.clone(), files.to_vec(), fixture.spec()).unwrap().into_stream();
    let read: Vec<RecordBatch> = stream(&files).try_collect().await.unwrap();
    assert!(read.len() > 1);
    assert_eq!(rows(&read), rows(&batches));
    let absent = RowsetFile { id: FileId { number: 99, ..files[0].id }, ..files[0].clone() };
    let mut stream = Box::pin(stream(&[absent, files[0].clone()]));
    assert!(stream.try_next().await.is_err());
    assert!(stream.try_next().await.unwrap().is_none());
}

#[test]
fn a_store_keeps_what_was_installed_and_drops_what_was_not() {
    let mut fixture = Fixture::new(1);
    let batch = fixture.batch(10);
    let files = fixture.write(1, std::slice::from_ref(&batch), small());
    let dir = fixture._dir.path().join("be/storage");
    let (_, torn) = fixture.store.stage(None).unwrap();
    let torn_path = torn.path().to_owned();
    // As a crash would leave it.
    std::mem::forget(torn);
    assert!(torn_path.exists());
    let limits = Limits { buffer_bytes: 1, ..small() };
    let mut unfinished = RowsetWriter::new(fixture.store.clone(), fixture.of(2), 0, limits);
    unfinished.write(batch.clone()).unwrap();
    assert_eq!(fs::read_dir(dir.join("staging")).unwrap().count(), 2);
    drop(unfinished);
    assert_eq!(fs::read_dir(dir.join("staging")).unwrap().count(), 1);

    let store = Store::open(&dir).unwrap();
    assert!(!torn_path.exists());
    let id = files[0].id;
    assert_eq!(store.list().collect::<Result<Vec<_>>>().unwrap(), [(id, files[0].size)]);
    assert_eq!(store.has(id).unwrap(), Some(files[0].size));
    // The same write again replaces the file.
    assert_eq!(fixture.write(1, &[batch], small()), files);
    store.verify(&files[0]).unwrap();

    let day = 86_400_000;
    let now = Timestamp(20_000 * day);
    store.trash(id, now).unwrap();
    store.trash(id, now).unwrap();
    assert_eq!(store.has(id).unwrap(), None);
    store.empty_trash(now, || Ok(false)).unwrap();
    assert_eq!(fs::read_dir(dir.join("trash")).unwrap().count(), 1);
    store.empty_trash(now.plus_ms(day), || Ok(false)).unwrap();
    assert_eq!(fs::read_dir(dir.join("trash")).unwrap().count(), 0);
}
