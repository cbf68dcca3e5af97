//! What a run that was killed left in a cluster is put right, from what stands in the cluster alone.
//!
//! 1. No run may be alive there: its lease ([`crate::cluster::lease`]) is watched first, and then held, so that none begins in the meantime.
//! 2. The journals are undone, the youngest first, each last in first out, every entry verified and then struck.
//! 3. The pods that runs put up for themselves (prober, knock) are removed, and seen to be gone.
//! 4. A journal with nothing pending is removed, and in the end the lease, with that of a run that is dead.
//!
//! Two at once do no harm: one waits for the other, and then looks at what is left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Preconditions},
};
use tokio::time::{Instant, sleep};

use super::{Mirror, RUN_LABEL, Undo};
use crate::{
    cluster::{
        Cluster, ClusterError, chain,
        lease::{self, LeaseError, RunLease},
    },
    platform::Platform,
};

/// What runs put up for themselves.
const HELPERS: &str = "app.kubernetes.io/managed-by=comeback,app.kubernetes.io/component in (prober,knock,node-helper)";
/// How long the pods of a run may take to end.
const PODS_DEADLINE: Duration = Duration::from_mins(1);
const PERIOD: Duration = Duration::from_millis(500);
/// How long is waited for another who heals: as long as a few nodes take to start.
const OTHER_DEADLINE: Duration = Duration::from_mins(10);
/// What the holder of a lease begins with who heals.
const HEALER: &str = "heal-";

const NODE_HELPER: &str = "node-helper";
const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;

/// What is to be healed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Only what these runs left; empty: whatever any run did.
    pub runs: Vec<String>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Also under a run that is alive.
    pub force: bool,
}

/// What healing came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healed {
    /// What was done, or would be.
    pub done: Vec<String>,
    /// What could not be put right, and why.
    pub failed: Vec<String>,
}

impl Healed {
    fn note(&mut self, what: String, result: Result<(), String>) {
        match result {
            Ok(()) => self.done.push(what),
            Err(why) => self.failed.push(format!("could not {what}: {why}")),
        }
    }
}

/// Nothing was healed.
#[derive(Debug, thiserror::Error)]
pub enum HealError {
    /// The cluster does not tell what is to be done.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Others take the lease at the same time.
    #[error("could not keep runs away while healing")]
    Lease(#[source] LeaseError),
    /// A run is alive, and would break what is put right, or be disturbed by it.
    #[error(
        "run {holder} is at work in namespace `{namespace}`, and undoes what it did when it ends (hint: `--force` does it now all the same)"
    )]
    Alive {
        /// Who it is.
        holder: String,
        /// Where.
        namespace: String,
    },
}

/// Puts right what runs left in this cluster. `step` hears what is being done.
pub async fn heal(cluster: &Cluster, platform: &Platform, options: &Options, step: &(dyn Fn(&str) + Sync)) -> Result<Healed, HealError> {
    let mut healed = Healed::default();
    let (journals, pods) = left(cluster, options).await?;
    let idle = journals.is_empty() && pods.is_empty();
    let mut places = BTreeMap::new();
    for namespace in namespaces(&journals, &pods) {
        let there = lease::is_there(cluster, &namespace).await?;
        places.insert(namespace, there);
    }
    let own = &cluster.target.namespace;
    if !places.contains_key(own) && lease::is_there(cluster, own).await? {
        places.insert(own.clone(), true);
    }
    if options.dry_run {
        for (namespace, _) in places.iter().filter(|(_, there)| **there && !options.force && !idle) {
            say_watching(namespace, step);
            if let Some(holder) = lease::holder(cluster, namespace).await? {
                return Err(HealError::Alive { holder, namespace: namespace.clone() });
            }
        }
        healed.done = plan(&journals, &pods);
        return Ok(healed);
    }
    let mut leases = Vec::new();
    let held = hold_all(cluster, &places, idle, options, step, &mut leases).await;
    let result = match held {
        Ok(()) => put_right(cluster, platform, options, &leases, step, &mut healed).await,
        // There is nothing to put right under it, so it disturbs nobody.
        Err(HealError::Alive { .. }) if idle => Ok(()),
        Err(error) => Err(error),
    };
    for (namespace, lease) in leases {
        let before = lease.before().map(str::to_owned);
        let removed = lease.release().await.map_err(|error| chain(&error));
        // Our own goes without a word; it also runs out by itself.
        if let Some(before) = before {
            healed.note(format!("remove the lease of run {before} from namespace `{namespace}`"), removed);
        }
    }
    result.map(|()| healed)
}

