//! Where a run takes place: a sandbox that it starts, or a cluster that is there.
//!
//! The one room that asks which of the two it is. What differs: who starts and stops it, where the database's image and password come from, from
//! where SQL is spoken, and what outlives the run. After `Place::start` the trials are the same everywhere.
//!
//! | | sandbox | any other cluster |
//! |---|---|---|
//! | the cluster | starts and stops with the run | is there, and stays |
//! | the database | put up by the run | put up by `comeback cluster up`; the run only changes its shape |
//! | vantage | the runner itself | a prober pod, away from the database |
//! | what is left in place | goes with the sandbox | `comeback heal` puts it right |

use std::path::PathBuf;

use tokio::sync::mpsc;

use super::{Defect, trial::Address};
use crate::{
    cluster::{CONSENT, CONSENT_LABEL, Cluster, ClusterError, OpenError, chain, connect, open},
    deploy::{self, DeployError, ImageFrom, Installed, Storage, Workload, wait::NotUp},
    event::{Clock, PodFacts},
    fault::heal::{self, LeftUndone},
    kind,
    platform::{Defaults, Platform, PlatformError, SandboxPlatform, helper},
    prober::{
        Likeness, Note, Prober,
        pod::{self, PodError, ProberPod},
    },
    result,
    sandbox::{self, Sandbox, SandboxError},
    scenario::{NodeChoice, Scenario, TargetShape},
};

/// How much longer the stand-in takes to recover: a server that is back within a few milliseconds cannot be hit while it recovers.
const RECOVER_SLOWLY: &str = "200ms";
/// The speed of the sandbox's timers.
const SPEED: u32 = 20;

/// The folder that the sandbox's nodes share.
const SHARED_FOLDER: &str = "/var/comeback";

/// Where a run is to take place.
#[derive(Debug)]
pub enum On {
    /// A sandbox of its own.
    Sandbox(OnSandbox),
    /// A cluster that is there.
    Cluster(Box<OnCluster>),
}

/// A sandbox, and what goes wrong in it on purpose.
#[derive(Clone, Debug)]
pub struct OnSandbox {
    /// Our own program, which is every container of the sandbox.
    pub binary: PathBuf,
    /// What goes wrong on purpose.
    pub defect: Option<Defect>,
    /// The views that the stand-in database refuses to show.
    pub deny: Vec<String>,
}

/// A cluster that answers, with a database that was put up.
#[derive(Debug)]
pub struct OnCluster {
    cluster: Cluster,
    platform: Platform,
    kubernetes: String,
    context: String,
    installed: Installed,
    api_only: bool,
}

/// A cluster that a run was to take place on is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no way to it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It does not answer.
    #[error("the cluster of context `{context}` is of no use")]
    Cluster {
        /// The context of the kubeconfig.
        context: String,
        /// Why.
        source: ClusterError,
    },
    /// It has nodes to switch off, and their switch does not work.
    #[error("the cluster of context `{context}` cannot be broken from here")]
    Platform {
        /// The context of the kubeconfig.
        context: String,
        /// Why.
        source: PlatformError,
    },
    /// No database was put up in it.
    #[error("the cluster of context `{context}` has no database to break")]
    Database {
        /// The context of the kubeconfig.
        context: String,
        /// Why.
        source: DeployError,
    },
}

impl OnCluster {
    /// The command that puts right what a run leaves there.
    fn remedy(&self) -> String {
        format!("comeback heal --on {}{}", self.context, if self.api_only { " --api-only" } else { "" })
    }

    /// The context of the kubeconfig by which it was found.
    #[must_use]
    pub fn context(&self) -> &str {
        &self.context
    }

    /// The cluster, with the shape that is up as its target.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Which database was put up.
    #[must_use]
    pub const fn engine(&self) -> deploy::Engine {
        self.installed.engine
    }

