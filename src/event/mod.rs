//! The record of a run: what happened, in the order in which the recorder saw it.
//!
//! `run.ndjson` holds one [`Event`] a line and is the only record: every measure, every verdict and every report is a pure function of it.
//! Each event carries the wall clock and the monotonic clock, read together; every duration is computed from the monotonic one, and the
//! wall clock is only ever shown.
//!
//! The types here are facts, without behaviour and without opinion. To add an event: give it a variant in [`EventKind`]; the compiler
//! leads you to `measure::history`, where it is folded, and nothing else needs to know it.

mod clock;
mod seq_set;

use std::{collections::BTreeMap, fmt, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use self::{
    clock::{Clock, Moment},
    seq_set::SeqSet,
};
use crate::{
    result::{Engine, Platform},
    scenario::{Assist, Scenario},
};

/// The version of the form of `run.ndjson`; the first event carries it.
pub const EVENTS_SCHEMA: &str = "comeback/events/v1";

/// One line of `run.ndjson`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The wall clock when it was recorded.
    pub at: DateTime<Utc>,
    /// The monotonic clock when it was recorded.
    pub t: Moment,
    /// Which trial of the run it belongs to, from 1; `None`: the run itself.
    pub trial: Option<u32>,
    /// What happened.
    pub event: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The first event: what is going to be done.
    RunStarted(Box<RunStarted>),
    /// The cluster stands and has told what it is.
    PlatformReady(Platform),
    /// The database has told what it is.
    EngineSeen(Engine),
    /// The trial is not made, and why: this place cannot do what its faults need.
    Skipped(String),
    /// A trial began.
    TrialStarted,
    /// The trial reached this step.
    Step(Step),
    /// A snapshot of cluster and server was taken.
    Snapshot(Side, Box<Snapshot>),
    /// Writes whose outcome is known by now.
    Ledger(LedgerEntry),
    /// A table was read from end to end.
    TableRead(Side, Box<TableRead>),
    /// The table could not be read.
    TableReadFailed(Side, String),
    /// An attempt of a probe stream ended, or was dropped.
    Attempt(Box<Attempt>),
    /// The fault with this index in the scenario was given its victim.
    FaultResolved(usize, Box<Victim>),
    /// The call that injects it is about to be sent.
    FaultCalled(usize),
    /// The call returned without an error; what it reported.
    FaultReturned(usize, String),
    /// What the fault hits was looked at.
    Witnessed(usize, Witness),
    /// It was seen, in the cluster, to be in force.
    FaultConfirmed(usize, String),
    /// It could not be injected.
    FaultFailed(usize, String),
    /// The recovery from the fault with this index got help, as an operator would give it.
    Assisted(usize, Assisted),
    /// The scenario wants what the fault with this index broke to be put right now, while the recovery goes on; what is done, for people.
    Restoring(usize, String),
    /// What was seen before the faults of this trial, and will keep the database from coming back.
    Foreseen(String),
    /// What was seen in the cluster when the service did not come, or did not come back, and keeps it away.
    Hindrance(String),
    /// An acknowledged row of the headline stream was looked up on another connection.
    ReadBack(ReadBack),
    /// The prober's clock was compared with the runner's, at the beginning or the end of the trial. Without it the two are one.
    TimesCompared(Side, TimeBound),
    /// A watch on the cluster told of a change.
    Seen(Sighting),
    /// The service was waited for until every probe had succeeded for long enough, in this step: whether it came to that.
    Stable(Step, bool),
    /// Whether every session of the writers and probes was seen to have ended before the final read; else why nobody knows.
    Settled(Answer<()>),
    /// An entry of the undo journal was done, or could not be; a later try may tell otherwise.
    Undone(Undone),
    /// Something went wrong in a trial that is neither a fault of the scenario nor a law.
    TrialError(String),
    /// The trial came to its end (or was cut short: then the run is interrupted).
    TrialFinished(TrialEnd),
    /// Something went wrong outside any trial.
    RunError(String),
    /// A reader of the report must know this.
    Warning(String),
    /// This is still in place, and how to remove it.
    LeftInPlace(String),
    /// The run came to its end.
    RunFinished(RunEnd),
}

/// What is going to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunStarted {
    /// [`EVENTS_SCHEMA`].
    pub schema: String,
    /// The id of the run.
    pub run: String,
    /// The version of `comeback`.
    pub comeback: String,
    /// The seed of every random choice.
    pub seed: u64,
    /// Where it is to run.
    pub platform: Platform,
    /// The trials, in order; the first is trial 1.
    pub trials: Vec<PlannedTrial>,
}

/// A trial that is going to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedTrial {
    /// Which file the scenario stands in.
    pub path: String,
    /// The scenario.
    pub scenario: Scenario,
    /// Which trial of that scenario, from 1.
    pub number: u32,
    /// What the scenario leaves to the platform, as resolved.
    pub settings: Settings,
}

