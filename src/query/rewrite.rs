//! What MySQL's dialect means, said in terms that DataFusion understands: one pass over the syntax tree.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use chrono::NaiveDateTime;
use sqlparser::ast::{
    BinaryOperator, CeilFloorKind, DataType, DateTimeField, DuplicateTreatment, ExactNumberInfo, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, GroupByExpr, GroupByWithModifier, Ident,
    Interval, JoinConstraint, JoinOperator, LimitClause, ObjectName, ObjectNamePart, Offset, OffsetRows, OrderBy,
    OrderByKind, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor, TableWithJoins, UnaryOperator, Value,
    Visitor, VisitorMut,
};

use super::files::FilesCall;
use super::functions::Operation;
use super::planner::{AGGREGATE, WINDOW, wrong_time};
use super::tree::{binary, call, case, cast, equal, literal, name, nested, null, number, string, unnamed};
use super::{QueryContext, VariableScope};
use crate::error::{Error, Misfit, Result};
use crate::sql::{self, files_call, projection_names, walk, walk_mut};
use crate::types::{ColumnType, Datum, Entity, Kind, Zone};

/// Separates what a table's name in a rewritten query stands for; no name has it.
pub(super) const MARK: char = '\u{1}';

/// An operand is repeated if all its copies together have no more parts than this.
const MAX_REPEATED: usize = 64;

/// A query that DataFusion can plan.
pub(super) struct Rewritten {
    pub(super) query: Query,
    /// One for each item of the outermost select list.
    pub(super) headers: Vec<Header>,
    /// The calls of `FILES`; the nth is the table `MARK files MARK n`.
    pub(super) files: Vec<FilesCall>,
    /// How the names of columns are written that are not in lower case, by what they became.
    pub(super) spelled: HashMap<String, String>,
}

/// The header of a select list's item.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Header {
    /// Of one column.
    Text(String),
    /// `*` or `t.*`: the columns' own names.
    Wildcard,
}

/// Rewrites a query. `known` has the names of all functions; spans in the query count from the beginning of `text`.
pub(super) fn rewrite(
    query: &Query,
    text: &str,
    context: &QueryContext<'_>,
    known: &HashSet<String>,
) -> Result<Rewritten> {
    let written = projection_names(query, text);
    let mut query = query.clone();
    let mut headers = Vec::new();
    if let Some(select) = leftmost(&mut query.body) {
        headers = headers_of(select, &written);
    }
    name_outermost(&mut query.body);
    let mut pass = Pass { context, known, files: Vec::new(), spelled: HashMap::new(), failed: None };
    let _ = walk_mut(&mut query, &mut pass);
    match pass.failed {
        Some(err) => Err(err),
        None => Ok(Rewritten { query, headers, files: pass.files, spelled: pass.spelled }),
    }
}

/// The select whose list names the columns of the result.
fn leftmost(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::SetOperation { left, .. } => leftmost(left),
        SetExpr::Query(query) => leftmost(&mut query.body),
        _ => None,
    }
}

/// Names what the outermost selects return: a UNION has several.
fn name_outermost(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            name_items(select);
            make_unique(select);
        }
        SetExpr::SetOperation { left, right, .. } => {
            name_outermost(left);
            name_outermost(right);
        }
        SetExpr::Query(query) => name_outermost(&mut query.body),
        _ => {}
    }
}

fn headers_of(select: &Select, written: &[Option<String>]) -> Vec<Header> {
    let header = |(at, item): (usize, &SelectItem)| match item {
        SelectItem::ExprWithAlias { alias, .. } => Header::Text(alias.value.clone()),
        SelectItem::UnnamedExpr(expr) => {
            Header::Text(written.get(at).cloned().flatten().unwrap_or_else(|| expr.to_string()))
        }
        _ => Header::Wildcard,
    };
    select.projection.iter().enumerate().map(header).collect()
}

/// The name of a plain column.
fn last_name(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Identifier(name) if !is_variable(name) && !is_call(name) => Some(&name.value),
        Expr::CompoundIdentifier(names) if !is_variable(&names[0]) => names.last().map(|name| name.value.as_str()),
        _ => None,
    }
}

fn is_variable(name: &Ident) -> bool {
    name.quote_style.is_none() && name.value.starts_with('@')
}

/// Whether a word is a function that is written without parentheses too, and that the parser takes for a name.
fn is_call(name: &Ident) -> bool {
    name.quote_style.is_none() && name.value.eq_ignore_ascii_case("current_user")
}

/// Gives each item but plain columns an alias: the one it has, in lower case, or its text.
fn name_items(select: &mut Select) {
    for item in &mut select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) if last_name(expr).is_none() => {
                let alias = name(&expr.to_string().to_lowercase());
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
            SelectItem::ExprWithAlias { alias, .. } => *alias = name(&alias.value.to_lowercase()),
            _ => {}
        }
    }
}

