//! `ensync config check`.

use crate::process::{ensync, run};

#[test]
fn a_good_file_passes_and_prints_as_one_that_says_the_same() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ensync.toml");
    std::fs::write(&path, "data = \"/var/lib/ensync\"\n[limits]\nmax_sessions = 7\n").unwrap();
    let path = path.to_str().unwrap();
    let (code, printed, said) = run(&mut ensync(&["config", "check", path]));
    assert_eq!((code, said.as_str()), (0, ""), "{printed}");
    assert!(printed.ends_with("no problems, 0 warnings\n"), "{printed}");
    let mut command = ensync(&["config", "check", "--print"]);
    let (code, printed, said) = run(command.env("ENSYNC_CONFIG", path).env("ENSYNC_LIMITS_MAX_SUBSCRIPTIONS", "8"));
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(printed.contains(&format!("max_sessions = 7 # {path}:3\n")), "{printed}");
    assert!(printed.contains("max_subscriptions = 8 # environment variable ENSYNC_LIMITS_MAX_SUBSCRIPTIONS\n"));
    let again = place.path().join("again.toml");
    std::fs::write(&again, &printed).unwrap();
    assert_eq!(run(&mut ensync(&["config", "check", again.to_str().unwrap()])).0, 0);
}

#[test]
fn a_bad_file_is_refused_with_every_line_that_is_wrong() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("ensync.toml");
    std::fs::write(&path, "datta = \"d\"\n[limits]\nmax_payload = \"4 apples\"\nmax_sessions = \"many\"\n").unwrap();
    let path = path.to_str().unwrap();
    for command in [&["config", "check", path][..], &["serve", "--config", path][..]] {
        let (code, printed, said) = run(&mut ensync(command));
        assert_eq!((code, printed.as_str()), (2, ""), "{said}");
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 3, "{said}");
        assert!(lines[0].contains(":1: there is no setting \"datta\"; did you mean data?"), "{said}");
        assert!(lines[1].contains(":3: limits.max_payload cannot be \"4 apples\": it is a size"), "{said}");
        assert!(lines[2].contains(":4: limits.max_sessions cannot be \"many\": it is a whole number"), "{said}");
        assert!(lines.iter().all(|line| line.starts_with("ensync: ")), "{said}");
    }
}

#[test]
fn wrong_variables_and_flags_are_refused_by_name() {
    for (arguments, variable, part) in [
        (&["serve"][..], ("ENSYNC_LISTEN", "here"), "environment variable ENSYNC_LISTEN: listen cannot be \"here\""),
        (&["serve", "--listen", "here"][..], ("A", "b"), "--listen: listen cannot be [\"here\"]: it is a list of IP"),
        (
            &["serve", "--listen", "127.0.0.1:99999"][..],
            ("A", "b"),
            "--listen: listen cannot be [\"127.0.0.1:99999\"]: it is a list of IP",
        ),
        (&["serve", "--set", "limits.max_sessions"][..], ("A", "b"), "write it as NAME=VALUE"),
        (&["serve", "--set", "no.such=1"][..], ("A", "b"), "there is no setting \"no.such\""),
        (&["serve", "--log-format", "xml"][..], ("A", "b"), "log.format cannot be \"xml\": it is \"text\" or \"json\""),
        (&["serve", "--config", "/nonexistent"][..], ("A", "b"), "cannot read the configuration file /nonexistent"),
        (&["serve", "--tls-cert", "/nonexistent"][..], ("A", "b"), "tls.key has to be set as well"),
    ] {
        let (code, printed, said) = run(ensync(arguments).env(variable.0, variable.1));
        assert_eq!((code, printed.as_str()), (2, ""), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}

#[test]
fn tls_files_are_looked_at() {
    let place = tempfile::tempdir().unwrap();
    let (certificate, key) = (place.path().join("cert.pem"), place.path().join("key.pem"));
    std::fs::write(&certificate, "this is no certificate").unwrap();
    std::fs::write(&key, "this is no key").unwrap();
    let check = || {
        let mut command = ensync(&["config", "check"]);
        run(command.env("ENSYNC_TLS_CERTIFICATE", &certificate).env("ENSYNC_TLS_KEY", &key))
    };
    let (code, _, said) = check();
    assert!(code == 2 && said.contains("cert.pem") && said.contains("CERTIFICATE"), "{said}");
    std::fs::remove_file(&key).unwrap();
    let (code, _, said) = check();
    assert!(code == 2 && said.contains("environment variable ENSYNC_TLS_KEY: cannot read"), "{said}");
}

#[test]
fn plaintext_for_others_needs_to_be_asked_for() {
    let open = |insecure: &str| {
        let mut command = ensync(&["config", "check"]);
        run(command.env("ENSYNC_LISTEN", "0.0.0.0:0").env("ENSYNC_INSECURE", insecure))
    };
    let (code, _, said) = open("false");
    assert!(
        code == 2 && said.contains("would listen on 0.0.0.0:0 without TLS") && said.contains("--insecure"),
        "{said}"
    );
    let (code, printed, said) = open("true");
    assert!(code == 0 && printed.contains("1 warnings") && said.starts_with("warning: insecure is on"), "{said}");
    let (code, _, said) = run(&mut ensync(&["serve", "--listen", "0.0.0.0:0", "--data", "/nonexistent/x"]));
    assert!(code != 0 && said.contains("without TLS"), "{said}");
}
