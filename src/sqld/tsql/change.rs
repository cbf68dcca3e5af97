//! INSERT, UPDATE, DELETE and TRUNCATE.

use std::sync::Arc;

use sqlparser::ast::{
    Delete, Expr, FromTable, Insert, ObjectName, OutputClause, SelectItem, SetExpr, TableFactor, TableObject, TableWithJoins, Update,
};

use super::{
    bind::{Binder, Bound, Scope, Source, column_of, converted},
    parse,
};
use crate::sqld::{
    errors::{self, SqlError},
    schema::{Column, Table, quoted},
    token::{ResultColumn, Verb},
};

/// A change in SQLite's SQL.
#[derive(Clone, Debug)]
pub(crate) struct BoundChange {
    /// Its text.
    pub(crate) sql: String,
    /// What it is.
    pub(crate) verb: Verb,
    /// The table that it changes.
    pub(crate) table: Arc<Table>,
    /// The columns of its OUTPUT, if it has one.
    pub(crate) output: Option<Vec<ResultColumn>>,
    /// The rows that an INSERT brings, for telling which key was there already.
    pub(crate) source: Option<Incoming>,
}

/// The rows that an INSERT brings, as a query with the same parameters.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    /// The columns that are given.
    pub(crate) columns: Vec<String>,
    /// The query.
    pub(crate) sql: String,
}

