//! How many devices are how far, counted by the hub: a handful of queries, however many devices there are.

use serde_json::Value;
use tokio::time::Instant;

use super::lasting::Lasting;
use crate::failure::Outcome;
use crate::hub::Hub;
use crate::show::{Line, Picture, clean};

const FIRMWARE: &str = "properties.reported.firmware";
const STATUS: &str = "properties.reported.firmware.fwUpdateStatus";
const VERSION: &str = "properties.reported.firmware.currentFwVersion";
const ENDED: &str = "properties.reported.firmware.lastFwUpdateEndTime";
/// Devices that are shown.
const SHOWN: usize = 20;
/// Devices in trouble that are looked at one by one: a page. The hub counts more than these.
const TROUBLES: u64 = 100;
/// More words for a status than there are.
const WORDS: u64 = 50;

/// Which devices, and what they are to come to.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// A condition; none is every device.
    pub(crate) condition: Option<String>,
    /// The version that they are to run.
    pub(crate) version: Option<String>,
    /// When they were told; none if it does not matter.
    pub(crate) told: Option<Told>,
}

/// When devices were told, as ISO 8601: what failed before that is an older story.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// For the first time.
    pub(crate) first: String,
    /// For the last time: a roll-out that was resumed is told anew to those that had not begun.
    pub(crate) last: String,
}

/// What a device in trouble is to us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Trouble {
    /// It failed with what it was told.
    Ours,
    /// It failed before, and is connected: it has just been told otherwise, or will not begin.
    Older,
    /// It failed before, and is away.
    Past,
}

impl Told {
    fn trouble(&self, is_connected: bool, ended: &str) -> Trouble {
        let is_ours = if is_connected {
            // One whose clock is not set has ended without a time.
            ended.is_empty() || ended >= self.last.as_str()
        } else {
            !ended.is_empty() && ended >= self.first.as_str()
        };
        match (is_ours, is_connected) {
            (true, _) => Trouble::Ours,
            (false, true) => Trouble::Older,
            (false, false) => Trouble::Past,
        }
    }

    /// The same as conditions: [`Trouble::Ours`] and [`Trouble::Older`].
    fn conditions(&self) -> [String; 2] {
        let Self { first, last } = self;
        let away = format!("connectionState != 'Connected' AND {ENDED} != '' AND {ENDED} >= '{first}'");
        let here = format!("NOT IS_DEFINED({ENDED}) OR {ENDED} = '' OR {ENDED} >= '{last}'");
        let ours = format!("(({away}) OR (connectionState = 'Connected' AND ({here})))");
        let older = format!("connectionState = 'Connected' AND {ENDED} != '' AND {ENDED} < '{last}'");
        [ours, older]
    }
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

    /// Counts. `total` is how many there are to be, `lasting` is what earlier looks have seen.
    ///
    /// # Errors
    /// If the hub does not answer.
    pub(crate) async fn picture(
        &self,
        hub: &Hub,
        total: Option<u64>,
        lasting: &mut Lasting,
    ) -> Outcome<Picture> {
        let groups =
            format!("SELECT {STATUS} AS status, COUNT() AS number {} GROUP BY {STATUS}", self.with(None));
        let mut picture = Picture::default();
        let (mut seen, mut in_trouble) = (0, 0);
        for row in hub.few(&groups, WORDS).await? {
            let number = row["number"].as_u64().unwrap_or(0);
            seen += number;
            let word = row["status"].as_str().filter(|word| !word.is_empty()).unwrap_or("unknown");
            in_trouble += if matches!(word, "error" | "rolledback") { number } else { 0 };
            *picture.counts.entry(clean(word)).or_default() += number;
        }
        picture.total = total.unwrap_or(seen);
        picture.done = picture.counts.get("current").copied().unwrap_or(0);
        if let Some(version) = &self.version {
            let there = format!("{STATUS} = 'current' AND {VERSION} = '{version}'");
            // The hub answers few queries a minute: none is asked whose answer is known.
            let done = if picture.done > 0 { hub.count(&self.with(Some(&there))).await? } else { 0 };
            let rest = picture.counts.remove("current").unwrap_or(0).saturating_sub(done);
            // Devices that the hub has not come to yet are waiting as well.
            let waiting = rest + picture.total.saturating_sub(seen);
            picture.counts.extend([("done".to_owned(), done), ("waiting".to_owned(), waiting)]);
            picture.counts.retain(|_, number| *number > 0);
            picture.done = done;
        }
        if in_trouble > 0 {
            self.troubles(hub, &mut picture, lasting).await?;
        } else {
            lasting.at_least(Instant::now(), 0);
        }
        Ok(picture)
    }

