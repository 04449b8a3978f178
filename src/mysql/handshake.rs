//! The connection phase: greeting, TLS on request, and who the client is.
//!
//! ```text
//! server: greeting (capabilities, a random salt)
//! client: [SSL request; TLS]; name, plugin, scramble or nothing, database
//! server: [auth switch to the plugin that this account and client share; client: scramble]
//! server: [01 03 the scramble is right (caching_sha2_password only)]
//! server: OK, or 1045 whatever was wrong
//! ```
//!
//! Both plugins are checked against a stored double hash alone: the scramble reveals the single hash, whose hash must be
//! the stored one. So the plugin's slow path, a password in clear over TLS or RSA, is never needed, and neither what the
//! server keeps nor what it is sent suffices to log in.

use std::io;
use std::net::IpAddr;

use rand::Rng;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use super::error::Fault;
use super::packet::{Channel, Fields};
use crate::fe::Accounts;
use crate::types::Name;

/// The most bytes that a client may send in one packet before it is known.
const MAX_PACKET: usize = 64 << 10;

const NATIVE: &str = "mysql_native_password";
const CACHING: &str = "caching_sha2_password";

/// utf8mb4_general_ci, which every client knows.
pub const CHARSET: u16 = 45;

/// Capability flags.
pub mod capability {
    #![allow(missing_docs)]
    pub const LONG_PASSWORD: u32 = 1;
    pub const FOUND_ROWS: u32 = 1 << 1;
    pub const LONG_FLAG: u32 = 1 << 2;
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const SSL: u32 = 1 << 11;
    pub const TRANSACTIONS: u32 = 1 << 13;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const MULTI_STATEMENTS: u32 = 1 << 16;
    pub const MULTI_RESULTS: u32 = 1 << 17;
    pub const PS_MULTI_RESULTS: u32 = 1 << 18;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    pub const CONNECT_ATTRS: u32 = 1 << 20;
    pub const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
}

/// What the server can. LOCAL_FILES is left out because LOAD DATA is, DEPRECATE_EOF because the crate below gets it wrong.
const CAPABILITIES: u32 = {
    use capability::*;
    LONG_PASSWORD
        | FOUND_ROWS
        | LONG_FLAG
        | CONNECT_WITH_DB
        | PROTOCOL_41
        | SSL
        | TRANSACTIONS
        | SECURE_CONNECTION
        | MULTI_STATEMENTS
        | MULTI_RESULTS
        | PS_MULTI_RESULTS
        | PLUGIN_AUTH
        | CONNECT_ATTRS
        | PLUGIN_AUTH_LENENC
};

/// A client that proved who it is.
#[derive(Debug)]
pub struct Login {
    /// Its account.
    pub user: Name,
    /// What the client can.
    pub capabilities: u32,
    /// The database it wants to be in; empty for none.
    pub database: Vec<u8>,
}

/// Why there is no login.
#[derive(Debug)]
pub enum Refusal {
    /// The stream ended or broke.
    Io(io::Error),
    /// The client is to be told this.
    Fault(Fault),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The sides of one connection phase.
pub struct Handshake<'a> {
    /// Who may log in.
    pub accounts: &'a Accounts,
    /// Speaks TLS to those who ask.
    pub tls: &'a TlsAcceptor,
    /// What the server calls itself.
    pub version: &'a str,
    /// The connection's number.
    pub connection: u32,
    /// Where the client is.
    pub peer: IpAddr,
}

