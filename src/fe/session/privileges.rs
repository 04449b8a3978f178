//! What a user may do. Until there are privileges, everyone may read and only root may do more.

use std::ops::ControlFlow;

use sqlparser::ast::{Query, TableFactor, Visitor};

use crate::error::{Error, Result};
use crate::fe::ROOT;
use crate::sql::{self, Show, Statement};
use crate::types::Name;

/// Refuses a statement that a user may not run.
pub(super) fn check(user: &Name, statement: &Statement) -> Result<()> {
    match statement {
        Statement::Query(query) => {
            // It reads files of the server.
            if uses_files(query) { need_root(user, "FILE", "SYSTEM") } else { Ok(()) }
        }
        Statement::Show(Show::Users) => need_root(user, "GRANT", "SYSTEM"),
        Statement::Show(Show::BackupRaw(_) | Show::VerifyBackupRaw { .. }) => need_root(user, "REPOSITORY", "SYSTEM"),
        Statement::Show(Show::FrontendConfig(_)) => need_root(user, "OPERATE", "SYSTEM"),
        Statement::Show(Show::Grants(Some(whose))) if whose.user != *user => need_root(user, "GRANT", "SYSTEM"),
        Statement::Show(_)
        | Statement::Use(_)
        | Statement::Begin { .. }
        | Statement::Commit
        | Statement::Rollback
        | Statement::Savepoint
        | Statement::RollbackToSavepoint
        | Statement::LockTables
        | Statement::UnlockTables
        | Statement::Prepare { .. }
        | Statement::Execute { .. }
        | Statement::Deallocate { .. }
        // These look closer themselves.
        | Statement::Set(_)
        | Statement::Kill { .. } => Ok(()),
        Statement::Insert(insert) => need_root(user, "INSERT", &format!("TABLE {}", insert.table)),
        Statement::Delete(delete) => need_root(user, "DELETE", &format!("TABLE {}", delete.table)),
        Statement::CreateDatabase { .. } => need_root(user, "CREATE DATABASE", "CATALOG default_catalog"),
        Statement::DropDatabase { name, .. } => need_root(user, "DROP", &format!("DATABASE {name}")),
        Statement::CreateTable(create) => need_root(user, "CREATE TABLE", &format!("TABLE {}", create.table)),
        Statement::DropTables { tables, .. } => {
            tables.iter().try_for_each(|table| need_root(user, "DROP", &format!("TABLE {table}")))
        }
        Statement::Truncate { table, .. } => need_root(user, "DELETE", &format!("TABLE {table}")),
        Statement::CreateRepository(_)
        | Statement::AlterRepository { .. }
        | Statement::DropRepository(_)
        | Statement::Backup(_)
        | Statement::Restore(_)
        | Statement::BackupRaw(_)
        | Statement::RestoreRaw(_)
        | Statement::CancelBackup { .. }
        | Statement::CancelRestore { .. } => need_root(user, "REPOSITORY", "SYSTEM"),
        Statement::AlterKeys(table) => need_root(user, "ALTER", &format!("TABLE {table}")),
        // Only its password can be altered.
        Statement::AlterUser { user: whose, .. } if whose.as_ref().is_none_or(|whose| whose.user == *user) => Ok(()),
        Statement::CreateUser { .. } | Statement::AlterUser { .. } | Statement::DropUser { .. } => {
            need_root(user, "GRANT", "SYSTEM")
        }
        Statement::AddBackends(_) | Statement::DropBackends { .. } => need_root(user, "NODE", "SYSTEM"),
        Statement::SetFrontendConfig { .. } | Statement::SetBackendConfig { .. } => {
            need_root(user, "OPERATE", "SYSTEM")
        }
    }
}

/// Refuses all but root, who has every privilege.
pub(super) fn need_root(user: &str, privilege: &str, object: &str) -> Result<()> {
    if user == ROOT {
        return Ok(());
    }
    Err(Error::AccessDenied(format!(
        "Access denied; you need (at least one of) the {privilege} privilege(s) on {object} for this operation. \
         Please ask the admin to grant permission(s) or try activating existing roles using <set [default] role>. \
         Current role(s): NONE. Inactivated role(s): NONE."
    )))
}

/// Whether a statement changes what tables hold, or which there are.
pub(super) fn changes_data(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Insert(_)
            | Statement::Delete(_)
            | Statement::CreateDatabase { .. }
            | Statement::DropDatabase { .. }
            | Statement::CreateTable(_)
            | Statement::DropTables { .. }
            | Statement::Truncate { .. }
            | Statement::Restore(_)
            | Statement::RestoreRaw(_)
    )
}

/// Whether a query reads FILES(…) anywhere.
fn uses_files(query: &Query) -> bool {
    struct Files;
    impl Visitor for Files {
        type Break = ();

        fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
            if sql::files_call(factor).is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    sql::walk(query, &mut Files).is_break()
}
