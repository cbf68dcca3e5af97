//! What `run`, `plan` and `preflight` are about: the scenarios that are meant (`PATH`, `--tag`, `--filter`, `--shard`), and what may be broken for them
//! (`--allow-bystanders`, `--max-nodes`).

use std::{path::PathBuf, str::FromStr};

use clap::Args;

use super::{exit::Exit, term};
use crate::{fault::Consent, scenario::Suite};

/// A part of a suite.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Selection {
    /// Scenario files, or folders with scenarios.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only scenarios with this tag. It can be repeated: those with any of them.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only scenarios whose name holds this text. It can be repeated: those that hold any of them.
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Only every Nth scenario, beginning with the Kth: `2/5` is the second of five parts. All parts together are the whole.
    #[arg(long, value_name = "K/N")]
    shard: Option<Shard>,
}

/// One of several parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shard {
    part: usize,
    of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not a part such as `2/5`, from `1/5` to `5/5`");
        let (part, of) = text.split_once('/').ok_or_else(wrong)?;
        let (part, of) = (part.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?);
        if part == 0 || part > of { Err(wrong()) } else { Ok(Self { part, of }) }
    }
}

/// What may be broken beside the database.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Consented {
    /// Break nodes on which pods of others run, too: they go down with it.
    #[arg(long)]
    allow_bystanders: bool,
    /// How many nodes may be hurt at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    max_nodes: usize,
}

impl From<Consented> for Consent {
    fn from(consented: Consented) -> Self {
        Self { bystanders: consented.allow_bystanders, max_nodes: consented.max_nodes }
    }
}

impl Selection {
    /// Reads the scenarios, and takes those that are meant. What is wrong with them, all of it, is printed.
    pub(super) fn load(&self) -> Result<Suite, Exit> {
        let suite = Suite::load(&self.paths).map_err(|errors| {
            term::prose(&errors.render(term::prose_has_color()));
            Exit::Invalid
        })?;
        self.of(suite).map_err(|error| {
            term::prose(&format!("error: {error}"));
            Exit::Invalid
        })
    }

    /// The scenarios that are meant.
    ///
    /// # Errors
    /// That none is: a run of nothing would prove nothing.
    fn of(&self, mut suite: Suite) -> Result<Suite, String> {
        let names: Vec<String> = suite.files.iter().map(|file| file.scenario.name.clone()).collect();
        let tags: std::collections::BTreeSet<String> = suite.files.iter().flat_map(|file| file.scenario.tags.clone()).collect();
        suite.files.retain(|file| {
            let has_tag = self.tag.is_empty() || self.tag.iter().any(|tag| file.scenario.tags.contains(tag));
            let has_name = self.filter.is_empty() || self.filter.iter().any(|text| file.scenario.name.contains(text.as_str()));
            has_tag && has_name
        });
        if suite.files.is_empty() {
            let tags: Vec<String> = tags.into_iter().collect();
            return Err(format!(
                "no scenario matches the tags and names that were asked for\n  the scenarios are {}\n  the tags are {}",
                names.join(", "),
                if tags.is_empty() { "none".to_owned() } else { tags.join(", ") }
            ));
        }
        if let Some(Shard { part, of }) = self.shard {
            let mut index = 0;
            suite.files.retain(|_| {
                index += 1;
                (index - 1) % of == part - 1
            });
            if suite.files.is_empty() {
                return Err(format!("part {part} of {of} holds no scenario: there are fewer scenarios than parts"));
            }
        }
        Ok(suite)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn names(selection: &Selection) -> Vec<String> {
        let suite = selection.of(Suite::built_in()).expect("something matches");
        suite.files.into_iter().map(|file| file.scenario.name).collect()
    }

    #[test]
    fn all_parts_together_are_the_whole_and_no_two_overlap() {
        let whole = names(&Selection::default());
        let mut parts = Vec::new();
        for part in 1..=4 {
            parts.extend(names(&Selection { shard: Some(Shard { part, of: 4 }), ..Selection::default() }));
        }
        let mut sorted = whole.clone();
        sorted.sort();
        parts.sort();
        assert_eq!(parts, sorted);
    }

    #[test]
    fn nothing_is_an_error_that_says_what_there_is() {
        let error = Selection { tag: vec!["nosuch".into()], ..Selection::default() }.of(Suite::built_in()).unwrap_err();
        assert!(error.contains("kill-process") && error.contains("smoke"), "{error}");
    }

    #[test]
    fn a_name_is_matched_by_a_part_of_it() {
        assert_eq!(names(&Selection { filter: vec!["kill-pro".into()], ..Selection::default() }), ["kill-process"]);
    }

    #[rstest]
    #[case("0/5")]
    #[case("6/5")]
    #[case("1")]
    #[case("a/b")]
    #[case("1/0")]
    fn what_is_no_part_is_refused(#[case] text: &str) {
        assert!(text.parse::<Shard>().is_err());
    }
}
