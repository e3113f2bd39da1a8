//! Who runs the integrator's programs.

use std::path::{Path, PathBuf};

use twinboot::config::{Config, ProgramRunner};
use twinboot::program::{Manager, Runner};

/// There while systemd is the service manager (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// As configured, or what fits. What an earlier daemon left running is being stopped from now on.
pub(crate) fn runner(config: &Config) -> Runner {
    let is_service = || Path::new(SYSTEMD).exists() && std::env::var_os("INVOCATION_ID").is_some();
    let by_systemd = match config.programs.runner {
        ProgramRunner::Auto => config.simulator.root.is_none() && is_service(),
        ProgramRunner::Systemd => true,
        ProgramRunner::Direct => false,
    };
    tracing::debug!(by_systemd, "how programs are run");
    if !by_systemd {
        return Runner::Direct;
    }
    let manager = Manager::new(runtime_directory().join("programs"));
    tokio::spawn({
        let manager = manager.clone();
        async move { manager.settle().await }
    });
    Runner::Systemd(manager)
}

/// The one that systemd made for us (`RuntimeDirectory=`).
fn runtime_directory() -> PathBuf {
    let given = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    let first = given.to_str().and_then(|all| all.split(':').find(|one| !one.is_empty()));
    first.unwrap_or("/run/twinboot").into()
}
