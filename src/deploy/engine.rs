//! The databases that can be put up: the image of each, and what it wants of its surroundings.
//!
//! SQL Server in its three current versions, Azure SQL Edge (retired on 2025-09-30, still in use), and our own stand-in `sqld` for places that
//! reach no registry. One is never put in another's place in silence: what is asked for is put up, or there is an error.
//!
//! # Readiness
//!
//! SQL Server opens its port well before it takes logins, so a TCP probe would call a server ready that nobody can use. The probe of the real
//! engines therefore logs in and asks for `1`, with the `sqlcmd` that is in the image: since 2022 CU14, and the 2019 images of the middle of 2024, it
//! lies in `/opt/mssql-tools18/bin`, before that in `/opt/mssql-tools/bin`. An image without one (Azure SQL Edge has lost it on some
//! architectures) is asked through `bash` whether the port is open, which is weaker, and the best that can be had in it. The password goes
//! through the environment, never through the arguments. Our stand-in opens its port when it takes logins, so for it a TCP probe is right.
//!
//! # The first process
//!
//! See [`FirstProcess`]: it decides whether the end of a pod is clean or a crash.

use std::{str::FromStr, time::Duration};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The user and group of SQL Server in Microsoft's images, and of everything in ours.
pub const USER_ID: i64 = 10_001;

/// The port of the database, in the container and of the service.
pub const PORT: u16 = 1433;

/// Where the database keeps its data.
pub(super) const DATA: &str = "/var/opt/mssql";

/// A database that can be put up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
pub enum Engine {
    /// SQL Server 2022.
    #[default]
    #[value(name = "mssql-2022")]
    #[serde(rename = "mssql-2022")]
    Mssql2022,
    /// SQL Server 2025.
    #[value(name = "mssql-2025")]
    #[serde(rename = "mssql-2025")]
    Mssql2025,
    /// SQL Server 2019.
    #[value(name = "mssql-2019")]
    #[serde(rename = "mssql-2019")]
    Mssql2019,
    /// Azure SQL Edge, which Microsoft retired on 2025-09-30.
    #[value(name = "azure-sql-edge")]
    #[serde(rename = "azure-sql-edge")]
    AzureSqlEdge,
    /// Our stand-in, which is not SQL Server and says so.
    #[value(name = "sqld")]
    #[serde(rename = "sqld")]
    Sqld,
}

/// What process 1 of the database's container is, as far as it is known.
///
/// The kubelet sends SIGTERM to it alone. A shell that waits for its child takes no notice, so the server serves on until the grace period ends,
/// and is then killed: every planned move is a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstProcess {
    /// SQL Server's watchdog (or our stand-in's): SIGTERM stops it in good order.
    Watchdog,
    /// A shell that does not pass SIGTERM on.
    Shell,
}

impl FirstProcess {
    /// What whoever deletes its pod should know beforehand.
    #[must_use]
    pub const fn caveat(self) -> Option<&'static str> {
        match self {
            Self::Watchdog => None,
            Self::Shell => Some(
                "As far as is known, process 1 of this image is a shell that does not pass SIGTERM on: a graceful deletion takes the whole grace \
                 period and ends as a crash.",
            ),
        }
    }
}

/// The probe of the real engines; see the module for why.
const LOGS_IN: &str = r#"for sqlcmd in /opt/mssql-tools18/bin/sqlcmd /opt/mssql-tools/bin/sqlcmd; do
  if [ -x "$sqlcmd" ]; then
    export SQLCMDPASSWORD="$MSSQL_SA_PASSWORD"
    exec "$sqlcmd" -C -S 127.0.0.1,1433 -U sa -l 3 -t 3 -b -o /dev/null -Q "SET NOCOUNT ON; SELECT 1"
  fi
done
exec 3<>/dev/tcp/127.0.0.1/1433"#;

impl Engine {
    /// Every engine there is.
    pub const ALL: [Self; 5] = [Self::Mssql2022, Self::Mssql2025, Self::Mssql2019, Self::AzureSqlEdge, Self::Sqld];

