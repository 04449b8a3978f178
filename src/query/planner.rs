//! What DataFusion's SQL planner asks for: names, and what operators and types mean in MySQL's dialect.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, ScalarValue, TableReference, not_impl_err, plan_err};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, PlannerResult, RawBinaryExpr, TypePlanner};
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    AggregateUDF, BinaryExpr, Expr, ExprSchemable, HigherOrderUDF, Like, LogicalPlan, LogicalPlanBuilder, Operator,
    ScalarUDF, TableSource, Union, WindowUDF, cast, lit, try_cast,
};
use sqlparser::ast::{BinaryOperator, DataType as SqlType, ExactNumberInfo};

use super::functions;
use super::functions::{Operation, scalar};
use super::sets;
use super::types::column_type;
use crate::error::{Error, Misfit};
use crate::types::{ColumnType, Datum};

type Result<T, E = DataFusionError> = std::result::Result<T, E>;

/// DataFusion's functions that mean in MySQL what they mean there. The others are in `functions.rs`.
const SCALAR: &[&str] = &[
    "abs",
    "atan",
    "atan2",
    "btrim",
    "coalesce",
    "cos",
    "cot",
    "degrees",
    "ends_with",
    "greatest",
    "least",
    "ltrim",
    "pi",
    "radians",
    "random",
    "round",
    "rtrim",
    "signum",
    "sin",
    "starts_with",
    "tan",
    "trim",
    "trunc",
    "uuid",
];

pub(super) const AGGREGATE: &[&str] = &[
    "approx_distinct",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "first_value",
    "grouping",
    "last_value",
    "max",
    "min",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "var_pop",
    "var_samp",
];

pub(super) const WINDOW: &[&str] = &[
    "cume_dist",
    "dense_rank",
    "first_value",
    "lag",
    "last_value",
    "lead",
    "nth_value",
    "ntile",
    "percent_rank",
    "rank",
    "row_number",
];

/// All functions that a query can name.
#[derive(Debug)]
pub(super) struct Functions {
    scalar: HashMap<String, Arc<ScalarUDF>>,
    aggregate: HashMap<String, Arc<AggregateUDF>>,
    window: HashMap<String, Arc<WindowUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    pub(super) names: HashSet<String>,
}

impl Functions {
    pub(super) fn new(state: &SessionState) -> Self {
        let known = |names: &[&str], name: &String| names.contains(&name.as_str());
        let mut scalar = state.scalar_functions().clone();
        scalar.retain(|name, _| known(SCALAR, name));
        scalar.extend(functions::all().map(|(name, function)| (name.to_owned(), function)));
        let mut aggregate = state.aggregate_functions().clone();
        aggregate.retain(|name, _| known(AGGREGATE, name));
        let mut window = state.window_functions().clone();
        window.retain(|name, _| known(WINDOW, name));
        let names = scalar.keys().chain(aggregate.keys()).chain(window.keys()).cloned().collect();
        let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(Operators)];
        planners.extend(state.expr_planners().iter().cloned());
        Self { scalar, aggregate, window, planners, names }
    }
}

/// Resolves the names of one query.
pub(super) struct Names<'a> {
    pub(super) functions: &'a Functions,
    pub(super) options: &'a ConfigOptions,
    pub(super) table: &'a dyn Fn(&TableReference) -> crate::error::Result<Arc<dyn TableSource>>,
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        (self.table)(&name).map_err(|err| DataFusionError::External(Box::new(err)))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.functions.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.scalar.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.functions.window.get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.scalar.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.functions.aggregate.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.functions.window.keys().cloned().collect()
    }
}

