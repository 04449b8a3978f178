use imbl::OrdMap;

use crate::error::Error;
use crate::error::Result;
use crate::sql::Scope;
use crate::types::Datum;
use crate::types::Entity;
use crate::types::Kind as EntityKind;

/// The version that clients are told: that of the MySQL whose protocol is spoken, and Holdfast's own.
pub const SERVER_VERSION: &str = concat!("8.0.33-holdfast-", env!("CARGO_PKG_VERSION"));

/// The character sets that a client may name. Text is UTF-8 in both directions, whatever it names.
const CHARSETS: [&str; 7] = ["utf8mb4", "utf8mb3", "utf8", "ascii", "latin1", "binary", "gbk"];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// ON or OFF.
    Flag,
    /// A number between two bounds.
    Number(i64, i64),
    /// Any text.
    Text,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A character set or NULL.
    Charset,
    /// Known, and not to be set.
    Fixed,
}

#[derive(Debug)]
struct Variable {
    name: &'static str,
    default: &'static str,
    kind: Kind,
}

const fn variable(name: &'static str, default: &'static str, kind: Kind) -> Variable {
    Variable { name, default, kind }
}

const ISOLATION: Kind = Kind::Choice(&["READ-UNCOMMITTED", "READ-COMMITTED", "REPEATABLE-READ", "SERIALIZABLE"]);
const POSITIVE: Kind = Kind::Number(0, i64::MAX);

/// What clients ask for and set when they connect, and Holdfast's own. Those that only say how other servers
/// optimise, log or check are taken and shown again, and change nothing.
const VARIABLES: &[Variable] = &[
    variable("auto_increment_increment", "1", Kind::Number(1, 65535)),
    variable("auto_increment_offset", "1", Kind::Number(1, 65535)),
    variable("autocommit", "ON", Kind::Flag),
    variable("character_set_client", "utf8mb4", Kind::Charset),
    variable("character_set_connection", "utf8mb4", Kind::Charset),
    variable("character_set_database", "utf8mb4", Kind::Charset),
    variable("character_set_filesystem", "utf8mb4", Kind::Charset),
    variable("character_set_results", "utf8mb4", Kind::Charset),
    variable("character_set_server", "utf8mb4", Kind::Charset),
    variable("character_set_system", "utf8mb3", Kind::Fixed),
    variable("collation_connection", "utf8mb4_general_ci", Kind::Text),
    variable("collation_database", "utf8mb4_general_ci", Kind::Text),
    variable("collation_server", "utf8mb4_general_ci", Kind::Text),
    variable("default_storage_engine", "OLAP", Kind::Text),
    variable("foreign_key_checks", "ON", Kind::Flag),
    variable("group_concat_max_len", "1024", POSITIVE),
    variable("have_openssl", "YES", Kind::Fixed),
    variable("have_profiling", "NO", Kind::Fixed),
    variable("have_query_cache", "NO", Kind::Fixed),
    variable("have_ssl", "YES", Kind::Fixed),
    variable("init_connect", "", Kind::Fixed),
    variable("interactive_timeout", "28800", POSITIVE),
    variable("license", "Apache License 2.0", Kind::Fixed),
    variable("log_bin", "OFF", Kind::Fixed),
    variable("lower_case_file_system", "OFF", Kind::Fixed),
    variable("lower_case_table_names", "0", Kind::Fixed),
    variable("max_allowed_packet", "67108864", Kind::Fixed),
    variable("max_join_size", "9223372036854775807", POSITIVE),
    variable("net_buffer_length", "16384", POSITIVE),
    variable("net_read_timeout", "60", POSITIVE),
    variable("net_write_timeout", "60", POSITIVE),
    variable("performance_schema", "OFF", Kind::Fixed),
    variable("profiling", "OFF", Kind::Flag),
    variable("protocol_version", "10", Kind::Fixed),
    variable("query_cache_size", "0", Kind::Fixed),
    variable("query_cache_type", "OFF", Kind::Fixed),
    variable("read_only", "OFF", Kind::Fixed),
    variable("sql_auto_is_null", "OFF", Kind::Flag),
    variable("sql_mode", "ONLY_FULL_GROUP_BY", Kind::Text),
    variable("sql_notes", "ON", Kind::Flag),
    variable("sql_quote_show_create", "ON", Kind::Flag),
    variable("sql_safe_updates", "OFF", Kind::Flag),
    variable("sql_select_limit", "9223372036854775807", POSITIVE),
    variable("sql_warnings", "OFF", Kind::Flag),
    variable("system_time_zone", "", Kind::Fixed),
    variable("time_zone", "SYSTEM", Kind::Text),
    variable("transaction_isolation", "REPEATABLE-READ", ISOLATION),
    variable("transaction_read_only", "OFF", Kind::Flag),
    variable("unique_checks", "ON", Kind::Flag),
    variable("version", SERVER_VERSION, Kind::Fixed),
    variable("version_comment", concat!("Holdfast ", env!("CARGO_PKG_VERSION")), Kind::Fixed),
    variable("version_compile_machine", std::env::consts::ARCH, Kind::Fixed),
    variable("version_compile_os", std::env::consts::OS, Kind::Fixed),
    variable("wait_for_jobs", "OFF", Kind::Flag),
    variable("wait_timeout", "28800", Kind::Number(1, 31_536_000)),
];

