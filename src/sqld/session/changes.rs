//! Changes of rows, tables and databases, and what is wrong when one is refused.

use std::{mem, sync::Arc};

use rusqlite::types::Value;
use sqlparser::ast::{CreateIndex, CreateTable, ObjectName};

use super::{
    Session, Stop,
    rows::{Sent, bind_all},
    transactions::no_turn,
};
use crate::sqld::{
    errors::{self, Constraint, SqlError},
    log,
    schema::{KeyKind, Schema, quoted},
    storage::Handle,
    token::{EnvChange, Response, ResultColumn, Verb},
    tsql::{
        bind::{Binder, Variables, shown},
        change::BoundChange,
        table::{LENGTH_CHECK, RANGE_CHECK, shown_value},
    },
    types::owned,
};

impl Session {
    pub(super) fn change(
        &mut self,
        variables: &Variables,
        out: &mut Response,
        bind: impl FnOnce(&mut Binder<'_>) -> Result<BoundChange, SqlError>,
    ) -> Result<(), Stop> {
        self.begin_implicitly(out);
        // The turn comes first: what the statement means depends on tables that another writer may be changing.
        let count = self.write(|session| {
            let facts = session.facts()?;
            let mut binder = Binder::new(&facts, variables);
            let bound = bind(&mut binder)?;
            let parameters = mem::take(&mut binder.parameters);
            let numbered = bound.verb == Verb::Insert && bound.table.columns.iter().any(|column| column.identity);
            let database = Arc::clone(&session.database);
            if numbered {
                let skipped = database.skip_used_numbers(&session.handle()?.connection, &bound.table);
                skipped.map_err(|error| session.stopped(&error))?;
            }
            let result = apply(session.handle()?, &bound, &parameters, out);
            match result {
                Ok(count) => {
                    if numbered && count > 0 {
                        let noted = database.note_used_numbers(&session.handle()?.connection, &bound.table);
                        noted.map_err(|error| session.stopped(&error))?;
                        session.identity = Some(session.handle()?.connection.last_insert_rowid());
                    }
                    Ok((bound.verb, count))
                }
                Err(Sent::Stop(stop)) => Err(stop),
                Err(Sent::Sqlite(error)) => Err(session.change_failed(&error, &bound, &parameters)),
            }
        })?;
        let (verb, count) = count;
        self.rows = count;
        self.count(verb, count, out);
        Ok(())
    }

    /// What a broken constraint is called.
    pub(super) fn change_failed(&mut self, error: &rusqlite::Error, change: &BoundChange, parameters: &[Value]) -> Stop {
        let Some(constraint) = errors::broken_constraint(error) else { return self.stopped(error) };
        let table = &change.table;
        let whole = format!("{}.dbo.{}", self.database.name, table.name);
        let verb = if change.verb == Verb::Update { "UPDATE" } else { "INSERT" };
        Stop::Error(match constraint {
            Constraint::NotNull(column) => errors::null_refused(&column, &whole, verb),
            Constraint::Check(name) => {
                if let Some(column) = name.strip_prefix(LENGTH_CHECK) {
                    errors::would_be_truncated(&whole, column)
                } else if let Some(column) = name.strip_prefix(RANGE_CHECK) {
                    errors::overflow(table.column(column).map_or("int", |column| column.ty.name()))
                } else {
                    errors::check_failed(verb, &name, &self.database.name, &table.name)
                }
            }
            Constraint::Unique(columns) => {
                let found = self.handle.as_ref().and_then(|handle| duplicate_key(handle, change, parameters, &columns));
                match table.unique_key(&columns) {
                    Some(key) if key.kind == KeyKind::UniqueIndex => errors::index_violated(&key.name, &table.name, found.as_deref()),
                    Some(key) => {
                        let kind = if key.kind == KeyKind::Primary { "PRIMARY KEY" } else { "UNIQUE KEY" };
                        errors::key_violated(kind, &key.name, &table.name, found.as_deref())
                    }
                    None => errors::key_violated("UNIQUE KEY", &columns.join(", "), &table.name, found.as_deref()),
                }
            }
        })
    }

    /// A change of the schema: all of it, or nothing.
    pub(super) fn define(
        &mut self,
        out: &mut Response,
        variables: &Variables,
        define: impl FnOnce(&mut Binder<'_>, &mut Handle) -> Result<(), SqlError>,
    ) -> Result<(), Stop> {
        self.begin_implicitly(out);
        self.write(|session| {
            let facts = session.facts()?;
            let mut binder = Binder::new(&facts, variables);
            let handle = session.handle()?;
            run_sql(handle, "SAVEPOINT \"$definition\"")?;
            let result = define(&mut binder, handle);
            if result.is_err() {
                run_sql(handle, "ROLLBACK TO \"$definition\"")?;
            }
            run_sql(handle, "RELEASE \"$definition\"")?;
            handle.forget_schema();
            result.map_err(Stop::Error)
        })?;
        out.done(Verb::Other, None);
        Ok(())
    }

    pub(super) fn create_table(&mut self, create: &CreateTable, variables: &Variables, out: &mut Response) -> Result<(), Stop> {
        self.define(out, variables, |binder, handle| {
            let new = binder.create_table(create)?;
            for sql in &new.sql {
                run_sql(handle, sql)?;
            }
            Schema::add_table(&handle.connection, &new.table).map_err(|error| errors::from_sqlite(&error))?;
            Ok(())
        })
    }

    pub(super) fn create_index(&mut self, create: &CreateIndex, variables: &Variables, out: &mut Response) -> Result<(), Stop> {
        self.define(out, variables, |binder, handle| {
            let new = binder.create_index(create)?;
            run_sql(handle, &new.sql)?;
            Schema::add_key(&handle.connection, new.table, &new.key).map_err(|error| errors::from_sqlite(&error))
        })
    }

    pub(super) fn drop_tables(
        &mut self,
        names: &[ObjectName],
        if_exists: bool,
        variables: &Variables,
        out: &mut Response,
    ) -> Result<(), Stop> {
        self.define(out, variables, |binder, handle| {
            for name in names {
                match binder.user_table(name) {
                    Ok(table) => {
                        run_sql(handle, &format!("DROP TABLE {}", quoted(&table.name)))?;
                        Schema::remove_table(&handle.connection, table.id).map_err(|error| errors::from_sqlite(&error))?;
                    }
                    Err(error) if error.number == 208 && if_exists => {}
                    Err(error) if error.number == 208 => return Err(errors::cannot_drop("table", &shown(name))),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    pub(super) fn create_database(&mut self, name: &str, out: &mut Response) -> Result<(), Stop> {
        if self.transactions > 0 {
            return Err(errors::not_in_a_transaction("CREATE DATABASE").into());
        }
        let master = self.instance.storage.databases().into_iter().next().expect("master is always there");
        let turn = master.queue.enter(&self.signal, self.options.lock_wait).map_err(no_turn)?;
        let database = self.instance.storage.create_database(name)?;
        drop(turn);
        log::line(&format!("spid{}", self.spid), &format!("Starting up database '{}'.", database.name));
        out.done(Verb::Other, None);
        Ok(())
    }

    pub(super) fn drop_database(&mut self, name: &str, if_exists: bool, out: &mut Response) -> Result<(), Stop> {
        if self.transactions > 0 {
            return Err(errors::not_in_a_transaction("DROP DATABASE").into());
        }
        if self.instance.sessions().iter().any(|(_, session)| session.database.eq_ignore_ascii_case(name)) {
            return Err(errors::database_in_use(name).into());
        }
        let master = self.instance.storage.databases().into_iter().next().expect("master is always there");
        let turn = master.queue.enter(&self.signal, self.options.lock_wait).map_err(no_turn)?;
        match self.instance.storage.drop_database(name) {
            Err(error) if error.number == 3701 && if_exists => {}
            other => other?,
        }
        drop(turn);
        out.done(Verb::Other, None);
        Ok(())
    }

    pub(super) fn use_database(&mut self, name: &str, out: &mut Response) -> Result<(), Stop> {
        let database = self.instance.storage.database(name).ok_or_else(|| errors::unknown_database(name))?;
        if !database.is_online() {
            return Err(errors::not_recovered_yet(&database.name).into());
        }
        if self.turn.is_some() {
            return Err(errors::cannot_switch_database().into());
        }
        let before = self.database.name.clone();
        self.leave_database();
        self.database = database;
        self.note(true);
        out.env_change(EnvChange::Database(&before, &self.database.name));
        let text = format!("Changed database context to '{}'.", self.database.name);
        out.info(5701, 2, 0, &text, 1);
        out.done(Verb::Other, None);
        Ok(())
    }

    pub(super) fn dbcc(&mut self, command: &str, target: Option<&str>, options: &[String], out: &mut Response) -> Result<(), Stop> {
        if !matches!(command, "CHECKDB" | "CHECKTABLE" | "CHECKALLOC" | "CHECKCATALOG") {
            return Err(errors::unknown_dbcc(command).into());
        }
        let name = match target {
            Some(target) if command == "CHECKDB" => target.to_owned(),
            _ => self.database.name.clone(),
        };
        if self.instance.denies(&format!("dbcc {}", command.to_ascii_lowercase())) {
            return Err(errors::dbcc_denied(&self.login.user, command, &name).into());
        }
        let database = self.instance.storage.database(&name).ok_or_else(|| errors::unknown_database(&name))?;
        if !database.is_online() {
            return Err(errors::not_recovered_yet(&database.name).into());
        }
        let handle = database.connect(Some(&self.signal)).map_err(|error| errors::from_sqlite(&error))?;
        let found = integrity(&handle);
        database.give_back(handle);
        let found = found.map_err(|error| self.stopped(&error))?;
        if let Some(first) = found.first() {
            return Err(errors::page_damaged(first).into());
        }
        if !options.iter().any(|option| option == "NO_INFOMSGS" || option == "PHYSICAL_ONLY") {
            let text = format!("CHECKDB found 0 allocation errors and 0 consistency errors in database '{}'.", database.name);
            out.info(8989, 1, 0, &text, 1);
            out.info(2528, 1, 0, "DBCC execution completed. If DBCC printed error messages, contact your system administrator.", 1);
        }
        out.done(Verb::Other, None);
        Ok(())
    }
}

pub(super) fn run_sql(handle: &Handle, sql: &str) -> Result<(), SqlError> {
    handle.connection.execute_batch(sql).map_err(|error| errors::from_sqlite(&error))
}

/// Runs a change; the rows of its OUTPUT are sent.
pub(super) fn apply(handle: &Handle, change: &BoundChange, parameters: &[Value], out: &mut Response) -> Result<i64, Sent> {
    let mut statement = handle.connection.prepare_cached(&change.sql)?;
    bind_all(&mut statement, parameters)?;
    let Some(columns) = &change.output else {
        return Ok(i64::try_from(statement.raw_execute()?).unwrap_or(i64::MAX));
    };
    // SQLite has changed every row before it gives the first one back, and a value that then cannot be sent fails the statement.
    run_sql(handle, "SAVEPOINT \"$output\"")?;
    let sent = send_output(&mut statement, columns, out);
    drop(statement);
    if handle.connection.is_autocommit() {
        // The transaction is gone, and the savepoint with it.
        return sent;
    }
    if sent.is_err() {
        run_sql(handle, "ROLLBACK TO \"$output\"")?;
    }
    run_sql(handle, "RELEASE \"$output\"")?;
    sent
}

fn send_output(statement: &mut rusqlite::Statement<'_>, columns: &[ResultColumn], out: &mut Response) -> Result<i64, Sent> {
    out.columns(columns)?;
    let mut rows = statement.raw_query();
    let mut count = 0;
    while let Some(row) = rows.next()? {
        out.row(columns, |index| row.get_ref_unwrap(index))??;
        count += 1;
    }
    Ok(count)
}

/// The first key that an INSERT brings and that is there already, or that it brings twice.
pub(super) fn duplicate_key(handle: &Handle, change: &BoundChange, parameters: &[Value], columns: &[String]) -> Option<String> {
    let source = change.source.as_ref()?;
    let given = |column: &String| source.columns.iter().any(|name| name.eq_ignore_ascii_case(column));
    if !columns.iter().all(given) {
        return None;
    }
    let names = |prefix: &str, list: &[String]| list.iter().map(|name| format!("{prefix}{}", quoted(name))).collect::<Vec<_>>().join(", ");
    let with = format!("WITH \"$in\"({}) AS ({})", names("", &source.columns), source.sql);
    let same: Vec<_> = columns.iter().map(|name| format!("\"$there\".{name} = \"$in\".{name}", name = quoted(name))).collect();
    let key = names("\"$in\".", columns);
    let there = format!(
        "{with} SELECT {key} FROM \"$in\" WHERE EXISTS (SELECT 1 FROM {} AS \"$there\" WHERE {}) LIMIT 1",
        quoted(&change.table.name),
        same.join(" AND ")
    );
    let twice = format!("{with} SELECT {key} FROM \"$in\" GROUP BY {key} HAVING count(*) > 1 LIMIT 1");
    [there, twice].iter().find_map(|sql| {
        let mut statement = handle.connection.prepare_cached(sql).ok()?;
        bind_all(&mut statement, parameters).ok()?;
        let mut rows = statement.raw_query();
        let row = rows.next().ok()??;
        let values: Vec<_> = (0..columns.len()).map(|index| shown_value(&owned(row.get_ref_unwrap(index)))).collect();
        Some(values.join(", "))
    })
}

/// What is wrong with a database; nothing, if all is well.
pub(super) fn integrity(handle: &Handle) -> rusqlite::Result<Vec<String>> {
    let mut statement = handle.connection.prepare("PRAGMA integrity_check(100)")?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}
