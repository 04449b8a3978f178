//! CREATE, ALTER, DROP and TRUNCATE: definitions, completed by StarRocks' defaults and checked in themselves.

use sqlparser::tokenizer::Token;

use super::parser::{P, first_repeated};
use super::{ColumnDef, CreateRepository, CreateTable, Distribution, PartitionBy, Statement, TableName};
use crate::error::{Error, Misfit, Result};
use crate::types::{ColumnType, Datum, Entity, Kind, Name, PartitionRange};

/// The most bytes of a CHAR, as in StarRocks.
const MAX_CHAR: u32 = 255;

/// The most columns of a table: what MySQL's clients take in a result.
const MAX_COLUMNS: usize = 4096;

/// The most partitions of a table, as many as StarRocks makes in one statement (`max_partitions_in_one_batch`).
const MAX_PARTITIONS: usize = 4096;

/// The most bytes of a VARCHAR, as in StarRocks.
const MAX_VARCHAR: u32 = 1_048_576;

/// How many columns, and of how many bytes together, are the key of a table that names none, as in StarRocks.
const DEFAULT_KEYS: (u32, u32) = (3, 36);

/// A partition as written.
struct RawPartition {
    name: Name,
    bounds: RawBounds,
}

/// The bounds of a partition as written; `None` is MAXVALUE.
enum RawBounds {
    LessThan(Option<String>),
    Fixed(String, Option<String>),
}

