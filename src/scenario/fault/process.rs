//! Faults of a process in the database's container, and of the container.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::Limit;

/// The longest name of a process that a scenario can give.
pub(in crate::scenario) const MAX_PROCESS: usize = 64;

/// What the name of a process looks like: no path, no control character.
pub(in crate::scenario) const PROCESS_PATTERN: &str = r"^[^/\x00-\x1f\x7f-\x9f]+$";

/// Sends a signal to a process in the database's container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KillProcess {
    /// `engine` (the process that serves clients), `watchdog` (its parent), or the name of a process.
    #[schemars(length(min = 1, max = MAX_PROCESS), regex(pattern = PROCESS_PATTERN))]
    pub process: String,
    /// The signal it gets.
    pub signal: Signal,
}

impl Default for KillProcess {
    fn default() -> Self {
        Self { process: "engine".into(), signal: Signal::Sigkill }
    }
}

/// Stops a process in the database's container (`SIGSTOP`), and lets it go on afterwards (`SIGCONT`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FreezeProcess {
    /// `engine` (the process that serves clients), `watchdog` (its parent), or the name of a process.
    #[schemars(length(min = 1, max = MAX_PROCESS), regex(pattern = PROCESS_PATTERN))]
    pub process: String,
    /// How long it lasts. Default: the platform's.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Limit")]
    pub lasts: Option<Limit>,
}

impl Default for FreezeProcess {
    fn default() -> Self {
        Self { process: "engine".into(), lasts: None }
    }
}

/// Kills the first process of the database's container from outside, and so all of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KillContainer {}

/// Takes all the memory that the database's container may have, until the kernel kills it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExhaustMemory {}

/// A signal, as in `man 7 signal`. Only those that end a process: freezing is another fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// Ends the process at once; it cannot be caught.
    Sigkill,
    /// Asks the process to end.
    Sigterm,
    /// As Ctrl-C.
    Sigint,
    /// As Ctrl-\; many programs dump core.
    Sigquit,
    /// As `abort()` sends it.
    Sigabrt,
    /// As an invalid memory access.
    Sigsegv,
}

impl Signal {
    /// Every signal that a scenario may name.
    pub const ALL: [Self; 6] = [Self::Sigkill, Self::Sigterm, Self::Sigint, Self::Sigquit, Self::Sigabrt, Self::Sigsegv];

    /// Its name, as in `man 7 signal`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sigkill => "SIGKILL",
            Self::Sigterm => "SIGTERM",
            Self::Sigint => "SIGINT",
            Self::Sigquit => "SIGQUIT",
            Self::Sigabrt => "SIGABRT",
            Self::Sigsegv => "SIGSEGV",
        }
    }
}
