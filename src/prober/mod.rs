//! The prober: the one who speaks SQL in a trial, wherever it stands.
//!
//! Where one looks from is part of what one sees. On the sandbox the prober is a task of the runner; on a real cluster it is a pod, so that probes,
//! writers and reads take the way that an application's take, through the service address from within. The code is the same:
//!
//! ```text
//! trial -> Prober (the handle) -> service            in the runner: channels
//! trial -> Prober -> client ~~ server -> service     in a pod: lines of JSON over a port-forward
//!                              server -> journal     numbered, on disk until the runner has recorded it
//! ```
//!
//! - [`message`]: what the two say to each other.
//! - `service`: does it, with the rooms [`workload`](crate::workload) and [`probe`](crate::probe).
//! - `journal`: what was told, numbered and on disk.
//! - [`server`]: the process in the pod, which listens on its loopback interface alone: whoever can forward a port into the pod commands it, nobody else.
//! - `client`: the runner's end of the wire, which goes on where it was when a connection breaks, however often.
//! - [`clock`]: the prober's moments on the runner's clock, and how far they can be wrong.
//! - [`pod`]: the pod itself.
//! - `program`: which build of this program runs; a prober of another build than its runner is refused.
//!
//! # What holds
//! - Every message is recorded once or the trial is an error: the numbers are checked where they are recorded, and a gap or a repeat is a
//!   [`ProberError`]. The prober forgets a message only when the runner has it in `run.ndjson`.
//! - Streams go on while the runner is away. A prober that hears of no runner for [`DEAD_MAN`](server::DEAD_MAN) stops and ends; a runner that hears of
//!   no prober for [`LOST_AFTER`] gives the trial up as an error.
//! - A prober that was itself hit (its process is another) tells what had been recorded, and then that it was hit: the trial is an error.
//! - A failed prober stays failed: another session needs another prober.
//!
//! Rows that are read go to the runner in chunks, as many as it has asked for, so that ten million take no more memory than ten; there they are
//! compared with the ledger, hashed and written to their file.

mod client;
pub mod clock;
mod journal;
pub mod message;
pub mod pod;
mod program;
pub mod server;
mod service;
mod wire;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

pub use self::{journal::JournalError, program::Likeness, wire::Dial};
use self::{
    message::{EngineFacts, Looked, Message, OpenTrial, Refusal, Reply, Request, Work},
    service::WINDOW,
};
use crate::{
    event::{Answer, Clock, EventKind, Incarnation, Moment, RowKey, Side, TimeBound},
    scenario,
    workload::{
        Password,
        final_read::{ROW_DEADLINE, ReadRow},
        load::{self, BATCH_DEADLINE, WRITE_DEADLINE},
    },
};

/// How long a runner does without its prober before the trial is an error.
pub const LOST_AFTER: Duration = Duration::from_mins(2);
/// How long an answer may take beyond the deadline of its request, beside [`LOST_AFTER`].
const ANSWER_GRACE: Duration = Duration::from_secs(30);
/// How long the server may take to tell start time and mark, which are asked one after the other, each as often as it takes.
const LOOK_WITHIN: Duration = Duration::from_mins(1);
/// How long the database may take to tell what it is, or whether it holds a row.
const ASK_WITHIN: Duration = Duration::from_secs(10);
/// How long the server may take to tell when it started, before a fault is aimed at it.
const LIFE_WITHIN: Duration = Duration::from_secs(2);
/// How long a connection for the final read is tried for: the service has recovered by then, or was given up.
const READ_WITHIN: Duration = Duration::from_secs(20);
/// How long the sessions of the writers and probes may take to end.
const SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// How long the prober may take for what needs no database.
const OWN_WITHIN: Duration = Duration::from_secs(10);
/// How long the prober's task may take to end when nobody needs it any more.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
/// Trials count from 1.
const NO_TRIAL: u64 = 0;
/// How many messages may be under way to the record.
const QUEUE: usize = 1_024;

