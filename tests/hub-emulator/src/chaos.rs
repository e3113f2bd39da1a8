//! A way to a server on which all goes wrong that can: a proxy on TCP level that cuts, stalls, dribbles and lies, drawn
//! from a seed. Not a fault switch of the hub, which behaves as ever behind it; and it understands nothing of what it
//! carries, TLS least of all.
//!
//! What befalls the n-th connection depends on the seed and on n alone, so that a seed can be played again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::sleep;

/// What befalls one connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mischief {
    /// Nothing.
    None,
    /// It is reset at once.
    Refuse,
    /// It is accepted, and nothing is ever said or taken.
    Silence,
    /// It ends after so many bytes of both directions together; by reset, or orderly.
    Cut {
        /// Bytes that still pass.
        after: u64,
        /// Whether by RST.
        reset: bool,
    },
    /// It stays open and swallows everything after so many bytes.
    HalfOpen {
        /// Bytes that still pass.
        after: u64,
    },
    /// A byte is changed on its way to the client, or to the server.
    Garble {
        /// Which, of its direction.
        at: u64,
        /// Whether on its way to the client.
        to_client: bool,
    },
    /// Every piece comes later.
    Delay {
        /// Milliseconds.
        millis: u64,
    },
    /// Everything comes in pieces of a few bytes, with pauses.
    Dribble {
        /// Bytes in a piece.
        piece: usize,
    },
}

