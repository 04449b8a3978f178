//! Functions with MySQL's names and meanings where DataFusion has none, or others.
//!
//! Most are plain functions over one row's [`Datum`]s: arguments are converted to the kinds they declare, and a NULL
//! argument, or one that cannot be converted, gives NULL.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Datum as Operand, Decimal128Array, Float64Array};
use arrow::compute::kernels::numeric;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL128_MAX_SCALE, DECIMAL256_MAX_PRECISION, DataType, Decimal128Type, DecimalType,
    Float64Type, i256,
};
use arrow::error::ArrowError;
use chrono::{Datelike, NaiveDateTime, Timelike};
use datafusion::common::{DataFusionError, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use md5::Digest as _;
use sha2::Digest as _;

use super::like;
use super::result::overflow;
use super::times::{
    add_days, add_time, date_format, day_of, from_unixtime, last_day, naive, str_to_date, time_between, truncate_time,
    unix_timestamp, week,
};
use super::types::column_type;
use crate::types::{ColumnType, Datum, Zone};

type Result<T, E = DataFusionError> = std::result::Result<T, E>;

/// What a function wants of an argument.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Text,
    /// Bytes as they are, all else as text.
    Bytes,
    Int,
    Double,
    Time,
    /// Numbers as BIGINT, rounded, all else as it is.
    Whole,
    /// BIGINT, DECIMAL as its digits, and all else as DOUBLE.
    Number,
    /// As it is.
    Any,
}

/// What a function returns.
#[derive(Debug, Clone, Copy)]
enum Returns {
    Is(ColumnType),
    /// DATE if the first argument is one, else DATETIME.
    Day,
}

/// The longest text that functions make out of shorter ones, in bytes; that of a VARCHAR.
const MAX_TEXT: usize = 1 << 20;

/// By how much the texts that a function makes for a batch of rows may be longer than twice what it is given, in bytes.
/// They are in memory that no query's limit counts.
const MAX_TEXTS: usize = 128 << 20;

/// What a function says whose value is no BIGINT.
const OVERFLOW: &str = "out of range";

/// A function of one row.
#[derive(Debug)]
struct Function {
    names: &'static [&'static str],
    /// The last one repeats if `most` is larger.
    args: &'static [Kind],
    least: usize,
    most: usize,
    returns: Returns,
    /// Whether it sees NULL itself.
    sees_null: bool,
    call: fn(&[Datum]) -> Result<Datum, String>,
}

const MANY: usize = usize::MAX;
const TEXT: Returns = Returns::Is(ColumnType::String);
const BOOL: Returns = Returns::Is(ColumnType::Boolean);
const INT: Returns = Returns::Is(ColumnType::BigInt);
const DOUBLE: Returns = Returns::Is(ColumnType::Double);
const DATE: Returns = Returns::Is(ColumnType::Date);
const TIME: Returns = Returns::Is(ColumnType::DateTime);

macro_rules! functions {
    ($([$($name:literal)+] ($($arg:ident)*) $least:tt..$most:expr, $returns:expr, $sees:literal, $call:expr;)*) => {
        static FUNCTIONS: &[Function] = &[$(Function {
            names: &[$($name),+], args: &[$(Kind::$arg),*], least: $least, most: $most,
            returns: $returns, sees_null: $sees, call: $call,
        }),*];
    };
}

