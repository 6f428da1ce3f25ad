//! The encryption alone: no engine, no runtime, only `ensync-core`. What is sealed here opens in the Python and Node clients too.
use ensync_core::crypto::{self, Recipient};
use ensync_core::{ErrorKind, Keyring, Result, SecretKey, WirePayload};

fn main() -> Result<()> {
    let secret = SecretKey::generate()?;
    let id = secret.app_id().expect("a generated key has a public half");

    // Sealing needs only the recipient's public id. One copy comes back for each recipient.
    let sealed = crypto::seal(br#"{"order":"o-1"}"#, &[Recipient::new(id)?])?;
    let wire = sealed[0].to_bytes();
    println!("on the wire: {} bytes of base64 text", wire.len());

    // Opening needs the secret key, or one of several.
    let keys = Keyring::new(secret);
    let plain = crypto::open(&WirePayload::from_wire(wire.clone()), &keys)?;
    assert_eq!(&plain[..], br#"{"order":"o-1"}"#);
    println!("opened: {}", String::from_utf8_lossy(&plain));

    // Another key does not open it, and says so.
    let error = crypto::open(&WirePayload::from_wire(wire), &Keyring::new(SecretKey::generate()?)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DoesNotOpen);
    println!("with another key: {error}");
    Ok(())
}
