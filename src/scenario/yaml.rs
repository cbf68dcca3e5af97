//! YAML as a tree in which every value knows its place.
//!
//! The subset is small on purpose: one document, no tags, no merge keys, text keys. What a hostile file could cost is bounded: its size by
//! [`super::MAX_FILE`], its depth by [`MAX_DEPTH`], what its aliases expand to by [`MAX_NODES`].
//!
//! # Words that mean different things to different readers
//!
//! `on` is true to a reader of YAML 1.1 and a word to one of YAML 1.2; `1_000` and `010` are numbers to the one and something else to the
//! other. Where a text or a number is wanted, such a value is [`Value::Ambiguous`] and has to be quoted or written plainly.

use std::{collections::BTreeMap, ops::Range};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{
    diagnostics::{Diagnostic, quoted},
    source::Source,
};

/// How deep lists and maps may be nested; a scenario needs five.
const MAX_DEPTH: usize = 32;

/// How many values a file may have, with every alias counted as what it stands for.
const MAX_NODES: usize = 50_000;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    /// In bytes of the text.
    pub(super) span: Range<usize>,
    /// How many values it is made of, itself included.
    size: usize,
}

/// What a value is, by the core schema of YAML 1.2.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// Nothing, `null` or `~`.
    Null,
    Bool(bool),
    /// A whole number, as it is written; `None`: it is beyond every range.
    Whole(Option<i128>, String),
    /// Any other number, as it is written.
    Number(String),
    /// A plain word that another reader of YAML takes for something else.
    Ambiguous(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Value {
    /// What was found, to follow "found ".
    pub(super) fn found(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Bool(value) => format!("`{value}`"),
            Self::Whole(_, text) | Self::Number(text) => format!("the number {}", quoted(text)),
            Self::Ambiguous(text) | Self::Text(text) if text.is_empty() => "an empty text".into(),
            Self::Text(text) if !matches!(plain(text), Self::Text(_)) => format!("the text {}", quoted(text)),
            Self::Ambiguous(text) | Self::Text(text) => quoted(text),
            Self::List(items) if items.is_empty() => "an empty list".into(),
            Self::List(_) => "a list".into(),
            Self::Map(entries) if entries.is_empty() => "an empty map".into(),
            Self::Map(_) => "a map".into(),
        }
    }
}

/// A list or a map that is not complete yet.
struct Open {
    span: Range<usize>,
    anchor: usize,
    map: bool,
    /// Of a map keys and values in turn.
    nodes: Vec<Node>,
}

/// Reads the one document of a text. `Ok(None)`: it holds nothing.
pub(super) fn read(source: &Source<'_>) -> Result<Option<Node>, Diagnostic> {
    refuse_control_characters(source)?;
    let mut parser = Parser::new_from_str(source.text);
    let mut stack: Vec<Open> = Vec::new();
    let mut anchors: BTreeMap<usize, Node> = BTreeMap::new();
    let mut root = None;
    let mut documents = 0;
    let mut nodes = 0;
    while let Some(event) = parser.next_event() {
        let (event, place) = event.map_err(|error| syntax_error(source, &stack, &error))?;
        let span = bytes(source, place);
        let alias = matches!(event, Event::Alias(_));
        let (done, anchor) = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => continue,
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    let message = "a file holds one scenario, and here a second document begins";
                    return Err(Diagnostic::at(source.excerpt(&span, "second document"), message)
                        .help("give each scenario a file of its own; a folder of them is a suite"));
                }
                continue;
            }
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) if tag.is_some() => {
                let _ = anchor;
                return Err(refused_tag(source, &span));
            }
            Event::SequenceStart(anchor, _) => {
                open(source, &mut stack, span, anchor, false)?;
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open(source, &mut stack, span, anchor, true)?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let open = stack.pop().expect("the parser closes what it opened");
                close(open, &span)
            }
            Event::Scalar(_, _, _, Some(_)) => return Err(refused_tag(source, &span)),
            Event::Scalar(text, style, anchor, None) => {
                let value = if style == ScalarStyle::Plain { plain(&text) } else { Value::Text(text.into_owned()) };
                (Node { value, span, size: 1 }, anchor)
            }
            Event::Alias(anchor) => match anchors.get(&anchor) {
                Some(node) => (node.clone(), 0),
                None => {
                    return Err(Diagnostic::at(source.excerpt(&span, ""), "this alias stands for something that holds the alias itself"));
                }
            },
        };
        // What is in a list or a map has been counted; an alias counts as all that it stands for.
        nodes += if alias { done.size } else { 1 };
        if nodes > MAX_NODES {
            return Err(Diagnostic::at(source.excerpt(&done.span, "up to here"), format!("the file has more than {MAX_NODES} values"))
                .note("an alias counts as all that it stands for"));
        }
        if anchor > 0 {
            anchors.insert(anchor, done.clone());
        }
        match stack.last_mut() {
            Some(open) => open.nodes.push(done),
            None => root = Some(done),
        }
    }
    Ok(root.filter(|root| root.value != Value::Null))
}

