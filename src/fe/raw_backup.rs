//! BACKUP RAW and RESTORE RAW, and looking into what they have made.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};

use super::frontend::Frontend;
use super::{Listing, Outcome, StatementContext, backup, ddl, rawkv, repository};
use crate::catalog::JobKind;
use crate::clock::Throttle;
use crate::disk;
use crate::error::{Error, Result, blocking};
use crate::job::{RawOptions, RawRequest, read_backup};
use crate::rawkv::backupmeta::BackupFile;
use crate::rawkv::checksum::Checksum;
use crate::rawkv::key::KeyFormat;
use crate::rawkv::sst::Compression;
use crate::rawkv::storage::Storage;
use crate::rawkv::store::RESERVE_BYTES;
use crate::rawkv::value::ApiVersion;
use crate::rawkv::verify::{verify_content, verify_restorable};
use crate::repository::Folder;
use crate::sql::{self, Properties, StorageUri};
use crate::types::{ColumnFamily, Invalid, JobId, KeyRange, Name};

/// BR asks for no keys behind this one where no end is given.
const LAST_OF_BR: [u8; 10] = [0xFF; 10];

/// The highest speed that can be given, in MiB a second.
const MOST_SPEED: u64 = 1 << 30;

/// Files that VERIFY reads together.
const VERIFY_AT_ONCE: usize = 4;

pub(super) async fn backup(fe: &Arc<Frontend>, context: &StatementContext, statement: &sql::RawJob) -> Result<Outcome> {
    let (request, mut asked) = request(fe, JobKind::Backup, statement).await?;
    fe.catalog.image().database(&Name::new(rawkv::RAWKV).map_err(Error::internal)?)?;
    if request.end.is_empty() {
        let start = request.start.clone().max(LAST_OF_BR.into());
        let range = KeyRange::new(start, Vec::new()).map_err(Error::internal)?;
        // Only a hint: a BE that is away is the job's matter.
        if let Ok(Some(_)) = rawkv::scan(fe.clone(), request.cf, vec![range]).try_next().await {
            let warnings = &mut asked.warnings;
            warnings.push("there are keys from ff repeated 10 times on; br restores them only if END is given".into());
        }
    }
    let job = fe.jobs.raw(request).await?;
    submitted(fe, context, job.id, asked).await
}

pub(super) async fn restore(
    fe: &Arc<Frontend>,
    context: &StatementContext,
    statement: &sql::RawJob,
) -> Result<Outcome> {
    let (request, mut asked) = request(fe, JobKind::Restore, statement).await?;
    // A statement that cannot be obeyed creates nothing.
    let (meta, _) = read_backup(&open(&request.storage)?, &request.storage.shown).await?;
    meta.restore_range(request.cf, &request.start, &request.end)?;
    if request.options.api_version.unwrap_or(meta.api_version) == ApiVersion::V1Ttl {
        asked.warnings.push("values of the backup may expire; those that have not yet are stored for ever".into());
    }
    ddl::create_database(fe, &Name::new(rawkv::RAWKV).map_err(Error::internal)?, true).await?;
    rawkv::create_regions(fe, request.cf).await?;
    let job = fe.jobs.raw(request).await?;
    submitted(fe, context, job.id, asked).await
}

/// Names the job to the client, for which another one of its kind may take its place in SHOW.
async fn submitted(fe: &Frontend, context: &StatementContext, job: JobId, asked: Asked) -> Result<Outcome> {
    backup::submitted(fe, context, job, asked.wait).await?;
    Ok(Outcome::Done { affected: 0, info: format!("Job: {job}"), warnings: asked.warnings })
}

/// What a statement asks for that is not in its job's options, and what is to be said of it.
#[derive(Default)]
struct Asked {
    wait: Option<bool>,
    timeout: Option<u64>,
    /// Whether a level of compression was given.
    level: bool,
    warnings: Vec<String>,
}

/// What a statement asks for.
async fn request(fe: &Arc<Frontend>, kind: JobKind, statement: &sql::RawJob) -> Result<(RawRequest, Asked)> {
    let of_text = |Invalid(message)| Error::Analysis(message);
    let cf = statement.cf.as_deref().unwrap_or_default();
    let cf: ColumnFamily = masked(cf, cf.parse().map_err(of_text))?;
    let format: KeyFormat = statement.format.as_deref().unwrap_or("hex").parse()?;
    let (start, end) = (format.decode(&statement.start)?, format.decode(&statement.end)?);
    KeyRange::new(start.clone(), end.clone()).map_err(of_text)?;
    let mut options = RawOptions::default();
    let mut asked = Asked::default();
    for (key, value) in statement.properties.iter() {
        masked(value, property(&mut options, &mut asked, kind, key, value))?;
    }
    if asked.level && options.sst.compression != Compression::Zstd {
        asked.warnings.push("compression_level has no effect: only zstd has levels".into());
    }
    let storage = resolve(fe, &statement.uri).await?;
    let timeout_ms = backup::timeout_ms(fe, asked.timeout);
    Ok((RawRequest { kind, storage, cf, start, end, options, timeout_ms }, asked))
}