/// Something to be put down in the record of the run.
#[derive(Debug)]
pub enum Note {
    /// This happened in this trial.
    Event(u32, EventKind),
    /// Say when all that was sent before is written, and whether it is.
    Written(oneshot::Sender<bool>),
}

/// The prober, or what it was asked to do, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProberError {
    /// It did what it could; the database would not. The prober is as good as before.
    #[error("{0}")]
    Work(String),
    /// Its process ended and was started anew: what it saw meanwhile, nobody knows.
    #[error("the prober was hit: its process ended in the middle of the trial and was started anew")]
    Hit,
    /// It cannot be reached.
    #[error("the prober could not be reached for {}: {why}", humantime::format_duration(*.within))]
    Lost {
        /// For how long it was tried.
        within: Duration,
        /// What went wrong the last time.
        why: String,
    },
    /// It does not take us, or cannot go on.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody knows which build the runner is, so no prober can be told to be of the same.
    #[error("could not read this program's own file, by which its prober is known: {0}")]
    Program(String),
    /// A message is missing, or came twice.
    #[error("the prober's messages do not follow one another: number {expected} was due, and {got} came")]
    Numbers {
        /// The number that was due.
        expected: u64,
        /// The one that came.
        got: u64,
    },
    /// It had to stop because nobody fetched what it told.
    #[error("the prober stopped: {limit} bytes waited for the runner, and more must not")]
    Full {
        /// The limit.
        limit: u64,
    },
    /// It says what no prober of this version says.
    #[error("the prober cannot be understood: {0}")]
    Garbled(String),
    /// It did not answer although it is there.
    #[error("the prober did not answer within {} when asked to {what}", humantime::format_duration(*.within))]
    NoAnswer {
        /// What it was asked.
        what: &'static str,
        /// How long it was waited for.
        within: Duration,
    },
    /// Its task in this process is gone.
    #[error("the prober has ended")]
    Ended,
}

/// How the read of a table ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableEnd {
    /// Every row was handed over.
    Read,
    /// The server answers, and has no such table.
    Gone,
}

/// A row that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// When the look-up started.
    pub started: Moment,
    /// When it ended.
    pub ended: Moment,
    /// Whether the row was in both tables.
    pub found: bool,
}

/// What the handle tells the desk.
enum Command {
    Ask(Request, Asker),
    /// Nobody waits for this one any more.
    Forget {
        request: u64,
        cancel: u64,
    },
    /// The reader of this request can take another chunk.
    More {
        read: u64,
        id: u64,
    },
}

/// Who waits for an answer.
struct Asker {
    answer: oneshot::Sender<Result<Reply, ProberError>>,
    rows: Option<mpsc::Sender<Vec<ReadRow>>>,
}

/// What comes from the prober.
#[derive(Debug)]
enum Delivery {
    /// The next message.
    Message(Box<Message>),
    /// All up to this number was delivered before.
    Mark(u64),
    /// The prober is of no use any more.
    Failed(ProberError),
}

impl From<Message> for Delivery {
    fn from(message: Message) -> Self {
        Self::Message(Box::new(message))
    }
}

/// The way to the service.
enum Link {
    /// A task of this process.
    Here(mpsc::UnboundedSender<Request>),
    /// At the other end of a wire.
    There(mpsc::UnboundedSender<client::Command>),
}

impl Link {
    /// A service that is gone shows in what it delivers.
    fn send(&self, request: Request) {
        match self {
            Self::Here(requests) => drop(requests.send(request)),
            Self::There(commands) => drop(commands.send(client::Command::Request(request))),
        }
    }
}

/// The way to a prober: what a trial asks of it, and whether it still can.
///
/// A call whose future is dropped is cancelled at the prober.
#[derive(Debug)]
pub struct Prober {
    // Unbounded, as the way behind it: a trial asks a few dozen things, and what is taken back must not wait.
    commands: mpsc::UnboundedSender<Command>,
    clocks: Option<mpsc::UnboundedSender<client::Command>>,
    notes: mpsc::Sender<Note>,
    next: AtomicU64,
    trial: AtomicU64,
    doubt: AtomicU64,
    failure: watch::Receiver<Option<ProberError>>,
    task: JoinHandle<()>,
}

