//! Between clients and the engine's sockets: what a test wants to happen there.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ensync_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// An address that forwards to an engine, wherever that is just now.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    engine: Mutex<SocketAddr>,
    /// By where the engine sees it come from.
    connections: Mutex<HashMap<SocketAddr, CancellationToken>>,
    stalled: watch::Sender<u32>,
    unreachable: watch::Sender<u32>,
}

impl Network {
    pub(super) async fn before(engine: SocketAddr) -> Result<Self> {
        let failed = |cause| Error::new(ErrorKind::Unavailable, "a test engine cannot listen").with_source(cause);
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = tcp.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            engine: Mutex::new(engine),
            connections: Mutex::default(),
            stalled: watch::Sender::default(),
            unreachable: watch::Sender::default(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(tcp, shared.clone())));
        Ok(Self { address, shared, _stop: stop.drop_guard() })
    }

    pub(super) fn set_engine(&self, engine: SocketAddr) {
        *lock(&self.shared.engine) = engine;
    }

    /// Cuts the connections that come from one of these addresses, or all.
    pub(super) fn cut(&self, remotes: Option<&[SocketAddr]>) {
        let connections = lock(&self.shared.connections);
        let chosen = connections.iter().filter(|(remote, _)| remotes.is_none_or(|remotes| remotes.contains(remote)));
        chosen.for_each(|(_, cut)| cut.cancel());
    }

    pub(super) fn stalled(&self) -> &watch::Sender<u32> {
        &self.shared.stalled
    }

    pub(super) fn unreachable(&self) -> &watch::Sender<u32> {
        &self.shared.unreachable
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.cut(None);
    }
}

async fn accept(tcp: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((near, _)) = tcp.accept().await else { return };
        if *shared.unreachable.borrow() == 0 {
            tokio::spawn(forward(near, shared.clone()));
        }
    }
}

async fn forward(near: TcpStream, shared: Arc<Shared>) {
    let engine = *lock(&shared.engine);
    let Ok(far) = TcpStream::connect(engine).await else { return };
    let Ok(remote) = far.local_addr() else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let cut = CancellationToken::new();
    lock(&shared.connections).insert(remote, cut.clone());
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    let both = async { tokio::join!(pump(near_in, far_out, &shared), pump(far_in, near_out, &shared)) };
    cut.run_until_cancelled(both).await;
    lock(&shared.connections).remove(&remote);
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) -> io::Result<()> {
    let (mut buffer, mut stalled) = (vec![0; 16 << 10], shared.stalled.subscribe());
    loop {
        let read = from.read(&mut buffer).await?;
        // The sender lives as long as this.
        let _ = stalled.wait_for(|stalled| *stalled == 0).await;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..read).unwrap_or_default()).await?;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
