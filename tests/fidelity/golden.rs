//! What was seen, as text: for each object its transitions, one a line, with all variants that runs showed.
//!
//! ```text
//! [pod 1]
//! seen 5 times
//!   + phase=Running ready=yes ...      it is there, and how
//!   ~ marked=grace-30                  what changed
//!   - gone
//! ```
//!
//! Pods are numbered in the order in which they were first seen, nodes are called by what they are to the scenario. Equal successive states are one.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use crate::{
    recorder::Sight,
    state::{self, NONE, State},
};

/// The transitions of one object.
pub(crate) type Sequence = Vec<String>;

/// The transitions of each object, by its name in the scenario; more than one object may have the same name.
pub(crate) type Told = Vec<(String, Sequence)>;

/// Makes text of what was seen.
pub(crate) fn tell(sights: &[Sight]) -> Told {
    let names = Names::new(sights);
    let mut objects: Vec<Object> = Vec::new();
    let mut places = State::new();
    for sight in sights {
        let uid = state::uid(&sight.object);
        if state::kind(&sight.object) == "EndpointSlice" {
            // Each entry is an object of its own: those of two pods come and go independently of each other.
            let entries = if sight.gone { State::new() } else { state::of(&sight.object, &|uid| names.pod(uid)) };
            for pod in (1..=names.pods.len()).map(|number| format!("pod {number}")) {
                let now = entries.get(&pod).map(|value| State::from([("is".to_owned(), value.clone())]));
                let key = format!("{uid}/{pod}");
                if now.is_some() || objects.iter().any(|one| one.key == key) {
                    Object::find(&mut objects, &key, || format!("endpoint of {pod}")).take(now);
                }
            }
            continue;
        }
        let mut now = (!sight.gone).then(|| {
            let mut now = state::of(&sight.object, &|uid| names.pod(uid));
            for (field, known) in [("uid", &names.uids), ("address", &names.addresses)] {
                if let Some(value) = now.get_mut(field) {
                    *value = known.iter().position(|one| one == value).map_or_else(|| "unknown".to_owned(), |at| (at + 1).to_string());
                }
            }
            now
        });
        // Those that leave and those that come do so independently of each other, too.
        if let Some(leaving) = now.as_mut().and_then(|now| now.remove(state::LEAVING)) {
            let name = || format!("{}, pods that leave", names.of(&sight.object));
            let count = State::from([("count".to_owned(), leaving)]);
            Object::find(&mut objects, &format!("{uid}/leaving"), name).take(Some(count));
        }
        Object::find(&mut objects, uid, || names.of(&sight.object)).take(now);
        if let (Some(node), "Pod") = (sight.object["spec"]["nodeName"].as_str(), state::kind(&sight.object)) {
            places.insert(names.pod(uid).replace(' ', "-"), names.node(node).replace(' ', "-"));
        }
    }
    // A set of an earlier template, which nothing happens to.
    let idle = |one: &Object| one.name == "replica set" && one.lines.len() == 1 && one.lines[0].contains(" wanted=0");
    let keys: Vec<String> = objects.iter().filter(|one| idle(one)).map(|one| one.key.clone()).collect();
    objects.retain(|one| !keys.iter().any(|key| one.key.starts_with(key)));
    let mut told: Told = objects.into_iter().map(|one| (one.name, one.lines)).collect();
    told.push(("places".to_owned(), step(None, &places).into_iter().collect()));
    told.sort_by(|(one, _), (other, _)| one.cmp(other));
    told
}

/// An object, as far as it has been told.
struct Object {
    key: String,
    name: String,
    now: Option<State>,
    lines: Sequence,
}

impl Object {
    fn find<'a>(all: &'a mut Vec<Self>, key: &str, name: impl FnOnce() -> String) -> &'a mut Self {
        let at = all.iter().position(|one| one.key == key).unwrap_or_else(|| {
            all.push(Self { key: key.to_owned(), name: name(), now: None, lines: Sequence::new() });
            all.len() - 1
        });
        &mut all[at]
    }

    /// Takes in how it is now; `None`: it is gone.
    fn take(&mut self, now: Option<State>) {
        match &now {
            Some(now) => self.lines.extend(step(self.now.as_ref(), now)),
            None if self.now.is_some() => self.lines.push("- gone".to_owned()),
            None => {}
        }
        self.now = now;
    }
}

