//! `deploy`, and what is done to a roll-out afterwards: `pause`, `resume`, `abort`, `delete`, `rollouts`.

use std::sync::Arc;

use serde_json::Value;

use super::job::now;
use super::targets::ask;
use super::wish::Wish;
use crate::arguments::{Abort, Delete, Deploy, Pause, Resume, Rollouts, Share, Size, Watching};
use crate::failure::{Exit, Failure, Outcome};
use crate::hub::Hub;
use crate::rollout::{
    Heir, Lasting, Rollout, State, change, check_id, foreign, glance, gone, heirs, lead, leave_others_alone,
    mark, meant, nonce,
};
use crate::show::{Table, as_text, clean, say};

/// Makes a roll-out and leads it.
pub(super) async fn deploy(hub: &Arc<Hub>, wanted: &Deploy) -> Outcome<Exit> {
    check_id(&wanted.id)?;
    let wish = Wish::read(&wanted.image)?;
    let rollout = plan(wanted, &wish)?;
    if wanted.dry_run {
        let told = if wanted.reveal { wish.document() } else { wish.redacted() };
        say(&format!("{:#}", rollout.document(&told, wanted.priority)))?;
        return Ok(Exit::Done);
    }
    if hub.configuration(&wanted.id).await?.is_some() {
        return Err(Failure::failed(format!("there is a roll-out {} already", wanted.id)).remedy(
            "`twinboot-fleet resume` goes on with it; what it brings cannot be changed: give another ID",
        ));
    }
    let target = if wanted.target.trim() == "*" { "every device".to_owned() } else { wanted.target.clone() };
    ask(&format!("roll out {} to {target}, each of which reboots", wish.version), wanted.yes)?;
    let all = meant(hub, &rollout).await?;
    let rollout = make(hub, rollout, &wish, wanted.priority).await?;
    if !wanted.watching.json {
        say(&format!("{}: {} to {all} devices, {}", rollout.id, wish.version, rollout.wave_words()))?;
    }
    follow(hub, rollout, &wanted.watching).await
}

/// Makes the configuration, for nobody as long as there are devices to be marked: there cannot be two of it, and whoever
/// begins another one sees it.
async fn make(hub: &Arc<Hub>, rollout: Rollout, wish: &Wish, priority: u32) -> Outcome<Rollout> {
    let state = if rollout.needs_marks() { State::Preparing } else { State::Running };
    let first = Rollout { state, ..rollout };
    let document = first.document(&wish.document(), priority);
    let made = hub.make_configuration(&first.id, document).await.map_err(|failure| {
        let remedy =
            "`twinboot-fleet rollouts` shows whether it was made all the same: then `resume` leads it";
        if failure.is_passing() { failure.remedy(remedy) } else { failure }
    })?;
    let made = Rollout::of(&made).ok_or_else(|| foreign(&first.id))?;
    if made.state == State::Running {
        return Ok(made);
    }
    if let Err(failure) = leave_others_alone(hub, &made).await {
        let is_gone = hub.delete_configuration(&made.id).await.is_ok();
        return Err(if is_gone { failure } else { left_behind(failure, &made.id) });
    }
    let running = Rollout { state: State::Running, ..made.clone() };
    begin(hub, &made, running).await
}

/// Marks its devices, and lets it begin.
async fn begin(hub: &Arc<Hub>, prepared: &Rollout, running: Rollout) -> Outcome<Rollout> {
    let begun = async {
        mark(hub, prepared).await?;
        change(hub, prepared, &running).await
    };
    begun.await.map_err(|failure| left_behind(failure, &prepared.id))?;
    Ok(running)
}

/// A roll-out that was made, and may not have begun.
fn left_behind(failure: Failure, id: &str) -> Failure {
    let text = format!("{}; {id} is there, and begins when it is resumed", failure.text);
    Failure { text, ..failure }
}

