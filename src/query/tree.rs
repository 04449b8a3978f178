//! Makes parts of syntax trees.

use sqlparser::ast::{
    BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, TimezoneInfo, Value,
};

use crate::types::{ColumnType, Datum};

/// A name that is taken as it is.
pub(super) fn name(text: &str) -> Ident {
    Ident::with_quote('`', text)
}

pub(super) fn null() -> Expr {
    Expr::Value(Value::Null.into())
}

pub(super) fn string(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_owned()).into())
}

pub(super) fn number(value: i64) -> Expr {
    Expr::Value(Value::Number(value.to_string(), false).into())
}

pub(super) fn literal(value: Datum) -> Expr {
    match value {
        Datum::Null => null(),
        Datum::Bool(value) => Expr::Value(Value::Boolean(value).into()),
        Datum::Int(value) if value < 0 => {
            // The parser has no negative literals.
            cast(string(&value.to_string()), DataType::BigInt(None))
        }
        Datum::Int(value) => number(value),
        Datum::Exact(digits) => Expr::Value(Value::Number(digits, false).into()),
        Datum::Bytes(bytes) => Expr::Value(Value::HexStringLiteral(hex::encode(bytes)).into()),
        Datum::Double(value) => cast(string(&value.to_string()), DataType::Double(ExactNumberInfo::None)),
        Datum::DateTime(_) => match value.text(ColumnType::DateTime) {
            Some(text) => cast(string(&text), DataType::Timestamp(None, TimezoneInfo::None)),
            None => null(),
        },
        other => string(&other.to_string()),
    }
}

pub(super) fn nested(expr: Expr) -> Expr {
    Expr::Nested(Box::new(expr))
}

pub(super) fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

pub(super) fn case(condition: Expr, then: Expr, or: Option<Expr>) -> Expr {
    Expr::Case {
        case_token: sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
        end_token: sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions: vec![sqlparser::ast::CaseWhen { condition, result: then }],
        else_result: or.map(Box::new),
    }
}

pub(super) fn unnamed(expr: Expr) -> FunctionArg {
    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
}

pub(super) fn call(function: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(unnamed).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(function)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// `=`, of rows for each of their values.
pub(super) fn equal(left: Expr, right: Expr) -> Expr {
    match (left, right) {
        (Expr::Tuple(left), Expr::Tuple(right)) if left.len() == right.len() => {
            let each = left.into_iter().zip(right).map(|(left, right)| equal(left, right));
            nested(each.reduce(|all, next| binary(all, BinaryOperator::And, next)).unwrap_or_else(null))
        }
        (left, right) => binary(left, BinaryOperator::Eq, right),
    }
}

/// A type, as CAST means it: what has no such value becomes NULL.
pub(super) fn cast(expr: Expr, data_type: DataType) -> Expr {
    match data_type {
        DataType::Char(None)
        | DataType::Varchar(None)
        | DataType::Text
        | DataType::String(_)
        | DataType::Character(None) => call("__cast_text", vec![expr]),
        DataType::Char(Some(most)) | DataType::Varchar(Some(most)) | DataType::Character(Some(most)) => {
            let most = match most {
                sqlparser::ast::CharacterLength::IntegerLength { length, .. } => number(length as i64),
                sqlparser::ast::CharacterLength::Max => number(i64::MAX),
            };
            call("left", vec![call("__cast_text", vec![expr]), most])
        }
        data_type @ (DataType::Unsigned | DataType::UnsignedInteger) => {
            try_cast(call("__unsigned", vec![try_cast(expr, data_type.clone())]), data_type)
        }
        data_type => try_cast(expr, data_type),
    }
}

pub(super) fn try_cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::TryCast, expr: Box::new(expr), data_type, array: false, format: None }
}
