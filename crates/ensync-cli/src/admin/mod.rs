//! What the commands that administer an engine have in common: one vocabulary, the admin API's, whether an engine answers or the
//! command itself does on a data directory.

mod key_file;
mod offline;
mod online;

use std::num::NonZeroU32;
use std::path::PathBuf;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use ensync_sdk::core::{AppName, read_json};
use ensync_sdk::{AppId, Error, ErrorKind};
use http::{Method, Request, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub(crate) use key_file::{KeyFile, time};

use crate::connection::Identity;
use crate::exit::{Exit, Problem};
use crate::foreign::{json as json_text, printable, trimmed};
pub(crate) use crate::output::{Failure, Output, Table};

use offline::Offline;
pub(crate) use online::check_url;
use online::{Online, Told};

/// What may stand in a path or behind its question mark as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where the engine to administer is.
#[derive(Args)]
pub(crate) struct Admin {
    /// The admin API of a running engine.
    #[arg(long, value_name = "URL", env = "ENSYNC_ADMIN_URL", default_value = "http://127.0.0.1:50052")]
    admin_url: String,
    /// A file that holds the admin token, such as admin.token in the engine's data directory. (Or put the token itself into the
    /// variable ENSYNC_ADMIN_TOKEN.)
    #[arg(long, value_name = "FILE", env = "ENSYNC_ADMIN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// A PEM file of the CAs to trust for the admin API, instead of the system's.
    #[arg(long, value_name = "FILE", env = "ENSYNC_ADMIN_CA_FILE")]
    admin_ca: Option<PathBuf>,
    /// Let the token go to another machine without TLS.
    #[arg(long)]
    insecure: bool,
    /// Go without an engine: do it in this data directory. No engine may be running on it.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// How many partitions the store gets that is made in a data directory without one: as many as storage.partitions of the engine that
    /// will run on it says, for that never changes. 1.
    #[arg(long, value_name = "NUMBER", requires = "data")]
    partitions: Option<NonZeroU32>,
    #[command(flatten)]
    identity: Identity,
}

/// What an app may do.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Rights {
    /// Publish and subscribe.
    All,
    /// Publish only.
    Publish,
    /// Subscribe and replay only.
    Subscribe,
    /// Neither.
    None,
}

impl Rights {
    pub(crate) fn to_json(self) -> Value {
        let (publish, subscribe) =
            (matches!(self, Self::All | Self::Publish), matches!(self, Self::All | Self::Subscribe));
        json!({"publish": publish, "subscribe": subscribe})
    }
}

/// Carries out requests of the admin API.
pub(crate) enum Api {
    Online(Online),
    Offline(Offline),
}

impl Admin {
    /// Refuses a data directory, for what only an engine that runs can say.
    pub(crate) fn must_run(&self, what: &str) -> Result<(), Failure> {
        match &self.data {
            Some(_) => Err(Problem::usage(format!("`{what}` is about an engine that runs: leave --data out")).into()),
            None => Ok(()),
        }
    }

    /// Follows what an engine tells on and on. That nothing more comes means that it ended that.
    pub(crate) fn follow(&self, path: &str) -> Result<Following, Failure> {
        Ok(Following(Online::new(self)?.follow(path)?))
    }

    /// Does something with the API, and closes it, whatever came of it.
    pub(crate) async fn run<T>(&self, what: impl AsyncFnOnce(&Api) -> Result<T, Failure>) -> Result<T, Failure> {
        let api = match &self.data {
            Some(path) => Api::Offline(Offline::open(path, self.partitions).await?),
            None => Api::Online(Online::new(self)?),
        };
        let done = what(&api).await;
        if let Api::Offline(offline) = api {
            // What was done is on disk then, and the directory free.
            offline.close().await;
        }
        done
    }
}

/// What an engine tells.
pub(crate) struct Following(mpsc::Receiver<Told>);

impl Following {
    /// What it tells next; `None` if it has ended.
    ///
    /// # Errors
    ///
    /// If it was refused, or the connection is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, Failure> {
        match self.0.recv().await {
            None => Ok(None),
            Some(Told::Data(data)) => Ok(Some(read_json("the admin API's answer", &data)?)),
            Some(Told::Refused(status, said)) => {
                Err(refused(status, &said, read_json("the admin API's answer", &said).unwrap_or_default()))
            }
            Some(Told::Lost(why)) => {
                Err(Problem::new(Exit::Unreachable, format!("cannot follow the admin API at {why}")).into())
            }
        }
    }
}

impl Api {
    /// A request, and the JSON of its answer.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(body.map_or_else(Bytes::new, |body| body.to_string().into()))?;
        let answer = match self {
            Self::Online(online) => online.call(request).await?,
            Self::Offline(offline) => offline.call(request).await?,
        };
        let (status, body) = (answer.status(), answer.body());
        let read = if body.is_empty() { Ok(Value::Null) } else { read_json("the admin API's answer", body) };
        if status.is_success() {
            return read.map_err(|cause| format!("{cause}; is this an EnSync engine?").into());
        }
        Err(refused(status, body, read.unwrap_or_default()))
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// Every item of a list, page by page. `path` may have a query.
    pub(crate) async fn list(&self, path: &str, name: &str, limit: Option<usize>) -> Result<Vec<Value>, Failure> {
        self.list_after(path, name, limit, None).await
    }

