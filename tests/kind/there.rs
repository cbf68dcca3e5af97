//! The cluster of `comeback cluster up`, our program at work on it, and what it must look like when nobody is at work.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs::{self, File},
    io::BufRead as _,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::MutexGuard,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::bed;

/// The unit that gives a node a boot id of its own, for the tests that need one.
pub(crate) const BOOT_OF_ITS_OWN: &str = "/etc/systemd/system/boot-of-its-own.service";

/// What faults leave in a node while they last: timers, brakes and the scripts of both, rules, a kubelet that does not run, parts of the control plane put
/// aside, what fills a volume or refuses it.
const LEFT_IN_A_NODE: &str = "systemctl list-units --all --plain --no-legend 'comeback-*' | grep -v comeback-volumes
    ls -d /run/comeback-*.bash 2>/dev/null
    iptables -S | grep -- '-N COMEBACK-'
    tc qdisc | grep netem
    systemctl is-active --quiet kubelet || echo 'the kubelet does not run'
    ls /etc/kubernetes/comeback 2>/dev/null
    ls /etc/systemd/system/boot-of-its-own.service 2>/dev/null
    for image in /var/comeback/*/*.img; do
        [[ ! -f $image ]] || mountpoint --quiet \"${image%.img}\" || echo \"$image is not mounted\"
    done
    ls -d /var/comeback/*/*/.comeback-* /var/comeback/*/*/data.refused 2>/dev/null
    true";

/// The longest that the built-in suite may take on a busy machine.
pub(crate) const SUITE_WITHIN: Duration = Duration::from_mins(40);
/// The longest that a run of one or two trials may take.
pub(crate) const RUN_WITHIN: Duration = Duration::from_mins(10);
/// The longest that an event of a run may be waited for.
const EVENT_WITHIN: Duration = Duration::from_mins(5);
/// The longest that healing may take: the lease of a dead run is watched, a node is started, its pods end.
const HEAL_WITHIN: Duration = Duration::from_mins(6);
/// How long a node may take to be Ready after it was started.
const READY_WITHIN: Duration = Duration::from_mins(3);
/// How long what is asked of docker or of the API server may take until it is answered.
const ANSWER_WITHIN: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(50);

/// The cluster that `COMEBACK_KIND_CLUSTER` names. When a test ends, and also when it fails, what it broke is put right.
pub(crate) struct There {
    name: String,
    folder: tempfile::TempDir,
    /// Who we are towards the cluster, if not who put it up.
    kubeconfig: Option<PathBuf>,
    _alone: MutexGuard<'static, ()>,
}

/// A run that goes on, or has ended.
pub(crate) struct Running {
    child: Child,
    folder: PathBuf,
}

/// A run that has ended.
pub(crate) struct Ran {
    folder: PathBuf,
    status: ExitStatus,
}

fn what_is_left_in(node: &str) -> String {
    match There::try_docker(&["exec", node, "bash", "-c", LEFT_IN_A_NODE]) {
        Some(left) if left.is_empty() => String::new(),
        Some(left) => format!("in node {node}: {left}; "),
        None => format!("nothing can be asked of node {node}; "),
    }
}

impl There {
    /// # Panics
    /// If no cluster is named, or if it is not whole to begin with.
    pub(crate) fn new() -> Self {
        let alone = bed::alone();
        let name = env::var("COMEBACK_KIND_CLUSTER").expect("COMEBACK_KIND_CLUSTER is the name of a cluster of `comeback cluster up`");
        let there = Self { name, folder: tempfile::tempdir().expect("a folder"), kubeconfig: None, _alone: alone };
        there.is_whole();
        there
    }

    fn context(&self) -> String {
        format!("kind-{}", self.name)
    }

    pub(crate) fn control_plane(&self) -> String {
        format!("{}-control-plane", self.name)
    }

