//! An Azure IoT Hub for one machine: the device protocol (MQTT 3.1.1 over TLS or secure WebSocket, tokens and client
//! certificates), the provisioning service, the service's REST API, automatic configurations, an image server, and
//! faults on demand. Good enough for Microsoft's SDKs unchanged.
//!
//! It is not a broker, keeps nothing on disk unless told where, and shares no code with twinboot: it is written from
//! the public protocol, so that a misreading there cannot be cancelled out by the same misreading here. Used by
//! twinboot's tests and demo through [`Emulator`], and by people through the program of the same name.
//!
//! People look at it in a browser: the page at `/` shows devices, twins, configurations, jobs, faults and events, live,
//! and acts on them. Programs use the doors below `/emulator`. What can go wrong on purpose is the table [`FAULTS`], of
//! which the help of the program and the page's form are made; it is thrown while it runs.
//!
//! Beside the hub there are simulated devices ([`device`]): boards made of files, on which the real daemon runs; and
//! many of them at once ([`fleet`], `hub-emulator fleet N`).
//!
//! Not here: AMQP, and with it the service SDKs' way to send messages to devices; `POST
//! /emulator/devices/{id}/messages` takes its place. Telemetry is counted and the latest shown, and goes nowhere. Import
//! and export jobs, which need blob storage, and IoT Edge deployments as configurations are refused with 501.

mod certificates;
mod chaos;
mod clock;
mod configurations;
pub mod device;
mod digital_twins;
mod emulator;
mod error;
mod escape;
mod events;
mod faults;
pub mod fleet;
mod hub;
mod images;
mod jobs;
mod limits;
mod mqtt;
mod policies;
mod provisioning;
mod query;
mod random;
mod registry;
mod rest;
mod sas;
mod server;
mod shared;
mod store;
mod throttle;
mod tls;
mod twin;
mod websocket;

pub use chaos::{Chaos, Mischief};
pub use emulator::{Emulator, Options};
pub use error::{Code, Error};
pub use events::{Event, EventKind};
pub use faults::{Aim, FAULTS, Fault, FaultKind, FaultRow, Faults, Switch};
pub use hub::Hub;
pub use images::{Images, Listed, Request};
pub use sas::sign;
pub use throttle::Tier;
