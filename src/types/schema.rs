use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Int8Type, Int16Type, Int32Type, Int64Type, SchemaRef, TimeUnit,
    TimestampMicrosecondType,
};
use serde::{Deserialize, Serialize};

use super::{Datum, Invalid, Name};

/// The metadata key under which Arrow and Parquet keep a field's id.
const FIELD_ID: &str = "PARQUET:field_id";

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// BOOLEAN.
    Boolean,
    /// TINYINT, 8 bits.
    TinyInt,
    /// SMALLINT, 16 bits.
    SmallInt,
    /// INT, 32 bits.
    Int,
    /// BIGINT, 64 bits.
    BigInt,
    /// DOUBLE.
    Double,
    /// DECIMAL(precision, scale), up to 38 digits.
    Decimal {
        /// All digits.
        precision: u8,
        /// Digits after the point.
        scale: i8,
    },
    /// DATE.
    Date,
    /// DATETIME, to the microsecond.
    DateTime,
    /// CHAR(n), n in bytes as in StarRocks.
    Char(u32),
    /// VARCHAR(n), n in bytes as in StarRocks.
    Varchar(u32),
    /// STRING.
    String,
    /// VARBINARY.
    Varbinary,
}

impl ColumnType {
    /// The Arrow type that holds its values, in memory and in rowset files.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::TinyInt => DataType::Int8,
            Self::SmallInt => DataType::Int16,
            Self::Int => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
            Self::Date => DataType::Date32,
            Self::DateTime => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Char(_) | Self::Varchar(_) | Self::String => DataType::Utf8,
            Self::Varbinary => DataType::Binary,
        }
    }

    /// Whether it can be a key column, a hash column or a range partition column.
    pub fn is_key_type(self) -> bool {
        !matches!(self, Self::Double | Self::Varbinary)
    }

    /// Whether a table can be range partitioned by it.
    pub fn is_range_type(self) -> bool {
        matches!(self, Self::TinyInt | Self::SmallInt | Self::Int | Self::BigInt | Self::Date | Self::DateTime)
    }
}

impl fmt::Display for ColumnType {
    /// As SHOW CREATE TABLE and DESC write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::TinyInt => f.write_str("tinyint"),
            Self::SmallInt => f.write_str("smallint"),
            Self::Int => f.write_str("int"),
            Self::BigInt => f.write_str("bigint"),
            Self::Double => f.write_str("double"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision}, {scale})"),
            Self::Date => f.write_str("date"),
            Self::DateTime => f.write_str("datetime"),
            Self::Char(n) => write!(f, "char({n})"),
            Self::Varchar(n) => write!(f, "varchar({n})"),
            Self::String => f.write_str("string"),
            Self::Varbinary => f.write_str("varbinary"),
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its name. Compared without regard to letter case.
    pub name: Name,
    /// Its number in rowset files: given once, never to another column of the table.
    pub field: u32,
    /// Its type.
    pub ty: ColumnType,
    /// Whether it may hold NULL.
    pub nullable: bool,
    /// What an INSERT that leaves it out gives it; `None` without a DEFAULT clause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Datum>,
    /// The COMMENT, empty if none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// The columns of a table, in order; the first `keys` of them are the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    /// Grows with every change of the columns.
    pub version: u32,
    /// How many leading columns are the key.
    pub keys: u32,
    /// All columns.
    pub columns: Vec<Column>,
}

impl Schema {
    /// The Arrow schema of its rows; each field carries its id, so that Parquet files do too.
    pub fn arrow(&self) -> SchemaRef {
        let field = |column: &Column| {
            Field::new(&*column.name, column.ty.arrow(), column.nullable)
                .with_metadata(HashMap::from([(FIELD_ID.to_owned(), column.field.to_string())]))
        };
        Arc::new(arrow::datatypes::Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// The position of a column.
    pub fn position(&self, name: &str) -> Option<usize> {
        let lower = name.to_lowercase();
        self.columns.iter().position(|column| column.name.to_lowercase() == lower)
    }

    /// A column by name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.position(name).map(|at| &self.columns[at])
    }
}

/// The id that an Arrow field carries into and out of rowset files.
pub fn field_id(field: &Field) -> Option<u32> {
    field.metadata().get(FIELD_ID)?.parse().ok()
}

/// The values a range partition holds: from `lower`, included, to `upper`, excluded; `None` is without bound. NULL
/// belongs to the partition without a lower bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionRange {
    /// The least value in it.
    pub lower: Option<Datum>,
    /// The least value above it.
    pub upper: Option<Datum>,
}

