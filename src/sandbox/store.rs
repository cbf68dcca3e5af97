//! The one place where the sandbox's objects are.
//!
//! What etcd and the API server's registry are to a real cluster: every write gets the next version from one counter, is checked and completed by
//! [`admission`](super::admission), and is remembered so that watches can be told of it. Nothing waits in here: a write is done when the call
//! returns, and everybody who watches is woken.
//!
//! The law: *readers never see an object that a watch from an earlier version will not also be told of.* The history and the objects change under one
//! lock.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::Utc;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    admission,
    clock::Speed,
    kinds::Kind,
    network::Network,
    object::{self, Look},
    refusal::Refusal,
};

/// How many changes of each kind are remembered, so that a kind that changes all the time (leases) drives out no other. A watch from further back is
/// told to list again.
const HISTORY: usize = 4096;
/// How many events are kept; the oldest go first. A real cluster keeps an hour of them.
const EVENTS: usize = 2048;

/// The name of an object: its kind, namespace (empty if it has none) and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// What kind of object.
    pub(crate) kind: Kind,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name there.
    pub(crate) name: String,
}

impl Key {
    /// The name of an object.
    pub(crate) fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The name of that object.
    pub(crate) fn of(kind: Kind, object: &Value) -> Self {
        Self::new(kind, object.namespace(), object.name())
    }
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// It is new.
    Added,
    /// It changed.
    Modified,
    /// It is gone; the change carries its last state.
    Deleted,
}

/// One change, as watches are told of it.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// Its version.
    pub(crate) version: u64,
    /// The kind of the object.
    pub(crate) kind: Kind,
    /// What became of it.
    pub(crate) what: What,
    /// The object after the change.
    pub(crate) object: Arc<Value>,
    /// The object before it.
    pub(crate) previous: Option<Arc<Value>>,
}

/// Which part of an object an update is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    /// The status only.
    Status,
    /// All of it: only from inside the sandbox.
    Whole,
}

/// How an object is to be deleted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deletion {
    /// Seconds; `None` is the object's own.
    pub(crate) grace: Option<i64>,
    /// Only if the object still has this uid.
    pub(crate) uid: Option<String>,
    /// Only if the object still has this version.
    pub(crate) version: Option<String>,
    /// What becomes of what it owns.
    pub(crate) dependents: Dependents,
    /// Check only.
    pub(crate) dry_run: bool,
}

/// What becomes of the objects that a deleted one owns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Dependents {
    /// They go afterwards.
    #[default]
    Background,
    /// They go first.
    Foreground,
    /// They stay.
    Orphan,
}

/// What a deletion came to.
#[derive(Debug, Clone)]
pub(crate) enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Arc<Value>),
    /// The object is on its way out.
    Going(Arc<Value>),
}

/// The objects, their history, and who is to be woken.
#[derive(Debug)]
pub(crate) struct Store {
    inner: Mutex<Inner>,
    latest: watch::Sender<u64>,
    network: Arc<Network>,
    speed: Speed,
}

#[derive(Debug, Default)]
struct Inner {
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    /// What is remembered of each kind, oldest first.
    history: BTreeMap<Kind, VecDeque<Change>>,
    /// The newest change of each kind that was forgotten.
    forgotten: BTreeMap<Kind, u64>,
    latest_of: BTreeMap<Kind, u64>,
    /// The events by version: the first is the one that was told longest ago.
    events: BTreeMap<u64, Key>,
    /// The events by what they tell.
    tellings: BTreeMap<Telling, Key>,
}

/// What an event tells: the uid and the field that it is about, its reason, its message.
type Telling = [String; 4];

fn telling(event: &Value) -> Telling {
    ["/involvedObject/uid", "/involvedObject/fieldPath", "/reason", "/message"].map(|at| event.text(at).to_owned())
}

impl Store {
    /// An empty store that takes service addresses from `network`.
    pub(crate) fn new(network: Arc<Network>, speed: Speed) -> Self {
        Self { inner: Mutex::default(), latest: watch::Sender::new(0), network, speed }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every write to what the lock guards is made in `record`, which does not fail half-way: a request that panics is one request lost, and not
        // the cluster.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version of the newest change.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    /// One object.
    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.lock().objects.get(&Key::new(kind, namespace, name)).cloned()
    }

