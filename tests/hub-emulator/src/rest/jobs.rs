//! `/jobs`: scheduled jobs of version 2. Import and export, which need blob storage, are refused in words.
//!
//! Looking wants the right to read the registry, scheduling and cancelling to write it ("How to schedule and broadcast
//! jobs").

use serde_json::json;

use super::{Reply, Request, query, unknown};
use crate::error::{Code, Error};
use crate::escape;
use crate::policies::Right;
use crate::shared::Shared;

pub(super) fn route(shared: &Shared, request: &Request, rest: &[&str]) -> Result<Reply, Error> {
    match (request.method.as_str(), rest) {
        ("GET", ["v2", "query"]) => {
            request.authorize(shared, Right::RegistryRead)?;
            let filter = |name: &str| escape::first(&request.query, name).filter(|text| !text.is_empty());
            let jobs = shared.read(|hub| hub.job_list(filter("jobType"), filter("jobStatus")));
            query::page(request, jobs, "JobResponse")
        }
        ("GET", ["v2", id]) => {
            request.authorize(shared, Right::RegistryRead)?;
            Ok(Reply::ok(shared.read(|hub| hub.job(id))))
        }
        ("PUT", ["v2", id]) => {
            request.authorize(shared, Right::RegistryWrite)?;
            Ok(Reply::ok(shared.with(|hub| hub.put_job(id, &request.body))?))
        }
        ("POST", ["v2", id, "cancel"]) => {
            request.authorize(shared, Right::RegistryWrite)?;
            Ok(Reply::ok(shared.with(|hub| hub.cancel_job(id))?))
        }
        ("GET", []) => {
            request.authorize(shared, Right::RegistryRead)?;
            Ok(Reply::ok(json!([])))
        }
        ("POST", ["create"]) => {
            request.authorize(shared, Right::RegistryWrite)?;
            let why =
                "import and export are not emulated: they need blob storage; POST /devices does many at once";
            Err(Error::new(Code::NotImplemented, why))
        }
        ("GET" | "DELETE", [id]) => {
            request.authorize(shared, Right::RegistryRead)?;
            Err(Error::new(Code::JobNotFound, format!("there is no import or export job {id}")))
        }
        _ => Err(unknown(request)),
    }
}
