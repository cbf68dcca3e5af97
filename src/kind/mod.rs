//! A kind cluster with the database in it: `comeback cluster up`, `status`, `down`.
//!
//! # How `up` goes
//!
//! 1. docker and kind are found, and the lock of the cluster is taken ([`folder`]).
//! 2. The cluster is looked for by the containers that are its nodes. There is none: it is made. There is one of ours: it is kept, its stopped
//!    nodes are started; one that was never finished is made anew. There is one that is not ours: it is refused.
//! 3. Our own image is made of the running program ([`image`]) and loaded into the nodes, and so is the image of the database.
//! 4. The volumes are made and mounted into every node (`volumes`).
//! 5. The database is put up ([`crate::deploy`]), and waited for.
//! 6. A client in the cluster, on another node, writes the first row through the service address. Nothing before that is called up.
//!
//! Every step can be repeated, has a deadline with a name, and when that passes says what the cluster tells of it. What was made is known by
//! the folder that is mounted into its nodes ([`config`]), which is there even if nothing else ever came up.
//!
//! docker and kind are called as commands ([`tool`]); what Kubernetes knows is read through [`crate::cluster`].

pub mod config;
pub mod docker;
mod down;
pub mod folder;
pub mod image;
mod release;
mod status;
pub mod tool;
mod up;
mod volumes;

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use kube::config::Kubeconfig;

use self::{
    config::{ConfigError, MOUNT},
    docker::{Docker, NodeContainer},
    folder::{Folder, FolderError},
    image::ImageError,
    tool::{Call, Missing, Tool, ToolError},
};
pub use self::{
    down::{Down, down},
    status::{NodeStatus, Status, status},
    up::{Options, Stage, Up, up},
};
use crate::{
    cluster::{Cluster, ClusterError, connect, lease},
    deploy::{DeployError, NAMESPACE, Workload, knock::KnockError, wait::NotUp},
    scenario::TargetShape,
};

/// How to get kind.
const HINT: &str = "`go install sigs.k8s.io/kind@v0.33.0`, or https://kind.sigs.k8s.io/docs/user/quick-start/#installation";

/// A question to kind may take so long.
const ASK_DEADLINE: Duration = Duration::from_mins(1);

/// The docker network of all kind clusters, unless kind is told otherwise.
const NETWORK: &str = "kind";

/// The name of a cluster: lower-case letters, digits and dashes, at most 40, so that it can be part of the names of nodes, folders and images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

/// A name that cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` cannot be the name of a cluster: 1 to 40 lower-case letters, digits and dashes, with no dash at either end")]
pub struct NameError(String);

impl Name {
    /// The longest there is: the name of a node is longer than that of its cluster, and must be a host name.
    const LONGEST: usize = 40;

