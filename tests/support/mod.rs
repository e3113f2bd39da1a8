//! The board and the cloud of a test: [`SimDevice`] from the emulator's crate, which is a board made of files with the
//! real daemon in it, and [`Cloud`], the hub emulator with one device and its image server.
//!
//! Each test program uses a part of it.
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

mod cloud;
pub(crate) mod proxy;

pub(crate) use cloud::{Cloud, Published};
pub(crate) use hub_emulator::device::{
    Checked, Entry, Failure as Fault, Happening, Installed, Options, Recipe, Sides, SimDevice, Slot, env,
};
