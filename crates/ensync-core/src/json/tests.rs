use serde_json::Value;

use super::*;

fn refused(text: &str) -> Fault {
    scan(text).map(|_| ()).expect_err(&text.chars().take(60).collect::<String>())
}

#[test]
fn what_every_reader_takes_is_taken() {
    let deep = format!("{}1{}", "[".repeat(127), "]".repeat(127));
    let digits = format!("1{}", "0".repeat(308));
    for text in [
        "0",
        "-0",
        "1.10",
        "1e-400",
        "1.7976931348623157e308",
        "0e999999",
        "123456789012345678901234567890",
        "\"\"",
        r#""\u0000\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#,
        r#""\ud800\udc00\udbff\udfff\ud7ff\ue000""#,
        "\"\u{7f}\u{2028}\u{feff}é\"",
        "[]",
        "{}",
        " \n\r\t[ 1 , {\"a\" : null , \"b\":[true,false]} ] ",
        r#"{"a":{"a":1},"b":[{"a":1},{"a":1}]}"#,
        r#"{"":1,"__proto__":2,"$serde_json::private::RawValue":"1"}"#,
        &deep,
        &digits,
    ] {
        scan(text).unwrap();
        let read: Value = value(text).unwrap();
        if !text.contains("$serde") {
            assert_eq!(read, serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
    }
}

#[test]
fn what_some_reader_does_not_take_says_where_and_why() {
    let deep = format!("{}1{}", "[".repeat(128), "]".repeat(128));
    let bomb = "[".repeat(5_000_000);
    let digits = format!("1{}", "0".repeat(309));
    for (text, at, why) in [
        (r#"{"a":"\ud800"}"#, 6, Why::Surrogate),
        (r#"["\ud83dx"]"#, 2, Why::Surrogate),
        (r#"["\ud83d\ud83d"]"#, 2, Why::Surrogate),
        (r#"["\udc00"]"#, 2, Why::Surrogate),
        (r#"["\udfff"]"#, 2, Why::Surrogate),
        (r#"["\udbff"]"#, 2, Why::Surrogate),
        (r#"["\udbff\ue000"]"#, 2, Why::Surrogate),
        (r#"["\ud800\udbff"]"#, 2, Why::Surrogate),
        (r#"{"\udc00":1}"#, 2, Why::Surrogate),
        ("[1e400]", 1, Why::Range),
        ("-1e309", 0, Why::Range),
        (&digits, 0, Why::Range),
        (&deep, 127, Why::Depth),
        (&bomb, 127, Why::Depth),
        (r#"{"a":1,"a":1}"#, 7, Why::Twice),
        (r#"{"a":1,"\u0061":1}"#, 7, Why::Twice),
        (r#"[{"x":{"b":1,"a":2,"b":3}}]"#, 19, Why::Twice),
        ("\"a\tb\"", 2, Why::Control),
        ("\"a\0b\"", 2, Why::Control),
        (r#""\x""#, 1, Why::Escape),
        (r#""\u12g4""#, 1, Why::Escape),
        (r#""\u+123""#, 1, Why::Escape),
        ("", 0, Why::Expected("a value")),
        ("\u{feff}{}", 0, Why::Expected("a value")),
        ("NaN", 0, Why::Expected("a value")),
        ("-Infinity", 1, Why::Expected("a digit")),
        ("01", 1, Why::Expected("the end")),
        ("1.", 2, Why::Expected("a digit")),
        ("1e", 2, Why::Expected("a digit")),
        ("+1", 0, Why::Expected("a value")),
        ("[1,]", 3, Why::Expected("a value")),
        ("{\"a\":1,}", 7, Why::Expected("a name in quotation marks")),
        ("{,}", 1, Why::Expected("a name in quotation marks")),
        ("{a:1}", 1, Why::Expected("a name in quotation marks")),
        ("{\"a\" 1}", 5, Why::Expected("a colon")),
        ("[1}", 2, Why::Expected("a comma or a closing bracket")),
        ("{\"a\":1]", 6, Why::Expected("a comma or a closing brace")),
        ("\"abc", 4, Why::Expected("the end of the text, a quotation mark,")),
        ("tru", 0, Why::Expected("a value")),
        ("{} {}", 3, Why::Expected("the end")),
    ] {
        let fault = refused(text);
        assert_eq!((fault.at, fault.why), (at, why), "{}", text.chars().take(60).collect::<String>());
    }
    let fault = refused("{\n \"a\": 1,\n \"a\": 2}");
    assert_eq!(fault.to_string(), "line 3 column 2 (byte 12): a name that its object has already");
}

#[test]
fn a_repeated_name_is_found_among_many() {
    for count in [2, 8, 9, 10, 1_000] {
        let names: Vec<String> = (0..count).map(|n| format!("\"k{n}\":0")).collect();
        scan(&format!("{{{}}}", names.join(","))).unwrap();
        for again in [0, count / 2, count - 1] {
            let text = format!("{{{},\"k{again}\":1}}", names.join(","));
            assert_eq!(refused(&text).at, text.rfind("\"k").unwrap());
        }
    }
}

#[test]
fn the_members_of_the_outermost_object_are_told_as_they_stand_there() {
    let text = r#" {"a" : [1, {"x":{}}] ,"\u0062":"c\n", "":{"y":1.50} } "#;
    let members = scan(text).unwrap().members.unwrap();
    let found: Vec<(&str, &str)> = members.iter().map(|member| (&*member.name, member.value)).collect();
    assert_eq!(found, [("a", r#"[1, {"x":{}}]"#), ("b", r#""c\n""#), ("", r#"{"y":1.50}"#)]);
    assert_eq!(&text[members[1].span.0..members[1].span.1], r#""\u0062":"c\n""#);
    assert!(scan("[{}]").unwrap().members.is_none());
}

#[test]
fn the_value_that_a_text_begins_with_is_cut_off() {
    assert_eq!(split_json(r#" {"a":"};"} ;B=:1"#).unwrap(), (r#"{"a":"};"}"#, " ;B=:1"));
    assert_eq!(split_json("12;").unwrap(), ("12", ";"));
    assert!(split_json("{").is_err());
}

#[test]
fn texts_are_read_with_and_without_escapes() {
    for json in [r#""""#, r#""plain é""#, r#""\\n\\\\\n\"\/""#, r#""\u00e9\ud83d\ude00\\u0041""#, r#""\\\\""#] {
        assert_eq!(text(json).unwrap(), serde_json::from_str::<String>(json).unwrap(), "{json}");
    }
    for json in ["", "7", "\"a", "\"a\"b", "null"] {
        assert_eq!(text(json), None);
    }
}

#[test]
fn names_that_serde_json_takes_for_its_own_are_found() {
    for json in [
        r#"{"$serde_json::private::RawValue":"1"}"#,
        r#"[{"a":{"$serde_json::private::Number":"1"}}]"#,
        r#"{"\u0024serde_json::private::RawValue":"1"}"#,
        r#"{"$serde_json\u003a:private::RawValue":"1"}"#,
    ] {
        assert!(has_reserved_name(json), "{json}");
    }
    for json in ["{}", r#"{"a":"$serde_json::private::RawValue"}"#, r#"{"\u0024":1}"#, "not JSON"] {
        assert!(!has_reserved_name(json), "{json}");
    }
}

/// Whether serde_json takes a text: what it refuses, one of the others refuses, too, but for what is checked beyond it.
#[test]
fn what_is_taken_serde_json_takes() {
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let parts = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"b\"",
        "\"\\u00e9\"",
        "1",
        "-0",
        "1.5e3",
        "true",
        "null",
        " ",
        "\n",
        "\"",
        "\\",
        "1e309",
        "\"\\ud800\"",
        "{\"a\":1}",
        "[]",
    ];
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..200_000 {
        let text: String = (0..1 + random(9)).map(|_| parts[random(parts.len())]).collect();
        let theirs = serde_json::from_str::<Value>(&text);
        match scan(&text) {
            Ok(_) => {
                taken += 1;
                assert_eq!(value(&text).unwrap(), theirs.unwrap(), "{text}");
            }
            Err(Fault { why: Why::Twice, .. }) => assert!(theirs.is_ok(), "{text}"),
            Err(_) => {
                refused += 1;
                assert!(theirs.is_err(), "{text}");
            }
        }
    }
    assert!(taken > 2_000 && refused > 100_000, "{taken} {refused}");
}
