//! Scheduled jobs, version 2: what a job and its children are, how they are read from a request, and the documents
//! that the service sees. Not their course (`progress`) and not the doing (`work`). Works on `hub`; called by `rest`.
//!
//! Source: "Schedule jobs on multiple devices" and the service REST reference (`JobRequest`, `JobResponse`). Decided
//! here, as nothing is documented: a method that the device answered is *completed* whatever its status; a job is
//! *failed* if one child is; a job without a device is *completed*; `statusMessage` counts the devices.

mod progress;
mod work;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock;
use crate::error::{Code, Error};
use crate::hub::{self, Hub, MethodCall};
use crate::query::Condition;
use crate::registry::Device;

pub(crate) use work::drive;

/// Seconds that a job may take if its request does not say.
const DEFAULT_LIMIT: u64 = 3600;

/// One job with its children.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    id: String,
    task: Task,
    condition: Condition,
    /// Milliseconds since 1970, as all times here.
    created: u64,
    start: u64,
    /// When it really began; the time limit counts from here.
    began: Option<u64>,
    end: Option<u64>,
    /// Seconds.
    limit: u64,
    status: Status,
    failure: Option<String>,
    message: Option<String>,
    /// By device, or `device/module`. Filled when the job begins.
    children: BTreeMap<String, Child>,
    /// Jobs are listed in the order of their creation.
    serial: u64,
}

/// What a job does on each device.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Task {
    /// `scheduleDeviceMethod`: the call, and the document that it was read from.
    Method(MethodCall, Value),
    /// `scheduleUpdateTwin`: a twin patch with its `etag`.
    Twin(Value),
}

/// The states of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Just created.
    Queued,
    /// Its time has not come.
    Scheduled,
    /// Its time has come; it waits for another job to end.
    Enqueued,
    Running,
    Completed,
    Failed,
    Cancelled,
}

/// One device's part of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Child {
    status: ChildStatus,
    created: u64,
    updated: u64,
    start: Option<u64>,
    end: Option<u64>,
    /// Status and payload of the device's answer to a method.
    answer: Option<(i64, Value)>,
    /// Code and description.
    error: Option<(String, String)>,
}

/// The states of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChildStatus {
    Pending,
    Running,
    Completed,
    Failed,
    /// With one l, unlike a job's.
    Canceled,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Scheduled => "scheduled",
            Status::Enqueued => "enqueued",
            Status::Running => "running",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }

    fn is_end(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Cancelled)
    }
}

impl ChildStatus {
    fn word(self) -> &'static str {
        match self {
            ChildStatus::Pending => "pending",
            ChildStatus::Running => "running",
            ChildStatus::Completed => "completed",
            ChildStatus::Failed => "failed",
            ChildStatus::Canceled => "canceled",
        }
    }

    fn is_end(self) -> bool {
        matches!(self, ChildStatus::Completed | ChildStatus::Failed | ChildStatus::Canceled)
    }
}

impl Task {
    fn word(&self) -> &'static str {
        match self {
            Task::Method(_, _) => "scheduleDeviceMethod",
            Task::Twin(_) => "scheduleUpdateTwin",
        }
    }

    fn parse(body: &Value) -> Result<Task, Error> {
        let member = |name: &str| {
            let member = body.get(name).filter(|member| member.is_object());
            member.ok_or_else(|| Error::invalid(format!("{} wants {name} {{…}}", body["type"])))
        };
        match body.get("type").and_then(Value::as_str).unwrap_or_default() {
            "scheduleDeviceMethod" => {
                let call = member("cloudToDeviceMethod")?;
                Ok(Task::Method(MethodCall::parse(call)?, call.clone()))
            }
            "scheduleUpdateTwin" => {
                let patch = member("updateTwin")?;
                if !patch.get("etag").is_some_and(Value::is_string) {
                    return Err(Error::invalid("updateTwin wants an etag; \"*\" is any"));
                }
                // What no device could take is refused at once.
                hub::apply_patch(&mut Device::create("any", &json!({}))?, patch, false)?;
                Ok(Task::Twin(patch.clone()))
            }
            other => Err(Error::invalid(format!(
                "a job's type is scheduleDeviceMethod or scheduleUpdateTwin and not {other:?}"
            ))),
        }
    }
}

