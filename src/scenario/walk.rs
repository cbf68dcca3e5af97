//! The tools with which [`super::read`] walks a tree into the types.
//!
//! Each takes a node and the [`Reader`], returns a value, or `None` after it has noted what is wrong. Nothing stops at an error, so that all
//! of them are found. The reader knows the way to the node (`probe.every`) and adds it to each message, once.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use serde::Serialize;

use super::{
    HumanDuration,
    diagnostics::{Diagnostic, Excerpt, listed, quoted},
    schema,
    source::Source,
    yaml::{Node, Value},
};

/// What has been found wrong so far, and where the walk is.
pub(super) struct Reader<'s> {
    pub(super) source: &'s Source<'s>,
    pub(super) found: Vec<Diagnostic>,
    way: Vec<String>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(source: &'s Source<'s>) -> Self {
        Self { source, found: Vec::new(), way: Vec::new() }
    }

    /// Where `node` stands, with a word below it.
    pub(super) fn excerpt(&self, node: &Node, label: impl Into<String>) -> Excerpt {
        self.source.excerpt(&node.span, label)
    }

    /// The way from the root to where the walk is, e.g. `` `faults[0].deletePod.grace` ``.
    fn way(&self) -> String {
        let mut way = String::new();
        for step in &self.way {
            if !way.is_empty() && !step.starts_with('[') {
                way.push('.');
            }
            way.push_str(step);
        }
        if way.is_empty() { "the file".into() } else { format!("`{way}`") }
    }

    /// Reads one step further down.
    pub(super) fn step<T>(&mut self, step: impl Into<String>, read: impl FnOnce(&mut Self) -> T) -> T {
        self.way.push(step.into());
        let value = read(self);
        self.way.pop();
        value
    }

    /// Notes that the value of `node` is not what it should be: ``wrong type of `probe.every`: expected a duration ..., found a list``.
    pub(super) fn wrong_type(&mut self, node: &Node, expected: &str, help: Option<String>) {
        let (way, found) = (self.way(), node.value.found());
        let diagnostic = Diagnostic::at(self.excerpt(node, format!("found {found}")), format!("{way}: expected {expected}, found {found}"));
        self.found.push(match help {
            Some(help) => diagnostic.help(help),
            None if node.value == Value::Null => {
                diagnostic.help("remove the key to have its default, or give it a value; is the indentation right?")
            }
            None => diagnostic,
        });
    }

    /// Notes that a value of the right type may not be this one: `` `repeat` must be ..., not `0` ``.
    pub(super) fn wrong_value(&mut self, node: &Node, must_be: &str, help: Option<String>) {
        let (way, found) = (self.way(), node.value.found());
        let found = found.strip_prefix("the number ").unwrap_or(&found);
        let diagnostic = Diagnostic::at(self.excerpt(node, ""), format!("{way} must be {must_be}, not {found}"));
        self.found.push(match help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        });
    }
}

/// The entries of a map while they are read; [`finish`](Fields::finish) notes the keys that nobody asked for.
pub(super) struct Fields<'n> {
    node: &'n Node,
    entries: Vec<Entry<'n>>,
    known: Vec<&'static str>,
    /// Keys that should be there and are not, with help on what to write.
    missing: Vec<(&'static str, &'static str)>,
}

struct Entry<'n> {
    name: &'n str,
    key: &'n Node,
    value: &'n Node,
    read: bool,
}

/// The keys and values of a map; whatever is wrong with the keys themselves is noted.
pub(super) fn entries<'n>(node: &'n Node, expected: &str, reader: &mut Reader<'_>) -> Option<Vec<(&'n str, &'n Node, &'n Node)>> {
    let Value::Map(all) = &node.value else {
        reader.wrong_type(node, expected, None);
        return None;
    };
    let mut first: BTreeMap<&str, &Node> = BTreeMap::new();
    let mut entries = Vec::new();
    for (key, value) in all {
        let (Value::Text(name) | Value::Ambiguous(name)) = &key.value else {
            let found = key.value.found();
            let message = format!("a key must be a word, found {found}");
            reader.found.push(Diagnostic::at(reader.excerpt(key, "not a key"), message));
            continue;
        };
        if name == "<<" {
            let message = "merge keys (`<<`) are not part of a scenario";
            reader.found.push(
                Diagnostic::at(reader.excerpt(key, "merge key"), message).help("write the keys out; an alias may stand for a whole value"),
            );
        } else if let Some(before) = first.insert(name, key) {
            let message = format!("the key {} is given twice", quoted(name));
            let diagnostic = Diagnostic::at(reader.excerpt(key, "again here"), message).see(reader.excerpt(before, "first here"));
            reader.found.push(diagnostic);
        } else {
            entries.push((name.as_str(), key, value));
        }
    }
    Some(entries)
}

impl<'n> Fields<'n> {
    /// The fields of a map; `None`, and noted: it is no map.
    pub(super) fn of(node: &'n Node, expected: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let entries = entries(node, expected, reader)?;
        let entries = entries.into_iter().map(|(name, key, value)| Entry { name, key, value, read: false }).collect();
        Some(Self { node, entries, known: Vec::new(), missing: Vec::new() })
    }

