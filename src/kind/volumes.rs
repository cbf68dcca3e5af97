//! The volumes, as the nodes have them: file systems of a size of their own, or plain folders where a node cannot do that.
//!
//! A size of its own is what lets a fault fill a volume without filling the disk of this machine. `volumes.bash` says how it is done, and is on every node:
//! what is mounted goes with a node's power, and is mounted again before its kubelet starts.

use std::{fs, path::Path};

use super::{KindError, NodeContainer, config::MOUNT, docker::Docker};
use crate::deploy::USER_ID;

const SCRIPT: &str = include_str!("volumes.bash");
/// Where a node has the script; it outlives the node's power.
const PLACE: &str = "/etc/comeback-volumes.bash";
/// The unit of systemd that runs it.
const UNIT: &str = "comeback-volumes.service";

/// Tells whether volumes can be made so: what is there already decides, and else what a node can do.
///
/// # Errors
/// Why not.
pub(super) async fn can(docker: &Docker, node: &NodeContainer) -> Result<(), String> {
    run(docker, node, "try a volume of a size of its own", &["try"]).await.map(drop).map_err(|error| match error {
        KindError::Tool(error) if !error.last().is_empty() => error.last().to_owned(),
        other => other.to_string(),
    })
}

/// Whether a folder of this machine holds volumes that may have loop devices.
pub(super) fn any_in(folder: &Path) -> bool {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries(folder).flat_map(|engine| entries(&engine).collect::<Vec<_>>()).any(|path| path.extension().is_some_and(|end| end == "img"))
}

/// Mounts what is there into this node, now and whenever it starts.
pub(super) async fn mount(docker: &Docker, node: &NodeContainer) -> Result<(), KindError> {
    let unit = format!(
        "[Unit]\nDescription=Volumes of comeback\nBefore=kubelet.service\n\
         [Service]\nType=oneshot\nExecStart=/bin/bash {PLACE} mount\nTimeoutStartSec=60\nRestart=on-failure\nRestartSec=2\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    let install = format!(
        r#"printf '%s' "$1" >{PLACE} && printf '%s' "$2" >/etc/systemd/system/{UNIT} && systemctl daemon-reload &&
           systemctl --quiet enable {UNIT} && /bin/bash {PLACE} mount"#
    );
    let what = format!("mount the volumes in node `{}`", node.name);
    docker.exec(&node.name, what, &["bash", "-c", &install, "bash", SCRIPT, &unit]).await?;
    Ok(())
}

/// Makes those volumes that are not there yet, and mounts them in this node. These are the folders that pods get.
pub(super) async fn make(docker: &Docker, node: &NodeContainer, folders: &[String]) -> Result<(), KindError> {
    let user = USER_ID.to_string();
    let homes = folders.iter().map(|folder| folder.strip_suffix("/data").unwrap_or(folder));
    let words: Vec<&str> = ["make", &user].into_iter().chain(homes).collect();
    run(docker, node, "make the volumes", &words).await.map(drop)
}

/// Which there are, of whichever kind.
pub(super) async fn list(docker: &Docker, node: &NodeContainer) -> Result<Vec<String>, KindError> {
    let found = run(docker, node, "look for volumes", &["list"]).await?;
    Ok(found.lines().map(ToOwned::to_owned).collect())
}

/// Empties all of them, of whichever kind.
pub(super) async fn empty(docker: &Docker, node: &NodeContainer) -> Result<(), KindError> {
    run(docker, node, "empty the volumes", &["empty"]).await.map(drop)
}

/// Gives back the loop devices of all of them: each goes when the last node lets go of it.
pub(super) async fn detach(docker: &Docker, node: &NodeContainer) -> Result<(), KindError> {
    run(docker, node, "give the loop devices of the volumes back", &["detach"]).await.map(drop)
}

/// As [`detach`], where no node runs any more: by a container of the nodes' `image`, of the volumes in `folder` of this machine.
pub(super) async fn detach_without_nodes(docker: &Docker, image: &str, folder: &Path) -> Result<(), KindError> {
    let mount = format!("{}:{MOUNT}", folder.display());
    let what = "give the loop devices of the volumes back";
    docker.run_once(what, image, &["--privileged", "--volume", &mount], &["bash", "-c", SCRIPT, "comeback-volumes", "detach"]).await?;
    Ok(())
}

async fn run(docker: &Docker, node: &NodeContainer, what: &str, words: &[&str]) -> Result<String, KindError> {
    let command: Vec<&str> = ["bash", "-c", SCRIPT, "comeback-volumes"].into_iter().chain(words.iter().copied()).collect();
    Ok(docker.exec(&node.name, format!("{what} in node `{}`", node.name), &command).await?)
}
