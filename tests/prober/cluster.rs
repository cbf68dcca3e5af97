//! The prober's pod on a real cluster, which `COMEBACK_TEST_KUBECONFIG` names; `COMEBACK_TEST_IMAGE` is an image of this program that its nodes have.

use std::{env, time::Duration};

use comeback::{
    cluster::{Cluster, Target, connect},
    event::{Answer, Clock, Stream, TABLES},
    prober::{
        Likeness,
        message::OpenTrial,
        noted,
        pod::{ProberPod, Settings, remove_all},
    },
};
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
    config::Kubeconfig,
};
use serde_json::json;

use crate::{
    process::{Record, eventually, load, probe},
    proxy::{Mode, Proxy},
    server::PASSWORD,
};

/// The stand-in database as a bare pod, its service and its secret.
async fn put_up_database(cluster: &Cluster, image: &str) {
    let secret = json!({"metadata": {"name": "mssql"}, "stringData": {"MSSQL_SA_PASSWORD": PASSWORD}});
    let service = json!({"metadata": {"name": "mssql"}, "spec": {"selector": {"app": "mssql"}, "ports": [{"port": 1433}]}});
    let pod = json!({
        "metadata": {"name": "mssql-0", "labels": {"app": "mssql"}},
        "spec": {"containers": [{
            "name": "mssql",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "args": ["sqld", "--data", "/data"],
            "env": [{"name": "ACCEPT_EULA", "value": "Y"}, {"name": "MSSQL_SA_PASSWORD", "value": PASSWORD}],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }], "volumes": [{"name": "data", "emptyDir": {}}]},
    });
    let params = PostParams::default();
    cluster.namespaced::<Secret>().create(&params, &serde_json::from_value(secret).unwrap()).await.unwrap();
    cluster.namespaced::<Service>().create(&params, &serde_json::from_value(service).unwrap()).await.unwrap();
    cluster.namespaced::<Pod>().create(&params, &serde_json::from_value(pod).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster; makes a namespace with a database and probers, and removes it"]
async fn it_probes_from_a_node_of_its_own_and_leaves_nothing() {
    let path = env::var("COMEBACK_TEST_KUBECONFIG").expect("COMEBACK_TEST_KUBECONFIG names a kubeconfig");
    let image = env::var("COMEBACK_TEST_IMAGE").expect("COMEBACK_TEST_IMAGE names an image");
    let namespace = format!("comeback-prober-test-{}", fastrand::u32(..));
    let target = Target { namespace: namespace.clone(), selector: "app=mssql".into(), container: "mssql".into(), service: "mssql".into() };
    // The way to the API server is cut at will, as if it were restarted.
    let mut kubeconfig = Kubeconfig::read_from(path).unwrap();
    let direct = connect(kubeconfig.clone()).await.unwrap();
    let server = kubeconfig.clusters[0].cluster.as_mut().and_then(|cluster| cluster.server.as_mut()).unwrap();
    let address = server.strip_prefix("https://").and_then(|address| address.parse().ok()).expect("the API server is on loopback");
    let proxy = Proxy::start(address, None, 0).await;
    *server = format!("https://{}", proxy.address);
    let client = connect(kubeconfig).await.unwrap();
    let cluster = Cluster::new(client, target);
    let namespaces: Api<Namespace> = Api::all(direct);
    let object = serde_json::from_value(json!({"metadata": {"name": namespace, "labels": {"comeback.dev/chaos": "allowed"}}})).unwrap();
    namespaces.create(&PostParams::default(), &object).await.unwrap();
    // Whatever the test finds, the namespace goes.
    let found = tokio::spawn(async move { probes(&cluster, &image, &proxy).await }).await;
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    found.unwrap();
}

async fn probes(cluster: &Cluster, image: &str, proxy: &Proxy) {
    put_up_database(cluster, image).await;
    let pods = cluster.namespaced::<Pod>();
    for _ in 0..300 {
        if cluster.pod_facts().await.is_ok_and(|pod| pod.ready && pod.node.is_some()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let database = cluster.pod_facts().await.unwrap();
    let service = cluster.service().await.unwrap();
    let settings = Settings {
        run: "cluster-test".into(),
        image: image.to_owned(),
        // The runner is the test.
        likeness: Likeness::Version,
        secret: "mssql".into(),
        target: cluster.target.selector.clone(),
        avoid: Vec::new(),
    };
    let first = ProberPod::put_up(cluster, &settings).await.unwrap();
    assert_ne!(Some(&first.node), database.node.as_ref());
    assert!(!first.is_in_the_way(&database, &[]));
    let pod = first.clone().moved(cluster, vec![first.node.clone()]).await.unwrap();
    assert!(pod.node != first.node && Some(&pod.node) != database.node.as_ref());

    let clock = Clock::new();
    let record = Record::default();
    let (notes, task) = noted(record.taker());
    tokio::spawn(task);
    let prober = pod.connect(cluster, clock, notes);
    let trial = OpenTrial {
        run: "cluster-test".into(),
        number: 1,
        host: service.cluster_ip.clone(),
        port: service.port,
        user: "sa".into(),
        application: "comeback cluster-test".into(),
        load_application: "comeback load cluster-test".into(),
    };
    prober.open(trial).await.unwrap();
    prober.create_tables("m", Duration::from_mins(1)).await.unwrap();
    prober.write_rows_before(&load()).await.unwrap();
    prober.start_streams(&probe(), &load()).await.unwrap();
    for round in 1..=5 {
        record.wait_for(round * 50).await;
        proxy.set(Mode::Shut);
        let before = proxy.accepted();
        eventually("the runner tries to connect", || proxy.accepted() > before).await;
        proxy.set(Mode::Open);
    }
    record.wait_for(300).await;
    prober.stop_streams(Duration::from_secs(15)).await.unwrap();
    let numbers = record.numbers(Stream::WriteNew);
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(prober.settle().await.unwrap(), Answer::Known(()));
    let mut rows = 0;
    for table in TABLES {
        prober
            .read_table(table, |_| {
                rows += 1;
                Ok(())
            })
            .await
            .unwrap();
    }
    assert!(rows >= 2 * (2_000 + numbers.len()), "{rows} rows");
    prober.close_trial().await.unwrap();
    let clocks = record.clocks();
    assert!(clocks.len() == 2 && clocks.iter().all(|(_, clocks)| clocks.bound < Duration::from_millis(100)), "{clocks:?}");
    prober.close().await;

    pod.clone().remove(cluster).await.unwrap();
    // Twice is no error.
    pod.remove(cluster).await.unwrap();
    let left = ProberPod::put_up(cluster, &settings).await.unwrap();
    assert_eq!(remove_all(cluster, Some("another-run")).await.unwrap(), [""; 0]);
    assert_eq!(remove_all(cluster, Some("cluster-test")).await.unwrap(), [left.name]);
    let selector = ListParams::default().labels(comeback::prober::pod::COMPONENT);
    assert!(pods.list(&selector).await.unwrap().items.is_empty());
}