/// The line of a transition; none if nothing changed.
fn step(before: Option<&State>, now: &State) -> Option<String> {
    let Some(before) = before else { return Some(line('+', now.iter().map(|(field, value)| (field.as_str(), value.as_str())))) };
    let of = |state: &State, field: &str| state.get(field).map_or_else(|| NONE.to_owned(), Clone::clone);
    let fields: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let changed: Vec<(&str, String)> =
        fields.into_iter().filter(|field| of(before, field) != of(now, field)).map(|field| (field.as_str(), of(now, field))).collect();
    (!changed.is_empty()).then(|| line('~', changed.iter().map(|(field, value)| (*field, value.as_str()))))
}

fn line<'a>(mark: char, fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    fields.fold(mark.to_string(), |mut line, (field, value)| {
        write!(line, " {field}={value}").expect("a text can be written to");
        line
    })
}

/// What the objects are called.
struct Names {
    pods: Vec<String>,
    home: String,
    uids: Vec<String>,
    addresses: Vec<String>,
}

impl Names {
    fn new(sights: &[Sight]) -> Self {
        let mut names = Self { pods: Vec::new(), home: String::new(), uids: Vec::new(), addresses: Vec::new() };
        let add = |list: &mut Vec<String>, value: &str| {
            if !list.iter().any(|one| one == value) {
                list.push(value.to_owned());
            }
        };
        for Sight { object, .. } in sights {
            match state::kind(object) {
                "Pod" => {
                    add(&mut names.pods, state::uid(object));
                    if names.home.is_empty() {
                        object["spec"]["nodeName"].as_str().unwrap_or_default().clone_into(&mut names.home);
                    }
                }
                "Service" => {
                    add(&mut names.uids, state::uid(object));
                    add(&mut names.addresses, object["spec"]["clusterIP"].as_str().unwrap_or(NONE));
                }
                _ => {}
            }
        }
        names
    }

    fn pod(&self, uid: &str) -> String {
        self.pods.iter().position(|one| one == uid).map_or_else(|| "a stranger".to_owned(), |at| format!("pod {}", at + 1))
    }

    fn node(&self, name: &str) -> &'static str {
        if name == self.home { "home" } else { "another" }
    }

    fn of(&self, object: &serde_json::Value) -> String {
        match state::kind(object) {
            "Pod" => self.pod(state::uid(object)),
            "Node" if object["metadata"]["labels"].get("node-role.kubernetes.io/control-plane").is_some() => {
                "node of the control plane".into()
            }
            "Node" => format!("node {}", self.node(object["metadata"]["name"].as_str().unwrap_or_default())),
            "EndpointSlice" => "endpoints".into(),
            "PersistentVolumeClaim" => "claim".into(),
            "PersistentVolume" => "volume".into(),
            "ReplicaSet" => "replica set".into(),
            "StatefulSet" => "stateful set".into(),
            kind => kind.to_lowercase(),
        }
    }
}

/// What real runs showed: for each object its variants, and how often each was seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Golden {
    /// The versions of Kubernetes.
    pub(crate) kubernetes: Vec<String>,
    /// How many runs were recorded.
    pub(crate) runs: usize,
    pub(crate) objects: BTreeMap<String, Vec<(usize, Sequence)>>,
}

impl Golden {
    fn path(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fidelity/golden").join(format!("{name}.txt"))
    }

    /// What is recorded of this scenario; nothing, if it never was.
    pub(crate) fn read(name: &str) -> Self {
        fs::read_to_string(Self::path(name)).map(|text| Self::parse(&text)).unwrap_or_default()
    }

