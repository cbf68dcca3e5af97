//! What is asked of docker: the containers that are nodes, the images, the network.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Deserialize;

use super::tool::{Missing, Tool, ToolError};

/// How to get docker.
const HINT: &str = "install Docker, https://docs.docker.com/engine/install/, or on Debian `apt-get install docker.io`";

/// A question may take so long.
const ASK_DEADLINE: Duration = Duration::from_secs(30);
/// A command in a node may take so long.
const EXEC_DEADLINE: Duration = Duration::from_mins(1);
/// The start of a node's container may take so long.
const START_DEADLINE: Duration = Duration::from_mins(1);
/// A pull may take so long: an image of SQL Server is more than 1.5 GB.
const PULL_DEADLINE: Duration = Duration::from_mins(20);
/// The build of our image copies one file.
const BUILD_DEADLINE: Duration = Duration::from_mins(5);
/// The removal of a container or an image may take so long.
const REMOVE_DEADLINE: Duration = Duration::from_mins(2);

/// How often containers that come and go are listed anew, and after how long.
const LOOK_AGAIN: u32 = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// The label by which kind knows the nodes of a cluster.
const CLUSTER_LABEL: &str = "io.x-k8s.kind.cluster";
/// The label that tells what a node is.
const ROLE_LABEL: &str = "io.x-k8s.kind.role";

/// Docker on this machine.
#[derive(Clone, Debug)]
pub struct Docker(Tool);

/// A container that is a node of a kind cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeContainer {
    /// Its name, which is the node's.
    pub name: String,
    /// `control-plane`, `worker`, or another.
    pub role: String,
    /// Docker's word for its state: `running`, `exited`, `paused`, `created`.
    pub state: String,
    /// The image that it runs.
    pub image: String,
    /// What of this machine is mounted into it: the folder within, the folder here.
    pub mounts: BTreeMap<String, String>,
}

/// What docker runs on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerServer {
    /// `linux`, or another.
    pub os: String,
    /// In docker's words: `amd64`, `arm64`.
    pub arch: String,
    /// Its version.
    pub version: String,
}

impl NodeContainer {
    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// Whether it is a worker.
    #[must_use]
    pub fn is_worker(&self) -> bool {
        self.role == "worker"
    }
}

impl Docker {
    /// Looks for the program.
    pub fn find() -> Result<Self, Missing> {
        Tool::find("docker", HINT).map(Self)
    }

    /// Asks the daemon what it is; that it does not answer is the error that most people meet.
    pub async fn server(&self) -> Result<DockerServer, ToolError> {
        let format = "{{json .Server}}";
        let what = "ask the docker daemon for its version";
        let answer = self.0.call(what, ASK_DEADLINE, ["version", "--format", format]).json().await?;
        DockerServer::deserialize(answer).map_err(|error| answer_error(what, &error))
    }

    /// The containers that are nodes of the cluster of this name, in whatever state.
    pub async fn nodes(&self, cluster: &str) -> Result<Vec<NodeContainer>, ToolError> {
        let mut tries = 0;
        loop {
            match self.nodes_once(cluster).await {
                // It went between the list and the look, as those do whose maker was killed.
                Err(error) if tries < LOOK_AGAIN && error.last().contains("No such container") => {
                    tries += 1;
                    tokio::time::sleep(LOOK_PAUSE).await;
                }
                found => return found,
            }
        }
    }

    async fn nodes_once(&self, cluster: &str) -> Result<Vec<NodeContainer>, ToolError> {
        let what = format!("list the nodes of cluster `{cluster}`");
        let filter = format!("label={CLUSTER_LABEL}={cluster}");
        let ids = self.0.call(&*what, ASK_DEADLINE, ["ps", "--all", "--quiet", "--no-trunc", "--filter", filter.as_str()]).run().await?;
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let args = ["container", "inspect"].into_iter().chain(ids);
        let answer = self.0.call(&*what, ASK_DEADLINE, args).json().await?;
        node_containers(answer).map_err(|error| answer_error(&what, &error))
    }

    /// Starts these containers.
    pub async fn start(&self, names: &[&str]) -> Result<(), ToolError> {
        let what = format!("start {}", names.join(", "));
        self.0.call(what, START_DEADLINE, ["start"].iter().chain(names).copied()).run().await.map(drop)
    }

    /// Lets paused containers go on.
    pub async fn unpause(&self, names: &[&str]) -> Result<(), ToolError> {
        let what = format!("let {} go on", names.join(", "));
        self.0.call(what, START_DEADLINE, ["unpause"].iter().chain(names).copied()).run().await.map(drop)
    }

    /// Removes these containers with their volumes, running or not.
    pub async fn remove(&self, names: &[&str]) -> Result<(), ToolError> {
        let what = format!("remove {}", names.join(", "));
        self.0.call(what, REMOVE_DEADLINE, ["rm", "--force", "--volumes"].iter().chain(names).copied()).run().await.map(drop)
    }

