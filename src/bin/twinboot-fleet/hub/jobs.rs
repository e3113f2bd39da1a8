//! Scheduled jobs.

use serde_json::Value;

use twinboot::hub::sas::percent_encoded;

use super::{Call, Hub, Kind, Method, Rows};
use crate::failure::{Failure, Outcome};

impl Hub {
    /// Schedules one, which must not be there yet.
    ///
    /// # Errors
    /// If it is, the hub has no room for another, or something in it cannot be.
    pub(crate) async fn schedule(&self, id: &str, document: Value) -> Outcome<Value> {
        let mut wanted = document.clone();
        if let Some(wanted) = wanted.as_object_mut() {
            // Which the hub writes in a way of its own.
            wanted.remove("startTime");
        }
        self.put(&Call::new(Method::PUT, Kind::Job, path(id)).body(document), &wanted).await
    }

    /// A job; none if there is none by this id.
    ///
    /// # Errors
    /// If the hub does not answer.
    pub(crate) async fn job(&self, id: &str) -> Outcome<Option<Value>> {
        match self.get(&Call::new(Method::GET, Kind::Job, path(id))).await {
            // The hub answers for one that it does not know, too.
            Ok(job) => Ok(Some(job).filter(|job| job["status"] != "unknown")),
            Err(failure) if failure.status == Some(404) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Cancels one.
    ///
    /// # Errors
    /// If there is none, or it has ended.
    pub(crate) async fn cancel_job(&self, id: &str) -> Outcome<Value> {
        self.get(&Call::new(Method::POST, Kind::Job, format!("{}/cancel", path(id)))).await
    }

    /// All jobs, of a type and a status if they are given.
    ///
    /// # Errors
    /// If the status is none that could stand in an address.
    pub(crate) fn jobs(&self, kind: Option<&str>, status: Option<&str>) -> Outcome<Rows<'_>> {
        let mut call = Call::new(Method::GET, Kind::Job, "/jobs/v2/query");
        for (name, value) in [("jobType", kind), ("jobStatus", status)] {
            let Some(value) = value else { continue };
            if value.is_empty() || !value.bytes().all(|b| b.is_ascii_alphabetic()) {
                return Err(Failure::usage(format!("--status: {value:?} is none that a job can have")));
            }
            call = call.parameter(name, value);
        }
        Ok(self.rows(call, None))
    }

    /// The parts of devices in a job, or those of one device in all jobs.
    pub(crate) fn job_parts(&self, name: &str, value: &str) -> Rows<'_> {
        let query = format!("SELECT * FROM devices.jobs WHERE devices.jobs.{name} = '{value}'");
        self.query(&query, None)
    }
}

fn path(id: &str) -> String {
    format!("/jobs/v2/{}", percent_encoded(id))
}
