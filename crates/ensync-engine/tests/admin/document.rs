use serde_json::Value;

use super::client::Engine;

#[tokio::test]
async fn every_route_is_in_the_document_and_every_operation_is_complete() {
    let engine = Engine::start().await;
    let document = engine.document();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["title"], "EnSync admin API");
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if path.starts_with("/v1/") {
                assert_eq!(operation["security"][0]["token"], Value::Array(Vec::new()), "{method} {path}");
                for class in ["4XX", "5XX"] {
                    assert!(
                        operation["responses"][class]["content"]["application/json"].is_object(),
                        "{method} {path}"
                    );
                }
            }
            let named = operation["parameters"].as_array().into_iter().flatten();
            let named = named.filter(|parameter| parameter["in"] == "path").count();
            assert_eq!(path.matches('{').count(), named, "{path}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let schema = &parameter["schema"];
                match parameter["name"].as_str().unwrap() {
                    "limit" => assert_eq!((&schema["minimum"], &schema["maximum"]), (&1.into(), &1_000.into())),
                    "app" => assert!(schema["pattern"].is_string(), "{method} {path}"),
                    "event" if parameter["in"] == "path" => assert_eq!(schema["maxLength"], 255, "{method} {path}"),
                    _ => {}
                }
            }
            operations.push(format!("{method} {path}"));
        }
    }
    // Frozen: whoever takes one away breaks programs.
    let expected = [
        "get /v1/apps",
        "post /v1/apps",
        "get /v1/apps/{app}",
        "delete /v1/apps/{app}",
        "post /v1/apps/{app}/access-key",
        "post /v1/apps/{app}/disable",
        "delete /v1/apps/{app}/earlier-public-keys/{key}",
        "post /v1/apps/{app}/enable",
        "put /v1/apps/{app}/grants/{event}",
        "delete /v1/apps/{app}/grants/{event}",
        "post /v1/apps/{app}/key-pair",
        "put /v1/apps/{app}/rights",
        "get /v1/dead-letters",
        "post /v1/dead-letters/drop",
        "post /v1/dead-letters/requeue",
        "get /v1/events",
        "post /v1/events",
        "get /v1/events/{event}",
        "patch /v1/events/{event}",
        "delete /v1/events/{event}",
        "get /v1/history",
        "get /v1/info",
        "get /v1/live",
        "get /v1/lookup/{id}",
        "get /v1/queues",
        "get /v1/queues/{app}/{event}",
        "get /v1/queues/{app}/{event}/events",
        "post /v1/queues/{app}/{event}/purge",
        "get /v1/sessions",
        "get /v1/sessions/{session}",
        "delete /v1/sessions/{session}",
    ];
    for operation in expected {
        assert!(operations.iter().any(|known| known == operation), "{operation} is missing in {operations:#?}");
    }
    // A body says what it may hold, as the parameters do.
    let schema = |name: &str, field: &str| {
        let field = &document["components"]["schemas"][name]["properties"][field];
        assert!(field.is_object(), "{name} has no such field: {}", document["components"]["schemas"][name]);
        field.clone()
    };
    for (name, field, limit, value) in [
        ("CreateEvent", "name", "maxLength", 255_u64),
        ("CreateEvent", "ttl_ms", "minimum", 100),
        ("CreateEvent", "ack_timeout_ms", "maximum", 86_400_000),
        ("ChangeEvent", "ttl_ms", "minimum", 100),
        ("ChangeEvent", "ack_timeout_ms", "minimum", 100),
        ("ChangeEvent", "ack_timeout_ms", "maximum", 86_400_000),
        ("CreateApp", "name", "maxLength", 256),
        ("RotateAccessKey", "grace_ms", "maximum", 2_592_000_000),
        ("Which", "event", "maxLength", 255),
    ] {
        assert_eq!(schema(name, field)[limit], value, "{name}.{field}");
    }
    for (name, field) in [("CreateApp", "public_key"), ("RotateKeyPair", "public_key"), ("Which", "app")] {
        assert!(schema(name, field)["pattern"].is_string(), "{name}.{field}");
    }
    // OpenAPI 3.1, Operation Object: no two operations have one id.
    let paths = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let ids: Vec<_> = paths.filter_map(|operation| operation["operationId"].as_str()).collect();
    assert!(
        ids.len() >= operations.len() && ids.len() == ids.iter().collect::<std::collections::HashSet<_>>().len(),
        "{ids:#?}"
    );
    assert_eq!(operations.iter().filter(|known| known.contains("/v1/")).count(), expected.len(), "{operations:#?}");
    references(document, document);
}

/// What is referred to is there.
fn references(document: &Value, value: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(to) = fields.get("$ref") {
                let to = to.as_str().unwrap().strip_prefix('#').unwrap();
                assert!(document.pointer(to).is_some(), "{to}");
            }
            fields.values().for_each(|field| references(document, field));
        }
        Value::Array(items) => items.iter().for_each(|item| references(document, item)),
        _ => {}
    }
}
