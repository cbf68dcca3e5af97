//! What a prober does when it is asked: all SQL of a trial.
//!
//! One loop takes requests and starts each as a task of its own, so that a probe never waits for a look. What a task changes (the tables are
//! there, the streams run) it hands back to the loop, which answers only then: whoever has the answer can build on it. Attempts and ledger
//! entries are told as they come, by the same channel, so an answer that the streams have stopped stands behind the last of them.
//!
//! The service knows neither wire nor disk: it is the same in the runner's own process and in a pod.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    task::{Id, JoinError, JoinHandle, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::message::{EngineFacts, Looked, Message, OpenTrial, Reply, Request, Work};
use crate::{
    cluster::chain,
    event::{Answer, Attempt, Clock, Incarnation, LedgerEntry, RowKey, SeqSet},
    probe::Probes,
    scenario,
    workload::{
        DATABASE, Password, Server, SqlError, Tables, drop_earlier, final_read,
        load::{self, Writers},
        settle,
    },
};

/// How long one try of a statement that only looks may take.
const LOOK_DEADLINE: Duration = Duration::from_secs(10);
/// For how long a look that finds no server is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How often something is tried again.
const RETRY_PERIOD: Duration = Duration::from_millis(100);
/// How many attempts or ledger entries may be under way to the channel of messages before a stream waits.
const QUEUE: usize = 4_096;
/// How many rows a message holds.
const CHUNK: usize = 500;
/// How many chunks of rows may be on their way to a reader that has not yet asked for more.
pub(super) const WINDOW: usize = 8;

/// Does what is asked until nobody can ask any more; then everything stops.
pub(super) async fn serve<T: From<Message> + Send + 'static>(
    clock: Clock,
    password: Password,
    mut requests: mpsc::UnboundedReceiver<Request>,
    messages: mpsc::Sender<T>,
) {
    let mut service = Service {
        clock,
        password,
        messages,
        seen: SeqSet::default(),
        trial: None,
        streams: None,
        tasks: JoinSet::new(),
        running: BTreeMap::new(),
        of_task: Vec::new(),
    };
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => service.take(request).await,
                None => return,
            },
            Some(done) = service.tasks.join_next_with_id() => service.finish(done).await,
        }
    }
}

struct Service<T> {
    clock: Clock,
    password: Password,
    messages: mpsc::Sender<T>,
    /// The ids of all requests that were taken.
    seen: SeqSet,
    trial: Option<Trial>,
    streams: Option<Streams>,
    tasks: JoinSet<Outcome>,
    running: BTreeMap<u64, Running>,
    /// Which request a task works for; a handful at any time.
    of_task: Vec<(Id, u64)>,
}

/// A request that is being done.
struct Running {
    cancel: CancellationToken,
    /// How many chunks of rows its reader can take.
    credit: Arc<Semaphore>,
}

/// What all work of a trial needs.
#[derive(Clone, Debug)]
struct Trial {
    run: String,
    number: u32,
    /// As the harness itself.
    server: Server,
    /// As the probes and writers.
    load: Server,
    tables: Tables,
}

/// The streams of a trial at work, and the tasks that hand on what they tell.
struct Streams {
    probes: Probes,
    writers: Writers,
    attempts: Feed<Attempt>,
    ledger: Feed<LedgerEntry>,
}

/// What a task hands back.
struct Outcome {
    reply: Reply,
    /// Of the trial with this number.
    change: Option<(u32, Change)>,
}

/// What is different now.
enum Change {
    Tables(Tables),
    Streams(Box<Streams>),
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Self { reply, change: None }
    }
}

impl<T: From<Message> + Send + 'static> Service<T> {
    async fn take(&mut self, request: Request) {
        let Request { id, within, work } = request;
        if !self.seen.insert(id) {
            return;
        }
        let cancel = CancellationToken::new();
        let credit = Arc::new(Semaphore::new(WINDOW));
        let reply = match work {
            Work::Open(open) => {
                self.streams = None;
                self.trial = Some(Trial::new(&open, &self.password));
                Reply::Done
            }
            Work::More { read } => {
                if let Some(reader) = self.running.get(&read) {
                    reader.credit.add_permits(1);
                }
                Reply::Done
            }
            Work::Cancel { request } => {
                if let Some(running) = self.running.get(&request) {
                    running.cancel.cancel();
                }
                Reply::Done
            }
            work => match &self.trial {
                Some(trial) => {
                    let job = Job {
                        trial: trial.clone(),
                        clock: self.clock,
                        messages: self.messages.clone(),
                        id,
                        credit: credit.clone(),
                        deadline: Instant::now() + within,
                    };
                    let streams = if work == Work::StopStreams { self.streams.take() } else { None };
                    let stop = cancel.clone();
                    // On the heap: the futures of tiberius are large.
                    let doing = Box::pin(job.run(work, streams));
                    let task = self.tasks.spawn(async move {
                        tokio::select! {
                            biased;
                            () = stop.cancelled() => Reply::Cancelled.into(),
                            outcome = doing => outcome,
                        }
                    });
                    self.of_task.push((task.id(), id));
                    self.running.insert(id, Running { cancel, credit });
                    return;
                }
                None => Reply::Failed("no trial was opened".to_owned()),
            },
        };
        self.reply(id, reply).await;
    }

    async fn finish(&mut self, done: Result<(Id, Outcome), JoinError>) {
        let (task, outcome) = match done {
            Ok(done) => done,
            Err(error) => (error.id(), Reply::Failed(format!("the prober failed at its work: {error}")).into()),
        };
        let Some(at) = self.of_task.iter().position(|(of, _)| *of == task) else { return };
        let (_, id) = self.of_task.swap_remove(at);
        self.running.remove(&id);
        if let Some((number, change)) = outcome.change
            && let Some(trial) = self.trial.as_mut().filter(|trial| trial.number == number)
        {
            match change {
                Change::Tables(tables) => trial.tables = tables,
                Change::Streams(streams) => self.streams = Some(*streams),
            }
        }
        self.reply(id, outcome.reply).await;
    }

    /// Whoever asked outlives the service, or nobody is left to tell.
    async fn reply(&self, id: u64, reply: Reply) {
        let _ = self.messages.send(Message::Reply(id, reply).into()).await;
    }
}