/// DataFusion wants each column's name once; MySQL does not. Later items of a name get others.
fn make_unique(select: &mut Select) {
    let mut seen = HashSet::new();
    let wildcard = select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    for (at, item) in select.projection.iter_mut().enumerate() {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let plain = last_name(expr).unwrap_or_default().to_lowercase();
                if !seen.insert(plain.clone()) || wildcard {
                    *item =
                        SelectItem::ExprWithAlias { expr: expr.clone(), alias: name(&format!("{plain}{MARK}{at}")) };
                }
            }
            SelectItem::ExprWithAlias { alias, .. } if !seen.insert(alias.value.clone()) => {
                alias.value = format!("{}{MARK}{at}", alias.value);
            }
            _ => {}
        }
    }
}

/// Makes the HAVING of a select that neither groups nor aggregates a part of its WHERE: it may name items of the list.
fn filter_by_names(select: &mut Select) {
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(by, _) => !by.is_empty(),
        GroupByExpr::All(_) => true,
    };
    let aggregates =
        walk(&select.projection, &mut Aggregates).is_break() || walk(&select.having, &mut Aggregates).is_break();
    if grouped || aggregates {
        return;
    }
    let Some(mut having) = select.having.take() else { return };
    let named = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { expr, alias } => Some((alias.value.to_lowercase(), expr.clone())),
        _ => None,
    };
    let mut names = Items(select.projection.iter().filter_map(named).collect());
    let _ = walk_mut(&mut having, &mut names);
    select.selection = Some(match select.selection.take() {
        Some(filter) => binary(nested(filter), BinaryOperator::And, nested(having)),
        None => having,
    });
}

/// Puts items of a select list in the place of their names.
struct Items(HashMap<String, Expr>);

impl VisitorMut for Items {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr
            && let Some(item) = self.0.get(&name.value.to_lowercase())
        {
            *expr = nested(item.clone());
        }
        ControlFlow::Continue(())
    }
}

/// Stops at an aggregate function.
struct Aggregates;

impl Visitor for Aggregates {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function)
                if function.over.is_none() && is_aggregate(&function.name.to_string().to_lowercase()) =>
            {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn is_aggregate(name: &str) -> bool {
    const OURS: [&str; 7] = ["group_concat", "std", "stddev", "variance", "any_value", "ndv", "approx_count_distinct"];
    AGGREGATE.contains(&name) || OURS.contains(&name)
}

/// Whether a collation is one that a column is said to have, or compares bytes.
fn is_usual(collation: &str) -> bool {
    collation.ends_with("_bin") || ["utf8mb4_general_ci", "utf8mb3_general_ci", "utf8_general_ci"].contains(&collation)
}

/// Makes an EXISTS of a select list, where DataFusion takes none, a comparison of how many rows there are.
fn count_rows(expr: &mut Expr) -> Result<()> {
    let Expr::Exists { subquery, negated } = expr else { return Ok(()) };
    let text = format!("SELECT COUNT(*) {} 0 FROM (SELECT 1) AS found", if *negated { "=" } else { ">" });
    let counted = sql::parse(&text)?.pop().map(|parsed| parsed.statement);
    let Some(sql::Statement::Query(mut counted)) = counted else { return Err(Error::internal("SELECT is no query")) };
    if let SetExpr::Select(select) = &mut *counted.body
        && let [table] = &mut select.from[..]
        && let TableFactor::Derived { subquery: place, .. } = &mut table.relation
    {
        std::mem::swap(place, subquery);
    }
    *expr = Expr::Subquery(counted);
    Ok(())
}

/// Makes `WITH ROLLUP` a ROLLUP of all that the select groups by, and positions in grouping sets the items they are of.
fn grouping_sets(select: &mut Select) -> Result<()> {
    let GroupByExpr::Expressions(by, modifiers) = &mut select.group_by else { return Ok(()) };
    let single = |by: &mut Vec<Expr>| by.drain(..).map(|expr| vec![expr]).collect();
    match &modifiers[..] {
        [] => {}
        [GroupByWithModifier::Rollup] => *by = vec![Expr::Rollup(single(by))],
        [GroupByWithModifier::Cube] => *by = vec![Expr::Cube(single(by))],
        [other, ..] => return Err(Error::Unsupported(format!("GROUP BY … {other}"))),
    }
    modifiers.clear();
    for expr in by {
        let (Expr::Rollup(sets) | Expr::Cube(sets) | Expr::GroupingSets(sets)) = expr else { continue };
        for expr in sets.iter_mut().flatten() {
            if let Expr::Value(value) = &*expr
                && let Value::Number(digits, _) = &value.value
            {
                let position = digits.parse::<usize>().ok().and_then(|position| position.checked_sub(1));
                *expr = match position.and_then(|position| select.projection.get(position)) {
                    Some(SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }) => item.clone(),
                    _ => return Err(Error::Analysis(format!("no item of the select list is at position {digits}"))),
                };
            }
        }
    }
    Ok(())
}

