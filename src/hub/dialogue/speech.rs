//! What we say by ourselves: reports, and telemetry.

use tokio::time::Instant;

use super::Dialogue;
use crate::hub::mqtt::Sent;
use crate::hub::outbox::Next;
use crate::hub::port::{HubEvent, Slot};
use crate::hub::topics::{self, Topic};

impl Dialogue {
    /// Takes the newest report.
    pub(in crate::hub) fn want(&mut self, slot: Slot, now: Instant) {
        if let Some(pace) = slot.pace {
            self.settings.report_interval = pace.report_every;
            self.poll_every = pace.poll_every;
        }
        if let Some(report) = slot.report {
            self.outbox.want(report, slot.urgent_to);
            self.send_report(now);
        }
    }

    pub(super) fn send_report(&mut self, now: Instant) {
        let hurry = !self.flushes.is_empty();
        let (interval, answer) = (self.settings.report_interval, self.settings.answer_timeout);
        let rids = &mut self.rids;
        let rid = || {
            *rids += 1;
            format!("{rids:x}")
        };
        match self.outbox.next(now, interval, hurry, answer, rid) {
            Some(Next::Send { rid, patch }) => {
                let topic = Topic::ReportedPatch { rid }.to_string();
                self.sends.push(Sent::Message { topic, payload: patch.to_string().into_bytes(), id: None });
            }
            Some(Next::Delivered(generation)) => self.events.push(HubEvent::ReportDelivered(generation)),
            None => {}
        }
    }

    /// Sends an event, now or when there is a link, if that is soon.
    pub(in crate::hub) fn telemetry(&mut self, event: Vec<u8>, now: Instant) {
        self.telemetry.push(event, now);
        self.send_telemetry(now);
    }

    pub(super) fn send_telemetry(&mut self, now: Instant) {
        if self.link.as_ref().is_some_and(|link| link.is_up) {
            let topic = topics::telemetry(&self.device);
            let sent = |payload| Sent::Message { topic: topic.clone(), payload, id: None };
            self.sends.extend(self.telemetry.take(now).map(sent));
        }
    }
}
