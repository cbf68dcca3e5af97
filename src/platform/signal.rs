//! A signal to a process of the database's container, by the least privileged way that works.
//!
//! 1. `exec` of our own binary, where it is in the image;
//! 2. `exec` of bash with a script of ours, in any other image;
//! 3. bash on the node, through docker on kind and by the node helper elsewhere: the only one of these that reaches the first process of a container, which is
//!    deaf to what comes from inside.
//!
//! Which way works is found out by looking, before the fault is called: [`aim`] lists the processes and sends nothing. It sends no helper to a node either,
//! because a plan is made so too: where only that would tell, the call does.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::{
    Container, ContainerName, PlatformError, Signalled,
    exec::{End, Said, exec},
    node_shell::{NodeScript, NodeShell},
    processes::{FIRST, Process, Report, SCRIPT},
};
use crate::{
    cluster::{Cluster, pod_facts},
    event::Fact,
};

/// Where our own binary is in our image.
pub(super) const OWN_BINARY: &str = "/comeback";
/// A shell that is killed from outside ends with this exit code: its container was ended by what it did.
pub(super) const KILLED: i32 = 137;
/// How long a look at the processes and a signal may take, with the connection.
const WITHIN: Duration = Duration::from_secs(20);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// The name of the signal, as in `man 7 signal`.
    pub(super) name: &'static str,
    /// After how long whoever was stopped by it goes on by himself, whatever became of us.
    pub(super) revive: Option<Duration>,
}

impl Sent {
    /// This signal, and nothing after it.
    pub(super) const fn only(name: &'static str) -> Self {
        Self { name, revive: None }
    }

    fn seconds(self) -> String {
        self.revive.map(|after| after.as_secs().max(1).to_string()).unwrap_or_default()
    }
}

/// By which way a process is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The sandbox's own path.
    Sandbox,
    /// Our binary in the container.
    OwnBinary,
    /// Bash in the container.
    Bash,
    /// Bash on the node.
    Node {
        /// By what the node is reached.
        by: &'static str,
        /// The node.
        node: String,
        /// The id of the database's container, without the runtime's name.
        container: String,
    },
}

impl Way {
    /// What it is called in the record.
    #[must_use]
    pub fn mechanism(&self) -> String {
        match self {
            Self::Sandbox => "sandbox: signal from the node".to_owned(),
            Self::OwnBinary => format!("exec in the container: {OWN_BINARY} signal"),
            Self::Bash => "exec in the container: bash".to_owned(),
            Self::Node { by, node, .. } => format!("{by} on node {node}: bash"),
        }
    }
}

/// Finds the way to the process that is meant, without touching it. With `shell` the node can be entered.
pub(super) async fn aim(
    cluster: &Cluster,
    shell: Result<NodeShell<'_>, String>,
    at: &Container<'_>,
    process: &str,
) -> Result<Way, PlatformError> {
    let (way, report) = match ask(cluster, at, Way::OwnBinary, process, None).await? {
        Some(found) => found,
        None => match ask(cluster, at, Way::Bash, process, None).await? {
            Some(found) => found,
            None => return from_the_node(shell, at, process, "it has neither our binary nor bash in it").await,
        },
    };
    if report.meant.is_empty() {
        return Err(no_such_process(at, process, &report));
    }
    if report.meant.contains(&FIRST) {
        return from_the_node(shell, at, process, "it is the container's first process, which ignores what is sent from inside").await;
    }
    Ok(way)
}

/// Sends the signal. What was sent is no evidence: the container may have ended before it could tell.
pub(super) async fn send(
    cluster: &Cluster,
    shell: Result<NodeShell<'_>, String>,
    at: &Container<'_>,
    way: &Way,
    process: &str,
    signal: Sent,
) -> Result<Vec<Signalled>, PlatformError> {
    let report = match way {
        Way::Sandbox => unreachable!("the sandbox has a path of its own"),
        Way::OwnBinary | Way::Bash => match ask(cluster, at, way.clone(), process, Some(signal)).await? {
            Some((_, report)) => report,
            None => {
                return Err(PlatformError::NotPossible(format!("the way into container `{}` is gone: {}", at.container, way.mechanism())));
            }
        },
        Way::Node { node, container, .. } => {
            let report = on_the_node(shell, node, container, process, Some(signal)).await?;
            // The node outlives the container: whoever looks from there and sees nothing of it came too late, and has sent nothing.
            if report.running.is_empty() {
                return Err(already_ended(at));
            }
            report
        }
    };
    if report.meant.is_empty() && !report.running.is_empty() {
        return Err(no_such_process(at, process, &report));
    }
    if report.signalled.is_empty() && report.meant.contains(&FIRST) {
        return Err(PlatformError::OutOfReach {
            process: process.to_owned(),
            pod: at.pod.to_owned(),
            why: "it is the container's first process by now, which ignores what is sent from inside".to_owned(),
        });
    }
    if report.signalled.is_empty() && !report.meant.is_empty() {
        return Err(PlatformError::NotPossible(format!(
            "process `{process}` of pod `{}` did not take the signal: the right is missing, or it has ended",
            at.pod
        )));
    }
    Ok(report.named(&report.signalled).into_iter().map(|process| Signalled { pid: process.pid, comm: process.comm }).collect())
}

