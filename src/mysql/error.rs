//! One condition, one error number: StarRocks' where it has one of its own, else MySQL's.

use crate::error::{Error, Misfit};
use crate::types::Kind;

/// The most bytes of an error's text that a client is sent.
const MAX_MESSAGE: usize = 4096;

/// An error as the protocol has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The number.
    pub number: u16,
    /// The SQLSTATE.
    pub state: &'static str,
    /// The text.
    pub message: String,
}

impl Fault {
    /// An error of the protocol itself, which no statement can cause.
    pub fn new(number: u16, state: &'static str, message: impl Into<String>) -> Self {
        Self { number, state, message: message.into() }
    }

    /// A login that failed, whatever the reason, in StarRocks' words: the client learns nothing more.
    pub fn access_denied(user: &str, using_password: bool) -> Self {
        let using = if using_password { "YES" } else { "NO" };
        Self::new(1045, "28000", format!("Access denied for user '{user}' (using password: {using})"))
    }

    /// A packet that ends too early, or has a number where none can be.
    pub fn malformed() -> Self {
        Self::new(1835, "HY000", "Malformed communication packet")
    }

    /// A command that this server does not have.
    pub fn unknown_command() -> Self {
        Self::new(1047, "08S01", "Unknown command")
    }

    /// A command longer than the server takes.
    pub fn too_large() -> Self {
        Self::new(1153, "08S01", "Got a packet bigger than 'max_allowed_packet' bytes")
    }

    /// A statement id that was never given, or was closed.
    pub fn unknown_statement(id: u32, command: &str) -> Self {
        Self::new(1243, "HY000", format!("Unknown prepared statement handler ({id}) given to {command}"))
    }

    /// Text that is not UTF-8.
    pub fn not_utf8(what: &str) -> Self {
        Self::new(1300, "HY000", format!("Invalid utf8mb4 character string in {what}"))
    }

    /// The server is going down.
    pub fn shutdown() -> Self {
        Self::new(1053, "08S01", "Server shutdown in progress")
    }

    /// The client was silent for too long.
    pub fn silent() -> Self {
        Self::new(4031, "HY000", "The client was disconnected by the server because of inactivity: see wait_timeout")
    }

    /// The ERR packet.
    pub fn packet(&self) -> Vec<u8> {
        let mut packet = vec![0xff];
        packet.extend_from_slice(&self.number.to_le_bytes());
        packet.push(b'#');
        packet.extend_from_slice(self.state.as_bytes());
        let end = self.message.floor_char_boundary(MAX_MESSAGE);
        packet.extend_from_slice(&self.message.as_bytes()[..end]);
        packet
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let (number, state) = number(error);
        Self { number, state, message: error.report() }
    }
}

