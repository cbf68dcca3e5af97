//! Statements, one after the other: control flow, variables, options, and what becomes of an error.

use std::{
    mem,
    time::{Duration, Instant},
};

use rusqlite::types::Value;
use sqlparser::ast::Expr;

use super::{
    LOCK_WAIT, MAX_EXECUTE_DEPTH, Session, Stop,
    rows::{assign, text_value},
};
use crate::sqld::{
    convert::convert,
    errors::{self, Reach, SqlError},
    rpc::Procedure,
    signal::Woken,
    token::{Response, Verb},
    tsql::{
        bind::{Binder, Variables},
        parse::{self, Argument, Declaration, Located, Statement},
    },
    types::{Length, SqlType, TypedValue},
};

impl Session {
    pub(super) fn run(&mut self, statements: &[Located], variables: &mut Variables, out: &mut Response) -> Result<(), Stop> {
        statements.iter().try_for_each(|located| self.run_one(located, variables, out))
    }

    pub(super) fn run_one(&mut self, located: &Located, variables: &mut Variables, out: &mut Response) -> Result<(), Stop> {
        if let Some(why) = self.signal.cancelled() {
            return Err(Stop::Cancelled(why));
        }
        // Messages pile up as rows do.
        out.flush_full()?;
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
        let rolls_back =
            lost || error.reach == Reach::Transaction || error.class >= 20 || self.options.abort_on_error && error.reach != Reach::Nothing;
        let ends_batch = rolls_back || matches!(error.reach, Reach::Batch | Reach::Connection);
        if self.trying > 0 && error.reach != Reach::Connection {
            self.last_error = error.number;
            self.doomed |= self.transactions > 0 && rolls_back;
            return Err(Stop::Error(error));
        }
        if rolls_back {
            self.roll_back(out);
        }
        // After the end of the transaction, so that the last DONE is that of the error.
        self.report(&error, located.line, out);
        if matches!(error.number, 515 | 547 | 2601 | 2627 | 2628 | 8115 | 8134) && !ends_batch {
            out.info(3621, 0, 0, "The statement has been terminated.", located.line);
            out.failed();
        }
        if !ends_batch {
            return Ok(());
        }
        Err(Stop::Aborted { fatal: error.reach == Reach::Connection })
    }

    pub(super) fn report(&mut self, error: &SqlError, line: u32, out: &mut Response) {
        self.last_error = error.number;
        self.rows = 0;
        out.error(error, line);
        if error.number == 300 {
            // SQL Server says it twice.
            out.error(&errors::no_permission(), line);
        }
        out.failed();
    }

