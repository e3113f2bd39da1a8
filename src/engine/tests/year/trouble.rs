//! What goes wrong, and what is to come by itself.

use super::super::*;
use super::world::{DAY, HOUR, MINUTE, World, moment};
use crate::model::Failure;

/// What goes wrong when an update gets as far as a certain phase.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// The power goes, right after the phase was saved.
    Cut,
    /// The power goes while the phase's work goes on, or later.
    CutAtWork,
    /// The daemon ends and is started again.
    Restart,
    /// It takes over another configuration.
    Reload,
    /// From here on nothing can be saved, and then the power goes.
    DiskFails,
    /// The hub is gone for so many hours.
    HubGone(u64),
    /// The clock jumps by so many days.
    ClockJumps(i64),
    /// The machine is suspended for so many hours.
    Suspend(u64),
    /// Somebody cancels it.
    Cancel,
    /// The hub wants something else.
    Supersede,
}

/// What is to come by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    ClockIsSet,
    HubIsBack,
    LinkIsMade,
    DiskIsWell,
    Consent,
}

impl World {
    pub(super) fn draw_trouble(&mut self) -> Trouble {
        let hours = 1 + self.dice.below(8);
        match self.dice.below(13) {
            0 | 1 => Trouble::Cut,
            2 | 3 => Trouble::CutAtWork,
            4 => Trouble::Restart,
            5 => Trouble::Reload,
            6 => Trouble::DiskFails,
            7 => Trouble::HubGone(hours),
            8 => Trouble::ClockJumps(self.draw_jump()),
            9 | 10 => Trouble::Suspend(hours),
            11 => Trouble::Cancel,
            _ => Trouble::Supersede,
        }
    }

    /// Days, up to ten years either way.
    pub(super) fn draw_jump(&mut self) -> i64 {
        self.dice.below(7300) as i64 - 3650
    }

    /// Something goes wrong.
    pub(super) async fn strike(&mut self, trouble: Trouble) {
        self.judge.figures.troubles += 1;
        self.tell(&format!("{trouble:?}"));
        if !matches!(trouble, Trouble::Cut | Trouble::Restart) {
            self.watch.let_go();
        }
        match trouble {
            Trouble::Cut => {
                self.halt().await;
                self.cut().await;
            }
            Trouble::CutAtWork => {
                for _ in 0..self.dice.below(3) {
                    moment().await;
                }
                self.halt().await;
                self.cut().await;
            }
            Trouble::Restart => {
                self.halt().await;
                self.start();
            }
            Trouble::Reload => self.reload().await,
            Trouble::DiskFails => {
                moment().await;
                self.device.store.refuse(true);
                (self.disk_is_well, self.judge.is_lenient) = (false, true);
                self.later(Due::DiskIsWell, 3 * MINUTE);
            }
            Trouble::HubGone(hours) => {
                self.hub_is_up = false;
                self.lose_link().await;
                self.later(Due::HubIsBack, HOUR * hours as u32);
            }
            Trouble::ClockJumps(days) => {
                let jump = DAY * days.unsigned_abs() as u32;
                self.clocks.set(if days < 0 { self.truth() - jump } else { self.truth() + jump });
                let after = MINUTE * (10 + self.dice.below(600) as u32);
                self.later(Due::ClockIsSet, after);
            }
            Trouble::Suspend(hours) => {
                self.clocks.suspend(HOUR * hours as u32);
                self.slept += HOUR * hours as u32;
                self.lose_link().await;
            }
            Trouble::Cancel => {
                let gave_way = self.gives_way();
                let is_undone = self.record.state.job().is_none_or(|job| job.phase.undoing().is_some());
                let is_undone = is_undone && gave_way.is_none();
                let answer = self.daemon.as_ref().unwrap().ask(Request::Cancel).await;
                // It may have ended meanwhile, or be too far.
                let is_heard = matches!(answer, Ok(Granted::Done(words)) if words.starts_with("Cancelled"));
                if is_heard && !is_undone {
                    let asked = self.judge.asked.as_mut().unwrap();
                    (asked.is_cancelled, asked.gave_way) = (true, gave_way);
                }
            }
            Trouble::Supersede => self.want_another().await,
        }
    }

    /// Which update is being undone for another one.
    fn gives_way(&self) -> Option<String> {
        let job = self.record.state.job()?;
        let why = job.phase.undoing()?;
        (why.failure == Failure::Superseded).then(|| job.id.0.clone())
    }

    async fn cut(&mut self) {
        self.judge.figures.cuts += 1;
        self.boot().await;
    }

    pub(super) async fn fall_due(&mut self, due: Due) {
        match due {
            Due::ClockIsSet => self.clocks.set(self.truth()),
            Due::HubIsBack => {
                self.hub_is_up = true;
                self.link_soon();
            }
            Due::LinkIsMade => self.link().await,
            Due::DiskIsWell => {
                // With the daemon, or what it could not save would be saved now.
                self.halt().await;
                self.device.store.refuse(false);
                self.disk_is_well = true;
                self.cut().await;
            }
            Due::Consent => {
                let waits = self.record.state.job().is_some_and(|job| job.consent.is_none());
                if let Some(daemon) = self.daemon.as_ref().filter(|_| waits) {
                    self.watch.let_go();
                    let _ = daemon.ask(Request::Apply).await;
                    self.hold();
                }
            }
        }
    }
}
