//! What is accepted and refused, with the texts of the refusals; what a cut does; secrets.

use super::*;
use crate::error::Error;
use crate::types::{ColumnType, Datum, Name};

/// Statements of every family that are read.
const ACCEPTED: &[&str] = &[
    "SELECT 1",
    "SELECT a.b, `c d` AS e, 'x' FROM t AS a WHERE a.b IN (1, 2) GROUP BY 1 ORDER BY 2 DESC LIMIT 5, 10",
    "WITH x AS (SELECT 1 AS n) SELECT n FROM x UNION ALL (SELECT 2)",
    "SELECT * FROM (SELECT 1 AS a) s JOIN d.u USING (a) LEFT JOIN v ON s.a = v.a",
    "SELECT CASE WHEN a IS NULL THEN 1 ELSE 2 END, COUNT(*), @@session.autocommit, @x FROM t",
    "SELECT COUNT(*) FROM FILES('path' = 'file:///x/*.parquet', \"format\" = \"parquet\") f",
    "SELECT /*+ SET_VAR(a=1) */ 1 -- rest\n",
    "VALUES (1, 'a'), (2, 'b')",
    "SELECT !a, b && c, 7 DIV 2, x REGEXP 'y', INTERVAL 1 DAY + d, CAST(a AS SIGNED) FROM t FOR UPDATE",
    "SELECT GROUP_CONCAT(a ORDER BY b SEPARATOR ','), IF(a, b, c), `key`, type, date FROM 1t PARTITION (p1)",
    "(SELECT 1) LIMIT 1",
    "INSERT INTO t VALUES (1, 'a', NULL), (-2, DEFAULT, '2026-01-01')",
    "INSERT INTO d.t (a, b) SELECT a, b FROM FILES(\"path\"=\"file:///x\", \"format\"=\"csv\")",
    "INSERT INTO t WITH LABEL l1 (a) (SELECT 1)",
    "CREATE DATABASE IF NOT EXISTS d",
    "CREATE DATABASE default_catalog.d",
    "DROP DATABASE IF EXISTS d FORCE",
    "USE `d`",
    "CREATE TABLE t (a INT)",
    "CREATE TABLE IF NOT EXISTS d.t (id BIGINT NOT NULL COMMENT 'key', day DATE, ts DATETIME NULL, \
     n TINYINT(4) DEFAULT '1', s SMALLINT, b BOOLEAN DEFAULT \"true\", x DOUBLE, m DECIMAL(10, 2) DEFAULT '0.00', \
     c CHAR(3), v VARCHAR(65533) DEFAULT '', z STRING DEFAULT NULL COMMENT \"it's\") ENGINE = olap \
     DUPLICATE KEY(id, day) COMMENT 'a table' PARTITION BY RANGE(day) (PARTITION p1 VALUES LESS THAN ('2026-01-01'), \
     PARTITION p2 VALUES [(\"2026-01-01\"), (\"2026-02-01\")), PARTITION p3 VALUES LESS THAN MAXVALUE) \
     DISTRIBUTED BY HASH(id) BUCKETS 8 PROPERTIES (\"replication_num\" = \"1\")",
    "DROP TABLE IF EXISTS d.t FORCE",
    "TRUNCATE TABLE d.t PARTITION (p1, p2)",
    "CREATE REPOSITORY r WITH BROKER ON LOCATION 'file:///backups'",
    "CREATE READ ONLY REPOSITORY r WITH BROKER '' ON LOCATION \"s3a://b/x\" PROPERTIES(\"aws.s3.secret_key\"=\"k\")",
    "DROP REPOSITORY r",
    "BACKUP SNAPSHOT d.l TO r ON (t0, t1) PROPERTIES(\"type\"=\"full\",\"timeout\"=\"3600\")",
    "BACKUP SNAPSHOT l TO r",
    "BACKUP SNAPSHOT l TO r ON (t3, T3)",
    "BACKUP DATABASE d SNAPSHOT l TO r ON (TABLE a PARTITION (p1, p2), TABLES b, ALL TABLES) PROPERTIES('wait'='true')",
    "BACKUP SNAPSHOT l TO r ON (view, tables PARTITION p)",
    "RESTORE SNAPSHOT d.l FROM r PROPERTIES(\"backup_timestamp\"=\"2026-11-21-03-11-43-123\")",
    "RESTORE SNAPSHOT l FROM r DATABASE a AS b ON (TABLE t AS u, v PARTITION (p), ALL TABLES) PROPERTIES \
     ('backup_timestamp' = 'latest', 'timeout' = '600', 'replication_num' = '2', 'allow_load' = 'TRUE', \
     'meta_version' = '-1', 'starrocks_meta_version' = '4', 'wait' = 'false')",
    "CANCEL BACKUP",
    "CANCEL BACKUP FROM d",
    "CANCEL RESTORE IN d",
    "SHOW DATABASES LIKE 'a%'",
    "SHOW SCHEMAS WHERE `Database` = 'd'",
    "SHOW FULL TABLES FROM `d` LIKE 't%'",
    "SHOW TABLE STATUS FROM d WHERE Name = 't'",
    "SHOW FULL COLUMNS FROM t FROM d LIKE 'a'",
    "SHOW FIELDS IN d.t",
    "SHOW CREATE TABLE d.t",
    "SHOW CREATE DATABASE d",
    "SHOW PARTITIONS FROM d.t WHERE PartitionName = 'p1'",
    "SHOW TABLET FROM d.t PARTITION (p1)",
    "SHOW TABLETS FROM t",
    "SHOW BACKENDS",
    "SHOW FRONTENDS",
    "SHOW FULL PROCESSLIST",
    "SHOW GLOBAL VARIABLES LIKE 'version%'",
    "SHOW VARIABLES WHERE Variable_name IN ('a', 'b')",
    "SHOW SESSION STATUS LIKE 'Ssl%'",
    "SHOW WARNINGS",
    "SHOW ERRORS",
    "SHOW STORAGE ENGINES",
    "SHOW CHARACTER SET WHERE Charset = 'utf8'",
    "SHOW COLLATION LIKE 'utf8%'",
    "SHOW GRANTS FOR CURRENT_USER()",
    "SHOW GRANTS FOR 'u'@'%'",
    "SHOW INDEX FROM t IN d",
    "SHOW KEYS FROM d.t",
    "SHOW PLUGINS",
    "SHOW TRIGGERS FROM d",
    "SHOW EVENTS",
    "SHOW PROCEDURE STATUS WHERE Db = 'd'",
    "SHOW FUNCTION STATUS",
    "SHOW REPOSITORIES",
    "SHOW BACKUP FROM d WHERE true",
    "SHOW RESTORE",
    "SHOW SNAPSHOT ON r",
    "SHOW SNAPSHOT ON r WHERE SNAPSHOT IN ('a', \"b\")",
    "SHOW SNAPSHOT ON r WHERE timestamp = '2018-04-18-19-19-10' AND snapshot = \"s\"",
    "ADMIN SHOW FRONTEND CONFIG LIKE 'run_mode'",
    "DESC d.t",
    "DESCRIBE t a",
    "SET NAMES utf8mb4 COLLATE 'utf8mb4_0900_ai_ci'",
    "SET @@session.autocommit = OFF, names utf8, @a := 1, GLOBAL x = -1.5, sql_mode = CONCAT(@@sql_mode, ',X')",
    "SET CHARACTER SET DEFAULT",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
    "SET PASSWORD FOR 'u'@'%' = PASSWORD('secret')",
    "SET PASSWORD = 'secret'",
    "/*!40101 SET @OLD=@@CHARACTER_SET_CLIENT */",
    "KILL QUERY 5",
    "KILL CONNECTION 5",
    "KILL 5",
    "CREATE USER IF NOT EXISTS 'u'@'10.%' IDENTIFIED WITH mysql_native_password BY 'secret'",
    "CREATE USER u@localhost",
    "CREATE DATABASE d DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
    "CREATE SCHEMA IF NOT EXISTS d CHARSET = 'utf8' /*!80016 DEFAULT ENCRYPTION='N' */",
    "ALTER USER u@'%' IDENTIFIED BY 'secret'",
    "DROP USER IF EXISTS 'u'",
    "BEGIN",
    "START TRANSACTION READ ONLY",
    "COMMIT WORK",
    "ROLLBACK",
    "LOCK TABLES t READ, d.u AS x WRITE",
    "UNLOCK TABLES",
    "PREPARE s FROM 'SELECT ?'",
    "EXECUTE s USING @a, @B",
    "DEALLOCATE PREPARE s",
    "ALTER SYSTEM ADD BACKEND \"h1:9060\", '[::1]:9060'",
    "ALTER SYSTEM DROP BACKEND \"h1:9060\" FORCE",
    "ADMIN SET FRONTEND CONFIG (\"k\" = \"v\")",
    "UPDATE information_schema.be_configs SET value = 100 WHERE name = 'max_upload_speed_kbps' AND BE_ID = 3",
    "UPDATE `information_schema`.`be_configs` SET `value` = 'v' WHERE name = 'k'",
];

