//! Real Debian root file systems, over nginx with TLS, into a loop device, with the daemon killed on the way: nothing is
//! lost, little is fetched twice, and the memory stays small. Here are plain images, with twenty kills; in `bundles.rs` a
//! signed bundle from one version to the next, with kills, a rollback, and the same once more.
//!
//! Needs root and what `tests/run peers` installs: mmdebstrap, nginx, squashfs-tools, zstd. The images are built once and
//! kept below `target/peers`.
#![allow(clippy::unwrap_used, missing_docs)]

mod board;
mod bundles;
mod images;
mod server;
mod tools;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use board::Board;
use images::images;
use tools::{next, run, sha256};

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
        let board = Board::new(&images, &images, 3 << 10);
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
        let board = Board::new(&images, &images, 30 << 10);
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

impl Board {
    fn install(&self, images: &Path, packed: &str) {
        let digest = sha256(&images.join(packed)).to_string();
        let url = format!("https://localhost:{}/{packed}", self.port);
        run(self.twinboot().args(["install", &url, "--sha256", &digest, "--version-label", "2"]));
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
                let goal = begun + next(&mut random) % (total / PARTS);
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
            let status = self.status();
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
}