impl Job {
    fn parse(id: &str, body: &Value, serial: u64) -> Result<Job, Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-:.+%_#*?!(),=@;$'".contains(c);
        if id.is_empty() || id.len() > 128 || !id.chars().all(allowed) {
            return Err(Error::invalid(format!("{id:?} cannot be the id of a job")));
        }
        if body.get("jobId").is_some_and(|named| *named != id) {
            return Err(Error::invalid("the jobId of the body is not that of the path"));
        }
        let text = body.get("queryCondition").and_then(Value::as_str).unwrap_or_default();
        let condition = Condition::parse(text)?;
        if condition.is_empty() {
            return Err(Error::invalid("queryCondition is missing: * is every device"));
        }
        let now = clock::millis_now();
        Ok(Job {
            id: id.to_owned(),
            task: Task::parse(body)?,
            condition,
            created: now,
            start: start(body.get("startTime"))?.unwrap_or(now),
            began: None,
            end: None,
            limit: limit(body.get("maxExecutionTimeInSeconds"))?,
            status: Status::Queued,
            failure: None,
            message: None,
            children: BTreeMap::new(),
            serial,
        })
    }

    fn count(&self, status: ChildStatus) -> usize {
        self.children.values().filter(|child| child.status == status).count()
    }

    /// The job, as `/jobs/v2/{id}` shows it. What is not there yet is left out.
    pub(crate) fn document(&self) -> Value {
        let mut document = json!({
            "jobId": self.id,
            "queryCondition": self.condition.text(),
            "createdTime": clock::iso_millis(self.created),
            "startTime": clock::iso_millis(self.start),
            "maxExecutionTimeInSeconds": self.limit,
            "type": self.task.word(),
            "status": self.status.word(),
        });
        match &self.task {
            Task::Method(_, call) => document["cloudToDeviceMethod"] = call.clone(),
            Task::Twin(patch) => document["updateTwin"] = patch.clone(),
        }
        if let Some(end) = self.end {
            document["endTime"] = json!(clock::iso_millis(end));
        }
        if let Some(failure) = &self.failure {
            document["failureReason"] = json!(failure);
        }
        if let Some(message) = &self.message {
            document["statusMessage"] = json!(message);
        }
        if self.began.is_some() {
            document["deviceJobStatistics"] = json!({
                "deviceCount": self.children.len(),
                "failedCount": self.count(ChildStatus::Failed),
                "succeededCount": self.count(ChildStatus::Completed),
                "runningCount": self.count(ChildStatus::Running),
                "pendingCount": self.count(ChildStatus::Pending),
            });
        }
        document
    }

    /// The children, as a query of `devices.jobs` shows them.
    fn rows(&self) -> impl Iterator<Item = Value> {
        self.children.iter().map(|(device, child)| {
            let mut row = Map::new();
            let mut put = |name: &str, value: Value| drop(row.insert(name.to_owned(), value));
            match device.split_once('/') {
                Some((device, module)) => {
                    put("deviceId", json!(device));
                    put("moduleId", json!(module));
                }
                None => put("deviceId", json!(device)),
            }
            put("jobId", json!(self.id));
            put("jobType", json!(self.task.word()));
            put("status", json!(child.status.word()));
            put("createdDateTimeUtc", json!(clock::iso_millis(child.created)));
            put("lastUpdatedDateTimeUtc", json!(clock::iso_millis(child.updated)));
            for (name, at) in [("startTimeUtc", child.start), ("endTimeUtc", child.end)] {
                if let Some(at) = at {
                    put(name, json!(clock::iso_millis(at)));
                }
            }
            let answer = child.answer.as_ref();
            let answer = answer.map(|(status, payload)| json!({"status": status, "payload": payload}));
            put("outcome", json!({"deviceMethodResponse": answer}));
            if let Some((code, description)) = &child.error {
                put("error", json!({"code": code, "description": description}));
            }
            Value::Object(row)
        })
    }
}

/// Missing and null are now, and so is what has gone by.
fn start(value: Option<&Value>) -> Result<Option<u64>, Error> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_str().and_then(clock::parse) {
            Some(at) => Ok(Some(at)),
            None => Err(Error::invalid(format!("startTime {value} is not like 2026-01-31T12:00:00Z"))),
        },
    }
}

fn limit(value: Option<&Value>) -> Result<u64, Error> {
    match value {
        None | Some(Value::Null) => Ok(DEFAULT_LIMIT),
        Some(value) => match value.as_u64() {
            Some(0) => Ok(DEFAULT_LIMIT),
            Some(seconds) => Ok(seconds),
            None => Err(Error::invalid("maxExecutionTimeInSeconds is not a number of seconds")),
        },
    }
}

impl Hub {
    /// A job by its id. One that is not known is shown too, as the service does: type and status `unknown`.
    pub(crate) fn job(&self, id: &str) -> Value {
        let unknown = || json!({"jobId": id, "type": "unknown", "status": "unknown"});
        self.jobs.get(id).map_or_else(unknown, Job::document)
    }

    /// All jobs of a type and a status, each if it is given, in the order of their creation.
    pub(crate) fn job_list(&self, kind: Option<&str>, status: Option<&str>) -> Vec<Value> {
        let same =
            |wanted: Option<&str>, word: &str| wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(word));
        let mut jobs: Vec<&Job> = self.jobs.values().collect();
        jobs.retain(|job| same(kind, job.task.word()) && same(status, job.status.word()));
        jobs.sort_by_key(|job| job.serial);
        jobs.into_iter().map(Job::document).collect()
    }

    /// The children of all jobs.
    pub(crate) fn job_rows(&self) -> Vec<Value> {
        let mut jobs: Vec<&Job> = self.jobs.values().collect();
        jobs.sort_by_key(|job| job.serial);
        jobs.into_iter().flat_map(Job::rows).collect()
    }

    /// A PUT, which only ever creates.
    pub(crate) fn put_job(&mut self, id: &str, body: &Value) -> Result<Value, Error> {
        if self.jobs.contains_key(id) {
            return Err(Error::new(Code::JobAlreadyExists, format!("there is a job {id}")));
        }
        let serial = self.jobs.values().map(|job| job.serial).max().unwrap_or(0) + 1;
        let job = Job::parse(id, body, serial)?;
        if self.limits.jobs.is_some_and(|limit| self.busy_jobs() >= limit) {
            let mut error = Error::new(
                Code::TooManyJobs,
                format!("{} jobs are under way, which is the limit", self.busy_jobs()),
            );
            error.retry_after = Some(1);
            return Err(error);
        }
        let document = job.document();
        self.jobs.insert(id.to_owned(), job);
        self.tell_job(id);
        Ok(document)
    }
}

#[cfg(test)]
mod tests;
