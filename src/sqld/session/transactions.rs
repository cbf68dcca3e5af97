//! Transactions: the client's, and the one of SQLite that carries it once it writes.

use std::sync::Arc;

use super::{Session, Stop, changes::run_sql};
use crate::sqld::{
    errors,
    schema::quoted,
    token::{EnvChange, Response},
    write_queue::NoTurn,
};

impl Session {
    /// Does a write: within the client's transaction, or in one of its own that is committed when this returns.
    pub(super) fn write<T>(&mut self, action: impl FnOnce(&mut Self) -> Result<T, Stop>) -> Result<T, Stop> {
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
    pub(super) fn begin_storage(&mut self) -> Result<(), Stop> {
        if self.transaction_is_lost() {
            // What is written now would be committed at once, whatever the client says later.
            return Err(errors::transaction_lost().into());
        }
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
    pub(super) fn commit_storage(&mut self) -> Result<(), Stop> {
        if self.turn.is_none() {
            return Ok(());
        }
        let wrong = self.instance.conditions.now();
        if wrong.full {
            self.roll_back_storage();
            return Err(errors::volume_full().into());
        }
        // The turn is held meanwhile: a slow disk flushes one log after the other.
        std::thread::sleep(wrong.late());
        let result = self.handle()?.connection.execute_batch("COMMIT");
        if let Err(error) = result {
            let stop = self.stopped(&error);
            self.roll_back_storage();
            return Err(stop);
        }
        self.turn = None;
        Ok(())
    }

    pub(super) fn roll_back_storage(&mut self) {
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

    /// Whether SQLite gave up the transaction by itself, as it does when the volume is full or a write is interrupted.
    pub(super) fn transaction_is_lost(&self) -> bool {
        self.turn.is_some() && self.handle.as_ref().is_none_or(|handle| handle.connection.is_autocommit())
    }

    pub(super) fn forget_transaction(&mut self, out: &mut Response) {
        self.turn = None;
        self.end_transaction(out);
    }

    pub(super) fn end_transaction(&mut self, out: &mut Response) {
        if self.transactions > 0 {
            out.env_change(EnvChange::Rollback(self.descriptor));
        }
        self.transactions = 0;
        self.doomed = false;
        self.savepoints.clear();
    }

    pub(super) fn begin(&mut self, name: Option<&str>, out: &mut Response) {
        self.transactions += 1;
        if self.transactions == 1 {
            self.transaction_name = name.map(ToOwned::to_owned);
            self.next_descriptor += 1;
            self.descriptor = self.next_descriptor;
            out.env_change(EnvChange::Begin(self.descriptor));
        }
    }

    pub(super) fn begin_implicitly(&mut self, out: &mut Response) {
        if self.options.implicit_transactions && self.transactions == 0 {
            self.begin(None, out);
        }
    }

    pub(super) fn commit(&mut self, out: &mut Response) -> Result<(), Stop> {
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

    pub(super) fn roll_back(&mut self, out: &mut Response) {
        self.roll_back_storage();
        self.end_transaction(out);
    }

    pub(super) fn rollback(&mut self, name: Option<&str>, out: &mut Response) -> Result<(), Stop> {
        if self.transactions == 0 {
            return Err(errors::nothing_to_roll_back().into());
        }
        let Some(name) = name else {
            self.roll_back(out);
            return Ok(());
        };
        let Some(at) = self.savepoints.iter().rposition(|known| known.eq_ignore_ascii_case(name)) else {
            if self.transaction_name.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(name)) {
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

    pub(super) fn save(&mut self, name: &str) -> Result<(), Stop> {
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

pub(super) fn no_turn(why: NoTurn) -> Stop {
    match why {
        NoTurn::TimedOut => Stop::Error(errors::lock_timeout()),
        NoTurn::Cancelled(why) => Stop::Cancelled(why),
    }
}

pub(super) fn savepoint(index: usize) -> String {
    quoted(&format!("$savepoint {index}"))
}
