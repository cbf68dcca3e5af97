//! The prober as a process of its own, behind connections that break.
//!
//! The prober is our own binary, the database is our stand-in, and between runner and prober is a proxy that the test cuts as it likes. What is waited
//! for is an event or a file, each with a deadline.

#[path = "../sqld/server.rs"]
#[expect(dead_code, reason = "the server of a test has more than these tests need")]
mod server;

mod cluster;
mod cuts;
mod hits;
mod process;
mod proxy;
mod refusals;