impl Prober {
    /// A prober in this process, on the clock of the run. What it tells is recorded through `notes`.
    #[must_use]
    pub fn here(clock: Clock, password: Password, notes: mpsc::Sender<Note>) -> Self {
        let (requests, asked) = mpsc::unbounded_channel();
        let (told, deliveries) = mpsc::channel::<Delivery>(QUEUE);
        tokio::spawn(service::serve(clock, password, asked, told));
        Self::start(Link::Here(requests), None, deliveries, watch::Sender::new(0), notes)
    }

    /// A prober at the other end of a wire, which `dial` opens, and opens again when it breaks. It is used at once; whether it answers shows
    /// when it is asked. One that is not as much like this program as `likeness` says is refused.
    #[must_use]
    pub fn there<D: Dial>(dial: D, session: &str, likeness: Likeness, clock: Clock, notes: mpsc::Sender<Note>) -> Self {
        let (commands, told) = mpsc::unbounded_channel();
        let (deliver, deliveries) = mpsc::channel(QUEUE);
        let recorded = watch::Sender::new(0);
        tokio::spawn(client::run(dial, session.to_owned(), likeness, clock, told, deliver, recorded.subscribe()));
        Self::start(Link::There(commands.clone()), Some(commands), deliveries, recorded, notes)
    }

    fn start(
        link: Link,
        clocks: Option<mpsc::UnboundedSender<client::Command>>,
        deliveries: mpsc::Receiver<Delivery>,
        recorded: watch::Sender<u64>,
        notes: mpsc::Sender<Note>,
    ) -> Self {
        let (commands, told) = mpsc::unbounded_channel();
        let (failed, failure) = watch::channel(None);
        let desk = Desk { link, notes: notes.clone(), recorded, failed, pending: BTreeMap::new() };
        let task = tokio::spawn(desk.keep(told, deliveries));
        let zero = || AtomicU64::new(0);
        Self { commands, clocks, notes, next: AtomicU64::new(1), trial: zero(), doubt: zero(), failure, task }
    }

    /// Why it is of no use any more, if so.
    #[must_use]
    pub fn failure(&self) -> Option<ProberError> {
        self.failure.borrow().clone()
    }

    /// Waits until it is of no use any more.
    pub async fn failed(&self) -> ProberError {
        let mut failure = self.failure.clone();
        let failed = failure.wait_for(Option::is_some).await.map(|failed| failed.clone());
        failed.ok().flatten().unwrap_or(ProberError::Ended)
    }

    /// How far its moments can be from the runner's clock, as far as is known when a trial begins; zero in this process.
    #[must_use]
    pub fn doubt(&self) -> Duration {
        Duration::from_nanos(self.doubt.load(Ordering::Relaxed))
    }

