//! The console: a page for people, beside the API, which it speaks.
//!
//! ```text
//! /console        the page and its two files, open: nothing in them is about this engine
//! /console/login  a token for a session; /console/logout ends it
//! /console/api    cookie ── body ── the routes of the API: as far as the session's token goes
//! ```
//!
//! The cookie is sent to nothing beside `/console`, and the API beside it does not look at it. Every request here that may change
//! something has a header that only a page of this origin can set (Fetch standard: others ask first, and are refused), on top of what
//! the guard checks of every request.

mod assets;
mod sessions;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use ensync_core::{Error, ErrorKind, Timestamp};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::api::{self, StillIn};
use super::audit::{Caller, Was};
use super::auth;
use super::body::{self, Read};
use super::context::{Access, Admin, Shown};
use super::error::{Refusal, Result};
use super::tokens::Tokens;
use crate::address::network;
use crate::broker::LoginThrottle;
use crate::state::Limits;
use sessions::Sessions;

/// Where everything is.
const BASE: &str = "/console";
/// What a page of this origin sets, and no other can.
const OURS: HeaderName = HeaderName::from_static("x-ensync-console");

/// Who is logged in.
#[derive(Clone, Debug)]
struct Door {
    tokens: Tokens,
    sessions: Sessions,
    throttle: Arc<Mutex<LoginThrottle>>,
    begun: Instant,
    /// Cookies know no ports: two engines of one machine are told apart by the name.
    cookie: Arc<str>,
    /// Whether the cookie is for TLS only.
    tls: bool,
}

/// The console's routes. `port`: of its listener.
pub(super) fn router(tokens: Tokens, limits: &Limits, port: u16, tls: bool) -> Router<Admin> {
    let door = Door {
        sessions: Sessions::new(tokens.clone()),
        tokens,
        throttle: Arc::new(Mutex::new(LoginThrottle::new(limits))),
        begun: Instant::now(),
        cookie: format!("ensync-console-{port}").into(),
        tls,
    };
    let (api, _) = api::routes().merge(api::about()).split_for_parts();
    let api = api.layer(from_fn(body::whole)).layer(from_fn_with_state(door.clone(), require_session));
    let doors = Router::new().route("/login", post(log_in)).route("/logout", post(log_out));
    let doors = doors.layer(from_fn(body::whole)).with_state(door);
    let all = Router::new().nest("/api", api).merge(doors).layer(from_fn(require_ours));
    assets::router(BASE).nest(BASE, all)
}

/// Refuses what a page of another origin could have sent.
async fn require_ours(request: Request, next: Next) -> Response {
    if request.method().is_safe() || request.headers().contains_key(OURS) {
        return next.run(request).await;
    }
    let message =
        format!("this is for the console's own page, which sends the header {OURS}; programs use the API under /v1");
    Refusal::new(StatusCode::FORBIDDEN, "forbidden", message).into_response()
}

/// Refuses whoever is not logged in.
async fn require_session(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let id = door.shown(request.headers());
    let Some((id, (who, access))) = id.and_then(|id| Some((id.clone(), door.sessions.admit(&id)?))) else {
        return not_logged_in().into_response();
    };
    let sessions = door.sessions.clone();
    request.extensions_mut().insert(StillIn(Arc::new(move || sessions.is_in(&id))));
    auth::admit(request, Shown(who, access), next).await
}

fn not_logged_in() -> Refusal {
    let message = "nobody is logged in here, or the session has ended; log in again";
    Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
}

/// What is shown to get in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ticket {
    token: String,
}

/// What somebody who is in may do.
#[derive(Debug, Serialize)]
struct In {
    access: Access,
}

async fn log_in(State(door): State<Door>, caller: Caller, Read(ticket): Read<Ticket>) -> Result<Response> {
    let shown = ticket.token.trim();
    // One that is about to go opens no new session.
    let known = door.tokens.known(shown).filter(|_| door.tokens.is_present(shown));
    let Some((who, access)) = known else {
        let error = door.refuse(caller.from.map(|from| network(from.ip())));
        let (kind, status) = match error.kind() {
            ErrorKind::LimitExceeded => ("limit_exceeded", StatusCode::TOO_MANY_REQUESTS),
            _ => ("unauthenticated", StatusCode::UNAUTHORIZED),
        };
        // Who goes on trying while he has to wait must not fill the log.
        if status == StatusCode::UNAUTHORIZED {
            caller.audit::<(), ()>("console.login", "console", &Err(error.clone()));
        }
        return Err(Refusal::new(status, kind, error.to_string()));
    };
    let id = door.sessions.open(shown)?;
    let caller = Caller { who: Some(who), ..caller };
    caller.audit("console.login", "console", &Ok(Was::<(), _>::only(In { access })));
    let cookie = door.cookie(&id, "")?;
    Ok(([(header::SET_COOKIE, cookie), no_store()], Json(In { access })).into_response())
}

async fn log_out(State(door): State<Door>, headers: HeaderMap) -> Result<Response> {
    if let Some(id) = door.shown(&headers) {
        door.sessions.close(&id);
    }
    let cookie = door.cookie("", "; Max-Age=0")?;
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie), no_store()]).into_response())
}

fn no_store() -> (HeaderName, HeaderValue) {
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

impl Door {
    /// The session that a request shows. RFC 6265, section 4.2.1.
    fn shown(&self, headers: &HeaderMap) -> Option<String> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == &*self.cookie).map(|(_, id)| id.to_owned())
    }

    fn cookie(&self, id: &str, rest: &str) -> Result<HeaderValue> {
        let secure = if self.tls { "; Secure" } else { "" };
        let text = format!("{}={id}; Path={BASE}; HttpOnly; SameSite=Strict{secure}{rest}", self.cookie);
        let failed = |cause| Error::new(ErrorKind::Internal, "a cookie cannot be written").with_source(cause);
        Ok(HeaderValue::from_str(&text).map_err(failed)?)
    }

    /// Why a login failed, which is noted.
    fn refuse(&self, from: Option<IpAddr>) -> Error {
        let now = Timestamp::from_millis(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if from.is_some_and(|from| throttle.failed(from, now).is_err()) {
            let message = "this token is wrong, and so were too many before it from this address; check it, and try again in a minute";
            return Error::new(ErrorKind::LimitExceeded, message);
        }
        let message = "this is not a token of this engine; one with a data directory has it in the file admin.token there, or admin-read.token";
        Error::new(ErrorKind::Unauthenticated, message)
    }
}
