//! Which bootloader this board has: the one place where its adapter is chosen. What else depends on the loader is here,
//! too: which setting says where its variables are, and what to do when they cannot be read.

use twinboot::boot::grub::{self, Grub};
use twinboot::boot::uboot::{self, UBoot};
use twinboot::boot::{Bootloader, Error};
use twinboot::config::{self, Config, Loader};

/// Opens the adapter. The loader's variables themselves are only touched by its methods.
///
/// # Errors
/// If its settings, or what they name, cannot be used.
pub(crate) fn open(config: &Config) -> Result<Box<dyn Bootloader>, Error> {
    Ok(match config.boot.loader {
        Loader::Uboot => Box::new(UBoot::open(uboot(config))?),
        Loader::Grub => Box::new(Grub::open(grub(config))?),
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
