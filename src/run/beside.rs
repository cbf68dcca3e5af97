//! What goes on beside a recovery: a node that is started again after a while, help for a pod that hangs on a dead one.
//!
//! It begins when a fault was injected and ends with the recovery. A call that was sent is waited for all the same, so that what it does is
//! done before its undo.

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{Recorder, trial};
use crate::{
    cluster::chain,
    event::{Assisted, EventKind, PodFacts},
    fault::{
        Entry, Journal, Scene,
        aftermath::{self, Aftermath},
    },
    scenario::Assist,
};

/// A fault that was injected, and what goes on after it.
pub(super) struct Followed {
    /// Which fault of the scenario.
    pub(super) index: usize,
    /// What goes on.
    pub(super) aftermath: Aftermath,
    /// The pod that it was aimed at.
    pub(super) pod: PodFacts,
    /// When it was called.
    pub(super) called: Instant,
}

/// What goes on beside the recovery of a trial. It ends when its scene is told to stop.
pub(super) struct Beside<'a> {
    pub(super) scene: Scene<'a>,
    pub(super) recorder: &'a Recorder,
    pub(super) journal: &'a Journal,
    pub(super) trial: u32,
}

impl Beside<'_> {
    /// Follows each fault that is sent, until the sender is gone and all has ended. Returns whether something was undone.
    pub(super) async fn follow(&self, mut queue: mpsc::UnboundedReceiver<Followed>) -> bool {
        let (mut going, mut open, mut undone) = (FuturesUnordered::new(), true, false);
        while open || !going.is_empty() {
            tokio::select! {
                next = queue.recv(), if open => match next {
                    Some(followed) => going.push(self.follow_one(followed)),
                    None => open = false,
                },
                Some(restored) = going.next(), if !going.is_empty() => undone |= restored,
            }
        }
        undone
    }

    async fn follow_one(&self, followed: Followed) -> bool {
        tokio::join!(self.restore(&followed), self.assist(&followed)).0
    }

    /// Undoes what the fault did to its node when the time has come, whether or not the database is back.
    async fn restore(&self, followed: &Followed) -> bool {
        let Some(after) = followed.aftermath.restore_after else { return false };
        if self.scene.stop.run_until_cancelled(sleep_until(followed.called + after)).await.is_none() {
            return false;
        }
        let ours = |entry: &Entry| entry.trial == self.trial && Some(entry.undo.node()) == followed.pod.node.as_deref();
        let entries: Vec<Entry> = self.journal.pending().into_iter().filter(ours).collect();
        for entry in &entries {
            self.say(EventKind::Restoring(followed.index, entry.undo.to_string())).await;
            trial::undo(self.scene.cluster, self.scene.platform, self.recorder, self.journal, entry).await;
        }
        !entries.is_empty()
    }

    /// Helps the pod, once, when it is seen to hang on its dead node.
    async fn assist(&self, followed: &Followed) {
        let Followed { index, aftermath: Aftermath { assist, .. }, pod, .. } = followed;
        if *assist == Assist::None {
            return;
        }
        let hangs = self.scene.watches.wait_for(|view| aftermath::hangs(view, pod));
        if self.scene.stop.run_until_cancelled(hangs).await.is_none() {
            return;
        }
        match aftermath::assist(&self.scene, self.journal, self.trial, pod, *assist).await {
            Ok(Some(what)) => self.say(EventKind::Assisted(*index, Assisted { assist: *assist, what })).await,
            Ok(None) => {}
            // What the recovery would have needed it did not get: its length says nothing.
            Err(error) => self.say(EventKind::TrialError(format!("could not assist with `{}`: {}", assist.name(), chain(&error)))).await,
        }
    }

    async fn say(&self, event: EventKind) {
        self.recorder.record(Some(self.trial), event).await;
    }
}