functions! {
    ["__text"] (Text) 1..1, TEXT, false, |a| Ok(a[0].clone());
    // Bytes that are no text have no such value.
    ["__cast_text"] (Bytes) 1..1, TEXT, false,
        |a| Ok(std::str::from_utf8(bytes(a, 0)).map_or(Datum::Null, |text| Datum::Text(text.to_owned())));
    ["__like"] (Bytes Bytes) 2..2, BOOL, false, |a| Ok(Datum::Bool(like::matches(bytes(a, 0), bytes(a, 1))));
    ["length" "octet_length"] (Bytes) 1..1, INT, false, |a| Ok(int(bytes(a, 0).len()));
    ["char_length" "character_length"] (Text) 1..1, INT, false, |a| Ok(int(text(a, 0).chars().count()));
    ["lower" "lcase"] (Text) 1..1, TEXT, false, |a| Ok(Datum::Text(text(a, 0).to_lowercase()));
    ["upper" "ucase"] (Text) 1..1, TEXT, false, |a| Ok(Datum::Text(text(a, 0).to_uppercase()));
    ["concat"] (Text) 1..MANY, TEXT, false, |a| join((0..a.len()).map(|at| text(a, at)), "");
    ["concat_ws"] (Text) 2..MANY, TEXT, true, concat_ws;
    ["substr" "substring" "mid"] (Text Int Int) 2..3, TEXT, false, |a| Ok(substr(a));
    ["left"] (Text Int) 2..2, TEXT, false, |a| Ok(take(text(a, 0), number(a, 1), false));
    ["right"] (Text Int) 2..2, TEXT, false, |a| Ok(take(text(a, 0), number(a, 1), true));
    ["instr"] (Text Text) 2..2, INT, false, |a| Ok(locate(text(a, 1), text(a, 0), 1));
    ["locate" "position"] (Text Text Int) 2..3, INT, false,
        |a| Ok(locate(text(a, 0), text(a, 1), if a.len() > 2 { number(a, 2) } else { 1 }));
    ["lpad"] (Text Int Text) 3..3, TEXT, false, |a| pad(a, true);
    ["rpad"] (Text Int Text) 3..3, TEXT, false, |a| pad(a, false);
    ["repeat"] (Text Int) 2..2, TEXT, false, |a| repeat(text(a, 0), number(a, 1));
    ["space"] (Int) 1..1, TEXT, false, |a| repeat(" ", number(a, 0));
    ["reverse"] (Text) 1..1, TEXT, false, |a| Ok(Datum::Text(text(a, 0).chars().rev().collect()));
    ["replace"] (Text Text Text) 3..3, TEXT, false, replace;
    ["ascii"] (Bytes) 1..1, INT, false, |a| Ok(int(bytes(a, 0).first().copied().unwrap_or(0).into()));
    ["hex"] (Whole) 1..1, TEXT, false, hex_of;
    ["md5"] (Bytes) 1..1, TEXT, false, |a| Ok(Datum::Text(hex::encode(md5::Md5::digest(bytes(a, 0)))));
    ["sha2"] (Bytes Int) 2..2, TEXT, false, |a| Ok(sha2(bytes(a, 0), number(a, 1)));
    ["strcmp"] (Bytes Bytes) 2..2, INT, false, |a| Ok(Datum::Int(bytes(a, 0).cmp(bytes(a, 1)) as i64));
    ["find_in_set"] (Text Text) 2..2, INT, false, |a| Ok(find_in_set(text(a, 0), text(a, 1)));
    ["substring_index"] (Text Text Int) 3..3, TEXT, false, |a| Ok(substring_index(a));

    ["field"] (Text) 2..MANY, INT, true,
        |a| Ok(int(a[1..].iter().position(|other| *other == a[0] && a[0] != Datum::Null).map_or(0, |at| at + 1)));
    ["elt"] (Int Text) 2..MANY, TEXT, true,
        |a| Ok(usize::try_from(number(a, 0)).ok().filter(|at| *at > 0).and_then(|at| a.get(at)).map_or(Datum::Null, Clone::clone));

    ["year"] (Time) 1..1, INT, false, |a| on_time(a, |t| t.year().into());
    ["quarter"] (Time) 1..1, INT, false, |a| on_time(a, |t| t.month().div_ceil(3).into());
    ["month"] (Time) 1..1, INT, false, |a| on_time(a, |t| t.month().into());
    ["day" "dayofmonth"] (Time) 1..1, INT, false, |a| on_time(a, |t| t.day().into());
    ["hour"] (Time) 1..1, INT, false, |a| on_time(a, |t| t.hour().into());
    ["minute"] (Time) 1..1, INT, false, |a| on_time(a, |t| t.minute().into());
    ["second"] (Time) 1..1, INT, false, |a| on_time(a, |t| t.second().into());
    ["microsecond"] (Time) 1..1, INT, false, |a| on_time(a, |t| (t.nanosecond() / 1000).into());
    ["dayofweek"] (Time) 1..1, INT, false, |a| on_time(a, |t| t.weekday().number_from_sunday().into());
    ["weekday"] (Time) 1..1, INT, false, |a| on_time(a, |t| t.weekday().num_days_from_monday().into());
    ["dayofyear"] (Time) 1..1, INT, false, |a| on_time(a, |t| t.ordinal().into());
    ["week"] (Time Int) 1..2, INT, false,
        |a| Ok(Datum::Int(week(time(a, 0).date(), if a.len() > 1 { number(a, 1) } else { 0 })));
    ["weekofyear"] (Time) 1..1, INT, false, |a| on_time(a, |t| t.iso_week().week().into());
    ["dayname"] (Time) 1..1, TEXT, false, |a| date_format(time(a, 0), "%W");
    ["monthname"] (Time) 1..1, TEXT, false, |a| date_format(time(a, 0), "%M");
    ["date" "to_date"] (Time) 1..1, DATE, false, |a| Ok(day_of(time(a, 0)));
    ["timestamp"] (Time) 1..1, TIME, false, |a| Ok(a[0].clone());
    ["last_day"] (Time) 1..1, DATE, false, |a| Ok(last_day(time(a, 0)));
    ["to_days"] (Time) 1..1, INT, false, |a| on_time(a, |t| t.num_days_from_ce().into()).map(plus_year_zero);
    ["datediff"] (Time Time) 2..2, INT, false,
        |a| Ok(Datum::Int(time(a, 0).date().signed_duration_since(time(a, 1).date()).num_days()));
    ["timestampdiff"] (Text Time Time) 3..3, INT, false, |a| time_between(text(a, 0), time(a, 1), time(a, 2));
    ["date_trunc"] (Text Time) 2..2, TIME, false, |a| truncate_time(text(a, 0), time(a, 1));
    ["date_format"] (Time Text) 2..2, TEXT, false, |a| date_format(time(a, 0), text(a, 1));
    ["str_to_date"] (Text Text) 2..2, TIME, false, |a| str_to_date(text(a, 0), text(a, 1));
    // The last argument is the session's time zone.
    ["unix_timestamp"] (Time Text) 2..2, INT, false, |a| unix_timestamp(time(a, 0), zone(a, 1)?);
    ["from_unixtime"] (Int Text Text) 3..3, TEXT, false, |a| from_unixtime(number(a, 0), text(a, 1), zone(a, 2)?);
    ["__add_days"] (Any Int Text) 3..3, Returns::Day, false, |a| add_days(&a[0], number(a, 1), text(a, 2));
    ["__add_time"] (Time Int Text) 3..3, TIME, false, |a| add_time(time(a, 0), number(a, 1), text(a, 2));

    // A negative number is what its bits mean without a sign.
    ["__unsigned"] (Any) 1..1, Returns::Is(ColumnType::Decimal { precision: 38, scale: 0 }), false, |a| Ok(match a[0] {
        Datum::Decimal(value) if value < 0 => Datum::Decimal(value + (1 << 64)),
        ref value => value.clone(),
    });
    ["ceil" "ceiling" "dceil"] (Number) 1..1, INT, false, |a| neighbour(&a[0], true);
    ["floor" "dfloor"] (Number) 1..1, INT, false, |a| neighbour(&a[0], false);
    ["sqrt"] (Double) 1..1, DOUBLE, false, |a| Ok(finite(real(a, 0).sqrt()));
    ["exp"] (Double) 1..1, DOUBLE, false, |a| Ok(finite(real(a, 0).exp()));
    ["ln"] (Double) 1..1, DOUBLE, false, |a| Ok(finite(real(a, 0).ln()));
    ["log2"] (Double) 1..1, DOUBLE, false, |a| Ok(finite(real(a, 0).log2()));
    ["log10"] (Double) 1..1, DOUBLE, false, |a| Ok(finite(real(a, 0).log10()));
    ["log"] (Double) 1..2, DOUBLE, false,
        |a| Ok(finite(if a.len() > 1 { real(a, 1).ln() / real(a, 0).ln() } else { real(a, 0).ln() }));
    ["pow" "power"] (Double) 2..2, DOUBLE, false, |a| Ok(finite(real(a, 0).powf(real(a, 1))));
    ["acos"] (Double) 1..1, DOUBLE, false, |a| Ok(finite(real(a, 0).acos()));
    ["asin"] (Double) 1..1, DOUBLE, false, |a| Ok(finite(real(a, 0).asin()));

    ["__divide"] (Double Double) 2..2, DOUBLE, false, |a| Ok(quotient(a, |x, y| x / y));
    ["__modulo"] (Double Double) 2..2, DOUBLE, false, |a| Ok(quotient(a, |x, y| x % y));
    ["__whole_divide"] (Number Number) 2..2, INT, false, |a| whole_divide(&a[0], &a[1]);
}

