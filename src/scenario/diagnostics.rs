//! What is wrong with scenario files, all of it at once, each with its place.

use std::{fmt, fmt::Write, ops::Range};

use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};
use serde::{Serialize, Serializer, ser::SerializeStruct};

/// Of one file so many errors are shown; the rest is counted.
const SHOWN_PER_FILE: usize = 100;

/// A value that is quoted in a message is cut after so many characters.
const LONGEST_QUOTE: usize = 60;

/// Everything that is wrong with the files that were read; never empty, in the order of files and places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
}

/// One thing that is wrong: what, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    message: String,
    place: Place,
    help: Vec<String>,
    notes: Vec<String>,
}

/// Where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// At a path, of which nothing was read.
    Path(String),
    /// In a text; the first is the place itself, the others explain it.
    Text(Vec<Excerpt>),
}

/// A line of a file with marks on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Excerpt {
    pub(super) path: String,
    /// From 1.
    pub(super) line: usize,
    /// Of the first mark, in characters, from 1.
    pub(super) column: usize,
    /// `None`: too long to be shown.
    pub(super) text: Option<String>,
    pub(super) marks: Vec<Mark>,
}

/// A marked part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// In bytes of the line.
    pub(super) span: Range<usize>,
    pub(super) label: String,
    pub(super) primary: bool,
}

impl Diagnostic {
    pub(super) fn at(excerpt: Excerpt, message: impl Into<String>) -> Self {
        Self { message: message.into(), place: Place::Text(vec![excerpt]), help: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn at_path(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { message: message.into(), place: Place::Path(path.into()), help: Vec::new(), notes: Vec::new() }
    }

    /// What the reader can do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// What the reader may want to know.
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Another place that explains this one.
    pub(super) fn see(mut self, mut other: Excerpt) -> Self {
        for mark in &mut other.marks {
            mark.primary = false;
        }
        if let Place::Text(excerpts) = &mut self.place {
            match excerpts.iter_mut().find(|known| known.path == other.path && known.line == other.line) {
                Some(known) => known.marks.append(&mut other.marks),
                None => excerpts.push(other),
            }
        }
        self
    }

    /// What is wrong, in one line.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The file, as it was given.
    #[must_use]
    pub fn path(&self) -> &str {
        match &self.place {
            Place::Path(path) => path,
            Place::Text(excerpts) => &excerpts[0].path,
        }
    }

    /// Line and column, both from 1; `None`: nothing was read of the file.
    #[must_use]
    pub fn line_and_column(&self) -> Option<(usize, usize)> {
        match &self.place {
            Place::Path(_) => None,
            Place::Text(excerpts) => Some((excerpts[0].line, excerpts[0].column)),
        }
    }

    fn render(&self, renderer: &Renderer) -> String {
        let mut elements: Vec<Element<'_>> = Vec::new();
        match &self.place {
            Place::Path(path) => elements.push(Origin::path(normalize_untrusted_str(path)).into()),
            Place::Text(excerpts) => elements.extend(excerpts.iter().map(Excerpt::element)),
        }
        elements.extend(self.help.iter().map(|help| Level::HELP.message(normalize_untrusted_str(help)).into()));
        elements.extend(self.notes.iter().map(|note| Level::NOTE.message(normalize_untrusted_str(note)).into()));
        renderer.render(&[Group::with_title(Level::ERROR.primary_title(self.message.as_str())).elements(elements)])
    }
}

impl Excerpt {
    fn element(&self) -> Element<'_> {
        let path = normalize_untrusted_str(&self.path);
        let Some(text) = &self.text else {
            return Origin::path(path).line(self.line).char_column(self.column).into();
        };
        let marks = self.marks.iter().map(|mark| {
            let kind = if mark.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
            kind.span(mark.span.clone()).label(Some(mark.label.as_str()).filter(|label| !label.is_empty()))
        });
        Snippet::source(text).path(path).line_start(self.line).annotations(marks).into()
    }
}

/// The form of `comeback check -o json`.
impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("Diagnostic", 6)?;
        map.serialize_field("path", self.path())?;
        map.serialize_field("line", &self.line_and_column().map(|(line, _)| line))?;
        map.serialize_field("column", &self.line_and_column().map(|(_, column)| column))?;
        map.serialize_field("message", &self.message)?;
        map.serialize_field("help", &self.help)?;
        map.serialize_field("notes", &self.notes)?;
        map.end()
    }
}

