//! INSERT and DELETE, and what is asked of a query's tree: placeholders, headers of the result, `FILES(…)`.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, ObjectName, Query, SelectItem, SetExpr, TableFactor, Value,
    ValueWithSpan, Visit, Visitor, VisitorMut,
};
use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::lex::Offsets;
use super::parser::{P, first_repeated, wrong_name};
use super::walk::{walk, walk_mut};
use super::{Delete, Insert, Parsed, Statement, lex};
use crate::error::{Error, Misfit, Result};
use crate::types::{ColumnType, Datum, Kind, Label};

impl P<'_> {
    /// What follows INSERT.
    pub fn insert(&mut self) -> Result<Statement> {
        for refused in ["OVERWRITE", "IGNORE"] {
            if self.words(refused) {
                return Err(Error::Unsupported(format!("INSERT {refused}")));
            }
        }
        self.need("INTO")?;
        self.words("TABLE");
        for refused in ["FILES", "BLACKHOLE"] {
            if self.at(0, refused) && self.peek(1) == &Token::LParen {
                return Err(Error::Unsupported(format!("INSERT INTO {refused}")));
            }
        }
        let table = self.table_name()?;
        let mut columns = Vec::new();
        let mut label = None;
        loop {
            if label.is_none() && self.words("WITH LABEL") {
                label = Some(self.label()?);
            } else if columns.is_empty() && self.peek(0) == &Token::LParen && !self.query_in_parens() {
                columns = self.parens(|p| p.name(Kind::Column))?;
            } else {
                break;
            }
        }
        let lower: Vec<_> = columns.iter().map(|name| name.to_lowercase()).collect();
        if let Some(column) = first_repeated(&lower) {
            return Err(Misfit::Repeated.error(format!("Column '{column}' specified twice")));
        }
        for refused in ["PARTITION", "PARTITIONS", "TEMPORARY PARTITION", "SET"] {
            if self.words(refused) {
                return Err(Error::Unsupported(format!("INSERT … {refused}")));
            }
        }
        if !["SELECT", "WITH", "VALUES"].iter().any(|word| self.at(0, word)) && self.peek(0) != &Token::LParen {
            return self.unexpected("SELECT or VALUES");
        }
        let source = self.query()?;
        if self.words("ON DUPLICATE KEY UPDATE") {
            return Err(Error::Unsupported("INSERT … ON DUPLICATE KEY UPDATE".into()));
        }
        Ok(Statement::Insert(Insert { table, columns, label, source, more: Vec::new() }))
    }

    /// What follows DELETE FROM.
    pub fn delete(&mut self) -> Result<Statement> {
        let table = self.table_name()?;
        let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
        let database = table.database.as_ref().map(|name| quoted(name) + ".").unwrap_or_default();
        let mut rows = super::parse(&format!("SELECT * FROM {database}{}", quoted(&table.table)))?;
        let Some(Statement::Query(mut rows)) = rows.pop().map(|parsed| parsed.statement) else {
            return Err(Error::internal("SELECT is no query"));
        };
        if self.words("WHERE")
            && let SetExpr::Select(select) = &mut *rows.body
        {
            select.selection = Some(self.condition()?);
        }
        check(&rows)?;
        Ok(Statement::Delete(Delete { table, rows }))
    }

    fn query_in_parens(&self) -> bool {
        let depth = (0..).take_while(|n| self.peek(*n) == &Token::LParen).count();
        ["SELECT", "WITH", "VALUES"].iter().any(|word| self.at(depth, word))
    }

    /// A label.
    pub fn label(&mut self) -> Result<Label> {
        let text = self.ident("a label")?;
        Label::new(text.clone()).map_err(|invalid| wrong_name(Kind::Label, &text, invalid))
    }
}

