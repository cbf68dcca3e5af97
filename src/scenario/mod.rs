//! What a user writes: the scenario file, as types, and how it is read.
//!
//! This room depends on no other. What a fault *does* is in [`crate::fault`]; here is only what can be said about it in a file.
//!
//! # From text to scenario
//!
//! ```text
//! paths ──suite──▶ text ──yaml──▶ tree with places ──read──▶ Scenario
//!                    └─────────────┴── whatever is wrong ──▶ Diagnostics
//! ```
//!
//! - `types`, `fault` and `duration` are the one definition of what a scenario is. Their doc comments become the JSON Schema ([`schema()`])
//!   and so what an editor shows.
//! - `yaml` makes a tree in which every key and value knows its place. It bounds what a hostile file can cost: size, depth, aliases.
//! - `read` walks the tree into the types, and `read_fault` into the faults, with the tools in `walk`. They stop at nothing: every error of every
//!   file is reported at once.
//! - `diagnostics` shows them with file, line, column, excerpt and a suggestion.
//! - `suite` finds the files, and holds the standard suite, which is embedded in the program.
//!
//! # To add a key
//!
//! 1. The field, with its doc comment and its limits, in `types` (or `fault`).
//! 2. One line in `read`; a key that is not read there is unknown to users.
//! 3. `COMEBACK_BLESS=1 cargo test --test scenarios` rewrites the schema and the golden files. A test compares the schema with the reader.

mod diagnostics;
mod duration;
mod fault;
mod read;
mod read_fault;
mod schema;
mod source;
mod suite;
mod types;
mod walk;
mod yaml;

pub use diagnostics::{Diagnostic, Diagnostics};
pub use duration::HumanDuration;
pub(crate) use fault::for_every_fault;
pub use fault::{
    After, Assist, BreakEndpoints, Controller, CordonNode, CrashNode, Cue, DelayNetwork, DeletePod, DrainNode, EvictPod, ExhaustMemory,
    FailAttach, FaultSpec, FillVolume, FreezeNode, FreezeProcess, Injection, IsolateNode, IsolatePod, KillContainer, KillProcess, Level,
    LossyNetwork, NodeChoice, Percent, RebootNode, ResetConnections, RestartWorkload, ScaleToZero, Signal, SlowVolume, StopApiServer,
    StopController, StopKubelet, TaintEffect, TaintNode, Toll,
};
pub use read::parse;
pub use schema::schema;
pub use suite::{MAX_FILE, ScenarioFile, Suite};
pub use types::{Expect, Limit, Load, MovedTo, Probe, Rate, Scenario, ServiceAddress, TargetShape};