/// Looks at the processes that are meant, by the way that was found.
pub(super) async fn look(
    cluster: &Cluster,
    shell: Result<NodeShell<'_>, String>,
    at: &Container<'_>,
    way: &Way,
    process: &str,
) -> Result<Vec<Process>, PlatformError> {
    let report = match way {
        Way::Sandbox => unreachable!("the sandbox has a path of its own"),
        Way::OwnBinary | Way::Bash => ask(cluster, at, way.clone(), process, None).await?.map(|(_, report)| report).unwrap_or_default(),
        Way::Node { node, container, .. } => on_the_node(shell, node, container, process, None).await?,
    };
    Ok(report.named(&report.meant))
}

/// A container by its names, where it is written down.
fn named(container: &ContainerName) -> Container<'_> {
    Container {
        namespace: &container.namespace,
        pod: &container.pod,
        container: &container.container,
        id: Some(&container.id),
        node: Some(&container.node),
    }
}

/// Stops a process, for so long at most.
pub(super) async fn freeze(
    cluster: &Cluster,
    shell: Result<NodeShell<'_>, String>,
    container: &ContainerName,
    process: &str,
    at_most: Duration,
) -> Result<(), PlatformError> {
    let at = named(container);
    let way = aim(cluster, shell.clone(), &at, process).await?;
    send(cluster, shell, &at, &way, process, Sent { name: "SIGSTOP", revive: Some(at_most) }).await.map(drop)
}

/// Lets it go on. A container that has another life by now has nothing that was stopped.
pub(super) async fn thaw(
    cluster: &Cluster,
    shell: Result<NodeShell<'_>, String>,
    container: &ContainerName,
    process: &str,
) -> Result<(), PlatformError> {
    if !is_still(cluster, container).await? {
        return Ok(());
    }
    let at = named(container);
    let way = aim(cluster, shell.clone(), &at, process).await?;
    send(cluster, shell, &at, &way, process, Sent::only("SIGCONT")).await.map(drop)
}

/// Whether it stands still.
pub(super) async fn state(
    cluster: &Cluster,
    shell: Result<NodeShell<'_>, String>,
    container: &ContainerName,
    process: &str,
) -> Result<Vec<Fact>, PlatformError> {
    let what = format!("state of process `{process}`");
    if !is_still(cluster, container).await? {
        return Ok(vec![Fact { what, value: "gone".to_owned() }]);
    }
    let at = named(container);
    let way = aim(cluster, shell.clone(), &at, process).await?;
    let found = look(cluster, shell, &at, &way, process).await?;
    let value = if !found.is_empty() && found.iter().all(|process| process.stopped) { "stopped" } else { "runs" };
    Ok(vec![Fact { what, value: value.to_owned() }])
}

/// Whether the container that is meant is the one that runs.
async fn is_still(cluster: &Cluster, container: &ContainerName) -> Result<bool, PlatformError> {
    let pods = Api::<Pod>::namespaced(cluster.client(), &container.namespace);
    let pod = cluster.call(format!("read pod `{}`", container.pod), pods.get_opt(&container.pod)).await?;
    Ok(pod.is_some_and(|pod| pod_facts(&pod, &container.container).container_id.as_deref() == Some(&container.id)))
}

/// The processes that are meant, as bash in the container sees them. `None`: there is no bash.
pub(super) async fn inside(cluster: &Cluster, at: &Container<'_>, process: &str) -> Result<Option<Vec<Process>>, PlatformError> {
    let Some((_, report)) = ask(cluster, at, Way::Bash, process, None).await? else { return Ok(None) };
    if report.meant.is_empty() {
        return Err(no_such_process(at, process, &report));
    }
    Ok(Some(report.named(&report.meant)))
}

