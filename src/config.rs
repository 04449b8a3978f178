//! Configuration: every key of `fe.conf` and `be.conf`, in one table each.
//!
//! A table says for each key its name, type, default, permitted values, whether it may change while the process runs,
//! and what it means. Parsing, defaults, `ADMIN SHOW FRONTEND CONFIG`, `information_schema.be_configs` and changes at
//! run time all read the table; a test keeps the two files in `conf/` equal to it. Names are StarRocks' own where it
//! has the key.
//!
//! A file has lines of `key = value`, empty lines, and lines that begin with `#`. An unknown key, a key given twice
//! and a value that is not permitted stop the start, with file, line and the nearest known key. Changes at run time
//! last until the process ends, as in StarRocks.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use crate::error::{Error, Result};

/// Declares the keys of one program: `fixed` ones are read at the start, `live` ones may change while it runs.
macro_rules! config {
    ($(#[$about:meta])* $values:ident {
        $($(#[doc = $doc:literal])+ $when:ident $key:ident: $type:ty = $default:literal $(in $range:expr)?;)+
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $values {
            $($(#[doc = $doc])+ pub $key: $type,)+
        }

        impl Values for $values {
            const KEYS: &'static [Key<Self>] = &[$(Key {
                name: stringify!($key),
                default: $default,
                comment: concat!($($doc),+),
                kind: <$type as Value>::KIND,
                mutable: config!(@mutable $when),
                get: |values| values.$key.show(),
                set: |values, text| {
                    let value = <$type as Value>::parse(text);
                    $(let value = value.ok().filter(|value| ($range).contains(value));
                    let value = value.ok_or_else(|| format!("a number in {:?}", $range));)?
                    values.$key = value?;
                    Ok(())
                },
            },)+];
        }

        impl Default for $values {
            fn default() -> Self {
                Self { $($key: Value::parse($default).expect("a test sets every default"),)+ }
            }
        }
    };
    (@mutable fixed) => { false };
    (@mutable live) => { true };
}

config! {
    /// What an FE reads from `fe.conf`.
    FeValues {
        /// The address on which the FE listens; 0.0.0.0 means all of this machine's.
        fixed bind_address: IpAddr = "127.0.0.1";
        /// The port of the MySQL protocol; 0 picks a free one.
        fixed query_port: u16 = "9030";
        /// The HTTP port, for health checks (/api/health); 0 picks a free one.
        fixed http_port: u16 = "8030";
        /// The directory of the catalog. One FE at a time may use it.
        fixed meta_dir: PathBuf = "holdfast-data/meta";
        /// The certificate chain for TLS on the MySQL port, a PEM file; empty means a self-signed one, made at each
        /// start.
        fixed ssl_cert: Option<PathBuf> = "";
        /// The private key that belongs to ssl_cert, a PEM file.
        fixed ssl_key: Option<PathBuf> = "";
        /// The number of client connections at one time; one more is refused with "Too many connections".
        fixed qe_max_connection: u32 = "4096" in 1..=1_000_000;
        /// The memory in bytes that all running queries together may take for sorts, joins and aggregates; a query
        /// that needs more fails.
        fixed query_mem_limit: u64 = "268435456" in 16_777_216..;
        /// How long an INSERT may take, in seconds.
        live insert_load_default_timeout_second: u64 = "3600" in 1..=259_200;
        /// How long a BACKUP or RESTORE job may take whose statement has no "timeout", in milliseconds.
        live backup_job_default_timeout_ms: u64 = "86400000" in 600_000..;
        /// The copies of each tablet of a table whose statement has no "replication_num"; fewer if fewer BEs are
        /// alive.
        live default_replication_num: u16 = "3" in 1..=32;
        /// The most buckets a partition may have.
        live max_bucket_number_per_partition: u32 = "1024" in 1..=100_000;
        /// How often the FE asks each BE whether it is alive, in milliseconds.
        live heartbeat_interval_ms: u64 = "1000" in 10..=60_000;
        /// How long a BE may leave that question unanswered until it counts as dead, in seconds.
        live heartbeat_timeout_second: u64 = "5" in 1..=600;
        /// How long a BE may be dead until a RESTORE gives to others what was to go to it, in seconds.
        live tablet_sched_be_down_tolerate_time_s: u64 = "900" in 1..=86_400;
        /// Whether to go on although a BE has seen commits that the catalog lacks, because an old copy of meta_dir was put
        /// in its place. Until then nothing is changed; from then on, what only those commits knew is thrown away. Not to be
        /// left on: an FE that is forgotten on an old copy would take the BEs back.
        live accept_lost_commits: bool = "false";
        /// The number of small files in a tablet from which they are merged into one, 12 at a time.
        live compaction_min_files: u32 = "8" in 2..=12;
        /// How often the FE looks for tablets to merge and for garbage to collect, in milliseconds.
        live compaction_interval_ms: u64 = "10000" in 10..=86_400_000;
        /// The size from which regions of raw keys are split, in bytes.
        live raw_region_split_size: u64 = "100663296" in 1024..=1_073_741_824;
        /// How often the FE looks whether repositories answer, for SHOW REPOSITORIES, in milliseconds.
        live repository_ping_interval_ms: u64 = "60000" in 10..=86_400_000;
        /// The directories, separated by ';', whose files FILES() may read; empty means all but the data directories.
        live files_allowed_paths: Vec<PathBuf> = "";
        /// The directories, separated by ';', below which file:// repositories may lie; empty means anywhere but in
        /// the data directories.
        live repository_allowed_paths: Vec<PathBuf> = "";
    }
}

config! {
    /// What a BE reads from `be.conf`.
    BeValues {
        /// The address on which the BE listens; 0.0.0.0 means all of this machine's.
        fixed bind_address: IpAddr = "127.0.0.1";
        /// The port for the FE and other BEs; 0 picks a free one.
        fixed be_port: u16 = "9060";
        /// The HTTP port, for health checks (/api/health); 0 picks a free one.
        fixed be_http_port: u16 = "8040";
        /// The directory of the tablets. One BE at a time may use it.
        fixed storage_root_path: PathBuf = "holdfast-data/storage";
        /// How many files the BE checks at one time when a BACKUP pins them.
        live make_snapshot_worker_count: u32 = "5" in 1..=1024;
        /// How many files the BE uploads at one time; 0 means one for each core.
        live upload_worker_count: u32 = "0" in 0..=1024;
        /// How many files the BE downloads at one time; 0 means one for each core.
        live download_worker_count: u32 = "0" in 0..=1024;
        /// How much all uploads of the BE together may send, in kilobytes (1024 bytes) a second; 0 means no limit.
        live max_upload_speed_kbps: u64 = "0" in 0..=1_000_000_000;
        /// How much all downloads of the BE together may fetch, in kilobytes (1024 bytes) a second; 0 means no limit.
        live max_download_speed_kbps: u64 = "0" in 0..=1_000_000_000;
        /// How long files that are no longer needed stay in the trash folder, in seconds; shorter when less than a
        /// tenth of the disk is free, and not at all if it is 0.
        live trash_file_expire_time_sec: u64 = "259200";
    }
}

/// The configuration of an FE. Cheap to clone; clones see each other's changes.
pub type FeConfig = Config<FeValues>;

/// The configuration of a BE. Cheap to clone; clones see each other's changes.
pub type BeConfig = Config<BeValues>;

/// One key of a table.
#[derive(Debug)]
pub struct Key<V> {
    name: &'static str,
    default: &'static str,
    comment: &'static str,
    kind: &'static str,
    mutable: bool,
    get: fn(&V) -> String,
    /// Fails with what was expected.
    set: fn(&mut V, &str) -> Result<(), String>,
}

/// The values of all keys of one program.
pub trait Values: Clone + Default + Send + Sync + 'static {
    /// The table.
    const KEYS: &'static [Key<Self>];
}

/// A key and its value now, for statements that list them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub name: &'static str,
    /// The value, as a file would write it.
    pub value: String,
    /// What the value is if nothing sets it.
    pub default: &'static str,
    /// The type, in StarRocks' words.
    pub kind: &'static str,
    /// Whether it may change while the process runs.
    pub mutable: bool,
    /// What it means.
    pub comment: &'static str,
}

