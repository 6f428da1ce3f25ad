use std::path::PathBuf;

use clap::Args;
use ensync_sdk::{Client, Engine, SecretKey, TlsOptions};

use crate::secrets;

/// Where the engine is, and who we are there.
#[derive(Args)]
pub(crate) struct Connection {
    /// The engine: grpc://, grpcs://, ws:// or wss://, or a host.
    #[arg(long, env = "ENSYNC_URL", default_value = "localhost")]
    url: String,
    /// The app key to log in with. Better given in the environment, where other users of the machine do not see it. (The
    /// variable ENSYNC_ACCESS_KEY is read as well.) [env: ENSYNC_APP_KEY]
    #[arg(long)]
    app_key: Option<String>,
    /// A PEM file of CAs to trust beside the system's.
    #[arg(long, env = "ENSYNC_CA_FILE", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Connection {
    pub(crate) async fn open(&self, secret_key: Option<SecretKey>) -> Result<Client, Box<dyn std::error::Error>> {
        let mut engine = Engine::new(&self.url)?;
        if let Some(path) = &self.ca {
            let pem = std::fs::read(path).map_err(|cause| format!("cannot read {}: {cause}", path.display()))?;
            engine = engine.tls(TlsOptions::new().add_ca_pem(&pem)?);
        }
        let app_key = secrets::given("--app-key").ok_or("no app key: set ENSYNC_APP_KEY, or give --app-key")?;
        let login = engine.create_client(app_key.as_str());
        Ok(match secret_key {
            Some(key) => login.app_secret_key(key).await?,
            None => login.await?,
        })
    }
}
