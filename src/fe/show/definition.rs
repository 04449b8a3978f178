//! SHOW CREATE TABLE and SHOW CREATE REPOSITORY: definitions as statements that the parser reads back, secrets masked.

use std::fmt::Write;

use crate::catalog::{Partition, Repository, Table};
use crate::sql;
use crate::types::{Column, ColumnType, Datum, Name};

/// The CREATE TABLE statement that makes an equal, empty table. The parser reads it back; a restore on another cluster
/// or a migration may run it.
pub(super) fn create_table(table: &Table) -> String {
    let mut text = format!("CREATE TABLE {} (\n", quoted(&table.name));
    let columns: Vec<String> = table.schema.columns.iter().map(column).collect();
    text.push_str(&columns.join(",\n"));
    text.push_str("\n) ENGINE=OLAP\n");
    // Writing to a string cannot fail.
    if table.schema.keys > 0 {
        let keys = table.schema.columns.iter().take(table.schema.keys as usize).map(|column| &column.name);
        let _ = writeln!(text, "DUPLICATE KEY({})", list(keys));
    }
    if !table.comment.is_empty() {
        let _ = writeln!(text, "COMMENT {}", literal(&table.comment));
    }
    if let Some(column) = &table.partition_column {
        let ty = table.schema.column(column).map_or(ColumnType::String, |column| column.ty);
        let partitions = table.ordered_partitions().into_iter();
        let partitions: Vec<String> = partitions.map(|one| partition(one, ty)).collect();
        let _ = writeln!(text, "PARTITION BY RANGE({})\n({})", quoted(column), partitions.join(",\n"));
    }
    let distribution = &table.distribution;
    let columns = list(distribution.columns.iter());
    let _ = writeln!(text, "DISTRIBUTED BY HASH({columns}) BUCKETS {}", distribution.buckets);
    let _ = write!(text, "PROPERTIES (\n\"replication_num\" = \"{}\"\n);", table.replication);
    text
}

/// The CREATE REPOSITORY statement that would find it again, with secrets masked.
pub(super) fn create_repository(repository: &Repository) -> String {
    let mut text = format!(
        "CREATE {}REPOSITORY {}\nWITH BROKER\nON LOCATION {}",
        if repository.read_only { "READ ONLY " } else { "" },
        quoted(&repository.name),
        literal(&sql::mask_uri(&repository.location))
    );
    let property = |(key, value): (&String, &String)| {
        let value = if sql::is_secret_key(key) { "***" } else { value };
        format!("{} = {}", literal(key), literal(value))
    };
    let properties: Vec<String> = repository.properties.iter().map(property).collect();
    if !properties.is_empty() {
        let _ = write!(text, "\nPROPERTIES (\n{}\n)", properties.join(",\n"));
    }
    text + ";"
}

fn column(column: &Column) -> String {
    let mut text = format!("  {} {}", quoted(&column.name), column.ty);
    text.push_str(if column.nullable { " NULL" } else { " NOT NULL" });
    match &column.default {
        None => {}
        Some(value) => match value.text(column.ty) {
            None => text.push_str(" DEFAULT NULL"),
            Some(value) => {
                let _ = write!(text, " DEFAULT {}", literal(&value));
            }
        },
    }
    if !column.comment.is_empty() {
        let _ = write!(text, " COMMENT {}", literal(&column.comment));
    }
    text
}

/// Partitions stand in the order of their ranges, so that LESS THAN, which begins where the one before ends, is right
/// for the one without a lower bound: it is the first.
fn partition(partition: &Partition, ty: ColumnType) -> String {
    let range = partition.range.as_ref();
    let upper = bound(range.and_then(|range| range.upper.as_ref()), ty);
    let name = quoted(&partition.name);
    match range.and_then(|range| range.lower.as_ref()) {
        None => format!("PARTITION {name} VALUES LESS THAN {upper}"),
        lower => format!("PARTITION {name} VALUES [{}, {upper})", bound(lower, ty)),
    }
}

fn bound(value: Option<&Datum>, ty: ColumnType) -> String {
    match value.and_then(|value| value.text(ty)) {
        Some(value) => format!("({})", literal(&value)),
        None => "(MAXVALUE)".to_owned(),
    }
}

