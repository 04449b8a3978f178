use imbl::OrdMap;

use crate::error::{Error, Result};
use crate::sql::Scope;
use crate::types::{Datum, Entity, Kind as EntityKind, Zone};

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
    /// A list of modes that change nothing that is not so anyway.
    SqlMode,
    /// A time zone.
    Zone,
    /// Its default is how things are: it can be set to nothing else.
    Constant,
    /// Known, and not to be set.
    Fixed,
}

/// The modes of `sql_mode` that drivers and dumps ask for. Those that would change what a text means are refused.
const MODES: [&str; 14] = [
    "",
    "ERROR_FOR_DIVISION_BY_ZERO",
    "IGNORE_SPACE",
    "NO_AUTO_CREATE_USER",
    "NO_AUTO_VALUE_ON_ZERO",
    "NO_DIR_IN_CREATE",
    "NO_ENGINE_SUBSTITUTION",
    "NO_TABLE_OPTIONS",
    "NO_ZERO_DATE",
    "NO_ZERO_IN_DATE",
    "ONLY_FULL_GROUP_BY",
    "STRICT_ALL_TABLES",
    "STRICT_TRANS_TABLES",
    "TRADITIONAL",
];

#[derive(Debug)]
struct Variable {
    name: &'static str,
    default: &'static str,
    kind: Kind,
    /// Why another value than the default has no effect; empty if it has one, or nobody could miss it.
    inert: &'static str,
}

const fn variable(name: &'static str, default: &'static str, kind: Kind) -> Variable {
    Variable { name, default, kind, inert: "" }
}

const fn inert(name: &'static str, default: &'static str, kind: Kind, inert: &'static str) -> Variable {
    Variable { name, default, kind, inert }
}

const ISOLATION: Kind = Kind::Choice(&["READ-UNCOMMITTED", "READ-COMMITTED", "REPEATABLE-READ", "SERIALIZABLE"]);
const POSITIVE: Kind = Kind::Number(0, i64::MAX);

const UTF8: &str = "text is UTF-8 in both directions";
const BYTES: &str = "texts compare byte by byte";
const ALONE: &str = "every statement commits by itself";
const MEMORY: &str = "all queries share query_mem_limit of fe.conf";
const LOCKS: &str = "no statement waits for a lock of another";
const CORES: &str = "every query may use all cores";

