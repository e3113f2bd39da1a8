//! Servers that are somebody else, speak what must not be spoken, or never come to speaking.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;

use super::server::{Identity, Script, trusting};
use super::*;

impl Bench {
    /// A bench whose image is at this address, from whoever sits there.
    fn elsewhere(file: &[u8], address: SocketAddr) -> Self {
        let mut bench = Self::new(file, 4 << 20);
        let url = format!("https://127.0.0.1:{}/fw.bin?sig=SECRET", address.port());
        bench.artifact.location = Location::Url(url.parse().unwrap());
        bench
    }

    /// A bench whose server is this one, for whom this authority vouches.
    pub(super) fn with_server(file: &[u8], identity: Identity) -> Self {
        let mut bench = Self::new(file, 4 << 20);
        let tls = trusting(&identity.authority);
        bench.server = Server::start_as(file.to_vec(), identity);
        bench.direct = Direct::new(crate::tls::Trust::fixed(tls), None, bench.settings.connect_timeout);
        bench.net = Net::new(bench.direct.clone(), bench.server.runtime()).unwrap();
        bench.artifact.location = Location::Url(bench.server.url("/fw.bin?sig=SECRET").parse().unwrap());
        bench
    }
}

/// A certificate of an authority, made out as `change` says.
fn issued(change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let mut of_the_authority = CertificateParams::new(vec![]).unwrap();
    of_the_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let its_key = KeyPair::generate().unwrap();
    let authority = of_the_authority.self_signed(&its_key).unwrap().der().clone();
    let issuer = Issuer::new(of_the_authority, its_key);
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Identity { chain: vec![certificate, authority.clone()], key, authority }
}

#[test]
fn p040_a_certificate_that_is_not_good_is_refused_before_anything_is_asked() {
    let image = image(100_000);
    // The same without a fault is taken, or all of this would prove nothing.
    Bench::with_server(&image, issued(|_| ())).succeeds(&image);
    let itself = || Identity::of(&["127.0.0.1"]);
    let unknown = Identity { authority: itself().authority, ..issued(|_| ()) };
    let self_signed = Identity { authority: issued(|_| ()).authority, ..itself() };
    let wrong_name = issued(|params| {
        params.subject_alt_names =
            CertificateParams::new(vec!["example.com".to_owned()]).unwrap().subject_alt_names;
    });
    let expired = issued(|params| params.not_after = date_time_ymd(2020, 1, 1));
    let not_yet = issued(|params| params.not_before = date_time_ymd(4000, 1, 1));
    for (what, identity, words) in [
        ("an unknown authority", unknown, "invalid peer certificate"),
        ("itself", self_signed, "invalid peer certificate"),
        ("another name", wrong_name, "not valid for name"),
        ("expired", expired, "expired"),
        ("not yet valid", not_yet, "not valid yet"),
    ] {
        let bench = Bench::with_server(&image, identity);
        let (failure, detail) = bench.fails();
        assert_eq!(failure, Failure::DownloadTls, "{what}: {detail}");
        assert!(detail.contains(words), "{what}: {detail}");
        assert_eq!((bench.server.requests(), bench.disk.operations()), (0, 0), "{what}");
    }
}

/// Answers each connection with these bytes once something was heard, and goes on as `then` says. How many there were.
fn answering(
    bytes: Vec<u8>,
    then: impl Fn(&mut TcpStream) + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let (counted, then) = (count.clone(), Arc::new(then));
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            counted.fetch_add(1, Ordering::Relaxed);
            let (bytes, then) = (bytes.clone(), then.clone());
            std::thread::spawn(move || {
                let mut hello = [0; 4096];
                let _ = stream.read(&mut hello);
                let _ = stream.write_all(&bytes);
                then(&mut stream);
            });
        }
    });
    (address, count)
}

/// Says nothing until the other side hangs up.
fn silent(stream: &mut TcpStream) {
    let _ = std::io::copy(stream, &mut std::io::sink());
}

/// A server's greeting that chooses this version and this way of encrypting (RFC 5246, section 7.4.1.3).
fn greeting(version: u16, suite: u16) -> Vec<u8> {
    let [major, minor] = version.to_be_bytes();
    let mut hello = vec![major, minor];
    hello.extend([7; 32]);
    hello.push(0);
    hello.extend(suite.to_be_bytes());
    hello.push(0);
    let mut handshake = vec![2, 0, 0, hello.len() as u8];
    handshake.extend(hello);
    let mut record = vec![0x16, major, minor, 0, handshake.len() as u8];
    record.extend(handshake);
    record
}

