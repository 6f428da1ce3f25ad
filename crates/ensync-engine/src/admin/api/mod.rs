//! The routes that need the token, one file for each sort of thing.

mod apps;
mod dead_letters;
mod events;
mod info;
mod live;
mod lookup;
mod queue;
mod queues;
mod rights;
mod sessions;

use ensync_core::{Error, ErrorKind, EventId, Result};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Content, Ref, Response, SecurityRequirement};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) use live::StillIn;

use super::context::{Admin, TOKEN};
use crate::partition::EventKey;

/// The most items of a page, and how many it has if nobody says.
const MAX_PAGE: usize = 1_000;
const PAGE: usize = 100;

/// What is there only where an engine serves it: it is about the engine, and some of it lasts.
pub(super) fn about() -> OpenApiRouter<Admin> {
    completed(
        OpenApiRouter::new().routes(routes!(info::show)).routes(routes!(info::history)).routes(routes!(live::follow)),
    )
}

pub(super) fn routes() -> OpenApiRouter<Admin> {
    let router = OpenApiRouter::new()
        .routes(routes!(apps::list, apps::create))
        .routes(routes!(apps::show, apps::delete))
        .routes(routes!(apps::rotate_access_key))
        .routes(routes!(apps::rotate_key_pair))
        .routes(routes!(apps::retire_public_key))
        .routes(routes!(apps::enable))
        .routes(routes!(apps::disable))
        .routes(routes!(rights::set))
        .routes(routes!(rights::grant, rights::revoke))
        .routes(routes!(events::list, events::create))
        .routes(routes!(events::show, events::change, events::delete))
        .routes(routes!(queues::list))
        .routes(routes!(queue::show))
        .routes(routes!(queue::peek))
        .routes(routes!(queue::purge))
        .routes(routes!(lookup::show))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::show, sessions::end))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::requeue))
        .routes(routes!(dead_letters::drop_them));
    completed(router)
}

fn completed(mut router: OpenApiRouter<Admin>) -> OpenApiRouter<Admin> {
    for (path, item) in &mut router.get_openapi_mut().paths.paths {
        let operations = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("put", &mut item.put),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in operations.into_iter().filter_map(|(method, o)| Some((method, o.as_mut()?))) {
            // The handlers' own names are told apart by their modules only.
            let words = path.split(['/', '{', '}', '-']).filter(|word| !word.is_empty() && *word != "v1");
            operation.operation_id = Some([method].into_iter().chain(words).collect::<Vec<_>>().join("_"));
            complete(operation);
        }
    }
    router
}

/// Says what holds for every operation here: the token, and what refusals look like.
fn complete(operation: &mut Operation) {
    operation.security = Some(vec![SecurityRequirement::new(TOKEN, Vec::<String>::new())]);
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    for (status, what) in [("4XX", "It was refused."), ("5XX", "It was not carried out, or only in part.")] {
        let mut response = Response::new(what);
        response.content.insert("application/json".to_owned(), problem.clone());
        operation.responses.responses.insert(status.to_owned(), response.into());
    }
}

/// An app, in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it only describes")]
struct PathOfApp {
    /// The app's id, or a public key of it that can be published to: 32 bytes in base64, percent-encoded.
    #[param(pattern = "^[A-Za-z0-9+/]{43}=$")]
    app: String,
}

/// An event name, in a path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it only describes")]
struct PathOfEvent {
    /// The event name, percent-encoded: at most 255 bytes.
    #[param(min_length = 1, max_length = 255)]
    event: String,
}

/// Which part of a list is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Page {
    /// How many at most: 1 to 1,000. 100 if it is not said.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

impl Page {
    fn limit(&self) -> Result<usize> {
        let limit = self.limit.unwrap_or(PAGE);
        if (1..=MAX_PAGE).contains(&limit) {
            return Ok(limit);
        }
        Err(Error::new(ErrorKind::InvalidInput, format!("limit is {limit}, it can be 1 to {MAX_PAGE}")))
    }

    fn after<T>(&self, read: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
        let refuse = |_| Error::new(ErrorKind::InvalidInput, "after is not the next of a page of this list");
        self.after.as_deref().map(read).transpose().map_err(refuse)
    }
}

/// Reads where a page of events begins: an id that this engine made.
fn event_key(text: &str) -> Result<EventId> {
    let id = EventId::parse_stored(text)?;
    match EventKey::of(&id) {
        Some(_) => Ok(id),
        None => Err(Error::new(ErrorKind::InvalidInput, "this is no event id of an engine")),
    }
}

/// That a text is no number.
fn no_number(cause: std::num::ParseIntError) -> Error {
    Error::new(ErrorKind::InvalidInput, "this is no number").with_source(cause)
}

/// Checks a text that is looked for.
fn text(name: &str, given: Option<&str>) -> Result<()> {
    match given {
        Some(text) if !(1..=256).contains(&text.len()) => {
            Err(Error::new(ErrorKind::InvalidInput, format!("{name} has 1 to 256 bytes")))
        }
        _ => Ok(()),
    }
}
