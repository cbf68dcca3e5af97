//! Names become columns and variables, expressions become SQLite's, and each gets its T-SQL type.

use std::{collections::HashMap, fmt::Write as _, sync::Arc};

use chrono::NaiveDateTime;
use rusqlite::types::Value;
use sqlparser::ast::{self, BinaryOperator, CastKind, Expr, Ident, InTarget, ObjectName, UnaryOperator};

use super::parse;
use crate::sqld::{
    convert,
    errors::{self, SqlError},
    schema::{Column, Schema, quoted},
    server::Instance,
    storage::Database,
    types::{Family, Length, SqlType, TypedValue},
};

/// How deep an expression may be.
const MAX_DEPTH: usize = 250;
/// A conversion without a length has this one.
pub(crate) const CONVERTED_LENGTH: u16 = 30;

/// The variables of a batch, by lower-case name.
pub(crate) type Variables = HashMap<String, TypedValue>;

/// What a statement may ask of the session that runs it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The server.
    pub(crate) instance: Arc<Instance>,
    /// The current database.
    pub(crate) database: Arc<Database>,
    /// Its tables.
    pub(crate) schema: Arc<Schema>,
    /// The session's number.
    pub(crate) spid: u16,
    /// The login.
    pub(crate) user: String,
    /// The client's machine.
    pub(crate) host: String,
    /// The client's program.
    pub(crate) program: String,
    /// `@@TRANCOUNT`
    pub(crate) transactions: u32,
    /// Whether the transaction can only be rolled back.
    pub(crate) doomed: bool,
    /// `@@ROWCOUNT`
    pub(crate) rows: i64,
    /// `@@ERROR`
    pub(crate) last_error: i32,
    /// `SCOPE_IDENTITY()`
    pub(crate) identity: Option<i64>,
    /// The error that a CATCH block handles.
    pub(crate) caught: Option<SqlError>,
    /// The table that takes values for its identity column.
    pub(crate) identity_insert: Option<String>,
    /// The time at which the statement began: `GETDATE()` gives it in every row.
    pub(crate) now: NaiveDateTime,
}

/// An expression in SQLite's SQL.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bound {
    /// Its text, safe to stand between any two operators.
    pub(crate) sql: String,
    /// Its type.
    pub(crate) ty: SqlType,
    /// Whether it may be NULL.
    pub(crate) nullable: bool,
    /// What it is, where that makes a difference.
    pub(crate) form: Form,
}

/// What an expression is, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The word NULL, which takes any type.
    Null,
    /// A column, which brings its collation.
    Column {
        /// Whether the server numbers it.
        identity: bool,
    },
    /// Anything else.
    Other,
}

impl Bound {
    /// An expression of no special form.
    pub(crate) fn new(sql: impl Into<String>, ty: SqlType) -> Self {
        Self { sql: sql.into(), ty, nullable: true, form: Form::Other }
    }

    /// One that is never NULL.
    pub(crate) fn present(sql: impl Into<String>, ty: SqlType) -> Self {
        Self { nullable: false, ..Self::new(sql, ty) }
    }
}

/// A table, view or subquery in FROM.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The name by which columns may be qualified.
    pub(crate) name: String,
    /// Its columns.
    pub(crate) columns: Vec<Column>,
    /// Whether its columns stand in the SQL with the source's name before them.
    pub(crate) qualified: bool,
}

/// What names may mean at a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'s> {
    /// The sources of this query.
    pub(crate) sources: &'s [Source],
    /// The query around it.
    pub(crate) outer: Option<&'s Scope<'s>>,
}

impl Scope<'_> {
    /// A place where no column is known.
    pub(crate) const EMPTY: Scope<'static> = Scope { sources: &[], outer: None };

    fn find(&self, qualifier: Option<&str>, name: &str) -> Result<Option<Bound>, SqlError> {
        let mut found = None;
        for source in self.sources {
            if qualifier.is_some_and(|qualifier| !source.name.eq_ignore_ascii_case(qualifier)) {
                continue;
            }
            let Some(column) = source.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name)) else { continue };
            if found.is_some() {
                return Err(errors::ambiguous_column(name));
            }
            found = Some(column_of(source, column));
        }
        match (found, self.outer) {
            (None, Some(outer)) => outer.find(qualifier, name),
            (found, _) => Ok(found),
        }
    }
}

