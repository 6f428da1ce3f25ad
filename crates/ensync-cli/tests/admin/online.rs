use ensync_engine::Server;
use ensync_sdk::{Engine, SecretKey};
use futures::StreamExt;

use super::shell::{Shell, keys};

pub(crate) async fn engine() -> (Server, Shell) {
    let server = Server::builder().admin(([127, 0, 0, 1], 0)).start().await.unwrap();
    let shell = Shell::of(&server);
    (server, shell)
}

#[tokio::test]
async fn an_app_is_made_used_and_deleted() {
    let (server, shell) = engine().await;
    let made = shell.run("app create shop").await.keys();
    let secret: SecretKey = made["ENSYNC_SECRET_KEY"].parse().unwrap();
    assert_eq!(secret.app_id().unwrap().to_string(), made["ENSYNC_APP_ID"]);
    let client = async |key: &str| Engine::new(&server.grpc_url()).unwrap().create_client(key).await;
    assert_eq!(client(&made["ENSYNC_APP_KEY"]).await.unwrap().app_id().unwrap().to_string(), made["ENSYNC_APP_ID"]);

    let listed = shell.run("app list").await.ok();
    let lines: Vec<Vec<_>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..2], ["NAME", "APP"]);
    assert_eq!(lines[1][..3], ["shop", &made["ENSYNC_APP_ID"], "true"]);
    for secret in ["ENSYNC_APP_KEY", "ENSYNC_SECRET_KEY"] {
        assert!(!listed.contains(&made[secret]));
    }
    assert_eq!(shell.run("app list --json").await.json()[0]["name"], "shop");
    // By its name, by its id.
    let shown = shell.run("app show shop --json").await.json();
    assert_eq!(shell.with(&["app", "show", &made["ENSYNC_APP_ID"], "--json"]).await.json()["id"], shown["id"]);

    let rotated = shell.run("app rotate-key shop --grace 1h").await;
    assert!(rotated.err.contains("the earlier key logs in until 2"), "{}", rotated.err);
    let rotated = rotated.keys();
    assert_eq!(rotated.len(), 1);
    for key in [&made, &rotated] {
        client(&key["ENSYNC_APP_KEY"]).await.unwrap();
    }
    let rotated = shell.run("app rotate-key shop --json").await.json();
    client(rotated["app_key"].as_str().unwrap()).await.unwrap();
    client(&made["ENSYNC_APP_KEY"]).await.unwrap_err();

    let second = shell.run("app rotate-keypair shop").await.keys();
    assert_eq!(second.len(), 2, "the access key stays");
    let shown = shell.run("app show shop").await.ok();
    for part in [&second["ENSYNC_APP_ID"], &made["ENSYNC_APP_ID"]] {
        assert!(shown.contains(part), "{shown}");
    }
    let first = &made["ENSYNC_APP_ID"];
    assert!(shell.with(&["app", "retire-key", "shop", first]).await.failed().contains("add --yes"));
    shell.with(&["app", "retire-key", "shop", first, "--yes"]).await.ok();
    // What programs are told is what they may ask with: its address now, and the id that stays.
    let shown = shell.run("app list --json").await.json()[0].clone();
    assert_eq!((&shown["app_id"], &shown["id"]), (&second["ENSYNC_APP_ID"].as_str().into(), &first.as_str().into()));
    for id in ["app_id", "id"] {
        assert_eq!(shell.with(&["app", "show", shown[id].as_str().unwrap(), "--json"]).await.json(), shown);
    }
    assert!(
        shell.with(&["app", "retire-key", "shop", first, "--yes"]).await.failed().contains("no earlier public key")
    );

    assert!(shell.run("app disable shop").await.ok().contains("false"));
    client(rotated["app_key"].as_str().unwrap()).await.unwrap_err();
    assert_eq!(shell.run("app enable shop --json").await.json()["enabled"], true);
    assert!(shell.run("app delete shop").await.failed().contains("the app \"shop\" and the 0 events"));
    shell.run("app delete shop --yes").await.ok();
    assert!(shell.run("app show shop").await.failed().contains("no app has the name \"shop\""));
    assert_eq!(shell.run("app list --json").await.json(), serde_json::json!([]));
}

