//! What runner and prober say to each other.
//!
//! The runner sends [`Request`]s, the prober answers with [`Message`]s. Within one process both are values in a channel; between two they are
//! lines of JSON, wrapped in `ToProber` and `ToRunner`, which carry what only a wire needs: who is there, numbers, acknowledgements, pings.
//!
//! The password of the database is in none of them: the prober has it from whoever started it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    event::{Answer, Attempt, Incarnation, LedgerEntry, Moment},
    scenario,
    workload::final_read::ReadRow,
};

/// Something to be done, once: a prober that is asked again under the same id does nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Names the request within its session.
    pub id: u64,
    /// How long it may take from the moment at which the prober takes it.
    pub within: Duration,
    /// What is to be done.
    pub work: Work,
}

/// What a prober can do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A trial begins; all that follows is about it.
    Open(OpenTrial),
    /// Create the tables of the trial, with this mark of the volume, as often as it takes.
    CreateTables {
        /// The mark.
        mark: String,
    },
    /// Ask the database what it is.
    DescribeEngine,
    /// Ask for the server's start time and the mark on its volume.
    Look,
    /// Ask for the server's start time alone, once.
    Life,
    /// Write the rows that are there before the first fault.
    WriteRowsBefore(scenario::Load),
    /// Start the probes and the writers.
    StartStreams(scenario::Probe, scenario::Load),
    /// Stop them, and answer when the last attempt and the last write have been told.
    StopStreams,
    /// Look a row up in both tables, on a new connection.
    Holds {
        /// Who wrote it.
        writer: u32,
        /// Its number.
        seq: u64,
    },
    /// Wait until every session of the probes and writers has ended.
    Settle,
    /// Read a table from end to end; `within` is for the connection.
    ReadTable {
        /// Which.
        table: String,
    },
    /// The reader has taken a chunk of rows and can take another.
    More {
        /// The id of the request that reads.
        read: u64,
    },
    /// Nobody waits for the answer to this request any more.
    Cancel {
        /// Its id.
        request: u64,
    },
}

/// Which trial, and where its database is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenTrial {
    /// The id of the run.
    pub run: String,
    /// The number of the trial in the run.
    pub number: u32,
    /// The stable service address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The login.
    pub user: String,
    /// What the server sees as `program_name` of the sessions that look and read.
    pub application: String,
    /// And of those of the probes and writers: the final read waits for them to end, and not for its own.
    pub load_application: String,
}

/// Something that the prober tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// A request was done.
    Reply(u64, Reply),
    /// An attempt of a probe stream of this trial ended, or was dropped.
    Attempt(u32, Attempt),
    /// Writes of this trial whose outcome is known by now.
    Ledger(u32, LedgerEntry),
    /// Rows of the table that this request reads, in order.
    Rows(u64, Vec<ReadRow>),
    /// The prober was hit: another process of the same session recorded all that came before. Nothing comes after it.
    Hit,
    /// The disk has no room for what nobody fetches: the streams were stopped. Nothing comes after it.
    Full {
        /// How many bytes may wait.
        limit: u64,
    },
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It was done.
    Done,
    /// It could not be done, and why.
    Failed(String),
    /// It was given up because nobody waited for it.
    Cancelled,
    /// What the database calls itself.
    Engine(EngineFacts),
    /// What the server showed.
    Looked(Looked),
    /// The life of the server that answers, if one does and tells.
    Life(Option<Incarnation>),
    /// Whether the row is in both tables, and when that was asked.
    Held {
        /// When the look-up started.
        started: Moment,
        /// When it ended.
        ended: Moment,
        /// Whether the row was there.
        found: bool,
    },
    /// Whether every session of the probes and writers has ended; else why nobody knows.
    Settled(Answer<()>),
    /// The table was read to its end: this many rows.
    Read(u64),
    /// The server answers, and has no such table any more.
    Gone,
}

/// What a database calls itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineFacts {
    /// `@@VERSION`.
    pub version: Answer<String>,
    /// Its edition.
    pub edition: Answer<String>,
    /// Whether it acknowledges commits before they are stored: `DISABLED`, `ALLOWED` to those who ask for it, `FORCED`.
    pub delayed_durability: Answer<String>,
}

