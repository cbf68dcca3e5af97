//! kind: a cluster whose nodes are containers of docker on this machine.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    Container, Defaults, PlatformError, Power, Signalled,
    cluster::ClusterPlatform,
    docker::Docker,
    signal::{self, Way},
};
use crate::{
    cluster::{Cluster, chain},
    scenario::Signal,
};

/// The label with which kind marks its containers: the cluster's name.
const CLUSTER_LABEL: &str = "io.x-k8s.kind.cluster";
/// The label that says what a node is for.
const ROLE_LABEL: &str = "io.x-k8s.kind.role";
/// What the label says of a node that may be switched off.
const WORKER: &str = "worker";
/// How long a killed container may take to be seen as ended.
const OFF_DEADLINE: Duration = Duration::from_secs(10);
const PERIOD: Duration = Duration::from_millis(100);

/// A kind cluster, with docker if it answers.
#[derive(Debug)]
pub struct KindPlatform {
    cluster: Cluster,
    name: String,
    docker: Result<Docker, String>,
}

impl KindPlatform {
    /// Timers as Kubernetes has them by default.
    pub const DEFAULTS: Defaults =
        Defaults { give_up_after: Duration::from_mins(5), start_within: Duration::from_mins(3), ..ClusterPlatform::DEFAULTS };

    /// The kind cluster of this name. Asks docker whether it is there: without it the nodes have no power switch.
    pub async fn open(cluster: Cluster, name: impl Into<String>, docker: Docker) -> Self {
        let answer = docker.version().await;
        Self { cluster, name: name.into(), docker: answer.map(|_| docker).map_err(|error| chain(&error)) }
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
        signal::aim(&self.cluster, self.docker.as_ref().ok(), at, process).await
    }

    pub(super) async fn signal(
        &self,
        at: &Container<'_>,
        way: &Way,
        process: &str,
        signal: Signal,
    ) -> Result<Vec<Signalled>, PlatformError> {
        signal::send(&self.cluster, self.docker.as_ref().ok(), at, way, process, signal).await
    }

    /// Whether the node's container runs. A name that is not a worker of this cluster is refused.
    pub(super) async fn power(&self, node: &str) -> Result<Power, PlatformError> {
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
            Some(WORKER) => {}
            role => return refuse(format!("its role is `{}`: only workers are switched off", role.unwrap_or("unknown"))),
        }
        Ok(if container.running { Power::On } else { Power::Off })
    }

    pub(super) async fn power_off(&self, node: &str) -> Result<(), PlatformError> {
        if self.power(node).await? == Power::Off {
            return Err(PlatformError::NotPossible(format!("node `{node}` is off already")));
        }
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
        Ok(())
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
        assert_eq!(kind.can(Capability::NodePower), Ok(()), "kind has a power switch, whether or not it works now");
    }

    #[tokio::test]
    async fn with_docker_it_works() {
        let (_folder, docker) = stub("echo 29.0.0");
        assert!(Platform::Kind(KindPlatform::open(fake::cluster(Router::new()).await, "k", docker).await).works().is_ok());
    }
}
