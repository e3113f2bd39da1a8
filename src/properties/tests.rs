#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Instant;

use super::*;

/// A machine made of files, with a directory of programs.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        let new = Self(tempfile::tempdir().unwrap());
        for (name, text) in [
            ("proc/sys/kernel/hostname", "gateway-7\n"),
            ("proc/sys/kernel/osrelease", "6.12.0-gw\n"),
            ("proc/meminfo", "MemTotal:        1019512 kB\nMemAvailable:     500000 kB\n"),
            ("proc/cpuinfo", "processor\t: 0\nSerial\t\t: 10000000abcdef01\n"),
            ("sys/firmware/devicetree/base/model", "Edge Gateway Rev C\0"),
        ] {
            new.file(name, text);
        }
        fs::create_dir_all(new.path("etc")).unwrap();
        symlink("/usr/share/zoneinfo/Europe/Berlin", new.path("etc/localtime")).unwrap();
        fs::create_dir(new.path("properties.d")).unwrap();
        mode(&new.path("properties.d"), 0o755);
        mode(new.0.path(), 0o755);
        new
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// Written by another process: had this one the file open for writing while a neighbouring test forks, running
    /// it would fail with "text file busy".
    fn hook(&self, name: &str, script: &str) {
        let path = self.path("properties.d").join(name);
        let mut writer = std::process::Command::new("/bin/sh");
        writer.args(["-c", "printf '#!/bin/sh\\n%s' \"$1\" > \"$0\""]).arg(&path).arg(script);
        assert!(writer.status().unwrap().success());
        mode(&path, 0o755);
    }

    /// A property that is kept in a file.
    fn kept(&self, name: &str, value: &str) {
        let file = self.path(name.split('.').next().unwrap());
        fs::write(&file, value).unwrap();
        let file = file.display();
        self.hook(name, &format!("case $1 in get) cat {file};; set) cat > {file};; *) exit 9;; esac"));
    }

    fn properties(&self) -> Properties {
        self.limited(Duration::from_secs(30))
    }

    fn limited(&self, timeout: Duration) -> Properties {
        let (root, directory) = (self.0.path().to_owned(), self.path("properties.d"));
        Properties::new(Settings { state: root.clone(), root, directory, timeout, runner: Runner::Direct })
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

async fn read(properties: &Properties, names: &[&str]) -> Result<Value, Refusal> {
    let known = vec![("version", Ok(json!("2.8.5"))), ("bootTime", Err("the clock is not set".to_owned()))];
    told(properties.read(names.iter().map(ToString::to_string).collect(), known).await)
}

async fn write(properties: &Properties, values: Value) -> Result<Value, Refusal> {
    told(properties.write(serde_json::from_value(values).unwrap(), Known::new()).await)
}

fn told(answer: Answer) -> Result<Value, Refusal> {
    answer.map(|granted| match granted {
        Granted::Properties(value) => value,
        other @ (Granted::Done(_) | Granted::Begun(_) | Granted::Status(_)) => panic!("{other:?}"),
    })
}

fn no(answer: Result<Value, Refusal>) -> (u16, String, String) {
    let refusal = answer.unwrap_err();
    (refusal.kind.status(), refusal.code, refusal.words)
}

#[tokio::test]
async fn the_built_in_ones_come_from_the_kernel_and_the_firmware() {
    let machine = Machine::new();
    let mut all = read(&machine.properties(), &[]).await.unwrap();
    assert!(all["freeSpace"].take().as_u64().unwrap() > 0);
    let wanted = json!({
        "freeSpace": null,
        "hostname": "gateway-7",
        "kernel": "6.12.0-gw",
        "memoryFree": 512_000_000,
        "memoryTotal": 1_043_980_288,
        "model": "Edge Gateway Rev C",
        "serial": "10000000abcdef01",
        "timeZone": "Europe/Berlin",
        "version": "2.8.5",
        "$errors": {"bootTime": "the clock is not set"},
    });
    assert_eq!(all, wanted);
}

#[tokio::test]
async fn what_is_not_there_says_so_and_the_rest_is_told() {
    let machine = Machine::new();
    fs::remove_file(machine.path("sys/firmware/devicetree/base/model")).unwrap();
    fs::write(machine.path("proc/meminfo"), "MemTotal: lots\n").unwrap();
    let told = read(&machine.properties(), &["model", "memoryTotal", "kernel"]).await.unwrap();
    assert_eq!(told["kernel"], "6.12.0-gw");
    assert!(told.get("model").is_none());
    assert!(
        told["$errors"]["model"].as_str().unwrap().contains("model cannot be read: No such file"),
        "{told}"
    );
    assert!(told["$errors"]["memoryTotal"].as_str().unwrap().ends_with("does not tell MemTotal"), "{told}");
    let (status, code, words) = no(read(&machine.properties(), &["model"]).await);
    assert_eq!((status, code.as_str()), (409, "property.failed"));
    assert!(words.starts_with("model: "), "{words}");
}

#[tokio::test]
async fn an_unknown_one_is_404_and_named() {
    let machine = Machine::new();
    let properties = machine.properties();
    for name in ["colour", "Hostname", "", "../hostname", "hostname\n"] {
        let (status, code, words) = no(read(&properties, &["kernel", name]).await);
        assert_eq!((status, code.as_str()), (404, "property.unknown"));
        assert!(words.starts_with("there is no property ") && !words.contains('\n'), "{words}");
    }
    assert_eq!(no(write(&properties, json!({"colour": 1})).await).0, 404);
}

#[tokio::test]
async fn programs_have_types_and_one_takes_the_place_of_a_built_in() {
    let machine = Machine::new();
    machine.hook("site.string", "echo 'north field'; echo noise >&2");
    machine.hook("doors.integer", "echo 4");
    machine.hook("level.number", "echo -0.25");
    machine.hook("armed.boolean", "echo true");
    machine.hook("serial.string", "echo $TWINBOOT_PROPERTY-77");
    let told = read(&machine.properties(), &["site", "doors", "level", "armed", "serial"]).await.unwrap();
    let wanted =
        json!({"site": "north field", "doors": 4, "level": -0.25, "armed": true, "serial": "serial-77"});
    assert_eq!(told, wanted);
}

#[tokio::test]
async fn a_program_that_fails_says_why() {
    let machine = Machine::new();
    machine.hook("a.string", "echo no modem >&2; exit 3");
    machine.hook("b.integer", "echo four");
    machine.hook("c.boolean", "exit 0");
    machine.hook("d.string", "head -c 5000 /dev/zero | tr '\\0' x");
    machine.hook("e.string", "printf '\\377'");
    machine.hook("f.integer", "echo 4503599627370497");
    machine.hook("g.string", "printf 'a\\nb\\n'");
    machine.hook("twice.string", "echo 1");
    machine.hook("twice.integer", "echo 1");
    machine.hook("x.colour", "echo 1");
    machine.hook("bad name.string", "echo 1");
    machine.hook("others.string", "echo 1");
    mode(&machine.path("properties.d/others.string"), 0o757);
    let told = read(&machine.properties(), &[]).await.unwrap();
    let why = |name: &str| told["$errors"][name].as_str().unwrap_or_default().to_owned();
    for (name, wanted) in [
        ("a", "its program ended with exit status: 3: no modem"),
        ("b", "what its program printed is not an integer of at most 2^52 either way"),
        ("c", "what its program printed is not true or false"),
        ("d", "its program printed more than 4096 bytes"),
        ("e", "its program printed what is not UTF-8"),
        ("f", "what its program printed is not an integer of at most 2^52 either way"),
        ("g", "what its program printed is not a string of at most 4096 bytes without control characters"),
        ("twice", "declared more than once"),
    ] {
        assert_eq!(why(name), wanted);
    }
    assert!(why("x.colour").starts_with("no property: a program here is called NAME.string"));
    assert!(why("bad name.string").starts_with("no property"));
    assert!(why("others").contains("can be written by others (mode 757)"), "{told:#}");
}

#[tokio::test]
async fn what_is_declared_so_can_be_set_and_is_read_back() {
    let machine = Machine::new();
    machine.kept("site.string.rw", "north");
    machine.kept("limit.number.rw", "1");
    let properties = machine.properties();
    assert_eq!(read(&properties, &["site"]).await.unwrap(), json!({"site": "north"}));
    let told = write(&properties, json!({"site": "south; rm -rf /", "limit": 2.5})).await.unwrap();
    assert_eq!(told, json!({"site": "south; rm -rf /", "limit": 2.5}));
    // The program has the last word on what the value is.
    machine.hook("odd.integer.rw", "case $1 in get) echo 7;; set) cat > /dev/null;; esac");
    assert_eq!(write(&properties, json!({"odd": 6})).await.unwrap(), json!({"odd": 7}));
}

#[tokio::test]
async fn nothing_is_set_unless_all_can_be() {
    let machine = Machine::new();
    machine.kept("a.string.rw", "old");
    machine.hook("fixed.string", "echo x");
    let properties = machine.properties();
    for (values, status, code, words) in [
        (json!({"a": "new", "nope": 1}), 404, "property.unknown", "there is no property nope"),
        (json!({"a": "new", "hostname": "x"}), 409, "property.read-only", "hostname can only be read"),
        (json!({"a": "new", "fixed": "x"}), 409, "property.read-only", "fixed can only be read"),
        (json!({"a": 5}), 400, "property.wrong-type", "a must be a string"),
        (json!({"a": null}), 400, "property.wrong-type", "found null"),
        (json!({"a": "two\nlines"}), 400, "property.wrong-type", "without control characters"),
        (json!({"a": "x".repeat(4097)}), 400, "property.wrong-type", "4096 bytes"),
    ] {
        let (found_status, found_code, found) = no(write(&properties, values).await);
        assert_eq!((found_status, found_code.as_str()), (status, code));
        assert!(found.contains(words), "{found}");
    }
    for (kind, wrong) in [("integer", json!(1.5)), ("boolean", json!("true")), ("number", json!("1"))] {
        machine.kept(&format!("{kind}.{kind}.rw"), "1");
        assert_eq!(no(write(&properties, json!({ kind: wrong })).await).0, 400, "{kind}");
    }
    assert_eq!(fs::read_to_string(machine.path("a")).unwrap(), "old");
}

#[tokio::test]
async fn a_program_that_refuses_says_why_and_what_was_set_before() {
    let machine = Machine::new();
    machine.kept("a.string.rw", "old");
    machine.hook("b.string.rw", "echo 'not in this country' >&2; exit 1");
    let refusal = write(&machine.properties(), json!({"a": "new", "b": "x"})).await.unwrap_err();
    assert_eq!(refusal.words, "b: its program ended with exit status: 1: not in this country");
    assert_eq!((refusal.kind.status(), &refusal.details["set"]), (409, &json!(["a"])));
    assert_eq!(fs::read_to_string(machine.path("a")).unwrap(), "new\n");
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_and_holds_up_nobody() {
    let machine = Machine::new();
    let pid = machine.path("pid");
    machine.hook("slow.string", &format!("echo $$ > {}; sleep 1000", pid.display()));
    machine.hook("quick.string", "echo 1");
    let properties = machine.limited(Duration::from_secs(2));
    let began = Instant::now();
    let told = read(&properties, &["slow", "quick"]).await.unwrap();
    assert_eq!(told["quick"], "1");
    assert_eq!(told["$errors"]["slow"], "its program did not end within 2s");
    assert!(began.elapsed() < Duration::from_secs(30));
    let pid = fs::read_to_string(pid).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "it is gone, and was waited for");
}

#[tokio::test]
async fn a_directory_that_others_can_write_is_not_used() {
    let machine = Machine::new();
    machine.hook("a.string", "touch \"$(dirname \"$0\")/../ran\"; echo x");
    mode(&machine.path("properties.d"), 0o777);
    let told = read(&machine.properties(), &[]).await.unwrap();
    assert_eq!(told["hostname"], "gateway-7");
    let why = told["$errors"][machine.path("properties.d").to_str().unwrap()].as_str().unwrap();
    assert!(why.contains("can be written by others"), "{told:#}");
    assert!(!machine.path("ran").exists());
    fs::remove_dir_all(machine.path("properties.d")).unwrap();
    assert!(read(&machine.properties(), &["kernel"]).await.is_ok(), "it need not be there");
}
