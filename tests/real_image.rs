//! A real Debian root file system, over nginx with TLS, into a loop device, with the daemon killed twenty times on the
//! way: nothing is lost, little is fetched twice, and the memory stays small.
//!
//! Needs root and what `tests/run peers` installs: mmdebstrap, nginx, zstd. The image is built once and kept below
//! `target/peers`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use twinboot::model::Sha256;

/// Both slots and the image have this size.
const SLOT: u64 = 1 << 30;
/// The daemon may be killed so often …
const KILLS: usize = 20;
/// The file is thought of in so many parts, with a kill in each of the first.
const PARTS: u64 = KILLS as u64 + 10;
/// … and fetches no more than this twice each time.
const FETCHED_TWICE: u64 = 4 << 20;
/// Peak memory of the daemon (VmHWM), in KiB.
const MEMORY: u64 = 32 << 10;

#[test]
#[ignore = "peers: needs root, mmdebstrap, nginx, zstd and loop devices"]
fn peers_a_debian_image_survives_twenty_kills() {
    let images = images();
    for packed in ["debian.ext4.zst", "debian.ext4.gz"] {
        let board = Board::new(&images, 3);
        let seed = std::env::var("SEED").map_or(7, |seed| seed.parse().unwrap());
        println!("{packed}: killing {KILLS} times, SEED={seed}");
        let twice = board.update_with_kills(&images, packed, seed);
        println!(
            "{packed}: {} kills, at most {} KiB fetched twice after one of them; the server sent at most {} KiB again",
            twice.kills,
            twice.max >> 10,
            twice.sent_again >> 10
        );
        assert!(twice.max <= FETCHED_TWICE, "{} bytes fetched twice after a kill", twice.max);
        assert_eq!(twice.kills, KILLS);
        board.slot_holds(&images.join("debian.ext4"));
    }
}

#[test]
#[ignore = "peers: needs root, mmdebstrap, nginx, zstd and loop devices"]
fn peers_a_debian_image_is_installed_in_little_memory() {
    let images = images();
    for packed in ["debian.ext4.zst", "debian.ext4.gz"] {
        let board = Board::new(&images, 30);
        let begun = Instant::now();
        let mut daemon = board.start();
        board.install(&images, packed);
        let peak = board.wait_for_reboot(&daemon);
        println!("{packed}: {:.1} s, peak memory {peak} KiB", begun.elapsed().as_secs_f32());
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        assert!(peak <= MEMORY, "peak memory {peak} KiB");
        board.slot_holds(&images.join("debian.ext4"));
    }
}

/// What the kills cost.
struct Twice {
    /// The most that the daemon had fetched and fetched again after a kill.
    max: u64,
    /// The most that the server sent again: the daemon's share, and what was in the kernels' buffers at that moment.
    sent_again: u64,
    kills: usize,
}

/// A simulated machine whose slots are loop devices and whose images come from nginx.
struct Board {
    directory: tempfile::TempDir,
    loops: [String; 2],
    server: Child,
    port: u16,
}

