//! A real cluster: from a kubeconfig and a context to a client.
//!
//! The rules are kubectl's: `KUBECONFIG`, else `~/.kube/config`; the context that is named, else the current one. The name of a kind cluster
//! stands for its context (`comeback` for `kind-comeback`). Exec plugins, certificates and proxies are left to `kube`.

use std::{env, fmt::Write as _};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::{Cluster, Target};

/// What kind puts before the name of a cluster to make its context.
const KIND_PREFIX: &str = "kind-";

/// No client could be made.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kubeconfig cannot be read.
    #[error(
        "could not read the kubeconfig {file} (hint: `comeback cluster up` makes a cluster and writes one; KUBECONFIG names another file)"
    )]
    Read {
        /// Which file, or files.
        file: String,
        /// Why.
        source: Box<KubeconfigError>,
    },
    /// It has no such context.
    #[error("the kubeconfig {file} has no context `{context}`{}", known(.contexts))]
    NoContext {
        /// Which file, or files.
        file: String,
        /// The context that was asked for.
        context: String,
        /// Those that there are.
        contexts: Vec<String>,
    },
    /// It has no current context, and none was named.
    #[error("the kubeconfig {file} has no current context: name one with `--context`{}", known(.contexts))]
    NoCurrentContext {
        /// Which file, or files.
        file: String,
        /// Those that there are.
        contexts: Vec<String>,
    },
    /// The context is of no use.
    #[error("could not use context `{context}` of the kubeconfig {file}")]
    Context {
        /// Which file, or files.
        file: String,
        /// The context.
        context: String,
        /// Why.
        source: Box<KubeconfigError>,
    },
    /// No client could be made from it.
    #[error("could not make a Kubernetes client for context `{context}`")]
    Client {
        /// The context.
        context: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

fn known(contexts: &[String]) -> String {
    match contexts {
        [] => "; it has none at all".to_owned(),
        contexts => contexts.iter().enumerate().fold("; there are ".to_owned(), |mut text, (index, context)| {
            let separator = if index > 0 { ", " } else { "" };
            let _ = write!(text, "{separator}`{context}`");
            text
        }),
    }
}

/// A cluster that was opened, and what it was opened by.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The cluster, with the target in it.
    pub cluster: Cluster,
    /// The context of the kubeconfig.
    pub context: String,
}

/// Opens the cluster of this context, or of the current one. It does not yet talk to it.
pub async fn open(context: Option<&str>, target: Target) -> Result<Opened, OpenError> {
    let file = file();
    let kubeconfig = Kubeconfig::read().map_err(|source| OpenError::Read { file: file.clone(), source: Box::new(source) })?;
    open_in(kubeconfig, &file, context, target).await
}

/// Opens a context of this kubeconfig, which `file` names for people.
pub async fn open_in(kubeconfig: Kubeconfig, file: &str, context: Option<&str>, target: Target) -> Result<Opened, OpenError> {
    let context = chosen(&kubeconfig, file, context)?;
    let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|source| OpenError::Context {
        file: file.to_owned(),
        context: context.clone(),
        source: Box::new(source),
    })?;
    // Fifteen silent retries on 429 make an eviction that a budget blocks look like a hang.
    config.default_retry = false;
    let client = Client::try_from(config).map_err(|source| OpenError::Client { context: context.clone(), source: Box::new(source) })?;
    Ok(Opened { cluster: Cluster::new(client, target), context })
}

/// The context that is meant: by its name, by that of its kind cluster, or the current one.
fn chosen(kubeconfig: &Kubeconfig, file: &str, context: Option<&str>) -> Result<String, OpenError> {
    let contexts: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let Some(wanted) = context else {
        let current = kubeconfig.current_context.clone().filter(|current| !current.is_empty());
        return current.ok_or_else(|| OpenError::NoCurrentContext { file: file.to_owned(), contexts });
    };
    let of_kind = format!("{KIND_PREFIX}{wanted}");
    let found = contexts.iter().find(|name| *name == wanted).or_else(|| contexts.iter().find(|name| **name == of_kind));
    match found {
        Some(found) => Ok(found.clone()),
        None => Err(OpenError::NoContext { file: file.to_owned(), context: wanted.to_owned(), contexts }),
    }
}

/// The file that is read, for people.
fn file() -> String {
    match env::var("KUBECONFIG") {
        Ok(files) if !files.is_empty() => format!("`{files}` (from KUBECONFIG)"),
        _ => "`~/.kube/config`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::chain;

    fn kubeconfig(current: &str) -> Kubeconfig {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: '{current}'\n\
             clusters: [{{name: a, cluster: {{server: 'https://127.0.0.1:1'}}}}]\n\
             users: [{{name: u, user: {{token: x}}}}]\n\
             contexts: [{{name: prod, context: {{cluster: a, user: u}}}}, {{name: kind-comeback, context: {{cluster: missing, user: u}}}}]\n"
        );
        Kubeconfig::from_yaml(&text).unwrap()
    }

    fn choose(current: &str, context: Option<&str>) -> Result<String, String> {
        chosen(&kubeconfig(current), "`c`", context).map_err(|error| error.to_string())
    }

    #[test]
    fn a_context_is_found_by_its_name_or_that_of_its_kind_cluster() {
        assert_eq!(choose("prod", None).as_deref(), Ok("prod"));
        assert_eq!(choose("prod", Some("kind-comeback")).as_deref(), Ok("kind-comeback"));
        assert_eq!(choose("prod", Some("comeback")).as_deref(), Ok("kind-comeback"));
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        assert_eq!(
            choose("prod", Some("test")).unwrap_err(),
            "the kubeconfig `c` has no context `test`; there are `prod`, `kind-comeback`"
        );
        assert_eq!(
            choose("", None).unwrap_err(),
            "the kubeconfig `c` has no current context: name one with `--context`; there are `prod`, `kind-comeback`"
        );
    }

    #[tokio::test]
    async fn a_context_that_is_broken_names_itself_and_its_file() {
        let target = Target { namespace: "n".into(), selector: "a=b".into(), container: "c".into(), service: "s".into() };
        let error = open_in(kubeconfig("prod"), "`c`", Some("comeback"), target).await.unwrap_err();
        let text = chain(&error);
        assert!(text.starts_with("could not use context `kind-comeback` of the kubeconfig `c`: "), "{text}");
    }
}
