//! What is hurt in a sandbox: whatever a fault can do that lasts, and that the Kubernetes API cannot.
//!
//! One list, asked by whoever is concerned:
//! - the service [`proxy`](super::proxy): connections to a pod that is cut off hang and go on afterwards, what is delayed or lost comes later;
//! - the [kubelets](super::kubelet): one that is stopped, cut off or stands still does nothing and says nothing, and its processes run on, or stand still;
//! - the [controllers](super::control) and the [API](super::api): those that are stopped do nothing;
//! - volumes: one that cannot be attached is refused by the kubelets, one that is full or slow is so for the stand-in database, which reads that beside it
//!   ([`super::kubelet::conditions_file`]).
//!
//! Whoever begins one says how long it lasts at most: then it ends by itself, whoever is left.
//!
//! # Caveats
//! A kubelet that is cut off goes on working on a real node, and here it waits; what it would have done is done when it is back. What is lost of a connection is what TCP makes of
//! it: a chunk that comes later.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{Cluster, api::role, control::volumes, kinds::Kind, store::Key};
use crate::{event::Fact, platform::Hurt, scenario::Controller};

/// How long a reset lasts for whoever connects anew.
const RESET_FOR: Duration = Duration::from_millis(500);
/// How long TCP waits until it sends again what was lost; each time twice as long.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// The longest of these waits.
const LONGEST_RETRANSMIT: Duration = Duration::from_secs(3);

/// Which controllers a loop belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What makes pods, watches nodes, keeps endpoints, attaches volumes.
    Manager,
    /// What gives pods their nodes.
    Scheduler,
}

/// One that is in force.
#[derive(Clone, Debug)]
struct Active {
    hurt: Hurt,
    /// Which of all that were ever begun: so that the end that was set for one does not end another.
    number: u64,
    /// How often it was felt.
    felt: Arc<AtomicU64>,
}

/// All that are in force.
#[derive(Debug, Default)]
pub(crate) struct Hurts {
    active: watch::Sender<Vec<Active>>,
    next: AtomicU64,
    /// How often the connections to each address were reset.
    resets: watch::Sender<BTreeMap<IpAddr, u64>>,
    /// How many connections felt the last reset.
    reset: AtomicU64,
    /// Where, and until when, new connections are reset too.
    refusing: Mutex<Option<(IpAddr, Instant)>>,
    /// What is claimed of the power of nodes by a sandbox that only pretends.
    pub(super) claimed: Mutex<BTreeMap<String, super::power::State>>,
}

impl Hurts {
    fn any(&self, is: impl Fn(&Hurt) -> bool) -> Option<Active> {
        self.active.borrow().iter().find(|active| is(&active.hurt)).cloned()
    }

    /// Returns when none of these is in force; counts that it was felt, if one is.
    async fn until_none(&self, is: impl Fn(&Hurt) -> bool) {
        let Some(first) = self.any(&is) else { return };
        first.felt.fetch_add(1, Ordering::SeqCst);
        let mut changes = self.active.subscribe();
        // The sender lives as long as the sandbox.
        let _ = changes.wait_for(|active| !active.iter().any(|active| is(&active.hurt))).await;
    }

    /// Whether the kubelet of a node says nothing.
    pub(crate) fn is_silent(&self, node: &str) -> bool {
        self.any(|hurt| silences(hurt, node)).is_some()
    }

    /// Returns when the kubelet of a node may work.
    pub(crate) async fn awake(&self, node: &str) {
        self.until_none(|hurt| silences(hurt, node)).await;
    }

    /// Returns when a part of the control plane may work. Nothing of it works without the API server.
    pub(crate) async fn at_work(&self, part: Part) {
        self.until_none(|hurt| match hurt {
            Hurt::StoppedApiServer { .. } => true,
            Hurt::StoppedController { controller: Controller::ControllerManager, .. } => part == Part::Manager,
            Hurt::StoppedController { controller: Controller::Scheduler, .. } => part == Part::Scheduler,
            _ => false,
        })
        .await;
    }

