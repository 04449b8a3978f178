//! JOIN … USING and NATURAL JOIN, said as JOIN … ON. DataFusion shows their common columns in other places than MySQL,
//! as those of the left side even where only the right one has them, and calls them ambiguous in WHERE.

use std::collections::HashMap;
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Cte, Expr, Ident, JoinConstraint, JoinOperator, Query, Select, SelectItem, SetExpr, TableFactor,
    TableWithJoins, Value, VisitorMut, WildcardAdditionalOptions, With, helpers::attached_token::AttachedToken,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;

use super::rewrite::constraint;
use super::tree::{binary, call, name};
use crate::sql::walk_mut;

/// Rewrites the joins of a query that name columns instead of conditions. `columns` tells those that a query returns,
/// if it can be planned. Where they cannot be known all is left as it is: planning will say why.
pub(super) fn expand(query: &mut Query, columns: &dyn Fn(Query) -> Option<Vec<String>>) {
    if walk_mut(query, &mut Search).is_break() {
        let mut expansion = Expansion { columns, ctes: Vec::new(), recursive: false, outer: Vec::new() };
        let _ = walk_mut(query, &mut expansion);
    }
}

/// Stops at a join that names columns.
struct Search;

impl VisitorMut for Search {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if select.from.iter_mut().any(names_columns) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn names_columns(table: &mut TableWithJoins) -> bool {
    let nested = |factor: &mut TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => names_columns(table_with_joins),
        _ => false,
    };
    let joins = table.joins.iter_mut().any(|join| {
        let constraint = constraint(&mut join.join_operator);
        matches!(constraint, Some(JoinConstraint::Using(_) | JoinConstraint::Natural)) || nested(&mut join.relation)
    });
    joins || nested(&mut table.relation)
}

/// A column that `*` shows.
#[derive(Clone)]
struct Column {
    name: String,
    value: Expr,
    /// Whether it is common to the sides of a join, and known by its plain name.
    common: bool,
}

struct Expansion<'a> {
    columns: &'a dyn Fn(Query) -> Option<Vec<String>>,
    /// Those that are known here.
    ctes: Vec<Cte>,
    /// Whether one of them may name itself.
    recursive: bool,
    /// How many were known around each query, and its WITH, which is expanded before the rest and only once.
    outer: Vec<(usize, Option<With>)>,
}

impl VisitorMut for Expansion<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let (known, mut with) = (self.ctes.len(), query.with.take());
        self.recursive |= with.as_ref().is_some_and(|with| with.recursive);
        for cte in with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            walk_mut(cte, self)?;
            self.ctes.push(cte.clone());
        }
        self.outer.push((known, with));
        ControlFlow::Continue(())
    }

    /// What is within the query is expanded already.
    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let Query { body, order_by, .. } = &mut *query;
        let alone = matches!(**body, SetExpr::Select(_));
        for select in selects(body) {
            if !select.from.iter_mut().any(names_columns) {
                continue;
            }
            let Some(mut common) = self.select(select) else { continue };
            // An alias goes before a column.
            for item in &select.projection {
                if let SelectItem::ExprWithAlias { alias, .. } = item {
                    common.0.remove(&alias.value);
                }
            }
            walk_mut(&mut select.having, &mut common)?;
            if alone {
                walk_mut(order_by, &mut common)?;
            }
        }
        let (known, with) = self.outer.pop().unwrap_or_default();
        query.with = with;
        self.ctes.truncate(known);
        ControlFlow::Continue(())
    }
}

/// The selects whose rows are a query's, which is several in a UNION.
fn selects(body: &mut SetExpr) -> Vec<&mut Select> {
    match body {
        SetExpr::Select(select) => vec![select],
        SetExpr::SetOperation { left, right, .. } => selects(left).into_iter().chain(selects(right)).collect(),
        _ => Vec::new(),
    }
}

