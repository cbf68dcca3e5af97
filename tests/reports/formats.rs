//! Each report, for each kind of run: byte for byte, and parsed back.

use comeback::{
    report::{
        Format, figure, json, junit, probes, summary,
        terminal::{self, Style},
    },
    result::{RunResult, RunState, TrialResult, Verdict},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{make, support::golden};

const PLAIN: Style = Style { color: false, width: 80 };

#[test]
fn every_report_of_every_kind_of_run_is_as_it_was() {
    for (name, run) in make::all() {
        golden(&format!("reports/{name}/summary.md"), &summary::render(&run));
        golden(&format!("reports/{name}/junit.xml"), &junit::render(&run));
        golden(&format!("reports/{name}/terminal-80.txt"), &terminal::render(&run, PLAIN));
        golden(&format!("reports/{name}/terminal-140.txt"), &terminal::render(&run, Style { width: 140, ..PLAIN }));
    }
    for name in ["passed", "censored", "unfinished", "nasty"] {
        let run = kind(name);
        golden(&format!("reports/{name}/result.json"), &json::render(&run));
        golden(&format!("reports/{name}/probes.csv"), &probes::render(&run));
    }
    golden("reports/failed-law/terminal-color.txt", &terminal::render(&kind("failed-law"), Style { color: true, width: 80 }));
}

#[test]
fn the_same_result_gives_the_same_bytes() {
    for (_, run) in make::all() {
        for format in Format::ALL {
            assert_eq!(format.render(&run), format.render(&run.clone()));
        }
    }
}

fn kind(name: &str) -> RunResult {
    make::all().into_iter().find(|(known, _)| *known == name).expect("a kind of run with that name").1
}

// result.json

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(&json::schema()).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a JSON Schema")
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    golden("../../reports/result.schema.json", &json::schema());
}

#[test]
fn every_result_is_valid_by_the_schema() {
    let validator = validator();
    for (name, run) in make::all() {
        let result: Value = serde_json::from_str(&json::render(&run)).expect("the result is JSON");
        let faults: Vec<_> = validator.iter_errors(&result).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        assert!(faults.is_empty(), "{name}: {faults:#?}");
    }
}

#[rstest::rstest]
#[case::missing_key("/trials/0/rows", "lost", None)]
#[case::missing_figure("/trials/1/outage", "lo_ms", None)]
#[case::text_for_a_figure("/trials/1/outage", "ms", Some(json!("1.23 s")))]
#[case::negative_count("/trials/1/rows", "acknowledged", Some(json!(-1)))]
#[case::unknown_verdict("/trials/0", "verdict", Some(json!("fine")))]
#[case::another_form("", "schema", Some(json!("comeback/result/v9")))]
fn the_schema_refuses_what_a_reader_would_trip_over(#[case] place: &str, #[case] key: &str, #[case] value: Option<Value>) {
    let mut result: Value = serde_json::from_str(&json::render(&kind("passed"))).expect("the result is JSON");
    let object = result.pointer_mut(place).and_then(Value::as_object_mut).expect("an object at that place");
    assert!(object.contains_key(key));
    match value {
        Some(value) => object.insert(key.into(), value),
        None => object.remove(key),
    };
    assert!(!validator().is_valid(&result));
}

#[test]
fn the_keys_that_readers_count_on_are_there() {
    let result: Value = serde_json::from_str(&json::render(&kind("failed-law"))).expect("the result is JSON");
    assert_eq!(result["schema"], "comeback/result/v1");
    assert_eq!(result["exit_code"], 1);
    let trial = &result["trials"][1];
    assert_eq!(trial["scenario"], "kill-process");
    assert_eq!(trial["verdict"], "failed");
    assert_eq!(trial["outage"], json!({"ms": 1234, "lo_ms": 1189, "hi_ms": 1302}));
    assert_eq!(trial["recovery"], json!({"ms": 1270, "lo_ms": 1200, "hi_ms": 1340}));
    assert_eq!(trial["rows"]["lost"], 3);
    assert_eq!(trial["laws"][0]["law"], "no_lost_row");
    assert_eq!(trial["laws"][0]["verdict"], "failed");
    assert_eq!(trial["evidence"][0]["role"], "proof");
    let censored: Value = serde_json::from_str(&json::render(&kind("censored"))).expect("the result is JSON");
    assert_eq!(censored["trials"][1]["outage"], json!({"ms": null, "lo_ms": 59870, "hi_ms": null}));
    assert_eq!(censored["trials"][1]["rows"]["lost"], Value::Null);
}