impl Binder<'_> {
    /// INSERT
    pub(crate) fn insert(&mut self, insert: &Insert) -> Result<BoundChange, SqlError> {
        let TableObject::TableName(name) = &insert.table else { return Err(errors::unsupported("INSERT into a function")) };
        let table = self.user_table(name)?;
        self.touches_tables = true;
        let allows_identity = self.facts.identity_insert.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(&table.name));
        let given: Vec<Column> = if insert.source.is_none() {
            Vec::new()
        } else if insert.columns.is_empty() {
            table.columns.iter().filter(|column| !column.identity || allows_identity).cloned().collect()
        } else {
            insert
                .columns
                .iter()
                .map(|name| {
                    let name = parse::last_name(name)?;
                    table.column(&name).cloned().ok_or_else(|| errors::unknown_column(&name))
                })
                .collect::<Result<_, _>>()?
        };
        if !allows_identity && given.iter().any(|column| column.identity) {
            return Err(errors::identity_given(&table.name));
        }
        let defaults: Vec<(Column, Bound)> = table
            .columns
            .iter()
            .filter(|column| !given.iter().any(|one| one.name.eq_ignore_ascii_case(&column.name)))
            .filter_map(|column| column.default.as_ref().map(|text| (column, text)))
            .map(|(column, text)| {
                let value = self.expr(&parse::expression(text)?, &Scope::EMPTY)?;
                Ok((column.clone(), converted(value, column.ty)))
            })
            .collect::<Result<_, SqlError>>()?;
        let output = self.output(insert.output.as_ref(), &table, "inserted")?;
        let returning = output.as_ref().map(|(_, sql)| sql.clone()).unwrap_or_default();
        let target = quoted(&table.name);
        let columns: Vec<String> =
            given.iter().chain(defaults.iter().map(|(column, _)| column)).map(|column| quoted(&column.name)).collect();
        let (sql, source) = match &insert.source {
            None if !insert.columns.is_empty() => return Err(errors::syntax("INSERT")),
            None if defaults.is_empty() => (format!("INSERT INTO {target} DEFAULT VALUES{returning}"), None),
            None => {
                let values: Vec<_> = defaults.iter().map(|(_, value)| value.sql.as_str()).collect();
                (format!("INSERT INTO {target} ({}) VALUES ({}){returning}", columns.join(", "), values.join(", ")), None)
            }
            Some(query) => {
                let (with, rows, raw) = self.incoming(query, &given, &defaults)?;
                let names: Vec<_> = given.iter().map(|column| column.name.clone()).collect();
                (
                    format!("{with}INSERT INTO {target} ({}) {rows}{returning}", columns.join(", ")),
                    Some(Incoming { columns: names, sql: raw }),
                )
            }
        };
        Ok(BoundChange { sql, verb: Verb::Insert, table, output: output.map(|(columns, _)| columns), source })
    }

    /// The rows of an INSERT: what stands before it, what stands in it, and the given columns alone.
    fn incoming(
        &mut self,
        query: &sqlparser::ast::Query,
        given: &[Column],
        defaults: &[(Column, Bound)],
    ) -> Result<(String, String, String), SqlError> {
        if let SetExpr::Values(values) = query.body.as_ref() {
            let mut whole = Vec::new();
            let mut bare = Vec::new();
            for row in &values.rows {
                if row.content.len() != given.len() {
                    return Err(errors::column_count_differs());
                }
                let mut cells = row
                    .content
                    .iter()
                    .zip(given)
                    .map(|(expr, column)| self.value_for(expr, column))
                    .collect::<Result<Vec<_>, SqlError>>()?;
                bare.push(format!("({})", cells.join(", ")));
                cells.extend(defaults.iter().map(|(_, value)| value.sql.clone()));
                whole.push(format!("({})", cells.join(", ")));
            }
            return Ok((String::new(), format!("VALUES {}", whole.join(", ")), format!("VALUES {}", bare.join(", "))));
        }
        let bound = self.query(query, None)?;
        if bound.columns.len() != given.len() {
            return Err(errors::column_count_differs());
        }
        let names: Vec<_> = (1..=given.len()).map(|at| quoted(&format!("c{at}"))).collect();
        let cells: Vec<_> = names
            .iter()
            .zip(given)
            .zip(&bound.columns)
            .map(|((name, column), from)| converted(Bound::new(name.clone(), from.ty), column.ty).sql)
            .chain(defaults.iter().map(|(_, value)| value.sql.clone()))
            .collect();
        let with = format!("WITH \"$rows\"({}) AS ({}) ", names.join(", "), bound.sql);
        Ok((with, format!("SELECT {} FROM \"$rows\"", cells.join(", ")), bound.sql))
    }

    fn value_for(&mut self, expr: &Expr, column: &Column) -> Result<String, SqlError> {
        // The word DEFAULT stands for the column's default.
        if let Expr::Identifier(ident) = expr
            && ident.quote_style.is_none()
            && ident.value.eq_ignore_ascii_case("DEFAULT")
        {
            let Some(text) = &column.default else { return Ok("NULL".to_owned()) };
            let value = self.expr(&parse::expression(text)?, &Scope::EMPTY)?;
            return Ok(converted(value, column.ty).sql);
        }
        let value = self.expr(expr, &Scope::EMPTY)?;
        Ok(converted(value, column.ty).sql)
    }

    /// OUTPUT: its columns, and the RETURNING that stands for it.
    fn output(
        &mut self,
        clause: Option<&OutputClause>,
        table: &Arc<Table>,
        name: &str,
    ) -> Result<Option<(Vec<ResultColumn>, String)>, SqlError> {
        let (items, into) = match clause {
            None => return Ok(None),
            Some(OutputClause::Output { select_items, into_table, .. }) => (select_items, into_table.is_some()),
            Some(OutputClause::Returning { .. }) => return Err(errors::syntax("RETURNING")),
        };
        if into {
            return Err(errors::unsupported("OUTPUT INTO"));
        }
        // RETURNING knows the columns by their bare names only.
        let sources = [Source { name: name.to_owned(), columns: table.columns.clone(), qualified: false }];
        let scope = Scope { sources: &sources, outer: None };
        let mut columns = Vec::new();
        let mut texts = Vec::new();
        for item in items {
            let (expr, alias) = match item {
                SelectItem::UnnamedExpr(expr) => (expr, None),
                SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.clone())),
                SelectItem::QualifiedWildcard(..) => {
                    for column in &table.columns {
                        let bound = column_of(&sources[0], column);
                        texts.push(bound.sql);
                        columns.push(ResultColumn { name: column.name.clone(), ty: column.ty, nullable: column.nullable, identity: false });
                    }
                    continue;
                }
                other => return Err(errors::unsupported(other)),
            };
            let own = match expr {
                Expr::CompoundIdentifier(idents) => idents.last().map(|ident| ident.value.clone()),
                _ => None,
            };
            let bound = self.expr(expr, &scope)?;
            columns.push(ResultColumn { name: alias.or(own).unwrap_or_default(), ty: bound.ty, nullable: bound.nullable, identity: false });
            texts.push(bound.sql);
        }
        Ok(Some((columns, format!(" RETURNING {}", texts.join(", ")))))
    }

    /// The one table of an UPDATE or DELETE.
    fn only_table(&self, from: &[TableWithJoins]) -> Result<(Arc<Table>, Source), SqlError> {
        let [TableWithJoins { relation: TableFactor::Table { name, alias, .. }, joins }] = from else {
            return Err(errors::unsupported("a change of several tables"));
        };
        if !joins.is_empty() {
            return Err(errors::unsupported("a change with JOIN"));
        }
        let table = self.user_table(name)?;
        let exposed = alias.as_ref().map_or_else(|| table.name.clone(), |alias| alias.name.value.clone());
        let source = Source { name: exposed, columns: table.columns.clone(), qualified: true };
        Ok((table, source))
    }

    /// UPDATE
    pub(crate) fn update(&mut self, update: &Update) -> Result<BoundChange, SqlError> {
        if update.from.is_some() {
            return Err(errors::unsupported("UPDATE ... FROM"));
        }
        let (table, source) = self.only_table(std::slice::from_ref(&update.table))?;
        self.touches_tables = true;
        let target = format!("{} AS {}", quoted(&table.name), quoted(&source.name));
        let sources = [source];
        let scope = Scope { sources: &sources, outer: None };
        let assignments = update
            .assignments
            .iter()
            .map(|assignment| {
                let name = parse::assigned_column(&assignment.target)?;
                let column = table.column(&name).ok_or_else(|| errors::unknown_column(&name))?;
                if column.identity {
                    return Err(errors::raised(8102, 16, 1, format!("Cannot update identity column '{}'.", column.name)));
                }
                let value = self.expr(&assignment.value, &scope)?;
                Ok(format!("{} = {}", quoted(&column.name), converted(value, column.ty).sql))
            })
            .collect::<Result<Vec<_>, SqlError>>()?;
        let condition = self.condition(update.selection.as_ref(), &scope)?;
        let output = self.output(update.output.as_ref(), &table, "inserted")?;
        let returning = output.as_ref().map(|(_, sql)| sql.clone()).unwrap_or_default();
        let sql = format!("UPDATE {target} SET {}{condition}{returning}", assignments.join(", "));
        Ok(BoundChange { sql, verb: Verb::Update, table, output: output.map(|(columns, _)| columns), source: None })
    }

    /// DELETE
    pub(crate) fn delete(&mut self, delete: &Delete) -> Result<BoundChange, SqlError> {
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
        if !delete.tables.is_empty() || delete.using.is_some() {
            return Err(errors::unsupported("DELETE ... FROM with another table"));
        }
        let (table, source) = self.only_table(from)?;
        self.touches_tables = true;
        let target = format!("{} AS {}", quoted(&table.name), quoted(&source.name));
        let sources = [source];
        let scope = Scope { sources: &sources, outer: None };
        let condition = self.condition(delete.selection.as_ref(), &scope)?;
        let output = self.output(delete.output.as_ref(), &table, "deleted")?;
        let returning = output.as_ref().map(|(_, sql)| sql.clone()).unwrap_or_default();
        let sql = format!("DELETE FROM {target}{condition}{returning}");
        Ok(BoundChange { sql, verb: Verb::Delete, table, output: output.map(|(columns, _)| columns), source: None })
    }

    /// TRUNCATE TABLE
    pub(crate) fn truncate(&mut self, name: &ObjectName) -> Result<BoundChange, SqlError> {
        let table = self.user_table(name)?;
        self.touches_tables = true;
        Ok(BoundChange { sql: format!("DELETE FROM {}", quoted(&table.name)), verb: Verb::Other, table, output: None, source: None })
    }

    fn condition(&mut self, condition: Option<&Expr>, scope: &Scope<'_>) -> Result<String, SqlError> {
        match condition {
            Some(condition) => Ok(format!(" WHERE {}", self.expr(condition, scope)?.sql)),
            None => Ok(String::new()),
        }
    }
}
