//! Text from elsewhere (a server's error, an object's name, a reason), made fit to stand in a report.
//!
//! The law: no text from outside can end a line, move the cursor, colour the terminal, turn the direction of writing, make an XML document
//! illegal, open a table cell or start a formula. What is taken out is shown, as `\u{1b}`, never dropped in silence. The raw text is in
//! `run.ndjson`.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The text on one line: a line break or tab becomes a space, other invisible controls become visible.
#[must_use]
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' | ' ' => {
                if !line.is_empty() && !line.ends_with(' ') {
                    line.push(' ');
                }
            }
            c if is_hidden(c) => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
    line.truncate(line.trim_end_matches(' ').len());
    line
}

/// Whether a character acts on the reader's screen or parser instead of being seen.
///
/// The joiners that make one emoji of several are not among them.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // The direction of writing.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // A byte order mark, and what is no character in XML 1.0.
            | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// The text on one line, as Markdown that shows it as it is, also in a table and at the start of a line.
///
/// What stands between two backticks, as our own messages quote values and commands, becomes code; nothing else is markup.
#[must_use]
pub(super) fn markdown(text: &str) -> String {
    let line = one_line(text);
    let mut out = String::with_capacity(line.len() + 8);
    let mut rest = line.as_str();
    while let Some((before, quoted, after)) = quotation(rest) {
        escape(&mut out, before, rest.len() == line.len());
        out.push_str(&markdown_code(quoted));
        rest = after;
    }
    escape(&mut out, rest, rest.len() == line.len());
    out
}

/// The first text between single backticks, with what is before and after it.
///
/// Not what holds a bar, which a table would cut even in code, nor what is next to a letter or a further backtick: that is no quotation.
fn quotation(line: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(start) = line[from..].find('`').map(|at| from + at) {
        let end = line[start + 1..].find('`').map(|at| start + 1 + at)?;
        let (before, quoted, after) = (&line[..start], &line[start + 1..end], &line[end + 1..]);
        let apart = |c: char| !c.is_alphanumeric() && c != '`';
        let alone = before.chars().next_back().is_none_or(apart) && after.chars().next().is_none_or(apart);
        if alone && !quoted.is_empty() && !quoted.contains('|') && quoted.trim() == quoted {
            return Some((before, quoted, after));
        }
        from = start + 1;
    }
    None
}

/// Appends plain text, its specials escaped. `start`: it begins a line, where more characters are special.
fn escape(out: &mut String, text: &str, start: bool) {
    // A list marker is one only before a space: `- a` and `1. a` are items, `-1` and `1.23 s` are not.
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let mut before = (!start).then_some(' ');
    let mut rest = text.chars().enumerate().peekable();
    while let Some((place, c)) = rest.next() {
        let next = rest.peek().map(|(_, next)| *next);
        let in_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let special = match c {
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '~' | '&' | '$' => true,
            '_' => !(in_word(before) && in_word(next)),
            '#' | '=' => before.is_none(),
            '+' | '-' => before.is_none() && next.is_none_or(|next| next == ' ' || next == c),
            '.' | ')' => start && digits > 0 && place == digits && next.is_none_or(|next| next == ' '),
            _ => false,
        };
        if special {
            out.push('\\');
        }
        out.push(c);
        before = Some(c);
    }
}

/// The text on one line, as code in Markdown, also in a table.
#[must_use]
pub(super) fn markdown_code(text: &str) -> String {
    let line = one_line(text);
    // In a table a bar ends the cell even inside code, and a backslash before it is taken away again; outside of a table it would stay.
    if line.is_empty() || line.contains('|') {
        let mut out = String::new();
        escape(&mut out, &line, true);
        return out;
    }
    let longest = line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if line.starts_with('`') || line.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{line}{pad}{fence}")
}