#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, ty: &SqlType) -> Result<Option<FieldRef>> {
        let planned = match ty {
            SqlType::Boolean | SqlType::Bool => DataType::Boolean,
            SqlType::TinyInt(_) => DataType::Int8,
            SqlType::SmallInt(_) => DataType::Int16,
            SqlType::Int(_) | SqlType::Integer(_) => DataType::Int32,
            SqlType::BigInt(_) | SqlType::Signed | SqlType::SignedInteger => DataType::Int64,
            SqlType::Unsigned | SqlType::UnsignedInteger | SqlType::BigIntUnsigned(_) => DataType::Decimal128(20, 0),
            SqlType::Float(_) | SqlType::Double(_) | SqlType::DoublePrecision | SqlType::Real => DataType::Float64,
            SqlType::Decimal(size) | SqlType::Dec(size) | SqlType::Numeric(size) => {
                let (precision, scale) = match size {
                    ExactNumberInfo::None => (10, 0),
                    ExactNumberInfo::Precision(precision) => (*precision, 0),
                    ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
                };
                match (u8::try_from(precision), i8::try_from(scale)) {
                    (Ok(precision @ 1..=38), Ok(scale)) if (0..=precision as i8).contains(&scale) => {
                        DataType::Decimal128(precision, scale)
                    }
                    _ => return plan_err!("{ty} is not a type: up to 38 digits, of which some are after the point"),
                }
            }
            SqlType::Date => DataType::Date32,
            SqlType::Datetime(_) | SqlType::Timestamp(..) => ColumnType::DateTime.arrow(),
            SqlType::Char(_) | SqlType::Varchar(_) | SqlType::Text | SqlType::String(_) => DataType::Utf8,
            other => return not_impl_err!("type {other}"),
        };
        Ok(Some(Arc::new(Field::new("", planned, true))))
    }
}

/// Gives what must be of one type the one that MySQL gives it: the columns of UNION and VALUES, the results of CASE, the
/// arguments of COALESCE, GREATEST and LEAST, both sides of IN and LIKE, and operands of `-`, ABS and ROUND. DataFusion
/// would make DOUBLE and DECIMAL a DECIMAL, which cannot hold 1e300, and read a text beside a number as a number.
pub(super) fn common_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    let unified = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Union(union) => unify_union(union),
        LogicalPlan::Values(values) => unify_values(values.values),
        // Its filters are not ours to change, and there are none yet.
        LogicalPlan::TableScan(_) => Ok(Transformed::no(node)),
        LogicalPlan::Aggregate(aggregate) if matches!(aggregate.group_expr[..], [Expr::GroupingSet(_)]) => {
            let mut aggregate = sets::of_columns(aggregate)?;
            aggregate.input = Arc::new(unify_node(Arc::unwrap_or_clone(aggregate.input))?.data);
            unify_node(LogicalPlan::Aggregate(aggregate))
        }
        node => unify_node(node),
    });
    Ok(unified?.data)
}

fn unify_node(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&node.inputs());
    let preserver = NamePreserver::new(&node);
    let unified = node.map_expressions(|expr| {
        let name = preserver.save(&expr);
        let unified = expr.transform_up(|expr| unify(expr, &schema))?;
        Ok(unified.update_data(|expr| name.restore(expr)))
    })?;
    unified.map_data(LogicalPlan::recompute_schema)
}

/// The type of values of several, as MySQL has it; `None` if there is nothing to change.
fn common_type<'a>(types: impl Iterator<Item = &'a DataType>) -> Option<DataType> {
    let types: Vec<&DataType> = types.filter(|ty| !ty.is_null()).collect();
    let (first, rest) = types.split_first()?;
    if rest.iter().all(|ty| ty == first) {
        return None;
    }
    let all = |wanted: &[Class]| types.iter().all(|ty| wanted.contains(&class(ty)));
    let any = |wanted: Class| types.iter().any(|ty| class(ty) == wanted);
    if all(&[Class::Bool, Class::Int, Class::Decimal, Class::Double]) {
        if any(Class::Double) {
            return Some(DataType::Float64);
        }
        let number = |ty: &&DataType| if **ty == DataType::Boolean { DataType::Int64 } else { (*ty).clone() };
        return type_union_resolution(&types.iter().map(number).collect::<Vec<_>>());
    }
    if all(&[Class::Day, Class::Time]) {
        return Some(ColumnType::DateTime.arrow());
    }
    if types.iter().all(|ty| class(ty) == Class::Text || **ty == DataType::Binary) {
        return Some(DataType::Binary);
    }
    // Whatever else meets is shown as text.
    (!any(Class::Other)).then_some(DataType::Utf8)
}

/// An expression as another type.
fn converted(expr: Expr, from: &DataType, to: &DataType) -> Result<Expr> {
    Ok(match to {
        _ if from == to || from.is_null() => expr,
        DataType::Utf8 if class(from) != Class::Text => functions::call("__text", vec![expr])?,
        to => cast(expr, to.clone()),
    })
}

