//! Between clients and an engine.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to connections, those that are there and those that come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weather {
    Fair,
    /// Each piece takes this long.
    Slow(Duration),
    /// Nothing passes any more, and nobody is told.
    Still,
    /// Half of the next piece passes, then the connection is reset on both sides.
    Reset,
    /// Connections are ended.
    Cut,
    /// Those that were there are ended, new ones are accepted and never answered.
    Mute,
}

pub struct Proxy {
    pub address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    weather: watch::Sender<Weather>,
}

impl Proxy {
    pub async fn to(engine: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new(engine));
        let (weather, seen) = watch::channel(Weather::Fair);
        let engine = target.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let engine = *engine.lock().unwrap();
                tokio::spawn(connection(near, engine, seen.clone()));
            }
        });
        Self { address, target, weather }
    }

    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// The engine has moved.
    pub fn lead_to(&self, engine: SocketAddr) {
        *self.target.lock().unwrap() = engine;
    }
}

async fn connection(mut near: TcpStream, engine: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let at_first = *weather.borrow();
    match at_first {
        Weather::Cut => return,
        Weather::Mute => {
            // Open until its other side gives up.
            let _ = tokio::io::copy(&mut near, &mut tokio::io::sink()).await;
            return;
        }
        _ => {}
    }
    // Where nobody listens, that is what the client sees: the connection ends.
    let Ok(mut far) = TcpStream::connect(engine).await else { return };
    let reset = {
        let ((from_near, to_near), (from_far, to_far)) = (near.split(), far.split());
        tokio::select! {
            reset = pass(from_near, to_far, weather.clone()) => reset,
            reset = pass(from_far, to_near, weather.clone()) => reset,
            _ = weather.wait_for(|weather| matches!(weather, Weather::Cut | Weather::Mute)) => false,
        }
    };
    if reset {
        // RST instead of FIN.
        near.set_zero_linger().unwrap();
        far.set_zero_linger().unwrap();
    }
}

/// Passes on what one side says; tells at the end whether it was to be a reset.
async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut weather: watch::Receiver<Weather>) -> bool {
    let mut piece = vec![0; 4_096];
    loop {
        // What the other side says while all stands still stays with it, its end too.
        let _ = weather.wait_for(|weather| *weather != Weather::Still).await;
        let Ok(length @ 1..) = from.read(&mut piece).await else { return false };
        let now = *weather.wait_for(|weather| *weather != Weather::Still).await.unwrap();
        let passes = if now == Weather::Reset { length / 2 } else { length };
        if let Weather::Slow(by) = now {
            tokio::time::sleep(by).await;
        }
        if to.write_all(&piece[..passes]).await.is_err() {
            return false;
        }
        if now == Weather::Reset {
            return true;
        }
    }
}