/// What a scenario leaves to the platform, as resolved for a trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How long every probe must succeed before the first fault.
    pub steady_for: Duration,
    /// How long every probe must succeed before the recovery counts as stable.
    pub stable_for: Duration,
    /// How long after the last fault the run waits for that.
    pub give_up_after: Duration,
    /// The limit of the recovery time, if the scenario has one for this platform.
    pub recovery_within: Option<Duration>,
    /// How long a fault lasts that does, unless it says otherwise.
    #[serde(default)]
    pub lasting: Duration,
}

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialEnd {
    /// All its steps were taken, or one could not be; the events say which.
    Completed,
    /// The user stopped it.
    Interrupted,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEnd {
    /// Every planned trial had its turn.
    Completed,
    /// The user stopped it.
    Interrupted,
}

/// The steps of a trial, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A fresh pod is made, so that no back-off is carried over from the trial before.
    FreshPod,
    /// The first rows are written and read.
    RowsBefore,
    /// The streams run until the service is steady.
    SteadyState,
    /// The faults are injected.
    Faults,
    /// The streams run until the service is stable again.
    Recovery,
    /// What the faults did is undone.
    Undo,
    /// The streams run until the service is stable after the undo.
    AfterUndo,
    /// The rows are read.
    RowsAfter,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FreshPod => "fresh pod",
            Self::RowsBefore => "rows before",
            Self::SteadyState => "steady state",
            Self::Faults => "faults",
            Self::Recovery => "recovery",
            Self::Undo => "undo",
            Self::AfterUndo => "after undo",
            Self::RowsAfter => "rows after",
        })
    }
}

/// Before the first fault, or after the recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Before the first fault.
    Before,
    /// After the recovery.
    After,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}

/// The writer number of the headline probe stream; the load's writers count from 1.
pub const PROBE_WRITER: u32 = 0;

/// The tables that hold rows: one with a primary key, one without.
pub const TABLES: [&str; 2] = ["keyed", "heap"];

/// Which row of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// Who wrote it; [`PROBE_WRITER`] is the headline probe stream.
    pub writer: u32,
    /// Its number among those of the writer.
    pub seq: u64,
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writer {} seq {}", self.writer, self.seq)
    }
}

/// An answer that a server or a cluster gave, or why it gave none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer<T> {
    /// It told.
    Known(T),
    /// It has no such thing, or we may not see it.
    Unavailable(String),
}

impl<T> Answer<T> {
    /// The answer, if there was one.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unavailable(_) => None,
        }
    }
}

/// The cluster and the server at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The pod that runs the database.
    pub pod: Answer<PodFacts>,
    /// The service that clients use.
    pub service: Answer<ServiceFacts>,
    /// The volume that the pod mounts.
    pub volume: Answer<VolumeFacts>,
    /// `sqlserver_start_time`.
    pub server_start: Answer<String>,
    /// The mark that was stored in the database when the trial began, as the server returns it; `Known(None)`: the server answers, and the
    /// mark, its table or the whole database is not there.
    pub volume_mark: Answer<Option<String>>,
}

/// What is known of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Where it runs.
    pub node: Option<String>,
    /// Its phase.
    pub phase: String,
    /// Whether its deletion was asked for.
    pub terminating: bool,
    /// Whether its Ready condition holds.
    pub ready: bool,
    /// The id of the database's container.
    pub container_id: Option<String>,
    /// How often that container was restarted.
    pub restart_count: i32,
    /// Whether that container runs now.
    pub running: bool,
    /// How the last container ended, e.g. `Error, exit code 137`.
    pub last_end: Option<String>,
}

/// What is known of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceFacts {
    /// Its uid.
    pub uid: String,
    /// Its address.
    pub cluster_ip: String,
    /// Its port.
    pub port: u16,
}

/// What is known of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeFacts {
    /// The name of the claim that the pod mounts.
    pub claim: String,
    /// The claim's uid.
    pub claim_uid: String,
    /// The name of the volume that the claim is bound to.
    pub volume: String,
    /// The volume's uid.
    pub volume_uid: String,
}

/// The life of a server: its start time, as it filled it in itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation(pub String);

/// A run of writes with one outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerEntry {
    /// Which writer; 0 is the headline probe stream, whose rows stand in its [`Attempt`]s.
    pub writer: u32,
    /// The first sequence number.
    pub from: u64,
    /// The last sequence number.
    pub to: u64,
    /// What became of them.
    pub outcome: Outcome,
    /// What the server filled in as its start time, for those acknowledged.
    pub incarnation: Option<Incarnation>,
    /// The last error, for those not acknowledged.
    pub error: Option<String>,
}

/// What the client knows of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The server said that it is committed.
    Acknowledged,
    /// It was certainly not applied: nothing was sent, or the server proved a rollback.
    Refused,
    /// Nobody knows: it broke off after the first byte had been sent.
    InDoubt,
}

impl Outcome {
    /// The word, as it stands in the reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Refused => "refused",
            Self::InDoubt => "in_doubt",
        }
    }
}

