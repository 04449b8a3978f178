//! Accepts connections, and owns the task of each.

use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use opensrv_mysql::{AsyncMysqlIntermediary, IntermediaryOptions};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::error::Fault;
use super::handshake::{Handshake, Login, Refusal, capability};
use super::packet::{Channel, ok_packet};
use super::shim::{Shim, shown};
use super::wrap::{CommandReader, Desk, Leave, ReplyWriter};
use crate::error::{Error, Result};
use crate::fe::{SERVER_VERSION, Session, Sessions};

/// How long statements may go on when the server shuts down, and how long the last words to a client may take.
const GRACE: Duration = Duration::from_secs(10);

/// How long a statement under way may take to end when the server stops.
const LAST_STATEMENT: Duration = Duration::from_secs(5);

/// What a MySQL port needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 picks a free one.
    pub address: SocketAddr,
    /// Certificate chain and key for TLS, as PEM files. Without them a certificate is made at each start.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The most connections at a time, logged in or not.
    pub max_connections: usize,
    /// How long a client may take to log in.
    pub login_deadline: Duration,
}

/// A MySQL port that listens but does not answer yet.
pub struct MysqlServer {
    listener: TcpListener,
    tls: TlsAcceptor,
    sessions: Arc<Sessions>,
    places: Arc<Semaphore>,
    login_deadline: Duration,
}

impl MysqlServer {
    /// Listens. Fails if the address is taken or the TLS files are no certificate and key.
    pub async fn bind(options: &Options, sessions: Arc<Sessions>) -> Result<Self> {
        let address = options.address.to_string();
        let listener = TcpListener::bind(options.address).await.map_err(Error::io("listen on", &address))?;
        Ok(Self {
            listener,
            tls: acceptor(options.tls.clone()).await?,
            sessions,
            places: Arc::new(Semaphore::new(options.max_connections)),
            login_deadline: options.login_deadline,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(Error::io("ask for the address of", "the MySQL port"))
    }

    /// Serves clients until `shutdown`. Then clients between two statements are sent away, the others when their
    /// statement has ended, or after ten seconds. All are gone on return.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
                Some(_) = tasks.join_next() => continue,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Mostly too many open files: it passes, but not at once.
                    tracing::warn!("accept on the MySQL port: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let connection = Connection {
                sessions: self.sessions.clone(),
                tls: self.tls.clone(),
                shutdown: shutdown.clone(),
                id: self.sessions.processes.fresh_id(),
                peer,
                login_deadline: self.login_deadline,
            };
            let place = self.places.clone().try_acquire_owned();
            tasks.spawn(async move {
                match place {
                    Ok(_place) => connection.serve(socket).await,
                    Err(_) => turn_away(socket).await,
                }
            });
        }
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, drained).await.is_err() {
            tasks.shutdown().await;
        }
    }
}

async fn turn_away(socket: TcpStream) {
    let mut channel = Channel::new(Box::new(socket));
    let fault = Fault::new(1040, "08004", "Too many connections");
    let _ = tokio::time::timeout(GRACE, channel.fail(&fault)).await;
}

struct Connection {
    sessions: Arc<Sessions>,
    tls: TlsAcceptor,
    shutdown: CancellationToken,
    id: u32,
    peer: SocketAddr,
    login_deadline: Duration,
}