/// A configuration in use: read at any time, changed while running.
#[derive(Debug, Clone)]
pub struct Config<V> {
    values: watch::Sender<Arc<V>>,
}

impl<V: Values> Default for Config<V> {
    fn default() -> Self {
        Self::new(V::default())
    }
}

impl<V: Values> Config<V> {
    fn new(values: V) -> Self {
        Self { values: watch::Sender::new(Arc::new(values)) }
    }

    /// The defaults, changed by a file, changed by flags (pairs of key and value).
    pub fn load(file: Option<&Path>, flags: &[(String, String)]) -> Result<Self> {
        let lines = file.map(read).transpose()?.unwrap_or_default();
        let mut values = V::default();
        for line in lines.iter().chain(&from_flags(flags)) {
            assign(&mut values, line)?.ok_or_else(|| unknown(line, names::<V>()))?;
        }
        Ok(Self::new(values))
    }

    /// The values now. Whoever needs several that agree takes them from one call.
    pub fn get(&self) -> Arc<V> {
        self.values.borrow().clone()
    }

    /// Waits for changes: `changed().await` returns after each one.
    pub fn watch(&self) -> watch::Receiver<Arc<V>> {
        self.values.subscribe()
    }

    /// Changes one value for all who hold this configuration, until the process ends. Refuses keys that are unknown
    /// or fixed, and values that a file could not have.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        let key = V::KEYS.iter().find(|key| key.name == name);
        let Some(key) = key.filter(|key| key.mutable) else {
            let hint = if key.is_none() { nearest(name, names::<V>()) } else { String::new() };
            return Err(Error::Config(format!("Config '{name}' does not exist or is not mutable{hint}")));
        };
        let mut outcome = Ok(());
        self.values.send_if_modified(|values| {
            let mut next = V::clone(values);
            outcome = (key.set)(&mut next, value.trim());
            if outcome.is_ok() {
                *values = Arc::new(next);
            }
            outcome.is_ok()
        });
        outcome.map_err(|expected| Error::Config(format!("Config '{name}' cannot be '{value}': expected {expected}")))
    }

    /// All keys with their values, in the order of the table.
    pub fn list(&self) -> Vec<Setting> {
        let values = self.get();
        let setting = |key: &Key<V>| Setting {
            name: key.name,
            value: (key.get)(&values),
            default: key.default,
            kind: key.kind,
            mutable: key.mutable,
            comment: key.comment.trim(),
        };
        V::KEYS.iter().map(setting).collect()
    }
}