    /// Runs a command in a node and returns what it wrote.
    pub async fn exec(&self, node: &str, what: impl Into<String>, command: &[&str]) -> Result<String, ToolError> {
        self.0.call(what, EXEC_DEADLINE, ["exec", node].iter().chain(command).copied()).run().await
    }

    /// Whether an image is on this machine.
    pub async fn has_image(&self, image: &str) -> Result<bool, ToolError> {
        let what = format!("look for image `{image}`");
        let filter = format!("reference={image}");
        Ok(!self.0.call(what, ASK_DEADLINE, ["image", "ls", "--quiet", "--filter", filter.as_str()]).run().await?.trim().is_empty())
    }

    /// The id of an image on this machine, which is another for each build; `None` if it is not there.
    pub async fn image_id(&self, image: &str) -> Result<Option<String>, ToolError> {
        if !self.has_image(image).await? {
            return Ok(None);
        }
        let what = format!("look at image `{image}`");
        let id = self.0.call(what, ASK_DEADLINE, ["image", "inspect", "--format", "{{.Id}}", image]).run().await?;
        Ok(Some(id.trim().to_owned()))
    }

    /// The images in the containerd of a node, by their full names.
    pub async fn images_in(&self, node: &str) -> Result<BTreeSet<String>, ToolError> {
        let what = format!("list the images of node `{node}`");
        let names = self.exec(node, what, &["ctr", "--namespace", "k8s.io", "images", "ls", "--quiet"]).await?;
        Ok(names.lines().map(|name| name.trim().to_owned()).collect())
    }

    /// Pulls an image from its registry.
    pub async fn pull(&self, image: &str) -> Result<(), ToolError> {
        self.0.call(format!("pull image `{image}`"), PULL_DEADLINE, ["pull", "--quiet", image]).run().await.map(drop)
    }

    /// Builds an image from a folder with a `Dockerfile`. It must need nothing from elsewhere.
    pub async fn build(&self, image: &str, label: &str, folder: &str) -> Result<(), ToolError> {
        let args = ["build", "--quiet", "--network", "none", "--label", label, "--tag", image, folder];
        let build = || self.0.call(format!("build image `{image}`"), BUILD_DEADLINE, args);
        // The old builder is in every docker of today and needs no plug-in; where it is gone, the new one is there.
        let Err(old) = build().env("DOCKER_BUILDKIT", "0").run().await else { return Ok(()) };
        build().env("DOCKER_BUILDKIT", "1").run().await.map(drop).map_err(|_| old)
    }

    /// The images on this machine with this label, the newest first.
    pub async fn labelled(&self, label: &str) -> Result<Vec<String>, ToolError> {
        let filter = format!("label={label}");
        let args = ["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", filter.as_str()];
        let names = self.0.call("list our own images", ASK_DEADLINE, args).run().await?;
        Ok(names.lines().map(ToOwned::to_owned).filter(|name| !name.contains("<none>")).collect())
    }

    /// The images of kind's nodes on this machine, anybody's.
    pub async fn node_images(&self) -> Result<Vec<String>, ToolError> {
        let args = [
            "image",
            "ls",
            "--format",
            "{{.Repository}}:{{.Tag}}",
            "--filter",
            "reference=*/kind-node",
            "--filter",
            "reference=kindest/node",
        ];
        let names = self.0.call("list the images of nodes", ASK_DEADLINE, args).run().await?;
        Ok(names.lines().map(ToOwned::to_owned).filter(|name| !name.contains("<none>")).collect())
    }

    /// Removes an image from this machine.
    pub async fn remove_image(&self, image: &str) -> Result<(), ToolError> {
        self.0.call(format!("remove image `{image}`"), REMOVE_DEADLINE, ["image", "rm", image]).run().await.map(drop)
    }

    /// Empties a folder of this machine that belongs to another user, by a container of `image` that may.
    pub async fn empty(&self, folder: &str, image: &str) -> Result<(), ToolError> {
        let volume = format!("{folder}:/emptied");
        let command = ["find", "/emptied", "-mindepth", "1", "-delete"];
        self.run_once(&format!("empty `{folder}`"), image, &["--volume", &volume], &command).await
    }

    /// Runs a command in a container of an image that is on this machine, and removes it.
    pub async fn run_once(&self, what: &str, image: &str, options: &[&str], command: &[&str]) -> Result<(), ToolError> {
        let container = format!("comeback-once-{}", uuid::Uuid::new_v4().simple());
        let (program, args) = command.split_first().expect("a command has a program");
        let head = ["run", "--rm", "--pull", "never", "--name", &container, "--network", "none", "--entrypoint", program];
        let all = head.iter().chain(options).chain([&image]).chain(args).copied();
        let ended = self.0.call(what, REMOVE_DEADLINE, all).run().await;
        if ended.is_err() {
            // At the deadline only docker's client is killed. The first error is the one to tell.
            let _ = self.remove(&[&container]).await;
        }
        ended.map(drop)
    }

