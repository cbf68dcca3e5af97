//! Which Kubernetes is asked for.

use super::KindError;

/// A release of Kubernetes as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Release {
    pub(super) minor: String,
    pub(super) patch: Option<String>,
}

impl Release {
    pub(super) fn of(text: &str) -> Result<Self, KindError> {
        let wrong = || KindError::Version(text.to_owned());
        let parts: Vec<&str> = text.strip_prefix('v').unwrap_or(text).split('.').collect();
        if !parts.iter().all(|part| !part.is_empty() && part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(wrong());
        }
        match parts.as_slice() {
            [major, minor] => Ok(Self { minor: format!("{major}.{minor}"), patch: None }),
            [major, minor, patch] => Ok(Self { minor: format!("{major}.{minor}"), patch: Some((*patch).to_owned()) }),
            _ => Err(wrong()),
        }
    }

    /// Our own node image of it. Those with a patch level have the hash of their recipe in their tag besides, and are found by their minor version.
    pub(super) fn our_image(&self) -> Option<String> {
        self.patch.is_none().then(|| format!("comeback/kind-node:v{}", self.minor))
    }

    /// Whether a version that an API server tells (`v1.37.2`) is of this release.
    pub(super) fn is(&self, version: &str) -> bool {
        let whole = self.patch.as_ref().map_or_else(|| self.minor.clone(), |patch| format!("{}.{patch}", self.minor));
        let rest = version.strip_prefix('v').unwrap_or(version).strip_prefix(&whole);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1.37", Some("comeback/kind-node:v1.37"))]
    #[case("v1.33", Some("comeback/kind-node:v1.33"))]
    #[case("1.37.2", None)]
    fn a_release_is_read_as_people_write_it(#[case] text: &str, #[case] image: Option<&str>) {
        assert_eq!(Release::of(text).unwrap().our_image().as_deref(), image);
    }

    #[rstest]
    #[case("latest")]
    #[case("1")]
    #[case("1.37.2.1")]
    #[case("1.x")]
    #[case("1.37 --rm")]
    fn what_is_no_release_is_refused(#[case] text: &str) {
        assert!(Release::of(text).is_err());
    }

    #[rstest]
    #[case("1.37", "v1.37.2", true)]
    #[case("1.37.2", "v1.37.2", true)]
    #[case("1.37.2", "v1.37.2-dirty", true)]
    #[case("1.37.2", "v1.37.20", false)]
    #[case("1.3", "v1.37.2", false)]
    #[case("1.33", "v1.37.2", false)]
    fn a_cluster_is_of_a_release_or_not(#[case] asked: &str, #[case] there: &str, #[case] is: bool) {
        assert_eq!(Release::of(asked).unwrap().is(there), is);
    }
}
