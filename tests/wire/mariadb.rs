//! The MariaDB command line, where it is installed.

use std::process::{Command, Stdio};

use super::engine;

/// Runs `mariadb`; what it prints, or `None` where there is none.
async fn mariadb(server: &engine::Server, args: &[&str]) -> Option<(bool, String)> {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "--protocol=tcp", "-h127.0.0.1", "-uroot", "--batch"]);
    command.arg(format!("-P{}", server.address.port())).args(args).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            Some((output.status.success(), text.into_owned()))
        }
        Err(_) => {
            let message = "skipped: needs the mariadb command line, install with: .ci/setup";
            assert!(std::env::var_os("CI").is_none(), "{message}");
            eprintln!("{message}");
            None
        }
    }
}

#[tokio::test]
async fn the_command_line_works() {
    let server = engine::start().await;
    for (args, success, expected) in [
        (vec!["-e", "SELECT 1 AS one, NULL AS nothing, 'é' AS text"], true, "one\tnothing\ttext\n1\tNULL\té\n"),
        (vec!["--ssl", "-e", "SELECT 1 AS one"], true, "one\n1\n"),
        (vec!["-e", "CREATE DATABASE d; USE d; SELECT database() AS now"], true, "now\nd\n"),
        (vec!["d", "-e", "\\s"], true, "Current database:\td\n"),
        (vec!["-e", "delimiter //\nSELECT 1 AS one; SELECT 2 AS two//"], true, "one\n1\ntwo\n2\n"),
        (vec!["-e", "USE none"], false, "ERROR 5501 (3F000) at line 1: Unknown database 'none'\n"),
        (
            vec!["-px", "-e", "SELECT 1"],
            false,
            "ERROR 1045 (28000): Access denied for user 'root' (using password: YES)\n",
        ),
        (vec!["-e", "SELEKT"], false, "ERROR 1064 (42000) at line 1: Getting syntax error"),
    ] {
        let Some((ended_well, text)) = mariadb(&server, &args).await else { return };
        assert_eq!(ended_well, success, "{args:?}: {text}");
        assert!(text.contains(expected), "{args:?}: {text}");
    }
}
