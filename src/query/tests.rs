use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, Int32Array, ListArray, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::Int32Type;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::tables::MadeBatches;
use super::*;
use crate::sql::Statement as Parsed;
use crate::tablet::{Limits, RowsetOf, RowsetWriter, Scan, Store};
use crate::types::{
    BackendId, Column, ColumnFamily, ColumnType, KeyRange, Name, PartitionRange, RowsetFile, Schema, TableId, TabletId,
    WriteId, bucket_of,
};

/// A service in one process: tables in a real tablet store, scans without a network.
struct Memory {
    store: Arc<Store>,
    tables: Vec<Table>,
    readable: std::path::PathBuf,
    /// The scans that were asked for.
    requests: Mutex<Vec<ScanRequest>>,
    /// The raw keys.
    ranges: Mutex<Vec<KeyRange>>,
}

impl Tables for Memory {
    fn table(&self, database: &str, table: &str) -> Result<Table> {
        let found = self.tables.iter().find(|found| match found {
            Table::Stored(view) => *view.database == *database && *view.name == *table,
            Table::Raw(view) => *view.database == *database && *view.name == *table,
            Table::Virtual(made) => made.database == database && made.name.eq_ignore_ascii_case(table),
        });
        let absent = || Error::NotFound(Entity::new(Kind::Table, format!("{database}.{table}")));
        found.cloned().ok_or_else(absent)
    }

    fn scan(&self, request: ScanRequest) -> BoxFuture<'static, Result<BoxStream<'static, Result<RecordBatch>>>> {
        self.requests.lock().unwrap().push(request.clone());
        let scan = Scan::new(self.store.clone(), request.files.to_vec(), request.spec);
        async move { Ok(scan?.into_stream().boxed()) }.boxed()
    }

    fn raw_scan(&self, _: ColumnFamily, ranges: Vec<KeyRange>) -> BoxStream<'static, Result<RecordBatch>> {
        self.ranges.lock().unwrap().extend(ranges);
        futures::stream::empty().boxed()
    }

    fn may_read(&self, path: &Path) -> Result<()> {
        if path.starts_with(&self.readable) {
            return Ok(());
        }
        Err(Error::AccessDenied(format!("FILES may not read {}", path.display())))
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    memory: Arc<Memory>,
    engine: Engine,
}

fn column(name: &str, field: u32, ty: ColumnType) -> Column {
    let name = Name::new(name).unwrap();
    Column { name, field, ty, nullable: true, default: None, comment: String::new() }
}

/// An array of a type from texts; `NULL` is NULL.
fn array(ty: ColumnType, texts: &[&str]) -> ArrayRef {
    let value = |text: &&str| if *text == "NULL" { Datum::Null } else { Datum::parse(text, ty).unwrap() };
    let values: Vec<ArrayRef> = texts.iter().map(|text| value(text).array(ty, 1).unwrap()).collect();
    concat(&values.iter().map(|value| value.as_ref()).collect::<Vec<&dyn Array>>()).unwrap()
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path().join("storage")).unwrap());
        let readable = dir.path().join("files");
        std::fs::create_dir(&readable).unwrap();
        let readable = readable.canonicalize().unwrap();
        let mut memory =
            Memory { store, tables: Vec::new(), readable, requests: Mutex::default(), ranges: Mutex::default() };
        let money = ColumnType::Decimal { precision: 10, scale: 2 };
        let columns = [
            ("Id", ColumnType::Int),
            ("day", ColumnType::Date),
            ("Name", ColumnType::Varchar(20)),
            ("price", money),
            ("weight", ColumnType::Double),
            ("at", ColumnType::DateTime),
            ("flag", ColumnType::Boolean),
        ];
        memory.add(
            "sales",
            &columns,
            &[
                "1,2024-01-15,apple,1.50,0.5,2024-01-15 10:20:30,1",
                "2,2024-02-01,Banana,2.25,NULL,2024-02-01 00:00:00,0",
                "3,2024-02-29,NULL,NULL,2.5,2024-02-29 23:59:59.5,NULL",
                "4,2024-03-31,cherry,10.00,-1,NULL,1",
                "5,NULL,date,0.00,0,9999-12-31 00:00:00,0",
            ],
        );
        memory.add("empty", &columns, &[]);
        let names = [("id", ColumnType::Int), ("label", ColumnType::String)];
        memory.add("labels", &names, &["1,one", "2,two", "9,nine"]);
        let schema = Schema { version: 1, keys: 0, columns: vec![column("TABLE_NAME", 1, ColumnType::Varchar(64))] };
        let arrow = schema.arrow();
        let rows = Box::new(move || {
            let batch = |name| {
                RecordBatch::try_new(arrow.clone(), vec![array(ColumnType::String, &[name])]).map_err(Error::internal)
            };
            Box::new(["sales", "labels"].map(batch).into_iter()) as MadeBatches
        });
        let (database, name) = ("information_schema".to_owned(), "tables".to_owned());
        memory.tables.push(Table::Virtual(Arc::new(VirtualTable { database, name, schema, rows })));
        let (database, name) = (Name::new("shop").unwrap(), Name::new("raw").unwrap());
        let columns = ["k", "v"].map(|name| column(name, 1, ColumnType::Varbinary)).into();
        let schema = Schema { version: 1, keys: 1, columns };
        memory.tables.push(Table::Raw(Arc::new(RawView { database, name, schema, cf: ColumnFamily::Default })));
        let engine = Engine::new(64 << 20, dir.path().join("spill")).unwrap();
        Self { dir, memory: Arc::new(memory), engine }
    }

    async fn query(&self, text: &str) -> Result<RowSet> {
        let variable = |scope, name: &str| match (scope, name) {
            (VariableScope::Session, "autocommit") => Some(Datum::Int(1)),
            (VariableScope::Global, "sql_mode") => Some(Datum::Text("ANSI".into())),
            (VariableScope::User, "x") => Some(Datum::Int(-7)),
            _ => None,
        };
        let context = QueryContext {
            database: Some("shop"),
            user: "'root'@'%'",
            connection: 17,
            version: "8.0.33",
            product_version: "0.1.0",
            now: Timestamp(1_700_000_000_123),
            zone: "+00:00",
            variable: &variable,
        };
        let mut parsed = sql::parse(text)?;
        let parsed = parsed.remove(0);
        let Parsed::Query(query) = &parsed.statement else { panic!("{text} is not a query") };
        self.engine.query(self.memory.clone(), &context, query, &parsed.text).await
    }

    /// The rows as texts, fields divided by `|`.
    async fn rows(&self, text: &str) -> Result<Vec<String>> {
        let result = self.query(text).await?;
        let types: Vec<ColumnType> = result.columns.iter().map(|column| column.ty).collect();
        let batches: Vec<RecordBatch> = result.batches.try_collect().await?;
        let mut rows = Vec::new();
        for batch in &batches {
            for (column, ty) in batch.columns().iter().zip(&types) {
                assert_eq!(column.data_type(), &ty.arrow(), "{text}");
            }
            for row in 0..batch.num_rows() {
                let values = batch.columns().iter().zip(&types);
                let texts = values.map(|(column, ty)| Datum::at(column, row).unwrap().text(*ty));
                rows.push(texts.map(|text| text.unwrap_or("NULL".into())).collect::<Vec<_>>().join("|"));
            }
        }
        Ok(rows)
    }

    async fn headers(&self, text: &str) -> Vec<String> {
        self.query(text).await.unwrap().columns.into_iter().map(|column| column.name).collect()
    }

    fn take_requests(&self) -> Vec<ScanRequest> {
        std::mem::take(&mut *self.memory.requests.lock().unwrap())
    }
}

