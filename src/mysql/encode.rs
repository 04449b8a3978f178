//! Result columns and values as MySQL has them, in the text and in the binary protocol.

use std::io;
use std::io::Write;
use std::sync::LazyLock;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use chrono::{DateTime, Datelike, NaiveDate, Timelike};
use opensrv_mysql::{Column, ColumnFlags, ColumnType as MysqlType, ToMysqlValue};

use super::handshake::CHARSET;
use super::packet::{put_lenenc, put_lenenc_bytes};
use crate::error::{Error, Result};
use crate::query::ResultColumn;
use crate::types::{ColumnType, Datum};

/// The character set of what is not text.
const BINARY: u16 = 63;

/// The most characters of a name that a client is sent, as in MySQL.
const MAX_NAME: usize = 256;

/// The most columns of a result, as in MySQL.
const MAX_COLUMNS: usize = 4096;

/// What the crate is told of columns: only how many there are. It writes too little about them, so the wrapper puts
/// [`definitions`] in place of what it writes.
static COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    let column = Column {
        table: String::new(),
        column: String::new(),
        coltype: MysqlType::MYSQL_TYPE_VAR_STRING,
        colflags: ColumnFlags::empty(),
    };
    vec![column; MAX_COLUMNS]
});

/// As many columns for the crate.
pub fn stand_ins(count: usize) -> Result<&'static [Column]> {
    COLUMNS.get(..count).ok_or_else(|| Error::Analysis(format!("a result has {count} columns; {MAX_COLUMNS} fit")))
}

/// The column definition packets of a result.
pub fn definitions(columns: &[ResultColumn]) -> Vec<Vec<u8>> {
    columns.iter().map(definition).collect()
}

/// The same as COM_FIELD_LIST answers them, with a default, which is NULL.
pub fn field_definitions(columns: &[ResultColumn]) -> Vec<Vec<u8>> {
    let field = |column| {
        let mut packet = definition(column);
        packet.push(0xfb);
        packet
    };
    columns.iter().map(field).collect()
}

fn definition(column: &ResultColumn) -> Vec<u8> {
    let form = Form::of(column.ty);
    let mut packet = Vec::new();
    put_lenenc_bytes(&mut packet, b"def");
    let (database, table, original) = match &column.origin {
        Some(origin) => (&*origin.database, &*origin.table, &*origin.column),
        None => ("", "", ""),
    };
    for name in [database, table, table, &column.name, original] {
        let end = name.char_indices().nth(MAX_NAME).map_or(name.len(), |(at, _)| at);
        put_lenenc_bytes(&mut packet, &name.as_bytes()[..end]);
    }
    // Connector/J takes a BOOLEAN with this flag for bytes.
    let temporal = matches!(column.ty, ColumnType::Date | ColumnType::DateTime);
    let mut flags = if temporal { ColumnFlags::BINARY_FLAG } else { ColumnFlags::empty() };
    if !column.nullable {
        flags |= ColumnFlags::NOT_NULL_FLAG;
    }
    packet.push(0x0c);
    packet.extend_from_slice(&form.charset.to_le_bytes());
    packet.extend_from_slice(&form.length.to_le_bytes());
    packet.push(form.ty as u8);
    packet.extend_from_slice(&flags.bits().to_le_bytes());
    packet.extend_from_slice(&[form.decimals, 0, 0]);
    packet
}

/// How a type looks to MySQL.
struct Form {
    ty: MysqlType,
    charset: u16,
    /// In bytes, four for a character.
    length: u32,
    decimals: u8,
}

impl Form {
    fn of(ty: ColumnType) -> Self {
        use MysqlType::*;
        let plain = |ty, length| Self { ty, charset: BINARY, length, decimals: 0 };
        let text = |ty, bytes: u32| Self { ty, charset: CHARSET, length: bytes.saturating_mul(4), decimals: 0 };
        match ty {
            ColumnType::Boolean => plain(MYSQL_TYPE_TINY, 1),
            ColumnType::TinyInt => plain(MYSQL_TYPE_TINY, 4),
            ColumnType::SmallInt => plain(MYSQL_TYPE_SHORT, 6),
            ColumnType::Int => plain(MYSQL_TYPE_LONG, 11),
            ColumnType::BigInt => plain(MYSQL_TYPE_LONGLONG, 20),
            // 31 decimals are "as many as it has".
            ColumnType::Double => Self { decimals: 31, ..plain(MYSQL_TYPE_DOUBLE, 22) },
            ColumnType::Decimal { precision, scale } => {
                let decimals = scale.max(0) as u8;
                let length = u32::from(precision) + 1 + u32::from(decimals > 0);
                Self { decimals, ..plain(MYSQL_TYPE_NEWDECIMAL, length) }
            }
            ColumnType::Date => plain(MYSQL_TYPE_DATE, 10),
            ColumnType::DateTime => Self { decimals: 6, ..plain(MYSQL_TYPE_DATETIME, 26) },
            ColumnType::Char(bytes) => text(MYSQL_TYPE_STRING, bytes),
            ColumnType::Varchar(bytes) => text(MYSQL_TYPE_VAR_STRING, bytes),
            ColumnType::String => text(MYSQL_TYPE_VAR_STRING, 65533),
            ColumnType::Varbinary => plain(MYSQL_TYPE_VAR_STRING, 1 << 20),
        }
    }
}

/// One value of a result.
pub struct Cell<'a> {
    array: &'a dyn Array,
    row: usize,
    ty: ColumnType,
}

/// The values of a row.
pub fn cells<'a>(batch: &'a RecordBatch, columns: &'a [ResultColumn], row: usize) -> impl Iterator<Item = Cell<'a>> {
    batch.columns().iter().zip(columns).map(move |(array, column)| Cell { array, row, ty: column.ty })
}

