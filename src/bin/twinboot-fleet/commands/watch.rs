//! `watch`: a roll-out, a job, devices, or the whole fleet, to the end. It looks and never acts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::job;
use super::update::before;
use crate::arguments::{Following, Watch};
use crate::failure::{Exit, Outcome};
use crate::follow::{Follow, Goal};
use crate::hub::{Hub, Outage};
use crate::rollout::{Lasting, Scope, State, glance, is_moving, tell_halt};
use crate::show::{Board, Picture};

/// How often to look where that takes queries, of which the hub answers twenty a minute.
const FOR_QUERIES: Duration = Duration::from_secs(30);
const FOR_JOBS: Duration = Duration::from_secs(5);

/// Watches.
pub(super) async fn run(hub: &Arc<Hub>, wanted: &Watch) -> Outcome<Exit> {
    let [name] = wanted.names.as_slice() else {
        return if wanted.names.is_empty() { fleet(hub, wanted).await } else { devices(hub, wanted).await };
    };
    if hub.configuration(name).await?.is_some() {
        return rollout(hub, name, wanted).await;
    }
    if hub.job(name).await?.is_some() {
        let deadline = Instant::now() + wanted.timeout.0;
        let every = wanted.every.map_or(FOR_JOBS, |every| every.0);
        return job::watch(hub, name, wanted.json, deadline, every).await;
    }
    devices(hub, wanted).await
}

/// Looks again and again until it is over, or the time is. A hub that is away for a while is waited for.
async fn again(
    hub: &Hub,
    wanted: &Watch,
    mut look: impl AsyncFnMut() -> Outcome<(Picture, bool)>,
) -> Outcome<Exit> {
    let (mut board, mut outage) = (Board::new(wanted.json), Outage::default());
    let (mut picture, mut is_over) = (Picture::default(), false);
    let every = wanted.every.map_or(FOR_QUERIES, |every| every.0);
    let deadline = Instant::now() + wanted.timeout.0;
    loop {
        match outage.bear(hub, look().await) {
            Ok(Some(found)) => (picture, is_over) = found,
            Ok(None) => {}
            Err(failure) => {
                board.leave(&picture);
                return Err(failure);
            }
        }
        board.show(&picture)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if is_over || left == Duration::ZERO {
            board.end(&picture)?;
            return Ok(match (picture.failed > 0, is_over) {
                (true, _) => Exit::Failed,
                (false, true) => Exit::Done,
                (false, false) => Exit::TimedOut,
            });
        }
        tokio::time::sleep(every.min(left)).await;
    }
}

async fn rollout(hub: &Arc<Hub>, id: &str, wanted: &Watch) -> Outcome<Exit> {
    let (mut lasting, mut last) = (Lasting::default(), None);
    let exit = again(hub, wanted, async || {
        let (rollout, picture) = glance(hub, id, &mut lasting).await?;
        let all = picture.total > 0 && picture.done + picture.failed >= picture.total;
        // What is paused, halted or aborted ends with the devices that are still under way.
        let is_over = match rollout.state {
            State::Preparing => false,
            State::Running => rollout.is_last() && all,
            State::Paused | State::Halted | State::Aborted => !is_moving(&picture),
        };
        last = Some(rollout);
        Ok((picture, is_over))
    })
    .await?;
    // Not once was there an answer.
    let Some(rollout) = last else { return Ok(exit) };
    // Devices alone may look as if all were well.
    tell_halt(&rollout);
    Ok(match rollout.state {
        State::Preparing | State::Running => exit,
        State::Paused if exit == Exit::Done => Exit::TimedOut,
        State::Paused => exit,
        State::Halted | State::Aborted => Exit::Failed,
    })
}

async fn fleet(hub: &Arc<Hub>, wanted: &Watch) -> Outcome<Exit> {
    let scope = Scope { condition: wanted.condition.clone(), version: None, told: None };
    let mut lasting = Lasting::default();
    again(hub, wanted, async || {
        let picture = scope.picture(hub, None, &mut lasting).await?;
        let is_over = !is_moving(&picture);
        Ok((picture, is_over))
    })
    .await
}

async fn devices(hub: &Arc<Hub>, wanted: &Watch) -> Outcome<Exit> {
    let before = before(hub, &wanted.names).await?;
    for unknown in before.iter().filter(|report| report.firmware.is_null() && !report.connected) {
        // It may be known and never have reported: then its twin is there.
        hub.twin(&unknown.device).await?;
    }
    let following =
        Following { no_watch: false, timeout: wanted.timeout, every: wanted.every, json: wanted.json };
    Follow::new(Goal::Idle, before, wanted.json).run(hub, &following).await
}
