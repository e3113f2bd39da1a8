//! A job and its children, as they are shown; and lists of jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::counts;
use crate::arguments::{JobKind, JobList};
use crate::failure::{Exit, Failure, Outcome};
use crate::hub::{Hub, Rows};
use crate::show::{Table, as_text, cell, clean, say};

const HEAD: [&str; 6] = ["JOB", "DEVICE", "STATUS", "STARTED", "ENDED", "REASON"];

/// How long the children of a job that is complete are waited for, and how often they are asked for meanwhile: each time is a
/// query, of which the hub answers twenty a minute.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(10);

/// A job; its children are asked for when they are shown.
#[derive(Debug)]
pub(super) struct Family {
    job: Value,
}

impl Family {
    /// Asks for it.
    ///
    /// # Errors
    /// If there is none.
    pub(super) async fn of(hub: &Hub, id: &str) -> Outcome<Self> {
        let job = hub.job(id).await?;
        let job = job.ok_or_else(|| {
            Failure::failed(format!("there is no job {id}")).remedy("`twinboot-fleet job list` lists them")
        })?;
        Ok(Self { job })
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.job["status"].as_str(), Some("completed" | "failed" | "cancelled"))
    }

    /// How it stands, on a line.
    pub(super) fn line(&self) -> String {
        format!("{}  {}  {}", cell(&self.job["jobId"]), cell(&self.job["status"]), counts(&self.job))
    }

    /// Shows the parent with a reason that counts, and a line for each child. A device that was told and said no has
    /// failed, though the hub calls its part completed.
    pub(super) async fn show(&self, hub: &Hub, as_json: bool) -> Outcome<Exit> {
        // The parent comes first and its reason counts the children: so they are gone through twice, and never held.
        let verdicts = self.verdicts(hub).await?;
        let reason: Vec<_> = verdicts.iter().map(|(verdict, number)| format!("{number} {verdict}")).collect();
        let total: u64 = verdicts.values().sum();
        let reason = format!("{total} devices{}{}", if total > 0 { ": " } else { "" }, reason.join(", "));
        self.print(hub.job_parts("jobId", self.id()), &reason, as_json).await?;
        Ok(self.exit(&verdicts))
    }

    /// How it went on how many devices. Of a job that is complete all are waited for, but not for ever: a query may not know
    /// yet what the job knows.
    async fn verdicts(&self, hub: &Hub) -> Outcome<BTreeMap<String, u64>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut verdicts: BTreeMap<String, u64> = BTreeMap::new();
            let mut rows = hub.job_parts("jobId", self.id());
            while let Some(child) = rows.next().await? {
                *verdicts.entry(verdict(&child).0).or_default() += 1;
            }
            let is_complete = self.job["status"] == "completed";
            if !is_complete || self.are_all(&verdicts) || Instant::now() >= deadline {
                return Ok(verdicts);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether as many children have ended as the job had devices.
    fn are_all(&self, verdicts: &BTreeMap<String, u64>) -> bool {
        let ended: u64 = verdicts.iter().filter(|(word, _)| !is_open(word)).map(|(_, number)| number).sum();
        ended >= self.job["deviceJobStatistics"]["deviceCount"].as_u64().unwrap_or(0)
    }

    /// One that was for nobody, or of which nobody knows how it went, has not gone well.
    fn exit(&self, verdicts: &BTreeMap<String, u64>) -> Exit {
        let is_good = self.are_all(verdicts) && verdicts.keys().all(|word| word == "succeeded");
        match self.job["status"].as_str() {
            Some("completed") if is_good && !verdicts.is_empty() => Exit::Done,
            _ if self.has_ended() || verdicts.contains_key("failed") => Exit::Failed,
            _ => Exit::Done,
        }
    }

    fn id(&self) -> &str {
        self.job["jobId"].as_str().unwrap_or_default()
    }

    async fn print(&self, mut children: Rows<'_>, reason: &str, as_json: bool) -> Outcome {
        if as_json {
            let mut job = self.job.clone();
            job["reason"] = json!(reason);
            say(&as_text(&job))?;
            while let Some(child) = children.next().await? {
                say(&as_text(&child))?;
            }
            return Ok(());
        }
        let mut table = Table::new(HEAD);
        let parent = ["jobId", "", "status", "startTime", "endTime"].map(|name| cell(&self.job[name]));
        table.row(parent.into_iter().chain([reason.to_owned()]).collect());
        while let Some(child) = children.next().await? {
            table.row(row(&child));
            if children.is_page_end() {
                table.page()?;
            }
        }
        table.page()
    }
}

fn row(child: &Value) -> Vec<String> {
    let (word, words) = verdict(child);
    let mut cells = vec![cell(&child["jobId"]), cell(&child["deviceId"]), word];
    cells.extend(["startTimeUtc", "endTimeUtc"].map(|name| cell(&child[name])));
    cells.push(clean(&words));
    cells
}

/// Whether a device's part, by this word, goes on.
fn is_open(word: &str) -> bool {
    matches!(word, "pending" | "scheduled" | "queued" | "running" | "unknown")
}

