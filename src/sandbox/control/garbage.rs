//! Objects that are owned: they go when no owner is left; or before their owner, if it was deleted in the foreground.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::super::{
    Cluster,
    kinds::Kind,
    object::{self, Look},
    store::{Deletion, FOREGROUND, Key, Part},
};

/// Deletes what nobody owns any more.
pub(super) fn reconcile(cluster: &Cluster) {
    // Events own nothing and are owned by nobody.
    let kinds = || Kind::ALL.into_iter().filter(|kind| *kind != Kind::Event);
    let all: Vec<(Kind, Arc<Value>)> =
        kinds().flat_map(|kind| cluster.store.list(kind, None).into_iter().map(move |object| (kind, object))).collect();
    let there: BTreeSet<&str> = all.iter().map(|(_, object)| object.uid()).collect();
    // An owner of a kind that we do not serve cannot be looked up, so it counts as there.
    let is_gone = |owner: &Value| Kind::of_object(owner).is_some() && !there.contains(owner.text("/uid"));
    let delete = |kind: Kind, object: &Value| {
        let how = Deletion { uid: Some(object.uid().to_owned()), ..Deletion::default() };
        cluster.store.delete(&Key::of(kind, object), &how).ok();
    };
    for (kind, object) in &all {
        let owners = object.list("/metadata/ownerReferences");
        // Read again: an owner that was made since the list is not gone.
        if !owners.is_empty()
            && !object.is_terminating()
            && owners.iter().all(is_gone)
            && owners.iter().all(|owner| is_absent(cluster, object, owner))
        {
            delete(*kind, object);
        }
    }
    for (kind, owner) in all.iter().filter(|(_, object)| object.is_terminating() && is_foreground(object)) {
        let owns = |object: &Value| object.list("/metadata/ownerReferences").iter().any(|reference| reference.text("/uid") == owner.uid());
        let owned: Vec<_> = all.iter().filter(|(_, object)| owns(object)).collect();
        for (kind, object) in owned.iter().filter(|(_, object)| !object.is_terminating()) {
            delete(*kind, object);
        }
        if owned.is_empty() {
            let change = |object: &mut Value| {
                object::list_mut(object, "/metadata/finalizers").retain(|finalizer| finalizer != FOREGROUND);
                Ok(())
            };
            cluster.store.update(&Key::of(*kind, owner), Part::Whole, false, change).ok();
        }
    }
}

fn is_foreground(object: &Value) -> bool {
    object.list("/metadata/finalizers").iter().any(|finalizer| finalizer == FOREGROUND)
}

fn is_absent(cluster: &Cluster, object: &Value, owner: &Value) -> bool {
    let Some(kind) = Kind::of_object(owner) else { return false };
    let namespace = if kind.facts().namespaced { object.namespace() } else { "" };
    cluster.store.get(kind, namespace, owner.text("/name")).is_none_or(|found| found.uid() != owner.text("/uid"))
}
