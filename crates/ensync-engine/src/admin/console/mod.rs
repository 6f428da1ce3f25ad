//! The console: a page for people, beside the API, which it speaks.
//!
//! ```text
//! /               sends browsers to the page
//! /console        the page and its files, open: nothing in them is about this engine
//! /console/login  a token for a session; /console/logout ends it
//! /console/api    session ── body ── the routes of the API: as far as the session's token goes
//! ```
//!
//! A session has two halves, and every request shows both. One is in a cookie that no script can read (HttpOnly) and that goes along
//! with requests of this site only (SameSite=Strict). But cookies know no ports (RFC 6265, section 8.5): every other listener of the
//! host is sent it, and can put one of its own before it. So the other half is a header: the page keeps that where only pages of its
//! own origin, port included, can read it. A listener beside it has the cookie and no header; a script that got into a page can take no
//! session away from there, for it cannot read the cookie.

mod assets;
mod cookie;
mod sessions;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
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
use cookie::Cookie;
use sessions::{Id, Opened, Sessions};

/// Where everything is.
const BASE: &str = "/console";
/// The half of a session that is no cookie.
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
    cookie: Arc<Cookie>,
    throttle: Arc<Mutex<LoginThrottle>>,
    begun: Instant,
}

/// What the console has to know of its listener.
pub(crate) struct Console {
    pub(crate) limits: Limits,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

/// The console's routes.
pub(super) fn router(tokens: Tokens, Console { limits, port, tls }: Console) -> Router<Admin> {
    let door = Door {
        sessions: Sessions::new(tokens.clone()),
        cookie: Arc::new(Cookie::new(port, tls)),
        tokens,
        throttle: Arc::new(Mutex::new(LoginThrottle::new(&limits))),
        begun: Instant::now(),
    };
    let (api, _) = api::routes().merge(api::about()).split_for_parts();
    let api = api.layer(from_fn(body::whole)).layer(from_fn_with_state(door.clone(), require_session));
    let log_in = post(log_in).layer(from_fn(async |request, next| body::up_to(TICKET, request, next).await));
    let doors = Router::new().route("/login", log_in).route("/logout", post(log_out)).with_state(door);
    assets::router(BASE).nest(BASE, Router::new().nest("/api", api).merge(doors)).route("/", get(front))
}

/// Sends whoever types the address alone into a browser to the page.
async fn front(headers: HeaderMap) -> Response {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    match accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim_start().starts_with("text/html")) {
        true => Redirect::temporary(BASE).into_response(),
        false => super::router::unknown().await.into_response(),
    }
}

/// Refuses whoever is not logged in.
async fn require_session(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let attended = !request.headers().contains_key(UNATTENDED);
    let admitted = door.shown(request.headers()).and_then(|id| Some((id, door.sessions.admit(&id, attended)?)));
    let Some((id, (who, access))) = admitted else { return not_logged_in().into_response() };
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

/// The answer to whoever gets in.
#[derive(Serialize)]
struct Let {
    access: Access,
    /// What the page sends in a header with everything that it asks.
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
    let Opened { cookie, key, pushed_out } = door.sessions.open(ticket)?;
    let caller = Caller { who: Some(who), ..caller };
    caller.audit("console.login", "console", &Ok(Was::<(), _>::only(In { access })));
    if pushed_out {
        let subject = "the session used longest ago, for its token has opened too many";
        caller.audit("console.logout", subject, &Ok(Was::<(), _>::only(In { access })));
    }
    // The one that it takes the place of in this browser.
    door.close(&caller, &headers);
    Ok(told(door.cookie.set(&cookie), Json(Let { access, session: key })))
}

async fn log_out(State(door): State<Door>, caller: Caller, headers: HeaderMap) -> Response {
    door.close(&caller, &headers);
    told(door.cookie.forget(), StatusCode::NO_CONTENT)
}

/// An answer with a cookie.
fn told(cookie: Option<HeaderValue>, answer: impl IntoResponse) -> Response {
    let mut response = ([no_store()], answer).into_response();
    response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    response
}

fn no_store() -> (HeaderName, HeaderValue) {
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

impl Door {
    /// The session that a request shows, with both of its halves.
    fn shown(&self, headers: &HeaderMap) -> Option<Id> {
        let key = headers.get(SESSION)?.to_str().ok()?;
        self.sessions.find(self.cookie.shown(headers), key)
    }

    /// Ends the session that a request shows.
    fn close(&self, caller: &Caller, headers: &HeaderMap) {
        if let Some((who, access)) = self.shown(headers).and_then(|id| self.sessions.close(&id)) {
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
        let message = "this is not a token of this engine; one with a data directory has it in the file admin.token there, or admin-read.token, and one without printed it when it started";
        Error::new(ErrorKind::Unauthenticated, message)
    }
}
