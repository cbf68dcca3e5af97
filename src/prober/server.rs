//! The prober as a process of its own: what runs in the pod.
//!
//! It listens on a loopback address alone, so only what is in its own network namespace reaches it: a port-forward, which Kubernetes grants to
//! whoever may forward ports into this pod. It serves one session, and of that the newest connection; an older one is closed, as its runner has
//! given it up.
//!
//! It ends by itself when no runner was there for [`DEAD_MAN`]: a runner that was killed must not leave a load on the database for ever.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use futures::StreamExt as _;
use tokio::{
    io::{AsyncWriteExt as _, WriteHalf, split},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    journal::{self, Cursor, Entry, Journal, JournalError, Limits, Tail},
    message::{Message, Refusal, Request, ToProber, ToRunner},
    program, service,
    wire::{self, Lines},
};
use crate::{
    event::{Clock, Moment},
    workload::Password,
};

/// How long a prober without a runner goes on.
pub const DEAD_MAN: Duration = Duration::from_mins(5);
/// Where it listens in its pod.
pub const PORT: u16 = 4_133;
/// How long a new connection may take to say who it is.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// A connection on which nothing was heard for so long is dead: a runner pings every second.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a piece of the journal may take to leave.
const SEND_DEADLINE: Duration = SILENCE;
/// How much of the journal is sent at once; the answer to a ping waits behind it.
const PIECE: usize = 64 << 10;
/// How many messages may wait for the disk.
const QUEUE: usize = 4_096;
/// How many answers to pings may wait to leave; what is beyond is not answered, which only costs a ping.
const PONGS: usize = 64;
/// After an `accept` that failed (out of descriptors, most likely).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What a prober process is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; a loopback address.
    pub listen: SocketAddr,
    /// The session it works for.
    pub session: String,
    /// The folder of its journal.
    pub data: PathBuf,
    /// How much of the journal may wait for the runner; `None`: a quarter of a gigabyte.
    pub most_on_disk: Option<u64>,
}

/// Why a prober ended in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Told,
    /// No runner was there for [`DEAD_MAN`].
    Alone,
}

/// The prober could not be.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is not on the loopback interface.
    #[error("a prober listens on a loopback address, and `{0}` is none: whoever reaches it commands it")]
    NotLoopback(SocketAddr),
    /// It cannot listen.
    #[error("could not listen on `{address}`")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// It does not know which build it is.
    #[error("could not read the program's own file, by which a runner knows it")]
    Program(#[source] io::Error),
    /// It cannot keep its journal.
    #[error("could not open the journal")]
    Journal(#[from] JournalError),
    /// The thread of the journal could not be started.
    #[error("could not start the thread of the journal")]
    Thread(#[source] io::Error),
}

/// What the connections share.
struct Shared {
    session: String,
    folder: PathBuf,
    /// Names this process: its clock is no other's.
    life: String,
    /// Its build.
    program: &'static str,
    clock: Clock,
    tail: watch::Receiver<Tail>,
    entries: mpsc::Sender<Entry>,
    // Unbounded: it is our own runner that asks, a few dozen things a trial.
    requests: mpsc::UnboundedSender<Request>,
    /// How many runners are there: one, or for a moment two.
    runners: watch::Sender<usize>,
    newest: Mutex<CancellationToken>,
}

/// Serves its session until it is told to stop or left alone. `announce` is told where it listens.
///
/// # Errors
/// If it cannot begin. What goes wrong later, the runner is told.
pub async fn run(
    options: &Options,
    password: Password,
    announce: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<Ended, ServerError> {
    if !options.listen.ip().is_loopback() {
        return Err(ServerError::NotLoopback(options.listen));
    }
    let program = program::fingerprint().map_err(ServerError::Program)?;
    let limits = Limits { disk: options.most_on_disk.unwrap_or(Limits::default().disk), ..Limits::default() };
    let (mut journal, resumed) = Journal::open(&options.data, &options.session, limits)?;
    let listening = |source| ServerError::Listen { address: options.listen, source };
    let listener = TcpListener::bind(options.listen).await.map_err(listening)?;
    let address = listener.local_addr().map_err(listening)?;
    if resumed {
        // The process that began this journal is gone, and with it the streams: what it told is known, what it saw since is not.
        journal.append_last(Message::Hit)?;
    }
    let clock = Clock::new();
    let (tail, seen) = watch::channel(Tail::of(&journal, resumed));
    let (entries, queue) = mpsc::channel(QUEUE);
    thread::Builder::new().name("journal".to_owned()).spawn(move || journal::keep(journal, queue, &tail)).map_err(ServerError::Thread)?;
    let (requests, asked) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    if resumed {
        drop(asked);
    } else {
        let mut full = seen.clone();
        let messages = entries.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = service::serve(clock, password, asked, messages) => {}
                // Nothing that the streams would tell is kept any more.
                _ = full.wait_for(|tail| tail.ended) => {}
            }
        });
    }
    let runners = watch::Sender::new(0);
    let mut attended = runners.subscribe();
    let shared = Arc::new(Shared {
        session: options.session.clone(),
        folder: options.data.clone(),
        life: uuid::Uuid::new_v4().to_string(),
        program,
        clock,
        tail: seen,
        entries,
        requests,
        runners,
        newest: Mutex::new(CancellationToken::new()),
    });
    announce(address);
    tasks.spawn(accept(listener, shared));
    // Dropping the tasks stops streams and connections.
    tokio::select! {
        biased;
        () = shutdown => Ok(Ended::Told),
        () = left_alone(&mut attended) => Ok(Ended::Alone),
    }
}

