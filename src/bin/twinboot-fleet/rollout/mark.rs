//! Marking the devices of each wave by a tag. Which ones is left to chance, but to the same chance each time: a device's
//! place follows from its id and the roll-out's, so that marking again marks the same ones.

use std::collections::BinaryHeap;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::plan::{Rollout, State};
use crate::commands::each;
use crate::failure::{Failure, Outcome};
use crate::hub::Hub;

/// A device's place in the line: first by chance, then by id.
type Place = (u64, String);

/// What tells the marks of one roll-out from those of every other.
///
/// # Errors
/// If the kernel gives no random numbers.
pub(crate) fn nonce() -> Outcome<String> {
    let number = getrandom::u64();
    let number =
        number.map_err(|error| Failure::failed(format!("the kernel gives no random numbers: {error}")))?;
    Ok(format!("{number:016x}"))
}

/// How many devices it is for in all.
///
/// # Errors
/// If there are none, or the hub does not answer.
pub(crate) async fn meant(hub: &Hub, rollout: &Rollout) -> Outcome<u64> {
    match hub.count(&everybody(rollout)).await? {
        0 => Err(Failure::failed("--target: the condition holds for no device")),
        all => Ok(all),
    }
}

/// Marks all waves but the last if that is everybody. Its configuration is there by then, so that others leave it alone.
///
/// # Errors
/// If the hub does not answer, or a device cannot be marked.
pub(crate) async fn mark(hub: &Arc<Hub>, rollout: &Rollout) -> Outcome {
    let sizes = rollout.sizes(meant(hub, rollout).await?);
    let Some(most) = sizes.last().and_then(|most| usize::try_from(*most).ok()) else { return Ok(()) };
    let chosen = choose(hub, rollout, most).await?;
    for (wave, size) in sizes.iter().enumerate() {
        let from = if wave == 0 { 0 } else { sizes[wave - 1] };
        let part = |at: u64| usize::try_from(at).unwrap_or(most).min(chosen.len());
        let tag = json!({"tags": rollout.tag(wave)});
        let act = |hub: Arc<Hub>, device: String| {
            let tag = tag.clone();
            async move { hub.merge_twin(&device, tag, "*").await }
        };
        let marked = |_, outcome: Outcome<Value>| match outcome {
            // It was deleted since it was chosen.
            Err(failure) if failure.status == Some(404) => Ok(()),
            other => other.map(|_| ()),
        };
        each(hub, &chosen[part(from)..part(*size)], act, marked).await?;
    }
    Ok(())
}

/// A device bears one mark. One that was taken out of a roll-out in the middle would lose its wish, and break off its
/// update. To be asked when the roll-out's own configuration is there: of two that begin at once, one sees the other.
///
/// # Errors
/// If another roll-out needs the marks of these devices, or the hub does not answer.
pub(crate) async fn leave_others_alone(hub: &Hub, rollout: &Rollout) -> Outcome {
    for other in hub.configurations().await?.iter().filter_map(Rollout::of).filter(Rollout::needs_marks) {
        if other.id == rollout.id {
            continue;
        }
        let both = hub.count(&shared(rollout, &other)).await?;
        if both > 0 {
            let (id, state) = (&other.id, other.state.word());
            return Err(Failure::failed(format!(
                "{both} of these devices are in a wave of {id}, which is {state}: new waves would take them out of it"
            ))
            .remedy(format!("let {id} come to its wave of 100%, or end it by `twinboot-fleet abort {id}`")));
        }
    }
    Ok(())
}

/// Devices that both want. Which ones will be marked is not to be seen of one that is only being prepared.
fn shared(rollout: &Rollout, other: &Rollout) -> String {
    let theirs = match other.state {
        State::Preparing if other.target.trim() == "*" => return everybody(rollout),
        State::Preparing => format!("({})", other.target),
        State::Running | State::Paused | State::Halted | State::Aborted => other.marked(),
    };
    format!("FROM devices WHERE {}", rollout.and(&theirs))
}

fn everybody(rollout: &Rollout) -> String {
    match rollout.target.trim() {
        "*" => "FROM devices".to_owned(),
        target => format!("FROM devices WHERE {target}"),
    }
}

/// The first so many of the line. No more than these are held.
async fn choose(hub: &Hub, rollout: &Rollout, most: usize) -> Outcome<Vec<String>> {
    let query = format!("SELECT deviceId {}", everybody(rollout));
    let mut rows = hub.query(&query, None);
    let mut first: BinaryHeap<Place> = BinaryHeap::new();
    while let Some(row) = rows.next().await? {
        let Some(device) = row["deviceId"].as_str() else { continue };
        first.push(place(&rollout.id, device));
        if first.len() > most {
            first.pop();
        }
    }
    Ok(first.into_sorted_vec().into_iter().map(|(_, device)| device).collect())
}

fn place(rollout: &str, device: &str) -> Place {
    let digest = Sha256::digest(format!("{rollout}\n{device}"));
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    (u64::from_be_bytes(first), device.to_owned())
}
