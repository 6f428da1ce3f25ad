use axum::extract::State;
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ensync_core::{AppId, AppKey, Error, ErrorKind, SecretKey};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::caller::Caller;
use super::changes::Changes;
use super::listing::{By, Listing, Page};
use super::permissions::Permissions;
use super::time::rfc3339;
use crate::AppInfo;
use crate::admin::body::{Asked, Named, Read};
use crate::admin::context::Admin;
use crate::admin::error::Result;
use crate::admin::token::exposed;
use crate::model::KeyHash;

/// How many apps are looked at at once, so that others are served in between.
const AT_ONCE: usize = 1_000;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Type {
    /// An app's.
    Service,
    /// An administrator's.
    Account,
}

/// An access key, as it can be shown later.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Key {
    id: String,
    /// Empty: the engine keeps a hash. Where a key is asked for, its id is taken too.
    key: String,
    name: String,
    r#type: Type,
    #[serde(rename = "createdAt")]
    created_at: String,
    permissions: Permissions,
    service_key_id: String,
    service_key_pair: PublicHalf,
}

#[derive(Debug, Serialize, ToSchema)]
struct PublicHalf {
    /// Its address: Ed25519, 32 bytes in base64.
    public_key: String,
}

/// A key pair that was made for this answer. The engine keeps the public half.
#[derive(Serialize, ToSchema)]
pub(super) struct Pair {
    /// The address: Ed25519, 32 bytes in base64.
    public_key: String,
    /// The secret half: 64 bytes in base64. This is the only time it is to be seen.
    #[serde(serialize_with = "wiped")]
    #[schema(value_type = String)]
    private_key: Zeroizing<String>,
}

/// Writes a secret that is wiped where it is kept.
fn wiped<S: Serializer>(secret: &Zeroizing<String>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(secret)
}

impl Pair {
    fn make() -> ensync_core::Result<(AppId, Self)> {
        let secret = SecretKey::generate()?;
        let none = || Error::new(ErrorKind::Internal, "a generated secret key has no public half");
        let (id, private_key) = secret.app_id().zip(secret.to_base64()).ok_or_else(none)?;
        Ok((id, Self { public_key: id.to_string(), private_key }))
    }
}

/// An access key that was just made.
#[derive(Serialize, ToSchema)]
pub(super) struct Created {
    id: String,
    /// What it logs in with. This is the only time it is to be seen.
    #[serde(rename = "accessKey", serialize_with = "exposed")]
    #[schema(value_type = String)]
    access_key: AppKey,
    name: String,
    r#type: Type,
    #[serde(rename = "createdAt")]
    created_at: String,
    permissions: Permissions,
    service_key_id: String,
    service_key_pair: Pair,
}

#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Create {
    /// SERVICE: an app. Another ACCOUNT key cannot be had.
    #[serde(default)]
    r#type: Option<Type>,
    /// Its name, for people: 1 to 256 bytes without control characters.
    #[schema(min_length = 1, max_length = 256)]
    name: String,
    /// What it may do. Nothing, if it is not said.
    #[serde(default)]
    permissions: Option<Permissions>,
}

#[derive(Deserialize, ToSchema)]
pub(super) struct NewPair {
    /// The access key, or its id.
    access_key: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Verified {
    /// Whether a client can log in with it, or an administrator use it.
    status: bool,
}

impl From<AppInfo> for Key {
    fn from(app: AppInfo) -> Self {
        Self {
            id: id_of(&app.id),
            key: String::new(),
            r#type: Type::Service,
            created_at: rfc3339(app.created_at),
            permissions: Permissions::of(&app),
            service_key_id: id_of(&app.public_key),
            service_key_pair: PublicHalf { public_key: app.public_key.to_string() },
            name: app.name,
        }
    }
}

/// List access keys: all of them, or the caller's own.
#[utoipa::path(get, path = "/access-key", tag = "access keys", params(Listing), responses((status = 200, body = Page<Key>)))]
pub(super) async fn list(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<Listing>,
) -> Result<Json<Page<Key>>> {
    let mut apps = match (&caller, &asked.access_key) {
        (Caller::Service(own), None) => admin.broker.app(*own).await?.into_iter().collect(),
        (_, Some(key)) => find(&admin, &caller, key).await?.into_iter().collect(),
        (Caller::Account, None) => all(&admin).await?,
    };
    apps.retain(|app| asked.wants(&app.name));
    match asked.by() {
        By::Name => apps.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id))),
        By::CreatedAt => apps.sort_by_key(|app| (app.created_at, app.id)),
        By::Key => apps.sort_by_key(|app| app.id),
    }
    let page = asked.page(apps)?;
    let results = page.results.into_iter().map(Key::from).collect();
    Ok(Json(Page { results_length: page.results_length, results }))
}

