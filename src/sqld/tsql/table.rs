//! CREATE TABLE and CREATE INDEX.
//!
//! A table becomes a STRICT table of SQLite. What SQLite does not check of itself (the length of text, the range of an `int`) is a CHECK
//! whose name says which error it stands for. Keys are UNIQUE constraints rather than SQLite's PRIMARY KEY, which would number rows
//! that give NULL; only an identity column is the row's number, so that it counts up and no number comes twice.

use std::fmt::Write as _;

use rusqlite::types::Value;
use sqlparser::ast::{
    ColumnDef, ColumnOption, CreateIndex, CreateTable, Expr, IdentityParameters, IdentityPropertyFormatKind, IdentityPropertyKind,
    IndexColumn, TableConstraint,
};

use super::{
    bind::{Binder, Scope, Source, Variables},
    parse,
};
use crate::sqld::{
    errors::{self, SqlError},
    moment,
    schema::{Column, INTERNAL_PREFIX, Key, KeyKind, Table, quoted},
    types::{Family, Length, SqlType},
};

/// The name of a CHECK that bounds a length begins so; the column's name follows.
pub(crate) const LENGTH_CHECK: &str = "$length ";
/// The name of a CHECK that bounds a number begins so.
pub(crate) const RANGE_CHECK: &str = "$range ";
/// A column without a length has this one.
const DECLARED_LENGTH: u16 = 1;

/// A table that is to be created.
#[derive(Clone, Debug)]
pub(crate) struct NewTable {
    /// Its description.
    pub(crate) table: Table,
    /// What SQLite is told.
    pub(crate) sql: Vec<String>,
}

/// An index that is to be created.
#[derive(Clone, Debug)]
pub(crate) struct NewIndex {
    /// The table's number.
    pub(crate) table: i64,
    /// Its description.
    pub(crate) key: Key,
    /// What SQLite is told.
    pub(crate) sql: String,
}