/// The configurations of a process that runs both an FE and a BE. The file and the flags may hold keys of either; a
/// key that both have is the FE's. The BE's ports default to free ones on loopback.
pub fn load_standalone(file: Option<&Path>, flags: &[(String, String)]) -> Result<(FeConfig, BeConfig)> {
    let lines = file.map(read).transpose()?.unwrap_or_default();
    let mut fe = FeValues::default();
    let mut be = BeValues { be_port: 0, be_http_port: 0, ..Default::default() };
    for line in lines.iter().chain(&from_flags(flags)) {
        if assign(&mut fe, line)?.is_none() && assign(&mut be, line)?.is_none() {
            return Err(unknown(line, names::<FeValues>().chain(names::<BeValues>())));
        }
    }
    Ok((Config::new(fe), Config::new(be)))
}

/// One assignment, and where it was found.
struct Line {
    place: String,
    key: String,
    value: String,
}

/// The assignments of a file.
fn read(file: &Path) -> Result<Vec<Line>> {
    let bytes = std::fs::read(file)
        .map_err(|err| Error::Config(format!("read configuration file {}: {err}", file.display())))?;
    let text = std::str::from_utf8(&bytes).map_err(|err| {
        let line = bytes[..err.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::Config(format!("{}:{line}: it is not text in UTF-8", file.display()))
    })?;
    // Some editors write a mark before the first line.
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = Vec::new();
    let mut seen = HashSet::new();
    for (number, text) in text.lines().enumerate() {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let place = format!("{}:{}", file.display(), number + 1);
        let Some((key, value)) = text.split_once('=') else {
            return Err(Error::Config(format!("{place}: '{text}' is not 'key = value'")));
        };
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        if value.contains(" #") {
            return Err(Error::Config(format!("{place}: put the comment after '{key}' on a line of its own")));
        }
        if !seen.insert(key.clone()) {
            return Err(Error::Config(format!("{place}: '{key}' is given twice")));
        }
        lines.push(Line { place, key, value });
    }
    Ok(lines)
}

fn from_flags(flags: &[(String, String)]) -> Vec<Line> {
    let line = |(key, value): &(String, String)| Line {
        place: "command line".into(),
        key: key.clone(),
        value: value.trim().to_owned(),
    };
    flags.iter().map(line).collect()
}

/// Sets a key, or returns none if the table lacks it.
fn assign<V: Values>(values: &mut V, line: &Line) -> Result<Option<()>> {
    let Some(key) = V::KEYS.iter().find(|key| key.name == line.key) else { return Ok(None) };
    let Line { place, value, .. } = line;
    (key.set)(values, value)
        .map(Some)
        .map_err(|expected| Error::Config(format!("{place}: '{}' cannot be '{value}': expected {expected}", key.name)))
}

fn unknown(line: &Line, names: impl Iterator<Item = &'static str>) -> Error {
    Error::Config(format!("{}: unknown key '{}'{}", line.place, line.key, nearest(&line.key, names)))
}

fn names<V: Values>() -> impl Iterator<Item = &'static str> {
    V::KEYS.iter().map(|key| key.name)
}

