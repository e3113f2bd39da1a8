//! A bootloader for tests that really chooses a slot: default, trial, tries, and writes that fail on demand.
//!
//! Not a simulation of any one loader: it keeps the contract of [`Bootloader`] in memory. Called by tests of whatever
//! stands above the port. Clones share one board: give one to the engine, and play the boot ROM with the other.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{BootView, Bootloader, Error};
use crate::model::{Slot, VerifiedSlot};

/// What was asked of the bootloader.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Call {
    /// `view`
    View,
    /// `arm`
    Arm(Slot),
    /// `commit`
    Commit(Slot),
    /// `revert`
    Revert(Slot),
}

/// How a write goes wrong. The contract allows both.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Fault {
    /// An error, and the variables are as before.
    Lost,
    /// An error, and the variables are as wanted all the same.
    DoneAndDenied,
}

#[derive(Debug)]
struct Board {
    default: Slot,
    trial: Option<(Slot, u32)>,
    floor: Option<u64>,
    /// Slots that the loader would fall back to.
    is_bootable: [bool; 2],
    tries: u32,
    is_unreadable: bool,
    is_damaged: bool,
    calls: Vec<Call>,
    writes: usize,
    faults: Vec<(usize, Fault)>,
    is_unproved: bool,
    argument: Option<String>,
    /// Boots that the default has left, where the loader counts those too.
    left: Option<u32>,
}

/// A shareable handle on one simulated board.
#[derive(Clone, Debug)]
pub struct FakeBootloader(Arc<Mutex<Board>>);

impl FakeBootloader {
    /// A board that boots `default` and gives a trial `tries` boots.
    pub fn new(default: Slot, tries: u32) -> Self {
        Self(Arc::new(Mutex::new(Board {
            default,
            trial: None,
            floor: None,
            is_bootable: [true; 2],
            tries,
            is_unreadable: false,
            is_damaged: false,
            calls: Vec::new(),
            writes: 0,
            faults: Vec::new(),
            is_unproved: false,
            argument: None,
            left: None,
        })))
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().expect("no test panics while it holds the board")
    }

    /// The `n`-th write from now on (counted from 1) goes wrong.
    pub fn fail_write(&self, n: usize, fault: Fault) {
        let mut board = self.board();
        let at = board.writes + n;
        board.faults.push((at, fault));
    }

    /// From now on nothing can be read, or everything again.
    pub fn set_unreadable(&self, is_unreadable: bool) {
        self.board().is_unreadable = is_unreadable;
    }

    /// What is read means nothing, until a commit or a revert writes it anew.
    pub fn damage(&self) {
        let mut board = self.board();
        (board.is_damaged, board.trial) = (true, None);
    }

    /// From now on a trial begins with a reboot that has this argument.
    pub fn set_reboot_argument(&self, argument: &str) {
        self.board().argument = Some(argument.to_owned());
    }

    /// From now on the loader takes a boot off whatever it boots, and turns to the other slot when none is left, as RAUC's
    /// scripts do: each boot that went well must be told to it.
    pub fn count_every_boot(&self) {
        let mut board = self.board();
        board.left = Some(board.tries);
    }

    /// Puts a trial there that nobody armed through the port, as somebody at a console might.
    pub fn set_trial(&self, slot: Slot) {
        let mut board = self.board();
        (board.default, board.trial) = (!slot, Some((slot, board.tries)));
    }

