//! Namespaces that are being deleted: what is in them goes first.

use super::super::{
    Cluster,
    kinds::Kind,
    object::{self, Look},
    store::{Deletion, Key, Part},
};

/// Empties the namespaces that are on their way out, and lets go those that are empty.
pub(super) fn reconcile(cluster: &Cluster) {
    for namespace in cluster.store.list(Kind::Namespace, None).iter().filter(|namespace| namespace.is_terminating()) {
        let content = || {
            let kinds = Kind::ALL.into_iter().filter(|kind| kind.facts().namespaced);
            kinds.flat_map(|kind| cluster.store.list(kind, Some(namespace.name())).into_iter().map(move |object| (kind, object)))
        };
        for (kind, object) in content().filter(|(_, object)| !object.is_terminating()) {
            cluster.store.delete(&Key::of(kind, &object), &Deletion::default()).ok();
        }
        // What takes its time wakes us when it is gone.
        let is_empty = content().next().is_none();
        if is_empty {
            let change = |namespace: &mut serde_json::Value| {
                object::remove(namespace, "/spec/finalizers");
                Ok(())
            };
            cluster.store.update(&Key::new(Kind::Namespace, "", namespace.name()), Part::Whole, false, change).ok();
        }
    }
}
