//! Secrets of the catalog: encrypted in their records, with a key that is in a file of its own.
//!
//! Who copies the catalog alone, or reads its pages, learns no secret. Who has the whole directory does.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::error::{Error, Result};

/// The key's file in the catalog's directory.
const FILE: &str = "secret.key";

const KEY_BYTES: usize = 32;

/// Encrypts and decrypts with the key of one catalog: AES-256-GCM, a random nonce before each text.
pub struct Vault {
    key: LessSafeKey,
    random: SystemRandom,
    path: PathBuf,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Vault {
    /// Reads the key, or makes one, synced, if `may_create`. Blocks.
    pub fn open(dir: &Path, may_create: bool) -> Result<Self> {
        let path = dir.join(FILE);
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(mut file) => drop(file.read_to_end(&mut bytes).map_err(Error::io("read", &path))?),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound && may_create => bytes = create(dir, &path)?,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Config(format!(
                    "{} is missing; it has the key of the credentials in the catalog: put it back from a copy of the data \
                     directory",
                    path.display()
                )));
            }
            Err(err) => return Err(Error::io("open", &path)(err)),
        }
        let wrong = |_| Error::Corrupt {
            what: "key file",
            path: path.display().to_string(),
            message: format!("it has {} bytes, not {KEY_BYTES}", bytes.len()),
        };
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).map_err(wrong)?);
        Ok(Self { key, random: SystemRandom::new(), path })
    }

    /// Encrypts a text that is to be stored under `name`, and only there.
    pub fn lock(&self, name: &[u8], text: &[u8]) -> Result<Vec<u8>> {
        let failed = |_| Error::internal("encryption failed");
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(failed)?;
        let mut sealed = text.to_vec();
        let aad = Aad::from(name);
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).map_err(failed)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Decrypts what [`Vault::lock`] made for the same name.
    pub fn unlock(&self, name: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let wrong = || Error::Corrupt {
            what: "catalog record",
            path: name.escape_ascii().to_string(),
            message: format!("{} is not the key that it was encrypted with", self.path.display()),
        };
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
        let mut text = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.key.open_in_place(nonce, Aad::from(name), &mut text).map_err(|_| wrong())?.len();
        text.truncate(length);
        Ok(text)
    }
}

/// Makes a key. It is whole, and its name on disk, before it has a name.
fn create(dir: &Path, path: &Path) -> Result<Vec<u8>> {
    let mut key = vec![0; KEY_BYTES];
    SystemRandom::new().fill(&mut key).map_err(|_| Error::internal("no random bytes"))?;
    let fresh = dir.join(format!("{FILE}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(Error::io("create", &fresh))?;
    file.write_all(&key).and_then(|()| file.sync_all()).map_err(Error::io("write", &fresh))?;
    std::fs::rename(&fresh, path).map_err(Error::io("rename", &fresh))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", dir))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_readable_under_its_name_with_its_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path(), true).unwrap();
        let sealed = vault.lock(b"one", b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(Vault::open(dir.path(), false).unwrap().unlock(b"one", &sealed).unwrap(), b"hunter2");
        assert!(vault.unlock(b"two", &sealed).is_err());
        assert!(vault.unlock(b"one", &sealed[..sealed.len() - 1]).is_err());
        std::fs::remove_file(dir.path().join(FILE)).unwrap();
        assert!(Vault::open(dir.path(), false).unwrap_err().report().contains("secret.key is missing"));
        assert!(Vault::open(dir.path(), true).unwrap().unlock(b"one", &sealed).is_err());
    }
}
