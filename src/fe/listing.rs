use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};

use crate::error::{Error, Result};
use crate::query::{ResultColumn, RowSet};
use crate::sql::{Filter, Page};
use crate::types::{ColumnType, Entity, Kind};

/// The answer to a SHOW: a small table of texts.
#[derive(Debug, Clone)]
pub struct Listing {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

impl Listing {
    /// A table without rows.
    pub fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|name| (*name).to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row without NULLs.
    pub fn row<const N: usize>(&mut self, values: [&str; N]) {
        self.push(values.map(|value| Some(value.to_owned())).into());
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<Option<String>>) {
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    /// Keeps the rows that a filter wants: LIKE looks at the first column, WHERE at all of them.
    pub fn filter(mut self, filter: Option<&Filter>) -> Result<Self> {
        let Some(filter) = filter else {
            return Ok(self);
        };
        let mut kept = Vec::new();
        for row in self.rows {
            let keep = match filter {
                Filter::Like(pattern) => row.first().and_then(Option::as_deref).is_some_and(|name| like(name, pattern)),
                Filter::Where(condition) => truth(condition, &self.columns, &row)?.unwrap_or(false),
            };
            if keep {
                kept.push(row);
            }
        }
        self.rows = kept;
        Ok(self)
    }

    /// Sorts the rows, those that are equal as they were, and keeps as many as wanted. NULL comes first.
    pub fn page(mut self, page: &Page) -> Result<Self> {
        let place = |(column, descends): &(String, bool)| {
            let place = self.columns.iter().position(|known| known.eq_ignore_ascii_case(column));
            let place = place.ok_or_else(|| Error::NotFound(Entity::new(Kind::Column, column)))?;
            Ok((place, *descends))
        };
        let keys = page.order_by.iter().map(place).collect::<Result<Vec<_>>>()?;
        self.rows.sort_by(|a, b| {
            let by = |(at, descends): &(usize, bool)| {
                let order = order(a[*at].as_deref(), b[*at].as_deref());
                if *descends { order.reverse() } else { order }
            };
            keys.iter().map(by).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        });
        if let Some((skipped, most)) = page.limit {
            self.rows = self.rows.into_iter().skip(skipped).take(most).collect();
        }
        Ok(self)
    }

    /// The result for the client.
    pub fn into_rows(self) -> RowSet {
        let field = |name: &String| Field::new(name, ColumnType::String.arrow(), true);
        let schema = Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()));
        let array = |i: usize| Arc::new(self.rows.iter().map(|row| row[i].as_deref()).collect::<StringArray>());
        let arrays: Vec<ArrayRef> = (0..self.columns.len()).map(|i| array(i) as ArrayRef).collect();
        let batch = RecordBatch::try_new(schema, arrays).expect("each row has one text for each column");
        let column = |name: String| ResultColumn { name, ty: ColumnType::String, nullable: true, origin: None };
        RowSet::new(self.columns.into_iter().map(column).collect(), vec![batch])
    }
}

/// MySQL's LIKE: `%`, `_`, `\` before either, letter case ignored.
pub(super) fn like(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let (mut t, mut p) = (0, 0);
    // Where to resume when what followed the last `%` did not match.
    let mut retry = None;
    loop {
        let escaped = pattern.get(p) == Some(&'\\') && p + 1 < pattern.len();
        let sign = pattern.get(p + usize::from(escaped));
        if !escaped && sign == Some(&'%') {
            p += 1;
            retry = Some((t, p));
        } else if t < text.len() && sign.is_some_and(|sign| (!escaped && *sign == '_') || *sign == text[t]) {
            t += 1;
            p += 1 + usize::from(escaped);
        } else if t == text.len() && p == pattern.len() {
            return true;
        } else if let Some((from, after)) = retry.filter(|(from, _)| *from < text.len()) {
            (t, p) = (from + 1, after);
            retry = Some((t, after));
        } else {
            return false;
        }
    }
}

