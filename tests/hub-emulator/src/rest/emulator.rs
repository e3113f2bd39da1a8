//! `/emulator`: what only an emulator has. Open to every program of this machine, as `guard` has it: it is a tool.
//!
//! | door | |
//! | --- | --- |
//! | `GET /emulator` | where it listens |
//! | `GET /emulator/state` | everything it knows but keys |
//! | `GET /emulator/view` | what the page shows: devices in short, configurations, jobs, faults, images; with an ETag |
//! | `GET /emulator/events` | what happens, as Server-Sent Events (`live`) |
//! | `GET /emulator/devices/{id}` | the twin of a device, its subscriptions and messages |
//! | `PATCH /emulator/devices/{id}/twin` | merges tags and desired properties, as the service's PATCH does |
//! | `POST /emulator/devices/{id}/methods` | calls a direct method, as the service's POST does |
//! | `POST /emulator/devices/{id}/messages` | sends a cloud-to-device message; GET lists those that wait, DELETE purges |
//! | `POST /emulator/devices/{id}/drop` | cuts its connection |
//! | `GET /emulator/faults` | the faults that are on, with their numbers |
//! | `POST /emulator/faults` | switches on one, or an array of them |
//! | `PUT /emulator/faults` | switches on these and nothing else |
//! | `DELETE /emulator/faults`, `…/{number}` | switches all off, or one |
//! | `GET /emulator/faults/table` | what there is |
//! | `GET /emulator/provisioning`, `PATCH …` | the provisioning service, and its settings |
//! | `PUT /emulator/enrollments/{id}`, `…/enrollmentGroups/{name}` | enrols; GET and DELETE too |
//! | `POST /emulator/authorities` | an authority that may sign certificates of devices; GET and DELETE too |
//! | `GET /emulator/images` | the log of the image server |
//!
//! What people look at (`view` and a device) leaves secrets out; see `veil`.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::veil::veil;
use super::{Reply, Request, registrations, twins, unknown};
use crate::error::{Code, Error};
use crate::faults::{FAULTS, Fault};
use crate::shared::Shared;

pub(super) async fn route(shared: &Shared, request: &Request, rest: &[&str]) -> Result<Reply, Error> {
    match (request.method.as_str(), rest) {
        ("GET", []) => Ok(Reply::ok(place(shared))),
        ("GET", ["state"]) => Ok(Reply::ok(shared.read(|hub| hub.state()))),
        ("GET", ["view"]) => Ok(view(shared, request)),
        (_, ["faults", rest @ ..]) => faults(shared, request, rest),
        (_, ["devices", id, rest @ ..]) => device(shared, request, id, rest).await,
        ("GET", ["images"]) => Ok(Reply::ok(json!(shared.images.log()))),
        (_, ["provisioning" | "enrollments" | "enrollmentGroups" | "authorities", ..]) => {
            registrations::doors(shared, request, rest)
        }
        _ => Err(unknown(request)),
    }
}

fn place(shared: &Shared) -> Value {
    let place = &shared.place;
    json!({"host": place.host, "mqttPort": place.mqtt_port, "httpsPort": place.https_port})
}

/// Tagged by its content: faults run out without anything happening.
fn view(shared: &Shared, request: &Request) -> Reply {
    let mut view = shared.read(|hub| hub.view());
    view["hub"] = place(shared);
    view["faults"] = json!(shared.faults.switches());
    view["images"] = json!(shared.images.list());
    veil(&mut view);
    let digest = Sha256::digest(view.to_string());
    let tag: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = request.header("if-none-match") == Some(&tag);
    let reply = if known { Reply { status: 304, headers: Vec::new(), body: None } } else { Reply::ok(view) };
    reply.with("ETag", tag)
}

fn faults(shared: &Shared, request: &Request, rest: &[&str]) -> Result<Reply, Error> {
    match (request.method.as_str(), rest) {
        ("GET", []) => {}
        ("GET", ["table"]) => return Ok(Reply::ok(json!(FAULTS))),
        ("POST" | "PUT", []) => {
            let one = || vec![request.body.clone()];
            let wanted: Vec<Value> = request.body.as_array().cloned().unwrap_or_else(one);
            // All are read before the first is set.
            let wanted = wanted.iter().map(Fault::from_json).collect::<Result<Vec<_>, _>>()?;
            if request.method == "PUT" {
                shared.faults.clear();
            }
            for fault in wanted {
                shared.throw(fault);
            }
            shared.touch();
        }
        ("DELETE", []) => {
            shared.faults.clear();
            shared.touch();
            return Ok(Reply::nothing());
        }
        ("DELETE", [number]) => {
            if !number.parse().is_ok_and(|number| shared.faults.remove(number)) {
                return Err(Error::new(Code::NotFound, format!("no fault with the number {number} is on")));
            }
            shared.touch();
            return Ok(Reply::nothing());
        }
        _ => return Err(unknown(request)),
    }
    Ok(Reply::ok(json!(shared.faults.switches())))
}

async fn device(shared: &Shared, request: &Request, id: &str, rest: &[&str]) -> Result<Reply, Error> {
    shared.read(|hub| hub.device(id).map(|_| ()))?;
    match (request.method.as_str(), rest) {
        ("GET", []) => {}
        ("PATCH", ["twin"]) => {
            shared.with(|hub| hub.update_twin(id, &request.body, false, None))?;
            let mut twin = shared.read(|hub| hub.twin(id));
            veil(&mut twin);
            return Ok(Reply::ok(twin));
        }
        ("POST", ["methods"]) => return twins::invoke(shared, request, id).await,
        ("POST", ["drop"]) => {
            let dropped = shared.with(|hub| hub.cut(id, "dropped on request"));
            return Ok(Reply::ok(json!({"dropped": dropped})));
        }
        ("GET", ["messages"]) => return Ok(Reply::ok(shared.read(|hub| hub.messages(id)))),
        ("POST", ["messages"]) => {
            return Ok(Reply::ok(shared.with(|hub| hub.send_message(id, &request.body))?));
        }
        ("DELETE", ["messages"]) => {
            let purged = shared.with(|hub| hub.purge_messages(id));
            return Ok(Reply::ok(json!({"purged": purged})));
        }
        _ => return Err(unknown(request)),
    }
    let mut view = shared.read(|hub| hub.device_view(id)).unwrap_or_default();
    veil(&mut view);
    Ok(Reply::ok(view))
}
