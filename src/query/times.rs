//! What MySQL's functions of dates and times do with one value.

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, Timelike, Weekday};

use crate::types::{ColumnType, Datum, Zone};

pub(super) fn naive(micros: i64) -> NaiveDateTime {
    DateTime::from_timestamp_micros(micros).unwrap_or_default().naive_utc()
}

pub(super) fn datetime(time: NaiveDateTime) -> Datum {
    Datum::DateTime(time.and_utc().timestamp_micros())
}

pub(super) fn date(day: NaiveDate) -> Datum {
    Datum::Date(day.signed_duration_since(NaiveDate::default()).num_days() as i32)
}

pub(super) fn day_of(time: NaiveDateTime) -> Datum {
    date(time.date())
}

pub(super) fn months(time: NaiveDateTime) -> i64 {
    i64::from(time.year()) * 12 + i64::from(time.month0())
}

pub(super) fn last_day(time: NaiveDateTime) -> Datum {
    let first = time.date().with_day(1).and_then(|day| day.checked_add_months(Months::new(1)));
    first.and_then(|day| day.pred_opt()).map_or(Datum::Null, date)
}

/// The number of a day's week. Of MySQL's modes, odd ones begin a week on Monday, and the others on Sunday; 0, 2, 5 and
/// 7 count from the first week that begins in the year, and the others from the first with four days in it; 0, 1, 4 and
/// 5 know a week 0, and the others take the days before week 1 and after the last to the year next to them.
pub(super) fn week(day: NaiveDate, mode: i64) -> i64 {
    let (first, whole) = (if mode & 1 == 1 { Weekday::Mon } else { Weekday::Sun }, matches!(mode & 7, 0 | 2 | 5 | 7));
    let begin = |year: i32| {
        let new_year = NaiveDate::from_ymd_opt(year, 1, 1).unwrap_or(day);
        let before = i64::from(new_year.weekday().days_since(first));
        let begins_later = if whole { before > 0 } else { before > 3 };
        new_year + chrono::Duration::days(if begins_later { 7 - before } else { -before })
    };
    let (mut start, next) = (begin(day.year()), begin(day.year() + 1));
    if mode & 2 != 0 {
        start = if day >= next {
            next
        } else if day < start {
            begin(day.year() - 1)
        } else {
            start
        };
    }
    (day - start).num_days().div_euclid(7) + 1
}

/// Whole units from one time to another.
pub(super) fn time_between(unit: &str, from: NaiveDateTime, to: NaiveDateTime) -> Result<Datum, String> {
    let micros = to.and_utc().timestamp_micros() - from.and_utc().timestamp_micros();
    let whole_months = || {
        let rest = |time: NaiveDateTime| (time.day(), time.time());
        let months = months(to) - months(from);
        match months {
            1.. if rest(to) < rest(from) => months - 1,
            ..=-1 if rest(to) > rest(from) => months + 1,
            _ => months,
        }
    };
    let second = 1_000_000;
    Ok(Datum::Int(match unit.to_ascii_uppercase().as_str() {
        "MICROSECOND" => micros,
        "SECOND" => micros / second,
        "MINUTE" => micros / (60 * second),
        "HOUR" => micros / (3600 * second),
        "DAY" => micros / (86_400 * second),
        "WEEK" => micros / (7 * 86_400 * second),
        "MONTH" => whole_months(),
        "QUARTER" => whole_months() / 3,
        "YEAR" => whole_months() / 12,
        _ => return Err(format!("unknown unit {unit}")),
    }))
}

pub(super) fn truncate_time(unit: &str, time: NaiveDateTime) -> Result<Datum, String> {
    let day = time.date();
    let midnight = |day: Option<NaiveDate>| day.and_then(|day| day.and_hms_opt(0, 0, 0));
    let first_of = |month: u32| midnight(NaiveDate::from_ymd_opt(day.year(), month, 1));
    let truncated = match unit.to_ascii_lowercase().as_str() {
        "year" => first_of(1),
        "quarter" => first_of(day.month0() / 3 * 3 + 1),
        "month" => first_of(day.month()),
        "week" => midnight(Some(day.week(Weekday::Mon).first_day())),
        "day" => midnight(Some(day)),
        "hour" => day.and_hms_opt(time.hour(), 0, 0),
        "minute" => day.and_hms_opt(time.hour(), time.minute(), 0),
        "second" => day.and_hms_opt(time.hour(), time.minute(), time.second()),
        _ => return Err(format!("unknown unit {unit}")),
    };
    Ok(truncated.map_or(Datum::Null, datetime))
}

/// Adds whole days or months; the day is clipped to the length of the month.
pub(super) fn add_days(value: &Datum, count: i64, unit: &str) -> Result<Datum, String> {
    let micros = match value {
        Datum::Date(days) => i64::from(*days) * 86_400_000_000,
        Datum::DateTime(micros) => *micros,
        Datum::Text(text) => match Datum::parse(text, ColumnType::DateTime) {
            Ok(Datum::DateTime(micros)) => micros,
            _ => return Ok(Datum::Null),
        },
        other => return Err(format!("{other} is not a date")),
    };
    let (months, days) = match unit {
        "YEAR" => (count.saturating_mul(12), 0),
        "QUARTER" => (count.saturating_mul(3), 0),
        "MONTH" => (count, 0),
        "WEEK" => (0, count.saturating_mul(7)),
        "DAY" => (0, count),
        _ => return Err(format!("unknown unit {unit}")),
    };
    let by = Months::new(u32::try_from(months.unsigned_abs()).unwrap_or(u32::MAX));
    let time = naive(micros);
    let time = if months < 0 { time.checked_sub_months(by) } else { time.checked_add_months(by) };
    let days = chrono::Duration::try_days(days);
    let moved = time.zip(days).and_then(|(time, days)| time.checked_add_signed(days)).filter(in_range);
    Ok(match (moved, value) {
        (None, _) => Datum::Null,
        (Some(time), Datum::Date(_)) => day_of(time),
        (Some(time), _) => datetime(time),
    })
}