/// A URI in the place of another text, as an error shows it.
fn masked<T>(text: &str, result: Result<T>) -> Result<T> {
    result.map_err(|err| match err {
        Error::Analysis(message) if sql::mask_uri(text) != text => Error::Analysis(
            message
                .replace(text, &sql::mask_uri(text))
                .replace(&text.to_lowercase(), "***")
                .replace(&text.to_uppercase(), "***"),
        ),
        other => other,
    })
}

/// What a property asks for.
fn property(options: &mut RawOptions, asked: &mut Asked, kind: JobKind, key: &str, value: &str) -> Result<()> {
    match (key.to_ascii_lowercase().as_str(), kind) {
        ("ratelimit", _) => options.speed = number(key, value, 0..=MOST_SPEED)? << 20,
        ("ratelimit_bytes", _) => options.speed = number(key, value, 0..=MOST_SPEED << 20)?,
        ("concurrency", _) => options.concurrency = Some(number(key, value, 1..=64)? as u32),
        ("checksum", _) => {
            if !boolean(key, value)? {
                asked.warnings.push("checksum = false has no effect: checksums are always made and checked".into());
            }
        }
        ("timeout", _) => asked.timeout = Some(number(key, value, 1..=u64::from(u32::MAX))?),
        ("wait", _) => asked.wait = Some(boolean(key, value)?),
        ("compression", JobKind::Backup) => options.sst.compression = value.to_lowercase().parse()?,
        ("compression_level", JobKind::Backup) => {
            options.sst.level = number(key, value, -7..=22)?;
            asked.level = true;
        }
        ("replace", JobKind::Restore) => options.replace = boolean(key, value)?,
        ("api_version", JobKind::Restore) => options.api_version = Some(value.to_uppercase().parse()?),
        ("online", JobKind::Restore) => {
            if boolean(key, value)? {
                asked.warnings.push("online has no effect: every restore leaves the server up".into());
            }
        }
        _ => {
            let known = match kind {
                JobKind::Backup => "ratelimit, concurrency, checksum, compression, compression_level, timeout, wait",
                JobKind::Restore => "ratelimit, concurrency, checksum, online, replace, api_version, timeout, wait",
            };
            let key = sql::mask_uri(key);
            return Err(Error::Analysis(format!("unknown property '{key}' of {kind} RAW; there are {known}")));
        }
    }
    Ok(())
}

fn number<N: std::str::FromStr + PartialOrd + std::fmt::Display>(
    key: &str,
    value: &str,
    range: std::ops::RangeInclusive<N>,
) -> Result<N> {
    value.trim().parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
        Error::Analysis(format!(
            "property '{key}' is '{value}', not a number from {} to {}",
            range.start(),
            range.end()
        ))
    })
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::Analysis(format!("property '{key}' is '{value}', not true or false"))),
    }
}

/// A URI with the credentials that it names, if it may be used.
async fn resolve(fe: &Arc<Frontend>, uri: &StorageUri) -> Result<Storage> {
    let mut storage = Storage::parse(&uri.0)?;
    if let Some(path) = &storage.credentials_file {
        let path = PathBuf::from(path);
        let read = tokio::task::spawn_blocking(move || Storage::read_credentials(&path));
        storage.add_credentials(&read.await.map_err(Error::internal)??)?;
    }
    if let Some(path) = open(&storage)?.local_path() {
        repository::check_local(fe, &path).await?;
    }
    Ok(storage)
}

fn open(storage: &Storage) -> Result<Folder> {
    Folder::open("raw backup", &storage.location, &storage.properties).map(Folder::hasty)
}

/// The columns of SHOW BACKUP RAW.
pub(super) const FILES: &[&str] =
    &["File", "CF", "StartKey", "EndKey", "TotalKVs", "TotalBytes", "Crc64Xor", "Size", "SHA256", "ApiVersion"];

/// Those of VERIFY BACKUP RAW.
pub(super) const VERIFIED: &[&str] = &["File", "Size", "TotalKVs", "TotalBytes", "Crc64Xor", "Result"];

