//! Key pairs and access keys: where they come from, and whom they are handed to.

use std::path::PathBuf;

use clap::Args;
use ensync_sdk::{AppId, AppKey, SecretKey};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::admin::{Failure, KeyFile, Output};
use crate::command::Outcome;
use crate::values::app_id;
use crate::{foreign, shell};

/// Where a key pair comes from, and where keys go.
#[derive(Args)]
pub(super) struct Keys {
    /// The public half of a key pair that is there already, as `ensync keygen` makes them. Default: a new pair.
    #[arg(long, value_name = "KEY", value_parser = app_id)]
    public_key: Option<AppId>,
    /// Write the keys to this new file, which only you may read, instead of printing them.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A key pair, of which the secret half may be elsewhere.
pub(super) enum Pair {
    Here(SecretKey, AppId),
    Elsewhere(AppId),
}

impl Pair {
    pub(super) fn public_key(&self) -> String {
        let (Self::Here(_, id) | Self::Elsewhere(id)) = self;
        id.to_string()
    }
}

impl Keys {
    pub(super) fn pair(&self) -> Result<Pair, Failure> {
        if let Some(id) = self.public_key {
            return Ok(Pair::Elsewhere(id));
        }
        let secret = SecretKey::generate()?;
        let id = secret.app_id().ok_or("the new key has no public half; please report this")?;
        Ok(Pair::Here(secret, id))
    }

    pub(super) fn file(&self) -> Result<Option<KeyFile>, Failure> {
        self.out.as_deref().map(KeyFile::create).transpose()
    }
}

/// The access key of an answer, taken out of it so that it is wiped.
///
/// # Errors
///
/// If it is none that an engine makes: what answers may be anything, and a file of keys is for the shell.
pub(super) fn access_key(answer: &mut Value) -> Result<AppKey, Failure> {
    let text = match answer.get_mut("access_key").map(Value::take) {
        Some(Value::String(key)) => Zeroizing::new(key),
        _ => Zeroizing::default(),
    };
    let is_made = |key: &AppKey| {
        let rest = key.expose().strip_prefix(AppKey::PREFIX).unwrap_or_default();
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let other = "the admin API answered with something else than an app key: is this an EnSync engine?";
    AppKey::parse(&text).ok().filter(is_made).ok_or_else(|| other.into())
}

/// Keys that are shown once.
pub(super) struct Issued<'a> {
    pub(super) name: &'a str,
    pub(super) pair: Option<&'a Pair>,
    pub(super) access_key: Option<&'a AppKey>,
}

impl Issued<'_> {
    pub(super) fn hand_over(self, file: Option<KeyFile>, out: Output) -> Outcome {
        let secret = match self.pair {
            Some(Pair::Here(secret, _)) => Some(secret.to_base64().ok_or("the new key has no public half")?),
            _ => None,
        };
        let id = self.pair.map(Pair::public_key);
        let fields = [
            ("app_id", "ENSYNC_APP_ID", id.as_deref()),
            ("app_key", "ENSYNC_APP_KEY", self.access_key.map(AppKey::expose)),
            ("secret_key", "ENSYNC_SECRET_KEY", secret.as_ref().map(|secret| secret.as_str())),
        ];
        // With room for all of it: what grows leaves copies.
        let mut lines = Zeroizing::new(String::with_capacity((4 << 10) + 6 * self.name.len()));
        let given = fields.into_iter().filter_map(|(field, variable, value)| Some((field, variable, value?)));
        // A file is for the shell, whatever is printed.
        if out.json && file.is_none() {
            lines.push_str(&format!("{{\"name\":{}", foreign::json(&Value::from(self.name).to_string())));
            for (field, _, value) in given {
                let value = Zeroizing::new(serde_json::to_string(value)?);
                lines.extend([",\"", field, "\":", &value]);
            }
            lines.push_str("}\n");
        } else {
            shell::name_app(&mut lines, self.name);
            for (_, variable, value) in given {
                shell::assign(&mut lines, variable, value)?;
            }
        }
        match file {
            Some(file) => {
                let at = file.path().display().to_string();
                file.write(&lines, out)?;
                if out.json { out.value(&json!({"name": self.name, "app_id": id, "file": at})) } else { Ok(()) }
            }
            None => out.raw(lines.as_bytes()),
        }
    }
}
