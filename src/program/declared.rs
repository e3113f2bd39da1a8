//! One program that the integrator named in the configuration, run once from its start to its end. The factory
//! reset's is one.

use std::path::PathBuf;
use std::time::Duration;

use super::{Group, Keep, command, is_trusted};

/// How long it may take to end when it is asked to, before it is made to.
const GRACE: Duration = Duration::from_secs(5);

/// A program, and how to run it: without a shell, without input, in a process group of its own, which ends with it.
#[derive(Clone, Debug)]
pub struct Declared {
    /// Its absolute name.
    pub path: PathBuf,
    /// How long it may take.
    pub timeout: Duration,
    /// With a fixed `PATH`, all of its environment.
    pub environment: Vec<(String, String)>,
}

impl Declared {
    /// Runs it once. When this is dropped before its end, nothing the program started may stay.
    ///
    /// # Errors
    /// In words, if it is another user's to change, cannot be run, does not end in time, or does not exit with 0.
    pub async fn run(&self) -> Result<(), String> {
        is_trusted(&self.path)?;
        let shown = self.path.display();
        let mut group = Group::start(command(&self.path, &self.environment), None, Keep::Tail)
            .map_err(|error| format!("{shown} cannot be run: {error}"))?;
        let in_time = group.exited_within(self.timeout).await;
        if !in_time {
            group.stop(GRACE).await;
        }
        let status = group.finish();
        let what = match status.filter(|_| in_time) {
            Some(status) if status.success() => return Ok(()),
            // Displays as "exit status: 1" or "signal: 11 (SIGSEGV)".
            Some(status) => format!("{shown} ended with {status}"),
            None => format!("{shown} did not end within {:?}", self.timeout),
        };
        let tail = group.tail();
        Err(if tail.is_empty() { what } else { format!("{what}: {tail}") })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A program of these lines, with this mode, run with a limit of a second.
    async fn run(lines: &str, mode: u32) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().join("reset");
        fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let environment = vec![("TWINBOOT_SLOT".into(), "a".into())];
        Declared { path, timeout: Duration::from_secs(1), environment }.run().await
    }

    #[tokio::test]
    async fn its_exit_status_is_the_answer() {
        assert_eq!(run("test \"$TWINBOOT_SLOT\" = a", 0o755).await, Ok(()));
        let why = run("echo no disk; exit 3", 0o755).await.unwrap_err();
        assert!(why.ends_with("ended with exit status: 3: no disk"), "{why}");
        let why = run("exec sleep 60", 0o755).await.unwrap_err();
        assert!(why.ends_with("did not end within 1s"), "{why}");
    }

    #[tokio::test]
    async fn what_others_can_change_is_not_run() {
        let why = run("exit 0", 0o777).await.unwrap_err();
        assert!(why.contains("can be written by others"), "{why}");
        let why = run("exit 0", 0o644).await.unwrap_err();
        assert!(why.contains("cannot be executed"), "{why}");
        let missing = Declared {
            path: "/nonexistent/reset".into(),
            timeout: Duration::from_secs(1),
            environment: vec![],
        };
        assert!(missing.run().await.unwrap_err().contains("cannot be read"));
    }
}
