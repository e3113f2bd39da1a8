//! What lies in the state directory, whatever it is, and where it lies.

use std::fs;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::support::{Checked, Slot};
use super::{Bench, LIMIT, LONG, MIB, V1, V2};

/// Bytes without a meaning, the same each time.
fn noise(len: usize) -> Vec<u8> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let bytes = std::iter::repeat_with(|| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as u8
    });
    bytes.take(len).collect()
}

#[test]
fn p081_whatever_lies_in_the_state_directory_it_starts_says_so_and_updates() -> Checked {
    let bench = Bench::new()?;
    let state = bench.device.path("state");
    for (what, bytes) in [
        ("a kilobyte", noise(1 << 10)),
        ("a megabyte", noise(1 << 20)),
        ("all ones", vec![0xff; 64 << 10]),
        ("text", b"schema = 1\n".to_vec()),
    ] {
        bench.device.stop_daemon()?;
        let mut files = 0;
        for entry in fs::read_dir(&state)? {
            fs::write(entry?.path(), &bytes)?;
            files += 1;
        }
        assert!(files >= 1, "there is no state to spoil");
        let from = bench.device.now();
        let began = Instant::now();
        bench.cloud.idle_after(|| bench.device.start_daemon())?;
        println!("{what}: started, connected and idle after {:?}", began.elapsed());
        bench.says("record of updates recovered", from)?;
        let warnings = bench.device.status()?["warnings"].clone();
        assert!(warnings.to_string().contains("record of updates recovered"), "{what}: {warnings}");
    }
    // Emptied, and not there at all: as on the first day, which is nothing to warn of.
    bench.device.stop_daemon()?;
    for entry in fs::read_dir(&state)? {
        fs::write(entry?.path(), "")?;
    }
    bench.cloud.idle_after(|| bench.device.start_daemon())?;
    bench.device.stop_daemon()?;
    fs::remove_dir_all(&state)?;
    bench.cloud.idle_after(|| bench.device.start_daemon())?;
    bench.update("2.0.0", &V2)?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn p089_what_is_no_longer_wanted_is_not_gone_on_with() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &LONG);
    bench.cloud.slow(&image, 2 << 20);
    bench.cloud.desire(image.desired())?;
    bench.cloud.wait_sent(&image, 3 << 20, LIMIT)?;
    bench.device.power_cut();
    bench.cloud.desire(Value::Null)?;
    bench.device.power_on()?;
    let cancelled = "Update to 2.0.0 cancelled";
    bench.reports(cancelled, |it| it["fwUpdateSubstatus"] == cancelled)?;
    bench.reconnects_idle()?;
    assert_eq!((bench.device.boots(), bench.device.default()), (2, Some(Slot::A)));
    assert!(bench.cloud.requests(&image).iter().all(|request| !request.complete));
    // Another one is not in its way, nor is the same one once more.
    bench.update("3.0.0", &super::V3)?;
    bench.settled(Slot::B, &super::V3)
}

/// A file system of its own, for as long as it lives.
struct Mount(std::path::PathBuf);

impl Mount {
    fn new(path: std::path::PathBuf, size: &str) -> Self {
        run(
            "mount",
            &["-t", "tmpfs", "-o", &format!("size={size},mode=0755"), "tmpfs", path.to_str().unwrap()],
        );
        Self(path)
    }

    fn remount(&self, how: &str) {
        run("mount", &["-o", &format!("remount,{how}"), self.0.to_str().unwrap()]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Without a panic of its own, should it be gone already.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}

/// Full before anything was kept there: nothing is begun. Full, or no longer writable, when a trial runs: it comes to its
/// end all the same, and is told.
#[test]
#[ignore = "peers: needs root and mount"]
fn peers_p085_a_full_or_read_only_state_directory_begins_nothing_and_ends_what_runs() -> Checked {
    let bench = Bench::off("")?;
    let mount = Mount::new(bench.device.path("state"), "1m");
    let filler = bench.device.path("state/filler");
    let filled = fs::write(&filler, vec![1; 2 * MIB]);
    assert!(filled.is_err(), "it is not full");
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    let reported = bench.fails("error", "state.unwritable")?;
    let words = reported["firmware"]["fwUpdateSubstatus"].to_string();
    assert!(words.contains("No space left"), "{words}");
    bench.is_untouched()?;
    fs::remove_file(&filler)?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)?;
    // Room was taken beforehand for all that is kept from now on: a full disk is no obstacle any more.
    let _ = fs::write(&filler, vec![1; 2 * MIB]);
    bench.holds_trials_until("go")?;
    let image = bench.publish("3.0.0", &super::V3);
    let from = bench.device.now();
    bench.cloud.desire(image.desired())?;
    let on_trial = |status: &Value| status["phase"] == "confirming" && status["booted"] == "a";
    bench.device.wait_status("slot a on trial", from, LIMIT, on_trial)?;
    // The daemon of the trial finds it like this at its start as well.
    bench.device.stop_daemon()?;
    mount.remount("ro");
    bench.device.start_daemon()?;
    fs::write(bench.device.path("go"), "")?;
    bench.runs("3.0.0")?;
    bench.settled(Slot::A, &super::V3)?;
    let next = bench.publish("4.0.0", &V1);
    bench.cloud.desire(next.desired())?;
    bench.fails("error", "state.unwritable")?;
    assert_eq!(bench.cloud.requests(&next), []);
    bench.settled(Slot::A, &super::V3)
}

/// A slot that is a file, on a file system without room for it.
#[test]
#[ignore = "peers: needs root and mount"]
fn peers_p078_a_slot_without_room_fails_the_update_and_arms_nothing() -> Checked {
    let bench = Bench::off("")?;
    let place = bench.device.path("small");
    fs::create_dir(&place)?;
    let _mount = Mount::new(place.clone(), "1m");
    let (slot, real) = (bench.device.path("slot-b"), place.join("slot"));
    let size = fs::metadata(&slot)?.len();
    fs::File::create(&real)?.set_len(size)?;
    fs::remove_file(&slot)?;
    std::os::unix::fs::symlink(&real, &slot)?;
    bench.device.power_on()?;
    bench.runs("1.0.0")?;
    let variables = bench.device.environment().load();
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    let reported = bench.fails("error", "target.io")?;
    let words = reported["firmware"]["fwUpdateSubstatus"].to_string();
    assert!(words.contains("No space left"), "{words}");
    assert_eq!(bench.device.environment().load(), variables, "nothing was armed");
    assert_eq!(bench.device.boots(), 1);
    bench.settled(Slot::A, &V1)
}