/// Makes each column of the list by which the select does not group the one of any row of its group.
fn any_of_group(select: &mut Select) {
    let GroupByExpr::Expressions(by, _) = &select.group_by else { return };
    if by.is_empty() || by.iter().any(|by| matches!(by, Expr::Rollup(_) | Expr::Cube(_) | Expr::GroupingSets(_))) {
        return;
    }
    for (at, item) in select.projection.iter_mut().enumerate() {
        let (column, alias) = match item {
            SelectItem::UnnamedExpr(column) => (column, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(&alias.value)),
            _ => continue,
        };
        let Some(plain) = last_name(column).map(str::to_lowercase) else { continue };
        let grouped = by.iter().any(|by| match by {
            Expr::Value(value) => value.value == Value::Number((at + 1).to_string(), false),
            Expr::Identifier(name) if alias.is_some_and(|alias| alias.eq_ignore_ascii_case(&name.value)) => true,
            by => {
                let pairs = parts(by).iter().rev().zip(parts(column).iter().rev());
                !parts(by).is_empty() && pairs.into_iter().all(|(a, b)| a.value.eq_ignore_ascii_case(&b.value))
            }
        });
        if !grouped {
            let alias = name(&alias.unwrap_or(&plain).to_lowercase());
            *item = SelectItem::ExprWithAlias { expr: call("any_value", vec![column.clone()]), alias };
        }
    }
}

/// The names that a column's is made of.
fn parts(column: &Expr) -> &[Ident] {
    match column {
        Expr::Identifier(name) => std::slice::from_ref(name),
        Expr::CompoundIdentifier(names) => names,
        _ => &[],
    }
}

/// What DISTINCT has left can only be ordered by the names of the list's items.
fn order_by_names(select: &Select, order: &mut OrderBy) {
    let OrderByKind::Expressions(by) = &mut order.kind else { return };
    for key in by {
        let text = key.expr.to_string();
        let same = select.projection.iter().find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if expr.to_string() == text => Some(alias.clone()),
            _ => None,
        });
        if let Some(alias) = same {
            key.expr = Expr::Identifier(alias);
        }
    }
}

struct Pass<'a> {
    context: &'a QueryContext<'a>,
    known: &'a HashSet<String>,
    files: Vec<FilesCall>,
    spelled: HashMap<String, String>,
    /// Why the walk has ended early.
    failed: Option<Error>,
}

impl Pass<'_> {
    fn go_on(&mut self, outcome: Result<()>) -> ControlFlow<()> {
        self.failed = outcome.err();
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl VisitorMut for Pass<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if let [table] = &select.from[..]
            && table.joins.is_empty()
            && matches!(&table.relation, TableFactor::Table { name, .. } if name.to_string().eq_ignore_ascii_case("dual"))
        {
            select.from.clear();
        }
        filter_by_names(select);
        if let Err(err) = grouping_sets(select) {
            return self.go_on(Err(err));
        }
        let mode = (self.context.variable)(VariableScope::Session, "sql_mode");
        if mode.is_some_and(|mode| !mode.to_string().contains("ONLY_FULL_GROUP_BY")) {
            any_of_group(select);
        }
        name_items(select);
        for item in &mut select.projection {
            if let SelectItem::ExprWithAlias { expr, .. } = item
                && let Err(err) = count_rows(expr)
            {
                return self.go_on(Err(err));
            }
        }
        for condition in [&mut select.selection, &mut select.having].into_iter().flatten() {
            truth(condition);
        }
        select.from.iter_mut().for_each(joins);
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            lower_columns(&mut cte.alias);
        }
        query.limit_clause = query.limit_clause.take().map(all_from);
        if let SetExpr::Values(values) = &*query.body
            && walk(values, &mut Queries).is_break()
        {
            return self.go_on(Err(Error::Unsupported("a subquery in VALUES; write a SELECT instead".into())));
        }
        if let (SetExpr::Select(select), Some(order)) = (&mut *query.body, &mut query.order_by)
            && select.distinct.is_some()
        {
            name_items(select);
            order_by_names(select, order);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        let outcome = self.table_factor(table);
        self.go_on(outcome)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let outcome = self.expr(expr);
        self.go_on(outcome)
    }
}

