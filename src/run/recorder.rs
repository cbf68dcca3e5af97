//! The one who orders events and writes them down.
//!
//! Everybody sends; the recorder writes each event as one line, folds it into the [`History`], and publishes what the engine waits for. An
//! event is stamped by the one who saw it, before it is sent: what happened first may stand a line later, and its time says so.

use std::{
    fs::File,
    io::{self, Write as _},
};

use chrono::{DateTime, Utc};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    event::{Clock, Event, EventKind, Moment, Outcome, Sighting, Stream},
    measure::{History, Streak, first_good},
    prober::Note,
};

/// How many events may be under way to the recorder before a sender waits.
const QUEUE: usize = 4_096;

/// The record cannot be written any more, so the run cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not write the record of the run: {0}")]
pub struct RecordError(pub String);

/// What the engine waits for.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Which trial it is about.
    pub trial: Option<u32>,
    /// How long the headline stream has been without a failure.
    pub streak: Streak,
    /// When the latest attempt of the headline stream ended that was not acknowledged.
    pub missed: Option<Moment>,
    /// The first attempt that shows the recovery from the last fault: its number, and when it was due.
    pub first_good: Option<(u64, Moment)>,
    /// Why the record cannot be written any more.
    pub broken: Option<RecordError>,
}

enum Command {
    Record(DateTime<Utc>, Moment, Option<u32>, EventKind),
    Read(oneshot::Sender<History>),
    Written(oneshot::Sender<bool>),
}

/// The way to the recorder; any number of copies.
#[derive(Clone, Debug)]
pub struct Recorder {
    clock: Clock,
    commands: mpsc::Sender<Command>,
    live: watch::Receiver<Live>,
}

impl Recorder {
    /// Starts one that writes to this file. It ends when all copies and all feeds of it are dropped.
    #[must_use]
    pub fn start(clock: Clock, file: File) -> (Self, JoinHandle<()>) {
        let (commands, queue) = mpsc::channel(QUEUE);
        let (publish, live) = watch::channel(Live::default());
        let task = tokio::spawn(Book { file, history: History::default(), publish }.keep(queue));
        (Self { clock, commands, live }, task)
    }

    /// The clock that stamps events.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Records that this happened now.
    pub async fn record(&self, trial: Option<u32>, event: EventKind) {
        let (at, t) = self.clock.both();
        self.send(Command::Record(at, t, trial, event)).await;
    }

    /// What the engine waits for.
    #[must_use]
    pub fn live(&self) -> watch::Receiver<Live> {
        self.live.clone()
    }

    /// The history so far, with all that was sent before.
    pub async fn history(&self) -> History {
        let (answer, history) = oneshot::channel();
        self.send(Command::Read(answer)).await;
        history.await.expect("the recorder outlives its copies")
    }

    /// A channel whose notes are recorded: what the prober tells.
    #[must_use]
    pub fn notes(&self) -> mpsc::Sender<Note> {
        let (sender, mut notes) = mpsc::channel(QUEUE);
        let recorder = self.clone();
        tokio::spawn(async move {
            while let Some(note) = notes.recv().await {
                match note {
                    Note::Event(trial, event) => recorder.record(Some(trial), event).await,
                    // Whoever asked may have gone.
                    Note::Written(answer) => drop(answer.send(recorder.written().await)),
                }
            }
        });
        sender
    }

    /// Waits until all that was recorded before is written. `false`: the record is broken.
    pub async fn written(&self) -> bool {
        let (answer, written) = oneshot::channel();
        self.send(Command::Written(answer)).await;
        written.await.expect("the recorder outlives its copies")
    }

    /// A channel whose sightings are recorded as those of this trial.
    #[must_use]
    pub fn sightings(&self, trial: u32) -> Feed<Sighting> {
        self.feed(trial, EventKind::Seen)
    }

    fn feed<T: Send + 'static>(&self, trial: u32, event: impl Fn(T) -> EventKind + Send + 'static) -> Feed<T> {
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        let recorder = self.clone();
        let task = tokio::spawn(async move {
            while let Some(value) = receiver.recv().await {
                recorder.record(Some(trial), event(value)).await;
            }
        });
        Feed { sender, task }
    }

    async fn send(&self, command: Command) {
        assert!(self.commands.send(command).await.is_ok(), "the recorder outlives its copies");
    }
}

/// A channel whose values are recorded.
#[derive(Debug)]
pub struct Feed<T> {
    /// Where to send them.
    pub sender: mpsc::Sender<T>,
    task: JoinHandle<()>,
}

impl<T> Feed<T> {
    /// Waits until all that was sent is recorded; every other copy of the sender must be dropped by now.
    pub async fn finish(self) {
        drop(self.sender);
        self.task.await.expect("a feed does not panic");
    }
}

/// The recorder's own side.
struct Book {
    file: File,
    history: History,
    publish: watch::Sender<Live>,
}

impl Book {
    async fn keep(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(command) = queue.recv().await {
            match command {
                Command::Record(at, t, trial, event) => self.enter(&Event { at, t, trial, event }),
                // Whoever asked may have gone.
                Command::Read(answer) => drop(answer.send(self.history.clone())),
                // A line is written when it is entered.
                Command::Written(answer) => drop(answer.send(self.publish.borrow().broken.is_none())),
            }
        }
        // What is written is on its way to the disk; a run that ends waits for it.
        let _ = self.file.sync_data();
    }

    fn enter(&mut self, event: &Event) {
        if let Err(error) = self.write(event) {
            self.publish.send_if_modified(|live| {
                let first = live.broken.is_none();
                live.broken.get_or_insert(RecordError(error.to_string()));
                first
            });
        }
        self.history.apply(event);
        self.publish(event);
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }

    /// Keeps up what the engine waits for.
    fn publish(&mut self, event: &Event) {
        match (&event.event, event.trial) {
            (EventKind::TrialStarted, trial) => {
                self.publish.send_modify(|live| *live = Live { trial, broken: live.broken.take(), ..Live::default() });
            }
            (EventKind::Attempt(attempt), trial) if attempt.stream == Stream::WriteNew => {
                // Once there is one it stays; before, only an acknowledgement can be it. So no attempt is looked at over and over.
                let acknowledged = attempt.run.as_ref().is_some_and(|run| run.outcome == Outcome::Acknowledged);
                let missed = attempt.run.as_ref().filter(|_| !acknowledged).map(|run| run.ended);
                let wanted = acknowledged && self.publish.borrow().first_good.is_none();
                let good = if wanted { self.first_good(trial) } else { None };
                self.publish.send_if_modified(|live| {
                    if live.trial == trial {
                        live.streak.push(attempt);
                        live.missed = live.missed.max(missed);
                        live.first_good = live.first_good.or(good);
                    }
                    live.trial == trial
                });
            }
            // A new fault asks for a new recovery; a confirmed one may have made an attempt good that has been seen already.
            (EventKind::FaultCalled(_) | EventKind::FaultConfirmed(..), trial) => {
                let good = self.first_good(trial);
                self.publish.send_modify(|live| live.first_good = good);
            }
            _ => {}
        }
    }

    fn first_good(&self, trial: Option<u32>) -> Option<(u64, Moment)> {
        let index = usize::try_from(trial?).ok()?.checked_sub(1)?;
        let trial = self.history.trials.get(index)?;
        let doubt = trial.doubt_so_far();
        first_good(&trial.attempts, trial.last_fault()?, trial.last_toll(), trial.old_life().as_ref(), doubt)
            .map(|attempt| (attempt.number, attempt.scheduled))
    }
}