    fn program(&self, args: &[&str], out: &str) -> Running {
        let folder = self.folder.path().join(out);
        fs::create_dir_all(&folder).expect("a folder");
        let stream = |name: &str| File::create(folder.join(name)).expect("a file for a stream");
        // The program that put the database up: its prober takes no other build.
        let program = env::var_os("COMEBACK_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_comeback").into());
        let mut command = Command::new(program);
        // From a folder without scenarios: what it needs is in it.
        command.args(args).current_dir(&folder).stdin(Stdio::null()).stdout(stream("stdout")).stderr(stream("stderr"));
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        Running { child: command.spawn().expect("start comeback"), folder }
    }

    /// From here on our program is an account of its own, which may do everything with what is in a namespace, and of the nodes and volumes only read.
    pub(crate) fn become_one_who_may_not_change_nodes(&mut self) {
        const ACCOUNT: &str = "reader-of-nodes";
        let namespaced = "*.apps,*.policy,*.coordination.k8s.io,*.discovery.k8s.io,pods,pods/exec,pods/portforward,pods/log,pods/eviction,services,endpoints,\
                          secrets,configmaps,events,persistentvolumeclaims";
        let read = "nodes,namespaces,persistentvolumes";
        let account = format!("comeback:{ACCOUNT}");
        for (name, verbs, resources) in [("own", "*", namespaced), ("read", "get,list,watch", read)] {
            let role = format!("{ACCOUNT}-{name}");
            let (verb, resource, of) = (format!("--verb={verbs}"), format!("--resource={resources}"), format!("--clusterrole={role}"));
            self.kubectl(&["create", "clusterrole", &role, &verb, &resource]);
            self.kubectl(&["create", "clusterrolebinding", &role, &of, "--serviceaccount", &account]);
        }
        self.kubectl(&["create", "serviceaccount", ACCOUNT, "--namespace", "comeback"]);
        let token = self.kubectl(&["create", "token", ACCOUNT, "--namespace", "comeback"]);
        let text =
            fs::read_to_string(env::var_os("KUBECONFIG").expect("KUBECONFIG names the cluster")).expect("the kubeconfig can be read");
        let mut config: Value = serde_saphyr::from_str(&text).expect("the kubeconfig is YAML");
        for user in config["users"].as_array_mut().expect("users") {
            user["user"] = json!({"token": token});
        }
        let path = self.folder.path().join("kubeconfig");
        fs::write(&path, config.to_string()).expect("a file can be written");
        self.kubeconfig = Some(path);
    }

    /// The account goes.
    pub(crate) fn become_ourselves_again(&mut self) {
        self.kubeconfig = None;
        self.kubectl(&["delete", "serviceaccount", "reader-of-nodes", "--namespace", "comeback", "--ignore-not-found"]);
        for kind in ["clusterrolebinding", "clusterrole"] {
            self.kubectl(&["delete", kind, "reader-of-nodes-own", "reader-of-nodes-read", "--ignore-not-found"]);
        }
    }

    /// Starts a run of these scenarios, or of those that are built in.
    pub(crate) fn start(&self, scenarios: &[&str]) -> Running {
        self.start_with(&[], scenarios)
    }

    /// The same, with further arguments.
    pub(crate) fn start_with(&self, further: &[&str], scenarios: &[&str]) -> Running {
        let mut paths = Vec::new();
        for (number, text) in scenarios.iter().enumerate() {
            let path = self.folder.path().join(format!("{number}.yaml"));
            fs::write(&path, text).expect("write a scenario");
            paths.push(path.to_str().expect("a path").to_owned());
        }
        let context = self.context();
        let head = ["run", "--on", &context];
        let args: Vec<&str> = head.iter().chain(further).copied().chain(paths.iter().map(String::as_str)).collect();
        self.program(&args, "run")
    }

    /// Puts right what a run left; returns what it says.
    #[track_caller]
    pub(crate) fn heal(&self) -> String {
        self.heal_with(&[])
    }

    /// The same, with further arguments.
    #[track_caller]
    pub(crate) fn heal_with(&self, further: &[&str]) -> String {
        let context = self.context();
        let args: Vec<&str> = ["heal", "--on", &context].iter().chain(further).copied().collect();
        let ran = self.program(&args, "heal").wait(HEAL_WITHIN).ended_with(0);
        fs::read_to_string(ran.folder.join("stdout")).expect("what it said")
    }

    /// The same for one that has stopped the API server, which comes back by itself: until then nobody can heal.
    #[track_caller]
    pub(crate) fn heal_as_soon_as_possible(&self) -> String {
        until("a cluster that can be healed", HEAL_WITHIN, || {
            let ran = self.program(&["heal", "--on", &self.context()], "heal").wait(HEAL_WITHIN);
            ran.status.success().then(|| fs::read_to_string(ran.folder.join("stdout")).expect("what it said"))
        })
    }

    /// Asks docker; `None`: it refused.
    pub(crate) fn try_docker(args: &[&str]) -> Option<String> {
        let output = Command::new("docker").args(args).stdin(Stdio::null()).output().expect("start docker");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    #[track_caller]
    pub(crate) fn docker(args: &[&str]) -> String {
        until(&format!("an answer to docker {args:?}"), ANSWER_WITHIN, || Self::try_docker(args))
    }

    /// Asks the cluster, again while its API server does not answer.
    #[track_caller]
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        let node = self.control_plane();
        let kubectl = ["exec", &node, "kubectl", "--kubeconfig", "/etc/kubernetes/admin.conf", "--request-timeout", "20s"];
        Self::docker(&[&kubectl, args].concat())
    }

    #[track_caller]
    pub(crate) fn list(&self, args: &[&str]) -> Vec<Value> {
        let text = self.kubectl(&[&["get", "-o", "json"], args].concat());
        let mut list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
        serde_json::from_value(list["items"].take()).expect("a list")
    }

    /// The node of the prober's pod, if there is one.
    pub(crate) fn probers(&self) -> Vec<Value> {
        self.list(&["pods", "--all-namespaces", "--selector", "app.kubernetes.io/component=prober"])
    }

    /// Every node is Ready and schedulable, and nothing of a run is left.
    ///
    /// # Panics
    /// If it does not come to that in time.
    #[track_caller]
    pub(crate) fn is_whole(&self) {
        let mut wrong = String::new();
        let whole = within(READY_WITHIN, || {
            wrong = self.what_is_wrong();
            wrong.is_empty().then_some(())
        });
        assert!(whole.is_some(), "the cluster is not as it should be after {READY_WITHIN:?}: {wrong}");
    }

    fn what_is_wrong(&self) -> String {
        let mut wrong = String::new();
        let nodes = self.list(&["nodes"]);
        let containers = self.containers();
        if nodes.len() != containers.len() {
            let _ = write!(wrong, "{} nodes in {} containers; ", nodes.len(), containers.len());
        }
        for node in &nodes {
            let name = &node["metadata"]["name"];
            let ready = node["status"]["conditions"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
            if !ready {
                let _ = write!(wrong, "node {name} is not Ready; ");
            }
            if node["spec"]["unschedulable"] == true {
                let _ = write!(wrong, "node {name} is cordoned; ");
            }
            let taints = node["spec"]["taints"].as_array().into_iter().flatten();
            for taint in taints.filter(|taint| taint["key"] != "node-role.kubernetes.io/control-plane") {
                let _ = write!(wrong, "node {name} has the taint {}; ", taint["key"]);
            }
        }
        for service in self.list(&["services", "--namespace", "comeback"]) {
            let (name, selector) = (&service["metadata"]["name"], &service["spec"]["selector"]);
            if *selector != json!({"app": name}) {
                let _ = write!(wrong, "service {name} selects {selector}; ");
            }
        }
        let running: u64 = self
            .list(&["deployments,statefulsets", "--namespace", "comeback"])
            .iter()
            .filter_map(|workload| workload["spec"]["replicas"].as_u64())
            .sum();
        if running != 1 {
            let _ = write!(wrong, "{running} databases are wanted; ");
        }
        for container in containers {
            wrong.push_str(&what_is_left_in(&container));
        }
        for pod in self.list(&["pods", "--all-namespaces", "--selector", "app.kubernetes.io/component in (prober,knock,node-helper)"]) {
            let _ = write!(wrong, "pod {} is there; ", pod["metadata"]["name"]);
        }
        for map in self.list(&["configmaps", "--all-namespaces", "--selector", "comeback.dev/journal"]) {
            let _ = write!(wrong, "journal {} is there; ", map["metadata"]["name"]);
        }
        wrong
    }

    pub(crate) fn workers(&self) -> Vec<String> {
        let control_plane = self.control_plane();
        self.containers().into_iter().filter(|name| *name != control_plane).collect()
    }

    /// The nodes' containers, also those that do not run.
    fn containers(&self) -> Vec<String> {
        let filter = format!("label=io.x-k8s.kind.cluster={}", self.name);
        Self::docker(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]).lines().map(str::to_owned).collect()
    }

    /// After a failure: switches every node on, heals what a run has left, and does the rest. None of it may hide the failure.
    pub(crate) fn put_right(&self, rest: impl FnOnce()) {
        let putting_right = AssertUnwindSafe(|| {
            for container in self.containers() {
                Self::try_docker(&["start", &container]);
            }
            let context = self.context();
            let mut healing = self.program(&["heal", "--on", &context], "last-heal");
            let _ = within(HEAL_WITHIN, || healing.child.try_wait().ok().flatten());
            rest();
        });
        let _ = std::panic::catch_unwind(putting_right);
    }
}