/// Takes a limit away that is meant as none, as MySQL's manual has it for all rows from one on: no table has so many.
fn all_from(clause: LimitClause) -> LimitClause {
    let is_none = |limit: &Expr| match limit {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse::<u64>().is_ok_and(|limit| limit >= i64::MAX as u64),
            _ => false,
        },
        _ => false,
    };
    match clause {
        LimitClause::LimitOffset { limit: Some(limit), offset, limit_by } if is_none(&limit) => {
            LimitClause::LimitOffset { limit: None, offset, limit_by }
        }
        LimitClause::OffsetCommaLimit { offset, limit } if is_none(&limit) => {
            let offset = Some(Offset { value: offset, rows: OffsetRows::None });
            LimitClause::LimitOffset { limit: None, offset, limit_by: Vec::new() }
        }
        other => other,
    }
}

/// Rewrites what the joins of a table depend on.
fn joins(table: &mut TableWithJoins) {
    for join in &mut table.joins {
        let operator = std::mem::replace(&mut join.join_operator, JoinOperator::Join(JoinConstraint::None));
        join.join_operator = match operator {
            JoinOperator::StraightJoin(constraint) => JoinOperator::Inner(constraint),
            JoinOperator::CrossJoin(constraint) if constraint != JoinConstraint::None => {
                JoinOperator::Inner(constraint)
            }
            other => other,
        };
        match constraint(&mut join.join_operator) {
            Some(JoinConstraint::On(condition)) => truth(condition),
            Some(JoinConstraint::Using(columns)) => {
                for column in columns {
                    *column = ObjectName::from(vec![name(&column.to_string().replace('`', "").to_lowercase())]);
                }
            }
            _ => {}
        }
    }
}

pub(super) fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => Some(constraint),
        _ => None,
    }
}

fn lower_columns(alias: &mut TableAlias) {
    for column in &mut alias.columns {
        column.name.value = column.name.value.to_lowercase();
    }
}

