//! The committed code is what `proto/ensync.proto` generates.
//!
//! After a change of the proto file, and before that of the code which uses it, write it anew with
//! `ENSYNC_REGENERATE=1 cargo test -p ensync-grpc --test generated`.

use std::path::Path;

#[test]
fn the_committed_code_is_what_the_proto_file_generates() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = here.join("../../proto");
    let committed = here.join("src/generated/ensync.rs");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
    std::fs::create_dir_all(&out).unwrap();

    let descriptors = protox::compile([proto.join("ensync.proto")], [&proto]).unwrap();
    tonic_prost_build::configure()
        // The service's own Connect would collide with the generated `connect`.
        .build_transport(false)
        .server_mod_attribute("ensync", "#[cfg(feature = \"server\")]")
        .emit_rerun_if_changed(false)
        .out_dir(&out)
        .compile_fds(descriptors)
        .unwrap();

    let generated = std::fs::read_to_string(out.join("ensync.rs")).unwrap();
    if std::env::var_os("ENSYNC_REGENERATE").is_some() {
        std::fs::write(&committed, &generated).unwrap();
    }
    let found = std::fs::read_to_string(&committed).unwrap_or_default();
    assert!(
        found == generated,
        "src/generated/ensync.rs is not what proto/ensync.proto generates; write it with ENSYNC_REGENERATE=1"
    );
}