    /// All objects of a kind, in one namespace or in all, by name; and the version that this is the state of.
    pub(crate) fn list_with_version(&self, kind: Kind, namespace: Option<&str>) -> (Vec<Arc<Value>>, u64) {
        let inner = self.lock();
        let from = Key::new(kind, namespace.unwrap_or_default(), "");
        let objects = inner
            .objects
            .range(from..)
            .take_while(|(key, _)| key.kind == kind && namespace.is_none_or(|namespace| key.namespace == namespace))
            .map(|(_, object)| object.clone())
            .collect();
        (objects, inner.version)
    }

    /// All objects of a kind, in one namespace or in all, by name.
    pub(crate) fn list(&self, kind: Kind, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.list_with_version(kind, namespace).0
    }

    /// The event that tells this of the object with that uid, or of a field of it.
    pub(crate) fn event(&self, uid: &str, field: &str, reason: &str, message: &str) -> Option<Arc<Value>> {
        let inner = self.lock();
        let key = inner.tellings.get(&[uid, field, reason, message].map(str::to_owned))?;
        inner.objects.get(key).cloned()
    }

    /// The changes of a kind after `version`, oldest first; and the version that this is the state of.
    ///
    /// # Errors
    /// 410 if some of them are forgotten.
    pub(crate) fn changes_after(&self, kind: Kind, version: u64) -> Result<(Vec<Change>, u64), Refusal> {
        let inner = self.lock();
        let forgotten = inner.forgotten.get(&kind).copied().unwrap_or_default();
        if version < forgotten {
            return Err(Refusal::expired(version, forgotten + 1));
        }
        let changes = inner.history.get(&kind).map(|history| {
            let from = history.partition_point(|change| change.version <= version);
            history.range(from..).cloned().collect()
        });
        Ok((changes.unwrap_or_default(), inner.version))
    }

    /// Tells whoever holds it that something changed; ask [`changes_after`](Self::changes_after) what.
    pub(crate) fn latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// A wait for changes of these kinds, beginning now: the first wait is for the next change.
    pub(crate) fn follow(self: &Arc<Self>, kinds: &'static [Kind]) -> Follow {
        // The receiver first: a change between the two is seen twice rather than not at all.
        let latest = self.latest();
        Follow { store: self.clone(), seen: self.version(), latest, kinds }
    }

    /// Makes an object.
    pub(crate) fn create(&self, kind: Kind, object: Value, dry_run: bool) -> Result<Arc<Value>, Refusal> {
        let mut object = object;
        let mut inner = self.lock();
        if kind.facts().namespaced {
            let namespace = object.namespace();
            match inner.objects.get(&Key::new(Kind::Namespace, "", namespace)) {
                None => return Err(Refusal::not_found(Kind::Namespace, namespace)),
                Some(found) if found.is_terminating() => {
                    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
                    return Err(Refusal::forbidden(kind, object.name(), &why));
                }
                Some(_) => {}
            }
        }
        if object.name().is_empty() && object.has("/metadata/generateName") {
            let prefix = object.text("/metadata/generateName").to_owned();
            let name = std::iter::repeat_with(|| format!("{prefix}{}", random_suffix(5)))
                .find(|name| !inner.objects.contains_key(&Key::new(kind, object.namespace(), name)))
                .expect("an endless supply of names has a free one");
            object::set(&mut object, "/metadata/name", name);
        }
        let key = Key::of(kind, &object);
        if inner.objects.contains_key(&key) {
            return Err(Refusal::already_exists(kind, &key.name));
        }
        admission::complete(kind, &mut object);
        admission::check(kind, &object)?;
        if kind == Kind::PersistentVolumeClaim {
            object::list_mut(&mut object, "/metadata/finalizers").push(CLAIM_PROTECTION.into());
            if !object.has("/spec/storageClassName")
                && let Some(class) = default_class(&inner)
            {
                object::set(&mut object, "/spec/storageClassName", class);
            }
        }
        self.assign_address(kind, &mut object, dry_run)?;
        object::set(&mut object, "/metadata/uid", uuid::Uuid::new_v4().to_string());
        object::set(&mut object, "/metadata/creationTimestamp", object::now());
        for field in
            ["/metadata/deletionTimestamp", "/metadata/deletionGracePeriodSeconds", "/metadata/managedFields", "/metadata/selfLink"]
        {
            object::remove(&mut object, field);
        }
        if kind == Kind::Namespace {
            // What is in the namespace goes first; its sweeper takes this off.
            object::set(&mut object, "/spec/finalizers", json!([NAMESPACE_CONTENT]));
        } else if object.has("/spec") {
            object::set(&mut object, "/metadata/generation", 1);
        }
        if dry_run {
            return Ok(Arc::new(object));
        }
        let made = self.record(&mut inner, key, What::Added, object);
        if kind == Kind::Event {
            self.forget_old_events(&mut inner);
        }
        Ok(made)
    }