impl Trial {
    fn new(open: &OpenTrial, password: &Password) -> Self {
        let server = Server {
            host: open.host.clone(),
            port: open.port,
            user: open.user.clone(),
            password: password.clone(),
            application: open.application.clone(),
        };
        let load = Server { application: open.load_application.clone(), ..server.clone() };
        Self { run: open.run.clone(), number: open.number, server, load, tables: Tables::new(&open.run, open.number) }
    }
}

/// One request at work.
struct Job<T> {
    trial: Trial,
    clock: Clock,
    messages: mpsc::Sender<T>,
    id: u64,
    credit: Arc<Semaphore>,
    deadline: Instant,
}

impl<T: From<Message> + Send + 'static> Job<T> {
    async fn run(self, work: Work, streams: Option<Streams>) -> Outcome {
        match work {
            Work::Open(_) | Work::More { .. } | Work::Cancel { .. } => unreachable!("the loop does these itself"),
            Work::CreateTables { mark } => self.create_tables(&mark).await,
            Work::DescribeEngine => self.describe_engine().await.into(),
            Work::Look => Reply::Looked(self.look().await).into(),
            Work::Life => Reply::Life(self.life().await).into(),
            Work::WriteRowsBefore(load) => self.write_rows_before(&load).await.into(),
            Work::StartStreams(probe, load) => self.start_streams(&probe, &load).await,
            Work::StopStreams => {
                if let Some(streams) = streams {
                    streams.stop().await;
                }
                Reply::Done.into()
            }
            Work::Holds { writer, seq } => self.holds(RowKey { writer, seq }).await.into(),
            Work::Settle => {
                let within = self.deadline.saturating_duration_since(Instant::now());
                let settled = settle(&self.trial.server, &self.trial.load.application, within).await;
                Reply::Settled(settled.map_or_else(Answer::Unavailable, Answer::Known)).into()
            }
            Work::ReadTable { table } => self.read_table(&table).await.into(),
        }
    }

    async fn create_tables(&self, mark: &str) -> Outcome {
        let Trial { server, tables, run, .. } = &self.trial;
        let created = retry(self.deadline, |deadline| {
            let mut tables = tables.clone();
            async move {
                drop_earlier(server, run, deadline).await?;
                tables.create(server, mark, deadline).await.map(|()| tables)
            }
        });
        match created.await {
            Ok(tables) => Outcome { reply: Reply::Done, change: Some((self.trial.number, Change::Tables(tables))) },
            Err(error) => Reply::Failed(format!("the database does not take our tables: {error}")).into(),
        }
    }

    async fn describe_engine(&self) -> Reply {
        let asked = async {
            let mut session = self.trial.server.connect("master", self.deadline).await?;
            let version = session.ask("SELECT @@VERSION", self.deadline).await?;
            let edition = session.ask("SELECT CONVERT(nvarchar(128), SERVERPROPERTY('Edition'))", self.deadline).await?;
            let delayed_durability = Tables::delayed_durability(&mut session, self.deadline).await?;
            session.close(self.deadline).await?;
            Ok::<_, SqlError>(EngineFacts { version, edition, delayed_durability })
        };
        asked.await.map_or_else(|error| Reply::Failed(format!("the database does not tell what it is: {error}")), Reply::Engine)
    }

    async fn look(&self) -> Looked {
        // A connection that fails is tried again: only a server that was asked and refused does not tell.
        let server = &self.trial.server;
        let asked = retry((Instant::now() + LOOK_AGAIN).min(self.deadline), |deadline| async move {
            let mut session = server.connect("master", deadline).await?;
            Tables::start_time(&mut session, deadline).await
        });
        let server_start = asked.await.unwrap_or_else(|error| Answer::Unavailable(error.to_string()));
        let tables = &self.trial.tables;
        let asked = retry((Instant::now() + LOOK_AGAIN).min(self.deadline), |deadline| async move {
            match tables.try_read_mark(server, deadline).await {
                Err(error) if error.code().is_some() => Ok(Answer::Unavailable(error.to_string())),
                told => told,
            }
        });
        let volume_mark = asked.await.unwrap_or_else(|error| Answer::Unavailable(error.to_string()));
        Looked { server_start, volume_mark }
    }

    async fn life(&self) -> Option<Incarnation> {
        let mut session = self.trial.server.connect("master", self.deadline).await.ok()?;
        Tables::start_time(&mut session, self.deadline).await.ok()?.known().cloned().map(Incarnation)
    }

    async fn write_rows_before(&self, load: &scenario::Load) -> Reply {
        let ledger = self.feed(Message::Ledger);
        let written = load::write_rows_before(&self.trial.server, &self.trial.tables, load, &ledger.sender).await;
        ledger.finish().await;
        written.map_or_else(|error| Reply::Failed(chain(&error)), |()| Reply::Done)
    }

    async fn start_streams(&self, probe: &scenario::Probe, load: &scenario::Load) -> Outcome {
        let attempts = self.feed(Message::Attempt);
        let ledger = self.feed(Message::Ledger);
        let Trial { load: server, tables, .. } = &self.trial;
        match Probes::start(self.clock, probe, server, tables, &attempts.sender).await {
            Ok(probes) => {
                let writers = Writers::start(server, tables, load, &ledger.sender);
                let streams = Box::new(Streams { probes, writers, attempts, ledger });
                Outcome { reply: Reply::Done, change: Some((self.trial.number, Change::Streams(streams))) }
            }
            Err(error) => Reply::Failed(format!("cannot start the control stream on the loopback interface: {error}")).into(),
        }
    }

    async fn holds(&self, key: RowKey) -> Reply {
        let started = self.clock.now();
        match self.trial.tables.holds(&self.trial.server, key, self.deadline).await {
            Ok(found) => Reply::Held { started, ended: self.clock.now(), found },
            Err(error) => Reply::Failed(error.to_string()),
        }
    }

    async fn read_table(&self, table: &str) -> Reply {
        let Trial { server, tables, .. } = &self.trial;
        let read = async {
            // Only the connection is tried again: a read that broke off has left rows with its reader.
            let mut session = retry(self.deadline, |deadline| server.connect(DATABASE, deadline)).await?;
            final_read::read_table(&mut session, tables, table, CHUNK, |rows| self.hand_over(rows)).await
        };
        let error = match read.await {
            Ok(rows) => return Reply::Read(rows),
            Err(error) => error,
        };
        // Is it the tables that are gone, or the server? Gone tables are read: they hold nothing.
        let gone = tables.read_mark(server, Instant::now() + LOOK_DEADLINE).await == Answer::Known(None);
        if gone && error.code().is_some() { Reply::Gone } else { Reply::Failed(error.to_string()) }
    }

    /// Tells a chunk of rows as soon as its reader can take it.
    async fn hand_over(&self, rows: Vec<final_read::ReadRow>) -> Result<(), String> {
        self.credit.acquire().await.expect("nobody closes it").forget();
        let sent = self.messages.send(Message::Rows(self.id, rows).into()).await;
        sent.map_err(|_| "nobody takes the rows any more".to_owned())
    }

    /// A channel whose values are told as those of this trial.
    fn feed<V: Send + 'static>(&self, message: impl Fn(u32, V) -> Message + Send + 'static) -> Feed<V> {
        let (sender, mut values) = mpsc::channel(QUEUE);
        let (messages, trial) = (self.messages.clone(), self.trial.number);
        let task = tokio::spawn(async move {
            while let Some(value) = values.recv().await {
                // If nobody takes it any more, the streams are about to be stopped.
                if messages.send(message(trial, value).into()).await.is_err() {
                    return;
                }
            }
        });
        Feed { sender, task }
    }
}

/// A channel whose values are told.
struct Feed<V> {
    sender: mpsc::Sender<V>,
    task: JoinHandle<()>,
}

impl<V> Feed<V> {
    /// Waits until all that was sent is told; every other copy of the sender must be dropped by now.
    async fn finish(self) {
        drop(self.sender);
        self.task.await.expect("a feed does not panic");
    }
}

impl Streams {
    async fn stop(self) {
        tokio::join!(self.probes.stop(), self.writers.stop());
        self.attempts.finish().await;
        self.ledger.finish().await;
    }
}

/// Tries until it works or the deadline has passed; the last error is returned. Each try may take [`LOOK_DEADLINE`].
async fn retry<V, F: Future<Output = Result<V, SqlError>>>(end: Instant, mut work: impl FnMut(Instant) -> F) -> Result<V, SqlError> {
    loop {
        match work((Instant::now() + LOOK_DEADLINE).min(end)).await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() + RETRY_PERIOD > end => return Err(error),
            Err(_) => sleep(RETRY_PERIOD).await,
        }
    }
}