/// A table, as it was read from end to end and compared with the function that makes rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableRead {
    /// Which table: `keyed` or `heap`.
    pub table: String,
    /// How many rows it returned.
    pub rows: u64,
    /// Which rows, per writer; a row with a wrong checksum is one of them.
    pub found: BTreeMap<u32, SeqSet>,
    /// Rows that came more than once, each counted as often as it was too many.
    pub duplicate: Tally,
    /// Rows whose columns do not fit each other, or do not fit what was written.
    pub corrupt: Tally,
    /// Acknowledged rows that the server ordered before an earlier one of the same writer.
    pub misordered: Tally,
    /// The SHA-256 of the rows as they stand in the CSV file, in hexadecimal.
    pub sha256: String,
}

/// A count with a few examples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// How many.
    pub count: u64,
    /// The first few, in words.
    pub examples: Vec<String>,
}

impl Tally {
    /// How many examples are kept.
    pub const EXAMPLES: usize = 10;

    /// Counts one more.
    pub fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < Self::EXAMPLES {
            self.examples.push(example());
        }
    }
}

/// One attempt of a probe stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// Which stream.
    pub stream: Stream,
    /// Which attempt of the stream, from 0; the sequence number of its row.
    pub number: u64,
    /// When it was due.
    pub scheduled: Moment,
    /// When it started and ended, and how; `None`: it was dropped, because too many were in flight.
    pub run: Option<AttemptRun>,
}

/// An attempt that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptRun {
    /// When it started.
    pub started: Moment,
    /// When its outcome was known.
    pub ended: Moment,
    /// What became of it.
    pub outcome: Outcome,
    /// What the server filled in as its start time.
    pub incarnation: Option<Incarnation>,
    /// Why it failed.
    pub error: Option<AttemptError>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptError {
    /// What it was doing.
    pub stage: Stage,
    /// The server's error number.
    pub code: Option<u32>,
    /// The text.
    pub text: String,
}

/// What an attempt was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Opening the TCP connection.
    Connect,
    /// Pre-login, TLS and login.
    Login,
    /// Sending the transaction and waiting for its end.
    Write,
}

impl Stage {
    /// The word, as it stands in the reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Login => "login",
            Self::Write => "write",
        }
    }
}

/// A probe stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// A write on a new connection: the headline.
    WriteNew,
    /// An echo within the harness, which never touches the cluster.
    Control,
}

impl Stream {
    /// The word, as it stands in the reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WriteNew => "write-new",
            Self::Control => "control",
        }
    }
}

/// What a fault was aimed at, as resolved when it was injected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Victim {
    /// For people, e.g. ``pod `mssql-5f…` on node `worker-2` ``.
    pub what: String,
    /// By which mechanism, e.g. `kubernetes api: delete pod`.
    pub mechanism: String,
    /// The database's pod at that moment.
    pub pod: PodFacts,
    /// The node that it hits, for a fault of a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The life of the server that answered at that moment, if one did and told.
    pub life: Option<Incarnation>,
}

impl Victim {
    /// The node that is hit: the fault's own, or else that of the database's pod.
    #[must_use]
    pub fn hit_node(&self) -> Option<&str> {
        self.node.as_deref().or(self.pod.node.as_deref())
    }

    /// Whether what is hit is where the database runs.
    #[must_use]
    pub fn hits_the_database(&self) -> bool {
        self.node.is_none() || self.node == self.pod.node
    }
}

/// What a fault hits, as it was seen at some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// When, in the life of the fault.
    pub at: WitnessTime,
    /// What was seen.
    pub facts: Vec<Fact>,
}

/// When a fault's victim was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WitnessTime {
    /// Before it was injected.
    Before,
    /// While it was in force; of several looks the last counts.
    During,
    /// When it had been undone.
    After,
}

/// Something that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// What.
    pub what: String,
    /// How it was.
    pub value: String,
}

/// Help that was given to a recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assisted {
    /// Which kind.
    pub assist: Assist,
    /// What was done, for people.
    pub what: String,
}

/// An acknowledged row of the headline stream that was looked up on another connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadBack {
    /// Which attempt wrote it.
    pub number: u64,
    /// When the look-up started.
    pub started: Moment,
    /// When it ended.
    pub ended: Moment,
    /// Whether the row was there, in both tables.
    pub found: bool,
}

/// How far moments of the prober can be from the runner's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeBound {
    /// No moment so far is farther from the truth than this.
    pub bound: Duration,
    /// How many comparisons it rests on.
    pub pings: u64,
}

/// A change that a watch told of; when it arrived is the event's own time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sighting {
    /// A pod of the target is there, or has changed.
    Pod(PodFacts),
    /// A pod of the target is gone.
    PodGone {
        /// Its uid.
        uid: String,
        /// Its name.
        name: String,
    },
    /// A node is there, or has changed.
    Node {
        /// Its name.
        name: String,
        /// Whether its Ready condition holds.
        ready: bool,
        /// Whether it is cordoned.
        unschedulable: bool,
    },
    /// A node's object is gone.
    NodeGone {
        /// Its name.
        name: String,
    },
    /// A watch broke off and was opened again: changes may have been missed.
    Gap(String),
}

/// An entry of the undo journal that was done, or could not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Undone {
    /// Which entry of the journal.
    pub entry: u64,
    /// What it does, for people.
    pub what: String,
    /// Why it could not be done; `None`: it was done, and seen to be done.
    pub error: Option<String>,
}