impl Memory {
    /// A table in `shop`, partitioned by `day` if it has that column, in three buckets by its first column.
    fn add(&mut self, name: &str, columns: &[(&str, ColumnType)], rows: &[&str]) {
        let fields = columns.iter().enumerate();
        let columns = fields.map(|(at, (name, ty))| column(name, at as u32 + 1, *ty)).collect();
        let schema = Schema { version: 1, keys: 1, columns };
        let day = |text: &str| Datum::parse(text, ColumnType::Date).unwrap();
        let partition_column = schema.position("day");
        let ranges = match partition_column {
            Some(_) => vec![
                ("p1", Some(PartitionRange { lower: None, upper: Some(day("2024-02-01")) })),
                ("p2", Some(PartitionRange { lower: Some(day("2024-02-01")), upper: Some(day("2024-03-01")) })),
                ("p3", Some(PartitionRange { lower: Some(day("2024-03-01")), upper: None })),
            ],
            None => vec![("all", None)],
        };
        let table = self.tables.len() as u64;
        let rows: Vec<Vec<&str>> = rows.iter().map(|row| row.split(',').collect()).collect();
        let mut partitions = Vec::new();
        for (number, (partition, range)) in ranges.into_iter().enumerate() {
            let mut tablets = Vec::new();
            for bucket in 0..3_u32 {
                let here = |row: &&Vec<&str>| {
                    let key = array(schema.columns[0].ty, &row[..1]);
                    let value = partition_column.map(|at| array(schema.columns[at].ty, &row[at..at + 1]));
                    let inside = value.is_none_or(|value| {
                        range.as_ref().is_none_or(|range| range.contains(&Datum::at(&value, 0).unwrap()))
                    });
                    inside && bucket_of(&[key], 1, 3).unwrap() == [bucket]
                };
                let mine: Vec<&Vec<&str>> = rows.iter().filter(here).collect();
                let id = TabletId(table * 100 + number as u64 * 10 + u64::from(bucket));
                tablets.push(TabletView { id, replicas: [BackendId(1)].into(), files: self.write(id, &schema, &mine) });
            }
            partitions.push(PartitionView { name: Name::new(partition).unwrap(), range, tablets });
        }
        let (database, name) = (Name::new("shop").unwrap(), Name::new(name).unwrap());
        let view = TableView { database, name, schema, hash_columns: vec![0], partition_column, partitions };
        self.tables.push(Table::Stored(Arc::new(view)));
    }

    fn write(&self, tablet: TabletId, schema: &Schema, rows: &[&Vec<&str>]) -> Arc<[RowsetFile]> {
        if rows.is_empty() {
            return [].into();
        }
        let of = RowsetOf { table: TableId(1), tablet, write: WriteId(1), schema: Arc::new(schema.clone()) };
        let mut writer = RowsetWriter::new(self.store.clone(), of, 0, Limits::default());
        let arrays = schema.columns.iter().enumerate().map(|(at, column)| {
            let texts: Vec<&str> = rows.iter().map(|row| row[at]).collect();
            array(column.ty, &texts)
        });
        writer.write(RecordBatch::try_new(schema.arrow(), arrays.collect()).unwrap()).unwrap();
        let (files, staged): (Vec<_>, Vec<_>) =
            writer.finish().unwrap().into_iter().map(|(file, staged)| (file.clone(), (staged, file.id))).unzip();
        self.store.install(staged).unwrap();
        files.into()
    }
}

