//! Any other cluster: what the Kubernetes API alone can do, and what the [node helper](super::helper) can, which it starts.

use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Node;
use kube::{ResourceExt as _, api::ListParams};
use tokio::time::{Instant, sleep};

use super::{
    Container, DEAD_MAN, Defaults, Hurt, PlatformError, Signalled,
    hurt::facts_of,
    memory,
    node_shell::{NodeScript, NodeShell},
    signal::{self, Sent, Way},
};
use crate::{
    cluster::{Cluster, ClusterError, chain},
    event::Fact,
};

/// What is said of the lease of a node that lives.
pub(super) const RENEWED: &str = "renewed";
/// How often a lease is looked at until it is renewed.
const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// The least that what cuts a node off lasts: the helper has to go, it begins five seconds after that, and then two renewals have to be missed.
const LEAST: Duration = Duration::from_secs(40);

/// A cluster of which nothing is known but its API.
#[derive(Debug)]
pub struct ClusterPlatform {
    pub(super) cluster: Cluster,
    /// Our own image, as the cluster knows it.
    image: Option<String>,
    /// Whether the kernel of the nodes can hold packets back, once it was asked.
    delay: OnceLock<Result<(), String>>,
    /// Whether each node tells a boot of its own, once it was asked.
    boots: OnceLock<Result<(), String>>,
    /// The leases of nodes, as they were seen.
    leases: Mutex<BTreeMap<String, Seen>>,
}

/// A node's lease, as it was seen.
#[derive(Clone, Debug)]
struct Seen {
    /// What stands in it.
    renewed: String,
    /// When that was first seen.
    since: Instant,
    /// When it was last looked at.
    looked: Instant,
    /// Whether something else stood there before: then it has been renewed under our eyes.
    changed: bool,
}

impl ClusterPlatform {
    /// Why a node cannot be switched off here.
    pub const NO_POWER: &'static str = "the power of a node is not part of the Kubernetes API; on kind it is docker's";

    /// Room for a cloud's disks to move: minutes, where kind takes seconds.
    pub const DEFAULTS: Defaults = Defaults {
        steady_for: Duration::from_secs(10),
        stable_for: Duration::from_secs(10),
        give_up_after: Duration::from_mins(20),
        heartbeat: Duration::from_secs(10),
        start_within: Duration::from_mins(10),
        // A few calls, each with its deadline.
        undo_within: Duration::from_mins(1),
        lasting: LEAST,
    };

    /// The cluster behind this client; `image` is our own, for the node helper.
    #[must_use]
    pub const fn new(cluster: Cluster, image: Option<String>) -> Self {
        Self { cluster, image, delay: OnceLock::new(), boots: OnceLock::new(), leases: Mutex::new(BTreeMap::new()) }
    }

    /// Whether packets can be held back here, as far as is known.
    pub(super) fn can_delay(&self) -> Result<(), String> {
        self.delay.get().cloned().unwrap_or(Ok(()))
    }

    /// Asks the node that runs the database whether its kernel can hold packets back.
    pub(super) async fn ask_for_delay(&self) {
        let asked = async {
            let pod = self.cluster.pod_facts().await.map_err(|error| chain(&error))?;
            let node = pod.node.ok_or_else(|| format!("pod `{}` is on no node", pod.name))?;
            let can = self.helper()?.can_delay(&node).await.map_err(|error| chain(&error))?;
            Ok::<_, String>((node, can))
        };
        let found = match asked.await {
            Ok((_, true)) => Ok(()),
            Ok((node, _)) => Err(format!("the kernel of node `{node}` has no `sch_netem`, which holds packets back")),
            Err(why) => Err(format!("whether the kernel of the nodes can hold packets back is not known: {why}")),
        };
        // Whoever asked first has told.
        let _ = self.delay.set(found);
    }

    /// Whether a node that starts anew can be seen to have done so, as far as is known.
    pub(super) fn boots_differ(&self) -> Result<(), String> {
        self.boots.get().cloned().unwrap_or(Ok(()))
    }

