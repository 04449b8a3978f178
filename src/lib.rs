//! Holdfast: a SQL-fronted backup and restore service in the style of a StarRocks FE.

pub mod catalog;
pub mod clock;
pub mod error;
pub mod fe;
pub mod mysql;
pub mod query;
pub mod sql;
pub mod types;
