//! Who we are and how we get through, over real sockets: WebSocket, proxy, certificates, exchanged keys, provisioning.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::super::credential::Keeper;
use super::super::keyfile::KeyFile;
use super::super::pair::PairFiles;
use super::super::provisioning::{Enrolment, Provisioning};
use super::super::settings::Transport;
use super::*;
use crate::proxy::Proxy;
use crate::secret::Guard;

impl Device {
    fn over(access: Access, settings: Settings) -> Self {
        let (hub, port) = channels();
        let session = Session::new(port, access, settings, || Timestamp(1_800_000_000_000));
        Self { hub, clock: Arc::default(), task: tokio::spawn(session.run()) }
    }

    async fn introduced(&mut self) -> Introduction {
        loop {
            if let HubEvent::Introduced(introduction) = self.event().await {
                return introduction;
            }
        }
    }
}

fn identity(server: &Server) -> Source {
    let text = format!("HostName=localhost:{};DeviceId=dev1;SharedAccessKey={KEY}", server.port());
    Source::Fixed(text.parse().unwrap())
}

fn trust(server: &Server) -> Trust {
    Trust::fixed(server.trust.clone())
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn a_whole_session_goes_through_a_websocket() {
    let server = Server::start().await;
    let settings = Settings { transport: Transport::WebSocket, websocket_port: server.port(), ..quick() };
    let mut device = Device::over(Access::new(identity(&server), trust(&server), None), settings);
    let mut peer = server.accept_websocket().await;
    assert_eq!(peer.greet().await.flags, 0xc2);
    peer.give_twin(json!({"firmware": firmware("2.0.0"), "$version": 1}), json!({})).await;
    assert_eq!(device.introduced().await.way, " over a WebSocket");
    device.connected().await;
    assert_eq!(device.desired().await, "2.0.0");
    // Longer than a frame; a string has 4 KiB at most.
    let big: Vec<_> = (0..9).map(|_| "x".repeat(3000)).collect();
    device.report(1, json!({ "a": big }));
    assert_eq!(peer.confirm().await, json!({ "a": big }));
    assert_eq!(device.delivered().await, 1);
    drop(peer);
    assert_eq!(device.lost().await, Lost::Closed, "a close frame is an end like any other");
    server.accept_websocket().await.greet().await;
}

#[tokio::test]
async fn where_nothing_is_heard_of_the_hub_the_other_way_is_tried_and_kept() {
    let server = Server::start().await;
    // A port that was free a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!("HostName=localhost:{closed};DeviceId=dev1;SharedAccessKey={KEY}");
    let source = Source::Fixed(text.parse().unwrap());
    let settings = Settings { websocket_port: server.port(), ..quick() };
    let mut device = Device::over(Access::new(source, trust(&server), None), settings);
    assert!(matches!(device.lost().await, Lost::Unreachable { .. }));
    let mut peer = server.accept_websocket().await;
    peer.greet().await;
    peer.give_twin(json!({}), json!({})).await;
    device.connected().await;
    drop(peer);
    assert_eq!(device.lost().await, Lost::Closed);
    // Straight to what worked.
    server.accept_websocket().await.greet().await;
}

/// A proxy that opens tunnels for `user:hunter2`; what it was asked for.
async fn proxy(target: u16) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, heads) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let good = head.contains("\r\nProxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n");
                asked.send(head).unwrap();
                if !good {
                    let answer = b"HTTP/1.1 407 Authenticate\r\nProxy-Authenticate: Basic\r\n\r\n";
                    return stream.write_all(answer).await.unwrap();
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    (port, heads)
}

#[tokio::test]
async fn both_transports_go_through_a_proxy_and_its_password_can_be_corrected() {
    for transport in [Transport::Mqtt, Transport::WebSocket] {
        let server = Server::start().await;
        let (port, mut asked) = proxy(server.port()).await;
        let directory = TempDir::new().unwrap();
        let credentials = directory.path().join("proxy-credentials");
        write(&credentials, "user:wrong\n");
        let address = format!("http://127.0.0.1:{port}").parse().unwrap();
        let proxy = Proxy::new(address, Some(credentials.clone()), Guard::default(), Vec::new());
        let settings = Settings { transport, websocket_port: server.port(), ..quick() };
        let access = Access::new(identity(&server), trust(&server), Some(proxy));
        let mut device = Device::over(access, settings);
        let lost = device.lost().await;
        assert!(matches!(lost, Lost::Proxy { refused: true, .. }) && lost.is_slow(), "{lost:?}");
        let text = format!("{lost} {lost:?}");
        assert!(text.contains("proxy.credentials_file") && !text.contains("wrong"), "{text}");
        write(&credentials, "user:hunter2\n");
        match transport {
            Transport::Auto | Transport::Mqtt => {
                let mut peer = server.accept().await;
                peer.greet().await;
                peer.give_twin(json!({}), json!({})).await;
                device.connected().await;
            }
            Transport::WebSocket => {
                let mut peer = server.accept_websocket().await;
                peer.greet().await;
                peer.give_twin(json!({}), json!({})).await;
                device.connected().await;
            }
        }
        let start = format!("CONNECT localhost:{} HTTP/1.1\r\n", server.port());
        assert!(asked.recv().await.unwrap().starts_with(&start));
    }
}