/// Statements that are refused, and the whole text of the refusal.
const REFUSED: &[(&str, &str)] = &[
    // Syntax, with its place.
    (
        "SELECT",
        "Getting syntax error at line 1, column 7. Detail message: expected an expression, found the end of the statement",
    ),
    ("SELECT 1;\n  FOO", "Getting syntax error at line 2, column 3. Detail message: expected a statement, found 'FOO'"),
    ("SELECT 'a", "Getting syntax error at line 1, column 8. Detail message: Unterminated string literal"),
    (
        "SHOW",
        "Getting syntax error at line 1, column 5. Detail message: expected what to show, found the end of the statement",
    ),
    (
        "SHOW TABLES BY",
        "Getting syntax error at line 1, column 13. Detail message: expected the end of the statement, found 'BY'",
    ),
    ("BACKUP SNAPSHOT TO r", "Getting syntax error at line 1, column 17. Detail message: expected a label, found 'TO'"),
    ("SET PASSWORD 'hunter2'", "Getting syntax error at line 1, column 14. Detail message: expected '='"),
    // What has lost its quotes may be secret.
    ("SET PASSWORD hunter2", "Getting syntax error at line 1, column 14. Detail message: expected '='"),
    ("SET PASSWORD = hunter2", "Getting syntax error at line 1, column 16. Detail message: expected a string"),
    (
        "CREATE USER u IDENTIFIED BY hunter2",
        "Getting syntax error at line 1, column 29. Detail message: expected a string",
    ),
    (
        "CREATE USER u IDENTIFIED BY 'hun'ter2'x'",
        "Getting syntax error at line 1, column 34. Detail message: expected the end of the statement",
    ),
    (
        "CREATE REPOSITORY r WITH BROKER ON LOCATION 's3://b' PROPERTIES ('aws.s3.secret_key' = hunter2)",
        "Getting syntax error at line 1, column 88. Detail message: expected a string",
    ),
    (
        "CREATE DATABASE d DEFAULT CHARACTER SET latin1",
        "unsupported: CHARACTER SET latin1; texts are in UTF-8, and are compared by their bytes",
    ),
    (
        "DROP TABLE 't'",
        "Getting syntax error at line 1, column 12. Detail message: expected a table name, found a string",
    ),
    (
        "CREATE TABLE t (a INT,)",
        "Getting syntax error at line 1, column 23. Detail message: expected a column name, found ')'",
    ),
    (
        "CREATE FOO",
        "Getting syntax error at line 1, column 8. Detail message: expected an object of CREATE, found 'FOO'",
    ),
    ("KILL x", "Getting syntax error at line 1, column 6. Detail message: expected a connection id, found 'x'"),
    // Other objects and statements of StarRocks and MySQL.
    ("SHOW PROC '/backends'", "unsupported: SHOW PROC"),
    ("SHOW MATERIALIZED VIEWS FROM d", "unsupported: SHOW MATERIALIZED VIEWS"),
    ("SHOW CREATE VIEW v", "unsupported: SHOW CREATE VIEW"),
    ("SHOW DATA", "unsupported: SHOW DATA"),
    ("GRANT SELECT ON t TO u", "unsupported: GRANT"),
    ("ALTER TABLE t ADD COLUMN a INT", "unsupported: ALTER TABLE"),
    ("CREATE MATERIALIZED VIEW m AS SELECT 1", "unsupported: CREATE MATERIALIZED VIEW"),
    ("EXPLAIN SELECT 1", "unsupported: EXPLAIN"),
    ("UPDATE t SET a = 1", "unsupported: UPDATE t; only information_schema.be_configs can be updated"),
    ("RECOVER DATABASE d", "unsupported: RECOVER"),
    ("DROP SNAPSHOT s ON r", "unsupported: DROP SNAPSHOT"),
    ("SET ROLE ALL", "unsupported: SET ROLE"),
    ("SELECT 1 INTO OUTFILE 'x'", "unsupported: SELECT … INTO"),
    ("WITH x AS (SELECT 1) DELETE FROM t", "unsupported: WITH … DELETE"),
    ("USE other.d", "unsupported: catalog 'other'; there is only default_catalog"),
    ("CREATE USER u IDENTIFIED WITH p AS '*AB'", "unsupported: IDENTIFIED with a hashed password; write BY 'password'"),
    // INSERT.
    ("INSERT OVERWRITE t SELECT 1", "unsupported: INSERT OVERWRITE"),
    ("INSERT INTO FILES('path'='x') SELECT 1", "unsupported: INSERT INTO FILES"),
    ("INSERT INTO t PARTITION (p) SELECT 1", "unsupported: INSERT … PARTITION"),
    ("INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1", "unsupported: INSERT … ON DUPLICATE KEY UPDATE"),
    ("INSERT INTO t (a, A) VALUES (1, 2)", "Column 'a' specified twice"),
    // Names.
    ("CREATE DATABASE `a/b`", "Incorrect database name 'a/b': it has a control character, '/', '\\' or '.' in it"),
    ("CREATE DATABASE ``", "Incorrect database name ''"),
    (
        "CREATE REPOSITORY `a.b` WITH BROKER ON LOCATION 'x'",
        "Incorrect repository name 'a.b': it has a control character, '/', '\\' or '.' in it",
    ),
    ("BACKUP SNAPSHOT `` TO r", "Incorrect label name ''"),
    ("BACKUP SNAPSHOT `a/b:c` TO r", "Incorrect label name 'a/b:c': it is not one to 128 letters, digits, '_' and '-'"),
    ("BACKUP SNAPSHOT l TO ``", "Repository is empty"),
    (
        "BACKUP SNAPSHOT `d/e`.l TO r",
        "Incorrect database name 'd/e': it has a control character, '/', '\\' or '.' in it",
    ),
    // CREATE TABLE.
    ("CREATE TABLE t (a LARGEINT)", "unsupported: type LARGEINT"),
    ("CREATE TABLE t (a ARRAY<INT>)", "unsupported: type ARRAY"),
    ("CREATE TABLE t (a INT UNSIGNED)", "unsupported: type UNSIGNED"),
    ("CREATE TABLE t (a INT SUM)", "unsupported: column attribute SUM"),
    ("CREATE TABLE t (a INT CHECK (a > 0))", "unsupported: column attribute CHECK"),
    ("CREATE TABLE t (a INT, CHECK (a > 0))", "unsupported: CHECK in CREATE TABLE"),
    ("CREATE TABLE t (a INT DEFAULT 'x')", "Invalid default value for 'a': 'x' is not a value of type int"),
    ("CREATE TABLE t (a INT NOT NULL DEFAULT NULL)", "Invalid default value for 'a': it is NOT NULL"),
    ("CREATE TABLE t (a INT, A INT)", "Duplicate column name 'a'"),
    ("CREATE TABLE t (a INT, INDEX i (a))", "unsupported: INDEX in CREATE TABLE"),
    ("CREATE TABLE t (a INT) PRIMARY KEY (a)", "unsupported: PRIMARY KEY in CREATE TABLE"),
    ("CREATE TABLE t (a INT) UNIQUE KEY (a)", "unsupported: UNIQUE KEY in CREATE TABLE"),
    ("CREATE TABLE t (a INT) AGGREGATE KEY (a)", "unsupported: AGGREGATE KEY in CREATE TABLE"),
    ("CREATE TABLE t (a INT) ORDER BY (a)", "unsupported: ORDER BY in CREATE TABLE"),
    ("CREATE TABLE t (a INT) ROLLUP (r (a))", "unsupported: ROLLUP in CREATE TABLE"),
    (
        "CREATE TABLE t (a INT) DISTRIBUTED BY RANDOM",
        "unsupported: DISTRIBUTED BY RANDOM; write DISTRIBUTED BY HASH (column)",
    ),
    ("CREATE TABLE t (a INT) PARTITION BY LIST (a) ()", "unsupported: PARTITION BY LIST"),
    ("CREATE TABLE t (a DATE) PARTITION BY date_trunc('day', a)", "unsupported: PARTITION BY an expression"),
    (
        "CREATE TABLE t (a INT, b INT) PARTITION BY RANGE (a, b) ()",
        "unsupported: PARTITION BY RANGE of several columns",
    ),
    ("CREATE TABLE t (a INT) ENGINE = hive", "unsupported: engine 'hive'; write ENGINE = olap, or leave it out"),
    ("CREATE TABLE t LIKE u", "unsupported: CREATE TABLE … LIKE"),
    ("CREATE TABLE t AS SELECT 1", "unsupported: CREATE TABLE … AS SELECT"),
    (
        "CREATE TABLE t (a INT) PROPERTIES ('x'='1', 'x'='2')",
        "Getting analyzing error. Detail message: property 'x' is given twice",
    ),
    ("CREATE TABLE t (a INT) DISTRIBUTED BY HASH (b)", "column 'b' in DISTRIBUTED BY does not exist"),
    (
        "CREATE TABLE t (a INT) DISTRIBUTED BY HASH (a) BUCKETS 0",
        "Getting analyzing error. Detail message: the number of buckets is at least 1",
    ),
    (
        "CREATE TABLE t (a INT, b INT) DUPLICATE KEY (b)",
        "Getting analyzing error. Detail message: Key columns must be the first few columns of the schema and the order of the key columns must be consistent with the order of the schema",
    ),
    (
        "CREATE TABLE t (a DOUBLE)",
        "Getting analyzing error. Detail message: column 'a' of type double can not be a key column",
    ),
    (
        "CREATE TABLE t (a VARCHAR(0))",
        "Getting analyzing error. Detail message: VARCHAR(0): the length is 1 to 1048576",
    ),
    (
        "CREATE TABLE t (a DECIMAL(39, 2))",
        "Getting analyzing error. Detail message: DECIMAL(39, 2): the precision is 1 to 38 and the scale 0 to the precision",
    ),
    (
        "CREATE TABLE t (a INT) PARTITION BY RANGE (a) (PARTITION p VALUES LESS THAN ('x'))",
        "Getting analyzing error. Detail message: partition 'p': 'x' is not a value of type int",
    ),
    (
        "CREATE TABLE t (a INT) PARTITION BY RANGE (a) (PARTITION p VALUES [('1'), ('5')), PARTITION q VALUES [('4'), ('9')))",
        "Getting analyzing error. Detail message: partition 'q' overlaps partition 'p'",
    ),
    (
        "CREATE TABLE t (a INT) PARTITION BY RANGE (a) (PARTITION p VALUES LESS THAN (5), PARTITION q VALUES LESS THAN (5))",
        "Getting analyzing error. Detail message: partition 'q' is empty: its upper bound is not above its lower",
    ),
    (
        "CREATE TABLE t (a INT) PARTITION BY RANGE (a) (START (1) END (5) EVERY (1))",
        "unsupported: partitions by START … END … EVERY",
    ),
    (
        "CREATE TABLE t (a STRING) PARTITION BY RANGE (a) ()",
        "Getting analyzing error. Detail message: column 'a' of type string can not be a range partition column",
    ),
    // Repositories.
    (
        "CREATE REPOSITORY r WITH BROKER hdfs_broker ON LOCATION 'x'",
        "unsupported: broker 'hdfs_broker'; stores are reached without broker processes: write WITH BROKER and no name",
    ),
    ("CREATE REPOSITORY r WITH BROKER ON LOCATION ''", "You must specify a location on the repository"),
    // BACKUP.
    ("BACKUP SNAPSHOT l TO r ON (t0, t0)", "Duplicated table: t0"),
    ("BACKUP SNAPSHOT l TO r PROPERTIES ('timeout'='x')", "Invalid timeout format: x"),
    ("BACKUP SNAPSHOT l TO r PROPERTIES ('timeout'='599')", "timeout must be at least 10 min"),
    ("BACKUP SNAPSHOT l TO r PROPERTIES ('timeout'='-1')", "timeout must be at least 10 min"),
    ("BACKUP SNAPSHOT l TO r PROPERTIES ('type'='x')", "Invalid backup job type: x"),
    ("BACKUP SNAPSHOT l TO r PROPERTIES ('type'='incremental')", "Currently does not support incremental backup"),
    (
        "BACKUP SNAPSHOT l TO r PROPERTIES ('k1'='a', 'timeout'='600', 'k2'='b')",
        "Unknown backup job properties: [k1, k2]",
    ),
    ("BACKUP SNAPSHOT l TO r PROPERTIES ('wait'='1')", "Invalid wait value: 1"),
    (
        "BACKUP SNAPSHOT l TO r PROPERTIES ('type'='full', 'type'='full')",
        "Getting analyzing error. Detail message: property 'type' is given twice",
    ),
    (
        "BACKUP DATABASE d SNAPSHOT d.l TO r",
        "Getting analyzing error. Detail message: the database is given twice; write either DATABASE or db.label",
    ),
    ("BACKUP SNAPSHOT l TO r ON (v1 AS x)", "Can not set alias for table in Backup Stmt: v1 AS x"),
    ("BACKUP SNAPSHOT l TO r ON (FUNCTION f, ALL VIEW)", "unsupported: BACKUP of functions"),
    ("BACKUP SNAPSHOT l TO r ON (t, ALL MATERIALIZED VIEWS)", "unsupported: BACKUP of materialized views"),
    ("BACKUP SNAPSHOT l TO r ON (VIEW v)", "unsupported: BACKUP of views"),
    ("BACKUP ALL EXTERNAL CATALOGS SNAPSHOT l TO r", "unsupported: BACKUP of external catalogs"),
    ("BACKUP EXTERNAL CATALOG (c) SNAPSHOT l TO r", "unsupported: BACKUP of external catalogs"),
    ("BACKUP SNAPSHOT l TO r ON (t TEMPORARY PARTITION (p))", "Do not support backing up temp partitions"),
    (
        "BACKUP SNAPSHOT l TO r ON (t PARTITION (p, p))",
        "Getting analyzing error. Detail message: partition 'p' is given twice",
    ),
    // RESTORE.
    ("RESTORE SNAPSHOT l FROM r", "Missing backup_timestamp property"),
    (
        "RESTORE SNAPSHOT d.l FROM r DATABASE a PROPERTIES ('backup_timestamp'='latest')",
        "Getting analyzing error. Detail message: the database is given twice; write either DATABASE or db.label",
    ),
    (
        "RESTORE SNAPSHOT l FROM r ON (d.t) PROPERTIES ('backup_timestamp'='latest')",
        "table 'd.t' in ON is qualified; all tables are of the statement's database: write t",
    ),
    (
        "RESTORE SNAPSHOT l FROM r ON (a AS x, b AS x) PROPERTIES ('backup_timestamp'='latest')",
        "Duplicated alias name: x",
    ),
    ("RESTORE SNAPSHOT l FROM r ON (a AS b, b) PROPERTIES ('backup_timestamp'='latest')", "Duplicated alias name: b"),
    (
        "RESTORE SNAPSHOT l FROM r PROPERTIES ('backup_timestamp'='yesterday')",
        "backup timestamp 'yesterday' is not of the form yyyy-MM-dd-HH-mm-ss-SSS, or latest",
    ),
    ("RESTORE SNAPSHOT l FROM r PROPERTIES ('allow_load'='yes')", "Invalid allow load value: yes"),
    ("RESTORE SNAPSHOT l FROM r PROPERTIES ('replication_num'='0')", "Invalid meta version format: 0"),
    ("RESTORE SNAPSHOT l FROM r PROPERTIES ('meta_version'='x')", "Invalid meta version format: x"),
    (
        "RESTORE SNAPSHOT l FROM r PROPERTIES ('reserve_replica'='true')",
        "Unknown restore job properties: [reserve_replica]",
    ),
    (
        "RESTORE SNAPSHOT l FROM r EXTERNAL CATALOG (c AS d) PROPERTIES ('backup_timestamp'='latest')",
        "unsupported: RESTORE of external catalogs",
    ),
    (
        "RESTORE SNAPSHOT l FROM r ON (t TEMPORARY PARTITIONS (p)) PROPERTIES ('backup_timestamp'='latest')",
        "Do not support restoring temporary partitions",
    ),
    ("CANCEL BACKUP FOR EXTERNAL CATALOG", "unsupported: CANCEL BACKUP FOR EXTERNAL CATALOG"),
    // SHOW SNAPSHOT.
    (
        "SHOW SNAPSHOT ON r WHERE TIMESTAMP = 'x'",
        "Where clause should looks like: SNAPSHOT = 'your_snapshot_name' [AND TIMESTAMP = '2018-04-18-19-19-10']",
    ),
    (
        "SHOW SNAPSHOT ON r WHERE SNAPSHOT = ''",
        "Where clause should looks like: SNAPSHOT = 'your_snapshot_name' [AND TIMESTAMP = '2018-04-18-19-19-10']",
    ),
    (
        "SHOW SNAPSHOT ON r WHERE SNAPSHOT = 'a' OR SNAPSHOT = 'b'",
        "Where clause should looks like: SNAPSHOT = 'your_snapshot_name' [AND TIMESTAMP = '2018-04-18-19-19-10']",
    ),
    // The rest.
    (
        "ALTER SYSTEM ADD BACKEND 'h1'",
        "Getting analyzing error. Detail message: backend 'h1' is not of the form \"host:port\"",
    ),
    (
        "ALTER SYSTEM ADD BACKEND 'h1:0'",
        "Getting analyzing error. Detail message: backend 'h1:0' is not of the form \"host:port\"",
    ),
    ("ALTER SYSTEM DECOMMISSION BACKEND 'h1:1'", "unsupported: ALTER SYSTEM"),
    ("SELECT :a", "unsupported: placeholder ':a'; write '?'"),
    ("SHOW TABLES WHERE a = ?", "unsupported: placeholders outside of SELECT and INSERT"),
];