/// What clients ask for and set when they connect, and Holdfast's own. Some are there because clients set them and go
/// away if they cannot: these warn.
const VARIABLES: &[Variable] = &[
    variable("auto_increment_increment", "1", Kind::Constant),
    variable("auto_increment_offset", "1", Kind::Constant),
    inert("autocommit", "ON", Kind::Flag, ALONE),
    variable("catalog", "default_catalog", Kind::Constant),
    inert("character_set_client", "utf8mb4", Kind::Charset, UTF8),
    inert("character_set_connection", "utf8mb4", Kind::Charset, UTF8),
    inert("character_set_database", "utf8mb4", Kind::Charset, UTF8),
    inert("character_set_filesystem", "utf8mb4", Kind::Charset, UTF8),
    inert("character_set_results", "utf8mb4", Kind::Charset, UTF8),
    inert("character_set_server", "utf8mb4", Kind::Charset, UTF8),
    variable("character_set_system", "utf8mb3", Kind::Fixed),
    inert("collation_connection", "utf8mb4_general_ci", Kind::Text, BYTES),
    inert("collation_database", "utf8mb4_general_ci", Kind::Text, BYTES),
    inert("collation_server", "utf8mb4_general_ci", Kind::Text, BYTES),
    inert("default_storage_engine", "OLAP", Kind::Text, "all tables are OLAP"),
    variable("enable_insert_strict", "ON", Kind::Constant),
    inert("enable_profile", "OFF", Kind::Flag, "no profiles of queries are made"),
    inert("enable_spill", "ON", Kind::Flag, "sorts and aggregates that do not fit go to the disk in any case"),
    variable("error_count", "0", Kind::Fixed),
    inert("exec_mem_limit", "0", POSITIVE, MEMORY),
    variable("foreign_key_checks", "ON", Kind::Flag),
    inert("group_concat_max_len", "1024", POSITIVE, "GROUP_CONCAT is never cut"),
    variable("have_openssl", "YES", Kind::Fixed),
    variable("have_profiling", "NO", Kind::Fixed),
    variable("have_query_cache", "NO", Kind::Fixed),
    variable("have_ssl", "YES", Kind::Fixed),
    variable("identity", "0", Kind::Fixed),
    variable("information_schema_stats_expiry", "86400", POSITIVE),
    variable("init_connect", "", Kind::Fixed),
    inert("innodb_lock_wait_timeout", "50", POSITIVE, LOCKS),
    variable("insert_max_filter_ratio", "0", Kind::Constant),
    inert(
        "insert_timeout",
        "3600",
        POSITIVE,
        "ADMIN SET FRONTEND CONFIG (\"insert_load_default_timeout_second\" = …) is for all INSERTs",
    ),
    inert("interactive_timeout", "28800", POSITIVE, "wait_timeout is for all clients"),
    variable("last_insert_id", "0", Kind::Fixed),
    variable("license", "Apache License 2.0", Kind::Fixed),
    inert("load_mem_limit", "0", POSITIVE, MEMORY),
    inert("lock_wait_timeout", "31536000", POSITIVE, LOCKS),
    variable("log_bin", "OFF", Kind::Fixed),
    variable("lower_case_file_system", "OFF", Kind::Fixed),
    variable("lower_case_table_names", "0", Kind::Fixed),
    variable("max_allowed_packet", "67108864", Kind::Fixed),
    variable("max_connections", "", Kind::Fixed),
    inert("max_execution_time", "0", POSITIVE, "query_timeout, in seconds, is what counts"),
    inert("max_join_size", "9223372036854775807", POSITIVE, "no query is refused for its size"),
    inert("net_buffer_length", "16384", POSITIVE, "buffers are as large as they must be"),
    inert("net_read_timeout", "60", POSITIVE, "wait_timeout is what counts"),
    variable("net_write_timeout", "60", Kind::Number(1, 31_536_000)),
    inert("parallel_fragment_exec_instance_num", "1", POSITIVE, CORES),
    variable("performance_schema", "OFF", Kind::Fixed),
    inert("pipeline_dop", "0", POSITIVE, CORES),
    variable("profiling", "OFF", Kind::Constant),
    variable("protocol_version", "10", Kind::Fixed),
    variable("query_cache_size", "0", Kind::Fixed),
    variable("query_cache_type", "OFF", Kind::Fixed),
    inert("query_mem_limit", "0", POSITIVE, MEMORY),
    variable("query_timeout", "300", Kind::Number(1, 259_200)),
    variable("read_only", "OFF", Kind::Fixed),
    variable("sql_auto_is_null", "OFF", Kind::Constant),
    inert("sql_big_selects", "ON", Kind::Flag, "no query is refused for its size"),
    variable("sql_dialect", "StarRocks", Kind::Constant),
    inert("sql_log_bin", "OFF", Kind::Flag, "there is no binary log"),
    inert(
        "sql_mode",
        "ONLY_FULL_GROUP_BY",
        Kind::SqlMode,
        "only ONLY_FULL_GROUP_BY has one; statements are read, and values checked, the same way in every other mode",
    ),
    variable("sql_notes", "ON", Kind::Flag),
    variable("sql_quote_show_create", "ON", Kind::Constant),
    variable("sql_safe_updates", "OFF", Kind::Flag),
    variable("sql_select_limit", "9223372036854775807", POSITIVE),
    variable("sql_warnings", "OFF", Kind::Constant),
    variable("system_time_zone", "", Kind::Fixed),
    variable("time_zone", "SYSTEM", Kind::Zone),
    inert("transaction_isolation", "REPEATABLE-READ", ISOLATION, ALONE),
    variable("transaction_read_only", "OFF", Kind::Flag),
    variable("unique_checks", "ON", Kind::Flag),
    variable("version", SERVER_VERSION, Kind::Fixed),
    variable("version_comment", concat!("Holdfast ", env!("CARGO_PKG_VERSION")), Kind::Fixed),
    variable("version_compile_machine", std::env::consts::ARCH, Kind::Fixed),
    variable("version_compile_os", std::env::consts::OS, Kind::Fixed),
    variable("wait_for_jobs", "OFF", Kind::Flag),
    variable("wait_timeout", "28800", Kind::Number(1, 31_536_000)),
    variable("warning_count", "0", Kind::Fixed),
];

