//! The device's side of the hub: MQTT 3.1.1 over a stream that is already encrypted. Not TLS, not listening, and
//! not the WebSocket that may be in between. Called by `server` and `websocket` for each connection.

mod admission;
mod connection;
pub(crate) mod packet;
mod registration;
mod topics;
mod wire;

pub(crate) use connection::serve;