fn one(text: &str) -> Statement {
    let mut all = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0).statement
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

#[test]
fn every_statement_of_the_dialect_is_read() {
    for text in ACCEPTED {
        one(text);
    }
}

#[test]
fn refusals_name_what_is_refused() {
    for (text, expected) in REFUSED {
        match parse(text) {
            Ok(all) => panic!("{text} was read as {all:?}"),
            Err(error) => assert_eq!(error.to_string(), *expected, "{text}"),
        }
    }
}

/// A statement cut anywhere is a statement, or an error; and where its syntax is wrong, the place is in the text.
#[test]
fn a_cut_statement_is_an_error_with_a_place() {
    for text in ACCEPTED.iter().chain(REFUSED.iter().map(|(text, _)| text)) {
        for (at, _) in text.char_indices() {
            let cut = &text[..at];
            if let Err(Error::Syntax { line, column, message }) = parse(cut) {
                let lines: Vec<_> = cut.split('\n').collect();
                let found = lines.get(line as usize - 1).unwrap_or_else(|| panic!("{cut:?}: line {line}"));
                assert!(
                    (1..=found.chars().count() as u64 + 1).contains(&column),
                    "{cut:?}: column {column}: {message}"
                );
            }
            mask_secrets(cut);
        }
    }
}

#[test]
fn a_text_is_divided_into_statements_with_their_sources() {
    let text = "-- first\nSELECT ';' ; /* x; */ ; # y\n  USE d;\n/*!40101 SET a = 1 */;";
    let parts: Vec<_> = parse(text).unwrap().into_iter().map(|parsed| parsed.text).collect();
    assert_eq!(parts, ["SELECT ';'", "USE d", "SET a = 1"]);
    for empty in ["", " \n", "-- x", "# x", "/* x */", ";;"] {
        assert_eq!(parse(empty).unwrap(), [], "{empty:?}");
    }
}