/// A column as it stands in the SQL.
pub(crate) fn column_of(source: &Source, column: &Column) -> Bound {
    let sql = if source.qualified { format!("{}.{}", quoted(&source.name), quoted(&column.name)) } else { quoted(&column.name) };
    Bound { sql, ty: column.ty, nullable: column.nullable, form: Form::Column { identity: column.identity } }
}

/// Translates, and gathers the values of the parameters on the way.
#[derive(Debug)]
pub(crate) struct Binder<'a> {
    /// What is known.
    pub(crate) facts: &'a Facts,
    variables: &'a Variables,
    /// The values of `?1`, `?2`, ...
    pub(crate) parameters: Vec<Value>,
    places: HashMap<String, usize>,
    /// Named subqueries (WITH) in force.
    pub(crate) named: Vec<(String, Vec<Column>)>,
    /// Whether texts stand in the SQL itself, because it is to be kept (a CHECK).
    pub(crate) inline: bool,
    /// Whether a user table is read or written.
    pub(crate) touches_tables: bool,
    depth: usize,
}

impl<'a> Binder<'a> {
    /// A binder with no parameters yet.
    pub(crate) fn new(facts: &'a Facts, variables: &'a Variables) -> Self {
        Self {
            facts,
            variables,
            parameters: Vec::new(),
            places: HashMap::new(),
            named: Vec::new(),
            inline: false,
            touches_tables: false,
            depth: 0,
        }
    }

    /// A parameter with a value.
    pub(crate) fn parameter(&mut self, value: Value) -> String {
        self.parameters.push(value);
        format!("?{}", self.parameters.len())
    }

    /// A text.
    pub(crate) fn text(&mut self, text: &str) -> String {
        if self.inline && !text.contains('\0') {
            return format!("'{}'", text.replace('\'', "''"));
        }
        self.parameter(Value::Text(text.to_owned()))
    }

    fn variable(&mut self, name: &str) -> Result<Bound, SqlError> {
        let key = name.to_lowercase();
        let variable = self.variables.get(&key).ok_or_else(|| errors::unknown_variable(name))?;
        let place = if let Some(place) = self.places.get(&key) {
            *place
        } else {
            self.parameters.push(variable.value.clone());
            self.places.insert(key, self.parameters.len());
            self.parameters.len()
        };
        Ok(Bound::new(format!("?{place}"), variable.ty))
    }