/// What BIGINTs are added up as. DECIMALs without a fraction are not, so that a sum tells which it is of. A sum of sums
/// has the same type, as DataFusion wants it.
const BIGINTS: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

/// DECIMALs of more digits are added up with twice as many: DataFusion's sum wraps, if only of ten thousand million rows.
const MAX_SUMMED: u8 = 28;

/// Operators on whole columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    /// The sum of any number of BIGINTs, an error where it overflows.
    Add,
    /// BIGINT - BIGINT.
    Subtract,
    /// The product of any number of BIGINTs, an error where it overflows.
    Multiply,
    /// DECIMAL / DECIMAL, with four digits more than the dividend has, rounded; NULL for a zero divisor.
    Divide,
    /// What AVG makes of a sum and a count.
    Average,
    /// A DECIMAL that DataFusion has computed, an error where it has more digits than there can be.
    Digits,
    /// A condition: numbers and text are true if they are not zero.
    Truth,
    /// What can be added up: numbers as DECIMAL of all digits, text as DOUBLE.
    Number,
    /// What SUM makes of the sum of such: of BIGINTs a BIGINT, an error where it overflows.
    Total,
    /// What can be averaged: DECIMAL, and all else as DOUBLE, so that no sum overflows.
    Measure,
}

/// All functions, by each of their names.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Arc<ScalarUDF>)> {
    let rows = FUNCTIONS.iter().flat_map(|function| {
        let udf = function.udf();
        function.names.iter().map(move |name| (*name, udf.clone()))
    });
    use Operation::*;
    let operations = [Add, Subtract, Multiply, Divide, Average, Digits, Truth, Number, Total, Measure];
    let operations = operations.map(|operation| (operation.name(), operation.udf()));
    rows.chain(operations)
}

/// A call of one of the functions above that are not operations.
pub(super) fn call(name: &str, args: Vec<Expr>) -> Result<Expr> {
    let function = FUNCTIONS.iter().find(|function| function.names.contains(&name));
    let function = function.ok_or_else(|| DataFusionError::Internal(format!("no function {name}")))?;
    Ok(function.udf().call(args))
}

impl Function {
    fn udf(&'static self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(RowFunction { function: self, signature: signature() }))
    }
}

