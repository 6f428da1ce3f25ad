//! Requests as bytes, and answers held against the document.

use std::net::SocketAddr;

use ensync_core::SecretKey;
use ensync_engine::{AdminToken, Server, ServerBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Engine {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    document: Value,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Answer {
    /// The kind and the message of a refusal.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, kind: &str) -> String {
        assert_eq!((self.status, self.body["error"]["kind"].as_str()), (status, Some(kind)), "{}", self.body);
        self.body["error"]["message"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

impl Engine {
    pub(crate) async fn start() -> Self {
        Self::of(Server::builder()).await
    }

    pub(crate) async fn of(builder: ServerBuilder) -> Self {
        Self::with(builder.admin(([127, 0, 0, 1], 0)).start().await.unwrap()).await
    }

    pub(crate) async fn with(server: Server) -> Self {
        let address = server.admin_url().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        let mut engine = Self { server, address, document: Value::Null };
        engine.document =
            engine.send("GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.body;
        engine
    }

    pub(crate) fn token(&self) -> AdminToken {
        self.server.admin_token().unwrap()
    }

    /// The document that it serves.
    pub(crate) fn document(&self) -> &Value {
        &self.document
    }

    /// A request with the token. The answer is held against the document.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.call_with(method, path, &body.map_or_else(String::new, |body| body.to_string())).await
    }

    /// The same, with a body as text; none if it is empty.
    pub(crate) async fn call_with(&self, method: &str, path: &str, body: &str) -> Answer {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let head = format!("Authorization: Bearer {}\r\n{kind}Content-Length: {}", self.token().expose(), body.len());
        let answer = self.raw(method, path, &head, body).await;
        self.conforms(method, path, &answer);
        assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
        answer
    }

    /// A request with the token for those who only look.
    pub(crate) async fn look(&self, method: &str, path: &str) -> Answer {
        let token = self.server.admin_read_token().unwrap();
        let head = format!("Authorization: Bearer {}\r\nContent-Length: 0", token.expose());
        self.raw(method, path, &head, "").await
    }

    /// A request with other headers.
    pub(crate) async fn raw(&self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let head = if head.is_empty() { String::new() } else { format!("{head}\r\n") };
        self.send(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n{body}"))
            .await
    }

    /// Bytes.
    pub(crate) async fn send(&self, request: &str) -> Answer {
        self.send_to(self.address, request).await
    }

    /// The same, to another listener of the engine.
    pub(crate) async fn send_to(&self, address: SocketAddr, request: &str) -> Answer {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The engine may have answered, and closed, before it has everything.
        _ = stream.write_all(request.as_bytes()).await;
        read(stream).await
    }

    pub(crate) async fn create_app(&self, name: &str) -> (String, String) {
        let public_key = new_key();
        let created =
            self.call("POST", "/v1/apps", Some(json!({"name": name, "public_key": public_key}))).await.ok(201);
        (public_key, created["access_key"].as_str().unwrap().to_owned())
    }

    fn conforms(&self, method: &str, path: &str, answer: &Answer) {
        let path = path.split('?').next().unwrap();
        let Some(operation) = self.document["paths"].as_object().unwrap().iter().find(|(known, _)| fits(known, path))
        else {
            return;
        };
        let Some(operation) = operation.1.get(method.to_lowercase()) else { return };
        let class = format!("{}XX", answer.status / 100);
        let exact = &operation["responses"][answer.status.to_string()];
        let response = if exact.is_null() { &operation["responses"][class] } else { exact };
        assert!(!response.is_null(), "{method} {path} {} is not in the document", answer.status);
        match response.get("content") {
            Some(content) => self.check(&content["application/json"]["schema"], &answer.body),
            None => assert_eq!(answer.body, Value::Null),
        }
    }

    /// The part of JSON Schema that the document uses.
    fn check(&self, schema: &Value, value: &Value) {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.strip_prefix("#/components/schemas/").unwrap();
            let schema = &self.document["components"]["schemas"][name];
            assert!(!schema.is_null(), "{name} is not in the document");
            return self.check(schema, value);
        }
        if let Some(several) = schema["oneOf"].as_array() {
            let fits = |one: &&Value| (one["type"] == "null") == value.is_null();
            return self.check(several.iter().find(fits).unwrap_or_else(|| panic!("{value} is not {schema}")), value);
        }
        let types = match &schema["type"] {
            Value::String(one) => vec![one.as_str()],
            Value::Array(several) => several.iter().map(|name| name.as_str().unwrap()).collect(),
            other => panic!("{other}: {schema}"),
        };
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        assert!(types.contains(&found), "{value} is not {schema}");
        for item in value.as_array().into_iter().flatten() {
            self.check(&schema["items"], item);
        }
        if let (Value::Object(fields), Some(properties)) = (value, schema["properties"].as_object()) {
            // What is left out where there is nothing to say, says so.
            let may_lack = |name: &&String| {
                properties[*name]["description"].as_str().is_some_and(|text| text.contains("Not there if"))
            };
            let there = properties.keys().filter(|name| fields.contains_key(*name) || !may_lack(name));
            assert!(fields.keys().eq(there), "{value} is not {schema}");
            fields.iter().for_each(|(name, field)| self.check(&properties[name], field));
        }
    }
}

/// Whether a path is one of a template's.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(&path).all(|(part, own)| part.starts_with('{') || part == own)
}

/// An answer, to the end of its connection.
pub(crate) async fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A connection that was refused may be reset after its answer.
    _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
    Answer { status, head: head.to_lowercase(), body }
}

pub(crate) fn new_key() -> String {
    SecretKey::generate().unwrap().app_id().unwrap().to_string()
}

/// A text in a path.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