impl Drop for There {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.put_right(|| {});
        }
    }
}

impl Running {
    fn is_over(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("ask after the run")
    }

    /// Waits for an event of this kind in the record, which `wanted` takes; returns it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let what = format!("an event `{kind}`");
        let found = within(EVENT_WITHIN, || {
            let over = self.is_over();
            let found =
                events_with(&self.folder, kind).into_iter().find_map(|(one, event)| (one == kind && wanted(&event)).then_some(event));
            found.map(Ok).or_else(|| over.map(Err))
        });
        match found {
            Some(Ok(event)) => event,
            Some(Err(status)) => panic!("the run ended ({status}) before {what}\n{}", tell(&self.folder)),
            None => panic!("{what} did not come within {EVENT_WITHIN:?}\n{}", tell(&self.folder)),
        }
    }

    /// The events so far.
    pub(crate) fn events(&self) -> Vec<(String, Value)> {
        events(&self.folder)
    }

    /// What can be said of it when a test fails.
    pub(crate) fn tell(&self) -> String {
        tell(&self.folder)
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill the run");
        self.child.wait().expect("the run is gone");
    }

    #[track_caller]
    pub(crate) fn wait(mut self, deadline: Duration) -> Ran {
        let Some(status) = within(deadline, || self.is_over()) else {
            panic!("it did not end within {deadline:?}\n{}", tell(&self.folder));
        };
        Ran { folder: self.folder.clone(), status }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that fails must not leave its run behind; what the run has broken is healed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}", self.tell());
        self
    }

    pub(crate) fn tell(&self) -> String {
        tell(&self.folder)
    }

    /// `result.json`.
    #[track_caller]
    pub(crate) fn result(&self) -> Value {
        let text = reports(&self.folder).and_then(|folder| fs::read_to_string(folder.join("result.json")).ok());
        serde_json::from_str(&text.unwrap_or_else(|| panic!("there is no result\n{}", self.tell()))).expect("result.json is JSON")
    }

    #[track_caller]
    pub(crate) fn trials(&self) -> Vec<Value> {
        self.result()["trials"].as_array().expect("trials").clone()
    }

    pub(crate) fn events(&self) -> Vec<(String, Value)> {
        events(&self.folder)
    }

    /// The numbers of the attempts of a trial, of each stream: 0, 1, 2, ..., each once, in whatever order they came. Returns how many there are.
    #[track_caller]
    pub(crate) fn no_attempt_is_lost_or_doubled(&self, trial: u64) -> BTreeMap<String, u64> {
        let numbers = attempts(&self.events(), trial);
        assert_eq!(numbers.keys().collect::<Vec<_>>(), ["control", "write-new"], "{}", self.tell());
        for (stream, numbers) in &numbers {
            for (expected, number) in (0..).zip(numbers) {
                assert_eq!(
                    expected,
                    *number,
                    "stream `{stream}`: attempt {} is in the record twice, or attempt {expected} is not\n{}",
                    number,
                    self.tell()
                );
            }
        }
        numbers.into_iter().map(|(stream, numbers)| (stream, numbers.len() as u64)).collect()
    }
}

