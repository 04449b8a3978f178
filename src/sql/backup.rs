//! BACKUP, RESTORE, their RAW forms and CANCEL.
//!
//! Unknown clauses and properties are refused: a job must not do less than its statement says. Properties of the RAW
//! forms are checked where they are used.

use sqlparser::tokenizer::Token;

use super::parser::{P, first_repeated, to_name, wrong_name};
use super::{
    Backup, BackupOptions, BackupTimestamp, ObjectRef, Objects, Properties, RawJob, Restore, RestoreDatabase,
    RestoreOptions, Show, Statement, StorageUri,
};
use crate::error::{Error, Result};
use crate::types::{Kind, Label, Name, Timestamp};

/// The shortest timeout of a job, as in StarRocks.
const MIN_TIMEOUT_SECS: i64 = 600;

/// Which of the two statements an ON clause is in: their rules differ.
#[derive(Clone, Copy, PartialEq)]
enum Job {
    Backup,
    Restore,
}

impl Job {
    fn word(self) -> &'static str {
        match self {
            Job::Backup => "backup",
            Job::Restore => "restore",
        }
    }
}

impl P<'_> {
    /// BACKUP, RESTORE and CANCEL.
    pub fn jobs(&mut self) -> Result<Option<Statement>> {
        Ok(Some(if self.words("BACKUP RAW") {
            Statement::BackupRaw(self.raw_job("TO")?)
        } else if self.words("RESTORE RAW") {
            Statement::RestoreRaw(self.raw_job("FROM")?)
        } else if self.words("VERIFY BACKUP RAW") {
            let uri = self.storage_uri("FROM")?;
            let properties = self.properties()?;
            self.end()?;
            Statement::Show(Show::VerifyBackupRaw { uri, properties })
        } else if self.words("BACKUP") {
            Statement::Backup(self.backup()?)
        } else if self.words("RESTORE") {
            Statement::Restore(self.restore()?)
        } else if self.words("CANCEL BACKUP") {
            Statement::CancelBackup { database: self.cancelled("CANCEL BACKUP")? }
        } else if self.words("CANCEL RESTORE") {
            Statement::CancelRestore { database: self.cancelled("CANCEL RESTORE")? }
        } else {
            return Ok(None);
        }))
    }

    fn raw_job(&mut self, before_uri: &str) -> Result<RawJob> {
        let (mut cf, mut start, mut end, mut format) = (None, None, None, None);
        loop {
            let (clause, value) = if self.words("CF") {
                (&mut cf, self.string()?)
            } else if self.words("START") {
                (&mut start, self.string()?)
            } else if self.words("END") {
                (&mut end, self.string()?)
            } else if self.words("FORMAT") {
                let format_name = match self.optional_string() {
                    Some(text) => text,
                    None => self.ident("hex, raw or escaped")?,
                };
                (&mut format, format_name.to_lowercase())
            } else {
                break;
            };
            if clause.replace(value).is_some() {
                return Err(Error::Analysis("CF, START, END and FORMAT can each be given once".into()));
            }
        }
        let uri = self.storage_uri(before_uri)?;
        let properties = self.properties()?;
        self.end()?;
        let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
        Ok(RawJob { cf, start, end, format, uri, properties })
    }

    /// `FROM 'uri'`, or another word before it.
    pub fn storage_uri(&mut self, word: &str) -> Result<StorageUri> {
        self.need(word)?;
        self.string().map(StorageUri)
    }

    fn cancelled(&mut self, statement: &str) -> Result<Option<Name>> {
        if self.words("FOR") {
            self.need("EXTERNAL CATALOG")?;
            return Err(Error::Unsupported(format!("{statement} FOR EXTERNAL CATALOG")));
        }
        self.optional_from()
    }

    /// `FROM db` or `IN db`, if it is next.
    pub fn optional_from(&mut self) -> Result<Option<Name>> {
        if self.any_word(&["FROM", "IN"]) { self.database_name().map(Some) } else { Ok(None) }
    }

    fn backup(&mut self) -> Result<Backup> {
        let mut refused = self.external_catalogs(Job::Backup)?;
        let database = if self.words("DATABASE") { Some(self.database_name()?) } else { None };
        self.need("SNAPSHOT")?;
        let (qualifier, label) = self.snapshot()?;
        self.need("TO")?;
        let repository = self.job_repository()?;
        let objects = self.objects(Job::Backup, &mut refused)?;
        let properties = self.properties()?;
        self.end()?;
        if database.is_some() && qualifier.is_some() {
            return Err(database_twice());
        }
        refuse(refused)?;
        Ok(Backup {
            database: database.or(qualifier),
            label: to_label(label)?,
            repository: to_repository(repository)?,
            objects,
            options: backup_options(&properties)?,
        })
    }

    fn restore(&mut self) -> Result<Restore> {
        self.need("SNAPSHOT")?;
        let (qualifier, label) = self.snapshot()?;
        self.need("FROM")?;
        let repository = self.job_repository()?;
        let mut refused = self.external_catalogs(Job::Restore)?;
        let mut renamed = None;
        if self.words("DATABASE") {
            let source = self.database_name()?;
            let target = if self.words("AS") { self.database_name()? } else { source.clone() };
            renamed = Some((source, target));
        }
        let objects = self.objects(Job::Restore, &mut refused)?;
        let properties = self.properties()?;
        self.end()?;
        refuse(refused)?;
        let database = match (renamed, qualifier) {
            (Some(_), Some(_)) => return Err(database_twice()),
            (Some((source, target)), None) => RestoreDatabase::Renamed { source, target },
            (None, Some(target)) => RestoreDatabase::Into(target),
            (None, None) => RestoreDatabase::Recorded,
        };
        Ok(Restore {
            database,
            label: to_label(label)?,
            repository: to_repository(repository)?,
            objects,
            options: restore_options(&properties)?,
        })
    }

    /// `[db.]label`, the label not yet checked.
    fn snapshot(&mut self) -> Result<(Option<Name>, String)> {
        let first = self.ident("a label")?;
        if !self.token(&Token::Period) {
            return Ok((None, first));
        }
        Ok((Some(to_name(Kind::Database, first)?), self.ident("a label")?))
    }

    fn job_repository(&mut self) -> Result<String> {
        self.ident("a repository name")
    }

    /// The clause of external catalogs, if it is next; it is read only to be refused.
    fn external_catalogs(&mut self, job: Job) -> Result<Option<String>> {
        let all = self.words("ALL");
        if !all && !self.at(0, "EXTERNAL") {
            return Ok(None);
        }
        self.need("EXTERNAL")?;
        if !self.any_word(&["CATALOGS", "CATALOG"]) {
            return self.unexpected("CATALOG");
        }
        if !all {
            self.parens(|p| {
                p.ident("a catalog name")?;
                if job == Job::Restore && p.words("AS") {
                    p.ident("a catalog name")?;
                }
                Ok(())
            })?;
        }
        Ok(Some(format!("{} of external catalogs", job.word().to_uppercase())))
    }

    /// `ON (…)`; without it everything. The first object of a kind that is refused is noted.
    fn objects(&mut self, job: Job, refused: &mut Option<String>) -> Result<Objects> {
        if !self.words("ON") {
            return Ok(Objects { all_tables: true, tables: Vec::new() });
        }
        let mut objects = Objects::default();
        self.parens(|p| p.object(job, &mut objects, refused))?;
        let names: Vec<_> = objects.tables.iter().map(|object| &object.table).collect();
        if let Some(name) = first_repeated(&names) {
            return Err(Error::Refused(format!("Duplicated table: {name}")));
        }
        let targets: Vec<_> = objects.tables.iter().map(|o| o.alias.as_ref().unwrap_or(&o.table)).collect();
        if let Some(alias) = first_repeated(&targets) {
            return Err(Error::Refused(format!("Duplicated alias name: {alias}")));
        }
        Ok(objects)
    }

    fn object(&mut self, job: Job, objects: &mut Objects, refused: &mut Option<String>) -> Result<()> {
        const KINDS: [(&str, &str); 8] = [
            ("MATERIALIZED VIEWS", "materialized views"),
            ("MATERIALIZED VIEW", "materialized views"),
            ("VIEWS", "views"),
            ("VIEW", "views"),
            ("FUNCTIONS", "functions"),
            ("FUNCTION", "functions"),
            ("TABLES", ""),
            ("TABLE", ""),
        ];
        let all = self.words("ALL");
        // A kind is followed by a name; before anything else the same word is a table's name.
        let follows = |p: &Self, phrase: &str| {
            let next = phrase.split(' ').count();
            let clause = ["AS", "PARTITION", "PARTITIONS", "TEMPORARY"].iter().any(|word| p.at(next, word));
            all || matches!(p.peek(next), Token::Word(_)) && !clause
        };
        let kind = KINDS.iter().find(|(phrase, _)| self.peek_words(phrase) && follows(self, phrase));
        if let Some((phrase, _)) = kind {
            self.words(phrase);
        }
        match kind {
            None if all => return self.unexpected("TABLES, VIEWS, MATERIALIZED VIEWS or FUNCTIONS"),
            None | Some((_, "")) if !all => objects.tables.push(self.object_ref(job)?),
            None | Some((_, "")) => objects.all_tables = true,
            Some((_, what)) => {
                if !all {
                    self.table_name()?;
                    if self.words("AS") {
                        self.ident("a name")?;
                    }
                }
                refused.get_or_insert_with(|| format!("{} of {what}", job.word().to_uppercase()));
            }
        }
        Ok(())
    }

    fn object_ref(&mut self, job: Job) -> Result<ObjectRef> {
        let name = self.table_name()?;
        if self.words("TEMPORARY") {
            self.partitions()?;
            return Err(Error::Refused(match job {
                Job::Backup => "Do not support backing up temp partitions".into(),
                Job::Restore => "Do not support restoring temporary partitions".into(),
            }));
        }
        let partitions = self.partitions()?;
        let alias = if self.words("AS") { Some(self.name(Kind::Table)?) } else { None };
        if let (Job::Backup, Some(alias)) = (job, &alias) {
            return Err(Error::Refused(format!("Can not set alias for table in Backup Stmt: {name} AS {alias}")));
        }
        if name.database.is_some() {
            let table = &name.table;
            return Err(Error::Refused(format!(
                "table '{name}' in ON is qualified; all tables are of the statement's database: write {table}"
            )));
        }
        Ok(ObjectRef { table: name.table, partitions, alias })
    }
}

