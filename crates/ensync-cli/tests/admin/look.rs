//! What an operator looks at: queues from inside, single events, sessions, the engine.

use ensync_sdk::{Client, Engine, SecretKey};
use futures::StreamExt;

use super::online::engine;
use super::shell::Shell;

/// An app "shop" that publishes, and "stock" that reads.
async fn apps(server: &ensync_engine::Server, shell: &Shell) -> (Client, Client, String) {
    shell.run("event create a/b").await.ok();
    let [shop, stock] = [shell.run("app create shop").await.keys(), shell.run("app create stock").await.keys()];
    let engine = Engine::new(&server.grpc_url()).unwrap();
    let till = engine.create_client(shop["ENSYNC_APP_KEY"].as_str()).await.unwrap();
    let secret: SecretKey = stock["ENSYNC_SECRET_KEY"].parse().unwrap();
    let reader = engine.create_client(stock["ENSYNC_APP_KEY"].as_str()).app_secret_key(secret).await.unwrap();
    (till, reader, stock["ENSYNC_APP_ID"].clone())
}

#[tokio::test]
async fn a_queue_is_looked_into_and_emptied() {
    let (server, shell) = engine().await;
    let (till, _reader, to) = apps(&server, &shell).await;
    let said = shell.run("queue show a/b --app stock").await.failed();
    assert!(said.contains("there is no queue"), "{said}");
    for n in 0..5 {
        till.publish("a/b", &n).to(to.as_str()).await.unwrap();
    }
    let shown = shell.run("queue show a/b --app stock").await.ok();
    assert!(shown.contains("PUBLISHED SINCE THE START") && shown.contains("READY"), "{shown}");
    let first = shell.run("queue peek a/b --app stock --limit 2").await;
    assert!(first.ok && first.out.lines().count() == 3 && first.err.contains("go on with --after"), "{}", first.err);
    let all = shell.run("queue peek a/b --app stock --json").await.json();
    assert_eq!((all.as_array().unwrap().len(), &all[0]["state"]), (5, &"ready".into()));
    let after = all[1]["id"].as_str().unwrap();
    let rest = shell.with(&["queue", "peek", "a/b", "--app", "stock", "--after", after, "--json"]).await.json();
    assert_eq!(rest.as_array().unwrap().len(), 3);
    let none = shell.run("queue peek a/b --app stock --state dead --json").await.json();
    assert_eq!(none, serde_json::json!([]));
    let told = shell.run("top --count 2 --json").await.ok();
    let told: Vec<serde_json::Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&told[0]["ready"], &told[0]["per_second"]["published"]), (&5.into(), &serde_json::Value::Null));
    assert_eq!(told[1]["per_second"]["published"], 0.0);
    let told = shell.run("top --count 1").await.ok();
    assert!(told.starts_with("TIME ") && told.contains("IN FLIGHT") && told.lines().count() == 2, "{told}");
    let wrong =
        Shell::of(&server).and("ENSYNC_ADMIN_TOKEN", "ensync_admin_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    let said = wrong.run("top").await.failed();
    assert!(said.contains("not this engine's"), "{said}");
    let watched = shell.run("queue watch --count 2 --every 100ms --json").await.ok();
    assert!(watched.lines().count() == 2 && watched.contains("per_second"), "{watched}");

    let event = all[0]["id"].as_str().unwrap();
    let shown = shell.with(&["lookup", event]).await.ok();
    assert!(shown.contains("ready") && shown.contains("shop") && shown.contains("nacl"), "{shown}");
    let shown = shell.with(&["lookup", event, "--payload", "--json"]).await.json();
    assert!(shown["payload"].is_string(), "{shown}");
    assert!(shell.run("lookup nonsense").await.failed().contains("event"));

    assert!(shell.run("queue purge a/b --app stock").await.failed().contains("gives up 5 events"));
    assert_eq!(shell.run("queue purge a/b --app stock --yes").await.ok(), "5\n");
    assert_eq!(shell.run("queue purge a/b --app stock --yes --json").await.json()["count"], 0);
    assert!(shell.run("queue list --event a/c").await.failed().contains("a/c"), "a name that is not registered");
}

