//! Leading a roll-out: from wave to wave while it goes well, and no further when it does not.

use std::sync::Arc;

use tokio::time::Instant;

use super::census::{Scope, is_moving};
use super::lasting::Lasting;
use super::plan::{Rollout, State, applied};
use crate::arguments::Watching;
use crate::failure::{Exit, Failure, Outcome};
use crate::hub::{Hub, Outage};
use crate::show::{Board, Picture, complain};

/// What follows from how far the devices of a wave are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Wait,
    NextWave,
    Halt,
    End,
}

/// Leads it until it has ended, has halted, or the time is over. A hub that is away for a while is waited for: a roll-out
/// that nobody leads is halted by nobody.
///
/// # Errors
/// If the hub refuses, nobody reads what is shown, or somebody else changed the configuration.
pub(crate) async fn lead(hub: &Arc<Hub>, rollout: Rollout, wanted: &Watching) -> Outcome<Exit> {
    let mut lead = Lead {
        hub,
        rollout,
        next: None,
        board: Board::new(wanted.json),
        seen: Picture::default(),
        lasting: Lasting::default(),
        alarmed: false,
    };
    let deadline = Instant::now() + wanted.timeout.0;
    let mut outage = Outage::default();
    loop {
        match outage.bear(hub, lead.turn().await) {
            Ok(Some(Some(exit))) => return Ok(exit),
            Ok(Some(None) | None) => {}
            Err(failure) => {
                if !is_taken(&lead.rollout.id, &failure) {
                    lead.leave();
                }
                lead.board.leave(&lead.seen);
                return Err(failure);
            }
        }
        if Instant::now() >= deadline {
            lead.leave();
            lead.board.end(&lead.seen)?;
            return Ok(Exit::TimedOut);
        }
        tokio::time::sleep(wanted.every.0.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

/// A roll-out that is led.
struct Lead<'a> {
    hub: &'a Hub,
    rollout: Rollout,
    /// What it was to become, by a change of which is not known whether it was made: the answer never came.
    next: Option<Rollout>,
    board: Board,
    seen: Picture,
    lasting: Lasting,
    /// Too many have failed, as was seen the last time.
    alarmed: bool,
}

impl Lead<'_> {
    /// Looks once and does what follows from it; how it ended, if it has.
    async fn turn(&mut self) -> Outcome<Option<Exit>> {
        let (now, picture) = self.look().await?;
        self.board.show(&picture)?;
        if now.state == State::Halted {
            return self.halted(&picture).map(Some);
        }
        let step = step(&self.rollout, &picture);
        match step {
            // Seen twice: a device that failed before takes a moment to begin anew, and queries lag.
            Step::Halt if self.alarmed => {
                let Picture { total, failed, .. } = picture;
                let most = &self.rollout.halt_at;
                let why = format!("{failed} of {total} devices failed or went back, more than {most}");
                let halted = Rollout { state: State::Halted, why: Some(why), ..self.rollout.clone() };
                self.change(halted).await?;
                return self.halted(&picture).map(Some);
            }
            Step::Halt | Step::Wait => {}
            Step::NextWave => {
                let next = Rollout { wave: self.rollout.wave + 1, ..self.rollout.clone() };
                self.change(next).await?;
                self.board.note(&format!("{}: {}", self.rollout.id, self.rollout.wave_words()))?;
            }
            Step::End => {
                self.board.end(&picture)?;
                return Ok(Some(if picture.failed > 0 { Exit::Failed } else { Exit::Done }));
            }
        }
        self.alarmed = step == Step::Halt;
        Ok(None)
    }

    /// Where it stands and how far the devices of its waves so far are, as long as it is ours to lead.
    async fn look(&mut self) -> Outcome<(Rollout, Picture)> {
        let (now, mut picture) = glance(self.hub, &self.rollout.id, &mut self.lasting).await?;
        let stands = |rollout: &Rollout| (now.wave, now.state) == (rollout.wave, rollout.state);
        match self.next.take() {
            // Our own change was made after all.
            Some(next) if stands(&next) => self.rollout = next,
            Some(_) | None => {}
        }
        if !stands(&self.rollout) {
            return Err(somebody_else(&self.rollout.id));
        }
        // Nothing has moved: what is waited for is worth a query.
        let ended = |picture: &Picture| (picture.total, picture.done, picture.failed);
        if ended(&picture) == ended(&self.seen) && picture.done < picture.total && !is_moving(&picture) {
            picture.lines.extend(scope(&now).waited_for(self.hub).await?);
        }
        self.seen = picture.clone();
        Ok((now, picture))
    }

    async fn change(&mut self, to: Rollout) -> Outcome {
        let changed = change(self.hub, &self.rollout, &to).await;
        match changed {
            Ok(()) => self.rollout = to,
            Err(_) => self.next = Some(to),
        }
        changed
    }

    fn halted(&mut self, picture: &Picture) -> Outcome<Exit> {
        self.board.end(picture)?;
        tell_halt(&self.rollout);
        Ok(Exit::Failed)
    }

    /// Says that nobody leads it any more.
    fn leave(&self) {
        let text = format!("{} goes on, and nobody leads it", self.rollout.id);
        complain(&text, "`twinboot-fleet resume` does");
    }
}

/// Whether this ends our leading because somebody else has seen to the roll-out.
fn is_taken(id: &str, failure: &Failure) -> bool {
    failure.status == Some(412) || [gone(id), foreign(id), somebody_else(id)].contains(failure)
}

/// Where a roll-out stands, and how far the devices of its waves so far are. `lasting` is what earlier glances have seen.
///
/// # Errors
/// If there is none, or the hub does not answer.
pub(crate) async fn glance(hub: &Hub, id: &str, lasting: &mut Lasting) -> Outcome<(Rollout, Picture)> {
    let configuration = hub.configuration(id).await?.ok_or_else(|| gone(id))?;
    let rollout = Rollout::of(&configuration).ok_or_else(|| foreign(id))?;
    let meant = match rollout.condition().trim() {
        "*" => "FROM devices".to_owned(),
        condition => format!("FROM devices WHERE {condition}"),
    };
    let total = hub.count(&meant).await?;
    let picture = scope(&rollout).picture(hub, Some(total), lasting).await?;
    Ok((rollout, picture))
}

fn scope(rollout: &Rollout) -> Scope {
    let (condition, version) = (Some(applied(&rollout.id)), Some(rollout.version.clone()));
    Scope { condition, version, told: rollout.told() }
}

fn step(rollout: &Rollout, picture: &Picture) -> Step {
    let Picture { total, done, failed, .. } = *picture;
    if !rollout.waves.is_empty() && rollout.halt_at.is_exceeded(failed, total) {
        return Step::Halt;
    }
    // They may be reason to halt.
    if picture.undecided > 0 {
        return Step::Wait;
    }
    if rollout.is_last() {
        return if total > 0 && done + failed >= total { Step::End } else { Step::Wait };
    }
    if total > 0 && done + failed >= rollout.enough.of(total) { Step::NextWave } else { Step::Wait }
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
            created: String::new(),
            resumed: String::new(),
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
        let undecided = |undecided| Picture { undecided, ..picture(200, 199, 1) };
        assert_eq!([step(&rollout, &undecided(1)), step(&rollout, &undecided(0))], [Step::Wait, Step::End]);
        rollout.waves.clear();
        assert_eq!(step(&rollout, &picture(10, 0, 10)), Step::End, "all at once there is nothing to halt");
    }
}