impl P<'_> {
    /// What dumps say of a database, where it is true here: texts are in UTF-8, and nothing is encrypted.
    fn database_options(&mut self) -> Result<()> {
        loop {
            let default = self.words("DEFAULT");
            let kind = ["CHARACTER SET", "CHARSET", "COLLATE", "ENCRYPTION"].into_iter().find(|kind| self.words(kind));
            let Some(kind) = kind else {
                return if default { self.unexpected("CHARACTER SET, COLLATE or ENCRYPTION") } else { Ok(()) };
            };
            self.token(&Token::Eq);
            let value = self.charset()?.unwrap_or_default().to_lowercase();
            match kind {
                "ENCRYPTION" if value != "n" => return Err(Error::Unsupported("ENCRYPTION of a database".into())),
                "ENCRYPTION" => {}
                _ if value.is_empty() || value.starts_with("utf8") => {}
                _ => {
                    let text = format!("{kind} {value}; texts are in UTF-8, and are compared by their bytes");
                    return Err(Error::Unsupported(text));
                }
            }
        }
    }

    /// CREATE, ALTER, DROP and TRUNCATE of databases, tables and repositories.
    pub fn ddl(&mut self) -> Result<Option<Statement>> {
        Ok(Some(if self.words("CREATE DATABASE") || self.words("CREATE SCHEMA") {
            let if_not_exists = self.words("IF NOT EXISTS");
            let name = self.database_name()?;
            self.database_options()?;
            if self.at(0, "PROPERTIES") {
                return Err(Error::Unsupported("CREATE DATABASE … PROPERTIES".into()));
            }
            Statement::CreateDatabase { name, if_not_exists }
        } else if self.words("DROP DATABASE") || self.words("DROP SCHEMA") {
            let if_exists = self.words("IF EXISTS");
            Statement::DropDatabase { name: self.database_name()?, if_exists, force: self.words("FORCE") }
        } else if self.words("CREATE TABLE") {
            Statement::CreateTable(self.create_table()?)
        } else if self.words("DROP TABLE") {
            let if_exists = self.words("IF EXISTS");
            Statement::DropTables { tables: self.list(Self::table_name)?, if_exists, force: self.words("FORCE") }
        } else if self.words("TRUNCATE") {
            self.words("TABLE");
            Statement::Truncate { table: self.table_name()?, partitions: self.partitions()? }
        } else if self.words("ALTER TABLE") {
            let table = self.table_name()?;
            if !self.words("DISABLE KEYS") && !self.words("ENABLE KEYS") {
                return Err(Error::Unsupported("ALTER TABLE".into()));
            }
            Statement::AlterKeys(table)
        } else if self.peek_words("CREATE REPOSITORY") || self.peek_words("CREATE READ") {
            self.need("CREATE")?;
            let read_only = self.words("READ");
            if read_only {
                self.need("ONLY")?;
            }
            self.need("REPOSITORY")?;
            Statement::CreateRepository(self.create_repository(read_only)?)
        } else if self.words("ALTER REPOSITORY") {
            let name = self.name(Kind::Repository)?;
            self.words("SET");
            if !self.at(0, "PROPERTIES") {
                return self.unexpected("PROPERTIES");
            }
            Statement::AlterRepository { name, properties: self.properties()? }
        } else if self.words("DROP REPOSITORY") {
            Statement::DropRepository(self.name(Kind::Repository)?)
        } else {
            return Ok(None);
        }))
    }

    fn create_repository(&mut self, read_only: bool) -> Result<CreateRepository> {
        let name = self.name(Kind::Repository)?;
        self.need("WITH BROKER")?;
        let broker = match self.optional_string() {
            Some(broker) => broker,
            None if self.at(0, "ON") => String::new(),
            None => self.ident("ON")?,
        };
        self.need("ON LOCATION")?;
        let location = self.string()?;
        let properties = self.properties()?;
        self.end()?;
        if !broker.is_empty() {
            return Err(Error::Unsupported(format!(
                "broker '{broker}'; stores are reached without broker processes: write WITH BROKER and no name"
            )));
        }
        if location.is_empty() {
            return Err(Error::Refused("You must specify a location on the repository".into()));
        }
        Ok(CreateRepository { name, read_only, location, properties })
    }

    fn create_table(&mut self) -> Result<CreateTable> {
        let if_not_exists = self.words("IF NOT EXISTS");
        let table = self.table_name()?;
        for (word, refused) in [("LIKE", "CREATE TABLE … LIKE"), ("AS", "CREATE TABLE … AS SELECT")] {
            if self.words(word) {
                return Err(Error::Unsupported(refused.into()));
            }
        }
        let columns = self.parens(Self::column)?;
        let mut keys = None;
        let mut comment = None;
        let mut partitions: Option<(Name, Vec<RawPartition>)> = None;
        let mut distribution = None;
        let mut properties = None;
        loop {
            let (clause, again) = if self.words("ENGINE") {
                self.token(&Token::Eq);
                let engine = self.ident("olap")?;
                if !engine.eq_ignore_ascii_case("olap") {
                    return Err(Error::Unsupported(format!("engine '{engine}'; write ENGINE = olap, or leave it out")));
                }
                continue;
            } else if self.words("DUPLICATE KEY") {
                ("DUPLICATE KEY", keys.replace(self.parens(|p| p.name(Kind::Column))?).is_some())
            } else if self.words("COMMENT") {
                self.token(&Token::Eq);
                ("COMMENT", comment.replace(self.string()?).is_some())
            } else if self.words("PARTITION BY") {
                ("PARTITION BY", partitions.replace(self.partition_by()?).is_some())
            } else if self.words("DISTRIBUTED BY") {
                ("DISTRIBUTED BY", distribution.replace(self.distribution()?).is_some())
            } else if self.at(0, "PROPERTIES") {
                ("PROPERTIES", properties.replace(self.properties()?).is_some())
            } else {
                break;
            };
            if again {
                return Err(Error::Analysis(format!("{clause} is given twice")));
            }
        }
        self.refuse_table_clause()?;
        self.end()?;
        check_columns(&columns)?;
        let keys = match keys {
            Some(keys) => given_keys(&keys, &columns)?,
            None => default_keys(&columns)?,
        };
        let partition_by = partitions.map(|(column, raw)| resolve_partitions(column, raw, &columns)).transpose()?;
        if let Some(distribution) = &distribution {
            check_distribution(distribution, &columns)?;
        }
        Ok(CreateTable {
            table,
            if_not_exists,
            columns,
            keys,
            comment: comment.unwrap_or_default(),
            partition_by,
            distribution,
            properties: properties.unwrap_or_default(),
        })
    }

    /// Refuses by name what may stand after the columns and is not supported.
    fn refuse_table_clause(&self) -> Result<()> {
        const CLAUSES: [&str; 9] = [
            "PRIMARY KEY",
            "UNIQUE KEY",
            "AGGREGATE KEY",
            "ORDER BY",
            "ROLLUP",
            "DEFAULT CHARSET",
            "CHARSET",
            "AUTO_INCREMENT",
            "COLLATE",
        ];
        match CLAUSES.iter().find(|clause| self.peek_words(clause)) {
            Some(clause) => Err(Error::Unsupported(format!("{clause} in CREATE TABLE"))),
            None if self.at(0, "AS") || self.at(0, "SELECT") => {
                Err(Error::Unsupported("CREATE TABLE … AS SELECT".into()))
            }
            None => Ok(()),
        }
    }

    fn column(&mut self) -> Result<ColumnDef> {
        const ELEMENTS: [&str; 6] = ["PRIMARY KEY", "UNIQUE", "INDEX", "KEY", "CONSTRAINT", "FOREIGN KEY"];
        if let Some(element) = ELEMENTS.iter().find(|element| self.peek_words(element)) {
            return Err(Error::Unsupported(format!("{element} in CREATE TABLE")));
        }
        if self.at(0, "CHECK") && self.peek(1) == &Token::LParen {
            return Err(Error::Unsupported("CHECK in CREATE TABLE".into()));
        }
        let name = self.name(Kind::Column)?;
        let ty = self.column_type()?;
        let (mut nullable, mut default, mut comment) = (None, None, None);
        loop {
            let (clause, again) = if self.words("NOT NULL") {
                ("NULL", nullable.replace(false).is_some())
            } else if self.words("NULL") {
                ("NULL", nullable.replace(true).is_some())
            } else if self.words("DEFAULT") {
                ("DEFAULT", default.replace(self.default()?).is_some())
            } else if self.words("COMMENT") {
                ("COMMENT", comment.replace(self.string()?).is_some())
            } else {
                break;
            };
            if again {
                return Err(Error::Analysis(format!("{clause} of column '{name}' is given twice")));
            }
        }
        self.refuse_column_attribute()?;
        let (nullable, comment) = (nullable.unwrap_or(true), comment.unwrap_or_default());
        let mut column = ColumnDef { name, ty, nullable, default: None, comment };
        if let Some(text) = default {
            let parse = |text: String| Datum::parse(&text, ty).map_err(|invalid| default_error(&column, &invalid.0));
            let value = text.map(parse).transpose()?.unwrap_or(Datum::Null);
            if value == Datum::Null && !column.nullable {
                return Err(default_error(&column, "it is NOT NULL"));
            }
            column.default = Some(value);
        }
        Ok(column)
    }

    /// The value after DEFAULT; `None` is NULL.
    fn default(&mut self) -> Result<Option<String>> {
        if self.words("NULL") {
            return Ok(None);
        }
        for refused in ["CURRENT_TIMESTAMP", "NOW"] {
            if self.at(0, refused) {
                return Err(Error::Unsupported(format!("DEFAULT {refused}")));
            }
        }
        if self.peek(0) == &Token::LParen {
            return Err(Error::Unsupported("DEFAULT of an expression".into()));
        }
        if self.any_word(&["TRUE"]) {
            return Ok(Some("true".into()));
        }
        if self.any_word(&["FALSE"]) {
            return Ok(Some("false".into()));
        }
        self.text_or_number().map(Some)
    }

    fn text_or_number(&mut self) -> Result<String> {
        let minus = self.token(&Token::Minus);
        if let Token::Number(digits, _) = self.peek(0) {
            let text = format!("{}{digits}", if minus { "-" } else { "" });
            self.skip();
            return Ok(text);
        }
        if minus { self.unexpected("a number") } else { self.string() }
    }

    fn refuse_column_attribute(&self) -> Result<()> {
        const ATTRIBUTES: [&str; 20] = [
            "PRIMARY KEY",
            "UNIQUE",
            "KEY",
            "AUTO_INCREMENT",
            "AS",
            "GENERATED",
            "COLLATE",
            "CHARACTER SET",
            "CHARSET",
            "SUM",
            "MIN",
            "MAX",
            "REPLACE",
            "REPLACE_IF_NOT_NULL",
            "HLL_UNION",
            "BITMAP_UNION",
            "PERCENTILE_UNION",
            "ON UPDATE",
            "CHECK",
            "REFERENCES",
        ];
        match ATTRIBUTES.iter().find(|attribute| self.peek_words(attribute)) {
            Some(attribute) => Err(Error::Unsupported(format!("column attribute {attribute}"))),
            None => Ok(()),
        }
    }

    fn column_type(&mut self) -> Result<ColumnType> {
        const REFUSED: [&str; 30] = [
            "LARGEINT",
            "FLOAT",
            "REAL",
            "JSON",
            "ARRAY",
            "MAP",
            "STRUCT",
            "BITMAP",
            "HLL",
            "PERCENTILE",
            "VARBINARY",
            "BINARY",
            "BLOB",
            "TEXT",
            "LONGTEXT",
            "MEDIUMTEXT",
            "TINYTEXT",
            "TIME",
            "TIMESTAMP",
            "MEDIUMINT",
            "UNSIGNED",
            "ENUM",
            "BIT",
            "YEAR",
            "VARIANT",
            "DECIMALV2",
            "DECIMAL32",
            "DECIMAL64",
            "DECIMAL128",
            "DECIMAL256",
        ];
        let refused = REFUSED.iter().find(|refused| self.at(0, refused));
        if let Some(refused) = refused {
            return Err(Error::Unsupported(format!("type {refused}")));
        }
        let ty = if self.any_word(&["BOOLEAN", "BOOL"]) {
            ColumnType::Boolean
        } else if self.words("DOUBLE") {
            self.words("PRECISION");
            ColumnType::Double
        } else if self.words("DATE") {
            ColumnType::Date
        } else if self.words("DATETIME") {
            ColumnType::DateTime
        } else if self.words("STRING") {
            ColumnType::String
        } else if self.any_word(&["DECIMAL", "NUMERIC"]) {
            return self.decimal();
        } else if self.words("CHAR") {
            // Without a length both are of one byte, as StarRocks documents it.
            return Ok(ColumnType::Char(self.length("CHAR", MAX_CHAR)?.unwrap_or(1)));
        } else if self.words("VARCHAR") {
            return Ok(ColumnType::Varchar(self.length("VARCHAR", MAX_VARCHAR)?.unwrap_or(1)));
        } else {
            return self.integer();
        };
        if self.peek(0) == &Token::LParen {
            return Err(Error::Unsupported(format!("a length of type {}", ty.to_string().to_uppercase())));
        }
        Ok(ty)
    }

    /// An integer type. Its display width is taken and ignored, as in MySQL 8 and StarRocks.
    fn integer(&mut self) -> Result<ColumnType> {
        let ty = if self.words("TINYINT") {
            ColumnType::TinyInt
        } else if self.words("SMALLINT") {
            ColumnType::SmallInt
        } else if self.any_word(&["INT", "INTEGER"]) {
            ColumnType::Int
        } else if self.words("BIGINT") {
            ColumnType::BigInt
        } else {
            return self.unexpected("a type");
        };
        if self.token(&Token::LParen) {
            self.number::<u32>("a display width")?;
            self.need_token(&Token::RParen)?;
        }
        if self.at(0, "UNSIGNED") {
            return Err(Error::Unsupported("type UNSIGNED".into()));
        }
        Ok(ty)
    }

    fn decimal(&mut self) -> Result<ColumnType> {
        let (mut precision, mut scale) = (10_u32, 0_u32);
        if self.token(&Token::LParen) {
            precision = self.number("a precision")?;
            if self.token(&Token::Comma) {
                scale = self.number("a scale")?;
            }
            self.need_token(&Token::RParen)?;
        }
        if precision == 0 || precision > 38 || scale > precision {
            let rule = "the precision is 1 to 38 and the scale 0 to the precision";
            return Err(Error::Analysis(format!("DECIMAL({precision}, {scale}): {rule}")));
        }
        Ok(ColumnType::Decimal { precision: precision as u8, scale: scale as i8 })
    }

    fn length(&mut self, what: &str, most: u32) -> Result<Option<u32>> {
        if !self.token(&Token::LParen) {
            return Ok(None);
        }
        let length = self.number("a length")?;
        self.need_token(&Token::RParen)?;
        if (1..=most).contains(&length) {
            return Ok(Some(length));
        }
        Err(Error::Analysis(format!("{what}({length}): the length is 1 to {most}")))
    }

    fn partition_by(&mut self) -> Result<(Name, Vec<RawPartition>)> {
        if self.at(0, "LIST") {
            return Err(Error::Unsupported("PARTITION BY LIST".into()));
        }
        if self.at(0, "HASH") || self.at(0, "KEY") {
            return Err(Error::Unsupported("PARTITION BY HASH or KEY; write DISTRIBUTED BY HASH".into()));
        }
        if !self.at(0, "RANGE") || self.peek(1) != &Token::LParen {
            if self.at_end() {
                return self.unexpected("RANGE");
            }
            return Err(Error::Unsupported("PARTITION BY an expression".into()));
        }
        self.skip();
        let mut columns = self.parens(|p| {
            let column = p.name(Kind::Column)?;
            if p.peek(0) == &Token::LParen {
                return Err(Error::Unsupported("PARTITION BY an expression".into()));
            }
            Ok(column)
        })?;
        if columns.len() > 1 {
            return Err(Error::Unsupported("PARTITION BY RANGE of several columns".into()));
        }
        self.need_token(&Token::LParen)?;
        let mut partitions = Vec::new();
        if !self.token(&Token::RParen) {
            partitions = self.list(Self::range_partition)?;
            self.need_token(&Token::RParen)?;
        }
        Ok((columns.remove(0), partitions))
    }

    fn range_partition(&mut self) -> Result<RawPartition> {
        if self.at(0, "START") {
            return Err(Error::Unsupported("partitions by START … END … EVERY".into()));
        }
        self.need("PARTITION")?;
        self.words("IF NOT EXISTS");
        let name = self.name(Kind::Partition)?;
        self.need("VALUES")?;
        let bounds = if self.words("LESS THAN") {
            if self.words("MAXVALUE") { RawBounds::LessThan(None) } else { RawBounds::LessThan(self.bound()?) }
        } else if self.token(&Token::LBracket) {
            let lower = self.bound()?;
            self.need_token(&Token::Comma)?;
            let upper = self.bound()?;
            self.need_token(&Token::RParen)?;
            match lower {
                Some(lower) => RawBounds::Fixed(lower, upper),
                None => return Err(Error::Analysis(format!("partition '{name}' begins at MAXVALUE"))),
            }
        } else {
            return self.unexpected("LESS THAN or '['");
        };
        if self.peek(0) == &Token::LParen {
            return Err(Error::Unsupported("properties of a partition in CREATE TABLE".into()));
        }
        Ok(RawPartition { name, bounds })
    }

    /// A bound of one column in parentheses; `None` is MAXVALUE.
    fn bound(&mut self) -> Result<Option<String>> {
        self.need_token(&Token::LParen)?;
        let bound = if self.words("MAXVALUE") { None } else { Some(self.text_or_number()?) };
        if self.peek(0) == &Token::Comma {
            return Err(Error::Unsupported("PARTITION BY RANGE of several columns".into()));
        }
        self.need_token(&Token::RParen)?;
        Ok(bound)
    }

    fn distribution(&mut self) -> Result<Distribution> {
        if self.words("RANDOM") {
            return Err(Error::Unsupported("DISTRIBUTED BY RANDOM; write DISTRIBUTED BY HASH (column)".into()));
        }
        self.need("HASH")?;
        let columns = self.parens(|p| p.name(Kind::Column))?;
        let buckets = if self.words("BUCKETS") { Some(self.number("a number of buckets")?) } else { None };
        if buckets == Some(0) {
            return Err(Error::Analysis("the number of buckets is at least 1".into()));
        }
        Ok(Distribution { columns, buckets })
    }

    /// A table's name, where DESC and SHOW have it behind FROM or IN, with the database behind another one.
    pub fn table_from(&mut self) -> Result<TableName> {
        if !self.any_word(&["FROM", "IN"]) {
            return self.unexpected("FROM");
        }
        let mut table = self.table_name()?;
        if self.any_word(&["FROM", "IN"]) {
            table.database = Some(self.database_name()?);
        }
        Ok(table)
    }
}