impl Handshake<'_> {
    /// Greets a new client and finds out who it is. The final OK is left to the caller, who may still refuse the database.
    pub async fn login(&self, mut channel: Channel) -> Result<(Channel, Login), (Option<Channel>, Refusal)> {
        let salt = salt();
        let response = match self.greet(&mut channel, &salt).await {
            Ok(response) => response,
            Err(refusal) => return Err((Some(channel), refusal)),
        };
        let response = if response.len() == 32 && flags(&response) & capability::SSL != 0 {
            let sequence = channel.sequence;
            let stream = match self.tls.accept(channel.into_stream()).await {
                Ok(stream) => stream,
                Err(error) => return Err((None, Refusal::Io(error))),
            };
            channel = Channel::new(Box::new(stream));
            channel.sequence = sequence;
            match read(&mut channel).await {
                Ok(response) => response,
                Err(refusal) => return Err((Some(channel), refusal)),
            }
        } else {
            response
        };
        let attempt = match Attempt::parse_response(&response) {
            Ok(attempt) => attempt,
            Err(fault) => return Err((Some(channel), Refusal::Fault(fault))),
        };
        match self.authenticate(&mut channel, attempt, salt, false).await {
            Ok(login) => Ok((channel, login)),
            Err(refusal) => Err((Some(channel), refusal)),
        }
    }

    /// COM_CHANGE_USER: finds out who the client is from now on. `capabilities` are those of its first login.
    pub async fn change_user(
        &self,
        channel: &mut Channel,
        payload: &[u8],
        capabilities: u32,
    ) -> Result<Login, Refusal> {
        let mut attempt = Attempt::parse_change_user(payload, capabilities).map_err(Refusal::Fault)?;
        // The proof was made for a salt of long ago, but says that there is a password: ask for another one.
        let ask = capabilities & capability::PLUGIN_AUTH != 0 && !is_empty(&attempt.proof);
        if ask {
            attempt.proof.clear();
        }
        self.authenticate(channel, attempt, salt(), ask).await
    }

    async fn greet(&self, channel: &mut Channel, salt: &[u8; 20]) -> Result<Vec<u8>, Refusal> {
        let mut greeting = vec![10];
        greeting.extend_from_slice(self.version.as_bytes());
        greeting.push(0);
        greeting.extend_from_slice(&self.connection.to_le_bytes());
        greeting.extend_from_slice(&salt[..8]);
        greeting.push(0);
        greeting.extend_from_slice(&CAPABILITIES.to_le_bytes()[..2]);
        greeting.push(CHARSET as u8);
        greeting.extend_from_slice(&super::wrap::AUTOCOMMIT.to_le_bytes());
        greeting.extend_from_slice(&CAPABILITIES.to_le_bytes()[2..]);
        greeting.push(salt.len() as u8 + 1);
        greeting.extend_from_slice(&[0; 10]);
        greeting.extend_from_slice(&salt[8..]);
        greeting.push(0);
        greeting.extend_from_slice(NATIVE.as_bytes());
        greeting.push(0);
        channel.write(&greeting).await?;
        read(channel).await
    }

    /// `ask`: for a proof, whoever it is.
    async fn authenticate(
        &self,
        channel: &mut Channel,
        attempt: Attempt,
        salt: [u8; 20],
        ask: bool,
    ) -> Result<Login, Refusal> {
        let Attempt { user, mut proof, mut plugin, database, capabilities } = attempt;
        let user_entry = self.accounts.lookup(&user);
        // An unknown user is asked for a proof too, so that nobody learns which users there are.
        let has_password = user_entry.as_ref().is_none_or(|user| user.password.is_some());
        let fitting = plugin == NATIVE || plugin == CACHING;
        let asks = has_password && capabilities & capability::PLUGIN_AUTH != 0 && (!fitting || proof.is_empty());
        if ask || asks {
            if !fitting {
                plugin = NATIVE.to_owned();
            }
            let mut switch = vec![0xfe];
            switch.extend_from_slice(plugin.as_bytes());
            switch.push(0);
            switch.extend_from_slice(&salt);
            switch.push(0);
            channel.write(&switch).await?;
            proof = read(channel).await?;
        }
        if is_empty(&proof) {
            proof.clear();
        }

        let peer = self.peer.to_canonical();
        let right = match user_entry.as_ref().map(|user| &user.password) {
            Some(Some(stored)) if plugin == CACHING => caching_matches(&proof, &salt, &stored.caching),
            Some(Some(stored)) => native_matches(&proof, &salt, &stored.native),
            Some(None) => proof.is_empty() && peer.is_loopback(),
            None => false,
        };
        let Some(user_entry) = user_entry.filter(|_| right) else {
            return Err(Refusal::Fault(Fault::access_denied(&user, !proof.is_empty())));
        };
        if plugin == CACHING && has_password {
            channel.write(&[1, 3]).await?;
        }
        Ok(Login { user: user_entry.name.clone(), capabilities, database })
    }
}

/// Some clients send a lone NUL where there is no password.
fn is_empty(proof: &[u8]) -> bool {
    matches!(proof, [] | [0])
}

