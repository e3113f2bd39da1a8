//! What devices report of their firmware, and what that means for what they were asked to do. Pure but for the asking.

use serde_json::Value;

use crate::failure::Outcome;
use crate::hub::Hub;

/// Devices that are asked for by one query.
const AT_ONCE: usize = 100;
/// Twins of fewer devices are read one by one: they are exact, where the results of queries lag.
pub(crate) const FEW: usize = 20;

/// What a device's twin says of its firmware.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Report {
    /// Which device.
    pub(crate) device: String,
    /// Whether it is connected now.
    pub(crate) connected: bool,
    /// The object `firmware`.
    pub(crate) firmware: Value,
    /// When it booted because it was asked to.
    pub(crate) reboot_time: Value,
}

/// What a device was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Goal {
    /// To run this version, for good.
    Version(String),
    /// To have an image ready.
    Held,
    /// To have done whatever it was without a fault.
    Settled,
    /// To be back on the previous system.
    RolledBack,
    /// To have rebooted.
    Rebooted,
    /// Nothing: it is only watched until no update is on its way.
    Idle,
}

/// How it ended on a device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// As asked.
    Done,
    /// Otherwise, and why.
    Failed(String),
}

impl Report {
    /// Of a twin, or of a row with the same names.
    pub(crate) fn of(device: &str, twin: &Value) -> Self {
        let reported = &twin["properties"]["reported"];
        Self {
            device: device.to_owned(),
            connected: twin["connectionState"] == "Connected",
            firmware: reported["firmware"].clone(),
            reboot_time: reported["rebootTime"].clone(),
        }
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.firmware[name].as_str().unwrap_or_default()
    }

    /// The tutorial's word.
    pub(crate) fn word(&self) -> &str {
        self.text("fwUpdateStatus")
    }

    /// Whether an update is on its way, as compared with what was reported `before`.
    fn is_busy(&self, before: &Self) -> bool {
        let moving = matches!(self.word(), "downloading" | "verifying" | "applying" | "rebooting");
        // Being undone it says `error` already. Begun and not ended is told by the times, where there are any.
        let [started, ended] = ["lastFwUpdateStartTime", "lastFwUpdateEndTime"].map(|time| {
            let now = self.text(time);
            !now.is_empty() && now != before.text(time)
        });
        moving || !self.text("pendingFwVersion").is_empty() || (started && !ended)
    }

    /// Whether the device has ended what it was asked for, and how. `moved` is whether it reported anything else than
    /// `before` since.
    pub(crate) fn verdict(&self, goal: &Goal, before: &Self, moved: bool) -> Option<Verdict> {
        let word = self.word();
        let code = self.text("fwUpdateCode");
        if *goal == Goal::Rebooted {
            let is_new = !self.reboot_time.is_null() && self.reboot_time != before.reboot_time;
            return is_new.then_some(Verdict::Done);
        }
        if *goal == Goal::Held && moved && self.is_held() {
            return Some(Verdict::Done);
        }
        // Whatever the times say: a device whose clock is not set yet has ended without one.
        if let Goal::Version(version) = goal
            && word == "current"
            && self.text("currentFwVersion") == version
            && self.text("pendingFwVersion").is_empty()
        {
            return Some(Verdict::Done);
        }
        if self.is_busy(before) {
            return None;
        }
        if *goal == Goal::Idle {
            let failed = matches!(word, "error") || (word == "rolledback" && !code.is_empty());
            return Some(if failed { Verdict::Failed(self.reason()) } else { Verdict::Done });
        }
        if !moved {
            return None;
        }
        let went_back = word == "rolledback" && code.is_empty();
        match (goal, word) {
            (Goal::RolledBack, "rolledback") if went_back => Some(Verdict::Done),
            (_, "error" | "rolledback") => Some(Verdict::Failed(self.reason())),
            (_, "current") if !code.is_empty() => Some(Verdict::Failed(self.reason())),
            (Goal::Settled, "current") => Some(Verdict::Done),
            _ => None,
        }
    }

    /// Whether it has verified an image and waits. With a code it is held up on its way there, without a word nobody knows.
    fn is_held(&self) -> bool {
        let detail = self.text("fwUpdateSubstatus");
        let is_begun = detail.is_empty() || detail == "Start verifying download" || detail.ends_with('%');
        self.word() == "verifying" && self.text("fwUpdateCode").is_empty() && !is_begun
    }

    fn reason(&self) -> String {
        let detail = self.text("fwUpdateSubstatus");
        if detail.is_empty() { self.text("fwUpdateCode").to_owned() } else { detail.to_owned() }
    }
}