/// Statements and what MySQL or StarRocks answers, rows divided by `;`.
const ANSWERS: &[(&str, &str)] = &[
    // Operators.
    ("SELECT 7/2, 8/2, 1/0, 1.0/3, 7 DIV 2, -7 DIV 2, 7 DIV 0", "3.5|4|NULL|0.33333|3|-3|NULL"),
    ("SELECT 7 % 3, 7 % 0, MOD(-7, 3), 5.5 % 2, MOD(5, '3')", "1|NULL|-1|1.5|2"),
    ("SELECT '1' + 1, '2' * '3', true + 1, 'x' + 1", "2|6|2|NULL"),
    ("SELECT 1 + 2 * 3, -5, 2 - 5, 1.5 + 1", "7|-5|-3|2.5"),
    ("SELECT 1 AND 0, 1 OR 0, NOT 5, 1 XOR 1, 2 && 3, 0 || 0, NULL OR 1", "0|1|0|0|1|0|1"),
    ("SELECT 1 = 1, 1 <=> NULL, NULL <=> NULL, 1 <> 2, NULL = 1, '5' = 5, '5.0' = 5", "1|0|1|1|NULL|1|1"),
    ("SELECT 'a' LIKE 'A%', 'abc' LIKE 'a_c', 'abc' REGEXP '^a.c$', 'abc' NOT RLIKE 'b'", "0|1|1|0"),
    ("SELECT 5 & 3, 5 | 3, 5 ^ 3, 1 << 4", "1|7|6|16"),
    ("SELECT 2 BETWEEN 1 AND 3, 2 NOT BETWEEN 1 AND 3, 2 IN (1, 2), 2 NOT IN (1, NULL), '2' IN (1, 2)", "1|0|1|NULL|1"),
    (
        "SELECT IF(1, 'a', 'b'), IF(NULL, 'a', 'b'), IFNULL(NULL, 2), NULLIF(1, 1), COALESCE(NULL, NULL, 3)",
        "a|b|2|NULL|3",
    ),
    ("SELECT CASE 2 WHEN 1 THEN 'x' WHEN 2 THEN 'y' END, CASE WHEN 0 THEN 1 ELSE 2 END, ISNULL(NULL)", "y|2|1"),
    ("SELECT GREATEST(1, 3, 2), LEAST(1, NULL), GREATEST('a', 'b')", "3|NULL|b"),
    // The session.
    (
        "SELECT DATABASE(), SCHEMA(), VERSION(), CURRENT_VERSION(), USER(), CURRENT_USER(), CONNECTION_ID()",
        "shop|shop|8.0.33|0.1.0|'root'@'%'|'root'@'%'|17",
    ),
    ("SELECT @@autocommit, @@session.autocommit, @@global.sql_mode, @x, @nothing", "1|1|ANSI|-7|NULL"),
    ("SELECT 1 FROM dual", "1"),
    ("SELECT UNIX_TIMESTAMP()", "1700000000"),
    ("SELECT NOW() = CURRENT_TIMESTAMP, CURDATE() = CURRENT_DATE(), DATE(NOW()) = CURDATE()", "1|1|1"),
    // Text.
    (
        "SELECT LENGTH('é'), CHAR_LENGTH('é'), LOWER('ÀB'), UCASE('ab'), CONCAT('a', NULL), CONCAT('a', 1, 1.50, 2e0)",
        "2|1|àb|AB|NULL|a11.502",
    ),
    (
        "SELECT CONCAT_WS('-', 'a', NULL, 'b'), REPEAT('ab', 2), REVERSE('abc'), SPACE(2), REPLACE('aba', 'a', 'x')",
        "a-b|abab|cba|  |xbx",
    ),
    (
        "SELECT SUBSTR('hello', 2), SUBSTRING('hello', -3, 2), MID('hello', 1, 2), SUBSTRING('hello' FROM 2 FOR 3), SUBSTR('a', 0)",
        "ello|ll|he|ell|",
    ),
    (
        "SELECT LEFT('hello', 2), RIGHT('hello', 2), LOCATE('l', 'hello'), LOCATE('l', 'hello', 4), INSTR('hello', 'lo'), POSITION('x' IN 'y')",
        "he|lo|3|4|4|0",
    ),
    (
        "SELECT LPAD('7', 3, '0'), RPAD('abc', 2, 'x'), TRIM('  a '), LTRIM(' a'), TRIM(LEADING 'x' FROM 'xxa')",
        "007|ab|a|a|a",
    ),
    (
        "SELECT MD5('a'), HEX('a'), HEX(255), ASCII('A'), STRCMP('a', 'b'), FIND_IN_SET('b', 'a,b'), SUBSTRING_INDEX('a.b.c', '.', 2)",
        "0cc175b9c0f1b6a831c399e269772661|61|FF|65|-1|2|a.b",
    ),
    ("SELECT 'it''s', \"double\", 'a' 'b'", "it's|double|ab"),
    // Casts.
    (
        "SELECT CAST('12' AS SIGNED), CAST('x' AS SIGNED), CAST(1 AS CHAR), CAST(1.0e0 AS CHAR), CAST('1.256' AS DECIMAL(5,2))",
        "12|NULL|1|1|1.26",
    ),
    (
        "SELECT CAST('2024-02-30' AS DATE), CAST('2024-02-29' AS DATE), CAST('2024-01-01 10:00:00' AS DATETIME), CONVERT('5', SIGNED)",
        "NULL|2024-02-29|2024-01-01 10:00:00|5",
    ),
    (
        "SELECT CAST('abcdef' AS CHAR(3)), CONVERT('a' USING utf8mb4), CAST(300 AS TINYINT), CAST(5 AS UNSIGNED)",
        "abc|a|NULL|5",
    ),
    // Dates.
    (
        "SELECT YEAR('2024-05-06'), QUARTER('2024-05-06'), MONTH('2024-05-06'), DAY('2024-05-06'), HOUR('2024-05-06 07:08:09'), MINUTE('2024-05-06 07:08:09'), SECOND('2024-05-06 07:08:09')",
        "2024|2|5|6|7|8|9",
    ),
    (
        "SELECT DAYOFWEEK('2024-05-06'), WEEKDAY('2024-05-06'), DAYOFYEAR('2024-05-06'), DAYNAME('2024-05-06'), LAST_DAY('2024-02-03')",
        "2|0|127|Monday|2024-02-29",
    ),
    (
        "SELECT DATE_ADD('2024-01-31', INTERVAL 1 MONTH), DATE_SUB('2024-03-01 10:00:00', INTERVAL 1 DAY), DATE('2024-01-01 05:00:00') + INTERVAL 2 DAY",
        "2024-02-29 00:00:00|2024-02-29 10:00:00|2024-01-03",
    ),
    (
        "SELECT DATE_ADD('2024-01-01', INTERVAL -90 SECOND), CAST('2024-01-01' AS DATE) - INTERVAL 1 YEAR, ADDDATE(CAST('2024-01-01' AS DATE), 31)",
        "2023-12-31 23:58:30|2023-01-01|2024-02-01",
    ),
    (
        "SELECT DATEDIFF('2024-03-01', '2024-02-01'), TIMESTAMPDIFF(MONTH, '2024-01-31', '2024-02-29'), TIMESTAMPDIFF(HOUR, '2024-01-01', '2024-01-02 01:30:00'), TO_DAYS('2007-10-07')",
        "29|0|25|733321",
    ),
    (
        "SELECT DATE_FORMAT('2024-05-06 17:08:09', '%Y/%m/%d %H:%i:%s %p %W %b %e %j'), DATE_FORMAT('2024-05-06', '%y%c%%x%D')",
        "2024/05/06 17:08:09 PM Monday May 6 127|245%x6th",
    ),
    (
        "SELECT STR_TO_DATE('06.05.2024', '%d.%m.%Y'), STR_TO_DATE('2024-05-06 07', '%Y-%m-%d %H'), STR_TO_DATE('x', '%Y')",
        "2024-05-06 00:00:00|2024-05-06 07:00:00|NULL",
    ),
    (
        "SELECT EXTRACT(YEAR FROM '2024-05-06'), DATE_TRUNC('month', '2024-05-06'), UNIX_TIMESTAMP(FROM_UNIXTIME(1000))",
        "2024|2024-05-01 00:00:00|1000",
    ),
    (
        "SELECT WEEK('2008-02-20'), WEEK('2008-02-20', 1), WEEK('2008-12-31', 1), WEEK('2000-01-01'), WEEK('2000-01-01', 2), WEEK('2021-01-01', 3), WEEK('2024-12-30', 3), WEEK('2024-12-30', 1)",
        "7|8|53|0|52|53|1|53",
    ),
    // Numbers.
    ("SELECT ~5, ~-1, LAST_INSERT_ID()", "-6|0|0"),
    ("SELECT n > 1e299, n FROM (SELECT 1e300 AS n UNION ALL SELECT 0.25) AS u WHERE n < 1 OR n > 1e301", "0|0.25"),
    ("SELECT n > 1e299 FROM (SELECT 0.5 AS n UNION SELECT 1e300 UNION SELECT 2) AS u ORDER BY n", "0;0;1"),
    (
        "SELECT SUM(n), SUM(DISTINCT n), SUM(n > 1) FROM (SELECT 3 AS n UNION ALL SELECT 3 UNION ALL SELECT 1) AS u",
        "7|4|2",
    ),
    ("SELECT SUM(n), SUM(DISTINCT n) FROM (SELECT CAST(3 AS DECIMAL(19, 0)) AS n UNION ALL SELECT 4) AS u", "7|7"),
    ("SELECT SUM(n), SUM(DISTINCT n) FROM (SELECT 1.25 AS n UNION ALL SELECT 1.25) AS u", "2.50|1.25"),
    ("SELECT n, SUM(n) OVER (ORDER BY n) FROM (SELECT 1 AS n UNION ALL SELECT 2) AS u ORDER BY n", "1|1;2|3"),
    ("SELECT n FROM (SELECT 1 AS n UNION ALL SELECT 2) AS u GROUP BY n HAVING SUM(n) > 1 ORDER BY SUM(n)", "2"),
    ("SELECT IF(1.5, 'y', 'n'), IF(CAST(0 AS DECIMAL(5, 2)), 'y', 'n'), NOT 0.5", "y|n|0"),
    // HAVING without aggregates is about the rows.
    ("SELECT id AS n FROM sales HAVING n = 2", "2"),
    ("SELECT id + 1 AS n FROM sales WHERE id < 3 HAVING N > 2 AND id > 1", "3"),
    ("SELECT name COLLATE utf8mb4_general_ci FROM sales WHERE id = 2", "Banana"),
    ("SELECT MD5('abc'), MD5(NULL)", "900150983cd24fb0d6963f7d28e17f72|NULL"),
    (
        "SELECT SHA2('abc', 224), LEFT(SHA2('abc', 0), 16), LENGTH(SHA2('abc', 512)), SHA2('abc', 1)",
        "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7|ba7816bf8f01cfea|128|NULL",
    ),
    (
        "SELECT ROUND(2.567, 2), ROUND(-2.5), CEIL(1.2), FLOOR(-1.2), ABS(-3), SIGN(-2), POW(2, 10), SQRT(9), SQRT(-1), LN(0), TRUNCATE(1.999, 2)",
        "2.57|-3|2|-2|3|-1|1024|3|NULL|NULL|1.990",
    ),
    // Rows.
    ("SELECT id, name FROM sales WHERE ID = 2", "2|Banana"),
    ("SELECT id, Id, ID FROM sales WHERE id < 2", "1|1|1"),
    ("SELECT s.NAME FROM shop.sales AS s WHERE s.Id = 1", "apple"),
    ("SELECT sales.id, shop.sales.id FROM shop.sales WHERE id = 1", "1|1"),
    ("SELECT `id` FROM `shop`.`sales` ORDER BY name", "3;2;1;4;5"),
    ("SELECT name FROM sales ORDER BY name DESC LIMIT 1, 2", "cherry;apple"),
    ("SELECT name AS Label FROM sales ORDER BY LABEL LIMIT 2", "NULL;Banana"),
    ("SELECT id FROM sales WHERE flag ORDER BY id", "1;4"),
    ("SELECT id FROM sales WHERE flag = 0 ORDER BY id", "2;5"),
    ("SELECT id FROM sales WHERE day = '2024-02-01'", "2"),
    ("SELECT id FROM sales WHERE day = 20240201", "2"),
    ("SELECT id FROM sales WHERE day >= '2024-02-01' AND day < '2024-03-01' ORDER BY 1", "2;3"),
    ("SELECT id FROM sales WHERE day IN ('2024-02-01', '2024-03-31') ORDER BY id", "2;4"),
    ("SELECT id FROM sales WHERE at = '9999-12-31'", "5"),
    ("SELECT id FROM sales WHERE at > '2024-01-15 10:20:29' AND at < '2024-02-01' ", "1"),
    ("SELECT id FROM sales WHERE id IN ('1', '3') ORDER BY id", "1;3"),
    ("SELECT id, price * 2, price / 0, weight / 2 FROM sales WHERE id = 1", "1|3.00|NULL|0.25"),
    ("SELECT COUNT(*), COUNT(price), SUM(id), MIN(name), MAX(day), AVG(id) FROM sales", "5|4|15|Banana|2024-03-31|3"),
    ("SELECT SUM(price), SUM(flag), SUM(id > 2), AVG(price) FROM sales", "13.75|2|3|3.437500"),
    ("SELECT COUNT(*), SUM(id) FROM empty", "0|NULL"),
    ("SELECT flag, COUNT(*) AS n FROM sales GROUP BY flag HAVING n > 1 ORDER BY flag", "0|2;1|2"),
    ("SELECT YEAR(day) AS y, COUNT(*) FROM sales GROUP BY y ORDER BY y", "NULL|1;2024|4"),
    ("SELECT COUNT(DISTINCT flag) FROM sales", "2"),
    ("SELECT GROUP_CONCAT(name ORDER BY name SEPARATOR '/') FROM sales", "Banana/apple/cherry/date"),
    ("SELECT GROUP_CONCAT(DISTINCT flag) FROM sales WHERE id IN (1, 4)", "1"),
    ("SELECT STDDEV(id), VARIANCE(id), STDDEV_SAMP(id) FROM sales WHERE id < 3", "0.5|0.25|0.7071067811865476"),
    ("SELECT s.id, l.label FROM sales s JOIN labels l ON s.id = l.id ORDER BY s.id", "1|one;2|two"),
    ("SELECT l.label, s.id FROM labels l LEFT JOIN sales s USING (ID) ORDER BY l.id DESC LIMIT 1", "nine|NULL"),
    ("SELECT a.id, b.id FROM labels a, labels b WHERE a.id = b.id + 1", "2|1"),
    ("SELECT id FROM sales WHERE id IN (SELECT id FROM labels) ORDER BY id", "1;2"),
    ("SELECT id FROM sales s WHERE EXISTS (SELECT 1 FROM labels l WHERE l.id = s.id) ORDER BY id", "1;2"),
    ("SELECT (SELECT MAX(id) FROM labels)", "9"),
    ("WITH x AS (SELECT id, price FROM sales) SELECT SUM(Price) FROM x", "13.75"),
    ("SELECT `count(*)` FROM (SELECT COUNT(*) FROM sales) AS t", "5"),
    ("SELECT Total + 1 FROM (SELECT SUM(id) AS total FROM sales) t", "16"),
    ("SELECT 1 AS n UNION SELECT 1 UNION ALL SELECT 2 ORDER BY N", "1;2"),
    ("SELECT id, ROW_NUMBER() OVER (ORDER BY id DESC) AS n FROM sales ORDER BY id LIMIT 1", "1|5"),
    ("SELECT DISTINCT flag FROM sales ORDER BY flag", "NULL;0;1"),
    ("SELECT id FROM sales PARTITION (p2, p3) ORDER BY id", "2;3;4"),
    ("SELECT table_name FROM information_schema.tables ORDER BY Table_Name LIMIT 1", "labels"),
    ("SELECT COUNT(*) FROM default_catalog.shop.sales", "5"),
    ("SELECT id FROM sales WHERE 1 LIMIT 0", ""),
    ("VALUES (1, 'a'), (2, 'b')", "1|a;2|b"),
    ("SELECT 1 FROM labels", "1;1;1"),
    ("SELECT flag, flag, COUNT(*) FROM sales GROUP BY flag ORDER BY flag", "NULL|NULL|1;0|0|2;1|1|2"),
    ("SELECT id, id FROM labels UNION SELECT id, id FROM labels ORDER BY id", "1|1;2|2;9|9"),
    ("SELECT id FROM labels INTERSECT SELECT id FROM sales ORDER BY id", "1;2"),
    ("SELECT DISTINCT YEAR(day) FROM sales ORDER BY YEAR(day)", "NULL;2024"),
    ("SELECT id FROM sales WHERE day = at", "2"),
    ("SELECT id FROM sales WHERE day < at ORDER BY id", "1;3"),
    ("SELECT id FROM sales WHERE day >= '2024-01-15 01:00:00' ORDER BY id", "2;3;4"),
    ("SELECT id FROM sales WHERE at BETWEEN '2024-01-16' AND '2025-01-01' ORDER BY id", "2;3"),
    ("SELECT id FROM sales WHERE flag IN (1) ORDER BY id", "1;4"),
    ("SELECT id FROM sales WHERE flag IS NOT TRUE ORDER BY id", "2;3;5"),
    ("SELECT id FROM sales WHERE id IS FALSE", ""),
    ("SELECT id FROM sales WHERE (id, flag) IN ((1, 1), (2, 1)) ORDER BY id", "1"),
    ("SELECT CASE flag WHEN 1 THEN 'y' WHEN 0 THEN 'n' ELSE '?' END FROM sales ORDER BY id", "y;n;?;y;n"),
    ("SELECT IF(id > 2, price, 0) FROM sales ORDER BY id", "0.00;0.00;NULL;10.00;0.00"),
    (
        "SELECT 0.1 + 0.2, 1e20, 9223372036854775807, -9223372036854775808, 18446744073709551615",
        "0.3|1e20|9223372036854775807|-9223372036854775808|18446744073709551615",
    ),
    (
        "SELECT CONCAT(day, ' ', at, ' ', price, ' ', weight, ' ', flag) FROM sales WHERE id = 1",
        "2024-01-15 2024-01-15 10:20:30 1.50 0.5 1",
    ),
    ("SELECT FIELD('b', 'a', 'b'), FIELD(NULL, 'a'), ELT(2, 'a', 'b'), ELT(3, 'a', 'b')", "2|0|b|NULL"),
    ("SELECT id, SUM(id) OVER (ORDER BY id) FROM sales ORDER BY id LIMIT 2", "1|1;2|3"),
    ("SELECT COUNT(*) FROM labels WHERE label LIKE '%n%' AND 'a%b' LIKE 'a\\\\%b'", "2"),
];

