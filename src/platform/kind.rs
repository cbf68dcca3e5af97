//! kind: a cluster whose nodes are containers of docker on this machine.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, PersistentVolume};
use kube::api::ListParams;
use tokio::time::{Instant, sleep};

use super::{
    Container, Defaults, Hurt, PlatformError, Power, Signalled,
    cluster::ClusterPlatform,
    dead_man::{self, Deed},
    docker::{self, Docker},
    hurt::facts_of,
    memory,
    node_shell::{NodeScript, NodeShell},
    signal::{self, Sent, Way},
};
use crate::{
    cluster::{Cluster, OWN_SIZE, VOLUME_LABEL, chain},
    event::Fact,
};

/// The label with which kind marks its containers: the cluster's name.
const CLUSTER_LABEL: &str = "io.x-k8s.kind.cluster";
/// The label that says what a node is for.
const ROLE_LABEL: &str = "io.x-k8s.kind.role";
/// What the label says of a node that may be switched off.
const WORKER: &str = "worker";
/// What it says of one that runs the control plane.
const CONTROL_PLANE: &str = "control-plane";
/// How long a killed container may take to be seen as ended.
const OFF_DEADLINE: Duration = Duration::from_secs(10);
const PERIOD: Duration = Duration::from_millis(100);
/// What the node script calls the moment from which on a volume is refused.
const SINCE: &str = "since";
/// What a kubelet says of a volume whose folder is none, as a refused one is: a mount may fail for other reasons, too.
const IS_NO_FOLDER: &str = "hostPath type check failed";
const NOT_FOUND: u16 = 404;

/// A kind cluster, with docker if it answers.
#[derive(Debug)]
pub struct KindPlatform {
    cluster: Cluster,
    name: String,
    docker: Result<Docker, String>,
    /// Whether the kernel below can hold packets back.
    delay: Result<(), String>,
    /// Whether the volumes have a size of their own.
    own_size: Result<(), String>,
}

impl KindPlatform {
    /// Timers as Kubernetes has them by default.
    pub const DEFAULTS: Defaults = Defaults {
        give_up_after: Duration::from_mins(5),
        start_within: Duration::from_mins(3),
        lasting: Duration::from_secs(30),
        ..ClusterPlatform::DEFAULTS
    };

    /// The kind cluster of this name. Asks docker whether it is there: without it the nodes have no power switch.
    pub async fn open(cluster: Cluster, name: impl Into<String>, docker: Docker) -> Self {
        let answer = docker.version().await;
        let name = name.into();
        let docker = answer.map(|_| docker).map_err(|error| chain(&error));
        let delay = match &docker {
            Ok(docker) => can_delay(docker, &name).await,
            Err(why) => Err(why.clone()),
        };
        let own_size = have_own_size(&cluster).await;
        Self { cluster, name, docker, delay, own_size }
    }

    /// Whether packets can be held back here.
    pub(super) fn can_delay(&self) -> Result<(), String> {
        self.delay.clone()
    }

    /// Whether the volumes can be hurt without hurting this machine.
    pub(super) fn can_hurt_volumes(&self) -> Result<(), String> {
        self.own_size.clone()
    }

    /// The name of the cluster, as kind knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether docker answers: without it nothing can be done that the API alone cannot.
    pub(super) fn works(&self) -> Result<(), PlatformError> {
        self.docker().map(drop)
    }

    pub(super) async fn aim_signal(&self, at: &Container<'_>, process: &str) -> Result<Way, PlatformError> {
        signal::aim(&self.cluster, self.shell_or_why(), at, process).await
    }

    pub(super) async fn signal(&self, at: &Container<'_>, way: &Way, process: &str, signal: Sent) -> Result<Vec<Signalled>, PlatformError> {
        signal::send(&self.cluster, self.shell_or_why(), at, way, process, signal).await
    }

    /// Whether the node's container runs. A name that is not a worker of this cluster is refused.
    pub(super) async fn power(&self, node: &str) -> Result<Power, PlatformError> {
        Ok(if self.of_role(node, WORKER).await?.running { Power::On } else { Power::Off })
    }

