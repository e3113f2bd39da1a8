//! The doing of jobs: a task that moves them on when their time comes, and one for each job that begins, which goes
//! from device to device. Not the rules (`progress`). Started by `emulator`.

use std::sync::Arc;
use std::time::Duration;

use super::progress::Part;
use crate::clock;
use crate::hub::MethodCall;
use crate::shared::Shared;

/// Moves jobs on, for as long as the emulator lives.
pub(crate) async fn drive(shared: Arc<Shared>) {
    let mut ticks = shared.ticks();
    loop {
        let now = clock::millis_now();
        // Looking disturbs nobody; changing the hub wakes everyone who waits for a change, this task included.
        if shared.read(|hub| hub.jobs_wait(now)) {
            let begun = shared.with(|hub| hub.step_jobs(now));
            for id in begun {
                tokio::spawn(go_round(Arc::clone(&shared), id));
            }
            continue;
        }
        let next = shared.read(|hub| hub.next_job_moment());
        let pause = next.map(|at| Duration::from_millis(at.saturating_sub(now).max(1)));
        // A clock that is set meanwhile is noticed soon enough.
        let pause = pause.unwrap_or(Duration::MAX).min(Duration::from_secs(3600));
        // The sender lives as long as shared.
        let _ = tokio::time::timeout(pause, ticks.changed()).await;
    }
}

/// Begins with one device after the other, no faster than the hub's limit, and waits for none.
async fn go_round(shared: Arc<Shared>, id: String) {
    let rate = shared.read(|hub| hub.limits.job_rate);
    // The clock cannot tick faster than this.
    let pause = rate.map(|rate| Duration::from_secs_f64(1.0 / rate.clamp(0.001, 1e6)));
    let mut pace = pause.map(tokio::time::interval);
    for device in shared.read(|hub| hub.pending_parts(&id)) {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        match shared.with(|hub| hub.begin_part(&id, &device)) {
            Part::Call(call) => drop(tokio::spawn(call_one(Arc::clone(&shared), id.clone(), device, call))),
            Part::Done | Part::Nothing => {}
        }
    }
}

async fn call_one(shared: Arc<Shared>, id: String, device: String, call: MethodCall) {
    let (respond, connect) = (call.respond(), call.connect());
    let outcome = shared.invoke(&device, &call.name, call.payload, respond, connect).await;
    shared.with(|hub| hub.end_part(&id, &device, outcome.map(Some)));
}