#[tokio::test]
async fn hosts_that_the_proxy_is_not_for_are_reached_without_it() {
    let server = Server::start().await;
    let address = "http://127.0.0.1:1".parse().unwrap();
    let proxy = Proxy::new(address, None, Guard::default(), vec!["localhost".parse().unwrap()]);
    let access = Access::new(identity(&server), trust(&server), Some(proxy));
    let _device = Device::over(access, quick());
    server.accept().await.greet().await;
}

/// A device's certificate and key as files.
fn pair_in(directory: &Path) -> (PathBuf, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec!["dev1".into()]).unwrap().self_signed(&key).unwrap();
    let (certificate, private) = (directory.join("device.pem"), directory.join("device.key"));
    std::fs::write(&certificate, made.pem()).unwrap();
    write(&private, &key.serialize_pem());
    (certificate, private)
}

#[tokio::test]
async fn a_certificate_is_shown_and_an_exchanged_one_at_the_next_connection() {
    let server = Server::start().await;
    let directory = TempDir::new().unwrap();
    let (certificate, private) = pair_in(directory.path());
    let string = directory.path().join("connection-string");
    write(&string, &format!("HostName=localhost:{};DeviceId=dev1;x509=true", server.port()));
    let pair = PairFiles::new(certificate, private, Guard::default());
    let file = StringFile::new(string, Guard::default(), Some(Box::new(pair)));
    let access = Access::new(Source::File(Box::new(file)), trust(&server), None);
    let mut device = Device::over(access, quick());
    let mut peer = server.accept().await;
    let first = peer.certificate.clone().expect("it shows a certificate");
    let connect = peer.greet().await;
    assert_eq!((connect.flags, connect.password.as_str()), (0x82, ""));
    peer.give_twin(json!({}), json!({})).await;
    device.connected().await;
    pair_in(directory.path());
    drop(peer);
    let second = server.accept().await.certificate.expect("it shows a certificate");
    assert_ne!(first, second);
}

#[tokio::test]
async fn an_exchanged_key_signs_the_next_token() {
    let server = Server::start().await;
    let directory = TempDir::new().unwrap();
    let string = directory.path().join("connection-string");
    let line =
        |key: &str| format!("HostName=localhost:{};DeviceId=dev1;SharedAccessKey={key}", server.port());
    write(&string, &line(KEY));
    let file = StringFile::new(string.clone(), Guard::default(), None);
    let access = Access::new(Source::File(Box::new(file)), trust(&server), None);
    let mut device = Device::over(access, quick());
    let mut peer = server.accept().await;
    let first = peer.expect_connect().await.password;
    peer.write(&[0x20, 2, 0, 5]).await;
    assert_eq!(device.lost().await, Lost::Refused(5));
    let expected = "se=1800003600";
    assert!(first.ends_with(expected), "{first}");
    write(&string, &line(&KEY.replace("z0", "Z0")));
    // One more attempt may have been under way.
    for _ in 0..2 {
        let mut peer = server.accept().await;
        let second = peer.expect_connect().await.password;
        assert!(second.ends_with(expected));
        if second != first {
            return;
        }
        peer.write(&[0x20, 2, 0, 5]).await;
    }
    panic!("the old key is still used");
}

/// A provisioning service and a hub on one port.
pub(super) struct Cloud {
    pub(super) server: Server,
    directory: TempDir,
}

impl Cloud {
    pub(super) async fn start() -> Self {
        Self { server: Server::start().await, directory: TempDir::new().unwrap() }
    }

    pub(super) fn enrolment(&self) -> Enrolment {
        Enrolment {
            id_scope: "0ne00000001".to_owned(),
            registration: "reg-1".to_owned(),
            endpoint: format!("localhost:{}", self.server.port()).parse().unwrap(),
            payload: None,
        }
    }