    /// The text that an expression certainly is: a literal or a variable.
    pub(crate) fn known_text(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Value(value) => match &value.value {
                ast::Value::SingleQuotedString(text) | ast::Value::NationalStringLiteral(text) => Some(text.clone()),
                _ => None,
            },
            Expr::Nested(inner) => self.known_text(inner),
            Expr::Identifier(ident) => match &self.variables.get(&ident.value.to_lowercase())?.value {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            },
            _ => None,
        }
    }

    /// An expression.
    pub(crate) fn expr(&mut self, expr: &Expr, scope: &Scope<'_>) -> Result<Bound, SqlError> {
        if self.depth >= MAX_DEPTH {
            return Err(errors::nested_too_deeply());
        }
        self.depth += 1;
        let bound = self.undepthed(expr, scope);
        self.depth -= 1;
        bound
    }

    fn undepthed(&mut self, expr: &Expr, scope: &Scope<'_>) -> Result<Bound, SqlError> {
        match expr {
            Expr::Identifier(ident) => self.identifier(ident, scope),
            Expr::CompoundIdentifier(idents) => compound(idents, scope),
            Expr::Value(value) => self.literal(&value.value),
            Expr::Nested(inner) => {
                let inner = self.expr(inner, scope)?;
                Ok(Bound { sql: format!("({})", inner.sql), ..inner })
            }
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, scope),
            Expr::UnaryOp { op, expr } => self.unary(*op, expr, scope),
            Expr::IsNull(inner) => Ok(Bound::present(format!("({} IS NULL)", self.expr(inner, scope)?.sql), SqlType::Bit)),
            Expr::IsNotNull(inner) => Ok(Bound::present(format!("({} IS NOT NULL)", self.expr(inner, scope)?.sql), SqlType::Bit)),
            Expr::In { expr, target, negated, .. } => self.is_in(expr, target, *negated, scope),
            Expr::Between { expr, negated, low, high } => {
                let value = self.expr(expr, scope)?;
                let low = self.expr(low, scope)?;
                let high = self.expr(high, scope)?;
                let low = compared(value.clone(), ">=", low).sql;
                let high = compared(value, "<=", high).sql;
                let not = if *negated { "NOT " } else { "" };
                Ok(Bound::new(format!("({not}({low} AND {high}))"), SqlType::Bit))
            }
            Expr::Like { negated, expr, pattern, escape_char, .. } => {
                if self.known_text(pattern).is_some_and(|text| text.contains('[')) {
                    return Err(errors::unsupported("LIKE with a set of characters"));
                }
                let value = self.expr(expr, scope)?;
                let pattern = self.expr(pattern, scope)?;
                let escape = match escape_char {
                    Some(escape) => format!(" ESCAPE {}", self.expr(escape, scope)?.sql),
                    None => String::new(),
                };
                let not = if *negated { "NOT " } else { "" };
                Ok(Bound::new(format!("({} {not}LIKE {}{escape})", value.sql, pattern.sql), SqlType::Bit))
            }
            Expr::Cast { kind, expr, data_type, .. } => {
                let ty = SqlType::from_ast(data_type, CONVERTED_LENGTH)?;
                let value = self.expr(expr, scope)?;
                Ok(explicitly(value, ty, "0", matches!(kind, CastKind::TryCast | CastKind::SafeCast)))
            }
            Expr::Convert { is_try, expr, data_type: Some(data_type), styles, .. } => {
                let ty = SqlType::from_ast(data_type, CONVERTED_LENGTH)?;
                let value = self.expr(expr, scope)?;
                let style = match styles.first() {
                    Some(style) => self.expr(style, scope)?.sql,
                    None => "0".to_owned(),
                };
                Ok(explicitly(value, ty, &style, *is_try))
            }
            Expr::Function(function) => self.call(function, scope),
            Expr::Case { operand, conditions, else_result, .. } => self.case(operand.as_deref(), conditions, else_result.as_deref(), scope),
            Expr::Exists { subquery, negated } => {
                let query = self.query(subquery, Some(scope))?;
                let not = if *negated { "NOT " } else { "" };
                Ok(Bound::present(format!("({not}EXISTS ({}))", query.sql), SqlType::Bit))
            }
            Expr::Subquery(query) => {
                let query = self.query(query, Some(scope))?;
                let [column] = query.columns.as_slice() else {
                    return Err(errors::unsupported("a subquery of several columns as a value"));
                };
                Ok(Bound::new(format!("({})", query.sql), column.ty))
            }
            Expr::Collate { expr, .. } => self.expr(expr, scope),
            Expr::Ceil { expr, .. } => {
                let value = self.expr(expr, scope)?;
                Ok(Bound { sql: format!("ceil({})", value.sql), form: Form::Other, ..value })
            }
            Expr::Floor { expr, .. } => {
                let value = self.expr(expr, scope)?;
                Ok(Bound { sql: format!("floor({})", value.sql), form: Form::Other, ..value })
            }
            Expr::Substring { expr, substring_from: Some(from), substring_for: Some(length), .. } => {
                let value = self.expr(expr, scope)?;
                let (from, length) = (self.expr(from, scope)?, self.expr(length, scope)?);
                Ok(Bound { sql: format!("substr({}, {}, {})", value.sql, from.sql, length.sql), form: Form::Other, ..value })
            }
            Expr::Trim { expr, trim_what: None, trim_characters: None, .. } => {
                let value = self.expr(expr, scope)?;
                Ok(Bound { sql: format!("trim({})", value.sql), form: Form::Other, ..value })
            }
            other => Err(errors::unsupported(other)),
        }
    }

    fn identifier(&mut self, ident: &Ident, scope: &Scope<'_>) -> Result<Bound, SqlError> {
        if ident.quote_style.is_none() {
            if ident.value.starts_with("@@") {
                return self.global(&ident.value);
            }
            if ident.value.starts_with('@') {
                return self.variable(&ident.value);
            }
            if let Some(bound) = self.bare_word(&ident.value)
                && scope.find(None, &ident.value)?.is_none()
            {
                return Ok(bound);
            }
        }
        scope.find(None, &ident.value)?.ok_or_else(|| errors::unknown_column(&ident.value))
    }

    fn literal(&mut self, value: &ast::Value) -> Result<Bound, SqlError> {
        Ok(match value {
            ast::Value::Null => Bound { form: Form::Null, ..Bound::new("NULL", SqlType::Int) },
            ast::Value::SingleQuotedString(text) => Bound::present(self.text(text), SqlType::varchar(length_of(text.chars().count()))),
            ast::Value::NationalStringLiteral(text) => {
                Bound::present(self.text(text), SqlType::nvarchar(length_of(text.encode_utf16().count())))
            }
            ast::Value::HexStringLiteral(digits) => {
                let digits = digits.trim_start_matches("0x").trim_start_matches("0X");
                let bytes = convert::unhex(digits).ok_or_else(|| errors::syntax(digits))?;
                let ty = SqlType::VarBinary(match length_of(bytes.len()) {
                    Length::Of(length) if length <= 8000 => Length::Of(length),
                    _ => Length::Max,
                });
                let mut sql = String::from("x'");
                for byte in bytes {
                    write!(sql, "{byte:02x}").expect("a string takes everything");
                }
                sql.push('\'');
                Bound::present(sql, ty)
            }
            ast::Value::Number(text, _) => number(text)?,
            other => return Err(errors::unsupported(other)),
        })
    }

    fn binary(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr, scope: &Scope<'_>) -> Result<Bound, SqlError> {
        let left = self.expr(left, scope)?;
        let right = self.expr(right, scope)?;
        Ok(match op {
            BinaryOperator::And => Bound::new(format!("({} AND {})", left.sql, right.sql), SqlType::Bit),
            BinaryOperator::Or => Bound::new(format!("({} OR {})", left.sql, right.sql), SqlType::Bit),
            BinaryOperator::Eq => compared(left, "=", right),
            BinaryOperator::NotEq => compared(left, "<>", right),
            BinaryOperator::Lt => compared(left, "<", right),
            BinaryOperator::LtEq => compared(left, "<=", right),
            BinaryOperator::Gt => compared(left, ">", right),
            BinaryOperator::GtEq => compared(left, ">=", right),
            BinaryOperator::Plus if left.ty.is_text() && right.ty.is_text() => concatenated(&left, &right),
            BinaryOperator::Plus => arithmetic(left, "+", right)?,
            BinaryOperator::Minus => arithmetic(left, "-", right)?,
            BinaryOperator::Multiply => arithmetic(left, "*", right)?,
            BinaryOperator::Divide => arithmetic(left, "/", right)?,
            BinaryOperator::Modulo => arithmetic(left, "%", right)?,
            BinaryOperator::BitwiseAnd => arithmetic(left, "&", right)?,
            BinaryOperator::BitwiseOr => arithmetic(left, "|", right)?,
            BinaryOperator::BitwiseXor => {
                let ty = left.ty.wider(right.ty);
                Bound::new(format!("(({l} | {r}) - ({l} & {r}))", l = left.sql, r = right.sql), ty)
            }
            other => return Err(errors::unsupported(other)),
        })
    }

    fn unary(&mut self, op: UnaryOperator, expr: &Expr, scope: &Scope<'_>) -> Result<Bound, SqlError> {
        // The smallest whole number has no positive counterpart.
        if let (UnaryOperator::Minus, Expr::Value(value)) = (op, expr)
            && let ast::Value::Number(text, _) = &value.value
        {
            return number(&format!("-{text}"));
        }
        let value = self.expr(expr, scope)?;
        let sql = match op {
            UnaryOperator::Minus => format!("(- {})", value.sql),
            UnaryOperator::Plus => value.sql,
            UnaryOperator::Not => return Ok(Bound::new(format!("(NOT {})", value.sql), SqlType::Bit)),
            UnaryOperator::BitwiseNot => format!("(~ {})", value.sql),
            other => return Err(errors::unsupported(other)),
        };
        Ok(Bound { sql, form: Form::Other, ..value })
    }

    fn is_in(&mut self, expr: &Expr, target: &InTarget, negated: bool, scope: &Scope<'_>) -> Result<Bound, SqlError> {
        let value = self.expr(expr, scope)?;
        let not = if negated { "NOT " } else { "" };
        let list = match target {
            InTarget::List(list) => {
                let items = list
                    .iter()
                    .map(|item| {
                        let item = self.expr(item, scope)?;
                        Ok(if item.ty.family() == value.ty.family() { item } else { converted(item, value.ty) }.sql)
                    })
                    .collect::<Result<Vec<_>, SqlError>>()?;
                items.join(", ")
            }
            InTarget::Subquery(query) => self.query(query, Some(scope))?.sql,
            other => return Err(errors::unsupported(other)),
        };
        let collate = if value.ty.is_text() && !matches!(value.form, Form::Column { .. }) { " COLLATE NOCASE" } else { "" };
        Ok(Bound::new(format!("({}{collate} {not}IN ({list}))", value.sql), SqlType::Bit))
    }

    fn case(
        &mut self,
        operand: Option<&Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&Expr>,
        scope: &Scope<'_>,
    ) -> Result<Bound, SqlError> {
        let operand = operand.map(|operand| self.expr(operand, scope)).transpose()?;
        let mut whens = Vec::new();
        let mut results = Vec::new();
        for when in conditions {
            let condition = self.expr(&when.condition, scope)?;
            whens.push(match &operand {
                Some(operand) => compared(operand.clone(), "=", condition).sql,
                None => condition.sql,
            });
            results.push(self.expr(&when.result, scope)?);
        }
        if let Some(otherwise) = otherwise {
            results.push(self.expr(otherwise, scope)?);
        }
        let ty = common_type(&results);
        let mut sql = String::from("CASE");
        for (index, result) in results.into_iter().enumerate() {
            let result = converted(result, ty).sql;
            match whens.get(index) {
                Some(when) => write!(sql, " WHEN {when} THEN {result}"),
                None => write!(sql, " ELSE {result}"),
            }
            .expect("a string takes everything");
        }
        sql.push_str(" END");
        Ok(Bound::new(format!("({sql})"), ty))
    }

    /// The table of a name in the current database.
    pub(crate) fn user_table(&self, name: &ObjectName) -> Result<Arc<crate::sqld::schema::Table>, SqlError> {
        let (schema, table) = self.local_name(name)?;
        if schema.is_some_and(|schema| !schema.eq_ignore_ascii_case("dbo")) {
            return Err(errors::unknown_object(&shown(name)));
        }
        self.facts.schema.table(&table).cloned().ok_or_else(|| errors::unknown_object(&shown(name)))
    }

    /// The schema and the name of an object, once it is sure that it is in this database.
    pub(crate) fn local_name(&self, name: &ObjectName) -> Result<(Option<String>, String), SqlError> {
        let parts = parse::parts(name)?;
        let text = |ident: &&Ident| ident.value.clone();
        match parts.as_slice() {
            [table] => Ok((None, text(table))),
            [schema, table] => Ok((Some(text(schema)), text(table))),
            [database, schema, table] => {
                if !database.value.eq_ignore_ascii_case(&self.facts.database.name) && !schema.value.eq_ignore_ascii_case("sys") {
                    return Err(match self.facts.instance.storage.database(&database.value) {
                        Some(_) => errors::other_database(&shown(name)),
                        None => errors::unknown_object(&shown(name)),
                    });
                }
                let schema = if schema.value.is_empty() { "dbo".to_owned() } else { text(schema) };
                Ok((Some(schema), text(table)))
            }
            _ => Err(errors::other_database(&shown(name))),
        }
    }
}

