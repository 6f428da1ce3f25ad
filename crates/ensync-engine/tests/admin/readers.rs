//! The token for those who may only look.

use ensync_engine::{AdminToken, Server};

use super::client::{Engine, encoded};

#[tokio::test]
async fn whoever_may_only_look_sees_everything_and_changes_nothing() {
    let engine = Engine::start().await;
    let (app, _) = engine.create_app("shop").await;
    for path in ["/v1/apps", "/v1/events", "/v1/queues", "/v1/dead-letters", "/v1/sessions", "/v1/history"] {
        let answer = engine.look("GET", path).await;
        assert!(answer.head.contains("cache-control: no-store"));
        answer.ok(200);
    }
    assert_eq!(engine.look("GET", "/v1/info").await.ok(200)["access"], "read");
    // Every operation of the document that is no look.
    let mut refused = 0;
    for (path, item) in engine.document()["paths"].as_object().unwrap() {
        for method in ["post", "put", "patch", "delete"].into_iter().filter(|method| item.get(*method).is_some()) {
            let path = path.replace("{app}", &encoded(&app)).replace("{event}", "a").replace("{key}", &encoded(&app));
            let path = path.replace("{session}", "1");
            let message = engine.look(&method.to_uppercase(), &path).await.refused(403, "forbidden");
            assert!(message.contains("looking only"), "{message}");
            refused += 1;
        }
    }
    assert!(refused >= 17, "{refused}");
    assert_eq!(engine.call("GET", &format!("/v1/apps/{}", encoded(&app)), None).await.ok(200)["enabled"], true);
}

#[tokio::test]
async fn a_directory_keeps_that_token_too_and_an_embedder_may_have_none() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::of(Server::builder().data_dir(directory.path())).await;
    let written = std::fs::read_to_string(directory.path().join("admin-read.token")).unwrap();
    assert_eq!(written.trim_end(), engine.server.admin_read_token().unwrap().expose());
    assert_ne!(engine.token(), engine.server.admin_read_token().unwrap());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(directory.path().join("admin-read.token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let one = Engine::of(Server::dev().admin_token(AdminToken::generate().unwrap())).await;
    assert!(one.server.admin_read_token().is_none());
    let reader = AdminToken::generate().unwrap();
    let two = Server::dev().admin_token(AdminToken::generate().unwrap()).admin_read_token(reader.clone());
    let two = Engine::of(two).await;
    assert_eq!(two.server.admin_read_token().unwrap(), reader);
    two.look("GET", "/v1/apps").await.ok(200);
}

#[tokio::test]
async fn the_config_manager_does_not_take_it() {
    let builder = Server::dev().config_manager(([127, 0, 0, 1], 0));
    let engine = Engine::of(builder).await;
    let url = engine.server.config_manager_url().unwrap();
    let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap().parse().unwrap();
    let get = async |token: &AdminToken| {
        let head = format!("X-ACCESS-KEY: {}\r\nConnection: close", token.expose());
        let request = format!("GET /api/v1/ensync/event HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n");
        engine.send_to(address, &request).await.status
    };
    assert_ne!(get(&engine.token()).await, 401);
    assert_eq!(get(&engine.server.admin_read_token().unwrap()).await, 401);
}
