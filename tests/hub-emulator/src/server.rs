//! Listening, TLS handshakes, and which protocol is spoken where. Not the protocols. Called by `emulator` at start.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificates::Peer;
use crate::hub::Hub;
use crate::images::Body;
use crate::shared::Shared;
use crate::{mqtt, rest, websocket};

/// A TLS handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// Listens on the address; on both loopback addresses if it is the one of IPv4, as names resolve to either.
pub(crate) fn listen(bind: IpAddr, port: u16) -> io::Result<Vec<std::net::TcpListener>> {
    let open = |address: SocketAddr| {
        let listener = std::net::TcpListener::bind(address)
            .map_err(|error| io::Error::new(error.kind(), format!("listening on {address}: {error}")))?;
        listener.set_nonblocking(true)?;
        Ok::<_, io::Error>(listener)
    };
    let first = open(SocketAddr::new(bind, port))?;
    let port = first.local_addr()?.port();
    let mut all = vec![first];
    if bind == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        // A machine without IPv6, or with that port taken there, does without.
        all.extend(open(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port)));
    }
    Ok(all)
}

/// What every listener needs.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) shared: Arc<Shared>,
    pub(crate) acceptor: TlsAcceptor,
    /// The host name in connection strings.
    pub(crate) host: String,
}

/// Who is on the other end, and what it would dial to come back through the same door.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: Peer,
    /// The hub's host, with the port where that is not the usual one.
    pub(crate) here: String,
}

#[derive(Clone, Copy)]
enum Protocol {
    Https,
    Mqtt,
}

impl Server {
    /// Starts accepting, in the background.
    pub(crate) fn listen(&self, mqtt: Vec<std::net::TcpListener>, https: Vec<std::net::TcpListener>) {
        let all = mqtt.into_iter().map(|one| (one, Protocol::Mqtt));
        for (listener, protocol) in all.chain(https.into_iter().map(|one| (one, Protocol::Https))) {
            tokio::spawn(self.clone().accept(listener, protocol));
        }
    }

    async fn accept(self, listener: std::net::TcpListener, protocol: Protocol) {
        let Ok(listener) = TcpListener::from_std(listener) else { return };
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => drop(tokio::spawn(self.clone().serve(stream, peer.ip(), protocol))),
                // Such as too many open files: not for ever, and not in a spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn serve(self, stream: TcpStream, peer: IpAddr, protocol: Protocol) {
        // Small packets must not wait for one another.
        let _ = stream.set_nodelay(true);
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream)).await else {
            return;
        };
        let caller = self.caller(&stream, protocol);
        match protocol {
            Protocol::Mqtt => mqtt::serve(stream, self.shared, caller).await,
            Protocol::Https => {
                let service = service_fn(|mut request: Request<Incoming>| {
                    request.extensions_mut().insert(rest::Peer(peer));
                    self.clone().answer(request, caller.clone())
                });
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).max_buf_size(128 * 1024);
                // Clients end connections in all sorts of ways, and faults do so on purpose.
                let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            }
        }
    }

    /// Devices and the service share the port: they are told apart by the path.
    async fn answer(self, request: Request<Incoming>, caller: Caller) -> io::Result<Response<Body>> {
        if websocket::is_meant(&request) {
            return Ok(websocket::respond(self.shared, request, caller));
        }
        rest::respond(self.shared, request, caller).await
    }

    fn caller(&self, stream: &TlsStream<TcpStream>, protocol: Protocol) -> Caller {
        let (tcp, tls) = stream.get_ref();
        let usual = match protocol {
            Protocol::Https => 443,
            Protocol::Mqtt => 8883,
        };
        let here = match tcp.local_addr() {
            Ok(address) if address.port() != usual => format!("{}:{}", self.host, address.port()),
            Ok(_) | Err(_) => self.host.clone(),
        };
        Caller { peer: Peer::new(tls.peer_certificates()), here }
    }

    /// Starts evaluating configurations by the clock, unless the period is zero.
    pub(crate) fn evaluate_every(&self, period: Duration) {
        if period.is_zero() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let mut clock = tokio::time::interval(period);
            loop {
                clock.tick().await;
                shared.with(Hub::evaluate_all);
            }
        });
    }
}