/// A name as error texts have it: without brackets.
pub(crate) fn shown(name: &ObjectName) -> String {
    parse::parts(name).map_or_else(|_| name.to_string(), |parts| parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join("."))
}

fn compound(idents: &[Ident], scope: &Scope<'_>) -> Result<Bound, SqlError> {
    let [.., qualifier, name] = idents else { return Err(errors::unsupported("a name without parts")) };
    let whole = || idents.iter().map(|ident| ident.value.as_str()).collect::<Vec<_>>().join(".");
    let known = |scope: &Scope<'_>| scope.sources.iter().any(|source| source.name.eq_ignore_ascii_case(&qualifier.value));
    let mut level = Some(scope);
    while let Some(here) = level {
        if known(here) {
            return here.find(Some(&qualifier.value), &name.value)?.ok_or_else(|| errors::unknown_column(&name.value));
        }
        level = here.outer;
    }
    Err(errors::unbound_identifier(&whole()))
}

fn length_of(count: usize) -> Length {
    u16::try_from(count.max(1)).map_or(Length::Max, Length::Of)
}

fn number(text: &str) -> Result<Bound, SqlError> {
    let text = text.trim_start_matches('+');
    if text.contains(['e', 'E']) {
        let value: f64 = text.parse().map_err(|_| errors::syntax(text))?;
        return Ok(Bound::present(format!("({value:?})"), SqlType::Float));
    }
    let sql = if text.starts_with('-') { format!("({text})") } else { text.to_owned() };
    if let Some((whole, fraction)) = text.split_once('.') {
        let digits = whole.trim_start_matches(['-', '0']).len() + fraction.len();
        let scale = u8::try_from(fraction.len()).ok().filter(|&scale| scale <= 38).ok_or_else(|| errors::overflow("numeric"))?;
        let precision = u8::try_from(digits.max(1)).ok().filter(|&digits| digits <= 38).ok_or_else(|| errors::overflow("numeric"))?;
        let value: f64 = text.parse().map_err(|_| errors::syntax(text))?;
        return Ok(Bound::present(format!("({value:?})"), SqlType::Decimal { precision: precision.max(scale), scale }));
    }
    match text.parse::<i64>() {
        Ok(value) if i32::try_from(value).is_ok() => Ok(Bound::present(sql, SqlType::Int)),
        Ok(i64::MIN) => Ok(Bound::present("(-9223372036854775807 - 1)", SqlType::BigInt)),
        Ok(_) => Ok(Bound::present(sql, SqlType::BigInt)),
        Err(_) => {
            let value: f64 = text.parse().map_err(|_| errors::syntax(text))?;
            Ok(Bound::present(format!("({value:?})"), SqlType::Decimal { precision: 38, scale: 0 }))
        }
    }
}