/// Whether a batch has the types that its columns announce, without which its values cannot be read.
pub fn check(batch: &RecordBatch, columns: &[ResultColumn]) -> Result<()> {
    let same = batch.num_columns() == columns.len()
        && batch.columns().iter().zip(columns).all(|(array, column)| *array.data_type() == column.ty.arrow());
    if same {
        return Ok(());
    }
    let types: Vec<_> = batch.columns().iter().map(|array| array.data_type()).collect();
    Err(Error::internal(format_args!("result columns {columns:?} have arrays of {types:?}")))
}

impl Cell<'_> {
    fn integer(&self) -> Option<i64> {
        let Self { array, row, ty } = *self;
        Some(match ty {
            ColumnType::Boolean => array.as_boolean().value(row).into(),
            ColumnType::TinyInt => array.as_primitive::<Int8Type>().value(row).into(),
            ColumnType::SmallInt => array.as_primitive::<Int16Type>().value(row).into(),
            ColumnType::Int => array.as_primitive::<Int32Type>().value(row).into(),
            ColumnType::BigInt => array.as_primitive::<Int64Type>().value(row),
            _ => return None,
        })
    }

    fn double(&self) -> f64 {
        self.array.as_primitive::<Float64Type>().value(self.row)
    }

    fn date(&self) -> NaiveDate {
        let days = self.array.as_primitive::<Date32Type>().value(self.row);
        NaiveDate::default().checked_add_signed(chrono::Duration::days(days.into())).unwrap_or_default()
    }

    fn micros(&self) -> i64 {
        self.array.as_primitive::<TimestampMicrosecondType>().value(self.row)
    }

    /// Its text, for types that have no binary form of their own in either protocol.
    fn put_text(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let Self { array, row, ty } = *self;
        match ty {
            ColumnType::Char(_) | ColumnType::Varchar(_) | ColumnType::String => {
                put_lenenc_bytes(out, array.as_string::<i32>().value(row).as_bytes());
            }
            ColumnType::Varbinary => put_lenenc_bytes(out, array.as_binary::<i32>().value(row)),
            ColumnType::Decimal { .. } => {
                let value = Datum::Decimal(array.as_primitive::<Decimal128Type>().value(row));
                put_lenenc_bytes(out, value.text(ty).unwrap_or_default().as_bytes());
            }
            ColumnType::Double => {
                let value = Datum::Double(self.double());
                put_lenenc_bytes(out, value.text(ty).unwrap_or_default().as_bytes());
            }
            ColumnType::Date => put_lenenc_bytes(out, self.date().to_string().as_bytes()),
            ColumnType::DateTime => {
                let value = Datum::DateTime(self.micros());
                put_lenenc_bytes(out, value.text(ty).unwrap_or_default().as_bytes());
            }
            ColumnType::Boolean | ColumnType::TinyInt | ColumnType::SmallInt | ColumnType::Int | ColumnType::BigInt => {
                let text = self.integer().unwrap_or_default().to_string();
                put_lenenc_bytes(out, text.as_bytes());
            }
        }
        Ok(())
    }
}

impl ToMysqlValue for Cell<'_> {
    fn to_mysql_text<W: Write>(&self, w: &mut W) -> io::Result<()> {
        if self.is_null() {
            return w.write_all(&[0xfb]);
        }
        let mut out = Vec::new();
        if let ColumnType::Char(_) | ColumnType::Varchar(_) | ColumnType::String = self.ty {
            // Not copied once more: it may be megabytes.
            let text = self.array.as_string::<i32>().value(self.row);
            put_lenenc(&mut out, text.len() as u64);
            w.write_all(&out)?;
            return w.write_all(text.as_bytes());
        }
        self.put_text(&mut out)?;
        w.write_all(&out)
    }

    fn to_mysql_bin<W: Write>(&self, w: &mut W, _: &Column) -> io::Result<()> {
        match self.ty {
            ColumnType::Boolean | ColumnType::TinyInt => {
                w.write_all(&(self.integer().unwrap_or(0) as i8).to_le_bytes())
            }
            ColumnType::SmallInt => w.write_all(&(self.integer().unwrap_or(0) as i16).to_le_bytes()),
            ColumnType::Int => w.write_all(&(self.integer().unwrap_or(0) as i32).to_le_bytes()),
            ColumnType::BigInt => w.write_all(&self.integer().unwrap_or(0).to_le_bytes()),
            ColumnType::Double => w.write_all(&self.double().to_le_bytes()),
            ColumnType::Date => {
                let date = self.date();
                w.write_all(&[4])?;
                w.write_all(&(date.year() as u16).to_le_bytes())?;
                w.write_all(&[date.month() as u8, date.day() as u8])
            }
            ColumnType::DateTime => {
                let time = DateTime::from_timestamp_micros(self.micros()).unwrap_or_default().naive_utc();
                let micros = time.nanosecond() / 1000;
                w.write_all(&[if micros > 0 { 11 } else { 7 }])?;
                w.write_all(&(time.year() as u16).to_le_bytes())?;
                let parts = [time.month(), time.day(), time.hour(), time.minute(), time.second()];
                w.write_all(&parts.map(|part| part as u8))?;
                if micros > 0 {
                    w.write_all(&micros.to_le_bytes())?;
                }
                Ok(())
            }
            ColumnType::Decimal { .. }
            | ColumnType::Char(_)
            | ColumnType::Varchar(_)
            | ColumnType::String
            | ColumnType::Varbinary => self.to_mysql_text(w),
        }
    }

    fn is_null(&self) -> bool {
        self.array.is_null(self.row)
    }
}
