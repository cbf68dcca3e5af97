//! A container as a process: its image, command, environment and log.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::Value;

use super::{
    super::{Cluster, kinds::Kind, object::Look},
    volumes::Mounts,
};

/// Images with this name are our own binary.
const IMAGE: &str = "comeback";

/// Whether an image can be had: only our own can.
pub(super) fn has_image(image: &str) -> bool {
    image.starts_with(IMAGE)
}

/// What makes one life of a container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    /// The cluster.
    pub(super) cluster: &'a Cluster,
    /// The pod.
    pub(super) pod: &'a Value,
    /// The container in its spec.
    pub(super) container: &'a Value,
    /// The pod's address.
    pub(super) address: Ipv4Addr,
    /// The pod's volumes.
    pub(super) mounts: &'a Mounts,
}

/// Why a container cannot be made.
#[derive(Debug)]
pub(super) enum Unmade {
    /// Something that its environment refers to is missing: `CreateContainerConfigError`.
    Config(String),
    /// Its command cannot be run: `StartError`.
    Start(String),
}

impl Setting<'_> {
    /// The command of the container's first process, without its output.
    pub(super) fn command(&self) -> Result<Command, Unmade> {
        let environment = self.environment().map_err(Unmade::Config)?;
        let words =
            |at: &str| self.container.list(at).iter().filter_map(Value::as_str).map(|word| expand(word, &environment)).collect::<Vec<_>>();
        let (command, args) = (words("/command"), words("/args"));
        let mut rest = command.into_iter().chain(args);
        if self.container.list("/command").is_empty() {
            return Ok(self.program(rest.collect(), &environment));
        }
        let first = rest.next().unwrap_or_default();
        Self::own_program(&first).map_err(Unmade::Start)?;
        Ok(self.program(rest.collect(), &environment))
    }

    /// The command of a probe.
    pub(super) fn probe(&self, command: &[Value]) -> Result<Command, String> {
        let environment = self.environment()?;
        let words = command.iter().filter_map(Value::as_str).map(|word| expand(word, &environment));
        self.exec_in(words.collect(), &environment)
    }

    /// A command of somebody else's, as it is: without any input and output of ours.
    pub(super) fn exec(&self, command: &[String]) -> Result<Command, String> {
        self.exec_in(command.to_vec(), &self.environment()?)
    }

    fn exec_in(&self, words: Vec<String>, environment: &BTreeMap<String, String>) -> Result<Command, String> {
        let mut words = words.into_iter();
        Self::own_program(&words.next().unwrap_or_default())?;
        let mut command = self.program(words.collect(), environment);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    /// There is one program in the image; of any other a runtime says this.
    fn own_program(word: &str) -> Result<(), String> {
        if Path::new(word).file_name().is_some_and(|name| name == IMAGE) {
            Ok(())
        } else if word.contains('/') {
            Err(format!("exec: \"{word}\": stat {word}: no such file or directory"))
        } else {
            Err(format!("exec: \"{word}\": executable file not found in $PATH"))
        }
    }

    fn program(&self, args: Vec<String>, environment: &BTreeMap<String, String>) -> Command {
        let mut command = Command::new(&self.cluster.binary);
        command.args(args).env_clear().envs(environment).stdin(Stdio::null());
        command.current_dir(super::pod_directory(&self.cluster.dir, self.pod.uid()));
        command
    }

    /// The container's own variables, and those by which the sandbox tells a process where it is.
    fn environment(&self) -> Result<BTreeMap<String, String>, String> {
        let mut environment = BTreeMap::new();
        let hostname = Some(self.pod.text("/spec/hostname")).filter(|name| !name.is_empty()).unwrap_or_else(|| self.pod.name());
        environment.insert("HOSTNAME".to_owned(), hostname.to_owned());
        for source in self.container.list("/envFrom") {
            let prefix = source.text("/prefix");
            for (at, kind) in [("/secretRef", Kind::Secret), ("/configMapRef", Kind::ConfigMap)] {
                let Some(reference) = source.pointer(at) else { continue };
                for (key, value) in self.all_of(kind, reference)? {
                    environment.insert(format!("{prefix}{key}"), value);
                }
            }
        }
        for variable in self.container.list("/env") {
            let value = match variable.get("valueFrom") {
                None | Some(Value::Null) => Some(expand(variable.text("/value"), &environment)),
                Some(from) => self.value_from(from)?,
            };
            if let Some(value) = value {
                environment.insert(variable.text("/name").to_owned(), value);
            }
        }
        environment.insert("COMEBACK_POD_IP".to_owned(), self.address.to_string());
        environment.insert("COMEBACK_MOUNTS".to_owned(), self.mounts.of_container(self.container));
        environment.insert("COMEBACK_PARENT".to_owned(), std::process::id().to_string());
        Ok(environment)
    }

    fn value_from(&self, from: &Value) -> Result<Option<String>, String> {
        for (at, kind) in [("/secretKeyRef", Kind::Secret), ("/configMapKeyRef", Kind::ConfigMap)] {
            let Some(reference) = from.pointer(at) else { continue };
            let key = reference.text("/key");
            let found = self.all_of(kind, reference)?.remove(key);
            if found.is_none() && !reference.flag("/optional") {
                return Err(format!(
                    "couldn't find key {key} in {} {}/{}",
                    kind.facts().name,
                    self.pod.namespace(),
                    reference.text("/name")
                ));
            }
            return Ok(found);
        }
        let field = from.text("/fieldRef/fieldPath");
        let value = match field {
            "status.podIP" => self.address.to_string(),
            "metadata.name" | "metadata.namespace" | "metadata.uid" | "spec.nodeName" | "spec.serviceAccountName" => {
                self.pod.text(&format!("/{}", field.replace('.', "/"))).to_owned()
            }
            _ => return Err(format!("the sandbox cannot fill a variable from {from}")),
        };
        Ok(Some(value))
    }

    fn all_of(&self, kind: Kind, reference: &Value) -> Result<BTreeMap<String, String>, String> {
        let name = reference.text("/name");
        let Some(found) = self.cluster.store.get(kind, self.pod.namespace(), name) else {
            if reference.flag("/optional") {
                return Ok(BTreeMap::new());
            }
            return Err(format!("{} \"{name}\" not found", kind.facts().name.to_lowercase()));
        };
        let pairs = found["data"].as_object().into_iter().flatten().map(|(key, value)| {
            let text = value.as_str().unwrap_or_default();
            let text = if kind == Kind::Secret {
                String::from_utf8_lossy(&BASE64.decode(text).unwrap_or_default()).into_owned()
            } else {
                text.to_owned()
            };
            (key.clone(), text)
        });
        Ok(pairs.collect())
    }
}

