//! What a configuration names, looked at on this machine with the adapters' own eyes: files that are not there or that
//! others could have written, programs that would not be run, slots that are no devices. Changes nothing.
//!
//! Whoever is not root may not look at everything; what was not looked at is said.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Group;
use twinboot::config::{self, Attestation, Config, Finding};
use twinboot::hooks::Stage;
use twinboot::hub::credential::Keeper;
use twinboot::hub::keyfile::KeyFile;
use twinboot::hub::pair::PairFiles;
use twinboot::hub::{self, StringFile, registration};
use twinboot::model::Slot;
use twinboot::program;
use twinboot::secret::Guard;
use twinboot::slots::SlotMap;
use twinboot::tls::{self, Trust};

use crate::doctor;
use crate::loader::{self, Place};
use crate::settings;
use crate::way_out;

/// All that is not as the configuration has it.
pub(crate) fn all(config: &Config) -> Vec<Finding> {
    let mut found = named(config);
    let misplaced = doctor::misplaced(config);
    found.extend(misplaced.map(|(what, remedy)| Finding::warning("state.directory", what, remedy)));
    found
}

/// All but where the state lies, of which `twinboot doctor` has more to say.
pub(crate) fn named(config: &Config) -> Vec<Finding> {
    let is_root = rustix::process::geteuid().is_root();
    let is_simulated = config.simulator.root.is_some();
    let mut inspection = Inspection { config, may_look: is_root || is_simulated, found: Vec::new() };
    inspection.files();
    inspection.slots();
    inspection.bootloader();
    inspection.identity();
    inspection.network();
    inspection.trust();
    inspection.programs();
    inspection.state();
    inspection.control();
    inspection.found
}

struct Inspection<'a> {
    config: &'a Config,
    /// Whether this user may look at devices; at files it depends on each.
    may_look: bool,
    found: Vec<Finding>,
}

