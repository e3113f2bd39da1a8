//! Time zones, against fixed moments, and against another reader of the same database.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::super::tzif::TimeZone;
use super::*;
use crate::model::Zone;

/// Of the 2026 edition, in the fat form: the year 2037 is the last one listed.
const BERLIN: &[u8] = include_bytes!("../zones/berlin.tzif");

fn offset(file: &[u8], time: i64) -> i32 {
    TimeZone::parse(file).unwrap().offset(time)
}

#[test]
fn a_zone_turns_when_its_file_and_then_its_rule_say() {
    for (time, minutes) in [
        // Before standard time: 53 min 28 s.
        (i64::MIN, 53),
        (-2_422_054_409, 53),
        (-2_422_054_408, 60),
        // Midsummer of 1945, two hours of saving.
        (-776_563_200, 180),
        (0, 60),
        // 2026-03-29T01:00Z and 2026-10-25T01:00Z, from the list.
        (1_774_745_999, 60),
        (1_774_746_000, 120),
        (1_792_889_999, 120),
        (1_792_890_000, 60),
        // 2100-03-28T01:00Z and 2100-10-31T01:00Z, by the rule.
        (4_109_878_799, 60),
        (4_109_878_800, 120),
        (4_128_627_599, 120),
        (4_128_627_600, 60),
    ] {
        assert_eq!(offset(BERLIN, time) / 60, minutes, "{time}");
    }
}

/// An old file of version 1 has 32-bit times and no rule; a slim one of version 2 has an empty first block.
#[test]
fn files_of_all_versions_are_read() {
    let header = |version: u8, times: u32, types: u32, chars: u32| {
        let mut header = b"TZif".to_vec();
        header.push(version);
        header.extend([0; 15]);
        for count in [0, 0, 0, times, types, chars] {
            header.extend(count.to_be_bytes());
        }
        header
    };
    let types = [&3600_i32.to_be_bytes()[..], &[0, 0], &7200_i32.to_be_bytes(), &[1, 0]].concat();
    let old = [&header(0, 1, 2, 2)[..], &100_i32.to_be_bytes(), &[1], &types, b"A\0"].concat();
    assert_eq!((offset(&old, 99), offset(&old, 100), offset(&old, i64::MAX)), (3600, 7200, 7200));
    let stub = header(b'2', 0, 1, 1);
    let block = [&header(b'2', 1, 2, 2)[..], &100_i64.to_be_bytes(), &[1], &types, b"A\0"].concat();
    let slim = [&stub[..], &[0; 7], &block, b"\n<+03>-3\n"].concat();
    assert_eq!((offset(&slim, 99), offset(&slim, 100)), (3600, 10_800), "the rule, after the last change");
    let ruleless = [&stub[..], &[0; 7], &block, b"\n\n"].concat();
    assert_eq!(offset(&ruleless, 100), 7200);
    // Cut anywhere, or with a byte that makes no sense, it is no zone, and never a panic.
    for len in 0..slim.len() {
        assert_eq!(TimeZone::parse(&slim[..len]), None, "{len}");
    }
    for at in 0..slim.len() {
        let mut bad = slim.clone();
        bad[at] ^= 0xff;
        let _ = TimeZone::parse(&bad);
    }
    for bad in [&b""[..], b"TZif", b"#!/bin/sh\n", &[0; 100]] {
        assert_eq!(TimeZone::parse(bad), None);
    }
}

/// A machine of its own, with a database of its own.
fn machine() -> (tempfile::TempDir, Host) {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("usr/share/zoneinfo/Europe");
    fs::create_dir_all(&database).unwrap();
    fs::create_dir(directory.path().join("etc")).unwrap();
    fs::write(database.join("Berlin"), BERLIN).unwrap();
    fs::write(database.join("Broken"), "TZif").unwrap();
    let host = Host::new(Some(directory.path().into()));
    (directory, host)
}

#[test]
fn the_time_of_day_is_that_of_the_zone() {
    let (directory, host) = machine();
    let zone = |name: &str| name.parse::<Zone>().unwrap();
    // 2026-07-01T22:30:59Z and 2026-12-01T22:30:59Z.
    let (summer, winter) = (Timestamp(1_782_945_059_000), Timestamp(1_796_164_259_000));
    let minute = |name: &str, at| host.minute_of_day(&zone(name), at).unwrap();
    assert_eq!((minute("UTC", summer), minute("UTC", winter)), (1350, 1350));
    assert_eq!((minute("Europe/Berlin", summer), minute("Europe/Berlin", winter)), (30, 1410));
    // Without /etc/localtime a machine is in UTC, and a change counts at once.
    assert_eq!(minute("local", summer), 1350);
    fs::write(directory.path().join("etc/localtime"), BERLIN).unwrap();
    assert_eq!(minute("local", summer), 30);
    for (name, words) in [("Europe/Paris", "No such file"), ("Europe/Broken", "is no time zone")] {
        let why = host.minute_of_day(&zone(name), summer).unwrap_err().reason().detail;
        assert!(why.contains(words) && why.contains(name), "{why}");
    }
    assert_eq!(host.zone_names(), ["Europe/Berlin", "Europe/Broken"]);
    assert!(host.knows(&zone("Europe/Berlin")) && host.knows(&zone("local")));
    assert!(!host.knows(&zone("Europe/Paris")));
}

/// Every zone of this machine's database, at every turn until 2100 and around it: Python's `zoneinfo` says the same.
#[test]
#[ignore = "peers: needs python3 and a time zone database"]
fn peers_python_has_the_same_time_of_day() {
    const SCRIPT: &str = r#"
import sys, zoneinfo, datetime as d
utc, epoch = d.timezone.utc, d.datetime(1970, 1, 1, tzinfo=d.timezone.utc)
at = lambda zone, t: int((epoch + d.timedelta(seconds=t)).astimezone(zone).utcoffset().total_seconds())
for name in sorted(zoneinfo.available_timezones()):
    zone, day = zoneinfo.ZoneInfo(name), 86400
    before = at(zone, 0)
    for t in range(0, 4102444800, 20 * day):
        now = at(zone, t + 20 * day)
        if now != before:
            low, high = t, t + 20 * day
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if at(zone, middle) == before else (low, middle)
            print(name, low, at(zone, low))
            print(name, high, at(zone, high))
        print(name, t, before)
        before = now
"#;
    let python = Command::new("python3").args(["-c", SCRIPT]).output().unwrap();
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    let (mut files, mut count) = (std::collections::HashMap::new(), 0);
    for line in String::from_utf8(python.stdout).unwrap().lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let zone = files.entry(fields[0].to_owned()).or_insert_with(|| {
            let path = Path::new("/usr/share/zoneinfo").join(fields[0]);
            TimeZone::parse(&fs::read(path).unwrap()).expect(fields[0])
        });
        let wanted: i32 = fields[2].parse().unwrap();
        assert_eq!(zone.offset(fields[1].parse().unwrap()), wanted, "{line}");
        count += 1;
    }
    println!("{} zones, {count} moments", files.len());
    assert!(files.len() > 300 && count > 1_000_000, "{count}");
}
