//! What the browser page shows of the hub: a line for each device, and whatever else is there. Short, as it is asked for
//! whenever something changes.

use serde_json::{Value, json};

use super::Hub;

/// So many jobs are shown.
const LATEST: usize = 20;

impl Hub {
    /// Devices in short, configurations with their metrics. No keys.
    pub(crate) fn view(&self) -> Value {
        let devices: Vec<Value> = self.devices.keys().map(|id| self.device_line(id)).collect();
        let configurations: Vec<Value> =
            self.configurations.values().map(|found| self.configuration_document(found)).collect();
        json!({"devices": devices, "configurations": configurations, "jobs": self.jobs_with_children()})
    }

    /// The latest jobs, newest first, each with its children.
    fn jobs_with_children(&self) -> Vec<Value> {
        let rows = self.job_rows();
        let mut jobs = self.job_list(None, None);
        jobs.reverse();
        jobs.truncate(LATEST);
        for job in &mut jobs {
            let own = rows.iter().filter(|row| row["jobId"] == job["jobId"]);
            job["children"] = own.cloned().collect();
        }
        jobs
    }

    fn device_line(&self, id: &str) -> Value {
        let reported = self.reported(id);
        let firmware = &reported["firmware"];
        json!({
            "id": id,
            "connected": self.device_connected(id),
            "enabled": self.devices.get(id).is_some_and(|device| device.enabled),
            "version": firmware["currentFwVersion"],
            "pending": firmware["pendingFwVersion"],
            "status": firmware["fwUpdateStatus"],
            "substatus": firmware["fwUpdateSubstatus"],
        })
    }

    /// All that is known of a device but its keys; none if there is no such device.
    pub(crate) fn device_view(&self, id: &str) -> Option<Value> {
        self.devices.contains_key(id).then(|| {
            let subscriptions = self.sessions.get(id).map(super::links::Session::filters).unwrap_or_default();
            json!({
                "connected": self.device_connected(id),
                "subscriptions": subscriptions,
                "telemetry": self.telemetry_count(id),
                "received": self.telemetry(id),
                "waiting": self.message_count(id),
                "twin": self.twin(id),
            })
        })
    }
}
