//! Keeping the record: what follows from an event is made durable before anything is done because of it.

use super::Engine;
use crate::model::Reason;
use crate::update::{Event, Record, Refused, State};

impl Engine {
    /// Steps, saves, announces. The record is what it was if the answer is a refusal.
    ///
    /// Where it cannot be saved: out of rest nothing is begun, except the way back from a trial that nobody knows.
    /// An update on its way stays where it is: [`Engine::see_to_work`] begins no work for it until a save succeeds,
    /// and everybody is still listened to and told meanwhile.
    pub(super) async fn take(&mut self, event: Event) -> Result<(), Refused> {
        let (before, now) = (self.record.clone(), self.now());
        let answer = self.record.heed(&self.facts, now, event);
        let between = self.record.clone();
        if answer.is_ok() {
            self.record.consider(&self.facts, now);
        }
        if self.record == before {
            return answer;
        }
        if let Err(why) = self.save().await {
            self.repeat(|repeats, now, about| repeats.state_unwritable(now, about, &why.detail));
            let is_held_up = self.is_held_up();
            // What is over, or goes on all the same, is held up by nothing.
            self.live.blocked = is_held_up.then_some(why);
            if before.state == State::Idle && is_held_up {
                self.record = before;
                return Err(Refused::Unsaved);
            }
        }
        if self.record.tuning != before.tuning {
            self.retune();
        }
        self.live.gate = None;
        self.hooked.forget();
        if self.record.state.job().is_none() {
            self.warn_of_zone(None);
        }
        let intent = |record: &Record| record.state.job().map(|job| job.intent.clone());
        if self.record.state.job().is_some() && intent(&self.record) != intent(&before) {
            self.forget_complaints();
        }
        self.announce(&before, &between);
        answer
    }

    /// A save that failed is tried again, or the next start would find a record from before it: an update that
    /// ended well could be undone. Then the wish that had to wait.
    pub(super) async fn tick(&mut self) {
        self.announce_resumption();
        self.announce_cost(self.worker.snapshot().and_then(|now| now.plan));
        if self.unsaved
            && let Err(why) = self.save().await
        {
            // Else it was told when it began; an update that was found under way at the start is held up from there.
            if self.is_held_up() && self.live.blocked.is_none() {
                self.repeat(|repeats, now, about| repeats.state_unwritable(now, about, &why.detail));
                self.live.blocked = Some(why);
            }
            return;
        }
        if let Some(wish) = self.postponed.take() {
            self.desire(wish).await;
        }
    }

    /// Saves on a thread of its own: a slow disk must not stop the hub's session or the watchdog.
    async fn save(&mut self) -> Result<(), Reason> {
        let Some(mut store) = self.store.take() else { return Ok(()) };
        let record = self.record.clone();
        let saving = tokio::task::spawn_blocking(move || {
            let saved = store.save(&record);
            (store, saved)
        });
        let (store, saved) = saving.await.expect("saving does not panic, and is never aborted");
        self.store = Some(store);
        self.unsaved = saved.is_err();
        saved.map_err(|error| error.reason())?;
        self.live.blocked = None;
        Ok(())
    }

    /// Whether the work that the state calls for may not be begun, since the state could not be saved.
    pub(super) fn is_held_up(&self) -> bool {
        self.unsaved && !self.record.state.may_act_unsaved()
    }
}