/// Flags of the command line that are named otherwise than their keys.
const FLAGS: [(&str, &str); 4] = [
    ("mysql_port", "query_port"),
    ("http_port", "be_http_port"),
    ("data_dir", "meta_dir"),
    ("data_dir", "storage_root_path"),
];

/// The known name that was meant, or is most like this one, or the program that has it, to end a message with.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> String {
    let lower = name.to_lowercase().replace('-', "_");
    let known: Vec<_> = known.collect();
    let flag = FLAGS.iter().find(|(flag, key)| *flag == lower && known.contains(key)).map(|(_, key)| *key);
    let [of_fe, of_be] = [names::<FeValues>().any(|key| key == lower), names::<BeValues>().any(|key| key == lower)];
    if flag.is_none() && !known.contains(&&*lower) && (of_fe || of_be) {
        return format!("; it is a key of {}.conf", if of_fe { "fe" } else { "be" });
    }
    let likeness = |key: &&str| strsim::jaro_winkler(&lower, key);
    let nearest = flag.or_else(|| known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))));
    nearest.map(|key| format!("; the nearest is '{key}'")).unwrap_or_default()
}

/// A type that a key can have.
trait Value: Sized {
    /// Its name in StarRocks.
    const KIND: &'static str;

    /// Reads a value, or says what was expected.
    fn parse(text: &str) -> Result<Self, String>;

    /// Writes a value so that it can be read again.
    fn show(&self) -> String;
}