    /// Begins a trial: compares the clocks, if there are two, and tells the prober where the database is.
    pub async fn open(&self, trial: OpenTrial) -> Result<(), ProberError> {
        self.trial.store(trial.number.into(), Ordering::Relaxed);
        if let Some(bound) = self.compare(client::Command::Compare).await? {
            self.doubt.store(u64::try_from(bound.bound.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.note(EventKind::TimesCompared(Side::Before, bound)).await;
        }
        self.done("open a trial", Work::Open(trial), OWN_WITHIN).await
    }

    /// Ends a trial: says how far its moments can be wrong, all in all. Without it nothing that compares the two clocks is believed.
    /// One that was never opened has none to end.
    pub async fn close_trial(&self) -> Result<(), ProberError> {
        if self.trial.load(Ordering::Relaxed) == NO_TRIAL {
            return Ok(());
        }
        if let Some(bound) = self.compare(client::Command::Conclude).await? {
            self.note(EventKind::TimesCompared(Side::After, bound)).await;
        }
        self.trial.store(NO_TRIAL, Ordering::Relaxed);
        Ok(())
    }

    async fn compare(&self, command: impl FnOnce(oneshot::Sender<TimeBound>) -> client::Command) -> Result<Option<TimeBound>, ProberError> {
        let Some(clocks) = &self.clocks else { return Ok(None) };
        let (answer, bound) = oneshot::channel();
        let _ = clocks.send(command(answer));
        let within = LOST_AFTER + ANSWER_GRACE;
        match timeout(within, bound).await {
            Ok(Ok(bound)) => Ok(Some(bound)),
            Ok(Err(_)) => Err(self.failed().await),
            Err(_) => Err(ProberError::NoAnswer { what: "compare the clocks", within }),
        }
    }

    /// Puts something down, and returns when it is in the record: what comes after it stands behind it.
    async fn note(&self, event: EventKind) {
        let trial = u32::try_from(self.trial.load(Ordering::Relaxed)).expect("it was a trial's number");
        // The recorder outlives the prober; if it is gone, so is the run, and nobody is left to tell.
        let _ = self.notes.send(Note::Event(trial, event)).await;
        written(&self.notes).await;
    }

    /// Creates the tables of the trial and stores the mark of the volume, tried for so long.
    pub async fn create_tables(&self, mark: &str, within: Duration) -> Result<(), ProberError> {
        self.done("create the tables", Work::CreateTables { mark: mark.to_owned() }, within).await
    }

    /// What the database calls itself.
    pub async fn describe_engine(&self) -> Result<EngineFacts, ProberError> {
        match self.ask("describe the database", Work::DescribeEngine, ASK_WITHIN).await? {
            Reply::Engine(facts) => Ok(facts),
            other => Err(unexpected(&other)),
        }
    }

    /// When the server started, and the mark on its volume; what is not told is [`Answer::Unavailable`].
    pub async fn look(&self) -> Looked {
        let failed = match self.ask("look at the server", Work::Look, LOOK_WITHIN).await {
            Ok(Reply::Looked(looked)) => return looked,
            Ok(other) => unexpected(&other),
            Err(error) => error,
        };
        Looked { server_start: Answer::Unavailable(failed.to_string()), volume_mark: Answer::Unavailable(failed.to_string()) }
    }

    /// The life of the server that answers now, if one does and tells.
    pub async fn life(&self) -> Result<Option<Incarnation>, ProberError> {
        match self.ask("ask for the server's life", Work::Life, LIFE_WITHIN).await? {
            Reply::Life(life) => Ok(life),
            other => Err(unexpected(&other)),
        }
    }

    /// Writes the rows that are there before the first fault; the ledger knows of each when this returns.
    pub async fn write_rows_before(&self, load: &scenario::Load) -> Result<(), ProberError> {
        let within = BATCH_DEADLINE.saturating_mul(load::batches(load));
        self.done("write the rows before", Work::WriteRowsBefore(load.clone()), within).await
    }

    /// Starts the probes and the writers.
    pub async fn start_streams(&self, probe: &scenario::Probe, load: &scenario::Load) -> Result<(), ProberError> {
        self.done("start the streams", Work::StartStreams(probe.clone(), load.clone()), OWN_WITHIN).await
    }

    /// Stops them; every attempt and every write is recorded when this returns. `longest` is the deadline of an attempt.
    pub async fn stop_streams(&self, longest: Duration) -> Result<(), ProberError> {
        // The row at hand, and the farewell.
        self.done("stop the streams", Work::StopStreams, longest.max(WRITE_DEADLINE * 2) + OWN_WITHIN).await
    }

    /// Looks a row up in both tables, on a new connection.
    pub async fn holds(&self, key: RowKey) -> Result<Held, ProberError> {
        match self.ask("look a row up", Work::Holds { writer: key.writer, seq: key.seq }, ASK_WITHIN).await? {
            Reply::Held { started, ended, found } => Ok(Held { started, ended, found }),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until every session of the probes and writers has ended; otherwise why nobody knows.
    pub async fn settle(&self) -> Result<Answer<()>, ProberError> {
        match self.ask("wait for the sessions to end", Work::Settle, SETTLE_WITHIN).await? {
            Reply::Settled(answer) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads a table from end to end; `take` gets each row, in the order (writer, seq, id).
    pub async fn read_table(&self, table: &str, mut take: impl FnMut(&ReadRow) -> Result<(), String>) -> Result<TableEnd, ProberError> {
        let what = "read a table";
        let (chunks, mut rows) = mpsc::channel(WINDOW + 1);
        let mut asked = self.submit(Work::ReadTable { table: table.to_owned() }, READ_WITHIN, Some(chunks));
        let within = READ_WITHIN + ROW_DEADLINE + LOST_AFTER + ANSWER_GRACE;
        let mut count = 0;
        while let Some(chunk) = timeout(within, rows.recv()).await.map_err(|_| ProberError::NoAnswer { what, within })? {
            for row in &chunk {
                take(row).map_err(ProberError::Work)?;
            }
            count += chunk.len() as u64;
            let _ = self.commands.send(Command::More { read: asked.id, id: self.id() });
        }
        match asked.answer(what, within).await? {
            Reply::Read(rows) if rows == count => Ok(TableEnd::Read),
            Reply::Read(rows) => Err(ProberError::Garbled(format!("it read {rows} rows of table `{table}` and handed over {count}"))),
            Reply::Gone => Ok(TableEnd::Gone),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends it: what it does is stopped, and all that it told is on its way to the record.
    pub async fn close(self) {
        let Self { commands, clocks, notes, task, .. } = self;
        drop((commands, clocks, notes));
        // A task that does not end is of no use to anybody, and does no harm.
        let _ = timeout(CLOSE_DEADLINE, task).await;
    }

    async fn done(&self, what: &'static str, work: Work, within: Duration) -> Result<(), ProberError> {
        match self.ask(what, work, within).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(&self, what: &'static str, work: Work, within: Duration) -> Result<Reply, ProberError> {
        self.submit(work, within, None).answer(what, within.saturating_add(LOST_AFTER + ANSWER_GRACE)).await
    }

    fn submit(&self, work: Work, within: Duration, rows: Option<mpsc::Sender<Vec<ReadRow>>>) -> Asked<'_> {
        let id = self.id();
        let (answer, reply) = oneshot::channel();
        // A desk that is gone drops the asker, which shows in the answer.
        let _ = self.commands.send(Command::Ask(Request { id, within, work }, Asker { answer, rows }));
        Asked { prober: self, id, reply, answered: false }
    }

    fn id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

fn unexpected(reply: &Reply) -> ProberError {
    match reply {
        Reply::Failed(text) => ProberError::Work(text.clone()),
        Reply::Cancelled => ProberError::Work("it was cancelled".to_owned()),
        other => ProberError::Garbled(format!("it answered what was not asked: {other:?}")),
    }
}

/// A request whose answer is waited for; it is cancelled when this is dropped without one.
struct Asked<'a> {
    prober: &'a Prober,
    id: u64,
    reply: oneshot::Receiver<Result<Reply, ProberError>>,
    answered: bool,
}

impl Asked<'_> {
    async fn answer(&mut self, what: &'static str, within: Duration) -> Result<Reply, ProberError> {
        let reply = timeout(within, &mut self.reply).await.map_err(|_| ProberError::NoAnswer { what, within })?;
        self.answered = true;
        match reply {
            Ok(Ok(Reply::Failed(text))) => Err(ProberError::Work(text)),
            Ok(reply) => reply,
            Err(_) => Err(self.prober.failure().unwrap_or(ProberError::Ended)),
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let _ = self.prober.commands.send(Command::Forget { request: self.id, cancel: self.prober.id() });
        }
    }
}

/// The one who sorts what the prober tells: to the record, or to whoever asked.
struct Desk {
    link: Link,
    notes: mpsc::Sender<Note>,
    /// Up to which number all is written.
    recorded: watch::Sender<u64>,
    failed: watch::Sender<Option<ProberError>>,
    pending: BTreeMap<u64, Asker>,
}

impl Desk {
    async fn keep(mut self, mut commands: mpsc::UnboundedReceiver<Command>, mut deliveries: mpsc::Receiver<Delivery>) {
        loop {
            let failure = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => {
                        self.take(command);
                        Ok(())
                    }
                    None => return,
                },
                delivery = deliveries.recv() => match delivery {
                    Some(delivery) => self.sort(delivery).await,
                    None => Err(ProberError::Ended),
                },
            };
            if let Err(failure) = failure {
                // Whoever hears of it finds in the record all that was told before.
                written(&self.notes).await;
                self.fail(&failure);
                break;
            }
        }
        // From now on every question has the same answer.
        drop(deliveries);
        let Self { failed, .. } = self;
        while let Some(command) = commands.recv().await {
            if let Command::Ask(_, asker) = command {
                let failure = failed.borrow().clone().unwrap_or(ProberError::Ended);
                let _ = asker.answer.send(Err(failure));
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Ask(request, asker) => {
                self.pending.insert(request.id, asker);
                self.link.send(request);
            }
            Command::Forget { request, cancel } => {
                if self.pending.remove(&request).is_some() {
                    self.link.send(Request { id: cancel, within: OWN_WITHIN, work: Work::Cancel { request } });
                }
            }
            Command::More { read, id } => self.link.send(Request { id, within: OWN_WITHIN, work: Work::More { read } }),
        }
    }

    async fn sort(&mut self, delivery: Delivery) -> Result<(), ProberError> {
        match delivery {
            Delivery::Message(message) => match *message {
                Message::Attempt(trial, attempt) => self.note(trial, EventKind::Attempt(Box::new(attempt))).await,
                Message::Ledger(trial, entry) => self.note(trial, EventKind::Ledger(entry)).await,
                Message::Reply(id, reply) => {
                    if let Some(asker) = self.pending.remove(&id) {
                        // Whoever has the answer finds in the record what came before it.
                        written(&self.notes).await;
                        let _ = asker.answer.send(Ok(reply));
                    }
                }
                Message::Rows(read, rows) => {
                    if let Some(Asker { rows: Some(reader), .. }) = self.pending.get(&read)
                        && let Err(mpsc::error::TrySendError::Full(_)) = reader.try_send(rows)
                    {
                        return Err(ProberError::Garbled("it sent more rows than were asked for".to_owned()));
                    }
                }
                Message::Hit => return Err(ProberError::Hit),
                Message::Full { limit } => return Err(ProberError::Full { limit }),
            },
            Delivery::Mark(number) => {
                // What could not be written is kept at the prober; the run says that its record is broken.
                if written(&self.notes).await {
                    self.recorded.send_replace(number);
                }
            }
            Delivery::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// The recorder outlives the prober; if it is gone, so is the run, and nobody is left to tell.
    async fn note(&self, trial: u32, event: EventKind) {
        let _ = self.notes.send(Note::Event(trial, event)).await;
    }

    fn fail(&mut self, failure: &ProberError) {
        self.failed.send_replace(Some(failure.clone()));
        for asker in std::mem::take(&mut self.pending).into_values() {
            let _ = asker.answer.send(Err(failure.clone()));
        }
    }
}

/// Waits until all that was noted is in the record. `false`: it cannot be written.
async fn written(notes: &mpsc::Sender<Note>) -> bool {
    let (answer, written) = oneshot::channel();
    let _ = notes.send(Note::Written(answer)).await;
    written.await.unwrap_or(false)
}

/// Anything that notes can be sent to, for those that need no record.
pub fn noted(mut note: impl FnMut(u32, EventKind) + Send + 'static) -> (mpsc::Sender<Note>, impl Future<Output = ()> + Send) {
    let (sender, mut notes) = mpsc::channel(QUEUE);
    let task = async move {
        while let Some(next) = notes.recv().await {
            match next {
                Note::Event(trial, event) => note(trial, event),
                Note::Written(answer) => drop(answer.send(true)),
            }
        }
    };
    (sender, task)
}
