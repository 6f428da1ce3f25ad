use std::time::Duration;

use axum::Json;
use axum::extract::State;
use ensync_core::{AppId, AppKey, AppName, Error, ErrorKind};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::rights::{Grant, May};
use super::{Page, PathOfApp, text};
use crate::AppInfo;
use crate::admin::audit::{Caller, Was};
use crate::admin::body::{Asked, Named, Read};
use crate::admin::context::Admin;
use crate::admin::error::Result;
use crate::admin::token::exposed;
use crate::broker::new_access_key;
use crate::model::{AdminCommand, KeyHash, Rights};

/// An app.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct App {
    /// The public key that it was created with (Ed25519, base64): names the app for as long as it exists.
    id: String,
    /// Its name, for people.
    name: String,
    /// The public key that it has now: its address, and the sender of what it publishes.
    public_key: String,
    /// The public keys before it that can still be published to, oldest first.
    earlier_public_keys: Vec<String>,
    /// Until when the access key before the last rotation logs in too, if it does: milliseconds since the Unix epoch.
    old_access_key_until: Option<u64>,
    /// Whether it may log in.
    enabled: bool,
    /// What it may do with event names that `grants` does not speak of.
    rights: May,
    /// What it may do with single event names.
    grants: Vec<Grant>,
    /// When it was created: milliseconds since the Unix epoch.
    created_at: u64,
    /// How many sessions it has.
    sessions: usize,
}

impl From<AppInfo> for App {
    fn from(app: AppInfo) -> Self {
        Self {
            id: app.id.to_string(),
            name: app.name,
            public_key: app.public_key.to_string(),
            earlier_public_keys: app.earlier_keys.iter().map(AppId::to_string).collect(),
            old_access_key_until: app.old_key_until.map(|until| until.as_millis()),
            enabled: app.enabled,
            rights: app.rights.into(),
            grants: app.grants.into_iter().map(Grant::from).collect(),
            created_at: app.created_at.as_millis(),
            sessions: app.sessions,
        }
    }
}

/// An app, as the audit shows it.
#[derive(Debug, Serialize)]
struct Audited {
    name: String,
    public_key: String,
    earlier_public_keys: usize,
    old_access_key_until: Option<u64>,
    enabled: bool,
}

impl From<&AppInfo> for Audited {
    fn from(app: &AppInfo) -> Self {
        Self {
            name: app.name.clone(),
            public_key: app.public_key.to_string(),
            earlier_public_keys: app.earlier_keys.len(),
            old_access_key_until: app.old_key_until.map(|until| until.as_millis()),
            enabled: app.enabled,
        }
    }
}

/// An app and the access key that it just got.
#[derive(Serialize, ToSchema)]
pub(super) struct Issued {
    /// The key that it logs in with. The engine keeps a hash: this is the only time the key is to be seen.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    access_key: AppKey,
    app: App,
}