    fn assign_address(&self, kind: Kind, object: &mut Value, dry_run: bool) -> Result<(), Refusal> {
        if kind != Kind::Service || object.text("/spec/type") == "ExternalName" {
            return Ok(());
        }
        let wanted = object.text("/spec/clusterIP").to_owned();
        let invalid = |why: &str| {
            let cause = super::refusal::Cause::invalid("spec.clusterIPs", &json!([wanted]), why);
            Refusal::invalid(kind, object.name(), &[cause])
        };
        let address = if wanted.is_empty() {
            if dry_run {
                return Ok(());
            }
            let Some(address) = self.network.take_service() else {
                return Err(Refusal::internal("failed to allocate a serviceIP: range is full"));
            };
            address
        } else {
            let address =
                wanted.parse().map_err(|_| invalid("must be a valid IP address; headless services are not supported by the sandbox"))?;
            if !dry_run && !self.network.take_this_service(address) {
                return Err(invalid("failed to allocate IP: it is taken, or not in the range of services"));
            }
            address
        };
        object::set(object, "/spec/clusterIP", address.to_string());
        object::set(object, "/spec/clusterIPs", json!([address.to_string()]));
        if object.text("/spec/type") == "LoadBalancer" {
            // Clients are on this machine, so the service address is as good as one from outside.
            object::set(object, "/status/loadBalancer/ingress", json!([{ "ip": address.to_string(), "ipMode": "VIP" }]));
        }
        Ok(())
    }

