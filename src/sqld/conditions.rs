//! What is wrong with the volume, as the sandbox says beside it: full, or slow to flush.
//!
//! The file is `<directory of the volume>.conditions`, and is there only while something is wrong. It is asked for with every commit, so that what is told is
//! true from one moment to the next. On any other platform there is no such file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

/// Where it is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conditions {
    file: Option<PathBuf>,
}

/// What is wrong now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Wrong {
    /// Nothing more fits.
    pub(crate) full: bool,
    /// By how many milliseconds each flush is late.
    slow_ms: u64,
}

impl Wrong {
    /// By how much each flush is late.
    pub(crate) const fn late(self) -> Duration {
        Duration::from_millis(self.slow_ms)
    }
}

impl Conditions {
    /// Those of the volume that is this directory; `None`: nobody tells.
    pub(crate) fn beside(volume: Option<&Path>) -> Self {
        let file = volume.and_then(|volume| {
            let mut name = volume.file_name()?.to_owned();
            name.push(".conditions");
            Some(volume.with_file_name(name))
        });
        Self { file }
    }

    /// What is wrong now; what cannot be read is nothing wrong.
    pub(crate) fn now(&self) -> Wrong {
        let text = self.file.as_ref().and_then(|file| std::fs::read(file).ok());
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_beside_the_volume_holds_as_long_as_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("pv-1");
        let conditions = Conditions::beside(Some(&volume));
        assert_eq!(conditions.now(), Wrong::default());
        let file = folder.path().join("pv-1.conditions");
        std::fs::write(&file, r#"{"full":true,"slowMs":20}"#).unwrap();
        assert_eq!((conditions.now().full, conditions.now().late()), (true, Duration::from_millis(20)));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(conditions.now(), Wrong::default());
        assert_eq!(Conditions::beside(None).now(), Wrong::default());
    }
}