    /// What it can do beside.
    #[must_use]
    pub const fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Looks at the cluster that `place` means: `kind`, or a context of the kubeconfig. Nothing is changed in it.
    /// `api_only`: whatever it is, nothing is used but its API.
    pub async fn connect(place: &str, api_only: bool) -> Result<Self, ConnectError> {
        // The cluster that `comeback cluster up` makes unless it is told another name.
        let wanted = if place == "kind" { kind::Name::default().context() } else { place.to_owned() };
        let opened = open(Some(&wanted), Workload::target(TargetShape::default())).await?;
        let (cluster, context) = (opened.cluster, opened.context);
        let unusable = |source| ConnectError::Cluster { context: context.clone(), source };
        let kubernetes = cluster.version().await.map_err(unusable)?;
        let read = Installed::read(&cluster).await;
        let installed = read.map_err(|source| ConnectError::Database { context: context.clone(), source })?;
        let cluster = Cluster::new(cluster.client(), Workload::target(installed.shape));
        let image = Some(installed.own_image.as_str());
        let platform =
            if api_only { Platform::by_api(&cluster, image) } else { Platform::detect(&cluster, image).await.map_err(unusable)? };
        platform.works().map_err(|source| ConnectError::Platform { context: context.clone(), source })?;
        Ok(Self { cluster, platform, kubernetes, context, installed, api_only })
    }
}

impl On {
    /// Where it is, for the record.
    #[must_use]
    pub fn describe(&self) -> result::Platform {
        match self {
            Self::Sandbox(sandbox) => result::Platform {
                name: "sandbox".to_owned(),
                kubernetes: None,
                speed: Some(SPEED),
                defect: sandbox.defect.map(Defect::name),
            },
            Self::Cluster(there) => result::Platform {
                name: there.platform.name().to_owned(),
                kubernetes: Some(there.kubernetes.clone()),
                speed: None,
                defect: None,
            },
        }
    }

    /// The command that puts right what is left there; `None`: nothing outlives the run.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::Sandbox(_) => None,
            Self::Cluster(there) => Some(there.remedy()),
        }
    }

    /// What a scenario leaves to it.
    #[must_use]
    pub const fn defaults(&self) -> Defaults {
        match self {
            Self::Sandbox(_) => SandboxPlatform::DEFAULTS,
            Self::Cluster(there) => there.platform.defaults(),
        }
    }

    /// What is being done while [`Place::start`] is at work.
    pub(super) const fn starting(&self) -> &'static str {
        match self {
            Self::Sandbox(_) => "starting the sandbox",
            Self::Cluster(_) => "looking at the cluster",
        }
    }
}

