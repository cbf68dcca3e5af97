//! The containers that run, and the commands that were run beside them (`kubectl exec`): who can be signalled, and who dies with a node.
//!
//! Two pods of one name can have processes at the same time: one whose object was deleted by force runs on, on its own node, beside the one that replaces
//! it. So nothing here is found by a pod's name alone, except where a client asks by name: then the one that was started last is meant.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::Value;
use tokio::sync::{RwLock, RwLockReadGuard};

use super::{kubelet::Mounts, object::Look, process::Process, store::Key};

/// One process of a pod that was started by a kubelet.
#[derive(Debug, Clone)]
pub(crate) struct Contained {
    /// The pod's name.
    pub(crate) key: Key,
    /// The pod, as it was when the process was started.
    pub(crate) pod: Arc<Value>,
    /// The container in its spec.
    pub(crate) spec: Value,
    /// The node that it is on.
    pub(crate) node: String,
    /// The pod's address.
    pub(crate) address: Ipv4Addr,
    /// The pod's volumes.
    pub(crate) mounts: Arc<Mounts>,
    /// The first process of the container, or of the command.
    pub(crate) process: Arc<Process>,
    /// Whether this is the container itself, and not a command that was run in it.
    pub(crate) is_container: bool,
}

/// All of them, in the order of their starts.
#[derive(Debug, Default)]
pub(crate) struct Containers {
    known: Mutex<Vec<Contained>>,
    /// Is held by whoever starts a command, until it is known here: else one that dies with its node could be missed.
    starting: RwLock<()>,
}

impl Containers {
    fn lock(&self) -> MutexGuard<'_, Vec<Contained>> {
        self.known.lock().expect("no holder of this lock panics")
    }

    /// Takes note of a process that was started.
    pub(crate) fn add(&self, contained: Contained) {
        self.lock().push(contained);
    }

    /// Until this is dropped, nobody can be sure that everything that runs is known.
    pub(crate) async fn starting(&self) -> RwLockReadGuard<'_, ()> {
        self.starting.read().await
    }

    /// Returns when everything is known that was being started.
    pub(crate) async fn all_known(&self) {
        drop(self.starting.write().await);
    }

    /// Forgets a process.
    pub(crate) fn remove(&self, process: &Arc<Process>) {
        self.lock().retain(|known| !Arc::ptr_eq(&known.process, process));
    }

    /// The container of that name in the pod of that name; of several, the one that was started last.
    pub(crate) fn find(&self, pod: &Key, container: &str) -> Option<Contained> {
        let known = self.lock();
        known.iter().rev().find(|one| one.is_container && one.key == *pod && one.spec.text("/name") == container).cloned()
    }

    /// Whatever runs on a node.
    pub(crate) fn on_node(&self, node: &str) -> Vec<Arc<Process>> {
        self.lock().iter().filter(|one| one.node == node).map(|one| one.process.clone()).collect()
    }

    /// Forgets everything, and hands over what was left.
    pub(crate) fn take(&self) -> Vec<Contained> {
        std::mem::take(&mut *self.lock())
    }
}
