//! The probe streams: open loop, through the service address.
//!
//! An attempt is due every Δ, whatever became of the one before, and has a hard deadline over all of it (connect, log in, write).
//! So an outage is seen as it was, not as a stalled client would have it: a closed loop sends nothing while it waits, and a long time-out
//! calls an attempt good that was sent in the middle of the outage. When too many attempts are in flight, those that are due are counted
//! as dropped, never skipped in silence.
//!
//! Beside the headline ([`Stream::WriteNew`], a write on a new connection) runs a control stream: an echo on the loopback interface within
//! this process, which never touches the cluster. If that one is late, it was the harness that stalled, and the trial says nothing.

mod control;
mod write_new;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use crate::{
    event::{Attempt, AttemptRun, Clock, Moment, Stream},
    scenario,
    workload::{Server, Tables},
};

/// A stream never has more attempts in flight, whatever the scenario says: each is a connection.
const MOST_IN_FLIGHT: usize = 1_024;

/// The probe streams of a trial at work.
#[derive(Debug)]
pub struct Probes {
    stop: CancellationToken,
    streams: JoinSet<()>,
}

impl Probes {
    /// Starts them.
    ///
    /// # Errors
    /// If the control stream's echo cannot listen on the loopback interface.
    pub async fn start(
        clock: Clock,
        settings: &scenario::Probe,
        server: &Server,
        tables: &Tables,
        attempts: &mpsc::Sender<Attempt>,
    ) -> std::io::Result<Self> {
        let stop = CancellationToken::new();
        let mut streams = JoinSet::new();
        let pace = Pace { clock, every: settings.every.0, timeout: settings.timeout.0, attempts: attempts.clone(), stop: stop.clone() };

        let (server, tables) = (Arc::new(server.clone()), Arc::new(tables.clone()));
        streams.spawn(pace.clone().run(Stream::WriteNew, move |number, deadline| {
            let (server, tables) = (server.clone(), tables.clone());
            async move { write_new::attempt(&server, &tables, number, deadline).await }
        }));

        let echo = control::Echo::start().await?;
        let address = echo.address();
        streams.spawn(async move {
            pace.run(Stream::Control, move |_, deadline| control::attempt(address, deadline)).await;
            echo.stop();
        });
        Ok(Self { stop, streams })
    }

    /// Starts no further attempt, waits for those in flight (their deadline bounds them) and ends.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.streams.join_next().await.is_some() {}
    }
}

/// What an attempt found: the rest of [`AttemptRun`] is the clock's.
type Finding = (crate::event::Outcome, Option<crate::event::Incarnation>, Option<crate::event::AttemptError>);

/// When the attempts of a stream are due.
#[derive(Clone, Debug)]
struct Pace {
    clock: Clock,
    every: Duration,
    timeout: Duration,
    attempts: mpsc::Sender<Attempt>,
    stop: CancellationToken,
}

impl Pace {
    /// Makes attempts until it is stopped, and waits for the last ones.
    async fn run<F, A>(self, stream: Stream, attempt: F)
    where
        F: Fn(u64, tokio::time::Instant) -> A,
        A: Future<Output = Finding> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(self.in_flight()));
        let mut in_flight = JoinSet::new();
        // `Burst`: after a stall of the harness every attempt that was due is made, late, and shows how late.
        let mut due = tokio::time::interval(self.every);
        due.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0.. {
            let tick = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                tick = due.tick() => tick,
            };
            let scheduled = self.moment(tick);
            while in_flight.try_join_next().is_some() {}
            let Ok(place) = places.clone().try_acquire_owned() else {
                self.report(Attempt { stream, number, scheduled, run: None }).await;
                continue;
            };
            let started = self.clock.now();
            let running = attempt(number, tokio::time::Instant::now() + self.timeout);
            let this = self.clone();
            in_flight.spawn(async move {
                let (outcome, incarnation, error) = running.await;
                let ended = this.clock.now();
                drop(place);
                let run = AttemptRun { started, ended, outcome, incarnation, error };
                this.report(Attempt { stream, number, scheduled, run: Some(run) }).await;
            });
        }
        while in_flight.join_next().await.is_some() {}
    }

    /// How many attempts may be in flight: as many as are due within the deadline of one. More means that deadlines do not hold.
    fn in_flight(&self) -> usize {
        usize::try_from(self.timeout.as_nanos() / self.every.as_nanos().max(1)).unwrap_or(usize::MAX).saturating_add(1).min(MOST_IN_FLIGHT)
    }

    fn moment(&self, tick: tokio::time::Instant) -> Moment {
        let since = tick.into_std().saturating_duration_since(self.clock.instant(Moment(0)));
        Moment(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The recorder outlives the streams; if it is gone, so is the run, and nobody is left to tell.
    async fn report(&self, attempt: Attempt) {
        let _ = self.attempts.send(attempt).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::Outcome;

    /// Runs a stream for one second of paused time and returns what it reported, in order of number.
    async fn one_second(every: Duration, timeout: Duration, each_takes: Duration) -> Vec<Attempt> {
        let (attempts, mut reported) = mpsc::channel(10_000);
        let stop = CancellationToken::new();
        let pace = Pace { clock: Clock::new(), every, timeout, attempts, stop: stop.clone() };
        let stream = tokio::spawn(pace.run(Stream::WriteNew, move |_, _| async move {
            tokio::time::sleep(each_takes).await;
            (Outcome::Acknowledged, None, None)
        }));
        tokio::time::sleep(Duration::from_millis(999)).await;
        stop.cancel();
        stream.await.unwrap();
        let mut all = Vec::new();
        while let Some(attempt) = reported.recv().await {
            all.push(attempt);
        }
        all.sort_by_key(|attempt| attempt.number);
        all
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_due_whatever_became_of_the_one_before() {
        let all = one_second(Duration::from_millis(100), Duration::from_secs(1), Duration::from_millis(350)).await;
        assert_eq!(all.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert!(all.iter().all(|attempt| attempt.run.is_some()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_started_is_counted_as_dropped() {
        // Attempts that do not keep their deadline of 300 ms: 31 of them are in flight from then on.
        let all = one_second(Duration::from_millis(10), Duration::from_millis(300), Duration::from_secs(3)).await;
        assert_eq!(all.len(), 100);
        assert_eq!(all.iter().filter(|attempt| attempt.run.is_none()).count(), 100 - 31);
    }
}