/// Some apps.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Apps {
    apps: Vec<App>,
    /// What to send as `after` for the next page; null if there is none.
    next: Option<String>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListApps {
    /// Only those of this name: names need not be unique.
    #[param(min_length = 1, max_length = 256)]
    name: Option<String>,
    /// Only those whose name or id holds this, in either case of ASCII letters: at most 256 bytes.
    #[param(min_length = 1)]
    search: Option<String>,
    /// Only those that may log in, or only those that may not.
    enabled: Option<bool>,
    /// How many at most: 1 to 1,000. 100 if it is not said. There may be fewer on a page of a search that is not the last.
    #[param(minimum = 1, maximum = 1_000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// A new app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateApp {
    /// Its name, for people: 1 to 256 bytes without characters that cannot be seen, and without a blank at either end. What reads
    /// as a public key is no name.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    /// Whether another app may have that name already: then only ids tell the two apart. Refused as a conflict otherwise.
    same_name: Option<bool>,
    /// Its public key: Ed25519, 32 bytes in base64. Whoever creates it keeps the secret half.
    #[schema(pattern = "^[A-Za-z0-9+/]{43}=$")]
    public_key: String,
    /// What it may do with every event name. Everything, if it is not said.
    rights: Option<May>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RotateAccessKey {
    /// For how long the present key goes on logging in, in milliseconds: up to 30 days. 0 if it is not said: then the app's
    /// sessions end at once.
    #[schema(maximum = 2_592_000_000_u64)]
    grace_ms: u64,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateKeyPair {
    /// The public half of the new pair: Ed25519, 32 bytes in base64.
    #[schema(pattern = "^[A-Za-z0-9+/]{43}=$")]
    public_key: String,
}

/// List apps, by id.
#[utoipa::path(get, path = "/v1/apps", tag = "apps", params(ListApps), responses((status = 200, body = Apps)))]
pub(super) async fn list(State(admin): State<Admin>, Asked(asked): Asked<ListApps>) -> Result<Json<Apps>> {
    let page = Page { limit: asked.limit, after: asked.after };
    let (limit, after, name) = (page.limit()?, page.after(str::parse::<AppId>)?, asked.name);
    if asked.search.is_some() || asked.enabled.is_some() {
        if name.is_some() {
            let message = "name is the whole of one, and goes with neither search nor enabled";
            return Err(Error::new(ErrorKind::InvalidInput, message).into());
        }
        text("search", asked.search.as_deref())?;
        let (apps, next) = admin.broker.find_apps((asked.search, asked.enabled), after, limit).await?;
        let next = next.map(|next| next.to_string());
        return Ok(Json(Apps { apps: apps.into_iter().map(App::from).collect(), next }));
    }
    let apps = admin.broker.inspect(move |state| state.apps_after(after.as_ref(), name.as_deref(), limit)).await?;
    let next = apps.last().filter(|_| apps.len() == limit).map(|app| app.id.to_string());
    Ok(Json(Apps { apps: apps.into_iter().map(App::from).collect(), next }))
}

/// Create an app. The key pair is made by whoever asks, who sends the public half.
#[utoipa::path(
    post, path = "/v1/apps", tag = "apps", request_body = CreateApp, responses((status = 201, body = Issued)),
)]
pub(super) async fn create(
    State(admin): State<Admin>,
    caller: Caller,
    Read(new): Read<CreateApp>,
) -> Result<(StatusCode, Json<Issued>)> {
    let (name, id) = (AppName::parse(&new.name)?, AppId::parse(&new.public_key)?);
    let (rights, key) = (new.rights.map_or(Rights::ALL, Rights::from), new_access_key()?);
    let same_name = new.same_name.unwrap_or(false);
    let what = AdminCommand::CreateApp { id, name: name.into(), key_hash: KeyHash::of(&key), rights, same_name };
    let app = change(&admin, &caller, "app.create", id, what).await?;
    Ok((StatusCode::CREATED, Json(Issued { access_key: key, app })))
}

/// Show an app. Here and below, `app` is its id, or a public key of it that can be published to, percent-encoded.
#[utoipa::path(
    get, path = "/v1/apps/{app}", tag = "apps", params(PathOfApp), responses((status = 200, body = App)),
)]
pub(super) async fn show(State(admin): State<Admin>, Named(app): Named<String>) -> Result<Json<App>> {
    shown(&admin, app.parse()?).await
}

/// Delete an app: its sessions end, and what was published to it is gone.
#[utoipa::path(
    delete, path = "/v1/apps/{app}", tag = "apps", params(PathOfApp), responses((status = 204)),
)]
pub(super) async fn delete(
    State(admin): State<Admin>,
    caller: Caller,
    Named(app): Named<String>,
) -> Result<StatusCode> {
    let app = app.parse()?;
    changed(&admin, &caller, "app.delete", app, AdminCommand::DeleteApp { app }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Give an app another access key.
#[utoipa::path(
    post, path = "/v1/apps/{app}/access-key", tag = "apps", params(PathOfApp),
    request_body = RotateAccessKey, responses((status = 200, body = Issued)),
)]
pub(super) async fn rotate_access_key(
    State(admin): State<Admin>,
    caller: Caller,
    Named(app): Named<String>,
    Read(asked): Read<RotateAccessKey>,
) -> Result<Json<Issued>> {
    let (app, key) = (app.parse()?, new_access_key()?);
    let grace = Duration::from_millis(asked.grace_ms);
    let what = AdminCommand::RotateKey { app, key_hash: KeyHash::of(&key), grace };
    let app = change(&admin, &caller, "app.access-key.rotate", app, what).await?;
    Ok(Json(Issued { access_key: key, app }))
}