#[test]
fn p041_old_protocols_and_weak_ciphers_are_not_spoken() {
    for (what, bytes) in [
        ("TLS 1.0", greeting(0x0301, 0xc013)),
        ("TLS 1.1", greeting(0x0302, 0xc013)),
        ("SSL 3.0", greeting(0x0300, 0x0035)),
        ("RC4", greeting(0x0303, 0x0005)),
        ("3DES", greeting(0x0303, 0xc012)),
        ("AES in CBC mode", greeting(0x0303, 0xc014)),
        ("no forward secrecy", greeting(0x0303, 0x009c)),
        // What a server says that knows nothing of what we offer.
        ("no version in common", vec![0x15, 3, 1, 0, 2, 2, 70]),
        ("no cipher in common", vec![0x15, 3, 3, 0, 2, 2, 40]),
    ] {
        let (address, _) = answering(bytes, silent);
        let bench = Bench::elsewhere(b"image", address);
        let (failure, detail) = bench.fails();
        assert_eq!(failure, Failure::DownloadTls, "{what}: {detail}");
        assert_eq!(bench.disk.operations(), 0);
    }
}

#[test]
fn p042_a_handshake_that_comes_to_nothing_has_its_end() {
    // Accepts and is silent; greets and is silent; hangs up in the middle.
    for (what, bytes, hangs_up) in [
        ("silent", vec![], false),
        ("silent after its greeting", greeting(0x0303, 0xc02f), false),
        ("hangs up", vec![], true),
        ("hangs up after its greeting", greeting(0x0303, 0xc02f), true),
        ("hangs up in its greeting", greeting(0x0303, 0xc02f)[..20].to_vec(), true),
    ] {
        let (address, count) = answering(bytes, move |stream| {
            if !hangs_up {
                silent(stream)
            }
        });
        let mut bench = Bench::elsewhere(b"image", address);
        bench.settings.connect_timeout = Duration::from_millis(200);
        let began = Instant::now();
        let (failure, detail) = bench.fails();
        let took = began.elapsed();
        assert_eq!(failure, Failure::DownloadUnreachable, "{what}: {detail}");
        assert_eq!(count.load(Ordering::Relaxed), 4, "{what}: tried again, and not for ever");
        assert_eq!(bench.disk.operations(), 0);
        // Four times connecting and being silent, and what is waited in between.
        assert!(took < Duration::from_secs(20), "{what}: {took:?}");
        // With a limit of its own each, or the first would still be going on.
        assert!(hangs_up || took >= 4 * Duration::from_millis(200), "{what}: {took:?}");
    }
    let shipped = Settings::default();
    assert_eq!(shipped.connect_timeout, Duration::from_secs(15));
}

/// Passes on whatever either side says, until it hangs up.
pub(super) fn join(one: TcpStream, other: TcpStream) {
    let pairs = [(one.try_clone().unwrap(), other.try_clone().unwrap()), (other, one)];
    for (mut from, mut to) in pairs {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
}

/// Leads each connection to the next of these servers, and from then on to the last.
fn switched(to: Vec<u16>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut next = 0;
        while let Ok((client, _)) = listener.accept() {
            let server = TcpStream::connect(("127.0.0.1", to[next])).unwrap();
            next = (next + 1).min(to.len() - 1);
            join(client, server);
        }
    });
    address
}

/// The networks of hotels and factories answer for everybody until somebody logs in: with a certificate of their own,
/// or, where they have one that is trusted, with their page. Both pass.
#[test]
fn p061_a_captive_portal_is_waited_out_and_writes_nothing() {
    let image = image(300_000);
    let mut bench = Bench::new(&image, 1 << 20);
    let portal = Server::start(b"<html>log in".to_vec());
    let (good, other) = (bench.server.port(), portal.port());
    let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 12\r\n\r\n<html>log in";
    bench.server.then(super::http::acts(page));
    // By way of a redirect, which is as far as a page of its own can go over https.
    bench.server.then(Script::Status(302, "location: /login\r\n")).then(super::http::acts(page));
    let way = switched(vec![other, other, good]);
    bench.artifact.location =
        Location::Url(format!("https://127.0.0.1:{}/fw.bin?sig=SECRET", way.port()).parse().unwrap());
    bench.settings.attempts = 6;
    let seen = bench.succeeds(&image);
    assert_eq!(portal.requests(), 0, "nothing was asked of the stranger");
    assert_eq!(seen.fetched, image.len() as u64, "no byte of a page was taken for the image's");
    let paths: Vec<_> = bench.server.log().into_iter().map(|request| request.path).collect();
    let file = "/fw.bin?sig=SECRET";
    assert_eq!(paths, [file, file, "/login", file]);
    // While it stays closed, it ends with what it was, and the slot is as it was.
    let mut bench = Bench::new(&image, 1 << 20);
    let way = switched(vec![other]);
    bench.artifact.location =
        Location::Url(format!("https://127.0.0.1:{}/fw.bin", way.port()).parse().unwrap());
    assert_eq!(bench.fails().0, Failure::DownloadTls);
    assert_eq!(bench.disk.operations(), 0);
    let mut bench = Bench::new(&image, 1 << 20);
    bench.artifact.size = None;
    for _ in 0..4 {
        bench.server.then(super::http::acts(page));
    }
    let (failure, detail) = bench.fails();
    assert_eq!((failure, bench.disk.operations()), (Failure::DownloadHttpAnswer, 0));
    assert!(detail.contains("a web page instead of a file"), "{detail}");
}
