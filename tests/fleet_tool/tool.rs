//! The tool as a person runs it, with a hub of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use hub_emulator::{Emulator, Options};
use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_twinboot-fleet");

/// A hub, and a place with what the tool needs to talk to it.
pub(crate) struct Desk {
    pub(crate) hub: Emulator,
    pub(crate) directory: tempfile::TempDir,
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
        let hub = Emulator::start(options).unwrap();
        let desk = Self { hub, directory: tempfile::tempdir().unwrap() };
        std::fs::write(desk.path("ca.pem"), desk.hub.ca_pem()).unwrap();
        let string = desk.connection_string("iothubowner");
        desk.secret("connection-string", &string);
        desk
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

pub(crate) fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}