    pub(super) fn key_file(&self) -> PathBuf {
        let path = self.directory.path().join("key");
        write(&path, KEY);
        path
    }

    fn key(&self) -> KeyFile {
        KeyFile::of_device(self.key_file(), Guard::default())
    }

    fn device(&self, enrolment: Enrolment, keeper: Box<dyn Keeper>) -> Device {
        let provisioning = Provisioning::new(enrolment, keeper);
        let source = Source::Provisioned(Box::new(provisioning));
        let access = Access::new(source, trust(&self.server), None);
        Device::over(access.remembering(Shelf::open(self.directory.path())), quick())
    }

    /// Serves one registration to its end.
    pub(super) async fn assign(&self, device: &str) -> (Connect, Value) {
        let mut peer = self.server.accept().await;
        let connect = peer.greet_for(1).await;
        let (rid, body) = peer.expect("$dps/registrations/PUT/iotdps-register/?$rid=").await;
        // An answer to somebody else's question first.
        answer(&mut peer, 200, "99", None, json!({"status": "assigned"})).await;
        answer(&mut peer, 202, &rid, Some(0), json!({"operationId": "4.op-1", "status": "assigning"})).await;
        for _ in 0..2 {
            let start = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=";
            let (rest, _) = peer.expect(start).await;
            let (rid, operation) = rest.split_once('&').unwrap();
            assert_eq!(operation, "operationId=4.op-1");
            if rid == "2" {
                // Busy: the same question is asked again.
                answer(&mut peer, 429, rid, Some(0), json!({"errorCode": 429001})).await;
            } else {
                let hub = format!("localhost:{}", self.server.port());
                let state = json!({"assignedHub": hub, "deviceId": device, "status": "assigned"});
                let body = json!({"operationId": "4.op-1", "status": "assigned", "registrationState": state});
                answer(&mut peer, 200, rid, None, body).await;
            }
        }
        assert_eq!(peer.end().await.last(), Some(&0xe0), "it says goodbye");
        (connect, serde_json::from_str(&body).unwrap())
    }
}

async fn answer(peer: &mut Peer, status: u16, rid: &str, retry_after: Option<u32>, body: Value) {
    let retry = retry_after.map_or(String::new(), |seconds| format!("&retry-after={seconds}"));
    let topic = format!("$dps/registrations/res/{status}/?$rid={rid}{retry}");
    peer.publish(0x30, &topic, None, body.to_string().as_bytes()).await;
}

