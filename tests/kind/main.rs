//! On a real Kubernetes, whose nodes are containers on this machine.
//!
//! `up` makes clusters of its own and deletes them. `run` needs one of `comeback cluster up`, whose name is in `COMEBACK_KIND_CLUSTER`, and whose
//! context is in `KUBECONFIG`; `COMEBACK_PROGRAM` is the program that put it up, unless it was the one that is tested. It breaks nodes and services, and leaves
//! them as they were. The others need a cluster that kind made, in the current context of `KUBECONFIG`, and docker: each puts up a namespace of its own and
//! takes it away again; what it breaks it puts right, also when it fails. `COMEBACK_KIND_IMAGE` names an image with bash that the nodes have; without
//! it one of the cluster's own is taken.
//!
//! ```sh
//! export KUBECONFIG=... COMEBACK_KIND_CLUSTER=comeback COMEBACK_PROGRAM=$(which comeback)
//! cargo test --test kind -- --ignored --test-threads=1
//! ```

mod bed;
mod crash;
mod heal;
mod run;
mod signals;
mod there;
mod up;
