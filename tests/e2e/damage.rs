//! Damaged environments and state.

use std::fs;

use super::support::{Checked, Happening, Slot};
use super::{Bench, LIMIT, MIB, V1, V2};

#[test]
fn p091_one_damaged_copy_of_the_environment_is_survived_told_and_healed() -> Checked {
    for copy in [0, 1] {
        let bench = Bench::off("")?;
        bench.device.environment().corrupt(copy)?;
        assert_eq!(bench.device.environment().sound_copies(), 1);
        bench.device.power_on()?;
        bench.says("a copy of the U-Boot environment is lost", 0)?;
        bench.update("2.0.0", &V2)?;
        bench.settled(Slot::B, &V2)?;
        assert_eq!(bench.device.environment().sound_copies(), 2);
        // What is not ours is as it was.
        let variables = bench.device.environment().load().unwrap();
        assert_eq!(variables.text("serial#"), "0042");
        assert_eq!(variables.text("altbootcmd"), "run flip_slot; saveenv; run boot_slot");
    }
    Ok(())
}

#[test]
fn p092_without_any_environment_nothing_is_installed_and_the_report_says_why() -> Checked {
    let bench = Bench::off("")?;
    for copy in [0, 1] {
        bench.device.environment().corrupt(copy)?;
    }
    bench.device.power_on()?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    let reported = bench.fails("error", "boot.unreadable")?;
    let why = reported["firmware"]["fwUpdateSubstatus"].as_str().unwrap();
    assert!(why.contains("no U-Boot environment") && why.contains("env0"), "{why}");
    assert_eq!(bench.cloud.requests(&image), []);
    assert!(bench.device.slot_bytes(Slot::B, 4 * MIB)?.iter().all(|byte| *byte == 0), "slot b was written");
    assert_eq!(bench.device.environment().sound_copies(), 0, "no environment was invented");
    assert_eq!((bench.device.booted(), bench.device.boots()), (Some(Slot::A), 1));
    Ok(())
}

/// Settings that do not lead to the environment: nothing is fetched for them, and nothing written to what they lead to.
#[test]
fn p093_where_the_environment_is_not_found_nothing_is_begun() -> Checked {
    for wrong in ["missing", "size", "device"] {
        let bench = Bench::off("")?;
        let file = bench.device.path("fw_env.config");
        let text = fs::read_to_string(&file)?;
        match wrong {
            "missing" => fs::remove_file(&file)?,
            "size" => fs::write(&file, text.replace("0x4000", "0x2000"))?,
            _ => fs::write(&file, text.replace("/env0", "/slot-b").replace("/env1", "/slot-b"))?,
        }
        let variables = bench.device.environment().load();
        bench.device.power_on()?;
        let image = bench.publish("2.0.0", &V2);
        bench.cloud.desire(image.desired())?;
        bench.fails("error", "boot.unreadable")?;
        bench.is_untouched()?;
        assert_eq!(bench.device.environment().load(), variables, "{wrong}");
    }
    Ok(())
}

/// Somebody, or a script of the board, set the loader's variables as if the running system was on trial, and what it would
/// go back to is an empty slot.
#[test]
fn p113_a_trial_that_somebody_set_by_hand_is_told_and_costs_no_system() -> Checked {
    let bench = Bench::new()?;
    bench.device.power_cut();
    let mut variables = bench.device.environment().load().unwrap();
    variables.set("upgrade_available", "1");
    variables.set("bootcount", "1");
    bench.device.environment().save(&variables)?;
    let from = bench.device.now();
    bench.cloud.idle_after(|| bench.device.power_on())?;
    let told = |it: &Happening| matches!(it, Happening::Said(line) if line.contains("on trial"));
    bench.device.wait("a word about it", from, LIMIT, |it| told(it).then_some(()))?;
    assert_eq!(bench.device.booted(), Some(Slot::A), "{}", bench.device.tail());
    bench.update("2.0.0", &V2)?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn p081_without_its_state_the_daemon_starts_anew_from_what_the_bootloader_says() -> Checked {
    let bench = Bench::new()?;
    bench.update("2.0.0", &V2)?;
    bench.device.power_cut();
    fs::remove_dir_all(bench.device.path("state"))?;
    fs::create_dir(bench.device.path("state"))?;
    bench.cloud.idle_after(|| bench.device.power_on())?;
    // The wish is new to it, and it runs already.
    bench.reports("it is up to date", |it| it["fwUpdateSubstatus"] == "Firmware already up to date")?;
    bench.settled(Slot::B, &V2)
}

#[test]
fn p081_damaged_state_in_mid_download_costs_the_download_and_nothing_else() -> Checked {
    let bench = Bench::new()?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.slow(&image, 2 << 20);
    bench.cloud.desire(image.desired())?;
    bench.cloud.wait_sent(&image, 1 << 20, LIMIT)?;
    bench.device.power_cut();
    for entry in fs::read_dir(bench.device.path("state"))? {
        let path = entry?.path();
        let mut bytes = fs::read(&path)?;
        bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        fs::write(&path, bytes)?;
    }
    bench.cloud.emulator.faults().clear();
    bench.device.power_on()?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)?;
    assert_eq!(bench.device.slot_bytes(Slot::A, V1.len())?, *V1);
    Ok(())
}

#[test]
fn p085_what_could_not_be_remembered_is_not_begun() -> Checked {
    let bench = Bench::off("")?;
    let state = bench.device.path("state");
    fs::remove_dir(&state)?;
    // Root can write anywhere, but not below a file.
    fs::write(&state, "in the way")?;
    bench.device.power_on()?;
    let image = bench.publish("2.0.0", &V2);
    bench.cloud.desire(image.desired())?;
    bench.fails("error", "state.unwritable")?;
    bench.is_untouched()?;
    fs::remove_file(&state)?;
    fs::create_dir(&state)?;
    // It tries again by itself.
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)
}