    /// The value of `key` as it stands in the file.
    pub(super) fn node(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|entry| entry.name == key).map(|entry| entry.value)
    }

    /// Reads the value of `key`, if it is there.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        reader: &mut Reader<'_>,
        read: impl FnOnce(&Node, &mut Reader<'_>) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let entry = self.entries.iter_mut().find(|entry| entry.name == key)?;
        entry.read = true;
        reader.step(key, |reader| read(entry.value, reader))
    }

    /// Reads the value of `key`; that it is not there is noted, with `help` on what to write.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        help: &'static str,
        reader: &mut Reader<'_>,
        read: impl FnOnce(&Node, &mut Reader<'_>) -> Option<T>,
    ) -> Option<T> {
        if self.node(key).is_none() {
            self.missing.push((key, help));
        }
        self.optional(key, reader, read)
    }

    /// Notes every key that was not read, and every one that is missing, unless it is there but misspelt.
    pub(super) fn finish(self, reader: &mut Reader<'_>) {
        let mut misspelt = Vec::new();
        for entry in self.entries.iter().filter(|entry| !entry.read) {
            let message = format!("unknown key {}", quoted(entry.name));
            let diagnostic = Diagnostic::at(reader.excerpt(entry.key, "no such key"), message);
            let diagnostic = match nearest(entry.name, self.known.iter().copied()) {
                Some(meant) => {
                    misspelt.push(meant);
                    diagnostic.help(format!("did you mean `{meant}`?"))
                }
                None => match schema::home(entry.name) {
                    Some(home) => diagnostic.help(format!("`{}` is a key of `{home}`", entry.name)),
                    None => diagnostic,
                },
            };
            reader.found.push(diagnostic.note(format!("known here: {}", listed(self.known.iter().copied()))));
        }
        for (key, help) in self.missing.iter().filter(|(key, _)| !misspelt.contains(key)) {
            let span = self.node.span.start..self.node.span.start;
            let at = reader.source.excerpt(&span, format!("no `{key}` here"));
            reader.found.push(Diagnostic::at(at, format!("the key `{key}` is missing")).help(*help));
        }
    }
}

/// The name that was most likely meant, if one is near enough.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // The distance takes time by the product of both lengths; no name of ours is so long.
    if word.len() > 64 {
        return None;
    }
    let plain = |word: &str| word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let word = plain(word);
    let distances = known.into_iter().map(|name| (strsim::damerau_levenshtein(&word, &plain(name)), name));
    let (distance, name) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= (word.len() / 3).max(1) && distance < word.len().max(1)).then_some(name)
}

