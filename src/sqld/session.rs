//! A session: what one client asks, one request after the other.
//!
//! A session runs on a thread that may block. Reads see what is committed, each statement anew, as `READ COMMITTED` has it. The first
//! write of a transaction waits for its turn ([`super::write_queue`]) and begins a transaction of SQLite's, which ends with the client's;
//! until then nothing is locked. An acknowledgement is written only after SQLite's commit has returned.

use std::{
    collections::HashMap,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chrono::Utc;
use rusqlite::{ErrorCode, types::Value};
use sqlparser::ast::Expr;
use tokio::sync::mpsc;

use super::{
    convert::convert,
    errors::{self, Constraint, Reach, SqlError},
    login::Login,
    packet::{Message, PacketType},
    rpc::{self, Call, Parameter, Procedure, TransactionRequest},
    schema::{KeyKind, Schema, quoted},
    server::Instance,
    signal::{Cancel, Signal, Woken},
    storage::{Database, Handle},
    token::{EnvChange, Gone, Response, Verb},
    tsql::{
        bind::{Binder, Facts, Scope, Variables},
        change::BoundChange,
        parse::{self, Argument, Declaration, Located, Statement},
        query::BoundQuery,
        table::{LENGTH_CHECK, RANGE_CHECK, shown_value},
    },
    types::{Length, SqlType, TypedValue, owned, utf16},
    write_queue::{NoTurn, Turn},
};

/// How long a writer waits for its turn. SQL Server waits for ever unless told otherwise; a stand-in that hangs would only hide a fault.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How deep texts may execute texts.
const MAX_EXECUTE_DEPTH: usize = 32;
/// The first handle of a prepared statement.
const FIRST_HANDLE: i64 = 1;

/// Why the statements do not go on.
#[derive(Debug)]
enum Stop {
    /// An error that nobody handled yet.
    Error(SqlError),
    /// An error that was reported and ends the batch.
    Aborted {
        /// Whether it ends the connection, too.
        fatal: bool,
    },
    /// The session was told to stop.
    Cancelled(Cancel),
    /// The client is gone.
    Gone,
    /// RETURN
    Return,
    /// BREAK
    Break,
    /// CONTINUE
    Continue,
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Self {
        Self::Error(error)
    }
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Whether the answer acknowledges an attention.
    pub(crate) attention: bool,
    /// Whether the connection must end.
    pub(crate) close: bool,
}

/// What `SET` changes.
#[derive(Clone, Debug)]
struct Options {
    no_count: bool,
    abort_on_error: bool,
    implicit_transactions: bool,
    lock_wait: Duration,
    identity_insert: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { no_count: false, abort_on_error: false, implicit_transactions: false, lock_wait: LOCK_WAIT, identity_insert: None }
    }
}

/// One client's session.
#[derive(Debug)]
pub(crate) struct Session {
    instance: Arc<Instance>,
    spid: u16,
    login: Login,
    packet_size: usize,
    home: Arc<Database>,
    database: Arc<Database>,
    handle: Option<Handle>,
    signal: Arc<Signal>,
    turn: Option<Turn>,
    transactions: u32,
    descriptor: u64,
    next_descriptor: u64,
    doomed: bool,
    savepoints: Vec<String>,
    options: Options,
    rows: i64,
    last_error: i32,
    identity: Option<i64>,
    caught: Option<SqlError>,
    trying: usize,
    depth: usize,
    prepared: HashMap<i64, (String, String)>,
    next_handle: i64,
}

impl Session {
    /// The session of a login that was accepted.
    pub(crate) fn new(
        instance: Arc<Instance>,
        spid: u16,
        login: Login,
        packet_size: usize,
        database: Arc<Database>,
        signal: Arc<Signal>,
    ) -> Self {
        Self {
            instance,
            spid,
            login,
            packet_size,
            home: Arc::clone(&database),
            database,
            handle: None,
            signal,
            turn: None,
            transactions: 0,
            descriptor: 0,
            next_descriptor: u64::from(spid) << 32,
            doomed: false,
            savepoints: Vec::new(),
            options: Options::default(),
            rows: 0,
            last_error: 0,
            identity: None,
            caught: None,
            trying: 0,
            depth: 0,
            prepared: HashMap::new(),
            next_handle: FIRST_HANDLE,
        }
    }

