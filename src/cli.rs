//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Parser, Subcommand};
use holdfast::rawkv::value::ApiVersion;
use holdfast::sql::mask_uri;

const EXAMPLES: &str = "\
Examples:
  holdfast                                      start a server, then: mysql -h 127.0.0.1 -P 9030 -u root
  holdfast demo                                 watch a database be loaded, backed up, lost and restored
  holdfast --data-dir /srv/holdfast --mysql-port 0
  holdfast fe --conf conf/fe.conf               a cluster: one FE ...
  holdfast be --conf conf/be.conf               ... and as many BEs as you like, each made known to the FE by
                                                ALTER SYSTEM ADD BACKEND \"host:9060\"
  holdfast br backup raw -s local:///DIR --start 31 --end 32
                                                back up raw keys in the format of TiDB's BR; br restore raw restores
  holdfast br debug checksum -s local:///DIR    check the files of a raw backup, Holdfast's or TiKV's

Default ports:  MySQL 9030, FE HTTP 8030, BE RPC 9060, BE HTTP 8040; 0 picks a free one.
                All listen on 127.0.0.1 until bind_address says otherwise.
Environment:    HOLDFAST_LOG  what to log to stderr: info (default), debug, holdfast::job=debug, ...
Exit status:    0 success, 1 failure, 2 wrong command line or configuration.";

const RAW_HELP: &str = "\
The backup is written and read by the servers, not by this command: a local directory must be one that all of them see.
A relative one is of the directory this command runs in.
Parameters of a storage's URI are br's, as in s3://BUCKET/DIR?access-key=KEY&secret-access-key=SECRET&endpoint=URL; so are
the flags --s3.*, --gcs.* and --azblob.*, which give a parameter that the URI does not have.

Progress goes to stderr, the summary to stdout. The first SIGINT or SIGTERM cancels the job; a second one ends this command
at once and leaves the job to itself.

Environment:    HOLDFAST_USER      who logs in (default root)
                HOLDFAST_PASSWORD  with which password (default none)
Exit status:    0 the job has finished, 1 it has not, also where the command line is wrong.";

/// A key of the configuration and its value.
type Pair = (String, String);

/// A SQL-fronted backup and restore service in the style of StarRocks: an FE that speaks the MySQL protocol, and BEs
/// that keep tablets.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    standalone: FrontendOptions,
}

impl Cli {
    /// The command; `standalone` if none is named.
    pub fn chosen(self) -> Command {
        self.command.unwrap_or(Command::Standalone(self.standalone))
    }
}

/// A command line in the order that the parser wants: br takes flags before its commands, too.
fn ordered(line: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    const COMMANDS: [&[&str]; 2] = [&["backup", "restore", "debug"], &["raw", "decode", "checksum"]];
    let mut line: Vec<OsString> = line.into_iter().collect();
    if line.get(1).is_none_or(|command| command != "br") {
        return line;
    }
    for (n, commands) in COMMANDS.iter().enumerate() {
        let at = 2 + n;
        let found = line.iter().skip(at).position(|word| commands.iter().any(|command| word == command));
        let Some(found) = found else { return line };
        // Flags stay before those that follow: the last of a name counts.
        line[at..=at + found].rotate_right(1);
    }
    line
}

/// Parses the command line. An error has no secrets in its text.
pub fn command_of(line: impl IntoIterator<Item = OsString>) -> Result<Command, (clap::Error, String)> {
    let line = ordered(line);
    Cli::try_parse_from(&line).map(Cli::chosen).map_err(|error| {
        let mut text = error.render().to_string();
        for word in line.iter().filter_map(|word| word.to_str()) {
            // A flag and its value may be one word.
            let uri = word.split_once('=').filter(|_| word.starts_with('-')).map_or(word, |(_, value)| value);
            let masked = mask_uri(uri);
            text = text.replace(uri, &masked);
            // A message may name what follows the scheme.
            if let (Some((_, rest)), Some((_, shown))) = (uri.split_once(':'), masked.split_once(':')) {
                text = if rest == shown { text } else { text.replace(rest, shown) };
            }
        }
        (error, text)
    })
}

