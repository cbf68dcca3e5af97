//! What a pod mounts, as directories of this machine.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use super::super::{Cluster, control::volumes as controller, kinds::Kind, object::Look};

/// What a pod's volumes come to.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    /// The directory of each volume of the pod.
    pub(super) directories: BTreeMap<String, PathBuf>,
}

/// The persistent volumes that a pod is to have here, by the name of its volume, or why it cannot have them yet.
pub(super) fn attached(cluster: &Cluster, node: &str, pod: &Value) -> Result<BTreeMap<String, String>, String> {
    let mut attached = BTreeMap::new();
    for volume in pod.list("/spec/volumes") {
        let claim = volume.text("/persistentVolumeClaim/claimName");
        if claim.is_empty() {
            continue;
        }
        let name = volume.text("/name");
        let Some(claim) = cluster.store.get(Kind::PersistentVolumeClaim, pod.namespace(), claim) else {
            return Err(format!("persistentvolumeclaim \"{claim}\" not found"));
        };
        if claim.text("/status/phase") != "Bound" {
            return Err(format!("persistentvolumeclaim \"{}\" is not bound", claim.name()));
        }
        let persistent = claim.text("/spec/volumeName");
        if let Some(why) = cluster.hurts.why_not_attached(persistent) {
            return Err(why);
        }
        let Some(object) = cluster.store.get(Kind::PersistentVolume, "", persistent) else {
            return Err(format!("persistentvolume \"{persistent}\" not found"));
        };
        if controller::is_attachable(&object) && !controller::is_attached(cluster, persistent, node) {
            return Err(format!("volume \"{persistent}\" is not attached to node \"{node}\""));
        }
        attached.insert(name.to_owned(), persistent.to_owned());
    }
    Ok(attached)
}

/// Makes the directories of all volumes of a pod. `persistent` is what [`attached`] said.
pub(super) fn mount(cluster: &Cluster, pod: &Value, persistent: &BTreeMap<String, String>) -> Result<Mounts, String> {
    let mut mounts = Mounts::default();
    let own = super::pod_directory(&cluster.dir, pod.uid()).join("volumes");
    for volume in pod.list("/spec/volumes") {
        let name = volume.text("/name");
        let failed = |error: io::Error| format!("MountVolume.SetUp failed for volume \"{name}\": {error}");
        let directory = if let Some(persistent) = persistent.get(name) {
            let directory = controller::directory(cluster, persistent);
            if !directory.is_dir() {
                return Err(format!("MountVolume.SetUp failed for volume \"{persistent}\": its directory is not there"));
            }
            directory
        } else {
            let directory = own.join(name);
            fs::create_dir_all(&directory).map_err(failed)?;
            if volume.has("/secret") {
                let secret = volume.text("/secret/secretName");
                let found = cluster.store.get(Kind::Secret, pod.namespace(), secret);
                let found =
                    found.ok_or_else(|| format!("MountVolume.SetUp failed for volume \"{name}\": secret \"{secret}\" not found"))?;
                for (key, value) in found["data"].as_object().into_iter().flatten() {
                    let bytes = BASE64.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
                    write(&directory.join(key), &bytes).map_err(failed)?;
                }
            } else if volume.has("/configMap") {
                let map = volume.text("/configMap/name");
                let found = cluster.store.get(Kind::ConfigMap, pod.namespace(), map);
                let found =
                    found.ok_or_else(|| format!("MountVolume.SetUp failed for volume \"{name}\": configmap \"{map}\" not found"))?;
                for (key, value) in found["data"].as_object().into_iter().flatten() {
                    write(&directory.join(key), value.as_str().unwrap_or_default().as_bytes()).map_err(failed)?;
                }
            } else if !volume.has("/emptyDir") {
                return Err(format!("MountVolume.SetUp failed for volume \"{name}\": the sandbox has no volumes of this kind"));
            }
            directory
        };
        mounts.directories.insert(name.to_owned(), directory);
    }
    Ok(mounts)
}

/// Writes a file that only we can read.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut opened = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    io::Write::write_all(&mut opened, bytes)?;
    opened.set_permissions(fs::Permissions::from_mode(0o600))
}

impl Mounts {
    /// The mounts of a container as the processes are told of them: `path=directory;path=directory`.
    pub(super) fn of_container(&self, container: &Value) -> String {
        let mounts = container.list("/volumeMounts").iter().filter_map(|mount| {
            let directory = self.directories.get(mount.text("/name"))?;
            let part = mount.text("/subPath");
            let directory = if part.is_empty() { directory.clone() } else { directory.join(part) };
            Some(format!("{}={}", mount.text("/mountPath"), directory.display()))
        });
        mounts.collect::<Vec<_>>().join(";")
    }
}