#[tokio::test]
async fn keys_go_to_a_file_or_nothing_happens() {
    let (server, shell) = engine().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shop.env");
    let file = path.to_str().unwrap();
    let made = shell.with(&["app", "create", "shop", "--out", file]).await;
    assert!(made.ok && made.out.is_empty() && made.err.contains(file), "{}", made.err);
    let made = keys(&std::fs::read_to_string(&path).unwrap());
    assert_eq!(made.len(), 3);
    Engine::new(&server.ws_url()).unwrap().create_client(made["ENSYNC_APP_KEY"].as_str()).await.unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    // The file stands in the way: no app is made whose keys nobody saw.
    assert!(shell.with(&["app", "create", "stock", "--out", file]).await.failed().contains("is there already"));
    // The engine refuses: no file is left.
    let other = directory.path().join("other.env");
    let twice = ["app", "create", "x", "--public-key", &made["ENSYNC_APP_ID"], "--out", other.to_str().unwrap()];
    assert!(shell.with(&twice).await.failed().contains("exists already"));
    assert!(!other.exists());
    assert_eq!(server.broker().apps().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_pair_that_is_there_already_stays_where_it_is() {
    let (_server, shell) = engine().await;
    let pair = shell.run("keygen").await.keys();
    let made = shell.with(&["app", "create", "shop", "--public-key", &pair["ENSYNC_APP_ID"], "--json"]).await.json();
    assert_eq!((&made["app_id"], made.get("secret_key")), (&pair["ENSYNC_APP_ID"].as_str().into(), None));
}

#[tokio::test]
async fn event_names_are_registered_changed_and_deleted() {
    let (server, shell) = engine().await;
    let create = "event create orders/new --ttl 36h --max-deliveries 3 --schema {\"order\":\"string\"}";
    let shown = shell.run(create).await.ok();
    assert!(shown.contains("1day 12h") && shown.contains("string"), "{shown}");
    assert!(shell.run(create).await.failed().contains("registered already"));
    let changed = shell.run("event update orders/new --ttl default --ack-timeout 30s --json").await.json();
    let expected = serde_json::json!({
        "name": "orders/new", "schema": {"order": "string"}, "ttl_ms": null, "max_deliveries": 3, "ack_timeout_ms": 30_000,
    });
    assert_eq!(changed, expected);
    assert_eq!(shell.run("event show orders/new --json").await.json(), expected);
    assert_eq!(shell.run("event list --json").await.json()[0], expected);
    assert!(shell.run("event list").await.ok().contains("orders/new"));
    for (words, part) in [
        ("event update orders/new", "nothing to change"),
        ("event update orders/new --ttl soon", "--ttl \"soon\""),
        ("event update orders/new --max-deliveries 0", "--max-deliveries \"0\": write a whole number, 1 or more"),
        ("event update orders/new --max-deliveries 99999999999", "too large a number"),
        ("event update orders/new --ttl -1d", "with its unit"),
        ("event update orders/new --ack-timeout 1000d", "ack timeout of 1000d"),
        (
            "event update orders/new --schema {",
            "--schema: the schema is not JSON that every client reads: line 1 column 2",
        ),
        ("event update orders/new --schema []", "--schema: a schema is a JSON object like"),
        (
            "event create a --schema {\"a\":\"int\",\"a\":\"string\"}",
            "line 1 column 12 (byte 11): a name that its object has already",
        ),
        ("event create a --schema {\"a\":\"text\"}", "it must be one of string, integer"),
        ("event update orders/new --ttl 1ms", "at least 100 ms"),
        ("event update orders/old --ttl 1h", "`ensync event create orders/old` registers it"),
        ("event delete orders/old", "not registered"),
        ("event delete orders/new", "add --yes"),
        ("event grant shop orders/new --rights all", "no app has the name"),
    ] {
        let said = shell.run(words).await.failed();
        assert!(said.contains(part), "{words}: {said}");
    }

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("schema.json");
    std::fs::write(&file, "{\n \"a\": \"int\",\n \"a\": \"int\"\n}\n").unwrap();
    let said = shell.with(&["event", "create", "a", "--schema-file", file.to_str().unwrap()]).await.failed();
    assert!(said.contains("schema.json") && said.contains("line 3 column 2"), "{said}");
    std::fs::write(&file, "{\n \"a\": \"INT\"\n}\n").unwrap();
    shell.with(&["event", "create", "a", "--schema-file", file.to_str().unwrap()]).await.ok();
    assert_eq!(shell.run("event show a --json").await.json()["schema"], serde_json::json!({"a": "integer"}));
    shell.run("event delete a --yes").await.ok();
    // A field may have any name, also one that serde_json has a use for, and hides no other event name.
    let odd = r#"{"$serde_json::private::RawValue":"string"}"#;
    shell.with(&["event", "create", "odd", "--schema", odd]).await.ok();
    let listed = shell.run("event list --json").await.ok();
    assert!(listed.contains(odd) && listed.contains("orders/new"), "{listed}");
    shell.run("event delete odd --yes").await.ok();

    shell.run("app create shop --rights none").await.ok();
    shell.run("event grant shop orders/new --rights publish").await.ok();
    let shown = shell.run("app show shop").await.ok();
    assert!(shown.contains("MAY, orders/new") && shown.contains("nothing"), "{shown}");
    shell.run("event grant shop --rights subscribe").await.ok();
    shell.run("event revoke shop orders/new").await.ok();
    let app = server.broker().apps().await.unwrap().remove(0);
    assert_eq!((app.rights.publish, app.rights.subscribe, app.grants.len()), (false, true, 0));
    shell.run("event delete orders/new --yes").await.ok();
    assert!(server.broker().events().await.unwrap().is_empty());
}

#[tokio::test]
async fn queues_and_dead_letters_are_looked_at_and_cleared() {
    let (server, shell) = engine().await;
    shell.run("event create a/b").await.ok();
    let [shop, stock] = [shell.run("app create shop").await.keys(), shell.run("app create stock").await.keys()];
    let engine = Engine::new(&server.grpc_url()).unwrap();
    let till = engine.create_client(shop["ENSYNC_APP_KEY"].as_str()).await.unwrap();
    let secret: SecretKey = stock["ENSYNC_SECRET_KEY"].parse().unwrap();
    let reader = engine.create_client(stock["ENSYNC_APP_KEY"].as_str()).app_secret_key(secret).await.unwrap();
    let mut events = reader.subscribe("a/b").await.unwrap();
    for n in 0..3 {
        till.publish("a/b", &n).to(stock["ENSYNC_APP_ID"].as_str()).await.unwrap();
        // What a client says is shown, and does nothing to the terminal.
        events.next().await.unwrap().unwrap().discard("no\x1b[2Juse").await.unwrap();
    }
    let queue = shell.run("queue list --app stock").await.ok();
    let row: Vec<_> = queue.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["stock", "a/b", "0", "0", "0", "3", "1", "-"]);
    assert_eq!(shell.run("queue list --json --event a/b").await.json()[0]["counters"]["published"], 3);
    let (first, all) =
        (shell.run("dead-letter list --limit 2").await, shell.run("dead-letter list --json").await.json());
    let after = all[1]["id"].as_str().unwrap();
    assert!(first.ok && first.out.lines().count() == 3, "{}", first.out);
    assert!(first.err.contains(&format!("there are more: go on with --after {after}")), "{}", first.err);
    let rest = shell.with(&["dead-letter", "list", "--json", "--after", after]).await;
    assert_eq!((rest.err.clone().as_str(), rest.json()), ("", serde_json::json!([all[2]])));

    let listed = shell.run("dead-letter list").await.ok();
    assert!(listed.lines().count() == 4 && listed.contains("no\u{fffd}[2Juse"), "{listed}");
    let letters = shell.run("dead-letter list --json --app stock --event a/b --limit 2").await.json();
    let ids: Vec<_> = letters.as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(shell.with(&["dead-letter", "requeue", ids[0]]).await.ok(), "1\n");
    assert_eq!(events.next().await.unwrap().unwrap().id().as_str(), ids[0]);
    assert!(shell.with(&["dead-letter", "drop", ids[1]]).await.failed().contains("add --yes"));
    assert_eq!(shell.with(&["dead-letter", "drop", ids[1], "--yes"]).await.ok(), "1\n");
    assert_eq!(shell.run("dead-letter requeue --app stock --event a/b --json").await.json()["count"], 1);
    assert_eq!(shell.run("dead-letter drop --all --yes").await.ok(), "0\n");
    assert!(!shell.run("dead-letter drop --yes").await.ok, "which?");
    assert!(!shell.run("dead-letter requeue x --all").await.ok, "which?");
}

/// Keys that cannot be shown are nobody's: an app that has none but those is not made.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn keys_that_cannot_be_shown_are_told_of() {
    let (_server, shell) = engine().await;
    let full = || std::process::Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let said = shell.output_to(&["app", "create", "shop"], full()).await.failed();
    assert!(said.contains("could not be handed over") && said.contains("was not made"), "{said}");
    assert!(shell.run("app list --json").await.json().as_array().unwrap().is_empty());
    shell.run("app create shop").await.ok();
    let said = shell.output_to(&["app", "rotate-key", "shop"], full()).await;
    assert!(!said.ok && said.err.contains("change it once more"), "{}", said.err);
    // A pair is made here, so the engine hears of it when somebody has it.
    let before = shell.run("app show shop --json").await.json();
    let said = shell.output_to(&["app", "rotate-keypair", "shop"], full()).await;
    assert!(!said.ok && said.err.contains("has its former one still"), "{}", said.err);
    assert_eq!(shell.run("app show shop --json").await.json()["public_key"], before["public_key"]);
}
