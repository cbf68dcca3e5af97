//! Persistent volumes: bound to claims, attached to nodes, given up.
//!
//! A volume is a directory of this machine, so any node could reach it at any time; the law of a real disk is kept all the same: *a volume that is
//! written by one node is attached to one node.* It is detached when no pod there uses it any more and the node says that it is no longer mounted, and
//! only then attached elsewhere. A volume that is a directory of a node (`hostPath`, `local`) is not attached at all, and nothing keeps two nodes apart; here it is a
//! directory of the sandbox, the same on every node, as a mount that the nodes share.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::super::{
    Cluster,
    events::{Source, Tone, tell},
    kinds::Kind,
    object::{self, Look, node, pod},
    store::{CLAIM_PROTECTION, Deletion, Key, Part},
};

/// The driver, in the objects.
const DRIVER: &str = "sandbox.comeback.dev";
/// The class that a new cluster has.
const CLASS: &str = "sandbox";
/// The annotation by which the scheduler says for which node a volume is to be made.
pub(super) const SELECTED_NODE: &str = "/metadata/annotations/volume.kubernetes.io~1selected-node";

/// How long a volume that nobody needs may stay mounted on a node that is not ready, until it is taken from there by force.
const MOST_PATIENT: Duration = Duration::from_mins(6);

/// What the controller remembers.
#[derive(Debug, Default)]
struct Memory {
    /// What was told of pods that wait for a volume, so that it is told once: the pod's uid, the volume.
    told: BTreeSet<(String, String)>,
    /// Since when each volume that is still mounted on a node is needed there no more: volume, node.
    unneeded: BTreeMap<(String, String), Instant>,
}

/// The storage class of a new cluster: the default, and like those of the clouds it waits for the first pod.
pub(crate) fn class() -> Value {
    json!({
        "metadata": { "name": CLASS, "annotations": { "storageclass.kubernetes.io/is-default-class": "true" } },
        "provisioner": DRIVER, "reclaimPolicy": "Delete", "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": false,
    })
}

/// The directory that is a volume.
pub(crate) fn directory(cluster: &Cluster, volume: &str) -> PathBuf {
    cluster.dir.join("volumes").join(volume)
}

/// The name by which nodes speak of a volume.
pub(crate) fn unique_name(volume: &str) -> String {
    format!("kubernetes.io/csi/{DRIVER}^{volume}")
}

/// Whether a volume has to be attached before it can be mounted: a disk has, a directory of the node has not.
pub(crate) fn is_attachable(volume: &Value) -> bool {
    ["hostPath", "local", "nfs"].iter().all(|source| !volume.has(&format!("/spec/{source}")))
}

/// Whether a volume is attached to a node.
pub(crate) fn is_attached(cluster: &Cluster, volume: &str, node: &str) -> bool {
    cluster.store.list(Kind::VolumeAttachment, None).iter().any(|attachment| {
        attachment.text("/spec/source/persistentVolumeName") == volume
            && attachment.text("/spec/nodeName") == node
            && attachment.flag("/status/attached")
            && !attachment.is_terminating()
    })
}

