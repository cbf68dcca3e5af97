//! The processes that stand for containers.
//!
//! The laws of this room:
//! - *Every process is started by one thread*, the [`Spawner`]'s, which lives as long as the sandbox. The kernel's parent-death signal, by which our
//!   processes notice that they are alone, fires when the thread that started them ends.
//! - *A container ends as a whole.* When its first process ends, the rest of its group is killed and waited for before anybody is told, as the kernel
//!   does when the first process of a PID namespace ends. A process that is stuck in the kernel, such as in the `fsync` of a slow disk, is waited for
//!   however long that takes: it may still write.
//! - *No signal goes to a stranger.* A process is only reaped under the lock that a signal is sent under, so its id cannot have been given to another;
//!   for the other processes of a container the time at which they were started is compared first.

pub(crate) mod tree;

use std::{
    io,
    os::unix::process::CommandExt,
    process::Command,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};
use tokio::sync::{oneshot, watch};
use tokio_util::task::task_tracker::TaskTrackerToken;

pub(crate) use self::tree::Running;

/// How soon the rest of a container is looked at again while it dies; each time twice as long.
const REST_LOOK: Duration = Duration::from_millis(1);
/// The longest time between two looks, for a rest that is stuck in the kernel.
const LONGEST_REST_LOOK: Duration = Duration::from_millis(100);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Its exit code; 128 + n if signal n ended it.
    pub(crate) code: i32,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// When it was seen to have ended.
    pub(crate) at: DateTime<Utc>,
    /// The same moment, for counting from.
    pub(crate) instant: Instant,
}

/// The thread that starts every process.
#[derive(Debug, Clone)]
pub(crate) struct Spawner {
    requests: mpsc::Sender<Request>,
}

struct Request {
    command: Command,
    token: Option<TaskTrackerToken>,
    reply: oneshot::Sender<io::Result<Unclaimed>>,
}

/// A process on its way to whoever asked for it. If they wait no more, it is killed.
struct Unclaimed(Option<Arc<Process>>);

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            process.kill_all();
        }
    }
}

impl Spawner {
    /// Starts the thread. It ends when the last handle to it is dropped, and every process that is still there dies with it.
    pub(crate) fn start() -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::Builder::new().name("sandbox-spawner".into()).spawn(move || {
            for Request { mut command, token, reply } in inbox {
                // Watched from here on, so that it is reaped whether somebody waits for it or not.
                let started = command.spawn().and_then(|child| Process::watch(&child, token));
                reply.send(started.map(|process| Unclaimed(Some(process)))).ok();
            }
        })?;
        Ok(Self { requests })
    }

    /// Starts a process in a group of its own. Dropped half-way, this leaves none.
    ///
    /// The token, if there is one, is held until the process has ended and is reaped.
    pub(crate) async fn spawn(&self, mut command: Command, token: Option<TaskTrackerToken>) -> io::Result<Arc<Process>> {
        command.process_group(0);
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the sandbox is stopping");
        self.requests.send(Request { command, token, reply }).map_err(|_| gone())?;
        let mut started = answer.await.map_err(|_| gone())??;
        Ok(started.0.take().expect("it is claimed once"))
    }
}

/// A process that we started, the first of its group.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    /// Whether the process has been reaped, and its id may belong to another.
    reaped: Mutex<bool>,
    /// When the first process was seen to have ended; the rest may still be there.
    first_ended: OnceLock<Instant>,
    /// Whether it was killed for want of memory.
    out_of_memory: AtomicBool,
    exit: watch::Sender<Option<Exit>>,
}

