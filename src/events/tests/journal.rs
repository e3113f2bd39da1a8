//! What an operator reads with systemd's own tools, and what the manual says about it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

const PAGE: &str = include_str!("../../../packaging/manual/pages/twinboot-journal.7");

/// The lines of a section of the page.
fn section(heading: &str) -> impl Iterator<Item = &'static str> {
    let start = format!(".SH {heading}");
    PAGE.lines().skip_while(move |line| *line != start).skip(1).take_while(|line| !line.starts_with(".SH "))
}

#[test]
fn the_manual_has_just_the_fields_that_are_written() {
    let is_field = |name: &&String| name.bytes().all(|b| b == b'_' || b.is_ascii_uppercase());
    let entries = written(tell_all);
    let mut fields: Vec<_> = entries.iter().flat_map(|entry| entry.keys().filter(is_field)).collect();
    fields.sort_unstable();
    fields.dedup();
    fields.retain(|name| *name != "MESSAGE_ID");
    let lines: Vec<_> = section("FIELDS").collect();
    let items = lines.windows(2).filter(|pair| pair[0] == ".TP").map(|pair| pair[1]);
    let mut told: Vec<_> = items.filter_map(|item| item.strip_prefix(".B ")).collect();
    told.sort_unstable();
    assert_eq!(told, fields);
}

#[test]
fn the_manual_has_just_the_phases_there_are() {
    let source = include_str!("../../update/state.rs");
    let (_, names) = source.split_once("pub fn name(&self) -> &'static str {").unwrap();
    let (names, _) = names.split_once("\n    }\n").unwrap();
    let names: Vec<_> = names.lines().filter_map(|line| line.split('"').nth(1)).collect();
    let tags = section("PHASES").filter_map(|line| line.strip_prefix(".B ").or(line.strip_prefix(".BR ")));
    let told: Vec<_> =
        tags.flat_map(|tag| tag.split(" \", \" ")).map(|name| name.replace("\\-", "-")).collect();
    assert!(names.len() > 10);
    assert_eq!(told, names);
}

/// Runs itself again where /run and the catalogs are its own, plays the journal there, and lets journalctl read what
/// it was sent: every entry has its advice, and every example of the manual finds something.
#[test]
#[ignore = "peers: needs unshare, journalctl, systemd-journal-remote and jq"]
fn peers_journalctl_finds_and_explains_every_entry() {
    const NAME: &str = "events::tests::journal::peers_journalctl_finds_and_explains_every_entry";
    const CHILD: &str = "TWINBOOT_TEST_OF_JOURNALCTL";
    if std::env::var_os(CHILD).is_none() {
        let script = "for own in /run /usr/lib/systemd/catalog /var/lib/systemd/catalog; do
                          mkdir -p $own && mount -t tmpfs own $own || exit
                      done
                      mkdir -p /run/systemd/journal && exec \"$@\"";
        let mut child = Command::new("unshare");
        child.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]).env(CHILD, "1");
        child.arg(std::env::current_exe().unwrap()).args(["--exact", NAME, "--include-ignored"]);
        let output = child.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
        return;
    }
    fs::write(
        "/usr/lib/systemd/catalog/twinboot.catalog",
        include_str!("../../../packaging/twinboot.catalog"),
    )
    .unwrap();
    assert_eq!(shell("command journalctl --update-catalog"), "");
    let listed = shell("command journalctl --list-catalog");
    record(Path::new("/run/twinboot.journal"));

    for (name, id) in catalog::ALL {
        assert!(listed.contains(&format!("{id} twinboot: ")), "{name} in {listed}");
        let shown = shell(&format!("journalctl -u twinboot -x MESSAGE_ID={id}"));
        assert!(shown.contains(" Subject: ") && shown.contains(" Defined-By: twinboot"), "{name}: {shown}");
        // A field that the entry does not have would stay as it is written in the catalog.
        assert!(!shown.contains('@'), "{name}: {shown}");
    }
    let examples: String = section("EXAMPLES").map(|line| line.replace("\\-", "-") + "\n").collect();
    let examples: Vec<_> =
        examples.split(".EX\n").skip(1).map(|it| it.split_once(".EE").unwrap().0).collect();
    assert!(examples.len() > 3, "{examples:?}");
    for example in examples {
        let found = shell(&example.replace("6f1c0de99a20b517", "00ff00ff00ff00ff"));
        assert!(found.lines().count() > 0 && !found.contains("No entries"), "{example}: {found}");
    }
}

/// What a line of shell prints, in which `journalctl` reads what was recorded. It must do well and not complain.
#[track_caller]
fn shell(line: &str) -> String {
    let script =
        format!("journalctl() {{ command journalctl --file=/run/twinboot.journal \"$@\"; }}\n{line}");
    // `pipefail`, which plain sh has not everywhere.
    let output =
        Command::new("bash").args(["-o", "pipefail", "-c", &script]).env("PAGER", "cat").output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{line}: {} {complaints}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Tells every event once, and keeps what the journal gets, as an entry of the unit each, in a journal file.
fn record(file: &Path) {
    let socket = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    init(true, false);
    let sender = std::thread::spawn(tell_all);
    let mut export = Vec::new();
    for time in 0..=catalog::ALL.len() {
        let mut entry = [0; 16384];
        let length = socket.recv(&mut entry).unwrap();
        // The first is how the layer finds out whether anybody listens.
        if time > 0 {
            export.extend(
                format!("__REALTIME_TIMESTAMP={}\n", 1_700_000_000_000_000_u64 + time as u64).bytes(),
            );
            export.extend(b"_BOOT_ID=00112233445566778899aabbccddeeff\n_SYSTEMD_UNIT=twinboot.service\n");
            // What a journal is sent is what it exports, but for the end of an entry.
            export.extend(&entry[..length]);
            export.push(b'\n');
        }
    }
    sender.join().unwrap();
    let mut remote = Command::new("/lib/systemd/systemd-journal-remote");
    let mut remote =
        remote.arg("-o").arg(file).arg("-").stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    io::Write::write_all(&mut remote.stdin.take().unwrap(), &export).unwrap();
    assert!(remote.wait().unwrap().success());
}