/// The numbers of the attempts of a trial, sorted, of each stream.
pub(crate) fn attempts(events: &[(String, Value)], trial: u64) -> BTreeMap<String, Vec<u64>> {
    let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (_, event) in events.iter().filter(|(kind, event)| kind == "attempt" && event["trial"] == trial) {
        let attempt = &event["event"]["attempt"];
        let stream = attempt["stream"].as_str().expect("an attempt has a stream").to_owned();
        numbers.entry(stream).or_default().push(attempt["number"].as_u64().expect("an attempt has a number"));
    }
    for numbers in numbers.values_mut() {
        numbers.sort_unstable();
    }
    numbers
}

/// The folder that the run has made for what it finds.
fn reports(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder.join("reports")).ok()?.next()?.ok().map(|entry| entry.path())
}

/// The events of the record, each with its kind. A last line that is still being written is passed over.
fn events(folder: &Path) -> Vec<(String, Value)> {
    events_with(folder, "")
}

/// Those whose line holds this text: the record is long, and is looked at often.
fn events_with(folder: &Path, text: &str) -> Vec<(String, Value)> {
    let Some(file) = reports(folder).and_then(|folder| File::open(folder.join("run.ndjson")).ok()) else { return Vec::new() };
    let lines = std::io::BufReader::new(file).lines().map_while(Result::ok);
    lines
        .filter(|line| line.contains(text))
        .filter_map(|line| {
            let event: Value = serde_json::from_str(&line).ok()?;
            let kind = match &event["event"] {
                Value::String(name) => name.clone(),
                Value::Object(one) => one.keys().next()?.clone(),
                _ => return None,
            };
            Some((kind, event))
        })
        .collect()
}

/// The streams of the run, its summary, and the last of what it recorded beside the attempts.
fn tell(folder: &Path) -> String {
    const LAST: usize = 25;
    let mut text = String::new();
    let summary = reports(folder).map(|folder| folder.join("summary.md"));
    for path in [Some(folder.join("stdout")), Some(folder.join("stderr")), summary].into_iter().flatten() {
        let _ = writeln!(text, "--- {}\n{}", path.display(), fs::read_to_string(&path).unwrap_or_default());
    }
    let events: Vec<_> = events(folder).into_iter().filter(|(kind, _)| !["attempt", "ledger"].contains(&kind.as_str())).collect();
    let _ = writeln!(text, "--- the last events");
    for (_, event) in &events[events.len().saturating_sub(LAST)..] {
        let _ = writeln!(text, "{event}");
    }
    text
}

#[track_caller]
pub(crate) fn until<T>(what: &str, deadline: Duration, look: impl FnMut() -> Option<T>) -> T {
    within(deadline, look).unwrap_or_else(|| panic!("{what} did not come within {deadline:?}"))
}

/// Looks until there is something, or the deadline has passed.
fn within<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > end {
            return None;
        }
        sleep(POLL);
    }
}
