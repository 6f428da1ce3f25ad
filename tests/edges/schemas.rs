//! A schema holds however many fields a payload has, over each transport.

use ensync_core::{ErrorKind, Schema};
use ensync_engine::{EventOptions, Server};
use ensync_sdk::Engine;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_past_a_schema_by_many_fields() {
    let server = Server::dev().start().await.unwrap();
    let schema = Some(Schema::parse(r#"{"a":"string"}"#).unwrap());
    server.register_event("with/schema", EventOptions { schema, ..EventOptions::default() }).await.unwrap();
    server.register_event("without", EventOptions::default()).await.unwrap();
    let app = server.create_app("shop").await.unwrap();
    for url in [server.grpc_url(), server.ws_url()] {
        let client = Engine::new(&url).unwrap().create_client(&app.app_key).await.unwrap();
        for (more, is_read) in [(10, true), (4_000, true), (5_000, true), (50_000, false)] {
            let fields: String = (0..more).map(|n| format!(",\"f{n}\":0")).collect();
            let [right, wrong] = [r#""x""#, "1"].map(|a| format!("{{\"a\":{a}{fields}}}"));
            let publish = async |name: &str, payload: &str| {
                let sent = client.publish_json(name, payload.parse().unwrap()).to(app.app_id).await;
                sent.map(drop).map_err(|error| error.kind())
            };
            let refused = if is_read { ErrorKind::SchemaMismatch } else { ErrorKind::PayloadTooLarge };
            assert_eq!(publish("with/schema", &wrong).await, Err(refused), "{url}: {more}");
            let taken = if is_read { Ok(()) } else { Err(ErrorKind::PayloadTooLarge) };
            assert_eq!(publish("with/schema", &right).await, taken, "{url}: {more}");
            assert_eq!(publish("without", &wrong).await, Ok(()), "{url}: {more}");
        }
        client.close().await.unwrap();
    }
}
