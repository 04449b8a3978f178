//! Statements meet the service: who asks, in which session, and what is answered.

mod accounts;
mod admin;
mod backup;
mod ddl;
mod frontend;
mod information_schema;
mod listing;
mod load;
mod maintenance;
mod outcome;
mod processlist;
mod raw_backup;
mod rawkv;
mod reading;
mod repository;
mod session;
mod show;
mod variables;

pub use self::accounts::{Accounts, ROOT};
pub use self::frontend::{Frontend, Service};
pub use self::listing::Listing;
pub use self::maintenance::run as maintain;
pub use self::outcome::Outcome;
pub use self::processlist::{Process, ProcessEntry, ProcessList, ProcessState};
pub use self::repository::watch as watch_repositories;
pub use self::session::{Executor, Session, Sessions, StatementContext, interrupted};
pub use self::variables::{SERVER_VERSION, Variables};
