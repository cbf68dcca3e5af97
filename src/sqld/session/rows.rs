//! Expressions and queries: what is read, and how it is sent.

use std::{mem, sync::Arc};

use chrono::Utc;
use rusqlite::{ErrorCode, types::Value};
use sqlparser::ast::Expr;

use super::{Session, Stop};
use crate::sqld::{
    convert::convert,
    errors,
    errors::SqlError,
    schema::Schema,
    signal::{Cancel, Signal},
    storage::Handle,
    token::{Gone, Response, Verb},
    tsql::{
        bind::{Binder, Facts, Scope, Variables},
        query::BoundQuery,
    },
    types::{TypedValue, owned},
};

impl Session {
    pub(super) fn facts(&mut self) -> Result<Facts, Stop> {
        let schema = self.schema()?;
        Ok(Facts {
            instance: Arc::clone(&self.instance),
            database: Arc::clone(&self.database),
            schema,
            spid: self.spid,
            user: self.login.user.clone(),
            host: self.login.host.clone(),
            program: self.login.program.clone(),
            transactions: self.transactions,
            doomed: self.doomed,
            rows: self.rows,
            last_error: self.last_error,
            identity: self.identity,
            caught: self.caught.clone(),
            identity_insert: self.options.identity_insert.clone(),
            now: Utc::now().naive_utc(),
        })
    }

    pub(super) fn schema(&mut self) -> Result<Arc<Schema>, Stop> {
        let result = self.handle()?.schema();
        result.map_err(|error| self.stopped(&error))
    }

    pub(super) fn handle(&mut self) -> Result<&mut Handle, Stop> {
        if self.handle.is_none() {
            let handle = self.database.connect(Some(&self.signal)).map_err(|error| errors::from_sqlite(&error))?;
            self.handle = Some(handle);
        }
        Ok(self.handle.as_mut().expect("it was just made"))
    }

    pub(super) fn stopped(&self, error: &rusqlite::Error) -> Stop {
        if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
            return Stop::Cancelled(self.signal.cancelled().unwrap_or(Cancel::Gone));
        }
        Stop::Error(errors::from_sqlite(error))
    }

    pub(super) fn evaluate(&mut self, expr: &Expr, variables: &Variables) -> Result<TypedValue, Stop> {
        let facts = self.facts()?;
        let mut binder = Binder::new(&facts, variables);
        let bound = binder.expr(expr, &Scope::EMPTY)?;
        let parameters = mem::take(&mut binder.parameters);
        let result = first_value(self.handle()?, &format!("SELECT {}", bound.sql), &parameters);
        let value = result.map_err(|error| self.stopped(&error))?;
        Ok(TypedValue { ty: bound.ty, value })
    }

    pub(super) fn holds(&mut self, condition: &Expr, variables: &Variables) -> Result<bool, Stop> {
        Ok(matches!(self.evaluate(condition, variables)?.value, Value::Integer(number) if number != 0))
    }

    pub(super) fn select(
        &mut self,
        bound: &BoundQuery,
        parameters: &[Value],
        variables: &mut Variables,
        out: &mut Response,
    ) -> Result<(), Stop> {
        let signal = Arc::clone(&self.signal);
        let handle = self.handle()?;
        let result = match &bound.assigns {
            Some(names) => assign_rows(handle, bound, parameters, names, variables),
            None => send_rows(handle, bound, parameters, &signal, out),
        };
        let count = match result {
            Ok(count) => count,
            Err(Sent::Stop(stop)) => return Err(stop),
            Err(Sent::Sqlite(error)) => return Err(self.stopped(&error)),
        };
        self.rows = count;
        self.count(Verb::Select, count, out);
        Ok(())
    }

    pub(super) fn count(&self, verb: Verb, count: i64, out: &mut Response) {
        let rows = u64::try_from(count).unwrap_or(0);
        out.done(verb, (!self.options.no_count).then_some(rows));
    }
}

/// A failure below: SQLite's, or one that already has a name.
pub(super) enum Sent {
    Sqlite(rusqlite::Error),
    Stop(Stop),
}

impl From<rusqlite::Error> for Sent {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<SqlError> for Sent {
    fn from(error: SqlError) -> Self {
        Self::Stop(error.into())
    }
}

impl From<Gone> for Sent {
    fn from(gone: Gone) -> Self {
        Self::Stop(gone.into())
    }
}

pub(super) fn bind_all(statement: &mut rusqlite::CachedStatement<'_>, parameters: &[Value]) -> rusqlite::Result<()> {
    // What the text ended up without (an argument that made no difference) has no place to be bound to.
    let places = statement.parameter_count();
    for (index, value) in parameters.iter().take(places).enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    Ok(())
}

pub(super) fn first_value(handle: &Handle, sql: &str, parameters: &[Value]) -> rusqlite::Result<Value> {
    let mut statement = handle.connection.prepare_cached(sql)?;
    bind_all(&mut statement, parameters)?;
    let mut rows = statement.raw_query();
    match rows.next()? {
        Some(row) => Ok(owned(row.get_ref(0)?)),
        None => Ok(Value::Null),
    }
}

pub(super) fn send_rows(
    handle: &Handle,
    bound: &BoundQuery,
    parameters: &[Value],
    signal: &Signal,
    out: &mut Response,
) -> Result<i64, Sent> {
    let mut statement = handle.connection.prepare_cached(&bound.sql)?;
    bind_all(&mut statement, parameters)?;
    let mut rows = statement.raw_query();
    out.columns(&bound.columns)?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        out.row(&bound.columns, |index| row.get_ref_unwrap(index))??;
        count += 1;
        if let Some(why) = signal.cancelled() {
            return Err(Sent::Stop(Stop::Cancelled(why)));
        }
    }
    Ok(count)
}

pub(super) fn assign_rows(
    handle: &Handle,
    bound: &BoundQuery,
    parameters: &[Value],
    names: &[String],
    variables: &mut Variables,
) -> Result<i64, Sent> {
    let mut statement = handle.connection.prepare_cached(&bound.sql)?;
    bind_all(&mut statement, parameters)?;
    let mut rows = statement.raw_query();
    let mut count = 0;
    while let Some(row) = rows.next()? {
        for (index, (name, column)) in names.iter().zip(&bound.columns).enumerate() {
            assign(variables, name, TypedValue { ty: column.ty, value: owned(row.get_ref(index)?) })?;
        }
        count += 1;
    }
    Ok(count)
}

pub(super) fn assign(variables: &mut Variables, name: &str, value: TypedValue) -> Result<(), SqlError> {
    let variable = variables.get_mut(&name.to_lowercase()).ok_or_else(|| errors::unknown_variable(name))?;
    variable.value = convert(value.value, value.ty, variable.ty, 0)?;
    Ok(())
}

pub(super) fn text_value(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Null | Value::Blob(_) => String::new(),
    }
}
