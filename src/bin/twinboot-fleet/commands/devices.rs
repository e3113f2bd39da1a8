//! `devices`: a table of devices, of any columns, page by page.

use serde_json::{Map, Value};

use super::paths;
use crate::arguments;
use crate::failure::{Exit, Outcome};
use crate::hub::Hub;
use crate::show::{Table, as_text, cell, say};

/// Columns with a short name, and where they stand in a twin.
const COLUMNS: [(&str, &str); 11] = [
    ("id", "deviceId"),
    ("connected", "connectionState"),
    ("firmware", "properties.reported.firmware.currentFwVersion"),
    ("pending", "properties.reported.firmware.pendingFwVersion"),
    ("status", "properties.reported.firmware.fwUpdateStatus"),
    ("detail", "properties.reported.firmware.fwUpdateSubstatus"),
    ("code", "properties.reported.firmware.fwUpdateCode"),
    ("started", "properties.reported.firmware.lastFwUpdateStartTime"),
    ("ended", "properties.reported.firmware.lastFwUpdateEndTime"),
    ("enabled", "status"),
    ("activity", "lastActivityTime"),
];

/// Lists devices.
pub(super) async fn list(hub: &Hub, wanted: &arguments::Devices) -> Outcome<Exit> {
    let query = query(&wanted.columns, wanted.condition.as_deref())?;
    let mut rows = hub.query(&query, wanted.limit);
    let mut table = Table::new(wanted.columns.iter().map(|name| name.to_uppercase()));
    while let Some(row) = rows.next().await? {
        let cells = (0..wanted.columns.len()).map(|at| row.get(format!("c{at}")).unwrap_or(&Value::Null));
        if wanted.json {
            let named = wanted.columns.iter().cloned().zip(cells.cloned());
            say(&as_text(&Value::Object(named.collect::<Map<_, _>>())))?;
            continue;
        }
        table.row(cells.map(cell).collect());
        if rows.is_page_end() {
            table.page()?;
        }
    }
    if !wanted.json {
        table.page()?;
    }
    Ok(Exit::Done)
}

/// Only what is shown is asked for: a whole twin has a hundred times as many bytes. The columns are numbered, since two
/// may end in the same name.
fn query(columns: &[String], condition: Option<&str>) -> Outcome<String> {
    let mut projection = Vec::new();
    for (at, name) in columns.iter().enumerate() {
        let known = COLUMNS.iter().find(|(short, _)| short == name).map(|(_, path)| *path);
        projection.push(format!("{} AS c{at}", paths::in_query(known.unwrap_or(name))?));
    }
    let condition = condition.map(|condition| format!(" WHERE {condition}")).unwrap_or_default();
    Ok(format!("SELECT {} FROM devices{condition}", projection.join(", ")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_query_asks_for_the_columns_and_no_more() {
        let columns = ["id".to_owned(), "tags.site-2".to_owned()];
        assert_eq!(
            query(&columns, Some("tags.a = 1")).unwrap(),
            "SELECT deviceId AS c0, tags.[[site-2]] AS c1 FROM devices WHERE tags.a = 1"
        );
        assert!(query(&["a FROM x".to_owned()], None).is_err());
    }
}
