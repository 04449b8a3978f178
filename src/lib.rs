//! Holdfast: a SQL-fronted backup and restore service in the style of a StarRocks FE.
//!
//! A client speaks the MySQL protocol to an **FE**, which knows everything and holds no rows; **BEs** hold rows and
//! decide nothing; a **repository** keeps snapshots. The README says what it is for and how to run it.
//!
//! # The rooms
//!
//! A module imports only from rooms above it; `tests/layers.rs` keeps the order.
//!
//! | # | room | holds |
//! |---|---|---|
//! | 1 | [`types`] | the words of the domain |
//! | 2 | [`error`] | one error, by who can put it right |
//! | 3 | [`clock`], [`config`] | time, chance and crashes; `fe.conf` and `be.conf` |
//! | 4 | [`sql`] | text to statements |
//! | 4 | [`catalog`] | what the FE knows, durably |
//! | 4 | [`tablet`] | what a BE keeps on disk |
//! | 4 | [`rawkv`] | ranges of raw keys, and BR's backups of them |
//! | 4 | [`repository`] | a place to keep snapshots |
//! | 5 | [`rpc`] | the contract between FE and BE |
//! | 6 | [`be`] | the worker |
//! | 7 | [`query`] | SELECT, by DataFusion over tablets |
//! | 8 | [`job`] | backup and restore |
//! | 9 | [`fe`] | statements meet the service |
//! | 10 | [`mysql`], [`http`] | the wires |
//! | 11–13 | `cli.rs`; `demo.rs`, `br.rs`; `main.rs` | the program: command line; quickstart and `br`; servers |
//!
//! # The life of a BACKUP
//!
//! `BACKUP SNAPSHOT db.s1 TO r` arrives as a packet.
//!
//! 1. [`mysql::MysqlServer`] has let the client in by a connection phase of its own; opensrv-mysql reads the command,
//!    between two wrappers that keep its faults from the client.
//! 2. [`sql::parse_each`] makes a [`sql::Statement`] of the text. Nothing of the catalog is known there: names are
//!    checked for their form only. The statement goes to the connection's [`fe::Session`].
//! 3. The session answers what is about itself; the rest goes to [`fe::Service`], which runs what changes anything in
//!    a task of its own, so that a client that goes away leaves nothing half done.
//! 4. [`job::Jobs::backup`] submits: one commit of the [`catalog`] writes the job in `PENDING` and the lock on the
//!    database, or is refused because another job holds it. The commit is on disk before anything else happens.
//! 5. `PENDING` claims the label in the [`repository`] by a lock object, and then, in the next commit, writes down
//!    every file that the tables consist of at that instant. These pins keep the files from being thrown away,
//!    whatever is loaded, dropped or merged from now on. The job runs by itself from here, and the client gets its
//!    answer, unless it waits for the end: an [`fe::Outcome`], which goes back through the session to [`mysql`] and
//!    becomes a packet there, as an error does.
//! 6. `SNAPSHOTING`: over [`rpc`] each BE confirms that it has the files, by length. One that cannot is replaced by
//!    another replica.
//! 7. `UPLOAD_SNAPSHOT` finds content that need not be sent, by SHA-256, in file lists of the repository: for each
//!    table, in those of the last snapshot that this cluster has made or restored of all of it and of the last 30 with
//!    some partitions since, unless they are marked for deletion, and in no older ones. Each object that is to be named
//!    again is looked at: content of one that is lost or too short is sent after all.
//! 8. `UPLOADING`: the BEs copy the rest to `__objects`, hashing as they read; small files share objects. Each finished
//!    file is a record, so that a restart repeats at most the objects under way.
//! 9. `SAVE_META` writes the definitions and the file list. They count for nothing yet.
//! 10. `UPLOAD_INFO` writes `__info_<timestamp>`, which names those two by hash, and always reads it back. That object
//!     is the commit: before it there is no snapshot, after it the snapshot is complete by itself. From here on the
//!     job can no longer be cancelled; its outcome can only be found out, so every new try reads before it writes.
//! 11. `FINISHED` lets go of the database; the lock object and the job's rows are removed; the job stays in the
//!     history that `information_schema.backup_jobs` shows.
//!
//! CANCEL and the deadline may end the job in steps 5 to 9. In step 10 the deadline ends it only once it is certain
//! that there is no snapshot, or when the repository still does not answer after the lock has run out.
//!
//! A process that dies between any two of these instructions resumes, at its next start, from the last record, as a new
//! attempt, once a BE has answered and could tell whether the catalog is an old copy. [`job`] draws the states and says
//! what holds at every moment.

mod acknowledged;
pub mod be;
pub mod catalog;
pub mod clock;
pub mod config;
mod disk;
pub mod error;
pub mod fe;
pub mod http;
pub mod job;
pub mod mysql;
pub mod query;
pub mod rawkv;
pub mod repository;
pub mod rpc;
pub mod sql;
pub mod tablet;
pub mod types;
