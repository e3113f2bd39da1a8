//! The device's side of the hub: MQTT 3.1.1 over a stream that is already encrypted. Not TLS and not listening, so
//! that a WebSocket can be put in between later. Called by `emulator` for each connection.

mod connection;
pub(crate) mod packet;
mod topics;

pub(crate) use connection::serve;