fn default_error(column: &ColumnDef, problem: &str) -> Error {
    Misfit::WrongDefault.error(format!("Invalid default value for '{}': {problem}", column.name))
}

fn check_columns(columns: &[ColumnDef]) -> Result<()> {
    if columns.len() > MAX_COLUMNS {
        return Err(Misfit::TooManyColumns.error(format!("Too many columns: {}; at most {MAX_COLUMNS}", columns.len())));
    }
    let lower: Vec<_> = columns.iter().map(|column| column.name.to_lowercase()).collect();
    match first_repeated(&lower) {
        Some(name) => Err(Error::AlreadyExists(Entity::new(Kind::Column, name))),
        None => Ok(()),
    }
}

fn find<'a>(name: &Name, columns: &'a [ColumnDef], clause: &str) -> Result<&'a ColumnDef> {
    let lower = name.to_lowercase();
    let found = columns.iter().find(|column| column.name.to_lowercase() == lower);
    found.ok_or_else(|| Misfit::UnknownKey.error(format!("column '{name}' in {clause} does not exist")))
}

fn given_keys(keys: &[Name], columns: &[ColumnDef]) -> Result<u32> {
    for (n, key) in keys.iter().enumerate() {
        let column = find(key, columns, "DUPLICATE KEY")?;
        if columns.get(n).is_none_or(|expected| expected.name != column.name) {
            return Err(Error::Analysis(
                "Key columns must be the first few columns of the schema and the order of the key columns must be \
                 consistent with the order of the schema"
                    .into(),
            ));
        }
        check_key_type(column)?;
    }
    Ok(keys.len() as u32)
}

