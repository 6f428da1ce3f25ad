//! A network between a log and its server, in which things go wrong when the test wants it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Nats, Server};

#[derive(Clone)]
pub(super) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// What the server says is lost.
    mute: AtomicBool,
    /// How many connections there were.
    count: AtomicU64,
    /// What is said on the first so many connections is kept; what was kept reaches the server later, also of those that ended.
    hold: watch::Sender<u64>,
    /// How often all connections were cut.
    cut: watch::Sender<u64>,
    /// How many bytes of what clients said are kept.
    held: AtomicU64,
}

impl Proxy {
    pub(super) async fn of(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let (state, port) = (proxy.state.clone(), server.port);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, port, state.clone()));
            }
        });
        proxy
    }

    pub(super) async fn connect(&self) -> Nats {
        Nats::connect(&format!("nats://{}", self.address)).await.unwrap()
    }

    /// Has all that the server says be lost, from now on and until it is not muted.
    pub(super) fn mute(&self, mute: bool) {
        self.state.mute.store(mute, Ordering::SeqCst);
    }

    /// Has what is said on the connections that there are reach the server only when this ends.
    pub(super) fn hold(&self, hold: bool) {
        self.state.hold.send_replace(if hold { self.state.count.load(Ordering::SeqCst) } else { 0 });
    }

    pub(super) fn held(&self) -> u64 {
        self.state.held.load(Ordering::SeqCst)
    }

    /// Ends the connections there are, as seen from the client.
    pub(super) fn cut(&self) {
        self.state.cut.send_modify(|cut| *cut += 1);
    }
}

async fn carry(client: TcpStream, port: u16, state: Arc<State>) {
    let mut cut = state.cut.subscribe();
    let begun = *cut.borrow_and_update();
    let number = state.count.fetch_add(1, Ordering::SeqCst) + 1;
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let up = {
        let state = state.clone();
        tokio::spawn(async move {
            let mut bytes = vec![0; 64 << 10];
            let mut hold = state.hold.subscribe();
            while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
                state.held.fetch_add(read as u64, Ordering::SeqCst);
                // Of a connection that ended what is on its way goes on.
                _ = hold.wait_for(|hold| *hold < number).await;
                let written = to_server.write_all(&bytes[..read]).await;
                state.held.fetch_sub(read as u64, Ordering::SeqCst);
                if written.is_err() {
                    return;
                }
            }
        })
    };
    let mut bytes = vec![0; 64 << 10];
    loop {
        tokio::select! {
            () = async { _ = cut.wait_for(|cut| *cut > begun).await.is_ok() } => break,
            read = from_server.read(&mut bytes) => match read {
                Ok(read @ 1..) => {
                    let muted = state.mute.load(Ordering::SeqCst);
                    if !muted && to_client.write_all(&bytes[..read]).await.is_err() {
                        break;
                    }
                }
                _ => break,
            },
        }
    }
    drop(to_client);
    // The server's side stays until all that was said has reached it.
    tokio::spawn(async move {
        while let Ok(1..) = from_server.read(&mut bytes).await {}
        drop(up);
    });
}
