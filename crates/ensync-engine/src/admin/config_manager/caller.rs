//! Who asks: whoever has the admin token, or an app about itself.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ensync_core::{AppId, AppKey, Error, ErrorKind, Timestamp};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::Instant;

use super::changes::Changes;
use crate::admin::Tokens;
use crate::admin::audit::Caller as Asker;
use crate::admin::error::{Refusal, Result};
use crate::broker::LoginThrottle;
use crate::model::KeyHash;
use crate::{Broker, Limits};

/// The header that holds the key.
pub(super) const HEADER: &str = "X-ACCESS-KEY";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// Whoever has the admin token: their ACCOUNT key.
    Account,
    /// An app: their SERVICE key.
    Service(AppId),
}

impl Caller {
    /// Refuses whoever does not administer.
    pub(super) fn administers(&self) -> Result<()> {
        match self {
            Self::Account => Ok(()),
            Self::Service(_) => {
                let message = "an access key of type SERVICE is an app: it may look at itself, and change nothing; send the \
                               engine's admin token, which is its ACCOUNT key";
                Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", message))
            }
        }
    }

    /// Whether this app is the caller's to see.
    pub(super) fn sees(&self, app: &AppId) -> bool {
        match self {
            Self::Account => true,
            Self::Service(own) => own == app,
        }
    }
}

/// What tells callers apart.
#[derive(Clone)]
pub(super) struct Gate {
    broker: Broker,
    tokens: Tokens,
    /// The same delays as for logins of apps, counted apart from them.
    throttle: Arc<Mutex<LoginThrottle>>,
    begun: Instant,
}

impl Gate {
    pub(super) fn new(broker: Broker, tokens: Tokens, limits: &Limits) -> Self {
        Self { broker, tokens, throttle: Arc::new(Mutex::new(LoginThrottle::new(limits))), begun: Instant::now() }
    }

    async fn caller(&self, key: &str, from: Option<IpAddr>) -> Result<Caller> {
        let throttle = || self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::from_millis(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        let known = if self.tokens.whose(key).is_some() { Ok(Caller::Account) } else { self.app(key).await };
        if let (Err(error), Some(from)) = (&known, from)
            && error.kind() == ErrorKind::Unauthenticated
        {
            throttle().failed(from, now)?;
        }
        match known {
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {
                Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", error.to_string()))
            }
            Err(error) if error.kind() == ErrorKind::Forbidden => {
                Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", error.to_string()))
            }
            known => Ok(known?),
        }
    }

    async fn app(&self, key: &str) -> ensync_core::Result<Caller> {
        let unknown = || {
            let message = format!("the key in {HEADER} is neither this engine's admin token nor an app's access key");
            Error::new(ErrorKind::Unauthenticated, message)
        };
        let hash = KeyHash::of(&AppKey::parse(key).map_err(|_| unknown())?);
        let app = self.broker.inspect(move |state| state.app_of_access_key(&hash)).await?.ok_or_else(unknown)?;
        if !app.enabled {
            return Err(Error::new(ErrorKind::Forbidden, "this app is disabled"));
        }
        Ok(Caller::Service(app.id))
    }
}

/// Whether the headers of a request show a key that only administrators have.
pub(super) fn shows_account(tokens: &Tokens, headers: &HeaderMap) -> bool {
    headers.get(HEADER).and_then(|key| key.to_str().ok()).is_some_and(|key| tokens.whose(key).is_some())
}

/// Refuses whoever shows no key that this engine knows, and tells the routes who asks. What was sent instead is neither said nor
/// logged.
pub(super) async fn know(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let from = request.extensions().get::<SocketAddr>().map(SocketAddr::ip);
    let key = request.headers().get(HEADER).map(|key| key.to_str().unwrap_or_default().to_owned());
    let caller = match &key {
        Some(key) => gate.caller(key, from).await,
        None => {
            let message = format!("no access key: send one in the header {HEADER}");
            Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", message))
        }
    };
    match caller {
        Err(refusal) => {
            let mut response = refusal.into_response();
            if response.status() == StatusCode::UNAUTHORIZED {
                let scheme = HeaderValue::from_static("AccessKey realm=\"EnSync Config Manager\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
            }
            response
        }
        Ok(caller) => {
            let asker = Asker {
                who: key.and_then(|key| gate.tokens.whose(&key)),
                from: request.extensions().get::<SocketAddr>().copied(),
            };
            let change = (!request.method().is_safe()).then(|| request.uri().path().to_owned());
            let changes = Changes::default();
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(changes.clone());
            let mut response = next.run(request).await;
            if let Some(path) = change {
                changes.audit(&asker, &path, response.status());
            }
            // Some answers hold keys.
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
    }
}