/// What these devices report now. One that the hub does not know is left out.
///
/// # Errors
/// If the hub does not answer.
pub(crate) async fn reports(hub: &Hub, devices: &[&str]) -> Outcome<Vec<Report>> {
    let (by_query, by_twin): (Vec<&str>, Vec<&str>) =
        devices.iter().partition(|id| devices.len() > FEW && !id.contains('\''));
    let mut all = Vec::with_capacity(devices.len());
    for id in by_twin {
        match hub.twin(id).await {
            Ok(twin) => all.push(Report::of(id, &twin)),
            Err(failure) if failure.status == Some(404) => {}
            Err(failure) => return Err(failure),
        }
    }
    for ids in by_query.chunks(AT_ONCE) {
        let list: Vec<_> = ids.iter().map(|id| format!("'{id}'")).collect();
        let query = format!("SELECT * FROM devices WHERE deviceId IN [{}]", list.join(", "));
        let mut rows = hub.query(&query, None);
        while let Some(row) = rows.next().await? {
            all.push(Report::of(row["deviceId"].as_str().unwrap_or_default(), &row));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(
        word: &str,
        version: &str,
        pending: &str,
        detail: &str,
        code: &str,
        times: [&str; 2],
    ) -> Report {
        let firmware = json!({
            "fwUpdateStatus": word, "currentFwVersion": version, "pendingFwVersion": pending,
            "fwUpdateSubstatus": detail, "fwUpdateCode": if code.is_empty() { Value::Null } else { json!(code) },
            "lastFwUpdateStartTime": times[0], "lastFwUpdateEndTime": times[1],
        });
        Report { firmware, ..Report::default() }
    }

    #[test]
    fn an_update_is_over_when_it_is_and_not_earlier() {
        let old = ["10:00", "10:05"];
        let new = ["11:00", "10:05"];
        let ended = ["11:00", "11:05"];
        let before = report("current", "1", "", "", "", old);
        let goal = Goal::Version("2".into());
        let failed = |why: &str| Some(Verdict::Failed(why.to_owned()));
        for (now, moved, wanted) in [
            (before.clone(), false, None),
            (report("current", "1", "2", "", "", new), true, None),
            (report("downloading", "1", "2", "40 %", "", new), true, None),
            (report("rebooting", "1", "2", "", "", new), true, None),
            (report("current", "2", "", "", "", ended), true, Some(Verdict::Done)),
            // It ran there already, and never moves.
            (report("current", "2", "", "", "", old), false, Some(Verdict::Done)),
            // Committed before its clock was set.
            (report("current", "2", "", "", "", ["11:00", ""]), true, Some(Verdict::Done)),
            (report("current", "2", "3", "", "", new), true, None),
            // On the way back it says `error` before it is back.
            (report("error", "1", "2", "ill", "health.failed", new), true, None),
            (report("error", "1", "", "ill", "health.failed", new), true, None),
            (report("rolledback", "1", "", "ill", "health.failed", ended), true, failed("ill")),
            (report("error", "1", "", "gone", "download.unreachable", ended), true, failed("gone")),
            // Refused: nothing was begun, the times are as they were.
            (report("error", "1", "", "no", "request.invalid", old), true, failed("no")),
            (
                report("current", "1", "", "Update to 2 cancelled", "request.cancelled", ended),
                true,
                failed("Update to 2 cancelled"),
            ),
            // A clock that cannot be right tells no times.
            (report("error", "1", "", "gone", "download.unreachable", ["", ""]), true, failed("gone")),
        ] {
            assert_eq!(now.verdict(&goal, &before, moved), wanted, "{now:?}");
        }
    }

    #[test]
    fn what_failed_before_is_not_taken_for_an_answer() {
        let before = report("rolledback", "1", "", "ill", "health.failed", ["10:00", "10:05"]);
        for goal in [Goal::Version("2".into()), Goal::Settled, Goal::RolledBack, Goal::Held] {
            assert_eq!(before.verdict(&goal, &before, false), None, "{goal:?}");
        }
    }

    #[test]
    fn other_goals_are_reached_by_other_words() {
        let before = report("current", "2", "", "", "", ["10:00", "10:05"]);
        let back = report("rolledback", "1", "", "Rolled back to: 1 (on request)", "", ["11:00", "11:05"]);
        assert_eq!(back.verdict(&Goal::RolledBack, &before, true), Some(Verdict::Done));
        let held = report("verifying", "1", "3", "Waiting to be applied", "", ["11:00", "10:05"]);
        assert_eq!(held.verdict(&Goal::Held, &before, true), Some(Verdict::Done));
        for (early, code) in [
            ("Start verifying download", ""),
            ("70 %", ""),
            ("", ""),
            ("disk full (state.unwritable)", "state.unwritable"),
        ] {
            let early = report("verifying", "1", "3", early, code, ["11:00", "10:05"]);
            assert_eq!(early.verdict(&Goal::Held, &before, true), None, "{early:?}");
        }
        let rebooted = Report { reboot_time: json!("12:00"), ..before.clone() };
        assert_eq!(rebooted.verdict(&Goal::Rebooted, &before, true), Some(Verdict::Done));
        assert_eq!(rebooted.verdict(&Goal::Rebooted, &rebooted, true), None);
        // Only watched: at once, whatever was before.
        assert_eq!(before.verdict(&Goal::Idle, &before, false), Some(Verdict::Done));
        let ill = report("rolledback", "1", "", "ill", "health.failed", ["10:00", "10:05"]);
        assert_eq!(ill.verdict(&Goal::Idle, &ill, false), Some(Verdict::Failed("ill".into())));
    }
}