macro_rules! from_str_value {
    ($($type:ty, $kind:literal, $expected:expr;)+) => {$(
        impl Value for $type {
            const KIND: &'static str = $kind;

            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| $expected.into())
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

from_str_value! {
    bool, "boolean", "true or false";
    u16, "int", format!("a number in 0..={}", u16::MAX);
    u32, "int", format!("a number in 0..={}", u32::MAX);
    u64, "long", format!("a number in 0..={}", u64::MAX);
    IpAddr, "string", "an IP address";
}

impl Value for PathBuf {
    const KIND: &'static str = "string";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("a path".into()) } else { Ok(text.into()) }
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for Option<PathBuf> {
    const KIND: &'static str = "string";

    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| text.into()))
    }

    fn show(&self) -> String {
        self.as_ref().map(Value::show).unwrap_or_default()
    }
}

impl Value for Vec<PathBuf> {
    const KIND: &'static str = "string[]";

    fn parse(text: &str) -> Result<Self, String> {
        let paths: Self = text.split(';').map(str::trim).filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        // A relative one would mean another directory wherever the server is started.
        if paths.iter().all(|path| path.is_absolute()) { Ok(paths) } else { Err("absolute paths".into()) }
    }

    fn show(&self) -> String {
        self.iter().map(Value::show).collect::<Vec<_>>().join(";")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file in `conf/` should hold.
    fn file<V: Values>(program: &str) -> String {
        let mut text = format!(
            "# Configuration of a Holdfast {program}: every key with its default.\n\
             # [live] keys may also change while it runs; the change lasts until the process ends.\n"
        );
        for key in V::KEYS {
            let mut line = "#".to_owned();
            text.push('\n');
            for word in key.comment.split_whitespace().chain(key.mutable.then_some("[live]")) {
                if line.len() + 1 + word.len() > 100 {
                    text.push_str(&line);
                    line = "\n#".to_owned();
                }
                line.push(' ');
                line.push_str(word);
            }
            text.push_str(&format!("{line}\n{}\n", format!("{} = {}", key.name, key.default).trim_end()));
        }
        text
    }

    fn agrees<V: Values + PartialEq + std::fmt::Debug>(name: &str, program: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name);
        let wanted = file::<V>(program);
        if std::env::var_os("HOLDFAST_WRITE_CONF").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap();
        assert!(found == wanted, "{name} differs from src/config.rs; run this test with HOLDFAST_WRITE_CONF=1 set");
        assert_eq!(*Config::<V>::load(Some(&path), &[]).unwrap().get(), V::default());
    }

    #[test]
    fn the_files_in_conf_are_the_tables() {
        agrees::<FeValues>("fe.conf", "FE");
        agrees::<BeValues>("be.conf", "BE");
    }

    /// Loads a text as `fe.conf`; a failure is cut down to what follows the directory.
    fn load(text: &str) -> Result<FeConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fe.conf");
        std::fs::write(&path, text).unwrap();
        FeConfig::load(Some(&path), &[]).map_err(|error| {
            let text = error.report();
            text.split_once("fe.conf").map(|(_, rest)| rest.to_owned()).unwrap_or(text)
        })
    }

    #[test]
    fn a_wrong_file_is_refused_with_line_and_nearest_key() {
        let refused = |text: &str| load(text).map(|_| ()).unwrap_err();
        assert_eq!(refused("\n# x\nquery_prot = 1"), ":3: unknown key 'query_prot'; the nearest is 'query_port'");
        assert_eq!(refused("QUERY_PORT = 1"), ":1: unknown key 'QUERY_PORT'; the nearest is 'query_port'");
        assert!(refused("zzz = 1").starts_with(":1: unknown key 'zzz'; the nearest is '"));
        assert_eq!(refused("mysql_port = 1"), ":1: unknown key 'mysql_port'; the nearest is 'query_port'");
        assert_eq!(refused("storage_root_path = x"), ":1: unknown key 'storage_root_path'; it is a key of be.conf");
        assert_eq!(refused("be-port = 1"), ":1: unknown key 'be-port'; it is a key of be.conf");
        assert_eq!(refused("data-dir = x"), ":1: unknown key 'data-dir'; the nearest is 'meta_dir'");
        assert_eq!(
            refused("compaction_min_files = 13"),
            ":1: 'compaction_min_files' cannot be '13': expected a number in 2..=12"
        );
        assert_eq!(refused("query_port = 70000"), ":1: 'query_port' cannot be '70000': expected a number in 0..=65535");
        assert_eq!(
            refused("default_replication_num = 0"),
            ":1: 'default_replication_num' cannot be '0': expected a number in 1..=32"
        );
        assert_eq!(refused("query_port"), ":1: 'query_port' is not 'key = value'");
        assert_eq!(refused("http_port = 1\nhttp_port = 1"), ":2: 'http_port' is given twice");
        assert_eq!(refused("meta_dir ="), ":1: 'meta_dir' cannot be '': expected a path");
        assert_eq!(refused("meta_dir = a # b"), ":1: put the comment after 'meta_dir' on a line of its own");
        assert!(refused("files_allowed_paths = /a;b").ends_with("expected absolute paths"));
    }

    #[test]
    fn an_unreadable_file_is_a_wrong_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fe.conf");
        assert!(matches!(FeConfig::load(Some(&path), &[]), Err(Error::Config(_))));
        std::fs::write(&path, b"\xff").unwrap();
        assert!(matches!(FeConfig::load(Some(&path), &[]), Err(Error::Config(_))));
    }

    #[test]
    fn flags_override_the_file_and_what_is_listed_can_be_read_again() {
        let config = load("query_port=0\nfiles_allowed_paths = /a ; /b c").unwrap();
        assert_eq!(config.get().files_allowed_paths, [PathBuf::from("/a"), PathBuf::from("/b c")]);
        let listed: Vec<_> = config.list().into_iter().map(|s| (s.name.to_owned(), s.value)).collect();
        assert_eq!(*FeConfig::load(None, &listed).unwrap().get(), *config.get());
        assert!(listed.contains(&("query_port".to_owned(), "0".to_owned())));
    }

    #[test]
    fn standalone_takes_keys_of_both_and_hides_its_be() {
        let flags =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<Vec<_>>();
        let given = flags(&[("upload_worker_count", "3"), ("query_port", "1"), ("bind_address", "::")]);
        let (fe, be) = load_standalone(None, &given).unwrap();
        assert_eq!((fe.get().query_port, be.get().upload_worker_count), (1, 3));
        assert_eq!((be.get().be_port, be.get().be_http_port), (0, 0));
        assert!(fe.get().bind_address.is_unspecified() && be.get().bind_address.is_loopback());
        let error = BeConfig::load(None, &flags(&[("http_port", "0")])).unwrap_err();
        assert_eq!(error.report(), "command line: unknown key 'http_port'; the nearest is 'be_http_port'");
        let error = load_standalone(None, &flags(&[("bee_port", "0")])).unwrap_err();
        assert_eq!(error.report(), "command line: unknown key 'bee_port'; the nearest is 'be_port'");
    }

    #[test]
    fn a_file_of_another_editor_is_read_or_its_line_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{feff}query_port = 7\r\n").unwrap();
        assert_eq!(FeConfig::load(Some(file.path()), &[]).unwrap().get().query_port, 7);
        std::fs::write(file.path(), b"query_port = 7\n# caf\xe9\n").unwrap();
        let error = FeConfig::load(Some(file.path()), &[]).unwrap_err().report();
        assert!(error.ends_with(":2: it is not text in UTF-8"), "{error}");
    }

    #[tokio::test]
    async fn a_change_is_seen_by_all_and_wakes_who_waits() {
        let config = BeConfig::default();
        let mut watch = config.clone().watch();
        let before = config.get();
        config.set("max_upload_speed_kbps", "7").unwrap();
        watch.changed().await.unwrap();
        assert_eq!((watch.borrow().max_upload_speed_kbps, config.get().max_upload_speed_kbps), (7, 7));
        assert_eq!(before.max_upload_speed_kbps, 0);

        let refused = |name: &str, value: &str| config.set(name, value).unwrap_err().report();
        assert_eq!(refused("be_port", "1"), "Config 'be_port' does not exist or is not mutable");
        assert_eq!(
            refused("upload_workers", "1"),
            "Config 'upload_workers' does not exist or is not mutable; the nearest is 'upload_worker_count'"
        );
        assert_eq!(
            refused("upload_worker_count", "-1"),
            "Config 'upload_worker_count' cannot be '-1': expected a number in 0..=1024"
        );
        assert!(!watch.has_changed().unwrap());
    }
}
