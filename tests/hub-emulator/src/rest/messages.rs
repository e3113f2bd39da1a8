//! `/messages`: what the service gets to hear of its messages. Sending them is for AMQP, which is not emulated, and for
//! the emulator's own doors.

use super::{Reply, Request, unknown};
use crate::error::{Code, Error};
use crate::policies::Right;
use crate::shared::Shared;

pub(super) fn route(shared: &Shared, request: &Request, rest: &[&str]) -> Result<Reply, Error> {
    request.authorize(shared, Right::ServiceConnect)?;
    match (request.method.as_str(), rest) {
        // There is none, as nobody asked for any: that can only be done over AMQP.
        ("GET", ["serviceBound" | "servicebound", "feedback"]) => Ok(Reply::nothing()),
        ("POST" | "DELETE", ["serviceBound" | "servicebound", "feedback", token, ..]) => {
            Err(Error::new(Code::LockLost, format!("there is no feedback with the lock {token}")))
        }
        ("POST", ["devicebound"]) => {
            let why = "messages are sent over AMQP, which is not emulated; see the doors below /emulator";
            Err(Error::new(Code::NotImplemented, why))
        }
        _ => Err(unknown(request)),
    }
}
