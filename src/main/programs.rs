//! Who runs the integrator's programs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use twinboot::config::{Config, ProgramRunner};
use twinboot::program::{Manager, Runner};

/// There while systemd is the service manager (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";

/// Who runs programs in this process, whichever configuration is in force: the service manager is asked by one for all,
/// who knows which of its units are ours. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Runners(Arc<OnceLock<Arc<Manager>>>);

impl Runners {
    /// As configured, or what fits. What an earlier daemon left running is being stopped from the first time on.
    pub(crate) fn of(&self, config: &Config) -> Runner {
        let by_systemd = match config.programs.runner {
            ProgramRunner::Auto => config.simulator.root.is_none() && is_service(),
            ProgramRunner::Systemd => true,
            ProgramRunner::Direct => false,
        };
        tracing::debug!(by_systemd, "how programs are run");
        if !by_systemd {
            return Runner::Direct;
        }
        let begin = || {
            let manager = Manager::new(runtime_directory().join("programs"));
            let settled = Arc::clone(&manager);
            tokio::spawn(async move { settled.settle().await });
            manager
        };
        Runner::Systemd(Arc::clone(self.0.get_or_init(begin)))
    }
}

fn is_service() -> bool {
    Path::new(SYSTEMD).exists() && std::env::var_os("INVOCATION_ID").is_some()
}

/// The one that systemd made for us (`RuntimeDirectory=`).
fn runtime_directory() -> PathBuf {
    let given = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    let first = given.to_str().and_then(|all| all.split(':').find(|one| !one.is_empty()));
    first.unwrap_or("/run/twinboot").into()
}