    pub(crate) fn write(&self, name: &str) {
        let path = Self::path(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("the folder can be made");
        fs::write(path, self.render(name)).expect("the golden file can be written");
    }

    /// Adds a run. What is there stays.
    pub(crate) fn add(&mut self, kubernetes: &str, told: Told) {
        if !self.kubernetes.iter().any(|one| one == kubernetes) {
            self.kubernetes.push(kubernetes.to_owned());
        }
        self.runs += 1;
        for (name, sequence) in told {
            let variants = self.objects.entry(name).or_default();
            match variants.iter_mut().find(|(_, known)| *known == sequence) {
                Some((times, _)) => *times += 1,
                None => variants.push((1, sequence)),
            }
        }
    }

    pub(crate) fn render(&self, name: &str) -> String {
        let mut text = format!(
            "# What the objects went through on a real Kubernetes; `golden.rs` says how to read it, `main.rs` how to record it.\n\
             # scenario: {name}\n# kubernetes: {}\n# recorded runs: {}\n",
            self.kubernetes.join(" "),
            self.runs
        );
        for (name, variants) in &self.objects {
            let mut variants: Vec<_> = variants.iter().collect();
            variants.sort_by(|(one, a), (other, b)| other.cmp(one).then_with(|| a.cmp(b)));
            for (times, sequence) in variants {
                write!(text, "\n[{name}]\nseen {times} times\n").expect("a text can be written to");
                for line in sequence {
                    writeln!(text, "  {line}").expect("a text can be written to");
                }
            }
        }
        text
    }

    pub(crate) fn parse(text: &str) -> Self {
        let mut golden = Self::default();
        let mut name = String::new();
        for line in text.lines() {
            if let Some(versions) = line.strip_prefix("# kubernetes: ") {
                golden.kubernetes = versions.split(' ').map(str::to_owned).collect();
            } else if let Some(runs) = line.strip_prefix("# recorded runs: ") {
                golden.runs = runs.parse().expect("a number of runs");
            } else if let Some(object) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                object.clone_into(&mut name);
            } else if let Some(times) = line.strip_prefix("seen ").and_then(|rest| rest.strip_suffix(" times")) {
                golden.objects.entry(name.clone()).or_default().push((times.parse().expect("a number"), Sequence::new()));
            } else if let Some(step) = line.strip_prefix("  ") {
                let variant = golden.objects.get_mut(&name).and_then(|variants| variants.last_mut());
                variant.expect("a transition belongs to an object").1.push(step.to_owned());
            } else {
                assert!(line.is_empty() || line.starts_with('#'), "this line means nothing: {line}");
            }
        }
        golden
    }

    /// The variants of an object.
    pub(crate) fn variants(&self, object: &str) -> Vec<Sequence> {
        self.objects.get(object).into_iter().flatten().map(|(_, sequence)| sequence.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, phase: &str) -> Sight {
        let object = json!({"kind": "Pod", "metadata": {"uid": uid, "name": uid}, "spec": {"nodeName": "n1"}, "status": {"phase": phase}});
        Sight { gone: false, object }
    }

    #[test]
    fn equal_successive_states_are_one_and_pods_are_numbered() {
        let told = tell(&[
            pod("b", "Pending"),
            pod("b", "Pending"),
            pod("a", "Pending"),
            pod("b", "Running"),
            Sight { gone: true, ..pod("b", "Running") },
        ]);
        let expected = [
            ("places", vec!["+ pod-1=home pod-2=home"]),
            ("pod 1", vec!["+ ip=no node=yes phase=Pending", "~ phase=Running", "- gone"]),
            ("pod 2", vec!["+ ip=no node=yes phase=Pending"]),
        ];
        let expected: Told = expected.map(|(name, lines)| (name.to_owned(), lines.into_iter().map(str::to_owned).collect())).into();
        assert_eq!(told, expected);
    }

    #[test]
    fn a_file_reads_back_and_a_further_run_removes_nothing() {
        let mut golden = Golden::default();
        golden.add("v1.37.2", tell(&[pod("a", "Running")]));
        golden.add("v1.37.2", tell(&[pod("a", "Pending")]));
        golden.add("v1.37.2", tell(&[pod("a", "Pending")]));
        let read = Golden::parse(&golden.render("x"));
        assert_eq!((read.runs, read.variants("pod 1").len()), (3, 2));
        assert_eq!(read.render("x"), golden.render("x"));
    }
}
