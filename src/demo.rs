//! The quickstart, run through the MySQL port and printed as the `mysql` client would.
//!
//! Script and sample are compiled in. A SELECT that the script repeats must return the same rows each time: that is
//! how it compares a database with its restored self.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row, Value};

const SCRIPT: &str = include_str!("../sql/quickstart.sql");

const SAMPLE: [(&str, &[u8]); 4] = [
    ("airlines.parquet", include_bytes!("../sql/sample/airlines.parquet")),
    ("airports.parquet", include_bytes!("../sql/sample/airports.parquet")),
    ("flights.parquet", include_bytes!("../sql/sample/flights.parquet")),
    ("planes.parquet", include_bytes!("../sql/sample/planes.parquet")),
];

/// Runs the quickstart against the server at a port of this machine. The sample goes to `dir/sample` and the
/// repository to `dir/repository`. Fails at the first statement that fails, or that returns other rows than before.
pub async fn run(mysql_port: u16, dir: &Path, out: &mut impl Write) -> Result<()> {
    let (sample, repository) = (dir.join("sample"), dir.join("repository"));
    write_sample(&sample).await?;
    let (sample, repository) = (quotable(&sample)?, quotable(&repository)?);

    let server = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(mysql_port).user(Some("root"));
    let mut client = Conn::new(server.prefer_socket(false)).await.context("connect to the server")?;
    let mut known: HashMap<String, Vec<Vec<String>>> = HashMap::new();
    let mut compared = 0;
    for step in steps(SCRIPT) {
        let statement = step.statement.replace("${SAMPLE}", &sample).replace("${REPOSITORY}", &repository);
        write!(out, "{}{}", step.comment, prompt(&statement, step.vertical))?;
        let answer = ask(&mut client, &statement).await.with_context(|| excerpt(&statement))?;
        writeln!(out, "{}", if step.vertical { answer.vertical() } else { answer.table() })?;
        ensure!(!statement.starts_with("INSERT") || answer.affected > 0, "{}: no rows", excerpt(&statement));
        if !statement.starts_with("SELECT") {
            continue;
        }
        match known.get(&statement) {
            Some(rows) => {
                ensure!(*rows == answer.rows, "{}: the rows differ from those before", excerpt(&statement));
                compared += 1;
            }
            None => drop(known.insert(statement, answer.rows)),
        }
    }
    client.disconnect().await?;
    ensure!(compared > 0, "the script compared nothing");
    writeln!(out, "{compared} results before the loss and after the restore compared: all are equal.")?;
    Ok(())
}

async fn write_sample(dir: &Path) -> Result<()> {
    tokio::fs::create_dir_all(dir).await.with_context(|| format!("create {}", dir.display()))?;
    for (name, content) in SAMPLE {
        let path = dir.join(name);
        tokio::fs::write(&path, content).await.with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// A path as it can stand between quotes in a statement.
fn quotable(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) if path.is_absolute() && !text.contains(['\'', '"', '\\']) => Ok(text.to_owned()),
        _ => bail!("{} has to be an absolute path of UTF-8 without quotes and backslashes", path.display()),
    }
}

/// One statement of a script.
struct Step {
    /// The comment above it.
    comment: String,
    /// Without the sign that ends it.
    statement: String,
    /// Whether it ended with `\G`, which asks for a line for each column.
    vertical: bool,
}

/// Divides a script in which comments and statements begin on lines of their own, and `;` or `\G` at the end of a line
/// ends a statement. Empty lines are left out.
fn steps(script: &str) -> Vec<Step> {
    let (mut steps, mut comment, mut statement) = (Vec::new(), String::new(), String::new());
    for line in script.lines().filter(|line| !line.is_empty()) {
        if statement.is_empty() && line.starts_with("--") {
            comment = comment + line + "\n";
            continue;
        }
        statement.push_str(line);
        match ["\\G", ";"].into_iter().find(|end| line.ends_with(end)) {
            Some(end) => {
                statement.truncate(statement.len() - end.len());
                let (comment, statement) = (std::mem::take(&mut comment), std::mem::take(&mut statement));
                steps.push(Step { comment, statement, vertical: end == "\\G" });
            }
            None => statement.push('\n'),
        }
    }
    steps
}

/// A statement as if it had been typed.
fn prompt(statement: &str, vertical: bool) -> String {
    let end = if vertical { "\\G" } else { ";" };
    format!("mysql> {}{end}\n", statement.replace('\n', "\n    -> "))
}

/// The first line of a statement, for messages.
fn excerpt(statement: &str) -> String {
    statement.lines().next().unwrap_or_default().to_owned()
}

