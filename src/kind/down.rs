//! `down`: nothing of the cluster is left. It can be repeated.

use std::time::Duration;

use super::{
    Audience, Kind, KindError, NETWORK, Name,
    folder::{FolderError, Lock},
};

/// How long kind may take to remove the cluster.
const DELETE_DEADLINE: Duration = Duration::from_mins(3);

/// What was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// How many nodes.
    pub nodes: usize,
    /// Whether there was a folder of volumes.
    pub volumes: bool,
    /// Whether docker's network was removed, which the last kind cluster of a machine leaves behind.
    pub network: bool,
}

/// Removes the cluster: its containers with their volumes, the folder that they shared, its entry in the kubeconfig, and docker's network if nobody
/// else uses it.
pub async fn down(name: &Name, audience: &dyn Audience) -> Result<Down, KindError> {
    audience.step("looking for docker, kind and the cluster");
    let kind = Kind::find(name).await?;
    let _lock = Lock::take(name)?;
    let nodes = kind.nodes().await?;
    let volumes = kind.folder.exists();
    if volumes {
        // What is left after an interruption is then known to be half a cluster.
        if let Err(error) = kind.folder.unmark()
            && !error.is_denied()
        {
            return Err(error.into());
        }
    }
    audience.step("removing the cluster");
    let what = format!("remove cluster `{name}`");
    // Also where there are no nodes: the entry in the kubeconfig may be there.
    kind.call(what, DELETE_DEADLINE, ["delete", "cluster", "--name", name.as_str()]).run().await?;
    let left = kind.docker.nodes(name.as_str()).await?;
    if !left.is_empty() {
        kind.docker.remove(&left.iter().map(|node| node.name.as_str()).collect::<Vec<_>>()).await?;
    }
    if volumes {
        audience.step("removing the volumes");
        remove_folder(&kind, nodes.first().map(|node| node.image.as_str())).await?;
    }
    let network = remove_network(&kind).await?;
    Ok(Down { nodes: nodes.len(), volumes, network })
}

/// The files in it belong to the users of the containers. Where we may not remove them, a container may.
async fn remove_folder(kind: &Kind, image: Option<&str>) -> Result<(), KindError> {
    match (kind.folder.remove(), image) {
        (Err(error @ FolderError::Io { .. }), Some(image)) if error.is_denied() => {
            kind.docker.empty(&kind.folder.path().display().to_string(), image).await?;
            Ok(kind.folder.remove()?)
        }
        (removed, _) => Ok(removed?),
    }
}

async fn remove_network(kind: &Kind) -> Result<bool, KindError> {
    // Somebody who chose a network of their own keeps it.
    if std::env::var_os("KIND_EXPERIMENTAL_DOCKER_NETWORK").is_some() {
        return Ok(false);
    }
    if kind.docker.uses_network(NETWORK).await? != Some(false) {
        return Ok(false);
    }
    let clusters = kind.call("list the kind clusters", super::ASK_DEADLINE, ["get", "clusters", "--quiet"]).run().await?;
    if !clusters.trim().is_empty() {
        return Ok(false);
    }
    match kind.docker.remove_network(NETWORK).await {
        Ok(()) => Ok(true),
        // Somebody makes a cluster just now.
        Err(_) if kind.docker.uses_network(NETWORK).await? == Some(true) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
