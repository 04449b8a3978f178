//! The SHOWs that are about the session, or the same for everybody.

use super::{Diagnostic, Session};
use crate::error::{Error, Result};
use crate::fe::variables::of_scope;
use crate::fe::{Listing, ROOT};
use crate::sql::{Show, UserName};
use crate::types::{Entity, Kind};

/// How much of a statement SHOW PROCESSLIST shows without FULL.
const PROCESS_INFO: usize = 100;

impl Session {
    /// The SHOWs that sessions answer.
    pub(super) fn show(&self, show: &Show) -> Result<Option<Listing>> {
        Ok(Some(match show {
            Show::Variables { scope, filter } => {
                let globals = self.shared.globals.load();
                let mut listing = Listing::new(&["Variable_name", "Value"]);
                for (name, value) in of_scope(*scope, &self.variables, &globals).all() {
                    listing.row([name, &value]);
                }
                listing.filter(filter.as_ref())?
            }
            Show::Status { filter, .. } => {
                let (uptime, connections) = self.shared.uptime_and_connections();
                let processes = self.shared.processes.all();
                let running = processes.iter().filter(|process| process.state().statement.is_some()).count();
                let mut listing = Listing::new(&["Variable_name", "Value"]);
                listing.row(["Threads_connected", &connections.to_string()]);
                listing.row(["Threads_running", &running.to_string()]);
                listing.row(["Uptime", &uptime.to_string()]);
                listing.filter(filter.as_ref())?
            }
            Show::Processlist { full } => self.show_processes(*full),
            Show::Warnings { errors_only, page } => {
                let mut listing = Listing::new(&["Level", "Code", "Message"]);
                for Diagnostic { level, number, message } in &self.diagnostics {
                    if !errors_only || *level == "Error" {
                        listing.row([level, &number.to_string(), message]);
                    }
                }
                listing.page(page)?
            }
            Show::WarningCount { errors_only } => {
                let name = if *errors_only { "error_count" } else { "warning_count" };
                let mut listing = Listing::new(&[&format!("@@session.{name}")]);
                listing.row([&self.variables.number(name).to_string()]);
                listing
            }
            Show::Engines => {
                let mut listing = Listing::new(&["Engine", "Support", "Comment", "Transactions", "XA", "Savepoints"]);
                listing.row(["OLAP", "DEFAULT", "Parquet tablets on backends", "NO", "NO", "NO"]);
                listing
            }
            Show::CharacterSet(filter) => {
                let mut listing = Listing::new(&["Charset", "Description", "Default collation", "Maxlen"]);
                listing.row(["utf8mb4", "UTF-8 Unicode", "utf8mb4_general_ci", "4"]);
                listing.row(["binary", "Binary pseudo charset", "binary", "1"]);
                listing.filter(filter.as_ref())?
            }
            Show::Collation(filter) => {
                let mut listing = Listing::new(&["Collation", "Charset", "Id", "Default", "Compiled", "Sortlen"]);
                listing.row(["utf8mb4_general_ci", "utf8mb4", "45", "Yes", "Yes", "1"]);
                listing.row(["binary", "binary", "63", "Yes", "Yes", "1"]);
                listing.filter(filter.as_ref())?
            }
            Show::Grants(user) => self.show_grants(user.as_ref())?,
            Show::Catalogs(filter) => {
                let mut listing = Listing::new(&["Catalog", "Type", "Comment"]);
                listing.row(["default_catalog", "Internal", "The databases of this server"]);
                listing.filter(filter.as_ref())?
            }
            Show::Plugins => {
                let mut listing = Listing::new(&["Name", "Status", "Type", "Library", "License"]);
                for name in ["mysql_native_password", "caching_sha2_password"] {
                    let texts = [name, "ACTIVE", "AUTHENTICATION"].map(|text| Some(text.to_owned()));
                    listing.push([&texts[..], &[None, Some("Apache-2.0".to_owned())]].concat());
                }
                listing
            }
            Show::Users => {
                let mut listing = Listing::new(&["User"]);
                for name in self.shared.accounts.names() {
                    listing.row([&format!("'{name}'@'%'")]);
                }
                listing
            }
            Show::Triggers => Listing::new(&[
                "Trigger",
                "Event",
                "Table",
                "Statement",
                "Timing",
                "Created",
                "sql_mode",
                "Definer",
                "character_set_client",
                "collation_connection",
                "Database Collation",
            ]),
            Show::Events => Listing::new(&[
                "Db",
                "Name",
                "Definer",
                "Time zone",
                "Type",
                "Execute at",
                "Interval value",
                "Interval field",
                "Starts",
                "Ends",
                "Status",
                "Originator",
                "character_set_client",
                "collation_connection",
                "Database Collation",
            ]),
            Show::ProcedureStatus | Show::FunctionStatus => Listing::new(&[
                "Db",
                "Name",
                "Type",
                "Definer",
                "Modified",
                "Created",
                "Security_type",
                "Comment",
                "character_set_client",
                "collation_connection",
                "Database Collation",
            ]),
            Show::Databases(_)
            | Show::Tables { .. }
            | Show::TableStatus { .. }
            | Show::Columns { .. }
            | Show::CreateTable(_)
            | Show::CreateDatabase(_)
            | Show::CreateRepository(_)
            | Show::Partitions { .. }
            | Show::Tablets { .. }
            | Show::Index { .. }
            | Show::Backends
            | Show::Frontends
            | Show::FrontendConfig(_)
            | Show::Repositories(_)
            | Show::Backup { .. }
            | Show::Restore { .. }
            | Show::BackupRaw(_)
            | Show::VerifyBackupRaw { .. }
            | Show::Snapshot { .. } => return Ok(None),
        }))
    }

    /// Root sees all connections, others their own.
    fn show_processes(&self, full: bool) -> Listing {
        let now = self.shared.clock.now();
        let mut listing =
            Listing::new(&["Id", "User", "Host", "Db", "Command", "ConnectionStartTime", "Time", "State", "Info"]);
        for process in self.shared.processes.all() {
            let state = process.state();
            if state.user != self.user && &*self.user != ROOT {
                continue;
            }
            let command = if state.statement.is_some() { "Query" } else { "Sleep" };
            let info = state.statement.map(|text| {
                let chars = if full { usize::MAX } else { PROCESS_INFO };
                text.chars().take(chars).collect()
            });
            listing.push(vec![
                Some(process.id.to_string()),
                Some(state.user.to_string()),
                Some(process.peer.to_string()),
                state.database.map(String::from),
                Some(command.to_owned()),
                Some(process.connected.to_string()),
                Some(((now.0 - state.since.0).max(0) / 1000).to_string()),
                Some(String::new()),
                info,
            ]);
        }
        listing
    }

    fn show_grants(&self, user: Option<&UserName>) -> Result<Listing> {
        let name = user.map_or(&self.user, |user| &user.user);
        if self.shared.accounts.lookup(name).is_none() {
            return Err(Error::NotFound(Entity::new(Kind::User, name)));
        }
        let identity = format!("'{name}'@'%'");
        let grant = if &**name == ROOT {
            format!("GRANT ALL ON *.* TO {identity}")
        } else {
            format!("GRANT SELECT ON *.* TO {identity}")
        };
        let mut listing = Listing::new(&["UserIdentity", "Grants"]);
        listing.row([&identity, &grant]);
        Ok(listing)
    }
}