/// What a client claims, and its proof.
struct Attempt {
    user: String,
    proof: Vec<u8>,
    plugin: String,
    database: Vec<u8>,
    capabilities: u32,
}

impl Attempt {
    fn parse_response(payload: &[u8]) -> Result<Self, Fault> {
        let bad = || Fault::new(1043, "08S01", "Bad handshake");
        let mut fields = Fields(payload);
        let capabilities = fields.u32().ok_or_else(bad)? & CAPABILITIES;
        if capabilities & capability::PROTOCOL_41 == 0 {
            return Err(bad());
        }
        fields.bytes(4 + 1 + 23).ok_or_else(bad)?;
        let user = fields.until_nul().ok_or_else(bad)?;
        let proof = if capabilities & capability::PLUGIN_AUTH_LENENC != 0 {
            fields.lenenc_bytes()
        } else if capabilities & capability::SECURE_CONNECTION != 0 {
            fields.u8().and_then(|len| fields.bytes(len.into()))
        } else {
            fields.until_nul()
        };
        let proof = proof.ok_or_else(bad)?.to_vec();
        let with_database = capabilities & capability::CONNECT_WITH_DB != 0 && !fields.0.is_empty();
        let database = if with_database { fields.until_nul().ok_or_else(bad)? } else { &[] };
        Self::with_plugin(user, proof, database, fields, capabilities)
    }

    fn parse_change_user(payload: &[u8], capabilities: u32) -> Result<Self, Fault> {
        let mut fields = Fields(payload);
        let user = fields.until_nul().ok_or_else(Fault::malformed)?;
        let proof = fields.u8().and_then(|len| fields.bytes(len.into())).ok_or_else(Fault::malformed)?.to_vec();
        let database = fields.until_nul().ok_or_else(Fault::malformed)?;
        // The character set; old clients end before it.
        let _ = fields.u16();
        Self::with_plugin(user, proof, database, fields, capabilities)
    }

    fn with_plugin(
        user: &[u8],
        proof: Vec<u8>,
        database: &[u8],
        mut fields: Fields<'_>,
        capabilities: u32,
    ) -> Result<Self, Fault> {
        let named = capabilities & capability::PLUGIN_AUTH != 0;
        // Some clients leave out the last NUL. Connection attributes follow, which nobody reads.
        let plugin = if named { fields.until_nul().unwrap_or(fields.0) } else { NATIVE.as_bytes() };
        let user = std::str::from_utf8(user).map_err(|_| Fault::not_utf8("the user name"))?.to_owned();
        let plugin = String::from_utf8_lossy(plugin).into_owned();
        Ok(Self { user, proof, plugin, database: database.to_vec(), capabilities })
    }
}

async fn read(channel: &mut Channel) -> Result<Vec<u8>, Refusal> {
    let packet = channel.read(MAX_PACKET).await?;
    if packet.too_large {
        return Err(Refusal::Fault(Fault::too_large()));
    }
    Ok(packet.payload)
}

fn flags(response: &[u8]) -> u32 {
    Fields(response).u32().unwrap_or(0)
}

/// Twenty random bytes without NUL, which ends it for old clients, and `$`, which some take for a separator.
fn salt() -> [u8; 20] {
    let mut rng = rand::rng();
    std::array::from_fn(|_| {
        loop {
            let byte = rng.random_range(1..128_u8);
            if byte != b'$' {
                return byte;
            }
        }
    })
}

/// mysql_native_password: SHA1(password) XOR SHA1(salt, SHA1(SHA1(password))).
fn native_matches(proof: &[u8], salt: &[u8], stored: &[u8]) -> bool {
    let mask = Sha1::new().chain_update(salt).chain_update(stored).finalize();
    proof.len() == mask.len() && Sha1::digest(xor(proof, &mask))[..] == *stored
}

/// caching_sha2_password: SHA256(password) XOR SHA256(SHA256(SHA256(password)), salt).
fn caching_matches(proof: &[u8], salt: &[u8], stored: &[u8]) -> bool {
    let mask = Sha256::new().chain_update(stored).chain_update(salt).finalize();
    proof.len() == mask.len() && Sha256::digest(xor(proof, &mask))[..] == *stored
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}
