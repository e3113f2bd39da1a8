//! The tool as a person runs it, with a hub of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_emulator::device::Recipe;
use hub_emulator::fleet::{Fleet, FleetOptions, Standing};
use hub_emulator::{Emulator, Options};
use serde_json::{Value, json};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_twinboot-fleet");

/// A hub, and a place with what the tool needs to talk to it.
pub(crate) struct Desk {
    pub(crate) hub: Arc<Emulator>,
    pub(crate) directory: tempfile::TempDir,
}

/// A hub with simulated devices, each with the real daemon.
pub(crate) struct Park {
    /// Ended first.
    pub(crate) fleet: Fleet,
    pub(crate) desk: Desk,
}

/// What the tool did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let hub = Arc::new(Emulator::start(options).unwrap());
        let desk = Self { hub, directory: tempfile::tempdir().unwrap() };
        std::fs::write(desk.path("ca.pem"), desk.hub.ca_pem()).unwrap();
        let string = desk.connection_string("iothubowner");
        desk.secret("connection-string", &string);
        desk
    }

    /// With another handle of its hub, for those who play devices.
    pub(crate) fn shared() -> (Self, Arc<Emulator>) {
        let desk = Self::new();
        let hub = Arc::clone(&desk.hub);
        (desk, hub)
    }

    /// A policy's connection string, with the port.
    pub(crate) fn connection_string(&self, policy: &str) -> String {
        let string = self.hub.policy_connection_string(policy).unwrap();
        string.replacen("localhost", &format!("localhost:{}", self.hub.https_port()), 1)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file for its owner alone.
    pub(crate) fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The program with nothing in its environment but where things are.
    pub(crate) fn bare(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.env_clear().env("HOME", self.directory.path()).current_dir(self.directory.path());
        command.env("TWINBOOT_CA_FILE", self.path("ca.pem")).stdin(Stdio::null());
        command
    }

    /// A shell that has what the tool needs in its environment.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.env_clear().env("HOME", self.directory.path()).current_dir(self.directory.path());
        command.env("TWINBOOT_CA_FILE", self.path("ca.pem")).stdin(Stdio::null());
        command.env("TWINBOOT_CONNECTION_STRING_FILE", self.path("connection-string")).args(["-c", line]);
        command
    }

    /// The program, ready to talk to the hub.
    pub(crate) fn tool(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare();
        command.env("TWINBOOT_CONNECTION_STRING_FILE", self.path("connection-string")).args(arguments);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.tool(arguments).output().unwrap())
    }

    /// The same, which must go well; what it printed.
    #[track_caller]
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert!(ran.status == 0 && ran.err.is_empty(), "{arguments:?}: {ran:#?}");
        ran.out
    }

    /// The same, each line read as JSON.
    #[track_caller]
    pub(crate) fn lines(&self, arguments: &[&str]) -> Vec<Value> {
        self.good(arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Park {
    /// Devices that run 1.0.0, are connected and have nothing to do. Their maker declared a property `site`, and a
    /// factory reset.
    pub(crate) fn new(ids: &[&str]) -> Self {
        let desk = Desk::new();
        let script = |name: &str, text: &str| {
            let path = desk.secret(name, text);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::set_permissions(path.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let site = desk.secret("site", "north");
        let text = format!("#!/bin/sh\ncase $1 in get) cat {0} ;; set) cat >{0} ;; esac\n", site.display());
        let properties = script("properties.d/site.string.rw", &text);
        let reset = script("reset/as-new", "#!/bin/sh\nexit 0\n");
        let config = format!(
            "[properties]\ndirectory = \"{}\"\n[factory_reset]\nprogram = \"{}\"\n",
            properties.parent().unwrap().display(),
            reset.display()
        );
        let mut fleet = Fleet::new(FleetOptions {
            program: env!("CARGO_BIN_EXE_twinboot").into(),
            factory: Recipe::good("1.0.0", 1 << 17).make(),
            ca: desk.hub.ca_pem().to_owned(),
            config,
            slot_size: 4 << 20,
            reset: Duration::ZERO,
        })
        .unwrap();
        for id in ids {
            let connection = desk.hub.create_device(id, json!({"devicetype": "gateway"})).unwrap();
            let port = format!(":{};DeviceId=", desk.hub.mqtt_port());
            fleet.add(id, &connection.replacen(";DeviceId=", &port, 1)).unwrap();
        }
        let mut park = Self { fleet, desk };
        park.idle();
        park
    }

    /// Waits until every device is connected and has nothing to do, and has said nothing else for a moment: what it
    /// has just accepted is told here a little later than to the hub.
    pub(crate) fn idle(&mut self) {
        const MOMENT: Duration = Duration::from_millis(300);
        let begun = Instant::now();
        let mut since = Instant::now();
        loop {
            self.fleet.look();
            let standing: Vec<_> =
                self.fleet.members().iter().map(|member| member.standing().clone()).collect();
            // One that holds an image waits for us.
            let waits = |standing: &Standing| standing.connected && standing.phase == "staged";
            if !standing.iter().all(|standing| standing.is_idle() || waits(standing)) {
                since = Instant::now();
            } else if since.elapsed() > MOMENT {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{standing:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until every device has booted since it had booted so often.
    pub(crate) fn rebooted(&mut self, before: &[u32]) {
        let begun = Instant::now();
        while self.boots().iter().zip(before).any(|(now, before)| now <= before) {
            assert!(begun.elapsed() < Duration::from_secs(60), "still {before:?} boots");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn boots(&mut self) -> Vec<u32> {
        self.fleet.look();
        self.fleet.members().iter().map(|member| member.standing().boots).collect()
    }

    /// Puts an image on the image server and a copy beside the tool; the arguments that name it.
    pub(crate) fn publish(&self, recipe: &Recipe) -> Vec<String> {
        let name = format!("gateway-{}.squashfs", recipe.version);
        let bytes = recipe.make();
        std::fs::write(self.desk.path(&name), &bytes).unwrap();
        let uri = self.desk.hub.images().put(&name, bytes);
        ["--version-label", &recipe.version, "--uri", &uri, "--image", &name].map(str::to_owned).to_vec()
    }
}

pub(crate) fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}