// junit.xml

/// What a CI system reads out of the document: cases, failures, errors, skipped; checked against what the document says of itself.
fn counts(xml: &str) -> [usize; 4] {
    let document = roxmltree::Document::parse(xml).unwrap_or_else(|why| panic!("not XML: {why}\n{xml}"));
    let of = |name: &str| document.descendants().filter(|node| node.has_tag_name(name)).count();
    let counts = [of("testcase"), of("failure"), of("error"), of("skipped")];
    for tag in ["testsuites", "testsuite"] {
        let node = document.descendants().find(|node| node.has_tag_name(tag)).expect("a suite");
        for (attribute, count) in ["tests", "failures", "errors", "skipped"].into_iter().zip(counts) {
            assert_eq!(node.attribute(attribute), Some(count.to_string().as_str()), "{attribute} of {tag}");
        }
    }
    for case in document.descendants().filter(|node| node.has_tag_name("testcase")) {
        let red = case.children().filter(|node| node.has_tag_name("failure") || node.has_tag_name("error")).count();
        assert!(red <= 1, "one element for each case");
    }
    counts
}

#[test]
fn a_ci_system_counts_what_the_run_counted() {
    let expected = [
        ("passed", [4, 0, 0, 0]),
        ("failed-law", [3, 1, 0, 0]),
        ("too-slow", [2, 1, 0, 0]),
        ("unproven", [2, 0, 1, 0]),
        ("error", [2, 0, 1, 0]),
        ("censored", [2, 1, 0, 0]),
        ("empty", [1, 0, 1, 0]),
        ("nasty", [2, 1, 1, 0]),
        ("skipped", [2, 0, 1, 1]),
        ("law-not-asked", [1, 0, 0, 0]),
        ("interrupted", [4, 0, 3, 0]),
        ("unfinished", [4, 0, 3, 0]),
        ("did-not-start", [1, 0, 1, 0]),
    ];
    let actual: Vec<_> = make::all().iter().map(|(name, run)| (*name, counts(&junit::render(run)))).collect();
    assert_eq!(actual, expected);
}

#[test]
fn a_failure_holds_the_measured_figure_and_its_bounds() {
    let xml = junit::render(&kind("too-slow"));
    let document = roxmltree::Document::parse(&xml).expect("the document is XML");
    let failures: Vec<_> = document.descendants().filter(|node| node.has_tag_name("failure")).collect();
    assert_eq!(failures.len(), 1);
    assert_eq!(
        failures[0].attribute("message"),
        Some("the recovery took longer than `recoveryWithin` allows (recovery 1.27 s [1.20, 1.34], limit 500 ms)")
    );
    let case = failures[0].parent().expect("a case");
    assert_eq!((case.attribute("classname"), case.attribute("name")), (Some("sandbox"), Some("kill-process")));
    let property = |name| {
        let node = case.descendants().find(|node| node.has_tag_name("property") && node.attribute("name") == Some(name));
        node.and_then(|node| node.attribute("value"))
    };
    assert_eq!(property("outage_ms"), Some("1234"));
    assert_eq!(property("outage_lo_ms"), Some("1189"));
    assert_eq!(property("outage_hi_ms"), Some("1302"));
    assert_eq!(property("recovery_ms"), Some("1270"));
    assert_eq!(property("recovery_limit_ms"), Some("500"));
}