/// What to run.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum Command {
    /// Run an FE and a BE in one process (the default).
    Standalone(FrontendOptions),
    /// Run an FE: the MySQL port, the catalog and the jobs.
    Fe(FrontendOptions),
    /// Run a BE: it keeps tablets, and moves their files to and from repositories.
    Be(BackendOptions),
    /// Run the quickstart on a server of its own: load, back up, drop, restore, compare.
    Demo {
        /// Keep the server's data, the sample and the repository in this directory, which must be new or empty.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Work with backups of raw key ranges, with the flags of TiDB's br.
    #[command(version, propagate_version = true)]
    Br {
        #[command(subcommand)]
        command: BrCommand,
    },
}

/// What `br` does.
#[derive(Debug, Subcommand)]
pub enum BrCommand {
    /// Back up keys of a server.
    Backup {
        #[command(subcommand)]
        command: BrBackupCommand,
    },
    /// Restore keys into a server.
    Restore {
        #[command(subcommand)]
        command: BrRestoreCommand,
    },
    /// Look into a backup, without a server.
    Debug {
        #[command(subcommand)]
        command: BrDebugCommand,
    },
}

/// What `br backup` does.
#[derive(Debug, Subcommand)]
pub enum BrBackupCommand {
    /// Back up a range of raw keys, as BACKUP RAW does.
    Raw(BackupRaw),
}

/// What `br restore` does.
#[derive(Debug, Subcommand)]
pub enum BrRestoreCommand {
    /// Restore a range of raw keys, as RESTORE RAW does.
    Raw(RestoreRaw),
}

/// What `br debug` does.
#[derive(Debug, Subcommand)]
pub enum BrDebugCommand {
    /// Write backupmeta.json, which shows what backupmeta says, beside it.
    Decode {
        #[command(flatten)]
        options: BrOptions<false>,
        /// Only print what backupmeta says in one field, named as in br: BackupSize, ApiVersion, Files, …
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        field: String,
    },
    /// Read all files of a raw backup and check their lengths, hashes, blocks, keys and checksums.
    Checksum {
        #[command(flatten)]
        options: BrOptions<false>,
        /// How values are encoded, V1 or V1TTL, where the backup does not say it: old ones say V1 of both.
        #[arg(long, value_name = "VERSION")]
        api_version: Option<ApiVersion>,
    },
}

/// Flags of `br backup raw`.
#[derive(Debug, Args)]
#[command(after_help = RAW_HELP, args_override_self = true)]
pub struct BackupRaw {
    #[command(flatten)]
    pub raw: RawOptions,
    /// How blocks are compressed: zstd, lz4 or snappy.
    #[arg(long, value_name = "TYPE", default_value = "zstd")]
    pub compression: String,
    /// 0 is the type's own level.
    #[arg(long, value_name = "LEVEL", default_value_t = 0, allow_negative_numbers = true)]
    pub compression_level: i32,
}

/// Flags of `br restore raw`.
#[derive(Debug, Args)]
#[command(after_help = RAW_HELP, args_override_self = true)]
pub struct RestoreRaw {
    #[command(flatten)]
    pub raw: RawOptions,
    /// Delete the keys of the range that are not in the backup.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", hide_default_value = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub replace: bool,
    /// How values are encoded, V1 or V1TTL, where the backup does not say it: old ones say V1 of both.
    #[arg(long, value_name = "VERSION")]
    pub api_version: Option<ApiVersion>,
    /// Servers serve in any case.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = BoolishValueParser::new())]
    pub online: Option<bool>,
}

