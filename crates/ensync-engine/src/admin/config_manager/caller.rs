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
use crate::address::network;
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
        let hash = KeyHash::of(&AppKey::parse_received(key).map_err(|_| unknown())?);
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
    let from = request.extensions().get::<SocketAddr>().map(|from| network(from.ip()));
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

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use ensync_core::EventName;
    use futures::FutureExt as _;
    use http::Request;
    use tower_service::Service as _;

    use super::super::{BASE, keys, router};
    use super::*;
    use crate::{AdminToken, BrokerOptions, EventOptions, MemoryLog};

    struct Api {
        broker: Broker,
        router: Router,
        token: AdminToken,
    }

    async fn api() -> Api {
        let broker = Broker::start(BrokerOptions::default(), MemoryLog::new()).await.unwrap();
        let token = AdminToken::generate().unwrap();
        let router = router(broker.clone(), Tokens::fixed(token.clone(), None), &Limits::default(), None).unwrap();
        Api { broker, router, token }
    }

    fn request(method: &str, path: &str, key: &str, body: String) -> Request<Body> {
        let request = Request::builder().method(method).uri(format!("{BASE}{path}"));
        let request =
            request.header(HEADER, key).header("host", "localhost").header("content-type", "application/json");
        request.body(Body::from(body)).unwrap()
    }

    #[tokio::test]
    async fn a_change_is_made_to_its_end_though_its_caller_goes() {
        let mut api = api().await;
        let id = AppId::from_bytes([6; 32]);
        api.broker.create_app("shop", id).await.unwrap();
        let names: Vec<String> = (0..40).map(|n| format!("orders/{n}")).collect();
        for name in &names {
            api.broker.register_event(EventName::parse(name).unwrap(), EventOptions::default()).await.unwrap();
        }
        let body = serde_json::json!({ "send": names, "receive": [] }).to_string();
        let path = format!("/access-key/{}/permissions", keys::id_of(&id));
        let change = api.router.call(request("POST", &path, api.token.expose(), body));
        assert!(change.now_or_never().is_none(), "its caller hangs up while it is under way");
        let all_given = async {
            while api.broker.app(id).await.unwrap().unwrap().grants.len() < names.len() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), all_given).await.expect("all of it is given");
    }

    #[tokio::test]
    async fn guesses_from_one_network_are_counted_together() {
        let mut api = api().await;
        let mut guess = async |from: String| {
            let mut request = request("GET", "/event", "ensync_key_of-nobody", String::new());
            request.extensions_mut().insert(SocketAddr::new(from.parse().unwrap(), 1_000));
            let Ok(answer) = api.router.call(request).await;
            answer.status().as_u16()
        };
        let mut seen = Vec::new();
        for n in 0..40 {
            seen.push(guess(format!("2001:db8::{n:x}")).await);
        }
        assert_eq!((seen[0], seen[39]), (401, 429), "{seen:?}");
        assert_eq!(guess("2001:db8:0:1::1".to_owned()).await, 401, "another network waits for nobody");
    }
}
