//! What changes in the cluster, as it arrives.
//!
//! Two watches, on the pods of the target and on the nodes, feed a [`View`] that anybody can wait on, and tell each change with the moment at
//! which it arrived. A watch that breaks off is opened again and says so: between the two, changes may have been missed, so what a fault
//! needs to see is a uid or a count that differs, never a passing state.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::runtime::{
    WatchStreamExt as _,
    watcher::{self, watcher},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{Cluster, pod_facts};
use crate::event::{PodFacts, Sighting};

/// How long the server keeps one watch request open. kube notices a dead connection only after that, so it is short.
const WATCH_SECONDS: u32 = 25;

/// The state of pods and nodes, as far as the watches have told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The pods of the target, by uid.
    pub pods: BTreeMap<String, PodFacts>,
    /// The uids of pods that were there and are gone.
    pub gone: BTreeSet<String>,
    /// The nodes, by name.
    pub nodes: BTreeMap<String, NodeView>,
}

/// The state of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its uid: a node that registers anew has another.
    pub uid: String,
    /// Whether its Ready condition holds.
    pub ready: bool,
    /// Whether it is cordoned.
    pub unschedulable: bool,
}

impl View {
    /// The pod that is up: ready and not being deleted.
    #[must_use]
    pub fn ready_pod(&self) -> Option<&PodFacts> {
        self.pods.values().find(|pod| pod.ready && pod.running && !pod.terminating)
    }
}

/// The watches at work; they end when this is dropped.
#[derive(Debug)]
pub struct Watches {
    view: watch::Receiver<View>,
    _tasks: JoinSet<()>,
}

/// A wait on the view that met its deadline.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} was not seen within {}", humantime::format_duration(*.deadline))]
pub struct NotSeen {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub deadline: Duration,
}

impl Watches {
    /// Opens them. Each change goes to `sightings`.
    #[must_use]
    pub fn start(cluster: &Cluster, sightings: mpsc::Sender<Sighting>) -> Self {
        let (sender, view) = watch::channel(View::default());
        let mut tasks = JoinSet::new();
        let config = watcher::Config::default().timeout(WATCH_SECONDS);

        let container = cluster.target.container.clone();
        let pods = watcher(cluster.namespaced::<Pod>(), config.clone().labels(&cluster.target.selector)).default_backoff();
        tasks.spawn(follow(pods.boxed(), "pods", sightings.clone(), sender.clone(), move |view, change| match change {
            Change::There(pod) => {
                let facts = pod_facts(pod, &container);
                let before = view.pods.insert(facts.uid.clone(), facts.clone());
                (before.as_ref() != Some(&facts)).then_some(Sighting::Pod(facts))
            }
            Change::Gone(uid) => {
                let facts = view.pods.remove(uid)?;
                view.gone.insert(facts.uid.clone());
                Some(Sighting::PodGone { uid: facts.uid, name: facts.name })
            }
            Change::Known(uids) => {
                uids.extend(view.pods.keys().cloned());
                None
            }
        }));

        let nodes = watcher(cluster.all::<Node>(), config).default_backoff();
        tasks.spawn(follow(nodes.boxed(), "nodes", sightings, sender, |view, change| match change {
            Change::There(node) => {
                let name = node.metadata.name.clone().unwrap_or_default();
                let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
                let ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
                let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
                let now = NodeView { uid: node.metadata.uid.clone().unwrap_or_default(), ready, unschedulable };
                let before = view.nodes.insert(name.clone(), now.clone());
                (before.as_ref() != Some(&now)).then_some(Sighting::Node { name, ready, unschedulable })
            }
            Change::Gone(uid) => {
                let name = view.nodes.iter().find(|(_, node)| node.uid == uid).map(|(name, _)| name.clone())?;
                view.nodes.remove(&name);
                Some(Sighting::NodeGone { name })
            }
            Change::Known(uids) => {
                uids.extend(view.nodes.values().map(|node| node.uid.clone()));
                None
            }
        }));
        Self { view, _tasks: tasks }
    }

    /// Waits until the view is so, without a deadline: whoever waits has his own end.
    pub async fn wait_for(&self, mut seen: impl FnMut(&View) -> bool) {
        // The sender lives as long as the watches do, which is as long as we do.
        let _ = self.view.clone().wait_for(|view| seen(view)).await;
    }

    /// Waits until the view shows `what`.
    pub async fn wait_until<T>(&self, what: &str, deadline: Duration, mut seen: impl FnMut(&View) -> Option<T>) -> Result<T, NotSeen> {
        let mut view = self.view.clone();
        let mut found = None;
        let waiting = view.wait_for(|view| {
            found = seen(view);
            found.is_some()
        });
        // The sender lives as long as the watches do, which is as long as we do.
        let in_time = matches!(tokio::time::timeout(deadline, waiting).await, Ok(Ok(_)));
        found.filter(|_| in_time).ok_or_else(|| NotSeen { what: what.to_owned(), deadline })
    }
}

/// What a watch tells of one object.
enum Change<'a, K> {
    /// It is there, or has changed.
    There(&'a K),
    /// The one with this uid is gone.
    Gone(&'a str),
    /// Asks for the uids that the view holds.
    Known(&'a mut BTreeSet<String>),
}

async fn follow<K: kube::Resource>(
    mut stream: futures::stream::BoxStream<'static, watcher::Result<watcher::Event<K>>>,
    what: &'static str,
    sightings: mpsc::Sender<Sighting>,
    view: watch::Sender<View>,
    mut apply: impl FnMut(&mut View, Change<'_, K>) -> Option<Sighting>,
) {
    let mut listed: BTreeSet<String> = BTreeSet::new();
    let mut lists = 0u32;
    while let Some(event) = stream.next().await {
        let mut told = Vec::new();
        view.send_modify(|view| match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                lists += 1;
                if lists > 1 {
                    told.push(Sighting::Gap(format!("the {what} were listed anew")));
                }
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(object.meta().uid.clone().unwrap_or_default());
                told.extend(apply(view, Change::There(&object)));
            }
            Ok(watcher::Event::InitDone) => {
                let mut known = BTreeSet::new();
                apply(view, Change::Known(&mut known));
                told.extend(known.difference(&listed).filter_map(|uid| apply(view, Change::Gone(uid))));
            }
            Ok(watcher::Event::Apply(object)) => told.extend(apply(view, Change::There(&object))),
            Ok(watcher::Event::Delete(object)) => told.extend(apply(view, Change::Gone(object.meta().uid.as_deref().unwrap_or_default()))),
            Err(error) => told.push(Sighting::Gap(format!("the watch on {what} broke off: {error}"))),
        });
        for sighting in told {
            // The recorder outlives the watches; if it is gone, so is the run, and nobody is left to tell.
            let _ = sightings.send(sighting).await;
        }
    }
}
