use std::collections::BTreeSet;
use std::sync::Arc;

use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::catalog::{Catalog, PasswordHash, User};
use crate::error::{Error, Result};
use crate::sql::{Identified, UserName};
use crate::types::{Entity, Kind, Name};

/// The user who may do everything, who always exists and never loses that.
pub const ROOT: &str = "root";

/// The plugins that a stored password serves, both at once.
const PLUGINS: [&str; 2] = ["mysql_native_password", "caching_sha2_password"];

/// Who may log in. The catalog keeps hashes, never passwords.
///
/// A user without a password can log in only from the same machine. Users are known by name alone: the host of
/// `'user'@'host'` must be `%`.
#[derive(Clone)]
pub struct Accounts {
    catalog: Arc<Catalog>,
}

impl Accounts {
    /// The accounts of a catalog.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }

    /// The user of a name. `root` exists before anyone has set its password.
    pub fn lookup(&self, user: &str) -> Option<Arc<User>> {
        if let Some(user) = self.catalog.image().users.get(user) {
            return Some(user.clone());
        }
        let root = || User { name: Name::new(ROOT).expect("it is a name"), password: None };
        (user == ROOT).then(|| Arc::new(root()))
    }

    /// All users.
    pub fn names(&self) -> BTreeSet<Name> {
        let root = Name::new(ROOT).expect("it is a name");
        self.catalog.image().users.keys().cloned().chain([root]).collect()
    }

    /// Creates a user, durably. `false` if there is one already and `if_not_exists`.
    pub async fn create(&self, user: &UserName, if_not_exists: bool, identified: Option<&Identified>) -> Result<bool> {
        check_host(user)?;
        let password = identified.map(hash_identified).transpose()?.flatten();
        self.catalog
            .commit(|draft| {
                if &*user.user == ROOT || draft.image().users.contains_key(&user.user) {
                    let taken = || Error::AlreadyExists(Entity::new(Kind::User, &user.user));
                    return if if_not_exists { Ok(false) } else { Err(taken()) };
                }
                draft.put_user(User { name: user.user.clone(), password })?;
                Ok(true)
            })
            .await
    }

    /// Gives a user another password, durably. `false` if there is no such user and `if_exists`.
    pub async fn alter(&self, user: &UserName, if_exists: bool, identified: &Identified) -> Result<bool> {
        check_host(user)?;
        let password = hash_identified(identified)?;
        self.put_password(&user.user, if_exists, password).await
    }

    /// Gives a user another password, durably; an empty one is none.
    pub async fn set_password(&self, user: &Name, password: &str) -> Result<()> {
        self.put_password(user, false, hash(password)).await.map(drop)
    }

    /// Drops a user, durably. Its connections stay until they end. `false` if there is none and `if_exists`.
    pub async fn drop(&self, user: &UserName, if_exists: bool) -> Result<bool> {
        check_host(user)?;
        if &*user.user == ROOT {
            return Err(Error::Refused(format!("Can not drop user {user}: it is the administrator")));
        }
        self.catalog
            .commit(|draft| {
                if !draft.image().users.contains_key(&user.user) {
                    return if if_exists { Ok(false) } else { Err(unknown(&user.user)) };
                }
                draft.drop_user(&user.user);
                Ok(true)
            })
            .await
    }

    async fn put_password(&self, user: &Name, if_exists: bool, password: Option<PasswordHash>) -> Result<bool> {
        self.catalog
            .commit(|draft| {
                if &**user != ROOT && !draft.image().users.contains_key(user) {
                    return if if_exists { Ok(false) } else { Err(unknown(user)) };
                }
                draft.put_user(User { name: user.clone(), password })?;
                Ok(true)
            })
            .await
    }
}

fn unknown(user: &Name) -> Error {
    Error::NotFound(Entity::new(Kind::User, user))
}

fn check_host(user: &UserName) -> Result<()> {
    if user.host == "%" {
        return Ok(());
    }
    Err(Error::Unsupported(format!("host '{}' of user {user}: users are known by name alone; use '%'", user.host)))
}

fn hash_identified(identified: &Identified) -> Result<Option<PasswordHash>> {
    match &identified.plugin {
        Some(plugin) if !PLUGINS.contains(&plugin.as_str()) => {
            Err(Error::Unsupported(format!("authentication plugin '{plugin}'; use {} or {}", PLUGINS[0], PLUGINS[1])))
        }
        _ => Ok(hash(&identified.password.0)),
    }
}

fn hash(password: &str) -> Option<PasswordHash> {
    (!password.is_empty()).then(|| PasswordHash {
        native: Sha1::digest(Sha1::digest(password)).to_vec(),
        caching: Sha256::digest(Sha256::digest(password)).to_vec(),
    })
}
