//! `/emulator`: what only an emulator has. Open to everyone who reaches the port: it is a tool for one machine.

use serde_json::{Value, json};

use super::{Reply, Request, registrations, unknown};
use crate::error::Error;
use crate::faults::Fault;
use crate::shared::Shared;

pub(super) fn route(shared: &Shared, request: &Request, rest: &[&str]) -> Result<Reply, Error> {
    match (request.method.as_str(), rest) {
        ("GET", ["state"]) => Ok(Reply::ok(shared.read(|hub| hub.state()))),
        ("GET", ["faults"]) => Ok(Reply::ok(json!(shared.faults.list()))),
        ("POST", ["faults"]) => {
            let one = || vec![request.body.clone()];
            let wanted: Vec<Value> = request.body.as_array().cloned().unwrap_or_else(one);
            // All are read before the first is set.
            let faults: Result<Vec<Fault>, _> = wanted.into_iter().map(serde_json::from_value).collect();
            let faults = faults.map_err(|error| Error::invalid(format!("no such fault: {error}")))?;
            faults.into_iter().for_each(|fault| shared.faults.set(fault));
            Ok(Reply::ok(json!(shared.faults.list())))
        }
        ("DELETE", ["faults"]) => {
            shared.faults.clear();
            Ok(Reply::nothing())
        }
        ("POST", ["devices", id, "drop"]) => {
            shared.read(|hub| hub.device(id).map(|_| ()))?;
            let dropped = shared.with(|hub| hub.cut(id, "dropped on request"));
            Ok(Reply::ok(json!({"dropped": dropped})))
        }
        ("GET", ["images"]) => Ok(Reply::ok(json!(shared.images.log()))),
        (_, ["provisioning" | "enrollments" | "enrollmentGroups" | "authorities", ..]) => {
            registrations::doors(shared, request, rest)
        }
        _ => Err(unknown(request)),
    }
}