    /// Checks it.
    ///
    /// # Errors
    /// If it is no such name.
    pub fn try_new(text: &str) -> Result<Self, NameError> {
        let fits = (1..=Self::LONGEST).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits { Ok(Self(text.to_owned())) } else { Err(NameError(text.to_owned())) }
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The context that kind writes into the kubeconfig.
    #[must_use]
    pub fn context(&self) -> String {
        format!("kind-{self}")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_new(text)
    }
}

impl Default for Name {
    /// The name of the cluster that `comeback run --on kind` and `comeback heal --on kind` mean.
    fn default() -> Self {
        Self("comeback".to_owned())
    }
}

/// Whoever wants to hear how far it is.
pub trait Audience: Sync {
    /// Something else is done now.
    fn step(&self, what: &str);
    /// Something that is worth knowing afterwards.
    fn note(&self, text: &str);
}

/// A cluster could not be made, looked at or removed.
#[derive(Debug, thiserror::Error)]
pub enum KindError {
    /// A program is not there.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The daemon does not answer.
    #[error(
        "the docker daemon cannot be used: {why} (hint: start it, e.g. `systemctl start docker`, or set DOCKER_HOST; your user must be allowed to)"
    )]
    NoDaemon {
        /// What docker says.
        why: String,
    },
    /// A command failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Something on this machine is in the way.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Our own program is at fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Our image could not be made.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A call to the cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The workload could not be put up.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// It did not come up.
    #[error(transparent)]
    NotUp(#[from] NotUp),
    /// No write was acknowledged.
    #[error(transparent)]
    Knock(#[from] KnockError),
    /// Somebody else's.
    #[error(
        "a kind cluster `{name}` is there that `comeback cluster up` did not make, so it is left alone (hint: choose another name with `--name`, \
         or remove it with `kind delete cluster --name {name}`)"
    )]
    Foreign {
        /// Its name.
        name: Name,
    },
    /// Nobody can give the loop devices back.
    #[error(
        "the volumes in `{}` have loop devices, and there is no image of kind's nodes to give them back with (hint: `losetup --list`, then \
         `losetup --detach` those whose file is there; then `comeback cluster down` again)",
        folder.display()
    )]
    Devices {
        /// The folder of the volumes.
        folder: PathBuf,
    },
    /// A run left something undone there.
    #[error("{0} (hint: `comeback heal --on kind-{1}` first: what is put up over it would hide it)")]
    LeftUndone(String, Name),
    /// A run is at work there.
    #[error("run {holder} is at work on cluster `{name}`: {remedy}")]
    InUse {
        /// The cluster.
        name: Name,
        /// Which run, and where.
        holder: String,
        /// What to do.
        remedy: &'static str,
    },
    /// It is there, but not as it is asked for.
    #[error(
        "cluster `{name}` is there and has {there}, not {wanted} (hint: `comeback cluster down --name {name}` first, or leave the option out)"
    )]
    Differs {
        /// Its name.
        name: Name,
        /// What it has.
        there: String,
        /// What is asked for.
        wanted: String,
    },
    /// There is no node image for that version.
    #[error(
        "there is no node image `comeback/kind-node:v{minor}` on this machine (hint: name the whole version, e.g. `--kubernetes {minor}.1`, to pull \
         `kindest/node`; or build one with `kind-config/node-image/build --kubernetes {minor}`; or name one with `--node-image`)"
    )]
    NoNodeImage {
        /// The version of Kubernetes.
        minor: String,
    },
    /// A version of Kubernetes that is none.
    #[error("`{0}` is no version of Kubernetes (hint: `1.37`, or `1.37.2`)")]
    Version(String),
    /// The node image cannot be had.
    #[error(
        "could not pull the node image of kind{image}: {why} (hint: without a registry, `kind-config/node-image/build` makes one; or name one that is \
         on this machine with `--node-image`)",
        image = .image.as_ref().map(|image| format!(" `{image}`")).unwrap_or_default()
    )]
    NodeImage {
        /// Which.
        image: Option<String>,
        /// What docker says.
        why: String,
    },
    /// The image of the database cannot be had.
    #[error(
        "could not pull `{image}` from the registry `{registry}`: {why} (hint: who has the image in a file runs `docker load -i FILE` and then this \
         again, which brings it into the nodes as `kind load docker-image {image}` does; where there is none, `--engine sqld` puts up the stand-in \
         database, which is not SQL Server)"
    )]
    EngineImage {
        /// The image.
        image: String,
        /// Its registry.
        registry: String,
        /// What docker says.
        why: String,
    },
    /// Our own image, that was named, cannot be had.
    #[error("could not pull `{image}` from the registry `{registry}`: {why} (hint: without `--image`, one is made of this program)")]
    OwnImage {
        /// The image.
        image: String,
        /// Its registry.
        registry: String,
        /// What docker says.
        why: String,
    },
    /// The API server does not answer.
    #[error("the API server of cluster `{name}` did not answer within {}: {why}", humantime::format_duration(*.deadline))]
    NoApi {
        /// The cluster.
        name: Name,
        /// How long it was waited for.
        deadline: Duration,
        /// The last error.
        why: String,
    },
    /// Nodes do not become ready.
    #[error("not all nodes were ready after {}: {why}", humantime::format_duration(*.deadline))]
    Nodes {
        /// How long it was waited for.
        deadline: Duration,
        /// How they stand.
        why: String,
    },
    /// The kubeconfig of the cluster cannot be read.
    #[error("the kubeconfig that kind has for cluster `{name}` cannot be used")]
    Kubeconfig {
        /// The cluster.
        name: Name,
        /// Why not.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
}

/// kind and docker on this machine, and one cluster.
#[derive(Clone, Debug)]
struct Kind {
    name: Name,
    docker: Docker,
    server: docker::DockerServer,
    tool: Tool,
    folder: Folder,
}

