use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use ensync_engine::{Server, ServerTls};

use super::Outcome;

/// Run an engine.
#[derive(Args)]
pub(crate) struct Serve {
    /// For development: in memory, event names are registered on first use, and app credentials are made up and printed at each
    /// start. So far the only mode there is.
    #[arg(long, required = true)]
    dev: bool,
    /// Where to listen; each address serves gRPC and WebSocket. Repeat it for several.
    #[arg(long, value_name = "ADDRESS", default_values = ["127.0.0.1:50051", "127.0.0.1:8080"])]
    listen: Vec<SocketAddr>,
    /// An app to make. Repeat it for several.
    #[arg(long, value_name = "NAME", default_values = ["shop", "warehouse"])]
    app: Vec<String>,
    /// A PEM file with the certificate chain to show; turns TLS on.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// A PEM file with the certificate's private key.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl Serve {
    pub(crate) async fn run(self) -> Outcome {
        let mut builder = Server::dev();
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(chain), Some(key)) => Some(ServerTls::from_pem(&read(chain)?, &read(key)?)?),
            _ => None,
        };
        for address in &self.listen {
            builder = match &tls {
                Some(tls) => builder.listen_tls(*address, tls.clone()),
                None => builder.listen(*address),
            };
        }
        let server = builder.start().await?;
        println!("# EnSync engine, development mode: in memory, gone when it stops.");
        for (grpc, ws) in server.grpc_urls().iter().zip(server.ws_urls()) {
            println!("# {grpc}  {ws}");
        }
        for name in &self.app {
            let app = server.create_app(name).await?;
            let secret = app.secret_key.to_base64().ok_or("the new key has no public half; please report this")?;
            println!("\n# app {name:?}");
            println!("ENSYNC_APP_ID={}", app.app_id);
            println!("ENSYNC_APP_KEY={}", app.app_key.expose());
            println!("ENSYNC_SECRET_KEY={}", &*secret);
        }
        stopped().await?;
        eprintln!("stopping");
        server.shutdown().await;
        Ok(())
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|cause| format!("cannot read {}: {cause}", path.display()))
}

/// Returns on Ctrl-C or SIGTERM.
async fn stopped() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            done = tokio::signal::ctrl_c() => done,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