#[tokio::test]
async fn dead_letters_are_filtered_and_counted_before_they_go() {
    let (server, shell) = engine().await;
    let (till, reader, to) = apps(&server, &shell).await;
    let mut events = reader.subscribe("a/b").await.unwrap();
    for n in 0..4 {
        till.publish("a/b", &n).to(to.as_str()).await.unwrap();
        let why = if n < 3 { "bad address" } else { "no stock" };
        events.next().await.unwrap().unwrap().discard(why).await.unwrap();
    }
    let listed = |words: &'static str| shell.run(words);
    assert!(listed("dead-letter list").await.ok().contains("  stock  "), "the app's name");
    let bad = listed("dead-letter list --reason ADDRESS --json").await.json();
    assert_eq!(bad.as_array().unwrap().len(), 3);
    assert_eq!(listed("dead-letter list --older-than 1h --json").await.json(), serde_json::json!([]));
    assert_eq!(listed("dead-letter list --newer-than 1h --app stock --json").await.json().as_array().unwrap().len(), 4);
    assert!(listed("dead-letter list --event a/c").await.failed().contains("a/c"));
    let id = bad[0]["id"].as_str().unwrap();
    let shown = shell.with(&["dead-letter", "show", id]).await.ok();
    assert!(shown.contains("bad address") && shown.contains("dead"), "{shown}");
    assert!(listed("dead-letter drop --reason address").await.failed().contains("drops 3 events"));
    let two = [bad[1]["id"].as_str().unwrap(), bad[2]["id"].as_str().unwrap()];
    assert_eq!(shell.with(&["dead-letter", "drop", two[0], two[1], "--yes"]).await.ok(), "2\n");
    assert_eq!(listed("dead-letter requeue --reason address").await.ok(), "1\n");
    assert_eq!(listed("dead-letter drop --newer-than 1h --yes --json").await.json()["count"], 1);
}

#[tokio::test]
async fn sessions_and_the_engine_are_shown() {
    let (server, shell) = engine().await;
    let (_till, reader, _) = apps(&server, &shell).await;
    let _events = reader.subscribe("a/b").await.unwrap();
    let sessions = shell.run("session list --app stock --json").await.json();
    assert_eq!((sessions.as_array().unwrap().len(), &sessions[0]["subscriptions"]), (1, &1.into()));
    assert!(shell.run("session list").await.ok().lines().count() == 3);
    let number = sessions[0]["session"].to_string();
    assert!(shell.with(&["session", "show", &number]).await.ok().contains("a/b"));
    shell.with(&["session", "end", &number]).await.ok();
    assert!(shell.run("session show 4000000000").await.failed().contains("4000000000"));
    let shown = shell.run("info").await.ok();
    for part in ["VERSION", env!("CARGO_PKG_VERSION"), "READY", "yes", "LIMIT MAX PAYLOAD BYTES"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert_eq!(shell.run("info --json").await.json()["apps"], 2);
    let directory = tempfile::tempdir().unwrap();
    assert!(Shell::offline(&directory).run("info").await.failed().contains("leave --data out"));
}

#[tokio::test]
async fn an_event_is_replayed_by_its_app() {
    let (server, shell) = engine().await;
    shell.run("event create a/b").await.ok();
    let stock = shell.run("app create stock").await.keys();
    let mut shell = Shell::bare().and("ENSYNC_URL", &server.ws_url());
    for (name, key) in [("ENSYNC_APP_KEY", "ENSYNC_APP_KEY"), ("ENSYNC_SECRET_KEY", "ENSYNC_SECRET_KEY")] {
        shell = shell.and(name, &stock[key]);
    }
    let printed = shell.with(&["publish", "a/b", "{\"n\":1}", "--to", &stock["ENSYNC_APP_ID"]]).await.ok();
    let id = printed.split('\t').next().unwrap();
    assert!(shell.run("subscribe a/b --count 1").await.ok().contains("\"n\":1"));
    assert_eq!(shell.with(&["replay", "a/b", id, "--format", "raw"]).await.ok(), "{\"n\":1}\n");
    assert!(shell.with(&["replay", "a/b", id, "--json"]).await.json()["payload"]["n"] == 1);
    assert!(!shell.run("replay a/b nonsense").await.ok);
}
