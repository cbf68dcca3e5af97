//! Steps 2 and 7 of a trial: the rows, as they are before anything is broken and when all of it is over.

use super::{Stop, Trial};
use crate::{
    cluster::chain,
    event::{Answer, EventKind, Side, Step, TABLES, TableRead},
    prober::{ProberError, TableEnd, message::OpenTrial},
    workload::{Tables, final_read::Reading},
};

impl Trial<'_> {
    /// Step 2.
    pub(super) async fn rows_before(&mut self) -> Result<(), Stop> {
        self.step(Step::RowsBefore).await;
        let open = OpenTrial {
            run: self.run.to_owned(),
            number: self.number,
            host: self.address.host.clone(),
            port: self.address.port,
            user: self.address.user.clone(),
            application: format!("comeback {}", self.run),
            load_application: format!("comeback load {}", self.run),
        };
        self.ask(self.prober.open(open)).await?;
        let mark = uuid::Uuid::new_v4().to_string();
        self.ask(self.prober.create_tables(&mark, self.platform.defaults().start_within)).await?;
        self.unless_stopped(self.describe_engine()).await?;
        let snapshot = self.unless_stopped(self.snapshot()).await?;
        if let Answer::Unavailable(why) = &snapshot.server_start {
            let text = format!("The server does not tell when it started ({why}): its lives are told apart by pod and container alone");
            self.recorder.record(None, EventKind::Warning(text)).await;
        }
        self.say(EventKind::Snapshot(Side::Before, Box::new(snapshot))).await;
        let load = self.plan.scenario.load.clone();
        self.ask(self.prober.write_rows_before(&load)).await?;
        self.read(Side::Before).await
    }

    /// Step 7.
    pub(super) async fn rows_after(&mut self) -> Result<(), Stop> {
        self.step(Step::RowsAfter).await;
        let settled = match self.unless_stopped(self.prober.settle()).await? {
            Ok(settled) => settled,
            Err(error) => Answer::Unavailable(error.to_string()),
        };
        if let Answer::Unavailable(why) = &settled {
            let text = format!("Whether writes in doubt were applied is not settled: {why}");
            self.recorder.record(None, EventKind::Warning(text)).await;
        }
        self.say(EventKind::Settled(settled)).await;
        let read = self.read(Side::After).await;
        let snapshot = self.unless_stopped(self.snapshot()).await?;
        self.say(EventKind::Snapshot(Side::After, Box::new(snapshot))).await;
        read
    }

    /// Reads both tables, whatever came before; a server that no longer has them has told, too.
    async fn read(&mut self, side: Side) -> Result<(), Stop> {
        let ledger = self.recorder.history().await.trials.swap_remove(self.number as usize - 1).ledger;
        let trial = Tables::new(self.run, self.number).trial;
        let label = (self.plan.scenario.name.as_str(), self.plan.number);
        let file = match side {
            Side::Before => &mut *self.rows_before,
            Side::After => &mut *self.rows_after,
        };
        let prober = self.prober;
        let reading = async {
            let mut reads = Vec::with_capacity(TABLES.len());
            for table in TABLES {
                let mut reading = Reading::new(table, &trial, &ledger, label, file);
                let end = prober.read_table(table, |row| reading.push(row).map_err(|error| chain(&error))).await;
                // Also what came before a read broke off.
                let read = reading.finish().map_err(|error| ProberError::Work(chain(&error)));
                match end? {
                    TableEnd::Read => reads.push(read?),
                    TableEnd::Gone => {
                        return Ok(TABLES.map(|table| TableRead { table: table.to_owned(), ..TableRead::default() }).to_vec());
                    }
                }
            }
            Ok::<_, ProberError>(reads)
        };
        let result = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Err(Stop::Interrupted),
            result = reading => result,
        };
        match result {
            Ok(reads) => {
                for read in reads {
                    self.say(EventKind::TableRead(side, Box::new(read))).await;
                }
            }
            Err(error) => self.say(EventKind::TableReadFailed(side, error.to_string())).await,
        }
        Ok(())
    }
}
