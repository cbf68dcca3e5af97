//! What a user writes: the scenario file, as types.
//!
//! This room depends on no other. What a fault *does* is in [`crate::fault`]; here is only what can be said about it in a file.

mod duration;
mod fault;
mod types;

pub use duration::HumanDuration;
pub use fault::{DeletePod, DrainNode, FaultSpec, KillProcess, NodeChoice, Signal};
pub use types::{Expect, Limit, Load, MovedTo, Probe, Rate, Scenario, ServiceAddress};
