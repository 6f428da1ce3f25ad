use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ensync_core::{Error, Result};
use rustls::server::ServerConfig;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{ClientCertificates, build, refuse};

/// More than any chain or bundle of CAs has, in bytes: who names a device by mistake is told so.
const MAX_BYTES: u64 = 1 << 20;

/// Where the certificate of a listener is kept, each file as PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<(PathBuf, ClientCertificates)>,
    check_every: Duration,
}

impl TlsFiles {
    /// The certificate chain, leaf first, and its private key.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let check_every = Duration::from_secs(30);
        Self { certificate: certificate.into(), key: key.into(), client_ca: None, check_every }
    }

    /// Asks clients for a certificate that a CA of this file issued. Default: nobody is asked.
    #[must_use]
    pub fn client_ca(mut self, path: impl Into<PathBuf>, wanted: ClientCertificates) -> Self {
        self.client_ca = Some((path.into(), wanted));
        self
    }

    /// How often the files are looked at, at most every millisecond. Default: 30 s.
    #[must_use]
    pub fn check_every(mut self, interval: Duration) -> Self {
        self.check_every = interval.clamp(Duration::from_millis(1), Duration::from_secs(365 * 24 * 60 * 60));
        self
    }
}

/// The files, and what they held when they were last of use. Their content decides, not their times: a restored backup has an old
/// one, and what a symbolic link leads to may have any.
pub(super) struct Files {
    files: TlsFiles,
    seen: Mutex<[u8; 32]>,
}

impl Files {
    pub(super) fn open(files: TlsFiles) -> Result<(Self, Arc<ServerConfig>)> {
        let content = Content::read(&files)?;
        let config = content.build(&files)?;
        Ok((Self { files, seen: Mutex::new(content.digest()) }, config))
    }

    pub(super) fn check_every(&self) -> Duration {
        self.files.check_every
    }

    /// What the files say now, if that is something new.
    pub(super) fn changed(&self) -> Result<Option<Arc<ServerConfig>>> {
        // Held throughout, so that of two at once the later content stays. Nothing panics while it is held.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let content = Content::read(&self.files)?;
        let digest = content.digest();
        if *seen == digest {
            return Ok(None);
        }
        let config = content.build(&self.files)?;
        *seen = digest;
        Ok(Some(config))
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.files.certificate.display(), self.files.key.display())?;
        match &self.files.client_ca {
            Some((path, _)) => write!(f, ", {}", path.display()),
            None => Ok(()),
        }
    }
}

struct Content {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

impl Content {
    fn read(files: &TlsFiles) -> Result<Self> {
        Ok(Self {
            certificate: read(&files.certificate)?.to_vec(),
            key: read(&files.key)?,
            client_ca: files.client_ca.as_ref().map(|(path, _)| read(path).map(|pem| pem.to_vec())).transpose()?,
        })
    }

    fn build(&self, files: &TlsFiles) -> Result<Arc<ServerConfig>> {
        let wanted = files.client_ca.as_ref().map(|(_, wanted)| *wanted);
        build(&self.certificate, &self.key, self.client_ca.as_deref().zip(wanted)).map_err(|error| {
            let mut names = format!("{} with {}", files.certificate.display(), files.key.display());
            if let Some((path, _)) = &files.client_ca {
                names.push_str(&format!(" and {}", path.display()));
            }
            error.context(names)
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [self.certificate.as_slice(), &self.key, self.client_ca.as_deref().unwrap_or_default()] {
            digest.update(Sha256::digest(part));
        }
        digest.finalize().into()
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let failed =
        |cause: std::io::Error| -> Error { refuse(&format!("cannot read {}", path.display())).with_source(cause) };
    let file = std::fs::File::open(path).map_err(failed)?;
    // Room for most keys at once: what grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 << 10));
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(refuse(&format!("{} has more than {MAX_BYTES} bytes; is it the right file?", path.display())));
    }
    Ok(bytes)
}