impl Operation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "__add",
            Self::Subtract => "__subtract",
            Self::Multiply => "__multiply",
            Self::Divide => "__divide_decimal",
            Self::Average => "__average",
            Self::Digits => "__digits",
            Self::Truth => "__truth",
            Self::Number => "__number",
            Self::Total => "__total",
            Self::Measure => "__measure",
        }
    }

    pub(super) fn udf(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::new_from_impl(OperationFunction { operation: self, signature: signature() }))
    }
}

fn signature() -> Signature {
    Signature::user_defined(Volatility::Immutable)
}

#[derive(Debug)]
struct RowFunction {
    function: &'static Function,
    signature: Signature,
}

impl PartialEq for RowFunction {
    fn eq(&self, other: &Self) -> bool {
        self.function.names == other.function.names
    }
}

impl Eq for RowFunction {}

impl Hash for RowFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.names.hash(state);
    }
}

impl ScalarUDFImpl for RowFunction {
    fn name(&self) -> &str {
        self.function.names[0]
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if given.len() < self.function.least || given.len() > self.function.most {
            return plan_err!("Incorrect parameter count in the call to function '{}'", self.name());
        }
        given.iter().map(|ty| Ok(column_type(ty)?.arrow())).collect()
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(match self.function.returns {
            Returns::Is(ty) => ty.arrow(),
            Returns::Day if given.first() == Some(&DataType::Date32) => DataType::Date32,
            Returns::Day => ColumnType::DateTime.arrow(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Function { args: kinds, sees_null, call, .. } = self.function;
        let scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        // One array for each column, one value for each constant.
        let inputs = args.args.iter().zip(&args.arg_fields).enumerate().map(|(at, (arg, field))| {
            let kind = kinds.get(at).or(kinds.last()).copied().unwrap_or(Kind::Any);
            let (array, constant) = match arg {
                ColumnarValue::Array(array) => (array.clone(), false),
                ColumnarValue::Scalar(value) => (value.to_array()?, true),
            };
            let ty = column_type(array.data_type())?;
            if kind == Kind::Text {
                check_text(&array, field.name())?;
            }
            Ok((array, ty, kind, constant))
        });
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let constants: Vec<Option<Datum>> =
            inputs.iter().map(|(array, ty, kind, constant)| constant.then(|| argument(array, 0, *ty, *kind))).collect();
        let mut values = Vec::with_capacity(rows);
        let mut given = Vec::with_capacity(inputs.len());
        let most = MAX_TEXTS + 2 * inputs.iter().map(|(array, ..)| array.get_array_memory_size()).sum::<usize>();
        let mut bytes = 0;
        for row in 0..rows {
            given.clear();
            given.extend(inputs.iter().zip(&constants).map(|((array, ty, kind, _), constant)| match constant {
                Some(constant) => constant.clone(),
                None => argument(array, row, *ty, *kind),
            }));
            let unknown = !sees_null && given.contains(&Datum::Null);
            let value = if unknown { Ok(Datum::Null) } else { call(&given) };
            let value = value.and_then(|value| {
                bytes += if let Datum::Text(text) = &value { text.len() } else { 0 };
                let message = || format!("its results for {rows} rows are longer than {most} bytes together");
                if bytes > most { Err(message()) } else { Ok(value) }
            });
            values.push(value.map_err(|err| match err.as_str() {
                OVERFLOW => out_of_range("BIGINT"),
                err => DataFusionError::Execution(format!("{}: {err}", self.name())),
            })?);
        }
        let array = array_of(values, args.return_field.data_type())?;
        Ok(match scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?),
            false => ColumnarValue::Array(array),
        })
    }
}

/// Refuses bytes that are no text.
fn check_text(array: &ArrayRef, name: &str) -> Result<()> {
    let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    match array.as_binary_opt::<i32>().is_none_or(|all| all.iter().flatten().all(is_text)) {
        true => Ok(()),
        false => exec_err!("'{name}' has bytes that are not UTF-8 text; take HEX of it"),
    }
}

/// The argument in a row, as the kind that is wanted; NULL if it has no such value.
fn argument(array: &ArrayRef, row: usize, ty: ColumnType, kind: Kind) -> Datum {
    let value = Datum::at(array, row).unwrap_or(Datum::Null);
    let converted = match (kind, value) {
        (_, Datum::Null) => None,
        (Kind::Any, value) => Some(value),
        (Kind::Bytes, value @ Datum::Bytes(_)) => Some(value),
        (Kind::Text | Kind::Bytes, value) => value.text(ty).map(Datum::Text),
        (Kind::Time, Datum::Date(days)) => Some(Datum::DateTime(i64::from(days) * 86_400_000_000)),
        (Kind::Time, value @ Datum::DateTime(_)) => Some(value),
        (Kind::Time, value) => value.text(ty).and_then(|text| Datum::parse(&text, ColumnType::DateTime).ok()),
        (Kind::Int, Datum::Bool(value)) => Some(Datum::Int(value.into())),
        (Kind::Int, value @ Datum::Int(_)) => Some(value),
        (Kind::Whole, value @ (Datum::Int(_) | Datum::Text(_) | Datum::Bytes(_))) => Some(value),
        (Kind::Whole, value @ (Datum::Date(_) | Datum::DateTime(_))) => value.text(ty).map(Datum::Text),
        (Kind::Int | Kind::Whole, value) => {
            double(value, ty).and_then(|value| whole(Datum::Double(value.round())).ok())
        }
        (Kind::Number, Datum::Bool(value)) => Some(Datum::Int(value.into())),
        (Kind::Number, value @ Datum::Int(_)) => Some(value),
        (Kind::Number, value @ Datum::Decimal(_)) => value.text(ty).map(Datum::Exact),
        (Kind::Double | Kind::Number, value) => double(value, ty).map(Datum::Double),
    };
    converted.unwrap_or(Datum::Null)
}

fn double(value: Datum, ty: ColumnType) -> Option<f64> {
    match value {
        Datum::Bool(value) => Some(f64::from(u8::from(value))),
        Datum::Int(value) => Some(value as f64),
        Datum::Double(value) => Some(value),
        value => value.text(ty)?.trim().parse().ok(),
    }
}

/// An array of these values, which are all of the type or NULL.
pub(super) fn array_of(values: Vec<Datum>, ty: &DataType) -> Result<ArrayRef> {
    if values.is_empty() {
        return Ok(arrow::array::new_empty_array(ty));
    }
    let scalars = values.into_iter().map(|value| match (value, ty) {
        (Datum::Null, ty) => ScalarValue::try_from(ty),
        (value, _) => Ok(scalar(value)),
    });
    ScalarValue::iter_to_array(scalars.collect::<Result<Vec<_>>>()?)
}

/// A value as DataFusion has it. DECIMAL has scale 0.
pub(super) fn scalar(value: Datum) -> ScalarValue {
    match value {
        Datum::Null => ScalarValue::Null,
        Datum::Bool(value) => ScalarValue::Boolean(Some(value)),
        Datum::Int(value) => ScalarValue::Int64(Some(value)),
        Datum::Double(value) => ScalarValue::Float64(Some(value)),
        Datum::Decimal(value) => ScalarValue::Decimal128(Some(value), 38, 0),
        Datum::Date(value) => ScalarValue::Date32(Some(value)),
        Datum::DateTime(value) => ScalarValue::TimestampMicrosecond(Some(value), None),
        Datum::Exact(value) | Datum::Text(value) => ScalarValue::Utf8(Some(value)),
        Datum::Bytes(value) => ScalarValue::Binary(Some(value)),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OperationFunction {
    operation: Operation,
    signature: Signature,
}

impl ScalarUDFImpl for OperationFunction {
    fn name(&self) -> &str {
        self.operation.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match self.operation {
            Operation::Add | Operation::Subtract | Operation::Multiply => Ok(vec![DataType::Int64; given.len()]),
            Operation::Divide | Operation::Average => Ok(given.iter().map(operand).collect()),
            Operation::Digits | Operation::Truth | Operation::Number | Operation::Total | Operation::Measure => {
                Ok(given.to_vec())
            }
        }
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(match (self.operation, &given[0]) {
            (Operation::Truth, _) => DataType::Boolean,
            (Operation::Digits, ty) => ty.clone(),
            (Operation::Divide | Operation::Average, _) => match (operand(&given[0]), operand(&given[1])) {
                (DataType::Decimal128(digits, scale), DataType::Decimal128(_, divisor)) => {
                    quotient_type(digits, scale, divisor)
                }
                _ => DataType::Float64,
            },
            (Operation::Number, ty) if ty.is_integer() || *ty == DataType::Boolean => BIGINTS,
            (Operation::Number, DataType::Decimal128(digits, scale)) if *scale == 0 || *digits > MAX_SUMMED => {
                DataType::Decimal256(DECIMAL256_MAX_PRECISION, *scale)
            }
            (Operation::Number, DataType::Decimal128(_, scale)) => {
                DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale)
            }
            (Operation::Number, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) => DataType::Float64,
            (Operation::Number, other) => other.clone(),
            (Operation::Total, DataType::Decimal256(_, scale)) => {
                DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale)
            }
            (Operation::Total, ty) if *ty != BIGINTS => ty.clone(),
            (Operation::Measure, DataType::Decimal128(digits, scale)) if *digits > MAX_SUMMED => {
                DataType::Decimal256(DECIMAL256_MAX_PRECISION, *scale)
            }
            (Operation::Measure, decimal @ DataType::Decimal128(..)) => decimal.clone(),
            (Operation::Measure, _) => DataType::Float64,
            _ => DataType::Int64,
        })
    }

    /// Where nothing is to be done, the call goes away.
    fn simplify(&self, mut args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        if matches!(self.operation, Operation::Truth | Operation::Number | Operation::Total | Operation::Measure) {
            let ty = info.get_data_type(&args[0])?;
            if self.return_type(std::slice::from_ref(&ty))? == ty {
                return Ok(ExprSimplifyResult::Simplified(args.remove(0)));
            }
        }
        Ok(ExprSimplifyResult::Original(args))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        type Kernel = fn(&dyn Operand, &dyn Operand) -> Result<ArrayRef, ArrowError>;
        let fold = |kernel: Kernel| {
            let (first, rest) = arrays.split_first().ok_or_else(|| DataFusionError::Internal("no operands".into()))?;
            let folded = rest.iter().try_fold(first.clone(), |sum, next| kernel(&sum, next));
            folded.map_err(|_| out_of_range("BIGINT"))
        };
        let lenient = CastOptions { safe: true, ..Default::default() };
        let array = match self.operation {
            Operation::Add => fold(numeric::add)?,
            Operation::Subtract => fold(numeric::sub)?,
            Operation::Multiply => fold(numeric::mul)?,
            Operation::Divide | Operation::Average => divide(&arrays[0], &arrays[1], args.return_field.data_type())?,
            Operation::Digits => {
                let numbers = arrays[0].as_primitive_opt::<Decimal128Type>();
                let valid = numbers.is_none_or(|all| all.validate_decimal_precision(DECIMAL128_MAX_PRECISION).is_ok());
                if valid { arrays[0].clone() } else { return Err(out_of_range("DECIMAL")) }
            }
            Operation::Truth => {
                let numbers = match arrays[0].data_type() {
                    DataType::Boolean => return Ok(args.args[0].clone()),
                    DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Decimal128(..) => {
                        cast_with_options(&arrays[0], &DataType::Float64, &lenient)?
                    }
                    _ => arrays[0].clone(),
                };
                cast_with_options(&numbers, &DataType::Boolean, &lenient)?
            }
            Operation::Number if *arrays[0].data_type() == DataType::Boolean => {
                let numbers = cast_with_options(&arrays[0], &DataType::Int64, &lenient)?;
                cast_with_options(&numbers, args.return_field.data_type(), &lenient)?
            }
            Operation::Number | Operation::Measure => {
                cast_with_options(&arrays[0], args.return_field.data_type(), &lenient)?
            }
            Operation::Total => {
                let strict = CastOptions { safe: false, ..Default::default() };
                let total = cast_with_options(&arrays[0], args.return_field.data_type(), &strict);
                let ty = if matches!(arrays[0].data_type(), DataType::Decimal256(..)) { "DECIMAL" } else { "BIGINT" };
                total.map_err(|_| out_of_range(ty))?
            }
        };
        Ok(match scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?),
            false => ColumnarValue::Array(array),
        })
    }
}