    /// Adds those that failed: how many, and the first of them.
    async fn troubles(&self, hub: &Hub, picture: &mut Picture, lasting: &mut Lasting) -> Outcome {
        let failed = format!("{STATUS} IN ['error', 'rolledback']");
        let query =
            format!("SELECT deviceId, connectionState, {FIRMWARE} AS firmware {}", self.with(Some(&failed)));
        let rows = hub.few(&query, TROUBLES).await?;
        let rows: Vec<_> = rows.iter().map(|row| (self.trouble(row), row)).collect();
        let (ours, older) = match &self.told {
            Some(told) if rows.len() as u64 == TROUBLES => {
                let [ours, older] =
                    told.conditions().map(|more| self.with(Some(&format!("{failed} AND {more}"))));
                (hub.count(&ours).await?, hub.count(&older).await?)
            }
            None if rows.len() as u64 == TROUBLES => (hub.count(&self.with(Some(&failed))).await?, 0),
            Some(_) | None => {
                let number = |wanted| rows.iter().filter(|(trouble, _)| *trouble == wanted).count() as u64;
                (number(Trouble::Ours), number(Trouble::Older))
            }
        };
        let stuck = lasting.at_least(Instant::now(), older);
        (picture.failed, picture.undecided) = (ours + stuck, older - stuck);
        let counts = |trouble| trouble == Trouble::Ours || (trouble == Trouble::Older && stuck > 0);
        let shown = rows.iter().filter(|(trouble, _)| counts(*trouble)).take(SHOWN);
        picture.lines = shown.map(|(_, row)| Line { trouble: true, ..line(row) }).collect();
        Ok(())
    }

    fn trouble(&self, row: &Value) -> Trouble {
        let ended = row["firmware"]["lastFwUpdateEndTime"].as_str().unwrap_or_default();
        self.told
            .as_ref()
            .map_or(Trouble::Ours, |told| told.trouble(row["connectionState"] == "Connected", ended))
    }

    /// Some of those that have neither failed nor come to the version yet.
    ///
    /// # Errors
    /// If the hub does not answer.
    pub(crate) async fn waited_for(&self, hub: &Hub) -> Outcome<Vec<Line>> {
        let Some(version) = &self.version else { return Ok(Vec::new()) };
        let open = format!(
            "(NOT IS_DEFINED({VERSION}) OR {VERSION} != '{version}') AND \
             (NOT IS_DEFINED({STATUS}) OR {STATUS} NIN ['error', 'rolledback'])"
        );
        let query =
            format!("SELECT deviceId, connectionState, {FIRMWARE} AS firmware {}", self.with(Some(&open)));
        let rows = hub.few(&query, SHOWN as u64).await?;
        let waiting = |row: &Value| {
            if row["connectionState"] == "Connected" {
                Line { status: "waiting".to_owned(), ..line(row) }
            } else {
                Line { status: "away".to_owned(), detail: "not connected".to_owned(), ..line(row) }
            }
        };
        Ok(rows.iter().map(waiting).collect())
    }
}

fn line(row: &Value) -> Line {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let firmware = &row["firmware"];
    Line {
        device: text(&row["deviceId"]),
        status: text(&firmware["fwUpdateStatus"]),
        firmware: text(&firmware["currentFwVersion"]),
        detail: text(&firmware["fwUpdateSubstatus"]),
        trouble: false,
    }
}

/// Whether some of these are being updated now.
pub(crate) fn is_moving(picture: &Picture) -> bool {
    let moving = ["downloading", "verifying", "applying", "rebooting"];
    moving.iter().any(|word| picture.counts.get(*word).is_some_and(|number| *number > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_from_before_is_no_failure_of_this_roll_out() {
        let told = Told { first: "2026-11-20T10:00:00.000Z".into(), last: "2026-11-22T10:00:00.000Z".into() };
        for (is_connected, ended, wanted) in [
            (true, "2026-11-22T10:00:01.000Z", Trouble::Ours),
            (true, "2026-11-21T10:00:00.000Z", Trouble::Older),
            (true, "2026-11-01T10:00:00.000Z", Trouble::Older),
            (true, "", Trouble::Ours),
            (false, "2026-11-22T10:00:01.000Z", Trouble::Ours),
            // It failed with it before the roll-out was paused or halted, and will not try again.
            (false, "2026-11-21T10:00:00.000Z", Trouble::Ours),
            (false, "2026-11-01T10:00:00.000Z", Trouble::Past),
            (false, "", Trouble::Past),
        ] {
            assert_eq!(told.trouble(is_connected, ended), wanted, "{is_connected} {ended}");
        }
    }
}
