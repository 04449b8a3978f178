//! An HTTP server for tests, in front of a real server or alone: it records requests, and answers some of them as a
//! network or a store in trouble does.
//!
//! It is reached in three ways: as the endpoint itself; as `HTTP_PROXY`, under any host's name; and as `HTTPS_PROXY`,
//! where it speaks for the hosts it was made for, with certificates of its own authority (`SSL_CERT_FILE`).
//! It runs on a thread of its own, so that a test may block.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use futures::StreamExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::{TlsAcceptor, rustls};

use super::harness::PATIENCE;
use super::servers::minio::Minio;
use super::servers::{S3, curl, minio, serves_s3};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// With the port, if the client named it.
    pub host: String,
    /// As it was sent, percent-encoded.
    pub path: String,
    /// Without `?`; empty if there is none.
    pub query: String,
    pub headers: HeaderMap,
    /// Empty if the request was passed on.
    pub body: Bytes,
    /// What it met.
    pub fault: Option<Fault>,
}

impl Request {
    /// A header's value, or an empty one.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The value of a parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.into_iter().find(|(key, _)| *key == name)?;
        Some(percent_encoding::percent_decode_str(&value.replace('+', " ")).decode_utf8().unwrap().into_owned())
    }
}

/// What can happen to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// An answer with this status, and nothing done.
    Status(u16),
    /// The connection is reset, and nothing done.
    Reset,
    /// All is done, but the connection is reset instead of an answer.
    LostAnswer,
    /// All is done after this time.
    Late(Duration),
    /// The connection is reset; all is done after this time.
    Orphan(Duration),
    /// There is never an answer.
    Stall,
    /// So many bytes of the body, and then nothing more.
    StallAfter(usize),
    /// So many bytes of the body, and then the connection ends.
    EndAfter(usize),
    /// The byte at this place of the body is another.
    WrongByte(usize),
}

/// Decides which requests meet a fault.
type Matcher = Box<dyn Fn(&Request) -> bool + Send>;

struct Rule {
    matches: Matcher,
    fault: Fault,
    times: usize,
}

type Answers = Box<dyn Fn(&Request) -> http::Response<Body> + Send + Sync>;

enum Behind {
    Server(SocketAddr),
    Nobody(Answers),
}

struct Shared {
    behind: Behind,
    tls: Option<TlsAcceptor>,
    requests: Mutex<Vec<Request>>,
    rules: Mutex<Vec<Rule>>,
    running: AtomicUsize,
    most_running: AtomicUsize,
}

pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// PEM of the authority that signed for the hosts.
    ca: String,
    _stop: oneshot::Sender<()>,
}

impl Proxy {
    /// In front of a server, given by its `http://address:port`.
    pub fn to(upstream: &str) -> Self {
        let address = upstream.strip_prefix("http://").unwrap().parse().unwrap();
        Self::start(Behind::Server(address), &[])
    }

    /// Alone. For clients that have it as `HTTPS_PROXY` it is also each of the `hosts`.
    pub fn alone(hosts: &[&str], answers: impl Fn(&Request) -> http::Response<Body> + Send + Sync + 'static) -> Self {
        Self::start(Behind::Nobody(Box::new(answers)), hosts)
    }

    fn start(behind: Behind, hosts: &[&str]) -> Self {
        let (tls, ca) = if hosts.is_empty() { (None, String::new()) } else { authority(hosts) };
        let shared = Arc::new(Shared {
            behind,
            tls,
            requests: Mutex::default(),
            rules: Mutex::default(),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let (ready, address) = std::sync::mpsc::channel();
        let serving = shared.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    () = accept(listener, serving) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address: address.recv().unwrap(), shared, ca, _stop: stop }
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Writes the certificate that clients must trust.
    pub fn write_ca(&self, file: &Path) {
        std::fs::write(file, &self.ca).unwrap();
    }

    /// The next requests that match meet a fault, so many times. Of several rules the first that matches acts.
    pub fn fail(&self, matches: impl Fn(&Request) -> bool + Send + 'static, fault: Fault, times: usize) {
        self.shared.rules.lock().unwrap().push(Rule { matches: Box::new(matches), fault, times });
    }

    /// No request meets a fault any more.
    pub fn heal(&self) {
        self.shared.rules.lock().unwrap().clear();
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many requests ran at the same time, at most.
    pub fn most_running(&self) -> usize {
        self.shared.most_running.load(Ordering::Relaxed)
    }
}

/// A certificate for the hosts, and the PEM of the authority that signed it.
fn authority(hosts: &[&str]) -> (Option<TlsAcceptor>, String) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "Authority of a test");
    let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
    let certificate = rcgen::CertificateParams::new(hosts).unwrap().signed_by(&key, &authority).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    (Some(TlsAcceptor::from(Arc::new(config))), authority.pem())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(connection(stream, shared.clone()));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let tunnel = AtomicBool::new(false);
    let stream = serve(stream, &shared, |request| {
        let connect = request.method() == Method::CONNECT;
        tunnel.fetch_or(connect, Ordering::Relaxed);
        connect.then(|| status(StatusCode::OK))
    });
    match stream.await {
        Ok(stream) if tunnel.into_inner() => {
            let Some(tls) = &shared.tls else { return };
            let Ok(stream) = tls.accept(stream).await else { return };
            if let Err(stream) = serve(stream, &shared, |_| None).await {
                let _ = stream.get_ref().0.set_zero_linger();
            }
        }
        Ok(_) => {}
        // So that dropping it resets the connection.
        Err(stream) => drop(stream.set_zero_linger()),
    }
}

/// Serves the requests of a connection; an error if it is to be reset. `first` may answer instead.
async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: S,
    shared: &Arc<Shared>,
    first: impl Fn(&http::Request<Incoming>) -> Option<http::Response<Body>>,
) -> Result<S, S> {
    let reset = AtomicBool::new(false);
    let service = service_fn(|request| {
        let (answered, reset) = (first(&request), &reset);
        Box::pin(async move {
            match answered {
                Some(answer) => Ok(answer),
                None => answer(request, shared).await.inspect_err(|_| reset.store(true, Ordering::Relaxed)),
            }
        })
    });
    let mut connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // How it ends otherwise, by the peer or in the middle of a body, nobody needs to know.
    let _ = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let stream = connection.into_parts().io.into_inner();
    if reset.into_inner() { Err(stream) } else { Ok(stream) }
}