/// How it went on a device, in a word, and in those of the device or the hub.
fn verdict(child: &Value) -> (String, String) {
    let status = child["status"].as_str().unwrap_or("unknown").to_owned();
    let answer = &child["outcome"]["deviceMethodResponse"];
    if let Some(code) = answer["status"].as_i64() {
        let words = answer["payload"]["Response"]
            .as_str()
            .map_or_else(|| answer["payload"].to_string(), str::to_owned);
        if (200..300).contains(&code) {
            return (if status == "completed" { "succeeded".to_owned() } else { status }, words);
        }
        return ("failed".to_owned(), format!("refused ({code}): {words}"));
    }
    let error = ["code", "description"].map(|name| child["error"][name].as_str().unwrap_or_default());
    let words = error.join(" ").trim().to_owned();
    (if status == "completed" { "succeeded".to_owned() } else { status }, words)
}

/// Lists jobs by when they start, or the parts of one device.
pub(super) async fn list(hub: &Hub, wanted: &JobList) -> Outcome<Exit> {
    if let Some(device) = &wanted.device {
        if device.contains('\'') {
            return Err(Failure::usage("--device: this id cannot stand in a query"));
        }
        let found = sorted(hub.job_parts("deviceId", device), "startTimeUtc").await?;
        return print(&found, wanted.json, row);
    }
    let kind = wanted.kind.map(|kind| match kind {
        JobKind::Method => "scheduleDeviceMethod",
        JobKind::Twin => "scheduleUpdateTwin",
    });
    let found = sorted(hub.jobs(kind, wanted.status.as_deref())?, "startTime").await?;
    print(&found, wanted.json, |job| {
        let mut cells: Vec<_> =
            ["jobId", "", "status", "startTime", "endTime"].map(|name| cell(&job[name])).into();
        cells.push(counts(job));
        cells
    })
}

/// The hub forgets jobs after a month, and gives them in no order: these can be held.
async fn sorted(mut rows: Rows<'_>, by: &str) -> Outcome<Vec<Value>> {
    let mut all = Vec::new();
    while let Some(row) = rows.next().await? {
        all.push(row);
    }
    all.sort_by(|a, b| a[by].as_str().cmp(&b[by].as_str()));
    Ok(all)
}

fn print(rows: &[Value], as_json: bool, cells: impl Fn(&Value) -> Vec<String>) -> Outcome<Exit> {
    let mut table = Table::new(HEAD);
    for row in rows {
        if as_json {
            say(&as_text(row))?;
        } else {
            table.row(cells(row));
        }
    }
    if !as_json {
        table.page()?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_gone_well_when_it_has_on_each_of_its_devices_and_there_are_some() {
        let family = |status: &str, devices: u64| Family {
            job: json!({"jobId": "x", "status": status, "deviceJobStatistics": {"deviceCount": devices}}),
        };
        let verdicts = |words: &[(&str, u64)]| -> BTreeMap<String, u64> {
            words.iter().map(|(word, number)| ((*word).to_owned(), *number)).collect()
        };
        for (status, devices, words, are_all, exit) in [
            ("completed", 2, &[("succeeded", 2)][..], true, Exit::Done),
            ("completed", 2, &[("succeeded", 1)], false, Exit::Failed),
            ("completed", 2, &[("succeeded", 1), ("running", 1)], false, Exit::Failed),
            ("completed", 2, &[("succeeded", 1), ("failed", 1)], true, Exit::Failed),
            ("completed", 0, &[], true, Exit::Failed),
            ("cancelled", 2, &[("succeeded", 1), ("canceled", 1)], true, Exit::Failed),
            ("running", 2, &[("succeeded", 1), ("running", 1)], false, Exit::Done),
            ("running", 2, &[("failed", 1), ("running", 1)], false, Exit::Failed),
        ] {
            let (family, verdicts) = (family(status, devices), verdicts(words));
            assert_eq!(family.are_all(&verdicts), are_all, "{status} {verdicts:?}");
            assert_eq!(family.exit(&verdicts), exit, "{status} {verdicts:?}");
        }
    }

    #[test]
    fn a_device_that_said_no_has_failed_though_its_part_is_complete() {
        let child = |status: i64| {
            json!({
                "status": "completed",
                "outcome": {"deviceMethodResponse": {"status": status, "payload": {"Response": "words"}}},
            })
        };
        assert_eq!(verdict(&child(200)), ("succeeded".into(), "words".into()));
        assert_eq!(verdict(&child(409)), ("failed".into(), "refused (409): words".into()));
        let away = json!({"status": "failed", "error": {"code": "DeviceNotOnline", "description": "away"}});
        assert_eq!(verdict(&away), ("failed".into(), "DeviceNotOnline away".into()));
        assert_eq!(verdict(&json!({"status": "completed"})), ("succeeded".into(), String::new()));
        assert_eq!(verdict(&json!({"status": "running"})), ("running".into(), String::new()));
    }
}