/// Give an app another key pair, of which the public half is sent. What is published to the keys before still reaches it. Its
/// sessions end.
#[utoipa::path(
    post, path = "/v1/apps/{app}/key-pair", tag = "apps", params(PathOfApp),
    request_body = RotateKeyPair, responses((status = 200, body = App)),
)]
pub(super) async fn rotate_key_pair(
    State(admin): State<Admin>,
    caller: Caller,
    Named(app): Named<String>,
    Read(new): Read<RotateKeyPair>,
) -> Result<Json<App>> {
    let (app, public_key) = (app.parse()?, new.public_key.parse()?);
    change(&admin, &caller, "app.key-pair.rotate", app, AdminCommand::RotateKeyPair { app, public_key }).await.map(Json)
}

/// Retire an earlier public key of an app for good, after a leak or when nobody uses it: publishes to it are refused.
#[utoipa::path(
    delete, path = "/v1/apps/{app}/earlier-public-keys/{key}", tag = "apps", params(PathOfApp, ("key" = String, Path)),
    responses((status = 204)),
)]
pub(super) async fn retire_public_key(
    State(admin): State<Admin>,
    caller: Caller,
    Named((app, key)): Named<(String, String)>,
) -> Result<StatusCode> {
    let (app, public_key) = (app.parse()?, key.parse()?);
    changed(&admin, &caller, "app.public-key.retire", app, AdminCommand::RetireKey { app, public_key }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let an app log in again.
#[utoipa::path(
    post, path = "/v1/apps/{app}/enable", tag = "apps", params(PathOfApp), responses((status = 200, body = App)),
)]
pub(super) async fn enable(State(admin): State<Admin>, caller: Caller, Named(app): Named<String>) -> Result<Json<App>> {
    let app = app.parse()?;
    change(&admin, &caller, "app.enable", app, AdminCommand::Enable { app, enabled: true }).await.map(Json)
}

/// Let an app log in no more. Its sessions end; what is published to it waits.
#[utoipa::path(
    post, path = "/v1/apps/{app}/disable", tag = "apps", params(PathOfApp), responses((status = 200, body = App)),
)]
pub(super) async fn disable(
    State(admin): State<Admin>,
    caller: Caller,
    Named(app): Named<String>,
) -> Result<Json<App>> {
    let app = app.parse()?;
    change(&admin, &caller, "app.disable", app, AdminCommand::Enable { app, enabled: false }).await.map(Json)
}

/// Carries out a change of an app, and says how the app is then: also if the next change, by somebody else, deletes it at once.
async fn change(admin: &Admin, caller: &Caller, action: &'static str, app: AppId, what: AdminCommand) -> Result<App> {
    let after = changed(admin, caller, action, app, what).await?;
    Ok(after.map(App::from).ok_or_else(|| unknown(app))?)
}

async fn changed(
    admin: &Admin,
    caller: &Caller,
    action: &'static str,
    app: AppId,
    what: AdminCommand,
) -> Result<Option<AppInfo>> {
    let done = admin.broker.change_app(app, what).await;
    let was = done.as_ref().map(|[before, after]| Was {
        before: before.as_ref().map(Audited::from),
        after: after.as_ref().map(Audited::from),
    });
    caller.audit(action, app, &was.map_err(Clone::clone));
    let [_, after] = done?;
    Ok(after)
}

async fn shown(admin: &Admin, app: AppId) -> Result<Json<App>> {
    Ok(Json(admin.broker.app(app).await?.map(App::from).ok_or_else(|| unknown(app))?))
}

pub(super) fn unknown(app: AppId) -> Error {
    Error::new(ErrorKind::NotFound, format!("no app of this engine has the id {app}"))
}