/// Waits until no runner was there for [`DEAD_MAN`].
async fn left_alone(runners: &mut watch::Receiver<usize>) {
    loop {
        // The sender lives as long as the connections do.
        let _ = runners.wait_for(|runners| *runners == 0).await;
        tokio::select! {
            () = sleep(DEAD_MAN) => return,
            _ = runners.wait_for(|runners| *runners > 0) => {}
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let shared = shared.clone();
                    connections.spawn(async move { shared.attend(stream).await });
                }
                Err(_) => sleep(ACCEPT_AGAIN).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Shared {
    /// Talks with a runner until the connection breaks or a newer one comes. How it ends is the runner's to notice.
    async fn attend(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let (reader, mut writer) = split(stream);
        let mut lines = wire::lines(reader);
        let Ok(Ok(from)) = timeout(HANDSHAKE_DEADLINE, self.greet(&mut lines, &mut writer)).await else { return };
        let newest = CancellationToken::new();
        std::mem::replace(&mut *self.newest.lock().unwrap_or_else(PoisonError::into_inner), newest.clone()).cancel();
        let _attended = Attended::new(&self.runners);
        let (pongs, answers) = mpsc::channel(PONGS);
        tokio::select! {
            () = newest.cancelled() => {}
            _ = self.listen(&mut lines, &pongs) => {}
            _ = self.tell(&mut writer, answers, Cursor::new(&self.folder, from)) => {}
        }
    }

    /// The first lines: who is there, and from which message they go on.
    async fn greet(&self, lines: &mut Lines<TcpStream>, writer: &mut WriteHalf<TcpStream>) -> Result<u64, Gone> {
        let ToProber::Hello { version, program, session, from } = next_frame(lines).await? else { return Err(Gone) };
        let Tail { first, next, broken, .. } = self.tail.borrow().clone();
        let ours = env!("CARGO_PKG_VERSION");
        let refusal = if version != ours {
            Some(Refusal::Version { prober: ours.to_owned(), runner: version })
        } else if let Some(refusal) = Refusal::of_builds(self.program, program.as_deref()) {
            Some(refusal)
        } else if session != self.session {
            Some(Refusal::Session { prober: self.session.clone(), runner: session })
        } else if !(first..=next).contains(&from) {
            Some(Refusal::Numbers { from, first, next })
        } else {
            broken
        };
        if let Some(refusal) = refusal {
            wire::send(writer, &ToRunner::Refused(refusal)).await?;
            return Err(Gone);
        }
        wire::send(writer, &ToRunner::Welcome { life: self.life.clone(), program: self.program.to_owned(), next }).await?;
        Ok(from)
    }

    /// Does what the runner says.
    async fn listen(&self, lines: &mut Lines<TcpStream>, pongs: &mpsc::Sender<(Moment, Moment)>) -> Result<(), Gone> {
        loop {
            match timeout(SILENCE, next_frame(lines)).await?? {
                ToProber::Hello { .. } => return Err(Gone),
                // A prober that was hit does nothing more; the runner is about to hear it.
                ToProber::Request(request) => drop(self.requests.send(request)),
                ToProber::Acknowledge(number) => self.entries.send(Entry::Acknowledged(number)).await.map_err(|_| Gone)?,
                ToProber::Ping { t0 } => drop(pongs.try_send((t0, self.clock.now()))),
            }
        }
    }

    /// Sends what is in the journal, as it grows, and the time when it is asked for.
    async fn tell(
        &self,
        writer: &mut WriteHalf<TcpStream>,
        mut answers: mpsc::Receiver<(Moment, Moment)>,
        mut cursor: Cursor,
    ) -> Result<(), Gone> {
        let mut tail = self.tail.clone();
        loop {
            let (next, broken) = {
                let tail = tail.borrow_and_update();
                (tail.next, tail.broken.clone())
            };
            if let Ok((t0, tp)) = answers.try_recv() {
                timeout(SEND_DEADLINE, wire::send(writer, &ToRunner::Pong { t0, tp })).await??;
            } else if cursor.at() < next {
                // Off this thread: the disk may be slow.
                let read = tokio::task::spawn_blocking(move || cursor.read(next, PIECE).map(|lines| (cursor, lines))).await;
                let (read_to, piece) = read.map_err(|_| Gone)?.map_err(|_| Gone)?;
                cursor = read_to;
                timeout(SEND_DEADLINE, writer.write_all(&piece)).await??;
            } else if let Some(refusal) = broken {
                timeout(SEND_DEADLINE, wire::send(writer, &ToRunner::Refused(refusal))).await??;
                return Ok(());
            } else {
                tokio::select! {
                    answer = answers.recv() => {
                        let (t0, tp) = answer.ok_or(Gone)?;
                        timeout(SEND_DEADLINE, wire::send(writer, &ToRunner::Pong { t0, tp })).await??;
                    }
                    changed = tail.changed() => changed.map_err(|_| Gone)?,
                }
            }
        }
    }
}

/// Counts a runner as long as it lives.
struct Attended<'a>(&'a watch::Sender<usize>);

impl<'a> Attended<'a> {
    fn new(runners: &'a watch::Sender<usize>) -> Self {
        runners.send_modify(|runners| *runners += 1);
        Self(runners)
    }
}

impl Drop for Attended<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|runners| *runners -= 1);
    }
}