    pub(super) fn execute(&mut self, statement: &Statement, variables: &mut Variables, out: &mut Response) -> Result<(), Stop> {
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
            Statement::CreateTable(create) => self.create_table(create, variables, out),
            Statement::CreateIndex(create) => self.create_index(create, variables, out),
            Statement::DropTable { names, if_exists } => self.drop_tables(names, *if_exists, variables, out),
            Statement::CreateDatabase(name) => self.create_database(name, out),
            Statement::DropDatabase { name, if_exists } => self.drop_database(name, *if_exists, out),
            Statement::Declare(declarations) => self.declare(declarations, variables),
            Statement::Assign { name, value } => {
                let value = self.evaluate(value, variables)?;
                assign(variables, name, value)?;
                Ok(())
            }
            Statement::SetOption { names, value } => {
                self.set_options(names, value)?;
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
            Statement::Begin(name) => {
                self.begin(name.as_deref(), out);
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
                self.nested(out, |session, out| session.run_text(&text, &mut Variables::new(), out))
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

    /// Runs a text within a text.
    pub(super) fn nested(
        &mut self,
        out: &mut Response,
        run: impl FnOnce(&mut Self, &mut Response) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        if self.depth >= MAX_EXECUTE_DEPTH {
            return Err(errors::nested_too_deeply().into());
        }
        self.depth += 1;
        let result = self.scoped(out, run);
        self.depth -= 1;
        result
    }

    /// Runs what has options of its own: what it sets is as it was before once it has ended.
    pub(super) fn scoped(
        &mut self,
        out: &mut Response,
        run: impl FnOnce(&mut Self, &mut Response) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let before = self.options.clone();
        let result = run(self, out);
        if self.options.abort_on_error && self.transactions > 0 && matches!(result, Err(Stop::Cancelled(_))) {
            // What the attention does is settled by the option that was in force when it came.
            self.roll_back(out);
        }
        self.options = before;
        result
    }

    pub(super) fn try_catch(
        &mut self,
        body: &[Located],
        catch: &[Located],
        variables: &mut Variables,
        out: &mut Response,
    ) -> Result<(), Stop> {
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

    pub(super) fn raise(&mut self, parts: &[Expr; 3], variables: &Variables, out: &mut Response) -> Result<(), Stop> {
        let [text, class, state] = parts;
        let text = text_value(self.evaluate(text, variables)?.value);
        let class = self.number(class, variables)?;
        let state = u8::try_from(self.number(state, variables)?).unwrap_or(1);
        match u8::try_from(class).unwrap_or(16).min(25) {
            class @ 0..=10 => {
                out.info(50_000, state, class, &text, 1);
                Ok(())
            }
            class => {
                let reach = if class >= 20 { Reach::Connection } else { Reach::Nothing };
                Err(SqlError { reach, ..errors::raised(50_000, class, state, text) }.into())
            }
        }
    }

    pub(super) fn throw(&mut self, parts: Option<&[Expr; 3]>, variables: &Variables) -> Result<(), Stop> {
        let Some([number, text, state]) = parts else {
            let caught = self.caught.clone().ok_or_else(|| errors::syntax("THROW"))?;
            return Err(SqlError { reach: Reach::Batch, ..caught }.into());
        };
        let number = i32::try_from(self.number(number, variables)?).unwrap_or(50_000);
        let text = text_value(self.evaluate(text, variables)?.value);
        let state = u8::try_from(self.number(state, variables)?).unwrap_or(1);
        Err(SqlError { reach: Reach::Batch, ..errors::raised(number, 16, state, text) }.into())
    }

    pub(super) fn number(&mut self, expr: &Expr, variables: &Variables) -> Result<i64, Stop> {
        let value = self.evaluate(expr, variables)?;
        match convert(value.value, value.ty, SqlType::BigInt, 0)? {
            Value::Integer(number) => Ok(number),
            _ => Ok(0),
        }
    }

    pub(super) fn declare(&mut self, declarations: &[Declaration], variables: &mut Variables) -> Result<(), Stop> {
        for declaration in declarations {
            variables.insert(declaration.name.to_lowercase(), TypedValue { ty: declaration.ty, value: Value::Null });
            if let Some(value) = &declaration.value {
                let value = self.evaluate(value, variables)?;
                assign(variables, &declaration.name, value)?;
            }
        }
        Ok(())
    }

    pub(super) fn set_options(&mut self, names: &[String], value: &str) -> Result<(), SqlError> {
        let on = value == "ON";
        for name in names {
            match name.as_str() {
                "NOCOUNT" => self.options.no_count = on,
                "XACT_ABORT" => self.options.abort_on_error = on,
                "IMPLICIT_TRANSACTIONS" => self.options.implicit_transactions = on,
                "LOCK_TIMEOUT" => {
                    self.options.lock_wait = value.parse().map_or(LOCK_WAIT, Duration::from_millis);
                }
                other => match other.strip_prefix("IDENTITY_INSERT ") {
                    Some(table) => self.options.identity_insert = on.then(|| table.to_owned()),
                    None if asks_for_nothing(other, value) => {}
                    None => return Err(errors::unsupported(format!("SET {other} {value}"))),
                },
            }
        }
        Ok(())
    }

    pub(super) fn wait_for(&mut self, delay: &Expr, variables: &Variables, out: &mut Response) -> Result<(), Stop> {
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

    pub(super) fn execute_procedure(
        &mut self,
        name: &str,
        arguments: &[Argument],
        variables: &mut Variables,
        out: &mut Response,
    ) -> Result<(), Stop> {
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
                (Some(name), _) | (None, Some((name, _))) => name.clone(),
                (None, None) => return Err(errors::parameter_missing("sp_executesql", "@params").into()),
            };
            assign(&mut inner, &name, value.clone())?;
            if argument.output
                && let Expr::Identifier(ident) = &argument.value
            {
                outputs.push((ident.value.clone(), name));
            }
        }
        self.nested(out, |session, out| session.run_text(&text, &mut inner, out))?;
        for (outer, name) in outputs {
            if let Some(value) = inner.get(&name.to_lowercase()) {
                assign(variables, &outer, value.clone())?;
            }
        }
        Ok(())
    }
}

/// Whether an option changes nothing that is done here, or asks for what is done anyway. Clients send many of these when they connect.
fn asks_for_nothing(option: &str, value: &str) -> bool {
    match option {
        "ANSI_NULLS" | "ANSI_NULL_DFLT_ON" | "ANSI_PADDING" | "ANSI_WARNINGS" | "CONCAT_NULL_YIELDS_NULL" => value == "ON",
        "ANSI_DEFAULTS" | "ANSI_NULL_DFLT_OFF" | "FMTONLY" | "FORCEPLAN" | "NOEXEC" | "NUMERIC_ROUNDABORT" | "PARSEONLY"
        | "SHOWPLAN_ALL" | "SHOWPLAN_TEXT" | "SHOWPLAN_XML" => value == "OFF",
        "ROWCOUNT" => value == "0",
        "DATEFORMAT" => value == "MDY",
        "LANGUAGE" => value.eq_ignore_ascii_case("us_english"),
        "ISOLATION LEVEL" => value == "READ COMMITTED" || value == "READ UNCOMMITTED",
        // Text in double quotes is always a name; where it should be a value, it is refused as an unknown name.
        "ARITHABORT"
        | "CONTEXT_INFO"
        | "CURSOR_CLOSE_ON_COMMIT"
        | "DATEFIRST"
        | "DEADLOCK_PRIORITY"
        | "QUERY_GOVERNOR_COST_LIMIT"
        | "QUOTED_IDENTIFIER"
        | "STATISTICS"
        | "TEXTSIZE" => true,
        _ => false,
    }
}

/// `hh:mm:ss.mmm`, less than a day.
pub(super) fn parse_delay(text: &str) -> Option<Duration> {
    use chrono::{NaiveTime, Timelike};
    let text = text.trim();
    let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").or_else(|_| NaiveTime::parse_from_str(text, "%H:%M")).ok()?;
    Some(Duration::new(time.num_seconds_from_midnight().into(), time.nanosecond() % 1_000_000_000))
}
