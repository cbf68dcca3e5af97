//! What the process is told by its environment: by the container's manifest, and by the kubelet of the sandbox.

use std::{
    env,
    ffi::CStr,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::getppid,
};

use super::Options;

/// The kernel's name of both processes, which is that of SQL Server's.
pub(super) const PROCESS_NAME: &CStr = c"sqlservr";
/// Where SQL Server has its data.
const DATA: &str = "/var/opt/mssql";
/// SQL Server's port.
const PORT: u16 = 1433;
/// The variable that names the process which must be the parent.
pub(crate) const PARENT: &str = "COMEBACK_PARENT";

/// Why the process cannot be what it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SurroundingsError {
    /// The parent is not the one that was announced: it died before this process could ask to die with it.
    #[error("the parent is process {actual}, not {announced} as `{PARENT}` says; it must have died, so this process ends too")]
    Orphaned {
        /// The process that was announced.
        announced: i32,
        /// The process that is the parent now.
        actual: i32,
    },
    /// The kernel refuses.
    #[error("could not {doing}: {source}")]
    Kernel {
        /// What was asked of it.
        doing: &'static str,
        /// Why not.
        source: nix::errno::Errno,
    },
    /// An address cannot be read.
    #[error("`{text}` is not an address to listen on; give an address, a port, or both, such as `127.0.0.1:1433`")]
    Address {
        /// What was given.
        text: String,
    },
}

/// The environment, as far as it matters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    parent: Option<i32>,
    pod_ip: Option<IpAddr>,
    mounts: Vec<(PathBuf, PathBuf)>,
    port: Option<u16>,
    /// Whether the licence of the database that this stands in for is accepted.
    pub(crate) eula_accepted: bool,
    /// The first password of `sa`.
    pub(crate) password: Option<Password>,
    /// The machine's name.
    pub(crate) host: String,
}

/// A password, which never shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password(pub(crate) String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