/// One more request runs, until this is dropped.
struct Running<'a>(&'a Shared);

impl<'a> Running<'a> {
    fn new(shared: &'a Shared) -> Self {
        let running = shared.running.fetch_add(1, Ordering::Relaxed) + 1;
        shared.most_running.fetch_max(running, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn answer(request: http::Request<Incoming>, shared: &Arc<Shared>) -> io::Result<http::Response<Body>> {
    let _running = Running::new(shared);
    let (parts, body) = request.into_parts();
    let mut body = Body::new(body);
    let mut seen = Request {
        method: parts.method.clone(),
        host: parts.uri.authority().map_or_else(String::new, ToString::to_string),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers.clone(),
        body: Bytes::new(),
        fault: None,
    };
    if seen.host.is_empty() {
        seen.host = seen.header("host").to_owned();
    }
    if matches!(shared.behind, Behind::Nobody(_)) {
        seen.body = to_bytes(std::mem::take(&mut body), usize::MAX).await.map_err(io::Error::other)?;
    }
    let fault = {
        let mut rules = shared.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| rule.times > 0 && (rule.matches)(&seen));
        rule.map(|rule| {
            rule.times -= 1;
            rule.fault
        })
    };
    seen.fault = fault;
    shared.requests.lock().unwrap().push(seen.clone());

    match fault {
        Some(Fault::Status(code)) => {
            // Read, so that the client does not see its upload refused before it sees the answer.
            to_bytes(body, usize::MAX).await.map_err(io::Error::other)?;
            return Ok(status(StatusCode::from_u16(code).unwrap()));
        }
        Some(Fault::Reset) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(Fault::Stall) => return std::future::pending().await,
        Some(Fault::Late(time)) => tokio::time::sleep(time).await,
        Some(Fault::Orphan(time)) => {
            let (shared, body) = (shared.clone(), to_bytes(body, usize::MAX).await.map_err(io::Error::other)?);
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                let Behind::Server(address) = &shared.behind else { return };
                pass_on(*address, &seen, body.into()).await.unwrap();
            });
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        _ => {}
    }
    let answer = match &shared.behind {
        Behind::Nobody(answers) => answers(&seen),
        Behind::Server(address) => pass_on(*address, &seen, body).await?,
    };
    let (parts, body) = answer.into_parts();
    let body = match fault {
        Some(Fault::LostAnswer) => {
            to_bytes(body, usize::MAX).await.map_err(io::Error::other)?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Some(Fault::StallAfter(length)) => part(body, length, std::future::pending()).await?,
        // Another turn of the loop, so that what came before is sent.
        Some(Fault::EndAfter(length)) => part(body, length, tokio::task::yield_now()).await?,
        Some(Fault::WrongByte(at)) => {
            let mut bytes = to_bytes(body, usize::MAX).await.map_err(io::Error::other)?.to_vec();
            bytes[at] ^= 1;
            Body::from(bytes)
        }
        _ => body,
    };
    Ok(http::Response::from_parts(parts, body))
}

/// An answer without a body.
pub fn status(code: StatusCode) -> http::Response<Body> {
    http::Response::builder().status(code).body(Body::empty()).unwrap()
}

/// The start of a body, which fails once something has happened.
async fn part(body: Body, length: usize, then: impl Future<Output = ()> + Send + 'static) -> io::Result<Body> {
    let bytes = to_bytes(body, usize::MAX).await.map_err(io::Error::other)?;
    assert!(length < bytes.len(), "a body of {} bytes does not break after {length}", bytes.len());
    let start = futures::stream::iter([Ok(bytes.slice(..length))]);
    let end = futures::stream::once(async move {
        then.await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    Ok(Body::from_stream(start.chain(end)))
}

/// Sends a request to the server, over a connection of its own.
async fn pass_on(address: SocketAddr, request: &Request, body: Body) -> io::Result<http::Response<Body>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let uri = match request.query.as_str() {
        "" => request.path.clone(),
        query => format!("{}?{query}", request.path),
    };
    let mut sent = http::Request::new(body);
    *sent.method_mut() = request.method.clone();
    *sent.uri_mut() = uri.parse::<Uri>().unwrap();
    *sent.headers_mut() = request.headers.clone();
    for name in [header::CONNECTION, header::EXPECT] {
        sent.headers_mut().remove(name);
    }
    let answer = sender.send_request(sent).await.map_err(io::Error::other)?;
    Ok(answer.map(Body::new))
}

#[test]
fn a_proxy_passes_on_and_records() {
    let Some(minio) = Minio::shared() else { return };
    let proxy = Proxy::to(&minio.endpoint);
    let s3 = S3 { endpoint: proxy.endpoint(), ..minio.clone() };
    serves_s3(&s3);
    let requests = proxy.requests();
    assert_eq!(requests.len(), 8);
    assert_eq!((&requests[1].method, requests[1].header("if-none-match")), (&Method::PUT, "*"));
    assert_eq!(requests[4].parameter("list-type").as_deref(), Some("2"));
    assert!(requests[4].path.starts_with("/bucket-"), "{requests:?}");
    assert_eq!(proxy.most_running(), 1);
    // As a proxy for the name that a bucket has with virtual hosts.
    let bucket = s3.bucket();
    let host = format!("{bucket}.{}", minio::DOMAIN);
    let answer = curl("GET", &format!("http://{host}/none"), ["--noproxy", "", "--proxy", &proxy.endpoint()], b"");
    assert!(answer.status == 403 && answer.text().contains(&format!("<BucketName>{bucket}<")), "{answer:?}");
    assert_eq!(proxy.requests().last().unwrap().host, host);
}

#[test]
fn a_proxy_makes_trouble() {
    let Some(minio) = Minio::shared() else { return };
    let proxy = Proxy::to(&minio.endpoint);
    let s3 = S3 { endpoint: proxy.endpoint(), ..minio.clone() };
    let object = format!("/{}/object", s3.bucket());
    let get = || s3.request("GET", &object, &[], b"");
    let status = |status| Fault::Status(status);

    // Not done, and done without an answer.
    proxy.fail(|request| request.method == Method::PUT, status(503), 2);
    proxy.fail(|request| request.method == Method::PUT, Fault::Reset, 1);
    let put = |body| s3.request("PUT", &object, &[], body).status;
    assert_eq!([put(b"1"), put(b"2"), put(b"3"), get().status], [503, 503, 0, 404]);
    proxy.fail(|request| request.method == Method::PUT, Fault::LostAnswer, 1);
    assert_eq!((put(b"0123456789"), get().ok().as_slice()), (0, &b"0123456789"[..]));
    proxy.fail(|request| request.method == Method::PUT, Fault::Orphan(Duration::from_secs(1)), 1);
    assert_eq!((put(b"late"), get().ok().as_slice()), (0, &b"0123456789"[..]));
    let deadline = std::time::Instant::now() + PATIENCE;
    while get().ok() != b"late" {
        assert!(std::time::Instant::now() < deadline);
    }
    put(b"0123456789");
    // Bodies that are not what they should be. curl tells what it got before the connection ended.
    proxy.fail(|_| true, Fault::EndAfter(4), 1);
    proxy.fail(|_| true, Fault::WrongByte(4), 1);
    assert_eq!([get().text(), get().text(), get().text()], ["0123", "0123556789", "0123456789"]);
    // Nothing, for longer than the client waits.
    let patience = Duration::from_secs(1);
    let impatient = |fault| {
        proxy.fail(|_| true, fault, 1);
        let answer = curl("GET", &format!("{}{object}", proxy.endpoint()), ["--max-time", "1"], b"");
        (answer.status, answer.text())
    };
    assert_eq!(impatient(Fault::Stall), (0, String::new()));
    assert_eq!(impatient(Fault::StallAfter(5)).1, "<?xml");
    assert_eq!(impatient(Fault::Late(patience * 2)).0, 0);
    proxy.fail(|_| true, status(429), usize::MAX);
    assert_eq!([get().status, get().status], [429, 429]);
    proxy.heal();
    assert_eq!(get().status, 200);
    assert_eq!(proxy.requests().iter().filter(|request| request.fault == Some(status(429))).count(), 2);
}
