//! A signed bundle from the system that runs to the next version of it, made by the operator's tool: only what is new is
//! fetched, also with the daemon killed on the way; it is rolled back and tried again like any other update.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::MEMORY;
use super::board::{Board, Request, peak};
use super::images::{os_release, pair};
use super::tools::{next, run};

/// The daemon is killed so often while it puts the image together.
const KILLS: usize = 6;
/// The rollback index of the bundle.
const INDEX: u64 = 7;
/// Of the file, no more than one part of so many is fetched: with all the kills, and by a device that has the system as
/// it was released.
const SAVES: u64 = 3;

#[test]
#[ignore = "peers: needs root, mmdebstrap, mksquashfs, nginx and loop devices"]
fn peers_a_bundle_brings_an_ext4_from_one_version_to_the_next() {
    round_trip("ext4");
}

#[test]
#[ignore = "peers: needs root, mmdebstrap, mksquashfs, nginx and loop devices"]
fn peers_a_bundle_brings_a_squashfs_from_one_version_to_the_next() {
    round_trip("squashfs");
}

fn round_trip(kind: &str) {
    let images = pair();
    let [old, new] = ["v1", "v2"].map(|name| images.join(format!("{name}.{kind}")));
    let served = tempfile::tempdir_in(&images).unwrap();
    let mut board = Board::new(&images, served.path(), 384);
    let bundle = Bundle::make(&board, served.path(), &new, &old);
    board.runs_in_a(&old);
    let began = Instant::now();
    let seed = std::env::var("SEED").map_or(7, |seed| seed.parse().unwrap());
    let (len, fetch) = (bundle.len >> 10, bundle.fetch >> 10);
    println!("{kind}: {fetch} KiB of a bundle of {len} KiB, killing {KILLS} times, SEED={seed}");
    let (peak, lives) = board.update_by_bundle(&bundle, seed);
    board.slot_holds(&new);
    let wire = Wire::of(&lives, bundle.data_at);
    println!(
        "{kind}: {} KiB sent in {:.0} s, {} KiB of the image again after kills; peak memory {peak} KiB",
        wire.sent >> 10,
        began.elapsed().as_secs_f32(),
        wire.again >> 10
    );
    assert_eq!(lives.len(), KILLS + 1);
    // What was in a group that was not whole, and on the way to a daemon that was no more. One that begins anew after
    // each kill is sent nearly all of it twice.
    assert!(wire.again <= bundle.fetch / 3, "{} bytes of the image came again", wire.again);
    assert!(wire.sent <= bundle.len / SAVES, "{} of {} bytes were sent", wire.sent, bundle.len);
    assert!(peak <= MEMORY, "peak memory {peak} KiB");

    // It is ill: what ran before comes back, and no version is demanded from now on that was never proved.
    fs::write(board.at("machine/ill"), "").unwrap();
    assert_eq!(board.judged(1), 0, "the old system comes back");
    board.settles("a", &[("outcome", "rolled-back"), ("code", "health.failed"), ("version", "2.0.0")]);
    assert_eq!((board.floor(), board.variable("twinboot_floor")), (0, String::new()));

    // Somebody means it: the slot holds it all by now, so hardly anything is fetched for the second try.
    fs::remove_file(board.at("machine/ill")).unwrap();
    let before = board.all_requests(Bundle::NAME).len();
    let mut daemon = board.start();
    board.asks(&bundle);
    board.wait_for_reboot(&daemon);
    end(&mut daemon);
    let sent: u64 = board.all_requests(Bundle::NAME)[before..].iter().map(|(_, sent)| sent).sum();
    println!("{kind}: {} KiB sent for the second try", sent >> 10);
    assert!(sent <= bundle.overhead(), "{sent} bytes are sent of a bundle that is all there");
    assert_eq!(board.judged(1), 1, "it stays");
    board.settles("b", &[("outcome", "succeeded"), ("version", "2.0.0")]);
    assert_eq!((board.floor(), board.variable("twinboot_floor")), (INDEX, INDEX.to_string()));
    board.slot_holds(&new);
}

/// What the operator's tool made.
struct Bundle {
    /// Of the whole file, in bytes.
    len: u64,
    /// Where the chunks of the image begin; head, table and the pages' bodies are before.
    data_at: u64,
    head: u64,
    table: u64,
    /// What the tool says that a device with the old image fetches.
    fetch: u64,
}