fn out_of_range(ty: &str) -> DataFusionError {
    DataFusionError::External(Box::new(overflow(ty)))
}

/// What a division takes for an operand of a type.
fn operand(ty: &DataType) -> DataType {
    match ty {
        DataType::Decimal128(..) => ty.clone(),
        DataType::Decimal256(_, scale) => DataType::Decimal128(DECIMAL128_MAX_PRECISION, *scale),
        ty if ty.is_integer() => DataType::Decimal128(20, 0),
        _ => DataType::Float64,
    }
}

/// The digits of a quotient, as in MySQL, and as many before the point as there can be.
fn quotient_type(digits: u8, scale: i8, divisor: i8) -> DataType {
    let more = (DECIMAL128_MAX_SCALE - scale).min(4);
    let digits = i16::from(digits) + i16::from(more) + i16::from(divisor);
    DataType::Decimal128(digits.min(DECIMAL128_MAX_PRECISION.into()) as u8, scale + more)
}

/// Quotients of this type, rounded half away from zero; NULL for a zero divisor.
fn divide(dividends: &ArrayRef, divisors: &ArrayRef, ty: &DataType) -> Result<ArrayRef> {
    let (DataType::Decimal128(_, a), DataType::Decimal128(_, b), DataType::Decimal128(digits, scale)) =
        (dividends.data_type(), divisors.data_type(), ty)
    else {
        let number = |array: &ArrayRef| cast_with_options(array, &DataType::Float64, &CastOptions::default());
        let (dividends, divisors) = (number(dividends)?, number(divisors)?);
        let pairs = dividends.as_primitive::<Float64Type>().iter().zip(divisors.as_primitive::<Float64Type>());
        let quotient = |(x, y): (Option<f64>, Option<f64>)| Some(x? / y.filter(|y| *y != 0.0)?);
        return Ok(Arc::new(pairs.map(quotient).collect::<Float64Array>()));
    };
    // Where a product is too large, the quotient is too.
    let factor = i256::from_i128(10).checked_pow((i32::from(*scale) - i32::from(*a) + i32::from(*b)) as u32);
    let quotient = |x: i128, y: i128| -> Option<i128> {
        let (dividend, divisor) = (i256::from_i128(x).checked_mul(factor?)?, i256::from_i128(y));
        let (whole, rest) = (dividend.checked_div(divisor)?, dividend.checked_rem(divisor)?);
        let up = rest.wrapping_abs().checked_mul(i256::from_i128(2))? >= divisor.wrapping_abs();
        let sign = if (x < 0) == (y < 0) { i256::ONE } else { i256::MINUS_ONE };
        let rounded = if up { whole.checked_add(sign)? } else { whole }.to_i128()?;
        Decimal128Type::is_valid_decimal_precision(rounded, *digits).then_some(rounded)
    };
    let pairs = dividends.as_primitive::<Decimal128Type>().iter().zip(divisors.as_primitive::<Decimal128Type>());
    let quotients = pairs.map(|pair| match pair {
        (Some(x), Some(y)) if y != 0 => match quotient(x, y) {
            Some(quotient) => Ok(Some(quotient)),
            None => Err(out_of_range("DECIMAL")),
        },
        _ => Ok(None),
    });
    let quotients: Decimal128Array = quotients.collect::<Result<_>>()?;
    Ok(Arc::new(quotients.with_precision_and_scale(*digits, *scale)?))
}

