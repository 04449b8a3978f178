/// What is shown in a secret's place.
const MASK: &str = "***";

/// Parts of property keys whose values are secrets. Rather one key too many is masked than one too few.
const SECRET_WORDS: [&str; 8] = ["secret", "key", "password", "passwd", "pwd", "token", "credential", "sas"];

/// Whether the value of a property of this name is a secret, by the words in its name.
pub fn is_secret_key(key: &str) -> bool {
    let lower = key.to_lowercase();
    SECRET_WORDS.iter().any(|word| lower.contains(word))
}

/// A text with the password and the query of the URI in it masked; other texts as they are.
///
/// A user without a password stays, because `abfss://container@account…` has the container in that place.
pub fn mask_uri(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (place, query) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], &rest[at..=at]),
        None => (rest, ""),
    };
    let masked = match place.rsplit_once('@') {
        Some((user, host)) if has_password(user) => format!("{scheme}://{MASK}@{host}"),
        _ => format!("{scheme}://{place}"),
    };
    if query.is_empty() { masked } else { format!("{masked}{query}{MASK}") }
}

/// Whether what stands before an `@` holds a password, and not a host with a port and a path.
fn has_password(user: &str) -> bool {
    let after = user.split_once(':').map(|(_, after)| after.split('/').next().unwrap_or_default());
    after.is_some_and(|after| after.is_empty() || !after.bytes().all(|b| b.is_ascii_digit()) || !user.contains('/'))
}
