//! Who takes over: what a newer configuration lets go of goes by an older one that still stands, and an older wish is a way
//! back that nobody asked for.

use serde_json::Value;

use super::plan::both;
use crate::failure::Outcome;
use crate::hub::Hub;

const FIRMWARE: &str = "properties.desired.firmware";
const VERSION: &str = "properties.reported.firmware.currentFwVersion";

/// A configuration that stands behind another one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Heir {
    /// Its id.
    pub(crate) id: String,
    /// What it brings, if it says so.
    pub(crate) version: Option<String>,
    /// How many devices would go by it; none if the hub cannot tell.
    pub(crate) devices: Option<u64>,
}

impl Heir {
    /// It, in words.
    pub(crate) fn words(&self) -> String {
        let version = self.version.as_ref().map(|version| format!(" ({version})")).unwrap_or_default();
        let devices = self.devices.map_or("some".to_owned(), |devices| devices.to_string());
        format!("{}{version} takes over {devices} of its devices", self.id)
    }
}

/// Who takes over devices of `leaving`. If it keeps those that run `kept`, they are not counted, nor are those for which
/// the older wish is fulfilled.
///
/// # Errors
/// If the hub does not answer.
pub(crate) async fn heirs(hub: &Hub, leaving: &Value, kept: Option<&str>) -> Outcome<Vec<Heir>> {
    let mut heirs = Vec::new();
    if !is_about_firmware(leaving) {
        return Ok(heirs);
    }
    for other in &hub.configurations().await? {
        let Some(devices) = shared(other, leaving, kept) else { continue };
        let devices = match hub.count(&devices).await {
            Ok(0) => continue,
            Ok(devices) => Some(devices),
            // A condition may be of a kind that stands in no query.
            Err(failure) if failure.status == Some(400) => None,
            Err(failure) => return Err(failure),
        };
        let id = other["id"].as_str().unwrap_or_default().to_owned();
        heirs.push(Heir { id, version: version(other).map(str::to_owned), devices });
    }
    Ok(heirs)
}

/// The devices that `other` would take over, as a query; none if it cannot take over any.
fn shared(other: &Value, leaving: &Value, kept: Option<&str>) -> Option<String> {
    let rank = |of: &Value| {
        let made = of["createdTimeUtc"].as_str().unwrap_or_default().to_owned();
        (of["priority"].as_i64().unwrap_or(0), made)
    };
    // One that outranks it has taken what it can already.
    if other["id"] == leaving["id"] || !is_about_firmware(other) || rank(other) > rank(leaving) {
        return None;
    }
    let [ours, theirs] = [leaving, other].map(|of| of["targetCondition"].as_str().unwrap_or_default().trim());
    if ours.is_empty() || theirs.is_empty() {
        return None;
    }
    let theirs = if theirs == "*" { theirs.to_owned() } else { format!("({theirs})") };
    let mut condition = both(ours, &theirs);
    if let Some(kept) = kept {
        let content = [Some(kept), version(other)].into_iter().flatten();
        let content: Vec<_> =
            content.filter(|version| !version.contains('\'')).map(|version| format!("'{version}'")).collect();
        let others = format!("(NOT IS_DEFINED({VERSION}) OR {VERSION} NIN [{}])", content.join(", "));
        condition = both(&condition, &others);
    }
    Some(match condition.as_str() {
        "*" => "FROM devices".to_owned(),
        condition => format!("FROM devices WHERE {condition}"),
    })
}

/// Whether it puts anything where a wish stands.
fn is_about_firmware(configuration: &Value) -> bool {
    let below = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let paths = configuration["content"]["deviceContent"].as_object();
    paths.is_some_and(|paths| paths.keys().any(|path| below(path, FIRMWARE) || below(FIRMWARE, path)))
}

fn version(configuration: &Value) -> Option<&str> {
    let content = &configuration["content"]["deviceContent"];
    let whole = content[FIRMWARE]["fwVersion"].as_str();
    whole.or_else(|| content["properties.desired.firmware.fwVersion"].as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configuration(id: &str, version: &str, condition: &str, rank: (u64, &str)) -> Value {
        json!({
            "id": id, "targetCondition": condition, "priority": rank.0, "createdTimeUtc": rank.1,
            "content": {"deviceContent": {FIRMWARE: {"fwVersion": version}}},
        })
    }

    #[test]
    fn what_takes_over_is_a_wish_that_was_outranked_for_the_same_devices() {
        let leaving = configuration("gw-3", "3", "tags.a = 1 OR tags.b = 1", (10, "2026-02"));
        let older = configuration("gw-2", "2", "tags.c = 1 OR tags.d = 1", (10, "2026-01"));
        let both = "FROM devices WHERE (tags.a = 1 OR tags.b = 1) AND (tags.c = 1 OR tags.d = 1)";
        assert_eq!(shared(&older, &leaving, None).as_deref(), Some(both));
        let rest = shared(&older, &leaving, Some("3")).unwrap_or_default();
        let wanted = format!(" AND (NOT IS_DEFINED({VERSION}) OR {VERSION} NIN ['3', '2'])");
        assert!(rest.ends_with(&wanted) && rest.starts_with("FROM devices WHERE ((tags.a"), "{rest}");
        let all = configuration("all", "2", "*", (0, "2026-03"));
        assert_eq!(shared(&all, &all, None), None, "itself");
        assert_eq!(
            shared(&all, &leaving, None).as_deref(),
            Some("FROM devices WHERE tags.a = 1 OR tags.b = 1")
        );
        for (id, condition, rank) in
            [("high", "*", (11, "2026-01")), ("newer", "*", (10, "2026-03")), ("nobody", "", (0, ""))]
        {
            assert_eq!(shared(&configuration(id, "2", condition, rank), &leaving, None), None, "{id}");
        }
        let settings = json!({
            "id": "settings", "targetCondition": "*",
            "content": {"deviceContent": {"properties.desired.twinboot": {"rateLimit": 1}}},
        });
        assert_eq!(shared(&settings, &leaving, None), None);
        let whole = json!({"content": {"deviceContent": {"properties.desired": {}}}});
        assert!(is_about_firmware(&whole) && !is_about_firmware(&settings));
    }
}