impl Pass<'_> {
    fn table_factor(&mut self, table: &mut TableFactor) -> Result<()> {
        let files = files_call(table).transpose()?;
        match table {
            TableFactor::Table { name: table, alias, args, version, sample, partitions, .. } => {
                if version.is_some() || sample.is_some() {
                    return Err(Error::Unsupported(format!("a version or a sample of table {table}")));
                }
                let plain = table.0.last().and_then(|part| part.as_ident()).map(|part| part.value.clone());
                let plain = plain.ok_or_else(|| Error::Analysis(format!("{table} is not the name of a table")))?;
                if let Some(properties) = files {
                    *args = None;
                    *table = ObjectName::from(vec![name(&format!("{MARK}files{MARK}{}", self.files.len()))]);
                    self.files.push(FilesCall::new(properties)?);
                } else if args.is_some() {
                    return Err(Error::Unsupported(format!("table function {table}")));
                } else if !partitions.is_empty() {
                    let chosen = partitions.drain(..).map(|partition| format!("{MARK}{}", partition.value));
                    let marked = name(&format!("{plain}{}", chosen.collect::<String>()));
                    table.0.pop();
                    table.0.push(ObjectNamePart::Identifier(marked));
                }
                match alias {
                    Some(alias) => lower_columns(alias),
                    None => {
                        let columns = Vec::new();
                        *alias = Some(TableAlias { explicit: true, name: name(&plain), columns, at: None });
                    }
                }
            }
            TableFactor::Derived { alias: Some(alias), .. } => lower_columns(alias),
            TableFactor::NestedJoin { table_with_joins, .. } => joins(table_with_joins),
            _ => {}
        }
        Ok(())
    }

    fn expr(&mut self, expr: &mut Expr) -> Result<()> {
        let taken = std::mem::replace(expr, null());
        *expr = self.rewritten(taken)?;
        Ok(())
    }

    /// The parts of the expression are rewritten already.
    fn rewritten(&mut self, expr: Expr) -> Result<Expr> {
        Ok(match expr {
            Expr::Identifier(id) if is_variable(&id) => self.variable(&id.value, None)?,
            Expr::Identifier(id) if is_call(&id) => {
                self.of_session(&id.value.to_lowercase(), true)?.unwrap_or_else(null)
            }
            Expr::Identifier(id) => Expr::Identifier(self.lower(id)),
            Expr::CompoundIdentifier(mut ids) if is_variable(&ids[0]) => {
                let variable = ids.pop().unwrap_or_else(|| Ident::new(""));
                self.variable(&format!("@@{}", variable.value), ids.first().map(|scope| scope.value.as_str()))?
            }
            Expr::CompoundIdentifier(mut ids) => {
                // The database's name: tables go by their alias.
                ids.drain(..ids.len().saturating_sub(2));
                let last = ids.pop().map(|id| self.lower(id));
                Expr::CompoundIdentifier(ids.into_iter().chain(last).collect())
            }
            Expr::Value(value) => match value.value {
                // Columns of CSV files are named `$1`, `$2`, …
                Value::Placeholder(column) if column.starts_with('$') => Expr::Identifier(name(&column)),
                // A number with an exponent is a DOUBLE, one with a point a DECIMAL.
                Value::Number(text, _) if text.contains(['e', 'E']) => {
                    if !text.parse().is_ok_and(f64::is_finite) {
                        return Err(Misfit::OutOfRange.error(format!("DOUBLE value is out of range: {text}")));
                    }
                    cast(string(&text), DataType::Double(ExactNumberInfo::None))
                }
                other => Expr::Value(other.into()),
            },
            Expr::Prefixed { prefix, .. } => {
                return Err(Error::Unsupported(format!("{prefix} before a text; text is UTF-8")));
            }
            Expr::TypedString(typed) => {
                let ty = match typed.data_type {
                    DataType::Date => ColumnType::Date,
                    DataType::Datetime(_) | DataType::Timestamp(..) => ColumnType::DateTime,
                    _ => return Ok(Expr::TypedString(typed)),
                };
                let text = typed.value.value.clone().into_string().unwrap_or_default();
                Datum::parse(&text, ty).map_err(|_| wrong_time(ty, &text))?;
                cast(Expr::Value(typed.value), typed.data_type)
            }
            Expr::Array(_) => return Err(Error::Unsupported("arrays".into())),
            Expr::InSubquery { expr, .. } if matches!(*expr, Expr::Tuple(_)) => {
                return Err(Error::Unsupported("rows that are IN a subquery; use EXISTS".into()));
            }
            // All texts compare byte by byte, those of the collation that columns are said to have too.
            Expr::Collate { expr, collation } if is_usual(&collation.to_string().to_lowercase()) => *expr,
            Expr::Collate { collation, .. } => {
                return Err(Error::Unsupported(format!("collation {collation}; text compares byte by byte")));
            }
            Expr::Between { expr, negated, low, high } if may_repeat(&expr, 2) => {
                let from = binary(*expr.clone(), BinaryOperator::GtEq, *low);
                let to = binary(*expr, BinaryOperator::LtEq, *high);
                let both = Expr::Nested(Box::new(binary(from, BinaryOperator::And, to)));
                if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(both) } } else { both }
            }
            Expr::RLike { negated, expr, pattern, .. } => {
                let op = if negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
                binary(*expr, op, *pattern)
            }
            Expr::UnaryOp { op: UnaryOperator::Not | UnaryOperator::BangNot, mut expr } => {
                truth(&mut expr);
                Expr::UnaryOp { op: UnaryOperator::Not, expr }
            }
            // Of a BIGINT in two's complement.
            Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr } => {
                let number = cast(*expr, DataType::BigInt(None));
                nested(binary(literal(Datum::Int(-1)), BinaryOperator::Minus, number))
            }
            Expr::Case { operand: None, mut conditions, else_result, case_token, end_token } => {
                conditions.iter_mut().for_each(|when| truth(&mut when.condition));
                Expr::Case { operand: None, conditions, else_result, case_token, end_token }
            }
            Expr::Case { operand: Some(operand), mut conditions, else_result, case_token, end_token }
                if may_repeat(&operand, conditions.len()) =>
            {
                for when in &mut conditions {
                    let value = std::mem::replace(&mut when.condition, null());
                    when.condition = equal(*operand.clone(), value);
                }
                Expr::Case { operand: None, conditions, else_result, case_token, end_token }
            }
            Expr::IsTrue(expr) => Expr::IsTrue(truthful(expr)),
            Expr::IsNotTrue(expr) => Expr::IsNotTrue(truthful(expr)),
            Expr::IsFalse(expr) => Expr::IsFalse(truthful(expr)),
            Expr::IsNotFalse(expr) => Expr::IsNotFalse(truthful(expr)),
            // So that `=` decides what is equal. Long lists are of values like the expression's own.
            Expr::InList { expr, list, negated } if !list.is_empty() && may_repeat(&expr, list.len()) => {
                let equal = list.into_iter().map(|value| equal(*expr.clone(), value));
                let any = equal.reduce(|any, next| binary(any, BinaryOperator::Or, next)).unwrap_or_else(null);
                let any = nested(any);
                if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(any) } } else { any }
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => equal(*left, *right),
            Expr::BinaryOp { left, op: BinaryOperator::Plus, right } => match (*left, *right) {
                (Expr::Interval(by), time) | (time, Expr::Interval(by)) => moved(time, by, false)?,
                (left, right) => binary(left, BinaryOperator::Plus, right),
            },
            Expr::BinaryOp { left, op: BinaryOperator::Minus, right } => match *right {
                Expr::Interval(by) => moved(*left, by, true)?,
                right => binary(*left, BinaryOperator::Minus, right),
            },
            Expr::Extract { field, expr, .. } => call(&extract(&field)?, vec![*expr]),
            Expr::Position { expr, r#in } => call("locate", vec![*expr, *r#in]),
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let from = substring_from.map_or_else(|| number(1), |from| *from);
                call(
                    "substr",
                    [Some(*expr), Some(from), substring_for.map(|count| *count)].into_iter().flatten().collect(),
                )
            }
            Expr::Ceil { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                call("ceil", vec![*expr])
            }
            Expr::Floor { expr, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                call("floor", vec![*expr])
            }
            Expr::Cast { expr, data_type, format: None, .. } => cast(*expr, data_type),
            Expr::Convert { expr, data_type: Some(data_type), .. } => cast(*expr, data_type),
            Expr::Convert { expr, charset: Some(_), .. } => cast(*expr, DataType::Text),
            Expr::Function(function) => self.function(function)?,
            other => other,
        })
    }

    fn lower(&mut self, id: Ident) -> Ident {
        let lower = id.value.to_lowercase();
        if lower != id.value {
            self.spelled.insert(lower.clone(), id.value);
        }
        name(&lower)
    }

    fn variable(&self, text: &str, scope: Option<&str>) -> Result<Expr> {
        let Some(system) = text.strip_prefix("@@") else {
            let value = (self.context.variable)(VariableScope::User, &text[1..]);
            return Ok(literal(value.unwrap_or(Datum::Null)));
        };
        let scope = match scope.map(|scope| scope.trim_start_matches('@').to_ascii_lowercase()).as_deref() {
            None | Some("session" | "local") => VariableScope::Session,
            Some("global") => VariableScope::Global,
            Some(_) => return Err(Error::NotFound(Entity::new(Kind::Variable, system))),
        };
        let value = (self.context.variable)(scope, system);
        value.map(literal).ok_or_else(|| Error::NotFound(Entity::new(Kind::Variable, system)))
    }

    fn function(&self, mut function: Function) -> Result<Expr> {
        let name = match &function.name.0[..] {
            [part] => part.as_ident().map(|part| part.value.to_lowercase()).unwrap_or_default(),
            _ => function.name.to_string().to_lowercase(),
        };
        let args = plain_args(&function.args);
        let count = args.as_ref().map_or(usize::MAX, Vec::len);
        if let (true, Some(value)) = (count <= 1, self.of_session(&name, count == 0)?) {
            return Ok(value);
        }
        let wrong = || Error::Analysis(format!("Incorrect parameter count in the call to function '{name}'"));
        let renamed = match (name.as_str(), count) {
            ("nvl" | "ifnull", 2) => "coalesce",
            ("sign", _) => "signum",
            ("truncate", 2) => "trunc",
            ("rand", 0) => "random",
            ("std" | "stddev", _) => "stddev_pop",
            ("variance", _) => "var_pop",
            ("any_value", _) => "first_value",
            ("ndv" | "approx_count_distinct", _) => "approx_distinct",
            _ => name.as_str(),
        };
        let Some(args) = args else {
            if is_distinct(&function.args) {
                return Err(Error::Analysis(format!("DISTINCT * in {name}; name the columns")));
            }
            return self.known_function(renamed, function);
        };
        let [first, second, third] = [0, 1, 2].map(|at| args.get(at).cloned());
        Ok(match (renamed, first, second, third) {
            ("if", Some(mut condition), Some(then), Some(or)) if count == 3 => {
                truth(&mut condition);
                case(condition, then, Some(or))
            }
            ("if", ..) => return Err(wrong()),
            ("isnull", Some(value), None, _) => Expr::IsNull(Box::new(value)),
            ("mod", Some(left), Some(right), None) => nested(binary(left, BinaryOperator::Modulo, right)),
            ("date_add" | "adddate", Some(time), Some(Expr::Interval(by)), None) => moved(time, by, false)?,
            ("date_sub" | "subdate", Some(time), Some(Expr::Interval(by)), None) => moved(time, by, true)?,
            ("date_add" | "adddate" | "days_add", Some(time), Some(days), None) => shifted(time, days, "DAY", false)?,
            ("date_sub" | "subdate" | "days_sub", Some(time), Some(days), None) => shifted(time, days, "DAY", true)?,
            ("timestampadd", Some(unit), Some(by), Some(time)) => shifted(time, by, &unit_of(&unit), false)?,
            ("timestampdiff", Some(unit), Some(from), Some(to)) => {
                call("timestampdiff", vec![string(&unit_of(&unit)), from, to])
            }
            ("greatest" | "least", Some(_), Some(_), _) => {
                // As in MySQL, NULL among them makes all NULL.
                if !args.iter().all(|arg| may_repeat(arg, 1)) {
                    return Err(Error::Unsupported(format!("an argument of {renamed} that is so large")));
                }
                let unknown = args.iter().map(|arg| Expr::IsNull(Box::new(arg.clone())));
                let unknown = unknown.reduce(|a, b| binary(a, BinaryOperator::Or, b)).unwrap_or_else(null);
                case(unknown, null(), Some(self.known_function(renamed, function)?))
            }
            ("nullif", Some(value), Some(other), None) => {
                if !may_repeat(&value, 1) {
                    return Err(Error::Unsupported("an argument of nullif that is so large".into()));
                }
                case(equal(value.clone(), other), null(), Some(value))
            }
            ("nullif", ..) => return Err(wrong()),
            ("unix_timestamp", Some(time), None, _) => call("unix_timestamp", vec![time, string(self.context.zone)]),
            ("from_unixtime", Some(seconds), format, None) => {
                let format = format.unwrap_or_else(|| string("%Y-%m-%d %H:%i:%s"));
                call("from_unixtime", vec![seconds, format, string(self.context.zone)])
            }
            ("unix_timestamp" | "from_unixtime", ..) => return Err(wrong()),
            ("last_insert_id", Some(value), None, _) => value,
            ("group_concat", Some(_), _, _) => self.group_concat(function, args)?,
            // MySQL rounds, DataFusion cuts off.
            ("avg", Some(value), None, _) if may_repeat(&value, 1) => {
                map_args(&mut function.args, |arg| call(Operation::Measure.name(), vec![arg]));
                let parts = ["sum", "count"].map(|part| self.known_function(part, function.clone()));
                let [sum, count] = parts;
                call(Operation::Average.name(), vec![sum?, count?])
            }
            ("sum", Some(_), None, _) => {
                map_args(&mut function.args, |arg| call(Operation::Number.name(), vec![arg]));
                call(Operation::Total.name(), vec![self.known_function(renamed, function)?])
            }
            ("avg", Some(_), None, _) => {
                map_args(&mut function.args, |arg| call(Operation::Measure.name(), vec![arg]));
                self.known_function(renamed, function)?
            }
            _ => self.known_function(renamed, function)?,
        })
    }

    fn known_function(&self, name: &str, mut function: Function) -> Result<Expr> {
        if !self.known.contains(name) {
            return Err(Error::Analysis(format!("No matching function with name: {name}")));
        }
        if function.over.is_none() && WINDOW.contains(&name) && !AGGREGATE.contains(&name) {
            return Err(Error::Analysis(format!("window function '{name}' needs an OVER clause")));
        }
        function.name = ObjectName::from(vec![Ident::new(name)]);
        // DataFusion counts in a type without sign; MySQL's rank functions are BIGINT.
        let ranks = function.over.is_some() && matches!(name, "row_number" | "rank" | "dense_rank" | "ntile");
        if ranks {
            return Ok(cast(Expr::Function(function), DataType::BigInt(None)));
        }
        Ok(Expr::Function(function))
    }

    /// Functions whose value the session knows.
    fn of_session(&self, name: &str, no_args: bool) -> Result<Option<Expr>> {
        let context = self.context;
        let utc = context.now.utc();
        let now = Zone::parse(context.zone).map_err(Error::internal)?.local(utc);
        let day = |time: NaiveDateTime| cast(string(&time.format("%Y-%m-%d").to_string()), DataType::Date);
        let time =
            |time: NaiveDateTime| cast(string(&time.format("%Y-%m-%d %H:%M:%S").to_string()), DataType::Datetime(None));
        Ok(Some(match name {
            "now" | "current_timestamp" | "localtime" | "localtimestamp" | "sysdate" => time(now),
            "utc_timestamp" => time(utc.naive_utc()),
            _ if !no_args => return Ok(None),
            "database" | "schema" => context.database.map_or_else(null, string),
            "version" => string(context.version),
            "current_version" => string(context.product_version),
            "user" | "session_user" | "system_user" | "current_user" => string(context.user),
            // No column counts by itself.
            "last_insert_id" => number(0),
            "connection_id" => number(context.connection.into()),
            "curdate" | "current_date" => day(now),
            "curtime" | "current_time" => string(&now.format("%H:%M:%S").to_string()),
            "utc_date" => day(utc.naive_utc()),
            "unix_timestamp" => number(utc.timestamp()),
            "true" => Expr::Value(Value::Boolean(true).into()),
            "false" => Expr::Value(Value::Boolean(false).into()),
            _ => return Ok(None),
        }))
    }

    /// `GROUP_CONCAT([DISTINCT] a, b [ORDER BY …] [SEPARATOR s])`.
    fn group_concat(&self, mut function: Function, mut args: Vec<Expr>) -> Result<Expr> {
        let FunctionArguments::List(list) = &mut function.args else { return Err(Error::internal("no arguments")) };
        let mut separator = string(",");
        list.clauses.retain(|clause| match clause {
            FunctionArgumentClause::Separator(value) => {
                separator = Expr::Value(value.clone());
                false
            }
            _ => true,
        });
        let value = if args.len() == 1 { call("__text", vec![args.remove(0)]) } else { call("concat", args) };
        list.args = [value, separator].map(unnamed).into();
        self.known_function("string_agg", function)
    }
}

