//! `configure`: settings by the desired property `twinboot`, and what each device says to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::paths;
use super::targets::{each, resolve};
use crate::arguments::Configure;
use crate::failure::{Exit, Failure, Outcome};
use crate::hub::Hub;
use crate::show::{as_text, cell, clean, complain, say};

const PAUSE: Duration = Duration::from_secs(1);

/// What a device says to one setting.
#[derive(Debug, Eq, PartialEq)]
enum Word {
    /// It obeys, or waits to.
    Good(String),
    Bad(String),
}

/// Sets, and waits for the acknowledgements.
pub(super) async fn run(hub: &Arc<Hub>, wanted: &Configure) -> Outcome<Exit> {
    let mut settings = Map::new();
    for text in &wanted.set {
        let (name, value) = paths::assignment(text)?;
        paths::segments(name)?;
        settings.insert(name.to_owned(), value);
    }
    let devices = resolve(hub, &wanted.what.targets).await?;
    let patch = json!({"properties": {"desired": {"twinboot": settings}}});
    let set = |hub: Arc<Hub>, device: String| {
        let patch = patch.clone();
        async move { Ok(version(&hub.merge_twin(&device, patch, "*").await?)) }
    };
    // All are told before any is waited for: whoever is silent must not take the others' time.
    let (mut exit, mut versions) = (Exit::Done, BTreeMap::new());
    each(hub, &devices, set, |device, outcome| {
        match outcome {
            Ok(version) => drop(versions.insert(device, version)),
            Err(failure) => exit = failed(exit, &device, &failure),
        }
        Ok(())
    })
    .await?;
    let told: Vec<_> = devices.into_iter().filter(|device| versions.contains_key(device)).collect();
    let deadline = Instant::now() + wanted.timeout.0;
    let settings = Arc::new(settings);
    let wait = |hub: Arc<Hub>, device: String| {
        let (version, settings) = (versions.get(&device).copied().unwrap_or(0), Arc::clone(&settings));
        async move { acknowledged(&hub, &device, version, &settings, deadline).await }
    };
    each(hub, &told, wait, |device, outcome| {
        let words = match outcome {
            Ok(words) => words,
            Err(failure) => {
                exit = failed(exit, &device, &failure);
                return Ok(());
            }
        };
        if words.values().any(|word| matches!(word, Word::Bad(_))) {
            exit = Exit::Failed;
        }
        show(&device, &words, wanted.what.json)
    })
    .await?;
    Ok(exit)
}

/// Says that one device does not obey, and gives how it ends in all.
fn failed(so_far: Exit, device: &str, failure: &Failure) -> Exit {
    complain(&format!("{}: {}", clean(device), failure.text), &failure.remedy);
    let is_late = failure.exit == Exit::TimedOut && so_far != Exit::Failed;
    if is_late { Exit::TimedOut } else { Exit::Failed }
}

/// That of a twin's desired properties.
fn version(twin: &Value) -> u64 {
    twin["properties"]["desired"]["$version"].as_u64().unwrap_or(0)
}

fn show(device: &str, words: &BTreeMap<String, Word>, json_wanted: bool) -> Outcome {
    for (name, word) in words {
        let (good, text) = match word {
            Word::Good(text) => (true, text),
            Word::Bad(text) => (false, text),
        };
        if json_wanted {
            say(&as_text(&json!({"device": device, "setting": name, "obeyed": good, "text": text})))?;
        } else {
            say(&format!(
                "{}  {}: {}{}",
                clean(device),
                clean(name),
                if good { "" } else { "refused: " },
                clean(text)
            ))?;
        }
    }
    Ok(())
}

/// Waits for what one device says of this version. It is looked at once at least, however late that is.
async fn acknowledged(
    hub: &Hub,
    device: &str,
    version: u64,
    settings: &Map<String, Value>,
    deadline: Instant,
) -> Outcome<BTreeMap<String, Word>> {
    loop {
        let twin = hub.twin(device).await?;
        let reported = &twin["properties"]["reported"]["twinboot"];
        let said: BTreeMap<_, _> = settings
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), word(reported.get(name), value, version)?)))
            .collect();
        if said.len() == settings.len() {
            return Ok(said);
        }
        if Instant::now() >= deadline {
            let away = if twin["connectionState"] == "Connected" { "" } else { ", and is not connected" };
            let text = format!("has not answered in time{away}; it will obey when it sees its twin");
            return Err(Failure { exit: Exit::TimedOut, ..Failure::failed(text) });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What is said of a setting, if it is said of this version or a later one. One that was taken back is acknowledged by
/// its value's being gone or the default's.
fn word(said: Option<&Value>, wanted: &Value, version: u64) -> Option<Word> {
    let Some(said) = said.filter(|said| !said.is_null()) else {
        return wanted.is_null().then(|| Word::Good("taken back".to_owned()));
    };
    if said["av"].as_u64().is_none_or(|av| av < version) {
        return None;
    }
    let words = said["ad"].as_str().filter(|words| !words.is_empty());
    let text = words.map_or_else(|| cell(&said["value"]), str::to_owned);
    Some(if said["ac"].as_u64().is_some_and(|ac| (200..300).contains(&ac)) {
        Word::Good(text)
    } else {
        Word::Bad(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_of_this_version_counts() {
        let said = |ac: u64, av: u64, ad: &str| json!({"value": 7, "ac": ac, "av": av, "ad": ad});
        let seven = json!(7);
        assert_eq!(word(None, &seven, 3), None);
        assert_eq!(word(Some(&said(200, 2, "")), &seven, 3), None);
        assert_eq!(word(Some(&said(200, 3, "")), &seven, 3), Some(Word::Good("7".into())));
        assert_eq!(word(Some(&said(202, 4, "waits")), &seven, 3), Some(Word::Good("waits".into())));
        assert_eq!(word(Some(&said(400, 3, "no")), &seven, 3), Some(Word::Bad("no".into())));
        assert_eq!(word(None, &Value::Null, 3), Some(Word::Good("taken back".into())));
    }
}