#[test]
fn what_was_not_measured_is_no_property() {
    let xml = junit::render(&kind("censored"));
    assert!(xml.contains(r#"<property name="outage_lo_ms" value="59870"/>"#), "{xml}");
    let document = roxmltree::Document::parse(&xml).expect("the document is XML");
    let case = document.descendants().find(|node| node.attribute("name") == Some("delete-pod")).expect("the trial");
    let names: Vec<_> = case.descendants().filter(|node| node.has_tag_name("property")).filter_map(|node| node.attribute("name")).collect();
    for absent in ["outage_ms", "outage_hi_ms", "recovery_ms", "recovery_hi_ms", "unstable_ms", "rows_lost"] {
        assert!(!names.contains(&absent), "{absent} is among {names:?}");
    }
}

fn any_run() -> impl Strategy<Value = RunResult> {
    let trial = (prop::sample::select(Verdict::ALL.to_vec()), any::<bool>(), any::<bool>()).prop_map(|(verdict, begun, undone)| {
        let mut trial = if begun { make::drain_node() } else { TrialResult::planned("drain-node", 1) };
        trial.verdict = verdict;
        trial.undo.iter_mut().for_each(|undo| undo.done = undone);
        trial
    });
    let state = prop::sample::select(vec![RunState::Finished, RunState::Interrupted, RunState::Unfinished]);
    let texts = || prop::collection::vec(any::<String>(), 0..2);
    (prop::collection::vec(trial, 0..5), state, texts(), texts()).prop_map(|(trials, state, errors, left)| {
        let mut run = RunResult { state, errors, left_in_place: left, ..make::run(trials) };
        make::earn(&mut run);
        run
    })
}

proptest! {
    #[test]
    fn a_ci_system_is_green_if_and_only_if_the_exit_code_is_0(run in any_run()) {
        let [cases, failures, errors, skipped] = counts(&junit::render(&run));
        let green = failures + errors == 0 && cases > skipped;
        prop_assert_eq!(green, run.exit_code == 0);
    }

    #[test]
    fn no_text_makes_a_report_illegal(text in any::<String>()) {
        let mut run = kind("failed-law");
        run.trials[1].reason.clone_from(&text);
        run.trials[1].laws[0].detail.clone_from(&text);
        run.trials[1].attempts[0].error = Some(text.clone());
        counts(&junit::render(&run));
        let result: Value = serde_json::from_str(&json::render(&run)).expect("the result is JSON");
        prop_assert_eq!(&result["trials"][1]["reason"], &text);
        prop_assert_eq!(attempts(&probes::render(&run)).len(), run.trials.iter().map(|trial| trial.attempts.len()).sum::<usize>());
        let page = cells(&summary::render(&run));
        prop_assert_eq!(page.iter().map(Vec::len).collect::<Vec<_>>(), vec![4, 4]);
    }
}

// probes.csv

fn attempts(csv: &str) -> Vec<csv::StringRecord> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(reader.headers().expect("a line of names").iter().collect::<Vec<_>>(), probes::COLUMNS);
    reader.records().collect::<Result<_, _>>().expect("records of equal length")
}

#[test]
fn every_attempt_is_a_line_and_an_unknown_time_is_an_empty_cell() {
    let run = kind("passed");
    let csv = probes::render(&run);
    let rows = attempts(&csv);
    assert_eq!(rows.len(), run.trials.iter().map(|trial| trial.attempts.len()).sum::<usize>());
    let row = |row: usize| rows[row].iter().collect::<Vec<_>>();
    assert_eq!(row(0), ["steady", "1", "write-new", "0", "100.000", "100.037", "104.281", "acknowledged", "", "", ""]);
    assert_eq!(
        row(4),
        [
            "kill-process",
            "1",
            "write-new",
            "2",
            "300.000",
            "300.037",
            "304.281",
            "refused",
            "login",
            "921",
            "Database 'comeback' has not been recovered yet."
        ]
    );
    assert_eq!(row(5), ["kill-process", "1", "write-new", "3", "400.000", "", "", "dropped", "", "", ""]);
}

#[test]
fn no_cell_starts_a_formula_or_breaks_a_line() {
    let csv = probes::render(&make::nasty());
    let rows = attempts(&csv);
    assert_eq!(csv.lines().count(), rows.len() + 1);
    for row in &rows {
        assert!(!row.iter().any(|cell| cell.starts_with(['=', '+', '-', '@', '\t', '\r'])), "{row:?}");
    }
    assert!(rows.iter().any(|row| &row[10] == "'=1+1"));
}

// summary.md

/// A page as a forge renders it: with every extension that could take a text for markup.
fn parsed(page: &str) -> impl Iterator<Item = pulldown_cmark::Event<'_>> {
    use pulldown_cmark::{Event, Options, Parser};
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_GFM
        | Options::ENABLE_MATH;
    Parser::new_ext(page, options).inspect(|event| match event {
        Event::Html(html) | Event::InlineHtml(html) => panic!("HTML got through: {html}"),
        _ => {}
    })
}