/// Asks one of the programs in the container. `None`: it is not there. An empty report: the container ended before it could tell.
async fn ask(
    cluster: &Cluster,
    at: &Container<'_>,
    way: Way,
    process: &str,
    signal: Option<Sent>,
) -> Result<Option<(Way, Report)>, PlatformError> {
    let seconds = signal.map(Sent::seconds).unwrap_or_default();
    let own = [OWN_BINARY, "signal", "--process", process];
    let own_signal = signal.map(|signal| ["--signal", signal.name]);
    let own_revive = Some(["--revive-after", &seconds]).filter(|_| !seconds.is_empty());
    let bash = ["bash", "-c", SCRIPT, "comeback-signal", "/proc", process, signal.map_or("list", |signal| signal.name), "", &seconds];
    let command: Vec<&str> = match way {
        Way::OwnBinary => own.into_iter().chain(own_signal.into_iter().flatten()).chain(own_revive.into_iter().flatten()).collect(),
        Way::Bash | Way::Sandbox | Way::Node { .. } => bash.to_vec(),
    };
    let Said { stdout, stderr, end } = exec(cluster, at.namespace, at.pod, at.container, &command, WITHIN).await?;
    let report = match way {
        Way::OwnBinary => serde_json::from_str(&stdout).ok(),
        Way::Bash | Way::Sandbox | Way::Node { .. } => Report::of_script(&stdout),
    };
    match (end, report) {
        // It ran to its end, and not even the container's first process was there.
        (End::Code(0), Some(report)) if report.running.is_empty() => Err(already_ended(at)),
        (End::Code(0), Some(report)) => Ok(Some((way, report))),
        // 126 and 127 are what a shell, or a runtime that plays one, says of a program that is not there.
        (End::Missing | End::Code(126 | 127), _) => Ok(None),
        (End::Lost | End::Code(KILLED), report) if signal.is_some() => Ok(Some((way, report.unwrap_or_default()))),
        (end, _) => {
            let said = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned();
            Err(PlatformError::Exec { pod: at.pod.to_owned(), container: at.container.to_owned(), end: format!("{end:?}"), said })
        }
    }
}

async fn from_the_node(shell: Result<NodeShell<'_>, String>, at: &Container<'_>, process: &str, why: &str) -> Result<Way, PlatformError> {
    let out_of_reach = |reason: &str| PlatformError::OutOfReach {
        process: process.to_owned(),
        pod: at.pod.to_owned(),
        why: format!("{why}, and it cannot be reached from its node: {reason}"),
    };
    let shell = shell.map_err(|reason| out_of_reach(&reason))?;
    let (Some(node), Some(id)) = (at.node, at.id) else { return Err(out_of_reach("the pod is on no node")) };
    // `containerd://0123…`
    let container = id.rsplit_once("://").map_or(id, |(_, id)| id).to_owned();
    if let NodeShell::Docker(_) = shell {
        let report = on_the_node(Ok(shell), node, &container, process, None).await?;
        if report.meant.is_empty() {
            return Err(no_such_process(at, process, &report));
        }
    }
    Ok(Way::Node { by: shell.mechanism(), node: node.to_owned(), container })
}

async fn on_the_node(
    shell: Result<NodeShell<'_>, String>,
    node: &str,
    container: &str,
    process: &str,
    signal: Option<Sent>,
) -> Result<Report, PlatformError> {
    let (name, seconds) = (signal.map_or("list", |signal| signal.name), signal.map(Sent::seconds).unwrap_or_default());
    let shell = shell.map_err(|reason| PlatformError::NotPossible(format!("node `{node}` can no longer be entered: {reason}")))?;
    let text = shell.run(node, NodeScript::Signal, &["/proc", process, name, container, &seconds]).await?;
    Report::of_script(&text)
        .ok_or_else(|| PlatformError::NotPossible(format!("the list of processes on node `{node}` cannot be read: {text}")))
}

fn already_ended(at: &Container<'_>) -> PlatformError {
    PlatformError::NotPossible(format!("container `{}` of pod `{}` has ended by itself: nothing was signalled", at.container, at.pod))
}

fn no_such_process(at: &Container<'_>, process: &str, report: &Report) -> PlatformError {
    PlatformError::NoProcess { process: process.to_owned(), pod: at.pod.to_owned(), running: report.list() }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use rstest::rstest;

    use super::*;
    use crate::{cluster::fake, platform::docker::tests::stub};

    const AT: Container<'_> =
        Container { namespace: "db", pod: "mssql-0", container: "mssql", id: Some("containerd://0123"), node: Some("w1") };

    async fn sent(script: &str) -> Result<Vec<Signalled>, PlatformError> {
        let (_folder, docker) = stub(script);
        let way = Way::Node { by: "docker exec", node: "w1".into(), container: "0123".into() };
        send(&fake::cluster(Router::new()).await, Ok(NodeShell::Docker(&docker)), &AT, &way, "engine", Sent::only("SIGKILL")).await
    }

    #[tokio::test]
    async fn from_the_node_it_is_told_who_got_it() {
        let signalled = sent("echo '40 1 other S sqlservr'; echo '41 40 signalled S sqlservr'").await.unwrap();
        assert_eq!(signalled, [Signalled { pid: 41, comm: "sqlservr".into() }]);
    }

    #[rstest]
    #[case::the_container_ended_by_itself("true", "has ended by itself: nothing was signalled")]
    #[case::another_process_is_there("echo '40 1 other S bash'", "no process `engine` in pod `mssql-0`; there are: bash (40)")]
    #[case::it_was_not_taken("echo '41 40 meant S sqlservr'", "did not take the signal")]
    #[tokio::test]
    async fn from_the_node_no_signal_is_an_error(#[case] script: &str, #[case] expected: &str) {
        let error = sent(script).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
