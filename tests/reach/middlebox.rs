//! What lies between a client and an engine, and lets through what it likes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Everything.
    Open,
    /// Nothing that is HTTP/2: neither its preface nor a TLS handshake that offers it (RFC 7301) gets an answer but an end.
    NoHttp2,
    /// Every connection ends at once.
    Closed,
    /// Every connection is taken, and never answered.
    Silent,
    /// What the client says gets through, what the engine answers does not.
    Deaf,
}

pub struct Middlebox {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    taken: Arc<AtomicU32>,
}

impl Middlebox {
    pub async fn to(engine: SocketAddr, mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, modes) = watch::channel(mode);
        let taken = Arc::new(AtomicU32::new(0));
        let count = taken.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(between(near, engine, modes.clone()));
            }
        });
        Self { address, mode, taken }
    }

    /// From now on; what is open is cut.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many connections there were since this was last asked.
    pub fn taken(&self) -> u32 {
        self.taken.swap(0, Ordering::Relaxed)
    }
}

async fn between(mut near: TcpStream, engine: SocketAddr, mut modes: watch::Receiver<Mode>) {
    let mode = *modes.borrow_and_update();
    let cut = async {
        let _ = modes.changed().await;
    };
    let pass = async {
        let mut first = vec![0; 16 * 1024];
        let read = match mode {
            Mode::Closed => return,
            Mode::Silent => std::future::pending().await,
            Mode::Open | Mode::NoHttp2 | Mode::Deaf => near.read(&mut first).await.unwrap_or(0),
        };
        first.truncate(read);
        let http2 = first.starts_with(b"PRI * HTTP/2") || first.windows(3).any(|bytes| bytes == b"\x02h2");
        if mode == Mode::NoHttp2 && http2 {
            return;
        }
        let Ok(mut far) = TcpStream::connect(engine).await else { return };
        if far.write_all(&first).await.is_err() {
            return;
        }
        if mode == Mode::Deaf {
            let (mut from, mut to) = (near.split().0, far.split().1);
            let _ = tokio::io::copy(&mut from, &mut to).await;
        } else {
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    };
    tokio::select! {
        () = pass => {}
        () = cut => {}
    }
}