fn database_twice() -> Error {
    Error::Analysis("the database is given twice; write either DATABASE or db.label".into())
}

fn refuse(refused: Option<String>) -> Result<()> {
    refused.map_or(Ok(()), |what| Err(Error::Unsupported(what)))
}

fn to_label(text: String) -> Result<Label> {
    Label::new(text.clone()).map_err(|invalid| wrong_name(Kind::Label, &text, invalid))
}

fn to_repository(text: String) -> Result<Name> {
    if text.is_empty() {
        return Err(Error::Refused("Repository is empty".into()));
    }
    to_name(Kind::Repository, text)
}

fn backup_options(properties: &Properties) -> Result<BackupOptions> {
    let mut options = BackupOptions::default();
    let mut unknown = Vec::new();
    for (key, value) in properties.iter() {
        match key.as_str() {
            "type" => backup_type(value)?,
            "timeout" => options.timeout_secs = Some(timeout(value)?),
            "wait" => options.wait = Some(boolean(value, "wait")?),
            _ => unknown.push(key.as_str()),
        }
    }
    refuse_unknown(Job::Backup, &unknown)?;
    Ok(options)
}

fn restore_options(properties: &Properties) -> Result<RestoreOptions> {
    let mut backup_timestamp = None;
    let mut options = RestoreOptions {
        backup_timestamp: BackupTimestamp::Latest,
        timeout_secs: None,
        replication_num: None,
        allow_load: false,
        meta_version: None,
        starrocks_meta_version: None,
        wait: None,
    };
    let mut unknown = Vec::new();
    for (key, value) in properties.iter() {
        match key.as_str() {
            "backup_timestamp" => backup_timestamp = Some(timestamp(value)?),
            "timeout" => options.timeout_secs = Some(timeout(value)?),
            "replication_num" => options.replication_num = Some(version::<std::num::NonZeroU32>(value)?.get()),
            "allow_load" => options.allow_load = boolean(value, "allow load")?,
            "meta_version" => options.meta_version = Some(version(value)?),
            "starrocks_meta_version" => options.starrocks_meta_version = Some(version(value)?),
            "wait" => options.wait = Some(boolean(value, "wait")?),
            _ => unknown.push(key.as_str()),
        }
    }
    refuse_unknown(Job::Restore, &unknown)?;
    let missing = || Error::Refused("Missing backup_timestamp property".into());
    options.backup_timestamp = backup_timestamp.ok_or_else(missing)?;
    Ok(options)
}

