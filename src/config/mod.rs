//! The configuration: typed, checked once, and able to say where each value came from.
//!
//! It is one TOML file, `twinboot.toml`, and the drop-ins in `conf.d/` beside it. The shipped file shows every key
//! with its default and is the reference for what each means. This module does not open devices, look for
//! credentials or resolve names: `main` turns the sections into the adapters' own settings. The command line's
//! verbs use it to find the control socket.
//!
//! An unknown key is an error, never a warning: a gateway whose operator wrote `consentt = true` must not switch
//! over at noon because of a typing slip.

mod check;
mod file;
mod finding;
mod health;
mod loaders;
mod nearest;
mod network;
mod print;
mod sections;
mod slots;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub use finding::{Finding, Weight};
pub use health::{Health, HubCheck, UnitsCheck};
pub use loaders::{Efi, Grub, Script, SystemdBoot, Tryboot};
pub use network::{Attestation, Hub, Provisioning, Proxy, Tls, Transport, candidates};
pub use sections::{
    Backoff, Boot, BootOrder, Control, Download, FactoryReset, Hooks, Loader, Policy, ProgramRunner,
    Programs, Properties, Report, ReportDialect, Simulator, State, Trust, UbootDialect, UpgradeAvailable,
};
pub use slots::{Parts, Slots};
use value::Value;

/// The whole configuration. [`Config::default`] is what the shipped file says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The connection to the hub.
    pub hub: Hub,
    /// Who says which hub it is.
    pub provisioning: Provisioning,
    /// The way out.
    pub proxy: Proxy,
    /// Whom to trust on the network.
    pub tls: Tls,
    /// The two root file systems.
    pub slots: Slots,
    /// The bootloader.
    pub boot: Boot,
    /// Fetching and writing an image.
    pub download: Download,
    /// What must vouch for an image.
    pub trust: Trust,
    /// How a new system proves itself.
    pub health: Health,
    /// Programs that take part in an update.
    pub hooks: Hooks,
    /// When to switch over.
    pub policy: Policy,
    /// The way back to the factory's state.
    pub factory_reset: FactoryReset,
    /// What the hub is told.
    pub report: Report,
    /// What can be read and set of the device.
    pub properties: Properties,
    /// How all programs of the integrator are run.
    pub programs: Programs,
    /// The local control socket.
    pub control: Control,
    /// Where twinboot remembers.
    pub state: State,
    /// A device made of plain files.
    pub simulator: Simulator,
    /// The file it was read from; empty for the defaults.
    pub path: PathBuf,
    /// Where the values that some file set came from.
    origins: BTreeMap<&'static str, Origin>,
}

impl Config {
    /// Where the configuration is when nobody says otherwise.
    pub const PATH: &'static str = "/etc/twinboot/twinboot.toml";

