//! The quickstart, and what README shows of it.

use std::path::Path;
use std::process::Command;

use super::harness::{HOLDFAST, Scratch, skip};

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

/// Digits of times, ids and sizes differ from run to run, and so do the lines that frame them.
fn normal(text: &str) -> Vec<String> {
    let digits = |line: &str| {
        let mut normal = String::new();
        for part in line.split_whitespace() {
            let is_time = part.matches(['-', ':']).count() >= 2 && part.contains(|c: char| c.is_ascii_digit());
            let is_id = part.len() >= 4 && part.chars().all(|c| c.is_ascii_digit());
            let is_rule = part.starts_with("+-");
            normal.push_str(if is_time || is_id {
                "#"
            } else if is_rule {
                "+-"
            } else {
                part
            });
            normal.push(' ');
        }
        match normal.split_once(" (") {
            Some((before, after)) if after.starts_with(|c: char| c.is_ascii_digit()) => before.to_owned(),
            _ => normal.trim_end().to_owned(),
        }
    };
    text.lines().map(digits).collect()
}

#[test]
fn the_demo_loads_backs_up_loses_and_restores() {
    let scratch = Scratch::new();
    let output = Command::new(HOLDFAST).args(["demo", "--keep", &scratch.sub("demo")]).output().unwrap();
    let (said, complained) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{said}\n{complained}");
    assert_eq!(complained, "");
    for line in [
        "mysql> CREATE DATABASE flights;",
        "mysql> BACKUP SNAPSHOT flights.first TO demo PROPERTIES(\"wait\" = \"true\");",
        "mysql> DROP DATABASE flights FORCE;",
        "     State: FINISHED",
        "4 results before the loss and after the restore compared: all are equal.",
    ] {
        let shown = said.lines().any(|shown| shown.trim_start() == line.trim_start());
        assert!(shown, "no line {line:?} in\n{said}");
    }
    assert!(said.contains("27004"), "the flights of January 2013:\n{said}");

    // What README shows as a transcript is what the demo prints, in a directory of another name.
    let directory = std::path::PathBuf::from(scratch.sub("demo")).canonicalize().unwrap();
    let said = normal(&said.replace(directory.to_str().unwrap(), "/tmp/…"));
    let readme = readme();
    let blocks = readme.split("```").skip(1).step_by(2);
    for block in blocks.filter(|block| block.contains("mysql> ")) {
        let body = block.split_once('\n').unwrap().1;
        for part in body.split("\n...\n") {
            let shown = normal(part.trim_matches('\n'));
            let found = said.windows(shown.len()).any(|window| window == shown);
            assert!(found, "the demo does not print this part of README's transcript:\n{part}\n{said:#?}");
        }
    }
}

/// Statements that README shows without their results are those of the quickstart.
#[test]
fn readme_shows_statements_of_the_quickstart() {
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let script = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/quickstart.sql")).unwrap();
    let script = flat(&script.replace("${REPOSITORY}", "/srv/backups"));
    let readme = readme();
    let block = readme.split("```sql\n").nth(1).expect("README shows a backup").split("```").next().unwrap();
    let statements: Vec<_> = block.split_inclusive([';', 'G']).map(flat).filter(|text| !text.is_empty()).collect();
    assert!(statements.len() >= 5, "{statements:?}");
    let missing: Vec<_> = statements.iter().filter(|statement| !script.contains(*statement)).collect();
    assert!(missing.is_empty(), "not in sql/quickstart.sql: {missing:?}");
}

/// README's commands for a cluster, and the one in the quickstart's head that runs it on a server, as they stand there:
/// in a network of their own, since they name ports that a server of somebody's may have.
#[test]
fn the_commands_of_readme_start_a_cluster_that_runs_the_quickstart() {
    let scratch = Scratch::new();
    if !Command::new("unshare").args(["--net", "ip", "link"]).output().is_ok_and(|output| output.status.success()) {
        return skip("root, network namespaces and iproute2", ".ci/setup, and run as root");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["conf", "sql"] {
        std::os::unix::fs::symlink(root.join(name), scratch.path().join(name)).unwrap();
    }
    let readme = readme();
    let block = readme.split("```").find(|block| block.contains("holdfast fe ")).expect("README starts a cluster");
    let commands: Vec<&str> = block.lines().skip(1).filter(|line| !line.is_empty()).collect();
    let [fe, be, connect] = commands[..] else { panic!("{commands:?}") };
    let quickstart = std::fs::read_to_string(root.join("sql/quickstart.sql")).unwrap();
    let lines = quickstart.lines().skip_while(|line| !line.starts_with("--   sed ")).take(2);
    let run: String = lines.map(|line| line.trim_start_matches("--")).collect();
    assert!(run.contains("/tmp/holdfast-repository"), "{run}");
    let run = run.replace("/tmp/holdfast-repository", &scratch.sub("repository"));
    // A BE that is not there yet is refused by name, and nothing is changed.
    let script = format!(
        "ip link set lo up
        exec 3> servers.log
        (
{fe}
) >&3 2>&3 &
        (
{be}
) >&3 2>&3 &
        for n in $(seq 600); do
{connect} > backends 2> refusal && break; sleep 0.1; done
        cat backends refusal && {run}"
    );
    let path = format!("{}:{}", Path::new(HOLDFAST).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--kill-child", "sh", "-c", &script])
        .current_dir(scratch.path())
        .env("PATH", path)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("BackendId") && said.contains("\ttrue\t"), "{said}");
    // Before the loss and after the restore.
    let sums = said.lines().filter(|line| line.starts_with("|     27004 | 27188805 |"));
    assert_eq!(sums.count(), 2, "{said}");
}

#[test]
fn the_demo_refuses_a_directory_in_use() {
    let scratch = Scratch::new();
    std::fs::write(scratch.sub("file"), "").unwrap();
    let output = Command::new(HOLDFAST).arg("demo").arg("--keep").arg(scratch.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not empty"));
}