/// Show an access key, by its id.
#[utoipa::path(
    get, path = "/access-key/{id}", tag = "access keys", params(("id" = String, Path)),
    responses((status = 200, body = Key)),
)]
pub(super) async fn show(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Named(id): Named<String>,
) -> Result<Json<Key>> {
    Ok(Json(one(&admin, &caller, &id).await?.into()))
}

/// Make an access key of type SERVICE: an app, with a key pair that is made for this answer. Whoever makes the pair himself
/// (`ensync app create`) need not send its secret half over a network.
#[utoipa::path(
    post, path = "/access-key", tag = "access keys", request_body = Create, responses((status = 201, body = Created)),
)]
pub(super) async fn create(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Extension(changes): Extension<Changes>,
    Read(wanted): Read<Create>,
) -> Result<(http::StatusCode, Json<Created>)> {
    caller.administers()?;
    changes.begins("app.create", &wanted.name);
    if wanted.r#type == Some(Type::Account) {
        let message = "an engine has one ACCOUNT key, its admin token (the file admin.token of its data directory); it makes no others";
        return Err(Error::new(ErrorKind::InvalidInput, message).into());
    }
    let meant = wanted.permissions.unwrap_or_default().read()?;
    meant.check(&admin.broker).await?;
    let (id, pair) = Pair::make()?;
    let key = admin.broker.create_app_with_rights(&wanted.name, id, meant.default).await?;
    let given = async {
        let app = one(&admin, &caller, &id_of(&id)).await?;
        meant.give(&admin.broker, &app).await?;
        one(&admin, &caller, &id_of(&id)).await
    };
    let made = match given.await {
        Ok(app) => Key::from(app),
        Err(error) => {
            // Nobody has its key, and nobody ever will.
            if admin.broker.delete_app(id).await.is_err() {
                changes.made(None::<Key>, one(&admin, &caller, &id_of(&id)).await.ok().map(Key::from));
            }
            return Err(error.into());
        }
    };
    changes.made(None::<Key>, Some(&made));
    let Key { id, name, r#type, created_at, permissions, service_key_id, .. } = made;
    let (access_key, service_key_pair) = (key, pair);
    let created = Created { id, access_key, name, r#type, created_at, permissions, service_key_id, service_key_pair };
    Ok((http::StatusCode::CREATED, Json(created)))
}

/// Delete an access key: the app is gone, with what was published to it.
#[utoipa::path(
    delete, path = "/access-key/{id}", tag = "access keys", params(("id" = String, Path)),
    responses((status = 200, body = Key)),
)]
pub(super) async fn delete(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Extension(changes): Extension<Changes>,
    Named(id): Named<String>,
) -> Result<Json<Key>> {
    caller.administers()?;
    let app = one(&admin, &caller, &id).await?;
    changes.begins("app.delete", app.id);
    admin.broker.delete_app(app.id).await?;
    let key = Key::from(app);
    changes.made(Some(&key), None::<Key>);
    Ok(Json(key))
}

/// Show what an access key may do, by the key or its id.
#[utoipa::path(
    get, path = "/access-key/{id}/permissions", tag = "access keys", params(("id" = String, Path)),
    responses((status = 200, body = Key)),
)]
pub(super) async fn permissions(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Named(key): Named<String>,
) -> Result<Json<Key>> {
    Ok(Json(one(&admin, &caller, &key).await?.into()))
}

