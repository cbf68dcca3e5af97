//! The controllers: each looks at the whole state whenever something that it cares about has changed, and does what is to be done.
//!
//! They hold no state of their own that matters (at most what they have already told), so that it makes no difference whether a change is seen at once
//! or together with the next.

mod defect;
mod deployment;
mod endpoints;
mod garbage;
mod namespaces;
mod replicaset;
mod scheduler;
pub(super) mod volumes;

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Cluster, Defect, kinds::Kind};

/// A controller that remembers nothing.
type Controller = fn(&Cluster);

/// Starts them all.
pub(super) fn start(cluster: &Arc<Cluster>, parts: &mut JoinSet<()>) {
    let stateless: [(&'static [Kind], Controller); 5] = [
        (&[Kind::Deployment, Kind::ReplicaSet, Kind::Pod], deployment::reconcile),
        (&[Kind::ReplicaSet, Kind::Pod], replicaset::reconcile),
        (&[Kind::Service, Kind::Pod, Kind::EndpointSlice], endpoints::reconcile),
        (&Kind::ALL, garbage::reconcile),
        (&Kind::ALL, namespaces::reconcile),
    ];
    for (kinds, controller) in stateless {
        parts.spawn(keep(cluster.clone(), kinds, controller));
    }
    let mut told = scheduler::Told::default();
    let scheduled: &[Kind] = &[Kind::Pod, Kind::Node, Kind::PersistentVolumeClaim, Kind::PersistentVolume, Kind::StorageClass];
    parts.spawn(keep(cluster.clone(), scheduled, move |cluster| scheduler::reconcile(cluster, &mut told)));
    let mut told = volumes::Told::default();
    let watched: &[Kind] =
        &[Kind::Pod, Kind::Node, Kind::PersistentVolumeClaim, Kind::PersistentVolume, Kind::StorageClass, Kind::VolumeAttachment];
    parts.spawn(keep(cluster.clone(), watched, move |cluster| volumes::reconcile(cluster, &mut told)));
    if cluster.defect == Some(Defect::ChangeAddress) {
        let mut seen = defect::Seen::default();
        parts.spawn(keep(cluster.clone(), &[Kind::Pod, Kind::Service], move |cluster| defect::change_address(cluster, &mut seen)));
    }
}

/// Calls a controller now and after every change of its kinds, until the sandbox stops.
async fn keep(cluster: Arc<Cluster>, kinds: &'static [Kind], mut controller: impl FnMut(&Cluster)) {
    let mut changes = cluster.store.follow(kinds);
    loop {
        controller(&cluster);
        tokio::select! {
            biased;
            () = cluster.stopping.cancelled() => return,
            () = changes.changed() => {}
        }
    }
}