fn unify(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let type_of = |expr: &Expr| expr.get_type(schema);
    match expr {
        Expr::Case(mut case) => {
            let mut results: Vec<&mut Box<Expr>> = case.when_then_expr.iter_mut().map(|(_, then)| then).collect();
            results.extend(case.else_expr.as_mut());
            let types = results.iter().map(|result| type_of(result)).collect::<Result<Vec<_>>>()?;
            let Some(common) = common_type(types.iter()) else { return Ok(Transformed::no(Expr::Case(case))) };
            for (result, ty) in results.into_iter().zip(&types) {
                **result = converted(std::mem::take(result), ty, &common)?;
            }
            Ok(Transformed::yes(Expr::Case(case)))
        }
        Expr::ScalarFunction(mut function) if matches!(function.name(), "coalesce" | "greatest" | "least") => {
            let types = function.args.iter().map(type_of).collect::<Result<Vec<_>>>()?;
            let Some(common) = common_type(types.iter()) else {
                return Ok(Transformed::no(Expr::ScalarFunction(function)));
            };
            let args = function.args.into_iter().zip(&types);
            function.args = args.map(|(arg, ty)| converted(arg, ty, &common)).collect::<Result<_>>()?;
            Ok(Transformed::yes(Expr::ScalarFunction(function)))
        }
        // Shorter lists are comparisons already.
        Expr::InList(mut list) => {
            let ty = type_of(&list.expr)?;
            let types = list.list.iter().map(type_of).collect::<Result<Vec<_>>>()?;
            if !mixed(types.iter().chain([&ty])) {
                return Ok(Transformed::no(Expr::InList(list)));
            }
            *list.expr = converted(*list.expr, &ty, &DataType::Float64)?;
            let items = list.list.into_iter().zip(&types);
            list.list = items.map(|(item, ty)| converted(item, ty, &DataType::Float64)).collect::<Result<_>>()?;
            Ok(Transformed::yes(Expr::InList(list)))
        }
        Expr::InSubquery(mut search) => {
            let ty = type_of(&search.expr)?;
            let plan = &search.subquery.subquery;
            if !mixed([&ty, plan.schema().field(0).data_type()].into_iter()) {
                return Ok(Transformed::no(Expr::InSubquery(search)));
            }
            *search.expr = converted(*search.expr, &ty, &DataType::Float64)?;
            search.subquery.subquery = Arc::new(project_as(plan.clone(), &[Some(DataType::Float64)])?);
            Ok(Transformed::yes(Expr::InSubquery(search)))
        }
        Expr::ScalarFunction(mut function)
            if matches!(function.name(), "abs" | "round") && type_of(&function.args[0])?.is_integer() =>
        {
            function.args[0] = cast(std::mem::take(&mut function.args[0]), DataType::Int64);
            Ok(Transformed::yes(Expr::ScalarFunction(function)))
        }
        // Arrow knows fewer of the forms that a time is written in, and takes numbers for microseconds.
        Expr::TryCast(to) => {
            let from = class(&type_of(&to.expr)?);
            let function = match (class(to.field.data_type()), from) {
                (Class::Time, Class::Text | Class::Int | Class::Decimal | Class::Double) => "timestamp",
                (Class::Day, Class::Int | Class::Decimal | Class::Double) => "date",
                _ => return Ok(Transformed::no(Expr::TryCast(to))),
            };
            let digits = if from == Class::Int { *to.expr } else { as_text(*to.expr, from)? };
            Ok(Transformed::yes(functions::call(function, vec![digits])?))
        }
        // DataFusion's negation stays in the operand's type, and wraps.
        Expr::Negative(expr) if type_of(&expr)?.is_integer() => {
            let operands = vec![lit(0_i64), cast(*expr, DataType::Int64)];
            Ok(Transformed::yes(Operation::Subtract.udf().call(operands)))
        }
        // DataFusion would read them as text, which they need not be.
        Expr::Like(Like { negated, expr, pattern, escape_char: None | Some('\\'), case_insensitive: false })
            if type_of(&expr)?.is_binary() || type_of(&pattern)?.is_binary() =>
        {
            let like = functions::call("__like", vec![*expr, *pattern])?;
            Ok(Transformed::yes(if negated { !like } else { like }))
        }
        Expr::Like(mut like) => {
            let classes = (class(&type_of(&like.expr)?), class(&type_of(&like.pattern)?));
            *like.expr = as_text(*like.expr, classes.0)?;
            *like.pattern = as_text(*like.pattern, classes.1)?;
            Ok(Transformed::yes(Expr::Like(like)))
        }
        expr => Ok(Transformed::no(expr)),
    }
}