#[tokio::test]
async fn queries_answer_as_mysql_does() {
    let fixture = Fixture::new();
    let mut wrong = Vec::new();
    for (text, expected) in ANSWERS {
        let found = fixture.rows(text).await;
        let shown = found.as_ref().map(|rows| rows.join(";")).map_err(|err| err.report());
        if shown.as_deref() != Ok(*expected) {
            wrong.push(format!("{text}\n  expected {expected}\n  found    {shown:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ANSWERS.len(), wrong.join("\n"));
}

#[tokio::test]
async fn headers_are_as_written() {
    let fixture = Fixture::new();
    for (text, expected) in [
        ("SELECT id, ID, s.Id FROM sales s", vec!["id", "ID", "Id"]),
        ("SELECT  COUNT( * ),1+ 1 , 'x' AS `Y z` FROM sales", vec!["COUNT( * )", "1+ 1", "Y z"]),
        ("SELECT * FROM labels", vec!["id", "label"]),
        ("SELECT *, Id, id + 1 FROM labels", vec!["id", "label", "Id", "id + 1"]),
        ("SELECT 1, l.* FROM labels l", vec!["1", "id", "label"]),
        ("SELECT Name, s.* FROM sales s", vec!["Name", "Id", "day", "Name", "price", "weight", "at", "flag"]),
        ("SELECT a.*, b.* FROM labels a JOIN labels b ON a.id = b.id", vec!["id", "label", "id", "label"]),
        ("SELECT * FROM (SELECT Id AS Foo, name FROM sales) x", vec!["Id", "Name"]),
        ("(SELECT Id FROM sales) UNION (SELECT id FROM labels)", vec!["Id"]),
        ("SELECT IF(1, 2, 3), @@autocommit, DATABASE()", vec!["IF(1, 2, 3)", "@@autocommit", "DATABASE()"]),
    ] {
        assert_eq!(fixture.headers(text).await, expected, "{text}");
    }
    let columns = fixture.query("SELECT name, CONCAT(name, 'x'), s.price FROM sales s").await.unwrap().columns;
    let types: Vec<_> = columns.iter().map(|column| column.ty).collect();
    let money = ColumnType::Decimal { precision: 10, scale: 2 };
    assert_eq!(types, [ColumnType::Varchar(20), ColumnType::String, money]);
    let origin = columns[0].origin.clone().unwrap();
    assert_eq!((&*origin.database, &*origin.table, &*origin.column), ("shop", "sales", "Name"));
    assert_eq!(columns[1].origin, None);
}

#[tokio::test]
async fn what_cannot_be_planned_is_named() {
    let fixture = Fixture::new();
    for (text, expected) in [
        ("SELECT nope FROM sales", "Unknown column 'nope'"),
        ("SELECT id FROM sales WHERE x.id = 1", "Unknown column 'x.id'"),
        ("SELECT 1 FROM nope", "Unknown table 'shop.nope'"),
        ("SELECT 1 FROM other.sales", "Unknown table 'other.sales'"),
        ("SELECT 1 FROM hive.shop.sales", "Unknown database 'hive.shop'"),
        ("SELECT id FROM sales PARTITION (p9)", "partition 'p9' does not exist"),
        ("SELECT id FROM sales, labels", "ambiguous"),
        ("SELECT 1 FROM sales, sales", "alias"),
        ("SELECT nope(1)", "No matching function with name: nope"),
        ("SELECT LENGTH()", "Incorrect parameter count"),
        ("SELECT LENGTH(1, 2)", "Incorrect parameter count"),
        ("SELECT @@nope", "Unknown variable 'nope'"),
        ("SELECT id, COUNT(*) FROM sales", "id"),
        ("SELECT id FROM sales WHERE day > 'yesterday'", "Incorrect DATE value: 'yesterday'"),
        ("SELECT 'a' COLLATE utf8mb4_0900_ai_ci", "collation utf8mb4_0900_ai_ci"),
        ("SELECT DATE_FORMAT('2024-01-01', '%U')", "%U is not supported"),
        ("SELECT * FROM (SELECT id, id FROM sales) x", "Duplicate column name 'id'"),
        ("SELECT day + 1 FROM sales", "dates are not numbers"),
        ("SELECT COUNT(DISTINCT id, name) FROM sales", "unsupported"),
        ("SELECT INTERVAL 1 DAY", "unsupported"),
        (
            "SELECT SUM(n) FROM (SELECT 9223372036854775807 AS n UNION ALL SELECT 1) AS u",
            "BIGINT value is out of range",
        ),
        ("SELECT COUNT(DISTINCT *) FROM sales", "DISTINCT * in count"),
        ("SELECT 9223372036854775807 + 1", "BIGINT value is out of range"),
        ("SELECT id + 9223372036854775807 FROM sales", "BIGINT value is out of range"),
    ] {
        let found = fixture.rows(text).await;
        let report = found.as_ref().map_err(Error::report).expect_err(text);
        assert!(report.contains(expected), "{text}: {report}");
        assert!(!report.contains('\u{1}'), "{text}: {report}");
        assert!(!matches!(found, Err(Error::Internal(_))), "{text}: {report}");
    }
}

#[tokio::test]
async fn only_what_a_query_needs_is_scanned() {
    let mut fixture = Fixture::new();
    // How many tablets, which columns, how many filters, which limit.
    for (text, tablets, columns, filters, limit) in [
        ("SELECT id FROM sales", 4, vec![0], 0, None),
        ("SELECT name FROM sales WHERE id = 2", 1, vec![0, 2], 1, None),
        (
            "SELECT id FROM sales WHERE id IN (2, 3) AND day >= '2024-02-01' AND day < '2024-03-01'",
            1,
            vec![0, 1],
            3,
            None,
        ),
        ("SELECT weight FROM sales WHERE day = '2024-03-31'", 1, vec![1, 4], 1, None),
        ("SELECT weight FROM sales WHERE day IS NULL", 2, vec![1, 4], 1, None),
        ("SELECT weight FROM sales WHERE '2024-02-01' > day", 2, vec![1, 4], 1, None),
        ("SELECT id FROM sales WHERE day > '2025-01-01'", 1, vec![0, 1], 1, None),
        ("SELECT id FROM sales WHERE name = 'apple' AND flag AND price IS NOT NULL", 4, vec![0, 2, 3, 6], 3, None),
        ("SELECT id FROM sales WHERE LENGTH(name) > 100", 4, vec![0, 2], 0, None),
        ("SELECT label FROM labels LIMIT 2", 2, vec![1], 0, Some(2)),
        ("SELECT label FROM labels WHERE id > 0 LIMIT 1", 2, vec![0, 1], 1, None),
        ("SELECT COUNT(*) FROM sales", 0, vec![], 0, None),
        ("SELECT id FROM empty", 0, vec![], 0, None),
        ("SELECT id FROM sales WHERE id = NULL", 0, vec![], 0, None),
    ] {
        fixture.rows(text).await.unwrap();
        let requests = fixture.take_requests();
        let ids: Vec<_> = requests.iter().map(|request| request.tablet.0).collect();
        let may_end = text.contains("LIMIT");
        assert!(requests.len() <= tablets && (may_end || requests.len() == tablets), "{text}: {ids:?}");
        for request in requests {
            assert!(
                request.spec.projection.iter().all(|column| columns.contains(column)),
                "{text}: {:?}",
                request.spec
            );
            assert_eq!(
                (request.spec.filters.len(), request.spec.limit),
                (filters, limit),
                "{text}: {:?}",
                request.spec
            );
        }
        // A scan that a LIMIT has made needless may still come, after its query has ended.
        if may_end {
            fixture = Fixture::new();
        }
    }
}

/// The usual keys of TiKV's users have `_` in them.
#[tokio::test]
async fn of_raw_keys_what_begins_as_a_pattern_is_read() {
    let fixture = Fixture::new();
    for (filter, expected) in [
        (r"k LIKE 'a\_%'", "[615F, 6160)"),
        (r"k LIKE 'a\_%' AND v LIKE '%b'", "[615F, 6160)"),
        ("k LIKE 'ab_c%'", "[6162, 6163)"),
        ("k LIKE 'ab%' OR k LIKE 'x_' OR k = 'b'", "[6162, 6163) [62, 6200) [78, 79)"),
        ("k NOT LIKE 'a%'", "[, )"),
    ] {
        fixture.rows(&format!("SELECT v FROM raw WHERE {filter}")).await.unwrap();
        let ranges = std::mem::take(&mut *fixture.memory.ranges.lock().unwrap());
        assert_eq!(ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), expected, "{filter}");
    }
}

#[tokio::test]
async fn files_are_tables() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path().join("files");
    let csv = "id,code,when,x\n1,007,2024-01-02,1.5\n2,\\N,2024-01-02 03:04:05,\n3,abc,,2\n";
    std::fs::write(dir.join("a.csv"), csv).unwrap();
    std::fs::write(dir.join("b.csv"), "id,code,when,x\n4,é,2024-01-02,3\n").unwrap();
    let csv = |name: &str, more: &str| {
        format!(
            "FILES('path'='{}/{name}', 'format'='csv', 'csv.column_separator'=',', 'csv.skip_header'='1'{more})",
            dir.display()
        )
    };
    let all = format!("SELECT * FROM {} ORDER BY `$1`", csv("*.csv", ""));
    assert_eq!(
        fixture.rows(&all).await.unwrap(),
        [
            "1|007|2024-01-02 00:00:00|1.5",
            "2|NULL|2024-01-02 03:04:05|NULL",
            "3|abc|NULL|2",
            "4|é|2024-01-02 00:00:00|3"
        ]
    );
    let columns = fixture.query(&all).await.unwrap().columns;
    assert_eq!((&*columns[0].name, columns[0].ty, columns[1].ty), ("$1", ColumnType::BigInt, ColumnType::String));
    let some = format!("SELECT f.`$4` + 1 FROM {} AS f WHERE `$1` = 1", csv("a.csv", ", 'auto_detect_types'='false'"));
    assert_eq!(fixture.rows(&some).await.unwrap(), ["2.5"]);
    assert_eq!(fixture.rows(&format!("SELECT COUNT(*) FROM {}", csv("*.csv", ""))).await.unwrap(), ["4"]);

    let table = fixture.memory.tables.first().cloned();
    let Some(Table::Stored(view)) = table else { panic!() };
    let file = view.partitions.iter().flat_map(|partition| &partition.tablets).find(|tablet| !tablet.files.is_empty());
    std::fs::copy(fixture.memory.store.path(file.unwrap().files[0].id), dir.join("p.parquet")).unwrap();
    let parquet = format!("FILES(\"path\" = \"file://{}/p.parquet\", \"format\" = \"parquet\")", dir.display());
    assert_eq!(fixture.headers(&format!("SELECT * FROM {parquet}")).await[..3], ["Id", "day", "Name"]);
    let rows =
        fixture.rows(&format!("SELECT s.name, f.Name FROM {parquet} f JOIN sales s ON s.id = f.id")).await.unwrap();
    let (left, right) = rows[0].split_once('|').unwrap();
    assert_eq!(left, right);

    // A column that has no type here hurts whoever reads it only.
    let (ids, lists) =
        (Int32Array::from(vec![7]), ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]));
    let nested = RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef), ("items", Arc::new(lists))]).unwrap();
    let write = |name: &str, compression| {
        let file = std::fs::File::create(dir.join(name)).unwrap();
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut writer = ArrowWriter::try_new(file, nested.schema(), Some(properties)).unwrap();
        writer.write(&nested).unwrap();
        writer.close().unwrap();
    };
    // Whatever other writers compress with.
    let (brotli, gzip, zstd) = (Default::default(), Default::default(), Default::default());
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::BROTLI(brotli),
        Compression::GZIP(gzip),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::SNAPPY,
        Compression::ZSTD(zstd),
    ] {
        write("nested.parquet", compression);
        let id = format!("SELECT id FROM FILES('path'='{}/nested.parquet', 'format'='parquet')", dir.display());
        assert_eq!(fixture.rows(&id).await.unwrap(), ["7"], "{compression}");
    }
    let nested = format!("FILES('path'='{}/nested.parquet', 'format'='parquet')", dir.display());
    assert_eq!(fixture.rows(&format!("SELECT COUNT(*) FROM {nested}")).await.unwrap(), ["1"]);
    for asked in [format!("SELECT * FROM {nested}"), format!("SELECT id FROM {nested} WHERE items IS NULL")] {
        let err = fixture.rows(&asked).await.unwrap_err();
        assert!(matches!(&err, Error::Unsupported(text) if text.contains("column 'items' of type List")), "{err:?}");
    }

    std::fs::write(dir.join("bad.csv"), format!("id\n{}x\n", "1\n".repeat(600))).unwrap();
    std::fs::write(dir.join("bad.parquet"), "PAR1 nothing PAR1").unwrap();
    std::fs::write(fixture.dir.path().join("secret.csv"), "1\n").unwrap();
    std::fs::write(dir.join("quote.csv"), format!("id\n\"{}", "x\n".repeat(9 << 20))).unwrap();
    std::fs::write(dir.join("wide.csv"), format!("id\n{}", ",".repeat(5000))).unwrap();
    for (call, expected) in [
        (csv("wide.csv", ""), "a row has 5001 fields, more than 4096; which byte separates them?"),
        (csv("quote.csv", ", 'csv.enclose'='\"'"), "a row is longer than 16 MiB"),
        (csv("bad.csv", ""), "bad.csv, row 602, column $1: 'x' is not a value of type bigint"),
        (csv("none*.csv", ""), "no file matches"),
        (csv("../secret.csv", ""), "may not read"),
        (csv("a.csv", ", 'csv.nope'='1'"), "unknown property 'csv.nope'"),
        (format!("FILES('path'='{}/bad.parquet', 'format'='parquet')", dir.display()), "bad.parquet' as Parquet: "),
        ("FILES('path'='s3://b/x', 'format'='csv')".to_owned(), "only local files"),
        ("FILES('path'='/x', 'format'='orc')".to_owned(), "'orc' is not a format"),
        ("FILES('format'='csv')".to_owned(), "needs a property 'path'"),
        ("generate_series(1, 2)".to_owned(), "generate_series"),
    ] {
        let report = fixture.rows(&format!("SELECT * FROM {call}")).await.unwrap_err().report();
        assert!(report.contains(expected), "{call}: {report}");
    }
}

