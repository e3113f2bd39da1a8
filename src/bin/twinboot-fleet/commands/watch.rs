//! `watch`: a roll-out, a job, devices, or the whole fleet, to the end. It looks and never acts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::job;
use super::update::before;
use crate::arguments::{Following, Watch};
use crate::failure::{Exit, Outcome};
use crate::follow::{Follow, Goal};
use crate::hub::Hub;
use crate::rollout::{Scope, State, glance, is_moving, tell_halt};
use crate::show::{Board, Picture};

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
        return job::watch(hub, name, wanted.json, deadline, wanted.every.0).await;
    }
    devices(hub, wanted).await
}

/// Looks again and again until it is over, or the time is.
async fn again<F: Future<Output = Outcome<(Picture, bool)>>>(
    wanted: &Watch,
    look: impl Fn() -> F,
) -> Outcome<Exit> {
    let mut board = Board::new(wanted.json);
    let deadline = Instant::now() + wanted.timeout.0;
    loop {
        let (picture, is_over) = look().await?;
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
        tokio::time::sleep(wanted.every.0.min(left)).await;
    }
}

async fn rollout(hub: &Arc<Hub>, id: &str, wanted: &Watch) -> Outcome<Exit> {
    let exit = again(wanted, || async {
        let (rollout, picture) = glance(hub, id).await?;
        let all = picture.total > 0 && picture.done + picture.failed >= picture.total;
        // What is paused, halted or aborted ends with the devices that are still under way.
        let is_over = match rollout.state {
            State::Preparing => false,
            State::Running => rollout.is_last() && all,
            State::Paused | State::Halted | State::Aborted => !is_moving(&picture),
        };
        Ok((picture, is_over))
    })
    .await?;
    // Those who failed count no more for a roll-out that has halted: its devices alone may look as if all were well.
    let (rollout, _) = glance(hub, id).await?;
    tell_halt(&rollout);
    Ok(match rollout.state {
        State::Preparing | State::Running => exit,
        State::Paused if exit == Exit::Done => Exit::TimedOut,
        State::Paused => exit,
        State::Halted | State::Aborted => Exit::Failed,
    })
}

async fn fleet(hub: &Arc<Hub>, wanted: &Watch) -> Outcome<Exit> {
    let scope = Scope { condition: wanted.condition.clone(), version: None, since: None };
    again(wanted, || async {
        let picture = scope.picture(hub, None).await?;
        let is_over = !is_moving(&picture);
        Ok((picture, is_over))
    })
    .await
}

async fn devices(hub: &Arc<Hub>, wanted: &Watch) -> Outcome<Exit> {
    let before = before(hub, &wanted.names).await?;
    if let Some(unknown) = before.iter().find(|report| report.firmware.is_null() && !report.connected) {
        // It may be known and never have reported: then its twin is there.
        hub.twin(&unknown.device).await?;
    }
    let following =
        Following { no_watch: false, timeout: wanted.timeout, every: wanted.every, json: wanted.json };
    Follow::new(Goal::Idle, before, wanted.json).run(hub, &following).await
}