/// A place could not be made ready, for a run or for a trial.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error("could not start the sandbox")]
    Sandbox(#[from] SandboxError),
    #[error("could not look at the cluster")]
    Cluster(#[from] ClusterError),
    #[error("could not put up the workload")]
    Deploy(#[from] DeployError),
    #[error(transparent)]
    NotUp(#[from] NotUp),
    #[error("could not put up the prober")]
    Prober(#[from] PodError),
    #[error("could not take away the prober of an earlier run")]
    OldProber(#[source] PodError),
    #[error("{left}; put it right first: `comeback heal --on {context}`")]
    LeftUndone { left: LeftUndone, context: String },
    #[error(
        "namespace `{namespace}` does not say that it may be broken (hint: `kubectl label namespace {namespace} {CONSENT_LABEL}={CONSENT}`)"
    )]
    NoConsent { namespace: String },
}

/// The place of a run, at work.
pub(super) struct Place {
    /// The cluster, with the shape at hand as its target.
    pub(super) cluster: Cluster,
    /// What it can do beside.
    pub(super) platform: Platform,
    /// The version of its Kubernetes.
    pub(super) kubernetes: String,
    run: String,
    site: Site,
    /// The shape that is up.
    shape: Option<TargetShape>,
    prober: Option<(Prober, Option<ProberPod>)>,
}

enum Site {
    Sandbox { sandbox: Sandbox, workload: Box<Workload> },
    Cluster { context: String, remedy: String, installed: Box<Installed> },
}

/// What a trial finds ready.
pub(super) struct Ready<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) platform: &'a Platform,
    pub(super) prober: &'a Prober,
    pub(super) address: Address,
    /// Whether the database's pod is new, so that no back-off is carried over from what was before.
    pub(super) fresh: bool,
}

impl Place {
    /// Starts the sandbox, or takes the cluster as it is.
    pub(super) async fn start(on: On, run: &str) -> Result<Self, PlaceError> {
        let (cluster, platform, kubernetes, site) = match on {
            On::Sandbox(OnSandbox { binary, defect, deny }) => {
                let options = sandbox::Options { speed: SPEED, defect: Defect::of_cluster(defect), ..sandbox::Options::new(binary) };
                let sandbox = Sandbox::start(options).await?;
                let cluster = Cluster::new(connect(sandbox.kubeconfig()).await?, Workload::target(TargetShape::default()));
                let kubernetes = cluster.version().await?;
                let defect = Defect::of_database(defect).into_iter().flat_map(|name| ["--defect".to_owned(), name]);
                let denied = deny.into_iter().flat_map(|view| ["--deny".to_owned(), view]);
                let slowly = ["--recover-slowly", RECOVER_SLOWLY].map(str::to_owned);
                // The volume of kind's clusters, so that the two compare: a folder that all nodes share.
                let storage = Storage::HostPath { root: SHARED_FOLDER.to_owned() };
                let workload =
                    Box::new(Workload { storage, ..Workload::stand_in(run, deploy::new_password(), defect.chain(denied).chain(slowly)) });
                // The namespace must be there for whatever the run puts down in it.
                workload.apply_shared(&cluster).await?;
                let platform = Platform::Sandbox(SandboxPlatform::new(cluster.clone()));
                (cluster, platform, kubernetes, Site::Sandbox { sandbox, workload })
            }
            On::Cluster(there) => {
                let remedy = there.remedy();
                let OnCluster { cluster, platform, kubernetes, context, installed, .. } = *there;
                (cluster, platform, kubernetes, Site::Cluster { context, remedy, installed: Box::new(installed) })
            }
        };
        Ok(Self { cluster, platform, kubernetes, run: run.to_owned(), site, shape: None, prober: None })
    }

    /// Makes sure that this place may be broken, now that no other run is at work in it: its namespace says so, and nothing is left undone by a
    /// run that was killed. What such a run put up for itself is removed.
    pub(super) async fn may_begin(&self) -> Result<(), PlaceError> {
        let Site::Cluster { context, .. } = &self.site else { return Ok(()) };
        if !self.cluster.consents().await? {
            return Err(PlaceError::NoConsent { namespace: self.cluster.target.namespace.clone() });
        }
        if let Some(left) = heal::left_undone(&self.cluster).await? {
            return Err(PlaceError::LeftUndone { left, context: context.clone() });
        }
        pod::remove_all(&self.cluster, None).await.map_err(PlaceError::OldProber)?;
        Ok(())
    }

    /// Makes the place ready for a trial on this shape: the database up, and the prober where no fault hits it.
    pub(super) async fn make_ready(
        &mut self,
        scenario: &Scenario,
        clock: Clock,
        notes: impl FnOnce() -> mpsc::Sender<Note>,
    ) -> Result<Ready<'_>, PlaceError> {
        let shape = scenario.target;
        let fresh = if self.shape == Some(shape) { false } else { self.put_up(shape).await? };
        self.place_prober(scenario, clock, notes).await?;
        let service = self.cluster.service().await?;
        let user = match &self.site {
            Site::Sandbox { workload, .. } => workload.engine.user(),
            Site::Cluster { installed, .. } => installed.engine.user(),
        };
        let address = Address { host: service.cluster_ip, port: service.port, user: user.to_owned() };
        let (prober, _) = self.prober.as_ref().expect("it was placed");
        Ok(Ready { cluster: &self.cluster, platform: &self.platform, prober, address, fresh })
    }

    /// Puts the shape up in place of another. Returns whether its pod is new.
    async fn put_up(&mut self, shape: TargetShape) -> Result<bool, PlaceError> {
        let fresh = match &mut self.site {
            Site::Sandbox { workload, .. } => {
                workload.shape = shape;
                self.cluster = workload.put_up(&self.cluster).await?;
                true
            }
            Site::Cluster { installed, .. } => {
                self.cluster = deploy::switch_to(&self.cluster, shape).await?;
                // What stood there before the run may have a past.
                std::mem::replace(&mut installed.shape, shape) != shape
            }
        };
        self.shape = Some(shape);
        Ok(fresh)
    }

    /// Sees to it that there is a prober that works, and that it is not where a fault would hit it.
    async fn place_prober(
        &mut self,
        scenario: &Scenario,
        clock: Clock,
        notes: impl FnOnce() -> mpsc::Sender<Note>,
    ) -> Result<(), PlaceError> {
        match &self.site {
            // The runner stands where the sandbox's clients stand.
            Site::Sandbox { workload, .. } => {
                let spent = self.prober.as_ref().is_none_or(|(prober, _)| prober.failure().is_some());
                if spent {
                    self.prober = Some((Prober::here(clock, workload.password.clone(), notes()), None));
                }
            }
            Site::Cluster { installed, .. } => {
                let start_within = installed.engine.start_within().max(self.platform.defaults().start_within);
                let settings = pod::Settings {
                    run: self.run.clone(),
                    image: installed.own_image.clone(),
                    likeness: match installed.own_image_from {
                        ImageFrom::Program => Likeness::Build,
                        ImageFrom::Elsewhere => Likeness::Version,
                    },
                    secret: deploy::SECRET.to_owned(),
                    target: self.cluster.target.selector.clone(),
                    avoid: named_nodes(scenario),
                };
                let target = deploy::wait::until_up(&self.cluster, scenario.target, start_within).await?;
                if self.prober.as_ref().is_some_and(|(prober, pod)| prober.failure().is_none() && fits(pod.as_ref(), &settings, &target)) {
                    return Ok(());
                }
                self.remove_prober().await?;
                let pod = ProberPod::put_up(&self.cluster, &settings).await?;
                self.prober = Some((pod.connect(&self.cluster, clock, notes()), Some(pod)));
            }
        }
        Ok(())
    }

    async fn remove_prober(&mut self) -> Result<(), PodError> {
        let Some((prober, pod)) = self.prober.take() else { return Ok(()) };
        prober.close().await;
        match pod {
            Some(pod) => pod.remove(&self.cluster).await,
            None => Ok(()),
        }
    }

    /// Takes away what the run put up for itself. Returns what it could not take away, in words.
    pub(super) async fn clear(&mut self) -> Vec<String> {
        let mut left: Vec<String> = self.remove_prober().await.err().iter().map(|error| chain(error)).collect();
        match &self.site {
            // Also one that was just being put up when the run was interrupted.
            Site::Cluster { .. } if left.is_empty() => {
                left.extend(pod::remove_all(&self.cluster, Some(&self.run)).await.err().iter().map(|error| chain(error)));
                // One that was at work when the run was interrupted. Nobody else has any here: the lease keeps them out.
                left.extend(helper::remove_all(&self.cluster).await.err().iter().map(|error| chain(error)));
            }
            Site::Cluster { .. } | Site::Sandbox { .. } => {}
        }
        left
    }

    /// What is to be done about what is left in place.
    pub(super) fn remedy(&self) -> String {
        match &self.site {
            Site::Sandbox { .. } => "it goes with the sandbox".to_owned(),
            Site::Cluster { remedy, .. } => format!("or `{remedy}`"),
        }
    }

    /// What is being done while [`Place::stop`] is at work; `None`: there is nothing to stop.
    pub(super) const fn stopping(&self) -> Option<&'static str> {
        match &self.site {
            Site::Sandbox { .. } => Some("stopping the sandbox"),
            Site::Cluster { .. } => None,
        }
    }

    /// Stops what the run started.
    pub(super) async fn stop(self) {
        match self.site {
            Site::Sandbox { sandbox, .. } => sandbox.stop().await,
            Site::Cluster { .. } => {}
        }
    }
}

/// The nodes that the faults of a scenario name: the prober stays away from them.
fn named_nodes(scenario: &Scenario) -> Vec<String> {
    let named = scenario.faults.iter().filter_map(|injection| match injection.fault.node()? {
        NodeChoice::Name(name) => Some(name.clone()),
        NodeChoice::Target | NodeChoice::Other | NodeChoice::Label(_) => None,
    });
    named.collect()
}

/// Whether the prober's pod keeps away from this target.
fn fits(pod: Option<&ProberPod>, settings: &pod::Settings, target: &PodFacts) -> bool {
    pod.is_some_and(|pod| pod.keeps_away_from(&settings.target) && !pod.is_in_the_way(target, &settings.avoid))
}