fn open(source: &Source<'_>, stack: &mut Vec<Open>, span: Range<usize>, anchor: usize, map: bool) -> Result<(), Diagnostic> {
    if stack.len() == MAX_DEPTH {
        return Err(too_deep(source, &span));
    }
    stack.push(Open { span, anchor, map, nodes: Vec::new() });
    Ok(())
}

fn close(open: Open, end: &Range<usize>) -> (Node, usize) {
    let size = 1 + open.nodes.iter().map(|node| node.size).sum::<usize>();
    // A bracket ends where it is closed. A block has no end of its own but where the next thing begins: it ends with the last thing in it.
    let last = open.nodes.last().filter(|_| end.is_empty()).map_or(end.end, |last| last.span.end);
    let span = open.span.start..last.max(open.span.end);
    let value = if open.map {
        let mut entries = Vec::with_capacity(open.nodes.len() / 2);
        let mut nodes = open.nodes.into_iter();
        while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
            entries.push((key, value));
        }
        Value::Map(entries)
    } else {
        Value::List(open.nodes)
    };
    (Node { value, span, size }, open.anchor)
}

fn too_deep(source: &Source<'_>, span: &Range<usize>) -> Diagnostic {
    Diagnostic::at(source.excerpt(span, ""), format!("lists and maps are nested more than {MAX_DEPTH} deep"))
}

fn bytes(source: &Source<'_>, place: Span) -> Range<usize> {
    let start = source.byte(place.start.index());
    start..source.byte(place.end.index()).max(start)
}

/// What a word without quotes is.
fn plain(text: &str) -> Value {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let all = |set: fn(&char) -> bool| !digits.is_empty() && digits.chars().all(|c| set(&c));
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf" | "-.INF" | ".nan" | ".NaN" | ".NAN" => {
            return Value::Number(text.into());
        }
        _ => {}
    }
    if all(char::is_ascii_digit) {
        // `010` is ten to one reader and eight to another.
        if digits.len() > 1 && digits.starts_with('0') {
            return Value::Ambiguous(text.into());
        }
        return Value::Whole(text.parse().ok(), text.into());
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && let Ok(value) = i128::from_str_radix(digits, radix)
            && !digits.starts_with(['+', '-'])
        {
            return Value::Whole(Some(value), text.into());
        }
    }
    if digits.contains(|c: char| c.is_ascii_digit())
        && all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'))
        && text.parse::<f64>().is_ok()
    {
        return Value::Number(text.into());
    }
    if is_more_in_yaml_1_1(text, digits) { Value::Ambiguous(text.into()) } else { Value::Text(text.into()) }
}

