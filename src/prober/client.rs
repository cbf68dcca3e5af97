//! The runner's end of the wire.
//!
//! One task holds the connection and all that outlives it: which number comes next, which requests are not answered, how the clocks compare. When
//! a connection breaks it dials again, with growing pauses, says from which number it goes on, and sends again what was not answered; the prober
//! does nothing twice. It gives up when it has heard nothing for [`LOST_AFTER`].

use std::{collections::BTreeMap, io, time::Duration};

use futures::StreamExt as _;
use tokio::{
    io::{ReadHalf, WriteHalf, split},
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at},
};

use super::{
    Delivery, Dial, LOST_AFTER, Likeness, ProberError,
    clock::{Comparison, Ping},
    message::{Message, Refusal, Reply, Request, ToProber, ToRunner},
    program,
    wire::{self, Lines},
};
use crate::event::{Clock, Moment, TimeBound};

/// How long opening a connection and its first lines may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// A connection on which nothing was heard for so long is dead: a ping goes out every second.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a line may take to leave.
const SEND_DEADLINE: Duration = SILENCE;
/// The pauses between two tries grow from the first to the last of these.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// How often the clocks are compared, and what was recorded is acknowledged.
const PING_PERIOD: Duration = Duration::from_secs(1);
/// How many pings, one right after the other, choose the offset of a trial, and end it.
const BURST: usize = 25;
/// After so many messages it is asked whether they are recorded, at the latest with the next ping.
const MARK_EVERY: u64 = 256;

/// What the client is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Have this done.
    Request(Request),
    /// A trial begins: choose an offset.
    Compare(oneshot::Sender<TimeBound>),
    /// It ends: say how far that offset can have been from the truth.
    Conclude(oneshot::Sender<TimeBound>),
}

