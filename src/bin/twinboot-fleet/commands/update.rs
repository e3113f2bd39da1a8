//! `update` and `download`: tell each device which image is wanted, and follow it to the end.

use std::sync::Arc;

use super::targets::{agree, each, resolve};
use super::wish::Wish;
use crate::arguments::{By, Download, Following, Image, Targets, Update};
use crate::failure::{Exit, Failure, Outcome};
use crate::follow::{Follow, Goal, Report, reports};
use crate::hub::Hub;

/// What the two commands have in common.
struct Order<'a> {
    targets: &'a Targets,
    image: &'a Image,
    by: By,
    hold: bool,
    following: &'a Following,
    yes: bool,
}

/// Updates devices.
pub(super) async fn update(hub: &Arc<Hub>, wanted: &Update) -> Outcome<Exit> {
    let Update { targets, image, by, following, yes } = wanted;
    run(hub, &Order { targets, image, by: *by, hold: false, following, yes: *yes }).await
}

/// Has devices download an image and hold it.
pub(super) async fn download(hub: &Arc<Hub>, wanted: &Download) -> Outcome<Exit> {
    let Download { targets, image, by, following } = wanted;
    run(hub, &Order { targets, image, by: *by, hold: true, following, yes: true }).await
}

async fn run(hub: &Arc<Hub>, order: &Order<'_>) -> Outcome<Exit> {
    let wish = Arc::new(Wish::read(order.image)?);
    let devices = resolve(hub, order.targets).await?;
    agree(&devices, &format!("update to {} and reboot", wish.version), order.yes, false)?;
    let goal = if order.hold { Goal::Held } else { Goal::Version(wish.version.clone()) };
    let mut follow = Follow::new(goal, before(hub, &devices).await?, order.following.json);
    let (by, hold) = (order.by, order.hold);
    let tell = |hub: Arc<Hub>, device: String| {
        let wish = Arc::clone(&wish);
        async move { tell(&hub, &device, &wish, by, hold).await }
    };
    each(hub, &devices, tell, |device, outcome| {
        note(&mut follow, &device, outcome, by);
        Ok(())
    })
    .await?;
    follow.run(hub, order.following).await
}

async fn tell(hub: &Hub, device: &str, wish: &Wish, by: By, hold: bool) -> Outcome {
    match by {
        By::Method => {
            let method = if hold { "firmwareDownload" } else { "firmwareUpdate" };
            hub.invoke(device, method, wish.document()).await?.granted()?;
        }
        By::Twin => {
            // A wish that the twin holds already is no news to the device: what came of it stands.
            let twin = hub.twin(device).await?;
            let report = Report::of(device, &twin);
            let is_over = match report.word() {
                "error" | "rolledback" => true,
                // It was cancelled.
                "current" => !report.text("fwUpdateCode").is_empty(),
                _ => false,
            };
            if is_over && wish.is_in(&twin, hold) {
                let text = format!("has ended with this already: {}", report.text("fwUpdateSubstatus"));
                return Err(Failure::failed(text).remedy("a new --job-id makes it another request"));
            }
            hub.merge_twin(device, wish.patch(hold), "*").await?;
        }
    }
    Ok(())
}

/// Notes how it went to tell a device. One of which the answer was lost may have obeyed: it is followed all the same.
pub(super) fn note(follow: &mut Follow, device: &str, outcome: Outcome, by: By) {
    match outcome {
        Ok(()) => {}
        Err(failure) if failure.is_unsure => follow.unsure(device, with_remedy(failure, by)),
        Err(failure) => follow.failed(device, with_remedy(failure, by)),
    }
}

/// What devices report before they are asked. One that the hub does not know has reported nothing; being asked it will
/// say so.
pub(super) async fn before(hub: &Hub, devices: &[String]) -> Outcome<Vec<Report>> {
    let names: Vec<&str> = devices.iter().map(String::as_str).collect();
    let mut known = reports(hub, &names).await?;
    for device in devices {
        if !known.iter().any(|report| report.device == *device) {
            known.push(Report { device: device.clone(), ..Report::default() });
        }
    }
    Ok(known)
}

/// Why a device did not take it, on one line.
fn with_remedy(failure: Failure, by: By) -> String {
    let is_away = failure.status == Some(404) && failure.text.contains("DeviceNotOnline");
    if is_away && by == By::Method {
        return "not connected: --by twin waits for it".to_owned();
    }
    let Failure { text, remedy, .. } = failure;
    if remedy.is_empty() { text } else { format!("{text}; {remedy}") }
}
