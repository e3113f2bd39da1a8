//! Events that wait for the engine to have room: bounded, because of each kind only the newest matters.

use std::collections::VecDeque;

use super::port::HubEvent;

/// The waiting events, in order. Method calls are all kept; the dialogue bounds how many there are.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<HubEvent>);

impl Queue {
    /// Adds an event and drops the one whose place it takes, so that a slow engine is told how things are, not how
    /// they were.
    pub(super) fn push(&mut self, mut event: HubEvent) {
        if let HubEvent::Ignored(count) = &mut event {
            // Of these every one counts.
            let counts =
                self.0.iter().filter_map(|it| if let HubEvent::Ignored(n) = it { Some(n) } else { None });
            *count += counts.sum::<u64>();
        }
        if let Some(kind) = kind(&event) {
            self.0.retain(|waiting| self::kind(waiting) != Some(kind));
        }
        self.0.push_back(event);
    }

    /// The next event.
    pub(super) fn pop(&mut self) -> Option<HubEvent> {
        self.0.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops the calls.
    pub(super) fn forget_calls(&mut self) {
        self.0.retain(|event| kind(event).is_some());
    }
}

/// Events of one kind replace each other; `None` for those that do not.
fn kind(event: &HubEvent) -> Option<u8> {
    match event {
        HubEvent::Connected | HubEvent::Lost { .. } => Some(0),
        HubEvent::Desired(_) => Some(1),
        HubEvent::Method { .. } => None,
        HubEvent::ReportDelivered(_) => Some(2),
        HubEvent::ReportRefused { .. } => Some(3),
        HubEvent::Uncontested => Some(4),
        HubEvent::Tuned(_) => Some(5),
        HubEvent::Ignored(_) => Some(6),
        HubEvent::Introduced(_) => Some(7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{CallId, Desired, Parsed, channels, methods};

    #[test]
    fn of_each_kind_only_the_newest_waits_and_calls_all_do() {
        let (_hub, port) = channels();
        let desired = || HubEvent::Desired(Parsed { desired: Desired::Absent, unknown: Vec::new() });
        let mut queue = Queue::default();
        for generation in 0..1000 {
            queue.push(HubEvent::Connected);
            queue.push(desired());
            queue.push(HubEvent::ReportDelivered(generation));
            queue.push(HubEvent::Ignored(1));
        }
        for rid in ["1", "2"] {
            let reply = port.replier(CallId { link: 1, rid: rid.to_owned() });
            let call = methods::read("reboot", b"", crate::model::Vouching::default()).expect("it is known");
            queue.push(HubEvent::Method { call, reply });
        }
        assert_eq!(queue.0.len(), 6);
        assert!(queue.0.iter().any(|event| matches!(event, HubEvent::Ignored(1000))));
        assert!(queue.0.iter().any(|event| matches!(event, HubEvent::ReportDelivered(999))));
        queue.forget_calls();
        assert_eq!(queue.0.len(), 4);
    }
}