fn refuse_unknown(job: Job, keys: &[&str]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    Err(Error::Refused(format!("Unknown {} job properties: [{}]", job.word(), keys.join(", "))))
}

fn backup_type(value: &str) -> Result<()> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Ok(()),
        "INCREMENTAL" => Err(Error::Refused("Currently does not support incremental backup".into())),
        _ => Err(Error::Refused(format!("Invalid backup job type: {value}"))),
    }
}

fn timeout(value: &str) -> Result<u64> {
    let secs: i64 = value.trim().parse().map_err(|_| Error::Refused(format!("Invalid timeout format: {value}")))?;
    if secs < MIN_TIMEOUT_SECS {
        return Err(Error::Refused("timeout must be at least 10 min".into()));
    }
    Ok(secs.unsigned_abs())
}

fn boolean(value: &str, what: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::Refused(format!("Invalid {what} value: {value}"))),
    }
}

/// A number, refused with the one text that StarRocks has for all of them.
fn version<N: std::str::FromStr>(value: &str) -> Result<N> {
    value.trim().parse().map_err(|_| Error::Refused(format!("Invalid meta version format: {value}")))
}

fn timestamp(value: &str) -> Result<BackupTimestamp> {
    if value.eq_ignore_ascii_case("latest") {
        return Ok(BackupTimestamp::Latest);
    }
    Timestamp::check_backup_text(value).map_err(|invalid| Error::Refused(format!("{invalid}, or latest")))?;
    Ok(BackupTimestamp::At(value.to_owned()))
}
