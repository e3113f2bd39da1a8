//! A simulated device: a board made of files, on which the real daemon runs. For twinboot's tests and demo, and for
//! `hub-emulator fleet`.
//!
//! [`SimDevice`] is a directory with two slots, a redundant bootloader environment, shared state and a "machine" in
//! place of `/proc` and `/etc`. The daemon in it is a process of the program that it is given; the reboot is played,
//! by a bootloader that reads the environment from disk with its own code. Like all of this crate it shares no code
//! with that program: formats and rules are written from their documentation.
//!
//! It is not a machine: no kernel boots and no root file system is mounted. Nothing of it needs root.

mod board;
mod daemon;
pub mod env;
mod firmware;
mod journal;
mod layout;
pub mod loader;
mod secrets;
mod sim;

pub use firmware::{Installed, Recipe};
pub use journal::{Checked, Entry, Failure, Happening};
pub use loader::Slot;
pub use sim::{Options, Sides, SimDevice};
