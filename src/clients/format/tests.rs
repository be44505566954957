use proptest::prelude::*;

use super::{json::Dialect, *};

const STRICT: Format = Format::Json(Dialect::Strict);
const LENIENT: Format = Format::Json(Dialect::Lenient);
const SLOT: Slot<'_> = Slot { servers: "s", name: "calc" };

fn entry() -> Tree {
    Tree::Map(vec![
        ("command".into(), Tree::text(r"C:\Zoë\calc.exe")),
        ("args".into(), Tree::List(vec![Tree::text("a b"), Tree::text("c")])),
    ])
}

/// Puts it in and checks the whole text, then takes it out again.
fn check(format: Format, before: &str, expected: &str) -> String {
    let after = format.insert(before, SLOT, &entry()).unwrap_or_else(|error| panic!("{error}\n{before}"));
    assert_eq!(after, expected, "\n{after}");
    let moved = format.set(&after, SLOT, "command", "/x").unwrap_or_else(|error| panic!("{error}\n{after}"));
    assert_eq!(format.set(&moved, SLOT, "command", r"C:\Zoë\calc.exe").as_deref(), Ok(after.as_str()));
    format.remove(&after, SLOT).unwrap_or_else(|error| panic!("{error}\n{after}"))
}

fn check_there_and_back(format: Format, before: &str, expected: &str) {
    assert_eq!(check(format, before, expected), before);
}

const NEW: &str = r#"{
  "s": {
    "calc": {
      "command": "C:\\Zoë\\calc.exe",
      "args": ["a b", "c"]
    }
  }
}
"#;

#[test]
fn json_that_is_not_there_or_empty_is_written() {
    for before in ["", "\n", "  \n"] {
        let after = STRICT.insert(before, SLOT, &entry()).expect("an edit");
        assert_eq!(after.trim(), NEW.trim(), "{before:?}");
        assert!(after.ends_with('\n'), "{before:?}");
    }
    check(STRICT, "{}", NEW.trim_end());
    check(STRICT, "{}\n", NEW);
}

#[test]
fn json_keeps_comments_commas_indentation_and_ends() {
    check_there_and_back(
        LENIENT,
        "// top\n{\n    // servers\n    \"s\": {\n        \"a\": { \"x\": [1,2] }, // a\n        /* b */ \"b\": {},\n    },\n    \"z\": 1.50, \n} // end",
        "// top\n{\n    // servers\n    \"s\": {\n        \"a\": { \"x\": [1,2] }, // a\n        /* b */ \"b\": {},\n        \"calc\": {\n            \"command\": \"C:\\\\Zoë\\\\calc.exe\",\n            \"args\": [\"a b\", \"c\"],\n        },\n    },\n    \"z\": 1.50, \n} // end",
    );
    check_there_and_back(
        STRICT,
        "{\r\n\t\"s\": {\r\n\t\t\"a\": {}\r\n\t}\r\n}\r\n",
        "{\r\n\t\"s\": {\r\n\t\t\"a\": {},\r\n\t\t\"calc\": {\r\n\t\t\t\"command\": \"C:\\\\Zoë\\\\calc.exe\",\r\n\t\t\t\"args\": [\"a b\", \"c\"]\r\n\t\t}\r\n\t}\r\n}\r\n",
    );
    let gone = check(
        LENIENT,
        "{\n  \"a\": 1 // one\n  // last\n}\n",
        "{\n  \"a\": 1, // one\n  \"s\": {\n    \"calc\": {\n      \"command\": \"C:\\\\Zoë\\\\calc.exe\",\n      \"args\": [\"a b\", \"c\"]\n    }\n  }\n  // last\n}\n",
    );
    assert!(gone.contains("// one") && gone.contains("// last"), "{gone}");
}

#[test]
fn comments_around_an_entry_outlive_it() {
    let json = "{\n  \"s\": {\n    // before\n    \"calc\": {\"command\": \"x\"}, // behind\n    // after\n    \"b\": {}\n  }\n}\n";
    let gone = LENIENT.remove(json, SLOT).expect("an edit");
    assert!(gone.contains("// before") && gone.contains("// after") && gone.contains("\"b\": {}"), "{gone}");

    let toml = "# top\n[s.a]\nx = 1 # one\n\n# before\n[s.calc]\ncommand = \"x\"\n# inside\n\n[s.calc.env]\nA = \"1\"\n\n# after\n[z]\ny = 2\n";
    let gone = Format::Toml.remove(toml, SLOT).expect("an edit");
    assert_eq!(gone, "# top\n[s.a]\nx = 1 # one\n\n# before\n# inside\n\n\n# after\n[z]\ny = 2\n");

    let yaml = "s:\n  # before\n  calc:\n    cmd: x\n    # inside\n\n  # after\n  b: {}\n";
    let gone = Format::Yaml.remove(yaml, SLOT).expect("an edit");
    assert_eq!(gone, "s:\n  # before\n  # after\n  b: {}\n");
}