#[tokio::test]
async fn a_device_registers_and_its_hub_is_remembered_over_a_restart() {
    let cloud = Cloud::start().await;
    let payload = cloud.directory.path().join("payload.json");
    std::fs::write(&payload, r#"{"site": "north"}"#).unwrap();
    let enrolment = || Enrolment { payload: Some(payload.clone()), ..cloud.enrolment() };
    let mut device = cloud.device(enrolment(), Box::new(cloud.key()));
    let (connect, body) = cloud.assign("dev-7").await;
    assert_eq!(connect.client, "reg-1");
    let kind = concat!("twinboot%2F", env!("CARGO_PKG_VERSION"));
    let username = format!("0ne00000001/registrations/reg-1/api-version=2019-03-31&ClientVersion={kind}");
    assert_eq!(connect.username, username);
    let start = "SharedAccessSignature sr=0ne00000001%2Fregistrations%2Freg-1&sig=";
    assert!(connect.password.starts_with(start), "{}", connect.password);
    assert!(connect.password.ends_with("&se=1800003600&skn=registration"), "{}", connect.password);
    assert_eq!(body, json!({"registrationId": "reg-1", "payload": {"site": "north"}}));
    let mut peer = cloud.server.accept().await;
    let connect = peer.greet().await;
    assert_eq!(connect.client, "dev-7");
    assert!(connect.password.contains("sr=localhost%2Fdevices%2Fdev-7&"), "{}", connect.password);
    peer.give_twin(json!({}), json!({})).await;
    let introduced = device.introduced().await;
    assert_eq!((introduced.hub.as_str(), introduced.device.as_str()), ("localhost", "dev-7"));
    assert_eq!(introduced.warnings, [""; 0]);
    device.connected().await;
    drop((device, peer));

    let restarted = cloud.device(enrolment(), Box::new(cloud.key()));
    assert_eq!(cloud.server.accept().await.greet().await.client, "dev-7", "straight to the hub");
    drop(restarted);
    // Another payload is another question.
    std::fs::write(&payload, r#"{"site": "south"}"#).unwrap();
    let _device = cloud.device(enrolment(), Box::new(cloud.key()));
    assert_eq!(cloud.assign("dev-8").await.1["payload"], json!({"site": "south"}));
    assert_eq!(cloud.server.accept().await.greet().await.client, "dev-8");
}

#[tokio::test]
async fn a_device_that_was_moved_away_asks_again_after_three_refusals_and_not_before() {
    let cloud = Cloud::start().await;
    let mut device = cloud.device(cloud.enrolment(), Box::new(cloud.key()));
    cloud.assign("dev-7").await;
    for _ in 0..3 {
        cloud.server.accept().await.refuse(5).await;
        assert_eq!(device.lost().await, Lost::Refused(5));
    }
    cloud.assign("dev-8").await;
    let mut peer = cloud.server.accept().await;
    assert_eq!(peer.greet().await.client, "dev-8");
    peer.give_twin(json!({}), json!({})).await;
    device.connected().await;
}

#[tokio::test]
async fn while_the_service_fails_the_known_hub_is_tried() {
    let cloud = Cloud::start().await;
    let mut device = cloud.device(cloud.enrolment(), Box::new(cloud.key()));
    cloud.assign("dev-7").await;
    for _ in 0..10 {
        cloud.server.reset().await;
        device.lost().await;
    }
    // Ten failures: the service, which fails too; then the hub again.
    cloud.server.accept().await.refuse(3).await;
    let lost = device.lost().await;
    assert!(matches!(lost, Lost::Provisioning { .. }), "{lost:?}");
    assert_eq!(cloud.server.accept().await.greet().await.client, "dev-7");
}

#[tokio::test]
async fn a_certificate_and_a_groups_key_prove_it_to_both() {
    let cloud = Cloud::start().await;
    let (certificate, private) = pair_in(cloud.directory.path());
    let pair = PairFiles::new(certificate, private, Guard::default());
    let device = cloud.device(cloud.enrolment(), Box::new(pair));
    let (connect, _) = cloud.assign("reg-1").await;
    assert_eq!((connect.flags, connect.password.as_str()), (0x82, ""));
    let mut peer = cloud.server.accept().await;
    assert!(peer.certificate.is_some());
    assert_eq!(peer.greet().await.password, "");
    drop(device);

    let cloud = Cloud::start().await;
    cloud.key();
    let path = cloud.directory.path().join("key");
    let group = KeyFile::of_group(path, Guard::default(), "reg-1".to_owned());
    let mut device = cloud.device(cloud.enrolment(), Box::new(group));
    let (connect, _) = cloud.assign("reg-1").await;
    let own: super::super::credential::Key = KEY.parse().unwrap();
    let derived = own.derive("reg-1");
    let resource = "0ne00000001/registrations/reg-1";
    let token = sas::Token::new(resource, 1_800_003_600, &derived, Some("registration")).unwrap();
    assert_eq!(connect.password, token.expose());
    let mut peer = cloud.server.accept().await;
    peer.greet().await;
    peer.give_twin(json!({}), json!({})).await;
    assert!(device.introduced().await.warnings[0].contains("any of the fleet"));
}

#[tokio::test]
async fn what_the_service_refuses_is_told_with_its_words_and_tried_slowly() {
    let cloud = Cloud::start().await;
    let mut device = cloud.device(cloud.enrolment(), Box::new(cloud.key()));
    cloud.server.accept().await.refuse(5).await;
    let lost = device.lost().await;
    assert!(lost.is_slow() && lost.to_string().contains("provisioning.id_scope"), "{lost}");
    let mut peer = cloud.server.accept().await;
    peer.greet_for(1).await;
    let (rid, _) = peer.expect("$dps/registrations/PUT/iotdps-register/?$rid=").await;
    answer(&mut peer, 401, &rid, None, json!({"errorCode": 401002, "message": "Unauthorized"})).await;
    let lost = device.lost().await;
    assert!(lost.is_slow() && lost.to_string().contains("401: Unauthorized"), "{lost}");
    let mut peer = cloud.server.accept().await;
    peer.greet_for(1).await;
    let (rid, _) = peer.expect("$dps/registrations/PUT/iotdps-register/?$rid=").await;
    answer(&mut peer, 429, &rid, Some(600), json!({"errorCode": 429001})).await;
    let lost = device.lost().await;
    assert_eq!(lost.least_wait(), Duration::from_secs(600), "{lost}");
}