/// How a conversation ended.
enum End {
    /// The connection broke.
    Broken(String),
    /// The prober is of no use any more.
    Failed(ProberError),
    /// Nobody asks any more.
    Closed,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Holds the wire until the prober fails or nobody asks any more.
pub(super) async fn run<D: Dial>(
    dial: D,
    session: String,
    likeness: Likeness,
    clock: Clock,
    mut commands: mpsc::UnboundedReceiver<Command>,
    deliveries: mpsc::Sender<Delivery>,
    mut recorded: watch::Receiver<u64>,
) {
    let program = match likeness {
        Likeness::Version => None,
        // Off this thread: the program is large, and the disk may be slow.
        Likeness::Build => match tokio::task::spawn_blocking(program::fingerprint).await {
            Ok(Ok(program)) => Some(program),
            Ok(Err(error)) => return drop(deliveries.send(Delivery::Failed(ProberError::Program(error.to_string()))).await),
            // The runtime is going.
            Err(_) => return,
        },
    };
    let mut client = Client {
        session,
        program,
        clock,
        deliveries,
        next: 1,
        marked: 0,
        life: None,
        unanswered: BTreeMap::new(),
        comparison: None,
        burst: None,
        heard: Instant::now(),
    };
    let [mut pause, longest] = PAUSES;
    loop {
        let heard = client.heard;
        let lost = heard + LOST_AFTER;
        let opened = match timeout_at(lost.min(Instant::now() + HANDSHAKE_DEADLINE), dial.dial()).await {
            Ok(opened) => opened.map_err(|error| End::Broken(format!("could not open a connection: {error}"))),
            Err(_) => Err(End::Broken(format!("no connection within {}", humantime::format_duration(HANDSHAKE_DEADLINE)))),
        };
        let end = match opened {
            Ok(stream) => client.converse(stream, &mut commands, &mut recorded).await,
            Err(end) => end,
        };
        let why = match end {
            End::Closed => return,
            End::Failed(error) => return client.deliver(Delivery::Failed(error)).await,
            End::Broken(why) => why,
        };
        if commands.is_closed() {
            return;
        }
        if client.heard > heard {
            [pause, _] = PAUSES;
        }
        if Instant::now() + pause > client.heard + LOST_AFTER {
            return client.deliver(Delivery::Failed(ProberError::Lost { within: LOST_AFTER, why })).await;
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// What outlives a connection.
struct Client {
    session: String,
    /// The build that the prober must be of.
    program: Option<&'static str>,
    clock: Clock,
    deliveries: mpsc::Sender<Delivery>,
    /// The number of the message that is due.
    next: u64,
    /// Up to which number it was asked whether all is recorded.
    marked: u64,
    /// The process that the prober was at first.
    life: Option<String>,
    unanswered: BTreeMap<u64, Request>,
    comparison: Option<Comparison>,
    burst: Option<Burst>,
    /// When something was heard last.
    heard: Instant,
}

/// Pings one right after the other.
struct Burst {
    pings: Vec<Ping>,
    /// Whether they choose an offset, or are added to those that did.
    chooses: bool,
    answer: oneshot::Sender<TimeBound>,
}

impl Client {
    /// Talks over one connection until it ends.
    async fn converse<S>(&mut self, stream: S, commands: &mut mpsc::UnboundedReceiver<Command>, recorded: &mut watch::Receiver<u64>) -> End
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (reader, mut writer) = split(stream);
        let mut lines = wire::lines(reader);
        match self.talk(&mut lines, &mut writer, commands, recorded).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn talk<S>(
        &mut self,
        lines: &mut Lines<S>,
        writer: &mut WriteHalf<S>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        recorded: &mut watch::Receiver<u64>,
    ) -> Result<std::convert::Infallible, End>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        ReadHalf<S>: Unpin,
    {
        let hello = ToProber::Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            program: self.program.map(str::to_owned),
            session: self.session.clone(),
            from: self.next,
        };
        send(writer, &hello).await?;
        let welcome = timeout(HANDSHAKE_DEADLINE, next_frame(lines)).await;
        let (life, next) = match welcome.map_err(|_| End::Broken("the prober did not greet in time".to_owned()))?? {
            ToRunner::Welcome { life, program, next } => {
                // One of before builds were told apart takes any runner.
                if let Some(refusal) = Refusal::of_builds(&program, self.program) {
                    return Err(End::Failed(refusal.into()));
                }
                (life, next)
            }
            ToRunner::Refused(refusal) => return Err(End::Failed(refusal.into())),
            other => return Err(End::Failed(ProberError::Garbled(format!("it greeted with {other:?}")))),
        };
        self.heard = Instant::now();
        // Another process has another clock, and none of what the first one was doing. What is left of that is fetched first.
        let same = *self.life.get_or_insert_with(|| life.clone()) == life;
        let hit = move |client: &Self| if !same && client.next >= next { Err(End::Failed(ProberError::Hit)) } else { Ok(()) };
        hit(self)?;
        if same {
            for request in self.unanswered.values() {
                send(writer, &ToProber::Request(request.clone())).await?;
            }
            if self.burst.is_some() {
                self.ping(writer).await?;
            }
        }
        let acknowledged = *recorded.borrow_and_update();
        send(writer, &ToProber::Acknowledge(acknowledged)).await?;

        let mut ticks = interval(PING_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // Rare things first: a backlog of messages must not keep them waiting.
                biased;
                command = commands.recv() => match command {
                    None => return Err(End::Closed),
                    Some(Command::Request(request)) => {
                        self.unanswered.insert(request.id, request.clone());
                        send(writer, &ToProber::Request(request)).await?;
                    }
                    Some(Command::Compare(answer)) => {
                        self.burst = Some(Burst { pings: Vec::with_capacity(BURST), chooses: true, answer });
                        self.ping(writer).await?;
                    }
                    Some(Command::Conclude(answer)) => {
                        self.burst = Some(Burst { pings: Vec::with_capacity(BURST), chooses: false, answer });
                        self.ping(writer).await?;
                    }
                },
                _ = ticks.tick() => {
                    self.mark().await;
                    self.ping(writer).await?;
                }
                Ok(()) = recorded.changed() => {
                    let number = *recorded.borrow_and_update();
                    send(writer, &ToProber::Acknowledge(number)).await?;
                }
                frame = next_frame(lines) => {
                    let t1 = self.clock.now();
                    self.heard = Instant::now();
                    match frame? {
                        ToRunner::Message(number, message) => {
                            self.receive(number, message).await?;
                            hit(self)?;
                        }
                        ToRunner::Pong { t0, tp } if same => {
                            if self.take(Ping { t0, tp, t1 }) {
                                self.ping(writer).await?;
                            }
                        }
                        ToRunner::Pong { .. } => {}
                        ToRunner::Refused(refusal) => return Err(End::Failed(refusal.into())),
                        other @ ToRunner::Welcome { .. } => {
                            return Err(End::Failed(ProberError::Garbled(format!("it greeted again with {other:?}"))));
                        }
                    }
                }
                () = sleep_until(self.heard + SILENCE) => {
                    return Err(End::Broken(format!("nothing was heard for {}", humantime::format_duration(SILENCE))));
                }
            }
        }
    }

    /// Takes the next message; one that is not the next is none.
    async fn receive(&mut self, number: u64, mut message: Message) -> Result<(), End> {
        if number != self.next {
            return Err(End::Failed(ProberError::Numbers { expected: self.next, got: number }));
        }
        self.map(&mut message)?;
        if let Message::Reply(id, _) = &message {
            self.unanswered.remove(id);
        }
        self.deliver(message.into()).await;
        self.next += 1;
        if number - self.marked >= MARK_EVERY {
            self.mark().await;
        }
        Ok(())
    }

    /// Puts the moments of a message on the runner's clock.
    fn map(&self, message: &mut Message) -> Result<(), End> {
        let moments: Vec<&mut Moment> = match message {
            Message::Attempt(_, attempt) => {
                let run = attempt.run.iter_mut().flat_map(|run| [&mut run.started, &mut run.ended]);
                std::iter::once(&mut attempt.scheduled).chain(run).collect()
            }
            Message::Reply(_, Reply::Held { started, ended, .. }) => vec![started, ended],
            Message::Reply(..) | Message::Ledger(..) | Message::Rows(..) | Message::Hit | Message::Full { .. } => return Ok(()),
        };
        let Some(comparison) = &self.comparison else {
            return Err(End::Failed(ProberError::Garbled("it tells moments before the clocks were compared".to_owned())));
        };
        for moment in moments {
            *moment = comparison.map(*moment);
        }
        Ok(())
    }

    /// Asks whether all messages so far are recorded.
    async fn mark(&mut self) {
        let last = self.next - 1;
        if last > self.marked {
            self.marked = last;
            self.deliver(Delivery::Mark(last)).await;
        }
    }

    /// If the desk is gone, nobody asks any more, which shows in the commands.
    async fn deliver(&self, delivery: Delivery) {
        let _ = self.deliveries.send(delivery).await;
    }

    /// Asks for the time.
    async fn ping<S: tokio::io::AsyncWrite>(&self, writer: &mut WriteHalf<S>) -> io::Result<()> {
        send(writer, &ToProber::Ping { t0: self.clock.now() }).await
    }

    /// Takes the answer to a ping. Returns whether another is wanted at once.
    fn take(&mut self, ping: Ping) -> bool {
        let Some(burst) = &mut self.burst else {
            if let Some(comparison) = &mut self.comparison {
                comparison.push(ping);
            }
            return false;
        };
        burst.pings.push(ping);
        if burst.pings.len() < BURST {
            return true;
        }
        let Burst { pings, chooses, answer } = self.burst.take().expect("it was there");
        match (&mut self.comparison, chooses) {
            (Some(comparison), false) => pings.into_iter().for_each(|ping| comparison.push(ping)),
            (comparison, _) => *comparison = Comparison::of(pings),
        }
        if let Some(comparison) = &self.comparison {
            let _ = answer.send(TimeBound { bound: comparison.bound(), pings: comparison.pings() });
        }
        false
    }
}

async fn next_frame<S: tokio::io::AsyncRead>(lines: &mut Lines<S>) -> Result<ToRunner, End> {
    match lines.next().await {
        Some(Ok(line)) => wire::parse(&line).map_err(|error| End::Failed(ProberError::Garbled(error))),
        Some(Err(error)) => Err(End::Broken(error.to_string())),
        None => Err(End::Broken("the connection was closed".to_owned())),
    }
}

async fn send<S: tokio::io::AsyncWrite>(writer: &mut WriteHalf<S>, frame: &ToProber) -> io::Result<()> {
    match timeout(SEND_DEADLINE, wire::send(writer, frame)).await {
        Ok(sent) => sent,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "a line did not leave")),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::noted, *};
    use crate::prober::Prober;

    /// Nobody listens.
    struct Nowhere;

    impl Dial for Nowhere {
        type Stream = tokio::io::DuplexStream;

        async fn dial(&self) -> io::Result<Self::Stream> {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_prober_that_cannot_be_reached_is_given_up_after_two_minutes() {
        let (notes, task) = noted(|_, _| {});
        tokio::spawn(task);
        let began = Instant::now();
        let prober = Prober::there(Nowhere, "s", Likeness::Version, Clock::new(), notes);
        let failure = prober.failed().await;
        assert!(matches!(&failure, ProberError::Lost { within: LOST_AFTER, why } if why.contains("refused")), "{failure}");
        let waited = began.elapsed();
        assert!(waited <= LOST_AFTER && waited + PAUSES[1] >= LOST_AFTER, "{waited:?}");
    }
}