    /// Whether the API server answers.
    pub(crate) fn api_answers(&self) -> bool {
        self.any(|hurt| matches!(hurt, Hurt::StoppedApiServer { .. })).is_none()
    }

    /// Returns when the API server is stopped.
    pub(crate) async fn until_api_stops(&self) {
        let mut changes = self.active.subscribe();
        let stops = changes.wait_for(|active| active.iter().any(|active| matches!(active.hurt, Hurt::StoppedApiServer { .. })));
        let _ = stops.await;
    }

    /// Whether what is sent to an address, or from it, does not arrive.
    pub(crate) fn is_cut_off(&self, cluster: &Cluster, address: IpAddr) -> bool {
        self.any(|hurt| cuts_off(cluster, hurt, address)).is_some()
    }

    /// Returns when what is sent to an address, or from it, can arrive.
    pub(crate) async fn passes(&self, cluster: &Cluster, address: IpAddr) {
        self.until_none(|hurt| cuts_off(cluster, hurt, address)).await;
    }

    /// What is sent to an address takes as long as it takes.
    pub(crate) async fn arrives(&self, cluster: &Cluster, address: IpAddr) {
        self.passes(cluster, address).await;
        let of_it = |hurt: &Hurt| match hurt {
            Hurt::DelayedPod { address: of, .. } | Hurt::LossyPod { address: of, .. } => *of == address.to_string(),
            _ => false,
        };
        let Some(active) = self.any(of_it) else { return };
        match active.hurt {
            Hurt::DelayedPod { ms, .. } => sleep(Duration::from_millis(ms)).await,
            Hurt::LossyPod { percent, .. } => {
                let mut wait = RETRANSMIT;
                while fastrand::u8(0..100) < percent && self.any(of_it).is_some() {
                    active.felt.fetch_add(1, Ordering::SeqCst);
                    sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_RETRANSMIT);
                }
            }
            _ => {}
        }
    }

    /// Returns when the connections to an address are reset.
    pub(crate) async fn until_reset(&self, address: IpAddr) {
        let mut resets = self.resets.subscribe();
        let before = resets.borrow_and_update().get(&address).copied();
        if resets.wait_for(|resets| resets.get(&address).copied() != before).await.is_ok() {
            self.reset.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether a new connection to this address is reset.
    pub(crate) fn refuses(&self, address: IpAddr) -> bool {
        let refusing = self.refusing.lock().expect("no holder of this lock panics");
        refusing.is_some_and(|(at, until)| at == address && Instant::now() < until)
    }

    /// Resets the connections to an address, for a moment the new ones too, and says how many there were.
    pub(crate) async fn reset_all(&self, address: IpAddr) -> u64 {
        self.reset.store(0, Ordering::SeqCst);
        *self.refusing.lock().expect("no holder of this lock panics") = Some((address, Instant::now() + RESET_FOR));
        self.resets.send_modify(|resets| *resets.entry(address).or_default() += 1);
        // Whoever carries one counts himself.
        sleep(RESET_FOR).await;
        self.reset.load(Ordering::SeqCst)
    }

    /// Why a volume cannot be mounted anew, if it cannot.
    pub(crate) fn why_not_attached(&self, volume: &str) -> Option<String> {
        let active = self.any(|hurt| matches!(hurt, Hurt::UnattachableVolume { volume: of } if of == volume))?;
        active.felt.fetch_add(1, Ordering::SeqCst);
        Some(format!("AttachVolume.Attach failed for volume \"{volume}\": the disk does not answer (a fault is in force)"))
    }
}

fn silences(hurt: &Hurt, of: &str) -> bool {
    match hurt {
        Hurt::StoppedKubelet { node } | Hurt::IsolatedNode { node } | Hurt::FrozenNode { node } => node == of,
        _ => false,
    }
}

fn cuts_off(cluster: &Cluster, hurt: &Hurt, address: IpAddr) -> bool {
    match hurt {
        Hurt::IsolatedPod { address: of, .. } => *of == address.to_string(),
        Hurt::IsolatedNode { node } | Hurt::FrozenNode { node } => cluster.power.node_of(address).as_deref() == Some(node),
        _ => false,
    }
}

/// Begins one, for so long at most.
pub(crate) fn begin(cluster: &Arc<Cluster>, hurt: Hurt, at_most: Duration) -> Result<(), String> {
    if let Some(node) = hurt.node()
        && cluster.power.state(node).is_none()
    {
        return Err(format!("there is no node `{node}`"));
    }
    let hurts = &cluster.hurts;
    let number = hurts.next.fetch_add(1, Ordering::SeqCst);
    let active = Active { hurt: hurt.clone(), number, felt: Arc::default() };
    hurts.active.send_modify(|all| {
        all.retain(|one| one.hurt != hurt);
        all.push(active);
    });
    match &hurt {
        Hurt::FrozenProcess { container, process } => signal(cluster, container, process, Signal::SIGSTOP)?,
        Hurt::FrozenNode { node } => signal_all(cluster, node, Signal::SIGSTOP),
        Hurt::FullVolume { volume } | Hurt::SlowVolume { volume, .. } => tell_volume(cluster, volume)?,
        _ => {}
    }
    // The last resort, for a fault whose run was killed.
    let later = cluster.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = later.stopping.cancelled() => {}
            () = sleep(at_most) => {
                if later.hurts.any(|one| *one == hurt).is_some_and(|one| one.number == number) {
                    end(&later, &hurt).ok();
                }
            }
        }
    });
    Ok(())
}