/// A number, a time or bytes as a pattern sees them.
fn as_text(expr: Expr, class: Class) -> Result<Expr> {
    match class {
        Class::Null | Class::Text => Ok(expr),
        _ => functions::call("__text", vec![expr]),
    }
}

/// Whether DOUBLE meets DECIMAL.
fn mixed<'a>(types: impl Iterator<Item = &'a DataType> + Clone) -> bool {
    let any = |wanted: Class| types.clone().any(|ty| class(ty) == wanted);
    any(Class::Double) && any(Class::Decimal)
}

fn unify_union(union: Union) -> Result<Transformed<LogicalPlan>> {
    let column = |at: usize| {
        let fields = union.inputs.iter().filter_map(|input| input.schema().fields().get(at));
        common_type(fields.map(|field| field.data_type()))
    };
    let common: Vec<Option<DataType>> = (0..union.schema.fields().len()).map(column).collect();
    if common.iter().all(Option::is_none) {
        return LogicalPlan::Union(union).recompute_schema().map(Transformed::yes);
    }
    let inputs = union.inputs.into_iter().map(|input| project_as(input, &common).map(Arc::new));
    let union = Union::try_new_with_loose_types(inputs.collect::<Result<_>>()?)?;
    Ok(Transformed::yes(LogicalPlan::Union(union)))
}

/// A plan with some of its columns as other types.
fn project_as(input: Arc<LogicalPlan>, types: &[Option<DataType>]) -> Result<LogicalPlan> {
    let column = |((table, field), ty): ((Option<&TableReference>, &FieldRef), &Option<DataType>)| {
        let column = Expr::Column(Column::from((table, field)));
        Ok(match ty {
            Some(ty) if ty != field.data_type() => {
                converted(column, field.data_type(), ty)?.alias_qualified(table.cloned(), field.name())
            }
            _ => column,
        })
    };
    let columns: Vec<Expr> = input.schema().iter().zip(types).map(column).collect::<Result<_>>()?;
    LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(columns)?.build()
}

fn unify_values(mut rows: Vec<Vec<Expr>>) -> Result<Transformed<LogicalPlan>> {
    let none = DFSchema::empty();
    for row in &mut rows {
        for value in row {
            // The planner has cast them to a type of its own choice. Nobody else casts without TRY.
            let own = match std::mem::take(value) {
                Expr::Cast(cast) => *cast.expr,
                other => other,
            };
            *value = own.transform_up(|expr| unify(expr, &none))?.data;
        }
    }
    for at in 0..rows.first().map_or(0, Vec::len) {
        let types = rows.iter().map(|row| row[at].get_type(&none)).collect::<Result<Vec<_>>>()?;
        let Some(common) = common_type(types.iter()) else { continue };
        for (row, ty) in rows.iter_mut().zip(&types) {
            row[at] = converted(std::mem::take(&mut row[at]), ty, &common)?;
        }
    }
    LogicalPlanBuilder::values(rows)?.build().map(Transformed::yes)
}

/// What an operand counts as.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Class {
    Null,
    Bool,
    Int,
    Decimal,
    Double,
    Text,
    Day,
    Time,
    Other,
}

fn class(ty: &DataType) -> Class {
    match ty {
        DataType::Null => Class::Null,
        DataType::Boolean => Class::Bool,
        ty if ty.is_integer() => Class::Int,
        ty if ty.is_decimal() => Class::Decimal,
        ty if ty.is_floating() => Class::Double,
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => Class::Text,
        DataType::Date32 => Class::Day,
        DataType::Timestamp(..) | DataType::Date64 => Class::Time,
        _ => Class::Other,
    }
}

