//! Leading a roll-out: from wave to wave while it goes well, and no further when it does not.

use std::sync::Arc;

use tokio::time::Instant;

use super::census::Scope;
use super::plan::{Rollout, State, applied};
use crate::arguments::Watching;
use crate::failure::{Exit, Failure, Outcome};
use crate::hub::Hub;
use crate::show::{Board, Picture, complain};

/// What follows from how far the devices of a wave are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Wait,
    NextWave,
    Halt,
    End,
}

/// Leads it until it has ended, has halted, or the time is over.
///
/// # Errors
/// If the hub does not answer, or somebody else changed the configuration.
pub(crate) async fn lead(hub: &Arc<Hub>, mut rollout: Rollout, wanted: &Watching) -> Outcome<Exit> {
    let mut board = Board::new(wanted.json);
    let deadline = Instant::now() + wanted.timeout.0;
    let mut alarmed = false;
    loop {
        let picture = look(hub, &rollout).await?;
        board.show(&picture)?;
        let step = step(&rollout, &picture);
        match step {
            // Seen twice: a device that failed before takes a moment to begin anew, and queries lag.
            Step::Halt if alarmed => {
                board.end(&picture)?;
                return halt(hub, rollout, &picture).await;
            }
            Step::Halt | Step::Wait => {}
            Step::NextWave => {
                let next = Rollout { wave: rollout.wave + 1, ..rollout.clone() };
                change(hub, &rollout, &next).await?;
                rollout = next;
                board.note(&format!("{}: {}", rollout.id, rollout.wave_words()))?;
            }
            Step::End => {
                board.end(&picture)?;
                return Ok(if picture.failed > 0 { Exit::Failed } else { Exit::Done });
            }
        }
        alarmed = step == Step::Halt;
        if Instant::now() >= deadline {
            board.end(&picture)?;
            complain(&format!("{} goes on, and nobody leads it", rollout.id), "`twinboot-fleet resume` does");
            return Ok(Exit::TimedOut);
        }
        tokio::time::sleep(wanted.every.0.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

/// How far the devices of the waves so far are, of a roll-out that is still ours to lead.
pub(crate) async fn look(hub: &Hub, rollout: &Rollout) -> Outcome<Picture> {
    let (now, picture) = glance(hub, &rollout.id).await?;
    if (now.wave, now.state) != (rollout.wave, rollout.state) {
        return Err(somebody_else(&rollout.id));
    }
    Ok(picture)
}

/// Where a roll-out stands, and how far the devices of its waves so far are.
///
/// # Errors
/// If there is none, or the hub does not answer.
pub(crate) async fn glance(hub: &Hub, id: &str) -> Outcome<(Rollout, Picture)> {
    let configuration = hub.configuration(id).await?.ok_or_else(|| gone(id))?;
    let rollout = Rollout::of(&configuration).ok_or_else(|| foreign(id))?;
    let meant = match rollout.condition().trim() {
        "*" => "FROM devices".to_owned(),
        condition => format!("FROM devices WHERE {condition}"),
    };
    let total = hub.count(&meant).await?;
    let since = configuration["createdTimeUtc"].as_str().map(str::to_owned);
    let scope = Scope { condition: Some(applied(id)), version: Some(rollout.version.clone()), since };
    let picture = scope.picture(hub, Some(total)).await?;
    Ok((rollout, picture))
}

fn step(rollout: &Rollout, picture: &Picture) -> Step {
    let Picture { total, done, failed, .. } = *picture;
    if !rollout.waves.is_empty() && rollout.halt_at.is_exceeded(failed, total) {
        return Step::Halt;
    }
    if rollout.is_last() {
        return if total > 0 && done + failed >= total { Step::End } else { Step::Wait };
    }
    if total > 0 && done + failed >= rollout.enough.of(total) { Step::NextWave } else { Step::Wait }
}

async fn halt(hub: &Hub, rollout: Rollout, picture: &Picture) -> Outcome<Exit> {
    let Picture { total, failed, .. } = picture;
    let why = format!("{failed} of {total} devices failed or went back, more than {}", rollout.halt_at);
    let halted = Rollout { state: State::Halted, why: Some(why), ..rollout.clone() };
    change(hub, &rollout, &halted).await?;
    tell_halt(&halted);
    Ok(Exit::Failed)
}

/// Says that a roll-out has halted, if it has, and what can be done.
pub(crate) fn tell_halt(rollout: &Rollout) {
    if let Some(text) = rollout.halted() {
        complain(
            &text,
            "see why, then `twinboot-fleet resume` (--halt-at) goes on, `abort` or `delete` ends it",
        );
    }
}

/// Brings the configuration from where the roll-out was, as we know it, to where it is to be.
///
/// # Errors
/// If it is gone, or somebody else has changed it in the meantime: what they did stands.
pub(crate) async fn change(hub: &Hub, from: &Rollout, to: &Rollout) -> Outcome {
    let configuration = hub.configuration(&to.id).await?.ok_or_else(|| gone(&to.id))?;
    if Rollout::of(&configuration).as_ref() != Some(from) {
        return Err(somebody_else(&to.id));
    }
    hub.change_configuration(&to.id, to.change(configuration)).await?;
    Ok(())
}

fn somebody_else(id: &str) -> Failure {
    Failure::failed(format!("somebody else has changed {id}: it is left to them"))
        .remedy("`twinboot-fleet rollouts` shows how it stands")
}

/// There is one, and not of ours.
pub(crate) fn foreign(id: &str) -> Failure {
    Failure::failed(format!("{id} is a configuration that `twinboot-fleet deploy` has not made"))
        .remedy("`twinboot-fleet rollouts` shows its counts")
}

/// There is no such configuration.
pub(crate) fn gone(id: &str) -> Failure {
    Failure::failed(format!("there is no roll-out {id}")).remedy("`twinboot-fleet rollouts` lists them")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_goes_on_ends_or_halts() {
        let mut rollout = Rollout {
            id: "x".into(),
            version: "2".into(),
            target: "*".into(),
            waves: ["10%", "100%"].map(|size| size.parse().unwrap()).to_vec(),
            wave: 0,
            halt_at: "5%".parse().unwrap(),
            enough: "90%".parse().unwrap(),
            state: State::Running,
            why: None,
            nonce: String::new(),
        };
        let picture = |total, done, failed| Picture { total, done, failed, ..Picture::default() };
        for (wave, total, done, failed, wanted) in [
            (0, 20, 0, 0, Step::Wait),
            (0, 20, 16, 1, Step::Wait),
            (0, 20, 18, 1, Step::NextWave),
            (0, 20, 18, 2, Step::Halt),
            (0, 0, 0, 0, Step::Wait),
            (1, 200, 195, 4, Step::Wait),
            (1, 200, 195, 5, Step::End),
            (1, 200, 100, 11, Step::Halt),
        ] {
            rollout.wave = wave;
            assert_eq!(
                step(&rollout, &picture(total, done, failed)),
                wanted,
                "{wave} {total} {done} {failed}"
            );
        }
        rollout.waves.clear();
        assert_eq!(step(&rollout, &picture(10, 0, 10)), Step::End, "all at once there is nothing to halt");
    }
}