#[tokio::test]
async fn files_of_csv_are_read_as_starrocks_reads_them() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path().join("files");
    let call = |name: &str, more: &str| {
        format!("FILES('path'='{}/{name}', 'format'='csv', 'csv.column_separator'='|'{more})", dir.display())
    };
    let show = |columns: &str| format!("SELECT CONCAT('<', CONCAT_WS('>,<', {columns}), '>') FROM ");
    let two = show("`$1`, `$2`");

    // Blanks in quotes stay, and so do escaped ones.
    std::fs::write(dir.join("trim"), "a |\" Love \"\n b| \"Love\" \n c d |\\ e\\ \n\n\r\n f |  ").unwrap();
    let trim = call("trim", ", 'csv.enclose'='\"', 'csv.trim_space'='true', 'csv.escape'='\\\\'");
    assert_eq!(
        fixture.rows(&format!("{two}{trim}")).await.unwrap(),
        ["<a>,< Love >", "<b>,<Love>", "<c d>,< e >", "<f>,<>"]
    );
    let kept = call("trim", ", 'csv.enclose'='\"'");
    assert_eq!(fixture.rows(&format!("{two}{kept} LIMIT 1")).await.unwrap(), ["<a >,< Love >"]);

    // An escape needs no quotes.
    std::fs::write(dir.join("escape"), "a\\|b|\\N\n\\\\N|c\\\nd\ne|f\\").unwrap();
    let escape = call("escape", ", 'csv.escape'='\\\\'");
    assert_eq!(
        fixture.rows(&format!("SELECT `$1`, `$2` FROM {escape}")).await.unwrap(),
        ["a|b|NULL", "NULL|c\nd", "e|f\\"]
    );

    // A lone carriage return is text.
    std::fs::write(dir.join("returns"), "a\rb|1\r\nc|2\r\n").unwrap();
    assert_eq!(fixture.rows(&format!("SELECT * FROM {}", call("returns", ""))).await.unwrap(), ["a\rb|1", "c|2"]);
}