    /// Whether any container, running or not, is in a network; `None` if there is no such network.
    pub async fn uses_network(&self, network: &str) -> Result<Option<bool>, ToolError> {
        let what = format!("look for docker's network `{network}`");
        let filter = format!("name=^{network}$");
        let found = self.0.call(&*what, ASK_DEADLINE, ["network", "ls", "--quiet", "--filter", filter.as_str()]).run().await?;
        if found.trim().is_empty() {
            return Ok(None);
        }
        let filter = format!("network={network}");
        let users = self.0.call(what, ASK_DEADLINE, ["ps", "--all", "--quiet", "--filter", filter.as_str()]).run().await?;
        Ok(Some(!users.trim().is_empty()))
    }

    /// Removes a network.
    pub async fn remove_network(&self, network: &str) -> Result<(), ToolError> {
        self.0.call(format!("remove docker's network `{network}`"), ASK_DEADLINE, ["network", "rm", network]).run().await.map(drop)
    }
}

fn answer_error(what: &str, error: &serde_json::Error) -> ToolError {
    ToolError::Answer { what: what.to_owned(), tool: "docker", why: error.to_string() }
}

fn node_containers(answer: serde_json::Value) -> Result<Vec<NodeContainer>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Container {
        name: String,
        state: State,
        config: Config,
        #[serde(default)]
        mounts: Vec<Mount>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct State {
        status: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Config {
        image: String,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Mount {
        r#type: String,
        source: String,
        destination: String,
    }
    let containers: Vec<Container> = serde_json::from_value(answer)?;
    let mut nodes: Vec<NodeContainer> = containers
        .into_iter()
        .map(|one| NodeContainer {
            name: one.name.trim_start_matches('/').to_owned(),
            role: one.config.labels.get(ROLE_LABEL).cloned().unwrap_or_default(),
            state: one.state.status,
            image: one.config.image,
            mounts: one.mounts.into_iter().filter(|mount| mount.r#type == "bind").map(|mount| (mount.destination, mount.source)).collect(),
        })
        .collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

/// The full name of an image, as containerd keeps it: `docker.io/library/comeback:0.1.0`.
#[must_use]
pub fn full_name(image: &str) -> String {
    let (host, rest) = match image.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest.to_owned()),
        Some(_) => ("docker.io", image.to_owned()),
        None => ("docker.io", format!("library/{image}")),
    };
    let last = rest.rsplit('/').next().unwrap_or_default();
    let tag = if last.contains(':') || rest.contains('@') { "" } else { ":latest" };
    format!("{host}/{rest}{tag}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_are_read_with_their_role_state_and_mounts() {
        let answer = json!([{
            "Name": "/x-worker", "State": {"Status": "exited"},
            "Config": {"Image": "kindest/node:v1", "Labels": {"io.x-k8s.kind.cluster": "x", "io.x-k8s.kind.role": "worker"}},
            "Mounts": [
                {"Type": "bind", "Source": "/var/tmp/comeback/kind/x", "Destination": "/var/comeback"},
                {"Type": "volume", "Source": "/var/lib/docker/volumes/v/_data", "Destination": "/var"},
            ],
        }, {"Name": "/x-control-plane", "State": {"Status": "running"}, "Config": {"Image": "i", "Labels": {"io.x-k8s.kind.role": "control-plane"}}}]);
        let [control, worker] = node_containers(answer).unwrap().try_into().unwrap();
        assert!(control.is_running() && !control.is_worker() && control.mounts.is_empty());
        assert!(worker.is_worker() && !worker.is_running());
        assert_eq!(worker.mounts, BTreeMap::from([("/var/comeback".to_owned(), "/var/tmp/comeback/kind/x".to_owned())]));
    }

    #[rstest]
    #[case("comeback:0.1.0", "docker.io/library/comeback:0.1.0")]
    #[case("comeback", "docker.io/library/comeback:latest")]
    #[case("kindest/node:v1", "docker.io/kindest/node:v1")]
    #[case("mcr.microsoft.com/mssql/server:2022-latest", "mcr.microsoft.com/mssql/server:2022-latest")]
    #[case("localhost:5000/x", "localhost:5000/x:latest")]
    #[case("x@sha256:00", "docker.io/library/x@sha256:00")]
    fn containerd_knows_an_image_by_its_full_name(#[case] image: &str, #[case] expected: &str) {
        assert_eq!(full_name(image), expected);
    }
}
