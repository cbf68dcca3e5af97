//! A run: the plan, the engine, the record.
//!
//! - [`plan`]: what is going to be done, decided before anything is touched.
//! - [`Recorder`]: the one who orders events and writes them down; what the engine waits for is read from its [`Live`] view.
//! - [`place`]: where it takes place, from beginning to end.
//! - `trial`: the steps of one trial.
//! - `beside`: what goes on beside its recovery.
//! - `undo`: an undo, and what the record says of it.
//! - [`Defect`]: what is made to go wrong on purpose.
//! - [`engine`]: the trials one after the other, the reports after each.

mod beside;
mod defect;
pub mod engine;
mod folder;
pub mod place;
mod plan;
mod recorder;
mod trial;
mod undo;

pub use self::{
    defect::Defect,
    folder::{Folder, FolderError, read_record},
    plan::{plan, skipped},
    recorder::{Feed, Live, RecordError, Recorder},
};