impl Inspection<'_> {
    /// Whoever can write the configuration decides what runs.
    fn files(&mut self) {
        let directory = self.config.path.with_file_name("conf.d");
        let drop_ins = fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<_> = drop_ins.collect();
        files.extend([self.config.path.clone(), directory]);
        files.sort();
        let us = rustix::process::geteuid().as_raw();
        for file in files {
            let Ok(metadata) = fs::metadata(&file) else { continue };
            let shown = file.display();
            if metadata.mode() & 0o022 != 0 {
                let what = format!("{shown} can be written by others (mode {:o})", metadata.mode() & 0o7777);
                self.found.push(Finding::warning("the configuration", what, format!("chmod go-w {shown}")));
            } else if metadata.uid() != 0 && metadata.uid() != us {
                let what = format!("{shown} belongs to user {}", metadata.uid());
                self.found.push(Finding::warning("the configuration", what, format!("chown root: {shown}")));
            }
        }
    }

    fn slots(&mut self) {
        let slots = SlotMap::new(settings::slots(self.config));
        let remedy =
            "name this system's two root file systems, by names that stay: ls -l /dev/disk/by-partlabel";
        for (slot, key) in [(Slot::A, "slots.a"), (Slot::B, "slots.b")] {
            if let Err(error) = slots.check(slot) {
                self.found.push(Finding::error(key, error.reason().detail, remedy));
            }
        }
        if let Err(error) = slots.booted(&settings::root(self.config)) {
            let what = format!("no A/B slot is booted: {}", error.reason().detail);
            self.found.push(Finding::error("slots", what, remedy));
        }
    }

    fn bootloader(&mut self) {
        let Place { key, what, missing, damaged } = loader::place(self.config);
        let mut bootloader = match loader::open(self.config) {
            Ok(bootloader) => bootloader,
            Err(error) => return self.found.push(Finding::error(key, error.reason().detail, missing)),
        };
        if !self.may_look {
            return self.found.push(Finding::unseen(key, what));
        }
        match bootloader.view() {
            Ok(view) => {
                let warnings = view.warnings.into_iter();
                self.found.extend(warnings.map(|warning| Finding::warning(key, warning, damaged)));
            }
            Err(error) => self.found.push(Finding::error(key, error.reason().detail, missing)),
        }
    }

    /// Who says who this device is.
    fn identity(&mut self) {
        let Config { hub, provisioning, .. } = self.config;
        let pair = hub.certificate_file.as_deref().zip(hub.private_key_file.as_deref());
        let pair = pair.and_then(|(certificate, key)| {
            let key = self.secret("hub.private_key_file", key)?;
            Some(PairFiles::new(place(certificate), key, Guard::default()))
        });
        if let (Some(_), Some(id)) = (&provisioning.id_scope, &provisioning.registration_id) {
            let registration = registration::resolve(id, &settings::root(self.config));
            if let Err(error) = &registration {
                let remedy = "name the device by an id of its own";
                self.found.push(Finding::error("provisioning.registration_id", error.clone(), remedy));
            }
            return self.attestation(registration.unwrap_or_default(), pair);
        }
        const KEY: &str = "hub.connection_string_file";
        let file = place(&hub.connection_string_file);
        if fs::metadata(&file).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            let what = format!("there is no hub: {} is not there", file.display());
            let remedy = format!(
                "write the device's connection string to it: install -m 600 /dev/stdin {}",
                file.display()
            );
            return self.found.push(Finding::warning(KEY, what, remedy));
        }
        if let Some(file) = self.secret(KEY, &hub.connection_string_file) {
            let pair = pair.map(|pair| Box::new(pair) as Box<dyn Keeper>);
            if let Err(error) = StringFile::new(file, Guard::default(), pair).identity() {
                self.found.push(Finding::error(KEY, error, "copy it anew from the hub"));
            }
        }
    }

    fn attestation(&mut self, registration: String, pair: Option<PairFiles>) {
        let from = &self.config.provisioning;
        let (key, keeper): (_, Option<Box<dyn Keeper>>) = match from.attestation {
            Attestation::X509 => ("hub.certificate_file", pair.map(|pair| Box::new(pair) as _)),
            Attestation::SymmetricKey | Attestation::GroupKey => {
                const KEY: &str = "provisioning.symmetric_key_file";
                let file = self.secret(KEY, &from.symmetric_key_file);
                let is_group = from.attestation == Attestation::GroupKey;
                let keeper = file.map(|file| {
                    let guard = Guard::default();
                    let file = if is_group {
                        KeyFile::of_group(file, guard, registration)
                    } else {
                        KeyFile::of_device(file, guard)
                    };
                    Box::new(file) as _
                });
                (KEY, keeper)
            }
        };
        if let Some(Err(error)) = keeper.map(|mut keeper| keeper.credential()) {
            self.found.push(Finding::error(key, error, "copy it anew from where the device was enrolled"));
        }
        if let Some(file) = &from.payload_file {
            self.readable("provisioning.payload_file", &place(file));
        }
    }

    fn network(&mut self) {
        if let Some(file) = &self.config.proxy.credentials_file
            && let Some(file) = self.secret("proxy.credentials_file", file)
            && let Err(error) = Guard::default().read(&file, "the proxy's password")
        {
            self.found.push(Finding::error("proxy.credentials_file", error.to_string(), ""));
        }
        let settings = tls::Settings {
            ca_files: self.config.tls.ca_files.clone(),
            system_roots: self.config.tls.system_roots,
            clock: tls::ClockFloor {
                believed_from: Duration::from_millis(hub::CLOCK_FLOOR.0),
                otherwise: Duration::from_millis(hub::CLOCK_FLOOR.0),
            },
        };
        let problem = match Trust::new(settings) {
            Ok(trust) => trust.problem().map(str::to_owned),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem {
            let remedy = "apt install ca-certificates, or name PEM files with certificate authorities";
            self.found.push(Finding::error("tls.ca_files", problem, remedy));
        }
    }

    /// Whose signatures count, and for what.
    fn trust(&mut self) {
        const KEY: &str = "trust.keys";
        let trust = &self.config.trust;
        let keyring = match settings::keyring(self.config) {
            Ok(keyring) => keyring,
            Err(faults) => {
                let faults = faults.into_iter().map(|it| Finding::error(KEY, it.what, it.remedy));
                return self.found.extend(faults);
            }
        };
        for file in keyring.passed_over() {
            let what = format!("{} is not read: its name does not end in .pem", file.display());
            self.found.push(Finding::warning(KEY, what, "rename it if it is a key, or remove it"));
        }
        if keyring.roots().is_empty() {
            let what = format!(
                "no root key in {}: whoever holds the hub's credentials decides what this device runs",
                trust.keys.display()
            );
            let remedy = "put your root keys there, and sign what you roll out: man twinboot-bundle";
            return self.found.push(Finding::warning(KEY, what, remedy));
        }
        let files = keyring.files().iter().map(|(id, file)| {
            let name = file.file_name().unwrap_or_default().display();
            format!("{name} ({id})")
        });
        let files: Vec<_> = files.collect();
        let what = format!("{} of these must sign: {}", trust.threshold, files.join(", "));
        self.found.push(Finding::note(KEY, what));
        let product = trust.product.is_none().then_some(("trust.product", "what this device is"));
        let hardware = trust.compatible.is_empty().then_some(("trust.compatible", "what hardware this is"));
        if let (Some(product), None) = (&trust.product, hardware) {
            let what = format!("this is {product} on {}", trust.compatible.join(", "));
            self.found.push(Finding::note("trust.product", what));
        }
        for (key, word) in product.into_iter().chain(hardware) {
            let what =
                format!("nothing says {word}: a bundle that is signed for another one would be installed");
            self.found.push(Finding::error(key, what, "set it as your bundles have it"));
        }
    }

    fn programs(&mut self) {
        let Config { health, hooks, properties, factory_reset, .. } = self.config;
        if !health.directory.is_dir() {
            let what = format!("{} is not there: no program judges a new system", health.directory.display());
            let remedy = "make it, and a program in it that knows whether the gateway does its work";
            self.found.push(Finding::warning("health.directory", what, remedy));
        }
        let stages = Stage::ALL.map(|stage| ("hooks.directory", hooks.directory.join(stage.name())));
        let others = [
            ("health.directory", health.directory.clone()),
            ("properties.directory", properties.directory.clone()),
        ];
        self.unknown_stages(&hooks.directory);
        for (key, directory) in others.into_iter().chain(stages) {
            let programs = match program::list(&directory) {
                Ok(programs) => programs,
                Err(why) => {
                    self.found.push(Finding::error(key, why, "it and what is above it are root's alone"));
                    continue;
                }
            };
            let refused = programs.into_iter().filter_map(|(_, program)| program.err());
            self.found.extend(refused.map(|why| Finding::error(key, format!("not run: {why}"), "")));
        }
        if let Some(program) = &factory_reset.program
            && let Err(why) = program::is_trusted(program)
        {
            self.found.push(Finding::error("factory_reset.program", format!("not run: {why}"), ""));
        }
        if let Some(image) = &factory_reset.image {
            self.readable("factory_reset.image", image);
        }
    }

    /// A hook in a directory that is no stage's would never run.
    fn unknown_stages(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if Stage::ALL.iter().all(|stage| name != stage.name()) {
                let what =
                    format!("{} is no stage of an update: nothing in it is run", entry.path().display());
                let remedy = format!("the stages are {}", Stage::ALL.map(Stage::name).join(", "));
                self.found.push(Finding::warning("hooks.directory", what, remedy));
            }
        }
    }

    fn state(&mut self) {
        const KEY: &str = "state.directory";
        let directory = &self.config.state.directory;
        let shown = directory.display();
        let shared = "mount a small partition there that both slots share, from /etc/fstab";
        match fs::metadata(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let what = format!("{shown} is not there yet; it is made when the daemon starts");
                self.found.push(Finding::warning(KEY, what, shared));
            }
            Err(error) => self.found.push(Finding::unseen(KEY, format!("{shown}: {error}"))),
            Ok(metadata) if !metadata.is_dir() => {
                self.found.push(Finding::error(KEY, format!("{shown} is no directory"), "remove it"));
            }
            Ok(_) => {}
        }
        let is_read_only = rustix::fs::statvfs(directory)
            .is_ok_and(|it| it.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
        if is_read_only {
            let what =
                format!("{shown} is on a file system that is mounted read-only: nothing would be begun");
            self.found.push(Finding::error(KEY, what, "mount it writable"));
        }
    }

    fn control(&mut self) {
        let group = &self.config.control.group;
        if matches!(Group::from_name(group), Ok(None)) {
            let what = format!("there is no group {group}: only root may change things");
            self.found.push(Finding::warning("control.group", what, format!("groupadd --system {group}")));
        }
    }

    fn readable(&mut self, key: &'static str, file: &Path) {
        match File::open(file) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.found.push(Finding::unseen(key, file.display().to_string()));
            }
            Err(error) => {
                let what = format!("{} cannot be read: {error}", file.display());
                self.found.push(Finding::error(key, what, "write it, or name another"));
            }
        }
    }

    /// Where a secret is, if this user may read it.
    fn secret(&mut self, key: &'static str, file: &Path) -> Option<PathBuf> {
        let before = self.found.len();
        let file = place(file);
        self.readable(key, &file);
        (self.found.len() == before).then_some(file)
    }
}

/// Where a file is, outside of the service; or where it is looked for last.
pub(crate) fn place(file: &Path) -> PathBuf {
    let mut candidates = config::candidates(file, None);
    let last = candidates.pop().unwrap_or_else(|| file.to_owned());
    candidates.into_iter().find(|path| way_out::is_there(path)).unwrap_or(last)
}