/// A cell of a table that a spreadsheet will not run as a formula.
///
/// A text that a spreadsheet would take for one gets an apostrophe before it, which marks it as text.
#[must_use]
pub(super) fn spreadsheet(text: &str) -> String {
    let line = one_line(text);
    if line.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']) { format!("'{line}") } else { line }
}

/// How many columns of a terminal a text takes.
#[must_use]
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The text cut to `columns` of a terminal, with an ellipsis where it was cut.
#[must_use]
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    format!("{}…", &text[..fitting(text, columns.saturating_sub(1))])
}

/// Where the longest beginning of a text ends that takes at most so many columns; never within an emoji or an accented letter.
fn fitting(text: &str, columns: usize) -> usize {
    const JOINER: char = '\u{200d}';
    let whole = |(start, c): (usize, char)| {
        let end = start + c.len_utf8();
        let next = text[end..].chars().next();
        (c != JOINER && next.is_none_or(|next| next.width() != Some(0))).then_some(end)
    };
    // Not the sum over the characters: the widths of those that make up an emoji do not add up to its own.
    text.char_indices().filter_map(whole).take_while(|end| width(&text[..*end]) <= columns).last().unwrap_or(0)
}

/// Appends the text to `out`, on lines of at most `columns`; the first begins with `first`, the further ones with as much space.
///
/// A word that is longer than a line is broken: a long name must not make the terminal wrap. A figure keeps its unit.
pub(super) fn wrap(out: &mut String, first: &str, text: &str, columns: usize) {
    let indent = width(first);
    let room = columns.saturating_sub(indent).max(8);
    out.push_str(first);
    let mut used = 0;
    let line = one_line(text);
    for word in words(&line) {
        let wide = width(word);
        if used > 0 && used + 1 + wide > room {
            let _ = write!(out, "\n{:indent$}", "");
            used = 0;
        } else if used > 0 {
            out.push(' ');
            used += 1;
        }
        // A word that is longer than a line begins one.
        let mut rest = word;
        while width(rest) > room {
            let first = rest.chars().next().map_or(0, char::len_utf8);
            let (piece, further) = rest.split_at(fitting(rest, room).max(first));
            let _ = write!(out, "{piece}\n{:indent$}", "");
            rest = further;
        }
        out.push_str(rest);
        used += width(rest);
    }
    out.push('\n');
}

