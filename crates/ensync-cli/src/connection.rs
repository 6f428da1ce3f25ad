use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ensync_sdk::{Client, Engine, Error, ErrorKind, Keyring, SecretKey, TlsOptions};

use crate::exit::{Exit, Problem};
use crate::foreign::{printable, trimmed};
use crate::output::{Failure, note};
use crate::variables::{Group, Origin, Source};
use crate::{secrets, variables};

/// The largest file of certificates that is read, in bytes.
const MAX_FILE: u64 = 8 << 20;

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
    #[command(flatten)]
    identity: Identity,
    /// Whether an argument says where the engine is, instead of the flag.
    #[arg(skip)]
    is_pointed: bool,
}

/// The certificate that we show to an engine that asks for one.
#[derive(Args)]
pub(crate) struct Identity {
    /// A PEM file with the certificate chain to show to an engine that asks for one.
    #[arg(long, env = "ENSYNC_CLIENT_CERT", value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// A PEM file with that certificate's private key.
    #[arg(long, env = "ENSYNC_CLIENT_KEY", value_name = "FILE")]
    client_key: Option<PathBuf>,
}

/// A certificate chain and its private key, as PEM.
pub(crate) struct ClientCertificate {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
    /// The two files.
    pub(crate) place: String,
}

impl Identity {
    pub(crate) fn read(&self) -> Result<Option<ClientCertificate>, Failure> {
        match (&self.client_cert, &self.client_key) {
            (None, None) => Ok(None),
            (Some(chain), Some(key)) => Ok(Some(ClientCertificate {
                chain: file(chain, "--client-cert")?,
                key: file(key, "--client-key")?,
                place: format!("--client-cert {}, --client-key {}", chain.display(), key.display()),
            })),
            (Some(_), None) => Err(Problem::usage("--client-cert needs its private key too: give --client-key").into()),
            (None, Some(_)) => Err(Problem::usage("--client-key needs its certificate too: give --client-cert").into()),
        }
    }
}

/// A file that a flag names.
pub(crate) fn file(path: &Path, flag: &str) -> Result<Vec<u8>, Failure> {
    let unreadable =
        |cause: &dyn fmt::Display| Problem::usage(format!("{flag}: cannot read {}: {cause}", path.display()));
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)) {
        Ok(length) if length as u64 > MAX_FILE => Err(unreadable(&format!("it has more than {MAX_FILE} bytes")).into()),
        Ok(_) => Ok(bytes),
        Err(cause) => Err(unreadable(&cause).into()),
    }
}

/// The app's secret key.
#[derive(Args)]
pub(crate) struct Secret {
    /// The app's secret key; while it is being changed, the new one and earlier ones with commas between them. Better given in the
    /// environment, where other users of the machine do not see it. [env: ENSYNC_SECRET_KEY]
    #[arg(long)]
    secret_key: Option<String>,
}

impl Secret {
    /// For what needs no engine.
    pub(crate) fn find(&self) -> Result<Option<Keyring>, Failure> {
        parse(secrets::given("--secret-key")?)
    }

    /// For an app of an engine.
    pub(crate) fn find_for(&self, connection: &Connection) -> Result<Option<Keyring>, Failure> {
        parse(secrets::given_for("--secret-key", connection.from()?, &connection.url)?)
    }

    pub(crate) fn require(&self) -> Result<Keyring, Failure> {
        self.find()?.ok_or_else(missing)
    }

    pub(crate) fn require_for(&self, connection: &Connection) -> Result<Keyring, Failure> {
        self.find_for(connection)?.ok_or_else(missing)
    }
}

fn missing() -> Failure {
    Problem::usage("no secret key: set ENSYNC_SECRET_KEY, or give --secret-key").into()
}

fn parse(given: secrets::Given) -> Result<Option<Keyring>, Failure> {
    let Some((text, place)) = given else { return Ok(None) };
    let keys = Keyring::parse(&text).and_then(|keys| match keys.is_empty() {
        true => SecretKey::parse(&text).map(Keyring::new),
        false => Ok(keys),
    });
    keys.map(Some).map_err(|error| {
        if error.to_string().contains("holds 32 bytes") {
            let what = "32 bytes, where a secret key has 64, as `ensync keygen` prints it; is this the app id?";
            return Problem::usage(format!("{place}: {what}")).into();
        }
        Problem::at(place, &error).into()
    })
}

impl Connection {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The engine of an argument, instead of the flag's. What says how another engine is reached does not count for it.
    pub(crate) fn point_at(&mut self, url: String) {
        for (name, file) in [
            ("ENSYNC_CA_FILE", &mut self.ca),
            ("ENSYNC_CLIENT_CERT", &mut self.identity.client_cert),
            ("ENSYNC_CLIENT_KEY", &mut self.identity.client_key),
        ] {
            if !matches!(variables::origin(name), Origin::Flag(_)) {
                *file = variables::for_engine_at(name, &url).map(PathBuf::from);
            }
        }
        (self.url, self.is_pointed) = (url, true);
    }

