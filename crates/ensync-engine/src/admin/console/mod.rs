//! The console: a page for people, beside the API, which it speaks.
//!
//! ```text
//! /console        the page and its files, open: nothing in them is about this engine
//! /console/login  a token for a session; /console/logout ends it
//! /console/api    session ── body ── the routes of the API: as far as the session's token goes
//! ```
//!
//! There is no cookie, for cookies know no ports (RFC 6265, section 8.5): every other listener of the host would be sent it, and could
//! put one of its own before it. The page keeps the session where only pages of its own origin, port included, can read it, and sends it
//! in a header. So no request of another page has a session, whatever that page makes the browser send.

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
/// The session.
const SESSION: HeaderName = HeaderName::from_static("x-ensync-console");
/// Set by a page that asks by itself while nobody is there.
const UNATTENDED: HeaderName = HeaderName::from_static("x-ensync-unattended");
/// The longest body of a login, which strangers send, in bytes.
const TICKET: usize = 1 << 10;

/// Who is logged in.
#[derive(Clone, Debug)]
struct Door {
    tokens: Tokens,
    sessions: Sessions,
    throttle: Arc<Mutex<LoginThrottle>>,
    begun: Instant,
}

/// The console's routes.
pub(super) fn router(tokens: Tokens, limits: &Limits) -> Router<Admin> {
    let door = Door {
        sessions: Sessions::new(tokens.clone()),
        tokens,
        throttle: Arc::new(Mutex::new(LoginThrottle::new(limits))),
        begun: Instant::now(),
    };
    let (api, _) = api::routes().merge(api::about()).split_for_parts();
    let api = api.layer(from_fn(body::whole)).layer(from_fn_with_state(door.clone(), require_session));
    let log_in = post(log_in).layer(from_fn(async |request, next| body::up_to(TICKET, request, next).await));
    let doors = Router::new().route("/login", log_in).route("/logout", post(log_out)).with_state(door);
    assets::router(BASE).nest(BASE, Router::new().nest("/api", api).merge(doors))
}

/// Refuses whoever is not logged in.
async fn require_session(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let attended = !request.headers().contains_key(UNATTENDED);
    let id = shown(request.headers()).map(str::to_owned);
    let Some((id, (who, access))) = id.and_then(|id| Some((id.clone(), door.sessions.admit(&id, attended)?))) else {
        return not_logged_in().into_response();
    };
    let sessions = door.sessions.clone();
    request.extensions_mut().insert(StillIn(Arc::new(move || sessions.is_in(&id))));
    auth::admit(request, Shown(who, access), next).await
}

/// The session that a request shows.
fn shown(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION)?.to_str().ok()
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

/// The answer to whoever gets in.
#[derive(Serialize)]
struct Let {
    access: Access,
    /// What the page sends with everything that it asks.
    session: String,
}

async fn log_in(
    State(door): State<Door>,
    caller: Caller,
    headers: HeaderMap,
    Read(ticket): Read<Ticket>,
) -> Result<Response> {
    let ticket = ticket.token.trim();
    // One that is about to go opens no new session.
    let known = door.tokens.known(ticket).filter(|_| door.tokens.is_present(ticket));
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
    let (session, pushed_out) = door.sessions.open(ticket)?;
    let caller = Caller { who: Some(who), ..caller };
    caller.audit("console.login", "console", &Ok(Was::<(), _>::only(In { access })));
    if pushed_out {
        let subject = "the session used longest ago, for its token has opened too many";
        caller.audit("console.logout", subject, &Ok(Was::<(), _>::only(In { access })));
    }
    // The one that it takes the place of in this browser.
    door.close(&caller, &headers);
    Ok(([no_store()], Json(Let { access, session })).into_response())
}

async fn log_out(State(door): State<Door>, caller: Caller, headers: HeaderMap) -> Response {
    door.close(&caller, &headers);
    (StatusCode::NO_CONTENT, [no_store()]).into_response()
}

fn no_store() -> (HeaderName, HeaderValue) {
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

impl Door {
    /// Ends the session that a request shows.
    fn close(&self, caller: &Caller, headers: &HeaderMap) {
        if let Some((who, access)) = shown(headers).and_then(|id| self.sessions.close(id)) {
            let caller = Caller { who: Some(who), from: caller.from };
            caller.audit("console.logout", "console", &Ok(Was::<(), _>::only(In { access })));
        }
    }

    /// Why a login failed, which is noted.
    fn refuse(&self, from: Option<IpAddr>) -> Error {
        let now = Timestamp::from_millis(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seconds) = from.and_then(|from| throttle.wait(from, now)) {
            let message = format!(
                "this token is wrong, and so were too many before it from this address; check it, and try again in {seconds} s"
            );
            return Error::new(ErrorKind::LimitExceeded, message);
        }
        if let Some(from) = from {
            // It need not wait, so this only counts.
            _ = throttle.failed(from, now);
        }
        let message = "this is not a token of this engine; one with a data directory has it in the file admin.token there, or admin-read.token";
        Error::new(ErrorKind::Unauthenticated, message)
    }
}