impl Process {
    fn watch(child: &std::process::Child, token: Option<TaskTrackerToken>) -> io::Result<Arc<Self>> {
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("process ids fit"));
        let process = Arc::new(Self {
            pid,
            reaped: Mutex::new(false),
            first_ended: OnceLock::new(),
            out_of_memory: AtomicBool::new(false),
            exit: watch::Sender::new(None),
        });
        let watched = process.clone();
        let started = thread::Builder::new().name("sandbox-reaper".into()).spawn(move || {
            watched.wait_and_reap();
            drop(token);
        });
        if let Err(error) = started {
            process.kill_all();
            waitpid(pid, None).ok();
            return Err(error);
        }
        Ok(process)
    }

    fn wait_and_reap(&self) {
        let status = loop {
            // It stays a zombie, so that its id stays its own until we are done with the rest of its group.
            match waitid(Id::Pid(self.pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Err(Errno::EINTR) => {}
                other => break other,
            }
        };
        let (at, instant) = (Utc::now(), Instant::now());
        let (code, signal) = match status {
            Ok(WaitStatus::Exited(_, code)) => (code, None),
            Ok(WaitStatus::Signaled(_, signal, _)) => (128 + signal as i32, Some(signal as i32)),
            Ok(_) | Err(_) => (255, None),
        };
        self.first_ended.set(instant).ok();
        let mut pause = REST_LOOK;
        while tree::all().iter().any(|one| one.group == self.pid.as_raw() && one.is_live()) {
            killpg(self.pid, Signal::SIGKILL).ok();
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_REST_LOOK);
        }
        {
            let mut reaped = self.reaped.lock().expect("no holder of this lock panics");
            waitpid(self.pid, None).ok();
            *reaped = true;
        }
        self.exit.send_replace(Some(Exit { code, signal, at, instant }));
    }

    /// From now on its end is one for want of memory.
    pub(crate) fn mark_out_of_memory(&self) {
        self.out_of_memory.store(true, Ordering::SeqCst);
    }

    /// Whether it was killed for want of memory.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.out_of_memory.load(Ordering::SeqCst)
    }

    /// How it ended, if it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// How long the first process has been dead while others of the container, although killed, still live.
    pub(crate) fn stuck_for(&self) -> Option<Duration> {
        let since = self.first_ended.get().filter(|_| self.exit().is_none())?;
        Some(since.elapsed())
    }

    /// Returns when it has ended.
    pub(crate) async fn ended(&self) -> Exit {
        let mut exit = self.exit.subscribe();
        let ended = exit.wait_for(Option::is_some).await.expect("we hold the sender");
        ended.expect("waited for it")
    }

    /// Sends a signal to the first process only.
    pub(crate) fn signal_first(&self, signal: Signal) {
        let reaped = self.reaped.lock().expect("no holder of this lock panics");
        if !*reaped {
            kill(self.pid, signal).ok();
        }
    }

    /// Sends SIGKILL to all of them.
    pub(crate) fn kill_all(&self) {
        let reaped = self.reaped.lock().expect("no holder of this lock panics");
        if *reaped {
            return;
        }
        // Those that left the group first, while their parents can still be told from their ids.
        for one in tree::members(self.pid.as_raw()) {
            tree::signal(&one, Signal::SIGKILL);
        }
        killpg(self.pid, Signal::SIGKILL).ok();
    }

    /// All processes of the container: the first, its descendants, its group.
    pub(crate) fn members(&self) -> Vec<Running> {
        let reaped = self.reaped.lock().expect("no holder of this lock panics");
        if *reaped {
            return Vec::new();
        }
        tree::members(self.pid.as_raw()).into_iter().filter(Running::is_live).collect()
    }

    /// Sends a signal to one of [`members`](Self::members), if it is still the same process.
    pub(crate) fn signal(&self, one: &Running, signal: Signal) -> bool {
        let reaped = self.reaped.lock().expect("no holder of this lock panics");
        !*reaped && tree::signal(one, signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Long enough for any machine to start a shell.
    const SOON: Duration = Duration::from_secs(20);

    async fn shell(script: &str) -> (Arc<Process>, Spawner) {
        let spawner = Spawner::start().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        (spawner.spawn(command, None).await.unwrap(), spawner)
    }

    async fn end_of(process: &Process) -> Exit {
        tokio::time::timeout(SOON, process.ended()).await.expect("the process ends soon")
    }

    #[tokio::test]
    async fn an_exit_code_is_told() {
        let (process, _spawner) = shell("exit 7").await;
        let exit = end_of(&process).await;
        assert_eq!((exit.code, exit.signal), (7, None));
    }

    #[tokio::test]
    async fn a_signal_is_told_as_128_and_its_number() {
        let (process, _spawner) = shell("kill -9 $$").await;
        let exit = end_of(&process).await;
        assert_eq!((exit.code, exit.signal), (137, Some(9)));
    }

    #[tokio::test]
    async fn the_rest_of_a_container_is_dead_when_its_end_is_told() {
        let (process, _spawner) = shell("sleep 1000 & sleep 1000 & exit 0").await;
        let group = process.pid.as_raw();
        end_of(&process).await;
        assert!(!tree::all().iter().any(|one| one.group == group && one.is_live()));
    }

    #[tokio::test]
    async fn killing_all_kills_the_children_too() {
        let (process, _spawner) = shell("sleep 1000 & wait").await;
        let group = process.pid.as_raw();
        process.kill_all();
        assert_eq!(end_of(&process).await.signal, Some(9));
        assert!(!tree::all().iter().any(|one| one.group == group && one.is_live()));
        assert!(process.members().is_empty());
        // After the end nothing is signalled, whoever has the id now.
        process.signal_first(Signal::SIGKILL);
    }

    #[tokio::test]
    async fn what_cannot_be_started_is_an_error() {
        let spawner = Spawner::start().unwrap();
        assert!(spawner.spawn(Command::new("/nonexistent/program"), None).await.is_err());
    }

    #[tokio::test]
    async fn a_process_that_nobody_waits_for_any_more_is_killed_and_its_end_can_be_waited_for() {
        let (spawner, tracker) = (Spawner::start().unwrap(), tokio_util::task::TaskTracker::new());
        let mut command = Command::new("/bin/sleep");
        command.arg("1000");
        // Asked once, so that the request is on its way, and then dropped.
        assert!(futures::FutureExt::now_or_never(spawner.spawn(command, Some(tracker.token()))).is_none());
        tracker.close();
        tokio::time::timeout(SOON, tracker.wait()).await.expect("it is killed and reaped");
    }
}
