//! `comeback run` as its users run it: our own binary, in an empty folder, on the embedded sandbox.
//!
//! What is waited for is an event in the record or a process that is gone, each with a deadline; nothing sleeps and hopes.

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "what the integration tests share is not used whole by each of them")]
mod support;

mod bad_input;
mod cli;
mod defects;
mod false_passes;
mod faults;
mod plan;
mod rights;
mod stop;
mod suite;
mod verdicts;
