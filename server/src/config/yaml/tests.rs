use super::*;

fn document(text: &str) -> Document {
    Document::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

fn error(text: &str) -> String {
    let error = Document::parse(text).map(|found| panic!("{text}: {found:?}"));
    let error: Located = error.unwrap_err();
    format!("{}: {}", error.at, error.text)
}

#[test]
fn keys_have_paths_and_places() {
    let found = document(
        "data_dir: /x\nscrub:\n  interval_hours: 3\n  sample_rate:   '0.5'\nfoo: {a: 1}\n",
    );
    let entries: Vec<(&str, bool, String, String)> = found
        .entries
        .iter()
        .map(|e| {
            (
                &*e.path,
                e.setting.is_some(),
                e.at.to_string(),
                e.value_at.to_string(),
            )
        })
        .collect();
    assert_eq!(
        entries,
        [
            ("data_dir", true, "1:1".into(), "1:11".into()),
            ("scrub.interval_hours", true, "3:3".into(), "3:19".into()),
            ("scrub.sample_rate", true, "4:3".into(), "4:18".into()),
            ("foo", false, "5:1".into(), "5:6".into()),
        ]
    );
    assert_eq!(found.entries[2].node, Node::Text("0.5".into()));
}

#[test]
fn plain_scalars_have_types() {
    for (text, expected) in [
        ("", Node::Null),
        ("~", Node::Null),
        ("null", Node::Null),
        ("True", Node::Bool(true)),
        ("yes", Node::Text("yes".into())),
        ("42", Node::Integer(42)),
        ("-7", Node::Integer(-7)),
        ("0x1F", Node::Integer(31)),
        ("0o17", Node::Integer(15)),
        ("0x+1", Node::Text("0x+1".into())),
        ("1e3", Node::Float(1000.0)),
        ("2.5", Node::Float(2.5)),
        (".inf", Node::Float(f64::INFINITY)),
        ("inf", Node::Text("inf".into())),
        ("nan", Node::Text("nan".into())),
        ("e", Node::Text("e".into())),
        (":9000", Node::Text(":9000".into())),
        ("${X}", Node::Text("${X}".into())),
        ("1_000", Node::Text("1_000".into())),
    ] {
        assert_eq!(plain(text), expected, "{text}");
        assert_eq!(
            document(&format!("region: {text}")).entries[0].node,
            expected,
            "{text}"
        );
    }
}

#[test]
fn files_without_settings_are_empty() {
    for text in [
        "",
        "\n\n",
        "# only a comment\n",
        "---\n",
        "---\n...\n",
        "~",
        "\u{feff}",
    ] {
        assert_eq!(document(text).entries, [], "{text:?}");
    }
}

#[test]
fn what_is_no_file_of_settings_is_refused_with_its_place() {
    for (text, expected) in [
        ("- a\n", "1:1: the file is not a mapping"),
        ("data_dir\n", "1:1: the file is not a mapping"),
        (
            "region: a\nregion: b\n",
            "2:1: \"region\" is here a second time, after line 1",
        ),
        (
            "scrub:\n  sample_rate: 1\n  sample_rate: 1\n",
            "3:3: \"sample_rate\" is here a second time",
        ),
        ("region: a\n---\nregion: b\n", "2:1: a second document"),
        ("region: !secret a\n", "1:17: tags are not understood"),
        ("? [a]\n: b\n", "1:3: a key is a plain word"),
        ("region: *nowhere\n", "1:9:"),
        ("region: &a [*a]\n", "1:13: an alias inside"),
        ("region: \"open\n", "2:1:"),
        ("region: a: b\n", "1:10:"),
    ] {
        let found = error(text);
        assert!(found.starts_with(expected), "{text:?}: {found}");
    }
}

#[test]
fn groups_are_mappings_and_dots_are_no_paths() {
    let found = document("scrub: 5\nscrub.interval_hours: 3\n");
    assert_eq!(found.entry(&setting::SCRUB_INTERVAL), None);
    let strangers: Vec<String> = found
        .strangers()
        .iter()
        .map(|e| format!("{}: {}", e.at, e.text))
        .collect();
    assert_eq!(
        strangers,
        [
            "1:1: scrub is not a mapping: put its settings below it, indented",
            "2:1: unknown key \"scrub.interval_hours\": did you mean \"scrub.interval_hours\"?",
        ]
    );
}

#[test]
fn aliases_stand_for_values_but_not_for_too_many() {
    let found = document("region: &r eu\nvhost_domain: *r\n");
    assert_eq!(found.entries[1].node, Node::Text("eu".into()));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let below = format!("*a{}", level - 1);
        bomb += &format!(
            "a{level}: &a{level} [{}]\n",
            [below.as_str(); 10].join(", ")
        );
    }
    assert!(error(&bomb).ends_with("too many values"));
    // Nor for texts that are too long together: 1.5 GB here.
    let text = "x".repeat(500_000);
    let long = format!(
        "region: &a {text}\nvhost_domain: [{}]\n",
        "*a,".repeat(3000)
    );
    assert!(error(&long).ends_with("too many values"));
    let deep = format!("a: {}{}\n", "[".repeat(50), "]".repeat(50));
    assert!(error(&deep).ends_with("too many levels"));
}

#[test]
fn comments_belong_to_keys() {
    let found = document(
        "# head\n\n# about region\nregion: eu # beside\n# of scrub\nscrub: # group\n  # inner\n  sample_rate: 1\n\
         data_dir: |\n  # no comment\n# after\nlog_level: info\n# last\n#\n",
    );
    let comments: Vec<(&str, String)> = found
        .entries
        .iter()
        .map(|e| (&*e.path, e.comments.join("|")))
        .collect();
    assert_eq!(
        comments,
        [
            ("region", "head|about region|beside".into()),
            ("scrub.sample_rate", "of scrub|group|inner".into()),
            ("data_dir", String::new()),
            ("log_level", "after".into()),
        ]
    );
    assert_eq!(found.last_comments, ["last", ""]);
    assert_eq!(document(&"# long\n".repeat(5000)).last_comments.len(), 5000);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[-a-c:#&*!|>'\"%@{}\\[\\], \n\t\\\\é?~0-9]{0,60}") {
        let _ = Document::parse(&text);
    }
}
