//! Docker as a command: the power of a kind node, and what runs in it.
//!
//! Each call has a deadline and a process group of its own, so that Ctrl-C at the terminal stops the run and not the call that puts
//! things right.

use std::{collections::BTreeMap, io, process::Stdio, time::Duration};

use serde::Deserialize;
use tokio::process::Command;

/// How long docker may take to answer a question, or to kill a container.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// How long docker may take to start a container.
pub const START_DEADLINE: Duration = Duration::from_mins(1);

/// A call of docker that failed.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// There is no such program.
    #[error("could not start `{program}` (hint: install docker, or put it on the PATH)")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It did not end in time.
    #[error("could not {what}: docker did not answer within {}", humantime::format_duration(*.deadline))]
    Deadline {
        /// What was being done, to what.
        what: String,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// It ended with an error.
    #[error("could not {what}: docker says: {said}")]
    Failed {
        /// What was being done, to what.
        what: String,
        /// The last line that it wrote to stderr.
        said: String,
    },
    /// Its answer is not what was asked for.
    #[error("could not {what}: docker's answer cannot be read")]
    Answer {
        /// What was being done, to what.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// The docker command.
#[derive(Clone, Debug)]
pub struct Docker {
    program: String,
}

impl Default for Docker {
    fn default() -> Self {
        Self { program: "docker".to_owned() }
    }
}

/// A container as docker describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Whether it runs now; one that is paused does not.
    pub running: bool,
    /// Whether it is paused.
    pub paused: bool,
    /// When it was started last, as docker writes it.
    pub started: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: State,
    config: Config,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    started_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    labels: Option<BTreeMap<String, String>>,
}

impl Docker {
    /// The command of this name or path.
    #[must_use]
    pub fn at(program: impl Into<String>) -> Self {
        Self { program: program.into() }
    }

    /// Asks whether the daemon answers, and returns its version.
    pub async fn version(&self) -> Result<String, DockerError> {
        self.run("ask docker for its version", &["version", "--format", "{{.Server.Version}}"], ANSWER_DEADLINE).await
    }

    /// The container of this name; `None`: there is none.
    pub async fn inspect(&self, name: &str) -> Result<Option<Container>, DockerError> {
        let what = format!("inspect container `{name}`");
        match self.run(&what, &["inspect", "--type", "container", "--format", "{{json .}}", name], ANSWER_DEADLINE).await {
            Ok(text) => {
                let Inspected { state, config } = serde_json::from_str(&text).map_err(|source| DockerError::Answer { what, source })?;
                Ok(Some(Container {
                    running: state.running && !state.paused,
                    paused: state.paused,
                    started: state.started_at,
                    labels: config.labels.unwrap_or_default(),
                }))
            }
            Err(DockerError::Failed { said, .. }) if said.to_lowercase().contains("no such") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Kills the container, as a power cut would. One that does not run is left as it is.
    pub async fn kill(&self, name: &str) -> Result<(), DockerError> {
        self.run(&format!("kill container `{name}`"), &["kill", name], ANSWER_DEADLINE).await.map(drop)
    }

    /// Starts the container. One that runs is left as it is.
    pub async fn start(&self, name: &str) -> Result<(), DockerError> {
        self.run(&format!("start container `{name}`"), &["start", name], START_DEADLINE).await.map(drop)
    }

    /// Makes the container stand still, with all its processes.
    pub async fn pause(&self, name: &str) -> Result<(), DockerError> {
        self.run(&format!("pause container `{name}`"), &["pause", name], ANSWER_DEADLINE).await.map(drop)
    }

    /// Lets a container that was paused go on.
    pub async fn unpause(&self, name: &str) -> Result<(), DockerError> {
        self.run(&format!("unpause container `{name}`"), &["unpause", name], ANSWER_DEADLINE).await.map(drop)
    }

    /// Kills the container and starts it again at once.
    pub async fn restart(&self, name: &str) -> Result<(), DockerError> {
        self.run(&format!("restart container `{name}`"), &["restart", "--time", "0", name], START_DEADLINE).await.map(drop)
    }

    /// The program, for a process that has to call it later.
    pub(super) fn program(&self) -> &str {
        &self.program
    }

    /// Runs a command in the container and returns what it wrote to stdout.
    pub async fn exec(&self, name: &str, command: &[&str]) -> Result<String, DockerError> {
        let arguments: Vec<&str> = ["exec", name].into_iter().chain(command.iter().copied()).collect();
        self.run(&format!("run `{}` in container `{name}`", command.first().unwrap_or(&"")), &arguments, ANSWER_DEADLINE).await
    }

    async fn run(&self, what: &str, arguments: &[&str], deadline: Duration) -> Result<String, DockerError> {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        let output = match tokio::time::timeout(deadline, command.output()).await {
            Ok(output) => output.map_err(|source| DockerError::Start { program: self.program.clone(), source })?,
            Err(_) => return Err(DockerError::Deadline { what: what.to_owned(), deadline }),
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said =
            stderr.lines().rfind(|line| !line.trim().is_empty()).map_or_else(|| output.status.to_string(), |line| line.trim().to_owned());
        Err(DockerError::Failed { what: what.to_owned(), said })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// A docker that says this and ends with this exit code.
    pub(in crate::platform) fn stub(script: &str) -> (tempfile::TempDir, Docker) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let docker = Docker::at(path.to_str().unwrap());
        (folder, docker)
    }

    #[tokio::test]
    async fn a_container_is_told_with_its_labels() {
        let (_folder, docker) = stub(
            r#"echo '{"Id":"x","State":{"Running":true,"Paused":false},"Config":{"Labels":{"io.x-k8s.kind.role":"worker"},"Env":[]}}'"#,
        );
        let container = docker.inspect("node").await.unwrap().unwrap();
        assert!(container.running);
        assert_eq!(container.labels["io.x-k8s.kind.role"], "worker");
    }

    #[tokio::test]
    async fn what_is_not_there_is_no_error() {
        let (_folder, docker) = stub("echo 'Error: No such container: node' >&2; exit 1");
        assert_eq!(docker.inspect("node").await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_docker_says_is_passed_on() {
        let (_folder, docker) = stub("echo 'Cannot connect to the Docker daemon' >&2; exit 1");
        let error = docker.kill("node").await.unwrap_err().to_string();
        assert_eq!(error, "could not kill container `node`: docker says: Cannot connect to the Docker daemon");
    }

    #[tokio::test]
    async fn without_docker_it_says_how_to_get_it() {
        let error = Docker::at("/nowhere/docker").version().await.unwrap_err().to_string();
        assert!(error.contains("install docker"), "{error}");
    }

    #[tokio::test]
    async fn the_arguments_are_dockers_own() {
        let (_folder, docker) = stub(r#"echo "$@""#);
        assert_eq!(docker.exec("node", &["bash", "-c", "x"]).await.unwrap(), "exec node bash -c x");
    }
}