fn check_key_type(column: &ColumnDef) -> Result<()> {
    if column.ty.is_key_type() {
        return Ok(());
    }
    Err(Error::Analysis(format!("column '{}' of type {} can not be a key column", column.name, column.ty)))
}

/// As many leading columns as fit, at least one; a text of any length ends the key.
fn default_keys(columns: &[ColumnDef]) -> Result<u32> {
    let (most, bytes) = DEFAULT_KEYS;
    let (mut keys, mut length) = (0, 0);
    for column in columns {
        if keys == 0 {
            check_key_type(column)?;
        }
        length += match column.ty {
            ColumnType::Boolean | ColumnType::TinyInt => 1,
            ColumnType::SmallInt => 2,
            ColumnType::Int | ColumnType::Date => 4,
            ColumnType::BigInt | ColumnType::DateTime | ColumnType::Double => 8,
            ColumnType::Decimal { .. } => 16,
            ColumnType::Char(n) | ColumnType::Varchar(n) => n,
            ColumnType::String | ColumnType::Varbinary => u32::MAX / 2,
        };
        if keys > 0 && (keys == most || length > bytes || !column.ty.is_key_type()) {
            break;
        }
        keys += 1;
        if matches!(column.ty, ColumnType::Varchar(_) | ColumnType::String) || length > bytes {
            break;
        }
    }
    Ok(keys)
}

