//! What the reports look like, and that other people's parsers read out of them what was put in.

#[path = "../support/mod.rs"]
mod support;

mod files;
mod formats;
mod make;
mod sample;