impl Bundle {
    const NAME: &str = "gateway-2.0.0.twb";

    /// Keys, of which the root's public half goes to the board, a delegation, and a bundle of this image, for boards that
    /// have the old one.
    fn make(board: &Board, served: &Path, image: &Path, old: &Path) -> Self {
        let keys = board.at("operator");
        fs::create_dir(&keys).unwrap();
        let fleet = |words: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_twinboot-fleet"));
            run(command.env_clear().current_dir(&keys).arg("bundle").args(words))
        };
        fleet(&["keygen", "root"]);
        fleet(&["keygen", "ci"]);
        fleet(&["delegate", "delegation", "--epoch", "1", "--signer", "ci.pem", "--key", "root.key"]);
        let (image, place) = (image.to_str().unwrap(), served.join(Self::NAME));
        let (index, place) = (INDEX.to_string(), place.to_str().unwrap());
        let what = ["--version-label", "2.0.0", "--product", "gateway", "--compatible", "rev-b"];
        let signed = ["--delegation", "delegation", "--key", "ci.key", "--rollback-index", &index];
        // The level costs minutes of the test, and proves nothing here.
        fleet(&[&["create", "--level", "5", "--part", image, "-o", place][..], &what, &signed].concat());
        let said: Value =
            serde_json::from_str(&fleet(&["inspect", place, "--against", old.to_str().unwrap(), "--json"]))
                .unwrap();
        let number = |pointer: &str| said.pointer(pointer).and_then(Value::as_u64).expect(pointer);
        let len = fs::metadata(place).unwrap().len();
        let key = board.at("keys.d/root.pem");
        fs::copy(keys.join("root.pem"), &key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        Self {
            len,
            data_at: len - number("/manifest/payloads/0/data"),
            head: number("/head/size"),
            table: number("/manifest/payloads/0/table/size"),
            fetch: number("/against/0/bytes"),
        }
    }

    /// What is fetched of it whatever the device has: what it takes to see what is missing. The first request may be for
    /// somewhat more than the head.
    fn overhead(&self) -> u64 {
        self.head + self.table + (16 << 10)
    }
}

/// What came over the network.
struct Wire {
    sent: u64,
    /// Bytes of the image's chunks that a life of the daemon was sent after an earlier one had been, of all lives.
    again: u64,
}

impl Wire {
    /// Of the requests of each life of the daemon.
    fn of(lives: &[Vec<Request>], data_at: u64) -> Self {
        let sent = lives.iter().flatten().map(|(_, sent)| sent).sum();
        let mut had: Vec<(u64, u64)> = vec![];
        let mut again = 0;
        for life in lives {
            let ranges = life.iter().map(|(first, sent)| ((*first).max(data_at), first + sent));
            let ranges: Vec<_> = ranges.filter(|(from, until)| from < until).collect();
            for (from, until) in &ranges {
                again += had.iter().map(|it| until.min(&it.1).saturating_sub(*from.max(&it.0))).sum::<u64>();
            }
            had.extend(ranges);
            had = joined(had);
        }
        Self { sent, again }
    }
}

/// The same bytes, each in one range.
fn joined(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = vec![];
    for (from, until) in ranges {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            Some(_) | None => joined.push((from, until)),
        }
    }
    joined
}

