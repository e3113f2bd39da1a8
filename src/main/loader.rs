//! Which bootloader this board has: the one place where its adapter is chosen. What else depends on the loader is here,
//! too: which setting says where its variables are, and what to do when they cannot be read.

use std::path::PathBuf;

use twinboot::boot::efi::{self, Efi};
use twinboot::boot::grub::{self, Grub};
use twinboot::boot::script::{self, Script};
use twinboot::boot::tryboot::{self, Tryboot};
use twinboot::boot::uboot::{self, UBoot};
use twinboot::boot::{Bootloader, Error};
use twinboot::config::{self, Config, Loader};
use twinboot::model::PerSlot;
use twinboot::program::Runner;

use crate::settings;

/// Opens the adapter, for whoever only looks: a program of the board's, if it is one, is run by ourselves.
///
/// # Errors
/// If its settings, or what they name, cannot be used.
pub(crate) fn open(config: &Config) -> Result<Box<dyn Bootloader>, Error> {
    open_with(config, Runner::Direct)
}

/// Opens the adapter. The loader's variables themselves are only touched by its methods.
///
/// # Errors
/// As for [`open`].
pub(crate) fn open_with(config: &Config, runner: Runner) -> Result<Box<dyn Bootloader>, Error> {
    Ok(match config.boot.loader {
        Loader::Uboot => Box::new(UBoot::open(uboot(config))?),
        Loader::Grub => Box::new(Grub::open(grub(config))?),
        Loader::Tryboot => Box::new(Tryboot::open(tryboot(config))?),
        Loader::SystemdBoot => Box::new(Efi::open(efi(
            config,
            efi::Manager::SystemdBoot(config.boot.systemd_boot.entries.clone()),
        ))?),
        Loader::Efi => Box::new(Efi::open(efi(config, firmware(&config.boot.efi)?))?),
        Loader::Script => Box::new(Script::open(script(config, runner))?),
    })
}

/// What a person is told about the loader's variables.
pub(crate) struct Place {
    /// The setting that says where they are.
    pub(crate) key: &'static str,
    /// What they are called.
    pub(crate) what: &'static str,
    /// What to do when they cannot be found or read.
    pub(crate) missing: String,
    /// What to do when one copy of them is damaged.
    pub(crate) damaged: &'static str,
}

/// Where the variables of this board's loader are.
pub(crate) fn place(config: &Config) -> Place {
    match config.boot.loader {
        Loader::Uboot => Place {
            key: "boot.fw_env_config",
            what: "U-Boot's environment",
            missing: format!(
                "say in {} which device, offset and size each copy of U-Boot's environment has, as for fw_printenv",
                config.boot.fw_env_config.display()
            ),
            damaged: "save it once more from U-Boot or by fw_setenv",
        },
        Loader::Grub => Place {
            key: "boot.grub.environment",
            what: "GRUB's environment block",
            missing: format!(
                "make {} with the variables that grub.cfg wants, as told at its beginning",
                config.boot.grub.environment.display()
            ),
            damaged: "put the block where GRUB can save to it",
        },
        Loader::Tryboot => Place {
            key: "boot.tryboot.autoboot",
            what: "autoboot.txt",
            missing: format!(
                "mount the disk's first partition, so that {} is the file by which the firmware chooses",
                config.boot.tryboot.autoboot.display()
            ),
            damaged: "see what it says of the file and of the firmware",
        },
        Loader::SystemdBoot => Place {
            key: "boot.systemd_boot.a",
            what: "systemd-boot's EFI variables",
            missing: "boot by systemd-boot, and name the default entry once: bootctl set-default".to_owned(),
            damaged: "set them anew by bootctl",
        },
        Loader::Efi => Place {
            key: "boot.efi.a",
            what: "the EFI variables of the boot manager",
            missing: "boot by EFI, and name the entries of both slots as efibootmgr shows them".to_owned(),
            damaged: "set them anew by efibootmgr",
        },
        Loader::Script => Place {
            key: "boot.script.program",
            what: "the bootloader's program",
            missing: format!(
                "{} must answer get-primary with the name of a slot",
                config.boot.script.program.display()
            ),
            damaged: "see what it says",
        },
    }
}

fn uboot(config: &Config) -> uboot::Settings {
    let boot = &config.boot;
    let dialect = match boot.dialect {
        config::UbootDialect::UpgradeAvailable => uboot::Dialect::UpgradeAvailable {
            slot_variable: boot.upgrade_available.slot_variable.clone(),
            values: boot.upgrade_available.values.clone(),
        },
        config::UbootDialect::BootOrder => uboot::Dialect::BootOrder { names: boot.boot_order.names.clone() },
    };
    // A simulated device must not contend for the lock of the machine it is simulated on.
    let lock_file = config.simulator.root.as_ref().map(|root| root.join("fw_printenv.lock"));
    uboot::Settings { fw_env_config: boot.fw_env_config.clone(), dialect, tries: boot.tries, lock_file }
}

fn grub(config: &Config) -> grub::Settings {
    let config::Grub { environment, names } = config.boot.grub.clone();
    let root = config.simulator.root.clone().unwrap_or_else(|| "/".into());
    grub::Settings { environment, names, tries: config.boot.tries, root }
}

fn tryboot(config: &Config) -> tryboot::Settings {
    let config::Tryboot { autoboot, partitions } = config.boot.tryboot.clone();
    tryboot::Settings { autoboot, partitions, root: settings::root(config) }
}

fn efi(config: &Config, manager: efi::Manager) -> efi::Settings {
    let efivars: PathBuf = settings::root(config).join("sys/firmware/efi/efivars");
    efi::Settings { manager, efivars }
}

fn firmware(efi: &config::Efi) -> Result<efi::Manager, Error> {
    let number = |digits: &String| {
        let is_number = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u16::from_str_radix(digits, 16).ok().filter(|_| is_number);
        number.ok_or_else(|| {
            Error::Unreadable(format!(
                "{digits:?} is no boot entry: write four hexadecimal digits, such as 0001"
            ))
        })
    };
    Ok(efi::Manager::Firmware(PerSlot { a: number(&efi.entries.a)?, b: number(&efi.entries.b)? }))
}

fn script(config: &Config, runner: Runner) -> script::Settings {
    let config::Script { program, timeout, names } = config.boot.script.clone();
    script::Settings { program, names, timeout, runner, state: config.state.directory.clone() }
}
