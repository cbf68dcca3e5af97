//! The controllers: each looks at the whole state whenever something that it cares about has changed, and does what is to be done.
//!
//! They hold no state of their own that matters (at most what they have already told), so that it makes no difference whether a change is seen at once
//! or together with the next. Those that wait for a time as well ([`nodes`], [`taints`], [`pod_gc`], [`disruption`], [`volumes`]) run loops of their own.

mod defect;
mod deployment;
pub(super) mod disruption;
mod endpoints;
mod garbage;
mod namespaces;
mod nodes;
mod pod_gc;
mod replicaset;
mod scheduler;
mod statefulset;
mod taints;
pub(super) mod volumes;

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Cluster, Defect, hurts::Part, kinds::Kind};

/// A controller that remembers nothing.
type Controller = fn(&Cluster);

/// The kinds that own or are owned, and whose coming and going therefore matters to [`garbage`] and [`namespaces`]. Leases are renewed all the time, events tell of
/// everything, and neither is waited for.
const OWNED: &[Kind] = &[
    Kind::Namespace,
    Kind::Node,
    Kind::Pod,
    Kind::Service,
    Kind::Secret,
    Kind::ConfigMap,
    Kind::ServiceAccount,
    Kind::PersistentVolume,
    Kind::PersistentVolumeClaim,
    Kind::ControllerRevision,
    Kind::ReplicaSet,
    Kind::Deployment,
    Kind::StatefulSet,
    Kind::EndpointSlice,
    Kind::PodDisruptionBudget,
    Kind::StorageClass,
    Kind::VolumeAttachment,
];

/// Starts them all.
pub(super) fn start(cluster: &Arc<Cluster>, parts: &mut JoinSet<()>) {
    let stateless: [(&'static [Kind], Controller); 6] = [
        (&[Kind::Deployment, Kind::ReplicaSet, Kind::Pod], deployment::reconcile),
        (&[Kind::ReplicaSet, Kind::Pod], replicaset::reconcile),
        (&[Kind::StatefulSet, Kind::ControllerRevision, Kind::Pod, Kind::PersistentVolumeClaim], statefulset::reconcile),
        (&[Kind::Service, Kind::Pod, Kind::EndpointSlice], endpoints::reconcile),
        (OWNED, garbage::reconcile),
        (OWNED, namespaces::reconcile),
    ];
    for (kinds, controller) in stateless {
        parts.spawn(keep(cluster.clone(), Part::Manager, kinds, controller));
    }
    let mut told = scheduler::Told::default();
    let scheduled: &[Kind] = &[Kind::Pod, Kind::Node, Kind::PersistentVolumeClaim, Kind::PersistentVolume, Kind::StorageClass];
    parts.spawn(keep(cluster.clone(), Part::Scheduler, scheduled, move |cluster| scheduler::reconcile(cluster, &mut told)));
    parts.spawn(volumes::run(cluster.clone()));
    parts.spawn(nodes::run(cluster.clone()));
    parts.spawn(taints::run(cluster.clone()));
    parts.spawn(pod_gc::run(cluster.clone()));
    parts.spawn(disruption::run(cluster.clone()));
    if cluster.defect == Some(Defect::ChangeAddress) {
        let mut seen = defect::Seen::default();
        parts.spawn(keep(cluster.clone(), Part::Manager, &[Kind::Pod, Kind::Service], move |cluster| {
            defect::change_address(cluster, &mut seen);
        }));
    }
}

/// Calls a controller now and after every change of its kinds, until the sandbox stops.
async fn keep(cluster: Arc<Cluster>, part: Part, kinds: &'static [Kind], mut controller: impl FnMut(&Cluster)) {
    let mut changes = cluster.store.follow(kinds);
    loop {
        tokio::select! {
            biased;
            () = cluster.hurts.at_work(part) => {}
            () = cluster.stopping.cancelled() => return,
        }
        controller(&cluster);
        tokio::select! {
            biased;
            () = cluster.stopping.cancelled() => return,
            () = changes.changed() => {}
        }
    }
}