/// SHOW BACKUP RAW: a row for each file.
pub(super) async fn files(fe: &Arc<Frontend>, uri: &StorageUri) -> Result<Listing> {
    let storage = resolve(fe, uri).await?;
    let (meta, _) = read_backup(&open(&storage)?, &storage.shown).await?;
    let mut listing = Listing::new(FILES);
    for file in &meta.files {
        let Checksum { crc64xor, total_kvs, total_bytes } = file.checksum;
        let [start, end] = [file.range.start(), file.range.end()].map(hex::encode_upper);
        let numbers = [total_kvs, total_bytes, crc64xor, file.size].map(|number| number.to_string());
        let [total_kvs, total_bytes, crc64xor, size] = numbers.each_ref().map(String::as_str);
        listing.row([
            &file.name,
            &meta.cf.to_string(),
            &start,
            &end,
            total_kvs,
            total_bytes,
            crc64xor,
            size,
            &file.sha256.to_string(),
            &meta.api_version.to_string(),
        ]);
    }
    Ok(listing)
}

/// VERIFY BACKUP RAW: reads every file and says what is wrong with it. One of a store is on this FE's disk while it is
/// checked. Damage is also a warning, which a script sees without looking at the rows.
pub(super) async fn verify(fe: &Arc<Frontend>, uri: &StorageUri, properties: &Properties) -> Result<Outcome> {
    let mut api_version = None;
    for (key, value) in properties.iter() {
        match key.to_ascii_lowercase().as_str() {
            "api_version" => api_version = Some(masked(value, value.to_uppercase().parse())?),
            _ => {
                let key = sql::mask_uri(key);
                let text = format!("unknown property '{key}' of VERIFY BACKUP RAW; there is api_version");
                return Err(Error::Analysis(text));
            }
        }
    }
    let storage = resolve(fe, uri).await?;
    let (meta, _) = read_backup(&open(&storage)?, &storage.shown).await?;
    // Reading all takes its time, whatever the store does.
    let folder = Folder::open("raw backup", &storage.location, &storage.properties)?;
    let api_version = api_version.unwrap_or(meta.api_version);
    let mut listing = Listing::new(VERIFIED);
    let (folder, local) = (&folder, &folder.local_path());
    let verified = stream::iter(meta.files).map(|file| async move {
        let opened = match local {
            Some(directory) => open_file(directory.join(&file.name), file.clone()).await,
            None => copy_file(folder, &file, room_on_disk(fe, file.size).await?).await,
        };
        let sums = match opened {
            Ok(content) => verify_one(fe, Arc::new(content), &file, api_version).await,
            Err(err) => Err(err),
        };
        Ok::<_, Error>((file, sums))
    });
    let mut verified = verified.buffered(VERIFY_AT_ONCE);
    let (mut all, mut failed) = (0, 0);
    while let Some((file, sums)) = verified.try_next().await? {
        let size = Some(file.size.to_string());
        all += 1;
        failed += u32::from(sums.is_err());
        listing.push(match sums {
            Ok(Checksum { crc64xor, total_kvs, total_bytes }) => {
                let [kvs, bytes, crc] = [total_kvs, total_bytes, crc64xor].map(|number| Some(number.to_string()));
                vec![Some(file.name.clone()), size, kvs, bytes, crc, Some("OK".into())]
            }
            Err(err) => vec![Some(file.name.clone()), size, None, None, None, Some(err.report())],
        });
    }
    let warning = format!("{failed} of {all} files of {} are not what was backed up, or cannot be read", storage.shown);
    let warnings = if failed == 0 { Vec::new() } else { vec![warning] };
    Ok(Outcome::Rows { rows: listing.into_rows(), warnings })
}

/// A file where it lies, with the content that it should have: from another, no length would be believed.
async fn open_file(path: PathBuf, file: BackupFile) -> Result<File> {
    let open = move || {
        let content = File::open(&path).map_err(Error::io("open", &path))?;
        verify_content(&content, &file)?;
        Ok(content)
    };
    blocking(open).await
}

/// A file without a name in this FE's directory, with room for so many bytes.
async fn room_on_disk(fe: &Frontend, bytes: u64) -> Result<[File; 2]> {
    let directory: PathBuf = fe.directory()?.to_owned();
    let make = move || {
        let copy = tempfile::tempfile_in(&directory).map_err(Error::io("create a file in", &directory))?;
        // A BE of this process may have raw keys on the same disk.
        disk::take("copy a file of a backup to", &directory, &copy, bytes, RESERVE_BYTES)?;
        let reading = copy.try_clone().map_err(Error::io("open a file in", &directory))?;
        Ok([copy, reading])
    };
    blocking(make).await
}

async fn copy_file(folder: &Folder, file: &BackupFile, [target, reading]: [File; 2]) -> Result<File> {
    folder.download(&file.name, target, file.size, file.sha256, &Throttle::default(), |_| {}).await?;
    Ok(reading)
}

async fn verify_one(fe: &Frontend, content: Arc<File>, file: &BackupFile, api_version: ApiVersion) -> Result<Checksum> {
    let taken = fe.raw_memory.take_for_reading(&content, &file.name, |_| 0).await?;
    let file = file.clone();
    blocking(move || {
        let _taken = taken;
        verify_restorable(&*content, &file, api_version)
    })
    .await
}