/// The cells of every table of a page, as a reader sees them: a table, its rows, their text.
fn cells(page: &str) -> Vec<Vec<Vec<String>>> {
    use pulldown_cmark::{Event, Tag, TagEnd};
    let mut tables = Vec::new();
    let mut cell = None::<String>;
    for event in parsed(page) {
        match event {
            Event::Start(Tag::Table(_)) => tables.push(Vec::new()),
            Event::Start(Tag::TableHead | Tag::TableRow) => tables.last_mut().expect("in a table").push(Vec::new()),
            Event::Start(Tag::TableCell) => cell = Some(String::new()),
            Event::End(TagEnd::TableCell) => {
                let row = tables.last_mut().and_then(|table| table.last_mut()).expect("in a row");
                row.push(cell.take().expect("in a cell"));
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(cell) = &mut cell {
                    cell.push_str(&text);
                }
            }
            _ => {}
        }
    }
    tables
}

/// The paragraphs of a page, as a reader sees them.
fn paragraphs(page: &str) -> Vec<String> {
    use pulldown_cmark::{Event, Tag, TagEnd};
    let mut paragraphs = Vec::new();
    let mut open = false;
    for event in parsed(page) {
        match event {
            Event::Start(Tag::Paragraph) => {
                paragraphs.push(String::new());
                open = true;
            }
            Event::End(TagEnd::Paragraph) => open = false,
            Event::Text(text) | Event::Code(text) if open => paragraphs.last_mut().expect("a paragraph").push_str(&text),
            Event::SoftBreak | Event::HardBreak if open => paragraphs.last_mut().expect("a paragraph").push('\n'),
            _ => {}
        }
    }
    paragraphs
}

proptest! {
    #[test]
    fn a_reader_of_the_summary_sees_any_text_as_it_is(text in r"[ -_a-~é日]{1,40}|[-+=#*_0-9.)>\[\]x: ]{1,8}") {
        let read = text.split_whitespace().collect::<Vec<_>>().join(" ");
        prop_assume!(!read.is_empty());
        let mut run = kind("failed-law");
        run.trials[1].reason.clone_from(&text);
        run.trials[1].evidence[0].what.clone_from(&text);
        let page = summary::render(&run);
        prop_assert!(paragraphs(&page).contains(&read), "no paragraph reads {:?}:\n{}", read, page);
        prop_assert_eq!(&cells(&page)[1][1][0], &read);
    }
}

/// The [`make::NASTY`] text, as it must read wherever it stands on one line; what it has in backticks is code.
const NASTY_READ: &str = concat!(
    r#"a|b c "d" 'e' <script>alert(1)</script> & ]]> \u{1b}[31mred\u{7} # f - g *h* _i_ ~~j~~ \ "#,
    "👩‍🚒❤️",
    r" \u{202e}k\u{ffff}\u{0} [l](m)"
);

#[test]
fn a_reader_of_the_summary_sees_every_text_as_it_is() {
    let tables = cells(&summary::render(&make::nasty()));
    assert_eq!(tables.len(), 2, "the trials, and the evidence of the one that failed");
    assert_eq!(tables[0][1].len(), tables[0][0].len());
    let as_text = NASTY_READ.replace("|b c ", "|b `c` ");
    assert_eq!(tables[0][1][0], as_text, "a name is no message: its backticks are a part of it");
    assert_eq!(tables[0][1][8], NASTY_READ);
    assert_eq!(tables[1][1], [NASTY_READ, &as_text, &as_text, "proof"]);
}