/// Refuses what sqlparser takes for a query but is more than one.
pub(super) fn check(query: &Query) -> Result<()> {
    let refused = match &*query.body {
        SetExpr::Insert(_) => "WITH … INSERT",
        SetExpr::Update(_) => "WITH … UPDATE",
        SetExpr::Delete(_) => "WITH … DELETE",
        SetExpr::Merge(_) => "WITH … MERGE",
        SetExpr::Select(select) if select.into.is_some() => "SELECT … INTO",
        SetExpr::Select(_)
        | SetExpr::Query(_)
        | SetExpr::SetOperation { .. }
        | SetExpr::Values(_)
        | SetExpr::Table(_) => {
            let spans = Spans::of(query);
            return match spans.other {
                None => Ok(()),
                Some(other) => Err(Error::Unsupported(format!("placeholder '{other}'; write '?'"))),
            };
        }
    };
    Err(Error::Unsupported(refused.into()))
}

/// How often a query and its subqueries name a table that fits. A common table expression of the name counts too.
pub fn count_tables(query: &Query, fits: impl Fn(&ObjectName) -> bool) -> usize {
    struct Count<F>(F, usize);
    impl<F: Fn(&ObjectName) -> bool> Visitor for Count<F> {
        type Break = ();

        fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
            self.1 += usize::from((self.0)(name));
            ControlFlow::Continue(())
        }
    }
    let mut count = Count(fits, 0);
    let _ = walk(query, &mut count);
    count.1
}

/// Where the placeholders are.
#[derive(Default)]
struct Spans {
    places: Vec<Span>,
    /// One that is neither `?` nor a column of `FILES`; the walk has ended there.
    other: Option<String>,
}

impl Spans {
    fn of(tree: &impl Visit) -> Self {
        let mut spans = Self::default();
        let _ = walk(tree, &mut spans);
        spans
    }
}