fn text(args: &[Datum], at: usize) -> &str {
    if let Datum::Text(text) = &args[at] { text } else { "" }
}

fn bytes(args: &[Datum], at: usize) -> &[u8] {
    if let Datum::Bytes(bytes) = &args[at] { bytes } else { text(args, at).as_bytes() }
}

fn number(args: &[Datum], at: usize) -> i64 {
    if let Datum::Int(number) = args[at] { number } else { 0 }
}

fn real(args: &[Datum], at: usize) -> f64 {
    if let Datum::Double(number) = args[at] { number } else { f64::NAN }
}

/// Outside its domain a function is NULL.
fn finite(value: f64) -> Datum {
    if value.is_finite() { Datum::Double(value) } else { Datum::Null }
}

fn time(args: &[Datum], at: usize) -> NaiveDateTime {
    if let Datum::DateTime(micros) = args[at] { naive(micros) } else { NaiveDateTime::default() }
}

fn int(value: usize) -> Datum {
    Datum::Int(value as i64)
}

fn on_time(args: &[Datum], part: fn(NaiveDateTime) -> i64) -> Result<Datum, String> {
    Ok(Datum::Int(part(time(args, 0))))
}

/// chrono counts days from the year 1, MySQL from the year 0.
fn plus_year_zero(days: Datum) -> Datum {
    if let Datum::Int(days) = days { Datum::Int(days + 365) } else { days }
}