/// The type that several expressions have in common; NULL has any.
pub(crate) fn common_type(expressions: &[Bound]) -> SqlType {
    expressions.iter().filter(|bound| bound.form != Form::Null).map(|bound| bound.ty).reduce(SqlType::wider).unwrap_or(SqlType::Int)
}

/// `CAST` and `CONVERT`.
pub(crate) fn explicitly(value: Bound, ty: SqlType, style: &str, lenient: bool) -> Bound {
    if value.form == Form::Null {
        return Bound { ty, ..value };
    }
    let function = if lenient { "ms_try_convert" } else { "ms_convert" };
    let nullable = value.nullable || lenient;
    Bound { sql: format!("{function}({}, '{}', '{ty}', {style})", value.sql, value.ty), ty, nullable, form: Form::Other }
}

/// A silent conversion; none where SQLite needs none.
pub(crate) fn converted(value: Bound, ty: SqlType) -> Bound {
    if value.form == Form::Null || value.ty == ty {
        return Bound { ty, ..value };
    }
    let same = value.ty.family() == ty.family();
    let harmless = match ty.family() {
        // Text is stored as it is; that it fits is checked where it is stored.
        Family::Text => same && !matches!(ty, SqlType::Char(_) | SqlType::NChar(_)),
        Family::Bytes => same && !matches!(ty, SqlType::Binary(_)),
        Family::Number => {
            same && value.ty.is_integer()
                && (ty.is_integer() && ty != SqlType::Bit || !ty.is_integer())
                && !matches!(ty, SqlType::Float | SqlType::Real)
        }
        Family::Moment | Family::Guid => false,
    };
    if harmless {
        return Bound { ty, ..value };
    }
    explicitly(value, ty, "0", false)
}

