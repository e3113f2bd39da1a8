//! The sections of the configuration as plain typed data, with the defaults of the shipped file.
//!
//! Not here: what a value means to an adapter (see the shipped `twinboot.toml`), and how it is read ([`super::value`]).

use std::path::PathBuf;
use std::time::Duration;

use super::loaders::{Efi, Grub, Script, SystemdBoot, Tryboot};
use crate::model::{PerSlot, Sha256, Window, Zone};

pub(super) const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// Waiting that grows: a random time up to a limit that doubles from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The limit of the first wait.
    pub first: Duration,
    /// The limit of every later wait stays below this.
    pub last: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), last: minutes(5) }
    }
}

/// `[boot]`: the bootloader.
#[derive(Clone, Debug, PartialEq)]
pub struct Boot {
    /// Which one.
    pub loader: Loader,
    /// Where U-Boot's environment is: a file in the format of `fw_printenv`.
    pub fw_env_config: PathBuf,
    /// Which of U-Boot's variables choose the slot.
    pub dialect: UbootDialect,
    /// How many boots a trial may take.
    pub tries: u32,
    /// Names and values of the dialect `upgrade_available`.
    pub upgrade_available: UpgradeAvailable,
    /// Names of the dialect `boot_order`.
    pub boot_order: BootOrder,
    /// GRUB's environment block.
    pub grub: Grub,
    /// Raspberry Pi's own bootloader.
    pub tryboot: Tryboot,
    /// systemd-boot.
    pub systemd_boot: SystemdBoot,
    /// The firmware's own boot manager.
    pub efi: Efi,
    /// A program of the board's.
    pub script: Script,
}

impl Default for Boot {
    fn default() -> Self {
        Self {
            loader: Loader::Uboot,
            fw_env_config: "/etc/fw_env.config".into(),
            dialect: UbootDialect::UpgradeAvailable,
            tries: 3,
            upgrade_available: UpgradeAvailable::default(),
            boot_order: BootOrder::default(),
            grub: Grub::default(),
            tryboot: Tryboot::default(),
            systemd_boot: SystemdBoot::default(),
            efi: Efi::default(),
            script: Script::default(),
        }
    }
}

/// The bootloaders twinboot can talk to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loader {
    /// U-Boot, by its environment.
    Uboot,
    /// GRUB, by its environment block.
    Grub,
    /// Raspberry Pi's own, by `autoboot.txt`.
    Tryboot,
    /// systemd-boot, by its EFI variables.
    SystemdBoot,
    /// The firmware's boot manager, by `BootNext` and `BootOrder`.
    Efi,
    /// Any, by a program of the board's.
    Script,
}

/// Which of U-Boot's variables choose the slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UbootDialect {
    /// U-Boot's own boot counter: `upgrade_available`, `bootcount`, `bootlimit` and a slot variable.
    UpgradeAvailable,
    /// RAUC's `BOOT_ORDER` and `BOOT_x_LEFT`.
    BootOrder,
}

/// `[boot.upgrade_available]`: names and values of that dialect.
#[derive(Clone, Debug, PartialEq)]
pub struct UpgradeAvailable {
    /// The variable that holds the slot to boot.
    pub slot_variable: String,
    /// Its value for each slot.
    pub values: PerSlot<String>,
}

impl Default for UpgradeAvailable {
    fn default() -> Self {
        Self { slot_variable: "slot".into(), values: PerSlot { a: "a".into(), b: "b".into() } }
    }
}

/// `[boot.boot_order]`: names of that dialect.
#[derive(Clone, Debug, PartialEq)]
pub struct BootOrder {
    /// Each slot's name in `BOOT_ORDER` and `BOOT_<name>_LEFT`.
    pub names: PerSlot<String>,
}

impl Default for BootOrder {
    fn default() -> Self {
        Self { names: PerSlot { a: "A".into(), b: "B".into() } }
    }
}

/// `[download]`: fetching and writing an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Download {
    /// For reaching a server, TLS included.
    pub connect_timeout: Duration,
    /// A body may be silent for this long.
    pub idle_timeout: Duration,
    /// Bytes per second, averaged over two minutes, below which a connection counts as faulty.
    pub minimum_rate: u64,
    /// Connections one update may need.
    pub attempts: u32,
    /// Time one update's download may need.
    pub time_limit: Duration,
    /// Waiting between connections.
    pub backoff: Backoff,
    /// The longest `Retry-After` that is obeyed.
    pub retry_after_limit: Duration,
    /// Redirects followed for one connection.
    pub redirects: u32,
    /// Bytes of memory a decoder may ask for.
    pub decoder_memory: u64,
    /// Bytes between two durable positions.
    pub checkpoint_every: u64,
    /// Bytes per second at most; 0 is no limit.
    pub rate_limit: u64,
    /// Bytes that one update may fetch in all; 0 is no limit.
    pub data_cap: u64,
}