    /// Asks whether each node tells a boot of its own: those that are containers of one machine do not.
    pub(super) async fn ask_for_boots(&self) -> Result<(), ClusterError> {
        if self.boots.get().is_none() {
            let nodes = self.cluster.call("list the nodes", self.cluster.all::<Node>().list(&ListParams::default())).await?;
            // Whoever asked first has told.
            let _ = self.boots.set(boots_differ(&nodes.items));
        }
        Ok(())
    }

    /// Our own image.
    ///
    /// # Errors
    /// That it is not known.
    pub(super) fn image(&self) -> Result<&str, String> {
        self.image.as_deref().ok_or_else(|| "the node helper is our own image, and nobody said what that is called here".to_owned())
    }

    pub(super) async fn aim_signal(&self, at: &Container<'_>, process: &str) -> Result<Way, PlatformError> {
        signal::aim(&self.cluster, self.helper(), at, process).await
    }

    pub(super) async fn signal(&self, at: &Container<'_>, way: &Way, process: &str, signal: Sent) -> Result<Vec<Signalled>, PlatformError> {
        signal::send(&self.cluster, self.helper(), at, way, process, signal).await
    }

    /// What cuts the node off begins when the helper is gone, which it would cut off too, and is ended by the node itself when its time is over: nobody else
    /// reaches it then.
    pub(super) async fn begin(&self, hurt: &Hurt, lasts: Duration) -> Result<(), PlatformError> {
        if hurt.cuts_off() {
            return self.cut_off(hurt, lasts).await;
        }
        let at_most = lasts + DEAD_MAN;
        if let Hurt::FrozenProcess { container, process } = hurt {
            return signal::freeze(&self.cluster, self.helper(), container, process, at_most).await;
        }
        self.on_node(hurt, "begin", &at_most.as_secs().max(1).to_string()).await.map(drop)
    }

    pub(super) async fn end(&self, hurt: &Hurt) -> Result<(), PlatformError> {
        if let Hurt::FrozenProcess { container, process } = hurt {
            return signal::thaw(&self.cluster, self.helper(), container, process).await;
        }
        if let Some(node) = hurt.node()
            && hurt.cuts_off()
            && self.sign_of_life(node).await? != RENEWED
        {
            return Err(PlatformError::CutOff { node: node.to_owned() });
        }
        self.on_node(hurt, "end", "-").await.map(drop)
    }

    pub(super) async fn look(&self, hurt: &Hurt) -> Result<Vec<Fact>, PlatformError> {
        if let Hurt::FrozenProcess { container, process } = hurt {
            return signal::state(&self.cluster, self.helper(), container, process).await;
        }
        if let Some(node) = hurt.node()
            && hurt.cuts_off()
        {
            let value = self.sign_of_life(node).await?.to_owned();
            return Ok(vec![Fact { what: format!("lease of node `{node}`"), value }]);
        }
        Ok(facts_of(&self.on_node(hurt, "look", "-").await?))
    }

    pub(super) async fn reset_connections(&self, node: &str, address: &str) -> Result<String, PlatformError> {
        self.helper().map_err(PlatformError::NotPossible)?.reset_connections(node, address).await
    }

    pub(super) async fn exhaust_memory(&self, at: &Container<'_>) -> Result<String, PlatformError> {
        memory::exhaust(&self.cluster, at).await
    }

    async fn on_node(&self, hurt: &Hurt, verb: &str, seconds: &str) -> Result<String, PlatformError> {
        let (node, words) = words(hurt)?;
        let words: Vec<&str> = [verb, seconds].into_iter().chain(words.iter().map(String::as_str)).collect();
        self.helper().map_err(PlatformError::NotPossible)?.run(node, NodeScript::Hurt, &words).await
    }

    /// Whether something that is hurt for so long can be seen to be.
    pub(super) fn can_last(hurt: &Hurt, lasts: Duration) -> Result<(), String> {
        // How long a node takes to start nobody says, and another boot is seen afterwards, too.
        if !hurt.cuts_off() || lasts >= LEAST || matches!(hurt, Hurt::RebootedNode { .. }) {
            return Ok(());
        }
        let least = humantime::format_duration(LEAST);
        Err(format!(
            "{hurt}: here it has to last {least} at least, or nobody could see it: a node's lease is missed after two renewals (hint: `for`)"
        ))
    }