/// Replaces `$(NAME)` by the variable of that name, if there is one; `$$` stands for one `$`.
fn expand(text: &str, environment: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((value, after)) =
            after.strip_prefix('(').and_then(|inner| inner.split_once(')')).and_then(|(name, after)| Some((environment.get(name)?, after)))
        {
            out.push_str(value);
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Opens the log of a life of a container, and drops those of lives that nobody can ask for any more.
pub(super) fn open_log(cluster: &Cluster, uid: &str, container: &str, life: i64) -> io::Result<(File, File)> {
    let file = super::log_file(&cluster.dir, uid, container, life);
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::remove_file(super::log_file(&cluster.dir, uid, container, life - 2)).ok();
    let log = fs::OpenOptions::new().create(true).append(true).open(file)?;
    let also = log.try_clone()?;
    Ok((log, also))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::a_variable("$(A)/x", "1/x")]
    #[case::one_that_is_not_there("$(B)", "$(B)")]
    #[case::an_escape("$$(A)", "$(A)")]
    #[case::a_lone_dollar("a$", "a$")]
    #[case::an_open_bracket("$(A", "$(A")]
    fn variables_are_expanded(#[case] text: &str, #[case] expected: &str) {
        let environment = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        assert_eq!(expand(text, &environment), expected);
    }

    #[test]
    fn only_our_own_image_can_be_had() {
        assert!(has_image("comeback:dev"));
        assert!(has_image("comeback/sqld"));
        assert!(!has_image("mcr.microsoft.com/mssql/server:2022-latest"));
    }
}