    /// Does what a message asks and sends the answer through `outlet`.
    pub(crate) fn answer(&mut self, message: &Message, outlet: mpsc::Sender<Bytes>) -> Ended {
        let mut out = Response::streamed(&self.instance.name, self.packet_size, outlet);
        self.note(true);
        if message.reset {
            self.reset();
            out.env_change(EnvChange::Reset);
        }
        let mut stop = match message.kind {
            PacketType::Batch => self.batch(&message.body, &mut out),
            PacketType::Rpc => self.calls(&message.body, &mut out),
            PacketType::Transaction => self.transaction(&message.body, &mut out),
            other => {
                let error = errors::unsupported(format!("a message of type {other:?}"));
                self.report(&error, 1, &mut out);
                Err(Stop::Aborted { fatal: true })
            }
        };
        if self.doomed {
            // No batch leaves a transaction behind that can only be rolled back.
            self.roll_back(&mut out);
            if matches!(stop, Ok(())) {
                self.report(&errors::transaction_lost(), 1, &mut out);
                stop = Err(Stop::Aborted { fatal: false });
            }
        }
        let attention = matches!(stop, Err(Stop::Cancelled(Cancel::Attention)));
        let fatal = matches!(stop, Err(Stop::Aborted { fatal: true } | Stop::Gone | Stop::Cancelled(Cancel::Gone | Cancel::Shutdown)));
        if attention {
            if self.options.abort_on_error && self.transactions > 0 {
                self.roll_back(&mut out);
            }
            self.signal.acknowledge_attention();
            out.attention_done();
        } else if matches!(stop, Err(Stop::Cancelled(Cancel::Shutdown))) {
            self.report(&errors::shutting_down(), 1, &mut out);
            out.batch_done();
        }
        let close = fatal || out.is_gone();
        self.note(false);
        out.finish();
        Ended { attention, close }
    }

    fn note(&self, running: bool) {
        self.instance.note(self.spid, |info| {
            info.running = running;
            info.transactions = self.transactions;
            if info.database != self.database.name {
                info.database.clone_from(&self.database.name);
            }
        });
    }

    /// Makes the session as new, for a client that takes it out of its pool.
    fn reset(&mut self) {
        self.abandon();
        self.options = Options::default();
        self.prepared.clear();
        self.rows = 0;
        self.last_error = 0;
        self.identity = None;
        if !Arc::ptr_eq(&self.database, &self.home) {
            self.leave_database();
            self.database = Arc::clone(&self.home);
        }
    }

