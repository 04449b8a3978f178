use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde::{Deserialize, Serialize};

use super::{ColumnType, Invalid};

/// One value of one of the column types: a partition bound, a default, a literal of a filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Datum {
    /// No value.
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// TINYINT to BIGINT.
    Int(i64),
    /// DOUBLE.
    Double(f64),
    /// DECIMAL, as the unscaled number; the scale is the type's.
    Decimal(i128),
    /// A number of a statement with a scale of its own, in digits: see [`Datum::exact`]. No column holds it.
    #[serde(skip)]
    Exact(String),
    /// DATE, in days since 1970-01-01.
    Date(i32),
    /// DATETIME, in microseconds since 1970-01-01 00:00:00, without a time zone.
    DateTime(i64),
    /// CHAR, VARCHAR, STRING.
    Text(String),
    /// VARBINARY.
    Bytes(#[serde(with = "serde_bytes")] Vec<u8>),
}

impl Datum {
    /// Reads a value of a type from its text, as in a quoted bound, a DEFAULT or a CSV field.
    pub fn parse(text: &str, ty: ColumnType) -> Result<Self, Invalid> {
        let wrong = || Invalid(format!("'{text}' is not a value of type {ty}"));
        let int = |low: i64, high: i64| {
            let value: i64 = text.trim().parse().map_err(|_| wrong())?;
            if (low..=high).contains(&value) { Ok(Self::Int(value)) } else { Err(wrong()) }
        };
        match ty {
            ColumnType::Boolean => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" => Ok(Self::Bool(true)),
                "false" | "0" => Ok(Self::Bool(false)),
                _ => Err(wrong()),
            },
            ColumnType::TinyInt => int(i8::MIN.into(), i8::MAX.into()),
            ColumnType::SmallInt => int(i16::MIN.into(), i16::MAX.into()),
            ColumnType::Int => int(i32::MIN.into(), i32::MAX.into()),
            ColumnType::BigInt => int(i64::MIN, i64::MAX),
            // SQL knows neither infinity nor NaN.
            ColumnType::Double => match text.trim().parse() {
                Ok(value) if f64::is_finite(value) => Ok(Self::Double(value)),
                _ => Err(wrong()),
            },
            ColumnType::Decimal { precision, scale } => parse_decimal(text.trim(), precision, scale).ok_or_else(wrong),
            ColumnType::Date => parse_date(text.trim()).map(|date| Self::Date(days(date))).ok_or_else(wrong),
            ColumnType::DateTime => parse_datetime(text.trim()).map(Self::DateTime).ok_or_else(wrong),
            ColumnType::Char(most) | ColumnType::Varchar(most) => {
                if text.len() > most as usize {
                    return Err(Invalid(format!("'{text}' is longer than {ty} holds")));
                }
                Ok(Self::Text(text.to_owned()))
            }
            ColumnType::String => Ok(Self::Text(text.to_owned())),
            ColumnType::Varbinary => Ok(Self::Bytes(text.into())),
        }
    }

    /// Reads an exact number of any size and scale, which may have an exponent: `-1.50`, `1e2`.
    pub fn exact(text: &str) -> Option<Self> {
        /// As many digits as MySQL's DECIMAL has.
        const MAX_DIGITS: usize = 65;
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i16>().ok()?),
            None => (text, 0),
        };
        let (negative, whole, fraction) = decimal_parts(mantissa)?;
        let point = i64::try_from(whole.len()).ok()? + i64::from(exponent);
        let mut digits = format!("{whole}{fraction}");
        if point <= 0 {
            digits.insert_str(0, &"0".repeat(1 + point.unsigned_abs() as usize));
        }
        let point = point.max(1) as usize;
        if digits.len() < point {
            digits.push_str(&"0".repeat(point - digits.len()));
        }
        let (whole, fraction) = digits.split_at(point);
        let whole = whole.trim_start_matches('0');
        if whole.len() + fraction.len() > MAX_DIGITS {
            return None;
        }
        let sign = if negative { "-" } else { "" };
        let whole = if whole.is_empty() { "0" } else { whole };
        Some(Self::Exact(if fraction.is_empty() {
            format!("{sign}{whole}")
        } else {
            format!("{sign}{whole}.{fraction}")
        }))
    }

    /// The value as text that [`Datum::parse`] reads back, but for bytes that are no text; `None` for NULL.
    pub fn text(&self, ty: ColumnType) -> Option<String> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(value) => u8::from(*value).to_string(),
            Self::Int(value) => value.to_string(),
            Self::Double(value) => double_text(*value),
            Self::Decimal(value) => match ty {
                ColumnType::Decimal { scale, .. } => decimal_text(*value, scale),
                _ => value.to_string(),
            },
            Self::Date(value) => date_of(*value).to_string(),
            Self::DateTime(value) => {
                let time = DateTime::from_timestamp_micros(*value).unwrap_or_default().naive_utc();
                time.format("%Y-%m-%d %H:%M:%S%.f").to_string()
            }
            Self::Exact(value) | Self::Text(value) => value.clone(),
            Self::Bytes(value) => String::from_utf8_lossy(value).into_owned(),
        })
    }

    /// The value `rows` times over, as an array of the type's Arrow type.
    pub fn array(&self, ty: ColumnType, rows: usize) -> Result<ArrayRef, Invalid> {
        if *self == Self::Null {
            return Ok(new_null_array(&ty.arrow(), rows));
        }
        Self::to_array(&vec![self.clone(); rows], ty)
    }

    /// Values of a type, NULLs among them, as an array of the type's Arrow type.
    pub fn to_array(values: &[Self], ty: ColumnType) -> Result<ArrayRef, Invalid> {
        macro_rules! collect {
            ($array:ty, $variant:ident) => {
                values
                    .iter()
                    .map(|value| match value {
                        Self::Null => Ok(None),
                        Self::$variant(value) => Ok(Some(value.to_owned())),
                        other => Err(Invalid(format!("'{other}' is not a value of type {ty}"))),
                    })
                    .collect::<Result<$array, Invalid>>()?
            };
        }
        let array: ArrayRef = match ty {
            ColumnType::Boolean => Arc::new(collect!(BooleanArray, Bool)),
            ColumnType::TinyInt | ColumnType::SmallInt | ColumnType::Int | ColumnType::BigInt => {
                let strict = CastOptions { safe: false, ..CastOptions::default() };
                let wide = collect!(Int64Array, Int);
                cast_with_options(&wide, &ty.arrow(), &strict).map_err(|err| Invalid(err.to_string()))?
            }
            ColumnType::Double => Arc::new(collect!(Float64Array, Double)),
            ColumnType::Decimal { .. } => Arc::new(collect!(Decimal128Array, Decimal).with_data_type(ty.arrow())),
            ColumnType::Date => Arc::new(collect!(Date32Array, Date)),
            ColumnType::DateTime => Arc::new(collect!(TimestampMicrosecondArray, DateTime)),
            ColumnType::Char(_) | ColumnType::Varchar(_) | ColumnType::String => Arc::new(collect!(StringArray, Text)),
            ColumnType::Varbinary => Arc::new(collect!(BinaryArray, Bytes)),
        };
        Ok(array)
    }

    /// The value in a row of an array of one of the column types; `None` if it is of another.
    pub fn at(array: &dyn Array, row: usize) -> Option<Self> {
        if array.is_null(row) {
            return Some(Self::Null);
        }
        Some(match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean().value(row)),
            DataType::Int8 => Self::Int(array.as_primitive::<Int8Type>().value(row).into()),
            DataType::Int16 => Self::Int(array.as_primitive::<Int16Type>().value(row).into()),
            DataType::Int32 => Self::Int(array.as_primitive::<Int32Type>().value(row).into()),
            DataType::Int64 => Self::Int(array.as_primitive::<Int64Type>().value(row)),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>().value(row)),
            DataType::Decimal128(..) => Self::Decimal(array.as_primitive::<Decimal128Type>().value(row)),
            DataType::Date32 => Self::Date(array.as_primitive::<Date32Type>().value(row)),
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                Self::DateTime(array.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            DataType::Utf8 => Self::Text(array.as_string::<i32>().value(row).to_owned()),
            DataType::Binary => Self::Bytes(array.as_binary::<i32>().value(row).to_owned()),
            _ => return None,
        })
    }

    /// Whether a date or time is of the years 0 to 9999, as all are that have a text in SQL.
    pub fn is_in_range(&self) -> bool {
        const DAYS: std::ops::RangeInclusive<i64> = -719_528..=2_932_896;
        const MICROS_OF_A_DAY: i64 = 86_400_000_000;
        match self {
            Self::Date(days) => DAYS.contains(&i64::from(*days)),
            Self::DateTime(micros) => DAYS.contains(&micros.div_euclid(MICROS_OF_A_DAY)),
            _ => true,
        }
    }

    /// Orders two values of one type, NULL first; `None` if their types differ or one is NaN.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Null, Self::Null) => Some(Ordering::Equal),
            (Self::Null, _) => Some(Ordering::Less),
            (_, Self::Null) => Some(Ordering::Greater),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Decimal(a), Self::Decimal(b)) => Some(a.cmp(b)),
            (Self::Date(a), Self::Date(b)) => Some(a.cmp(b)),
            (Self::DateTime(a), Self::DateTime(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(ColumnType::String).unwrap_or_else(|| "NULL".into()))
    }
}