/// Flags of both.
#[derive(Debug, Args)]
pub struct RawOptions {
    #[command(flatten)]
    pub br: BrOptions<true>,
    /// The FE's MySQL port; of several, with commas between them, the first that answers.
    #[arg(long, short = 'u', value_name = "HOST:PORT", default_value = "127.0.0.1:9030", value_delimiter = ',',
          value_parser = address)]
    pub pd: Vec<PdAddress>,
    /// Speak TLS, with an FE whose certificate an authority of this PEM file has signed. Without it nothing that is sent is
    /// encrypted, nor are credentials of storages.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The column family: default or write.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub cf: String,
    /// The first key; without it the first of all or, in a restore, of the backup.
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    pub start: String,
    /// The first key behind; without it there is no end or, in a restore, it is the backup's.
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    pub end: String,
    /// How the two are written: hex, raw or escaped.
    #[arg(long, value_name = "FORMAT", default_value = "hex")]
    pub format: String,
    /// MiB a second that each BE moves; 0 is without limit.
    #[arg(long, value_name = "SPEED", default_value_t = 0)]
    pub ratelimit: u64,
    /// In bytes.
    #[arg(long, hide = true, default_value_t = 1 << 20)]
    pub ratelimit_unit: u64,
    /// Files that a BE works on at a time; 0 lets it choose.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub concurrency: u32,
    /// Files are always checked, before anything is stored.
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = BoolishValueParser::new())]
    pub checksum: Option<bool>,
    /// Whether the servers get the credentials of this command: those that the URI names, of AWS in its environment, or in
    /// --gcs.credentials-file. If not, each server takes those of its own environment [default: true].
    #[arg(long = "send-credentials-to-tikv", short = 'c', value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub send_credentials: Option<bool>,
    /// When the job is given up; without it the server's backup_job_default_timeout_ms.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    #[command(flatten)]
    pub parameters: StorageFlags,
}

/// Where an FE may be.
#[derive(Debug, Clone)]
pub struct PdAddress {
    /// Its host; an IPv6 address without brackets.
    pub host: String,
    /// Its MySQL port.
    pub port: u16,
    /// Whether `https://` was written before it.
    pub tls: bool,
}

fn address(text: &str) -> Result<PdAddress, String> {
    let (text, tls) = match text.strip_prefix("https://") {
        Some(rest) => (rest, true),
        None => (text.strip_prefix("http://").unwrap_or(text), false),
    };
    let (host, port) = text.rsplit_once(':').ok_or("expected HOST:PORT")?;
    let port = port.parse().map_err(|_| format!("'{port}' is no port"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err("expected HOST:PORT".into());
    }
    Ok(PdAddress { host: host.to_owned(), port, tls })
}

/// Flags of `br` that all of its commands take; those of `RAW` are `br backup raw` and `br restore raw`.
#[derive(Debug, Args)]
pub struct BrOptions<const RAW: bool> {
    /// Where the backup is: a URI such as local:///DIR, or a directory.
    #[arg(long, short, value_name = "URI", default_value = "", hide_default_value = true)]
    pub storage: String,
    /// Only plaintext: encrypted backups are neither written nor read.
    #[arg(long = "crypter.method", value_name = "METHOD", default_value = "plaintext", value_parser = ["plaintext"],
          ignore_case = true)]
    crypter_method: String,
    #[command(flatten)]
    unused: UnusedFlags<RAW>,
}

impl<const RAW: bool> BrOptions<RAW> {
    /// What to tell about flags that were given for nothing.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.unused.0.iter().map(|flag| no_effect(flag))
    }
}

/// What to tell about a flag.
pub fn no_effect(flag: &str) -> String {
    format!("warning: --{flag} has no effect here")
}

/// Flags of `br` that stand for parameters of a storage's URI.
const STORAGE: &[&str] = &[
    "azblob.access-tier",
    "azblob.account-key",
    "azblob.account-name",
    "azblob.encryption-key",
    "azblob.encryption-scope",
    "azblob.endpoint",
    "azblob.sas-token",
    "gcs.credentials-file",
    "gcs.endpoint",
    "gcs.predefined-acl",
    "gcs.storage-class",
    "s3.acl",
    "s3.endpoint",
    "s3.external-id",
    "s3.provider",
    "s3.region",
    "s3.role-arn",
    "s3.sse",
    "s3.sse-kms-key-id",
    "s3.storage-class",
];

