//! `comeback` breaks SQL Server on Kubernetes on purpose and says exactly how it came back: how long clients were without it, and
//! whether every row that was acknowledged is still there.

pub mod check;
pub mod cli;
pub mod cluster;
pub mod deploy;
pub mod event;
pub mod fault;
pub mod measure;
pub mod platform;
pub mod probe;
pub mod report;
pub mod result;
pub mod run;
pub mod sandbox;
pub mod scenario;
pub mod sqld;
pub mod workload;
