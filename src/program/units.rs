//! What the service manager says of its units: which have failed, and whether the machine has come up.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Keep;
use super::group::Group;
use super::manager::{Manager, PREFIX};

/// How long it may take to answer.
const LIMIT: Duration = Duration::from_secs(20);
/// The longest answer in bytes: some hundred units that failed.
const ANSWER: usize = 64 << 10;
/// What is reached once all is well that says of itself that it must be (systemd.special(7)).
const COMPLETE: &str = "boot-complete.target";

/// The units of this machine, at one moment.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Units {
    /// Those that have failed; none of ours.
    pub failed: BTreeSet<String>,
    /// It is still coming up: units wait to be started.
    pub is_starting: bool,
    /// `boot-complete.target` is reached.
    pub is_complete: bool,
}

impl Manager {
    /// Looks at the units.
    ///
    /// # Errors
    /// A sentence, if it cannot be asked.
    pub async fn units(&self) -> Result<Units, String> {
        let state = self.tell(&["show", "--property=SystemState", "--value"]).await?;
        let complete = self.tell(&["show", "--property=ActiveState", "--value", COMPLETE]).await?;
        let list =
            ["list-units", "--state=failed", "--all", "--full", "--plain", "--no-legend", "--no-pager"];
        let failed = self.tell(&list).await?;
        let names = failed.lines().filter_map(|line| line.split_whitespace().next());
        Ok(Units {
            failed: names.filter(|name| !name.starts_with(PREFIX)).map(str::to_owned).collect(),
            is_starting: matches!(state.trim(), "initializing" | "starting"),
            is_complete: complete.trim() == "active",
        })
    }

    /// How a service is, in a few words for people.
    ///
    /// # Errors
    /// A sentence, if it cannot be asked.
    pub async fn service(&self, unit: &str) -> Result<String, String> {
        const PROPERTIES: &str = "--property=ActiveState,SubState,Result,NRestarts";
        let answer = self.tell(&["show", PROPERTIES, unit]).await?;
        let of = |name: &str| {
            let mut values = answer.lines().filter_map(|line| line.split_once('='));
            values.find(|(found, _)| *found == name).map_or("unknown", |(_, value)| value)
        };
        let [active, sub, result, restarts] = ["ActiveState", "SubState", "Result", "NRestarts"].map(of);
        Ok(format!("{unit} is {active} ({sub}), result {result}, started again {restarts} times"))
    }

    /// What `systemctl` answers.
    async fn tell(&self, arguments: &[&str]) -> Result<String, String> {
        let asked = Group::start(self.systemctl(arguments), None, Keep::Answer(ANSWER));
        let mut asked = asked.map_err(|error| format!("systemctl cannot be run: {error}"))?;
        if !asked.exited_within(LIMIT).await {
            return Err(format!("systemctl has no answer within {LIMIT:?}"));
        }
        match asked.finish() {
            Some(status) if status.success() => {
                let answer = asked.answer().ok_or("systemctl's answer is too long")?;
                Ok(String::from_utf8_lossy(&answer).into_owned())
            }
            Some(_) | None => Err(format!("systemctl failed: {}", asked.tail())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn units_are_read_from_what_systemctl_prints() {
        let directory = tempfile::tempdir().unwrap();
        let systemctl = directory.path().join("systemctl");
        // The real one's words, of systemd 252.
        let script = r#"#!/bin/sh
case "$*" in
    *NRestarts*)
        printf 'ActiveState=activating\nSubState=auto-restart\nResult=exit-code\nNRestarts=7\n' ;;
    *SystemState*) cat "$(dirname "$0")/state" ;;
    *boot-complete.target) echo active ;;
    *list-units*--state=failed*)
        echo 'modem.service                       loaded failed failed Modem of the gateway'
        echo 'mnt-x\x2dy.mount                    not-found failed failed mnt-x\x2dy.mount'
        echo 'twinboot-program-health-x-1.0.service loaded failed failed /etc/x' ;;
    *) echo "what is $*" >&2; exit 1 ;;
esac
"#;
        fs::write(&systemctl, script).unwrap();
        fs::set_permissions(&systemctl, Permissions::from_mode(0o755)).unwrap();
        let manager = Manager::with(directory.path().join("programs"), systemctl.clone(), systemctl, None);
        let failed: BTreeSet<_> =
            ["modem.service", r"mnt-x\x2dy.mount"].map(str::to_owned).into_iter().collect();
        for (state, is_starting) in [("starting\n", true), ("degraded\n", false)] {
            fs::write(directory.path().join("state"), state).unwrap();
            let found = manager.units().await.unwrap();
            assert_eq!(found, Units { failed: failed.clone(), is_starting, is_complete: true });
        }
        let daemon = manager.service("twinboot.service").await.unwrap();
        let wanted = "twinboot.service is activating (auto-restart), result exit-code, started again 7 times";
        assert_eq!(daemon, wanted);
        fs::remove_file(directory.path().join("state")).unwrap();
        let why = manager.units().await.unwrap_err();
        assert!(why.contains("systemctl failed") && why.contains("state"), "{why}");
    }
}