fn join<'a>(parts: impl Iterator<Item = &'a str>, separator: &str) -> Result<Datum, String> {
    let parts: Vec<&str> = parts.collect();
    let separators = separator.len().saturating_mul(parts.len().saturating_sub(1));
    check_length(parts.iter().map(|part| part.len()).sum::<usize>().saturating_add(separators))?;
    Ok(Datum::Text(parts.join(separator)))
}

fn concat_ws(args: &[Datum]) -> Result<Datum, String> {
    let Datum::Text(separator) = &args[0] else { return Ok(Datum::Null) };
    let parts = args[1..].iter().filter_map(|part| if let Datum::Text(part) = part { Some(&**part) } else { None });
    join(parts, separator)
}

/// Positions count from 1, negative ones from the end; 0 is nowhere.
fn substr(args: &[Datum]) -> Datum {
    let (source, from) = (text(args, 0), number(args, 1));
    let most = if args.len() > 2 { usize::try_from(number(args, 2)).unwrap_or(0) } else { MANY };
    let length = source.chars().count() as i64;
    let start = if from < 0 { length + from } else { from - 1 };
    if start < 0 || start >= length {
        return Datum::Text(String::new());
    }
    Datum::Text(source.chars().skip(start as usize).take(most).collect())
}

fn take(source: &str, count: i64, from_end: bool) -> Datum {
    let count = usize::try_from(count).unwrap_or(0);
    let skip = if from_end { source.chars().count().saturating_sub(count) } else { 0 };
    Datum::Text(source.chars().skip(skip).take(count).collect())
}

fn locate(part: &str, source: &str, from: i64) -> Datum {
    let Some(skip) = from.checked_sub(1).and_then(|skip| usize::try_from(skip).ok()) else { return Datum::Int(0) };
    let Some(start) = source.char_indices().map(|(at, _)| at).chain([source.len()]).nth(skip) else {
        return Datum::Int(0);
    };
    match source[start..].find(part) {
        Some(found) => int(skip + source[start..start + found].chars().count() + 1),
        None => Datum::Int(0),
    }
}

/// Refuses a text that a function makes out of shorter ones before it is made.
fn check_length(bytes: usize) -> Result<(), String> {
    if bytes > MAX_TEXT { Err(format!("the result is longer than {MAX_TEXT} bytes")) } else { Ok(()) }
}

fn repeat(part: &str, times: i64) -> Result<Datum, String> {
    let times = usize::try_from(times).unwrap_or(0);
    check_length(part.len().saturating_mul(times))?;
    Ok(Datum::Text(part.repeat(times)))
}

fn pad(args: &[Datum], left: bool) -> Result<Datum, String> {
    let (source, wanted, filling) = (text(args, 0), number(args, 1), text(args, 2));
    let Ok(wanted) = usize::try_from(wanted) else { return Ok(Datum::Null) };
    check_length(wanted)?;
    let length = source.chars().count();
    if length < wanted && filling.is_empty() {
        return Ok(Datum::Text(String::new()));
    }
    let kept = source.chars().take(wanted);
    let added = filling.chars().cycle().take(wanted.saturating_sub(length));
    Ok(Datum::Text(if left { added.chain(kept).collect() } else { kept.chain(added).collect() }))
}

fn replace(args: &[Datum]) -> Result<Datum, String> {
    let (source, from, to) = (text(args, 0), text(args, 1), text(args, 2));
    if from.is_empty() {
        return Ok(Datum::Text(source.to_owned()));
    }
    if to.len() > from.len() {
        let grows = source.matches(from).count().saturating_mul(to.len() - from.len());
        check_length(source.len().saturating_add(grows))?;
    }
    Ok(Datum::Text(source.replace(from, to)))
}

