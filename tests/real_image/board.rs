//! A simulated machine whose slots are loop devices, whose bootloader's variables are those of U-Boot's own tools, and
//! whose images come from nginx.

use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use super::SLOT;
use super::images::os_release;
use super::server::{connections, nginx};
use super::tools::run;

/// One request for a file: its first byte, and how many bytes were sent.
pub(crate) type Request = (u64, u64);

/// The machine. Its devices and its server go away with it.
pub(crate) struct Board {
    directory: tempfile::TempDir,
    pub(crate) loops: [String; 2],
    server: Child,
    pub(crate) port: u16,
    boots: u32,
}

/// A daemon that does not outlive a test that fails: it would hold the test's output, for which everybody waits.
pub(crate) struct Daemon(Child);

impl Deref for Daemon {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Board {
    /// Its files are made below `parent`. What is in `served` is sent with `rate` KiB a second: slow enough for the daemon
    /// to start many times before the end. It runs from slot A.
    pub(crate) fn new(parent: &Path, served: &Path, rate: u32) -> Self {
        let directory = tempfile::tempdir_in(parent).unwrap();
        let at = |name: &str| directory.path().join(name);
        let loops = ["a", "b"].map(|name| {
            let file = at(name);
            File::create(&file).unwrap().set_len(SLOT).unwrap();
            run(Command::new("losetup").args(["--find", "--show"]).arg(&file))
        });
        for directory in
            ["machine/proc/sys/kernel/random", "machine/etc", "state", "health.d", "keys.d", "conf.d"]
        {
            fs::create_dir_all(at(directory)).unwrap();
        }
        fs::write(at("machine/proc/cmdline"), format!("root={} ro\n", loops[0])).unwrap();
        fs::write(at("machine/proc/sys/kernel/random/boot_id"), "boot-1\n").unwrap();
        let env = ["env0", "env1"].map(|name| {
            File::create(at(name)).unwrap().set_len(16 << 10).unwrap();
            format!("{} 0 0x4000\n", at(name).display())
        });
        fs::write(at("fw_env.config"), env.concat()).unwrap();
        fs::write(at("defaults"), "slot=a\nupgrade_available=0\nbootcount=0\nbootlimit=3\n").unwrap();
        let (server, port) = nginx(directory.path(), served, rate);
        let config = format!(
            "[hub]\nconnection_string_file = \"{d}/none\"\n[tls]\nca_files = [\"{d}/ca.pem\"]\nsystem_roots = false\n\
             [slots]\na = \"{}\"\nb = \"{}\"\n[boot]\nfw_env_config = \"{d}/fw_env.config\"\n[download]\nbackoff = [\"100ms\", \"1s\"]\n\
             [trust]\nkeys = \"{d}/keys.d\"\n\
             [health]\ndirectory = \"{d}/health.d\"\n[control]\nsocket = \"{d}/control.sock\"\n[state]\ndirectory = \"{d}/state\"\n\
             [simulator]\nroot = \"{d}/machine\"\n",
            loops[0],
            loops[1],
            d = directory.path().display()
        );
        fs::write(at("twinboot.toml"), config).unwrap();
        let board = Self { directory, loops, server, port, boots: 1 };
        // Both copies.
        for _ in 0..2 {
            board.set(&["touched", "1"]);
        }
        board
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn twinboot(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twinboot"));
        command.arg("--config").arg(self.at("twinboot.toml"));
        command
    }

    pub(crate) fn start(&self) -> Daemon {
        let log = File::options().append(true).create(true).open(self.at("log")).unwrap();
        let daemon = Daemon(self.twinboot().args(["run", "--verbose"]).stderr(log).spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.at("control.sock").exists()
            || !self.twinboot().arg("status").output().unwrap().status.success()
        {
            assert!(Instant::now() < deadline, "no control socket: {}", self.log());
            std::thread::yield_now();
        }
        daemon
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    /// What the daemon says of itself; null if it does not.
    pub(crate) fn status(&self) -> Value {
        let output = self.twinboot().args(["status", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Peak memory of the daemon in KiB when it asked for the reboot.
    pub(crate) fn wait_for_reboot(&self, daemon: &Child) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(300);
        while !self.at("machine/reboot-requested").exists() {
            assert!(Instant::now() < deadline, "no reboot: {}", self.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
        peak(daemon)
    }

    /// The machine starts anew, by the rules of U-Boot's counter and the usual `altbootcmd`, from the slot that is
    /// returned: 0 for A. No daemon runs.
    pub(crate) fn reboot(&mut self) -> usize {
        let tries = self.number("bootcount") + 1;
        let mut slot = self.variable("slot");
        if self.number("upgrade_available") != 0 {
            if tries <= self.number("bootlimit") {
                self.set(&["bootcount", &tries.to_string()]);
            } else {
                slot = if slot == "a" { "b" } else { "a" }.to_owned();
                for (name, value) in [("slot", slot.as_str()), ("upgrade_available", "0"), ("bootcount", "0")]
                {
                    self.set(&[name, value]);
                }
            }
        }
        let slot = usize::from(slot == "b");
        self.boots += 1;
        let now = clock_gettime(ClockId::Boottime);
        for (name, text) in [
            ("proc/cmdline", format!("root={} ro\n", self.loops[slot])),
            ("proc/sys/kernel/random/boot_id", format!("boot-{}\n", self.boots)),
            ("booted-at", format!("{}.{:09}\n", now.tv_sec, now.tv_nsec)),
            ("etc/os-release", os_release(Path::new(&self.loops[slot]))),
        ] {
            fs::write(self.at("machine").join(name), text).unwrap();
        }
        let _ = fs::remove_file(self.at("machine/reboot-requested"));
        slot
    }

    /// One of the loader's variables; empty if there is none.
    pub(crate) fn variable(&self, name: &str) -> String {
        let output = self.environment("fw_printenv").args(["-n", name]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn number(&self, name: &str) -> u32 {
        self.variable(name).parse().unwrap()
    }

    fn set(&self, words: &[&str]) {
        run(self.environment("fw_setenv").args(words));
    }

    fn environment(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.at("fw_env.config")).arg("-f").arg(self.at("defaults"));
        command
    }

    /// How many bytes the server has written by now, as the kernel counts: what it sent, and hardly anything else.
    pub(crate) fn sent(&self) -> u64 {
        let counters = fs::read_to_string(format!("/proc/{}/io", self.server.id())).unwrap();
        counters.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
    }

    /// Each request for the image, at least so many, from the server's log. The server writes a line when it has noticed
    /// that the client is gone, so that the last ones may take a moment.
    pub(crate) fn requests(&self, file: &str, expected: usize) -> Vec<Request> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let requests = self.logged(file);
            if requests.len() >= expected || Instant::now() > deadline {
                return requests;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Each request for the image until now. No daemon runs; the server has noticed that, or is waited for.
    pub(crate) fn all_requests(&self, file: &str) -> Vec<Request> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while connections(self.port) > 0 {
            assert!(Instant::now() < deadline, "the server still has connections");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self.logged(file)
    }

    fn logged(&self, file: &str) -> Vec<Request> {
        let log = fs::read_to_string(self.at("access.log")).unwrap();
        let request = |line: &str| {
            let mut words = line.split('|').skip(1);
            let range = words.next().unwrap().trim_start_matches("bytes=");
            let first = range.split('-').next().unwrap().parse();
            (first.unwrap_or(0), words.next().unwrap().parse().unwrap())
        };
        log.lines().filter(|line| line.contains(file)).map(request).collect()
    }

    /// Slot B holds this image at its beginning.
    pub(crate) fn slot_holds(&self, image: &Path) {
        let len = fs::metadata(image).unwrap().len();
        let mut slot = BufReader::with_capacity(1 << 20, File::open(&self.loops[1]).unwrap());
        let mut image = BufReader::with_capacity(1 << 20, File::open(image).unwrap());
        let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        for at in (0..len).step_by(1 << 20) {
            let len = (len - at).min(1 << 20) as usize;
            slot.read_exact(&mut a[..len]).unwrap();
            image.read_exact(&mut b[..len]).unwrap();
            assert!(a[..len] == b[..len], "the slot differs from the image in MiB {}", at >> 20);
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        for device in &self.loops {
            let _ = Command::new("losetup").args(["--detach", device]).status();
        }
    }
}

/// Peak memory of a process in KiB, as the kernel has it.
pub(crate) fn peak(process: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