/// The connection is of no use any more; why, its other end sees best.
#[derive(Debug)]
struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl From<tokio::time::error::Elapsed> for Gone {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self
    }
}

async fn next_frame(lines: &mut Lines<TcpStream>) -> Result<ToProber, Gone> {
    let line = lines.next().await.ok_or(Gone)?.map_err(|_| Gone)?;
    wire::parse(&line).map_err(|_| Gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(folder: &std::path::Path) -> Options {
        Options { listen: ([127, 0, 0, 1], 0).into(), session: "s".into(), data: folder.to_owned(), most_on_disk: None }
    }

    fn password() -> Password {
        Password::new("unused".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_prober_that_no_runner_comes_to_ends_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let began = tokio::time::Instant::now();
        let ended = run(&options(folder.path()), password(), |_| {}, std::future::pending()).await.unwrap();
        assert_eq!(ended, Ended::Alone);
        assert!(began.elapsed() >= DEAD_MAN && began.elapsed() < DEAD_MAN + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_alone_begins_anew_when_a_runner_was_there() {
        let runners = watch::Sender::new(0);
        let mut seen = runners.subscribe();
        let began = tokio::time::Instant::now();
        let visits = async {
            sleep(DEAD_MAN / 2).await;
            let attended = Attended::new(&runners);
            sleep(DEAD_MAN * 3).await;
            drop(attended);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = left_alone(&mut seen) => {}
            () = visits => {}
        }
        assert_eq!(began.elapsed().as_secs(), (DEAD_MAN * 9 / 2).as_secs());
    }

    #[tokio::test]
    async fn it_listens_for_its_own_pod_alone() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { listen: ([0, 0, 0, 0], 0).into(), ..options(folder.path()) };
        let refused = run(&options, password(), |_| {}, std::future::pending()).await;
        assert!(matches!(refused, Err(ServerError::NotLoopback(_))));
    }

    #[tokio::test]
    async fn it_stops_when_it_is_told_to() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(run(&options(folder.path()), password(), |_| {}, std::future::ready(())).await.unwrap(), Ended::Told);
    }
}