#[test]
fn toml_is_appended_to_and_nothing_moves() {
    let table = "[s.calc]\ncommand = \"C:\\\\Zoë\\\\calc.exe\"\nargs = [\"a b\", \"c\"]\n";
    check_there_and_back(Format::Toml, "", table);
    check_there_and_back(Format::Toml, "# only\n", &format!("# only\n\n{table}"));
    check_there_and_back(
        Format::Toml,
        "m = 'x' # c\n\n[s.a]\nargs = [\n  \"x\", # y\n]\n\n[z]\nq = \"\"\"\n[s.calc]\n\"\"\"\n",
        &format!("m = 'x' # c\n\n[s.a]\nargs = [\n  \"x\", # y\n]\n\n[z]\nq = \"\"\"\n[s.calc]\n\"\"\"\n\n{table}"),
    );
    check_there_and_back(
        Format::Toml,
        "[s]\r\nt = 1\r\n",
        &format!("[s]\r\nt = 1\r\n\r\n{}", table.replace('\n', "\r\n")),
    );
    // Without a newline at its end, a file gets one.
    assert_eq!(check(Format::Toml, "a = 1", &format!("a = 1\n\n{table}")), "a = 1\n");
    let inline = "{ command = \"C:\\\\Zoë\\\\calc.exe\", args = [\"a b\", \"c\"] }";
    check_there_and_back(
        Format::Toml,
        "s = { a = { x = 1 } } # c\n",
        &format!("s = {{ a = {{ x = 1 }}, calc = {inline} }} # c\n"),
    );
    check(Format::Toml, "s = {}\n", &format!("s = {{ calc = {inline} }}\n"));
    check(Format::Toml, "s.a.x = 1\n", &format!("s.a.x = 1\n\n{table}"));
}

#[test]
fn yaml_keeps_comments_anchors_quotes_and_block_scalars() {
    let lines = |indent: &str, step: &str| {
        format!(
            "{indent}calc:\n{indent}{step}command: \"C:\\\\Zoë\\\\calc.exe\"\n{indent}{step}args:\n{indent}{step}- \"a b\"\n{indent}{step}- c\n"
        )
    };
    let rest = "  a: &a # anchor\n    t: |\n      block\n        more\n\n    f: >-\n      folded\n  b: *a\n# end of s\nz: 'q' # c\nlist:\n- 1\n";
    check_there_and_back(
        Format::Yaml,
        &format!("# top\ns: # servers\n{rest}"),
        &format!("# top\ns: # servers\n{}{rest}", lines("  ", "  ")),
    );
    check_there_and_back(
        Format::Yaml,
        "---\ns:\n    # first\n    a:\n        x: 1\n",
        &format!("---\ns:\n{}    # first\n    a:\n        x: 1\n", lines("    ", "    ")),
    );
    check_there_and_back(
        Format::Yaml,
        "s:\r\n  a:\r\n    x: 1\r\nz: 2\r\n",
        &format!("s:\r\n{}  a:\r\n    x: 1\r\nz: 2\r\n", lines("  ", "  ").replace('\n', "\r\n")),
    );
    let gone = check(Format::Yaml, "z: 1\n", &format!("z: 1\ns:\n{}", lines("  ", "  ")));
    assert_eq!(gone, "z: 1\ns: {}\n");
    for before in ["", "# only a comment\n"] {
        check(Format::Yaml, before, &format!("{before}s:\n{}", lines("  ", "  ")));
    }
    check(Format::Yaml, "s:\nz: 1\n", &format!("s:\n{}z: 1\n", lines("  ", "  ")));
    check(Format::Yaml, "z: 1\ns:", &format!("z: 1\ns:\n{}", lines("  ", "  ")));
    check(Format::Yaml, "z: 1\ns: # none yet\n", &format!("z: 1\ns: # none yet\n{}", lines("  ", "  ")));
    let flow = "calc: {command: \"C:\\\\Zoë\\\\calc.exe\", args: [\"a b\", c]}";
    check_there_and_back(
        Format::Yaml,
        "s: {a: {x: 1}} # c\nz: 1\n",
        &format!("s: {{{flow}, a: {{x: 1}}}} # c\nz: 1\n"),
    );
    check_there_and_back(Format::Yaml, "s: {}\nz: 1\n", &format!("s: {{{flow}}}\nz: 1\n"));
    check_there_and_back(
        Format::Yaml,
        "é: \"ü\"\ns:\n  ñ: {x: 1}\n  b:\n    x: 1\n",
        &format!("é: \"ü\"\ns:\n{}  ñ: {{x: 1}}\n  b:\n    x: 1\n", lines("  ", "  ")),
    );
}