    /// Its name on the command line and in the records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mssql2022 => "mssql-2022",
            Self::Mssql2025 => "mssql-2025",
            Self::Mssql2019 => "mssql-2019",
            Self::AzureSqlEdge => "azure-sql-edge",
            Self::Sqld => "sqld",
        }
    }

    /// Its image in Microsoft's registry; `None` for the stand-in, which is in our own image.
    #[must_use]
    pub const fn public_image(self) -> Option<&'static str> {
        match self {
            Self::Mssql2022 => Some("mcr.microsoft.com/mssql/server:2022-latest"),
            Self::Mssql2025 => Some("mcr.microsoft.com/mssql/server:2025-latest"),
            Self::Mssql2019 => Some("mcr.microsoft.com/mssql/server:2019-latest"),
            Self::AzureSqlEdge => Some("mcr.microsoft.com/azure-sql-edge:latest"),
            Self::Sqld => None,
        }
    }

    /// The login of the administrator, the only one there is at first.
    #[must_use]
    pub const fn user(self) -> &'static str {
        match self {
            Self::Mssql2022 | Self::Mssql2025 | Self::Mssql2019 | Self::AzureSqlEdge | Self::Sqld => "sa",
        }
    }

    /// The edition that is asked for: one that may be used for development and tests. SQL Server 2025 has split `Developer` in two.
    #[must_use]
    pub const fn edition(self) -> &'static str {
        match self {
            Self::Mssql2022 | Self::Mssql2019 | Self::AzureSqlEdge | Self::Sqld => "Developer",
            Self::Mssql2025 => "EnterpriseDeveloper",
        }
    }

    /// What its process 1 is, by the entry points of the images as published; a run looks for itself.
    #[must_use]
    pub const fn first_process(self) -> FirstProcess {
        match self {
            // 2022 since CU18, and what came after it, starts `launch_sqlservr.sh`, which waits for the server as its child; Edge starts three
            // programs from one `sh -c`.
            Self::Mssql2022 | Self::Mssql2025 | Self::AzureSqlEdge => FirstProcess::Shell,
            Self::Mssql2019 | Self::Sqld => FirstProcess::Watchdog,
        }
    }

    /// How long it may take from its pod's creation to the first answer, its image being there.
    #[must_use]
    pub const fn start_within(self) -> Duration {
        match self {
            // The first start makes the system databases; on a small machine that takes minutes.
            Self::Mssql2022 | Self::Mssql2025 | Self::Mssql2019 | Self::AzureSqlEdge => Duration::from_mins(6),
            Self::Sqld => Duration::from_mins(2),
        }
    }

    /// The variables of its container. The password comes from `secret`.
    #[must_use]
    pub(super) fn environment(self, secret: &str) -> Value {
        let password = |name: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": super::PASSWORD_KEY}}});
        let mut variables = vec![
            json!({"name": "ACCEPT_EULA", "value": "Y"}),
            json!({"name": "MSSQL_PID", "value": self.edition()}),
            password(super::PASSWORD_KEY),
        ];
        match self {
            Self::Mssql2022 | Self::Mssql2025 | Self::Mssql2019 => {}
            // It knows the old name only; its documents say to set both.
            Self::AzureSqlEdge => variables.push(password("SA_PASSWORD")),
            // Its root file system can only be read, and a large sort needs a file.
            Self::Sqld => variables.push(json!({"name": "SQLITE_TMPDIR", "value": DATA})),
        }
        variables.into()
    }

    /// When the pod is ready; see the module.
    #[must_use]
    pub(super) fn readiness(self) -> Value {
        match self {
            Self::Mssql2022 | Self::Mssql2025 | Self::Mssql2019 | Self::AzureSqlEdge => json!({
                "exec": {"command": ["/bin/bash", "-c", LOGS_IN]},
                "periodSeconds": 2,
                "timeoutSeconds": 5,
                // A busy server may be slow once; taking the only one out of the service for that would make the outage that is looked for.
                "failureThreshold": 3,
            }),
            Self::Sqld => json!({"tcpSocket": {"port": PORT}, "periodSeconds": 2, "timeoutSeconds": 1, "failureThreshold": 1}),
        }
    }

    /// What its container may do. The real ones are left as their images want them; ours needs nothing.
    #[must_use]
    pub(super) fn security(self) -> Option<Value> {
        match self {
            Self::Mssql2022 | Self::Mssql2025 | Self::Mssql2019 | Self::AzureSqlEdge => None,
            Self::Sqld => Some(own_security()),
        }
    }

    /// What it asks for in our own shapes. The real ones need 2 GB of memory; the two processors of the guide are only wished for, so that it
    /// fits on a small machine.
    #[must_use]
    pub(super) fn resources(self) -> Value {
        match self {
            Self::Mssql2022 | Self::Mssql2025 | Self::Mssql2019 | Self::AzureSqlEdge => {
                json!({"requests": {"cpu": "500m", "memory": "2G"}, "limits": {"memory": "2G"}})
            }
            Self::Sqld => json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}),
        }
    }

    /// What the guide asks for. The stand-in has no use for it, and two processors are more than a test machine may have left.
    #[must_use]
    pub(super) fn guide_resources(self) -> Option<Value> {
        match self {
            Self::Mssql2022 | Self::Mssql2025 | Self::Mssql2019 | Self::AzureSqlEdge => {
                Some(json!({"requests": {"memory": "2G", "cpu": "2000m"}, "limits": {"memory": "2G", "cpu": "2000m"}}))
            }
            Self::Sqld => None,
        }
    }
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        <Self as ValueEnum>::from_str(text, false)
    }
}