/// Ends one; that it is not in force is no error.
pub(crate) fn end(cluster: &Cluster, hurt: &Hurt) -> Result<(), String> {
    cluster.hurts.active.send_modify(|all| all.retain(|one| one.hurt != *hurt));
    match hurt {
        // Its container may have ended.
        Hurt::FrozenProcess { container, process } => drop(signal(cluster, container, process, Signal::SIGCONT)),
        Hurt::FrozenNode { node } => signal_all(cluster, node, Signal::SIGCONT),
        Hurt::FullVolume { volume } | Hurt::SlowVolume { volume, .. } => tell_volume(cluster, volume)?,
        _ => {}
    }
    Ok(())
}

/// How it is.
pub(crate) fn look(cluster: &Cluster, hurt: &Hurt) -> Vec<Fact> {
    let active = cluster.hurts.any(|one| one == hurt);
    let fact = |what: &str, value: &str| Fact { what: what.to_owned(), value: value.to_owned() };
    let either = |what: &str, hurt: &str, whole: &str| fact(what, if active.is_some() { hurt } else { whole });
    let felt = active.as_ref().is_some_and(|active| active.felt.load(Ordering::SeqCst) > 0);
    let felt = |what: &str| fact(what, if felt { "some" } else { "none" });
    match hurt {
        Hurt::FrozenProcess { container, process } => {
            let what = format!("state of process `{process}`");
            let found = members(cluster, container, process);
            let value = match found {
                None => "gone",
                Some(found) if !found.is_empty() && found.iter().all(|one| matches!(one.state, 'T' | 't')) => "stopped",
                Some(_) => "runs",
            };
            vec![fact(&what, value)]
        }
        Hurt::FrozenNode { node } => vec![either(&format!("node `{node}`"), "paused", "runs")],
        Hurt::StoppedKubelet { .. } => vec![either("kubelet", "inactive", "active")],
        Hurt::IsolatedNode { .. } | Hurt::IsolatedPod { .. } => vec![either("rules", "set", "none"), felt("packets dropped")],
        // Nodes are switched off and on here, and none of them is told to do it itself.
        Hurt::RebootedNode { .. } => Vec::new(),
        Hurt::LossyPod { .. } => vec![either("rules", "set", "none"), felt("packets lost")],
        Hurt::DelayedPod { .. } => vec![either("delay", "set", "none")],
        Hurt::FullVolume { .. } => vec![either("what fills the volume", "all of it", "none")],
        Hurt::SlowVolume { .. } => vec![either("brake on the volume", "set", "none")],
        Hurt::UnattachableVolume { .. } => vec![either("refusal to attach", "set", "none"), felt("attempts that were refused")],
        Hurt::StoppedApiServer { .. } => vec![either("process of kube-apiserver", "none", "runs")],
        Hurt::StoppedController { controller: Controller::ControllerManager, .. } => {
            vec![either("process of kube-controller-manager", "none", "runs")]
        }
        Hurt::StoppedController { controller: Controller::Scheduler, .. } => vec![either("process of kube-scheduler", "none", "runs")],
    }
}