    async fn cut_off(&self, hurt: &Hurt, lasts: Duration) -> Result<(), PlatformError> {
        let (node, words) = words(hurt)?;
        let seconds = lasts.as_secs().to_string();
        let words: Vec<&str> = ["begin-later", &seconds].into_iter().chain(words.iter().map(String::as_str)).collect();
        self.helper().map_err(PlatformError::NotPossible)?.order(node, NodeScript::Hurt, &words).await
    }

    /// Whether a node is heard, which is all that can be seen of one that is cut off: by our own clock, from what stands in its lease. A look before
    /// which nobody looked for a while lasts until that is known.
    async fn sign_of_life(&self, node: &str) -> Result<&'static str, PlatformError> {
        loop {
            let Some(heartbeat) = self.cluster.heartbeat(node).await? else { return Ok("no lease") };
            let seen = self.seen(node, heartbeat.renewed, heartbeat.holds / 2);
            if seen.since.elapsed() >= heartbeat.holds / 2 {
                return Ok("not renewed");
            }
            if seen.changed {
                return Ok(RENEWED);
            }
            sleep(LOOK_PERIOD).await;
        }
    }

    /// Notes what stands in a lease, and since when. What has changed while nobody looked for so long is no sign of life: it may be old, too.
    fn seen(&self, node: &str, renewed: String, forgotten: Duration) -> Seen {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = Instant::now();
        let seen = match leases.get(node) {
            Some(seen) if seen.renewed == renewed => Seen { looked, ..seen.clone() },
            before => {
                let changed = before.is_some_and(|seen| looked.duration_since(seen.looked) < forgotten);
                Seen { renewed, since: looked, looked, changed }
            }
        };
        leases.insert(node.to_owned(), seen.clone());
        seen
    }

    /// What reaches a node here.
    fn helper(&self) -> Result<NodeShell<'_>, String> {
        Ok(NodeShell::Helper(&self.cluster, self.image()?))
    }
}

fn boots_differ(nodes: &[Node]) -> Result<(), String> {
    let mut by_boot: BTreeMap<&str, String> = BTreeMap::new();
    for node in nodes {
        let name = node.name_any();
        // One that tells none is no victim: it says so when it is aimed at.
        let Some(boot) = node.status.as_ref().and_then(|status| status.node_info.as_ref()).map(|info| &info.boot_id) else { continue };
        if boot.is_empty() {
            continue;
        }
        if let Some(other) = by_boot.insert(boot, name.clone()) {
            return Err(format!(
                "nodes `{other}` and `{name}` tell the same boot id, as containers of one machine do: that one has started anew could not be seen"
            ));
        }
    }
    Ok(())
}