impl Visitor for Spans {
    type Break = ();

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        match &value.value {
            Value::Placeholder(text) if text == "?" => self.places.push(value.span),
            // `$1` is the first column of a CSV file without a header.
            Value::Placeholder(text) if text.starts_with('$') => {}
            Value::Placeholder(text) => {
                self.other = Some(text.clone());
                return ControlFlow::Break(());
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

pub(super) fn placeholders_in(node: &impl Visit) -> usize {
    Spans::of(node).places.len()
}

fn source(statement: &Statement) -> Option<&Query> {
    match statement {
        Statement::Query(query) => Some(query),
        Statement::Insert(insert) => Some(&insert.source),
        Statement::Delete(delete) => Some(&delete.rows),
        _ => None,
    }
}

/// `SELECT` of an expression that was read elsewhere.
pub fn select_of(expr: &Expr) -> Result<Parsed> {
    let mut parsed = super::parse("SELECT 1")?.pop().ok_or_else(|| Error::internal("SELECT is no statement"))?;
    if let Statement::Query(query) = &mut parsed.statement
        && let SetExpr::Select(select) = &mut *query.body
    {
        select.projection = vec![SelectItem::UnnamedExpr(expr.clone())];
    }
    Ok(parsed)
}

/// How many `?` a statement has. One with any must be [bound](bind) before it is executed.
pub fn placeholders(statement: &Statement) -> usize {
    source(statement).map_or(0, placeholders_in)
}

/// The statement with its placeholders replaced by literals, in the order of the text.
///
/// DATE and DATETIME become strings, [`Datum::Decimal`] a whole number since its scale is not known here. Fails if there
/// are not as many values as placeholders, or one is not finite.
pub fn bind(statement: &Statement, values: &[Datum]) -> Result<Statement> {
    let places = source(statement).map(Spans::of).unwrap_or_default().places;
    if places.len() != values.len() {
        let message =
            format!("Incorrect arguments to EXECUTE: {} values for {} parameters", values.len(), places.len());
        return Err(Misfit::Parameters.error(message));
    }
    // The tree is not walked in the order of the text (LIMIT a, b), so each value gets its place first.
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by_key(|n| places[*n].start);
    let mut literals = vec![Value::Null; values.len()];
    for (value, place) in values.iter().zip(order) {
        literals[place] = literal(value)?;
    }
    let mut bound = statement.clone();
    let query = match &mut bound {
        Statement::Query(query) => query,
        Statement::Insert(insert) => &mut insert.source,
        Statement::Delete(delete) => &mut delete.rows,
        _ => return Ok(bound),
    };
    let _ = walk_mut(&mut **query, &mut Replace(literals.into()));
    Ok(bound)
}

/// Replaces placeholders in the order of the walk.
struct Replace(VecDeque<Value>);

impl VisitorMut for Replace {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        if matches!(&value.value, Value::Placeholder(text) if text == "?")
            && let Some(literal) = self.0.pop_front()
        {
            value.value = literal;
        }
        ControlFlow::Continue(())
    }
}

fn literal(value: &Datum) -> Result<Value> {
    Ok(match value {
        Datum::Null => Value::Null,
        Datum::Bool(value) => Value::Boolean(*value),
        Datum::Int(value) => Value::Number(value.to_string(), false),
        Datum::Double(value) if value.is_finite() => Value::Number(format!("{value:e}"), false),
        Datum::Double(value) => return Err(Error::Analysis(format!("parameter {value} is not a finite number"))),
        Datum::Decimal(value) => Value::Number(value.to_string(), false),
        Datum::Exact(digits) => Value::Number(digits.clone(), false),
        Datum::Date(_) => Value::SingleQuotedString(value.text(ColumnType::Date).unwrap_or_default()),
        Datum::DateTime(_) => Value::SingleQuotedString(value.text(ColumnType::DateTime).unwrap_or_default()),
        Datum::Text(text) => Value::SingleQuotedString(text.clone()),
        Datum::Bytes(bytes) => Value::HexStringLiteral(hex::encode(bytes)),
    })
}

/// The headers of a query's result that its text gives: for each item of the outermost (in a UNION the first) SELECT,
/// the expression as it is written, of a plain column only its name; `None` for aliases and wildcards.
///
/// `text` is the text the query was parsed from, or any that begins with that query. A VALUES has no headers.
pub fn projection_names(query: &Query, text: &str) -> Vec<Option<String>> {
    let Some(items) = first_projection(&query.body) else {
        return Vec::new();
    };
    // sqlparser's spans leave out parentheses and keywords at the ends, so the text is divided by its own commas.
    let written = written_items(text).filter(|written| written.len() == items.len());
    let name = |(n, item): (usize, &SelectItem)| match item {
        SelectItem::UnnamedExpr(Expr::Identifier(column)) => Some(column.value.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) if !parts[0].value.starts_with("@@") => {
            parts.last().map(|part| part.value.clone())
        }
        SelectItem::UnnamedExpr(expr) => match &written {
            Some(written) => Some(written[n].to_owned()),
            None => Some(expr.to_string()),
        },
        SelectItem::ExprWithAlias { .. }
        | SelectItem::ExprWithAliases { .. }
        | SelectItem::QualifiedWildcard(..)
        | SelectItem::Wildcard(_) => None,
    };
    items.iter().enumerate().map(name).collect()
}

fn first_projection(body: &SetExpr) -> Option<&[SelectItem]> {
    match body {
        SetExpr::Select(select) => Some(&select.projection),
        SetExpr::Query(query) => first_projection(&query.body),
        SetExpr::SetOperation { left, .. } => first_projection(left),
        _ => None,
    }
}

/// The texts between SELECT and what ends its list, divided by the commas outside parentheses.
fn written_items(text: &str) -> Option<Vec<&str>> {
    const ENDS: [&str; 16] = [
        "FROM",
        "WHERE",
        "GROUP",
        "HAVING",
        "ORDER",
        "LIMIT",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "MINUS",
        "INTO",
        "WINDOW",
        "QUALIFY",
        "FOR",
        "OFFSET",
        "FETCH",
    ];
    const MODIFIERS: [&str; 10] = [
        "ALL",
        "DISTINCT",
        "DISTINCTROW",
        "HIGH_PRIORITY",
        "STRAIGHT_JOIN",
        "SQL_SMALL_RESULT",
        "SQL_BIG_RESULT",
        "SQL_BUFFER_RESULT",
        "SQL_NO_CACHE",
        "SQL_CALC_FOUND_ROWS",
    ];
    let mut tokens = Vec::new();
    lex::tokens(text, &mut tokens).ok()?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    let is = |token: &TokenWithSpan, words: &[&str]| match &token.token {
        Token::Word(word) => word.quote_style.is_none() && words.iter().any(|w| w.eq_ignore_ascii_case(&word.value)),
        _ => false,
    };
    // Parentheses before the first word hold the SELECT; those after WITH hold others.
    let outer = tokens.iter().take_while(|token| token.token == Token::LParen).count();
    let mut depth = 0_usize;
    let mut begin = None;
    for (n, token) in tokens.iter().enumerate() {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.checked_sub(1)?,
            _ if depth == outer && is(token, &["SELECT"]) => {
                begin = Some(n + 1);
                break;
            }
            _ => {}
        }
    }
    let mut at = begin?;
    while tokens.get(at).is_some_and(|token| is(token, &MODIFIERS)) {
        at += 1;
    }
    let mut offsets = Offsets::new(text);
    let mut items = Vec::new();
    let mut first = at;
    let mut inner = 0_usize;
    loop {
        let token = tokens.get(at);
        let ends = match token {
            None => true,
            Some(token) => match token.token {
                Token::SemiColon => true,
                Token::RParen => inner == 0,
                _ => {
                    let before = &tokens[at - 1];
                    let bound = before.token == Token::Period || is(before, &["DISTINCT"]) && is(token, &["FROM"]);
                    inner == 0 && at > first && is(token, &ENDS) && !bound
                }
            },
        };
        if ends || inner == 0 && token.is_some_and(|token| token.token == Token::Comma) {
            let from = offsets.seek(tokens.get(first)?.span.start);
            let to = offsets.seek(tokens.get(at.checked_sub(1)?)?.span.end);
            items.push(text.get(from..to)?);
            first = at + 1;
        }
        if ends {
            return Some(items);
        }
        match token.map(|token| &token.token) {
            Some(Token::LParen | Token::LBracket | Token::LBrace) => inner += 1,
            Some(Token::RParen | Token::RBracket | Token::RBrace) => inner = inner.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
}

/// The properties of `FILES("path" = "…", "format" = "…")`, or `None` if the factor is something else.
///
/// In the tree it is a [`TableFactor::Table`] of the name `files` whose arguments are equations of two strings. An error
/// if they are something else, if one is there twice or a placeholder is not bound.
pub fn files_call(factor: &TableFactor) -> Option<Result<BTreeMap<String, String>>> {
    let TableFactor::Table { name, args: Some(args), .. } = factor else {
        return None;
    };
    let [part] = name.0.as_slice() else {
        return None;
    };
    if !part.as_ident().is_some_and(|ident| ident.value.eq_ignore_ascii_case("files")) {
        return None;
    }
    let mut properties = BTreeMap::new();
    for arg in &args.args {
        let Some((key, value)) = equation(arg) else {
            return Some(Err(Error::Analysis(format!(
                "FILES takes \"key\" = \"value\", not {}",
                super::mask_secrets(&arg.to_string())
            ))));
        };
        if properties.insert(key.to_owned(), value.to_owned()).is_some() {
            return Some(Err(Error::Analysis(format!("property '{key}' is given twice"))));
        }
    }
    Some(Ok(properties))
}

fn equation(arg: &FunctionArg) -> Option<(&str, &str)> {
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::BinaryOp { left, op: BinaryOperator::Eq, right })) = arg
    else {
        return None;
    };
    Some((string(left)?, string(right)?))
}

/// The text of a string literal.
pub(super) fn string(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text) | Value::DoubleQuotedString(text), ..
        }) => Some(text),
        _ => None,
    }
}
