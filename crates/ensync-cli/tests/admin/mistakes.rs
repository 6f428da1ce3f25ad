use ensync_engine::Server;

use super::shell::Shell;

const TOKEN: &str = "ensync_admin_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[tokio::test]
async fn what_is_missing_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let path = file.to_str().unwrap();
    let shell = Shell::bare();
    let said = shell.run("app list").await.failed();
    assert!(said.contains("--token-file") && said.contains("ENSYNC_ADMIN_TOKEN") && said.contains("--data"), "{said}");
    let said = shell.with(&["app", "list", "--token-file", path]).await.failed();
    assert!(said.contains("cannot read the admin token in"), "{said}");
    std::fs::write(&file, "hush").unwrap();
    let said = shell.with(&["app", "list", "--token-file", path]).await.failed();
    assert!(said.contains("22 to 512 characters") && !said.contains("hush"), "{said}");

    for (token, what) in
        [("ensync_key_0123456789abcdef", "an app key"), ("ensync_session_0123456789abcdef", "a session's client id")]
    {
        std::fs::write(&file, token).unwrap();
        let shell = Shell::bare().and("ENSYNC_ADMIN_TOKEN", token);
        for said in [shell.run("app list").await, shell.with(&["app", "list", "--token-file", path]).await] {
            let said = said.failed();
            assert!(said.contains(&format!("holds {what}, where an admin token belongs")), "{said}");
            assert!(!said.contains("0123456789"), "{said}");
        }
    }

    // As editors leave it.
    std::fs::write(&file, format!("\u{feff} {TOKEN} \r\n")).unwrap();
    for (url, part) in [
        ("http://127.0.0.1:1", "is an engine running"),
        ("http://example.org", "in clear"),
        ("localhost:50052", "write it as https://"),
        ("", "--admin-url: it is empty"),
        ("https://127.0.0.1:1", "nobody listens there; is an engine running"),
    ] {
        let said = shell.with(&["app", "list", "--token-file", path, "--admin-url", url]).await.failed();
        assert!(said.contains(part) && !said.contains(TOKEN), "{said}");
    }
    let said = shell.with(&["app", "list", "--token-file", path, "--admin-ca", path]).await.failed();
    assert!(said.contains("holds no certificate"), "{said}");
}

/// A variable that a script did not set.
#[tokio::test]
async fn what_is_empty_is_not_looked_for() {
    let shell = Shell::bare().and("ENSYNC_ADMIN_TOKEN", TOKEN).and("ENSYNC_ADMIN_URL", "http://127.0.0.1:1");
    for (arguments, name) in [
        (&["lookup", ""][..], "ID"),
        (&["lookup", " "], "ID"),
        (&["dead-letter", "show", ""], "ID"),
        (&["event", "show", ""], "NAME"),
        (&["queue", "show", "", "--app", "shop"], "EVENT"),
        (&["queue", "show", "a/b", "--app", ""], "--app"),
        (&["queue", "list", "--event", ""], "--event"),
        (&["app", "show", ""], "APP"),
    ] {
        let said = shell.with(arguments).await;
        assert!(
            !said.ok && said.err.contains("empty") && !said.err.contains("127.0.0.1"),
            "{arguments:?}: {}",
            said.err
        );
        assert!(said.err.contains(name), "{arguments:?}: {}", said.err);
    }
}

#[tokio::test]
async fn another_engines_token_and_something_else_than_an_engine() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    let path = file.to_str().unwrap();
    let server = Server::builder().admin(([127, 0, 0, 1], 0)).start().await.unwrap();
    let url = server.admin_url().unwrap();
    let shell = Shell::bare();
    let said = shell.with(&["app", "list", "--token-file", path, "--admin-url", &url]).await.failed();
    assert!(said.contains("not this engine's"), "{said}");
    let plain = url.replace("http://", "https://");
    let said = shell.with(&["app", "list", "--token-file", path, "--admin-url", &plain]).await.failed();
    assert!(said.contains("the port does not speak TLS; write http://"), "{said}");
    // The port of the clients.
    let url = server.grpc_url().replace("grpc://", "http://");
    let said = shell.with(&["app", "list", "--token-file", path, "--admin-url", &url]).await.failed();
    assert!(said.contains("port for clients") && said.contains("50052"), "{said}");
}

#[tokio::test]
async fn a_name_that_several_apps_have_is_not_guessed_at() {
    let server = Server::builder().admin(([127, 0, 0, 1], 0)).start().await.unwrap();
    let shell = Shell::of(&server);
    let first = shell.run("app create shop").await.keys();
    assert!(
        shell
            .run("app create shop")
            .await
            .failed()
            .contains("has the name shop already; give this one another, or add --same-name")
    );
    let ids = [first, shell.run("app create shop --same-name").await.keys()];
    let said = shell.run("app delete shop --yes").await.failed();
    assert!(ids.iter().all(|keys| said.contains(&keys["ENSYNC_APP_ID"])), "{said}");
    shell.with(&["app", "delete", &ids[0]["ENSYNC_APP_ID"], "--yes"]).await.ok();
    shell.run("app delete shop --yes").await.ok();
}
