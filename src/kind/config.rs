//! The configuration that kind gets: `kind-config/cluster.yaml`, which is in this program, with the name, the number of workers and the folder of the
//! volumes of the cluster that is asked for.
//!
//! That folder is mounted into every node. It is there from the first moment of a node's container on, so it is also the mark by which a cluster of
//! ours is told from somebody else's, even one that never came up.

use std::path::Path;

use serde_json::{Value, json};

use super::Name;

/// The configuration as it stands in the source, for one control plane and three workers.
const TEMPLATE: &str = include_str!("../../kind-config/cluster.yaml");

/// Where every node has the folder of the volumes.
pub const MOUNT: &str = "/var/comeback";

/// The embedded configuration is not what the program expects. A test looks after that.
#[derive(Debug, thiserror::Error)]
#[error("kind-config/cluster.yaml, which is in this program, cannot be used: {0}")]
pub struct ConfigError(String);

/// The configuration of a cluster, as JSON, which is YAML too.
pub fn configuration(name: &Name, workers: u8, folder: &Path) -> Result<String, ConfigError> {
    let error = |why: &str| ConfigError(why.to_owned());
    let mut config: Value = serde_saphyr::from_str(TEMPLATE).map_err(|why| ConfigError(why.to_string()))?;
    let nodes = config["nodes"].as_array().ok_or_else(|| error("it has no nodes"))?;
    let of_role = |role: &str| nodes.iter().find(|node| node["role"] == role).cloned();
    let mut control_plane = of_role("control-plane").ok_or_else(|| error("it has no control plane"))?;
    let mut worker = of_role("worker").ok_or_else(|| error("it has no worker"))?;
    mount(&mut control_plane, folder);
    mount(&mut worker, folder);
    let nodes = std::iter::once(control_plane).chain(std::iter::repeat_n(worker, workers.into()));
    config["nodes"] = nodes.collect();
    config["name"] = name.as_str().into();
    Ok(config.to_string())
}

/// Puts the folder in the place of the one that the node has there.
fn mount(node: &mut Value, folder: &Path) {
    let mounts = node["extraMounts"].as_array().cloned().unwrap_or_default();
    let others = mounts.into_iter().filter(|mount| mount["containerPath"] != MOUNT);
    node["extraMounts"] = others.chain([json!({"hostPath": folder, "containerPath": MOUNT})]).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_the_one_of_the_source_for_this_cluster() {
        let name = Name::try_new("up-test").unwrap();
        let config: Value = serde_json::from_str(&configuration(&name, 2, Path::new("/f")).unwrap()).unwrap();
        assert_eq!((config["kind"].as_str(), config["apiVersion"].as_str()), (Some("Cluster"), Some("kind.x-k8s.io/v1alpha4")));
        assert_eq!(config["name"], "up-test");
        let nodes = config["nodes"].as_array().unwrap();
        assert_eq!(nodes.iter().map(|node| node["role"].as_str().unwrap()).collect::<Vec<_>>(), ["control-plane", "worker", "worker"]);
        for node in nodes {
            let ours: Vec<_> = node["extraMounts"].as_array().unwrap().iter().filter(|mount| mount["containerPath"] == MOUNT).collect();
            assert_eq!(ours.len(), 1);
            assert_eq!(ours[0]["hostPath"], "/f");
        }
        assert_eq!(config["networking"]["apiServerAddress"], "127.0.0.1");
    }

    #[test]
    fn every_kubelet_starts_on_either_version_of_cgroups() {
        let name = Name::try_new("x").unwrap();
        let config = configuration(&name, 3, Path::new("/f")).unwrap();
        assert!(config.contains("failCgroupV1: false"), "{config}");
    }
}