/// The arguments, if they are all plain expressions.
fn plain_args(args: &FunctionArguments) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = args else {
        return matches!(args, FunctionArguments::None).then(Vec::new);
    };
    let plain = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(plain).collect()
}

fn is_distinct(args: &FunctionArguments) -> bool {
    let FunctionArguments::List(list) = args else { return false };
    list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
}

fn map_args(args: &mut FunctionArguments, change: impl Fn(Expr) -> Expr) {
    let FunctionArguments::List(list) = args else { return };
    for arg in &mut list.args {
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg {
            *expr = change(std::mem::replace(expr, null()));
        }
    }
}

/// A time and an interval added or subtracted.
fn moved(time: Expr, by: Interval, back: bool) -> Result<Expr> {
    let unit = match (&by.leading_field, &by.last_field) {
        (Some(unit), None) => unit.to_string().to_uppercase(),
        _ => return Err(Error::Unsupported(format!("{by}; write INTERVAL number unit"))),
    };
    shifted(time, *by.value, &unit, back)
}

fn shifted(time: Expr, count: Expr, unit: &str, back: bool) -> Result<Expr> {
    let unit = unit.strip_suffix('S').unwrap_or(unit);
    let function = match unit {
        "YEAR" | "QUARTER" | "MONTH" | "WEEK" | "DAY" => "__add_days",
        "HOUR" | "MINUTE" | "SECOND" | "MICROSECOND" => "__add_time",
        _ => return Err(Error::Unsupported(format!("intervals of {unit}"))),
    };
    let count = match back {
        true => nested(binary(number(0), BinaryOperator::Minus, nested(count))),
        false => count,
    };
    Ok(call(function, vec![time, count, string(unit)]))
}

