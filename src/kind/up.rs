//! `up`: see the steps in [`super`].

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Mutex,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Node;
use kube::{config::Kubeconfig, runtime::watcher};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Audience, Kind, KindError, Name, NodeContainer,
    config::{MOUNT, configuration},
    docker::full_name,
    folder::Lock,
    image,
    release::Release,
    volumes,
};
use crate::{
    cluster::{Cluster, chain},
    deploy::{
        self, DeployError, Engine, ImageFrom, Installed, PORT, Storage, USER_ID, Workload, knock,
        wait::{Look, until, until_up},
    },
    fault::heal,
    scenario::TargetShape,
};

/// How long kind may take to make the cluster, with the pull of its node image.
const CREATE_DEADLINE: Duration = Duration::from_mins(12);
/// How long kind may take to remove one that was never finished.
const DELETE_DEADLINE: Duration = Duration::from_mins(3);
/// How long the API server may take to answer, after its node was started.
const API_DEADLINE: Duration = Duration::from_mins(3);
/// How long between two questions whether it does.
const API_PAUSE: Duration = Duration::from_millis(500);
/// How long the nodes may take to be ready.
const NODES_DEADLINE: Duration = Duration::from_mins(4);
/// How long the load of an image into the nodes may take.
const LOAD_DEADLINE: Duration = Duration::from_mins(10);
/// How long the first write may take once the database is ready.
const KNOCK_DEADLINE: Duration = Duration::from_mins(2);

/// How many workers there are if nobody says: one for the database, one for it to move to, one for the prober.
const WORKERS: u8 = 3;
/// The version of Kubernetes of our own node image that is taken if nobody says.
const KUBERNETES: &str = "1.37";

/// What is asked for. What is left out stays as it is on a cluster that is there.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of the cluster.
    pub name: Name,
    /// How many workers.
    pub workers: Option<u8>,
    /// The version of Kubernetes: `1.37`, or a whole one.
    pub kubernetes: Option<String>,
    /// The image of the nodes.
    pub node_image: Option<String>,
    /// The database.
    pub engine: Option<Engine>,
    /// Its image, instead of the engine's usual one.
    pub engine_image: Option<String>,
    /// Our own image, instead of one that is made of `program`.
    pub image: Option<String>,
    /// How the database is deployed.
    pub shape: Option<TargetShape>,
    /// This program.
    pub program: PathBuf,
}

/// What is up.
#[derive(Clone, Debug)]
pub struct Up {
    /// The name of the cluster.
    pub name: Name,
    /// The version of Kubernetes.
    pub kubernetes: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// What stands on it.
    pub installed: Installed,
    /// The address of the service.
    pub address: String,
    /// What the server calls itself.
    pub server: String,
    /// How long it took.
    pub took: Duration,
}

/// How far it has come, for the one who interrupts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing was changed yet.
    Looking,
    /// The cluster is being made.
    Creating,
    /// The cluster is there; what belongs on it is not, or not all of it.
    Filling,
    /// The database is there and is being tried.
    Knocking,
}

/// Brings the cluster up. It can be repeated; `reached` tells at any time how far it is.
///
/// When `shutdown` is cancelled, it is given up where it stands: `Ok(None)`. Programs that it has started are killed, and its pods are removed.
pub async fn up(
    options: &Options,
    audience: &dyn Audience,
    reached: &Mutex<Stage>,
    shutdown: &CancellationToken,
) -> Result<Option<Up>, KindError> {
    let client = Mutex::new(None);
    let up = Steps { options, audience, reached, client: &client };
    let ended = tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        ended = Box::pin(up.go()) => Some(ended),
    };
    let client = client.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if ended.is_none()
        && let Some(cluster) = client
    {
        // It would end by itself; a call that fails here changes nothing of what is told.
        let _ = knock::remove(&cluster).await;
    }
    ended.transpose()
}

struct Steps<'a> {
    options: &'a Options,
    audience: &'a dyn Audience,
    reached: &'a Mutex<Stage>,
    /// The cluster, once there is something in it that has to be removed.
    client: &'a Mutex<Option<Cluster>>,
}