fn days(date: NaiveDate) -> i32 {
    date.signed_duration_since(NaiveDate::default()).num_days() as i32
}

/// Beyond what [`Datum::is_in_range`] lets in, the last day there is.
fn date_of(days: i32) -> NaiveDate {
    NaiveDate::default().checked_add_signed(chrono::Duration::days(days.into())).unwrap_or(NaiveDate::MAX)
}

/// Whether a date begins with a year of four digits: of two, MySQL and others mean other centuries.
fn has_year(text: &str) -> bool {
    text.len() >= 8 && text.bytes().take(4).all(|byte| byte.is_ascii_digit())
}

/// `yyyy-MM-dd`, `yyyyMMdd`, or a datetime whose time is midnight.
fn parse_date(text: &str) -> Option<NaiveDate> {
    if !has_year(text) {
        return None;
    }
    let plain = NaiveDate::parse_from_str(text, "%Y-%m-%d").or_else(|_| NaiveDate::parse_from_str(text, "%Y%m%d"));
    plain.ok().filter(|date| (0..=9999).contains(&chrono::Datelike::year(date))).or_else(|| {
        let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
        (time.time() == chrono::NaiveTime::MIN).then_some(time.date())
    })
}

fn parse_datetime(text: &str) -> Option<i64> {
    if !has_year(text) {
        return None;
    }
    let spaced = text.replacen('T', " ", 1);
    let time = NaiveDateTime::parse_from_str(&spaced, "%Y-%m-%d %H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(&spaced, "%Y-%m-%d %H:%M"))
        .ok()
        .or_else(|| parse_digits(text))
        .or_else(|| parse_date(text).map(|date| date.and_time(chrono::NaiveTime::MIN)))
        // The 60th second, which chrono keeps as these.
        .filter(|time| chrono::Timelike::nanosecond(time) < 1_000_000_000)?;
    Some(time.and_utc().timestamp_micros())
}

/// `yyyyMMddHHmmss`, and `yyMMddHHmmss` of the years 1970 to 2069, as MySQL has it; and `yyyyMMdd` before a fraction.
fn parse_digits(text: &str) -> Option<NaiveDateTime> {
    let whole = text.split('.').next()?;
    let century = match whole.len() {
        _ if !whole.bytes().all(|byte| byte.is_ascii_digit()) => return None,
        14 => "",
        12 if whole < "70" => "20",
        12 => "19",
        // A number of a DECIMAL type.
        8 => return Some(parse_date(whole)?.and_time(chrono::NaiveTime::MIN)),
        _ => return None,
    };
    NaiveDateTime::parse_from_str(&format!("{century}{text}"), "%Y%m%d%H%M%S%.f").ok()
}

/// Whether a number in digits is negative, and its digits before and after the point.
fn decimal_parts(text: &str) -> Option<(bool, &str, &str)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let known = (!whole.is_empty() || !fraction.is_empty())
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    known.then_some((negative, whole, fraction))
}

