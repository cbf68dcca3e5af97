//! The rows: what is written, what the client knows of each write, and what is there in the end.
//!
//! - [`rows`](Row): a row is a function of trial, writer and sequence number, so nothing needs to be remembered but ranges of numbers.
//! - [`Server`], [`Session`]: the SQL client. Every call has a deadline, and every error says whether the write may have been applied.
//! - [`Tables`]: the two tables of a trial, one with a primary key and one without, and the mark that tells the volume.
//! - [`load`]: the writers, and the rows that are there before the first fault.
//! - [`settle`]: no session of ours may still be at work when the tables are read.
//! - [`final_read`]: the tables read from end to end, compared on the fly.

pub mod final_read;
pub mod load;
mod port;
mod rows;
mod settle;
mod sql;
mod tables;

pub use self::{
    rows::{Row, TrialKey, hexadecimal},
    settle::settle,
    sql::{Password, Server, Session, SqlError, SqlErrorKind},
    tables::{DATABASE, DELAYED, Tables, drop_earlier},
};
