//! Ranges of raw keys and values, and backups of them in the format of TiDB's BR.
//!
//! [`store`] is where a BE keeps them. All else is a function of bytes, files and arguments: [`sst`] is the files of a
//! backup, [`backupmeta`] lists them, [`layout`] names them, [`storage`] says where they are; [`key`] and [`value`] say
//! what is in them, [`verify`] whether it is right, and [`debug`] is what `holdfast br debug` does with a directory.
//! [`memory`] keeps those who do it from using too much together.

pub mod backupmeta;
pub mod checksum;
pub mod debug;
pub mod key;
pub mod layout;
pub mod memory;
pub mod sst;
pub mod storage;
pub mod store;
pub mod value;
pub mod verify;

#[cfg(test)]
mod tests;