#[derive(Debug)]
struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator as Op;
        let (Ok(left_ty), Ok(right_ty)) = (raw.left.get_type(schema), raw.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(raw));
        };
        let RawBinaryExpr { op, left, right } = raw;
        let classes = (class(&left_ty), class(&right_ty));
        let planned = match op {
            Op::Plus | Op::Minus | Op::Multiply | Op::Divide | Op::Modulo | Op::MyIntegerDivide
                if [classes.0, classes.1].iter().any(|class| matches!(class, Class::Day | Class::Time)) =>
            {
                return plan_err!("dates are not numbers: use INTERVAL, DATEDIFF or TIMESTAMPDIFF");
            }
            Op::Plus | Op::Minus | Op::Multiply => arithmetic(&op, left, right, classes, schema),
            Op::Divide => match classes {
                (Class::Decimal, Class::Decimal | Class::Int) | (Class::Int, Class::Decimal) => {
                    Operation::Divide.udf().call(vec![left, right])
                }
                _ => functions::call("__divide", vec![left, right])?,
            },
            Op::Modulo => match classes {
                (Class::Int, Class::Int)
                | (Class::Decimal, Class::Decimal | Class::Int)
                | (Class::Int, Class::Decimal) => binary(left, Operator::Modulo, not_zero(right, &right_ty)?),
                _ => functions::call("__modulo", vec![left, right])?,
            },
            Op::MyIntegerDivide => functions::call("__whole_divide", vec![left, right])?,
            Op::And => binary(truth(left, classes.0), Operator::And, truth(right, classes.1)),
            Op::Or | Op::StringConcat => binary(truth(left, classes.0), Operator::Or, truth(right, classes.1)),
            Op::PGOverlap => binary(truth(left, classes.0), Operator::And, truth(right, classes.1)),
            Op::Xor => binary(truth(left, classes.0), Operator::NotEq, truth(right, classes.1)),
            Op::Eq | Op::NotEq | Op::Lt | Op::LtEq | Op::Gt | Op::GtEq | Op::Spaceship => {
                let op = match op {
                    Op::Eq => Operator::Eq,
                    Op::NotEq => Operator::NotEq,
                    Op::Lt => Operator::Lt,
                    Op::LtEq => Operator::LtEq,
                    Op::Gt => Operator::Gt,
                    Op::GtEq => Operator::GtEq,
                    _ => Operator::IsNotDistinctFrom,
                };
                let (left, right) = comparable(left, right, classes)?;
                binary(left, op, right)
            }
            Op::PGRegexMatch => binary(as_text(left, classes.0)?, Operator::RegexMatch, as_text(right, classes.1)?),
            Op::PGRegexNotMatch => {
                binary(as_text(left, classes.0)?, Operator::RegexNotMatch, as_text(right, classes.1)?)
            }
            op => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        };
        Ok(PlannerResult::Planned(planned))
    }
}

fn arithmetic(op: &BinaryOperator, left: Expr, right: Expr, classes: (Class, Class), schema: &DFSchema) -> Expr {
    let whole = |class| matches!(class, Class::Int | Class::Bool);
    let (operation, operator) = match op {
        BinaryOperator::Plus => (Operation::Add, Operator::Plus),
        BinaryOperator::Minus => (Operation::Subtract, Operator::Minus),
        _ => (Operation::Multiply, Operator::Multiply),
    };
    if whole(classes.0) && whole(classes.1) {
        let right = cast(right, DataType::Int64);
        // (a - b) - c is one call, because what is nested deeply is planned slowly.
        let mut operands = match left {
            Expr::ScalarFunction(call) if call.name() == operation.name() => call.args,
            left => vec![cast(left, DataType::Int64)],
        };
        operands.push(right);
        return operation.udf().call(operands);
    }
    let number = |expr, class| match class {
        Class::Text => try_cast(expr, DataType::Float64),
        Class::Bool => cast(expr, DataType::Int64),
        _ => expr,
    };
    // What is computed on the way may have more digits.
    let left = match left {
        Expr::ScalarFunction(mut call) if call.name() == Operation::Digits.name() => call.args.remove(0),
        left => left,
    };
    let computed = binary(number(left, classes.0), operator, number(right, classes.1));
    match computed.get_type(schema) {
        Ok(DataType::Decimal128(DECIMAL128_MAX_PRECISION, _)) => Operation::Digits.udf().call(vec![computed]),
        _ => computed,
    }
}

