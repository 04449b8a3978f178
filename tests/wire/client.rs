//! A client that knows nothing but packets.

use std::net::SocketAddr;
use std::sync::Arc;

use sha1::{Digest, Sha1};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub const NATIVE: &str = "mysql_native_password";
pub const CACHING: &str = "caching_sha2_password";

pub const CONNECT_WITH_DB: u32 = 8;
pub const PROTOCOL_41: u32 = 1 << 9;
pub const SSL: u32 = 1 << 11;
pub const SECURE_CONNECTION: u32 = 1 << 15;
pub const MULTI_STATEMENTS: u32 = 1 << 16;
pub const MULTI_RESULTS: u32 = 1 << 17;
pub const PLUGIN_AUTH: u32 = 1 << 19;
pub const DEPRECATE_EOF: u32 = 1 << 24;

pub const USUAL: u32 = PROTOCOL_41 | SECURE_CONNECTION | MULTI_STATEMENTS | MULTI_RESULTS | PLUGIN_AUTH;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

pub struct Client {
    stream: Box<dyn Wire>,
    pub sequence: u8,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Greeting {
    pub version: String,
    pub connection: u32,
    pub salt: Vec<u8>,
    pub capabilities: u32,
    pub status: u16,
    pub plugin: String,
}

/// An ERR packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    pub number: u16,
    pub state: String,
    pub message: String,
}

/// One result of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Ok { affected: u64, status: u16, warnings: u16, info: Vec<u8> },
    Rows { columns: Vec<Vec<u8>>, rows: Vec<Vec<u8>>, status: u16 },
    Err(Refused),
}

impl Client {
    pub async fn connect(address: SocketAddr) -> (Self, Greeting) {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut client = Self { stream: Box::new(stream), sequence: 0 };
        let greeting = client.read().await;
        (client, greeting_of(&greeting))
    }

    /// Logged in as root.
    pub async fn root(address: SocketAddr) -> Self {
        Self::login(address, "root", "", NATIVE).await.unwrap()
    }

    pub async fn login(address: SocketAddr, user: &str, password: &str, plugin: &str) -> Result<Self, Refused> {
        let (mut client, greeting) = Self::connect(address).await;
        let proof = proof(plugin, password, &greeting.salt);
        client.send(&response(USUAL, user, &proof, "", plugin)).await;
        client.finish_login(password, plugin).await?;
        Ok(client)
    }

    /// Answers auth switches until there is an OK or an error.
    pub async fn finish_login(&mut self, password: &str, plugin: &str) -> Result<(), Refused> {
        let mut plugin = plugin.to_owned();
        let mut seen_fast = false;
        loop {
            let packet = self.read().await;
            match packet[0] {
                0x00 => {
                    assert_eq!(
                        seen_fast,
                        plugin == CACHING && !password.is_empty(),
                        "fast authentication is announced"
                    );
                    return Ok(());
                }
                0x01 => {
                    assert_eq!(packet, [1, 3]);
                    seen_fast = true;
                }
                0xfe => {
                    let end = packet.iter().position(|byte| *byte == 0).unwrap();
                    plugin = String::from_utf8(packet[1..end].to_vec()).unwrap();
                    let salt = packet[end + 1..].strip_suffix(&[0]).unwrap();
                    let proof = proof(&plugin, password, salt);
                    self.send(&proof).await;
                }
                _ => return Err(refused(&packet)),
            }
        }
    }

    /// Goes on in TLS, without looking at the certificate.
    pub async fn start_tls(self, capabilities: u32) -> Self {
        let mut this = self;
        let mut request = (capabilities | SSL).to_le_bytes().to_vec();
        request.extend_from_slice(&[0; 28]);
        this.send(&request).await;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect("localhost".try_into().unwrap(), this.stream).await.unwrap();
        Self { stream: Box::new(stream), sequence: this.sequence }
    }

    /// Sends a packet whose number follows the last one.
    pub async fn send(&mut self, payload: &[u8]) {
        let sequence = self.sequence;
        self.send_as(sequence, payload).await;
    }

    pub async fn send_as(&mut self, mut sequence: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        let mut rest = payload;
        loop {
            let (chunk, after) = rest.split_at(rest.len().min(0xff_ffff));
            bytes.extend_from_slice(&(chunk.len() as u32).to_le_bytes()[..3]);
            bytes.push(sequence);
            bytes.extend_from_slice(chunk);
            sequence = sequence.wrapping_add(1);
            rest = after;
            if chunk.len() < 0xff_ffff {
                break;
            }
        }
        self.sequence = sequence;
        self.send_bytes(&bytes).await;
    }

    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Reads a packet, and checks that the numbers of its frames follow.
    pub async fn read(&mut self) -> Vec<u8> {
        self.try_read().await.expect("a packet, not the end")
    }

