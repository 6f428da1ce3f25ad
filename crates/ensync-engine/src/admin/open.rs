//! What whoever reaches the listener may see, without the token.

use utoipa_axum::router::OpenApiRouter;

use super::router::Admin;

/// The routes that need no token: what they show is of no use to an attacker.
pub(super) fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
}