/// What a server shows of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Looked {
    /// `sqlserver_start_time`.
    pub server_start: Answer<String>,
    /// The mark on its volume; `Known(None)`: it answers, and has none.
    pub volume_mark: Answer<Option<String>>,
}

/// A line from the runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToProber {
    /// The first line of a connection.
    Hello {
        /// The version of the runner.
        version: String,
        /// Its build, if the prober must be of the same.
        #[serde(default)]
        program: Option<String>,
        /// The session that it wants to go on with.
        session: String,
        /// The number of the first message that it does not have.
        from: u64,
    },
    /// Something to be done.
    Request(Request),
    /// All messages up to this one are recorded and can be forgotten.
    Acknowledge(u64),
    /// What time is it?
    Ping {
        /// The runner's clock.
        t0: Moment,
    },
}

/// A line from the prober.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToRunner {
    /// The first line of a connection.
    Welcome {
        /// Which process it is: its clock is no other's.
        life: String,
        /// Which build it is; a prober that does not say so is of an earlier one.
        #[serde(default)]
        program: String,
        /// The number that the next message will have.
        next: u64,
    },
    /// The prober will not, or cannot go on.
    Refused(Refusal),
    /// A message with its number; the line is the one that stands in the journal.
    Message(u64, Message),
    /// It is this late.
    Pong {
        /// The runner's clock, as asked.
        t0: Moment,
        /// The prober's clock.
        tp: Moment,
    },
}

/// Why a prober does not take a connection, or cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Two programs that may not understand each other.
    #[error(
        "the prober is `comeback` {prober}, the runner is {runner}: both must be of one version (hint: run `comeback cluster up` again, which makes \
         the prober's image of this program)"
    )]
    Version {
        /// The prober's.
        prober: String,
        /// The runner's.
        runner: String,
    },
    /// Two builds of one version.
    #[error(
        "the prober is another build of `comeback` ({}) than the runner ({}) (hint: run `comeback cluster up` again, which makes the prober's image \
         of this program)",
        short(.prober), short(.runner)
    )]
    Program {
        /// The prober's; empty where it does not say.
        prober: String,
        /// The runner's.
        runner: String,
    },
    /// It works for another run.
    #[error("the prober works for session `{prober}`, not for `{runner}`")]
    Session {
        /// The prober's.
        prober: String,
        /// The runner's.
        runner: String,
    },
    /// What the runner wants to go on from is not there (any more, or yet): messages are lost.
    #[error("the runner wants to go on from message {from}, and the prober has {first} to {next}")]
    Numbers {
        /// Where the runner wants to go on.
        from: u64,
        /// The first that is kept.
        first: u64,
        /// The one that will be next.
        next: u64,
    },
    /// It cannot write its journal, so nothing that it says could be believed.
    #[error("the prober cannot write its journal: {0}")]
    Journal(String),
}

impl Refusal {
    /// Why a prober of this build is not the one that a runner wants; `None`: it is, or the runner wants any.
    pub(super) fn of_builds(prober: &str, wanted: Option<&str>) -> Option<Self> {
        let runner = wanted.filter(|wanted| *wanted != prober)?;
        Some(Self::Program { prober: prober.to_owned(), runner: runner.to_owned() })
    }
}

/// As much of a fingerprint as tells two apart.
fn short(fingerprint: &str) -> &str {
    match fingerprint.get(..12).unwrap_or(fingerprint) {
        "" => "one that does not say which",
        start => start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_refused_unless_it_is_the_wanted_one() {
        assert_eq!(Refusal::of_builds("a", None), None);
        assert_eq!(Refusal::of_builds("a", Some("a")), None);
        let told = Refusal::of_builds("", Some("0123456789abcdef")).unwrap().to_string();
        assert!(
            told.contains("(0123456789ab)") && told.contains("does not say which") && told.contains("`comeback cluster up` again"),
            "{told}"
        );
        assert!(matches!(Refusal::of_builds("a", Some("b")), Some(Refusal::Program { prober, runner }) if prober == "a" && runner == "b"));
    }
}
