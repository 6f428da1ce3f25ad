//! The examples of the guide (`crates/ensync-sdk/guide`): each chapter is the documentation of a module here, so that `cargo test` compiles
//! and runs them, as it does with those of the README. They need more than `ensync-sdk` itself may depend on.

macro_rules! chapters {
    ($($name:ident: $file:literal,)*) => {$(
        #[cfg(doctest)]
        #[doc = include_str!(concat!("../../crates/ensync-sdk/guide/src/", $file))]
        pub mod $name {}
    )*};
}

chapters! {
    first_event: "first_event.md",
    apps: "concepts/apps.md",
    events: "concepts/events.md",
    deliveries: "concepts/deliveries.md",
    publishing: "concepts/publishing.md",
    control: "concepts/control.md",
    retry: "recipes/retry.md",
    once: "recipes/once.md",
    ordering: "recipes/ordering.md",
    large_payloads: "recipes/large_payloads.md",
    rotation: "recipes/rotation.md",
    tenants: "recipes/tenants.md",
    testing: "recipes/testing.md",
    tracing: "recipes/tracing.md",
    proxy: "recipes/proxy.md",
    security: "security.md",
    websocket: "protocol/websocket.md",
    vectors: "protocol/vectors.md",
    performance: "performance.md",
}