impl Diagnostics {
    /// Puts them in the order of files and places; one that stands at the same place twice (an alias) is kept once. `None`: there are none.
    pub(super) fn of(mut found: Vec<Diagnostic>) -> Option<Self> {
        found.sort_by(|a, b| (a.path(), a.line_and_column()).cmp(&(b.path(), b.line_and_column())));
        found.dedup();
        (!found.is_empty()).then_some(Self { found })
    }

    /// How many there are.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.found.len()
    }

    /// In how many files they are.
    #[must_use]
    pub fn files(&self) -> usize {
        self.found.chunk_by(|a, b| a.path() == b.path()).count()
    }

    /// Each of them, in the order of files and places.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.found.iter()
    }

    /// All of them as text for a terminal, each with its excerpt; it ends with a line break.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for file in self.found.chunk_by(|a, b| a.path() == b.path()) {
            for diagnostic in file.iter().take(SHOWN_PER_FILE) {
                text.push_str(&diagnostic.render(&renderer));
                text.push_str("\n\n");
            }
            if let Some(more @ 1..) = file.len().checked_sub(SHOWN_PER_FILE) {
                let path = quoted(file[0].path());
                write!(text, "error: {more} more in {path}\n\n").expect("a string takes what is written");
            }
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

/// The count alone, e.g. `3 errors in 2 files`.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", counted(self.errors(), "error"), counted(self.files(), "file"))
    }
}

impl std::error::Error for Diagnostics {}

fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// A value from a file in backticks: cut when it is long, and without anything that a terminal would obey.
pub(super) fn quoted(value: &str) -> String {
    let mut shown: String = value.chars().take(LONGEST_QUOTE).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if value.chars().nth(LONGEST_QUOTE).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Names in backticks, as a list.
pub(super) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str, line: usize) -> Diagnostic {
        let marks = vec![Mark { span: 0..1, label: "here".into(), primary: true }];
        Diagnostic::at(Excerpt { path: path.into(), line, column: 1, text: Some("x: 1".into()), marks }, "wrong")
    }

    #[test]
    fn no_diagnostic_is_no_error() {
        assert_eq!(Diagnostics::of(Vec::new()), None);
    }

    #[test]
    fn they_stand_in_the_order_of_files_and_places() {
        let all = Diagnostics::of(vec![at("b", 1), at("a", 9), at("a", 2)]).expect("there are some");
        let order: Vec<_> = all.iter().map(|d| (d.path(), d.line_and_column())).collect();
        assert_eq!(order, [("a", Some((2, 1))), ("a", Some((9, 1))), ("b", Some((1, 1)))]);
        assert_eq!(all.to_string(), "3 errors in 2 files");
    }

    #[test]
    fn an_excerpt_shows_place_mark_and_help() {
        let all = Diagnostics::of(vec![at("a.yaml", 7).help("try this").note("or not")]).expect("there is one");
        insta::assert_snapshot!(all.render(false), @r"
        error: wrong
         --> a.yaml:7:1
          |
        7 | x: 1
          | ^ here
          |
          = help: try this
          = note: or not
        ");
    }

    #[test]
    fn colour_is_there_only_when_asked_for() {
        let all = Diagnostics::of(vec![at("a.yaml", 7)]).expect("there is one");
        assert!(all.render(true).contains('\u{1b}'));
        assert!(!all.render(false).contains('\u{1b}'));
    }

    #[test]
    fn too_many_errors_are_counted_not_shown() {
        let all = Diagnostics::of((1..=150).map(|line| at("a.yaml", line)).collect()).expect("there are some");
        let text = all.render(false);
        assert_eq!(text.matches("error: wrong").count(), SHOWN_PER_FILE);
        assert!(text.ends_with("error: 50 more in `a.yaml`\n"), "{text}");
    }

    #[test]
    fn what_a_terminal_would_obey_is_never_printed() {
        let mut evil = at("a\u{1b}[2J", 1).help("\u{1b}]0;title\u{7}");
        evil.message = format!("unknown key {}", quoted("\u{1b}[31m"));
        if let Place::Text(excerpts) = &mut evil.place {
            excerpts[0].text = Some("\u{1b}[2Jx".into());
        }
        let text = Diagnostics::of(vec![evil]).expect("there is one").render(false);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }

    #[test]
    fn a_long_value_is_cut() {
        assert_eq!(quoted(&"a".repeat(100)), format!("`{}…`", "a".repeat(60)));
    }
}
