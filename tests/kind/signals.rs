//! What is done to the processes of a container, by each way.

use std::time::Duration;

use comeback::{
    event::PodFacts,
    platform::{Container, ContainerName, DEAD_MAN, Hurt, Platform, Way},
    scenario::Signal,
};
use tokio::time::{Instant, sleep};

use crate::bed::{Bed, Shape, image_of_the_nodes, in_bed, refused, shared_binary};

/// How long what goes on by itself may take to do so.
const BY_ITSELF: Duration = Duration::from_mins(3);

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

/// As on a cluster where docker reaches no node.
async fn by_api(bed: &Bed) -> Platform {
    let image = image_of_the_nodes(&bed.cluster, "library/comeback:").await.expect("the image of `comeback cluster up`");
    Platform::by_api(&bed.cluster, Some(&image))
}

#[test]
#[ignore = "needs the cluster of `comeback cluster up`; kills processes in a pod of its own"]
fn what_is_deaf_from_inside_is_reached_by_the_node_helper() {
    in_bed(Shape::Deployment, async |bed| {
        let platform = by_api(bed).await;
        let pod = bed.cluster.pod_facts().await.expect("a pod");
        let way = platform.aim_signal(&container(bed, &pod), "bash").await.expect("there is a way");
        assert!(matches!(way, Way::Node { by: "node helper", .. }), "{way:?}");
        let signalled = platform.signal(&container(bed, &pod), &way, "bash", Signal::Sigkill).await.expect("it is sent");
        assert!(matches!(&signalled[..], [one] if one.comm == "bash" && one.pid > 1), "{signalled:?}");
        let pod = bed.restarted(&pod).await;

        let absent = platform.signal(&container(bed, &pod), &way, "postgres", Signal::Sigkill).await;
        assert!(refused(absent).contains("has ended by itself"), "the way leads to the container that is gone");
    });
}

#[test]
#[ignore = "needs the cluster of `comeback cluster up`; stops processes in a pod of its own"]
fn what_a_node_helper_has_stopped_goes_on_when_it_is_told_to_and_by_itself() {
    in_bed(Shape::Deployment, async |bed| {
        let platform = by_api(bed).await;
        let pod = bed.cluster.pod_facts().await.expect("a pod");
        let target = &bed.cluster.target;
        let container = ContainerName {
            namespace: target.namespace.clone(),
            pod: pod.name.clone(),
            container: target.container.clone(),
            id: pod.container_id.clone().expect("it runs"),
            node: pod.node.clone().expect("it is on a node"),
        };
        let hurt = Hurt::FrozenProcess { container, process: "bash".to_owned() };
        let value = async || platform.look(&hurt).await.expect("it can be looked at")[0].value.clone();
        let freeze = async || platform.begin(&hurt, Duration::from_secs(1)).await.expect("it can be stopped");
        assert_eq!(value().await, "runs");
        freeze().await;
        assert_eq!(value().await, "stopped");
        platform.end(&hurt).await.expect("it can go on");
        assert_eq!(value().await, "runs");

        // Its own time counts, and not what was left of the time before.
        let again = Instant::now();
        freeze().await;
        assert_eq!(value().await, "stopped", "it was stopped again");
        while value().await == "stopped" {
            assert!(again.elapsed() < BY_ITSELF, "it still stands still after {BY_ITSELF:?}");
            sleep(Duration::from_secs(2)).await;
        }
        assert!(again.elapsed() > DEAD_MAN, "after {:?}", again.elapsed());
        assert_eq!(value().await, "runs");
    });
}

#[test]
#[ignore = "needs a kind cluster; takes the memory of a pod of its own"]
fn memory_is_taken_until_the_kernel_kills_the_engine() {
    in_bed(Shape::Deployment, async |bed| {
        let pod = bed.cluster.pod_facts().await.expect("a pod");
        let said = bed.platform.exhaust_memory(&container(bed, &pod)).await.expect("it is taken");
        assert_eq!(said.contains("bash"), shared_binary().is_none(), "{said}");
        let after = bed.restarted(&pod).await;
        let end = after.last_end.as_deref().unwrap_or_default();
        assert!(end.contains("OOMKilled"), "it ended so: {end}");
    });
}