/// A list, each of whose elements is read by `read`.
pub(super) fn list<T>(
    node: &Node,
    expected: &str,
    most: usize,
    reader: &mut Reader<'_>,
    mut read: impl FnMut(&Node, &mut Reader<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::List(items) = &node.value else {
        reader.wrong_type(node, expected, None);
        return None;
    };
    if let Some(beyond) = items.get(most) {
        let way = reader.way();
        let message = format!("{way} has {} entries; the most is {most}", items.len());
        reader.found.push(Diagnostic::at(reader.excerpt(beyond, "one too many"), message));
    }
    let read: Vec<_> = items.iter().enumerate().map(|(n, item)| reader.step(format!("[{n}]"), |reader| read(item, reader))).collect();
    read.into_iter().collect()
}

/// A text of which `is` holds.
pub(super) fn text(node: &Node, expected: &str, reader: &mut Reader<'_>, is: impl FnOnce(&str) -> bool) -> Option<String> {
    match &node.value {
        Value::Text(text) if is(text) => Some(text.clone()),
        Value::Text(_) => {
            reader.wrong_value(node, expected, None);
            None
        }
        Value::Ambiguous(text) => {
            let (way, shown) = (reader.way(), quoted(text));
            let diagnostic = Diagnostic::at(
                reader.excerpt(node, "not a text to everyone"),
                format!("{way}: expected {expected}, found {shown} without quotes"),
            )
            .help(format!("quote it: `\"{text}\"`"))
            .note("some readers of YAML take it for a boolean, a number or a date");
            reader.found.push(diagnostic);
            None
        }
        Value::Whole(_, text) | Value::Number(text) => {
            reader.wrong_type(node, expected, Some(format!("quote it to make it a text: `\"{text}\"`")));
            None
        }
        Value::Bool(value) => {
            reader.wrong_type(node, expected, Some(format!("quote it to make it a text: `\"{value}\"`")));
            None
        }
        Value::Null | Value::List(_) | Value::Map(_) => {
            reader.wrong_type(node, expected, None);
            None
        }
    }
}

/// A whole number within `range`.
pub(super) fn whole(node: &Node, range: &RangeInclusive<u64>, reader: &mut Reader<'_>) -> Option<u64> {
    let (least, most) = (range.start(), range.end());
    match &node.value {
        Value::Whole(value, _) => {
            let value = value.and_then(|value| u64::try_from(value).ok()).filter(|value| range.contains(value));
            if value.is_none() {
                reader.wrong_value(node, &format!("a whole number from {least} to {most}"), None);
            }
            value
        }
        Value::Ambiguous(text) if text.contains('_') => {
            reader.wrong_type(node, "a whole number", Some("write the digits without `_`".into()));
            None
        }
        Value::Text(text) if text.parse::<u64>().is_ok() => {
            reader.wrong_type(node, "a whole number", Some("remove the quotes".into()));
            None
        }
        _ => {
            reader.wrong_type(node, &format!("a whole number from {least} to {most}"), None);
            None
        }
    }
}

/// A duration within `range`.
pub(super) fn duration(node: &Node, range: &RangeInclusive<Duration>, reader: &mut Reader<'_>) -> Option<HumanDuration> {
    const EXPECTED: &str = "a duration such as `90s`";
    let text = match &node.value {
        Value::Text(text) | Value::Ambiguous(text) => text,
        Value::Whole(_, text) | Value::Number(text) => {
            let help = format!("write the unit with it: `{text}s` for seconds, `{text}ms` for milliseconds");
            reader.wrong_type(node, EXPECTED, Some(help).filter(|_| !text.starts_with('-')));
            return None;
        }
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => {
            reader.wrong_type(node, EXPECTED, None);
            return None;
        }
    };
    // `24h`, not `1day`.
    let shown = |limit: &Duration| match limit.as_secs() / 3_600 {
        0 => HumanDuration(*limit).to_string(),
        hours => format!("{hours}h"),
    };
    match text.parse::<HumanDuration>() {
        Ok(duration) if range.contains(&duration.0) => Some(duration),
        Ok(HumanDuration(Duration::ZERO)) => {
            reader.wrong_value(node, "more than nothing", None);
            None
        }
        Ok(HumanDuration(duration)) => {
            let limit = if duration < *range.start() {
                format!("at least `{}`", shown(range.start()))
            } else {
                format!("at most `{}`", shown(range.end()))
            };
            reader.wrong_value(node, &limit, None);
            None
        }
        Err(_) if text.trim_start().starts_with('-') => {
            reader.wrong_value(node, "a duration, which is never negative", None);
            None
        }
        Err(humantime::DurationError::UnknownUnit { unit, .. }) if !unit.is_empty() => {
            let help = format!("{} is not a unit; there are `ms`, `s`, `m`, `h`", quoted(&unit));
            reader.wrong_type(node, EXPECTED, Some(help));
            None
        }
        Err(humantime::DurationError::NumberOverflow) => {
            reader.wrong_value(node, &format!("at most `{}`", shown(range.end())), None);
            None
        }
        Err(_) => {
            reader.wrong_type(node, EXPECTED, None);
            None
        }
    }
}

/// One of a closed set of words: the names that serde gives to `all`.
pub(super) fn choice<T: Copy + Serialize>(node: &Node, all: &[T], noun: &str, reader: &mut Reader<'_>) -> Option<T> {
    let names: Vec<_> = all.iter().map(|value| name(value)).collect();
    let names = names.iter().map(String::as_str);
    let (Value::Text(text) | Value::Ambiguous(text)) = &node.value else {
        reader.wrong_type(node, &format!("{noun}, one of {}", listed(names)), None);
        return None;
    };
    if let Some(at) = names.clone().position(|name| name == text) {
        return Some(all[at]);
    }
    let way = reader.way();
    let diagnostic =
        Diagnostic::at(reader.excerpt(node, format!("not {noun} for this key")), format!("{way}: unknown {} {}", bare(noun), quoted(text)));
    let meant = nearest(text, names.clone()).or_else(|| names.clone().find(|name| ends_alike(name, text)));
    let diagnostic = match meant {
        Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
        None => diagnostic,
    };
    reader.found.push(diagnostic.note(format!("known here: {}", listed(names))));
    None
}

/// The word for a unit variant, as serde writes it.
pub(super) fn name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        other => unreachable!("a choice is a word, not {other:?}"),
    }
}

/// Whether a name ends with what was typed, whatever its case: `kill` for `SIGKILL`.
fn ends_alike(name: &str, typed: &str) -> bool {
    typed.len() >= 3 && name.to_ascii_lowercase().ends_with(&typed.to_ascii_lowercase())
}

/// A noun without its article.
fn bare(noun: &str) -> &str {
    noun.strip_prefix("a ").or_else(|| noun.strip_prefix("an ")).unwrap_or(noun)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::a_letter_too_many("deletePodd", Some("deletePod"))]
    #[case::snake_case("delete_pod", Some("deletePod"))]
    #[case::kebab_case("kill-process", Some("killProcess"))]
    #[case::swapped("deltePod", Some("deletePod"))]
    #[case::something_else("isolateNode", None)]
    #[case::one_letter("x", None)]
    #[case::nothing("", None)]
    fn a_suggestion_is_near_or_not_made(#[case] word: &str, #[case] meant: Option<&str>) {
        assert_eq!(nearest(word, ["killProcess", "deletePod", "drainNode"]), meant);
    }
}