impl Default for Download {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            minimum_rate: 1024,
            attempts: 20,
            time_limit: minutes(24 * 60),
            backoff: Backoff::default(),
            retry_after_limit: minutes(60),
            redirects: 5,
            decoder_memory: 64 << 20,
            checkpoint_every: 2 << 20,
            rate_limit: 0,
            data_cap: 0,
        }
    }
}

/// `[trust]`: what must vouch for an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Trust {
    /// The directory of the root keys. If there is one in it, signed bundles are installed and nothing else is.
    pub keys: PathBuf,
    /// How many root keys must have signed who may sign.
    pub threshold: u32,
    /// What this device is; a bundle names what it is for.
    pub product: Option<String>,
    /// The hardware that this device is, by any of these names; a bundle must be for one of them.
    pub compatible: Vec<String>,
    /// Accept a request's address without a digest.
    pub allow_undigested: bool,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            keys: "/etc/twinboot/keys.d".into(),
            threshold: 1,
            product: None,
            compatible: Vec::new(),
            allow_undigested: false,
        }
    }
}

/// `[policy]`: when to switch over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Only between these times of day.
    pub window: Option<Window>,
    /// In this time zone.
    pub timezone: Zone,
    /// Only after somebody agreed.
    pub consent: bool,
}

/// `[factory_reset]`: the way back to the state in which the device was made. Without an image and a program there is
/// none.
#[derive(Clone, Debug, PartialEq)]
pub struct FactoryReset {
    /// The factory's image, a file on this device.
    pub image: Option<PathBuf>,
    /// Its digest.
    pub sha256: Option<Sha256>,
    /// What makes the data as new.
    pub program: Option<PathBuf>,
    /// How long the program may take.
    pub timeout: Duration,
}

impl Default for FactoryReset {
    fn default() -> Self {
        Self { image: None, sha256: None, program: None, timeout: minutes(15) }
    }
}

/// `[report]`: what the hub is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The shapes of reported properties.
    pub dialects: Vec<ReportDialect>,
    /// Progress is told at most this often.
    pub progress_every: Duration,
    /// Send lifecycle events as telemetry.
    pub telemetry: bool,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            dialects: vec![ReportDialect::Firmware, ReportDialect::Flat],
            progress_every: Duration::from_secs(10),
            telemetry: false,
        }
    }
}

/// A shape of reported properties.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReportDialect {
    /// The object `firmware` of the firmware update tutorial.
    Firmware,
    /// `firmwareStatus` and its times at the top level.
    Flat,
    /// The object `iothubDM` of the older samples.
    IothubDm,
    /// The numbers of LwM2M's firmware update object.
    Lwm2m,
}

/// `[properties]`: what can be read and set of the device.
#[derive(Clone, Debug, PartialEq)]
pub struct Properties {
    /// The integrator's programs, one for each property.
    pub directory: PathBuf,
    /// How long one may take for one answer.
    pub timeout: Duration,
}

impl Default for Properties {
    fn default() -> Self {
        Self { directory: "/etc/twinboot/properties.d".into(), timeout: Duration::from_secs(10) }
    }
}

/// `[hooks]`: programs that take part in an update.
#[derive(Clone, Debug, PartialEq)]
pub struct Hooks {
    /// The directory of the stages' directories.
    pub directory: PathBuf,
    /// How long one may take.
    pub timeout: Duration,
    /// How long after a "not now" a stage is asked again.
    pub ask_again: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            directory: "/etc/twinboot/hooks.d".into(),
            timeout: minutes(5),
            ask_again: Duration::from_secs(30),
        }
    }
}

/// `[programs]`: how all programs of the integrator are run.
#[derive(Clone, Debug, PartialEq)]
pub struct Programs {
    /// By whom.
    pub runner: ProgramRunner,
}

impl Default for Programs {
    fn default() -> Self {
        Self { runner: ProgramRunner::Auto }
    }
}

/// Who runs the integrator's programs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProgramRunner {
    /// The service manager, if we are a service of its.
    Auto,
    /// The service manager.
    Systemd,
    /// We ourselves.
    Direct,
}

/// `[control]`: the local control socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// Where it is.
    pub socket: PathBuf,
    /// The group whose members may change things.
    pub group: String,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: "/run/twinboot/control.sock".into(), group: "twinboot".into() }
    }
}

/// `[state]`: where twinboot remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// A directory on storage that both slots share.
    pub directory: PathBuf,
}

impl Default for State {
    fn default() -> Self {
        Self { directory: "/var/lib/twinboot".into() }
    }
}

/// `[simulator]`: a device made of plain files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Simulator {
    /// The directory that stands for the machine; `None` on a real one.
    pub root: Option<PathBuf>,
}