    /// Where it is said where the engine is.
    pub(crate) fn from(&self) -> Result<Source, Failure> {
        if self.is_pointed { Ok(Source::Flag) } else { variables::source(Group::Client) }
    }

    pub(crate) async fn open(&self, secret_key: Option<Keyring>) -> Result<Client, Failure> {
        let own = secret_key.as_ref().and_then(Keyring::current).and_then(SecretKey::app_id);
        let client = self.connect(&self.url, secret_key).await?;
        if let (Some(own), Some(app)) = (own, client.app_id())
            && own != app
        {
            note(format_args!(
                "warning: the secret key is that of {own}, and the app key that of {app}: what is sent to the app now cannot be \
                 opened with it, unless it is an earlier key of the same app"
            ));
        }
        Ok(client)
    }

    /// A client of an engine at any URL.
    pub(crate) async fn connect(&self, url: &str, secret_key: Option<Keyring>) -> Result<Client, Failure> {
        let (app_key, place) = self.app_key()?.ok_or_else(no_app_key)?;
        self.connect_as(&app_key, url, secret_key).await.map_err(|error| match error.downcast_ref::<Error>() {
            // A key may come from five places, and one of them from years ago.
            Some(refused) if refused.kind() == ErrorKind::Unauthenticated => {
                Problem::at(format_args!("the app key of {place}"), refused).into()
            }
            _ => error,
        })
    }

    /// The same, for no longer than a flag allows.
    pub(crate) async fn open_within(
        &self,
        secret_key: Option<Keyring>,
        (flag, time): (&str, Duration),
    ) -> Result<Client, Failure> {
        tokio::time::timeout(time, self.open(secret_key)).await.unwrap_or_else(|_| {
            let (url, time) = (printable(&self.url).into_owned(), humantime::format_duration(time));
            let text = format!("no login at {url} within {time} ({flag}): the engine does not answer");
            Err(Problem::new(Exit::Unreachable, text).into())
        })
    }

    /// The same with an app key that was looked up before.
    pub(crate) async fn connect_as(
        &self,
        app_key: &str,
        url: &str,
        secret_key: Option<Keyring>,
    ) -> Result<Client, Failure> {
        let place = || if self.is_pointed { Origin::Flag("URL") } else { variables::origin("ENSYNC_URL") };
        let mut engine = Engine::new(url).map_err(|error| Problem::at(place(), &error))?;
        variables::tell_unused(Group::Client, self.from()?, &self.url);
        let mut tls = TlsOptions::new();
        if let Some(path) = &self.ca {
            let place = format!("{} {}", variables::origin("ENSYNC_CA_FILE"), path.display());
            tls = tls.add_ca_pem(&file(path, "--ca")?).map_err(|error| Problem::at(place, &error))?;
        }
        if let Some(own) = self.identity.read()? {
            tls = tls.client_certificate_pem(&own.chain, &own.key).map_err(|error| Problem::at(own.place, &error))?;
        }
        engine = engine.tls(tls);
        let login = engine.create_client(app_key);
        let opened = match secret_key {
            Some(keys) => login.keyring(keys).await,
            None => login.await,
        };
        opened.map_err(|error| match error.kind() {
            ErrorKind::Tls => {
                let hint = "--ca says whom to trust, --client-cert and --client-key what to show";
                Problem::new(Exit::Unreachable, format!("{}; {hint}", ensync_sdk::core::report(&error))).into()
            }
            _ => Failure::from(error),
        })
    }

    /// The app key, and where it was found, if there is one for this engine.
    pub(crate) fn app_key(&self) -> Result<secrets::Given, Failure> {
        let given = secrets::given_for("--app-key", self.from()?, &self.url)?;
        if let Some((key, place)) = &given {
            check_app_key(key, place)?;
        }
        Ok(given)
    }
}

/// Refuses an admin token: what is sent as an app key is seen by whatever engine that is, and in clear without TLS.
pub(crate) fn check_app_key(key: &str, place: &str) -> Result<(), Problem> {
    if !trimmed(key).starts_with("ensync_admin_") {
        return Ok(());
    }
    let text = "holds an admin token, which is never sent as an app key; `ensync app create` prints an app's as ENSYNC_APP_KEY";
    Err(Problem::usage(format!("{place} {text}")))
}

fn no_app_key() -> Failure {
    Problem::usage("no app key: set ENSYNC_APP_KEY, or give --app-key").into()
}
