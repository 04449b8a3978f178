//! The command line.

use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Parser, Subcommand};
use holdfast::rawkv::value::ApiVersion;

const EXAMPLES: &str = "\
Examples:
  holdfast                                      start a server, then: mysql -h 127.0.0.1 -P 9030 -u root
  holdfast demo                                 watch a database be loaded, backed up, lost and restored
  holdfast --data-dir /srv/holdfast --mysql-port 0
  holdfast fe --conf conf/fe.conf               a cluster: one FE ...
  holdfast be --conf conf/be.conf               ... and as many BEs as you like, each made known to the FE by
                                                ALTER SYSTEM ADD BACKEND \"host:9060\"
  holdfast br debug checksum -s local:///DIR    check the files of a raw backup of TiKV

Default ports:  MySQL 9030, FE HTTP 8030, BE RPC 9060, BE HTTP 8040; 0 picks a free one.
                All listen on 127.0.0.1 until bind_address says otherwise.
Environment:    HOLDFAST_LOG  what to log to stderr: info (default), debug, holdfast::job=debug, ...
Exit status:    0 success, 1 failure, 2 wrong command line or configuration.";

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

/// What to run.
#[derive(Debug, Subcommand)]
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
    Br {
        #[command(subcommand)]
        command: BrCommand,
    },
}

/// What `br` does.
#[derive(Debug, Subcommand)]
pub enum BrCommand {
    /// Look into a backup, without a server.
    Debug {
        #[command(subcommand)]
        command: BrDebugCommand,
    },
}

/// What `br debug` does.
#[derive(Debug, Subcommand)]
pub enum BrDebugCommand {
    /// Write backupmeta.json, which shows what backupmeta says, beside it.
    Decode(BrOptions),
    /// Read all files of a raw backup and check their lengths, hashes, blocks, keys and checksums.
    Checksum {
        #[command(flatten)]
        options: BrOptions,
        /// How values are encoded, V1 or V1TTL, where the backup does not say it: old ones say V1 of both.
        #[arg(long, value_name = "VERSION")]
        api_version: Option<ApiVersion>,
    },
}

/// Flags of `br` that all of its commands take.
#[derive(Debug, Args)]
pub struct BrOptions {
    /// Where the backup is: local:///DIR, or a directory.
    #[arg(long, short, value_name = "URI", default_value = "", hide_default_value = true)]
    pub storage: String,
    /// Only plaintext: encrypted backups are not read.
    #[arg(long = "crypter.method", value_name = "METHOD", default_value = "plaintext", value_parser = ["plaintext"])]
    crypter_method: String,
    #[command(flatten)]
    unused: UnusedFlags,
}

impl BrOptions {
    /// What to tell about flags that were given for nothing.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.unused.0.iter().map(|flag| format!("warning: --{flag} has no effect here"))
    }
}

/// Flags of `br` that mean nothing here, but stand in the scripts of those who have used it. Holds those given.
#[derive(Debug)]
struct UnusedFlags(Vec<&'static str>);

impl UnusedFlags {
    /// With the short form, if there is one.
    const WITH_VALUE: &[(&str, Option<char>)] = &[
        ("azblob.access-tier", None),
        ("azblob.account-key", None),
        ("azblob.account-name", None),
        ("azblob.endpoint", None),
        ("ca", None),
        ("cert", None),
        ("checksum-concurrency", None),
        ("concurrency", None),
        ("crypter.key", None),
        ("crypter.key-file", None),
        ("gcs.credentials-file", None),
        ("gcs.endpoint", None),
        ("gcs.predefined-acl", None),
        ("gcs.storage-class", None),
        ("grpc-keepalive-time", None),
        ("grpc-keepalive-timeout", None),
        ("key", None),
        ("log-file", None),
        ("log-format", None),
        ("log-level", Some('L')),
        ("metadata-download-batch-size", None),
        ("pd", Some('u')),
        ("ratelimit", None),
        ("ratelimit-unit", None),
        ("s3.acl", None),
        ("s3.endpoint", None),
        ("s3.external-id", None),
        ("s3.provider", None),
        ("s3.region", None),
        ("s3.role-arn", None),
        ("s3.sse", None),
        ("s3.sse-kms-key-id", None),
        ("s3.storage-class", None),
        ("slow-log-file", None),
        ("status-addr", None),
        ("switch-mode-interval", None),
    ];

    /// A value, true or false, stands behind `=` only.
    const SWITCHES: &[(&str, Option<char>)] = &[
        ("check-requirements", None),
        ("checksum", None),
        ("enable-opentracing", None),
        ("no-credentials", None),
        ("redact-info-log", None),
        ("redact-log", None),
        ("remove-tiflash", None),
        ("send-credentials-to-tikv", Some('c')),
        ("skip-check-path", None),
    ];

    fn all() -> impl Iterator<Item = &'static (&'static str, Option<char>)> {
        Self::WITH_VALUE.iter().chain(Self::SWITCHES)
    }
}

impl Args for UnusedFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        let arg = |(name, short): &(&'static str, Option<char>)| {
            Arg::new(*name).long(*name).short(*short).hide(true).action(ArgAction::Append)
        };
        command
            .args(Self::WITH_VALUE.iter().map(arg))
            .args(Self::SWITCHES.iter().map(arg).map(|arg| arg.num_args(0..=1).require_equals(true)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for UnusedFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        Ok(Self(Self::all().map(|(name, _)| *name).filter(given).collect()))
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
    /// Port for health checks and metrics.
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
    fn flags_of_br_that_mean_nothing_are_told() {
        let line = "holdfast br debug decode --pd 1.2.3.4:2379 -s local:///b -c=false -L debug --checksum --pd=x";
        let Command::Br { command: BrCommand::Debug { command: BrDebugCommand::Decode(options) } } =
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