/// What the runs that are meant left.
async fn left(cluster: &Cluster, options: &Options) -> Result<(Vec<Mirror>, Vec<Pod>), ClusterError> {
    let wanted = |run: &str| options.runs.is_empty() || options.runs.iter().any(|one| one == run);
    let mut journals = Mirror::all(cluster).await?;
    journals.retain(|journal| wanted(&journal.run));
    let mut pods = helpers(cluster).await?;
    pods.retain(|pod| wanted(&run_of(pod)));
    Ok((journals, pods))
}

/// Where it is.
fn namespaces(journals: &[Mirror], pods: &[Pod]) -> BTreeSet<String> {
    let mut namespaces: BTreeSet<String> = journals.iter().map(|journal| journal.namespace().to_owned()).collect();
    namespaces.extend(pods.iter().filter_map(|pod| pod.metadata.namespace.clone()));
    namespaces
}

fn say_watching(namespace: &str, step: &(dyn Fn(&str) + Sync)) {
    let waited = humantime::format_duration(lease::LEASE_DURATION);
    step(&format!("watching for {waited} whether the run in namespace `{namespace}` is alive"));
}

/// Takes the lease of each of these namespaces; those that were taken are in `leases`, also after an error.
async fn hold_all(
    cluster: &Cluster,
    places: &BTreeMap<String, bool>,
    idle: bool,
    options: &Options,
    step: &(dyn Fn(&str) + Sync),
    leases: &mut Vec<(String, RunLease)>,
) -> Result<(), HealError> {
    for (namespace, there) in places {
        let mut there_cluster = cluster.clone();
        there_cluster.target.namespace.clone_from(namespace);
        if *there && !options.force {
            say_watching(namespace, step);
        }
        let end = Instant::now() + OTHER_DEADLINE;
        let lease = loop {
            // Where there is nothing to do nobody is disturbed.
            let taken = if options.force && !idle {
                RunLease::seize(&there_cluster, &format!("{HEALER}{namespace}")).await
            } else {
                RunLease::acquire(&there_cluster, &format!("{HEALER}{namespace}")).await
            };
            match taken {
                Ok(lease) => break lease,
                // Another who heals soon has done.
                Err(LeaseError::Taken { holder, .. }) if holder.starts_with(HEALER) && !idle && Instant::now() < end => {
                    sleep(PERIOD).await;
                }
                Err(LeaseError::Contended { .. }) if Instant::now() < end => sleep(PERIOD).await,
                Err(LeaseError::Taken { holder, namespace }) => return Err(HealError::Alive { holder, namespace }),
                Err(LeaseError::Cluster(error)) => return Err(error.into()),
                Err(error @ LeaseError::Contended { .. }) => return Err(HealError::Lease(error)),
            }
        };
        leases.push((namespace.clone(), lease));
    }
    Ok(())
}

/// Puts right what is left now, as far as the leases reach that are held.
async fn put_right(
    cluster: &Cluster,
    platform: &Platform,
    options: &Options,
    leases: &[(String, RunLease)],
    step: &(dyn Fn(&str) + Sync),
    healed: &mut Healed,
) -> Result<(), HealError> {
    // Another may have been at work while we waited.
    let (mut journals, mut pods) = left(cluster, options).await?;
    journals.retain(|journal| leases.iter().any(|(namespace, _)| namespace == journal.namespace()));
    pods.retain(|pod| leases.iter().any(|(namespace, _)| Some(namespace) == pod.metadata.namespace.as_ref()));
    // First those that were sent to a node and may not have begun yet: nothing is to be hurt when it was mended. Then what the others still serve.
    let (of_nodes, others): (Vec<Pod>, Vec<Pod>) = pods.into_iter().partition(|pod| component_of(pod) == Some(NODE_HELPER));
    remove_pods(cluster, &of_nodes, step, healed).await;
    for journal in &journals {
        if let Some(why) = leases.iter().find_map(|(_, lease)| lease.lost()) {
            healed.failed.push(format!("nothing more was put right: {why}"));
            return Ok(());
        }
        heal_journal(cluster, platform, journal, step, healed).await;
    }
    remove_pods(cluster, &others, step, healed).await;
    Ok(())
}

/// What a run that was killed left undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftUndone {
    /// The run.
    pub run: String,
    /// What is to be undone, in words.
    pub what: Vec<String>,
}

impl fmt::Display for LeftUndone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} was not ended and left undone: {}", self.run, self.what.join(", "))
    }
}

/// What a run left undone in this cluster, in whichever namespace; `None`: none did.
pub async fn left_undone(cluster: &Cluster) -> Result<Option<LeftUndone>, ClusterError> {
    let told = |undo: Result<Undo, String>| undo.map_or_else(|why| why, |undo| undo.to_string());
    let left = Mirror::all(cluster).await?.into_iter().find_map(|journal| {
        let what: Vec<String> = journal.pending().into_iter().map(|(_, undo)| told(undo)).collect();
        (!what.is_empty()).then(|| LeftUndone { run: journal.run.clone(), what })
    });
    Ok(left)
}