impl PartitionRange {
    /// Whether a value belongs here.
    pub fn contains(&self, value: &Datum) -> bool {
        let from = self.lower.as_ref().is_none_or(|lower| value.compare(lower).is_some_and(|order| order.is_ge()));
        let to = self.upper.as_ref().is_none_or(|upper| value.compare(upper).is_some_and(|order| order.is_lt()));
        from && to
    }

    /// Whether a value exists that belongs to both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let below = |lower: &Option<Datum>, upper: &Option<Datum>| match (lower, upper) {
            (Some(lower), Some(upper)) => lower.compare(upper).is_some_and(|order| order.is_lt()),
            _ => true,
        };
        below(&self.lower, &other.upper) && below(&other.lower, &self.upper)
    }
}

/// The bucket that each row belongs to, by its hash columns: CRC-32 over the columns in order, modulo `buckets`.
///
/// It decides where rows are stored, so it never changes. A column adds for each row: nothing for NULL; 8
/// little-endian bytes for integers and DATETIME; 4 for DATE; 16 for DECIMAL; one for BOOLEAN; the UTF-8 for text.
pub fn bucket_of(columns: &[ArrayRef], rows: usize, buckets: u32) -> Result<Vec<u32>, Invalid> {
    let mut hashes = vec![crc32fast::Hasher::new(); rows];
    for column in columns {
        let mut add = |row: usize, bytes: &[u8]| {
            if column.is_valid(row) {
                hashes[row].update(bytes);
            }
        };
        macro_rules! each {
            ($array:expr, $bytes:expr) => {{
                let array = $array;
                for row in 0..rows {
                    add(row, $bytes(array.value(row)).as_ref());
                }
            }};
        }
        match column.data_type() {
            DataType::Boolean => each!(column.as_boolean(), |v: bool| [u8::from(v)]),
            DataType::Int8 => each!(column.as_primitive::<Int8Type>(), |v: i8| i64::from(v).to_le_bytes()),
            DataType::Int16 => each!(column.as_primitive::<Int16Type>(), |v: i16| i64::from(v).to_le_bytes()),
            DataType::Int32 => each!(column.as_primitive::<Int32Type>(), |v: i32| i64::from(v).to_le_bytes()),
            DataType::Int64 => each!(column.as_primitive::<Int64Type>(), i64::to_le_bytes),
            DataType::Date32 => each!(column.as_primitive::<Date32Type>(), i32::to_le_bytes),
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                each!(column.as_primitive::<TimestampMicrosecondType>(), i64::to_le_bytes)
            }
            DataType::Decimal128(..) => each!(column.as_primitive::<Decimal128Type>(), i128::to_le_bytes),
            DataType::Utf8 => each!(column.as_string::<i32>(), |v: &str| v.as_bytes().to_vec()),
            other => return Err(Invalid(format!("rows cannot be distributed by a column of Arrow type {other}"))),
        }
    }
    Ok(hashes.into_iter().map(|hash| hash.finalize() % buckets.max(1)).collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn buckets_never_change() {
        let ints: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(2), None]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let buckets = bucket_of(&[ints, text], 3, 1000).unwrap();
        let expected: Vec<u32> = [&[1_u8, 0, 0, 0, 0, 0, 0, 0, b'a'][..], &[2, 0, 0, 0, 0, 0, 0, 0, b'b'], b"c"]
            .iter()
            .map(|bytes| crc32fast::hash(bytes) % 1000)
            .collect();
        assert_eq!(buckets, expected);
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![7]));
        assert_eq!(bucket_of(&[wide], 1, 97), bucket_of(&[narrow], 1, 97));
    }

    #[test]
    fn ranges_contain_and_overlap() {
        let range = |lower: Option<i64>, upper: Option<i64>| PartitionRange {
            lower: lower.map(Datum::Int),
            upper: upper.map(Datum::Int),
        };
        assert!(range(None, Some(5)).contains(&Datum::Null));
        assert!(!range(Some(0), Some(5)).contains(&Datum::Null));
        assert!(!range(Some(0), Some(5)).contains(&Datum::Int(5)));
        assert!(range(Some(0), Some(5)).overlaps(&range(Some(4), None)));
        assert!(!range(Some(0), Some(5)).overlaps(&range(Some(5), None)));
    }
}