fn unit_of(unit: &Expr) -> String {
    let text = match unit {
        Expr::Identifier(unit) => unit.value.clone(),
        other => other.to_string(),
    };
    let text = text.trim_matches('\'').to_uppercase();
    text.strip_prefix("SQL_TSI_").map_or_else(|| text.clone(), str::to_owned)
}

fn extract(field: &DateTimeField) -> Result<String> {
    let field = field.to_string().to_lowercase();
    match field.as_str() {
        "year" | "quarter" | "month" | "week" | "day" | "hour" | "minute" | "second" | "microsecond" => Ok(field),
        _ => Err(Error::Unsupported(format!("EXTRACT({field} …)"))),
    }
}

fn truthful(mut expr: Box<Expr>) -> Box<Expr> {
    truth(&mut expr);
    expr
}

/// Whether so many copies of an expression stay small. Copies of copies would grow without bound.
fn may_repeat(expr: &Expr, times: usize) -> bool {
    let mut parts = Parts(0);
    let _ = walk(expr, &mut parts);
    parts.0 * times <= MAX_REPEATED
}

/// Finds queries.
struct Queries;

impl Visitor for Queries {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

struct Parts(usize);

impl Visitor for Parts {
    type Break = ();

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        self.0 += 1;
        if self.0 > MAX_REPEATED { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Makes a condition of an expression that may be a number.
fn truth(expr: &mut Expr) {
    let mut inner = &*expr;
    while let Expr::Nested(nested) = inner {
        inner = nested;
    }
    let may_be_number = matches!(
        inner,
        Expr::Value(_)
            | Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::Function(_)
            | Expr::Case { .. }
            | Expr::Cast { .. }
            | Expr::Subquery(_)
            | Expr::BinaryOp {
                op: BinaryOperator::Plus
                    | BinaryOperator::Minus
                    | BinaryOperator::Multiply
                    | BinaryOperator::Divide
                    | BinaryOperator::Modulo
                    | BinaryOperator::MyIntegerDivide
                    | BinaryOperator::BitwiseAnd
                    | BinaryOperator::BitwiseOr
                    | BinaryOperator::BitwiseXor,
                ..
            }
    );
    if may_be_number {
        let inner = std::mem::replace(expr, null());
        *expr = call(Operation::Truth.name(), vec![inner]);
    }
}
