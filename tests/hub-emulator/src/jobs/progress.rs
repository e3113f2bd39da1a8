//! The course of a job: from queued to its end, and that of its children. Every step is a change of the hub; when to
//! make it is decided by `work`.

use serde_json::Value;

use super::{Child, ChildStatus, Job, Status, Task};
use crate::clock;
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::hub::{Hub, MethodCall};

/// One device's part, to be done now.
#[derive(Debug)]
pub(super) enum Part {
    /// To be called and waited for; the end is told by [`Hub::end_part`].
    Call(MethodCall),
    /// Done already.
    Done,
    /// Not to be done: the job has ended, or the device's part has.
    Nothing,
}

impl Hub {
    /// Jobs that run or only wait for room.
    pub(super) fn busy_jobs(&self) -> usize {
        let busy = |job: &&Job| match job.status {
            Status::Queued | Status::Enqueued | Status::Running => true,
            Status::Scheduled | Status::Completed | Status::Failed | Status::Cancelled => false,
        };
        self.jobs.values().filter(busy).count()
    }

    /// Whether [`step_jobs`](Self::step_jobs) would change something.
    pub(super) fn jobs_wait(&self, now: u64) -> bool {
        self.jobs.values().any(|job| match job.status {
            Status::Queued => true,
            Status::Scheduled => job.start <= now,
            Status::Enqueued => self.room_for_job(),
            Status::Running => job.deadline() <= now || !self.job_workers.contains(&job.id),
            Status::Completed | Status::Failed | Status::Cancelled => false,
        })
    }

    /// The next moment at which `jobs_wait` may become true by itself.
    pub(super) fn next_job_moment(&self) -> Option<u64> {
        let moments = self.jobs.values().filter_map(|job| match job.status {
            Status::Scheduled => Some(job.start),
            Status::Running => Some(job.deadline()),
            Status::Queued | Status::Enqueued => None,
            Status::Completed | Status::Failed | Status::Cancelled => None,
        });
        moments.min()
    }

    fn room_for_job(&self) -> bool {
        let running = self.jobs.values().filter(|job| job.status == Status::Running).count();
        self.limits.jobs.is_none_or(|limit| running < limit)
    }

    /// Moves every job on as far as the time allows; those whose devices are to be worked on from now.
    pub(super) fn step_jobs(&mut self, now: u64) -> Vec<String> {
        let mut ids: Vec<(u64, String)> =
            self.jobs.values().map(|job| (job.serial, job.id.clone())).collect();
        ids.sort();
        let mut begun = Vec::new();
        for (_, id) in ids {
            let Some(job) = self.jobs.get(&id) else { continue };
            let (before, start, deadline) = (job.status, job.start, job.deadline());
            match before {
                Status::Queued | Status::Scheduled if start > now => self.set_job(&id, Status::Scheduled),
                Status::Queued | Status::Scheduled | Status::Enqueued if !self.room_for_job() => {
                    self.set_job(&id, Status::Enqueued);
                }
                Status::Queued | Status::Scheduled | Status::Enqueued => {
                    self.begin_job(&id, now);
                    begun.push(id);
                }
                Status::Running if deadline <= now => self.expire_job(&id),
                Status::Running if !self.job_workers.contains(&id) => {
                    self.take_up_job(&id);
                    begun.push(id);
                }
                Status::Running | Status::Completed | Status::Failed | Status::Cancelled => {}
            }
        }
        begun
    }

