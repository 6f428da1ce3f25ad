use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::{Extension, Json};
use ensync_core::{Error, ErrorKind, EventName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::caller::Caller;
use super::events::{id_of, visible};
use super::listing::{Listing, Page};
use crate::admin::body::{Asked, Read};
use crate::admin::context::Admin;
use crate::admin::error::Result;

/// What event names have before a slash. It is there as long as an event name is in it, and holds no rights of its own.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Workspace {
    /// Made of the path.
    id: String,
    /// The last part of the path.
    name: String,
    /// The id of the workspace that this one is in; empty if it is in none.
    parent_id: String,
    path: String,
    /// Null: an engine does not keep it.
    created_at: Option<String>,
    /// The workspaces in it.
    #[schema(no_recursion)]
    children: Vec<Workspace>,
}

#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Create {
    /// The path.
    name: String,
}

/// List the outermost workspaces, with those in them.
#[utoipa::path(
    get, path = "/workspace", tag = "workspaces", params(Listing), responses((status = 200, body = Page<Workspace>)),
)]
pub(super) async fn list(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<Listing>,
) -> Result<Json<Page<Workspace>>> {
    let names = visible(&admin, &caller).await?;
    let tree = Tree::of(names.iter().map(|(name, _)| name.as_str()));
    let outermost = tree.within("").into_iter().filter(|workspace| asked.wants(&workspace.path)).collect();
    Ok(Json(asked.page(outermost)?))
}

/// Ask for a workspace. An engine keeps none: one that has an event name in it is there, and another is refused.
#[utoipa::path(
    post, path = "/workspace", tag = "workspaces", request_body = Create, responses((status = 200, body = Workspace)),
)]
pub(super) async fn create(
    State(admin): State<Admin>,
    Extension(caller): Extension<Caller>,
    Read(wanted): Read<Create>,
) -> Result<Json<Workspace>> {
    caller.administers()?;
    let path = EventName::parse(wanted.name.trim_matches('/'))?;
    let names = visible(&admin, &caller).await?;
    let tree = Tree::of(names.iter().map(|(name, _)| name.as_str()));
    tree.find(path.as_str()).map(Json).ok_or_else(|| {
        let message = format!(
            "a workspace is what event names have before a slash, and is there as soon as one is in it: create an event such as \
             {path}/created, and {path} is there"
        );
        Error::new(ErrorKind::Conflict, message).into()
    })
}

/// Every workspace, by the path that it is in.
struct Tree<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> Tree<'a> {
    fn of(names: impl Iterator<Item = &'a str>) -> Self {
        let mut tree: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for mut path in names {
            while let Some((outer, _)) = path.rsplit_once('/') {
                let around = outer.rsplit_once('/').map_or("", |(around, _)| around);
                if !tree.entry(around).or_default().insert(outer) {
                    break;
                }
                path = outer;
            }
        }
        Self(tree)
    }

    fn find(&self, path: &str) -> Option<Workspace> {
        let around = path.rsplit_once('/').map_or("", |(around, _)| around);
        self.0.get(around).filter(|within| within.contains(path)).map(|_| self.workspace(path))
    }

    fn within(&self, path: &str) -> Vec<Workspace> {
        self.0.get(path).into_iter().flatten().map(|path| self.workspace(path)).collect()
    }

    /// Names are short, and so paths are not deep.
    fn workspace(&self, path: &str) -> Workspace {
        let (around, name) = path.rsplit_once('/').unwrap_or(("", path));
        Workspace {
            id: id_of(path),
            name: name.to_owned(),
            parent_id: if around.is_empty() { String::new() } else { id_of(around) },
            path: path.to_owned(),
            created_at: None,
            children: self.within(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_make_a_tree() {
        let names = ["a/b/c", "a/b/d", "a/x", "alone", "z/y/x/w"];
        let tree = Tree::of(names.into_iter());
        let outermost = tree.within("");
        assert_eq!(outermost.iter().map(|w| w.path.as_str()).collect::<Vec<_>>(), ["a", "z"]);
        let inner = &outermost[0].children[0];
        assert_eq!((inner.path.as_str(), inner.name.as_str(), &inner.parent_id), ("a/b", "b", &id_of("a")));
        assert!(inner.children.is_empty(), "c and d are event names");
        assert_eq!(tree.find("z/y/x").unwrap().parent_id, id_of("z/y"));
        for none in ["alone", "a/b/c", "a/x", "", "b", "z/y/x/w"] {
            assert!(tree.find(none).is_none(), "{none}");
        }
    }
}
