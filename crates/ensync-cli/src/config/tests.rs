use std::path::Path;

use super::*;

fn load_text(text: &str, variables: &[(&str, &str)], flags: Flags) -> Loaded {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ensync.toml");
    std::fs::write(&path, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
    load(false, Some(&path), variables, flags)
}

fn problems(loaded: &Loaded) -> Vec<String> {
    // Without the directory, which is another each time.
    let short = |problem: &Problem| {
        let text = problem.to_string();
        text.rsplit_once("/ensync.toml").map_or(text.clone(), |(_, rest)| format!("ensync.toml{rest}"))
    };
    loaded.problems.iter().map(short).collect()
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let text = "[limits]\nmax_sessions = 1\nmax_subscriptions = 1\nmax_connections = 1\n";
    let variables = [("ENSYNC_LIMITS_MAX_SUBSCRIPTIONS", "2"), ("ENSYNC_LIMITS_MAX_CONNECTIONS", "2"), ("PATH", "x")];
    let flags = vec![("--set", "limits.max_connections".to_owned(), Raw::Words("3".into()))];
    let loaded = load_text(text, &variables, flags);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let config = &loaded.config;
    assert_eq!((config.max_sessions, config.max_subscriptions, config.max_connections), (1, 2, 3));
    let printed = loaded.print();
    assert!(printed.contains("max_subscriptions = 2 # environment variable ENSYNC_LIMITS_MAX_SUBSCRIPTIONS"));
    assert!(printed.contains("max_connections = 3 # --set") && printed.contains("ensync.toml:2"), "{printed}");
    assert!(printed.contains("ack_timeout = \"1m\" # default"), "{printed}");
}

#[test]
fn everything_that_is_wrong_is_told_at_once_each_with_its_line() {
    let text = "\
data = 5
listen = [\"localhost:50051\"]
[limits]
max_sesions = 5
max_payload = \"64 parsecs\"
login_timeout = 30
max_in_flight = 0
[nonsense]
app_key = \"s3cret\"
[defaults]
ttl = \"forever\"
ack_timeout = \"0s\"
[log]
format = \"xml\"
level = \"loud\"
";
    let found = problems(&load_text(text, &[("ENSYNC_INSECURE", "yes")], Vec::new()));
    let expected = [
        "ensync.toml:1: data cannot be 5: it is a path in quotes",
        "ensync.toml:2: listen cannot be [\"localhos…\"]: it is a list of IP addresses with ports",
        "ensync.toml:4: there is no setting \"limits.max_sesions\"; did you mean limits.max_sessions?",
        "ensync.toml:5: limits.max_payload cannot be \"64 parse…\": it is a size with its unit",
        "ensync.toml:6: limits.login_timeout cannot be 30: it is a time with its unit in quotes",
        "ensync.toml:7: limits.max_in_flight cannot be 0: it is a whole number from 1",
        "ensync.toml:9: there is no section \"nonsense\"",
        "ensync.toml:11: defaults.ttl cannot be \"forever\": it is \"never\", or a time",
        "ensync.toml:14: log.format cannot be \"xml\": it is \"text\" or \"json\"",
        "ensync.toml:15: log.level cannot be \"loud\"",
        "environment variable ENSYNC_INSECURE: insecure cannot be \"yes\": it is true or false",
        "ensync.toml:12: defaults.ack_timeout has to be longer than nothing",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nis not\n{expected}");
    }
    assert!(!format!("{found:?}").contains("s3cret"), "a value in a place that is none may be a secret");
}

#[test]
fn what_is_not_toml_is_told_with_its_line_and_the_rest_is_read() {
    let found = problems(&load_text("data = \nlisten = [\n\n[limits]\nmax_sessions = \"many\"\n", &[], Vec::new()));
    assert!(found.iter().any(|problem| problem.starts_with("ensync.toml:1: this is not TOML")), "{found:?}");
    let missing = load(false, Some(Path::new("/nonexistent/ensync.toml")), [], Vec::new());
    assert!(missing.problems[0].to_string().contains("cannot read the configuration file /nonexistent/ensync.toml"));
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (text, part) in [
        ("listen = []", "there is no address to listen on"),
        ("listen = [\"127.0.0.1:5\"]\nlisten_plaintext = [\"127.0.0.1:5\"]", "127.0.0.1:5 is listened on twice"),
        ("[tls]\ncertificate = \"/dev/null\"", "tls.key has to be set as well"),
        ("[tls]\nkey = \"/nonexistent\"\ncertificate = \"/dev/null\"", "cannot read /nonexistent"),
        ("[tls]\nclient_ca = \"/dev/null\"", "tls.certificate and tls.key have to be set"),
        ("[admin]\ntls = true", "tls.certificate and tls.key have to be set"),
        ("[limits]\nmax_sessions = 0", "limits.max_sessions is 0"),
        ("[limits]\nmax_sessions_per_app = 0", "limits.max_sessions_per_app is 0"),
        ("[limits]\nmax_subscriptions = 0", "limits.max_subscriptions is 0"),
        ("[limits]\nmax_payload = \"0B\"", "limits.max_payload is 0"),
        ("[storage]\nsegment_size = \"1KiB\"", "has to be from \"64KiB\" to \"1GiB\""),
    ] {
        let found = problems(&load_text(text, &[], Vec::new()));
        assert!(found.iter().any(|problem| problem.contains(part)), "{text}: {found:?}");
    }
}

#[test]
fn risky_settings_are_warned_of() {
    for (text, part) in [
        ("insecure = true", "insecure is on"),
        ("data = \"/tmp/x\"", "does not outlive"),
        ("[admin]\nlisten = \"0.0.0.0:1\"", "metrics are open"),
        ("[storage]\nretention_size = \"64MiB\"", "less than four segments:"),
        ("[storage]\npartitions = 4\nretention_size = \"1000MiB\"", "less than four segments for each partition"),
        ("[storage]\nretention_size = \"1000PiB\"", "in all: what is settled goes"),
        ("[storage]\ncheckpoint_size = \"64KiB\"", "most of what is written will be checkpoints"),
        ("[deduplication]\nwindow = \"1s\"", "may be stored twice"),
        ("[defaults]\nack_timeout = \"10ms\"", "get events twice"),
        ("[defaults]\nttl = \"1ms\"", "expire before"),
        ("shutdown_timeout = \"0s\"", "cut off in the middle"),
        ("[log]\nlevel = \"debug\"", "every command is logged"),
    ] {
        let loaded = load_text(text, &[], Vec::new());
        assert!(loaded.problems.is_empty(), "{text}: {:?}", loaded.problems);
        assert!(loaded.warnings.iter().any(|warning| warning.contains(part)), "{text}: {:?}", loaded.warnings);
    }
    let loaded = load_text("", &[("ENSYNC_LIMITS_MAX_SESIONS", "1"), ("ENSYNC_APP_KEY", "k")], Vec::new());
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("ENSYNC_LIMITS_MAX_SESIONS is no setting"));
}

#[test]
fn the_defaults_are_neither_wrong_nor_risky_and_print_as_a_file_that_says_the_same() {
    let loaded = load_text("", &[], Vec::new());
    assert!(loaded.problems.is_empty() && loaded.warnings.is_empty(), "{loaded:?}");
    let again = load_text(&loaded.print(), &[], Vec::new());
    assert!(again.problems.is_empty() && again.warnings.is_empty(), "{again:?}");
    for key in KEYS {
        assert_eq!((key.show)(&again.config), (key.show)(&loaded.config), "{}", key.name);
        assert!(!key.about.is_empty() && key.about.ends_with('.'), "{}", key.name);
    }
}

#[test]
fn the_manual_and_the_example_name_every_setting_with_its_default_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = std::fs::read_to_string(root.join("../ensync-engine/src/manual/configuration.md")).unwrap();
    let rows = manual.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        Some((cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.trim_matches('`').to_owned()))
    });
    let rows: Vec<_> = rows.collect();
    let defaults = Config::default();
    let expected = KEYS.iter().map(|key| {
        let default = (key.show)(&defaults).unwrap_or_default();
        (key.name.to_owned(), default)
    });
    assert_eq!(rows, expected.collect::<Vec<_>>());

    // What is commented out in the example is a default too, but for the paths.
    let example = std::fs::read_to_string(root.join("packaging/ensync.toml")).unwrap();
    let shown: String = example
        .lines()
        .filter(|line| !line.contains("0.0.0.0"))
        .map(|line| {
            line.strip_prefix("# ").filter(|line| line.contains(" = ") && !line.contains("/etc/")).unwrap_or(line)
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let loaded = load_text(&shown, &[], Vec::new());
    assert!(loaded.problems.is_empty() && loaded.warnings.is_empty(), "{loaded:?}");
    for (key, place) in KEYS.iter().zip(&loaded.places) {
        // Paths, and what depends on something else as long as it is not set, have no default to show.
        let path = key.name.starts_with("tls.") && key.allowed.contains("path") || (key.show)(&defaults).is_none();
        assert!(path || place.is_some(), "the example does not show {}", key.name);
        assert!(path || (key.show)(&loaded.config) == (key.show)(&defaults), "{}", key.name);
        assert!(example.contains(&format!("{} = ", key.name.rsplit('.').next().unwrap())), "{}", key.name);
    }
}

#[test]
fn a_wrong_section_is_one_mistake() {
    let found =
        problems(&load_text("[limit]\nmax_sessions = 1\nmax_subscriptions = 2\n[stor]\nx = 1\n", &[], Vec::new()));
    let expected = [
        "ensync.toml:2: there is no section \"limit\"; did you mean [limits]?",
        "ensync.toml:5: there is no section \"stor\"",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_variable_that_is_not_utf_8_is_named_and_others_are_none_of_ours() {
    let loaded = load(false, None, [("ENSYNC_DATA".to_owned(), None)], Vec::new());
    assert_eq!(problems(&loaded), ["environment variable ENSYNC_DATA: data is not readable: the value is not UTF-8"]);
}

#[test]
fn a_key_in_place_of_its_file_is_not_shown() {
    let key = "-----BEGIN PRIVATE KEY-----\\nMC4CAQAwBQYDK2VwBCIEIHushHushHushHush\\n-----END PRIVATE KEY-----";
    let found = problems(&load_text(&format!("[tls]\nkey = \"{key}\"\ncertificate = \"/dev/null\""), &[], Vec::new()));
    assert!(found.iter().any(|problem| problem.contains("the path of a file")), "{found:?}");
    assert!(!format!("{found:?}").contains("Hush"), "{found:?}");
}
