//! How many devices are how far, counted by the hub: a handful of queries, however many devices there are.

use serde_json::Value;

use crate::failure::Outcome;
use crate::hub::Hub;
use crate::show::{Line, Picture, clean};

const STATUS: &str = "properties.reported.firmware.fwUpdateStatus";
const VERSION: &str = "properties.reported.firmware.currentFwVersion";
const ENDED: &str = "properties.reported.firmware.lastFwUpdateEndTime";
/// Devices in trouble that are shown.
const TROUBLES: u64 = 20;
/// More words for a status than there are.
const WORDS: u64 = 50;

/// Which devices, and what they are to come to.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// A condition; none is every device.
    pub(crate) condition: Option<String>,
    /// The version that they are to run.
    pub(crate) version: Option<String>,
    /// When it began, as ISO 8601: what failed before, on devices that are away, is an older story.
    pub(crate) since: Option<String>,
}

impl Scope {
    fn with(&self, more: Option<&str>) -> String {
        match (&self.condition, more) {
            (None, None) => "FROM devices".to_owned(),
            (Some(one), None) => format!("FROM devices WHERE {one}"),
            (None, Some(one)) => format!("FROM devices WHERE {one}"),
            (Some(one), Some(other)) => format!("FROM devices WHERE ({one}) AND {other}"),
        }
    }

    fn failed(&self) -> String {
        let failed = format!("{STATUS} IN ['error', 'rolledback']");
        match &self.since {
            Some(since) => format!("{failed} AND (connectionState = 'Connected' OR {ENDED} >= '{since}')"),
            None => failed,
        }
    }

    /// Counts. `total` is how many there are to be.
    ///
    /// # Errors
    /// If the hub does not answer.
    pub(crate) async fn picture(&self, hub: &Hub, total: Option<u64>) -> Outcome<Picture> {
        let groups =
            format!("SELECT {STATUS} AS status, COUNT() AS number {} GROUP BY {STATUS}", self.with(None));
        let mut picture = Picture::default();
        let mut seen = 0;
        for row in hub.few(&groups, WORDS).await? {
            let number = row["number"].as_u64().unwrap_or(0);
            seen += number;
            let word = row["status"].as_str().filter(|word| !word.is_empty()).unwrap_or("unknown");
            *picture.counts.entry(clean(word)).or_default() += number;
        }
        picture.total = total.unwrap_or(seen);
        picture.done = picture.counts.get("current").copied().unwrap_or(0);
        if let Some(version) = &self.version {
            let there = format!("{STATUS} = 'current' AND {VERSION} = '{version}'");
            let done = hub.count(&self.with(Some(&there))).await?;
            let rest = picture.counts.remove("current").unwrap_or(0).saturating_sub(done);
            // Devices that the hub has not come to yet are waiting as well.
            let waiting = rest + picture.total.saturating_sub(seen);
            picture.counts.extend([("done".to_owned(), done), ("waiting".to_owned(), waiting)]);
            picture.counts.retain(|_, number| *number > 0);
            picture.done = done;
        }
        picture.failed = hub.count(&self.with(Some(&self.failed()))).await?;
        if picture.failed > 0 {
            picture.lines = self.troubles(hub).await?;
        }
        Ok(picture)
    }

    async fn troubles(&self, hub: &Hub) -> Outcome<Vec<Line>> {
        let query = format!(
            "SELECT deviceId, properties.reported.firmware AS firmware {}",
            self.with(Some(&self.failed()))
        );
        let rows = hub.few(&query, TROUBLES).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let line = |row: &Value| Line {
            device: text(&row["deviceId"]),
            status: text(&row["firmware"]["fwUpdateStatus"]),
            firmware: text(&row["firmware"]["currentFwVersion"]),
            detail: text(&row["firmware"]["fwUpdateSubstatus"]),
            trouble: true,
        };
        Ok(rows.iter().map(line).collect())
    }
}

/// Whether some of these are being updated now.
pub(crate) fn is_moving(picture: &Picture) -> bool {
    let moving = ["downloading", "verifying", "applying", "rebooting"];
    moving.iter().any(|word| picture.counts.get(*word).is_some_and(|number| *number > 0))
}
