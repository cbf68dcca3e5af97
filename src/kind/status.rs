//! `status`: what is there, and whether all of it is up.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use serde::Serialize;

use super::{Kind, KindError, Name, NodeContainer, docker::full_name};
use crate::{
    cluster::{Cluster, chain},
    deploy::{Engine, Installed, Workload},
    event::{Answer, PodFacts},
    scenario::TargetShape,
};

/// How long all questions to the cluster may take together: one that is half dead answers slowly.
const LOOK_DEADLINE: Duration = Duration::from_secs(40);

/// What is there.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The name of the cluster.
    pub name: String,
    /// Whether all of it is up.
    pub up: bool,
    /// What is not, each in a sentence.
    pub problems: Vec<String>,
    /// The version of Kubernetes.
    pub kubernetes: Option<String>,
    /// The context in the kubeconfig.
    pub context: String,
    /// The nodes.
    pub nodes: Vec<NodeStatus>,
    /// Which database.
    pub engine: Option<Engine>,
    /// Its image.
    pub image: Option<String>,
    /// Our own image.
    pub own_image: Option<String>,
    /// How it is deployed.
    pub shape: Option<TargetShape>,
    /// Its pod.
    pub pod: Option<String>,
    /// The node that it runs on.
    pub node: Option<String>,
    /// The address that clients use.
    pub service_address: Option<String>,
    /// The volume that its claim is bound to.
    pub volume: Option<String>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// `control-plane` or `worker`.
    pub role: String,
    /// Docker's word for its container.
    pub container: String,
    /// Its image.
    pub image: String,
    /// Whether Kubernetes calls it ready; `None` if Kubernetes could not be asked.
    pub ready: Option<bool>,
    /// Whether pods may be placed on it.
    pub schedulable: Option<bool>,
}

/// Looks at all of it. That something is not there is no error.
pub async fn status(name: &Name) -> Result<Status, KindError> {
    let kind = Kind::find(name).await?;
    let containers = kind.nodes().await?;
    let mut status = Status::empty(name, &containers);
    if containers.is_empty() {
        status.problems.push(format!("there is no cluster `{name}` (hint: `comeback cluster up`)"));
        return Ok(status);
    }
    for node in containers.iter().filter(|node| !node.is_running()) {
        status.problems.push(format!("the container of node `{}` is {}", node.name, node.state));
    }
    if !kind.folder.is_made() {
        status.problems.push("it was begun and never finished (hint: `comeback cluster up` makes it anew)".to_owned());
    }
    if containers.iter().any(|node| !node.is_running() && !node.is_worker()) {
        // Nobody to ask.
        return Ok(status);
    }
    match kind.cluster(TargetShape::default()).await {
        Err(error) => status.problems.push(chain(&error)),
        Ok(cluster) => {
            if tokio::time::timeout(LOOK_DEADLINE, status.look(&kind, &cluster)).await.is_err() {
                let waited = humantime::format_duration(LOOK_DEADLINE);
                status.problems.push(format!("the cluster did not answer all questions within {waited}"));
            }
        }
    }
    status.up = status.problems.is_empty();
    Ok(status)
}

impl Status {
    fn empty(name: &Name, containers: &[NodeContainer]) -> Self {
        let node = |one: &NodeContainer| NodeStatus {
            name: one.name.clone(),
            role: one.role.clone(),
            container: one.state.clone(),
            image: one.image.clone(),
            ready: None,
            schedulable: None,
        };
        Self {
            name: name.to_string(),
            up: false,
            problems: Vec::new(),
            kubernetes: None,
            context: name.context(),
            nodes: containers.iter().map(node).collect(),
            engine: None,
            image: None,
            own_image: None,
            shape: None,
            pod: None,
            node: None,
            service_address: None,
            volume: None,
        }
    }

    async fn look(&mut self, kind: &Kind, cluster: &Cluster) {
        match cluster.version().await {
            Ok(version) => self.kubernetes = Some(version),
            Err(error) => return self.problems.push(chain(&error)),
        }
        match cluster.call("list the nodes", cluster.all::<Node>().list(&ListParams::default())).await {
            Ok(nodes) => self.take_nodes(&nodes.items),
            Err(error) => self.problems.push(chain(&error)),
        }
        let installed = match Installed::read(cluster).await {
            Ok(installed) => installed,
            Err(error) => return self.problems.push(chain(&error)),
        };
        let cluster = Cluster::new(cluster.client(), Workload::target(installed.shape));
        self.take_workload(&cluster).await;
        self.take_images(kind, &installed).await;
        self.engine = Some(installed.engine);
        self.image = Some(installed.image);
        self.own_image = Some(installed.own_image);
        self.shape = Some(installed.shape);
    }

    fn take_nodes(&mut self, nodes: &[Node]) {
        for known in &mut self.nodes {
            let Some(node) = nodes.iter().find(|node| node.metadata.name.as_ref() == Some(&known.name)) else {
                known.ready = Some(false);
                self.problems.push(format!("node `{}` is not in the cluster", known.name));
                continue;
            };
            let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
            let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
            known.ready = Some(ready);
            known.schedulable = Some(!cordoned);
            if !ready {
                self.problems.push(format!("node `{}` is not ready", known.name));
            }
            if cordoned {
                self.problems.push(format!("node `{}` is cordoned (hint: `comeback heal`)", known.name));
            }
        }
    }

    async fn take_workload(&mut self, cluster: &Cluster) {
        let (pod, service, volume) = cluster.look().await;
        match pod {
            Answer::Known(pod) => {
                if !pod.ready {
                    self.problems.push(not_ready(&pod));
                }
                self.pod = Some(pod.name);
                self.node = pod.node;
            }
            Answer::Unavailable(why) => self.problems.push(why),
        }
        match service {
            Answer::Known(service) => self.service_address = Some(format!("{}:{}", service.cluster_ip, service.port)),
            Answer::Unavailable(why) => self.problems.push(why),
        }
        match volume {
            Answer::Known(volume) => self.volume = Some(volume.volume),
            Answer::Unavailable(why) => self.problems.push(why),
        }
    }

    /// A database that moves to a node without its image would be measured by how long the image takes.
    async fn take_images(&mut self, kind: &Kind, installed: &Installed) {
        let nodes: Vec<_> = self.nodes.iter().filter(|node| node.role == "worker" && node.container == "running").cloned().collect();
        for node in nodes {
            let Ok(images) = kind.docker.images_in(&node.name).await else {
                self.problems.push(format!("the images of node `{}` could not be listed", node.name));
                continue;
            };
            for image in [&installed.image, &installed.own_image] {
                if !images.contains(&full_name(image)) && !self.problems.iter().any(|one| one.contains(&node.name)) {
                    self.problems.push(format!("node `{}` lacks the image `{image}` (hint: `comeback cluster up`)", node.name));
                }
            }
        }
    }
}

fn not_ready(pod: &PodFacts) -> String {
    let end = pod.last_end.as_deref().map(|end| format!("; its container ended: {end}")).unwrap_or_default();
    format!("pod `{}` is not ready ({}){end}", pod.name, pod.phase)
}