/// Set what an access key may do: this, and no more.
#[utoipa::path(
    post, path = "/access-key/{id}/permissions", tag = "access keys", params(("id" = String, Path)),
    request_body = Permissions, responses((status = 200, body = Key)),
)]
pub(super) async fn set_permissions(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Extension(changes): Extension<Changes>,
    Named(key): Named<String>,
    Read(wanted): Read<Permissions>,
) -> Result<Json<Key>> {
    caller.administers()?;
    wanted.says_something()?;
    let meant = wanted.read()?;
    let app = one(&admin, &caller, &key).await?;
    changes.begins("app.permissions.set", app.id);
    meant.check(&admin.broker).await?;
    let given = meant.give(&admin.broker, &app).await;
    // Also of what was done before a failure.
    let key = Key::from(one(&admin, &caller, &id_of(&app.id)).await?);
    changes.made(Some(Permissions::of(&app)), Some(&key.permissions));
    given?;
    Ok(Json(key))
}

/// Give an access key another key pair, made for this answer. Its sessions end; what is published to its earlier public keys still
/// reaches it, and opens with the earlier secret keys.
#[utoipa::path(
    put, path = "/access/service-key-pair", tag = "access keys", request_body = NewPair,
    responses((status = 200, body = Pair)),
)]
pub(super) async fn new_pair(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Extension(changes): Extension<Changes>,
    Read(wanted): Read<NewPair>,
) -> Result<Json<Pair>> {
    caller.administers()?;
    let app = one(&admin, &caller, &wanted.access_key).await?;
    changes.begins("app.key-pair.rotate", app.id);
    let (public_key, pair) = Pair::make()?;
    admin.broker.rotate_key_pair(app.id, public_key).await?;
    let after = one(&admin, &caller, &id_of(&app.id)).await?;
    changes.made(Some(Key::from(app)), Some(Key::from(after)));
    Ok(Json(pair))
}

/// Whether an access key is one of this engine's. An app may ask this of its own key.
#[utoipa::path(
    get, path = "/access/verify/{key}", tag = "access keys", params(("key" = String, Path)),
    responses((status = 200, body = Verified)),
)]
pub(super) async fn verify(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Named(key): Named<String>,
) -> Result<Json<Verified>> {
    let app = by_access_key(&admin, &key).await?;
    Ok(Json(Verified { status: app.is_some_and(|app| app.enabled && caller.sees(&app.id)) }))
}

/// An id that fits into a path as it is.
pub(super) fn id_of(app: &AppId) -> String {
    URL_SAFE_NO_PAD.encode(app.as_bytes())
}

async fn all(admin: &Admin) -> ensync_core::Result<Vec<AppInfo>> {
    let mut apps: Vec<AppInfo> = Vec::new();
    loop {
        let after = apps.last().map(|app| app.id);
        let more = admin.broker.inspect(move |state| state.apps_after(after.as_ref(), None, AT_ONCE)).await?;
        let last = more.len() < AT_ONCE;
        apps.extend(more);
        if last {
            return Ok(apps);
        }
    }
}

async fn by_access_key(admin: &Admin, key: &str) -> ensync_core::Result<Option<AppInfo>> {
    let Ok(key) = AppKey::parse_received(key) else { return Ok(None) };
    let hash = KeyHash::of(&key);
    admin.broker.inspect(move |state| state.app_of_access_key(&hash)).await
}

/// The app with an access key or an id, if the caller may see it.
async fn find(admin: &Admin, caller: &Caller, key: &str) -> ensync_core::Result<Option<AppInfo>> {
    let found = match AppId::parse(key) {
        Ok(id) => admin.broker.app(id).await?,
        Err(_) => None,
    };
    let found = match found {
        None => by_access_key(admin, key).await?,
        found => found,
    };
    Ok(found.filter(|app| caller.sees(&app.id)))
}

/// The same, of one that should be there. What is not the caller's to see is not there.
async fn one(admin: &Admin, caller: &Caller, key: &str) -> ensync_core::Result<AppInfo> {
    let message = "no access key of this engine is that, or has that id";
    find(admin, caller, key).await?.ok_or_else(|| Error::new(ErrorKind::NotFound, message))
}
