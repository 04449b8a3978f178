//! Names in a backup, as BR and TiKV give them.

/// The root of a backup; written last.
pub const META: &str = "backupmeta";
/// The same for people, written by `br debug decode`.
pub const META_JSON: &str = "backupmeta.json";