    /// The container of a node of this cluster that has this role.
    async fn of_role(&self, node: &str, wanted: &str) -> Result<docker::Container, PlatformError> {
        let refuse = |why: String| Err(PlatformError::NotOurs { node: node.to_owned(), why });
        let Some(container) = self.docker()?.inspect(node).await? else {
            return refuse("docker has no container of that name".to_owned());
        };
        match container.labels.get(CLUSTER_LABEL) {
            Some(cluster) if *cluster == self.name => {}
            Some(cluster) => return refuse(format!("its container belongs to the kind cluster `{cluster}`, not to `{}`", self.name)),
            None => return refuse("its container was not made by kind".to_owned()),
        }
        match container.labels.get(ROLE_LABEL).map(String::as_str) {
            Some(role) if role == wanted => Ok(container),
            role if wanted == WORKER => refuse(format!("its role is `{}`: only workers are switched off", role.unwrap_or("unknown"))),
            role => refuse(format!("its role is `{}`, not `{wanted}`", role.unwrap_or("unknown"))),
        }
    }

    pub(super) async fn power_off(&self, node: &str, at_most: Duration) -> Result<(), PlatformError> {
        if self.power(node).await? == Power::Off {
            return Err(PlatformError::NotPossible(format!("node `{node}` is off already")));
        }
        self.dead_man(Deed::Start, node, at_most)?;
        self.docker()?.kill(node).await?;
        let end = Instant::now() + OFF_DEADLINE;
        while self.power(node).await? == Power::On {
            if Instant::now() > end {
                return Err(PlatformError::NotPossible(format!("docker killed node `{node}`, and it still runs")));
            }
            sleep(PERIOD).await;
        }
        Ok(())
    }

    pub(super) async fn power_on(&self, node: &str) -> Result<(), PlatformError> {
        if self.power(node).await? == Power::Off {
            self.docker()?.start(node).await?;
        }
        dead_man::cancel(node);
        Ok(())
    }

    pub(super) async fn reboot(&self, node: &str, at_most: Duration) -> Result<(), PlatformError> {
        self.of_role(node, WORKER).await?;
        self.dead_man(Deed::Start, node, at_most)?;
        self.docker()?.restart(node).await?;
        dead_man::cancel(node);
        Ok(())
    }

    /// When the node's container was started: a container has no boot of its own.
    pub(super) async fn boot(&self, node: &str) -> Result<String, PlatformError> {
        Ok(self.of_role(node, WORKER).await?.started)
    }

    pub(super) async fn begin(&self, hurt: &Hurt, at_most: Duration) -> Result<(), PlatformError> {
        match hurt {
            Hurt::FrozenProcess { container, process } => {
                signal::freeze(&self.cluster, self.shell_or_why(), container, process, at_most).await
            }
            Hurt::FrozenNode { node } => {
                if self.of_role(node, WORKER).await?.paused {
                    return Ok(());
                }
                self.dead_man(Deed::Unpause, node, at_most)?;
                Ok(self.docker()?.pause(node).await?)
            }
            // A node has a switch here.
            Hurt::RebootedNode { .. } => Err(PlatformError::NotPossible(format!("{hurt}: not on kind"))),
            other => self.on_node(other, "begin", &at_most.as_secs().max(1).to_string()).await.map(drop),
        }
    }

    pub(super) async fn end(&self, hurt: &Hurt) -> Result<(), PlatformError> {
        match hurt {
            Hurt::FrozenProcess { container, process } => signal::thaw(&self.cluster, self.shell_or_why(), container, process).await,
            Hurt::FrozenNode { node } => {
                if self.of_role(node, WORKER).await?.paused {
                    self.docker()?.unpause(node).await?;
                }
                dead_man::cancel(node);
                Ok(())
            }
            Hurt::RebootedNode { node } => {
                self.on_node(hurt, "end", "-").await?;
                // Docker has started it again, or not.
                self.power_on(node).await
            }
            other => self.on_node(other, "end", "-").await.map(drop),
        }
    }