/// NULL instead of zero.
fn not_zero(expr: Expr, ty: &DataType) -> Result<Expr> {
    let zero = cast(lit(0_i64), ty.clone());
    datafusion::logical_expr::when(expr.clone().not_eq(zero), expr).end()
}

fn truth(expr: Expr, class: Class) -> Expr {
    match class {
        Class::Bool => expr,
        Class::Null => cast(expr, DataType::Boolean),
        _ => Operation::Truth.udf().call(vec![expr]),
    }
}

/// Makes two operands comparable as MySQL does, literals first, so that scans can use them.
fn comparable(left: Expr, right: Expr, classes: (Class, Class)) -> Result<(Expr, Expr)> {
    Ok(match classes {
        (Class::Text, Class::Day | Class::Time | Class::Int | Class::Decimal | Class::Double | Class::Bool) => {
            let (right, left) = comparable(right, left, (classes.1, classes.0))?;
            (left, right)
        }
        (Class::Int, Class::Bool | Class::Day | Class::Time) => {
            let (right, left) = comparable(right, left, (classes.1, classes.0))?;
            (left, right)
        }
        (Class::Bool, Class::Int | Class::Decimal | Class::Double | Class::Text) => {
            match literal(&right).map(|text| Datum::parse(&text, ColumnType::Boolean)) {
                Some(Ok(Datum::Bool(value))) => (left, lit(value)),
                _ => comparable(cast(left, DataType::Int64), right, (Class::Int, classes.1))?,
            }
        }
        (Class::Day | Class::Time, Class::Text | Class::Int) => match literal(&right) {
            Some(text) => match (classes.0, Datum::parse(&text, ColumnType::Date)) {
                (Class::Day, Ok(day)) => (left, lit(scalar(day))),
                _ => match Datum::parse(&text, ColumnType::DateTime) {
                    Ok(time) => (cast(left, ColumnType::DateTime.arrow()), lit(scalar(time))),
                    Err(_) => {
                        let ty = if classes.0 == Class::Day { ColumnType::Date } else { ColumnType::DateTime };
                        return Err(DataFusionError::External(Box::new(wrong_time(ty, &text))));
                    }
                },
            },
            None if classes.1 == Class::Text => {
                let time = ColumnType::DateTime.arrow();
                (cast(left, time.clone()), try_cast(right, time))
            }
            None => return plan_err!("a date cannot be compared with a number"),
        },
        (Class::Day, Class::Time) | (Class::Time, Class::Day) => {
            let time = ColumnType::DateTime.arrow();
            (cast(left, time.clone()), cast(right, time))
        }
        (Class::Double, Class::Decimal) => match literal(&right).and_then(|text| text.parse::<f64>().ok()) {
            Some(number) => (left, lit(number)),
            None => (left, cast(right, DataType::Float64)),
        },
        (Class::Decimal, Class::Double) => {
            let (right, left) = comparable(right, left, (classes.1, classes.0))?;
            (left, right)
        }
        (Class::Int, Class::Text) => match literal(&right).and_then(|text| text.trim().parse::<i64>().ok()) {
            Some(number) => (left, lit(number)),
            None => (cast(left, DataType::Float64), try_cast(right, DataType::Float64)),
        },
        (Class::Decimal, Class::Text) => (cast(left, DataType::Float64), try_cast(right, DataType::Float64)),
        (Class::Double, Class::Text) => (left, try_cast(right, DataType::Float64)),
        _ => (left, right),
    })
}

/// What is compared with dates, or said to be one, and is none.
pub(super) fn wrong_time(ty: ColumnType, text: &str) -> Error {
    Misfit::WrongTimeLiteral.error(format!("Incorrect {} value: '{text}'", ty.to_string().to_uppercase()))
}

/// The text of a literal.
fn literal(expr: &Expr) -> Option<String> {
    let Expr::Literal(value, _) = expr else { return None };
    let array = value.to_array().ok()?;
    let ty = column_type(array.data_type()).ok()?;
    match value {
        ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => text.clone(),
        _ => Datum::at(&array, 0)?.text(ty),
    }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}
