//! `down`: nothing of the cluster is left. It can be repeated.

use std::time::Duration;

use super::{Audience, Kind, KindError, NETWORK, Name, NodeContainer, folder::Lock, volumes};
use crate::{cluster::chain, scenario::TargetShape};

/// How long kind may take to remove the cluster.
const DELETE_DEADLINE: Duration = Duration::from_mins(3);

/// How long it may take to find out whether a run is at work: a lease that nobody renews is watched for 10 s.
const LEASE_DEADLINE: Duration = Duration::from_secs(45);

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
///
/// A run that is at work there is not disturbed unless `force` says so.
pub async fn down(name: &Name, force: bool, audience: &dyn Audience) -> Result<Down, KindError> {
    audience.step("looking for docker, kind and the cluster");
    let kind = Kind::find(name).await?;
    let _lock = Lock::take(name)?;
    let nodes = kind.nodes().await?;
    if !force {
        refuse_under_a_run(&kind, &nodes, audience).await?;
    }
    let volumes = kind.folder.exists();
    if volumes {
        kind.remember_image(&nodes)?;
        // What is left after an interruption is then known to be half a cluster.
        if let Err(error) = kind.folder.unmark()
            && !error.is_denied()
        {
            return Err(error.into());
        }
        give_back_devices(&kind, &nodes, audience).await;
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
        give_back_the_rest(&kind, nodes.first()).await?;
        remove_folder(&kind, nodes.first()).await?;
    }
    let network = remove_network(&kind).await?;
    Ok(Down { nodes: nodes.len(), volumes, network })
}

/// A run whose cluster does not answer has lost it already, so such a cluster is removed all the same.
async fn refuse_under_a_run(kind: &Kind, nodes: &[NodeContainer], audience: &dyn Audience) -> Result<(), KindError> {
    // Without a control plane nothing is renewed.
    if !nodes.iter().any(|node| !node.is_worker() && node.is_running()) {
        return Ok(());
    }
    audience.step("looking whether a run is at work");
    let looking = async {
        let cluster = kind.cluster(TargetShape::default()).await?;
        kind.refuse_a_run(&cluster, "wait until it has ended, or stop it with Ctrl-C; `--force` removes the cluster all the same").await
    };
    let unknown = match tokio::time::timeout(LEASE_DEADLINE, Box::pin(looking)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error @ KindError::InUse { .. })) => return Err(error),
        Ok(Err(error)) => chain(&error),
        Err(_) => format!("no answer within {}", humantime::format_duration(LEASE_DEADLINE)),
    };
    audience.note(&format!("whether a run is at work there cannot be found out: {unknown}"));
    Ok(())
}

/// The loop devices of the volumes are the machine's, and outlive the nodes. A node that runs gives them back; where none can, it is done when they are gone.
async fn give_back_devices(kind: &Kind, nodes: &[NodeContainer], audience: &dyn Audience) {
    audience.step("giving the volumes' devices back");
    // The control plane first: a brake on a volume is there.
    let (workers, others): (Vec<_>, Vec<_>) = nodes.iter().filter(|node| node.is_running()).partition(|node| node.is_worker());
    for node in others.into_iter().chain(workers) {
        if volumes::detach(&kind.docker, node).await.is_ok() {
            return;
        }
    }
}

/// The same where no node runs any more, or none could: what is still attached would stay so until the machine is started anew.
async fn give_back_the_rest(kind: &Kind, node: Option<&NodeContainer>) -> Result<(), KindError> {
    if !volumes::any_in(kind.folder.path()) {
        return Ok(());
    }
    let known = node.map(|node| node.image.clone()).into_iter().chain(kind.folder.remembered_image());
    let mut failed = None;
    for image in known.chain(kind.docker.node_images().await?) {
        match volumes::detach_without_nodes(&kind.docker, &image, kind.folder.path()).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    Err(failed.unwrap_or_else(|| KindError::Devices { folder: kind.folder.path().to_owned() }))
}

/// The files in it belong to the users of the containers. Where we may not remove them, a container may.
async fn remove_folder(kind: &Kind, node: Option<&NodeContainer>) -> Result<(), KindError> {
    // Read before the first try, which removes what it can.
    let remembered = kind.folder.remembered_image();
    let denied = match kind.folder.remove() {
        Err(error) if error.is_denied() => error,
        removed => return Ok(removed?),
    };
    let known = node.map(|node| node.image.clone()).into_iter().chain(remembered);
    let mut failed = None;
    // Where an earlier `down` has removed the nodes and was then interrupted, any other with a `find` in it does as well.
    for image in known.chain(kind.docker.node_images().await?) {
        match kind.docker.empty(&kind.folder.path().display().to_string(), &image).await {
            Ok(()) => return Ok(kind.folder.remove()?),
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    Err(failed.map_or_else(|| denied.into(), KindError::from))
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