/// The processes that are meant, of a container that is still the one that is meant. `None`: it is not.
fn members(cluster: &Cluster, at: &crate::platform::ContainerName, process: &str) -> Option<Vec<super::process::Running>> {
    let found = cluster.containers.find(&Key::new(Kind::Pod, &at.namespace, &at.pod), &at.container)?;
    let status = cluster.store.get(Kind::Pod, &at.namespace, &at.pod)?;
    let statuses = super::object::Look::list(&*status, "/status/containerStatuses");
    let is_it = statuses.iter().any(|one| super::object::Look::text(one, "/containerID") == at.id);
    let there = found.process.members();
    let meant = there.iter().filter(|one| one.comm == process || role(one, &there) == Some(process)).cloned().collect();
    is_it.then_some(meant)
}

fn signal(cluster: &Cluster, at: &crate::platform::ContainerName, process: &str, signal: Signal) -> Result<(), String> {
    let found = cluster.containers.find(&Key::new(Kind::Pod, &at.namespace, &at.pod), &at.container);
    let (Some(found), Some(meant)) = (found, members(cluster, at, process)) else {
        return Err(format!("container `{}` of pod `{}` has another life by now", at.container, at.pod));
    };
    if !meant.iter().any(|one| found.process.signal(one, signal)) {
        return Err(format!("no process `{process}` in container `{}` of pod `{}`", at.container, at.pod));
    }
    Ok(())
}

fn signal_all(cluster: &Cluster, node: &str, signal: Signal) {
    for process in cluster.containers.on_node(node) {
        for one in process.members() {
            process.signal(&one, signal);
        }
    }
}

/// Writes beside a volume what is wrong with it, for the database on it.
fn tell_volume(cluster: &Cluster, volume: &str) -> Result<(), String> {
    let all = cluster.hurts.active.borrow().clone();
    let is_full = all.iter().any(|one| matches!(&one.hurt, Hurt::FullVolume { volume: of } if of == volume));
    let ms = all.iter().find_map(|one| match &one.hurt {
        Hurt::SlowVolume { volume: of, ms } if of == volume => Some(*ms),
        _ => None,
    });
    let directory = volumes::directory(cluster, volume);
    if !directory.is_dir() {
        return Err(format!("there is no volume `{volume}`"));
    }
    let file = conditions_file(&directory);
    if !is_full && ms.is_none() {
        return match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("could not remove `{}`: {error}", file.display())),
            _ => Ok(()),
        };
    }
    let text = json!({"full": is_full, "slowMs": ms.unwrap_or_default()}).to_string();
    // Whole or not at all: the database reads it with every commit.
    let next = file.with_extension("next");
    std::fs::write(&next, text)
        .and_then(|()| std::fs::rename(&next, &file))
        .map_err(|error| format!("could not write `{}`: {error}", file.display()))
}

/// The file beside a volume's directory that says what is wrong with it.
pub(crate) fn conditions_file(directory: &std::path::Path) -> std::path::PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(".conditions");
    directory.with_file_name(name)
}

/// An address, if it is one.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

/// What a sandbox that only pretends claims of a node's power.
pub(super) fn claims(hurts: &Hurts) -> MutexGuard<'_, BTreeMap<String, super::power::State>> {
    hurts.claimed.lock().expect("no holder of this lock panics")
}
