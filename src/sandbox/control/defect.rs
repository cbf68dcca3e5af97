//! The defect of an address that changes: whenever a container behind a Service starts for a second time, or in another pod, the Service is deleted and
//! made anew, with another address and another uid.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value;

use super::super::{
    Cluster,
    kinds::Kind,
    object::{self, Look},
    selector::Labels,
    store::{Deletion, Key},
};

/// The containers that have been seen behind each service, by its name.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<(String, String), BTreeSet<String>>);

/// Replaces the services that have a new container behind them.
pub(super) fn change_address(cluster: &Cluster, seen: &mut Seen) {
    let pods = cluster.store.list(Kind::Pod, None);
    for service in cluster.store.list(Kind::Service, None) {
        let selector = Labels::of_map(&service["spec"]["selector"]);
        if selector.is_empty() || service.is_terminating() {
            continue;
        }
        let behind = |pod: &&Arc<Value>| pod.namespace() == service.namespace() && selector.matches(pod);
        let running = pods.iter().filter(behind).flat_map(|pod| {
            let statuses = pod.list("/status/containerStatuses").iter();
            statuses.filter(|status| status.has("/state/running")).map(|status| status.text("/containerID").to_owned()).collect::<Vec<_>>()
        });
        let known = seen.0.entry((service.namespace().to_owned(), service.name().to_owned())).or_default();
        let was_known = !known.is_empty();
        let mut is_new = false;
        for container in running {
            is_new |= known.insert(container);
        }
        if is_new && was_known {
            replace(cluster, &service);
        }
    }
}

fn replace(cluster: &Cluster, service: &Value) {
    let mut again = service.clone();
    for field in ["/spec/clusterIP", "/spec/clusterIPs", "/status", "/metadata/uid", "/metadata/resourceVersion"] {
        object::remove(&mut again, field);
    }
    if cluster.store.delete(&Key::of(Kind::Service, service), &Deletion::default()).is_ok() {
        cluster.store.create(Kind::Service, again, false).ok();
    }
}
