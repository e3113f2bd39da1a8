//! The method calls of one link: which wait for the engine, and whose answers wait for the hub. Pure.

use std::collections::VecDeque;

use super::methods::MethodReply;
use super::mqtt::Sent;
use super::topics::Topic;

/// Most calls that may wait for the engine.
const MAX_WAITING: usize = 16;
/// Most answers whose acknowledgement is still expected: a hub that never acknowledges costs no memory.
const MAX_UNACKNOWLEDGED: usize = 64;
/// How many answered calls are remembered, so that one delivered again is not carried out again.
const MAX_ANSWERED: usize = 64;

/// Calls and answers under way.
#[derive(Debug, Default)]
pub(super) struct Calls {
    waiting: Vec<String>,
    answered: VecDeque<String>,
    unacknowledged: Vec<u16>,
    last_id: u16,
}

/// What to do with a call that arrived.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Admission {
    /// The engine shall have it.
    Admitted,
    /// It was delivered before.
    Repeated,
    /// Too many wait already.
    TooMany,
}

impl Calls {
    /// Judges a call and remembers it if it is admitted.
    pub(super) fn admit(&mut self, rid: &str) -> Admission {
        if self.waiting.iter().chain(&self.answered).any(|known| known == rid) {
            return Admission::Repeated;
        }
        if self.waiting.len() >= MAX_WAITING {
            return Admission::TooMany;
        }
        self.waiting.push(rid.to_owned());
        Admission::Admitted
    }

    /// The packet that answers the call `rid`. It asks to be acknowledged: a flush must know that it arrived.
    pub(super) fn answer(&mut self, rid: &str, reply: &MethodReply) -> Sent {
        self.waiting.retain(|waiting| waiting != rid);
        if self.answered.len() == MAX_ANSWERED {
            self.answered.pop_front();
        }
        self.answered.push_back(rid.to_owned());
        let (status, payload) = reply.encode();
        let topic = Topic::MethodAnswer { status, rid: rid.to_owned() }.to_string();
        if self.unacknowledged.len() == MAX_UNACKNOWLEDGED {
            self.unacknowledged.remove(0);
        }
        // Zero is no packet id, and one that is still in use must not be used again.
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if self.last_id != 0 && !self.unacknowledged.contains(&self.last_id) {
                break;
            }
        }
        self.unacknowledged.push(self.last_id);
        Sent::Message { topic, payload, id: Some(self.last_id) }
    }

    /// The hub has the answer with this packet id.
    pub(super) fn acknowledged(&mut self, id: u16) {
        self.unacknowledged.retain(|waiting| *waiting != id);
    }

    /// Whether every call was answered, and the hub has every answer.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.unacknowledged.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sent: Sent) -> u16 {
        let Sent::Message { id: Some(id), .. } = sent else { panic!("{sent:?}") };
        id
    }

    #[test]
    fn the_same_call_twice_is_one_and_too_many_are_too_many() {
        let mut calls = Calls::default();
        assert_eq!(calls.admit("1"), Admission::Admitted);
        assert_eq!(calls.admit("1"), Admission::Repeated);
        for rid in 2..=16 {
            assert_eq!(calls.admit(&rid.to_string()), Admission::Admitted);
        }
        assert_eq!(calls.admit("17"), Admission::TooMany);
        calls.answer("1", &MethodReply::ok("Firmware update started"));
        assert_eq!(calls.admit("17"), Admission::Admitted);
        assert_eq!(calls.admit("1"), Admission::Repeated, "answered already");
        for rid in 100..1000 {
            calls.answer(&rid.to_string(), &MethodReply::ok("x"));
        }
        assert_eq!(calls.answered.len(), MAX_ANSWERED);
        assert!(!calls.is_quiet());
    }

    #[test]
    fn packet_ids_are_never_zero_and_never_in_use() {
        let mut calls = Calls::default();
        let reply = MethodReply::ok("Firmware update started");
        let first = id(calls.answer("1", &reply));
        for _ in 0..70_000 {
            let next = id(calls.answer("2", &reply));
            assert!(next != 0 && next != first);
            calls.acknowledged(next);
        }
        assert!(!calls.is_quiet());
        calls.acknowledged(first);
        assert!(calls.is_quiet());
        for _ in 0..1000 {
            calls.answer("3", &reply);
        }
        assert_eq!(calls.unacknowledged.len(), MAX_UNACKNOWLEDGED);
    }
}