    /// Changes an object. `change` sees it as it is now and may refuse; what a client cannot change is put back afterwards.
    ///
    /// # Errors
    /// 404; 409 if what `change` left carries another version or uid than the object has; 422 if it is not valid.
    pub(crate) fn update(
        &self,
        key: &Key,
        part: Part,
        dry_run: bool,
        change: impl FnOnce(&mut Value) -> Result<(), Refusal>,
    ) -> Result<Arc<Value>, Refusal> {
        let mut inner = self.lock();
        let old = inner.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(key.kind, &key.name))?;
        let mut new = (*old).clone();
        change(&mut new)?;
        if new.text("/metadata/name") != key.name && new.has("/metadata/name") {
            let why = format!("the name of the object ({}) does not match the name on the URL ({})", new.name(), key.name);
            return Err(Refusal::bad_request(why));
        }
        let is_old = |field: &str| !new.has(field) || new.text(field).is_empty() || new.text(field) == old.text(field);
        if !is_old("/metadata/resourceVersion") {
            let why = "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Refusal::conflict(key.kind, &key.name, why));
        }
        if !is_old("/metadata/uid") {
            let why = format!("Precondition failed: UID in precondition: {}, UID in object meta: {}", new.uid(), old.uid());
            return Err(Refusal::conflict(key.kind, &key.name, &why));
        }
        let mut new = of_part(key.kind, part, &old, new);
        keep_system_fields(&old, &mut new);
        admission::complete(key.kind, &mut new);
        if part != Part::Status {
            admission::check(key.kind, &new)?;
        }
        if part == Part::Main {
            admission::check_update(key.kind, &old, &new)?;
        }
        if new.get("spec") != old.get("spec") && old.has("/metadata/generation") {
            object::set(&mut new, "/metadata/generation", old.int("/metadata/generation").unwrap_or_default() + 1);
        }
        if new == *old {
            return Ok(old);
        }
        if dry_run {
            return Ok(Arc::new(new));
        }
        let is_freed = new.is_terminating() && !has_finalizers(key.kind, &new) && !is_graceful(key.kind, &new);
        let what = if is_freed { What::Deleted } else { What::Modified };
        Ok(self.record(&mut inner, key.clone(), what, new))
    }

    /// Deletes an object, at once or gracefully.
    pub(crate) fn delete(&self, key: &Key, how: &Deletion) -> Result<Deleted, Refusal> {
        let mut inner = self.lock();
        let old = inner.objects.get(key).cloned().ok_or_else(|| Refusal::not_found(key.kind, &key.name))?;
        for (wanted, found, what) in
            [(&how.uid, old.uid(), "UID"), (&how.version, old.text("/metadata/resourceVersion"), "ResourceVersion")]
        {
            if let Some(wanted) = wanted
                && wanted != found
            {
                let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
                return Err(Refusal::conflict(key.kind, &key.name, &why));
            }
        }
        if how.dry_run {
            return Ok(Deleted::Going(old));
        }
        let mut new = (*old).clone();
        let grace = grace_of(key.kind, &old, how.grace);
        if how.dependents == Dependents::Foreground {
            let finalizers = object::list_mut(&mut new, "/metadata/finalizers");
            if !finalizers.iter().any(|finalizer| finalizer == FOREGROUND) {
                finalizers.push(FOREGROUND.into());
            }
        }
        if how.dependents == Dependents::Orphan {
            self.orphan_dependents(&mut inner, old.uid());
        }
        if grace > 0 || has_finalizers(key.kind, &new) {
            let already = old.int("/metadata/deletionGracePeriodSeconds");
            if already.is_none_or(|already| grace < already) {
                // A moment is a moment: the timestamp says when it will really be over, the seconds say what Kubernetes would have given.
                let ends = Utc::now() + self.speed.grace(grace);
                object::set(&mut new, "/metadata/deletionTimestamp", object::stamp(ends));
                object::set(&mut new, "/metadata/deletionGracePeriodSeconds", grace);
                if old.has("/metadata/generation") && already.is_none() {
                    object::set(&mut new, "/metadata/generation", old.int("/metadata/generation").unwrap_or_default() + 1);
                }
            }
            if key.kind == Kind::Namespace {
                object::set(&mut new, "/status/phase", "Terminating");
            }
            if new == *old {
                return Ok(Deleted::Going(old));
            }
            return Ok(Deleted::Going(self.record(&mut inner, key.clone(), What::Modified, new)));
        }
        if key.kind == Kind::Pod {
            // Told as the real server tells it: that the time is up, and then that the pod is gone.
            object::default(&mut new, "/metadata/deletionTimestamp", object::now());
            if old.int("/metadata/deletionGracePeriodSeconds") != Some(0) {
                object::set(&mut new, "/metadata/deletionGracePeriodSeconds", 0);
                if !old.is_terminating() {
                    object::set(&mut new, "/metadata/generation", old.int("/metadata/generation").unwrap_or_default() + 1);
                }
                new = (*self.record(&mut inner, key.clone(), What::Modified, new)).clone();
            }
        }
        Ok(Deleted::Gone(self.record(&mut inner, key.clone(), What::Deleted, new)))
    }

    fn orphan_dependents(&self, inner: &mut Inner, owner: &str) {
        let dependents: Vec<_> = inner
            .objects
            .iter()
            .filter(|(_, object)| object.list("/metadata/ownerReferences").iter().any(|reference| reference.text("/uid") == owner))
            .map(|(key, object)| (key.clone(), (**object).clone()))
            .collect();
        for (key, mut object) in dependents {
            object::list_mut(&mut object, "/metadata/ownerReferences").retain(|reference| reference.text("/uid") != owner);
            self.record(inner, key, What::Modified, object);
        }
    }

    fn forget_old_events(&self, inner: &mut Inner) {
        if inner.events.len() <= EVENTS {
            return;
        }
        let oldest = inner.events.first_key_value().map(|(_, key)| key.clone());
        if let Some((key, object)) = oldest.and_then(|key| inner.objects.get(&key).map(|object| (key, (**object).clone()))) {
            self.record(inner, key, What::Deleted, object);
        }
    }

    /// The one way into the history: stamps the version, keeps or drops the object, remembers the change, wakes everybody.
    fn record(&self, inner: &mut Inner, key: Key, what: What, mut object: Value) -> Arc<Value> {
        inner.version += 1;
        let version = inner.version;
        object::set(&mut object, "/metadata/resourceVersion", version.to_string());
        let object = Arc::new(object);
        let kind = key.kind;
        if kind == Kind::Event {
            inner.index_event(&key, what, &object);
        }
        let previous = if what == What::Deleted {
            if kind == Kind::Service
                && let Ok(address) = object.text("/spec/clusterIP").parse::<IpAddr>()
            {
                self.network.give_back(address);
            }
            inner.objects.remove(&key)
        } else {
            inner.objects.insert(key, object.clone())
        };
        inner.latest_of.insert(kind, version);
        inner.remember(Change { version, kind, what, object: object.clone(), previous });
        self.latest.send_replace(version);
        object
    }
}

