//! The sandbox, through its API and with real processes: each test has a cluster of its own.

mod api;
mod budget;
mod exec;
mod life;
mod node;
mod program;
mod support;
mod workload;