    pub(super) async fn look(&self, hurt: &Hurt) -> Result<Vec<Fact>, PlatformError> {
        match hurt {
            Hurt::FrozenProcess { container, process } => signal::state(&self.cluster, self.shell_or_why(), container, process).await,
            Hurt::FrozenNode { node } => {
                let container = self.of_role(node, WORKER).await?;
                let value = if container.paused { "paused" } else { "runs" };
                Ok(vec![Fact { what: format!("node `{node}`"), value: value.to_owned() }])
            }
            Hurt::UnattachableVolume { volume } => {
                let (mut facts, since): (Vec<_>, Vec<_>) =
                    facts_of(&self.on_node(hurt, "look", "-").await?).into_iter().partition(|fact| fact.what != SINCE);
                let since = since.first().and_then(|fact| fact.value.parse().ok());
                let refused = match since {
                    Some(since) => self.refused_attempts(volume, since).await?,
                    None => 0,
                };
                let value = if refused > 0 { "some" } else { "none" };
                facts.push(Fact { what: "attempts that were refused".to_owned(), value: value.to_owned() });
                Ok(facts)
            }
            other => Ok(facts_of(&self.on_node(other, "look", "-").await?)),
        }
    }

    pub(super) async fn reset_connections(&self, node: &str, address: &str) -> Result<String, PlatformError> {
        self.of_role(node, WORKER).await?;
        self.shell()?.reset_connections(node, address).await
    }

    pub(super) async fn exhaust_memory(&self, at: &Container<'_>) -> Result<String, PlatformError> {
        memory::exhaust(&self.cluster, at).await
    }

    /// Runs the node script on the node of a hurt.
    async fn on_node(&self, hurt: &Hurt, verb: &str, seconds: &str) -> Result<String, PlatformError> {
        let Some(words) = hurt.words() else { return Err(PlatformError::NotPossible(format!("{hurt}: not on kind"))) };
        let role = match hurt {
            Hurt::StoppedApiServer { .. }
            | Hurt::StoppedController { .. }
            | Hurt::FullVolume { .. }
            | Hurt::SlowVolume { .. }
            | Hurt::UnattachableVolume { .. } => CONTROL_PLANE,
            _ => WORKER,
        };
        let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
        let (node, folder);
        match hurt.volume() {
            // Every node has mounted it. The control plane is the one that no fault switches off.
            Some(volume) => {
                folder = match self.folder_of(volume).await {
                    // Nobody can tell any more where it is. `cluster up`, which takes volumes away, does not while something is to be undone.
                    Err(PlatformError::Cluster(error)) if error.status() == Some(NOT_FOUND) && verb != "begin" => return Ok(String::new()),
                    found => found?,
                };
                node = format!("{}-control-plane", self.name);
                args.insert(1, &folder);
            }
            None => node = hurt.node().unwrap_or_default().to_owned(),
        }
        // What is off is not hurt any more, and has lost its rules with its power; what stands still has them, and says so when it is asked. A volume is hurt on
        // its disk, which has no power to lose: there the node has to run.
        let container = self.of_role(&node, role).await?;
        if !container.running && !container.paused && verb != "begin" && hurt.volume().is_none() {
            return Ok(String::new());
        }
        let words: Vec<&str> = [verb, seconds].into_iter().chain(args).collect();
        self.shell()?.run(&node, NodeScript::Hurt, &words).await
    }

    /// Where the nodes have a volume of ours with a size of its own.
    async fn folder_of(&self, volume: &str) -> Result<String, PlatformError> {
        let found = self.cluster.call(format!("read volume `{volume}`"), self.cluster.all::<PersistentVolume>().get(volume)).await?;
        let is_ours = found.metadata.labels.iter().flatten().any(|(key, value)| key == VOLUME_LABEL && value == OWN_SIZE);
        let folder = found.spec.and_then(|spec| spec.host_path).map(|host| host.path).filter(|_| is_ours);
        folder.ok_or_else(|| {
            PlatformError::NotPossible(format!("volume `{volume}` has no size of its own that is known here, so it is left alone"))
        })
    }