impl Mischief {
    /// What befalls connection number `connection`; `reach` is how many bytes a connection has in which something can
    /// happen.
    pub fn draw(seed: u64, connection: u64, reach: u64) -> Mischief {
        let mut dice = Dice::new(seed ^ connection.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Small numbers as often as large ones: most of what matters is said in the first bytes.
        let bits = 64 - u64::from(reach.max(2).leading_zeros());
        let power = dice.below(bits);
        let after = dice.below(1 << (power + 1)).min(reach);
        match dice.below(16) {
            0..=2 => Mischief::None,
            3 => Mischief::Refuse,
            4 => Mischief::Silence,
            5..=9 => Mischief::Cut { after, reset: dice.below(2) == 0 },
            10 | 11 => Mischief::HalfOpen { after },
            12 | 13 => Mischief::Garble { at: after, to_client: dice.below(2) == 0 },
            14 => Mischief::Delay { millis: dice.below(60) },
            _ => Mischief::Dribble { piece: 1 + dice.below(64) as usize },
        }
    }
}

/// A small generator (SplitMix64) of its own: the seeds of chaos mean the same for ever.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

/// The proxy. Dropping it ends it and every connection through it.
#[derive(Debug)]
pub struct Chaos {
    port: u16,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    seed: u64,
    reach: u64,
    calm: AtomicBool,
    connections: AtomicU64,
}

impl Chaos {
    /// Starts a proxy to `target` on a free port of the loopback address. `reach`: see [`Mischief::draw`].
    ///
    /// # Errors
    /// If there is no port or no thread.
    pub fn start(target: SocketAddr, seed: u64, reach: u64) -> io::Result<Chaos> {
        let shared = Arc::new(Shared {
            target,
            seed,
            reach,
            calm: AtomicBool::new(false),
            connections: AtomicU64::new(0),
        });
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("chaos".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = serve(&listener, &serving) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Chaos { port, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on new connections are left alone. Those that there are keep what befell them.
    pub fn calm(&self) {
        self.shared.calm.store(true, Ordering::Relaxed);
    }

    /// How many connections were made through it.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been printed.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: &TcpListener, shared: &Shared) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let number = shared.connections.fetch_add(1, Ordering::Relaxed);
        let mischief = if shared.calm.load(Ordering::Relaxed) {
            Mischief::None
        } else {
            Mischief::draw(shared.seed, number, shared.reach)
        };
        tokio::spawn(befall(client, shared.target, mischief));
    }
}

async fn befall(client: TcpStream, target: SocketAddr, mischief: Mischief) {
    let _ = client.set_nodelay(true);
    if mischief == Mischief::Refuse {
        let _ = client.set_zero_linger();
        return;
    }
    if mischief == Mischief::Silence {
        return until_gone(&client).await;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = server.set_nodelay(true);
    let (mut client, mut server) = (client, server);
    let swallowed = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let left = AtomicU64::new(match mischief {
            Mischief::Cut { after, .. } | Mischief::HalfOpen { after } => after,
            Mischief::None
            | Mischief::Refuse
            | Mischief::Silence
            | Mischief::Garble { .. }
            | Mischief::Delay { .. }
            | Mischief::Dribble { .. } => u64::MAX,
        });
        let up = Pipe { mischief, to_client: false, left: &left };
        let down = Pipe { mischief, to_client: true, left: &left };
        // An end of either direction is the end of both.
        tokio::select! {
            end = up.carry(from_client, to_server) => end,
            end = down.carry(from_server, to_client) => end,
        }
    };
    match mischief {
        Mischief::Cut { reset: true, .. } => {
            let _ = client.set_zero_linger();
        }
        // The server is not told either.
        Mischief::HalfOpen { .. } if swallowed => until_gone(&client).await,
        Mischief::Cut { .. }
        | Mischief::HalfOpen { .. }
        | Mischief::None
        | Mischief::Refuse
        | Mischief::Silence
        | Mischief::Garble { .. }
        | Mischief::Delay { .. }
        | Mischief::Dribble { .. } => {}
    }
}

/// Takes nothing, and waits until the client has given up.
async fn until_gone(client: &TcpStream) {
    let mut bytes = [0; 4096];
    loop {
        if client.readable().await.is_err() {
            return;
        }
        match client.try_read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// One direction of a connection.
struct Pipe<'a> {
    mischief: Mischief,
    to_client: bool,
    /// Bytes that still pass, of both directions.
    left: &'a AtomicU64,
}

impl Pipe<'_> {
    /// Whether the end came because no more bytes may pass.
    async fn carry(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> bool {
        let mut bytes = [0; 16 * 1024];
        let mut carried = 0;
        loop {
            let Ok(count @ 1..) = from.read(&mut bytes).await else { return false };
            let allowed = self.left.load(Ordering::Relaxed).min(count as u64);
            self.left.fetch_sub(allowed, Ordering::Relaxed);
            let piece = &mut bytes[..allowed as usize];
            if let Mischief::Garble { at, to_client } = self.mischief
                && to_client == self.to_client
                && let Some(byte) = at.checked_sub(carried).and_then(|at| piece.get_mut(at as usize))
            {
                *byte ^= 0x55;
            }
            if !self.send(piece, &mut to).await {
                return false;
            }
            carried += allowed;
            if allowed < count as u64 {
                return true;
            }
        }
    }

    async fn send(&self, bytes: &[u8], to: &mut (impl AsyncWrite + Unpin)) -> bool {
        let size = match self.mischief {
            Mischief::Delay { millis } => {
                sleep(Duration::from_millis(millis)).await;
                bytes.len()
            }
            Mischief::Dribble { piece } => piece,
            Mischief::None
            | Mischief::Refuse
            | Mischief::Silence
            | Mischief::Cut { .. }
            | Mischief::HalfOpen { .. }
            | Mischief::Garble { .. } => bytes.len(),
        };
        for piece in bytes.chunks(size.max(1)) {
            if to.write_all(piece).await.is_err() {
                return false;
            }
            if matches!(self.mischief, Mischief::Dribble { .. }) {
                sleep(Duration::from_millis(1)).await;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// The number of the first connection that this befalls.
    fn first(seed: u64, wanted: impl Fn(Mischief) -> bool) -> u64 {
        (0..10_000).find(|number| wanted(Mischief::draw(seed, *number, 1000))).unwrap()
    }

    #[test]
    fn a_seed_is_always_the_same_and_brings_everything() {
        let drawn: Vec<_> = (0..1000).map(|number| Mischief::draw(7, number, 8192)).collect();
        let again: Vec<_> = (0..1000).map(|number| Mischief::draw(7, number, 8192)).collect();
        assert_eq!(drawn, again);
        assert_ne!(drawn, (0..1000).map(|number| Mischief::draw(8, number, 8192)).collect::<Vec<_>>());
        for wanted in [Mischief::None, Mischief::Refuse, Mischief::Silence] {
            assert!(drawn.contains(&wanted), "{wanted:?}");
        }
        let at = |mischief: &Mischief| match mischief {
            Mischief::Cut { after, .. } | Mischief::HalfOpen { after } => Some(*after),
            Mischief::Garble { at, .. } => Some(*at),
            Mischief::None
            | Mischief::Refuse
            | Mischief::Silence
            | Mischief::Delay { .. }
            | Mischief::Dribble { .. } => None,
        };
        let places: Vec<_> = drawn.iter().filter_map(at).collect();
        assert!(places.iter().any(|at| *at < 10) && places.iter().any(|at| *at > 4000));
        assert!(places.iter().all(|at| *at <= 8192));
    }

    /// Sends 2000 bytes to a server that sends them back, as the n-th connection; what came back.
    fn echoed(seed: u64, connection: u64) -> Vec<u8> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let target = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                std::thread::spawn(move || {
                    let mut copy = stream.try_clone().unwrap();
                    let _ = io::copy(&mut copy, &mut stream);
                });
            }
        });
        let chaos = Chaos::start(target, seed, 1000).unwrap();
        chaos.shared.connections.store(connection, Ordering::Relaxed);
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, chaos.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let sent: Vec<u8> = (0..2000).map(|n| (n % 251) as u8).collect();
        let _ = stream.write_all(&sent);
        let mut back = vec![0; 2000];
        let mut length = 0;
        while let Ok(count @ 1..) = stream.read(&mut back[length..]) {
            length += count;
        }
        back.truncate(length);
        back
    }

    #[test]
    fn what_is_drawn_is_what_happens() {
        let whole: Vec<u8> = (0..2000).map(|n| (n % 251) as u8).collect();
        assert_eq!(echoed(3, first(3, |it| it == Mischief::None)), whole);
        assert_eq!(echoed(3, first(3, |it| it == Mischief::Refuse)), b"");
        assert_eq!(echoed(3, first(3, |it| it == Mischief::Silence)), b"");
        assert_eq!(echoed(3, first(3, |it| matches!(it, Mischief::Dribble { piece: 8.. }))), whole);
        assert!(echoed(3, first(3, |it| matches!(it, Mischief::Cut { .. }))).len() <= 1000);
        assert!(echoed(3, first(3, |it| matches!(it, Mischief::HalfOpen { .. }))).len() <= 1000);
        let garbled = echoed(3, first(3, |it| matches!(it, Mischief::Garble { .. })));
        assert_eq!(garbled.iter().zip(&whole).filter(|(a, b)| a != b).count(), 1);
    }
}
