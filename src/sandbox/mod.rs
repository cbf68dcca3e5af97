//! The embedded cluster: enough of Kubernetes, in this process, for a database to be broken and to come back.