/// What would be done.
fn plan(journals: &[Mirror], pods: &[Pod]) -> Vec<String> {
    let mut plan = Vec::new();
    for journal in journals {
        for (_, entry) in journal.pending() {
            plan.push(match entry {
                Ok(undo) => format!("{undo} (run {})", journal.run),
                Err(why) => why,
            });
        }
    }
    plan.extend(pods.iter().map(|pod| format!("remove pod `{}` (run {})", name_of(pod), run_of(pod))));
    plan.extend(journals.iter().map(|journal| format!("remove the journal of run {}", journal.run)));
    plan
}

async fn heal_journal(cluster: &Cluster, platform: &Platform, journal: &Mirror, step: &(dyn Fn(&str) + Sync), healed: &mut Healed) {
    let mut left = false;
    for (key, entry) in journal.pending() {
        let undo = match entry {
            Ok(undo) => undo,
            Err(why) => {
                left = true;
                healed.failed.push(format!("run {}: {why}", journal.run));
                continue;
            }
        };
        step(&undo.to_string());
        let result = undo.perform(cluster, platform).await;
        left |= result.is_err();
        let result = match result {
            // One that cannot be struck is undone once more by the next who heals.
            Ok(()) => journal.strike(&key).await.map_err(|error| chain(&error)),
            Err(why) => Err(format!("{why}; {}", undo.by_hand())),
        };
        healed.note(format!("{undo} (run {})", journal.run), result);
    }
    if !left {
        healed.note(format!("remove the journal of run {}", journal.run), journal.remove().await.map_err(|error| chain(&error)));
    }
}

/// Removes pods and waits until they are gone.
async fn remove_pods(cluster: &Cluster, pods: &[Pod], step: &(dyn Fn(&str) + Sync), healed: &mut Healed) {
    let mut going: BTreeMap<String, (&Pod, Result<(), String>)> = BTreeMap::new();
    for pod in pods {
        let name = name_of(pod);
        step(&format!("remove pod `{name}`"));
        going.insert(pod.metadata.uid.clone().unwrap_or_default(), (pod, delete(cluster, pod).await.map_err(|error| chain(&error))));
    }
    let end = Instant::now() + PODS_DEADLINE;
    while going.values().any(|(_, result)| result.is_ok()) {
        let there = match helpers(cluster).await {
            Ok(there) => there,
            Err(error) if Instant::now() > end => {
                for (_, result) in going.values_mut().filter(|(_, result)| result.is_ok()) {
                    *result = Err(format!("whether it is gone is not known: {}", chain(&error)));
                }
                break;
            }
            Err(_) => {
                sleep(PERIOD).await;
                continue;
            }
        };
        let there: BTreeSet<String> = there.into_iter().filter_map(|pod| pod.metadata.uid).collect();
        let gone: Vec<String> =
            going.iter().filter(|(uid, (_, result))| result.is_ok() && !there.contains(*uid)).map(|(uid, _)| uid.clone()).collect();
        for uid in gone {
            if let Some((pod, result)) = going.remove(&uid) {
                healed.note(format!("remove pod `{}` (run {})", name_of(pod), run_of(pod)), result);
            }
        }
        if Instant::now() > end {
            let deadline = humantime::format_duration(PODS_DEADLINE);
            for (_, result) in going.values_mut().filter(|(_, result)| result.is_ok()) {
                *result = Err(format!("it is still there after {deadline}"));
            }
            break;
        }
        if !going.is_empty() {
            sleep(PERIOD).await;
        }
    }
    for (pod, result) in going.into_values() {
        healed.note(format!("remove pod `{}` (run {})", name_of(pod), run_of(pod)), result);
    }
}

async fn delete(cluster: &Cluster, pod: &Pod) -> Result<(), ClusterError> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(cluster.client(), pod.metadata.namespace.as_deref().unwrap_or_default());
    let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match cluster.call(format!("delete pod `{name}`"), pods.delete(&name, &params)).await {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.status(), Some(NOT_FOUND | CONFLICT)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn helpers(cluster: &Cluster) -> Result<Vec<Pod>, ClusterError> {
    let params = ListParams::default().labels(HELPERS);
    let pods = cluster.call("list the pods that runs put up for themselves", cluster.all::<Pod>().list(&params)).await?;
    // A node helper does one thing and says of no run that it is its own: whoever is alive makes another.
    let is_ours = |pod: &Pod| !run_of(pod).is_empty() || component_of(pod) == Some(NODE_HELPER);
    Ok(pods.items.into_iter().filter(is_ours).collect())
}

fn run_of(pod: &Pod) -> String {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(RUN_LABEL)).cloned().unwrap_or_default()
}

fn component_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get("app.kubernetes.io/component").map(String::as_str)
}

fn name_of(pod: &Pod) -> String {
    format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default())
}