/// The power of a daemon that has nothing to do any more.
fn end(daemon: &mut Child) {
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

impl Board {
    /// The image is in slot A, and the machine has come up from there: healthy, unless it is told to be ill.
    fn runs_in_a(&self, image: &Path) {
        let slot = File::options().write(true).open(&self.loops[0]).unwrap();
        let (mut file, mut bytes, mut at) = (File::open(image).unwrap(), vec![0; 1 << 20], 0);
        loop {
            let len = file.read(&mut bytes).unwrap();
            if len == 0 {
                break;
            }
            if bytes[..len].iter().any(|byte| *byte != 0) {
                slot.write_all_at(&bytes[..len], at).unwrap();
            }
            at += len as u64;
        }
        slot.sync_all().unwrap();
        let check = self.at("health.d/10-pump");
        let ill = self.at("machine/ill");
        fs::write(
            &check,
            format!("#!/bin/sh\ntest ! -e '{}' || {{ echo no answer; exit 1; }}\n", ill.display()),
        )
        .unwrap();
        fs::set_permissions(&check, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(self.at("machine/etc/os-release"), os_release(image)).unwrap();
        // So slowly, a busy machine gets to kill it. The server is slower still, or what it sent would wait in the kernel; but
        // its limit holds for each answer alone, and most of them are short.
        let trust =
            "[trust]\nproduct = \"gateway\"\ncompatible = [\"rev-b\"]\n[download]\nrate_limit = \"400KiB\"\n";
        fs::write(self.at("conf.d/50-trust.toml"), trust).unwrap();
    }

    fn asks(&self, bundle: &Bundle) {
        assert!(bundle.len > 0);
        let url = format!("https://localhost:{}/{}", self.port, Bundle::NAME);
        run(self.twinboot().args(["install", &url]));
    }

    /// The update up to the reboot, killed on the way: the highest peak of memory, and each life's requests.
    fn update_by_bundle(&self, bundle: &Bundle, seed: u64) -> (u64, Vec<Vec<Request>>) {
        let (mut random, mut highest) = (seed | 1, 0);
        let (mut lives, mut before) = (vec![], 0);
        let mut daemon = self.start();
        self.asks(bundle);
        for _ in 0..KILLS {
            // Somewhere in the next part of what is to be fetched; half of it is left over for what runs ahead of us.
            let part = bundle.fetch / (2 * KILLS as u64);
            self.wait_for_fetched(next(&mut random) % part);
            highest = highest.max(peak(&daemon));
            end(&mut daemon);
            let requests = self.all_requests(Bundle::NAME);
            lives.push(requests[before..].to_vec());
            before = requests.len();
            daemon = self.start();
        }
        highest = highest.max(self.wait_for_reboot(&daemon));
        end(&mut daemon);
        lives.push(self.all_requests(Bundle::NAME)[before..].to_vec());
        (highest, lives)
    }

    /// Waits until this life of the daemon has put something together, and was sent so much more since it knew what it was
    /// about to fetch; the download must not be over by then.
    fn wait_for_fetched(&self, goal: u64) {
        let deadline = Instant::now() + Duration::from_secs(180);
        let mut planned = None;
        loop {
            let status = self.status();
            let phase = status["phase"].as_str().unwrap_or("idle");
            let is_before = ["idle", "accepted", "downloading"].contains(&phase);
            assert!(is_before, "too late for {goal} more: {status} {}", self.log());
            if phase == "downloading" && status["progress"]["fetched"].as_u64() > Some(0) {
                let planned = *planned.get_or_insert_with(|| self.sent());
                if self.sent() - planned >= goal {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "stuck before {goal}: {status} {}", self.log());
        }
    }

    /// The machine starts into the trial in this slot, and what runs there is judged: the slot that runs after that.
    fn judged(&mut self, slot: usize) -> usize {
        assert_eq!(self.reboot(), slot, "the trial begins");
        let mut daemon = self.start();
        let deadline = Instant::now() + Duration::from_secs(60);
        let goes_back = loop {
            if self.at("machine/reboot-requested").exists() {
                break true;
            }
            if self.status()["last"]["outcome"] == "succeeded" {
                break false;
            }
            assert!(Instant::now() < deadline, "no verdict: {}", self.log());
            std::thread::park_timeout(Duration::from_millis(20));
        };
        end(&mut daemon);
        if goes_back { self.reboot() } else { slot }
    }

    /// Nothing is under way: this slot runs and is the default, to the daemon and the loader, and the last update ended so.
    fn settles(&self, slot: &str, last: &[(&str, &str)]) {
        let mut daemon = self.start();
        let deadline = Instant::now() + Duration::from_secs(60);
        let is_so = |status: &Value| {
            status["phase"] == "idle"
                && (status["booted"] == slot && status["default"] == slot && status["trial"].is_null())
                && last.iter().all(|(name, value)| status["last"][name] == *value)
        };
        loop {
            let status = self.status();
            if is_so(&status) {
                break;
            }
            assert!(Instant::now() < deadline, "it does not settle in {slot}: {status} {}", self.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
        end(&mut daemon);
        assert_eq!((self.variable("slot"), self.variable("upgrade_available")), (slot.into(), "0".into()));
    }

    /// Under which index no bundle is taken, as the daemon has it.
    fn floor(&self) -> u64 {
        let mut daemon = self.start();
        let floor = self.status()["floor"].as_u64().unwrap();
        end(&mut daemon);
        floor
    }
}
