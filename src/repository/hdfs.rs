//! HDFS for OpenDAL, by the pure Rust client, so that nobody needs a JVM.
//!
//! OpenDAL's own service has no way to name the user, calls every broken connection final, and cannot create a file
//! only if there is none, which the NameNode does atomically.

use std::fmt;
use std::sync::Arc;

use hdfs_native::client::{ClientBuilder, ListStatusIterator};
use hdfs_native::file::FileReader;
use hdfs_native::{Client, HdfsError, WriteOptions};
use opendal::raw::{
    OpCopy, OpCreateDir, OpDelete, OpList, OpPresign, OpRead, OpRename, OpStat, OpWrite, RpCreateDir, RpPresign,
    RpRename, RpStat, Service, ServiceInfo, Timestamp, oio,
};
use opendal::{Buffer, Capability, Error, ErrorKind, Metadata, MetadataBuilder, OperationContext, Operator, Result};

/// The name by which messages call it.
const SCHEME: &str = "hdfs";

/// What the NameNode says while it starts, stops or is too busy.
const PASSING: [&str; 6] = [
    "SafeModeException",
    "StandbyException",
    "RetriableException",
    "ServerTooBusyException",
    "could only be",
    "ConnectException",
];

/// Opens the file system of a NameNode, as a user, without asking it anything. `user` is the process's own if absent.
pub fn open(address: &str, user: Option<&str>) -> Result<Operator> {
    let mut builder = ClientBuilder::new()
        .with_url(format!("hdfs://{address}"))
        // There is no other NameNode to go to; who calls repeats what may pass.
        .with_config([("dfs.client.failover.max.attempts", "0")]);
    if let Some(user) = user {
        builder = builder.with_user(user);
    }
    let client = Arc::new(builder.build().map_err(lifted)?);
    Ok(Operator::from_parts(OperationContext::new(), Arc::new(Hdfs { client, address: address.to_owned() })))
}

struct Hdfs {
    client: Arc<Client>,
    address: String,
}

impl fmt::Debug for Hdfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hdfs").field("address", &self.address).finish_non_exhaustive()
    }
}

/// OpenDAL's paths have no slash at their beginning.
fn absolute(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

fn unsupported<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "operation is not supported"))
}

fn lifted(err: HdfsError) -> Error {
    let passing = |text: &str| PASSING.iter().any(|sign| text.contains(sign));
    let (kind, temporary) = match &err {
        HdfsError::FileNotFound(_) => (ErrorKind::NotFound, false),
        HdfsError::AlreadyExists(_) => (ErrorKind::AlreadyExists, false),
        HdfsError::RPCError(class, _) | HdfsError::FatalRPCError(class, _)
            if class.ends_with("FileNotFoundException") =>
        {
            (ErrorKind::NotFound, false)
        }
        HdfsError::RPCError(class, _) if class.ends_with("AccessControlException") => {
            (ErrorKind::PermissionDenied, false)
        }
        HdfsError::RPCError(class, text) | HdfsError::FatalRPCError(class, text) if passing(class) || passing(text) => {
            (ErrorKind::Unexpected, true)
        }
        // The network, or DataNodes that come and go.
        HdfsError::IOError(_)
        | HdfsError::DataTransferError(_)
        | HdfsError::BlocksNotFound(_)
        | HdfsError::OperationFailed(_) => (ErrorKind::Unexpected, true),
        // Quotas, for example. Not `Unexpected`: repetitions would make that look as if it had passed.
        _ => (ErrorKind::Conflict, false),
    };
    Error::new(kind, err.to_string()).with_temporary(temporary)
}

impl Service for Hdfs {
    type Reader = oio::PositionReader<Reader>;
    type Writer = Writer;
    type Lister = Lister;
    type Deleter = oio::OneShotDeleter<Deleter>;
    type Copier = ();
    type Composer = ();

    fn info(&self) -> ServiceInfo {
        ServiceInfo::new(SCHEME, "/", "")
    }

    fn capability(&self) -> Capability {
        Capability {
            stat: true,
            read: true,
            write: true,
            write_can_multi: true,
            write_with_if_not_exists: true,
            delete: true,
            list: true,
            shared: true,
            ..Default::default()
        }
    }

    async fn create_dir(&self, _: &OperationContext, _: &str, _: OpCreateDir) -> Result<RpCreateDir> {
        unsupported()
    }

    async fn stat(&self, _: &OperationContext, path: &str, _: OpStat) -> Result<RpStat> {
        let found = self.client.get_file_info(&absolute(path)).await.map_err(lifted)?;
        let mut metadata =
            if found.isdir { MetadataBuilder::dir() } else { MetadataBuilder::file(found.length as u64) };
        if let Ok(modified) = Timestamp::from_millisecond(found.modification_time as i64) {
            metadata.last_modified(modified);
        }
        Ok(RpStat::new(metadata.build()))
    }

