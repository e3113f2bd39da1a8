//! twinboot: power-fail safe A/B firmware updates for Linux gateways, driven by an Azure IoT Hub device twin.

pub mod boot;
pub mod cli;
pub mod config;
pub mod control;
pub mod durable;
pub mod engine;
pub mod events;
pub mod health;
pub mod host;
pub mod hub;
pub mod image;
pub mod model;
pub mod report;
pub mod slots;
pub mod store;
pub mod tls;
pub mod update;