/// Those of [`STORAGE`] that were given, with their values.
#[derive(Debug)]
pub struct StorageFlags(pub Vec<(&'static str, String)>);

impl Args for StorageFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(STORAGE.iter().map(|name| Arg::new(*name).long(*name).hide(true)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for StorageFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &&'static str| Some((*name, matches.get_one::<String>(name)?.clone()));
        Ok(Self(STORAGE.iter().filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        Self::from_arg_matches(matches).map(|flags| *self = flags)
    }
}

/// Flags of `br` that mean nothing here, but stand in the scripts of those who have used it. Holds those given. The
/// commands of `RAW` know some of them.
#[derive(Debug)]
struct UnusedFlags<const RAW: bool>(Vec<&'static str>);

impl<const RAW: bool> UnusedFlags<RAW> {
    /// With the short form, if there is one.
    const WITH_VALUE: &[(&str, Option<char>)] = &[
        ("backupts", None),
        ("checkpoint-storage", None),
        ("batch-flush-interval", None),
        ("cert", None),
        ("checksum-concurrency", None),
        ("crypter.key", None),
        ("crypter.key-file", None),
        ("ddl-batch-size", None),
        ("gcttl", None),
        ("granularity", None),
        ("grpc-keepalive-time", None),
        ("grpc-keepalive-timeout", None),
        ("key", None),
        ("keyspace-name", None),
        ("lastbackupts", None),
        ("log-file", None),
        ("log-format", None),
        ("log-level", Some('L')),
        ("merge-region-key-count", None),
        ("merge-region-size-bytes", None),
        ("metadata-download-batch-size", None),
        ("pd-concurrency", None),
        ("replica-read-label", None),
        ("slow-log-file", None),
        ("stats-concurrency", None),
        ("status-addr", None),
        ("switch-mode-interval", None),
        ("tikv-max-restore-concurrency", None),
        ("timeago", None),
        ("with-tidb-placement-mode", None),
    ];

    /// A value, true or false, stands behind `=` only.
    const SWITCHES: &[(&str, Option<char>)] = &[
        ("allow-pitr-from-incremental", None),
        ("check-requirements", None),
        ("enable-opentracing", None),
        ("fast-load-sys-tables", None),
        ("ignore-stats", None),
        ("load-stats", None),
        ("no-credentials", None),
        ("no-schema", None),
        ("redact-info-log", None),
        ("redact-log", None),
        ("remove-schedulers", None),
        ("remove-tiflash", None),
        ("reset-sys-users", None),
        ("skip-check-path", None),
        ("sys-check-collation", None),
        ("use-backupmeta-v2", None),
        ("use-checkpoint", None),
        ("use-fsr", None),
        ("wait-tiflash-ready", None),
        ("with-sys-table", None),
    ];

    /// What only commands of `RAW` know, beside [`STORAGE`].
    const OF_RAW_WITH_VALUE: &[(&str, Option<char>)] =
        &[("ca", None), ("concurrency", None), ("pd", Some('u')), ("ratelimit", None), ("ratelimit-unit", None)];

    /// Likewise.
    const OF_RAW_SWITCHES: &[(&str, Option<char>)] = &[("checksum", None), ("send-credentials-to-tikv", Some('c'))];

    fn with_value() -> impl Iterator<Item = (&'static str, Option<char>)> {
        let of_raw = Self::OF_RAW_WITH_VALUE.iter().copied().chain(STORAGE.iter().map(|name| (*name, None)));
        Self::WITH_VALUE.iter().copied().chain(of_raw.filter(|_| !RAW))
    }

    fn switches() -> impl Iterator<Item = (&'static str, Option<char>)> {
        Self::SWITCHES.iter().chain(Self::OF_RAW_SWITCHES.iter().filter(|_| !RAW)).copied()
    }
}

impl<const RAW: bool> Args for UnusedFlags<RAW> {
    fn augment_args(command: clap::Command) -> clap::Command {
        let arg = |(name, short): (&'static str, Option<char>)| {
            Arg::new(name).long(name).short(short).hide(true).action(ArgAction::Append)
        };
        command
            .args(Self::with_value().map(arg))
            .args(Self::switches().map(arg).map(|arg| arg.num_args(0..=1).require_equals(true)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl<const RAW: bool> FromArgMatches for UnusedFlags<RAW> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        Ok(Self(Self::with_value().chain(Self::switches()).map(|(name, _)| name).filter(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        Self::from_arg_matches(matches).map(|flags| *self = flags)
    }
}

/// Flags that every server takes. What they say overrides the file.
#[derive(Debug, Args)]
struct ServerOptions {
    /// Configuration file (see conf/fe.conf and conf/be.conf; standalone takes the keys of both).
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// Directory for all data: the FE's in DIR/meta, the BE's in DIR/storage [default: holdfast-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// HTTP port, for health checks (/api/health).
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
    /// Any key of the configuration, as often as needed.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<Pair>,
}

/// Flags of `standalone` and `fe`.
#[derive(Debug, Args)]
pub struct FrontendOptions {
    #[command(flatten)]
    server: ServerOptions,
    /// Port of the MySQL protocol.
    #[arg(long, value_name = "PORT")]
    mysql_port: Option<u16>,
}

/// Flags of `be`.
#[derive(Debug, Args)]
pub struct BackendOptions {
    #[command(flatten)]
    server: ServerOptions,
    /// Port for the FE and other BEs.
    #[arg(long, value_name = "PORT")]
    be_port: Option<u16>,
}

impl FrontendOptions {
    /// The configuration file.
    pub fn conf(&self) -> Option<&Path> {
        self.server.conf.as_deref()
    }

    /// The flags as keys of `fe.conf`.
    pub fn fe_flags(&self) -> Vec<Pair> {
        self.server.flags(meta_under, &[("http_port", self.server.http_port), ("query_port", self.mysql_port)])
    }

    /// The flags as keys of both files.
    pub fn standalone_flags(&self) -> Vec<Pair> {
        let storage = self.server.data_dir.as_deref().map(storage_under);
        storage.into_iter().chain(self.fe_flags()).collect()
    }
}

impl BackendOptions {
    /// The configuration file.
    pub fn conf(&self) -> Option<&Path> {
        self.server.conf.as_deref()
    }

    /// The flags as keys of `be.conf`.
    pub fn be_flags(&self) -> Vec<Pair> {
        self.server.flags(storage_under, &[("be_http_port", self.server.http_port), ("be_port", self.be_port)])
    }
}

impl ServerOptions {
    /// The flags as keys; `--set` comes last and wins.
    fn flags(&self, data: fn(&Path) -> Pair, ports: &[(&str, Option<u16>)]) -> Vec<Pair> {
        let data = self.data_dir.as_deref().map(data);
        let ports = ports.iter().filter_map(|(key, port)| port.map(|port| pair(key, port)));
        data.into_iter().chain(ports).chain(self.set.iter().cloned()).collect()
    }
}

/// Where an FE and a BE keep what they have, in one directory for all data.
pub fn under(data_dir: &Path) -> [Pair; 2] {
    [meta_under(data_dir), storage_under(data_dir)]
}

fn meta_under(data_dir: &Path) -> Pair {
    pair("meta_dir", data_dir.join("meta").display())
}

fn storage_under(data_dir: &Path) -> Pair {
    pair("storage_root_path", data_dir.join("storage").display())
}

fn pair(key: &str, value: impl ToString) -> Pair {
    (key.to_owned(), value.to_string())
}

fn assignment(text: &str) -> Result<Pair, String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok(pair(key.trim(), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(Cli::chosen)
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        assert!(parse("holdfast bee").is_err());
        assert!(parse("holdfast --mysql-port 65536").is_err());
        assert!(parse("holdfast be --mysql-port 1").is_err());
        assert!(parse("holdfast --set x").is_err());
    }

    #[test]
    fn br_takes_flags_before_its_commands() {
        let command = |line: &str| command_of(line.split(' ').map(OsString::from)).map_err(|(error, _)| error);
        for line in [
            "holdfast br --pd h:1 -s local:///b backup raw --cf write",
            "holdfast br --pd=h:1 backup -s local:///b raw --cf write",
            "holdfast br -s raw backup raw --cf write --pd h:1 -s local:///b",
        ] {
            let Command::Br { command: BrCommand::Backup { command: BrBackupCommand::Raw(options) } } =
                command(line).unwrap()
            else {
                panic!("{line}")
            };
            let RawOptions { br, pd, cf, .. } = options.raw;
            let pd: Vec<_> = pd.iter().map(|pd| (pd.host.as_str(), pd.port)).collect();
            assert_eq!((br.storage.as_str(), pd, cf.as_str()), ("local:///b", vec![("h", 1)], "write"), "{line}");
        }
        for line in ["holdfast br -V", "holdfast br --version", "holdfast br backup raw -V"] {
            assert_eq!(command(line).unwrap_err().kind(), clap::error::ErrorKind::DisplayVersion, "{line}");
        }
    }

    /// Whoever forgets `-s`, or writes a URI in another flag's place, does not find its secrets in a log.
    #[test]
    fn a_wrong_command_line_shows_no_secret() {
        let uri = "s3://b/x?access-key=AK&secret-access-key=hunter2";
        for line in [
            format!("holdfast br backup raw {uri}"),
            format!("holdfast br backup raw --pd {uri}"),
            format!("holdfast br backup raw --pd={uri}"),
            format!("holdfast br backup raw --stort={uri}"),
            format!("holdfast br {uri}"),
        ] {
            let (_, text) = command_of(line.split(' ').map(OsString::from)).unwrap_err();
            assert!(!text.contains("hunter2") && !text.contains("AK"), "{line}: {text}");
        }
    }

    #[test]
    fn flags_of_br_that_mean_nothing_are_told() {
        let line = "holdfast br debug decode --pd 1.2.3.4:2379 -s local:///b -c=false -L debug --checksum --pd=x";
        let Command::Br { command: BrCommand::Debug { command: BrDebugCommand::Decode { options, .. } } } =
            parse(line).unwrap()
        else {
            panic!()
        };
        assert_eq!(options.storage, "local:///b");
        let warnings: Vec<_> = options.warnings().collect();
        let flags = ["log-level", "pd", "checksum", "send-credentials-to-tikv"];
        assert_eq!(warnings, flags.map(|flag| format!("warning: --{flag} has no effect here")));
        assert!(parse("holdfast br debug decode --cf default").is_err());
        assert!(parse("holdfast br debug decode --crypter.method aes128-ctr").is_err());
        assert!(parse("holdfast br debug checksum --api-version V2").is_err());
    }

    #[test]
    fn flags_become_keys() {
        let line = "holdfast --data-dir /d --mysql-port 0 --set query_port=7 --set max_upload_speed_kbps=3";
        let Command::Standalone(options) = parse(line).unwrap() else { panic!() };
        let (fe, be) = holdfast::config::load_standalone(options.conf(), &options.standalone_flags()).unwrap();
        assert_eq!((fe.get().query_port, be.get().max_upload_speed_kbps), (7, 3));
        assert_eq!(fe.get().meta_dir, Path::new("/d/meta"));
        assert_eq!(be.get().storage_root_path, Path::new("/d/storage"));

        let Command::Be(options) = parse("holdfast be --be-port 1 --http-port 2").unwrap() else { panic!() };
        assert_eq!(options.be_flags(), [pair("be_http_port", 2), pair("be_port", 1)]);
    }
}