impl Board {
    /// `rate` in MiB a second is what the server sends: slow enough for the daemon to start many times before the end.
    fn new(images: &Path, rate: u32) -> Self {
        let directory = tempfile::tempdir_in(images).unwrap();
        let at = |name: &str| directory.path().join(name);
        let loops = ["a", "b"].map(|name| {
            let file = at(name);
            File::create(&file).unwrap().set_len(SLOT).unwrap();
            run(Command::new("losetup").args(["--find", "--show"]).arg(&file))
        });
        for directory in ["machine/proc/sys/kernel/random", "machine/etc", "state", "health.d"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        fs::write(at("machine/proc/cmdline"), format!("root={} ro\n", loops[0])).unwrap();
        fs::write(at("machine/proc/sys/kernel/random/boot_id"), "boot-1\n").unwrap();
        let env = ["env0", "env1"].map(|name| {
            File::create(at(name)).unwrap().set_len(16 << 10).unwrap();
            format!("{} 0 0x4000\n", at(name).display())
        });
        fs::write(at("fw_env.config"), env.concat()).unwrap();
        fs::write(at("defaults"), "slot=a\nupgrade_available=0\nbootcount=0\nbootlimit=3\n").unwrap();
        for _ in 0..2 {
            run(Command::new("fw_setenv")
                .arg("-c")
                .arg(at("fw_env.config"))
                .arg("-f")
                .arg(at("defaults"))
                .args(["touched", "1"]));
        }
        let (server, port) = nginx(directory.path(), images, rate);
        let config = format!(
            "[hub]\nconnection_string_file = \"{d}/none\"\n[tls]\nca_files = [\"{d}/ca.pem\"]\nsystem_roots = false\n\
             [slots]\na = \"{}\"\nb = \"{}\"\n[boot]\nfw_env_config = \"{d}/fw_env.config\"\n[download]\nbackoff = [\"100ms\", \"1s\"]\n\
             [health]\ndirectory = \"{d}/health.d\"\n[control]\nsocket = \"{d}/control.sock\"\n[state]\ndirectory = \"{d}/state\"\n\
             [simulator]\nroot = \"{d}/machine\"\n",
            loops[0],
            loops[1],
            d = directory.path().display()
        );
        fs::write(at("twinboot.toml"), config).unwrap();
        Self { directory, loops, server, port }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn twinboot(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinboot"));
        command.arg("--config").arg(self.at("twinboot.toml"));
        command
    }

    fn start(&self) -> Child {
        let log = File::options().append(true).create(true).open(self.at("log")).unwrap();
        let child = self.twinboot().args(["run", "--verbose"]).stderr(log).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.at("control.sock").exists()
            || !self.twinboot().arg("status").output().unwrap().status.success()
        {
            assert!(Instant::now() < deadline, "no control socket: {}", self.log());
            std::thread::yield_now();
        }
        child
    }

    fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    fn install(&self, images: &Path, packed: &str) {
        let digest = sha256(&images.join(packed)).to_string();
        let url = format!("https://localhost:{}/{packed}", self.port);
        run(self.twinboot().args(["install", &url, "--sha256", &digest, "--version-label", "2"]));
    }

    /// Peak memory of the daemon in KiB when it asked for the reboot.
    fn wait_for_reboot(&self, daemon: &Child) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(300);
        while !self.at("machine/reboot-requested").exists() {
            assert!(Instant::now() < deadline, "no reboot: {}", self.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn update_with_kills(&self, images: &Path, packed: &str, seed: u64) -> Twice {
        let mut random = seed | 1;
        let mut daemon = self.start();
        self.install(images, packed);
        let total = fs::metadata(images.join(packed)).unwrap().len();
        let (mut kills, mut begun, mut reached) = (0, 0, vec![]);
        while !self.at("machine/reboot-requested").exists() {
            if kills < KILLS {
                // Somewhere in the next part of the file; a few parts are left over for what runs ahead of us.
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let goal = begun + (random >> 33) % (total / PARTS);
                let goal = goal.min(total - 1);
                let Some(position) = self.wait_for_progress(goal) else { break };
                reached.push(position);
                daemon.kill().unwrap();
                daemon.wait().unwrap();
                kills += 1;
                begun = total / PARTS * kills as u64;
                daemon = self.start();
            } else {
                self.wait_for_reboot(&daemon);
            }
        }
        self.wait_for_reboot(&daemon);
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        let requests = self.requests(packed, kills + 1);
        assert_eq!(requests.len(), kills + 1, "one request after each start");
        let firsts = requests.iter().skip(1).map(|(first, _)| *first);
        let again = |ends: Vec<u64>| {
            ends.iter().zip(firsts.clone()).map(|(end, first)| end.saturating_sub(first)).max().unwrap()
        };
        let sent = requests.iter().take(kills).map(|(first, sent)| first + sent).collect();
        Twice { max: again(reached), sent_again: again(sent), kills }
    }

    /// Waits until so many bytes are fetched, and tells how many are; nothing if the download is over before.
    fn wait_for_progress(&self, goal: u64) -> Option<u64> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let output = self.twinboot().args(["status", "--json"]).output().unwrap();
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let fetched = status["progress"]["fetched"].as_u64().unwrap_or(0);
            // What was there at the start may be more than was aimed at. The whole length is known by an answer only.
            let answered = !status["progress"]["total"].is_null();
            if answered && fetched > 0 && fetched >= goal && status["phase"] == "downloading" {
                return Some(fetched);
            }
            if !["idle", "accepted", "downloading"].contains(&status["phase"].as_str().unwrap_or("idle")) {
                return None;
            }
            assert!(Instant::now() < deadline, "stuck before {goal}: {status} {}", self.log());
        }
    }

    /// Each request for the image: its first byte, and how many bytes were sent, from the server's log. The server
    /// writes a line when it has noticed that the client is gone, so that the last ones may take a moment.
    fn requests(&self, packed: &str, expected: usize) -> Vec<(u64, u64)> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut log = String::new();
        while log.lines().filter(|line| line.contains(packed)).count() < expected && Instant::now() < deadline
        {
            std::thread::park_timeout(Duration::from_millis(20));
            log = fs::read_to_string(self.at("access.log")).unwrap();
        }
        let request = |line: &str| {
            let mut words = line.split('|').skip(1);
            let range = words.next().unwrap().trim_start_matches("bytes=").trim_end_matches('-').parse();
            (range.unwrap_or(0), words.next().unwrap().parse().unwrap())
        };
        log.lines().filter(|line| line.contains(packed)).map(request).collect()
    }

    fn slot_holds(&self, image: &Path) {
        let mut slot = BufReader::with_capacity(1 << 20, File::open(&self.loops[1]).unwrap());
        let mut image = BufReader::with_capacity(1 << 20, File::open(image).unwrap());
        let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        for mib in 0..SLOT >> 20 {
            slot.read_exact(&mut a).unwrap();
            image.read_exact(&mut b).unwrap();
            assert!(a == b, "the slot differs from the image in MiB {mib}");
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        for device in &self.loops {
            let _ = Command::new("losetup").args(["--detach", device]).status();
        }
    }
}

/// nginx with TLS, as fast as a good uplink and no faster: then what it sent is what arrived.
fn nginx(directory: &Path, images: &Path, rate: u32) -> (Child, u16) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    fs::write(directory.join("ca.pem"), certificate.pem()).unwrap();
    fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let d = directory.display();
    let config = format!(
        "daemon off; master_process off; pid {d}/nginx.pid; error_log {d}/error.log; user root;\n\
         events {{}}\nhttp {{\n log_format requests '$request_uri|$http_range|$body_bytes_sent';\n\
         access_log {d}/access.log requests;\n limit_rate {rate}m;\n\
         client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;\n\
         server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {d}/ca.pem; ssl_certificate_key {d}/key.pem; root {}; }}\n}}\n",
        images.display()
    );
    fs::write(directory.join("nginx.conf"), config).unwrap();
    let server = Command::new("nginx")
        .arg("-e")
        .arg(directory.join("error.log"))
        .arg("-c")
        .arg(directory.join("nginx.conf"))
        .stdin(Stdio::null())
        .spawn()
        .expect("nginx is installed by tests/run peers");
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nginx does not listen");
    }
    (server, port)
}

