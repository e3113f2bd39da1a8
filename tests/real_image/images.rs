//! Images of real Debian systems. They are made once, and kept below `target/peers`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SLOT;
use super::tools::run;

/// What makes two runs of the makers of file systems write the same.
const EPOCH: (&str, &str) = ("SOURCE_DATE_EPOCH", "1750000000");
const UUID: &str = "2f0d9f4e-0c5b-4c86-9a35-6a1c1d7f0b52";
/// Of the pair: a gateway with some things to talk with.
const GATEWAY: &str = "systemd,systemd-sysv,dbus,python3,git,vim,iproute2,openssh-server,perl,curl,nginx-light,gnupg,\
                       sqlite3,mosquitto,network-manager";
/// For the system as it was released: the sources of newer packages are left out.
const AS_RELEASED: &str = r#"--setup-hook=sed -i -E "/-(updates|security)/d" "$1/etc/apt/sources.list""#;
/// What no device has.
const LEFT_OUT: [&str; 2] = ["var/cache/apt", "var/lib/apt/lists"];

/// Where they are, and what keeps others from making them at the same time.
fn home() -> (PathBuf, File) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../peers/images");
    fs::create_dir_all(&directory).unwrap();
    let directory = directory.canonicalize().unwrap();
    let lock = File::create(directory.join("lock")).unwrap();
    lock.lock().unwrap();
    (directory, lock)
}

/// The image and its two compressed forms, made once.
pub(crate) fn images() -> PathBuf {
    let (directory, _lock) = home();
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

/// A directory with `v1` and `v2`: the system as it was released, and with all packages that are newer; each as
/// `.ext4`, of the size of a slot, and as `.squashfs`. What they are called is in their `IMAGE_VERSION`: 1.0.0, 2.0.0.
pub(crate) fn pair() -> PathBuf {
    let (directory, _lock) = home();
    let (pair, complete) = (directory.join("pair"), directory.join("pair/complete"));
    // Whoever changes what they are made of gets other ones.
    let made_of = format!("{GATEWAY} {AS_RELEASED} {UUID} {EPOCH:?} {SLOT}");
    if fs::read_to_string(&complete).is_ok_and(|text| text == made_of) {
        return pair;
    }
    println!("building a pair of Debian images, once");
    let _ = fs::remove_dir_all(&pair);
    fs::create_dir(&pair).unwrap();
    for (name, version, hook) in [("v1", "1.0.0", Some(AS_RELEASED)), ("v2", "2.0.0", None)] {
        let tree = pair.join(name);
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.env(EPOCH.0, EPOCH.1).args(["--quiet", "--variant=minbase", "--format=directory"]);
        mmdebstrap.arg(format!("--include={GATEWAY}")).args(hook);
        run(mmdebstrap.arg("bookworm").arg(&tree));
        for path in LEFT_OUT {
            let _ = fs::remove_dir_all(tree.join(path));
        }
        let release = tree.join("usr/lib/os-release");
        let text = fs::read_to_string(&release).unwrap();
        fs::write(&release, format!("{text}IMAGE_VERSION=\"{version}\"\n")).unwrap();
        run(Command::new("mke2fs")
            .env(EPOCH.0, EPOCH.1)
            .args(["-q", "-t", "ext4", "-b", "4096", "-U", UUID])
            .args(["-E", &format!("hash_seed={UUID},lazy_itable_init=0"), "-d"])
            .arg(&tree)
            .arg(pair.join(format!("{name}.ext4")))
            .arg((SLOT / 4096).to_string()));
        run(Command::new("mksquashfs")
            .env(EPOCH.0, EPOCH.1)
            .arg(&tree)
            .arg(pair.join(format!("{name}.squashfs")))
            .args(["-comp", "zstd", "-noappend", "-quiet", "-no-progress"]));
        fs::remove_dir_all(&tree).unwrap();
    }
    fs::write(&complete, made_of).unwrap();
    pair
}

/// What the system in a slot or an image calls itself: its `os-release`.
pub(crate) fn os_release(image: &Path) -> String {
    let mut magic = [0; 4];
    std::io::Read::read_exact(&mut File::open(image).unwrap(), &mut magic).unwrap();
    if magic == *b"hsqs" {
        run(Command::new("unsquashfs").arg("-cat").arg(image).arg("usr/lib/os-release"))
    } else {
        run(Command::new("debugfs").args(["-R", "cat /usr/lib/os-release"]).arg(image))
    }
}