fn hex_of(args: &[Datum]) -> Result<Datum, String> {
    match &args[0] {
        Datum::Int(value) => Ok(Datum::Text(format!("{value:X}"))),
        // Each HEX in another doubles the text.
        Datum::Text(value) if value.len() > MAX_TEXTS / 2 => {
            Err(format!("the result is longer than {MAX_TEXTS} bytes"))
        }
        Datum::Text(value) => Ok(Datum::Text(hex::encode_upper(value))),
        Datum::Bytes(value) => Ok(Datum::Text(hex::encode_upper(value))),
        other => Err(format!("{other} is neither an integer nor text")),
    }
}

/// NULL for a number of bits that SHA-2 does not have; 0 is 256.
fn sha2(source: &[u8], bits: i64) -> Datum {
    Datum::Text(match bits {
        224 => hex::encode(sha2::Sha224::digest(source)),
        0 | 256 => hex::encode(sha2::Sha256::digest(source)),
        384 => hex::encode(sha2::Sha384::digest(source)),
        512 => hex::encode(sha2::Sha512::digest(source)),
        _ => return Datum::Null,
    })
}

fn find_in_set(part: &str, set: &str) -> Datum {
    int(set.split(',').position(|element| element == part && !set.is_empty()).map_or(0, |at| at + 1))
}

fn substring_index(args: &[Datum]) -> Datum {
    let (source, separator, count) = (text(args, 0), text(args, 1), number(args, 2));
    if separator.is_empty() || count == 0 {
        return Datum::Text(String::new());
    }
    let nth = count.unsigned_abs() as usize - 1;
    let kept = if count > 0 {
        source.match_indices(separator).nth(nth).map(|(at, _)| &source[..at])
    } else {
        source.rmatch_indices(separator).nth(nth).map(|(at, _)| &source[at + separator.len()..])
    };
    Datum::Text(kept.unwrap_or(source).to_owned())
}

fn quotient(args: &[Datum], divide: fn(f64, f64) -> f64) -> Datum {
    match (&args[0], &args[1]) {
        (Datum::Double(x), Datum::Double(y)) if *y != 0.0 => Datum::Double(divide(*x, *y)),
        _ => Datum::Null,
    }
}

/// The digits of a number as one, and how many of them are behind the point. `None` of a DOUBLE.
fn exact(number: &Datum) -> Option<(i128, u32)> {
    match number {
        Datum::Int(number) => Some((i128::from(*number), 0)),
        Datum::Exact(text) => {
            let behind = text.split_once('.').map_or(0, |(_, behind)| behind.len());
            Some((text.replacen('.', "", 1).parse().ok()?, behind as u32))
        }
        _ => None,
    }
}

/// The next BIGINT that is not less than a number, or not more.
fn neighbour(number: &Datum, above: bool) -> Result<Datum, String> {
    let Some((digits, scale)) = exact(number) else {
        let number = inexact(number);
        return whole(Datum::Double(if above { number.ceil() } else { number.floor() }));
    };
    let unit = 10_i128.pow(scale);
    let below = digits.div_euclid(unit);
    big_int(Some(below + i128::from(above && digits.rem_euclid(unit) != 0)))
}

/// `DIV`: the quotient without its fraction.
fn whole_divide(dividend: &Datum, divisor: &Datum) -> Result<Datum, String> {
    let (Some((x, behind_x)), Some((y, behind_y))) = (exact(dividend), exact(divisor)) else {
        let doubles = [dividend, divisor].map(|number| Datum::Double(inexact(number)));
        return whole(quotient(&doubles, |x, y| (x / y).trunc()));
    };
    if y == 0 {
        return Ok(Datum::Null);
    }
    // Of 38 digits and as many zeros at most.
    let scaled = |number: i128, zeros: u32| i256::from_i128(number).wrapping_mul(i256::from_i128(10_i128.pow(zeros)));
    big_int(scaled(x, behind_y).wrapping_div(scaled(y, behind_x)).to_i128())
}

fn inexact(number: &Datum) -> f64 {
    match number {
        Datum::Int(number) => *number as f64,
        Datum::Double(number) => *number,
        Datum::Exact(text) => text.parse().unwrap_or(f64::NAN),
        _ => f64::NAN,
    }
}

fn big_int(number: Option<i128>) -> Result<Datum, String> {
    number.and_then(|number| i64::try_from(number).ok()).map(Datum::Int).ok_or_else(|| OVERFLOW.into())
}

fn whole(value: Datum) -> Result<Datum, String> {
    match value {
        // The bounds are exact as f64: -2^63 is a BIGINT, 2^63 is not.
        Datum::Double(value) if (-(2.0_f64.powi(63))..2.0_f64.powi(63)).contains(&value) => {
            Ok(Datum::Int(value as i64))
        }
        Datum::Double(_) => Err(OVERFLOW.into()),
        other => Ok(other),
    }
}

fn zone(args: &[Datum], at: usize) -> Result<Zone, String> {
    Zone::parse(text(args, at)).map_err(|err| err.to_string())
}
