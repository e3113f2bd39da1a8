//! A simulated board and its cloud, for the tests and for `cargo demo`.
//!
//! [`SimDevice`] is a directory with two slots, a redundant bootloader environment, shared state and a "machine". The
//! daemon in it is the real `twinboot run`; the reboot is played, by a bootloader that reads the environment from
//! disk with its own code. [`Cloud`] is the hub emulator with one device, and its image server.
//!
//! Each test program uses a part of it.
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

mod cloud;
mod daemon;
mod device;
pub(crate) mod env;
mod firmware;
mod journal;
mod layout;
mod loader;

pub(crate) use cloud::{Cloud, Published};
pub(crate) use device::{Options, SimDevice};
pub(crate) use firmware::{Installed, Recipe};
pub(crate) use journal::{Checked, Entry, Fault, Happening};
pub(crate) use loader::Slot;
