//! A text that knows where its lines are.
//!
//! The YAML parser counts characters, people count lines and columns, Rust counts bytes: this is where they meet.

use std::ops::Range;

use super::diagnostics::{Excerpt, Mark};

/// A line longer than this is not shown: the place alone says more.
const LONGEST_LINE: usize = 2_000;

/// The text of one file.
#[derive(Debug)]
pub(super) struct Source<'t> {
    /// The path, as it is shown.
    pub(super) path: &'t str,
    /// The text, without a byte order mark.
    pub(super) text: &'t str,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    /// Where each character begins, in bytes; `None` when every character is one byte.
    chars: Option<Vec<usize>>,
}

impl<'t> Source<'t> {
    pub(super) fn new(path: &'t str, text: &'t str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let chars = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
        Self { path, text, lines, chars }
    }

    /// The byte at which the `index`th character begins; the end of the text for those beyond it.
    pub(super) fn byte(&self, index: usize) -> usize {
        match &self.chars {
            Some(chars) => chars.get(index).copied().unwrap_or(self.text.len()),
            None => index.min(self.text.len()),
        }
    }

    /// The number of the line, from 1, that holds the byte `at`.
    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|begin| *begin <= at)
    }

    /// The part of the text that `span` covers, to be shown; of several lines the first.
    pub(super) fn excerpt(&self, span: &Range<usize>, label: impl Into<String>) -> Excerpt {
        let line = self.line(span.start);
        let begin = self.lines[line - 1];
        let rest = &self.text[begin..];
        let shown = rest.split_once('\n').map_or(rest, |(shown, _)| shown);
        let shown = shown.strip_suffix('\r').unwrap_or(shown);
        let from = (span.start - begin).min(shown.len());
        let to = (span.end.max(span.start) - begin).min(shown.len());
        // What is marked ends where its text ends, not at the blanks before a comment or the end of the line.
        let to = from + shown[from..to].trim_end().len();
        Excerpt {
            path: self.path.to_owned(),
            line,
            column: shown[..from].chars().count() + 1,
            text: (shown.len() <= LONGEST_LINE).then(|| shown.replace(is_c1, "·")),
            marks: vec![Mark { span: from..to, label: label.into(), primary: true }],
        }
    }

    /// Whether the line that holds the byte `at` begins with blanks that contain a tab.
    pub(super) fn is_indented_by_a_tab(&self, at: usize) -> bool {
        let line = &self.text[self.lines[self.line(at) - 1]..];
        line.chars().take_while(|c| matches!(c, ' ' | '\t')).any(|c| c == '\t')
    }
}

/// Whether a terminal may take a character for a command although it is none of ASCII's (which are made visible when they are shown).
/// What is shown for it has as many bytes, two, so that marks stay where they are.
fn is_c1(c: char) -> bool {
    ('\u{80}'..='\u{9f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, at: usize) -> (usize, usize) {
        let excerpt = Source::new("x", text).excerpt(&(at..at), "");
        (excerpt.line, excerpt.column)
    }

    #[test]
    fn lines_and_columns_count_from_one() {
        assert_eq!(place("ab\ncd", 0), (1, 1));
        assert_eq!(place("ab\ncd", 4), (2, 2));
    }

    #[test]
    fn the_end_of_the_text_has_a_place() {
        assert_eq!(place("", 0), (1, 1));
        assert_eq!(place("ab\n", 3), (2, 1));
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(place("äöü: 1", 6), (1, 4));
        assert_eq!(Source::new("x", "äöü: 1").byte(3), 6);
    }

    #[test]
    fn a_carriage_return_is_not_shown() {
        let excerpt = Source::new("x", "ab\r\ncd").excerpt(&(0..6), "");
        assert_eq!(excerpt.text.as_deref(), Some("ab"));
        assert_eq!(excerpt.marks[0].span, 0..2);
    }

    #[test]
    fn a_very_long_line_is_not_shown() {
        let excerpt = Source::new("x", &"a".repeat(5_000)).excerpt(&(3..4), "");
        assert_eq!((excerpt.text, excerpt.column), (None, 4));
    }
}