    /// What was asked so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.board().calls.clone()
    }

    /// How many times the variables were written, failed writes included.
    pub fn writes(&self) -> usize {
        self.board().writes
    }

    /// Whether the loader may still fall back to `slot`, or boots it by default.
    pub fn is_bootable(&self, slot: Slot) -> bool {
        let board = self.board();
        board.default == slot || board.is_bootable[slot as usize]
    }

    /// What `view` would say, without a call being recorded.
    pub fn state(&self) -> BootView {
        self.board().view()
    }

    /// Plays boot ROM and loader: takes boots off a trial until one of them succeeds or none is left, then boots the
    /// default. `bootable` says whether a slot comes up as far as a running system.
    ///
    /// # Panics
    /// If nothing comes up: the board is bricked, and so the test has failed.
    pub fn next_boot(&self, bootable: impl Fn(Slot) -> bool) -> Slot {
        self.try_next_boot(bootable).expect("a slot comes up: else the board is bricked")
    }

    /// [`next_boot`](Self::next_boot), with `None` for a bricked board.
    pub fn try_next_boot(&self, bootable: impl Fn(Slot) -> bool) -> Option<Slot> {
        let mut board = self.board();
        while let Some((slot, left)) = board.trial {
            if left == 0 {
                board.trial = None;
                break;
            }
            board.trial = Some((slot, left - 1));
            if bootable(slot) {
                return Some(slot);
            }
        }
        match board.left {
            None => {}
            Some(0) => {
                board.default = !board.default;
                board.left = Some(board.tries - 1);
            }
            Some(left) => board.left = Some(left - 1),
        }
        bootable(board.default).then_some(board.default)
    }
}

impl Board {
    fn readable(&self) -> Result<(), Error> {
        if self.is_unreadable {
            return Err(Error::Unreadable("the fake environment is unreadable".to_owned()));
        }
        if self.is_damaged {
            return Err(Error::Damaged("the fake environment is damaged".to_owned()));
        }
        Ok(())
    }

    fn view(&self) -> BootView {
        BootView {
            default: self.default,
            trial: self.trial.map(|(slot, _)| slot),
            tries_left: self.trial.map(|(_, left)| left),
            floor: self.floor,
            warnings: Vec::new(),
        }
    }

    fn change(
        &mut self,
        default: Slot,
        trial: Option<(Slot, u32)>,
        is_bootable: [bool; 2],
        floor: Option<u64>,
    ) -> Result<(), Error> {
        if self.is_unreadable {
            return Err(Error::Unreadable("the fake environment is unreadable".to_owned()));
        }
        let wanted = (default, trial, is_bootable, floor);
        let is_full = self.left.is_none_or(|left| left == self.tries);
        let is_in_effect = is_full && (self.default, self.trial, self.is_bootable, self.floor) == wanted;
        if is_in_effect && !self.is_unproved && !self.is_damaged {
            return Ok(());
        }
        self.writes += 1;
        let fault = self.faults.iter().find(|(at, _)| *at == self.writes).map(|(_, fault)| *fault);
        self.is_unproved = fault.is_some();
        if fault != Some(Fault::Lost) {
            self.is_damaged = false;
            self.left = self.left.map(|_| self.tries);
            (self.default, self.trial, self.is_bootable, self.floor) = wanted;
        }
        match fault {
            None => Ok(()),
            Some(_) => Err(Error::Unwritable(format!("the fake write {} fails", self.writes))),
        }
    }
}

impl Bootloader for FakeBootloader {
    fn view(&mut self) -> Result<BootView, Error> {
        let mut board = self.board();
        board.calls.push(Call::View);
        board.readable()?;
        Ok(board.view())
    }

    fn arm(&mut self, slot: &VerifiedSlot) -> Result<(), Error> {
        let slot = slot.slot();
        let mut board = self.board();
        board.calls.push(Call::Arm(slot));
        board.readable()?;
        if board.default == slot {
            return Err(Error::Unwritable(format!("slot {slot} is the default, it needs no trial")));
        }
        let (default, tries) = (board.default, board.tries);
        let floor = board.floor;
        board.change(default, Some((slot, tries)), [true; 2], floor)
    }

    fn commit(&mut self, slot: Slot, floor: Option<u64>) -> Result<(), Error> {
        let mut board = self.board();
        board.calls.push(Call::Commit(slot));
        let is_on_trial = board.trial.is_some_and(|(trial, _)| trial == slot);
        let is_bootable = if is_on_trial { [true; 2] } else { board.is_bootable };
        let floor = floor.or(board.floor);
        board.change(slot, None, is_bootable, floor)
    }

    fn revert(&mut self, to: Slot) -> Result<(), Error> {
        let mut board = self.board();
        board.calls.push(Call::Revert(to));
        let floor = board.floor;
        board.change(to, None, [to == Slot::A, to == Slot::B], floor)
    }