/// A variable's older names.
fn canonical(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "tx_isolation" => "transaction_isolation".to_owned(),
        "tx_read_only" => "transaction_read_only".to_owned(),
        "storage_engine" => "default_storage_engine".to_owned(),
        _ => lower,
    }
}

fn find(name: &str) -> Result<&'static Variable> {
    let name = canonical(name);
    let found = VARIABLES.iter().find(|variable| variable.name == name);
    found.ok_or_else(|| Error::NotFound(Entity::new(EntityKind::Variable, name)))
}

/// The values of all variables, of one session or for sessions to come. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// Those that differ from the defaults, as text; `None` is NULL.
    set: OrdMap<&'static str, Option<String>>,
}

impl Variables {
    /// The defaults. `time_zone` is the system's.
    pub fn new(time_zone: String) -> Self {
        Self { set: OrdMap::unit("system_time_zone", Some(time_zone)) }
    }

    /// A variable's value as SELECT shows it: flags are 0 or 1.
    pub fn get(&self, name: &str) -> Result<Datum> {
        let variable = find(name)?;
        let Some(text) = self.text(variable) else {
            return Ok(Datum::Null);
        };
        Ok(match variable.kind {
            Kind::Flag => Datum::Int(i64::from(text == "ON")),
            Kind::Number(..) => Datum::Int(text.parse().unwrap_or_default()),
            Kind::Fixed => match text {
                "ON" => Datum::Int(1),
                "OFF" => Datum::Int(0),
                _ => text.parse().map_or_else(|_| Datum::Text(text.to_owned()), Datum::Int),
            },
            Kind::Text | Kind::Choice(_) | Kind::Charset => Datum::Text(text.to_owned()),
        })
    }

