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
    use Source::{Current, Environment, File, Flag, Named};
    let all: &[_] = &["ENSYNC_URL", "ENSYNC_CA_FILE"];
    let place =
        |says: &[(Source, &[&'static str])]| variables(says).place("ENSYNC_CA_FILE", &[]).map(|(source, _)| source);
    assert_eq!(place(&[(Current, all)]), Some(Current));
    assert_eq!(place(&[(Current, all), (Environment, &["ENSYNC_URL"])]), None);
    assert_eq!(place(&[(Named, all), (Environment, all)]), Some(Named));
    // Whoever has a directory chooses nobody who reads the keys of others on their way.
    let (only_url, only_ca): (&[_], &[_]) = (&["ENSYNC_URL"], &["ENSYNC_CA_FILE"]);
    assert_eq!(place(&[(File, all)]), Some(File));
    for others in [Flag, Environment, Named, Current] {
        assert_eq!(place(&[(others, only_url), (File, only_ca)]), None, "{others:?}");
        let says: &[(Source, &[&'static str])] = &[(File, only_ca), (others, only_url), (Environment, only_ca)];
        assert_eq!(place(says), Some(Environment), "{others:?}");
        let left = variables(says).unused(Group::Client, others, "ENSYNC_URL of it");
        assert_eq!(left, None, "the environment goes before it");
    }
    assert_eq!(place(&[(File, only_ca)]), None);
    let left = variables(&[(Flag, only_url), (File, all)]).unused(Group::Client, Flag, "ENSYNC_URL of Flag").unwrap();
    assert!(
        left.contains("ENSYNC_CA_FILE in the file .env is not used: the engine comes from --url; give --ca"),
        "{left}"
    );
    let named = variables(&[(Named, all), (Environment, all)]).place("ENSYNC_URL", &[]).unwrap();
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

/// The certificate is shown by clients and by those who administer, and the file may name the engine of either.
#[test]
fn a_certificate_is_shown_to_the_engines_that_it_is_for() {
    use Source::{Environment, File};
    let certificate: &[_] = &["ENSYNC_CLIENT_CERT"];
    let said = variables(&[(Environment, &["ENSYNC_URL", "ENSYNC_CLIENT_CERT"]), (File, &["ENSYNC_ADMIN_URL"])]);
    assert_eq!(said.place(certificate[0], &[Group::Client]).map(|(source, _)| source), Some(Environment));
    for groups in [&[Group::Admin][..], &[Group::Client, Group::Admin]] {
        assert_eq!(said.place(certificate[0], groups), None);
    }
}

#[test]
fn what_the_file_names_gets_what_is_in_the_file_and_the_file_says_nothing_of_other_engines() {
    use Source::{Current, Default, Environment, File, Flag, Named};
    use table::What::{Identity, Key, KeyFile, Trust};
    let all = [Flag, Named, Environment, File, Current, Default];
    let mut tried = 0;
    for own in [Own::Nowhere, Own::Here, Own::Elsewhere] {
        for of in all {
            for what in [Key, KeyFile, Identity] {
                assert_eq!(may(what, of, File, own), of == File && what != KeyFile, "{what:?} of {of:?}");
                tried += 1;
            }
        }
        for engine in all {
            assert_eq!(may(Trust, File, engine, own), engine == File);
            assert!(!may(KeyFile, File, engine, own));
            // A context's keys are for its engine.
            for what in [Key, KeyFile, Identity, Trust] {
                let its = matches!(engine, Current | Default) || own == Own::Here;
                assert_eq!(may(what, Current, engine, own), its && engine != File, "{what:?} {engine:?} {own:?}");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 126);
}
