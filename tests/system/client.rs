//! A MySQL client that sends text and gets texts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use mysql_async::consts::ColumnType;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value};
use sha2::{Digest, Sha256};

use super::harness::PATIENCE;

/// An error as the `mysql` client shows it. The number 2013 is a connection that was lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub number: u16,
    pub state: String,
    pub text: String,
}

impl Refusal {
    pub fn is_lost(&self) -> bool {
        self.number == 2013
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.number, self.state, self.text)
    }
}

impl std::error::Error for Refusal {}

impl From<mysql_async::Error> for Refusal {
    fn from(error: mysql_async::Error) -> Self {
        match error {
            mysql_async::Error::Server(error) => Self { number: error.code, state: error.state, text: error.message },
            other => Self { number: 2013, state: "HY000".into(), text: other.to_string() },
        }
    }
}

/// What one statement returned.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub columns: Vec<(String, ColumnType)>,
    pub rows: Vec<Vec<Option<String>>>,
    pub affected: u64,
}

impl Answer {
    /// The rows as maps from column names; NULL is "NULL".
    pub fn records(&self) -> Vec<BTreeMap<&str, &str>> {
        let mut records = Vec::new();
        for row in &self.rows {
            let texts = row.iter().map(|value| value.as_deref().unwrap_or("NULL"));
            records.push(self.columns.iter().map(|(name, _)| name.as_str()).zip(texts).collect());
        }
        records
    }

    /// The values of one column.
    pub fn column(&self, name: &str) -> Vec<&str> {
        let record = |record: BTreeMap<&str, _>| *record.get(name).unwrap_or_else(|| panic!("no column {name}"));
        self.records().into_iter().map(record).collect()
    }
}

/// All rows of a table, without their order.
#[derive(Clone, PartialEq, Eq)]
pub struct Checksum {
    rows: usize,
    sha256: String,
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, {}", self.rows, &self.sha256[..12])
    }
}

impl Checksum {
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// Definition and rows of every table of a database.
pub type Contents = BTreeMap<String, (String, Checksum)>;

pub struct Client {
    conn: Conn,
}

impl Client {
    /// As root. The port accepts connections when a server says that it is ready.
    pub async fn connect(port: u16) -> Self {
        Self::login(port, "root", None).await.unwrap()
    }

    pub async fn login(port: u16, user: &str, password: Option<&str>) -> Result<Self, Refusal> {
        let opts = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(port).prefer_socket(false);
        Ok(Self { conn: Conn::new(opts.user(Some(user)).pass(password)).await? })
    }

    /// Runs one or several statements; the answer of the last, or the first error.
    pub async fn try_run(&mut self, sql: impl AsRef<str>) -> Result<Answer, Refusal> {
        let mut result = self.conn.query_iter(sql.as_ref()).await?;
        loop {
            let columns = result.columns_ref().iter().map(|c| (c.name_str().into_owned(), c.column_type())).collect();
            let rows: Vec<Row> = result.collect().await?;
            let affected = result.affected_rows();
            let values = |row: Row| row.unwrap().into_iter().map(text).collect();
            let last = Answer { columns, rows: rows.into_iter().map(values).collect(), affected };
            if result.is_empty() {
                // An error of the statement after the last result is waiting here.
                result.drop_result().await?;
                return Ok(last);
            }
        }
    }

    /// Prepares a statement; the names of the columns that it will have.
    pub async fn prepare(&mut self, sql: &str) -> Vec<String> {
        let statement = self.conn.prep(sql).await.unwrap();
        statement.columns().iter().map(|column| column.name_str().into_owned()).collect()
    }

    /// Runs what must succeed.
    pub async fn run(&mut self, sql: impl AsRef<str>) -> Answer {
        let sql = sql.as_ref();
        self.try_run(sql).await.unwrap_or_else(|error| panic!("{}: {error}", start(sql)))
    }

    /// Runs what must be refused, with this number and this text somewhere in the message.
    pub async fn refused(&mut self, sql: impl AsRef<str>, number: u16, text: &str) -> Refusal {
        let sql = sql.as_ref();
        match self.try_run(sql).await {
            Ok(answer) => panic!("{}: expected error {number} '{text}', got {answer:?}", start(sql)),
            Err(error) => {
                let as_expected = error.number == number && error.text.contains(text);
                assert!(as_expected, "{}: {error}; expected {number} '{text}'", start(sql));
                error
            }
        }
    }

    /// The only value of the only row.
    pub async fn value(&mut self, sql: &str) -> String {
        let answer = self.run(sql).await;
        assert!(answer.rows.len() == 1 && answer.rows[0].len() == 1, "{sql}: {answer:?}");
        answer.rows[0][0].clone().unwrap_or_else(|| "NULL".into())
    }

    /// Repeats a statement until its answer is as wanted.
    pub async fn wait_until(&mut self, sql: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.run(sql).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{sql}: still {answer:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the job that SHOW BACKUP or SHOW RESTORE shows of a database is in one of these states; its row.
    pub async fn wait_for_job(&mut self, kind: &str, database: &str, states: &[&str]) -> BTreeMap<String, String> {
        let sql = format!("SHOW {kind} FROM `{database}`");
        let there = |answer: &Answer| answer.rows.len() == 1 && states.contains(&answer.column("State")[0]);
        let answer = self.wait_until(&sql, there).await;
        let row = answer.records().remove(0);
        row.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Waits until a job has ended, well.
    pub async fn finished(&mut self, kind: &str, database: &str) -> BTreeMap<String, String> {
        let job = self.wait_for_job(kind, database, &["FINISHED", "CANCELLED"]).await;
        assert_eq!(job["State"], "FINISHED", "{job:?}");
        job
    }

    pub async fn checksum(&mut self, table: &str) -> Checksum {
        let mut rows = self.run(format!("SELECT * FROM {table}")).await.rows;
        rows.sort();
        let mut hasher = Sha256::new();
        rows.iter().for_each(|row| hasher.update(format!("{row:?}\n")));
        Checksum { rows: rows.len(), sha256: hex::encode(hasher.finalize()) }
    }

    /// Definition and rows of every table of a database.
    pub async fn contents(&mut self, database: &str) -> Contents {
        let tables = self.run(format!("SHOW TABLES FROM `{database}`")).await;
        let mut contents = Contents::new();
        for row in tables.rows {
            let table = row[0].clone().unwrap();
            let path = format!("`{database}`.`{}`", table.replace('`', "``"));
            let definition = self.run(format!("SHOW CREATE TABLE {path}")).await.rows[0][1].clone().unwrap();
            contents.insert(table, (definition, self.checksum(&path).await));
        }
        contents
    }
}

/// The first words of a statement, for messages.
fn start(sql: &str) -> &str {
    &sql[..sql.floor_char_boundary(200)]
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8(bytes).unwrap()),
        other => Some(other.as_sql(true)),
    }
}