impl Binder<'_> {
    /// CREATE TABLE
    pub(crate) fn create_table(&mut self, create: &CreateTable) -> Result<NewTable, SqlError> {
        let (schema, name) = self.local_name(&create.name)?;
        if let Some(schema) = schema
            && !schema.eq_ignore_ascii_case("dbo")
        {
            return Err(errors::unknown_schema(&schema));
        }
        if name.starts_with('#') {
            return Err(errors::unsupported("CREATE TABLE #temporary"));
        }
        if name.starts_with(INTERNAL_PREFIX) || name.to_ascii_lowercase().starts_with("sqlite_") {
            return Err(errors::unsupported(format!("CREATE TABLE {name}")));
        }
        if create.query.is_some() || create.like.is_some() || create.clone.is_some() {
            return Err(errors::unsupported("CREATE TABLE AS"));
        }
        if self.facts.schema.table(&name).is_some() {
            return Err(errors::object_exists(&name));
        }
        let mut columns: Vec<Column> = Vec::new();
        let mut keys = Vec::new();
        let mut checks = Vec::new();
        let mut seed = None;
        for definition in &create.columns {
            let column = read_column(definition, &name, &mut keys, &mut checks, &mut seed)?;
            if columns.iter().any(|other| other.name.eq_ignore_ascii_case(&column.name)) {
                return Err(errors::column_named_twice(&column.name, &name));
            }
            columns.push(column);
        }
        for constraint in &create.constraints {
            match constraint {
                TableConstraint::PrimaryKey(key) => {
                    let of = key_columns(&key.columns)?;
                    keys.push(Key {
                        name: named(key.name.as_ref().map(|name| name.value.as_str()), "PK", &name),
                        kind: KeyKind::Primary,
                        columns: of,
                    });
                }
                TableConstraint::Unique(key) => {
                    let of = key_columns(&key.columns)?;
                    keys.push(Key {
                        name: named(key.name.as_ref().map(|name| name.value.as_str()), "UQ", &name),
                        kind: KeyKind::Unique,
                        columns: of,
                    });
                }
                TableConstraint::Check(check) => {
                    checks.push((named(check.name.as_ref().map(|name| name.value.as_str()), "CK", &name), (*check.expr).clone()));
                }
                other => return Err(errors::unsupported(other)),
            }
        }
        if keys.iter().filter(|key| key.kind == KeyKind::Primary).count() > 1 {
            return Err(errors::constraint_not_created(&format!("Cannot add multiple PRIMARY KEY constraints to table '{name}'.")));
        }
        for key in &mut keys {
            for of in &mut key.columns {
                let column = columns.iter_mut().find(|column| column.name.eq_ignore_ascii_case(of)).ok_or_else(|| {
                    errors::constraint_not_created(&format!("Column name '{of}' does not exist in the target table or view."))
                })?;
                of.clone_from(&column.name);
                if key.kind == KeyKind::Primary {
                    column.nullable = false;
                }
            }
        }
        let created = moment::store(self.facts.now, SqlType::DateTime);
        let table = Table { id: 0, name, created, columns, keys };
        let sql = self.table_sql(&table, &checks, seed)?;
        Ok(NewTable { table, sql })
    }

    fn table_sql(&mut self, table: &Table, checks: &[(String, Expr)], seed: Option<i64>) -> Result<Vec<String>, SqlError> {
        let mut lines: Vec<String> = table.columns.iter().map(column_sql).collect();
        for key in &table.keys {
            // An identity column that is the whole key is unique as the row's number.
            let is_row_number = matches!(key.columns.as_slice(), [one] if table.column(one).is_some_and(|column| column.identity));
            if !is_row_number {
                let names: Vec<_> = key.columns.iter().map(|name| quoted(name)).collect();
                lines.push(format!("UNIQUE ({})", names.join(", ")));
            }
        }
        let sources = [Source { name: table.name.clone(), columns: table.columns.clone(), qualified: false }];
        let scope = Scope { sources: &sources, outer: None };
        for (name, check) in checks {
            let variables = Variables::new();
            let mut binder = Binder::new(self.facts, &variables);
            binder.inline = true;
            let bound = binder.expr(check, &scope)?;
            if !binder.parameters.is_empty() {
                return Err(errors::unsupported(format!("CHECK ({check})")));
            }
            lines.push(format!("CONSTRAINT {} CHECK {}", quoted(name), bound.sql));
        }
        let mut sql = vec![format!("CREATE TABLE {} ({}) STRICT", quoted(&table.name), lines.join(", "))];
        if let Some(seed) = seed
            && seed != 1
        {
            let name = table.name.replace('\'', "''");
            sql.push(format!("INSERT INTO sqlite_sequence (name, seq) VALUES ('{name}', {})", seed - 1));
        }
        Ok(sql)
    }

    /// CREATE INDEX
    pub(crate) fn create_index(&mut self, create: &CreateIndex) -> Result<NewIndex, SqlError> {
        let table = self.user_table(&create.table_name)?;
        let name = create.name.as_ref().map(parse::last_name).transpose()?.ok_or_else(|| errors::syntax("ON"))?;
        if create.predicate.is_some() {
            return Err(errors::unsupported("CREATE INDEX ... WHERE"));
        }
        if table.keys.iter().any(|key| key.name.eq_ignore_ascii_case(&name)) {
            return Err(errors::raised(
                1913,
                16,
                1,
                format!("The operation failed because an index or statistics with name '{name}' already exists on table '{}'.", table.name),
            ));
        }
        let columns = key_columns(&create.columns)?;
        for column in &columns {
            if table.column(column).is_none() {
                return Err(errors::raised(1911, 16, 1, format!("Column name '{column}' does not exist in the target table or view.")));
            }
        }
        let kind = if create.unique { KeyKind::UniqueIndex } else { KeyKind::Index };
        let unique = if create.unique { "UNIQUE " } else { "" };
        let names: Vec<_> = columns.iter().map(|name| quoted(name)).collect();
        let sql = format!(
            "CREATE {unique}INDEX {} ON {} ({})",
            quoted(&format!("{}{INTERNAL_PREFIX}{name}", table.name)),
            quoted(&table.name),
            names.join(", ")
        );
        Ok(NewIndex { table: table.id, key: Key { name, kind, columns }, sql })
    }
}

/// A constraint's name, or one in SQL Server's manner.
fn named(name: Option<&str>, prefix: &str, table: &str) -> String {
    if let Some(name) = name {
        return name.to_owned();
    }
    let id = uuid::Uuid::new_v4().simple().to_string().to_uppercase();
    let table: String = table.chars().take(8).collect();
    format!("{prefix}__{table}__{}", &id[..16])
}