/// The image and its two compressed forms, made once.
fn images() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../peers/images");
    fs::create_dir_all(&directory).unwrap();
    let directory = directory.canonicalize().unwrap();
    // Two tests of this file must not make them at the same time.
    let lock = File::create(directory.join("lock")).unwrap();
    lock.lock().unwrap();
    let image = directory.join("debian.ext4");
    if !directory.join("complete").exists() {
        println!("building a Debian image, once");
        let tree = directory.join("tree");
        let packages = "systemd,systemd-sysv,dbus,python3,git,vim,iproute2,openssh-server,build-essential";
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap
            .args(["--quiet", "--variant=minbase", "--format=directory"])
            .arg(format!("--include={packages}"));
        run(mmdebstrap.arg("bookworm").arg(&tree).arg(sources()));
        let _ = fs::remove_file(&image);
        let blocks = (SLOT / 4096).to_string();
        run(Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-b", "4096", "-d"])
            .arg(&tree)
            .arg(&image)
            .arg(blocks));
        run(Command::new("zstd").args(["-q", "-f", "-T0", "-9"]).arg(&image));
        run(Command::new("gzip").args(["-k", "-f", "-6"]).arg(&image));
        fs::remove_dir_all(&tree).unwrap();
        fs::write(directory.join("complete"), "").unwrap();
    }
    assert!(fs::metadata(&image).unwrap().len() >= 500 << 20);
    directory
}

/// Where this machine gets its packages from.
fn sources() -> PathBuf {
    let list = PathBuf::from("/etc/apt/sources.list");
    let has_text = |path: &Path| fs::read_to_string(path).is_ok_and(|text| text.contains("deb"));
    if has_text(&list) {
        return list;
    }
    let parts = fs::read_dir("/etc/apt/sources.list.d").unwrap().map(|entry| entry.unwrap().path());
    parts
        .filter(|path| path.extension().is_some_and(|end| end == "sources"))
        .find(|path| has_text(path))
        .unwrap()
}

fn sha256(path: &Path) -> Sha256 {
    let output = run(Command::new("sha256sum").arg(path));
    output.split_whitespace().next().unwrap().parse().unwrap()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{error}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