/// Digits beyond the scale are rounded half up, as MySQL does.
fn parse_decimal(text: &str, precision: u8, scale: i8) -> Option<Datum> {
    let exponential;
    let text = if text.contains(['e', 'E']) {
        exponential = Datum::exact(text)?.to_string();
        &exponential
    } else {
        text
    };
    let (negative, whole, fraction) = decimal_parts(text)?;
    let scale = usize::try_from(scale).ok()?;
    let mut value: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(scale)) {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    if fraction.as_bytes().get(scale).is_some_and(|digit| *digit >= b'5') {
        value += 1;
    }
    let fits = value < 10_i128.checked_pow(precision.into())?;
    fits.then_some(Datum::Decimal(if negative { -value } else { value }))
}

/// The shortest text that reads back as the number; with an exponent where MySQL has one.
fn double_text(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let digits = digits.bytes().filter(u8::is_ascii_digit).count() as i32;
    match exponent.parse::<i32>() {
        Ok(exponent) if exponent < -15 || (exponent > 14 && digits <= exponent + 1) => scientific,
        _ => value.to_string(),
    }
}

fn decimal_text(value: i128, scale: i8) -> String {
    let scale = usize::try_from(scale).unwrap_or(0);
    let sign = if value < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_their_text() {
        let money = ColumnType::Decimal { precision: 10, scale: 2 };
        for (text, ty) in [
            ("-12", ColumnType::Int),
            ("-0.05", money),
            ("12345678.90", money),
            ("2026-02-28", ColumnType::Date),
            ("1969-12-31 23:59:59.5", ColumnType::DateTime),
            ("it's", ColumnType::String),
        ] {
            let value = Datum::parse(text, ty).unwrap();
            assert_eq!(Datum::parse(&value.text(ty).unwrap(), ty).unwrap(), value, "{text}");
        }
        assert_eq!(Datum::parse("1.005", money).unwrap(), Datum::Decimal(101));
        assert_eq!(Datum::parse("-1.5e2", money).unwrap(), Datum::Decimal(-15_000));
        assert_eq!(Datum::parse("1969-12-31", ColumnType::Date).unwrap(), Datum::Date(-1));
        for (digits, text) in [
            ("20240102030405", "2024-01-02 03:04:05"),
            ("20240102.0", "2024-01-02"),
            ("20240102030405.5", "2024-01-02 03:04:05.5"),
            ("691231235959", "2069-12-31 23:59:59"),
            ("700101000000", "1970-01-01 00:00:00"),
        ] {
            let [digits, text] = [digits, text].map(|text| Datum::parse(text, ColumnType::DateTime).unwrap());
            assert_eq!(digits, text);
        }
    }

    #[test]
    fn a_double_is_written_as_by_mysql() {
        for (value, text) in [
            (0.1 + 0.2, "0.30000000000000004"),
            (0.0, "0"),
            (1e14, "100000000000000"),
            (-1e15, "-1e15"),
            (1_234_567_890_123_456.0, "1.234567890123456e15"),
            (1_234_567_890_123_456.8, "1234567890123456.8"),
            (1e-15, "0.000000000000001"),
            (1.5e-16, "1.5e-16"),
            (1e300, "1e300"),
        ] {
            assert_eq!(Datum::Double(value).text(ColumnType::Double).unwrap(), text);
        }
    }

    #[test]
    fn an_exact_number_keeps_its_scale() {
        for (text, digits) in [
            ("1.10", "1.10"),
            ("-.5", "-0.5"),
            ("+007.", "7"),
            ("1E2", "100"),
            ("-1.25e1", "-12.5"),
            ("12.5e-3", "0.0125"),
            ("0.00", "0.00"),
            ("0e9999", "0"),
        ] {
            assert_eq!(Datum::exact(text).unwrap().to_string(), digits, "{text}");
        }
        for text in ["", ".", "e1", "1e", "NaN", "Infinity", "1e65", "1e-99", "1 ", "0x1", "1e99999"] {
            assert!(Datum::exact(text).is_none(), "{text}");
        }
    }

    #[test]
    fn values_survive_arrays() {
        for (value, ty) in [
            (Datum::Null, ColumnType::Double),
            (Datum::Bool(true), ColumnType::Boolean),
            (Datum::Int(-128), ColumnType::TinyInt),
            (Datum::Decimal(-5), ColumnType::Decimal { precision: 10, scale: 2 }),
            (Datum::Date(-1), ColumnType::Date),
            (Datum::DateTime(-1), ColumnType::DateTime),
            (Datum::Text("é".into()), ColumnType::Varchar(2)),
        ] {
            let array = value.array(ty, 3).unwrap();
            assert_eq!(array.data_type(), &ty.arrow());
            assert_eq!((array.len(), Datum::at(&array, 2)), (3, Some(value)));
        }
        assert!(Datum::Int(128).array(ColumnType::TinyInt, 1).is_err());
        assert!(Datum::Int(1).array(ColumnType::String, 1).is_err());
    }

    #[test]
    fn years_have_four_digits() {
        for (text, ty) in [
            ("0000-01-01", ColumnType::Date),
            ("9999-12-31", ColumnType::Date),
            ("0000-01-01 00:00:00", ColumnType::DateTime),
            ("9999-12-31 23:59:59.999999", ColumnType::DateTime),
        ] {
            assert!(Datum::parse(text, ty).unwrap().is_in_range(), "{text}");
        }
        let (Datum::Date(first), Datum::Date(last)) = (
            Datum::parse("0000-01-01", ColumnType::Date).unwrap(),
            Datum::parse("9999-12-31", ColumnType::Date).unwrap(),
        ) else {
            panic!()
        };
        for days in [first - 1, last + 1, i32::MIN, i32::MAX] {
            assert!(!Datum::Date(days).is_in_range());
            assert!(Datum::Date(days).text(ColumnType::Date).is_some());
        }
    }

    #[test]
    fn values_of_another_type_are_refused() {
        for (text, ty) in [
            ("128", ColumnType::TinyInt),
            ("x", ColumnType::BigInt),
            ("2026-02-30", ColumnType::Date),
            ("26-02-03", ColumnType::Date),
            ("+12026-01-05 00:00:00", ColumnType::Date),
            ("+12026-01-05 10:00:00", ColumnType::DateTime),
            ("2026-01-05 10:00:60", ColumnType::DateTime),
            ("20260105100060", ColumnType::DateTime),
            ("2026010510006", ColumnType::DateTime),
            ("-5-01-05 10:00:00", ColumnType::DateTime),
            ("100000000", ColumnType::Decimal { precision: 10, scale: 2 }),
            ("abc", ColumnType::Varchar(2)),
            ("1e400", ColumnType::Double),
            ("NaN", ColumnType::Double),
        ] {
            assert!(Datum::parse(text, ty).is_err(), "{text} as {ty}");
        }
    }
}