fn key_columns(columns: &[IndexColumn]) -> Result<Vec<String>, SqlError> {
    columns
        .iter()
        .map(|column| match &column.column.expr {
            Expr::Identifier(ident) => Ok(ident.value.clone()),
            other => Err(errors::syntax(&other.to_string())),
        })
        .collect()
}

fn read_column(
    definition: &ColumnDef,
    table: &str,
    keys: &mut Vec<Key>,
    checks: &mut Vec<(String, Expr)>,
    seed: &mut Option<i64>,
) -> Result<Column, SqlError> {
    let name = definition.name.value.clone();
    let mut column = Column {
        name: name.clone(),
        ty: SqlType::from_ast(&definition.data_type, DECLARED_LENGTH)?,
        nullable: true,
        identity: false,
        default: None,
    };
    for option in &definition.options {
        let given = option.name.as_ref().map(|name| name.value.as_str());
        match &option.option {
            ColumnOption::Null => column.nullable = true,
            ColumnOption::NotNull => column.nullable = false,
            ColumnOption::Default(expr) => column.default = Some(expr.to_string()),
            ColumnOption::PrimaryKey(_) => {
                column.nullable = false;
                keys.push(Key { name: named(given, "PK", table), kind: KeyKind::Primary, columns: vec![name.clone()] });
            }
            ColumnOption::Unique(_) => {
                keys.push(Key { name: named(given, "UQ", table), kind: KeyKind::Unique, columns: vec![name.clone()] });
            }
            ColumnOption::Check(check) => checks.push((named(given, "CK", table), (*check.expr).clone())),
            ColumnOption::Collation(_) => {}
            ColumnOption::Identity(IdentityPropertyKind::Identity(property) | IdentityPropertyKind::Autoincrement(property)) => {
                if !column.ty.is_integer() || seed.is_some() {
                    return Err(errors::raised(
                        2744,
                        16,
                        2,
                        format!("Identity column '{name}' must be of a whole number type, and the only one of its table."),
                    ));
                }
                let (first, step) = match &property.parameters {
                    Some(
                        IdentityPropertyFormatKind::FunctionCall(IdentityParameters { seed, increment })
                        | IdentityPropertyFormatKind::StartAndIncrement(IdentityParameters { seed, increment }),
                    ) => (seed.to_string(), increment.to_string()),
                    None => ("1".to_owned(), "1".to_owned()),
                };
                match (first.parse(), step.as_str()) {
                    (Ok(first), "1") => *seed = Some(first),
                    _ => return Err(errors::unsupported(format!("IDENTITY({first}, {step})"))),
                }
                column.identity = true;
                column.nullable = false;
            }
            other => return Err(errors::unsupported(other)),
        }
    }
    Ok(column)
}

fn column_sql(column: &Column) -> String {
    let name = quoted(&column.name);
    if column.identity {
        return format!("{name} INTEGER PRIMARY KEY AUTOINCREMENT");
    }
    let mut sql = format!("{name} {}", column.ty.storage());
    if column.ty.is_text() || column.ty.family() == Family::Guid {
        sql.push_str(" COLLATE NOCASE");
    }
    if !column.nullable {
        sql.push_str(" NOT NULL");
    }
    if let Some(Length::Of(length)) = column.ty.length() {
        let constraint = quoted(&format!("{LENGTH_CHECK}{}", column.name));
        // SQLite counts characters up to the first NUL.
        let measured = if column.ty.is_text() { format!("ms_length({name}, '{}')", column.ty) } else { format!("length({name})") };
        write!(sql, " CONSTRAINT {constraint} CHECK ({measured} <= {length})").expect("a string takes everything");
    }
    if let Some((low, high)) = column.ty.integer_range()
        && column.ty != SqlType::BigInt
    {
        write!(sql, " CONSTRAINT {} CHECK ({name} BETWEEN {low} AND {high})", quoted(&format!("{RANGE_CHECK}{}", column.name)))
            .expect("a string takes everything");
    }
    sql
}

/// How a value stands in the text of error 2627.
pub(crate) fn shown_value(value: &Value) -> String {
    match value {
        Value::Null => "<NULL>".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => bytes.iter().fold("0x".to_owned(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes everything");
            text
        }),
    }
}