fn list<'a>(names: impl Iterator<Item = &'a Name>) -> String {
    names.map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// A name in back quotes.
pub(in crate::fe) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text in double quotes.
fn literal(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use imbl::OrdMap;

    use super::*;
    use crate::sql::{CreateTable, Statement};
    use crate::types::{DatabaseId, PartitionId, Schema, TableId, Timestamp};
    use crate::{catalog, sql};

    fn parse(text: &str) -> CreateTable {
        match sql::parse(text).unwrap().remove(0).statement {
            Statement::CreateTable(create) => create,
            other => panic!("{other:?}"),
        }
    }

    /// The table that a statement makes, without tablets.
    fn table(create: &CreateTable) -> Table {
        let column = |(n, column): (usize, &sql::ColumnDef)| Column {
            name: column.name.clone(),
            field: n as u32,
            ty: column.ty,
            nullable: column.nullable,
            default: column.default.clone(),
            comment: column.comment.clone(),
        };
        let ranges = create.partition_by.iter().flat_map(|by| &by.partitions);
        let partitions = ranges.map(|(name, range)| {
            let partition = Partition {
                id: PartitionId(1),
                name: name.clone(),
                range: Some(range.clone()),
                version: 1,
                changed: Timestamp(0),
                replication: 1,
                tablets: Vec::new(),
            };
            (name.clone(), Arc::new(partition))
        });
        let columns = create.columns.iter().enumerate().map(column).collect();
        let distribution = create.distribution.as_ref().unwrap();
        Table {
            id: TableId(1),
            database: DatabaseId(1),
            name: create.table.table.clone(),
            schema: Arc::new(Schema { version: 1, keys: create.keys, columns }),
            comment: create.comment.clone(),
            partition_column: create.partition_by.as_ref().map(|by| by.column.clone()),
            distribution: catalog::Distribution {
                columns: distribution.columns.clone(),
                buckets: distribution.buckets.unwrap(),
            },
            replication: 3,
            created: Timestamp(0),
            raw: None,
            partitions: partitions.collect::<OrdMap<_, _>>(),
        }
    }

    #[test]
    fn what_is_shown_makes_an_equal_table() {
        for text in [
            "CREATE TABLE t (a INT) DISTRIBUTED BY HASH(a) BUCKETS 1 PROPERTIES ('replication_num' = '3')",
            // Names and texts of any characters.
            "CREATE TABLE `🦀 ``ta\"ble'` (`select` VARCHAR(60) NOT NULL DEFAULT 'it''s \"q\" \\\\n \\% é🦀' COMMENT \
             'c1 \"x\" \\'y\\' \\\\ \n \\_ %', `b ``` STRING NULL COMMENT '') COMMENT 'a \"comment\"\\twith `all` \\\\' \
             DISTRIBUTED BY HASH(`select`, `b ```) BUCKETS 7 PROPERTIES ('replication_num' = '3')",
            // Every type, with its default.
            "CREATE TABLE t (k1 BIGINT NOT NULL DEFAULT '-9223372036854775808', k2 TINYINT DEFAULT NULL, b BOOLEAN \
             DEFAULT 'true', s SMALLINT DEFAULT '5', i INT DEFAULT '-1', d DOUBLE DEFAULT '-1.5e300', \
             m DECIMAL(38, 10) DEFAULT '-1.0000000001', dt DATE DEFAULT '1969-12-31', \
             t DATETIME DEFAULT '2026-11-21 03:04:05.000006', c CHAR(255) DEFAULT '', v VARCHAR(1048576), x STRING) \
             DUPLICATE KEY(k1, k2) DISTRIBUTED BY HASH(k2) BUCKETS 3 PROPERTIES ('replication_num' = '3')",
            // Ranges without a lower and without an upper bound, with a gap, and written out of order.
            "CREATE TABLE t (d DATE, k INT) DUPLICATE KEY(d) PARTITION BY RANGE(d) (PARTITION p9 VALUES \
             [('2030-01-01'), (MAXVALUE)), PARTITION `p 1` VALUES LESS THAN ('2020-01-01'), PARTITION p2 VALUES \
             [('2021-01-01'), ('2022-01-01'))) DISTRIBUTED BY HASH(k) BUCKETS 2 PROPERTIES ('replication_num' = '3')",
            "CREATE TABLE t (k TINYINT) PARTITION BY RANGE(k) (PARTITION p VALUES LESS THAN MAXVALUE) \
             DISTRIBUTED BY HASH(k) BUCKETS 2 PROPERTIES ('replication_num' = '3')",
            "CREATE TABLE t (k DATETIME) PARTITION BY RANGE(k) (PARTITION p VALUES \
             [('0000-01-01 00:00:00'), ('2020-01-01 00:00:00.5'))) DISTRIBUTED BY HASH(k) BUCKETS 2 \
             PROPERTIES ('replication_num' = '3')",
            "CREATE TABLE t (k INT) PARTITION BY RANGE(k) () DISTRIBUTED BY HASH(k) BUCKETS 2 \
             PROPERTIES ('replication_num' = '3')",
        ] {
            let mut create = parse(text);
            if let Some(by) = &mut create.partition_by {
                // Partitions have no order of their own.
                by.partitions.sort_by(|a, b| match (&a.1.lower, &b.1.lower) {
                    (Some(a), Some(b)) => a.compare(b).unwrap(),
                    (a, b) => a.is_some().cmp(&b.is_some()),
                });
            }
            let shown = create_table(&table(&create));
            assert_eq!(parse(&shown), create, "{shown}");
        }
    }
}
