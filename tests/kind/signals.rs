//! A signal to a process of a container, by each way.

use comeback::{
    event::PodFacts,
    platform::{Container, Way},
    scenario::Signal,
};

use crate::bed::{Bed, Shape, in_bed, refused, shared_binary};

fn container<'a>(bed: &'a Bed, pod: &'a PodFacts) -> Container<'a> {
    let target = &bed.cluster.target;
    Container {
        namespace: &target.namespace,
        pod: &pod.name,
        container: &target.container,
        id: pod.container_id.as_deref(),
        node: pod.node.as_deref(),
    }
}

#[test]
#[ignore = "needs a kind cluster; kills processes in a pod of its own"]
fn each_process_is_reached_and_what_is_not_there_is_named() {
    in_bed(Shape::Deployment, async |bed| {
        let mut pod = bed.cluster.pod_facts().await.expect("a pod");
        let inside = if shared_binary().is_some() { Way::OwnBinary } else { Way::Bash };
        for (process, from_inside) in [("engine", true), ("watchdog", true), ("bash", false)] {
            let way = bed.platform.aim_signal(&container(bed, &pod), process).await.unwrap_or_else(|error| panic!("{process}: {error}"));
            assert_eq!(way == inside, from_inside, "{process} is reached by {way:?}");
            let signalled = bed.platform.signal(&container(bed, &pod), &way, process, Signal::Sigkill).await;
            let signalled = signalled.unwrap_or_else(|error| panic!("{process}: {error}"));
            // A container that ended before it could tell told nobody.
            assert!(signalled.len() <= 1, "{process}: {signalled:?}");
            pod = bed.restarted(&pod).await;
        }
        let text = refused(bed.platform.aim_signal(&container(bed, &pod), "postgres").await);
        assert!(text.contains("no process `postgres`") && text.contains("sqlservr ("), "{text}");
    });
}