/// A variable's older names.
fn canonical(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "tx_isolation" => "transaction_isolation".to_owned(),
        "tx_read_only" => "transaction_read_only".to_owned(),
        "is_report_success" => "enable_profile".to_owned(),
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
    pub fn new(time_zone: String, max_connections: u32) -> Self {
        let own = [("system_time_zone", time_zone), ("max_connections", max_connections.to_string())];
        Self { set: own.into_iter().map(|(name, value)| (name, Some(value))).collect() }
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
            Kind::Fixed | Kind::Constant => match text {
                "ON" => Datum::Int(1),
                "OFF" => Datum::Int(0),
                _ => text.parse().map_or_else(|_| Datum::Text(text.to_owned()), Datum::Int),
            },
            Kind::Text | Kind::Choice(_) | Kind::Charset | Kind::SqlMode | Kind::Zone => Datum::Text(text.to_owned()),
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

    /// Sets a variable; `None` is its default. Returns what to warn of.
    pub fn set(&mut self, name: &str, value: Option<&Datum>) -> Result<Option<String>> {
        let variable = find(name)?;
        let wrong = |reason: String| Error::WrongValue { variable: variable.name.to_owned(), reason };
        if variable.kind == Kind::Fixed {
            return Err(wrong("is a read only variable".to_owned()));
        }
        let Some(value) = value else {
            self.set.remove(variable.name);
            return Ok(None);
        };
        let text = value.text(crate::types::ColumnType::String);
        let refused = || wrong(format!("can't be set to the value of '{value}'"));
        let Some(text) = text else {
            // Connector/J sets character_set_results to NULL: no conversion, which is what happens anyway.
            if variable.kind != Kind::Charset {
                return Err(refused());
            }
            self.set.insert(variable.name, None);
            return Ok(None);
        };
        let text = match variable.kind {
            Kind::Flag => flag(&text).ok_or_else(refused)?.to_owned(),
            Kind::Constant => {
                let same = text.eq_ignore_ascii_case(variable.default) || flag(&text) == Some(variable.default);
                let reason = || format!("can only be {}", variable.default);
                if same { variable.default.to_owned() } else { return Err(wrong(reason())) }
            }
            Kind::Number(low, high) => {
                // MySQL's largest number does not fit, and means the same as ours.
                let number: i128 = match value {
                    Datum::Double(number) if number.fract() == 0.0 => *number as i128,
                    _ => text.trim().parse().map_err(|_| refused())?,
                };
                if number < low.into() {
                    return Err(wrong(format!("can't be less than {low}")));
                }
                number.min(high.into()).to_string()
            }
            Kind::Text => text,
            Kind::Choice(choices) => {
                let choice = choices.iter().find(|choice| choice.eq_ignore_ascii_case(&text));
                (*choice.ok_or_else(refused)?).to_owned()
            }
            Kind::Charset => known_charset(&text)?.to_owned(),
            Kind::SqlMode => {
                let text = text.to_ascii_uppercase();
                if let Some(mode) = text.split(',').map(str::trim).find(|mode| !MODES.contains(mode)) {
                    return Err(wrong(format!("can't have the mode '{mode}'")));
                }
                text
            }
            Kind::Zone => match Zone::parse(&text) {
                Ok(_) => text,
                Err(_) => return Err(Error::NotFound(Entity::new(EntityKind::TimeZone, text))),
            },
            Kind::Fixed => return Err(refused()),
        };
        // The other names of UTF-8 say nothing else, and `binary` is no conversion.
        let utf8 = variable.kind == Kind::Charset && matches!(&*text, "utf8" | "utf8mb3" | "binary");
        // No mode at all takes that of GROUP BY away, which has an effect.
        let none = variable.kind == Kind::SqlMode && text.is_empty();
        let warns = !variable.inert.is_empty() && text != variable.default && !utf8 && !none;
        let warning = warns.then(|| format!("{} = '{text}' has no effect: {}", variable.name, variable.inert));
        self.set.insert(variable.name, Some(text));
        Ok(warning)
    }

    /// SET NAMES. Without a character set, the default one.
    pub fn set_names(&mut self, charset: Option<&str>, collation: Option<&str>) -> Result<Option<String>> {
        let charset = known_charset(charset.unwrap_or("utf8mb4"))?;
        let value = Datum::Text(charset.to_owned());
        let mut warning = None;
        for name in ["character_set_client", "character_set_connection", "character_set_results"] {
            warning = self.set(name, Some(&value))?;
        }
        let named = collation.is_some();
        let collation = match collation {
            Some(collation) => collation.to_owned(),
            None if charset == "binary" => "binary".to_owned(),
            None if charset == "latin1" => "latin1_swedish_ci".to_owned(),
            None if charset == "gbk" => "gbk_chinese_ci".to_owned(),
            None => format!("{charset}_general_ci"),
        };
        let of_collation = self.set("collation_connection", Some(&Datum::Text(collation)))?;
        Ok(warning.or(of_collation.filter(|_| named)))
    }

    /// Takes the value of a variable over from others.
    pub(super) fn take_over(&mut self, name: &str, others: &Self) {
        let Ok(variable) = find(name) else { return };
        match others.set.get(variable.name) {
            Some(value) => self.set.insert(variable.name, value.clone()),
            None => self.set.remove(variable.name),
        };
    }

    /// How many warnings and errors the last statement has had.
    pub(super) fn set_counts(&mut self, warnings: usize, errors: usize) {
        for (name, count) in [("warning_count", warnings), ("error_count", errors)] {
            self.set.insert(name, Some(count.to_string()));
        }
    }

    /// All variables with their values as SHOW VARIABLES has them, by name, and the older names that drivers look for.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, String)> {
        let old = ["tx_isolation", "tx_read_only"].into_iter().filter_map(|name| Some((name, find(name).ok()?)));
        let mut all: Vec<_> = VARIABLES.iter().map(|variable| (variable.name, variable)).chain(old).collect();
        all.sort_by_key(|(name, _)| *name);
        all.into_iter().map(|(name, variable)| (name, self.text(variable).unwrap_or_default().to_owned()))
    }

    fn text(&self, variable: &Variable) -> Option<&str> {
        self.set.get(variable.name).map_or(Some(variable.default), Option::as_deref)
    }
}

fn flag(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "true" => Some("ON"),
        "0" | "off" | "false" => Some("OFF"),
        _ => None,
    }
}

fn known_charset(name: &str) -> Result<&'static str> {
    let known = CHARSETS.into_iter().find(|known| known.eq_ignore_ascii_case(name));
    known.ok_or_else(|| Error::NotFound(Entity::new(EntityKind::CharacterSet, name)))
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
        let mut refused = |name: &str, value: &str| variables.set(name, Some(&Datum::Text(value.into()))).unwrap_err();
        for (name, value) in [("version", "9"), ("autocommit", "2"), ("transaction_isolation", "none")] {
            let error = refused(name, value);
            assert!(matches!(error, Error::WrongValue { .. }), "{name}: {error}");
        }
        for (name, value) in [("no_such", "1"), ("character_set_client", "klingon"), ("time_zone", "Mars")] {
            let error = refused(name, value);
            assert!(matches!(error, Error::NotFound(_)), "{name}: {error}");
        }
    }
}