/// The words of a line; a figure and its unit are one.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let is_unit = |word: &str| matches!(word.trim_end_matches(|c: char| c.is_ascii_punctuation()), "ms" | "s" | "m" | "h");
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let first = line.find(' ').unwrap_or(line.len());
        let second = line[first..].trim_start_matches(' ').split(' ').next().unwrap_or_default();
        let glued = line[..first].ends_with(|c: char| c.is_ascii_digit()) && is_unit(second);
        let end = if glued { first + 1 + second.len() } else { first };
        rest = line[end..].strip_prefix(' ');
        Some(&line[..end])
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("pod uid", "pod uid")]
    #[case::line_breaks("a\r\nb\n\nc\td", "a b c d")]
    #[case::ends_are_trimmed("\n a \n", "a")]
    #[case::escape("\u{1b}[31mred\u{7}", r"\u{1b}[31mred\u{7}")]
    #[case::direction("user\u{202e}txt", r"user\u{202e}txt")]
    #[case::no_xml_character("\u{ffff}", r"\u{ffff}")]
    #[case::emoji_stays("👩‍🚒 é", "👩‍🚒 é")]
    fn a_text_stands_on_one_line_and_hides_nothing(#[case] text: &str, #[case] line: &str) {
        assert_eq!(one_line(text), line);
    }

    #[rstest]
    #[case::inner_underscores("no_lost_row", "no_lost_row")]
    #[case::outer_underscores("_really_", r"\_really\_")]
    #[case::table("a|b", r"a\|b")]
    #[case::html("<b>", r"\<b\>")]
    #[case::list("- a - b", r"\- a - b")]
    #[case::numbered("1. a 2. b", r"1\. a 2. b")]
    #[case::figure("1.23 s [1.18, 1.31]", r"1.23 s \[1.18, 1.31\]")]
    #[case::figure_alone("-1", "-1")]
    #[case::dash("-", r"\-")]
    #[case::rule("---", r"\---")]
    #[case::quotation("uncordon node `a_*_b`: 1. failed", "uncordon node `a_*_b`: 1. failed")]
    #[case::two_quotations("`a`, `b`", "`a`, `b`")]
    #[case::no_quotation("a`b`c ``d`` `e", r"a\`b\`c \`\`d\`\` \`e")]
    #[case::a_bar_is_cut_in_code("`a|b`", r"\`a\|b\`")]
    #[case::heading("# a #1", r"\# a #1")]
    fn markdown_shows_the_text_as_it_is(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(markdown(text), expected);
    }

    #[rstest]
    #[case::plain("pod uid", "`pod uid`")]
    #[case::backtick("a`b", "``a`b``")]
    #[case::outer_backtick("`a`", "`` `a` ``")]
    #[case::bar_falls_back_to_text("a|`b`", r"a\|\`b\`")]
    #[case::empty("", "")]
    fn code_is_fenced_by_more_backticks_than_it_has(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(markdown_code(text), expected);
    }

    #[rstest]
    #[case::formula("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0")]
    #[case::after_a_tab("\t=1", "'=1")]
    #[case::minus("-1", "'-1")]
    #[case::text("connection refused", "connection refused")]
    fn no_cell_is_a_formula(#[case] text: &str, #[case] cell: &str) {
        assert_eq!(spreadsheet(text), cell);
    }

    #[test]
    fn words_are_wrapped_and_a_long_one_is_broken() {
        let mut out = String::new();
        wrap(&mut out, "why: ", "one two three fifteen_letters four", 15);
        assert_eq!(out, "why: one two\n     three\n     fifteen_le\n     tters four\n");
    }

    #[test]
    fn a_long_word_of_emoji_is_broken_by_its_width() {
        let mut out = String::new();
        wrap(&mut out, "", "❤️❤️❤️❤️❤️ a", 9);
        assert_eq!(out, "❤️❤️❤️❤️\n❤️ a\n");
    }

    #[rstest]
    #[case::apart("answer within 10 s.", &["answer", "within", "10 s."])]
    #[case::two_in_a_row("1 m 30 s, then", &["1 m", "30 s,", "then"])]
    #[case::no_unit("10 sheep", &["10", "sheep"])]
    #[case::no_figure("pod s", &["pod", "s"])]
    #[case::empty("", &[""])]
    fn a_figure_keeps_its_unit(#[case] line: &str, #[case] expected: &[&str]) {
        assert_eq!(words(line).collect::<Vec<_>>(), expected);
    }

    #[rstest]
    #[case::fits("abc", 3, "abc")]
    #[case::cut("abcdef", 4, "abc…")]
    #[case::wide("日本語", 4, "日…")]
    #[case::wide_by_its_second_half("❤️❤️❤️", 5, "❤️❤️…")]
    fn a_cut_text_fits_and_shows_that_it_was_cut(#[case] text: &str, #[case] columns: usize, #[case] expected: &str) {
        assert_eq!(cut(text, columns), expected);
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left(text in any::<String>()) {
            prop_assert!(!one_line(&text).chars().any(is_hidden));
            prop_assert_eq!(one_line(&one_line(&text)), one_line(&text));
        }

        #[test]
        fn a_wrapped_line_is_never_too_long(text in "([a-z日 ]|❤️|👩‍🚒|10 s){0,200}", columns in 20..100_usize) {
            let mut out = String::new();
            wrap(&mut out, "  - ", &text, columns);
            prop_assert!(out.lines().all(|line| width(line) <= columns), "{}", out);
        }
    }
}