impl Kind {
    /// Finds the programs and asks whether docker's daemon answers.
    async fn find(name: &Name) -> Result<Self, KindError> {
        let docker = Docker::find()?;
        let tool = Tool::find("kind", HINT)?;
        let server = docker.server().await.map_err(|error| match error.last() {
            "" => KindError::Tool(error),
            why => KindError::NoDaemon { why: why.to_owned() },
        })?;
        Ok(Self { name: name.clone(), docker, server, tool, folder: Folder::of(name) })
    }

    fn call<A: Into<std::ffi::OsString>>(
        &self,
        what: impl Into<String>,
        deadline: Duration,
        args: impl IntoIterator<Item = A>,
    ) -> Call<'_> {
        // Autodetection takes docker where it answers, which it does; whoever prefers another is not followed.
        self.tool.call(what, deadline, args).env("KIND_EXPERIMENTAL_PROVIDER", "")
    }

    /// The nodes, if the cluster is ours or there is none.
    async fn nodes(&self) -> Result<Vec<NodeContainer>, KindError> {
        let nodes = self.docker.nodes(self.name.as_str()).await?;
        if nodes.iter().all(|node| self.is_ours(node)) { Ok(nodes) } else { Err(KindError::Foreign { name: self.name.clone() }) }
    }

    /// Refuses while a run renews its lease: whatever is changed now, it would take for what its faults did.
    async fn refuse_a_run(&self, cluster: &Cluster, remedy: &'static str) -> Result<(), KindError> {
        match lease::holder(cluster, NAMESPACE).await? {
            Some(holder) => Err(KindError::InUse { name: self.name.clone(), holder, remedy }),
            None => Ok(()),
        }
    }

    /// Writes down which image the nodes have before they are removed: a container of it may empty the folder when we may not.
    fn remember_image(&self, nodes: &[NodeContainer]) -> Result<(), FolderError> {
        let Some(node) = nodes.first().filter(|_| self.folder.exists()) else { return Ok(()) };
        match self.folder.remember_image(&node.image) {
            // In a folder that somebody else has made; there are other images.
            Err(error) if error.is_denied() => Ok(()),
            remembered => remembered,
        }
    }

    /// Whether `comeback cluster up` made this node: the folder of the cluster is mounted into it.
    fn is_ours(&self, node: &NodeContainer) -> bool {
        node.mounts.get(MOUNT).is_some_and(|folder| *folder == self.folder.path().display().to_string())
    }

    /// The kubeconfig of the cluster as kind has it.
    async fn kubeconfig(&self) -> Result<Kubeconfig, KindError> {
        let what = format!("read the kubeconfig of cluster `{}`", self.name);
        let text = self.call(what, ASK_DEADLINE, ["get", "kubeconfig", "--name", self.name.as_str()]).run().await?;
        Kubeconfig::from_yaml(&text).map_err(|source| KindError::Kubeconfig { name: self.name.clone(), source: Box::new(source) })
    }

    /// The cluster through its API, with the shape as its target.
    async fn cluster(&self, shape: TargetShape) -> Result<Cluster, KindError> {
        Ok(Cluster::new(connect(self.kubeconfig().await?).await?, Workload::target(shape)))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("comeback", true)]
    #[case("a-1", true)]
    #[case("", false)]
    #[case("-a", false)]
    #[case("a-", false)]
    #[case("../x", false)]
    #[case("A", false)]
    #[case("a.b", false)]
    #[case("a123456789012345678901234567890123456789", true)]
    #[case("a1234567890123456789012345678901234567890", false)]
    fn a_name_is_safe_in_paths_and_host_names(#[case] text: &str, #[case] fits: bool) {
        assert_eq!(Name::try_new(text).is_ok(), fits);
    }

    #[test]
    fn an_image_that_cannot_be_had_tells_all_the_ways_out() {
        let image = "mcr.microsoft.com/mssql/server:2022-latest".to_owned();
        let registry = crate::deploy::registry(&image).to_owned();
        let error = KindError::EngineImage { image, registry, why: "no route".into() }.to_string();
        for part in ["registry `mcr.microsoft.com`", "kind load docker-image mcr.microsoft.com/mssql/server:2022-latest", "--engine sqld"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