#[test]
fn a_new_path_keeps_the_comment_behind_it() {
    for (format, before) in [
        (LENIENT, "{\"s\": {\"calc\": {\"x\": 1, \"command\": @ /* old */, // c\n}}}"),
        (Format::Toml, "[s]\ncalc = { x = 1, command = @ } # old\n"),
        (Format::Toml, "[s.calc]\ncommand = @ # old\nx = 1\n"),
        (Format::Toml, "s.calc.command = @ # old\n"),
        (Format::Yaml, "s:\n  calc:\n    command: @ # old\n    x: 1\n"),
        (Format::Yaml, "s: {calc: {command: @ , x: 1}} # old\n"),
        (Format::Yaml, "s:\n  calc: {x: 1, command: @ # old\n    }\n"),
    ] {
        let quotings: &[&str] = match format {
            Format::Json(_) => &["\"/o\\\"'#ld\""],
            Format::Toml => &["\"/o\\\"'#ld\"", "'/o \"#ld'"],
            Format::Yaml => &["\"/o\\\"'old\"", "'/o ''\"old'", "/old"],
        };
        for quoting in quotings {
            let text = before.replace('@', quoting);
            let after = format.set(&text, SLOT, "command", "C:\\new").unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(after, before.replace('@', r#""C:\\new""#));
        }
    }
    let error = Format::Yaml.set("s:\n  calc:\n    command: >-\n      /old\n    x: 1\n", SLOT, "command", "/x");
    assert!(matches!(error, Err(FormatError::Unusual { .. })), "{error:?}");
}

#[test]
fn what_is_broken_is_refused_with_its_place() {
    let refused = |format: Format, text: &str, expected: &str| {
        let error = format.insert(text, SLOT, &entry()).expect_err(text);
        assert_eq!(error.to_string(), expected, "{text}");
    };
    refused(STRICT, "{\n  \"a\": 1,\n}\n", "line 2, column 9: trailing commas are not allowed");
    refused(STRICT, "{\n  // c\n}\n", "line 2, column 3: comments are not allowed");
    refused(STRICT, "{\n  \"a\": 1\n  \"b\": 2\n}\n", "line 2, column 9: expected comma");
    refused(STRICT, "{\"ü\": ", "line 1, column 7: expected value after colon in object property");
    refused(STRICT, "{'a': 1}", "line 1, column 2: single-quoted strings are not allowed");
    refused(STRICT, "{\"a\": 1", "line 1, column 1: unterminated object");
    refused(STRICT, "[]", "line 1, column 1: the file should be an object, in braces");
    refused(STRICT, "{\"a\": 1,\n \"s\": []}", "line 2, column 7: \"s\" should be an object, in braces");
    refused(STRICT, "{\"s\": null}", "line 1, column 7: \"s\" should be an object, in braces");
    refused(STRICT, "{\"a\": {\"b\": 1,\n \"b\": 2}}", "line 2, column 2: \"b\" is there twice; remove one of them");
    refused(STRICT, "{\"a\": 1, \"\\u0061\": 2}", "line 1, column 10: \"a\" is there twice; remove one of them");
    refused(STRICT, "{} {}", "line 1, column 4: text cannot contain more than one JSON value");
    refused(Format::Toml, "a = 1\nb = = 2\n", "line 2, column 5: extra `=`, expected nothing");
    refused(Format::Toml, "a = 1\na = 2\n", "line 2, column 1: duplicate key");
    refused(Format::Toml, "s = 1\n", "line 1, column 5: `s` should be a table");
    refused(Format::Yaml, "a: [1\nb: 2\n", "line 2, column 2: illegal placement of ':' indicator");
    refused(Format::Yaml, "a:\n\tb: 1\n", "line 2, column 2: tabs disallowed within this context (block indentation)");
    refused(Format::Yaml, "a: b: c\n", "line 1, column 5: mapping values are not allowed in this context");
    refused(Format::Yaml, "a: 1\na: 2\n", "line 2, column 1: \"a\" is there twice; remove one of them");
    refused(Format::Yaml, "- 1\n", "line 1, column 1: the file should be a mapping");
    refused(Format::Yaml, "s: [1]\n", "line 1, column 4: `s` should be a mapping");
    refused(Format::Yaml, "s: *x\n", "line 1, column 4: while parsing node, found unknown anchor");
    refused(Format::Yaml, "{\"s\": {}}\n", "line 1, column 1: the file is written in braces");
    refused(Format::Yaml, "a: 1\n---\nb: 1\n", "line 3, column 1: the file has several documents");
    refused(Format::Yaml, "a: 1\n...\n", "line 3, column 1: the document has an end marker");
}

/// A hostile or half-written file must not end the program either.
#[test]
fn deep_nesting_is_refused() {
    for (format, text) in [
        (STRICT, format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000))),
        (Format::Toml, format!("a = {}1{}\n", "[".repeat(100_000), "]".repeat(100_000))),
        (Format::Yaml, format!("a: {}1{}\n", "[".repeat(100_000), "]".repeat(100_000))),
    ] {
        assert!(matches!(format.parse(&text), Err(FormatError::Broken { .. })), "{format:?}");
    }
}