#[tokio::test]
async fn files_without_rows_are_files() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path().join("files");
    for (name, text) in [("1.csv", ""), ("2.csv", "id\n"), ("3.csv", "id\n7\n"), ("4.csv", ""), ("5.csv", "id\n8\n")] {
        std::fs::write(dir.join(name), text).unwrap();
    }
    let call = |name: &str| format!("FILES('path'='{}/{name}', 'format'='csv', 'csv.skip_header'='1')", dir.display());
    let all = call("*.csv");
    assert_eq!(fixture.rows(&format!("SELECT * FROM {all} ORDER BY `$1`")).await.unwrap(), ["7", "8"]);
    assert_eq!(fixture.rows(&format!("SELECT COUNT(*) FROM {all}")).await.unwrap(), ["2"]);
    assert_eq!(fixture.rows(&format!("SELECT COUNT(*) FROM {}", call("[12].csv"))).await.unwrap(), ["0"]);
    let report = fixture.rows(&format!("SELECT * FROM {}", call("[12].csv"))).await.unwrap_err().report();
    assert!(report.contains("no row in '") && report.contains("/1.csv' of FILES"), "{report}");
}

/// What a pattern meets on its way and cannot list, it passes by.
#[tokio::test]
async fn files_that_cannot_be_listed_are_passed_by() {
    let fixture = Fixture::new();
    // The directory's own handle, which is closed when it is looked at.
    let call = "SELECT * FROM FILES('path'='/dev/fd/*/*.nothing', 'format'='csv')";
    let err = fixture.rows(call).await.unwrap_err();
    assert!(matches!(&err, Error::Refused(text) if text.contains("'/dev/fd/*/*.nothing'")), "{err:?}");
}

