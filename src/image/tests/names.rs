//! Names that lead nowhere, to nobody, to many, or elsewhere than before; and a line that comes and goes. In a network of
//! this process' own, with a name server that the test plays.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::server::{Identity, Script};
use super::*;

/// What the name server says of a name.
#[derive(Clone, Debug)]
enum Says {
    Addresses(Vec<IpAddr>),
    Code(u8),
    Nothing,
}

const A: u16 = 1;
const AAAA: u16 = 28;

/// The answer to a query (RFC 1035, section 4); none if it is to be silence.
fn answer(query: &[u8], zone: &impl Fn(&str) -> Says, is_udp: bool) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] > 0 {
        let len = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..at + 1 + len]).into_owned());
        at += len + 1;
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let question = &query[12..at + 5];
    let (code, addresses) = match zone(&labels.join(".")) {
        Says::Nothing => return None,
        Says::Code(code) => (code, vec![]),
        Says::Addresses(addresses) => (0, addresses),
    };
    let data: Vec<Vec<u8>> = addresses
        .into_iter()
        .filter_map(|address| match address {
            IpAddr::V4(address) => (kind == A).then(|| address.octets().to_vec()),
            IpAddr::V6(address) => (kind == AAAA).then(|| address.octets().to_vec()),
        })
        .collect();
    let is_cut = is_udp && data.len() > 20;
    let data = if is_cut { vec![] } else { data };
    let mut answer = query[..2].to_vec();
    answer.extend([0x81 | u8::from(is_cut) << 1, 0x80 | code, 0, 1]);
    answer.extend((data.len() as u16).to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(question);
    for bytes in data {
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        // Class IN, and good for no time at all.
        answer.extend([0, 1, 0, 0, 0, 0]);
        answer.extend((bytes.len() as u16).to_be_bytes());
        answer.extend(bytes);
    }
    Some(answer)
}

/// A name server at 127.0.0.1, by UDP and, for long answers, by TCP.
fn name_server(zone: impl Fn(&str) -> Says + Send + Sync + 'static) {
    let zone = Arc::new(zone);
    let (udp, tcp) = (UdpSocket::bind("127.0.0.1:53").unwrap(), TcpListener::bind("127.0.0.1:53").unwrap());
    let for_tcp = zone.clone();
    std::thread::spawn(move || {
        let mut query = [0; 1500];
        while let Ok((len, who)) = udp.recv_from(&mut query) {
            if let Some(answer) = answer(&query[..len], &*zone, true) {
                let _ = udp.send_to(&answer, who);
            }
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            let mut len = [0; 2];
            while stream.read_exact(&mut len).is_ok() {
                let mut query = vec![0; usize::from(u16::from_be_bytes(len))];
                stream.read_exact(&mut query).unwrap();
                let Some(answer) = answer(&query, &*for_tcp, false) else { break };
                let _ = stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat());
            }
        }
    });
}