    pub async fn try_read(&mut self) -> Option<Vec<u8>> {
        let mut payload = Vec::new();
        loop {
            let mut header = [0; 4];
            self.stream.read_exact(&mut header).await.ok()?;
            assert_eq!(header[3], self.sequence, "packets are numbered one after another");
            self.sequence = self.sequence.wrapping_add(1);
            let len = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
            let start = payload.len();
            payload.resize(start + len, 0);
            self.stream.read_exact(&mut payload[start..]).await.ok()?;
            if len < 0xff_ffff {
                return Some(payload);
            }
        }
    }

    /// All bytes up to the end.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).await.unwrap();
        bytes
    }

    /// Sends a command that is answered with results.
    pub async fn command(&mut self, payload: &[u8]) -> Vec<Answer> {
        self.send_as(0, payload).await;
        self.answers().await
    }

    pub async fn query(&mut self, text: &str) -> Vec<Answer> {
        self.command(&[b"\x03", text.as_bytes()].concat()).await
    }

    /// The one answer to a query.
    pub async fn one(&mut self, text: &str) -> Answer {
        let mut answers = self.query(text).await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.pop().unwrap()
    }

    /// The texts of the one row of a query.
    pub async fn row(&mut self, text: &str) -> Vec<Option<String>> {
        match self.one(text).await {
            Answer::Rows { rows, .. } if rows.len() == 1 => texts(&rows[0]),
            other => panic!("{text}: {other:?}"),
        }
    }

    pub async fn answers(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        loop {
            let first = self.read().await;
            let answer = match first[0] {
                0x00 => ok_of(&first),
                0xff => Answer::Err(refused(&first)),
                _ => self.rows(&first).await,
            };
            let more = match &answer {
                Answer::Ok { status, .. } | Answer::Rows { status, .. } => status & 8 != 0,
                Answer::Err(_) => false,
            };
            answers.push(answer);
            if !more {
                return answers;
            }
        }
    }

    async fn rows(&mut self, count: &[u8]) -> Answer {
        let mut columns = Vec::new();
        for _ in 0..lenenc(&mut &count[..]) {
            columns.push(self.read().await);
        }
        let eof = self.read().await;
        assert_eq!((eof[0], eof.len()), (0xfe, 5));
        let mut rows = Vec::new();
        loop {
            let row = self.read().await;
            if row[0] == 0xfe && row.len() == 5 {
                let status = u16::from_le_bytes([row[3], row[4]]);
                return Answer::Rows { columns, rows, status };
            }
            if row[0] == 0xff {
                return Answer::Err(refused(&row));
            }
            rows.push(row);
        }
    }

    /// Prepares a statement; its id and number of parameters.
    pub async fn prepare(&mut self, text: &str) -> Result<(u32, u16), Refused> {
        self.prepare_columns(text).await.map(|(id, params, _)| (id, params))
    }

    /// Prepares a statement; its id, number of parameters, and the definitions of its result's columns.
    pub async fn prepare_columns(&mut self, text: &str) -> Result<(u32, u16, Vec<Vec<u8>>), Refused> {
        self.send_as(0, &[b"\x16", text.as_bytes()].concat()).await;
        let packet = self.read().await;
        if packet[0] == 0xff {
            return Err(refused(&packet));
        }
        assert_eq!(packet.len(), 12);
        let params = u16::from_le_bytes([packet[7], packet[8]]);
        let count = u16::from_le_bytes([packet[5], packet[6]]);
        for _ in 0..params {
            assert_eq!(self.read().await[..4], *b"\x03def");
        }
        if params > 0 {
            let eof = self.read().await;
            assert_eq!((eof[0], eof.len()), (0xfe, 5));
        }
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(self.read().await);
        }
        if count > 0 {
            let eof = self.read().await;
            assert_eq!((eof[0], eof.len()), (0xfe, 5));
        }
        Ok((u32::from_le_bytes(packet[1..5].try_into().unwrap()), params, columns))
    }
}