impl Surroundings {
    /// Reads the environment of this process.
    pub(crate) fn from_environment() -> Self {
        Self::from(|name| env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Self {
        let password = variable("MSSQL_SA_PASSWORD").or_else(|| variable("SA_PASSWORD")).map(Password);
        let host = variable("HOSTNAME")
            .filter(|name| !name.is_empty())
            .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
            .map_or_else(|| "localhost".to_owned(), |name| name.trim().to_owned());
        Self {
            parent: variable(PARENT).and_then(|pid| pid.parse().ok()),
            pod_ip: variable("COMEBACK_POD_IP").and_then(|address| address.parse().ok()),
            mounts: variable("COMEBACK_MOUNTS").map(|text| mounts(&text)).unwrap_or_default(),
            port: variable("MSSQL_TCP_PORT").and_then(|port| port.parse().ok()),
            eula_accepted: variable("ACCEPT_EULA").is_some_and(|answer| matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes" | "1")),
            password,
            host,
        }
    }

    /// Takes this name, and dies with the parent that was announced, if one was.
    pub(crate) fn become_child_of_parent(&self, name: &CStr) -> Result<(), SurroundingsError> {
        let kernel = |doing| move |source| SurroundingsError::Kernel { doing, source };
        prctl::set_name(name).map_err(kernel("set the name of the process"))?;
        let Some(announced) = self.parent else { return Ok(()) };
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(kernel("ask to die with the parent"))?;
        let actual = getppid().as_raw();
        if actual == announced { Ok(()) } else { Err(SurroundingsError::Orphaned { announced, actual }) }
    }

    /// The folder of the data. A path within a mounted one is the folder on the host that is mounted there.
    pub(crate) fn data(&self, options: &Options) -> PathBuf {
        let path = options.data.clone().unwrap_or_else(|| PathBuf::from(DATA));
        self.mounts
            .iter()
            .filter_map(|(mount, host)| Some((mount, host.join(path.strip_prefix(mount).ok()?))))
            .max_by_key(|(mount, _)| mount.components().count())
            .map_or(path.clone(), |(_, host)| trimmed(&host))
    }

    /// The directory of the host that is the volume of the data, if that is mounted.
    pub(crate) fn volume(&self, options: &Options) -> Option<PathBuf> {
        let path = options.data.clone().unwrap_or_else(|| PathBuf::from(DATA));
        let mounts = self.mounts.iter().filter(|(mount, _)| path.starts_with(mount));
        mounts.max_by_key(|(mount, _)| mount.components().count()).map(|(_, host)| host.clone())
    }

    /// The address to listen on. In a pod of the sandbox "every address" means the pod's.
    pub(crate) fn address(&self, options: &Options) -> Result<SocketAddr, SurroundingsError> {
        let port = self.port.unwrap_or(PORT);
        let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let asked = match options.listen.as_deref() {
            None => SocketAddr::new(everywhere, port),
            Some(text) => text
                .parse()
                .or_else(|_| text.parse().map(|address| SocketAddr::new(address, port)))
                .or_else(|_| text.trim_start_matches(':').parse().map(|port| SocketAddr::new(everywhere, port)))
                .map_err(|_| SurroundingsError::Address { text: text.to_owned() })?,
        };
        match self.pod_ip {
            Some(pod_ip) if asked.ip().is_unspecified() => Ok(SocketAddr::new(pod_ip, asked.port())),
            _ => Ok(asked),
        }
    }
}

/// A path without the empty component that joining an empty rest leaves.
fn trimmed(path: &Path) -> PathBuf {
    path.components().collect()
}

/// `<mountPath>=<host dir>`, several with semicolons between.
fn mounts(text: &str) -> Vec<(PathBuf, PathBuf)> {
    text.split(';').filter_map(|mount| mount.split_once('=')).map(|(mount, host)| (PathBuf::from(mount), PathBuf::from(host))).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn with(variables: &[(&str, &str)]) -> Surroundings {
        Surroundings::from(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[rstest]
    #[case::default(&[], None, "0.0.0.0:1433")]
    #[case::pod(&[("COMEBACK_POD_IP", "127.0.9.1")], None, "127.0.9.1:1433")]
    #[case::pod_and_port(&[("COMEBACK_POD_IP", "127.0.9.1")], Some("1500"), "127.0.9.1:1500")]
    #[case::an_address_wins_over_the_pods(&[("COMEBACK_POD_IP", "127.0.9.1")], Some("127.0.0.1:1500"), "127.0.0.1:1500")]
    #[case::address_alone(&[], Some("127.0.0.1"), "127.0.0.1:1433")]
    #[case::port_of_sql_server(&[("MSSQL_TCP_PORT", "1444")], None, "0.0.0.0:1444")]
    fn the_address_is(#[case] variables: &[(&str, &str)], #[case] listen: Option<&str>, #[case] expected: &str) {
        let options = Options { listen: listen.map(ToOwned::to_owned), ..Options::default() };
        assert_eq!(with(variables).address(&options).expect("it can be read").to_string(), expected);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let options = Options { listen: Some("somewhere".to_owned()), ..Options::default() };
        assert!(with(&[]).address(&options).is_err());
    }

    #[rstest]
    #[case::default("", None, "/var/opt/mssql")]
    #[case::mounted("/var/opt/mssql=/host/a", None, "/host/a")]
    #[case::below_a_mount("/var/opt=/host/a", None, "/host/a/mssql")]
    #[case::the_nearest_mount_wins("/var=/host/a;/var/opt/mssql=/host/b", None, "/host/b")]
    #[case::another_path("/var/opt/mssql=/host/a", Some("/data"), "/data")]
    #[case::a_name_that_only_begins_alike("/var/opt/mss=/host/a", None, "/var/opt/mssql")]
    fn the_data_is_in(#[case] mounts: &str, #[case] data: Option<&str>, #[case] expected: &str) {
        let options = Options { data: data.map(PathBuf::from), ..Options::default() };
        assert_eq!(with(&[("COMEBACK_MOUNTS", mounts)]).data(&options), PathBuf::from(expected));
    }

    #[test]
    fn the_password_never_shows() {
        let surroundings = with(&[("MSSQL_SA_PASSWORD", "Passw0rd!"), ("ACCEPT_EULA", "Y")]);
        assert!(surroundings.eula_accepted);
        assert!(!format!("{surroundings:?}").contains("Passw0rd"));
    }
}