/// Whether a condition holds for a row; `None` for NULL.
fn truth(condition: &Expr, columns: &[String], row: &[Option<String>]) -> Result<Option<bool>> {
    let truth = |expr: &Expr| truth(expr, columns, row);
    let value = |expr: &Expr| value(expr, columns, row);
    Ok(match condition {
        Expr::Nested(inner) => truth(inner)?,
        Expr::Value(_) => value(condition)?.map(|text| text.parse::<f64>().is_ok_and(|number| number != 0.0)),
        Expr::UnaryOp { op: UnaryOperator::Not, expr } => truth(expr)?.map(|holds| !holds),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => match (truth(left)?, truth(right)?) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        },
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => match (truth(left)?, truth(right)?) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
        Expr::BinaryOp { left, op, right } => {
            let order = compare(value(left)?, value(right)?);
            let holds: fn(Ordering) -> bool = match op {
                BinaryOperator::Eq => Ordering::is_eq,
                BinaryOperator::NotEq => Ordering::is_ne,
                BinaryOperator::Lt => Ordering::is_lt,
                BinaryOperator::LtEq => Ordering::is_le,
                BinaryOperator::Gt => Ordering::is_gt,
                BinaryOperator::GtEq => Ordering::is_ge,
                _ => return Err(unsupported(condition)),
            };
            order.map(holds)
        }
        Expr::Like { negated, expr, pattern, any: false, .. } => match (value(expr)?, value(pattern)?) {
            (Some(text), Some(pattern)) => Some(like(&text, &pattern) != *negated),
            _ => None,
        },
        Expr::InList { expr, list, negated } => {
            let searched = value(expr)?;
            let mut found = Some(false);
            for item in list {
                match compare(searched.clone(), value(item)?) {
                    Some(Ordering::Equal) => {
                        found = Some(true);
                        break;
                    }
                    Some(_) => {}
                    None => found = None,
                }
            }
            found.map(|found| found != *negated)
        }
        Expr::Between { expr, negated, low, high } => {
            let middle = value(expr)?;
            match (compare(middle.clone(), value(low)?), compare(middle, value(high)?)) {
                (Some(low), Some(high)) => Some((low.is_ge() && high.is_le()) != *negated),
                _ => None,
            }
        }
        Expr::IsNull(expr) => Some(value(expr)?.is_none()),
        Expr::IsNotNull(expr) => Some(value(expr)?.is_some()),
        _ => return Err(unsupported(condition)),
    })
}

fn value(expr: &Expr, columns: &[String], row: &[Option<String>]) -> Result<Option<String>> {
    match expr {
        Expr::Nested(inner) => value(inner, columns, row),
        Expr::Identifier(name) => {
            let at = columns.iter().position(|column| column.eq_ignore_ascii_case(&name.value));
            at.map(|at| row[at].clone()).ok_or_else(|| Error::NotFound(Entity::new(Kind::Column, &name.value)))
        }
        Expr::Value(literal) => match &literal.value {
            Value::Null => Ok(None),
            Value::Boolean(value) => Ok(Some(u8::from(*value).to_string())),
            Value::Number(number, _) => Ok(Some(number.to_string())),
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Ok(Some(text.clone())),
            _ => Err(unsupported(expr)),
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            Ok(value(expr, columns, row)?.map(|number| format!("-{number}")))
        }
        _ => Err(unsupported(expr)),
    }
}

/// Numbers as numbers, all else as text without regard to letter case.
fn compare(a: Option<String>, b: Option<String>) -> Option<Ordering> {
    let (a, b) = (a?, b?);
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.partial_cmp(&b),
        _ => Some(a.to_lowercase().cmp(&b.to_lowercase())),
    }
}

/// NULL, then numbers, then texts without regard to letter case.
fn order(a: Option<&str>, b: Option<&str>) -> Ordering {
    let (Some(a), Some(b)) = (a, b) else { return a.is_some().cmp(&b.is_some()) };
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.to_lowercase().cmp(&b.to_lowercase()),
    }
}

fn unsupported(expr: &Expr) -> Error {
    Error::Unsupported(format!("'{expr}' in the WHERE of a SHOW; use information_schema"))
}

#[cfg(test)]
mod tests {
    use sqlparser::dialect::MySqlDialect;
    use sqlparser::parser::Parser;

    use super::*;

    #[test]
    fn like_is_that_of_mysql() {
        for (text, pattern, matches) in [
            ("version_comment", "version%", true),
            ("Version", "%SION", true),
            ("axbxc", "a%b%c", true),
            ("axbxd", "a%b%c", false),
            ("a_c", "a\\_c", true),
            ("abc", "a\\_c", false),
            ("abc", "a_c", true),
            ("", "%", true),
            ("", "_", false),
        ] {
            assert_eq!(like(text, pattern), matches, "{text} like {pattern}");
        }
    }

    #[test]
    fn where_sees_columns_by_any_case_and_numbers_as_numbers() {
        let mut listing = Listing::new(&["Name", "Size"]);
        listing.row(["a", "9"]);
        listing.row(["b", "10"]);
        listing.push(vec![Some("c".into()), None]);
        for (condition, left) in [
            ("size > 9", 1),
            ("name in ('A', 'c') and size is null", 1),
            ("not (name like 'a%' or size between 10 and 11)", 0),
            ("Name <> 'b'", 2),
            ("size = 9 or name = 'c'", 2),
            ("true", 3),
            ("0", 0),
        ] {
            let expr = Parser::new(&MySqlDialect {}).try_with_sql(condition).unwrap().parse_expr().unwrap();
            let filtered = listing.clone().filter(Some(&Filter::Where(Box::new(expr)))).unwrap();
            assert_eq!(filtered.rows.len(), left, "{condition}");
        }
    }
}