#[test]
fn the_table_of_the_summary_holds_the_figures() {
    let tables = cells(&summary::render(&kind("passed")));
    let row = |row: usize| tables[0][row].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(row(1), ["steady", "passed", "none", "-", "-", "1,412", "0", "0", "-"]);
    assert_eq!(
        row(3),
        [
            "kill-process (trial 2)",
            "passed",
            "1.23 s [1.18, 1.31]",
            "1.27 s [1.20, 1.34]",
            "10 s",
            "1,618",
            "4 (3 found)",
            "0",
            "restart count, server start time"
        ]
    );
}

#[test]
fn the_first_thing_after_the_headline_is_the_cause() {
    for (name, cause) in [
        ("failed-law", "kill-process failed: 3 of 1,618 acknowledged rows are gone"),
        ("unproven", "kill-process is unproven: nothing shows that the fault happened"),
        ("error", "kill-nothing met an error: could not inject"),
        ("did-not-start", "the sandbox did not start"),
    ] {
        let page = summary::render(&kind(name));
        let quote = page.lines().find(|line| line.starts_with("> ")).expect("a cause");
        assert!(quote[2..].replace('\\', "").starts_with(cause), "{quote}");
        assert!(page.lines().position(|line| line == quote) < Some(6), "{page}");
    }
}

// The terminal

#[test]
fn no_line_is_wider_than_the_terminal() {
    for (name, run) in make::all() {
        for width in [60, 80, 100, 140, 200] {
            let text = terminal::render(&run, Style { color: false, width });
            for line in text.lines() {
                assert!(unicode_width::UnicodeWidthStr::width(line) <= width, "{name} at {width}: {line}");
                assert!(!line.contains(|c: char| c.is_control()), "{name} at {width}: {line:?}");
                assert_eq!(line, line.trim_end(), "{name} at {width}: spaces at the end");
            }
        }
    }
}

#[test]
fn without_its_colours_the_table_is_the_plain_one() {
    for (name, run) in make::all() {
        let mut painted = terminal::render(&run, Style { color: true, ..PLAIN });
        assert!(painted.contains('\u{1b}'), "{name} has no colour at all");
        while let Some(start) = painted.find('\u{1b}') {
            let end = start + painted[start..].find('m').expect("the end of a colour");
            painted.replace_range(start..=end, "");
        }
        assert_eq!(painted, terminal::render(&run, PLAIN), "{name}");
    }
}

#[test]
fn a_wide_terminal_shows_every_column_and_a_narrow_one_those_that_matter() {
    let run = kind("passed");
    let titles = |width| {
        let text = terminal::render(&run, Style { color: false, width });
        let line = text.lines().find(|line| line.contains("verdict")).expect("a line of titles").to_owned();
        line.split("  ").map(str::trim).filter(|title| !title.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(titles(150), ["scenario", "verdict", "outage", "recovery", "limit", "acknowledged", "in doubt", "lost", "proof"]);
    assert_eq!(titles(84), ["scenario", "verdict", "outage", "recovery", "lost"]);
    assert_eq!(titles(60), ["scenario", "verdict", "outage"]);
}

#[test]
fn a_trial_that_did_not_pass_says_why_under_its_line() {
    let text = terminal::render(&kind("failed-law"), PLAIN);
    let lines: Vec<_> = text.lines().collect();
    let row = lines.iter().position(|line| line.contains("kill-process")).expect("the line of the trial");
    assert_eq!(lines[row + 1], "    3 of 1,618 acknowledged rows are gone");
    assert!(lines[row + 2].starts_with("    law no_lost_row failed: writer 2"), "{text}");
    assert_eq!(lines.last(), Some(&"1 failed, 2 passed in 41 s"));
}

#[test]
fn a_reason_can_be_told_with_the_figures_of_the_reports() {
    assert_eq!(figure::recovery_and_limit(&make::too_slow(make::kill_process())), "1.27 s [1.20, 1.34], limit 500 ms");
}
