//! Walks of syntax trees.
//!
//! For each type of visitor sqlparser's walk is compiled anew, more than a hundred thousand lines of LLVM's; here all share one.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, ObjectName, Query, Select, Statement, TableFactor, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};

/// Shows every part of a tree to a visitor, in sqlparser's order, until that breaks.
pub fn walk(tree: &impl Visit, visitor: &mut dyn Visitor<Break = ()>) -> ControlFlow<()> {
    #[allow(clippy::disallowed_methods)]
    tree.visit(&mut Shared(visitor))
}

/// As [`walk`], for a visitor that changes the tree.
pub fn walk_mut(tree: &mut impl VisitMut, visitor: &mut dyn VisitorMut<Break = ()>) -> ControlFlow<()> {
    #[allow(clippy::disallowed_methods)]
    tree.visit(&mut SharedMut(visitor))
}

struct Shared<'a>(&'a mut dyn Visitor<Break = ()>);

struct SharedMut<'a>(&'a mut dyn VisitorMut<Break = ()>);

macro_rules! pass_on {
    ($($method:ident: $node:ty,)*) => {
        impl Visitor for Shared<'_> {
            type Break = ();

            $(fn $method(&mut self, node: &$node) -> ControlFlow<()> {
                self.0.$method(node)
            })*
        }

        impl VisitorMut for SharedMut<'_> {
            type Break = ();

            $(fn $method(&mut self, node: &mut $node) -> ControlFlow<()> {
                self.0.$method(node)
            })*
        }
    };
}

pass_on! {
    pre_visit_query: Query,
    post_visit_query: Query,
    pre_visit_select: Select,
    post_visit_select: Select,
    pre_visit_relation: ObjectName,
    post_visit_relation: ObjectName,
    pre_visit_table_factor: TableFactor,
    post_visit_table_factor: TableFactor,
    pre_visit_expr: Expr,
    post_visit_expr: Expr,
    pre_visit_statement: Statement,
    post_visit_statement: Statement,
    pre_visit_value: ValueWithSpan,
    post_visit_value: ValueWithSpan,
}
