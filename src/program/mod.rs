//! Programs that the integrator put on the device, run by us as root: which may be run at all, and one run from its
//! start to its last child's end.
//!
//! Not here: what a program is asked for and what its answer means. Health checks, device properties and the
//! factory reset use this.

mod declared;
mod group;
mod guard;

use std::path::Path;
use std::process::Command;

pub use declared::Declared;
pub use group::{Group, Keep};
pub use guard::{Found, is_trusted, list};

/// The same for every program, whatever ours is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that runs `program` without a shell, in the root directory, with `environment` and a fixed `PATH` and
/// nothing else for an environment.
pub fn command(program: &Path, environment: &[(String, String)]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).current_dir("/");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}
