//! Between Arrow's types and the columns of a result.

use arrow::array::ArrayRef;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::FormatOptions;
use datafusion::common::{DataFusionError, not_impl_err};

use crate::types::ColumnType;

/// The column type that holds the values of an Arrow type.
pub(super) fn column_type(ty: &DataType) -> Result<ColumnType, DataFusionError> {
    Ok(match ty {
        DataType::Boolean => ColumnType::Boolean,
        DataType::Int8 => ColumnType::TinyInt,
        DataType::Int16 | DataType::UInt8 => ColumnType::SmallInt,
        DataType::Int32 | DataType::UInt16 => ColumnType::Int,
        DataType::Int64 | DataType::UInt32 => ColumnType::BigInt,
        DataType::UInt64 => ColumnType::Decimal { precision: 20, scale: 0 },
        DataType::Float16 | DataType::Float32 | DataType::Float64 => ColumnType::Double,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => {
            ColumnType::Decimal { precision: *precision, scale: (*scale).max(0) }
        }
        DataType::Decimal256(_, scale) => ColumnType::Decimal { precision: 38, scale: (*scale).clamp(0, 38) },
        DataType::Date32 => ColumnType::Date,
        DataType::Date64 | DataType::Timestamp(_, _) => ColumnType::DateTime,
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => ColumnType::String,
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            ColumnType::Varbinary
        }
        DataType::Dictionary(_, values) => column_type(values)?,
        other => return not_impl_err!("a value of type {other}"),
    })
}

/// The array as the Arrow type of a column type. What has no such value is an error.
pub(super) fn cast(array: &ArrayRef, ty: ColumnType) -> Result<ArrayRef, DataFusionError> {
    let strict = CastOptions { safe: false, format_options: FormatOptions::default() };
    let mut array = array.clone();
    // An instant becomes the time that UTC clocks show.
    if let DataType::Timestamp(_, Some(_)) = array.data_type() {
        array = cast_with_options(&array, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), &strict)?;
    }
    Ok(cast_with_options(&array, &ty.arrow(), &strict)?)
}