    fn read(&self, _: &OperationContext, path: &str, _: OpRead) -> Result<Self::Reader> {
        Ok(oio::PositionReader::new(Reader { client: self.client.clone(), path: absolute(path) }))
    }

    fn write(&self, _: &OperationContext, path: &str, args: OpWrite) -> Result<Self::Writer> {
        Ok(Writer {
            client: self.client.clone(),
            path: absolute(path),
            overwrite: !args.if_not_exists(),
            content: Vec::new(),
        })
    }

    fn delete(&self, _: &OperationContext) -> Result<Self::Deleter> {
        Ok(oio::OneShotDeleter::new(Deleter { client: self.client.clone() }))
    }

    fn list(&self, _: &OperationContext, path: &str, _: OpList) -> Result<Self::Lister> {
        Ok(Lister { entries: self.client.list_status_iter(&absolute(path), false) })
    }

    fn copy(&self, _: &OperationContext, _: &str, _: &str, _: OpCopy) -> Result<Self::Copier> {
        unsupported()
    }

    async fn rename(&self, _: &OperationContext, _: &str, _: &str, _: OpRename) -> Result<RpRename> {
        unsupported()
    }

    async fn presign(&self, _: &OperationContext, _: &str, _: OpPresign) -> Result<RpPresign> {
        unsupported()
    }
}

struct Reader {
    client: Arc<Client>,
    path: String,
}

impl oio::PositionRead for Reader {
    type Handle = FileReader;

    async fn open(&self) -> Result<FileReader> {
        self.client.read(&self.path).await.map_err(lifted)
    }

    async fn read_at(file: &FileReader, offset: u64, size: usize) -> Result<Buffer> {
        let length = file.file_length();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(length);
        let size = size.min(length - offset);
        if size == 0 {
            return Ok(Buffer::new());
        }
        file.read_range(offset, size).await.map(Buffer::from).map_err(lifted)
    }
}

/// Writes a file at its end, each time it is asked to as a whole: one that broke off cannot be continued. A file is
/// visible while it is written. One that is never closed is cut off where the NameNode sees that its writer is gone; no
/// commit names it.
struct Writer {
    client: Arc<Client>,
    path: String,
    overwrite: bool,
    content: Vec<Buffer>,
}

impl oio::Write for Writer {
    async fn write(&mut self, content: Buffer) -> Result<()> {
        self.content.push(content);
        Ok(())
    }

    async fn close(&mut self) -> Result<Metadata> {
        let options = WriteOptions::default().overwrite(self.overwrite).create_parent(true);
        let mut file = self.client.create(&self.path, options).await.map_err(|err| match &err {
            // Another client is writing it now.
            HdfsError::RPCError(class, _) if class.ends_with("AlreadyBeingCreatedException") => {
                let kind = if self.overwrite { ErrorKind::Unexpected } else { ErrorKind::AlreadyExists };
                Error::new(kind, err.to_string()).with_temporary(self.overwrite)
            }
            _ => lifted(err),
        })?;
        let mut written = 0;
        for part in self.content.iter().flat_map(|content| content.clone()) {
            written += part.len() as u64;
            file.write_bytes(part).await.map_err(lifted)?;
        }
        // On the DataNodes' disks, not only in their memory.
        file.hsync().await.map_err(lifted)?;
        file.close().await.map_err(lifted)?;
        Ok(MetadataBuilder::file(written).build())
    }

    async fn abort(&mut self) -> Result<()> {
        self.content.clear();
        Ok(())
    }
}

struct Lister {
    entries: ListStatusIterator,
}

impl oio::List for Lister {
    async fn next(&mut self) -> Result<Option<oio::Entry>> {
        match self.entries.next().await {
            None | Some(Err(HdfsError::FileNotFound(_))) => Ok(None),
            Some(Err(err)) => Err(lifted(err)),
            Some(Ok(found)) => {
                let path = found.path.trim_start_matches('/');
                Ok(Some(match found.isdir {
                    true => oio::Entry::new(&format!("{path}/"), MetadataBuilder::dir().build()),
                    false => oio::Entry::new(path, MetadataBuilder::file(found.length as u64).build()),
                }))
            }
        }
    }
}

struct Deleter {
    client: Arc<Client>,
}

impl oio::OneShotDelete for Deleter {
    async fn delete_once(&self, path: String, _: OpDelete) -> Result<()> {
        self.client.delete(&absolute(&path), false).await.map(drop).map_err(lifted)
    }
}