/// A join that needs more memory than there is says what the limit is, and other queries go on.
#[tokio::test]
async fn memory_is_bounded() {
    let fixture = Fixture::new();
    let engine = Engine::new(1 << 20, fixture.dir.path().join("spill")).unwrap();
    let fixture = Fixture { engine, ..fixture };
    let dir = fixture.dir.path().join("files");
    let lines: String = (0..60_000).map(|n| format!("{n}-{}\n", "x".repeat(50))).collect();
    std::fs::write(dir.join("large.csv"), lines).unwrap();
    let files = format!("FILES('path'='{}/large.csv', 'format'='csv')", dir.display());
    let join = format!("SELECT COUNT(*) FROM {files} a JOIN {files} b ON a.`$1` = b.`$1`");
    let report = fixture.rows(&join).await.unwrap_err().report();
    assert!(report.contains("queries may use 1 MiB of memory together"), "{report}");
    assert_eq!(fixture.rows("SELECT 1").await.unwrap(), ["1"]);
}

/// What a BE fails with reaches the client as it is.
#[tokio::test]
async fn an_error_of_a_scan_is_the_querys() {
    let fixture = Fixture::new();
    for request in {
        fixture.rows("SELECT id FROM sales").await.unwrap();
        fixture.take_requests()
    } {
        std::fs::write(fixture.memory.store.path(request.files[0].id), "damaged").unwrap();
    }
    let err = fixture.rows("SELECT MAX(name) FROM sales").await.unwrap_err();
    assert!(matches!(err, Error::Corrupt { .. }), "{err:?}");
}

