//! The control socket: how the command line on this device talks to the daemon.
//!
//! [`proto`] is the language, JSON lines; [`server`] listens in the daemon, knows who is asking and what they may;
//! [`client`] asks. What a request means is the engine's business: it gets each as a [`server::Call`] and answers. The
//! status is passed through as it is.

mod access;
pub mod client;
pub mod proto;
pub mod server;
mod socket;
#[cfg(test)]
mod tests;

pub use access::Peer;