/// Looks after the volumes until the sandbox stops.
pub(super) async fn run(cluster: Arc<Cluster>) {
    let mut changes = cluster.store.follow(&[
        Kind::Pod,
        Kind::Node,
        Kind::PersistentVolumeClaim,
        Kind::PersistentVolume,
        Kind::StorageClass,
        Kind::VolumeAttachment,
    ]);
    let mut memory = Memory::default();
    loop {
        tokio::select! {
            biased;
            () = cluster.hurts.at_work(super::Part::Manager) => {}
            () = cluster.stopping.cancelled() => return,
        }
        reconcile(&cluster, &mut memory);
        let patience = cluster.speed.of(MOST_PATIENT);
        // One whose time is over stays only on a node that is ready, and then a change of the node wakes us.
        let next = memory.unneeded.values().map(|since| *since + patience).filter(|at| *at > Instant::now()).min();
        tokio::select! {
            biased;
            () = cluster.stopping.cancelled() => return,
            () = changes.changed() => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

/// Binds, attaches, detaches, gives up.
fn reconcile(cluster: &Cluster, memory: &mut Memory) {
    for claim in cluster.store.list(Kind::PersistentVolumeClaim, None) {
        if claim.is_terminating() {
            release_claim(cluster, &claim);
        } else if claim.text("/status/phase") != "Bound" {
            bind_claim(cluster, &claim);
        }
    }
    reclaim(cluster);
    detach(cluster, &mut memory.unneeded);
    attach(cluster, &mut memory.told);
}

fn bind_claim(cluster: &Cluster, claim: &Value) {
    let class_name = claim.text("/spec/storageClassName");
    let wanted = claim.text("/spec/volumeName");
    let fits = |volume: &Arc<Value>| {
        let reserved = volume.text("/spec/claimRef/name");
        let for_us = reserved.is_empty() || (reserved == claim.name() && volume.text("/spec/claimRef/namespace") == claim.namespace());
        let modes = claim.list("/spec/accessModes").iter().all(|mode| volume.list("/spec/accessModes").contains(mode));
        let named = if wanted.is_empty() { volume.text("/spec/storageClassName") == class_name } else { volume.name() == wanted };
        named && for_us && modes && volume.text("/status/phase") == "Available" && !volume.is_terminating()
    };
    let volumes = cluster.store.list(Kind::PersistentVolume, None);
    if let Some(volume) = volumes.iter().find(|volume| fits(volume)) {
        fs::create_dir_all(directory(cluster, volume.name())).ok();
        return bind(cluster, claim, volume.name());
    }
    if !wanted.is_empty() {
        return;
    }
    let Some(class) = cluster.store.get(Kind::StorageClass, "", class_name) else { return };
    if class.text("/provisioner") != DRIVER {
        return;
    }
    if class.text("/volumeBindingMode") == "WaitForFirstConsumer" && claim.text(SELECTED_NODE).is_empty() {
        return;
    }
    provision(cluster, claim, &class);
}

fn provision(cluster: &Cluster, claim: &Value, class: &Value) {
    let name = format!("pvc-{}", claim.uid());
    let source = Source::controller(DRIVER);
    if let Err(error) = fs::create_dir_all(directory(cluster, &name)) {
        let message = format!("failed to provision volume with StorageClass \"{}\": {error}", class.name());
        return tell(&cluster.store, source, claim, Tone::Warning, "ProvisioningFailed", &message);
    }
    let volume = json!({
        "metadata": { "name": name, "annotations": { "pv.kubernetes.io/provisioned-by": DRIVER } },
        "spec": {
            "capacity": { "storage": claim["spec"]["resources"]["requests"]["storage"] },
            "accessModes": claim["spec"]["accessModes"], "storageClassName": class.name(),
            "persistentVolumeReclaimPolicy": class.text("/reclaimPolicy"), "csi": { "driver": DRIVER, "volumeHandle": name },
            "claimRef": {
                "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": claim.namespace(), "name": claim.name(), "uid": claim.uid(),
            },
        },
    });
    match cluster.store.create(Kind::PersistentVolume, volume, false) {
        Ok(_) => {
            let message = format!("Successfully provisioned volume {name}");
            tell(&cluster.store, source, claim, Tone::Normal, "ProvisioningSucceeded", &message);
            bind(cluster, claim, &name);
        }
        Err(refusal) => tell(&cluster.store, source, claim, Tone::Warning, "ProvisioningFailed", &refusal.message),
    }
}

fn bind(cluster: &Cluster, claim: &Value, volume: &str) {
    let reference = json!({
        "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": claim.namespace(), "name": claim.name(), "uid": claim.uid(),
    });
    let mut capacity = Value::Null;
    let take = |volume: &mut Value| {
        volume["spec"]["claimRef"] = reference;
        object::set(volume, "/status/phase", "Bound");
        capacity = volume["spec"]["capacity"].clone();
        Ok(())
    };
    if cluster.store.update(&Key::new(Kind::PersistentVolume, "", volume), Part::Whole, false, take).is_err() {
        return;
    }
    let take = |claim: &mut Value| {
        object::set(claim, "/spec/volumeName", volume);
        object::set(claim, "/metadata/annotations/pv.kubernetes.io~1bind-completed", "yes");
        object::set(claim, "/status/phase", "Bound");
        object::set(claim, "/status/capacity", capacity);
        let modes = claim["spec"]["accessModes"].clone();
        object::set(claim, "/status/accessModes", modes);
        Ok(())
    };
    cluster.store.update(&Key::of(Kind::PersistentVolumeClaim, claim), Part::Whole, false, take).ok();
}

/// A claim that is being deleted goes when no pod uses it any more.
fn release_claim(cluster: &Cluster, claim: &Value) {
    let pods = cluster.store.list(Kind::Pod, Some(claim.namespace()));
    if pods.iter().any(|one| !pod::is_finished(one) && pod::claims(one).any(|name| name == claim.name())) {
        return;
    }
    let change = |claim: &mut Value| {
        object::list_mut(claim, "/metadata/finalizers").retain(|finalizer| finalizer != CLAIM_PROTECTION);
        Ok(())
    };
    cluster.store.update(&Key::of(Kind::PersistentVolumeClaim, claim), Part::Whole, false, change).ok();
}

/// Volumes whose claim is gone are kept or removed, as their policy says.
fn reclaim(cluster: &Cluster) {
    let attachments = cluster.store.list(Kind::VolumeAttachment, None);
    for volume in cluster.store.list(Kind::PersistentVolume, None) {
        let owner = &volume["spec"]["claimRef"];
        if !matches!(volume.text("/status/phase"), "Bound" | "Released") || owner.text("/uid").is_empty() {
            continue;
        }
        let claim = cluster.store.get(Kind::PersistentVolumeClaim, owner.text("/namespace"), owner.text("/name"));
        if claim.is_some_and(|claim| claim.uid() == owner.text("/uid")) {
            continue;
        }
        let key = Key::of(Kind::PersistentVolume, &volume);
        let is_attached = attachments.iter().any(|attachment| attachment.text("/spec/source/persistentVolumeName") == volume.name());
        if volume.text("/spec/persistentVolumeReclaimPolicy") == "Delete" && !is_attached {
            if cluster.store.delete(&key, &Deletion::default()).is_ok() {
                fs::remove_dir_all(directory(cluster, volume.name())).ok();
            }
            continue;
        }
        let change = |volume: &mut Value| {
            object::set(volume, "/status/phase", "Released");
            Ok(())
        };
        cluster.store.update(&key, Part::Status, false, change).ok();
    }
}

/// The volumes that a pod uses, by name.
fn volumes_of(cluster: &Cluster, pod: &Value) -> Vec<String> {
    let claims = pod::claims(pod).filter_map(|name| cluster.store.get(Kind::PersistentVolumeClaim, pod.namespace(), name));
    claims.filter(|claim| claim.text("/status/phase") == "Bound").map(|claim| claim.text("/spec/volumeName").to_owned()).collect()
}

/// Detaches what nobody needs and nobody has mounted.
///
/// A kubelet says that a volume is in use and then asks whether it is attached; we say that it is not attached and then ask whether it is in use. So
/// one of the two always sees the other, whatever comes between.
///
/// A node that is silent never says that it let a volume go. From such a node it is taken by force, after six minutes, or at once if the node was declared out of
/// service; that is safe only because the node is really off.
fn detach(cluster: &Cluster, unneeded: &mut BTreeMap<(String, String), Instant>) {
    let attachments = cluster.store.list(Kind::VolumeAttachment, None);
    unneeded.retain(|(volume, node), _| {
        let is_it = |one: &Arc<Value>| one.text("/spec/source/persistentVolumeName") == volume && one.text("/spec/nodeName") == node;
        attachments.iter().any(is_it)
    });
    for attachment in &attachments {
        let (volume, node) = (attachment.text("/spec/source/persistentVolumeName"), attachment.text("/spec/nodeName"));
        let place = (volume.to_owned(), node.to_owned());
        if is_needed(cluster, volume, node) {
            unneeded.remove(&place);
            continue;
        }
        let since = *unneeded.entry(place).or_insert_with(Instant::now);
        let host = cluster.store.get(Kind::Node, "", node);
        let is_over = Instant::now() >= since + cluster.speed.of(MOST_PATIENT);
        let by_force = (is_over && !host.as_deref().is_some_and(node::is_ready)) || host.as_deref().is_some_and(node::is_out_of_service);
        if is_mounted(cluster, volume, node) && !by_force {
            continue;
        }
        let key = Key::of(Kind::VolumeAttachment, attachment);
        let mark = |attached: bool| {
            let change = |attachment: &mut Value| {
                object::set(attachment, "/status/attached", attached);
                Ok(())
            };
            cluster.store.update(&key, Part::Whole, false, change).is_ok()
        };
        if !mark(false) {
            continue;
        }
        if is_needed(cluster, volume, node) || (is_mounted(cluster, volume, node) && !by_force) {
            mark(true);
        } else if cluster.store.delete(&key, &Deletion::default()).is_ok() {
            tell_attached(cluster, node);
        }
    }
}

/// Whether a pod on that node needs the volume.
fn is_needed(cluster: &Cluster, volume: &str, node: &str) -> bool {
    let needs = |one: &Arc<Value>| {
        one.text("/spec/nodeName") == node && !pod::has_stopped(one) && volumes_of(cluster, one).iter().any(|used| used == volume)
    };
    cluster.store.list(Kind::Pod, None).iter().any(needs)
}

/// Whether the node says that the volume is mounted there.
fn is_mounted(cluster: &Cluster, volume: &str, node: &str) -> bool {
    let says_so = |node: Arc<Value>| node.list("/status/volumesInUse").iter().any(|used| *used == unique_name(volume));
    cluster.store.get(Kind::Node, "", node).is_some_and(says_so)
}

fn attach(cluster: &Cluster, told: &mut BTreeSet<(String, String)>) {
    let pods = cluster.store.list(Kind::Pod, None);
    told.retain(|(uid, _)| pods.iter().any(|pod| pod.uid() == uid));
    let source = Source::controller("attachdetach-controller");
    for one in pods.iter().filter(|one| !one.text("/spec/nodeName").is_empty() && !pod::is_finished(one)) {
        let node = one.text("/spec/nodeName");
        for volume in volumes_of(cluster, one) {
            let Some(object) = cluster.store.get(Kind::PersistentVolume, "", &volume) else { continue };
            if !is_attachable(&object) {
                continue;
            }
            let attachments = cluster.store.list(Kind::VolumeAttachment, None);
            let of_volume = || attachments.iter().filter(|attachment| attachment.text("/spec/source/persistentVolumeName") == volume);
            if of_volume().any(|attachment| attachment.text("/spec/nodeName") == node) || one.is_terminating() {
                continue;
            }
            let is_shared = object.list("/spec/accessModes").iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany");
            if !is_shared && of_volume().next().is_some() {
                if told.insert((one.uid().to_owned(), volume.clone())) {
                    let message = multi_attach(&pods, one, &volume, |other| volumes_of(cluster, other));
                    tell(&cluster.store, source, one, Tone::Warning, "FailedAttachVolume", &message);
                }
                continue;
            }
            let attachment = json!({
                "metadata": { "name": format!("csi-{}", uuid::Uuid::new_v4().simple()) },
                "spec": { "attacher": DRIVER, "nodeName": node, "source": { "persistentVolumeName": volume } },
                "status": { "attached": true },
            });
            if cluster.store.create(Kind::VolumeAttachment, attachment, false).is_ok() {
                tell_attached(cluster, node);
                let message = format!("AttachVolume.Attach succeeded for volume \"{volume}\"");
                tell(&cluster.store, source, one, Tone::Normal, "SuccessfulAttachVolume", &message);
            }
        }
    }
}

fn multi_attach(pods: &[Arc<Value>], pod: &Value, volume: &str, volumes_of: impl Fn(&Value) -> Vec<String>) -> String {
    let shares =
        |other: &&Arc<Value>| other.uid() != pod.uid() && !pod::is_finished(other) && volumes_of(other).iter().any(|used| used == volume);
    let names: Vec<_> = pods.iter().filter(shares).map(|other| other.name().to_owned()).collect();
    if names.is_empty() {
        format!(
            "Multi-Attach error for volume \"{volume}\" Volume is already exclusively attached to one node and can't be attached to another"
        )
    } else {
        format!("Multi-Attach error for volume \"{volume}\" Volume is already used by pod(s) {}", names.join(", "))
    }
}

/// Says in the node's status what is attached to it.
fn tell_attached(cluster: &Cluster, node: &str) {
    let attachments = cluster.store.list(Kind::VolumeAttachment, None);
    let list: Vec<_> = attachments
        .iter()
        .filter(|attachment| attachment.text("/spec/nodeName") == node)
        .map(|attachment| json!({ "name": unique_name(attachment.text("/spec/source/persistentVolumeName")), "devicePath": "" }))
        .collect();
    let change = |node: &mut Value| {
        object::set(node, "/status/volumesAttached", list);
        Ok(())
    };
    cluster.store.update(&Key::new(Kind::Node, "", node), Part::Status, false, change).ok();
}
