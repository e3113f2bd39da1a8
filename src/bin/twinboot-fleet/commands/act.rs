//! `apply`, `rollback`, `reboot`, `factory-reset` and `cancel`: one direct method each, and what comes of it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::targets::{agree, each, resolve};
use super::update::{before, note};
use crate::arguments::{By, Disruptive, Plain};
use crate::failure::{Exit, Outcome};
use crate::follow::{Follow, Goal};
use crate::hub::{Hub, Reply};
use crate::show::{as_text, clean, complain, say};

/// A command that reboots devices.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Deed {
    Apply,
    Rollback,
    Reboot,
    FactoryReset,
}

impl Deed {
    /// The direct method, what to ask before, and what is waited for.
    fn means(self) -> (&'static str, &'static str, Goal) {
        match self {
            Self::Apply => ("firmwareApply", "switch over and reboot", Goal::Settled),
            Self::Rollback => ("rollback", "go back to the previous system of", Goal::RolledBack),
            Self::Reboot => ("reboot", "reboot", Goal::Rebooted),
            Self::FactoryReset => ("factoryReset", "reset, losing the data of,", Goal::Settled),
        }
    }
}

/// Does it and follows.
pub(super) async fn disrupt(hub: &Arc<Hub>, deed: Deed, wanted: &Disruptive) -> Outcome<Exit> {
    let (method, doing, goal) = deed.means();
    let devices = resolve(hub, &wanted.targets).await?;
    agree(&devices, doing, wanted.yes, deed == Deed::FactoryReset)?;
    let mut follow = Follow::new(goal, before(hub, &devices).await?, wanted.following.json);
    let call = |hub: Arc<Hub>, device: String| async move {
        hub.invoke(&device, method, Value::Null).await?.granted()?;
        Ok(())
    };
    each(hub, &devices, call, |device, outcome: Outcome| {
        note(&mut follow, &device, outcome, By::Twin);
        Ok(())
    })
    .await?;
    follow.run(hub, &wanted.following).await
}

/// Stops updates.
pub(super) async fn cancel(hub: &Arc<Hub>, wanted: &Plain) -> Outcome<Exit> {
    call_each(hub, wanted, "cancel", Value::Null, Reply::words).await
}

/// Calls a method of each device and shows each answer, as it comes.
pub(super) async fn call_each(
    hub: &Arc<Hub>,
    wanted: &Plain,
    method: &'static str,
    payload: Value,
    words: impl Fn(&Reply) -> String,
) -> Outcome<Exit> {
    let devices = resolve(hub, &wanted.targets).await?;
    let call = |hub: Arc<Hub>, device: String| {
        let payload = payload.clone();
        async move { hub.invoke(&device, method, payload).await }
    };
    let mut exit = Exit::Done;
    each(hub, &devices, call, |device, outcome| {
        let device_name = clean(&device);
        match outcome {
            Ok(reply) if wanted.json => {
                exit = if reply.is_good() { exit } else { Exit::Failed };
                say(&as_text(&json!({"device": device, "status": reply.status, "payload": reply.payload})))
            }
            Ok(reply) if reply.is_good() => say(&prefixed(&device_name, &words(&reply))),
            Ok(reply) => {
                exit = Exit::Failed;
                complain(&format!("{device_name}: refused ({}): {}", reply.status, reply.words()), "");
                Ok(())
            }
            Err(failure) => {
                exit = Exit::Failed;
                if wanted.json {
                    say(&as_text(&json!({"device": device, "error": failure.text})))?;
                } else {
                    complain(&format!("{device_name}: {}", failure.text), &failure.remedy);
                }
                Ok(())
            }
        }
    })
    .await?;
    Ok(exit)
}

/// Each line of an answer behind the device's name, so that many devices' answers can be sorted and searched.
fn prefixed(device: &str, text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| format!("{device}  {line}")).collect();
    lines.join("\n")
}
