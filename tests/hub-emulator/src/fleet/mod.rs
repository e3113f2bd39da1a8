//! A fleet: many simulated devices at once, each with the real daemon, its own disk and its own identity. Used by
//! `hub-emulator fleet` and by tests.
//!
//! It does not register devices and does not print: whoever has the hub gives a connection string for each device,
//! and asks how they are.

mod member;
mod remote;
mod samples;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::device::{Checked, Options, Sides, SimDevice};

pub use member::{Member, Memory, Standing};
pub use remote::RemoteHub;
pub use samples::{Sample, samples};

/// How many devices are ended at a time.
const AT_ONCE: usize = 16;

/// How the devices of a fleet shall be.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// The daemon's program.
    pub program: PathBuf,
    /// The image in slot A of each.
    pub factory: Vec<u8>,
    /// The certificate authority to trust, in PEM.
    pub ca: String,
    /// A drop-in for each configuration.
    pub config: String,
    /// Bytes of each slot. The files are sparse: they take what is written.
    pub slot_size: u64,
    /// How long a reset takes.
    pub reset: Duration,
}

/// Simulated devices, switched on. Dropping it switches them off and removes their files.
#[derive(Debug)]
pub struct Fleet {
    options: FleetOptions,
    members: Vec<Member>,
    /// Dropped after the members, whose directories are in it.
    directory: TempDir,
}

impl Fleet {
    /// A fleet without devices.
    ///
    /// # Errors
    /// If there can be no directory for it.
    pub fn new(options: FleetOptions) -> Checked<Fleet> {
        let directory = tempfile::Builder::new().prefix("hub-emulator-fleet-").tempdir()?;
        Ok(Fleet { options, members: Vec::new(), directory })
    }

    /// Makes one more device and gives it power. `connection` is its connection string, with the hub's port.
    ///
    /// # Errors
    /// Those of [`SimDevice::new`] and [`SimDevice::power_on`].
    pub fn add(&mut self, id: &str, connection: &str) -> Checked {
        let FleetOptions { program, factory, ca, config, slot_size, reset } = &self.options;
        let device = SimDevice::new(&Options {
            directory: Some(self.directory.path()),
            name: id,
            config,
            slot_size: *slot_size,
            reset: *reset,
            // Hundreds of supervisors that look every few milliseconds would be most of what the machine does.
            attention: Duration::from_millis(100),
            journal: Some(200),
            // As many processes as devices are enough for one machine.
            sides: Sides::One,
            ..Options::new(program, factory, connection, ca)
        })?;
        let member = Member::new(id, device);
        member.device().power_on()?;
        self.members.push(member);
        Ok(())
    }

    /// The devices, in the order in which they were made.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Takes note of what happened to each device since; their numbers, if anything of their standing changed.
    pub fn look(&mut self) -> Vec<usize> {
        let changed = self.members.iter_mut().map(Member::look);
        changed.enumerate().filter(|(_, changed)| *changed).map(|(at, _)| at).collect()
    }

    /// What the daemons said since this was last asked for, with the ids of their devices.
    pub fn take_lines(&mut self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for member in &mut self.members {
            let lines = member.take_lines();
            all.extend(lines.into_iter().map(|line| (member.id().to_owned(), line)));
        }
        all
    }

    /// Where the devices' files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Fleet {
    /// In order: each daemon is asked to end, as at a shutdown of its machine.
    fn drop(&mut self) {
        while !self.members.is_empty() {
            let rest = self.members.len().saturating_sub(AT_ONCE);
            thread::scope(|scope| {
                for member in self.members.drain(rest..) {
                    scope.spawn(move || {
                        // One that does not end is killed when it is dropped.
                        let _ = member.device().stop_daemon();
                        drop(member);
                    });
                }
            });
        }
    }
}
