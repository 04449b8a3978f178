use std::fmt;

use arrow::array::timezone::Tz;
use chrono::{DateTime, Local, NaiveDateTime, TimeZone, Utc};
use serde::{Deserialize, Serialize};

use super::Invalid;

const BACKUP_FORMAT: &str = "%Y-%m-%d-%H-%M-%S-%3f";

/// An instant, in milliseconds since 1970 UTC.
///
/// It is shown in the system's time zone, as StarRocks does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The form of backup timestamps, `yyyy-MM-dd-HH-mm-ss-SSS`.
    pub fn backup_text(self) -> String {
        self.local().format(BACKUP_FORMAT).to_string()
    }

    /// Whether a text has the form of a backup timestamp, the milliseconds optional as in old snapshots.
    pub fn check_backup_text(text: &str) -> Result<(), Invalid> {
        let valid = NaiveDateTime::parse_from_str(text, BACKUP_FORMAT).is_ok()
            || NaiveDateTime::parse_from_str(text, "%Y-%m-%d-%H-%M-%S").is_ok();
        if valid {
            return Ok(());
        }
        Err(Invalid(format!("backup timestamp '{text}' is not of the form yyyy-MM-dd-HH-mm-ss-SSS")))
    }

    /// This instant moved by milliseconds.
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The instant as chrono has it, in UTC.
    pub fn utc(self) -> DateTime<Utc> {
        Utc.timestamp_millis_opt(self.0).single().unwrap_or_default()
    }

    fn local(self) -> DateTime<Local> {
        self.utc().with_timezone(&Local)
    }
}

/// Where a session's clock hangs: `time_zone`.
#[derive(Debug, Clone, Copy)]
pub struct Zone(Option<Tz>);

impl Zone {
    /// `SYSTEM`, an offset like `+08:00`, or a name like `Europe/Berlin`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.eq_ignore_ascii_case("SYSTEM") {
            return Ok(Self(None));
        }
        let zone = text.parse().map_err(|_| Invalid(format!("'{text}' is no time zone")))?;
        Ok(Self(Some(zone)))
    }

    /// What its clock shows at an instant.
    pub fn local(self, instant: DateTime<Utc>) -> NaiveDateTime {
        match self.0 {
            None => instant.with_timezone(&Local).naive_local(),
            Some(zone) => instant.with_timezone(&zone).naive_local(),
        }
    }

    /// When its clock shows a time; the first time if it does so twice, `None` if never.
    pub fn instant(self, local: NaiveDateTime) -> Option<DateTime<Utc>> {
        match self.0 {
            None => Local.from_local_datetime(&local).earliest().map(|time| time.to_utc()),
            Some(zone) => zone.from_local_datetime(&local).earliest().map(|time| time.to_utc()),
        }
    }
}

impl fmt::Display for Timestamp {
    /// `yyyy-MM-dd HH:mm:ss`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.local().format("%Y-%m-%d %H:%M:%S").fmt(f)
    }
}