/// The security context of a container of our own image: not root, nothing to write to, no capabilities.
#[must_use]
pub(super) fn own_security() -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// The registry of an image, as a person would name it: `mcr.microsoft.com`, or Docker's own.
#[must_use]
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{EnvVar, Probe, SecurityContext};
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_engine_is_known_by_its_name_everywhere() {
        for engine in Engine::ALL {
            assert_eq!(engine.name().parse(), Ok(engine));
            assert_eq!(serde_json::to_value(engine).unwrap(), engine.name());
            assert_eq!(engine.to_possible_value().unwrap().get_name(), engine.name());
        }
        assert_eq!(Engine::ALL.len(), Engine::value_variants().len());
    }

    #[test]
    fn each_takes_its_edition_and_its_password_from_the_secret() {
        for engine in Engine::ALL {
            let variables: Vec<EnvVar> = serde_json::from_value(engine.environment("mssql")).unwrap();
            let of = |name: &str| variables.iter().find(|variable| variable.name == name);
            assert_eq!(of("MSSQL_PID").unwrap().value.as_deref(), Some(engine.edition()));
            let secret = |name: &str| Some(of(name)?.value_from.as_ref()?.secret_key_ref.as_ref()?.name.clone());
            assert_eq!(secret("MSSQL_SA_PASSWORD").as_deref(), Some("mssql"));
            assert_eq!(secret("SA_PASSWORD").is_some(), engine == Engine::AzureSqlEdge);
        }
    }

    #[test]
    fn the_port_alone_is_never_what_makes_a_real_server_ready() {
        for engine in Engine::ALL {
            let probe: Probe = serde_json::from_value(engine.readiness()).unwrap();
            assert_eq!(probe.tcp_socket.is_some(), engine == Engine::Sqld, "{}", engine.name());
            if let Some(exec) = probe.exec {
                let script = exec.command.unwrap().join(" ");
                assert!(script.contains("-Q") && !script.contains("-P "), "it logs in, and the password is in no argument: {script}");
            }
        }
    }

    #[test]
    fn whoever_deletes_a_pod_gracefully_is_told_when_that_ends_as_a_crash() {
        assert!(Engine::Mssql2022.first_process().caveat().is_some_and(|told| told.contains("ends as a crash")));
        assert_eq!(Engine::Sqld.first_process().caveat(), None);
    }

    #[test]
    fn our_own_container_may_do_nothing() {
        let security: SecurityContext = serde_json::from_value(Engine::Sqld.security().unwrap()).unwrap();
        assert_eq!((security.run_as_non_root, security.read_only_root_filesystem), (Some(true), Some(true)));
        assert_eq!(security.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    }

    #[rstest]
    #[case("mcr.microsoft.com/mssql/server:2022-latest", "mcr.microsoft.com")]
    #[case("localhost/x:1", "localhost")]
    #[case("registry:5000/x", "registry:5000")]
    #[case("kindest/node:v1.37.0", "docker.io")]
    #[case("comeback:0.1.0", "docker.io")]
    fn an_image_names_its_registry(#[case] image: &str, #[case] expected: &str) {
        assert_eq!(registry(image), expected);
    }
}
