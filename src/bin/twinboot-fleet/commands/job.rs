//! `job`: the six kinds of work, scheduled at the hub, and the family of a job: a parent, and a child for each device.

mod family;
mod kinds;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use twinboot::model::Timestamp;

use super::targets::ask;
use crate::arguments::{JobCommand, Schedule, Targets};
use crate::failure::{Exit, Failure, Outcome};
use crate::hub::{Hub, Outage};
use crate::show::say;
use family::Family;
use kinds::Work;

/// How often a job is looked at: the hub takes some 100 such requests a minute.
const PAUSE: Duration = Duration::from_secs(2);
/// What waiting may take longer than the job itself, which the hub ends.
const SLACK: Duration = Duration::from_secs(120);

/// Does what was asked.
pub(super) async fn run(hub: &Arc<Hub>, wanted: &JobCommand) -> Outcome<Exit> {
    match wanted {
        JobCommand::Update(wanted) => schedule(hub, &wanted.schedule, Work::update(&wanted.image)?).await,
        JobCommand::Reboot(wanted) => schedule(hub, &wanted.schedule, Work::reboot()).await,
        JobCommand::FactoryReset(wanted) => schedule(hub, &wanted.schedule, Work::factory_reset()).await,
        JobCommand::Configure(wanted) => schedule(hub, &wanted.schedule, Work::configure(&wanted.set)?).await,
        JobCommand::ReadProperty(wanted) => schedule(hub, &wanted.schedule, Work::read(&wanted.name)).await,
        JobCommand::WriteProperty(wanted) => schedule(hub, &wanted.schedule, Work::write(&wanted.set)?).await,
        JobCommand::List(wanted) => family::list(hub, wanted).await,
        JobCommand::Show(wanted) => {
            check_id(&wanted.id)?;
            let family = Family::of(hub, &wanted.id).await?;
            family.show(hub, wanted.json).await
        }
        JobCommand::Cancel(wanted) => {
            check_id(&wanted.id)?;
            hub.cancel_job(&wanted.id).await?;
            say(&format!("{}: cancelled", wanted.id))?;
            Ok(Exit::Done)
        }
    }
}

/// Schedules, and waits for the end of the job.
async fn schedule(hub: &Arc<Hub>, wanted: &Schedule, work: Work) -> Outcome<Exit> {
    let now = now();
    let id = wanted.id.clone().unwrap_or_else(|| name(work.kind, now));
    check_id(&id)?;
    let (condition, one) = condition(&wanted.targets)?;
    if work.disrupts && (!one || work.loses_data) {
        ask(&format!("schedule {} for the devices where {condition}", work.kind), wanted.yes)?;
    }
    let mut document = json!({
        "jobId": id,
        "queryCondition": condition,
        "startTime": wanted.at.unwrap_or(now).to_string(),
        "maxExecutionTimeInSeconds": wanted.time_limit.0.as_secs(),
    });
    work.fill(&mut document);
    hub.schedule(&id, document).await?;
    if wanted.no_watch {
        if !wanted.json {
            say(&id)?;
        }
        return Ok(Exit::Done);
    }
    let wait = Duration::from_millis(wanted.at.map_or(0, |at| at.0.saturating_sub(now.0)));
    let deadline = Instant::now() + wait + wanted.time_limit.0 + SLACK;
    watch(hub, &id, wanted.json, deadline, PAUSE).await
}

/// Waits for the end of a job and shows its family.
pub(super) async fn watch(
    hub: &Hub,
    id: &str,
    json: bool,
    deadline: Instant,
    every: Duration,
) -> Outcome<Exit> {
    let (mut said, mut outage) = (String::new(), Outage::default());
    loop {
        let family = outage.bear(hub, Family::of(hub, id).await)?;
        if let Some(family) = &family {
            if family.has_ended() {
                return family.show(hub, json).await;
            }
            let line = family.line();
            if !json && line != said {
                say(&line)?;
                said = line;
            }
        }
        if Instant::now() >= deadline {
            if let Some(family) = family {
                family.show(hub, json).await?;
            }
            return Ok(Exit::TimedOut);
        }
        tokio::time::sleep(every).await;
    }
}

/// For which devices, in the hub's words, and whether that is one and no more.
fn condition(targets: &Targets) -> Outcome<(String, bool)> {
    if let Some(condition) = &targets.condition {
        return Ok((condition.clone(), false));
    }
    if let Some(bad) = targets.devices.iter().find(|id| id.contains('\'')) {
        return Err(Failure::usage(format!("{bad:?} cannot stand in a query: use --where")));
    }
    let ids: Vec<_> = targets.devices.iter().map(|id| format!("'{id}'")).collect();
    Ok((format!("deviceId IN [{}]", ids.join(", ")), targets.devices.len() == 1))
}

/// A name that says what and when, and is no other's.
fn name(kind: &str, now: Timestamp) -> String {
    let when: String = now.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{kind}-{}", when.trim_end_matches('Z'))
}

/// What stands in queries and addresses must be harmless there.
fn check_id(id: &str) -> Outcome {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    if (1..=128).contains(&id.len()) && id.bytes().all(good) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{id:?} cannot be the ID of a job: letters, digits, '-', '_', '.' and ':', up to 128"
    )))
}

/// The time of day on this machine.
pub(super) fn now() -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// A job's own words for how it stands, such as `3 of 6 devices`.
fn counts(job: &Value) -> String {
    let number = |name: &str| job["deviceJobStatistics"][name].as_u64().unwrap_or(0);
    let parts = [
        (number("succeededCount"), "succeeded"),
        (number("failedCount"), "failed"),
        (number("runningCount"), "running"),
        (number("pendingCount"), "pending"),
    ];
    let parts: Vec<_> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    format!(
        "{} devices{}{}",
        number("deviceCount"),
        if parts.is_empty() { "" } else { ": " },
        parts.join(", ")
    )
}