    fn set_job(&mut self, id: &str, status: Status) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        if job.status != status {
            job.status = status;
            self.tell_job(id);
        }
    }

    /// The devices are those that the condition picks now.
    fn begin_job(&mut self, id: &str, now: u64) {
        let Some(job) = self.jobs.get(id) else { return };
        let of_modules = job.condition.of_modules();
        let keys = self.keys().into_iter().filter(|key| key.contains('/') == of_modules);
        let picked: Vec<String> = keys.filter(|key| job.condition.picks(&self.twin(key))).collect();
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.began = Some(now);
        job.children = picked.into_iter().map(|key| (key, Child::new(now))).collect();
        self.job_workers.insert(id.to_owned());
        self.set_job(id, Status::Running);
        self.settle_job(id);
    }

    /// A job that was running when the emulator ended. A call that was under way is not made twice: the hub never
    /// repeats one.
    fn take_up_job(&mut self, id: &str) {
        self.job_workers.insert(id.to_owned());
        let Some(job) = self.jobs.get(id) else { return };
        let running = job.children.iter().filter(|(_, child)| child.status == ChildStatus::Running);
        let running: Vec<String> = running.map(|(device, _)| device.clone()).collect();
        for device in running {
            let lost = Error::new(Code::ServerError, "the emulator ended while the device was being called");
            self.end_part(id, &device, Err(lost));
        }
        self.settle_job(id);
    }

    /// The devices that a job has still to begin with.
    pub(super) fn pending_parts(&self, id: &str) -> Vec<String> {
        let Some(job) = self.jobs.get(id) else { return Vec::new() };
        let pending = job.children.iter().filter(|(_, child)| child.status == ChildStatus::Pending);
        pending.map(|(device, _)| device.clone()).collect()
    }

    /// Begins with one device.
    pub(super) fn begin_part(&mut self, id: &str, device: &str) -> Part {
        let Some(job) = self.jobs.get_mut(id).filter(|job| job.status == Status::Running) else {
            return Part::Nothing;
        };
        let pending = job.children.get_mut(device).filter(|child| child.status == ChildStatus::Pending);
        let Some(child) = pending else { return Part::Nothing };
        let now = clock::millis_now();
        (child.status, child.start, child.updated) = (ChildStatus::Running, Some(now), now);
        match job.task.clone() {
            Task::Method(call, _) => {
                self.tell_child(id, device);
                Part::Call(call)
            }
            Task::Twin(patch) => {
                let outcome = self.job_patch(device, &patch);
                self.end_part(id, device, outcome.map(|()| None));
                Part::Done
            }
        }
    }

    /// The etag of a job's patch has no quotes, as everything in a body.
    fn job_patch(&mut self, device: &str, patch: &Value) -> Result<(), Error> {
        let etag = patch.get("etag").and_then(Value::as_str).unwrap_or("*");
        self.update_twin(device, patch, false, Some(&format!("\"{}\"", etag.trim_matches('"'))))?;
        Ok(())
    }

    /// One device's part has ended: with an answer, without one, or not well. Too late for a job that has ended.
    pub(super) fn end_part(&mut self, id: &str, device: &str, outcome: Result<Option<(i64, Value)>, Error>) {
        let child = self.jobs.get_mut(id).and_then(|job| job.children.get_mut(device));
        let Some(child) = child.filter(|child| !child.status.is_end()) else { return };
        match outcome {
            Ok(answer) => {
                child.finish(ChildStatus::Completed);
                child.answer = answer;
            }
            Err(error) => child.fail(&error),
        }
        self.tell_child(id, device);
        self.settle_job(id);
    }

    /// Ends a job all of whose children have ended.
    fn settle_job(&mut self, id: &str) {
        let Some(job) = self.jobs.get_mut(id).filter(|job| job.status == Status::Running) else { return };
        if !job.children.values().all(|child| child.status.is_end()) {
            return;
        }
        let failed = job.count(ChildStatus::Failed);
        job.finish(if failed == 0 { Status::Completed } else { Status::Failed });
        if failed > 0 {
            job.failure = Some(format!("{failed} of {} devices failed", job.children.len()));
        }
        self.tell_job(id);
    }

    fn expire_job(&mut self, id: &str) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let why = format!("the job was not done within {} s", job.limit);
        let late = Error::new(Code::GatewayTimeout, why.clone());
        for child in job.children.values_mut().filter(|child| !child.status.is_end()) {
            child.fail(&late);
        }
        job.finish(Status::Failed);
        job.failure = Some(why);
        self.tell_job(id);
    }

    /// Cancels a job that has not ended. What a device is doing already goes on there, and nobody listens.
    pub(crate) fn cancel_job(&mut self, id: &str) -> Result<Value, Error> {
        let job = self.jobs.get_mut(id);
        let job = job.ok_or_else(|| Error::new(Code::JobNotFound, format!("there is no job {id}")))?;
        if job.status.is_end() && job.status != Status::Cancelled {
            let why = format!("the job {id} is {} and cannot be cancelled", job.status.word());
            return Err(Error::new(Code::JobPrecondition, why));
        }
        if job.status != Status::Cancelled {
            let cancelled = Error::new(Code::JobCancelled, "the job was cancelled");
            for child in job.children.values_mut().filter(|child| !child.status.is_end()) {
                child.fail(&cancelled);
                child.status = ChildStatus::Canceled;
            }
            job.finish(Status::Cancelled);
            self.tell_job(id);
        }
        Ok(self.job(id))
    }

    pub(super) fn tell_job(&self, id: &str) {
        let Some(job) = self.jobs.get(id) else { return };
        let why = job.failure.clone().or(job.message.clone());
        let (id, status) = (id.to_owned(), job.status.word().to_owned());
        self.events.emit(EventKind::Job { id, status, why });
    }

    fn tell_child(&self, id: &str, device: &str) {
        let Some(child) = self.jobs.get(id).and_then(|job| job.children.get(device)) else { return };
        let why = child.error.as_ref().map(|(_, description)| description.clone());
        let (id, device, status) = (id.to_owned(), device.to_owned(), child.status.word().to_owned());
        self.events.emit(EventKind::JobDevice { id, device, status, why });
    }
}

impl Job {
    /// When it is out of time; never before it has begun.
    fn deadline(&self) -> u64 {
        let limit = self.limit.saturating_mul(1000);
        self.began.map_or(u64::MAX, |began| began.saturating_add(limit))
    }

    fn finish(&mut self, status: Status) {
        (self.status, self.end) = (status, Some(clock::millis_now()));
        let counts: Vec<String> = [
            (self.count(ChildStatus::Completed), "succeeded"),
            (self.count(ChildStatus::Failed), "failed"),
            (self.count(ChildStatus::Canceled), "canceled"),
        ]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
        let devices = self.children.len();
        self.message = Some(match counts.is_empty() {
            true => format!("{devices} devices"),
            false => format!("{devices} devices: {}", counts.join(", ")),
        });
    }
}

impl Child {
    fn new(now: u64) -> Child {
        Child {
            status: ChildStatus::Pending,
            created: now,
            updated: now,
            start: None,
            end: None,
            answer: None,
            error: None,
        }
    }

    fn finish(&mut self, status: ChildStatus) {
        let now = clock::millis_now();
        (self.status, self.end, self.updated) = (status, Some(now), now);
    }

    fn fail(&mut self, error: &Error) {
        self.finish(ChildStatus::Failed);
        self.error = Some((error.code.name().to_owned(), error.message.clone()));
    }
}