impl Inner {
    fn remember(&mut self, change: Change) {
        let kind = change.kind;
        let history = self.history.entry(kind).or_default();
        history.push_back(change);
        if history.len() > HISTORY
            && let Some(oldest) = history.pop_front()
        {
            self.forgotten.insert(kind, oldest.version);
        }
    }

    /// Keeps the indexes of events as the objects will be.
    fn index_event(&mut self, key: &Key, what: What, new: &Value) {
        if let Some(old) = self.objects.get(key) {
            self.events.remove(&old.text("/metadata/resourceVersion").parse().unwrap_or_default());
            let told = telling(old);
            if self.tellings.get(&told) == Some(key) {
                self.tellings.remove(&told);
            }
        }
        if what != What::Deleted {
            self.events.insert(self.version, key.clone());
            self.tellings.insert(telling(new), key.clone());
        }
    }
}

/// The finalizer of an object whose dependents go first.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// The finalizer of a claim, which is taken off when no pod uses it any more.
pub(crate) const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";

/// The finalizer of a namespace, in its spec, which is taken off when nothing is left in it.
const NAMESPACE_CONTENT: &str = "kubernetes";

/// Whether somebody has to do something before the object may go.
fn has_finalizers(kind: Kind, object: &Value) -> bool {
    !object.list("/metadata/finalizers").is_empty() || (kind == Kind::Namespace && !object.list("/spec/finalizers").is_empty())
}

fn default_class(inner: &Inner) -> Option<String> {
    let classes = inner.objects.range(Key::new(Kind::StorageClass, "", "")..).take_while(|(key, _)| key.kind == Kind::StorageClass);
    let is_default = |class: &Value| class.text("/metadata/annotations/storageclass.kubernetes.io~1is-default-class") == "true";
    classes.filter(|(_, class)| is_default(class)).map(|(key, _)| key.name.clone()).next()
}

/// Whether an object of this kind that is being deleted waits for somebody else (a kubelet, the namespace's sweeper) to finish it.
fn is_graceful(kind: Kind, object: &Value) -> bool {
    match kind {
        Kind::Pod => object.int("/metadata/deletionGracePeriodSeconds").is_some_and(|grace| grace > 0),
        _ => false,
    }
}

/// How many seconds a deletion gives the object. Only pods that run have any.
fn grace_of(kind: Kind, object: &Value, asked: Option<i64>) -> i64 {
    if kind != Kind::Pod || object.text("/spec/nodeName").is_empty() || object::pod::is_finished(object) {
        return 0;
    }
    asked.or_else(|| object.int("/spec/terminationGracePeriodSeconds")).unwrap_or(30).max(0)
}

/// Joins what an update may change with what it may not.
fn of_part(kind: Kind, part: Part, old: &Value, new: Value) -> Value {
    let mut joined = match part {
        Part::Whole => return new,
        Part::Status => {
            let mut joined = old.clone();
            if let Some(status) = new.get("status") {
                joined["status"] = status.clone();
            }
            return joined;
        }
        Part::Main => new,
    };
    if kind == Kind::Service {
        // Whoever replaces a service with their own manifest keeps the address that it was given.
        for at in ["/spec/clusterIP", "/spec/clusterIPs"] {
            if let Some(given) = old.pointer(at) {
                object::default(&mut joined, at, given.clone());
            }
        }
    }
    if kind.has_status() {
        match old.get("status") {
            Some(status) => joined["status"] = status.clone(),
            None => object::remove(&mut joined, "/status"),
        }
    }
    joined
}

fn keep_system_fields(old: &Value, new: &mut Value) {
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
    ] {
        let at = format!("/metadata/{field}");
        match old.pointer(&at) {
            Some(value) => object::set(new, &at, value.clone()),
            None => object::remove(new, &at),
        }
    }
    object::remove(new, "/metadata/managedFields");
    for field in ["apiVersion", "kind"] {
        new[field] = old[field].clone();
    }
}