fn check_distribution(distribution: &Distribution, columns: &[ColumnDef]) -> Result<()> {
    for name in &distribution.columns {
        check_key_type(find(name, columns, "DISTRIBUTED BY")?)?;
    }
    let lower: Vec<_> = distribution.columns.iter().map(|name| name.to_lowercase()).collect();
    match first_repeated(&lower) {
        Some(name) => Err(Error::Analysis(format!("column '{name}' is twice in DISTRIBUTED BY"))),
        None => Ok(()),
    }
}

fn resolve_partitions(column: Name, raw: Vec<RawPartition>, columns: &[ColumnDef]) -> Result<PartitionBy> {
    let ty = find(&column, columns, "PARTITION BY")?.ty;
    if !ty.is_range_type() {
        return Err(Error::Analysis(format!("column '{column}' of type {ty} can not be a range partition column")));
    }
    if raw.len() > MAX_PARTITIONS {
        let text = format!("Too many partitions: {}; at most {MAX_PARTITIONS}", raw.len());
        return Err(Misfit::TooManyPartitions.error(text));
    }
    let mut partitions: Vec<(Name, PartitionRange)> = Vec::new();
    for RawPartition { name, bounds } in raw {
        if partitions.iter().any(|(known, _)| *known == name) {
            return Err(Error::Analysis(format!("partition '{name}' is given twice")));
        }
        let value = |text: String| {
            Datum::parse(&text, ty).map_err(|invalid| Error::Analysis(format!("partition '{name}': {invalid}")))
        };
        let range = match bounds {
            RawBounds::Fixed(lower, upper) => {
                PartitionRange { lower: Some(value(lower)?), upper: upper.map(value).transpose()? }
            }
            RawBounds::LessThan(upper) => {
                let upper = upper.map(value).transpose()?;
                PartitionRange { lower: greatest_upper(&partitions, upper.as_ref()), upper }
            }
        };
        let empty = match (&range.lower, &range.upper) {
            (Some(lower), Some(upper)) => !lower.compare(upper).is_some_and(|order| order.is_lt()),
            _ => false,
        };
        if empty {
            return Err(Error::Analysis(format!(
                "partition '{name}' is empty: its upper bound is not above its lower"
            )));
        }
        if let Some((other, _)) = partitions.iter().find(|(_, known)| known.overlaps(&range)) {
            return Err(Error::Analysis(format!("partition '{name}' overlaps partition '{other}'")));
        }
        partitions.push((name, range));
    }
    Ok(PartitionBy { column, partitions })
}

/// Where a LESS THAN partition begins: at the greatest end of an earlier one that is not above its own.
fn greatest_upper(partitions: &[(Name, PartitionRange)], upper: Option<&Datum>) -> Option<Datum> {
    let ends = partitions.iter().filter_map(|(_, range)| range.upper.clone());
    let below = ends.filter(|end| upper.is_none_or(|upper| end.compare(upper).is_some_and(|order| order.is_le())));
    below.max_by(|a, b| a.compare(b).unwrap_or(std::cmp::Ordering::Equal))
}