/// The node of a hurt, and the words for the script there.
fn words(hurt: &Hurt) -> Result<(&str, Vec<String>), PlatformError> {
    hurt.node().zip(hurt.words()).ok_or_else(|| PlatformError::NotPossible(format!("{hurt}: no helper can do that")))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use axum::{Json, Router, http::StatusCode, routing::get};
    use serde_json::json;

    use super::*;
    use crate::cluster::fake;

    /// A node that renews its lease with every look, as long as it lives. Its lease holds for two seconds.
    async fn platform(lives: &Arc<AtomicBool>) -> ClusterPlatform {
        let (lives, renewals) = (lives.clone(), Arc::new(AtomicUsize::new(0)));
        let lease = move || async move {
            let renewal = usize::from(lives.load(Ordering::SeqCst));
            let second = (renewals.fetch_add(renewal, Ordering::SeqCst) + renewal) % 60;
            let spec = json!({"renewTime": format!("2026-01-01T00:00:{second:02}.000000Z"), "leaseDurationSeconds": 2});
            Json(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "w1"}, "spec": spec}))
        };
        let status =
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404, "reason": "NotFound", "message": "none"});
        let none = move || async move { (StatusCode::NOT_FOUND, Json(status)) };
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let router = Router::new().route(&format!("{leases}/w1"), get(lease)).route(&format!("{leases}/w2"), get(none));
        ClusterPlatform::new(fake::cluster(router).await, Some("comeback:1".to_owned()))
    }

    fn kubelet(node: &str) -> Hurt {
        Hurt::StoppedKubelet { node: node.to_owned() }
    }

    async fn value(platform: &ClusterPlatform, node: &str) -> String {
        platform.look(&kubelet(node)).await.unwrap()[0].value.clone()
    }

    #[tokio::test]
    async fn a_node_is_heard_until_its_lease_was_not_renewed_for_half_of_its_time() {
        let lives = Arc::new(AtomicBool::new(true));
        let platform = platform(&lives).await;
        assert_eq!(value(&platform, "w1").await, RENEWED);
        lives.store(false, Ordering::SeqCst);
        let silent = Instant::now();
        // What stood there last was seen before, or is seen now for the first time.
        while value(&platform, "w1").await == RENEWED {}
        assert_eq!(value(&platform, "w1").await, "not renewed");
        assert!(silent.elapsed() < Duration::from_mins(1), "it took {:?}", silent.elapsed());
        assert!(matches!(platform.end(&kubelet("w1")).await, Err(PlatformError::CutOff { node }) if node == "w1"));
        lives.store(true, Ordering::SeqCst);
        assert_eq!(value(&platform, "w1").await, RENEWED);
    }

    #[tokio::test]
    async fn one_that_was_never_heard_is_not_taken_to_live() {
        let platform = platform(&Arc::new(AtomicBool::new(false))).await;
        let asked = Instant::now();
        assert_eq!(value(&platform, "w1").await, "not renewed");
        assert!(asked.elapsed() >= Duration::from_secs(1), "it had its time");
        let absent = value(&platform, "w2").await;
        assert_eq!(absent, "no lease");
        assert!(!kubelet("w2").is_whole(&absent) && !Hurt::IsolatedNode { node: "w2".into() }.is_whole(&absent));
    }

    #[tokio::test]
    async fn what_has_changed_while_nobody_looked_is_no_sign_of_life() {
        let lives = Arc::new(AtomicBool::new(true));
        let platform = platform(&lives).await;
        assert_eq!(value(&platform, "w1").await, RENEWED);
        // It is renewed once more, unseen, and dies.
        platform.cluster.heartbeat("w1").await.unwrap();
        lives.store(false, Ordering::SeqCst);
        sleep(Duration::from_millis(1100)).await;
        assert_eq!(value(&platform, "w1").await, "not renewed");
        // What has not changed meanwhile was silent, and needs no time to be seen.
        sleep(Duration::from_millis(1100)).await;
        let seen = platform.seen("w1", platform.cluster.heartbeat("w1").await.unwrap().unwrap().renewed, Duration::from_secs(1));
        assert!(seen.since.elapsed() > Duration::from_secs(2), "{seen:?}");
    }

    #[test]
    fn nodes_that_share_a_boot_are_named() {
        let node = |name: &str, boot: &str| -> Node {
            let info = json!({"bootID": boot, "architecture": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""});
            serde_json::from_value(json!({"metadata": {"name": name}, "status": {"nodeInfo": info}})).unwrap()
        };
        assert_eq!(boots_differ(&[node("a", "1"), node("b", "2"), node("c", ""), node("d", "")]), Ok(()));
        let error = boots_differ(&[node("a", "1"), node("b", "2"), node("c", "1")]).unwrap_err();
        assert!(error.contains("nodes `a` and `c` tell the same boot id"), "{error}");
    }

    #[test]
    fn what_nobody_could_see_is_refused() {
        let last = |seconds| ClusterPlatform::can_last(&kubelet("w1"), Duration::from_secs(seconds));
        let error = last(30).unwrap_err();
        assert!(error.contains("40s at least") && error.contains("hint: `for`"), "{error}");
        assert_eq!(last(40), Ok(()));
        assert_eq!(ClusterPlatform::can_last(&Hurt::RebootedNode { node: "w1".into() }, Duration::from_secs(1)), Ok(()));
        let pod = Hurt::IsolatedPod { node: "w1".into(), address: "10.0.0.1".into() };
        assert_eq!(ClusterPlatform::can_last(&pod, Duration::from_secs(1)), Ok(()));
    }
}