/// The number and SQLSTATE of an error.
fn number(error: &Error) -> (u16, &'static str) {
    const COMMON: (u16, &str) = (5064, "42000");
    const INTERNAL: (u16, &str) = (1105, "HY000");
    match error {
        Error::Syntax { .. } | Error::Analysis(_) => (1064, "42000"),
        Error::Unsupported(_) => (1235, "42000"),
        Error::NoDatabase => (1046, "3D000"),
        Error::NotFound(entity) => match entity.kind {
            Kind::Database => (5501, "3F000"),
            Kind::Table => (5502, "42602"),
            Kind::TimeZone => (1298, "HY000"),
            Kind::CharacterSet => (1115, "42000"),
            Kind::Column => (1054, "42S22"),
            Kind::Connection => (1094, "HY000"),
            Kind::PreparedStatement => (1243, "HY000"),
            Kind::User => (1396, "HY000"),
            Kind::Variable => (1193, "HY000"),
            Kind::Backend
            | Kind::ConfigKey
            | Kind::Job
            | Kind::Label
            | Kind::Partition
            | Kind::Region
            | Kind::Repository
            | Kind::Snapshot => COMMON,
        },
        Error::AlreadyExists(entity) => match entity.kind {
            Kind::Database => (1007, "HY000"),
            Kind::Table => (1050, "42S01"),
            Kind::Column => (1060, "42S21"),
            Kind::Partition => (1517, "HY000"),
            Kind::User => (1396, "HY000"),
            Kind::Backend
            | Kind::CharacterSet
            | Kind::ConfigKey
            | Kind::Connection
            | Kind::Job
            | Kind::Label
            | Kind::PreparedStatement
            | Kind::Region
            | Kind::Repository
            | Kind::Snapshot
            | Kind::TimeZone
            | Kind::Variable => COMMON,
        },
        Error::WrongName { entity, .. } => match entity.kind {
            Kind::Database => (1102, "42000"),
            Kind::Table => (1103, "42000"),
            Kind::Column => (1166, "42000"),
            Kind::Label => (5082, "42000"),
            Kind::Backend
            | Kind::CharacterSet
            | Kind::ConfigKey
            | Kind::Connection
            | Kind::Job
            | Kind::Partition
            | Kind::PreparedStatement
            | Kind::Region
            | Kind::Repository
            | Kind::Snapshot
            | Kind::TimeZone
            | Kind::User
            | Kind::Variable => (5063, "42000"),
        },
        Error::Misfit { kind, .. } => match kind {
            Misfit::Null => (1048, "23000"),
            Misfit::NoDefault => (1364, "HY000"),
            Misfit::TooLong => (1406, "22001"),
            Misfit::OutOfRange => (1264, "22003"),
            Misfit::Overflow => (1690, "22003"),
            Misfit::WrongValue => (1366, "HY000"),
            Misfit::WrongTime => (1292, "22007"),
            Misfit::WrongTimeLiteral => (1525, "HY000"),
            Misfit::Count => (1136, "21S01"),
            Misfit::Repeated => (1110, "42000"),
            Misfit::NoPartition => (1526, "HY000"),
            Misfit::WrongDefault => (1067, "42000"),
            Misfit::UnknownKey => (1072, "42000"),
            Misfit::Operand => (1241, "21000"),
            Misfit::Rows => (1242, "21000"),
            Misfit::SameTable => (1066, "42000"),
            Misfit::Parameters => (1210, "HY000"),
            Misfit::TooManyColumns => (1117, "42000"),
            Misfit::TooManyPartitions => (1499, "HY000"),
        },
        Error::WrongValue { .. } => (1231, "42000"),
        Error::ReadOnly => (1792, "25006"),
        // MySQL's. StarRocks has 5024, which MariaDB's clients take for a number of their own, and show another text.
        Error::QueryTimeout(_) => (3024, "HY000"),
        Error::AccessDenied(_) => (5203, "42000"),
        // The state says "serialization failure", upon which drivers run a statement again.
        Error::Conflict(_) => (1213, "40001"),
        Error::Cancelled(_) => (1317, "70100"),
        Error::Refused(_) | Error::Locked { .. } | Error::Repository { .. } | Error::Config(_) => COMMON,
        Error::Backend { .. } | Error::Io { .. } | Error::Corrupt { .. } | Error::Internal(_) => INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Entity;

    #[test]
    fn starrocks_numbers_come_before_those_of_mysql() {
        let fault = Fault::from(&Error::NotFound(Entity::new(Kind::Database, "d")));
        assert_eq!((fault.number, fault.state, &*fault.message), (5501, "3F000", "Unknown database 'd'"));
        let fault = Fault::from(&Error::NotFound(Entity::new(Kind::Table, "t")));
        assert_eq!((fault.number, fault.state, &*fault.message), (5502, "42602", "Unknown table 't'"));
        let fault = Fault::from(&Error::Cancelled("Query execution was interrupted".into()));
        assert_eq!((fault.number, fault.state), (1317, "70100"));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let packet = Fault::new(1105, "HY000", "é".repeat(MAX_MESSAGE)).packet();
        assert_eq!(packet.len(), 9 + MAX_MESSAGE);
        assert!(std::str::from_utf8(&packet[9..]).is_ok());
        let packet = Fault::new(1105, "HY000", format!("x{}", "é".repeat(MAX_MESSAGE))).packet();
        assert!(std::str::from_utf8(&packet[9..]).is_ok());
    }
}