    /// How often a kubelet could not mount a volume because it was refused.
    async fn refused_attempts(&self, volume: &str, since: i64) -> Result<usize, PlatformError> {
        let params = ListParams::default().fields("reason=FailedMount");
        let events = self.cluster.call("list the mounts that failed", self.cluster.namespaced::<Event>().list(&params)).await?;
        let named = format!("\"{volume}\"");
        let is_of_it = |event: &&Event| {
            event.message.as_deref().is_some_and(|message| message.contains(&named) && message.contains(IS_NO_FOLDER))
                && event.last_timestamp.as_ref().is_some_and(|at| at.0.as_second() >= since)
        };
        Ok(events.items.iter().filter(is_of_it).count())
    }

    fn dead_man(&self, deed: Deed, node: &str, after: Duration) -> Result<(), PlatformError> {
        dead_man::set(self.docker()?.program(), deed, node, after)
            .map_err(|source| PlatformError::DeadMan { node: node.to_owned(), source })
    }

    /// What reaches a node here.
    fn shell(&self) -> Result<NodeShell<'_>, PlatformError> {
        self.docker().map(NodeShell::Docker)
    }

    /// The same, for those who can do without it.
    fn shell_or_why(&self) -> Result<NodeShell<'_>, String> {
        self.shell().map_err(|error| chain(&error))
    }

    fn docker(&self) -> Result<&Docker, PlatformError> {
        self.docker.as_ref().map_err(|why| {
            PlatformError::NotPossible(format!(
                "docker runs the nodes of kind cluster `{}`, and it did not answer: {why} (hint: start docker, or go where it runs, and try again)",
                self.name
            ))
        })
    }
}

/// Whether the kernel below the nodes can hold packets back. Asked in a network that goes with the question.
async fn can_delay(docker: &Docker, cluster: &str) -> Result<(), String> {
    // kind calls its first worker so.
    let node = format!("{cluster}-worker");
    match NodeShell::Docker(docker).can_delay(&node).await {
        Ok(true) => Ok(()),
        Ok(false) => Err("the kernel of this machine has no `sch_netem`, which holds packets back".to_owned()),
        Err(error) => Err(format!("whether the kernel can hold packets back is not known: {}", chain(&error))),
    }
}

/// Whether a volume of ours has a size of its own.
async fn have_own_size(cluster: &Cluster) -> Result<(), String> {
    let params = ListParams::default().labels(&format!("{VOLUME_LABEL}={OWN_SIZE}"));
    let found = cluster.call("list the volumes with a size of their own", cluster.all::<PersistentVolume>().list(&params)).await;
    match found {
        Ok(found) if !found.items.is_empty() => Ok(()),
        Ok(_) => Err("the volumes are folders of this machine: what hurts one of them hurts the whole machine (hint: `comeback cluster down`, then `up`)".to_owned()),
        Err(error) => Err(format!("whether the volumes have a size of their own is not known: {}", chain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;

    use super::*;
    use crate::{
        cluster::fake,
        platform::{Capability, Platform, docker::tests::stub},
    };

    #[tokio::test]
    async fn without_docker_kind_is_of_no_use_and_nothing_is_skipped() {
        let (_folder, broken) = stub("echo 'Cannot connect to the Docker daemon' >&2; exit 1");
        let kind = Platform::Kind(KindPlatform::open(fake::cluster(Router::new()).await, "k", broken).await);
        let error = kind.works().unwrap_err().to_string();
        assert!(error.contains("Cannot connect to the Docker daemon") && error.contains("hint: start docker"), "{error}");
        assert!(kind.can(Capability::NodePower).is_ok(), "kind has a power switch, whether or not it works now");
    }

    #[tokio::test]
    async fn with_docker_it_works() {
        let (_folder, docker) = stub("echo 29.0.0");
        assert!(Platform::Kind(KindPlatform::open(fake::cluster(Router::new()).await, "k", docker).await).works().is_ok());
    }
}