    fn leave_database(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.database.give_back(handle);
        }
    }

    /// Rolls back what is open, without telling anyone.
    fn abandon(&mut self) {
        if self.turn.is_some() {
            self.roll_back_storage();
        }
        self.transactions = 0;
        self.doomed = false;
        self.savepoints.clear();
    }

    // ---- requests

    fn batch(&mut self, body: &[u8], out: &mut Response) -> Result<(), Stop> {
        let Some(text) = rpc::without_headers(body) else {
            let error = errors::malformed_request("headers of a batch");
            self.report(&error, 1, out);
            out.batch_done();
            return Err(Stop::Aborted { fatal: true });
        };
        let result = self.run_text(&utf16(text), &mut Variables::new(), out);
        if !matches!(result, Err(Stop::Cancelled(_) | Stop::Gone)) {
            out.batch_done();
        }
        result
    }

    /// Reads and runs a text; errors are reported.
    fn run_text(&mut self, text: &str, variables: &mut Variables, out: &mut Response) -> Result<(), Stop> {
        let statements = match parse::batch(text) {
            Ok(statements) => statements,
            Err(error) if self.trying > 0 => return Err(error.into()),
            Err(error) => {
                self.report(&error, 1, out);
                return Err(Stop::Aborted { fatal: false });
            }
        };
        match self.run(&statements, variables, out) {
            Err(Stop::Return | Stop::Break | Stop::Continue) => Ok(()),
            other => other,
        }
    }

    fn calls(&mut self, body: &[u8], out: &mut Response) -> Result<(), Stop> {
        let calls = match rpc::parse(body) {
            Ok(calls) => calls,
            Err(error) => {
                let fatal = error.reach == Reach::Connection;
                self.report(&error, 1, out);
                out.procedure_done(true, false);
                return Err(Stop::Aborted { fatal });
            }
        };
        let last = calls.len() - 1;
        for (index, call) in calls.iter().enumerate() {
            out.enter_procedure();
            let result = self.call(call, out);
            match result {
                Ok(()) => out.procedure_done(false, index < last),
                Err(Stop::Aborted { fatal }) => {
                    out.return_status(self.last_error);
                    out.procedure_done(true, index < last && !fatal);
                    if fatal {
                        return Err(Stop::Aborted { fatal });
                    }
                }
                other => return other,
            }
        }
        Ok(())
    }

    fn call(&mut self, call: &Call, out: &mut Response) -> Result<(), Stop> {
        let parameters = &call.parameters;
        let result = match &call.procedure {
            Procedure::ExecuteSql => self.execute_sql(parameters, out),
            Procedure::Prepare => self.prepare(parameters, out),
            Procedure::PrepareAndExecute => self.prepare_and_execute(parameters, out),
            Procedure::Execute => self.execute_prepared(parameters, out),
            Procedure::Unprepare => self.unprepare(parameters, out),
            Procedure::Named(name) => Err(errors::unknown_procedure(name).into()),
        };
        match result {
            Err(Stop::Error(error)) => {
                self.report(&error, 1, out);
                Err(Stop::Aborted { fatal: error.reach == Reach::Connection })
            }
            other => other,
        }
    }

    fn execute_sql(&mut self, parameters: &[Parameter], out: &mut Response) -> Result<(), Stop> {
        let text = text_of(parameters.first()).ok_or_else(|| errors::parameter_missing("sp_executesql", "@statement"))?;
        let declared = text_of(parameters.get(1)).unwrap_or_default();
        let values = parameters.get(2..).unwrap_or_default();
        self.run_declared(&text, &declared, values, 2, out)
    }

    /// Runs a text with declared parameters and returns the outputs.
    fn run_declared(&mut self, text: &str, declared: &str, values: &[Parameter], first: usize, out: &mut Response) -> Result<(), Stop> {
        let declared = parse::parameters(declared)?;
        let mut variables = Variables::new();
        for (name, ty) in &declared {
            variables.insert(name.to_lowercase(), TypedValue { ty: *ty, value: Value::Null });
        }
        let mut names = Vec::new();
        for (index, parameter) in values.iter().enumerate() {
            let name = match (parameter.name.as_str(), declared.get(index)) {
                ("", Some((name, _))) => name.to_lowercase(),
                ("", None) => return Err(errors::parameter_missing("sp_executesql", "@params").into()),
                (name, _) => name.to_lowercase(),
            };
            let ty = variables.get(&name).map_or(parameter.value.ty, |declared| declared.ty);
            let value = convert(parameter.value.value.clone(), parameter.value.ty, ty, 0)?;
            variables.insert(name.clone(), TypedValue { ty, value });
            names.push(name);
        }
        self.run_text(text, &mut variables, out)?;
        out.return_status(self.last_error);
        for (index, (parameter, name)) in values.iter().zip(&names).enumerate() {
            if parameter.output
                && let Some(value) = variables.get(name)
            {
                let ordinal = u16::try_from(first + index).unwrap_or(u16::MAX);
                out.return_value(ordinal, &parameter.name, value)?;
            }
        }
        Ok(())
    }

    fn keep_prepared(&mut self, parameters: &[Parameter]) -> Result<i64, SqlError> {
        let declared = text_of(parameters.get(1)).unwrap_or_default();
        let text = text_of(parameters.get(2)).ok_or_else(|| errors::parameter_missing("sp_prepare", "@stmt"))?;
        parse::batch(&text)?;
        let handle = self.next_handle;
        self.next_handle += 1;
        self.prepared.insert(handle, (text, declared));
        Ok(handle)
    }

    fn prepare(&mut self, parameters: &[Parameter], out: &mut Response) -> Result<(), Stop> {
        let handle = self.keep_prepared(parameters)?;
        out.return_status(0);
        return_handle(handle, parameters, out)
    }

    fn prepare_and_execute(&mut self, parameters: &[Parameter], out: &mut Response) -> Result<(), Stop> {
        let handle = self.keep_prepared(parameters)?;
        let (text, declared) = self.prepared[&handle].clone();
        self.run_declared(&text, &declared, parameters.get(3..).unwrap_or_default(), 3, out)?;
        return_handle(handle, parameters, out)
    }

    fn execute_prepared(&mut self, parameters: &[Parameter], out: &mut Response) -> Result<(), Stop> {
        let handle = number_of(parameters.first()).ok_or_else(|| errors::parameter_missing("sp_execute", "@handle"))?;
        let (text, declared) = self.prepared.get(&handle).cloned().ok_or_else(|| errors::unknown_prepared_statement(handle))?;
        self.run_declared(&text, &declared, parameters.get(1..).unwrap_or_default(), 1, out)
    }

    fn unprepare(&mut self, parameters: &[Parameter], out: &mut Response) -> Result<(), Stop> {
        let handle = number_of(parameters.first()).ok_or_else(|| errors::parameter_missing("sp_unprepare", "@handle"))?;
        self.prepared.remove(&handle).ok_or_else(|| errors::unknown_prepared_statement(handle))?;
        out.return_status(0);
        Ok(())
    }

    fn transaction(&mut self, body: &[u8], out: &mut Response) -> Result<(), Stop> {
        let result = rpc::parse_transaction(body).map_err(Stop::from).and_then(|request| match request {
            TransactionRequest::Begin => {
                self.begin(out);
                Ok(())
            }
            TransactionRequest::Commit { then_begin } => {
                self.commit(out)?;
                if then_begin {
                    self.begin(out);
                }
                Ok(())
            }
            TransactionRequest::Rollback { savepoint, then_begin } => {
                self.rollback(savepoint.as_deref(), out)?;
                if then_begin {
                    self.begin(out);
                }
                Ok(())
            }
            TransactionRequest::Save(name) => self.save(&name),
        });
        let result = match result {
            Err(Stop::Error(error)) => {
                self.report(&error, 1, out);
                Err(Stop::Aborted { fatal: error.reach == Reach::Connection })
            }
            other => other,
        };
        if !matches!(result, Err(Stop::Cancelled(_) | Stop::Gone)) {
            out.batch_done();
        }
        result
    }

    // ---- statements

    fn run(&mut self, statements: &[Located], variables: &mut Variables, out: &mut Response) -> Result<(), Stop> {
        statements.iter().try_for_each(|located| self.run_one(located, variables, out))
    }

    fn run_one(&mut self, located: &Located, variables: &mut Variables, out: &mut Response) -> Result<(), Stop> {
        if let Some(why) = self.signal.cancelled() {
            return Err(Stop::Cancelled(why));
        }
        let is_block = matches!(
            located.statement,
            Statement::If { .. }
                | Statement::While { .. }
                | Statement::Block(_)
                | Statement::Try { .. }
                | Statement::Execute { .. }
                | Statement::ExecuteText(_)
        );
        let error = match self.execute(&located.statement, variables, out) {
            Err(Stop::Error(error)) => error,
            Ok(()) => {
                if !is_block {
                    self.last_error = 0;
                }
                return Ok(());
            }
            other => return other,
        };
        let lost = self.transaction_is_lost();
        if lost {
            self.forget_transaction(out);
        }
        let ends_batch = lost || error.reach != Reach::Statement || self.options.abort_on_error;
        if self.trying > 0 && error.reach != Reach::Connection {
            self.last_error = error.number;
            self.doomed |= self.transactions > 0 && ends_batch;
            return Err(Stop::Error(error));
        }
        self.report(&error, located.line, out);
        if matches!(error.number, 515 | 547 | 2601 | 2627 | 2628 | 8115 | 8134) && !ends_batch {
            out.info(3621, 0, 0, "The statement has been terminated.", located.line);
            out.failed();
        }
        if !ends_batch {
            return Ok(());
        }
        if self.options.abort_on_error || error.class >= 20 {
            self.roll_back(out);
        }
        Err(Stop::Aborted { fatal: error.reach == Reach::Connection })
    }

    fn report(&mut self, error: &SqlError, line: u32, out: &mut Response) {
        self.last_error = error.number;
        self.rows = 0;
        out.error(error, line);
        if error.number == 300 {
            // SQL Server says it twice.
            out.error(&errors::no_permission(), line);
        }
        out.failed();
    }

    fn execute(&mut self, statement: &Statement, variables: &mut Variables, out: &mut Response) -> Result<(), Stop> {
        match statement {
            Statement::Query(query) => {
                let facts = self.facts()?;
                let mut binder = Binder::new(&facts, variables);
                let bound = binder.query(query, None)?;
                let (parameters, touches) = (mem::take(&mut binder.parameters), binder.touches_tables);
                if touches {
                    self.begin_implicitly(out);
                }
                self.select(&bound, &parameters, variables, out)
            }
            Statement::Insert(insert) => self.change(variables, out, |binder| binder.insert(insert)),
            Statement::Update(update) => self.change(variables, out, |binder| binder.update(update)),
            Statement::Delete(delete) => self.change(variables, out, |binder| binder.delete(delete)),
            Statement::Truncate(name) => self.change(variables, out, |binder| binder.truncate(name)),
            Statement::CreateTable(create) => self.define(out, variables, |binder, handle| {
                let new = binder.create_table(create)?;
                for sql in &new.sql {
                    run_sql(handle, sql)?;
                }
                Schema::add_table(&handle.connection, &new.table).map_err(|error| errors::from_sqlite(&error))?;
                Ok(())
            }),
            Statement::CreateIndex(create) => self.define(out, variables, |binder, handle| {
                let new = binder.create_index(create)?;
                run_sql(handle, &new.sql)?;
                Schema::add_key(&handle.connection, new.table, &new.key).map_err(|error| errors::from_sqlite(&error))?;
                Ok(())
            }),
            Statement::DropTable { names, if_exists } => self.define(out, variables, |binder, handle| {
                for name in names {
                    match binder.user_table(name) {
                        Ok(table) => {
                            run_sql(handle, &format!("DROP TABLE {}", quoted(&table.name)))?;
                            Schema::remove_table(&handle.connection, table.id).map_err(|error| errors::from_sqlite(&error))?;
                        }
                        Err(error) if error.number == 208 && *if_exists => {}
                        Err(error) if error.number == 208 => return Err(errors::cannot_drop("table", &super::tsql::bind::shown(name))),
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            }),
            Statement::CreateDatabase(name) => self.create_database(name, out),
            Statement::DropDatabase { name, if_exists } => self.drop_database(name, *if_exists, out),
            Statement::Declare(declarations) => self.declare(declarations, variables),
            Statement::Assign { name, value } => {
                let value = self.evaluate(value, variables)?;
                assign(variables, name, value)?;
                Ok(())
            }
            Statement::SetOption { names, value } => {
                self.set_options(names, value);
                out.done(Verb::Other, None);
                Ok(())
            }
            Statement::If { condition, then, otherwise } => {
                if self.holds(condition, variables)? {
                    self.run_one(then, variables, out)
                } else if let Some(otherwise) = otherwise {
                    self.run_one(otherwise, variables, out)
                } else {
                    Ok(())
                }
            }
            Statement::While { condition, body } => {
                while self.holds(condition, variables)? {
                    match self.run_one(body, variables, out) {
                        Ok(()) | Err(Stop::Continue) => {}
                        Err(Stop::Break) => break,
                        other => return other,
                    }
                }
                Ok(())
            }
            Statement::Break => Err(Stop::Break),
            Statement::Continue => Err(Stop::Continue),
            Statement::Block(statements) => self.run(statements, variables, out),
            Statement::Try { body, catch } => self.try_catch(body, catch, variables, out),
            Statement::Begin => {
                self.begin(out);
                out.done(Verb::Begin, None);
                Ok(())
            }
            Statement::Commit => {
                self.commit(out)?;
                out.done(Verb::Commit, None);
                Ok(())
            }
            Statement::Rollback(name) => {
                self.rollback(name.as_deref(), out)?;
                out.done(Verb::Rollback, None);
                Ok(())
            }
            Statement::Save(name) => {
                self.save(name)?;
                out.done(Verb::Other, None);
                Ok(())
            }
            Statement::Use(name) => self.use_database(name, out),
            Statement::WaitFor(delay) => self.wait_for(delay, variables, out),
            Statement::Print(value) => {
                let value = self.evaluate(value, variables)?;
                let text = text_value(convert(value.value, value.ty, SqlType::NVarChar(Length::Of(4000)), 0)?);
                out.info(0, 1, 0, &text, 1);
                Ok(())
            }
            Statement::Execute { name, arguments } => self.execute_procedure(name, arguments, variables, out),
            Statement::ExecuteText(text) => {
                let text = text_value(self.evaluate(text, variables)?.value);
                self.nested(|session| session.run_text(&text, &mut Variables::new(), out))
            }
            Statement::Dbcc { command, target, options } => self.dbcc(command, target.as_deref(), options, out),
            Statement::Raise(parts) => self.raise(parts, variables, out),
            Statement::Throw(parts) => self.throw(parts.as_deref(), variables),
            Statement::Return => Err(Stop::Return),
            Statement::Nothing => {
                out.done(Verb::Other, None);
                Ok(())
            }
        }
    }

    fn nested(&mut self, run: impl FnOnce(&mut Self) -> Result<(), Stop>) -> Result<(), Stop> {
        if self.depth >= MAX_EXECUTE_DEPTH {
            return Err(errors::nested_too_deeply().into());
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    fn try_catch(&mut self, body: &[Located], catch: &[Located], variables: &mut Variables, out: &mut Response) -> Result<(), Stop> {
        self.trying += 1;
        let result = self.run(body, variables, out);
        self.trying -= 1;
        let error = match result {
            Err(Stop::Error(error)) => error,
            other => return other,
        };
        let before = self.caught.replace(error);
        let result = self.run(catch, variables, out);
        self.caught = before;
        result
    }

    fn raise(&mut self, parts: &[Expr; 3], variables: &Variables, out: &mut Response) -> Result<(), Stop> {
        let [text, class, state] = parts;
        let text = text_value(self.evaluate(text, variables)?.value);
        let class = self.number(class, variables)?;
        let state = u8::try_from(self.number(state, variables)?).unwrap_or(1);
        match u8::try_from(class).unwrap_or(16).min(25) {
            class @ 0..=10 => {
                out.info(50_000, state, class, &text, 1);
                Ok(())
            }
            class => Err(errors::raised(50_000, class, state, text).into()),
        }
    }

    fn throw(&mut self, parts: Option<&[Expr; 3]>, variables: &Variables) -> Result<(), Stop> {
        let Some([number, text, state]) = parts else {
            let caught = self.caught.clone().ok_or_else(|| errors::syntax("THROW"))?;
            return Err(SqlError { reach: Reach::Batch, ..caught }.into());
        };
        let number = i32::try_from(self.number(number, variables)?).unwrap_or(50_000);
        let text = text_value(self.evaluate(text, variables)?.value);
        let state = u8::try_from(self.number(state, variables)?).unwrap_or(1);
        Err(SqlError { reach: Reach::Batch, ..errors::raised(number, 16, state, text) }.into())
    }

    fn number(&mut self, expr: &Expr, variables: &Variables) -> Result<i64, Stop> {
        let value = self.evaluate(expr, variables)?;
        match convert(value.value, value.ty, SqlType::BigInt, 0)? {
            Value::Integer(number) => Ok(number),
            _ => Ok(0),
        }
    }

    fn declare(&mut self, declarations: &[Declaration], variables: &mut Variables) -> Result<(), Stop> {
        for declaration in declarations {
            variables.insert(declaration.name.to_lowercase(), TypedValue { ty: declaration.ty, value: Value::Null });
            if let Some(value) = &declaration.value {
                let value = self.evaluate(value, variables)?;
                assign(variables, &declaration.name, value)?;
            }
        }
        Ok(())
    }

    fn set_options(&mut self, names: &[String], value: &str) {
        let on = value == "ON";
        for name in names {
            match name.as_str() {
                "NOCOUNT" => self.options.no_count = on,
                "XACT_ABORT" => self.options.abort_on_error = on,
                "IMPLICIT_TRANSACTIONS" => self.options.implicit_transactions = on,
                "LOCK_TIMEOUT" => {
                    self.options.lock_wait = value.parse().map_or(LOCK_WAIT, Duration::from_millis);
                }
                // The others change nothing that is done here: they are how SQL Server behaves anyway, or not known.
                other => {
                    if let Some(table) = other.strip_prefix("IDENTITY_INSERT ") {
                        self.options.identity_insert = on.then(|| table.to_owned());
                    }
                }
            }
        }
    }

    fn wait_for(&mut self, delay: &Expr, variables: &Variables, out: &mut Response) -> Result<(), Stop> {
        let text = text_value(self.evaluate(delay, variables)?.value);
        let delay = parse_delay(&text)
            .ok_or_else(|| errors::raised(148, 15, 1, format!("Incorrect time syntax in time string '{text}' used with WAITFOR.")))?;
        let until = Instant::now() + delay;
        loop {
            match self.signal.wait(until.saturating_duration_since(Instant::now())) {
                Woken::Cancelled(why) => return Err(Stop::Cancelled(why)),
                Woken::Elapsed => break,
                Woken::Granted => {}
            }
        }
        out.done(Verb::Other, None);
        Ok(())
    }

    fn execute_procedure(&mut self, name: &str, arguments: &[Argument], variables: &mut Variables, out: &mut Response) -> Result<(), Stop> {
        if Procedure::named(name) != Procedure::ExecuteSql {
            return Err(errors::unknown_procedure(name).into());
        }
        let mut values = Vec::new();
        for argument in arguments {
            let value = self.evaluate(&argument.value, variables)?;
            values.push((argument, value));
        }
        let find = |at: usize, wanted: &str| {
            values
                .iter()
                .find(|(argument, _)| argument.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(wanted)))
                .or_else(|| values.get(at).filter(|(argument, _)| argument.name.is_none()))
                .map(|(_, value)| text_value(value.value.clone()))
        };
        let text = find(0, "@stmt").ok_or_else(|| errors::parameter_missing("sp_executesql", "@statement"))?;
        let declared = parse::parameters(&find(1, "@params").unwrap_or_default())?;
        let mut inner: Variables =
            declared.iter().map(|(name, ty)| (name.to_lowercase(), TypedValue { ty: *ty, value: Value::Null })).collect();
        let mut outputs = Vec::new();
        for (index, (argument, value)) in values.iter().enumerate().skip(2) {
            let name = match (&argument.name, declared.get(index - 2)) {
                (Some(name), _) => name.clone(),
                (None, Some((name, _))) => name.clone(),
                (None, None) => return Err(errors::parameter_missing("sp_executesql", "@params").into()),
            };
            assign(&mut inner, &name, value.clone())?;
            if argument.output
                && let Expr::Identifier(ident) = &argument.value
            {
                outputs.push((ident.value.clone(), name));
            }
        }
        self.nested(|session| session.run_text(&text, &mut inner, out))?;
        for (outer, name) in outputs {
            if let Some(value) = inner.get(&name.to_lowercase()) {
                assign(variables, &outer, value.clone())?;
            }
        }
        Ok(())
    }

    // ---- expressions and queries

    fn facts(&mut self) -> Result<Facts, Stop> {
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

    fn schema(&mut self) -> Result<Arc<Schema>, Stop> {
        let result = self.handle()?.schema();
        result.map_err(|error| self.stopped(&error))
    }

    fn handle(&mut self) -> Result<&mut Handle, Stop> {
        if self.handle.is_none() {
            let handle = self.database.connect(Some(&self.signal)).map_err(|error| errors::from_sqlite(&error))?;
            self.handle = Some(handle);
        }
        Ok(self.handle.as_mut().expect("it was just made"))
    }

    fn stopped(&self, error: &rusqlite::Error) -> Stop {
        if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
            return Stop::Cancelled(self.signal.cancelled().unwrap_or(Cancel::Gone));
        }
        Stop::Error(errors::from_sqlite(error))
    }

    fn evaluate(&mut self, expr: &Expr, variables: &Variables) -> Result<TypedValue, Stop> {
        let facts = self.facts()?;
        let mut binder = Binder::new(&facts, variables);
        let bound = binder.expr(expr, &Scope::EMPTY)?;
        let parameters = mem::take(&mut binder.parameters);
        let result = first_value(self.handle()?, &format!("SELECT {}", bound.sql), &parameters);
        let value = result.map_err(|error| self.stopped(&error))?;
        Ok(TypedValue { ty: bound.ty, value })
    }

    fn holds(&mut self, condition: &Expr, variables: &Variables) -> Result<bool, Stop> {
        Ok(matches!(self.evaluate(condition, variables)?.value, Value::Integer(number) if number != 0))
    }

    fn select(&mut self, bound: &BoundQuery, parameters: &[Value], variables: &mut Variables, out: &mut Response) -> Result<(), Stop> {
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

    fn count(&self, verb: Verb, count: i64, out: &mut Response) {
        let rows = u64::try_from(count).unwrap_or(0);
        out.done(verb, (!self.options.no_count).then_some(rows));
    }

    // ---- changes

    fn change(
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
            let result = apply(session.handle()?, &bound, &parameters, out);
            match result {
                Ok(count) => {
                    if bound.verb == Verb::Insert && count > 0 && bound.table.columns.iter().any(|column| column.identity) {
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
    fn change_failed(&mut self, error: &rusqlite::Error, change: &BoundChange, parameters: &[Value]) -> Stop {
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
    fn define(
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

    fn create_database(&mut self, name: &str, out: &mut Response) -> Result<(), Stop> {
        if self.transactions > 0 {
            return Err(errors::not_in_a_transaction("CREATE DATABASE").into());
        }
        let master = self.instance.storage.databases().into_iter().next().expect("master is always there");
        let turn = master.queue.enter(&self.signal, self.options.lock_wait).map_err(no_turn)?;
        let database = self.instance.storage.create_database(name)?;
        drop(turn);
        self.instance.log.line(&format!("spid{}", self.spid), &format!("Starting up database '{}'.", database.name));
        out.done(Verb::Other, None);
        Ok(())
    }

    fn drop_database(&mut self, name: &str, if_exists: bool, out: &mut Response) -> Result<(), Stop> {
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

    fn use_database(&mut self, name: &str, out: &mut Response) -> Result<(), Stop> {
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

    fn dbcc(&mut self, command: &str, target: Option<&str>, options: &[String], out: &mut Response) -> Result<(), Stop> {
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

    // ---- transactions

    /// Does a write: within the client's transaction, or in one of its own that is committed when this returns.
    fn write<T>(&mut self, action: impl FnOnce(&mut Self) -> Result<T, Stop>) -> Result<T, Stop> {
        if self.doomed {
            return Err(errors::doomed().into());
        }
        let own = self.transactions == 0;
        self.begin_storage()?;
        let result = action(self);
        if !own {
            return result;
        }
        match result {
            Ok(value) => {
                self.commit_storage()?;
                Ok(value)
            }
            Err(stop) => {
                self.roll_back_storage();
                Err(stop)
            }
        }
    }

    /// Waits for the turn to write and begins SQLite's transaction, unless that was done before.
    fn begin_storage(&mut self) -> Result<(), Stop> {
        if self.turn.is_some() {
            return Ok(());
        }
        let queue = Arc::clone(&self.database.queue);
        let turn = queue.enter(&self.signal, self.options.lock_wait).map_err(no_turn)?;
        let result = self.handle()?.connection.execute_batch("BEGIN IMMEDIATE");
        result.map_err(|error| self.stopped(&error))?;
        self.turn = Some(turn);
        Ok(())
    }

    /// Commits what is written, if anything is. When this returns, it is on the disk.
    fn commit_storage(&mut self) -> Result<(), Stop> {
        if self.turn.is_none() {
            return Ok(());
        }
        let result = self.handle()?.connection.execute_batch("COMMIT");
        if let Err(error) = result {
            let stop = self.stopped(&error);
            self.roll_back_storage();
            return Err(stop);
        }
        self.turn = None;
        Ok(())
    }

    fn roll_back_storage(&mut self) {
        if let Some(handle) = &mut self.handle {
            handle.forget_schema();
            // A session that is told to stop must still be able to roll back.
            handle.obey(None);
            if !handle.connection.is_autocommit() && handle.connection.execute_batch("ROLLBACK").is_err() {
                // Closing the connection rolls back, whatever is wrong with it.
                self.handle = None;
            } else {
                handle.obey(Some(Arc::clone(&self.signal)));
            }
        }
        self.turn = None;
    }

    /// Whether SQLite gave up the transaction by itself, as it does when the volume is full.
    fn transaction_is_lost(&self) -> bool {
        self.turn.is_some() && self.handle.as_ref().is_none_or(|handle| handle.connection.is_autocommit())
    }

    fn forget_transaction(&mut self, out: &mut Response) {
        self.turn = None;
        self.end_transaction(out);
    }

    fn end_transaction(&mut self, out: &mut Response) {
        if self.transactions > 0 {
            out.env_change(EnvChange::Rollback(self.descriptor));
        }
        self.transactions = 0;
        self.doomed = false;
        self.savepoints.clear();
    }

    fn begin(&mut self, out: &mut Response) {
        self.transactions += 1;
        if self.transactions == 1 {
            self.next_descriptor += 1;
            self.descriptor = self.next_descriptor;
            out.env_change(EnvChange::Begin(self.descriptor));
        }
    }

    fn begin_implicitly(&mut self, out: &mut Response) {
        if self.options.implicit_transactions && self.transactions == 0 {
            self.begin(out);
        }
    }

    fn commit(&mut self, out: &mut Response) -> Result<(), Stop> {
        if self.doomed {
            return Err(errors::doomed().into());
        }
        match self.transactions {
            0 => return Err(errors::nothing_to_commit().into()),
            1 => {}
            _ => {
                self.transactions -= 1;
                return Ok(());
            }
        }
        if let Err(stop) = self.commit_storage() {
            self.end_transaction(out);
            return Err(stop);
        }
        self.transactions = 0;
        self.savepoints.clear();
        out.env_change(EnvChange::Commit(self.descriptor));
        Ok(())
    }

    fn roll_back(&mut self, out: &mut Response) {
        self.roll_back_storage();
        self.end_transaction(out);
    }

    fn rollback(&mut self, name: Option<&str>, out: &mut Response) -> Result<(), Stop> {
        if self.transactions == 0 {
            return Err(errors::nothing_to_roll_back().into());
        }
        let Some(name) = name else {
            self.roll_back(out);
            return Ok(());
        };
        let Some(at) = self.savepoints.iter().rposition(|known| known.eq_ignore_ascii_case(name)) else {
            // The name may be that of the transaction itself, which is not kept; only an unknown savepoint within one is an error.
            if self.savepoints.is_empty() {
                self.roll_back(out);
                return Ok(());
            }
            return Err(errors::unknown_savepoint(name).into());
        };
        self.savepoints.truncate(at + 1);
        let sql = format!("ROLLBACK TO {}", savepoint(at));
        let handle = self.handle()?;
        handle.forget_schema();
        run_sql(handle, &sql)?;
        Ok(())
    }

    fn save(&mut self, name: &str) -> Result<(), Stop> {
        if self.transactions == 0 {
            return Err(errors::savepoint_without_transaction().into());
        }
        self.begin_storage()?;
        let sql = format!("SAVEPOINT {}", savepoint(self.savepoints.len()));
        run_sql(self.handle()?, &sql)?;
        self.savepoints.push(name.to_owned());
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.abandon();
        self.leave_database();
    }
}

/// A failure below: SQLite's, or one that already has a name.
enum Sent {
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

fn no_turn(why: NoTurn) -> Stop {
    match why {
        NoTurn::TimedOut => Stop::Error(errors::lock_timeout()),
        NoTurn::Cancelled(why) => Stop::Cancelled(why),
    }
}

fn savepoint(index: usize) -> String {
    quoted(&format!("$savepoint {index}"))
}

fn run_sql(handle: &Handle, sql: &str) -> Result<(), SqlError> {
    handle.connection.execute_batch(sql).map_err(|error| errors::from_sqlite(&error))
}

fn bind_all(statement: &mut rusqlite::CachedStatement<'_>, parameters: &[Value]) -> rusqlite::Result<()> {
    // What the text ended up without (an argument that made no difference) has no place to be bound to.
    let places = statement.parameter_count();
    for (index, value) in parameters.iter().take(places).enumerate() {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    Ok(())
}

fn first_value(handle: &Handle, sql: &str, parameters: &[Value]) -> rusqlite::Result<Value> {
    let mut statement = handle.connection.prepare_cached(sql)?;
    bind_all(&mut statement, parameters)?;
    let mut rows = statement.raw_query();
    match rows.next()? {
        Some(row) => Ok(owned(row.get_ref(0)?)),
        None => Ok(Value::Null),
    }
}

fn send_rows(handle: &Handle, bound: &BoundQuery, parameters: &[Value], signal: &Signal, out: &mut Response) -> Result<i64, Sent> {
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

fn assign_rows(
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

/// Runs a change; the rows of its OUTPUT are sent.
fn apply(handle: &Handle, change: &BoundChange, parameters: &[Value], out: &mut Response) -> Result<i64, Sent> {
    let mut statement = handle.connection.prepare_cached(&change.sql)?;
    bind_all(&mut statement, parameters)?;
    let Some(columns) = &change.output else {
        return Ok(i64::try_from(statement.raw_execute()?).unwrap_or(i64::MAX));
    };
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
fn duplicate_key(handle: &Handle, change: &BoundChange, parameters: &[Value], columns: &[String]) -> Option<String> {
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
fn integrity(handle: &Handle) -> rusqlite::Result<Vec<String>> {
    let mut statement = handle.connection.prepare("PRAGMA integrity_check(100)")?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

fn assign(variables: &mut Variables, name: &str, value: TypedValue) -> Result<(), SqlError> {
    let variable = variables.get_mut(&name.to_lowercase()).ok_or_else(|| errors::unknown_variable(name))?;
    variable.value = convert(value.value, value.ty, variable.ty, 0)?;
    Ok(())
}

fn text_value(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Null | Value::Blob(_) => String::new(),
    }
}

fn text_of(parameter: Option<&Parameter>) -> Option<String> {
    match &parameter?.value.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn number_of(parameter: Option<&Parameter>) -> Option<i64> {
    match parameter?.value.value {
        Value::Integer(number) => Some(number),
        _ => None,
    }
}

fn return_handle(handle: i64, parameters: &[Parameter], out: &mut Response) -> Result<(), Stop> {
    let name = parameters.first().map(|parameter| parameter.name.as_str()).unwrap_or_default();
    out.return_value(0, name, &TypedValue { ty: SqlType::Int, value: Value::Integer(handle) })?;
    Ok(())
}

/// `hh:mm:ss.mmm`, less than a day.
fn parse_delay(text: &str) -> Option<Duration> {
    use chrono::{NaiveTime, Timelike};
    let text = text.trim();
    let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").or_else(|_| NaiveTime::parse_from_str(text, "%H:%M")).ok()?;
    Some(Duration::new(time.num_seconds_from_midnight().into(), time.nanosecond() % 1_000_000_000))
}
