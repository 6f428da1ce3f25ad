use serde_json::json;

use super::client::Engine;

#[tokio::test]
async fn an_event_name_from_its_registration_to_its_end() {
    let engine = Engine::start().await;
    let new =
        json!({"name": "orders/new", "schema": {"order": "string", "n": "LONG"}, "ttl_ms": 5_000, "max_deliveries": 3});
    let created = engine.call("POST", "/v1/events", Some(new.clone())).await.ok(201);
    let mut expected = json!({
        "name": "orders/new", "schema": {"order": "string", "n": "long"}, "ttl_ms": 5_000, "max_deliveries": 3, "ack_timeout_ms": null,
    });
    assert_eq!(created, expected);
    engine.call("POST", "/v1/events", Some(new)).await.refused(409, "conflict");

    let path = "/v1/events/orders%2Fnew";
    let changed = engine.call("PATCH", path, Some(json!({"ack_timeout_ms": 1_000, "ttl_ms": null}))).await.ok(200);
    expected["ack_timeout_ms"] = json!(1_000);
    expected["ttl_ms"] = json!(null);
    assert_eq!(changed, expected);
    assert_eq!(engine.call("PATCH", path, Some(json!({}))).await.ok(200), expected);
    assert_eq!(engine.call("GET", path, None).await.ok(200), expected);
    expected["schema"] = json!(null);
    assert_eq!(engine.call("PATCH", path, Some(json!({"schema": null}))).await.ok(200), expected);
    assert_eq!(engine.call("GET", "/v1/events", None).await.ok(200), json!({"events": [expected], "next": null}));

    engine.call("DELETE", path, None).await.ok(204);
    for method in ["GET", "DELETE"] {
        engine.call(method, path, None).await.refused(404, "unknown_event");
    }
    engine.call("PATCH", path, Some(json!({}))).await.refused(404, "unknown_event");
}

#[tokio::test]
async fn options_out_of_range_are_refused() {
    let engine = Engine::start().await;
    for (body, kind, part) in [
        (json!({"name": "a//b"}), "invalid_event_name", "empty segment"),
        (json!({"name": "a", "ttl_ms": 99}), "invalid_input", "ttl of 99 ms"),
        (json!({"name": "a", "ack_timeout_ms": 86_400_001}), "invalid_input", "24 hours"),
        (json!({"name": "a", "schema": {"a": "strnig"}}), "invalid_input", "strnig"),
        (json!({"name": "a", "schema": {"a": 1}}), "invalid_input", "a"),
    ] {
        let message = engine.call("POST", "/v1/events", Some(body)).await.refused(422, kind);
        assert!(message.contains(part), "{message}");
    }
    engine.call("POST", "/v1/events", Some(json!({"name": "a"}))).await.ok(201);
    engine.call("PATCH", "/v1/events/a", Some(json!({"ttl_ms": 1}))).await.refused(422, "invalid_input");
    let (names, mut after) = (["b", "c"], String::new());
    for name in names {
        engine.call("POST", "/v1/events", Some(json!({"name": name}))).await.ok(201);
    }
    let mut found = Vec::new();
    loop {
        let page = engine.call("GET", &format!("/v1/events?limit=2{after}"), None).await.ok(200);
        found.extend(page["events"].as_array().unwrap().iter().map(|event| event["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(found, ["a", "b", "c"]);
}
