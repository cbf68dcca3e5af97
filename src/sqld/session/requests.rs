//! Requests: batches, remote procedure calls, and the transaction manager.

use rusqlite::types::Value;

use super::{Session, Stop};
use crate::sqld::{
    convert::convert,
    errors::{self, Reach, SqlError},
    rpc::{self, Call, Parameter, Procedure, TransactionRequest},
    token::Response,
    tsql::{bind::Variables, parse},
    types::{SqlType, TypedValue, utf16},
};

impl Session {
    pub(super) fn batch(&mut self, body: &[u8], out: &mut Response) -> Result<(), Stop> {
        let Some(text) = rpc::without_headers(body) else {
            let error = errors::malformed_request("headers of a batch");
            self.report(&error, 1, out);
            out.batch_done();
            return Err(Stop::Aborted { fatal: true });
        };
        let result = self.run_text(&utf16(text), &mut Variables::new(), out);
        let result = self.leave_nothing_doomed(result, out);
        if !matches!(result, Err(Stop::Cancelled(_) | Stop::Gone)) {
            out.batch_done();
        }
        result
    }

    /// No batch leaves a transaction behind that can only be rolled back. To be asked before the batch's last DONE is written: what comes
    /// after that, a client takes for the answer to its next request.
    fn leave_nothing_doomed(&mut self, result: Result<(), Stop>, out: &mut Response) -> Result<(), Stop> {
        if !self.doomed {
            return result;
        }
        self.roll_back(out);
        match result {
            Ok(()) => {
                self.report(&errors::transaction_lost(), 1, out);
                Err(Stop::Aborted { fatal: false })
            }
            Err(Stop::Aborted { fatal }) => {
                // Its error is told; the last DONE is still to be that of an error.
                out.failed();
                Err(Stop::Aborted { fatal })
            }
            other => other,
        }
    }

    /// Reads and runs a text; errors are reported.
    pub(super) fn run_text(&mut self, text: &str, variables: &mut Variables, out: &mut Response) -> Result<(), Stop> {
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

    pub(super) fn calls(&mut self, body: &[u8], out: &mut Response) -> Result<(), Stop> {
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
            let result = self.scoped(out, |session, out| session.call(call, out));
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

    pub(super) fn call(&mut self, call: &Call, out: &mut Response) -> Result<(), Stop> {
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

    pub(super) fn execute_sql(&mut self, parameters: &[Parameter], out: &mut Response) -> Result<(), Stop> {
        let text = text_of(parameters.first()).ok_or_else(|| errors::parameter_missing("sp_executesql", "@statement"))?;
        let declared = text_of(parameters.get(1)).unwrap_or_default();
        let values = parameters.get(2..).unwrap_or_default();
        self.run_declared(&text, &declared, values, 2, out)
    }

    /// Runs a text with declared parameters and returns the outputs.
    pub(super) fn run_declared(
        &mut self,
        text: &str,
        declared: &str,
        values: &[Parameter],
        first: usize,
        out: &mut Response,
    ) -> Result<(), Stop> {
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
        let result = self.run_text(text, &mut variables, out);
        self.leave_nothing_doomed(result, out)?;
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

    pub(super) fn keep_prepared(&mut self, parameters: &[Parameter]) -> Result<i64, SqlError> {
        let declared = text_of(parameters.get(1)).unwrap_or_default();
        let text = text_of(parameters.get(2)).ok_or_else(|| errors::parameter_missing("sp_prepare", "@stmt"))?;
        parse::batch(&text)?;
        let handle = self.next_handle;
        self.next_handle += 1;
        self.prepared.insert(handle, (text, declared));
        Ok(handle)
    }

    pub(super) fn prepare(&mut self, parameters: &[Parameter], out: &mut Response) -> Result<(), Stop> {
        let handle = self.keep_prepared(parameters)?;
        out.return_status(0);
        return_handle(handle, parameters, out)
    }

    pub(super) fn prepare_and_execute(&mut self, parameters: &[Parameter], out: &mut Response) -> Result<(), Stop> {
        let handle = self.keep_prepared(parameters)?;
        let (text, declared) = self.prepared[&handle].clone();
        self.run_declared(&text, &declared, parameters.get(3..).unwrap_or_default(), 3, out)?;
        return_handle(handle, parameters, out)
    }

    pub(super) fn execute_prepared(&mut self, parameters: &[Parameter], out: &mut Response) -> Result<(), Stop> {
        let handle = number_of(parameters.first()).ok_or_else(|| errors::parameter_missing("sp_execute", "@handle"))?;
        let (text, declared) = self.prepared.get(&handle).cloned().ok_or_else(|| errors::unknown_prepared_statement(handle))?;
        self.run_declared(&text, &declared, parameters.get(1..).unwrap_or_default(), 1, out)
    }

    pub(super) fn unprepare(&mut self, parameters: &[Parameter], out: &mut Response) -> Result<(), Stop> {
        let handle = number_of(parameters.first()).ok_or_else(|| errors::parameter_missing("sp_unprepare", "@handle"))?;
        self.prepared.remove(&handle).ok_or_else(|| errors::unknown_prepared_statement(handle))?;
        out.return_status(0);
        Ok(())
    }

    pub(super) fn transaction(&mut self, body: &[u8], out: &mut Response) -> Result<(), Stop> {
        let result = rpc::parse_transaction(body).map_err(Stop::from).and_then(|request| match request {
            TransactionRequest::Begin(name) => {
                self.begin(name.as_deref(), out);
                Ok(())
            }
            TransactionRequest::Commit { then_begin } => {
                self.commit(out)?;
                if then_begin {
                    self.begin(None, out);
                }
                Ok(())
            }
            TransactionRequest::Rollback { savepoint, then_begin } => {
                self.rollback(savepoint.as_deref(), out)?;
                if then_begin {
                    self.begin(None, out);
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
}

pub(super) fn text_of(parameter: Option<&Parameter>) -> Option<String> {
    match &parameter?.value.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

pub(super) fn number_of(parameter: Option<&Parameter>) -> Option<i64> {
    match parameter?.value.value {
        Value::Integer(number) => Some(number),
        _ => None,
    }
}

pub(super) fn return_handle(handle: i64, parameters: &[Parameter], out: &mut Response) -> Result<(), Stop> {
    let name = parameters.first().map(|parameter| parameter.name.as_str()).unwrap_or_default();
    out.return_value(0, name, &TypedValue { ty: SqlType::Int, value: Value::Integer(handle) })?;
    Ok(())
}
