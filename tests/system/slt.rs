//! The sqllogictest files of `tests/slt`, each on a server of its own.
//!
//! `UPDATE_SLT=1` writes what the server answers into the files; read the difference before you keep it.
//!
//! `${DIR}` in a statement is a fresh directory; `${SAMPLE}` is `sql/sample`. Errors read `5501 (3F000): text`.

use std::path::Path;

use async_trait::async_trait;
use mysql_async::consts::ColumnType;
use sqllogictest::{
    AsyncDB, DBOutput, DefaultColumnType, Runner, default_normalizer, default_validator, strict_column_validator,
};

use super::client::{Client, Refusal};
use super::harness::{Launch, Scratch};

/// A connection of a script.
struct Connection(Client);

#[async_trait]
impl AsyncDB for Connection {
    type Error = Refusal;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refusal> {
        let answer = self.0.try_run(sql).await?;
        if answer.columns.is_empty() {
            return Ok(DBOutput::StatementComplete(answer.affected));
        }
        let value = |value: Option<String>| match value {
            None => "NULL".to_owned(),
            Some(text) if text.is_empty() => "(empty)".to_owned(),
            // A row of the file is one line.
            Some(text) => text.replace('\n', " "),
        };
        let rows = answer.rows.into_iter().map(|row| row.into_iter().map(value).collect()).collect();
        Ok(DBOutput::Rows { types: answer.columns.iter().map(|(_, ty)| kind(*ty)).collect(), rows })
    }

    async fn shutdown(&mut self) {}
}

fn kind(ty: ColumnType) -> DefaultColumnType {
    use ColumnType::*;
    match ty {
        MYSQL_TYPE_TINY | MYSQL_TYPE_SHORT | MYSQL_TYPE_INT24 | MYSQL_TYPE_LONG | MYSQL_TYPE_LONGLONG => {
            DefaultColumnType::Integer
        }
        MYSQL_TYPE_FLOAT | MYSQL_TYPE_DOUBLE | MYSQL_TYPE_DECIMAL | MYSQL_TYPE_NEWDECIMAL => {
            DefaultColumnType::FloatingPoint
        }
        _ => DefaultColumnType::Text,
    }
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/slt"))
}

async fn run(topic: &str) {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.sub("dir")).unwrap();
    let server = Launch::standalone(scratch.path()).start();
    let port = server.port("mysql");
    let mut runner = Runner::new(|| async move { Client::login(port, "root", None).await.map(Connection) });
    runner.with_column_validator(strict_column_validator);
    runner.set_var("DIR".into(), scratch.sub("dir"));
    runner.set_var("DATA".into(), scratch.sub("data"));
    runner.set_var("SAMPLE".into(), concat!(env!("CARGO_MANIFEST_DIR"), "/sql/sample").into());
    runner.set_var("PORT".into(), port.to_string());
    let path = folder().join(format!("{topic}.slt"));
    if std::env::var_os("UPDATE_SLT").is_some() {
        let (validator, columns) = (default_validator, strict_column_validator);
        runner.update_test_file(&path, " ", validator, default_normalizer, columns).await.unwrap();
        return;
    }
    if let Err(error) = runner.run_file_async(&path).await {
        panic!("{}", error.display(false));
    }
}

/// A test for each file.
macro_rules! topics {
    ($($topic:ident)+) => {
        $(#[tokio::test]
        async fn $topic() {
            run(stringify!($topic)).await;
        })+

        #[test]
        fn every_file_is_run() {
            let mut found: Vec<_> = walkdir::WalkDir::new(folder())
                .into_iter()
                .map(|entry| entry.unwrap().into_path())
                .filter(|path| path.is_file())
                .map(|path| path.strip_prefix(folder()).unwrap().to_str().unwrap().to_owned())
                .collect();
            found.sort();
            assert_eq!(found, [$(concat!(stringify!($topic), ".slt")),+], "all files of tests/slt, in order");
        }
    };
}

topics! {
    backup config ddl errors files information_schema insert partition raw_backup rawkv repository restore select session show types
    users
}