#[test]
fn places_count_from_the_whole_text() {
    for (text, place) in [
        ("USE d; SELECT é, FROM", (1, 22)),
        ("USE d;\n\nSELECT 1,\n  'é' AS 5", (4, 10)),
        ("/*!40101 SET é := , */", (1, 19)),
        ("USE d;\n USE", (2, 5)),
    ] {
        match parse(text) {
            Err(Error::Syntax { line, column, .. }) => assert_eq!((line, column), place, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn deep_and_long_statements_do_not_overflow_the_stack() {
    let deep = 3000;
    let texts = [
        format!("SELECT {}1{}", "(".repeat(deep), ")".repeat(deep)),
        format!("SELECT {}1", "- ".repeat(deep)),
        format!("SELECT {}1", "NOT ".repeat(deep)),
        format!("SELECT {}1{}", "f(".repeat(deep), ")".repeat(deep)),
        format!("SELECT 1 FROM {}t{}", "(".repeat(deep), ")".repeat(deep)),
        format!("SELECT * FROM {}SELECT 1{}", "(SELECT * FROM ".repeat(deep), ") a".repeat(deep)),
        format!("{}SELECT 1{}", "(".repeat(deep), ")".repeat(deep)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(deep)),
        format!("SELECT 1{}", " + 1".repeat(deep)),
        format!("SELECT 1{}", " OR 1".repeat(deep)),
        format!("SELECT a{}", " IS NULL".repeat(deep)),
        format!("SELECT a{}", "[1]".repeat(deep)),
        format!("SELECT a{}", "::INT".repeat(deep)),
        format!("SELECT a{}", " COLLATE x".repeat(deep)),
        format!("SELECT {}1", "CASE WHEN ".repeat(deep)),
        format!("SELECT CAST(1 AS {}INT{})", "ARRAY<".repeat(deep), ">".repeat(deep)),
        format!("SELECT 1{}", " AND a = 1 + 2".repeat(490)),
        format!("SHOW TABLES WHERE {}", "(".repeat(deep)),
        // Without a bound these are read 2^45 times.
        format!("SELECT {}1, {}1", " ".repeat(1000), "CAST(".repeat(45)),
        format!("SELECT {}1, {}1", " ".repeat(1000), "SUBSTRING(".repeat(45)),
        format!("SELECT * FROM {}t{}", "(SELECT * FROM ".repeat(15), ") a".repeat(15)),
        format!("SELECT {}1{}", "(SELECT ".repeat(15), " + 1)".repeat(15)),
        format!("SELECT {}1{}", "f(".repeat(45), ")".repeat(45)),
    ];
    for text in texts {
        // Half of the stack, because the thread has other work on it already.
        let check = move || match parse(&text) {
            Ok(all) => {
                let copy = all.clone();
                assert_eq!(copy, all);
                assert_eq!(placeholders(&all[0].statement), 0);
            }
            Err(error) => assert!(text.len() > 1000 && matches!(error, Error::Syntax { .. }), "{text}: {error}"),
        };
        std::thread::Builder::new().stack_size(STACK_SIZE / 2).spawn(check).unwrap().join().unwrap();
    }
}

#[test]
fn jobs_say_database_objects_and_options() {
    let Statement::Backup(backup) = one("BACKUP DATABASE d SNAPSHOT l TO r ON (t PARTITION (p), ALL TABLES)") else {
        panic!()
    };
    assert_eq!(backup.database, Some(name("d")));
    assert!(backup.objects.all_tables);
    assert_eq!(backup.objects.tables, [ObjectRef { table: name("t"), partitions: vec![name("p")], alias: None }]);
    assert_eq!(backup.options, BackupOptions::default());

    let text = "RESTORE SNAPSHOT l FROM r DATABASE a AS b ON (TABLE t AS u) \
                PROPERTIES ('backup_timestamp'='2026-01-02-03-04-05-678', 'wait'='TRUE', 'timeout'='700')";
    let Statement::Restore(restore) = one(text) else { panic!() };
    assert_eq!(restore.database, RestoreDatabase::Renamed { source: name("a"), target: name("b") });
    assert!(!restore.objects.all_tables);
    assert_eq!(restore.objects.tables[0].alias, Some(name("u")));
    assert_eq!(restore.options.backup_timestamp, BackupTimestamp::At("2026-01-02-03-04-05-678".into()));
    assert_eq!((restore.options.wait, restore.options.timeout_secs), (Some(true), Some(700)));
}

#[test]
fn a_table_is_read_with_resolved_keys_and_ranges() {
    let text = "CREATE TABLE t (a INT, b VARCHAR, c DECIMAL, d DOUBLE NOT NULL DEFAULT -1.5) PARTITION BY RANGE (A) \
                (PARTITION p VALUES LESS THAN (5), PARTITION q VALUES [(7), (9)), PARTITION r VALUES LESS THAN (7), \
                PARTITION s VALUES LESS THAN (MAXVALUE))";
    let Statement::CreateTable(table) = one(text) else { panic!() };
    assert_eq!(table.keys, 2);
    let types: Vec<_> = table.columns.iter().map(|column| column.ty).collect();
    let decimal = ColumnType::Decimal { precision: 10, scale: 0 };
    assert_eq!(types, [ColumnType::Int, ColumnType::Varchar(1), decimal, ColumnType::Double]);
    assert_eq!(table.columns[3].default, Some(Datum::Double(-1.5)));
    assert!(!table.columns[3].nullable);
    let ranges: Vec<_> = table.partition_by.unwrap().partitions.into_iter().map(|(_, r)| (r.lower, r.upper)).collect();
    let int = |n| Some(Datum::Int(n));
    assert_eq!(ranges, [(None, int(5)), (int(7), int(9)), (int(5), int(7)), (int(9), None)]);
}

#[test]
fn assignments_tell_words_literals_and_expressions_apart() {
    let text = "SET @@GLOBAL.X = ON, local y = DEFAULT, @A = -5, z = 'q', w = @@v, NAMES utf8 COLLATE c";
    let Statement::Set(all) = one(text) else { panic!() };
    let variable = |scope, name: &str, value| Assignment::Variable { scope, name: name.into(), value };
    let literal = |text: &str| SetValue::Literal(Datum::Text(text.into()));
    assert_eq!(all[0], variable(Scope::Global, "x", literal("ON")));
    assert_eq!(all[1], variable(Scope::Session, "y", SetValue::Default));
    assert_eq!(all[2], Assignment::UserVariable { name: "a".into(), value: SetValue::Literal(Datum::Int(-5)) });
    assert_eq!(all[3], variable(Scope::Session, "z", literal("q")));
    assert!(matches!(&all[4], Assignment::Variable { value: SetValue::Expr(_), .. }));
    assert_eq!(all[5], Assignment::Names { charset: Some("utf8".into()), collation: Some("c".into()) });
}

#[test]
fn users_are_read_in_any_quotes() {
    for (text, user, host) in [
        ("u", "u", "%"),
        ("'u'", "u", "%"),
        ("u@localhost", "u", "localhost"),
        ("u@'10.%'", "u", "10.%"),
        ("'u'@localhost", "u", "localhost"),
        ("'u'@'::1'", "u", "::1"),
        ("`u`@`h`", "u", "h"),
        ("\"u@x\"@\"%\"", "u@x", "%"),
    ] {
        let Statement::DropUser { user: found, .. } = one(&format!("DROP USER {text}")) else { panic!() };
        assert_eq!((&*found.user, found.host.as_str()), (user, host), "{text}");
    }
}

#[test]
fn placeholders_are_bound_in_the_order_of_the_text() {
    let statement = one("SELECT ?, f(?) FROM t WHERE a BETWEEN ? AND ? AND b IN (?, ?) ORDER BY ? LIMIT ?, ?");
    assert_eq!(placeholders(&statement), 9);
    let values: Vec<_> = (1..=9).map(Datum::Int).collect();
    let Statement::Query(bound) = bind(&statement, &values).unwrap() else { panic!() };
    let expected = "SELECT 1, f(2) FROM t WHERE a BETWEEN 3 AND 4 AND b IN (5, 6) ORDER BY 7 LIMIT 8, 9";
    let Statement::Query(expected) = one(expected) else { panic!() };
    assert_eq!(bound.to_string(), expected.to_string());

    let insert = one("INSERT INTO t VALUES (?, ?, ?), (?, ?, '?')");
    let values =
        [Datum::Text("it's".into()), Datum::Null, Datum::Double(0.5), Datum::Date(0), Datum::DateTime(1_500_000)];
    let Statement::Insert(bound) = bind(&insert, &values).unwrap() else { panic!() };
    let expected = "VALUES ('it''s', NULL, 5e-1), ('1970-01-01', '1970-01-01 00:00:01.500', '?')";
    assert_eq!(bound.source.to_string(), expected);
    assert_eq!(
        bind(&insert, &[]).unwrap_err().to_string(),
        "Incorrect arguments to EXECUTE: 0 values for 5 parameters"
    );
}

#[test]
fn headers_are_as_written() {
    for (text, expected) in [
        ("SELECT 1, a + 1 , t.B,`c`, count( * ), x AS y, * FROM t", "1|a + 1|B|c|count( * )|-|-"),
        ("WITH q AS (SELECT 9) SELECT DISTINCT f(a, b), (SELECT c FROM u) FROM q", "f(a, b)|(SELECT c FROM u)"),
        ("(SELECT é, 'a,b') UNION SELECT 2, 3", "é|'a,b'"),
        (
            "SELECT a IS NOT DISTINCT FROM b, EXTRACT(YEAR FROM d) LIMIT 1",
            "a IS NOT DISTINCT FROM b|EXTRACT(YEAR FROM d)",
        ),
        ("SELECT CASE WHEN a THEN 1 END\n, @@version, -- c\n now()", "CASE WHEN a THEN 1 END|@@version|now()"),
        ("SELECT 1;", "1"),
        ("VALUES (1)", ""),
    ] {
        let parsed = parse(text).unwrap().remove(0);
        let Statement::Query(query) = parsed.statement else { panic!() };
        let names = projection_names(&query, &parsed.text);
        let names: Vec<_> = names.into_iter().map(|name| name.unwrap_or_else(|| "-".into())).collect();
        assert_eq!(names.join("|"), expected, "{text}");
    }
}

#[test]
fn files_is_found_in_a_query() {
    use sqlparser::ast::SetExpr;
    let factor = |text: &str| {
        let Statement::Query(query) = one(text) else { panic!() };
        let SetExpr::Select(select) = *query.body else { panic!() };
        select.from[0].relation.clone()
    };
    let files =
        files_call(&factor("SELECT * FROM FILES('path'='file:///x', \"format\" = \"csv\") AS f")).unwrap().unwrap();
    assert_eq!(
        files.into_iter().collect::<Vec<_>>(),
        [("format".into(), "csv".into()), ("path".into(), "file:///x".into())]
    );
    assert!(files_call(&factor("SELECT * FROM files")).is_none());
    let error = files_call(&factor("SELECT * FROM FILES('path'='x', 'path'='y')")).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "Getting analyzing error. Detail message: property 'path' is given twice");
    assert!(files_call(&factor("SELECT * FROM FILES('path')")).unwrap().is_err());
}

#[test]
fn secrets_are_masked() {
    for (text, expected) in [
        ("CREATE USER 'u'@'%' IDENTIFIED BY 'hunter2'", "CREATE USER 'u'@'%' IDENTIFIED BY '***'"),
        ("ALTER USER u IDENTIFIED WITH 'p' BY \"hunter2\"", "ALTER USER u IDENTIFIED WITH 'p' BY '***'"),
        ("SET PASSWORD FOR 'u'@'%' = PASSWORD('hunter2')", "SET PASSWORD FOR 'u'@'%' = PASSWORD('***')"),
        ("SET PASSWORD = 'hunter2'; SELECT 'x'", "SET PASSWORD = '***'; SELECT 'x'"),
        (
            "CREATE REPOSITORY r WITH BROKER ON LOCATION \"s3://a:hunter2@b/x?sig=hunter2\" PROPERTIES (\"aws.s3.access_key\" \
             = \"hunter2\", 'aws.s3.region' = 'eu', 'fs.oss.accessKeySecret'='hunter2')",
            "CREATE REPOSITORY r WITH BROKER ON LOCATION 's3://***@b/x?***' PROPERTIES (\"aws.s3.access_key\" \
             = '***', 'aws.s3.region' = 'eu', 'fs.oss.accessKeySecret'='***')",
        ),
        ("CRATE USER u IDENTIFED; IDENTIFIED BY 'hunter2' x", "CRATE USER u IDENTIFED; IDENTIFIED BY '***' x"),
        ("CREATE USER u IDENTIFIED BY 'hunter2", "CREATE USER u '***'"),
        ("PREPARE s FROM 'SET PASSWORD = \"hunter2\"'", "PREPARE s FROM '***'"),
        (
            "SELECT 'é' FROM FILES('path'='s3://b/x', 'aws.s3.secret_key'='hunter2')",
            "SELECT 'é' FROM FILES('path'='s3://b/x', 'aws.s3.secret_key'='***')",
        ),
        ("/*!50000 CREATE USER u IDENTIFIED BY 'hunter2' */", "/*!50000 CREATE USER u IDENTIFIED BY '***' */"),
        (
            "SELECT * FROM t WHERE orderkey = '5' AND a = 'file:///x?y=1#z'",
            "SELECT * FROM t WHERE orderkey = '5' AND a = 'file:///x?y=1#z'",
        ),
        // Parameters, as BR's `file://` takes them.
        ("BACKUP RAW TO 'file:///x?secret-access-key=hunter2'", "BACKUP RAW TO 'file:///x?***'"),
    ] {
        assert_eq!(mask_secrets(text), expected);
    }
    for text in ACCEPTED {
        if !text.to_lowercase().contains("secret") {
            assert_eq!(mask_secrets(text), *text);
        }
    }
}

#[test]
fn secrets_are_not_in_debug_output() {
    for text in [
        "CREATE USER u IDENTIFIED BY 'hunter2'",
        "SET PASSWORD = 'hunter2'",
        "PREPARE s FROM 'hunter2'",
        "CREATE REPOSITORY r WITH BROKER ON LOCATION 's3://u:hunter2@b' PROPERTIES ('secret'='hunter2', 'url'='s3://u:hunter2@b')",
    ] {
        assert!(!format!("{:?}", one(text)).contains("hunter2"), "{text}");
    }
}
