//! The machine's time zone and the system's time zone database: what time of day is it, there and now?
//!
//! Read anew at every question, which is asked a few times a minute at most: so a change of the machine's zone, or a
//! new edition of the database, counts at once.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::tzif::TimeZone;
use super::{Error, Host};
use crate::model::{Timestamp, Zone, ZoneName};

/// Where the database is on nearly every system; `$TZDIR` says otherwise.
const DATABASE: &str = "usr/share/zoneinfo";

impl Host {
    /// The time of day at `now` in `zone`, in minutes since midnight.
    ///
    /// # Errors
    /// If the system's database does not have that zone, or what it has cannot be read. A machine that has no local
    /// time zone is in UTC: localtime(5).
    pub fn minute_of_day(&self, zone: &Zone, now: Timestamp) -> Result<u16, Error> {
        let time = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX / 2);
        let offset = self.time_zone(zone)?.map_or(0, |zone| zone.offset(time));
        let second = (time + i64::from(offset)).rem_euclid(24 * 60 * 60);
        Ok(u16::try_from(second / 60).unwrap_or(0))
    }

    /// Whether the database has `zone`. Where there is no database at all, nothing can be said against it.
    pub fn knows(&self, zone: &Zone) -> bool {
        match zone {
            Zone::Local | Zone::Utc => true,
            Zone::Named(_) => self.time_zone(zone).is_ok() || !self.zone_database().is_dir(),
        }
    }

    /// All names in the database, for finding out which one was meant.
    pub fn zone_names(&self) -> Vec<String> {
        let database = self.zone_database();
        let (mut names, mut open) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(below) = open.pop() {
            let Ok(entries) = fs::read_dir(database.join(&below)) else { continue };
            for entry in entries.flatten() {
                let name = below.join(entry.file_name());
                let text = name.to_string_lossy().into_owned();
                // Whole copies of the database in other flavours.
                if matches!(text.as_str(), "posix" | "right") {
                    continue;
                }
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => open.push(name),
                    Ok(_) if text.parse::<Zone>().is_ok() => names.push(text),
                    Ok(_) | Err(_) => {}
                }
            }
        }
        names.sort();
        names
    }

    /// `None` is UTC.
    fn time_zone(&self, zone: &Zone) -> Result<Option<TimeZone>, Error> {
        let path = match zone {
            Zone::Utc => return Ok(None),
            Zone::Local => self.path("etc/localtime"),
            Zone::Named(name) => self.zone_file(name),
        };
        match fs::read(&path) {
            Ok(file) => TimeZone::parse(&file).map(Some).ok_or(Error::NoTimeZone { path }),
            Err(error) if *zone == Zone::Local && error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    fn zone_file(&self, name: &ZoneName) -> PathBuf {
        self.zone_database().join(name.as_str())
    }

    /// A simulated machine may have a database of its own; else it uses that of the machine it is simulated on.
    fn zone_database(&self) -> PathBuf {
        let own = self.path(DATABASE);
        if self.root.is_some() && own.is_dir() {
            return own;
        }
        std::env::var_os("TZDIR").map_or_else(|| PathBuf::from("/").join(DATABASE), PathBuf::from)
    }
}