impl Steps<'_> {
    async fn go(&self) -> Result<Up, KindError> {
        let begin = Instant::now();
        let Options { name, .. } = self.options;
        self.audience.step("looking for docker, kind and the cluster");
        let kind = Kind::find(name).await?;
        let _lock = Lock::take(name)?;
        if self.options.image.is_none() {
            image::check(&kind.server)?;
        }
        let nodes = self.nodes(&kind).await?;
        let shape = self.options.shape.unwrap_or_default();
        let cluster = kind.cluster(shape).await?;
        let kubernetes = self.answers(&cluster).await?;
        self.check_version(&kubernetes)?;
        self.export(&kind).await?;
        self.ready(&cluster, &nodes).await?;

        if let Some(left) = heal::left_undone(&cluster).await? {
            return Err(KindError::LeftUndone(left.to_string(), name.clone()));
        }
        let installed = self.installed(&cluster).await?;
        let wanted = self.wanted(&kind, installed.as_ref(), &nodes).await?;
        *self.client.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(cluster.clone());
        let cluster = self.put_up(&kind, &cluster, installed.as_ref(), &wanted, &nodes).await?;

        self.audience.step(&format!("waiting for the database ({})", wanted.engine.name()));
        until_up(&cluster, wanted.shape, wanted.engine.start_within()).await?;
        self.reach(Stage::Knocking);
        self.audience.step("waiting for the first acknowledged write through the service address");
        let service = cluster.service().await?;
        let knocked = knock::from_within(&cluster, &service, &wanted.own_image, KNOCK_DEADLINE).await?;
        Ok(Up {
            name: name.clone(),
            kubernetes,
            nodes: nodes.len(),
            address: format!("{}:{PORT}", service.cluster_ip),
            installed: wanted,
            server: knocked.version,
            took: begin.elapsed(),
        })
    }

    /// What an earlier `up` wrote down. If that cannot be understood, nobody knows what stands there, so it is taken away.
    async fn installed(&self, cluster: &Cluster) -> Result<Option<Installed>, KindError> {
        match Installed::find(cluster).await {
            Ok(installed) => Ok(installed),
            Err(error @ DeployError::Installed { .. }) => {
                self.audience.note(&format!("what stands there is taken away and put up again: {}", chain(&error)));
                deploy::take_down(cluster).await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn reach(&self, stage: Stage) {
        *self.reached.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = stage;
    }

    /// The nodes, all running: those that are there, or new ones.
    async fn nodes(&self, kind: &Kind) -> Result<Vec<NodeContainer>, KindError> {
        let Options { name, workers, node_image, .. } = self.options;
        let nodes = kind.nodes().await?;
        if nodes.is_empty() {
            return self.create(kind).await;
        }
        if !kind.folder.is_made() {
            self.audience.note(&format!("cluster `{name}` was begun and never finished: it is made anew"));
            self.reach(Stage::Creating);
            kind.remember_image(&nodes)?;
            self.audience.step("removing what is left of the cluster");
            let what = format!("remove what is left of cluster `{name}`");
            kind.call(what, DELETE_DEADLINE, ["delete", "cluster", "--name", name.as_str()]).run().await?;
            return self.create(kind).await;
        }
        let there = nodes.iter().filter(|node| node.is_worker()).count();
        if let Some(wanted) = workers.filter(|wanted| usize::from(*wanted) != there) {
            return Err(KindError::Differs { name: name.clone(), there: format!("{there} workers"), wanted: wanted.to_string() });
        }
        if let (Some(wanted), Some(node)) = (node_image, nodes.first())
            && *wanted != node.image
        {
            return Err(KindError::Differs {
                name: name.clone(),
                there: format!("the node image `{}`", node.image),
                wanted: format!("`{wanted}`"),
            });
        }
        self.reach(Stage::Filling);
        // The control plane first: it knows whether a run is at work, whose victims stay as they are.
        let (workers, others): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| node.is_worker());
        self.start(kind, &others).await?;
        let cluster = kind.cluster(TargetShape::default()).await?;
        self.answers(&cluster).await?;
        self.audience.step("looking whether a run is at work");
        kind.refuse_a_run(&cluster, "wait until it has ended, or stop it with Ctrl-C").await?;
        self.start(kind, &workers).await?;
        Ok(nodes)
    }

    /// Sees to it that these nodes run.
    async fn start(&self, kind: &Kind, nodes: &[&NodeContainer]) -> Result<(), KindError> {
        let named = |paused: bool| {
            let stopped = nodes.iter().filter(|node| !node.is_running() && (node.state == "paused") == paused);
            stopped.map(|node| node.name.as_str()).collect::<Vec<_>>()
        };
        let (paused, stopped) = (named(true), named(false));
        if !paused.is_empty() {
            self.audience.note(&format!("let go on: {}", paused.join(", ")));
            kind.docker.unpause(&paused).await?;
        }
        if !stopped.is_empty() {
            self.audience.note(&format!("started: {}", stopped.join(", ")));
            kind.docker.start(&stopped).await?;
        }
        Ok(())
    }

    async fn create(&self, kind: &Kind) -> Result<Vec<NodeContainer>, KindError> {
        let Options { name, workers, .. } = self.options;
        let image = self.node_image(kind).await?;
        self.have_images(kind).await?;
        kind.folder.make()?;
        kind.folder.unmark()?;
        self.reach(Stage::Creating);
        self.audience.step("making the cluster");
        let config = configuration(name, workers.unwrap_or(WORKERS), kind.folder.path())?;
        let mut args = vec!["create", "cluster", "--name", name.as_str(), "--config", "-"];
        args.extend(image.iter().flat_map(|image| ["--image", image.as_str()]));
        let call = kind.call(format!("make cluster `{name}`"), CREATE_DEADLINE, args).input(config);
        call.run_telling(&|line| {
            if let Some(step) = step_of_kind(line) {
                self.audience.step(&format!("making the cluster: {step}"));
            }
        })
        .await
        .map_err(|error| {
            let why = error.last();
            if why.contains("failed to pull image") {
                KindError::NodeImage { image: image.clone(), why: why.to_owned() }
            } else {
                error.into()
            }
        })?;
        kind.folder.mark_made(&json!({"comeback": env!("CARGO_PKG_VERSION"), "nodeImage": image}))?;
        self.reach(Stage::Filling);
        let nodes = kind.nodes().await?;
        // For whoever has to clean up when they are gone, by whatever way.
        kind.remember_image(&nodes)?;
        Ok(nodes)
    }

    /// Has the images that nobody can make on this machine, before a cluster is made that would be of no use without them.
    async fn have_images(&self, kind: &Kind) -> Result<(), KindError> {
        let Options { engine, engine_image, image, .. } = self.options;
        if let Some(image) = image {
            self.have(kind, image).await?.map_err(|why| own_image_error(image, why))?;
        }
        let engine = engine.unwrap_or_default();
        if let Some(image) = engine_image.as_deref().or(engine.public_image()) {
            self.have(kind, image).await?.map_err(|why| engine_image_error(image, why))?;
        }
        Ok(())
    }

    /// Has an image on this machine, from its registry if need be. `Ok(Err(..))` tells why it cannot be had.
    async fn have(&self, kind: &Kind, image: &str) -> Result<Result<(), String>, KindError> {
        if kind.docker.has_image(image).await? {
            return Ok(Ok(()));
        }
        self.audience.step(&format!("pulling `{image}`"));
        Ok(kind.docker.pull(image).await.map_err(|error| if error.last().is_empty() { error.to_string() } else { error.last().to_owned() }))
    }

    /// The node image to take; `None` leaves it to kind.
    async fn node_image(&self, kind: &Kind) -> Result<Option<String>, KindError> {
        if let Some(image) = &self.options.node_image {
            return Ok(Some(image.clone()));
        }
        let asked = self.options.kubernetes.as_deref().map(Release::of).transpose()?;
        let release = asked.clone().unwrap_or_else(|| Release { minor: KUBERNETES.to_owned(), patch: None });
        let ours = release.our_image();
        if let Some(ours) = &ours
            && kind.docker.has_image(ours).await?
        {
            return Ok(Some(ours.clone()));
        }
        match asked {
            None => Ok(None),
            Some(Release { minor, patch: Some(patch) }) => Ok(Some(format!("kindest/node:v{minor}.{patch}"))),
            Some(Release { minor, patch: None }) => Err(KindError::NoNodeImage { minor }),
        }
    }

    fn check_version(&self, there: &str) -> Result<(), KindError> {
        let Some(asked) = &self.options.kubernetes else { return Ok(()) };
        if Release::of(asked)?.is(there) {
            return Ok(());
        }
        Err(KindError::Differs { name: self.options.name.clone(), there: format!("Kubernetes {there}"), wanted: asked.clone() })
    }

    /// Waits until the API server answers, and returns the version of Kubernetes.
    async fn answers(&self, cluster: &Cluster) -> Result<String, KindError> {
        self.audience.step("waiting for the API server");
        let end = Instant::now() + API_DEADLINE;
        loop {
            match cluster.version().await {
                Ok(version) => return Ok(version),
                Err(error) if Instant::now() + API_PAUSE >= end => {
                    return Err(KindError::NoApi { name: self.options.name.clone(), deadline: API_DEADLINE, why: chain(&error) });
                }
                Err(_) => tokio::time::sleep(API_PAUSE).await,
            }
        }
    }

    /// Writes the context into the kubeconfig of the user, unless it is there as it should be.
    async fn export(&self, kind: &Kind) -> Result<(), KindError> {
        let context = kind.name.context();
        let server = |config: &Kubeconfig| {
            let named = config.clusters.iter().find(|one| one.name == context)?;
            let cluster = named.cluster.as_ref()?;
            Some((cluster.server.clone(), cluster.certificate_authority_data.clone()))
        };
        let right = server(&kind.kubeconfig().await?);
        let there = Kubeconfig::read().ok();
        let has_context = there.as_ref().is_some_and(|config| config.contexts.iter().any(|one| one.name == context));
        if has_context && there.as_ref().and_then(server) == right {
            return Ok(());
        }
        let what = format!("write context `{context}` into the kubeconfig");
        kind.call(what, super::ASK_DEADLINE, ["export", "kubeconfig", "--name", kind.name.as_str()]).run().await?;
        Ok(())
    }

    async fn ready(&self, cluster: &Cluster, nodes: &[NodeContainer]) -> Result<(), KindError> {
        self.audience.step("waiting for the nodes");
        let wanted: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        until(&cluster.all::<Node>(), watcher::Config::default(), NODES_DEADLINE, |seen| {
            let missing = not_ready(&wanted, seen.values());
            if missing.is_empty() { Look::Yes(()) } else { Look::NotYet(missing.join("; ")) }
        })
        .await
        .map_err(|(_, why)| KindError::Nodes { deadline: NODES_DEADLINE, why })
    }

    /// What is to stand on the cluster, with its images in the nodes.
    async fn wanted(&self, kind: &Kind, there: Option<&Installed>, nodes: &[NodeContainer]) -> Result<Installed, KindError> {
        let Options { engine, engine_image, image, shape, program, .. } = self.options;
        let engine = engine.or(there.map(|there| there.engine)).unwrap_or_default();
        let all: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        let (own_image, own_image_from) = if let Some(image) = image {
            (image.clone(), ImageFrom::Elsewhere)
        } else {
            self.audience.step("making our own image");
            (image::build(&kind.docker, program).await?, ImageFrom::Program)
        };
        // The name of one that is made here tells what is in it.
        let named_by_content = own_image_from == ImageFrom::Program;
        self.load(kind, &own_image, &all, named_by_content).await?.map_err(|why| own_image_error(&own_image, why))?;
        let usual = engine.public_image().map_or_else(|| own_image.clone(), ToOwned::to_owned);
        let kept = there.filter(|there| there.engine == engine && engine != Engine::Sqld).map(|there| there.image.clone());
        let image = engine_image.clone().or(kept).unwrap_or(usual);
        let before = there.filter(|there| there.image == image).and_then(|there| there.image_id.clone());
        if image != own_image {
            let here = kind.docker.image_id(&image).await?;
            let workers: Vec<&str> = nodes.iter().filter(|node| node.is_worker()).map(|node| node.name.as_str()).collect();
            let known = here.is_some() && here == before;
            self.load(kind, &image, &workers, known).await?.map_err(|why| engine_image_error(&image, why))?;
        }
        let image_id = if image == own_image && named_by_content { None } else { kind.docker.image_id(&image).await?.or(before) };
        let storage = self.storage(kind, there, nodes).await;
        let shape = shape.or(there.map(|there| there.shape)).unwrap_or_default();
        Ok(Installed { engine, image, image_id, own_image, own_image_from, shape, storage })
    }

    /// Brings an image into those of these nodes that lack it, from this machine or else its registry. `Ok(Err(..))` tells why it cannot be had.
    ///
    /// A node that has one of this name may have another build: unless it is `known` that there is none, kind compares what is in it.
    async fn load(&self, kind: &Kind, image: &str, nodes: &[&str], known: bool) -> Result<Result<(), String>, KindError> {
        let mut lacking = nodes.to_vec();
        if known || !kind.docker.has_image(image).await? {
            let name = full_name(image);
            lacking.clear();
            for node in nodes {
                if !kind.docker.images_in(node).await?.contains(&name) {
                    lacking.push(*node);
                }
            }
        }
        if lacking.is_empty() {
            return Ok(Ok(()));
        }
        if let Err(why) = self.have(kind, image).await? {
            return Ok(Err(why));
        }
        self.audience.step(&format!("loading `{image}` into {} nodes", lacking.len()));
        let nodes = lacking.join(",");
        let args = ["load", "docker-image", image, "--name", kind.name.as_str(), "--nodes", &nodes];
        kind.call(format!("load image `{image}` into {nodes}"), LOAD_DEADLINE, args).run().await?;
        Ok(Ok(()))
    }

    /// Makes the volumes and the workload. Returns the cluster with its shape as the target.
    async fn put_up(
        &self,
        kind: &Kind,
        cluster: &Cluster,
        there: Option<&Installed>,
        wanted: &Installed,
        nodes: &[NodeContainer],
    ) -> Result<Cluster, KindError> {
        self.audience.step("putting up the database");
        if let Some(there) = there.filter(|there| there.engine != wanted.engine) {
            self.audience.note(&format!("{} makes room for {}", there.engine.name(), wanted.engine.name()));
            deploy::take_down(cluster).await?;
        }
        if there.is_some_and(|there| is_another_build(there, wanted)) {
            // Nothing else of the workload changes, so Kubernetes would leave the old one running. It is written down only afterwards.
            self.audience.note(&format!("`{}` is another build now: the one that runs makes room", wanted.image));
            for shape in TargetShape::ALL {
                deploy::scale_to_zero(cluster, shape).await?;
            }
        }
        let password = if deploy::has_password(cluster).await? {
            deploy::password(cluster).await?
        } else {
            // Whatever is in the folders can only be opened with a password that nobody has any more.
            self.empty_volumes(kind, cluster, nodes).await?;
            deploy::new_password()
        };
        self.make_volumes(kind, wanted, nodes).await?;
        let workload = Workload::installed(wanted, wanted.shape, password);
        workload.apply_shared(cluster).await?;
        wanted.write(cluster).await?;
        Ok(workload.put_up(cluster).await?)
    }

    async fn empty_volumes(&self, kind: &Kind, cluster: &Cluster, nodes: &[NodeContainer]) -> Result<(), KindError> {
        let Some(node) = control_plane(nodes) else { return Ok(()) };
        if volumes::list(&kind.docker, node).await?.is_empty() {
            return Ok(());
        }
        self.audience.note("the volumes of an earlier installation, whose password is gone, are emptied");
        deploy::take_down(cluster).await?;
        volumes::empty(&kind.docker, node).await
    }

    /// What the volumes are: as they were, or as good as the nodes can do it.
    async fn storage(&self, kind: &Kind, there: Option<&Installed>, nodes: &[NodeContainer]) -> Storage {
        let root = MOUNT.to_owned();
        match (there, control_plane(nodes)) {
            (Some(there), _) => there.storage.clone(),
            (None, None) => Storage::HostPath { root },
            (None, Some(node)) => match volumes::can(&kind.docker, node).await {
                Ok(()) => Storage::FileSystem { root },
                Err(why) => {
                    self.audience.note(&format!(
                        "the volumes are folders of this machine, so they are neither filled nor slowed down nor refused: the nodes cannot mount a file \
                         system of its own: {why}"
                    ));
                    Storage::HostPath { root }
                }
            },
        }
    }

    /// The volumes of every shape, so that one can be put up in another's place later. A kubelet changes nothing of a folder of its node, so they are
    /// made for the user of the database.
    async fn make_volumes(&self, kind: &Kind, wanted: &Installed, nodes: &[NodeContainer]) -> Result<(), KindError> {
        let Some(node) = control_plane(nodes) else { return Ok(()) };
        let folders = TargetShape::ALL.map(|shape| wanted.storage.path(wanted.engine, shape));
        match wanted.storage {
            Storage::FileSystem { .. } => {
                volumes::make(&kind.docker, node, &folders).await?;
                for node in nodes {
                    volumes::mount(&kind.docker, node).await?;
                }
            }
            Storage::HostPath { .. } | Storage::Class(_) => {
                let script = format!("mkdir -p -- \"$@\" && chown {USER_ID}:{USER_ID} -- \"$@\" && chmod 0770 -- \"$@\"");
                let command: Vec<&str> = ["sh", "-c", &script, "sh"].into_iter().chain(folders.iter().map(String::as_str)).collect();
                kind.docker.exec(&node.name, format!("make the folders of the volumes in node `{}`", node.name), &command).await?;
            }
        }
        Ok(())
    }
}

/// The node that no fault switches off.
fn control_plane(nodes: &[NodeContainer]) -> Option<&NodeContainer> {
    nodes.iter().find(|node| !node.is_worker())
}

/// Whether the image of the database has the same name as before, and is another.
fn is_another_build(there: &Installed, wanted: &Installed) -> bool {
    there.engine == wanted.engine && there.image == wanted.image && there.image_id != wanted.image_id
}

fn own_image_error(image: &str, why: String) -> KindError {
    KindError::OwnImage { image: image.to_owned(), registry: deploy::registry(image).to_owned(), why }
}

fn engine_image_error(image: &str, why: String) -> KindError {
    KindError::EngineImage { image: image.to_owned(), registry: deploy::registry(image).to_owned(), why }
}

/// A step as kind tells it where there is no terminal: ` • Preparing nodes 📦 📦  ...`.
fn step_of_kind(line: &str) -> Option<String> {
    let rest = line.trim().strip_prefix('•')?;
    let words: String = rest.chars().take_while(char::is_ascii).collect();
    let words = words.trim_matches([' ', '.']);
    let mut letters = words.chars();
    let first = letters.next()?;
    Some(first.to_lowercase().chain(letters).collect())
}

/// Those of the nodes that are not ready, each with what it says.
fn not_ready<'a>(wanted: &BTreeSet<&str>, seen: impl Iterator<Item = &'a Node>) -> Vec<String> {
    let mut missing: BTreeSet<&str> = wanted.clone();
    let mut told = Vec::new();
    for node in seen {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        if !missing.remove(name) {
            continue;
        }
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
        match ready {
            Some(ready) if ready.status == "True" => {}
            Some(ready) => told.push(format!("`{name}`: {}", ready.message.as_deref().unwrap_or("not ready"))),
            None => told.push(format!("`{name}` has not said that it is ready")),
        }
    }
    told.extend(missing.into_iter().map(|name| format!("`{name}` has not joined the cluster")));
    told
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    #[rstest]
    #[case(" • Preparing nodes 📦 📦  ...", Some("preparing nodes"))]
    #[case(" • Ensuring node image (kindest/node:v1.37.0) 🖼  ...", Some("ensuring node image (kindest/node:v1.37.0)"))]
    #[case(" ✓ Preparing nodes 📦", None)]
    #[case("Creating cluster \"x\" ...", None)]
    fn what_kind_does_is_told(#[case] line: &str, #[case] step: Option<&str>) {
        assert_eq!(step_of_kind(line).as_deref(), step);
    }

    #[test]
    fn an_image_of_the_same_name_may_be_another_build() {
        let of = |image: &str, id: Option<&str>| Installed {
            engine: Engine::Mssql2022,
            image: image.into(),
            image_id: id.map(Into::into),
            own_image: "comeback:1".into(),
            own_image_from: ImageFrom::Program,
            shape: TargetShape::Deployment,
            storage: Storage::Class(None),
        };
        assert!(is_another_build(&of("a", Some("1")), &of("a", Some("2"))));
        assert!(is_another_build(&of("a", None), &of("a", Some("2"))), "nobody knows which it was");
        assert!(!is_another_build(&of("a", Some("1")), &of("a", Some("1"))));
        assert!(!is_another_build(&of("a", Some("1")), &of("b", Some("2"))), "Kubernetes sees that by itself");
    }

    #[test]
    fn nodes_that_are_missing_or_not_ready_are_named() {
        let node = |name: &str, conditions: Value| {
            serde_json::from_value::<Node>(json!({"metadata": {"name": name}, "status": {"conditions": conditions}})).unwrap()
        };
        let seen = [
            node("a", json!([{"type": "Ready", "status": "True"}])),
            node("b", json!([{"type": "Ready", "status": "False", "message": "cni plugin not initialized"}])),
        ];
        let told = not_ready(&BTreeSet::from(["a", "b", "c"]), seen.iter());
        assert_eq!(told, ["`b`: cni plugin not initialized", "`c` has not joined the cluster"]);
        assert!(not_ready(&BTreeSet::from(["a"]), seen.iter()).is_empty());
    }
}
