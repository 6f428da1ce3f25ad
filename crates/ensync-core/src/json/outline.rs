use super::cursor::Cursor;
use super::scan::repeated;
use super::{Fault, Member, Why};

/// The members of the object that a text is, of whose values nothing is checked but where they end: each is for who reads it to check.
/// So one that breaks the rule costs no other, and each may have all the levels of a document.
pub(crate) fn outline(text: &str) -> Result<Vec<Member<'_>>, Fault> {
    let mut cursor = Cursor::new(text);
    cursor.expect(b'{', "an object")?;
    let mut members = Vec::new();
    while cursor.next() != Some(b'}') {
        if !members.is_empty() {
            cursor.expect(b',', "a comma or a closing brace")?;
        }
        if cursor.next() != Some(b'"') {
            return Err(cursor.fault(Why::Expected("a name in quotation marks")));
        }
        let begin = cursor.at();
        let name = cursor.string()?;
        cursor.expect(b':', "a colon")?;
        cursor.next();
        let start = cursor.at();
        cursor.skip_unchecked()?;
        members.push(Member { name, value: cursor.since(start), span: (begin, cursor.at()) });
    }
    cursor.step();
    if cursor.next().is_some() {
        return Err(cursor.fault(Why::Expected("the end")));
    }
    match repeated(&members) {
        Some(at) => Err(cursor.fault_at(Why::Twice, at)),
        None => Ok(members),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart_whatever_is_in_them() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for value in [
            "1",
            "null",
            "NaN",
            "-Infinity",
            r#""a\"}b""#,
            r#""\\""#,
            r#""\ud800""#,
            r#"{"a":1,"a":[2,"]}"]}"#,
            "[{},[]]",
            "1e999",
            &deep,
            "\"é\\é\"",
            "\"\u{1}\"",
        ] {
            for text in [format!(r#"{{"a":{value},"b":7}}"#), format!(" {{ \"\\u0061\" : {value}\t, \"b\":7 \n}} ")] {
                let members = outline(&text).unwrap();
                let told: Vec<_> = members.iter().map(|member| (&*member.name, member.value)).collect();
                assert_eq!(told, [("a", value), ("b", "7")], "{text:.60}");
            }
        }
        assert_eq!(outline("{}").unwrap(), []);
    }

    #[test]
    fn what_is_no_object_says_where() {
        for (text, at) in [
            ("", 0),
            ("[]", 0),
            ("{", 1),
            (r#"{"a""#, 4),
            (r#"{"a":"#, 5),
            (r#"{"a":1"#, 6),
            (r#"{"a":1 "b":2}"#, 7),
            (r#"{"a":1,}"#, 7),
            (r#"{"a":,"b":1}"#, 5),
            (r#"{"a":[1,"b":1}"#, 14),
            (r#"{"a":"x}"#, 8),
            (r#"{"a":1}}"#, 7),
            (r#"{"a":1,"a":2}"#, 7),
            (r#"{"a":"\"#, 7),
            (r#"{"a":1]}"#, 6),
            (r#"{"\ud800":1}"#, 2),
        ] {
            let told = outline(text).map_err(|fault| fault.at);
            assert_eq!(told, Err(at), "{text}");
        }
    }
}