/// Two expressions of one family.
fn harmonised(left: Bound, right: Bound) -> (Bound, Bound) {
    if left.form == Form::Null || right.form == Form::Null || left.ty.family() == right.ty.family() && left.ty.family() != Family::Moment {
        return (left, right);
    }
    if left.ty == right.ty {
        return (left, right);
    }
    let ty = if left.ty.precedence() >= right.ty.precedence() { left.ty } else { right.ty };
    (converted(left, ty), converted(right, ty))
}

/// A comparison. Text is compared without regard to case, as the collation has it.
pub(crate) fn compared(left: Bound, op: &str, right: Bound) -> Bound {
    let (left, right) = harmonised(left, right);
    let columns = matches!(left.form, Form::Column { .. }) || matches!(right.form, Form::Column { .. });
    let collate = if left.ty.is_text() && !columns { " COLLATE NOCASE" } else { "" };
    Bound::new(format!("({}{collate} {op} {})", left.sql, right.sql), SqlType::Bit)
}

/// Text after text.
pub(crate) fn concatenated(left: &Bound, right: &Bound) -> Bound {
    let length = match (left.ty.length(), right.ty.length()) {
        (Some(Length::Of(a)), Some(Length::Of(b))) => a.checked_add(b).map_or(Length::Max, Length::Of),
        _ => Length::Max,
    };
    let ty = if left.ty.is_national() || right.ty.is_national() { SqlType::nvarchar(length) } else { SqlType::varchar(length) };
    Bound::new(format!("({} || {})", left.sql, right.sql), ty)
}

