use super::*;

/// What each source says: the flag, the context that a flag names, the environment, the file, the current context.
fn variables(says: &[(Source, &[&'static str])]) -> Variables {
    let mut variables = Variables::default();
    for (source, names) in says {
        for name in *names {
            let value = format!("{name} of {source:?}");
            match source {
                Source::Flag => _ = variables.flags.insert(name, value),
                Source::Environment => _ = variables.environment.insert(name, value.into()),
                Source::File => _ = variables.file.insert((*name).to_owned(), value.into()),
                _ => {
                    let fields = contexts::FIELDS.iter();
                    let field = fields.clone().find(|(_, known, _)| known == name).unwrap().0;
                    variables.is_named = *source == Source::Named;
                    let context = variables.context.get_or_insert_default();
                    context.0 = "partner".to_owned();
                    context.1.0.insert(field.to_owned(), value.into());
                }
            }
        }
    }
    variables
}

/// The key that goes to the engine, or why none does.
fn sent(says: &[(Source, &[&'static str])], url: &'static str, key: &'static str) -> String {
    let (variables, group) = (variables(says), Group::of(url));
    let from = variables.source(group).unwrap();
    let at = variables.get(from, url).unwrap().map(|found| found.value).unwrap_or_default();
    match variables.keyed(&[key], group, from, &at) {
        Ok(Some(found)) => found.value.split(" of ").last().unwrap().to_owned(),
        Ok(None) => "none".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_key_goes_where_its_source_says_and_nowhere_else() {
    use Source::{Current, Environment, File, Flag, Named};
    for (url, key) in [("ENSYNC_URL", "ENSYNC_APP_KEY"), ("ENSYNC_ADMIN_URL", "ENSYNC_ADMIN_TOKEN")] {
        let (only_url, only_key, both): (&[_], &[_], &[_]) = (&[url], &[key], &[url, key]);
        for (says, expected) in [
            // From one place, whatever else says a key.
            (&[(Environment, both), (Current, both)][..], "Environment"),
            (&[(Named, both), (Environment, both), (File, both)], "Named"),
            // Nobody says where.
            (&[(Environment, only_key)], "Environment"),
            (&[(File, only_key)], "File"),
            // It is typed.
            (&[(Flag, only_url), (Environment, both)], "Environment"),
            (&[(Flag, only_url), (File, both)], "File"),
            (&[(Flag, only_url), (Named, both)], "Named"),
            (&[(Environment, only_url), (File, only_key)], "File"),
        ] {
            assert_eq!(sent(says, url, key), expected, "{says:?}");
        }
        for says in [
            // A directory chooses the engine.
            &[(File, only_url), (Environment, only_key)][..],
            &[(File, only_url), (Current, both)],
            // A context does, and has no key.
            &[(Named, only_url), (Environment, only_key)],
            &[(Current, only_url), (Environment, only_key)],
            // The key is another engine's.
            &[(Environment, only_url), (File, both)],
            &[(Environment, only_url), (Current, both)],
            &[(Flag, only_url), (Current, both)],
            // The engine has a key, and this is another one.
            &[(File, both), (Environment, only_key)],
            &[(Current, both), (Environment, only_key)],
            &[(Current, both), (File, only_key)],
        ] {
            let refused = sent(says, url, key);
            assert!(
                refused.contains("the engine comes from") && refused.contains("may be for another"),
                "{says:?}: {refused}"
            );
        }
        assert_eq!(sent(&[(Environment, only_url)], url, key), "none");
    }
}

/// Whoever exported a key and made a context of it afterwards has it twice.
#[test]
fn the_same_key_in_two_places_is_no_contradiction() {
    for aside in [Source::Environment, Source::File] {
        for (said, is_sent) in [("key", true), (" key\n", true), ("other", false)] {
            let mut all = variables(&[(Source::Current, &["ENSYNC_URL"])]);
            all.context.get_or_insert_default().1.0.insert("app_key".to_owned(), "key".to_owned().into());
            match aside {
                Source::Environment => _ = all.environment.insert("ENSYNC_ACCESS_KEY", said.into()),
                _ => _ = all.file.insert("ENSYNC_ACCESS_KEY".to_owned(), said.to_owned().into()),
            }
            let keys = ["ENSYNC_APP_KEY", "ENSYNC_ACCESS_KEY"];
            match all.keyed(&keys, Group::Client, Source::Current, "ENSYNC_URL of Current") {
                Ok(found) => assert!(is_sent && *found.unwrap().value == "key", "{aside:?} {said}"),
                Err(error) => assert!(!is_sent && error.to_string().contains("take one of the two away"), "{error}"),
            }
        }
    }
}

#[test]
fn what_was_found_is_not_shown() {
    let found = variables(&[(Source::File, &["ENSYNC_APP_KEY"])]).first(&["ENSYNC_APP_KEY"]).unwrap().unwrap();
    assert!(found.value.contains("of File"));
    assert_eq!(format!("{found:?}"), "Found { name: \"ENSYNC_APP_KEY\", origin: File(\"ENSYNC_APP_KEY\"), .. }");
    let context = Context([("app_key".to_owned(), "hush".to_owned().into())].into());
    assert_eq!(format!("{context:?}"), "Context { app_key, .. }");
}

#[test]
fn what_says_how_an_engine_is_reached_is_of_that_engine() {
    use Source::{Current, Environment, Named};
    let all: &[_] = &["ENSYNC_URL", "ENSYNC_CA_FILE"];
    let place = |says: &[(Source, &[&'static str])]| variables(says).place("ENSYNC_CA_FILE").map(|(source, _)| source);
    assert_eq!(place(&[(Current, all)]), Some(Current));
    assert_eq!(place(&[(Current, all), (Environment, &["ENSYNC_URL"])]), None);
    assert_eq!(place(&[(Named, all), (Environment, all)]), Some(Named));
    let named = variables(&[(Named, all), (Environment, all)]).place("ENSYNC_URL").unwrap();
    assert_eq!(named.0, Named, "a context that is named counts");
}

#[test]
fn a_context_that_is_meant_and_broken_is_told_of() {
    let broken = |is_named| Variables {
        broken: Some((Exit::NotFound, "no context".to_owned())),
        is_named,
        environment: HashMap::from([("ENSYNC_URL", "h".into())]),
        ..Variables::default()
    };
    // The environment says it, so the current one is not asked; one that is named is.
    assert_eq!(broken(false).source(Group::Client).unwrap(), Source::Environment);
    for error in [
        broken(true).source(Group::Client).unwrap_err(),
        broken(true).first(&["ENSYNC_SECRET_KEY"]).unwrap_err(),
        broken(false).first(&["ENSYNC_SECRET_KEY"]).unwrap_err(),
        broken(false).source(Group::Admin).unwrap_err(),
    ] {
        assert_eq!((told(&*error).0, error.to_string()), (Exit::NotFound, "no context".to_owned()));
    }
}
