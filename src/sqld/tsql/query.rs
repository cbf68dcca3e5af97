//! SELECT.

use std::fmt::Write as _;

use rusqlite::types::Value;
use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, JoinConstraint, JoinOperator, LimitClause, OrderByExpr, OrderByKind, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, TableFactor, TableWithJoins, Top, TopQuantity,
};

use super::bind::{Binder, Form, Scope, Source, column_of, converted, shown};
use crate::sqld::{
    catalog,
    errors::{self, SqlError},
    schema::{Column, quoted},
    token::ResultColumn,
};

/// A query in SQLite's SQL.
#[derive(Clone, Debug)]
pub(crate) struct BoundQuery {
    /// Its text.
    pub(crate) sql: String,
    /// Its columns.
    pub(crate) columns: Vec<ResultColumn>,
    /// The variables that it sets instead of sending rows; one for each column.
    pub(crate) assigns: Option<Vec<String>>,
}

/// How an ORDER BY goes.
pub(crate) fn direction(item: &OrderByExpr) -> &'static str {
    use sqlparser::ast::OrderBySort;
    match item.options.sort {
        Some(OrderBySort::Desc) => " DESC",
        _ => "",
    }
}

impl Binder<'_> {
    /// A query; `outer` is the query around it.
    pub(crate) fn query(&mut self, query: &Query, outer: Option<&Scope<'_>>) -> Result<BoundQuery, SqlError> {
        if query.for_clause.is_some() {
            return Err(errors::unsupported("FOR XML or FOR JSON"));
        }
        let known = self.named.len();
        let bound = self.with_named(query, outer);
        self.named.truncate(known);
        bound
    }

    fn with_named(&mut self, query: &Query, outer: Option<&Scope<'_>>) -> Result<BoundQuery, SqlError> {
        let mut with = Vec::new();
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let bound = self.query(&cte.query, outer)?;
            let mut columns = as_columns(&bound.columns);
            for (column, alias) in columns.iter_mut().zip(&cte.alias.columns) {
                column.name.clone_from(&alias.name.value);
            }
            let names: Vec<_> = columns.iter().map(|column| quoted(&column.name)).collect();
            with.push(format!("{}({}) AS ({})", quoted(&cte.alias.name.value), names.join(", "), bound.sql));
            self.named.push((cte.alias.name.value.clone(), columns));
        }
        let mut bound = match query.body.as_ref() {
            SetExpr::Select(select) => self.select(select, query, outer)?,
            body => {
                let mut bound = self.set(body, outer)?;
                let names: Vec<Source> = vec![Source { name: String::new(), columns: as_columns(&bound.columns), qualified: false }];
                let scope = Scope { sources: &names, outer: None };
                let order = self.order(query, &scope, &bound.columns)?;
                bound.sql.push_str(&order);
                bound.sql.push_str(&self.limit(None, query, &scope)?);
                bound
            }
        };
        if !with.is_empty() {
            bound.sql = format!("WITH {} {}", with.join(", "), bound.sql);
        }
        Ok(bound)
    }

    fn set(&mut self, body: &SetExpr, outer: Option<&Scope<'_>>) -> Result<BoundQuery, SqlError> {
        match body {
            SetExpr::Select(select) => {
                let alone = bare_query();
                self.select(select, &alone, outer)
            }
            SetExpr::Query(query) => {
                let bound = self.query(query, outer)?;
                Ok(BoundQuery { sql: format!("SELECT * FROM ({})", bound.sql), ..bound })
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let left = self.set(left, outer)?;
                let right = self.set(right, outer)?;
                if left.columns.len() != right.columns.len() {
                    return Err(errors::set_operands_differ());
                }
                let op = match (op, set_quantifier) {
                    (SetOperator::Union, SetQuantifier::All) => "UNION ALL",
                    (SetOperator::Union, _) => "UNION",
                    (SetOperator::Except, _) => "EXCEPT",
                    (SetOperator::Intersect, _) => "INTERSECT",
                    (other, _) => return Err(errors::unsupported(other)),
                };
                let columns = left
                    .columns
                    .iter()
                    .zip(&right.columns)
                    .map(|(one, other)| ResultColumn {
                        name: one.name.clone(),
                        ty: one.ty.wider(other.ty),
                        nullable: one.nullable || other.nullable,
                        identity: false,
                    })
                    .collect();
                Ok(BoundQuery { sql: format!("{} {op} {}", left.sql, right.sql), columns, assigns: None })
            }
            other => Err(errors::unsupported(other)),
        }
    }

    fn select(&mut self, select: &Select, query: &Query, outer: Option<&Scope<'_>>) -> Result<BoundQuery, SqlError> {
        if select.into.is_some() {
            return Err(errors::unsupported("SELECT INTO"));
        }
        let (sources, from) = self.from(&select.from, outer)?;
        let scope = Scope { sources: &sources, outer };
        let (items, columns, assigns) = self.projection(&select.projection, &scope)?;
        let distinct = match &select.distinct {
            None | Some(Distinct::All) => "",
            Some(Distinct::Distinct) => "DISTINCT ",
            Some(Distinct::On(_)) => return Err(errors::unsupported("DISTINCT ON")),
        };
        let mut sql = format!("SELECT {distinct}{}", items.join(", "));
        if !from.is_empty() {
            write!(sql, " FROM {from}").expect("a string takes everything");
        }
        if let Some(condition) = &select.selection {
            write!(sql, " WHERE {}", self.expr(condition, &scope)?.sql).expect("a string takes everything");
        }
        let GroupByExpr::Expressions(groups, modifiers) = &select.group_by else { return Err(errors::unsupported("GROUP BY ALL")) };
        if !modifiers.is_empty() {
            return Err(errors::unsupported("GROUP BY with a modifier"));
        }
        if !groups.is_empty() {
            let groups = groups.iter().map(|group| Ok(self.expr(group, &scope)?.sql)).collect::<Result<Vec<_>, SqlError>>()?;
            write!(sql, " GROUP BY {}", groups.join(", ")).expect("a string takes everything");
        }
        if let Some(having) = &select.having {
            write!(sql, " HAVING {}", self.expr(having, &scope)?.sql).expect("a string takes everything");
        }
        sql.push_str(&self.order(query, &scope, &columns)?);
        sql.push_str(&self.limit(select.top.as_ref(), query, &scope)?);
        Ok(BoundQuery { sql, columns, assigns })
    }

    #[expect(clippy::type_complexity, reason = "three lists of one length, taken apart at once")]
    fn projection(
        &mut self,
        projection: &[SelectItem],
        scope: &Scope<'_>,
    ) -> Result<(Vec<String>, Vec<ResultColumn>, Option<Vec<String>>), SqlError> {
        let mut items = Vec::new();
        let mut columns: Vec<ResultColumn> = Vec::new();
        let mut assigns = Vec::new();
        let mut push = |bound: super::bind::Bound, name: &str| {
            let place = columns.len() + 1;
            let alias = if name.is_empty() { format!("(No column name {place})") } else { name.to_owned() };
            items.push(format!("{} AS {}", bound.sql, quoted(&alias)));
            let identity = bound.form == Form::Column { identity: true };
            columns.push(ResultColumn { name: name.to_owned(), ty: bound.ty, nullable: bound.nullable, identity });
        };
        for item in projection {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let name = match expr {
                        Expr::Identifier(ident) if !ident.value.starts_with('@') => ident.value.clone(),
                        Expr::CompoundIdentifier(idents) => idents.last().map(|ident| ident.value.clone()).unwrap_or_default(),
                        _ => String::new(),
                    };
                    push(self.expr(expr, scope)?, &name);
                }
                SelectItem::ExprWithAlias { expr, alias } if alias.quote_style.is_none() && alias.value.starts_with('@') => {
                    push(self.expr(expr, scope)?, "");
                    assigns.push(alias.value.clone());
                }
                SelectItem::ExprWithAlias { expr, alias } => push(self.expr(expr, scope)?, &alias.value),
                SelectItem::Wildcard(_) => {
                    if scope.sources.is_empty() {
                        return Err(errors::syntax("*"));
                    }
                    for source in scope.sources {
                        source.columns.iter().for_each(|column| push(column_of(source, column), &column.name));
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let wanted = super::parse::last_name(name)?;
                    let source = scope
                        .sources
                        .iter()
                        .find(|source| source.name.eq_ignore_ascii_case(&wanted))
                        .ok_or_else(|| errors::unbound_identifier(&format!("{wanted}.*")))?;
                    source.columns.iter().for_each(|column| push(column_of(source, column), &column.name));
                }
                other => return Err(errors::unsupported(other)),
            }
        }
        if assigns.is_empty() {
            return Ok((items, columns, None));
        }
        if assigns.len() != columns.len() {
            return Err(errors::unsupported("SELECT that sets variables and sends columns"));
        }
        Ok((items, columns, Some(assigns)))
    }

    /// The sources and the text of a FROM.
    pub(crate) fn from(&mut self, from: &[TableWithJoins], outer: Option<&Scope<'_>>) -> Result<(Vec<Source>, String), SqlError> {
        let mut sources = Vec::new();
        let mut sql = String::new();
        for (index, item) in from.iter().enumerate() {
            if index > 0 {
                sql.push_str(", ");
            }
            self.joined(item, outer, &mut sources, &mut sql)?;
        }
        Ok((sources, sql))
    }

    fn joined(
        &mut self,
        item: &TableWithJoins,
        outer: Option<&Scope<'_>>,
        sources: &mut Vec<Source>,
        sql: &mut String,
    ) -> Result<(), SqlError> {
        sql.push_str(&self.factor(&item.relation, outer, sources)?);
        for join in &item.joins {
            let (word, constraint) = match &join.join_operator {
                JoinOperator::Join(on) | JoinOperator::Inner(on) => (" JOIN ", on),
                JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => (" LEFT JOIN ", on),
                JoinOperator::Right(on) | JoinOperator::RightOuter(on) => (" RIGHT JOIN ", on),
                JoinOperator::FullOuter(on) => (" FULL JOIN ", on),
                JoinOperator::CrossJoin(on) => (" CROSS JOIN ", on),
                other => return Err(errors::unsupported(format!("{other:?}").split('(').next().unwrap_or_default())),
            };
            sql.push_str(word);
            sql.push_str(&self.factor(&join.relation, outer, sources)?);
            match constraint {
                JoinConstraint::On(condition) => {
                    let scope = Scope { sources, outer };
                    write!(sql, " ON {}", self.expr(condition, &scope)?.sql).expect("a string takes everything");
                }
                JoinConstraint::None => {}
                _ => return Err(errors::unsupported("JOIN without ON")),
            }
        }
        Ok(())
    }

    fn factor(&mut self, factor: &TableFactor, outer: Option<&Scope<'_>>, sources: &mut Vec<Source>) -> Result<String, SqlError> {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let (schema, table) = self.local_name(name)?;
                let exposed = alias.as_ref().map_or_else(|| table.clone(), |alias| alias.name.value.clone());
                if schema.is_none()
                    && let Some((named, columns)) = self.named.iter().rev().find(|(named, _)| named.eq_ignore_ascii_case(&table))
                {
                    let sql = format!("{} AS {}", quoted(named), quoted(&exposed));
                    sources.push(Source { name: exposed, columns: columns.clone(), qualified: true });
                    return Ok(sql);
                }
                if let Some(schema) = &schema
                    && let Some(view) = catalog::view(self.facts, schema, &table)?
                {
                    let sql = format!("({}) AS {}", self.rows(&view), quoted(&exposed));
                    sources.push(Source { name: exposed, columns: as_columns(&view.columns), qualified: true });
                    return Ok(sql);
                }
                let table = self.user_table(name)?;
                self.touches_tables = true;
                let sql = format!("{} AS {}", quoted(&table.name), quoted(&exposed));
                sources.push(Source { name: exposed, columns: table.columns.clone(), qualified: true });
                Ok(sql)
            }
            TableFactor::Derived { lateral: false, subquery, alias: Some(alias), .. } => {
                let (sql, mut columns) = if let SetExpr::Values(values) = subquery.body.as_ref() {
                    self.values(values, outer)?
                } else {
                    let bound = self.query(subquery, outer)?;
                    (bound.sql, as_columns(&bound.columns))
                };
                for (column, name) in columns.iter_mut().zip(&alias.columns) {
                    column.name.clone_from(&name.name.value);
                }
                let exposed = alias.name.value.clone();
                // Only a named subquery of SQLite takes a list of column names.
                let names: Vec<_> = columns.iter().map(|column| quoted(&column.name)).collect();
                let sql = format!("(WITH \"$t\"({}) AS ({sql}) SELECT * FROM \"$t\") AS {}", names.join(", "), quoted(&exposed));
                sources.push(Source { name: exposed, columns, qualified: true });
                Ok(sql)
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                let mut sql = String::from("(");
                self.joined(table_with_joins, outer, sources, &mut sql)?;
                sql.push(')');
                Ok(sql)
            }
            TableFactor::Table { name, .. } => Err(errors::unknown_object(&shown(name))),
            other => Err(errors::unsupported(other)),
        }
    }

    /// Rows of a VALUES that stands as a table.
    fn values(&mut self, values: &sqlparser::ast::Values, outer: Option<&Scope<'_>>) -> Result<(String, Vec<Column>), SqlError> {
        let scope = Scope { sources: &[], outer };
        let rows = values
            .rows
            .iter()
            .map(|row| row.content.iter().map(|expr| self.expr(expr, &scope)).collect::<Result<Vec<_>, _>>())
            .collect::<Result<Vec<_>, _>>()?;
        let width = rows.first().map_or(0, Vec::len);
        if rows.iter().any(|row| row.len() != width) {
            return Err(errors::column_count_differs());
        }
        let types: Vec<_> =
            (0..width).map(|at| super::bind::common_type(&rows.iter().map(|row| row[at].clone()).collect::<Vec<_>>())).collect();
        let columns = types
            .iter()
            .enumerate()
            .map(|(at, &ty)| Column { name: format!("column{}", at + 1), ty, nullable: true, identity: false, default: None })
            .collect();
        let rows: Vec<_> = rows
            .into_iter()
            .map(|row| {
                let row: Vec<_> = row.into_iter().zip(&types).map(|(value, &ty)| converted(value, ty).sql).collect();
                format!("({})", row.join(", "))
            })
            .collect();
        Ok((format!("VALUES {}", rows.join(", ")), columns))
    }

    /// The rows of a system view.
    fn rows(&mut self, view: &catalog::View) -> String {
        let names: Vec<_> = view.columns.iter().map(|column| quoted(&column.name)).collect();
        if view.rows.is_empty() {
            let nulls: Vec<_> = names.iter().map(|name| format!("NULL AS {name}")).collect();
            return format!("SELECT {} WHERE 0", nulls.join(", "));
        }
        let rows: Vec<_> = view
            .rows
            .iter()
            .map(|row| {
                let values: Vec<_> = row
                    .iter()
                    .zip(&names)
                    .map(|(value, name)| match value {
                        Value::Null => format!("NULL AS {name}"),
                        Value::Integer(number) => format!("{number} AS {name}"),
                        other => format!("{} AS {name}", self.parameter(other.clone())),
                    })
                    .collect();
                format!("SELECT {}", values.join(", "))
            })
            .collect();
        rows.join(" UNION ALL ")
    }

    fn order(&mut self, query: &Query, scope: &Scope<'_>, columns: &[ResultColumn]) -> Result<String, SqlError> {
        let Some(order) = &query.order_by else { return Ok(String::new()) };
        let OrderByKind::Expressions(items) = &order.kind else { return Err(errors::unsupported("ORDER BY ALL")) };
        let items = items
            .iter()
            .map(|item| {
                let alias = match &item.expr {
                    Expr::Identifier(ident) => columns.iter().find(|column| column.name.eq_ignore_ascii_case(&ident.value)),
                    _ => None,
                };
                let sql = match alias {
                    Some(column) => {
                        let collate = if column.ty.is_text() { " COLLATE NOCASE" } else { "" };
                        format!("{}{collate}", quoted(&column.name))
                    }
                    None => self.expr(&item.expr, scope)?.sql,
                };
                Ok(format!("{sql}{}", direction(item)))
            })
            .collect::<Result<Vec<_>, SqlError>>()?;
        Ok(format!(" ORDER BY {}", items.join(", ")))
    }

    fn limit(&mut self, top: Option<&Top>, query: &Query, scope: &Scope<'_>) -> Result<String, SqlError> {
        if let Some(top) = top {
            if top.percent || top.with_ties {
                return Err(errors::unsupported("TOP with PERCENT or TIES"));
            }
            return match &top.quantity {
                Some(TopQuantity::Constant(count)) => Ok(format!(" LIMIT {count}")),
                Some(TopQuantity::Expr(expr)) => Ok(format!(" LIMIT {}", self.expr(expr, scope)?.sql)),
                None => Ok(String::new()),
            };
        }
        let offset = match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit: None, offset: Some(offset), .. }) => Some(self.expr(&offset.value, scope)?.sql),
            Some(LimitClause::LimitOffset { limit: None, offset: None, .. }) | None => None,
            Some(_) => return Err(errors::syntax("LIMIT")),
        };
        let count = match &query.fetch {
            Some(fetch) if fetch.percent || fetch.with_ties => return Err(errors::unsupported("FETCH with PERCENT or TIES")),
            Some(fetch) => fetch.quantity.as_ref().map(|count| Ok::<_, SqlError>(self.expr(count, scope)?.sql)).transpose()?,
            None => None,
        };
        Ok(match (offset, count) {
            (None, None) => String::new(),
            (offset, count) => {
                format!(" LIMIT {} OFFSET {}", count.unwrap_or_else(|| "-1".to_owned()), offset.unwrap_or_else(|| "0".to_owned()))
            }
        })
    }
}

/// A query with nothing around its body.
fn bare_query() -> Query {
    Query {
        with: None,
        body: Box::new(SetExpr::Values(sqlparser::ast::Values { explicit_row: false, value_keyword: false, rows: Vec::new() })),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

/// The columns of a result, as those of a source.
pub(crate) fn as_columns(columns: &[ResultColumn]) -> Vec<Column> {
    columns
        .iter()
        .map(|column| Column { name: column.name.clone(), ty: column.ty, nullable: column.nullable, identity: false, default: None })
        .collect()
}