/// Rewriting repeats operands; nested, that must not multiply.
#[tokio::test]
async fn nesting_does_not_multiply() {
    let fixture = Fixture::new();
    for (open, close) in [
        ("(", " IN (1, 2, 3, 4))"),
        ("(", " BETWEEN 0 AND 1)"),
        ("GREATEST(1, ", ")"),
        ("(CASE ", " WHEN 1 THEN 1 END)"),
    ] {
        let text = format!("SELECT {}1{}", open.repeat(25), close.repeat(25));
        match fixture.rows(&text).await {
            Ok(rows) => assert_eq!(rows, ["1"], "{text}"),
            Err(Error::Analysis(_) | Error::Unsupported(_) | Error::Syntax { .. }) => {}
            Err(err) => panic!("{text}: {err:?}"),
        }
    }
}

/// The largest statements that the parser takes are planned and run on the stack that servers have.
#[test]
fn large_expressions_fit_the_stack() {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new();
            let sum = vec!["id"; 400].join(" + ");
            let or = (0..80).map(|n| format!("id + 0 = {n}")).collect::<Vec<_>>().join(" OR ");
            let nested = format!("{}1{}", "ABS(".repeat(40), ")".repeat(40));
            let subqueries = format!("{}SELECT id FROM labels{}", "SELECT * FROM (".repeat(20), ") x".repeat(20));
            let unions = vec!["SELECT 1 AS n"; 100].join(" UNION ALL ");
            for (text, expected) in [
                (format!("SELECT {sum} FROM sales WHERE id = 2"), "800"),
                (format!("SELECT SUM({sum}) FROM sales WHERE id > 1"), "5600"),
                (format!("SELECT COUNT(*) FROM sales WHERE {or}"), "5"),
                (format!("SELECT {} FROM sales WHERE id = 1", vec!["weight"; 100].join(" + ")), "50"),
                (format!("SELECT {} FROM sales WHERE id = 1", vec!["id"; 100].join(" - ")), "-98"),
                (format!("SELECT {} FROM sales WHERE id = 1", vec!["id"; 40].join(" / ")), "1"),
                (format!("SELECT {nested}"), "1"),
                (format!("SELECT COUNT(*) FROM ({subqueries}) y"), "3"),
                (format!("SELECT COUNT(*) FROM ({unions}) y"), "100"),
            ] {
                assert_eq!(fixture.rows(&text).await.unwrap(), [expected], "{text}");
            }
        });
    };
    std::thread::Builder::new().stack_size(crate::sql::STACK_SIZE).spawn(work).unwrap().join().unwrap();
}

/// Whatever is pruned and pushed down, the rows are those of a table without tablets.
#[tokio::test]
async fn pruning_changes_no_answer() {
    use rand::{Rng, SeedableRng};
    let random = std::cell::RefCell::new(rand::rngs::StdRng::seed_from_u64(11));
    let pick = |from: i32, to: i32| random.borrow_mut().random_range(from..to);
    let columns = [
        ("id", ColumnType::SmallInt),
        ("day", ColumnType::Date),
        ("name", ColumnType::String),
        ("price", ColumnType::Decimal { precision: 9, scale: 2 }),
        ("flag", ColumnType::Boolean),
    ];
    let value = |column: usize| match (pick(0, 8), column) {
        (0, _) => "NULL".to_owned(),
        (_, 0) => pick(-5, 15).to_string(),
        (_, 1) => format!("2024-0{}-{:02}", pick(1, 5), pick(1, 4)),
        (_, 2) => ["a", "b", "B", "ab", ""][pick(0, 5) as usize].to_owned(),
        (_, 3) => format!("{}.{}", pick(-2, 3), pick(10, 15)),
        _ => pick(0, 2).to_string(),
    };
    let rows: Vec<String> = (0..250).map(|_| (0..5).map(value).collect::<Vec<_>>().join(",")).collect();
    let predicate = || {
        let column = pick(0, 5) as usize;
        let name = columns[column].0;
        let next = || match value(column) {
            text if text == "NULL" || !matches!(column, 1 | 2) => text,
            text => format!("'{text}'"),
        };
        match pick(0, 8) {
            0 => format!("{name} IS NULL"),
            1 => format!("{name} IN ({}, {})", next(), next()),
            2 => format!("{name} <= {}", next()),
            3 => format!("NOT {name} > {}", next()),
            4 => format!("{name} BETWEEN {} AND {}", next(), next()),
            5 => format!("{} < {name}", next()),
            6 => format!("{name} <> {}", next()),
            _ => format!("{name} = {}", next()),
        }
    };
    let predicates: Vec<String> = (0..90).map(|_| predicate()).collect();

    let mut fixture = Fixture::new();
    let memory = Arc::get_mut(&mut fixture.memory).unwrap();
    let lines: Vec<&str> = rows.iter().map(String::as_str).collect();
    memory.add("pruned", &columns, &lines);
    let fields = columns.iter().enumerate().map(|(at, (name, ty))| column(name, at as u32 + 1, *ty)).collect();
    let schema = Schema { version: 1, keys: 0, columns: fields };
    let split: Vec<Vec<&str>> = lines.iter().map(|row| row.split(',').collect()).collect();
    let arrays = columns.iter().enumerate();
    let arrays = arrays.map(|(at, (_, ty))| array(*ty, &split.iter().map(|row| row[at]).collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(schema.arrow(), arrays.collect()).unwrap();
    let (database, name) = ("shop".to_owned(), "plain".to_owned());
    let made =
        VirtualTable { database, name, schema, rows: Box::new(move || Box::new([Ok(batch.clone())].into_iter())) };
    memory.tables.push(Table::Virtual(Arc::new(made)));

    for parts in predicates.chunks(3) {
        for condition in [
            parts[0].clone(),
            parts.join(" AND "),
            parts.join(" OR "),
            format!("{} AND ({} OR {})", parts[0], parts[1], parts[2]),
        ] {
            let query = |table: &str| format!("SELECT * FROM {table} WHERE {condition} ORDER BY 1, 2, 3, 4, 5");
            let (pruned, plain) = (fixture.rows(&query("pruned")).await, fixture.rows(&query("plain")).await);
            assert_eq!(pruned.unwrap(), plain.unwrap(), "{condition}");
        }
    }
}
