//! Which devices a command is about, doing something to each, and asking before many reboot.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::arguments::Targets;
use crate::failure::{Failure, Outcome};
use crate::hub::Hub;

/// More devices than this are not led one by one.
const MOST: usize = 1000;
/// Devices that something is done to at once.
const AT_ONCE: usize = 32;

/// The devices, each once.
///
/// # Errors
/// If there are none, or too many for what is done to each by itself.
pub(super) async fn resolve(hub: &Hub, targets: &Targets) -> Outcome<Vec<String>> {
    let devices: Vec<String> = match &targets.condition {
        None => {
            let mut seen = BTreeSet::new();
            targets.devices.iter().filter(|id| seen.insert(id.as_str())).cloned().collect()
        }
        Some(condition) => {
            let query = format!("SELECT deviceId FROM devices WHERE {condition}");
            let rows = hub.few(&query, MOST as u64 + 1).await?;
            rows.iter().filter_map(|row| Some(row["deviceId"].as_str()?.to_owned())).collect()
        }
    };
    if devices.is_empty() {
        return Err(Failure::failed("--where: the condition holds for no device"));
    }
    if devices.len() > MOST {
        return Err(Failure::usage(format!("these are more than {MOST} devices"))
            .remedy("`deploy` and `job` are for so many: the hub leads them, and not this tool"));
    }
    Ok(devices)
}

/// Asks before more than one device reboots, or anything is done that `always` wants to be asked for.
///
/// # Errors
/// If nobody agreed.
pub(super) fn agree(devices: &[String], doing: &str, yes: bool, always: bool) -> Outcome {
    let what = match devices {
        [one] => format!("{doing} {one}"),
        many => format!("{doing} {} devices", many.len()),
    };
    ask(&what, yes || (devices.len() < 2 && !always))
}

/// Asks, unless `yes` has said so already.
///
/// # Errors
/// If nobody agreed.
pub(super) fn ask(what: &str, yes: bool) -> Outcome {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!("not without being asked: {what}")).remedy("--yes says so"));
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{what}? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::usage("nothing was done")) }
}

/// Does something to each device, some at a time, and hands over how each went as it comes.
///
/// # Errors
/// Those of `ended`, if the hub was never reached or lets us do nothing, or if a task of ours broke down.
pub(crate) async fn each<T, F>(
    hub: &Arc<Hub>,
    devices: &[String],
    act: impl Fn(Arc<Hub>, String) -> F,
    mut ended: impl FnMut(String, Outcome<T>) -> Outcome,
) -> Outcome
where
    T: Send + 'static,
    F: Future<Output = Outcome<T>> + Send + 'static,
{
    let mut waiting = devices.iter();
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < AT_ONCE
            && let Some(device) = waiting.next()
        {
            let (name, work) = (device.clone(), act(Arc::clone(hub), device.clone()));
            tasks.spawn(async move { (name, work.await) });
        }
        match tasks.join_next().await {
            Some(Ok((device, outcome))) => match outcome {
                Err(failure) if hub.is_hopeless(&failure) => return Err(failure),
                Ok(_) | Err(_) => ended(device, outcome)?,
            },
            Some(Err(error)) => return Err(Failure::failed(format!("a fault of this program: {error}"))),
            None => return Ok(()),
        }
    }
}