/// Letters and digits for generated names: no vowels and nothing that looks like something else, as Kubernetes has it.
pub(crate) fn random_suffix(length: usize) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    std::iter::repeat_with(|| char::from(LETTERS[fastrand::usize(..LETTERS.len())])).take(length).collect()
}

/// A wait for changes of some kinds. Made by [`Store::follow`].
#[derive(Debug)]
pub(crate) struct Follow {
    store: Arc<Store>,
    latest: watch::Receiver<u64>,
    seen: u64,
    kinds: &'static [Kind],
}

impl Follow {
    /// Returns once an object of one of the kinds has changed since the last return.
    ///
    /// Safe to drop half-way: no change is lost.
    pub(crate) async fn changed(&mut self) {
        loop {
            {
                let inner = self.store.lock();
                let newest = self.kinds.iter().filter_map(|kind| inner.latest_of.get(kind)).max().copied().unwrap_or_default();
                if newest > self.seen {
                    self.seen = inner.version;
                    return;
                }
            }
            // The store outlives this wait and holds the sender.
            self.latest.changed().await.expect("the store holds the sender");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Arc<Store> {
        let store = Arc::new(Store::new(Arc::new(Network::claim().unwrap()), Speed::new(10)));
        store.create(Kind::Namespace, json!({ "metadata": { "name": "default" } }), false).unwrap();
        store
    }

    fn config(name: &str) -> Value {
        json!({ "metadata": { "name": name, "namespace": "default" }, "data": { "a": "1" } })
    }

    fn pod(name: &str, node: &str) -> Value {
        json!({
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "nodeName": node, "terminationGracePeriodSeconds": 20, "containers": [{ "name": "c", "image": "comeback" }] },
        })
    }

    fn key(kind: Kind, name: &str) -> Key {
        Key::new(kind, "default", name)
    }

    #[test]
    fn every_write_has_its_own_version_and_is_in_the_history() {
        let store = store();
        let before = store.version();
        store.create(Kind::ConfigMap, config("a"), false).unwrap();
        store
            .update(&key(Kind::ConfigMap, "a"), Part::Main, false, |object| {
                object["data"]["a"] = "2".into();
                Ok(())
            })
            .unwrap();
        store.delete(&key(Kind::ConfigMap, "a"), &Deletion::default()).unwrap();
        let (changes, now) = store.changes_after(Kind::ConfigMap, before).unwrap();
        assert_eq!(now, before + 3);
        assert_eq!(changes.iter().map(|change| change.what).collect::<Vec<_>>(), [What::Added, What::Modified, What::Deleted]);
        assert_eq!(changes.iter().map(|change| change.version).collect::<Vec<_>>(), [before + 1, before + 2, before + 3]);
        assert!(store.get(Kind::ConfigMap, "default", "a").is_none());
    }

    #[test]
    fn an_update_that_changes_nothing_is_no_change() {
        let store = store();
        store.create(Kind::ConfigMap, config("a"), false).unwrap();
        let before = store.version();
        store.update(&key(Kind::ConfigMap, "a"), Part::Main, false, |_| Ok(())).unwrap();
        assert_eq!(store.version(), before);
    }

    #[test]
    fn an_update_of_an_older_version_is_a_conflict() {
        let store = store();
        let first = store.create(Kind::ConfigMap, config("a"), false).unwrap();
        let replace = |with: &str| {
            let mut body = (*first).clone();
            body["data"]["a"] = with.into();
            store.update(&key(Kind::ConfigMap, "a"), Part::Main, false, |object| {
                *object = body;
                Ok(())
            })
        };
        replace("2").unwrap();
        let refusal = replace("3").unwrap_err();
        assert_eq!((refusal.code, refusal.reason), (409, "Conflict"));
    }

    #[test]
    fn a_running_pod_goes_gracefully_and_an_unscheduled_one_at_once() {
        let store = store();
        store.create(Kind::Pod, pod("running", "worker-1"), false).unwrap();
        store.create(Kind::Pod, pod("waiting", ""), false).unwrap();
        let going = store.delete(&key(Kind::Pod, "running"), &Deletion::default()).unwrap();
        let Deleted::Going(object) = going else { panic!("a running pod has time") };
        assert_eq!(object.int("/metadata/deletionGracePeriodSeconds"), Some(20));
        assert!(matches!(store.delete(&key(Kind::Pod, "waiting"), &Deletion::default()).unwrap(), Deleted::Gone(_)));
        // A second deletion may shorten the time and not lengthen it.
        let again = |grace| store.delete(&key(Kind::Pod, "running"), &Deletion { grace: Some(grace), ..Deletion::default() }).unwrap();
        let Deleted::Going(object) = again(60) else { panic!("still going") };
        assert_eq!(object.int("/metadata/deletionGracePeriodSeconds"), Some(20));
        let Deleted::Going(object) = again(5) else { panic!("still going") };
        assert_eq!(object.int("/metadata/deletionGracePeriodSeconds"), Some(5));
        assert!(matches!(again(0), Deleted::Gone(_)));
    }

    #[test]
    fn a_pod_may_be_given_more_time_than_a_clock_can_tell() {
        let store = store();
        store.create(Kind::Pod, pod("a", "worker-1"), false).unwrap();
        let how = Deletion { grace: Some(i64::MAX), ..Deletion::default() };
        let Deleted::Going(object) = store.delete(&key(Kind::Pod, "a"), &how).unwrap() else { panic!("it has time") };
        assert_eq!(object.int("/metadata/deletionGracePeriodSeconds"), Some(i64::MAX));
    }

    #[test]
    fn a_pods_end_is_told_in_two_steps() {
        let store = store();
        store.create(Kind::Pod, pod("a", "worker-1"), false).unwrap();
        store.delete(&key(Kind::Pod, "a"), &Deletion::default()).unwrap();
        let before = store.version();
        store.delete(&key(Kind::Pod, "a"), &Deletion { grace: Some(0), ..Deletion::default() }).unwrap();
        let (changes, _) = store.changes_after(Kind::Pod, before).unwrap();
        let told: Vec<_> = changes.iter().map(|change| (change.what, change.object.int("/metadata/deletionGracePeriodSeconds"))).collect();
        assert_eq!(told, [(What::Modified, Some(0)), (What::Deleted, Some(0))]);
    }

    #[test]
    fn a_request_that_panics_leaves_the_store_in_use() {
        let store = store();
        store.create(Kind::ConfigMap, config("a"), false).unwrap();
        let panics = || store.update(&key(Kind::ConfigMap, "a"), Part::Main, false, |_| panic!("a bug of ours"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert!(store.get(Kind::ConfigMap, "default", "a").is_some());
    }

    #[test]
    fn a_deletion_with_another_uid_is_a_conflict() {
        let store = store();
        store.create(Kind::ConfigMap, config("a"), false).unwrap();
        let how = Deletion { uid: Some("another".into()), ..Deletion::default() };
        assert_eq!(store.delete(&key(Kind::ConfigMap, "a"), &how).unwrap_err().code, 409);
    }

    #[test]
    fn an_object_with_a_finalizer_goes_when_the_last_one_is_taken_off() {
        let store = store();
        let mut object = config("a");
        object["metadata"]["finalizers"] = json!(["x"]);
        store.create(Kind::ConfigMap, object, false).unwrap();
        assert!(matches!(store.delete(&key(Kind::ConfigMap, "a"), &Deletion::default()).unwrap(), Deleted::Going(_)));
        store
            .update(&key(Kind::ConfigMap, "a"), Part::Main, false, |object| {
                object["metadata"]["finalizers"] = json!([]);
                Ok(())
            })
            .unwrap();
        assert!(store.get(Kind::ConfigMap, "default", "a").is_none());
    }

    #[test]
    fn a_plain_update_leaves_the_status_and_a_status_update_leaves_the_rest() {
        let store = store();
        store.create(Kind::Pod, pod("a", "n"), false).unwrap();
        let change = |object: &mut Value| {
            object["metadata"]["labels"] = json!({ "x": "y" });
            object["status"]["phase"] = "Running".into();
            Ok(())
        };
        let after = store.update(&key(Kind::Pod, "a"), Part::Main, false, change).unwrap();
        assert_eq!((after.text("/status/phase"), after.text("/metadata/labels/x")), ("Pending", "y"));
        let change = |object: &mut Value| {
            object["metadata"]["labels"] = json!({ "x": "z" });
            object["status"]["phase"] = "Running".into();
            Ok(())
        };
        let after = store.update(&key(Kind::Pod, "a"), Part::Status, false, change).unwrap();
        assert_eq!((after.text("/status/phase"), after.text("/metadata/labels/x")), ("Running", "y"));
    }

    #[test]
    fn generation_counts_changes_of_the_spec_only() {
        let store = store();
        let made = store.create(Kind::Node, json!({ "metadata": { "name": "n" }, "spec": { "podCIDR": "x" } }), false).unwrap();
        assert_eq!(made.int("/metadata/generation"), Some(1));
        let node = Key::new(Kind::Node, "", "n");
        let update = |part, at: &'static str| {
            store
                .update(&node, part, false, |object| {
                    object::set(object, at, "v");
                    Ok(())
                })
                .unwrap()
        };
        assert_eq!(update(Part::Main, "/metadata/labels/a").int("/metadata/generation"), Some(1));
        assert_eq!(update(Part::Status, "/status/a").int("/metadata/generation"), Some(1));
        assert_eq!(update(Part::Main, "/spec/providerID").int("/metadata/generation"), Some(2));
    }

    #[test]
    fn a_forgotten_version_is_expired() {
        let store = store();
        store.create(Kind::ConfigMap, config("a"), false).unwrap();
        let old = store.version();
        for n in 0..=HISTORY {
            let change = |object: &mut Value| {
                object["data"]["a"] = n.to_string().into();
                Ok(())
            };
            store.update(&key(Kind::ConfigMap, "a"), Part::Main, false, change).unwrap();
        }
        assert_eq!(store.changes_after(Kind::ConfigMap, old - 1).unwrap_err().code, 410);
        assert_eq!(store.changes_after(Kind::ConfigMap, store.version()).unwrap().0.len(), 0);
        // Of another kind nothing was forgotten.
        assert_eq!(store.changes_after(Kind::Namespace, 0).unwrap().0.len(), 1);
    }

    #[test]
    fn the_event_that_was_told_longest_ago_is_forgotten_first() {
        let store = store();
        let event = |n: usize| {
            let involved = json!({ "kind": "Pod", "namespace": "default", "name": "p", "uid": "u" });
            let metadata = json!({ "name": format!("e{n}"), "namespace": "default" });
            json!({ "metadata": metadata, "involvedObject": involved, "reason": "R", "message": n.to_string() })
        };
        let is_known = |n: usize| store.event("u", "", "R", &n.to_string()).is_some();
        for n in 0..EVENTS {
            store.create(Kind::Event, event(n), false).unwrap();
        }
        // The first is told again, so that the second is the oldest.
        let again = |event: &mut Value| {
            object::set(event, "/count", 2);
            Ok(())
        };
        store.update(&key(Kind::Event, "e0"), Part::Whole, false, again).unwrap();
        store.create(Kind::Event, event(EVENTS), false).unwrap();
        assert!(is_known(0) && !is_known(1) && is_known(2) && is_known(EVENTS));
        assert_eq!(store.list(Kind::Event, None).len(), EVENTS);
        store.delete(&key(Kind::Event, "e2"), &Deletion::default()).unwrap();
        assert!(!is_known(2));
    }

    #[test]
    fn a_namespace_that_is_not_there_takes_nothing() {
        let mut object = config("a");
        object["metadata"]["namespace"] = "nowhere".into();
        let refusal = store().create(Kind::ConfigMap, object, false).unwrap_err();
        assert_eq!((refusal.code, refusal.message.as_str()), (404, "namespaces \"nowhere\" not found"));
    }

    #[tokio::test]
    async fn following_wakes_for_its_kinds_and_for_no_other() {
        let store = store();
        let mut follow = store.follow(&[Kind::Secret]);
        store.create(Kind::ConfigMap, config("a"), false).unwrap();
        assert!(futures::FutureExt::now_or_never(follow.changed()).is_none());
        store.create(Kind::Secret, json!({ "metadata": { "name": "s", "namespace": "default" } }), false).unwrap();
        assert!(futures::FutureExt::now_or_never(follow.changed()).is_some());
        assert!(futures::FutureExt::now_or_never(follow.changed()).is_none());
    }
}
