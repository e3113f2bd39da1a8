//! The files of a device, as its maker leaves them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use super::sim::Options;

/// Everything but the environment's content.
pub(super) fn lay_out(directory: &Path, options: &Options<'_>) -> io::Result<()> {
    for name in [
        "state",
        "health.d",
        "conf.d",
        "keys.d",
        "machine/etc",
        "machine/proc/sys/kernel/random",
        "machine/sys/firmware/devicetree/base",
    ] {
        fs::create_dir_all(directory.join(name))?;
        // Whatever the umask: a directory of health checks that others can write is not trusted.
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o755))?;
    }
    for name in ["slot-a", "slot-b"] {
        let slot = File::create(directory.join(name))?;
        slot.set_len(options.slot_size)?;
        if name == "slot-a" {
            slot.write_all_at(options.factory, 0)?;
        }
    }
    let root = directory.display();
    let size = super::env::SIZE;
    let health = format!(
        "#!/bin/sh\n# What the application itself would say of its health.\n\
         test -e '{root}/machine/etc/app-ok' || {{ echo 'the application does not answer'; exit 1; }}\n"
    );
    let files = [
        ("fw_env.config", 0o644, format!("{root}/env0 0x0 {size:#x}\n{root}/env1 0x0 {size:#x}\n")),
        ("connection-string", 0o600, format!("{}\n", options.connection)),
        ("ca.pem", 0o644, options.ca.to_owned()),
        ("health.d/10-app", 0o755, health),
        ("machine/proc/sys/kernel/hostname", 0o644, format!("{}\n", options.name)),
        ("machine/proc/sys/kernel/osrelease", 0o644, "6.12.0-gateway\n".to_owned()),
        ("machine/proc/meminfo", 0o644, "MemTotal: 1019512 kB\nMemAvailable: 803212 kB\n".to_owned()),
        // As the kernel shows a device tree: texts that end with a NUL.
        ("machine/sys/firmware/devicetree/base/model", 0o644, "Simulated gateway\0".to_owned()),
        ("machine/sys/firmware/devicetree/base/serial-number", 0o644, format!("{}\0", options.name)),
        ("twinboot.toml", 0o644, configuration(directory)),
        ("conf.d/50-test.toml", 0o644, options.config.to_owned()),
    ];
    for (name, mode, text) in files {
        let path = directory.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// The shipped defaults, but for the paths and for what would make a test wait.
fn configuration(directory: &Path) -> String {
    let root = directory.display();
    format!(
        r#"[hub]
connection_string_file = "{root}/connection-string"
backoff = ["100ms", "1s"]

[tls]
ca_files = ["{root}/ca.pem"]
system_roots = false

[slots]
a = "{root}/slot-a"
b = "{root}/slot-b"

[boot]
fw_env_config = "{root}/fw_env.config"

[download]
connect_timeout = "5s"
idle_timeout = "5s"
backoff = ["100ms", "500ms"]

[trust]
keys = "{root}/keys.d"

[health]
deadline = "30s"
directory = "{root}/health.d"
check_timeout = "5s"

[hooks]
directory = "{root}/hooks.d"
timeout = "40s"
ask_again = "500ms"

[report]
progress_every = "1s"

[control]
socket = "{root}/control.sock"

[state]
directory = "{root}/state"

[simulator]
root = "{root}/machine"
"#
    )
}
