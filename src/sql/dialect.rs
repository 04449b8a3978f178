use std::any::TypeId;
use std::cell::Cell;

use sqlparser::ast::Expr;
use sqlparser::dialect::{Dialect, MySqlDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};

/// MySQL's dialect as sqlparser has it, with StarRocks' `--` comments and `!x`, and with an end to backtracking.
///
/// sqlparser reads `CAST(…)` and its like a second time when the first reading fails, so that a fault inside n of them
/// costs 2^n. It asks the dialect before each operand; after more questions than any sound statement causes, the answer
/// is an error.
#[derive(Debug)]
pub(super) struct StarRocksDialect {
    mysql: MySqlDialect,
    fuel: Cell<usize>,
}

impl StarRocksDialect {
    /// For a statement of so many tokens.
    pub fn new(tokens: usize) -> Self {
        Self { mysql: MySqlDialect {}, fuel: Cell::new(2_000 + 8 * tokens) }
    }

    /// Whether a statement was given up because of its backtracking.
    pub fn is_exhausted(&self) -> bool {
        self.fuel.get() == 0
    }
}

/// What MySQL's dialect says yes to, as far as it concerns tokens and queries. Comments with a version,
/// `/*!40101 … */`, are not among it: `lex` opens them in a way that keeps positions right.
macro_rules! yes {
    ($($name:ident)*) => {$(
        fn $name(&self) -> bool {
            true
        }
    )*};
}

impl Dialect for StarRocksDialect {
    /// Keeps what sqlparser does for MySQL only.
    fn dialect(&self) -> TypeId {
        TypeId::of::<MySqlDialect>()
    }

    yes! {
        ignores_wildcard_escapes
        require_interval_qualifier
        supports_bang_not_operator
        supports_binary_kw_as_cast
        supports_bitwise_shift_operators
        supports_cross_join_constraint
        supports_data_type_signed_suffix
        supports_double_ampersand_operator
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_limit_comma
        supports_match_against
        supports_numeric_prefix
        supports_select_modifiers
        supports_string_literal_backslash_escape
        supports_string_literal_concatenation
        supports_table_hints
    }

    fn is_delimited_identifier_start(&self, c: char) -> bool {
        self.mysql.is_delimited_identifier_start(c)
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        self.mysql.identifier_quote_style(identifier)
    }

    fn is_identifier_start(&self, c: char) -> bool {
        self.mysql.is_identifier_start(c)
    }

    fn is_identifier_part(&self, c: char) -> bool {
        self.mysql.is_identifier_part(c)
    }

    fn is_table_factor_alias(&self, explicit: bool, keyword: &Keyword, parser: &mut Parser) -> bool {
        self.mysql.is_table_factor_alias(explicit, keyword, parser)
    }

    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        self.mysql.parse_infix(parser, expr, precedence)
    }

    fn parse_prefix(&self, _: &mut Parser) -> Option<Result<Expr, ParserError>> {
        self.fuel.set(self.fuel.get().saturating_sub(1));
        self.is_exhausted().then_some(Err(ParserError::RecursionLimitExceeded))
    }
}
