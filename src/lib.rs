//! `comeback` breaks SQL Server on Kubernetes on purpose and says exactly how it came back: how long clients were without it, and
//! whether every row that was acknowledged is still there.
//!
//! ```text
//! scenario file -> Scenario -> plan -> engine -> events (run.ndjson) -> History -> measures, laws -> RunResult -> reports
//! ```
//!
//! An arrow never turns back. What a user writes ([`scenario`]) depends on nobody. What touches the world is on the left of the events:
//! [`cluster`], [`platform`], [`fault`], [`workload`], [`probe`], [`prober`], driven by [`run`]. What is on the right of them is a pure function:
//! [`measure`] and [`check`] see no clock, no cluster and no database, and [`mod@report`] sees only the [`result`]. So `comeback report` makes
//! the same reports again from the record alone.
//!
//! # A run
//! 1. The scenarios are read, with all their errors at once, and planned: which trials, with which settings.
//! 2. The folder of the run is made and its files are opened, so that a bad path fails in the first second.
//! 3. The [`sandbox`] starts (a Kubernetes of its own, whose pods are processes of this program), and the workload is put up ([`deploy`]): the
//!    stand-in database [`sqld`] behind a service address, on a persistent volume.
//! 4. For each trial: a fresh pod; rows, written and read back; the streams of probes and writers, until all is steady. All SQL goes through a
//!    [`prober`]: a task of the runner, or a pod in the cluster, whose clock is then compared with the runner's.
//! 5. The faults: aim, write the undo to the journal, inject, see the effect.
//! 6. The recovery: the first good write, read back on another connection; then no failure for a while; or the run gives up.
//! 7. Undo, last in first out, each verified.
//! 8. The rows are read from end to end and compared with what the client knows of each write; cluster and server are looked at again.
//! 9. The laws are asked, the evidence is weighed, and the reports are written anew.
//! 10. In the end the sandbox stops. Nothing outlives the run, not even under `kill -9`.

pub mod check;
pub mod cli;
pub mod cluster;
pub mod deploy;
pub mod event;
pub mod fault;
pub mod kind;
pub mod measure;
pub mod platform;
pub mod probe;
pub mod prober;
pub mod report;
pub mod result;
pub mod run;
pub mod sandbox;
pub mod scenario;
pub mod sqld;
pub mod workload;