impl Connection {
    async fn serve(self, socket: TcpStream) {
        // Answers are small and each is waited for.
        let _ = socket.set_nodelay(true);
        let (socket, watched) = match twice(socket) {
            Ok(sockets) => sockets,
            Err(error) => return tracing::warn!("connection {}: {error}", self.id),
        };
        let handshake = self.handshake();
        let login = tokio::select! {
            () = self.shutdown.cancelled() => return,
            login = tokio::time::timeout(self.login_deadline, handshake.login(Channel::new(Box::new(socket)))) => login,
        };
        let (mut channel, login) = match login {
            Ok(Ok(login)) => login,
            Ok(Err((channel, refusal))) => return self.refuse(channel, refusal).await,
            Err(_) => return tracing::debug!(peer = %self.peer, "no login within {:?}", self.login_deadline),
        };
        let mut session = self.sessions.open(self.id, login.user.clone(), self.peer);
        if let Err(fault) = enter(&mut session, &login) {
            let _ = tokio::time::timeout(GRACE, channel.fail(&fault)).await;
            return;
        }
        let process = session.process().clone();
        let desk = Arc::new(Desk::default());
        let commands = self.command_phase(&mut channel, &mut session, &desk, login.capabilities, &watched);
        let late = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(LAST_STATEMENT).await;
        };
        let last_words = tokio::select! {
            biased;
            // What changes something goes on in a task of its own.
            () = late => Some(Fault::shutdown()),
            () = process.ended() => {
                Some(Fault::new(1317, "70100", format!("Connection was killed{}", process.state().left)))
            }
            ended = AssertUnwindSafe(commands).catch_unwind() => match ended {
                Ok(Ok(last_words)) => last_words,
                Ok(Err(error)) => return tracing::debug!(peer = %self.peer, "connection {}: {error}", self.id),
                Err(_) => {
                    tracing::error!("bug: connection {} panicked", self.id);
                    Some(Fault::from(&Error::internal("the connection met a bug, which is in the log")))
                }
            },
        };
        if let Some(fault) = last_words {
            // Whoever is idle reads it as the answer to its next command.
            channel.sequence = if process.state().statement.is_some() { desk.sequence() } else { 1 };
            let _ = tokio::time::timeout(GRACE, channel.fail(&fault)).await;
        }
    }

    fn handshake(&self) -> Handshake<'_> {
        Handshake {
            accounts: &self.sessions.accounts,
            tls: &self.tls,
            version: SERVER_VERSION,
            connection: self.id,
            peer: self.peer.ip(),
        }
    }

    async fn refuse(&self, channel: Option<Channel>, refusal: Refusal) {
        match (channel, refusal) {
            (Some(mut channel), Refusal::Fault(fault)) => {
                tracing::info!(peer = %self.peer, "login refused: {}", fault.message);
                let _ = tokio::time::timeout(GRACE, channel.fail(&fault)).await;
            }
            (_, refusal) => tracing::debug!(peer = %self.peer, "no login: {refusal:?}"),
        }
    }

    /// Runs the crate, again after each command that begins a session anew. Returns what to tell a client that is sent
    /// away.
    async fn command_phase(
        &self,
        channel: &mut Channel,
        session: &mut Session,
        desk: &Arc<Desk>,
        capabilities: u32,
        socket: &TcpStream,
    ) -> io::Result<Option<Fault>> {
        channel.write(&ok_packet(0, 0, shown(session).status, 0, b"")).await?;
        loop {
            desk.begin(shown(session));
            let options = IntermediaryOptions {
                process_use_statement_on_query: true,
                reject_connection_on_dbname_absence: false,
            };
            let shutdown = self.shutdown.clone().cancelled_owned();
            let reader = CommandReader::new(&mut channel.input, desk.clone(), shutdown);
            let writer = ReplyWriter::new(&mut channel.output, desk.clone());
            let multi_statements = capabilities & capability::MULTI_STATEMENTS != 0;
            let shim = Shim { session, desk: desk.clone(), multi_statements, socket };
            let run = AsyncMysqlIntermediary::run_with_options(shim, reader, writer, &options).await;
            channel.sequence = desk.sequence();
            run?;
            match desk.take_leave() {
                None => return Ok(None),
                Some(Leave::Shutdown) => return Ok(Some(Fault::shutdown())),
                Some(Leave::Silent) => return Ok(Some(Fault::silent())),
                Some(Leave::Reset) => session.reset(),
                Some(Leave::ChangeUser(payload)) => {
                    let handshake = self.handshake();
                    let login = handshake.change_user(channel, &payload, capabilities);
                    let login = match tokio::time::timeout(self.login_deadline, login).await {
                        Ok(Ok(login)) => login,
                        Ok(Err(Refusal::Fault(fault))) => return channel.fail(&fault).await.map(|()| None),
                        Ok(Err(Refusal::Io(error))) => return Err(error),
                        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
                    };
                    session.change_user(login.user.clone());
                    if let Err(fault) = enter(session, &login) {
                        return channel.fail(&fault).await.map(|()| None);
                    }
                }
            }
            channel.write(&ok_packet(0, 0, shown(session).status, 0, b"")).await?;
        }
    }
}

/// A socket to speak on, and the same one to see when the client closes it.
fn twice(socket: TcpStream) -> io::Result<(TcpStream, TcpStream)> {
    let socket = socket.into_std()?;
    let watched = socket.try_clone()?;
    Ok((TcpStream::from_std(socket)?, TcpStream::from_std(watched)?))
}

/// Goes to the database that the client named when it logged in.
fn enter(session: &mut Session, login: &Login) -> std::result::Result<(), Fault> {
    if login.database.is_empty() {
        return Ok(());
    }
    let name = std::str::from_utf8(&login.database).map_err(|_| Fault::not_utf8("the database name"))?;
    session.use_database(name).map_err(|error| Fault::from(&error))
}

/// What speaks TLS 1.2 and 1.3.
async fn acceptor(files: Option<(PathBuf, PathBuf)>) -> Result<TlsAcceptor> {
    let names =
        files.as_ref().map(|(chain, key)| format!("ssl_cert {} and ssl_key {}", chain.display(), key.display()));
    let (chain, key) = match files {
        Some((chain, key)) => {
            tokio::task::spawn_blocking(move || read_pem(&chain, &key)).await.map_err(Error::internal)??
        }
        None => {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(Error::internal)?;
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(Error::internal)?;
            (vec![made.cert.der().clone()], key)
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                Error::Config(format!("{} do not belong together", names.unwrap_or_default()))
            }
            error => Error::Config(format!("{}: {error}", names.unwrap_or_default())),
        })?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

type Pem = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read_pem(chain: &std::path::Path, key: &std::path::Path) -> Result<Pem> {
    use rustls::pki_types::pem;
    let wrong = |what: &str, path: &std::path::Path, error: pem::Error| {
        let reason = match error {
            pem::Error::NoItemsFound => "it holds none in PEM form".to_owned(),
            error => error.to_string(),
        };
        Error::Config(format!("{what} {}: {reason}", path.display()))
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .and_then(|all| if all.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(all) })
        .map_err(|error| wrong("ssl_cert, a certificate,", chain, error))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong("ssl_key, a private key,", key, error))?;
    Ok((certificates, private))
}
