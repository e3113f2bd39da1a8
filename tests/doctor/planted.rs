//! Boards with one thing wrong each. It must be found, with its remedy, and nothing else.

use std::fs;

use super::{ARGUMENTS, Board, Checked, ROOT, symlink};
use twinboot::boot::uboot::env::{Env, Layout, encode};

/// A test: its name, what is planted, the level and the check that must tell it, and what of its words.
macro_rules! planted {
    ($($name:ident: $plant:expr => $level:literal $check:literal $words:literal;)*) => { $(
        #[test]
        fn $name() -> Checked {
            let board = Board::well()?;
            let plant: fn(&Board) -> Checked = $plant;
            plant(&board)?;
            let ills = board.ills()?;
            let [[level, check, what, remedy]] = ills.as_slice() else { panic!("not one: {ills:#?}") };
            assert_eq!((level.as_str(), check.as_str()), ($level, $check), "{what}");
            assert!(what.contains($words), "{what}");
            // Some say it all in one sentence.
            assert!(!remedy.is_empty() || what.contains(": chmod "), "{what}");
            Ok(())
        }
    )* };
}

planted! {
    slot_is_missing: |board| Ok(fs::remove_file(board.device.path("slot-b"))?)
        => "fail" "slots" "looking for slot B";
    slots_differ_in_size: |board| {
        Ok(fs::OpenOptions::new().write(true).open(board.device.path("slot-b"))?.set_len(32 << 20)?)
    } => "warn" "sizes" "slot b has 33554432";
    a_slot_is_named_in_fstab: |board| {
        let fstab = fs::read_to_string(board.machine("etc/fstab"))?;
        let slot = board.device.path("slot-a");
        board.write("etc/fstab", &format!("{} / ext4 defaults 0 1\n{fstab}", slot.display()))
    } => "warn" "fstab" "which is slot a";

    environment_is_not_described: |board| Ok(fs::remove_file(board.device.path("fw_env.config"))?)
        => "fail" "loader" "it says where U-Boot's environment is";
    environment_is_elsewhere: |board| {
        let text = fs::read_to_string(board.device.path("fw_env.config"))?;
        Ok(fs::write(board.device.path("fw_env.config"), text.replace("0x4000", "0x2000"))?)
    } => "fail" "loader" "no U-Boot environment";
    one_copy_is_lost: |board| {
        board.variables(&[])?;
        Ok(board.device.environment().corrupt(1)?)
    } => "warn" "loader" "a copy of the U-Boot environment is lost";
    both_copies_are_lost: |board| {
        board.device.environment().corrupt(0)?;
        Ok(board.device.environment().corrupt(1)?)
    } => "fail" "loader" "CRC";
    one_copy_only: |board| {
        let variables = board.device.environment().load().unwrap();
        let mut env = Env::default();
        for name in ["bootcmd", "altbootcmd", "flip_slot", "bootlimit", "slot", "twinboot_canary"] {
            env.set(name, variables.text(name));
        }
        let path = board.device.path("env-single");
        fs::write(&path, encode(Layout::Single, 0x4000, 0, &env).unwrap())?;
        Ok(fs::write(board.device.path("fw_env.config"), format!("{} 0x0 0x4000\n", path.display()))?)
    } => "warn" "loader" "not redundant";
    variables_mean_nothing: |board| board.variables(&[("slot", "c")])
        => "fail" "loader" "neither \"a\" nor \"b\"";
    loader_goes_by_other_variables: |board| board.variables(&[("slot", "b")])
        => "fail" "default" "slot A runs";
    a_trial_is_on: |board| board.variables(&[("slot", "b"), ("upgrade_available", "1")])
        => "warn" "default" "is on trial";
    no_way_back: |board| board.variables(&[("altbootcmd", "")])
        => "fail" "fallback" "there is no altbootcmd";
    way_back_is_not_saved: |board| board.variables(&[("altbootcmd", "run flip_slot; run bootcmd")])
        => "fail" "fallback" "saves nothing";
    loader_ends_at_a_prompt: |board| board.variables(&[("bootcmd", "run boot_slot")])
        => "warn" "restart" "names no reset";
    loader_waits_at_a_prompt: |board| board.variables(&[("bootdelay", "-1")])
        => "fail" "restart" "bootdelay is -1";
    loader_does_not_count: |board| board.variables(&[("bootlimit", ""), ("bootcount", "")])
        => "warn" "counter" "neither bootcount nor bootlimit";
    loader_reads_something_else: |board| board.hand_on("0123456789ab")
        => "fail" "canary" "does not read what twinboot writes";
    loader_hands_nothing_on: |board| board.write("proc/cmdline", &board.root_and_arguments())
        => "warn" "canary" "does not hand it on";
    tools_are_not_kept_out: |board| {
        let lock = board.machine("fw_printenv.lock");
        fs::remove_file(&lock)?;
        Ok(symlink("/nowhere", lock)?)
    } => "warn" "lock" "nothing keeps fw_setenv";

    panic_stands_still: |board| {
        board.write("proc/sys/kernel/panic", "0\n")?;
        without(board, "panic=10")
    } => "fail" "panic" "stands still for ever";
    panic_is_set_too_late: |board| without(board, "panic=10")
        => "warn" "panic" "not by the command line";
    no_init_leads_to_a_shell: |board| without(board, "init=/sbin/init")
        => "warn" "init" "starts a shell";
    no_watchdog: |board| Ok(fs::remove_dir_all(board.machine("sys/class/watchdog"))?)
        => "warn" "watchdog" "there is no watchdog";
    watchdog_is_not_started: |board| {
        board.write("sys/class/watchdog/watchdog0/state", "inactive\n")?;
        board.write("etc/systemd/system.conf", "[Manager]\n#RuntimeWatchdogSec=30s\nRuntimeWatchdogSec=off\n")
    } => "warn" "watchdog" "nobody starts it";
    nothing_sets_the_clock: |board| Ok(fs::remove_file(board.machine("run/systemd/timesync/synchronized"))?)
        => "warn" "clock" "nothing sets the clock";

    state_is_in_memory: |board| mounted(board, "ext4 /dev/mmcblk0p7", "tmpfs tmpfs")
        => "fail" "state" "is in memory";
    state_is_in_the_slot: |board| {
        let text = fs::read_to_string(board.machine("proc/self/mountinfo"))?;
        board.write("proc/self/mountinfo", text.lines().next().unwrap())
    } => "fail" "state" "lies in the root file system";
    state_is_never_checked: |board| table(board, "0 2", "0 0")
        => "warn" "state" "is never checked";
    state_is_mounted_by_hand: |board| table(board, "PARTLABEL", "#PARTLABEL")
        => "warn" "state" "nothing in /etc/fstab mounts";

    key_can_be_read_by_others: |board| board.mode("connection-string", 0o644)
        => "fail" "identity" "others may read it";
    nobody_is_trusted: |board| Ok(fs::write(board.device.path("ca.pem"), "no certificate")?)
        => "fail" "authorities" "no certificate in";
    health_check_can_be_changed: |board| board.mode("health.d/10-app", 0o777)
        => "fail" "programs" "not run: ";
    nobody_judges: |board| Ok(fs::remove_file(board.device.path("health.d/10-app"))?)
        => "warn" "health" "judges a new system";
    configuration_can_be_changed: |board| board.mode("twinboot.toml", 0o666)
        => "warn" "configuration" "can be written by others";
    nobody_signs: |board| Ok(fs::remove_file(board.device.path("keys.d/root.pem"))?)
        => "warn" "keys" "whoever holds the hub's credentials decides";
    root_key_can_be_exchanged: |board| board.mode("keys.d/root.pem", 0o666)
        => "fail" "keys" "root.pem can be written by others (mode 666)";
    root_key_is_damaged: |board| board.key("other.pem", &ROOT[..70])
        => "fail" "keys" "other.pem: this is no public key in PEM";
    root_key_is_private: |board| {
        board.key("other.pem", "-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n")
    } => "fail" "keys" "other.pem holds a private key";
    root_key_is_there_twice: |board| board.key("other.pem", ROOT)
        => "fail" "keys" "is the same key as";
    // The neutral element of the curve: its signature over anything is known to everybody.
    root_key_is_weak: |board| board.key("other.pem", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
        => "fail" "keys" "anybody can sign for";
    root_key_has_another_name: |board| board.key("other.pub", ROOT)
        => "warn" "keys" "other.pub is not read";
    too_few_root_keys: |board| board.configure("[trust]\nthreshold = 2\n")
        => "fail" "keys" "2 root keys must sign (trust.threshold)";
    keys_are_not_mounted: |board| Ok(fs::remove_dir_all(board.device.path("keys.d"))?)
        => "fail" "keys" "which trust.keys names, is not there";
    product_is_not_said: |board| {
        Ok(fs::write(board.device.path("conf.d/55-trust.toml"), "[trust]\ncompatible = [\"rev-b\"]\n")?)
    }
        => "fail" "product" "nothing says what this device is";
    hardware_is_not_said: |board| {
        Ok(fs::write(board.device.path("conf.d/55-trust.toml"), "[trust]\nproduct = \"gateway\"\n")?)
    }
        => "fail" "product" "nothing says what hardware this is";
    device_key_can_be_written_by_all: |board| board.mode("connection-string", 0o666)
        => "fail" "identity" "others may read it (mode 0666)";
    certificate_ends_soon: |board| board.certificate(350, 15)
        => "warn" "certificate" "in 14 days";
    certificate_has_ended: |board| board.certificate(100, -1)
        => "fail" "certificate" "no hub lets it in";
    temporary_directory_is_full: |board| {
        // A file system that never has room.
        let tmp = board.machine("tmp");
        fs::remove_dir(&tmp)?;
        Ok(symlink("/sys", tmp)?)
    } => "warn" "temporary" "is full";
    no_digest_is_asked_for: |board| board.configure("[trust]\nallow_undigested = true\n")
        => "warn" "trust" "allow_undigested";
    version_is_not_told: |board| board.write("etc/os-release", "ID=gateway\n")
        => "warn" "version" "no IMAGE_VERSION";
    service_does_not_begin: |board| {
        Ok(fs::remove_file(board.machine("etc/systemd/system/multi-user.target.wants/twinboot.service"))?)
    } => "fail" "enabled" "not enabled";
    nobody_guards_a_trial: |board| {
        Ok(symlink("/dev/null", board.machine("etc/systemd/system/twinboot-trial.timer"))?)
    } => "fail" "guard" "twinboot-trial.timer";
    no_such_group: |board| board.configure("[control]\ngroup = \"nobody-has-this-name\"\n")
        => "warn" "control" "there is no group";
}

/// Takes a word from the kernel's command line.
fn without(board: &Board, word: &str) -> Checked {
    assert!(ARGUMENTS.contains(word));
    let text = fs::read_to_string(board.machine("proc/cmdline"))?;
    board.write("proc/cmdline", &text.replace(word, ""))
}

fn mounted(board: &Board, from: &str, to: &str) -> Checked {
    let text = fs::read_to_string(board.machine("proc/self/mountinfo"))?;
    assert!(text.contains(from));
    board.write("proc/self/mountinfo", &text.replace(from, to))
}

fn table(board: &Board, from: &str, to: &str) -> Checked {
    let text = fs::read_to_string(board.machine("etc/fstab"))?;
    assert!(text.contains(from));
    board.write("etc/fstab", &text.replace(from, to))
}