/// Runs this test again where the network and the settings of names are its own. `false` if that was it.
fn is_apart(name: &str) -> bool {
    const CHILD: &str = "TWINBOOT_TEST_OF_NAMES";
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let directory = tempfile::tempdir().unwrap();
    let settings = directory.path().join("resolv.conf");
    std::fs::write(&settings, "nameserver 127.0.0.1\noptions timeout:1\n").unwrap();
    let script = "mount --bind \"$1\" /etc/resolv.conf && shift && ip link set lo up \
        && ip link add there type veth peer name here && ip link set here up && ip link set there up \
        && ip -6 addr add 2001:db8::2/64 dev here nodad && exec \"$@\"";
    let mut child = Command::new("unshare");
    child.args(["--net", "--mount", "--map-root-user", "sh", "-c", script, "sh"]).arg(&settings);
    child.arg(std::env::current_exe().unwrap()).env(CHILD, "1");
    child.args(["--exact", &format!("image::tests::names::{name}"), "--include-ignored", "--nocapture"]);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{said}");
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

/// A bench whose server has this name.
fn named(name: &str, image: &[u8]) -> Bench {
    let identity = Identity::of(&[name]);
    let mut bench = Bench::with_server(image, identity);
    bench.at(name);
    bench
}

impl Bench {
    fn at(&mut self, name: &str) {
        let url = format!("https://{name}:{}/fw.bin?sig=SECRET", self.server.port());
        self.artifact.location = Location::Url(url.parse().unwrap());
    }
}

#[test]
#[ignore = "peers: needs unshare and ip"]
fn peers_p060_names_that_lead_nowhere_or_to_many() {
    if !is_apart("peers_p060_names_that_lead_nowhere_or_to_many") {
        return;
    }
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    // Nobody listens at any but one of them.
    let mut crowd: Vec<IpAddr> = (0..199).map(|n| Ipv4Addr::new(127, 1, 0, n + 1).into()).collect();
    crowd.insert(100, here);
    // Of this network, and nobody is there.
    let broken = IpAddr::V6("2001:db8::1".parse::<Ipv6Addr>().unwrap());
    let zone = BTreeMap::from([
        ("nobody.test", Says::Code(3)),
        ("failing.test", Says::Code(2)),
        ("refused.test", Says::Code(5)),
        ("silent.test", Says::Nothing),
        ("empty.test", Says::Addresses(vec![])),
        ("crowd.test", Says::Addresses(crowd)),
        ("broken.test", Says::Addresses(vec![broken, here])),
    ]);
    name_server(move |name| zone.get(name).cloned().unwrap_or(Says::Code(3)));
    let image = image(300_000);
    for name in ["nobody.test", "failing.test", "refused.test", "silent.test", "empty.test"] {
        let mut bench = named(name, &image);
        bench.settings.connect_timeout = Duration::from_millis(1500);
        let began = Instant::now();
        let (failure, detail) = bench.fails();
        println!("{name}: {detail}: {:?}", began.elapsed());
        assert_eq!(failure, Failure::DownloadUnreachable, "{name}: {detail}");
        assert!(detail.contains(name), "{detail}");
        assert!(began.elapsed() < Duration::from_secs(20), "{name}: {:?}", began.elapsed());
        assert_eq!((bench.server.requests(), bench.disk.operations()), (0, 0));
    }
    named("crowd.test", &image).succeeds(&image);
    let began = Instant::now();
    named("broken.test", &image).succeeds(&image);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// Whoever comes to this address is led to the server. How many did.
fn door(address: SocketAddr, to: u16) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind(address).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            counted.fetch_add(1, Ordering::Relaxed);
            super::tls::join(client, TcpStream::connect(("127.0.0.1", to)).unwrap());
        }
    });
    count
}

#[test]
#[ignore = "peers: needs unshare and ip"]
fn peers_p062_another_address_another_protocol_and_a_line_that_comes_and_goes() {
    if !is_apart("peers_p062_another_address_another_protocol_and_a_line_that_comes_and_goes") {
        return;
    }
    let stage = Arc::new(AtomicUsize::new(0));
    let told = stage.clone();
    name_server(move |_| {
        let addresses: [IpAddr; 3] =
            [Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into(), Ipv6Addr::LOCALHOST.into()];
        Says::Addresses(vec![addresses[told.load(Ordering::Relaxed).min(2)]])
    });
    // The server moves twice while the file is fetched: to another address, and to where only IPv6 leads.
    let image = image(3_000_000);
    let bench = named("moving.test", &image);
    let port = bench.server.port();
    let doors = [
        door((Ipv4Addr::new(127, 0, 0, 2), port).into(), port),
        door((Ipv6Addr::LOCALHOST, port).into(), port),
    ];
    bench.server.then(Script::StallAfter(1_000_000)).then(Script::StallAfter(1_000_000));
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| bench.succeeds(&image));
        while !worker.is_finished() {
            stage.store(bench.server.requests(), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
        }
        let seen = worker.join().unwrap();
        assert_eq!((seen.fetched, seen.fetched_twice), (image.len() as u64, 0));
    });
    let ranges: Vec<_> = bench.server.log().iter().map(super::server::Request::range).collect();
    assert_eq!(ranges, [None, Some(1_000_000), Some(2_000_000)]);
    assert_eq!(doors.map(|door| door.load(Ordering::Relaxed)), [1, 1]);

    // The line is down a third of the time.
    stage.store(0, Ordering::Relaxed);
    let mut bench = named("moving.test", &image);
    bench.settings.attempts = 1000;
    bench.settings.backoff = [Duration::from_millis(20), Duration::from_millis(100)];
    bench.rate.set(1_000_000);
    let set = |how: &str| {
        assert!(Command::new("ip").args(["link", "set", "lo", how]).status().unwrap().success());
    };
    let seen = std::thread::scope(|scope| {
        let worker = scope.spawn(|| bench.succeeds(&image));
        let mut flaps = 0;
        while !worker.is_finished() {
            std::thread::sleep(Duration::from_millis(300));
            set("down");
            std::thread::sleep(Duration::from_millis(150));
            set("up");
            flaps += 1;
        }
        assert!(flaps >= 4, "only {flaps}");
        worker.join().unwrap()
    });
    println!("{} connections", seen.connections);
    let overhead = seen.fetched - image.len() as u64;
    assert!(overhead <= image.len() as u64 / 10, "{overhead} bytes more");
}
