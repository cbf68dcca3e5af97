//! The stand-in database, from outside: real processes, real signals, real clients.
//!
//! - [`statements`]: what clients ask and get, through tiberius.
//! - [`lifecycle`]: the tree of processes, how it begins and how it ends.
//! - [`durability`]: what was acknowledged is there after SIGKILL and SIGTERM; writers do not get in each other's way.
//! - [`defects`]: each way of misbehaving is seen.
//! - [`wire`]: what only a client can do that counts its bytes itself.
//! - [`stock_clients`]: `FreeTDS` and pymssql, which know nothing of us.

mod defects;
mod durability;
mod lifecycle;
mod server;
mod statements;
mod stock_clients;
mod wire;