impl Expansion<'_> {
    /// What the common columns stand for, by name.
    fn select(&self, select: &mut Select) -> Option<Common> {
        let mut from = select.from.clone();
        let tables = from.iter_mut().map(|table| self.joined(table));
        let visible = tables.collect::<Option<Vec<_>>>()?.concat();
        select.from = from;
        let common = visible.iter().filter(|column| column.common && only(&visible, &column.name).is_some());
        let mut common = Common(common.map(|column| (column.name.clone(), column.value.clone())).collect(), 0);
        let items = std::mem::take(&mut select.projection).into_iter().flat_map(|item| match item {
            SelectItem::Wildcard(options) if options == WildcardAdditionalOptions::default() => {
                visible.iter().map(|column| shown(&column.name, column.value.clone())).collect()
            }
            SelectItem::UnnamedExpr(Expr::Identifier(id)) => match common.0.get(&id.value) {
                Some(value) => vec![shown(&id.value, value.clone())],
                None => vec![SelectItem::UnnamedExpr(Expr::Identifier(id))],
            },
            item => vec![item],
        });
        select.projection = items.collect();
        let having = select.having.take();
        let _ = walk_mut(select, &mut common);
        select.having = having;
        Some(common)
    }

    fn joined(&self, table: &mut TableWithJoins) -> Option<Vec<Column>> {
        let mut left = self.factor(&mut table.relation)?;
        for join in &mut table.joins {
            let right = self.factor(&mut join.relation)?;
            left = merged(left, right, &mut join.join_operator)?;
        }
        Some(left)
    }

    fn factor(&self, factor: &mut TableFactor) -> Option<Vec<Column>> {
        let alias = match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => return self.joined(table_with_joins),
            TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. } => alias.as_ref()?.name.clone(),
            _ => return None,
        };
        let query = self.all_of(factor.clone())?;
        let column = |column: String| {
            let value = Expr::CompoundIdentifier(vec![alias.clone(), name(&column)]);
            Column { name: column, value, common: false }
        };
        Some((self.columns)(query)?.into_iter().map(column).collect())
    }

    /// `SELECT * FROM …`
    fn all_of(&self, relation: TableFactor) -> Option<Query> {
        let mut query = *Parser::new(&GenericDialect {}).try_with_sql("SELECT *").ok()?.parse_query().ok()?;
        let SetExpr::Select(select) = &mut *query.body else { return None };
        select.from.push(TableWithJoins { relation, joins: Vec::new() });
        let (with_token, cte_tables) = (AttachedToken::empty(), self.ctes.clone());
        query.with = (!cte_tables.is_empty()).then_some(With { with_token, recursive: self.recursive, cte_tables });
        Some(query)
    }
}

/// Makes the constraint of a join a condition. Returns the columns that `*` shows of it.
fn merged(left: Vec<Column>, right: Vec<Column>, operator: &mut JoinOperator) -> Option<Vec<Column>> {
    let (all_left, all_right) = match operator {
        JoinOperator::Semi(_) | JoinOperator::LeftSemi(_) | JoinOperator::Anti(_) | JoinOperator::LeftAnti(_) => {
            (true, false)
        }
        JoinOperator::RightSemi(_) | JoinOperator::RightAnti(_) => (false, true),
        _ => (true, true),
    };
    let of_right = matches!(
        operator,
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::RightSemi(_) | JoinOperator::RightAnti(_)
    );
    let of_both = matches!(operator, JoinOperator::FullOuter(_));
    let names: Option<Vec<String>> = match constraint(operator) {
        Some(JoinConstraint::Using(columns)) => {
            let ident = |column: &sqlparser::ast::ObjectName| Some(column.0.first()?.as_ident()?.value.clone());
            Some(columns.iter().map(ident).collect::<Option<_>>()?)
        }
        Some(JoinConstraint::Natural) => {
            let names = left.iter().map(|column| &column.name);
            Some(names.filter(|name| right.iter().any(|column| column.name == **name)).cloned().collect())
        }
        _ => None,
    };
    let mut common = Vec::new();
    if let Some(names) = &names {
        let mut condition: Option<Expr> = None;
        for (name, ours, theirs) in names
            .iter()
            .map(|name| Some((name, only(&left, name)?, only(&right, name)?)))
            .collect::<Option<Vec<_>>>()?
        {
            let equal = binary(ours.value.clone(), BinaryOperator::Eq, theirs.value.clone());
            condition = Some(match condition {
                Some(condition) => binary(condition, BinaryOperator::And, equal),
                None => equal,
            });
            let value = match (of_right, of_both) {
                (_, true) => call("coalesce", vec![ours.value.clone(), theirs.value.clone()]),
                (true, _) => theirs.value.clone(),
                _ => ours.value.clone(),
            };
            common.push(Column { name: name.clone(), value, common: true });
        }
        let always = || Expr::Value(Value::Boolean(true).into());
        *constraint(operator)? = JoinConstraint::On(condition.unwrap_or_else(always));
    }
    // As they occur on the side whose rows are all there: a RIGHT JOIN is a LEFT JOIN the other way round.
    let first = if of_right { &right } else { &left };
    common.sort_by_key(|column| first.iter().position(|other| other.name == column.name));
    let rest = |column: &Column| !common.iter().any(|other| other.name == column.name);
    let left: Vec<Column> = left.into_iter().filter(|column| all_left && rest(column)).collect();
    let right: Vec<Column> = right.into_iter().filter(|column| all_right && rest(column)).collect();
    Some(if of_right { [common, right, left] } else { [common, left, right] }.concat())
}

/// The only column of a name.
fn only<'a>(columns: &'a [Column], name: &str) -> Option<&'a Column> {
    let mut found = columns.iter().filter(|column| column.name == name);
    found.next().filter(|_| found.next().is_none())
}

fn shown(column: &str, value: Expr) -> SelectItem {
    match value {
        Expr::CompoundIdentifier(_) => SelectItem::UnnamedExpr(value),
        expr => SelectItem::ExprWithAlias { expr, alias: name(column) },
    }
}

/// Puts what common columns stand for in the place of their names, but not in queries within, which have names of
/// their own. The number is how many of those we are in.
struct Common(HashMap<String, Expr>, usize);

impl VisitorMut for Common {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.1 += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.1 -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let (Expr::Identifier(Ident { value, .. }), 0) = (&*expr, self.1)
            && let Some(value) = self.0.get(value)
        {
            *expr = value.clone();
        }
        ControlFlow::Continue(())
    }
}