/// Whether a reader of YAML 1.1 takes a word for a boolean, a number with `_` or `:` in it, or a date.
fn is_more_in_yaml_1_1(text: &str, digits: &str) -> bool {
    let boolean = ["y", "n", "yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let number = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '_' | ':' | '.'))
        && digits.ends_with(|c: char| c.is_ascii_digit());
    let date = digits.len() == 10 && digits.char_indices().all(|(at, c)| if matches!(at, 4 | 7) { c == '-' } else { c.is_ascii_digit() });
    boolean || number || date
}

fn refuse_control_characters(source: &Source<'_>) -> Result<(), Diagnostic> {
    let allowed = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    let Some((at, c)) = source.text.char_indices().find(|(_, c)| !allowed(*c)) else { return Ok(()) };
    let code = u32::from(c);
    Err(Diagnostic::at(source.excerpt(&(at..at + c.len_utf8()), ""), format!("the control character U+{code:04X} is not allowed in YAML"))
        .help("a scenario is plain text; in a quoted text it can be written as an escape"))
}

fn refused_tag(source: &Source<'_>, span: &Range<usize>) -> Diagnostic {
    Diagnostic::at(source.excerpt(span, "has a tag"), "tags such as `!name` are not part of a scenario")
        .help("remove the tag; quotes make a text of anything")
}

fn syntax_error(source: &Source<'_>, stack: &[Open], error: &saphyr_parser::ScanError) -> Diagnostic {
    let at = source.byte(error.marker().index());
    // The parser looks ahead, so it may meet its own limit before we meet ours.
    if error.info().contains("recursion limit") {
        return too_deep(source, &(at..at));
    }
    let message = format!("this is not YAML: {}", error.info());
    // At the end of the file there is nothing to see; what is not closed stands before it.
    if at >= source.text.trim_end().len()
        && let Some(bracket) = stack.iter().rev().map(|open| open.span.start).find(|begin| source.text[*begin..].starts_with(['[', '{']))
    {
        return Diagnostic::at(source.excerpt(&(bracket..bracket + 1), "never closed"), message);
    }
    let diagnostic = Diagnostic::at(source.excerpt(&(at..at), ""), message);
    if source.is_indented_by_a_tab(at) { diagnostic.help("indent with spaces: YAML takes no tabs there") } else { diagnostic }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn tree(text: &str) -> Node {
        read(&Source::new("x", text)).expect("it is YAML").expect("it holds something")
    }

    fn refused(text: &str) -> String {
        read(&Source::new("x", text)).expect_err("it is refused").message().to_owned()
    }

    #[rstest]
    #[case::whole("12", Value::Whole(Some(12), "12".into()))]
    #[case::negative("-3", Value::Whole(Some(-3), "-3".into()))]
    #[case::hexadecimal("0x1f", Value::Whole(Some(31), "0x1f".into()))]
    #[case::decimal("1.5", Value::Number("1.5".into()))]
    #[case::exponent("1e3", Value::Number("1e3".into()))]
    #[case::infinite(".inf", Value::Number(".inf".into()))]
    #[case::on("on", Value::Ambiguous("on".into()))]
    #[case::capital_no("NO", Value::Ambiguous("NO".into()))]
    #[case::underscore("1_000", Value::Ambiguous("1_000".into()))]
    #[case::sexagesimal("12:30", Value::Ambiguous("12:30".into()))]
    #[case::octal_or_not("010", Value::Ambiguous("010".into()))]
    #[case::date("2026-11-23", Value::Ambiguous("2026-11-23".into()))]
    #[case::quoted("\"on\"", Value::Text("on".into()))]
    #[case::duration("90s", Value::Text("90s".into()))]
    #[case::name("delete-pod", Value::Text("delete-pod".into()))]
    #[case::boolean("true", Value::Bool(true))]
    fn a_plain_word_is_what_the_core_schema_says_unless_readers_differ(#[case] text: &str, #[case] value: Value) {
        assert_eq!(tree(text).value, value);
    }

    #[rstest]
    #[case::nothing("")]
    #[case::comments("# only\n# comments\n")]
    #[case::null("null")]
    #[case::an_empty_document("---\n")]
    fn a_text_without_a_value_is_nothing(#[case] text: &str) {
        assert_eq!(read(&Source::new("x", text)), Ok(None));
    }

    #[test]
    fn every_key_and_value_knows_its_place() {
        let text = "name: ä  # c\nprobe:\n  every: 10s\n  timeout: {a: [1, 2]}\n";
        let Value::Map(entries) = tree(text).value else { panic!("it is a map") };
        let shown: Vec<_> = entries.iter().map(|(key, value)| (&text[key.span.clone()], &text[value.span.clone()])).collect();
        assert_eq!(shown, [("name", "ä"), ("probe", "every: 10s\n  timeout: {a: [1, 2]}")]);
    }

    #[test]
    fn an_alias_is_what_it_stands_for() {
        let Value::Map(entries) = tree("a: &x [1]\nb: *x\n").value else { panic!("it is a map") };
        assert_eq!(entries[0].1, entries[1].1);
    }

    #[test]
    fn aliases_that_expand_without_end_are_refused() {
        let mut bomb = String::from("a0: &a0 [1]\n");
        for level in 1..20 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.extend(["a", &level.to_string(), ": &a", &level.to_string(), " [", &below, "]\n"]);
        }
        assert_eq!(refused(&bomb), "the file has more than 50000 values");
        assert!(refused("a: &a [*a]").contains("itself"));
    }

    #[test]
    fn without_aliases_every_value_counts_once() {
        let list = |n: usize| format!("[{}]", vec!["[1]"; n].join(", "));
        assert!(read(&Source::new("x", &list(MAX_NODES / 2 - 1))).is_ok());
        assert_eq!(refused(&list(MAX_NODES / 2)), "the file has more than 50000 values");
    }

    #[rstest]
    #[case::flow("[".repeat(200_000))]
    #[case::block("- ".repeat(200_000))]
    #[case::maps("{a: ".repeat(100_000))]
    fn deep_nesting_is_refused(#[case] text: String) {
        assert_eq!(refused(&text), "lists and maps are nested more than 32 deep");
    }

    #[rstest]
    #[case::second_document("a: 1\n---\nb: 2\n", "second document")]
    #[case::nul("a: \0", "U+0000")]
    #[case::escape("a: \u{1b}[2J", "U+001B")]
    #[case::tag("a: !!str 1", "tags")]
    #[case::tag_on_a_list("a: !x [1]", "tags")]
    #[case::unclosed("a: [1, 2", "not YAML")]
    #[case::tab("a:\n\tb: 1\n", "not YAML")]
    fn what_is_beyond_the_subset_is_refused(#[case] text: &str, #[case] part: &str) {
        let message = refused(text);
        assert!(message.contains(part), "{message}");
    }
}