    /// A flag of the table above.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_ok_and(|value| value == Datum::Int(1))
    }

    /// A number of the table above.
    pub fn number(&self, name: &str) -> u64 {
        match self.get(name) {
            Ok(Datum::Int(number)) => number.unsigned_abs(),
            _ => 0,
        }
    }

    /// Sets a variable; `None` is its default.
    pub fn set(&mut self, name: &str, value: Option<&Datum>) -> Result<()> {
        let variable = find(name)?;
        let wrong = |reason: String| Error::WrongValue { variable: variable.name.to_owned(), reason };
        if variable.kind == Kind::Fixed {
            return Err(wrong("is a read only variable".to_owned()));
        }
        let Some(value) = value else {
            self.set.remove(variable.name);
            return Ok(());
        };
        let text = value.text(crate::types::ColumnType::String);
        let refused = || wrong(format!("can't be set to the value of '{value}'"));
        let Some(text) = text else {
            // Connector/J sets character_set_results to NULL: no conversion, which is what happens anyway.
            if variable.kind != Kind::Charset {
                return Err(refused());
            }
            self.set.insert(variable.name, None);
            return Ok(());
        };
        let text = match variable.kind {
            Kind::Flag => match text.to_ascii_lowercase().as_str() {
                "1" | "on" | "true" => "ON".to_owned(),
                "0" | "off" | "false" => "OFF".to_owned(),
                _ => return Err(refused()),
            },
            Kind::Number(low, high) => {
                // MySQL's largest number does not fit, and means the same as ours.
                let number: i128 = text.trim().parse().map_err(|_| refused())?;
                number.clamp(low.into(), high.into()).to_string()
            }
            Kind::Text => text,
            Kind::Choice(choices) => {
                let choice = choices.iter().find(|choice| choice.eq_ignore_ascii_case(&text));
                (*choice.ok_or_else(refused)?).to_owned()
            }
            Kind::Charset => known_charset(&text).ok_or_else(refused)?.to_owned(),
            Kind::Fixed => return Err(refused()),
        };
        self.set.insert(variable.name, Some(text));
        Ok(())
    }

    /// SET NAMES. Without a character set, the default one.
    pub fn set_names(&mut self, charset: Option<&str>, collation: Option<&str>) -> Result<()> {
        let charset = known_charset(charset.unwrap_or("utf8mb4")).ok_or_else(|| {
            let reason = format!("can't be set to the value of '{}'", charset.unwrap_or_default());
            Error::WrongValue { variable: "character_set_client".to_owned(), reason }
        })?;
        let value = Datum::Text(charset.to_owned());
        for name in ["character_set_client", "character_set_connection", "character_set_results"] {
            self.set(name, Some(&value))?;
        }
        let collation = match collation {
            Some(collation) => collation.to_owned(),
            None if charset == "binary" => "binary".to_owned(),
            None if charset == "latin1" => "latin1_swedish_ci".to_owned(),
            None if charset == "gbk" => "gbk_chinese_ci".to_owned(),
            None => format!("{charset}_general_ci"),
        };
        self.set("collation_connection", Some(&Datum::Text(collation)))
    }

    /// All variables with their values as SHOW VARIABLES has them, by name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, String)> {
        VARIABLES.iter().map(|variable| (variable.name, self.text(variable).unwrap_or_default().to_owned()))
    }

    fn text(&self, variable: &Variable) -> Option<&str> {
        self.set.get(variable.name).map_or(Some(variable.default), Option::as_deref)
    }
}

fn known_charset(name: &str) -> Option<&'static str> {
    CHARSETS.into_iter().find(|known| known.eq_ignore_ascii_case(name))
}

/// Whose values a scope means.
pub fn of_scope<'a>(scope: Scope, session: &'a Variables, global: &'a Variables) -> &'a Variables {
    match scope {
        Scope::Session => session,
        Scope::Global => global,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_holds_its_own_defaults() {
        assert!(VARIABLES.is_sorted_by_key(|variable| variable.name));
        let mut variables = Variables::default();
        for variable in VARIABLES.iter().filter(|variable| variable.kind != Kind::Fixed) {
            variables.set(variable.name, Some(&Datum::Text(variable.default.to_owned()))).unwrap();
            assert_eq!(variables.text(variable), Some(variable.default), "{}", variable.name);
        }
    }

    #[test]
    fn values_are_checked_and_names_are_aliases() {
        let mut variables = Variables::default();
        variables.set("TX_ISOLATION", Some(&Datum::Text("read-committed".into()))).unwrap();
        assert_eq!(variables.get("transaction_isolation").unwrap(), Datum::Text("READ-COMMITTED".into()));
        variables.set("autocommit", Some(&Datum::Text("off".into()))).unwrap();
        assert_eq!(variables.get("autocommit").unwrap(), Datum::Int(0));
        variables.set("autocommit", None).unwrap();
        assert!(variables.flag("autocommit"));
        variables.set("sql_select_limit", Some(&Datum::Decimal(u64::MAX.into()))).unwrap();
        assert_eq!(variables.number("sql_select_limit"), i64::MAX as u64);
        for (name, value) in [("version", "9"), ("autocommit", "2"), ("character_set_client", "klingon")] {
            let error = variables.set(name, Some(&Datum::Text(value.into()))).unwrap_err();
            assert!(matches!(error, Error::WrongValue { .. }), "{name}: {error}");
        }
        assert!(matches!(variables.set("no_such", None), Err(Error::NotFound(_))));
    }
}
