//! On a real Kubernetes, whose nodes are containers on this machine.
//!
//! ```sh
//! cargo test --test kind -- --ignored --test-threads=1
//! ```

mod up;
