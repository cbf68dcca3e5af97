//! Watches every object that a scenario touches, and writes down each version of it that it is shown.
//!
//! A watch that breaks off and lists anew may have missed something: such a recording is worthless and says so.

use std::time::Duration;

use comeback::{
    deploy::{Workload, shape},
    scenario::TargetShape,
};
use futures::StreamExt as _;
use kube::{
    Api,
    api::{ApiResource, DynamicObject},
    core::GroupVersionKind,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::{bed::Bed, state};

/// How long the first lists may take.
const LIST_DEADLINE: Duration = Duration::from_secs(30);
/// How long a server keeps a watch open; the next one goes on from where it ended.
const WATCH_SECONDS: u32 = 280;

/// A version of an object, in the order in which they were seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sight {
    /// Whether that is how it was when it was removed.
    pub(crate) gone: bool,
    /// The object.
    pub(crate) object: Value,
}

/// Watches at work.
pub(crate) struct Recorder {
    tasks: JoinSet<()>,
    sights: tokio::task::JoinHandle<Vec<Sight>>,
    seen: watch::Receiver<Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    /// When something changed last that is compared.
    changed: Instant,
    /// Which watches have listed.
    listed: usize,
    /// What went wrong.
    broken: Option<String>,
}

enum Note {
    Sight(Box<Sight>),
    Listed,
    Broken(String),
}

/// A kind, and which of its objects: labels, fields.
struct Which {
    kind: ApiResource,
    namespace: Option<String>,
    config: watcher::Config,
}

fn watched(bed: &Bed) -> Vec<Which> {
    let namespace = &bed.cluster.target.namespace;
    let name = shape::name(bed.shape);
    let config = || watcher::Config::default().timeout(WATCH_SECONDS);
    let named = |name: &str| config().fields(&format!("metadata.name={name}"));
    let of = |group: &str, kind: &str, config: watcher::Config| Which {
        kind: ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind)),
        namespace: Some(namespace.clone()),
        config,
    };
    let anywhere = |kind: &str| Which { namespace: None, ..of("", kind, config()) };
    let mut all = vec![
        of("", "Pod", config().labels(&bed.cluster.target.selector)),
        of("", "Service", named(name)),
        of("discovery.k8s.io", "EndpointSlice", config().labels(&format!("kubernetes.io/service-name={name}"))),
        of("", "PersistentVolumeClaim", named(shape::claim_name(bed.shape))),
        anywhere("PersistentVolume"),
        anywhere("Node"),
    ];
    match bed.shape {
        TargetShape::Deployment | TargetShape::Guide => {
            all.push(of("apps", "Deployment", named(name)));
            all.push(of("apps", "ReplicaSet", config().labels(&Workload::target(bed.shape).selector)));
        }
        TargetShape::StatefulSet => all.push(of("apps", "StatefulSet", named(name))),
    }
    all
}

impl Recorder {
    /// Opens the watches; each has shown what there is when this returns.
    pub(crate) async fn start(bed: &Bed) -> Self {
        let (notes, mut taken) = mpsc::channel(1024);
        let mut tasks = JoinSet::new();
        let which = watched(bed);
        let number = which.len();
        for which in which {
            let notes = notes.clone();
            let client = bed.cluster.client();
            let api: Api<DynamicObject> = match &which.namespace {
                Some(namespace) => Api::namespaced_with(client, namespace, &which.kind),
                None => Api::all_with(client, &which.kind),
            };
            tasks.spawn(follow(api, which, notes));
        }
        drop(notes);
        let (tell, seen) = watch::channel(Seen { changed: Instant::now(), listed: 0, broken: None });
        let claim = shape::claim_name(bed.shape);
        let sights = tokio::spawn(async move {
            let mut sights: Vec<Sight> = Vec::new();
            let mut now = state::Now::default();
            while let Some(note) = taken.recv().await {
                match note {
                    Note::Sight(sight) => {
                        if !state::concerns(&sight.object, claim) {
                            continue;
                        }
                        if now.take(&sight) {
                            tell.send_modify(|seen| seen.changed = Instant::now());
                        }
                        sights.push(*sight);
                    }
                    Note::Listed => tell.send_modify(|seen| seen.listed += 1),
                    Note::Broken(why) => tell.send_modify(|seen| seen.broken = Some(why)),
                }
            }
            sights
        });
        let mut recorder = Self { tasks, sights, seen };
        let listed = timeout(LIST_DEADLINE, recorder.seen.wait_for(|seen| seen.listed == number || seen.broken.is_some())).await;
        listed.expect("the cluster lists its objects in time").expect("the watches are open");
        recorder
    }

    /// Waits until nothing that is compared has changed for so long.
    pub(crate) async fn quiet(&mut self, length: Duration, deadline: Duration) {
        let end = Instant::now() + deadline;
        loop {
            let changed = self.seen.borrow_and_update().changed;
            let still = changed + length;
            if Instant::now() >= still {
                return;
            }
            assert!(still <= end, "the cluster was not quiet for {length:?} within {deadline:?}");
            // Wakes up when it is quiet, or with the next change.
            let _ = tokio::time::timeout_at(still, self.seen.changed()).await;
        }
    }

    /// Ends the watches and hands over what was seen.
    pub(crate) async fn stop(mut self) -> Vec<Sight> {
        self.tasks.shutdown().await;
        let broken = self.seen.borrow().broken.clone();
        assert_eq!(broken, None, "a watch broke off: what was recorded may lack something");
        self.sights.await.expect("the collector does not panic")
    }
}

async fn follow(api: Api<DynamicObject>, which: Which, notes: mpsc::Sender<Note>) {
    let mut lists = 0;
    let mut stream = watcher(api, which.config).default_backoff().boxed();
    let kind = &which.kind.kind;
    while let Some(event) = stream.next().await {
        let note = match event {
            Ok(watcher::Event::Init) => {
                lists += 1;
                if lists == 1 {
                    continue;
                }
                Note::Broken(format!("the objects of kind {kind} were listed anew"))
            }
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => sight(object, false, &which.kind),
            Ok(watcher::Event::Delete(object)) => sight(object, true, &which.kind),
            Ok(watcher::Event::InitDone) => Note::Listed,
            // It goes on from where it was, or lists anew, which is told.
            Err(_) => continue,
        };
        if notes.send(note).await.is_err() {
            return;
        }
    }
}

fn sight(mut object: DynamicObject, gone: bool, kind: &ApiResource) -> Note {
    object.metadata.managed_fields = None;
    let mut object = serde_json::to_value(object).expect("an object is JSON");
    object["kind"] = kind.kind.as_str().into();
    Note::Sight(Box::new(Sight { gone, object }))
}