fn plan(wanted: &Deploy, wish: &Wish) -> Outcome<Rollout> {
    let waves = match (wanted.canary, wanted.waves.as_slice()) {
        (Some(size), _) => vec![size, "100%".parse::<Size>().map_err(Failure::failed)?],
        (None, waves) => waves.to_vec(),
    };
    if let Some(at) = waves.iter().position(|size| size.is_all())
        && at + 1 < waves.len()
    {
        return Err(Failure::usage("--waves: nothing comes after 100%"));
    }
    if wanted.target.trim().is_empty() || wanted.target.len() > 1024 {
        return Err(Failure::usage("--target wants a condition of up to 1024 bytes; * is every device"));
    }
    if let Some(part) = moving(&wanted.target) {
        let text =
            format!("--target: {part} changes with the update: a device that has it would be meant no more");
        return Err(Failure::usage(text).remedy(
            "tags stay (`twinboot-fleet twin set`); a device that runs the version already is done with at once",
        ));
    }
    if waves.is_empty() && (wanted.halt_at.is_some() || wanted.enough.is_some()) {
        return Err(Failure::usage("--halt-at and --enough are about waves")
            .remedy("--waves or --canary makes some: what begins everywhere at once is halted by nothing"));
    }
    if wish.version.contains('\'') {
        return Err(Failure::usage("--version-label: a quotation mark cannot stand in the hub's queries"));
    }
    Ok(Rollout {
        id: wanted.id.clone(),
        version: wish.version.clone(),
        target: wanted.target.clone(),
        waves,
        wave: 0,
        halt_at: wanted.halt_at.unwrap_or(Share::percent(5)),
        enough: wanted.enough.unwrap_or(Share::percent(90)),
        state: State::Running,
        why: None,
        created: String::new(),
        resumed: String::new(),
        nonce: nonce()?,
    })
}

/// What an update changes, if a condition asks for that. Its words may be written in several ways.
fn moving(condition: &str) -> Option<&'static str> {
    let plain: String = condition.chars().filter(|c| !c.is_whitespace() && !"[]".contains(*c)).collect();
    let parts = ["properties.reported.firmware", "properties.reported.iothubDM"];
    parts.into_iter().find(|part| plain.to_ascii_lowercase().contains(&part.to_ascii_lowercase()))
}

async fn follow(hub: &Arc<Hub>, rollout: Rollout, watching: &Watching) -> Outcome<Exit> {
    if watching.no_watch { Ok(Exit::Done) } else { lead(hub, rollout, watching).await }
}

/// Goes on.
pub(super) async fn resume(hub: &Arc<Hub>, wanted: &Resume) -> Outcome<Exit> {
    check_id(&wanted.id)?;
    let (before, picture) = glance(hub, &wanted.id, &mut Lasting::default()).await?;
    let mut rollout = before.clone();
    if rollout.state == State::Aborted {
        return Err(
            Failure::failed(format!("{} was aborted", wanted.id)).remedy("deploy anew, under another ID")
        );
    }
    if rollout.waves.is_empty() && (wanted.halt_at.is_some() || wanted.enough.is_some()) {
        return Err(Failure::usage(format!(
            "--halt-at and --enough are about waves, and {} has none",
            wanted.id
        )));
    }
    let how_far = format!("{} of {} done, {} failed", picture.done, picture.total, picture.failed);
    ask(&format!("go on with {} in {} ({how_far})", wanted.id, rollout.wave_words()), wanted.yes)?;
    rollout.halt_at = wanted.halt_at.unwrap_or(rollout.halt_at);
    rollout.enough = wanted.enough.unwrap_or(rollout.enough);
    (rollout.state, rollout.why) = (State::Running, None);
    if before.state != State::Running {
        // Those that had not begun are told anew: what else they failed with in the meantime is none of this.
        rollout.resumed = now().to_string();
    }
    if before.state == State::Preparing {
        leave_others_alone(hub, &before).await?;
        rollout = begin(hub, &before, rollout).await?;
    } else {
        change(hub, &before, &rollout).await?;
    }
    follow(hub, rollout, &wanted.watching).await
}

/// Pauses what is running: what has halted has a reason that must not get lost, and what was aborted is not to come back.
pub(super) async fn pause(hub: &Hub, wanted: &Pause) -> Outcome<Exit> {
    let id = &wanted.id;
    let (_, rollout) = find(hub, id).await?;
    if rollout.state != State::Running {
        let how = rollout.halted().unwrap_or_else(|| format!("{id} is {}", rollout.state.word()));
        return Err(Failure::failed(how).remedy("only a roll-out that is running can be paused"));
    }
    end(hub, &rollout, State::Paused).await
}

/// Aborts, for all but those that run the new version already.
pub(super) async fn abort(hub: &Hub, wanted: &Abort) -> Outcome<Exit> {
    let (configuration, rollout) = find(hub, &wanted.id).await?;
    agree_to_heirs(hub, "abort", &configuration, Some(&rollout.version), wanted.yes).await?;
    end(hub, &rollout, State::Aborted).await
}