    /// Reads `path`, then `conf.d/*.toml` beside it in the order of their names; later files win key by key.
    ///
    /// # Errors
    /// Everything that is wrong in any of the files, each with file and line, not only the first.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Ok(Self { path: path.to_owned(), ..Self::from_sources(&file::sources(path)?)? })
    }

    /// Reads a configuration that is one text, such as [`Config::to_toml`] makes.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        Self::from_sources(&[file::Source { file: PathBuf::new(), text: text.to_owned() }])
    }

    /// As much of it as can be understood: what is wrong, or in a file that cannot be read, is as if it were not there.
    /// For what must be done whatever the configuration is like: above all, for daemon and command line to meet at the
    /// same socket, and say what is wrong. Nothing is ever updated by it.
    pub fn understood(path: &Path) -> Self {
        let mut config = Self { path: path.to_owned(), ..Self::default() };
        for source in file::readable(path) {
            source.apply(&mut config, &mut Vec::new());
        }
        let defaults = Self::default();
        for (found, default) in [
            (&mut config.control.socket, defaults.control.socket),
            (&mut config.state.directory, defaults.state.directory),
            (&mut config.boot.fw_env_config, defaults.boot.fw_env_config),
            (&mut config.boot.grub.environment, defaults.boot.grub.environment),
            (&mut config.boot.tryboot.autoboot, defaults.boot.tryboot.autoboot),
            (&mut config.boot.script.program, defaults.boot.script.program),
        ] {
            if !found.is_absolute() {
                *found = default;
            }
        }
        config
    }

    /// Where the value of `key` (such as `hub.keep_alive`) was set; `None` if it is the default.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.get(key)
    }

    /// How many values were set by a file.
    pub fn values_set(&self) -> usize {
        self.origins.len()
    }

    /// The effective configuration as TOML, each value that is set by a file with a note where.
    pub fn to_toml(&self) -> String {
        print::toml(self)
    }

    fn from_sources(sources: &[file::Source]) -> Result<Self, Error> {
        let mut config = Self::default();
        let mut problems = Vec::new();
        for source in sources {
            source.apply(&mut config, &mut problems);
        }
        if problems.is_empty() {
            check::all(&config, &mut problems);
        }
        if problems.is_empty() { Ok(config) } else { Err(Error { problems }) }
    }

    /// One row per key: THE list of what may be written in a configuration file, in the order it is printed.
    fn each(&mut self, f: &mut dyn FnMut(&'static str, &mut dyn Value)) {
        self.each_of_the_way_out(f);
        self.each_of_the_device(f);
        self.each_of_an_update(f);
    }

    /// Slots and bootloader.
    fn each_of_the_device(&mut self, f: &mut dyn FnMut(&'static str, &mut dyn Value)) {
        f("slots.a", &mut self.slots.devices.a);
        f("slots.b", &mut self.slots.devices.b);
        f("boot.loader", &mut self.boot.loader);
        f("boot.fw_env_config", &mut self.boot.fw_env_config);
        f("boot.dialect", &mut self.boot.dialect);
        f("boot.tries", &mut self.boot.tries);
        f("boot.upgrade_available.slot_variable", &mut self.boot.upgrade_available.slot_variable);
        f("boot.upgrade_available.a", &mut self.boot.upgrade_available.values.a);
        f("boot.upgrade_available.b", &mut self.boot.upgrade_available.values.b);
        f("boot.boot_order.a", &mut self.boot.boot_order.names.a);
        f("boot.boot_order.b", &mut self.boot.boot_order.names.b);
        f("boot.grub.environment", &mut self.boot.grub.environment);
        f("boot.grub.a", &mut self.boot.grub.names.a);
        f("boot.grub.b", &mut self.boot.grub.names.b);
        f("boot.tryboot.autoboot", &mut self.boot.tryboot.autoboot);
        f("boot.tryboot.a", &mut self.boot.tryboot.partitions.a);
        f("boot.tryboot.b", &mut self.boot.tryboot.partitions.b);
        f("boot.systemd_boot.a", &mut self.boot.systemd_boot.entries.a);
        f("boot.systemd_boot.b", &mut self.boot.systemd_boot.entries.b);
        f("boot.efi.a", &mut self.boot.efi.entries.a);
        f("boot.efi.b", &mut self.boot.efi.entries.b);
        f("boot.script.program", &mut self.boot.script.program);
        f("boot.script.timeout", &mut self.boot.script.timeout);
        f("boot.script.a", &mut self.boot.script.names.a);
        f("boot.script.b", &mut self.boot.script.names.b);
    }

    /// How it is updated, and who is told.
    fn each_of_an_update(&mut self, f: &mut dyn FnMut(&'static str, &mut dyn Value)) {
        f("download.connect_timeout", &mut self.download.connect_timeout);
        f("download.idle_timeout", &mut self.download.idle_timeout);
        f("download.minimum_rate", &mut self.download.minimum_rate);
        f("download.attempts", &mut self.download.attempts);
        f("download.time_limit", &mut self.download.time_limit);
        f("download.backoff", &mut self.download.backoff);
        f("download.retry_after_limit", &mut self.download.retry_after_limit);
        f("download.redirects", &mut self.download.redirects);
        f("download.decoder_memory", &mut self.download.decoder_memory);
        f("download.checkpoint_every", &mut self.download.checkpoint_every);
        f("download.rate_limit", &mut self.download.rate_limit);
        f("download.data_cap", &mut self.download.data_cap);
        f("trust.keys", &mut self.trust.keys);
        f("trust.threshold", &mut self.trust.threshold);
        f("trust.product", &mut self.trust.product);
        f("trust.compatible", &mut self.trust.compatible);
        f("trust.allow_undigested", &mut self.trust.allow_undigested);
        f("health.deadline", &mut self.health.deadline);
        f("health.directory", &mut self.health.directory);
        f("health.check_timeout", &mut self.health.check_timeout);
        f("health.hub", &mut self.health.hub);
        f("health.units", &mut self.health.units);
        f("health.ignore_units", &mut self.health.ignore_units);
        f("hooks.directory", &mut self.hooks.directory);
        f("hooks.timeout", &mut self.hooks.timeout);
        f("hooks.ask_again", &mut self.hooks.ask_again);
        f("policy.window", &mut self.policy.window);
        f("policy.timezone", &mut self.policy.timezone);
        f("policy.consent", &mut self.policy.consent);
        f("factory_reset.image", &mut self.factory_reset.image);
        f("factory_reset.sha256", &mut self.factory_reset.sha256);
        f("factory_reset.program", &mut self.factory_reset.program);
        f("factory_reset.timeout", &mut self.factory_reset.timeout);
        f("report.dialects", &mut self.report.dialects);
        f("report.progress_every", &mut self.report.progress_every);
        f("report.telemetry", &mut self.report.telemetry);
        f("properties.directory", &mut self.properties.directory);
        f("properties.timeout", &mut self.properties.timeout);
        f("programs.runner", &mut self.programs.runner);
        f("control.socket", &mut self.control.socket);
        f("control.group", &mut self.control.group);
        f("state.directory", &mut self.state.directory);
        f("simulator.root", &mut self.simulator.root);
    }

    /// The way out: who the device is, its hub, the proxy, whom to trust.
    fn each_of_the_way_out(&mut self, f: &mut dyn FnMut(&'static str, &mut dyn Value)) {
        f("hub.connection_string_file", &mut self.hub.connection_string_file);
        f("hub.certificate_file", &mut self.hub.certificate_file);
        f("hub.private_key_file", &mut self.hub.private_key_file);
        f("hub.transport", &mut self.hub.transport);
        f("hub.websocket_port", &mut self.hub.websocket_port);
        f("hub.keep_alive", &mut self.hub.keep_alive);
        f("hub.token_lifetime", &mut self.hub.token_lifetime);
        f("hub.backoff", &mut self.hub.backoff);
        f("provisioning.id_scope", &mut self.provisioning.id_scope);
        f("provisioning.registration_id", &mut self.provisioning.registration_id);
        f("provisioning.endpoint", &mut self.provisioning.endpoint);
        f("provisioning.attestation", &mut self.provisioning.attestation);
        f("provisioning.symmetric_key_file", &mut self.provisioning.symmetric_key_file);
        f("provisioning.payload_file", &mut self.provisioning.payload_file);
        f("proxy.url", &mut self.proxy.url);
        f("proxy.credentials_file", &mut self.proxy.credentials_file);
        f("proxy.no_proxy", &mut self.proxy.no_proxy);
        f("tls.ca_files", &mut self.tls.ca_files);
        f("tls.system_roots", &mut self.tls.system_roots);
    }

    /// Every key there is.
    fn keys() -> Vec<&'static str> {
        let mut keys = Vec::new();
        Self::default().each(&mut |key, _| keys.push(key));
        keys
    }

    /// Sets `key`, one of [`Config::keys`], from a file's value.
    fn set(&mut self, key: &str, value: &toml::de::DeValue<'_>) -> Result<(), String> {
        let mut result = Ok(());
        self.each(&mut |name, field| {
            if name == key {
                result = field.set(value);
            }
        });
        result
    }
}

/// A line of a configuration file, shown as `file:line`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from one.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Why there is no configuration: all that is wrong, one line each.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    problems: Vec<Problem>,
}

impl Error {
    /// What is wrong, in the order of files and lines.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

/// One thing wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A file or the drop-in directory cannot be read. The message carries the cause, since a list of problems has
    /// no one source.
    #[error("{}: cannot be read: {cause}", file.display())]
    Unreadable {
        /// The file or directory.
        file: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The file is not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser says.
        message: String,
    },
    /// There is no such key.
    #[error("{origin}: unknown key {key:?}{hint}")]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// The key with its sections.
        key: String,
        /// `; did you mean …?`, or empty.
        hint: String,
    },
    /// The value is not one this key can have.
    #[error("{}{key} {message}", origin.as_ref().map(|o| format!("{o}: ")).unwrap_or_default())]
    Value {
        /// Where; `None` if only defaults are involved.
        origin: Option<Origin>,
        /// The key with its sections.
        key: String,
        /// What is wanted, and what was found.
        message: String,
    },
}