/// What a statement returned.
struct Answer {
    /// Names, and whether the column holds numbers.
    columns: Vec<(String, bool)>,
    rows: Vec<Vec<String>>,
    affected: u64,
    seconds: f64,
}

async fn ask(client: &mut Conn, statement: &str) -> Result<Answer> {
    let start = Instant::now();
    let mut result = client.query_iter(statement).await.map_err(refusal)?;
    let columns = result.columns_ref().iter();
    let columns = columns.map(|c| (c.name_str().into_owned(), c.column_type().is_numeric_type())).collect();
    let rows: Vec<Row> = result.collect().await.map_err(refusal)?;
    let affected = result.affected_rows();
    let rows = rows.into_iter().map(|row| row.unwrap().iter().map(text).collect()).collect();
    Ok(Answer { columns, rows, affected, seconds: start.elapsed().as_secs_f64() })
}

/// An error as the `mysql` client says it.
fn refusal(error: mysql_async::Error) -> anyhow::Error {
    match error {
        mysql_async::Error::Server(error) => anyhow!("ERROR {} ({}): {}", error.code, error.state, error.message),
        other => other.into(),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::NULL => "NULL".into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.as_sql(false),
    }
}

impl Answer {
    /// A table with a frame.
    fn table(&self) -> String {
        if self.columns.is_empty() || self.rows.is_empty() {
            return self.summary();
        }
        let width = |at: usize| {
            let values = self.rows.iter().map(|row| row[at].chars().count());
            values.chain([self.columns[at].0.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
        let mut table = format!("{rule}+\n");
        for ((name, _), width) in self.columns.iter().zip(&widths) {
            table.push_str(&format!("| {name:width$} "));
        }
        table.push_str(&format!("|\n{rule}+\n"));
        for row in &self.rows {
            for ((value, (_, number)), width) in row.iter().zip(&self.columns).zip(&widths) {
                let cell = if *number { format!("| {value:>width$} ") } else { format!("| {value:width$} ") };
                table.push_str(&cell);
            }
            table.push_str("|\n");
        }
        format!("{table}{rule}+\n{}", self.summary())
    }

    /// A line for each column.
    fn vertical(&self) -> String {
        let width = self.columns.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut lines = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let stars = "*".repeat(27);
            lines.push_str(&format!("{stars} {}. row {stars}\n", number + 1));
            for ((name, _), value) in self.columns.iter().zip(row) {
                lines.push_str(&format!("{name:>width$}: {value}\n"));
            }
        }
        lines + &self.summary()
    }

    fn summary(&self) -> String {
        let count = |n: u64| format!("{n} row{}", if n == 1 { "" } else { "s" });
        let what = match self.rows.len() as u64 {
            _ if self.columns.is_empty() => format!("Query OK, {} affected", count(self.affected)),
            0 => "Empty set".into(),
            rows => format!("{} in set", count(rows)),
        };
        format!("{what} ({:.2} sec)\n", self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_divided_at_the_ends_of_its_statements() {
        let steps = steps(SCRIPT);
        assert!(steps[0].comment.starts_with("-- A database is loaded"));
        assert_eq!(steps[0].statement, "CREATE DATABASE flights");
        for step in &steps {
            let first = step.statement.split_whitespace().next().unwrap();
            let known = ["CREATE", "USE", "INSERT", "SELECT", "BACKUP", "SHOW", "DROP", "RESTORE"];
            assert!(known.contains(&first), "{first}");
            assert!(!step.statement.contains([';', '\\']), "{}", step.statement);
        }
        let shows: Vec<_> = steps.iter().filter(|step| step.statement.starts_with("SHOW")).collect();
        assert_eq!(shows.iter().map(|step| step.vertical).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn results_look_as_in_the_mysql_client() {
        let answer = Answer {
            columns: vec![("name".into(), false), ("n".into(), true)],
            rows: vec![vec!["São".into(), "12".into()], vec!["NULL".into(), "3".into()]],
            affected: 0,
            seconds: 0.004,
        };
        let table = "\
+------+----+
| name | n  |
+------+----+
| São  | 12 |
| NULL |  3 |
+------+----+
2 rows in set (0.00 sec)
";
        assert_eq!(answer.table(), table);
        let vertical = "\
*************************** 1. row ***************************
name: São
   n: 12
*************************** 2. row ***************************
name: NULL
   n: 3
2 rows in set (0.00 sec)
";
        assert_eq!(answer.vertical(), vertical);
        let done = Answer { columns: vec![], rows: vec![], affected: 1, ..answer };
        assert_eq!(done.table(), "Query OK, 1 row affected (0.00 sec)\n");
    }
}