fn key() -> impl Strategy<Value = String> {
    "[a-z]{1,3}|ü \"x\\\\|calc|s"
}

/// JSON with comments, blank space and commas in odd places.
fn json_text() -> impl Strategy<Value = String> {
    let gap = prop_oneof![3 => Just(""), 1 => Just(" "), 1 => Just("\n  "), 1 => Just("\r\n\t"), 1 => Just(" // c\n"), 1 => Just("/* d */")];
    let leaf = prop_oneof![Just("1.50".to_owned()), Just("null".to_owned()), key().prop_map(|text| quoted(&text))];
    let value = leaf.prop_recursive(3, 24, 4, move |inner| {
        let members = prop::collection::btree_map(key(), (inner.clone(), gap.clone(), gap.clone(), gap.clone()), 0..4);
        (members, prop::bool::ANY).prop_map(|(members, trailing)| {
            let text = members.iter().map(|(key, (value, a, b, c))| format!("{a}{}:{b}{value}{c}", quoted(key)));
            let comma = if trailing && !members.is_empty() { "," } else { "" };
            format!("{{{}{comma}\n}}", text.collect::<Vec<_>>().join(","))
        })
    });
    (value.clone(), value).prop_map(|(a, b)| format!("{{\"q\": {a}, \"s\": {{\"r\": {b}}}}}"))
}

proptest! {
    #[test]
    fn no_text_makes_an_editor_panic(text in "[\\[\\]{}\"':,#=|>&*\\-a\n\r\t 1\\\\./ü]{0,40}") {
        for format in [STRICT, LENIENT, Format::Toml, Format::Yaml] {
            let Ok(after) = format.insert(&text, SLOT, &entry()) else { continue };
            let _ = format.remove(&after, SLOT);
            let _ = format.set(&after, SLOT, "command", "/x");
        }
    }

    #[test]
    fn json_loses_nothing(text in json_text()) {
        let parsed = LENIENT.parse(&text).expect("it is made to be good");
        if parsed.get("s").is_none_or(|servers| servers.get("calc").is_none()) {
            let after = LENIENT.insert(&text, SLOT, &entry()).expect("an edit");
            prop_assert_eq!(after.matches("// c").count() , text.matches("// c").count());
            let gone = LENIENT.remove(&after, SLOT).expect("an edit");
            prop_assert_eq!(LENIENT.parse(&gone).expect("JSON"), parsed);
            prop_assert_eq!(gone.matches("// c").count() + gone.matches("/* d */").count(), text.matches("// c").count() + text.matches("/* d */").count());
        }
    }

    #[test]
    fn texts_survive_in_every_language(text in "\\PC{0,12}|[\"\\\\\n\t\r:#{}\\[\\]\u{7f}\u{85}\u{2028}\u{feff}'%@`!&*|>?-]{0,6}") {
        let entry = Tree::Map(vec![("command".into(), Tree::Text(text.clone())), ("args".into(), Tree::List(vec![Tree::Text(text.clone())])), (text, Tree::Bool(true))]);
        for format in [STRICT, Format::Toml, Format::Yaml] {
            let after = format.insert("", SLOT, &entry).expect("an edit");
            prop_assert_eq!(format.entry(&after, SLOT).expect("good"), Some(entry.clone()));
        }
    }
}