pub(super) fn add_time(time: NaiveDateTime, count: i64, unit: &str) -> Result<Datum, String> {
    let by = match unit {
        "HOUR" => chrono::Duration::try_hours(count),
        "MINUTE" => chrono::Duration::try_minutes(count),
        "SECOND" => chrono::Duration::try_seconds(count),
        "MICROSECOND" => Some(chrono::Duration::microseconds(count)),
        _ => return Err(format!("unknown unit {unit}")),
    };
    let moved = by.and_then(|by| time.checked_add_signed(by)).filter(in_range);
    Ok(moved.map_or(Datum::Null, datetime))
}

/// MySQL's dates end with the year 9999.
fn in_range(time: &NaiveDateTime) -> bool {
    (0..=9999).contains(&time.year())
}

pub(super) fn unix_timestamp(time: NaiveDateTime, zone: Zone) -> Result<Datum, String> {
    Ok(Datum::Int(zone.instant(time).map_or(0, |time| time.timestamp().max(0))))
}

pub(super) fn from_unixtime(seconds: i64, format: &str, zone: Zone) -> Result<Datum, String> {
    match DateTime::from_timestamp(seconds, 0) {
        Some(time) if seconds >= 0 => date_format(zone.local(time), format),
        _ => Ok(Datum::Null),
    }
}

pub(super) fn date_format(time: NaiveDateTime, format: &str) -> Result<Datum, String> {
    use std::fmt::Write;
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let hour12 = (time.hour() + 11) % 12 + 1;
        let written = match rest.next() {
            Some('Y') => write!(out, "{:04}", time.year()),
            Some('y') => write!(out, "{:02}", time.year() % 100),
            Some('m') => write!(out, "{:02}", time.month()),
            Some('c') => write!(out, "{}", time.month()),
            Some('d') => write!(out, "{:02}", time.day()),
            Some('e') => write!(out, "{}", time.day()),
            Some('D') => write!(out, "{}{}", time.day(), ordinal(time.day())),
            Some('j') => write!(out, "{:03}", time.ordinal()),
            Some('H') => write!(out, "{:02}", time.hour()),
            Some('k') => write!(out, "{}", time.hour()),
            Some('h' | 'I') => write!(out, "{hour12:02}"),
            Some('l') => write!(out, "{hour12}"),
            Some('i') => write!(out, "{:02}", time.minute()),
            Some('s' | 'S') => write!(out, "{:02}", time.second()),
            Some('f') => write!(out, "{:06}", time.nanosecond() / 1000),
            Some('p') => write!(out, "{}", time.format("%p")),
            Some('T') => write!(out, "{}", time.format("%H:%M:%S")),
            Some('r') => write!(out, "{hour12:02}:{}", time.format("%M:%S %p")),
            Some('M') => write!(out, "{}", time.format("%B")),
            Some('b') => write!(out, "{}", time.format("%b")),
            Some('W') => write!(out, "{}", time.format("%A")),
            Some('a') => write!(out, "{}", time.format("%a")),
            Some('w') => write!(out, "{}", time.weekday().num_days_from_sunday()),
            Some('v') => write!(out, "{:02}", time.iso_week().week()),
            Some('x') => write!(out, "{:04}", time.iso_week().year()),
            Some(letter @ ('u' | 'U' | 'V' | 'X')) => return Err(format!("%{letter} is not supported, %v and %x are")),
            Some(other) => write!(out, "{other}"),
            None => write!(out, "%"),
        };
        written.map_err(|err| err.to_string())?;
    }
    Ok(Datum::Text(out))
}

fn ordinal(day: u32) -> &'static str {
    match (day / 10, day % 10) {
        (1, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

/// NULL if the text does not have the form.
pub(super) fn str_to_date(source: &str, format: &str) -> Result<Datum, String> {
    let mut pattern = String::new();
    let mut has_time = false;
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            pattern.push(c);
            continue;
        }
        let letter = rest.next().unwrap_or('%');
        has_time |= "HkhIlisSfpTr".contains(letter);
        pattern.push_str(match letter {
            'Y' => "%Y",
            'y' => "%y",
            'm' | 'c' => "%m",
            'd' | 'e' => "%d",
            'j' => "%j",
            'H' | 'k' => "%H",
            'h' | 'I' | 'l' => "%I",
            'i' => "%M",
            's' | 'S' => "%S",
            'f' => "%6f",
            'p' => "%p",
            'T' => "%H:%M:%S",
            'r' => "%I:%M:%S %p",
            'M' => "%B",
            'b' => "%b",
            'W' => "%A",
            'a' => "%a",
            '%' => "%%",
            other => return Err(format!("%{other} is not supported")),
        });
    }
    let parsed = match has_time {
        false => NaiveDate::parse_from_str(source, &pattern).ok().and_then(|day| day.and_hms_opt(0, 0, 0)),
        // Chrono wants minutes; MySQL takes those that are absent as 0.
        true => NaiveDateTime::parse_from_str(source, &pattern)
            .or_else(|_| NaiveDateTime::parse_from_str(&format!("{source}\u{1}0"), &format!("{pattern}\u{1}%M")))
            .ok(),
    };
    Ok(parsed.filter(in_range).map_or(Datum::Null, datetime))
}