async fn end(hub: &Hub, rollout: &Rollout, state: State) -> Outcome<Exit> {
    change(hub, rollout, &Rollout { state, ..rollout.clone() }).await?;
    say(&format!("{}: {}", rollout.id, state.word()))?;
    Ok(Exit::Done)
}

/// Deletes a configuration, whoever made it.
pub(super) async fn delete(hub: &Hub, wanted: &Delete) -> Outcome<Exit> {
    let id = &wanted.id;
    check_id(id)?;
    let configuration = hub.configuration(id).await?.ok_or_else(|| gone(id))?;
    agree_to_heirs(hub, "delete", &configuration, None, wanted.yes).await?;
    hub.delete_configuration(id).await?;
    say(&format!("{id}: deleted"))?;
    Ok(Exit::Done)
}

/// Asks, if an older configuration would take over: to its devices that is another update, back to what they had.
async fn agree_to_heirs(
    hub: &Hub,
    doing: &str,
    configuration: &Value,
    kept: Option<&str>,
    yes: bool,
) -> Outcome {
    if yes {
        return Ok(());
    }
    let heirs = heirs(hub, configuration, kept).await?;
    let words: Vec<_> = heirs.iter().map(Heir::words).collect();
    let id = configuration["id"].as_str().unwrap_or_default();
    ask(&clean(&format!("{doing} {id}, although {}", words.join(", and "))), heirs.is_empty())
}

async fn find(hub: &Hub, id: &str) -> Outcome<(Value, Rollout)> {
    check_id(id)?;
    let configuration = hub.configuration(id).await?.ok_or_else(|| gone(id))?;
    let rollout = Rollout::of(&configuration).ok_or_else(|| foreign(id))?;
    Ok((configuration, rollout))
}

/// Lists configurations, with the counts that the hub keeps.
pub(super) async fn list(hub: &Hub, wanted: &Rollouts) -> Outcome<Exit> {
    let mut all = hub.configurations().await?;
    all.sort_by(|a, b| a["createdTimeUtc"].as_str().cmp(&b["createdTimeUtc"].as_str()));
    if wanted.json {
        for configuration in all {
            say(&as_text(&configuration))?;
        }
        return Ok(Exit::Done);
    }
    let mut table = Table::new([
        "ID",
        "VERSION",
        "STATE",
        "WAVE",
        "TARGETED",
        "CURRENT",
        "APPLYING",
        "REBOOTING",
        "ERROR",
        "ROLLEDBACK",
        "DETAIL",
    ]);
    for configuration in &all {
        let rollout = Rollout::of(configuration);
        let text = |of: &dyn Fn(&Rollout) -> String| rollout.as_ref().map_or_else(|| "-".to_owned(), of);
        let count = |results: &Value, name: &str| {
            results["results"][name].as_u64().map_or_else(|| "-".to_owned(), |count| count.to_string())
        };
        let mut cells = vec![clean(configuration["id"].as_str().unwrap_or_default())];
        cells.push(text(&|rollout| clean(&rollout.version)));
        cells.push(text(&|rollout| rollout.state.word().to_owned()));
        cells.push(text(&|rollout| format!("{}/{}", rollout.wave + 1, rollout.waves.len().max(1))));
        cells.push(count(&configuration["systemMetrics"], "targetedCount"));
        let metrics = ["current", "applying", "rebooting", "error", "rolledback"];
        cells.extend(metrics.map(|name| count(&configuration["metrics"], name)));
        cells.push(clean(rollout.and_then(|rollout| rollout.why).as_deref().unwrap_or_default()));
        table.row(cells);
    }
    table.page()?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_update_changes_is_found_however_it_is_written() {
        for bad in [
            "properties.reported.firmware.currentFwVersion = '1.0.0'",
            "tags.a = 1 AND NOT properties . reported.[[firmware]].fwUpdateStatus = 'error'",
            "devices.properties.reported.firmwareStatus = 'standBy'",
            "properties.reported.iothubDM.firmwareUpdate.status = ''",
        ] {
            assert!(moving(bad).is_some(), "{bad}");
        }
        for good in ["*", "tags.firmware = 'a'", "properties.reported.board = 'rev-b'"] {
            assert_eq!(moving(good), None, "{good}");
        }
    }
}