fn arithmetic(left: Bound, op: &str, right: Bound) -> Result<Bound, SqlError> {
    let families = [left.ty.family(), right.ty.family()];
    if families.contains(&Family::Moment) || families.contains(&Family::Guid) {
        return Err(errors::unsupported(format!("{} {op} {}", left.ty.name(), right.ty.name())));
    }
    let (left, right) = match families {
        [Family::Number, Family::Number] => (left, right),
        [Family::Number, _] => {
            let ty = left.ty;
            (left, converted(right, ty))
        }
        [_, Family::Number] => {
            let ty = right.ty;
            (converted(left, ty), right)
        }
        _ => (converted(left, SqlType::Int), converted(right, SqlType::Int)),
    };
    let ty = arithmetic_type(left.ty, op, right.ty);
    let sql = match op {
        "/" => format!("ms_div({}, {})", left.sql, right.sql),
        "%" => format!("ms_mod({}, {})", left.sql, right.sql),
        _ => format!("({} {op} {})", left.sql, right.sql),
    };
    // A decimal is kept as a number: a whole one divided by a whole one must not lose its fraction.
    let sql = if op == "/" && !ty.is_integer() { format!("ms_div({} * 1.0, {})", left.sql, right.sql) } else { sql };
    Ok(Bound::new(sql, ty))
}

fn arithmetic_type(left: SqlType, op: &str, right: SqlType) -> SqlType {
    let digits = |ty: SqlType| match ty {
        SqlType::Decimal { precision, scale } => (precision, scale),
        SqlType::Bit => (1, 0),
        SqlType::TinyInt => (3, 0),
        SqlType::SmallInt => (5, 0),
        SqlType::Int => (10, 0),
        _ => (19, 0),
    };
    let wide = left.wider(right);
    if !matches!(wide, SqlType::Decimal { .. }) {
        return if wide == SqlType::Bit { SqlType::Int } else { wide };
    }
    let ((p, s), (q, t)) = (digits(left), digits(right));
    let (precision, scale) = match op {
        "*" => (p + q + 1, s + t),
        "/" => {
            let scale = (s + q + 1).max(6);
            (p - s + t + scale, scale)
        }
        _ => {
            let scale = s.max(t);
            ((p - s).max(q - t) + scale + 1, scale)
        }
    };
    // Where the digits do not fit, SQL Server keeps the whole part and at least six digits of the fraction.
    let whole = precision - scale;
    let scale = if precision > 38 { scale.min(38_u8.saturating_sub(whole).max(6.min(scale))) } else { scale };
    SqlType::Decimal { precision: precision.min(38), scale }
}
