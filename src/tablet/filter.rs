use arrow::array::{Array, ArrayRef, BooleanArray, Scalar};
use arrow::compute;
use arrow::compute::kernels::cmp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::types::{ColumnType, Datum};

/// A condition on one column that a scan applies. A column is its position in the schema of the scan.
///
/// As in SQL, comparing with NULL is never true. Values must be of the column's type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanFilter {
    /// column op value.
    Compare {
        /// The column.
        column: usize,
        /// The operator.
        op: Comparison,
        /// The right side.
        value: Datum,
    },
    /// column IN (values).
    In {
        /// The column.
        column: usize,
        /// The list.
        values: Vec<Datum>,
    },
    /// column IS NULL.
    IsNull {
        /// The column.
        column: usize,
    },
    /// column IS NOT NULL.
    IsNotNull {
        /// The column.
        column: usize,
    },
}

/// How two values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// =
    Eq,
    /// !=
    NotEq,
    /// <
    Lt,
    /// <=
    LtEq,
    /// >
    Gt,
    /// >=
    GtEq,
}

/// What is known of the values of a column in some rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Bounds {
    /// No value is less; `None` if unknown.
    pub(super) min: Option<Datum>,
    /// No value is greater; `None` if unknown.
    pub(super) max: Option<Datum>,
    /// There is surely no NULL.
    pub(super) no_null: bool,
    /// There is surely nothing but NULL.
    pub(super) all_null: bool,
}

impl ScanFilter {
    /// The column it is about.
    pub fn column(&self) -> usize {
        match self {
            Self::Compare { column, .. }
            | Self::In { column, .. }
            | Self::IsNull { column }
            | Self::IsNotNull { column } => *column,
        }
    }

    /// For each value of the column whether the condition holds; never NULL.
    pub(super) fn evaluate(&self, values: &ArrayRef, ty: ColumnType) -> Result<BooleanArray> {
        let compare = |op: Comparison, value: &Datum| {
            let value = Scalar::new(value.array(ty, 1).map_err(Error::internal)?);
            let compared = match op {
                Comparison::Eq => cmp::eq(values, &value),
                Comparison::NotEq => cmp::neq(values, &value),
                Comparison::Lt => cmp::lt(values, &value),
                Comparison::LtEq => cmp::lt_eq(values, &value),
                Comparison::Gt => cmp::gt(values, &value),
                Comparison::GtEq => cmp::gt_eq(values, &value),
            };
            let known = |found: BooleanArray| match found.null_count() {
                0 => found,
                _ => compute::prep_null_mask_filter(&found),
            };
            compared.map(known).map_err(Error::internal)
        };
        match self {
            Self::Compare { op, value, .. } => compare(*op, value),
            Self::In { values: list, .. } => {
                let none = BooleanArray::from(vec![false; values.len()]);
                list.iter().try_fold(none, |found, value| {
                    compute::or(&found, &compare(Comparison::Eq, value)?).map_err(Error::internal)
                })
            }
            Self::IsNull { .. } => compute::is_null(values).map_err(Error::internal),
            Self::IsNotNull { .. } => compute::is_not_null(values).map_err(Error::internal),
        }
    }

    /// Whether a row within these bounds can satisfy it. `true` where that cannot be known.
    pub(super) fn may_match(&self, bounds: &Bounds) -> bool {
        match self {
            Self::Compare { op, value, .. } => may_compare(*op, value, bounds),
            Self::In { values, .. } => values.iter().any(|value| may_compare(Comparison::Eq, value, bounds)),
            Self::IsNull { .. } => !bounds.no_null,
            Self::IsNotNull { .. } => !bounds.all_null,
        }
    }
}

fn may_compare(op: Comparison, value: &Datum, bounds: &Bounds) -> bool {
    if bounds.all_null || *value == Datum::Null {
        return false;
    }
    // Statistics leave out NaN, which the comparison itself puts above all numbers.
    if matches!(value, Datum::Double(_)) {
        return true;
    }
    let order = |bound: &Option<Datum>| bound.as_ref().and_then(|bound| bound.compare(value));
    let (min, max) = (order(&bounds.min), order(&bounds.max));
    match op {
        Comparison::Eq => !min.is_some_and(|min| min.is_gt()) && !max.is_some_and(|max| max.is_lt()),
        Comparison::NotEq => true,
        Comparison::Lt => !min.is_some_and(|min| min.is_ge()),
        Comparison::LtEq => !min.is_some_and(|min| min.is_gt()),
        Comparison::Gt => !max.is_some_and(|max| max.is_le()),
        Comparison::GtEq => !max.is_some_and(|max| max.is_lt()),
    }
}
