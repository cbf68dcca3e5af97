//! What a run writes down before it breaks something, and what puts it right: on an embedded sandbox, which is a cluster like any other.

mod bed;
mod command;
mod every;
mod heal;
mod journal;
mod lease;
mod trees;
mod warnings;