    /// The same, from the one after `after` on.
    pub(crate) async fn list_after(
        &self,
        path: &str,
        name: &str,
        limit: Option<usize>,
        after: Option<&str>,
    ) -> Result<Vec<Value>, Failure> {
        let next = |after: &str| format!("&after={}", encoded(after));
        let (mut items, mut after) = (Vec::new(), after.map_or_else(String::new, next));
        let joint = if path.contains('?') { '&' } else { '?' };
        loop {
            let left = limit.map_or(usize::MAX, |limit| limit.saturating_sub(items.len()));
            if left == 0 {
                return Ok(items);
            }
            let mut page = self.get(&format!("{path}{joint}limit={}{after}", left.min(1_000))).await?;
            match page.get_mut(name).map(Value::take) {
                Some(Value::Array(more)) => items.extend(more),
                _ => return Err("the admin API answered something else than a list: is this an EnSync engine?".into()),
            }
            match page.get("next").and_then(Value::as_str) {
                Some(last) => after = next(last),
                None => return Ok(items),
            }
        }
    }

    /// An app, by its id, a public key of it, or its name: in this order, so that no name hides an app.
    pub(crate) async fn app(&self, which: &str) -> Result<Value, Failure> {
        let which = trimmed(which);
        if let Ok(id) = AppId::parse(which) {
            id.check()?;
            return self.get(&format!("/v1/apps/{}", encoded(which))).await;
        }
        AppName::parse(which)?;
        let named = self.list(&format!("/v1/apps?name={}", encoded(which)), "apps", None).await?;
        match named.as_slice() {
            [app] => Ok(app.clone()),
            [] => Err(Problem::new(Exit::NotFound, format!("no app has the name {which:?}")).into()),
            several => {
                let ids: Vec<_> = several.iter().map(|app| text(app, "id")).collect();
                let ids = ids.join(", ");
                Err(Problem::usage(format!("several apps have the name {which:?}; give the id: {ids}")).into())
            }
        }
    }

    /// The path of an app.
    pub(crate) async fn path_of(&self, which: &str) -> Result<String, Failure> {
        let app = self.app(which).await?;
        Ok(format!("/v1/apps/{}", encoded(text(&app, "id"))))
    }
}

/// Why something was not done, in the engine's words.
fn refused(status: StatusCode, body: &[u8], read: Value) -> Failure {
    let [kind, said] =
        ["kind", "message"].map(|field| read.pointer(&format!("/error/{field}")).and_then(Value::as_str));
    let Some(said) = said.map(|said| printable(said).into_owned()) else { return something_else(status, body) };
    match kind.and_then(ErrorKind::from_code) {
        Some(kind) => Error::new(kind, said).into(),
        None if status == StatusCode::UNAUTHORIZED => Problem::new(Exit::Denied, said).into(),
        None => said.into(),
    }
}

/// That what answers is no admin API.
fn something_else(status: StatusCode, body: &[u8]) -> Failure {
    if body.starts_with(b"This is an EnSync engine: gRPC at ") {
        let text = "this is the engine's port for clients; administration has another one, 50052 by default: give that as --admin-url";
        return Problem::usage(text).into();
    }
    format!("the admin API answered {status}: is this an EnSync engine?").into()
}

/// Restricts a list to an event name and an app.
pub(crate) async fn narrowed(api: &Api, path: &str, event: Option<&str>, app: Option<&str>) -> Result<String, Failure> {
    let mut query = Vec::new();
    if let Some(event) = event {
        // A name that is misspelt is told, rather than that nothing is there.
        api.get(&format!("/v1/events/{}", encoded(event))).await?;
        query.push(format!("event={}", encoded(event)));
    }
    if let Some(app) = app {
        query.push(format!("app={}", encoded(text(&api.app(app).await?, "id"))));
    }
    Ok(if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) })
}

/// How many events are in queues: of an answer that lists them.
pub(crate) fn count_in(queues: &[Value]) -> u64 {
    let count = |queue: &Value, name: &str| queue.get(name).and_then(Value::as_u64).unwrap_or_default();
    queues.iter().flat_map(|queue| ["ready", "in_flight", "deferred", "dead"].map(|name| count(queue, name))).sum()
}

/// What cannot be undone is done when it was said twice.
pub(crate) fn confirmed(yes: bool, what: &str) -> Result<(), Failure> {
    let unsaid = || Problem::usage(format!("{what}, which cannot be undone; add --yes to do it")).into();
    if yes { Ok(()) } else { Err(unsaid()) }
}

/// A text in a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// A text of an answer; empty if there is none.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A field of an answer, as JSON for people.
pub(crate) fn shown(value: &Value, field: &str) -> String {
    json_text(&value.get(field).unwrap_or(&Value::Null).to_string())
}