fn greeting_of(packet: &[u8]) -> Greeting {
    assert_eq!(packet[0], 10);
    let mut rest = &packet[1..];
    let version = String::from_utf8(until_nul(&mut rest)).unwrap();
    let connection = u32::from_le_bytes(rest[..4].try_into().unwrap());
    let mut salt = rest[4..12].to_vec();
    assert_eq!(rest[12], 0);
    let low = u16::from_le_bytes([rest[13], rest[14]]);
    let status = u16::from_le_bytes([rest[16], rest[17]]);
    let high = u16::from_le_bytes([rest[18], rest[19]]);
    assert_eq!(rest[20], 21);
    rest = &rest[31..];
    salt.extend_from_slice(&rest[..12]);
    assert_eq!(rest[12], 0);
    rest = &rest[13..];
    let plugin = String::from_utf8(until_nul(&mut rest)).unwrap();
    assert!(rest.is_empty());
    let capabilities = u32::from(high) << 16 | u32::from(low);
    Greeting { version, connection, salt, capabilities, status, plugin }
}

/// A handshake response.
pub fn response(capabilities: u32, user: &str, proof: &[u8], database: &str, plugin: &str) -> Vec<u8> {
    let capabilities = if database.is_empty() { capabilities } else { capabilities | CONNECT_WITH_DB };
    let mut packet = capabilities.to_le_bytes().to_vec();
    packet.extend_from_slice(&(16_u32 << 20).to_le_bytes());
    packet.push(45);
    packet.extend_from_slice(&[0; 23]);
    packet.extend_from_slice(user.as_bytes());
    packet.push(0);
    packet.push(proof.len() as u8);
    packet.extend_from_slice(proof);
    if !database.is_empty() {
        packet.extend_from_slice(database.as_bytes());
        packet.push(0);
    }
    packet.extend_from_slice(plugin.as_bytes());
    packet.push(0);
    packet
}

/// What a plugin sends for a password.
pub fn proof(plugin: &str, password: &str, salt: &[u8]) -> Vec<u8> {
    let xor = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a ^ b).collect();
    match plugin {
        _ if password.is_empty() => Vec::new(),
        NATIVE => {
            let once = Sha1::digest(password);
            let mask = Sha1::new().chain_update(salt).chain_update(Sha1::digest(once)).finalize();
            xor(&once, &mask)
        }
        CACHING => {
            let once = Sha256::digest(password);
            let mask = Sha256::new().chain_update(Sha256::digest(once)).chain_update(salt).finalize();
            xor(&once, &mask)
        }
        _ => b"something else".to_vec(),
    }
}

pub fn refused(packet: &[u8]) -> Refused {
    assert_eq!((packet[0], packet[3]), (0xff, b'#'), "{packet:?}");
    Refused {
        number: u16::from_le_bytes([packet[1], packet[2]]),
        state: String::from_utf8(packet[4..9].to_vec()).unwrap(),
        message: String::from_utf8(packet[9..].to_vec()).unwrap(),
    }
}

fn ok_of(packet: &[u8]) -> Answer {
    let mut rest = &packet[1..];
    let affected = lenenc(&mut rest);
    lenenc(&mut rest);
    let status = u16::from_le_bytes([rest[0], rest[1]]);
    let warnings = u16::from_le_bytes([rest[2], rest[3]]);
    rest = &rest[4..];
    let info = if rest.is_empty() { Vec::new() } else { lenenc_bytes(&mut rest) };
    assert!(rest.is_empty(), "nothing is behind the text");
    Answer::Ok { affected, status, warnings, info }
}

/// The values of a row of the text protocol.
pub fn texts(mut row: &[u8]) -> Vec<Option<String>> {
    let mut values = Vec::new();
    while !row.is_empty() {
        if row[0] == 0xfb {
            row = &row[1..];
            values.push(None);
        } else {
            values.push(Some(String::from_utf8(lenenc_bytes(&mut row)).unwrap()));
        }
    }
    values
}

pub fn lenenc(rest: &mut &[u8]) -> u64 {
    let len = match rest[0] {
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        small => {
            *rest = &rest[1..];
            return small.into();
        }
    };
    let mut bytes = [0; 8];
    bytes[..len].copy_from_slice(&rest[1..=len]);
    *rest = &rest[len + 1..];
    u64::from_le_bytes(bytes)
}

pub fn lenenc_bytes(rest: &mut &[u8]) -> Vec<u8> {
    let len = lenenc(rest) as usize;
    let (bytes, after) = rest.split_at(len);
    *rest = after;
    bytes.to_vec()
}

fn until_nul(rest: &mut &[u8]) -> Vec<u8> {
    let len = rest.iter().position(|byte| *byte == 0).unwrap();
    let (bytes, after) = rest.split_at(len);
    *rest = &after[1..];
    bytes.to_vec()
}

#[derive(Debug)]
struct Trusting(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
