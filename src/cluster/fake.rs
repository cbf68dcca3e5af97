//! An API server of a few answers, for unit tests.

use axum::Router;
use serde_json::json;
use tokio::net::TcpListener;

use super::{Cluster, Target, connect};

/// A cluster whose API server is this router, on the loopback.
pub(crate) async fn cluster(router: Router) -> Cluster {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "fake", "user": {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
    });
    let client = connect(serde_json::from_value(kubeconfig).unwrap()).await.unwrap();
    let target = Target { namespace: "db".into(), selector: "app=mssql".into(), container: "mssql".into(), service: "mssql".into() };
    Cluster::new(client, target)
}