    fn reboot_argument(&mut self) -> Result<Option<String>, Error> {
        let board = self.board();
        Ok(board.argument.clone().filter(|_| board.trial.is_some()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::{Image, Sha256, TargetSlot};

    fn verified(slot: Slot) -> VerifiedSlot {
        let wanted = Image { sha256: Sha256::of(b""), len: 0 };
        VerifiedSlot::attest(TargetSlot::new(slot, !slot, !slot).unwrap(), &wanted.sha256, &wanted).unwrap()
    }

    #[test]
    fn a_trial_takes_its_tries_and_falls_back() {
        let rom = FakeBootloader::new(Slot::A, 2);
        let mut loader = rom.clone();
        loader.arm(&verified(Slot::B)).unwrap();
        assert_eq!([rom.next_boot(|_| true), rom.next_boot(|_| true)], [Slot::B; 2]);
        assert_eq!((rom.state().trial, rom.state().tries_left), (Some(Slot::B), Some(0)));
        assert_eq!(rom.next_boot(|_| true), Slot::A);
        assert_eq!(rom.state().trial, None);
    }

    #[test]
    fn a_slot_that_does_not_come_up_uses_its_tries_at_once() {
        let rom = FakeBootloader::new(Slot::A, 3);
        rom.clone().arm(&verified(Slot::B)).unwrap();
        assert_eq!(rom.next_boot(|slot| slot == Slot::A), Slot::A);
        assert_eq!(rom.try_next_boot(|_| false), None);
    }

    #[test]
    fn a_committed_slot_stays() {
        let rom = FakeBootloader::new(Slot::A, 1);
        let mut loader = rom.clone();
        loader.arm(&verified(Slot::B)).unwrap();
        rom.next_boot(|_| true);
        loader.commit(Slot::B, None).unwrap();
        assert_eq!([rom.next_boot(|_| true), rom.next_boot(|_| true)], [Slot::B; 2]);
        assert!(rom.is_bootable(Slot::A));
        loader.revert(Slot::B).unwrap();
        assert!(!rom.is_bootable(Slot::A));
        assert_eq!(loader.calls(), [Call::Arm(Slot::B), Call::Commit(Slot::B), Call::Revert(Slot::B)]);
    }

    #[test]
    fn writes_fail_as_told_and_repeat_until_proved() {
        let rom = FakeBootloader::new(Slot::A, 1);
        let mut loader = rom.clone();
        loader.commit(Slot::A, None).unwrap();
        assert_eq!(rom.writes(), 0, "already in effect");
        rom.fail_write(1, Fault::Lost);
        rom.fail_write(2, Fault::DoneAndDenied);
        assert!(matches!(loader.arm(&verified(Slot::B)), Err(Error::Unwritable(_))));
        assert_eq!(rom.state().trial, None);
        assert!(matches!(loader.arm(&verified(Slot::B)), Err(Error::Unwritable(_))));
        assert_eq!(rom.state().trial, Some(Slot::B));
        loader.arm(&verified(Slot::B)).unwrap();
        assert_eq!(rom.writes(), 3);
        assert!(loader.arm(&verified(Slot::A)).is_err(), "the default needs no trial");
    }

    #[test]
    fn unreadable_is_an_error_and_no_default() {
        let rom = FakeBootloader::new(Slot::A, 1);
        let mut loader = rom.clone();
        rom.set_unreadable(true);
        assert!(matches!(loader.view(), Err(Error::Unreadable(_))));
        assert!(matches!(loader.revert(Slot::A), Err(Error::Unreadable(_))));
        rom.set_unreadable(false);
        rom.set_trial(Slot::B);
        assert_eq!(loader.view().unwrap().trial, Some(Slot::B));
        rom.damage();
        assert!(matches!(loader.view(), Err(Error::Damaged(_))));
        assert!(matches!(loader.arm(&verified(Slot::B)), Err(Error::Damaged(_))));
        loader.revert(Slot::A).unwrap();
        assert_eq!(loader.view().unwrap().trial, None);
    }
}
