//! `twinboot-fleet` against the hub emulator: the real programs on both sides, and where devices are needed, simulated
//! ones with the real daemon.
#![allow(clippy::unwrap_used)]

mod act;
mod bundle;
mod connection;
mod examples;
mod job;
mod line;
mod look;
mod mishaps;
mod rollout;
mod scale;
mod tool;
