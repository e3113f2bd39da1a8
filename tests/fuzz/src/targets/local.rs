//! What is on the device: its configuration, what it remembers, what its operator says, and the words they all use.

use std::fmt::{Debug, Display};
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::LazyLock;

use twinboot::config::Config;
use twinboot::control::proto;
use twinboot::durable::{Generations, Loaded};
use twinboot::model::{
    BootId, Cost, Factory, Failure, Hours, Image, Location, Origin, Request, SecretUrl, Sha256, Slot,
    Timestamp, Version, Window, Zone,
};
use twinboot::update::{Event, Facts, Record};

use super::{KIB, MIB, Target, texts};
use crate::kit::{Input, planted, text};

pub const CONFIG: Target = Target {
    name: "config",
    run: |bytes| {
        let config = match Config::from_toml(text(bytes)) {
            Ok(config) => config,
            Err(error) => return assert!(!error.problems().is_empty() && !error.to_string().is_empty()),
        };
        let told = config.to_toml();
        let again = Config::from_toml(&told).unwrap_or_else(|error| panic!("{error}\n{told}"));
        let plain = |text: &str| {
            text.lines()
                .map(|line| line.split(" # ").next().unwrap_or_default().trim_end().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(plain(&again.to_toml()), plain(&told));
        assert!(
            config.boot.tries > 0
                && config.control.socket.is_absolute()
                && config.state.directory.is_absolute()
        );
        assert!(!planted() || config.values_set() < 4);
    },
    longest: 2 * KIB,
    memory: MIB,
    seeds: || {
        texts([
            "[slots]\na = \"/dev/disk/by-partlabel/rootfs-a\"\nb = [\"PARTLABEL=boot-b\", \"PARTLABEL=rootfs-b\"]\n",
            "[slots]\na = \"/dev/a\"\nb = \"/dev/b\"\n[boot]\nloader = \"grub\"\ntries = 3\n[policy]\nwindow = \"02:00-04:30\"\ntimezone = \"UTC\"\nconsent = true\n",
            "[slots]\na = \"/a\"\nb = \"/b\"\n[hub]\nkeep_alive = \"4m\"\n[download]\nrate_limit = \"1 MiB\"\nattempts = 5\nbackoff = [\"1s\", \"1h\"]\n[report]\ndialects = [\"firmware\"]\n",
        ])
    },
    words: &[
        b"[slots]\n",
        b"[boot]\n",
        b"[hub]\n",
        b"[download]\n",
        b"[policy]\n",
        b"[health]\n",
        b"[trust]\n",
        b"[proxy]\n",
        b"[report]\n",
        b"[state]\n",
        b"[control]\n",
        b"[simulator]\n",
        b"[tls]\n",
        b"[hooks]\n",
        b"[provisioning]\n",
        b"[factory_reset]\n",
        b"root = ",
        b"loader = ",
        b"\"uboot\"",
        b"\"grub\"",
        b"\"tryboot\"",
        b"\"systemd-boot\"",
        b"\"efi\"",
        b"\"script\"",
        b"tries = ",
        b"directory = \"/",
        b"window = ",
        b"timeout = ",
        b"\"1s\"",
        b"\"1h\"",
        b"rate_limit = ",
        b"threshold = ",
        b"keys = ",
        b"url = \"http://p:1\"",
        b"no_proxy = ",
        b"\n",
        b"true",
        b"false",
    ],
};

fn facts() -> Facts {
    Facts {
        boot: BootId("1".into()),
        booted: Slot::A,
        default: Some(Slot::A),
        trial: None,
        version: None,
        booted_at: None,
        floor: None,
        overdue: None,
        factory: Factory::default(),
    }
}

/// What may happen next, and in which world.
fn event(now: &mut Facts, byte: u8) -> Event {
    now.booted = if byte & 64 == 0 { Slot::A } else { Slot::B };
    now.trial = (byte & 128 != 0).then_some(now.booted);
    now.boot = BootId(if byte & 32 == 0 { "1" } else { "2" }.to_owned());
    let image = Image { sha256: Sha256::of(b"image"), len: 5 };
    match byte % 16 {
        0 | 1 => Event::Started,
        2 => Event::Reloaded,
        3 => Event::DesiredCleared,
        4 => Event::HubReached,
        5 => Event::Retry,
        6 => Event::GoBack(Origin::Local),
        7 => Event::Cancel,
        8 => Event::Confirm,
        9 => Event::Apply(Origin::Method),
        10 => Event::Reboot,
        11 => Event::TooDear(Cost { fetch: 7, write: 7, full: 9 }),
        12 => Event::Written { image, seal: None },
        13 => Event::Failed(Failure::ReadbackMismatch.because("it differs")),
        14 => Event::Proceed,
        _ => Event::Done,
    }
}

pub const RECORD: Target = Target {
    name: "record",
    run: |bytes| {
        let mut input = Input::new(bytes);
        let (stored, events) = (input.until(0), input.take(64));
        let Ok(mut record) = Record::decode(stored) else { return };
        let encoded = record.encode();
        assert_eq!(Record::decode(&encoded).ok().as_ref(), Some(&record));
        assert!(!planted() || encoded == stored, "there is one spelling");
        let mut now = facts();
        for byte in events {
            let (event, before) = (event(&mut now, *byte), record.clone());
            if record.step(&now, Some(Timestamp(1)), event).is_err() {
                assert_eq!(record, before, "what is refused changes nothing");
            }
            assert_eq!(Record::decode(&record.encode()).ok().as_ref(), Some(&record));
        }
    },
    longest: 4 * KIB,
    memory: 256 * KIB,
    seeds: || {
        let mut asked = Record::default();
        let line = format!(
            r#"{{"request":"install","url":"https://h/x?sig=1","sha256":"{}","version":"2"}}"#,
            "ab".repeat(32)
        );
        let Ok(Request::Install(install)) = proto::parse(line.as_bytes()) else { panic!("it is one") };
        asked.step(&facts(), Some(Timestamp(1)), Event::Started).expect("a start is no request");
        asked.step(&facts(), Some(Timestamp(1)), Event::Asked(*install)).expect("it may");
        let mut rebooting = Record::default();
        rebooting.step(&facts(), None, Event::Reboot).expect("it may");
        let events = [0, 14, 12, 15, 14, 15, 0xe0, 15, 15, 13, 15];
        let seed = |record: &Record| [record.encode().as_slice(), b"\0", &events].concat();
        [Record::default(), asked, rebooting].iter().map(seed).collect()
    },
    words: &[
        b"schema",
        b"state",
        b"idle",
        b"wanted",
        b"condemned",
        b"versions",
        b"previous",
        b"spoiled",
        b"last",
        b"tuning",
        b"floor",
        b"null",
        b"\"a\"",
        b"\"b\"",
        b"steps",
        b"trials",
        b"18446744073709551615",
    ],
};

/// A directory of this process; whoever gave it the place removes it.
static PLACE: LazyLock<PathBuf> = LazyLock::new(|| {
    let place = std::env::temp_dir().join(format!("generations-{}", std::process::id()));
    fs::create_dir_all(&place).expect("it can be made");
    place
});

const ROOM: usize = 256;

pub const GENERATIONS: Target = Target {
    name: "generations",
    run: |bytes| {
        let file = PLACE.join("file");
        let mut input = Input::new(bytes);
        let (flags, new) = (input.byte(), usize::from(input.byte()));
        // Two generations, whole or damaged; with a checksum that is right where the flag says so.
        let mut halves = [(); 2].map(|()| {
            let (length, mut half) = (input.byte(), input.take(ROOM).to_vec());
            half.resize(ROOM, 0);
            if length & 1 != 0 {
                half[..8].copy_from_slice(b"twinboot");
                half[16..20].copy_from_slice(&u32::from(length >> 1).to_le_bytes());
                let end = (24 + usize::from(length >> 1)).min(ROOM);
                let crc = crc32fast::hash(&[&half[8..20], &half[24..end]].concat());
                half[20..24].copy_from_slice(&crc.to_le_bytes());
            }
            half
        });
        if flags & 1 != 0 {
            halves[1].truncate(usize::from(flags));
        }
        fs::write(&file, halves.concat()).expect("it can be written");
        let Ok(mut generations) = Generations::open(&PLACE, "file", ROOM) else { panic!("it is ours") };
        let loaded = generations.load();
        if let Loaded::Found { payload, .. } = &loaded {
            let sequence = |half: &[u8]| half.get(8..16).map(|it| Input::new(it).number(8));
            let holds = halves.iter().filter(|half| half.get(24..).is_some_and(|it| it.starts_with(payload)));
            assert!(holds.clone().count() > 0, "made up");
            if halves.iter().all(|half| half.len() == ROOM && is_whole(half)) {
                let newest = halves.iter().map(|half| sequence(half)).max().flatten();
                let oldest = halves.iter().map(|half| sequence(half)).min().flatten();
                let counts = if planted() { oldest } else { newest };
                assert!(holds.clone().any(|half| sequence(half) == counts), "not the newest");
            }
        }
        // Whatever is there, what is saved stays, and an older one is there until then.
        let payload = vec![flags | 1; new.clamp(1, ROOM - 24)];
        generations.save(&payload).expect("there is room");
        for mut reader in [generations, Generations::open(&PLACE, "file", ROOM).expect("it is ours")] {
            let Loaded::Found { payload: found, .. } = reader.load() else {
                panic!("what was saved is lost")
            };
            assert_eq!(found, payload);
        }
    },
    longest: 600,
    memory: 64 * KIB,
    seeds: || {
        let half = |length: u8, sequence: u8| {
            let mut half = vec![0; ROOM];
            half[8] = sequence;
            half[24..40].fill(sequence);
            [&[length << 1 | 1], half.as_slice()].concat()
        };
        let damaged = [&[0], [9; ROOM].as_slice()].concat();
        vec![
            [vec![0, 9], half(16, 1), half(10, 2)].concat(),
            [vec![2, 99], half(16, 5), damaged].concat(),
            vec![0, 4, 0],
        ]
    },
    words: &[b"twinboot", b"\xff\xff\xff\xff\xff\xff\xff\xff"],
};

fn is_whole(half: &[u8]) -> bool {
    let length = Input::new(&half[16..20]).number(4) as usize;
    let payload = half.get(24..24 + length.min(ROOM));
    let crc = payload.map(|payload| u64::from(crc32fast::hash(&[&half[8..20], payload].concat())));
    // There is a last number, which nobody comes to.
    half[8..16] != [0xff; 8]
        && half.starts_with(b"twinboot")
        && crc == Some(Input::new(&half[20..24]).number(4))
}

pub const CONTROL: Target = Target {
    name: "control",
    run: |bytes| {
        let Ok(request) = proto::parse(bytes) else { return };
        match &request {
            Request::Install(install) => match &install.artifact.location {
                Location::Url(url) => assert!(url.expose()[..8].eq_ignore_ascii_case("https://")),
                Location::File(path) => assert!(path.is_absolute()),
            },
            Request::WriteProperties(values) => assert!(!values.is_empty()),
            _ => {}
        }
        let line = proto::to_line(&request);
        assert!(line.iter().filter(|byte| **byte == b'\n').eq([&b'\n']) && line.ends_with(b"\n"), "one line");
        assert_eq!(proto::parse(&line), Ok(request));
        assert!(!planted() || line == bytes, "there is one spelling");
    },
    longest: KIB,
    memory: 32 * KIB,
    seeds: || {
        texts([
            r#"{"request":"status"}"#,
            r#"{"request":"install","url":"https://h/x.img","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","version":"2","size":7,"hold":true}"#,
            r#"{"request":"install","file":"/media/x.twb","unattended":true}"#,
            r#"{"request":"read-properties","names":["uptime"]}"#,
            r#"{"request":"write-properties","values":{"site":[1,{"a":null}]}}"#,
        ])
    },
    words: &[
        b"\"request\":",
        b"apply",
        b"cancel",
        b"confirm",
        b"factory-reset",
        b"install",
        b"read-properties",
        b"reboot",
        b"reload",
        b"retry",
        b"rollback",
        b"watch",
        b"write-properties",
        b"\"url\":",
        b"\"file\":\"/",
        b"\"sha256\":",
        b"\"version\":",
        b"\"size\":",
        b"\"hold\":",
        b"\"names\":[",
        b"\"values\":{",
        b"https://",
    ],
};

/// What is read is said in a way that is read as the same.
fn comes_back<T: FromStr + Display + Debug + PartialEq>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let said = value.to_string();
    assert_eq!(said.parse().ok(), Some(value), "{text:?} as {said:?}");
}

pub const WORDS: Target = Target {
    name: "words",
    run: |bytes| {
        let text = text(bytes);
        comes_back::<Window>(text);
        comes_back::<Zone>(text);
        comes_back::<Timestamp>(text);
        comes_back::<Version>(text);
        comes_back::<Sha256>(text);
        comes_back::<twinboot::proxy::Address>(text);
        comes_back::<twinboot::proxy::Exception>(text);
        comes_back::<twinboot::bundle::KeyId>(text);
        if let Ok(Hours::Within(window)) = text.parse() {
            assert!(window.from < 1440 && window.to <= 1440 && window.from != window.to);
            assert_eq!(
                (0..1440).filter(|minute| window.contains(*minute)).count(),
                usize::from((1440 + window.to - window.from) % 1440)
            );
        }
        if let Ok(Zone::Named(name)) = text.parse() {
            assert!(
                !name.as_str().split('/').any(|part| part.is_empty() || part.starts_with('.')),
                "{name:?}"
            );
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            assert!(time.0 < 253_402_300_800_000 && !(planted() && time.0 % 1000 != 0), "{time}");
        }
        if let Ok(url) = text.parse::<SecretUrl>() {
            assert!(!url.to_string().contains('#') && url.expose().starts_with(url.redacted()), "{url}");
        }
    },
    longest: 128,
    memory: 16 * KIB,
    seeds: || {
        texts([
            "02:00-04:30",
            "23:30-24:00",
            "Europe/Berlin",
            "2026-11-21T05:41:57.5Z",
            "2.8.5",
            "https://h:1/p?q#f",
            "http://proxy.example:3128",
            "http://[::1]:8",
            "10.0.0.0/8",
            "*.example.com",
            "fe80::/10",
            "sha256:E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "0123456789abcdef0123456789abcdef",
        ])
    },
    words: &[
        b"https://",
        b"http://",
        b"sha256:",
        b"T",
        b"Z",
        b":",
        b"-",
        b"/",
        b"?",
        b"#",
        b"UTC",
        b"local",
        b"none",
        b"24:00",
        b"::",
    ],
};
