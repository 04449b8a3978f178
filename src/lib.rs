//! Holdfast: a SQL-fronted backup and restore service in the style of a StarRocks FE.

pub mod be;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod error;
pub mod fe;
pub mod http;
pub mod job;
pub mod mysql;
pub mod query;
pub mod repository;
pub mod rpc;
pub mod sql;
pub mod tablet;
pub mod types;
