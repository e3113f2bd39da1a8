//! The stored form of a record.
//!
//! A newer twinboot reads what an older one wrote, and the other way round as well: when the system of an older one is gone
//! back to, it finds the record of the newer. So members are only ever added, and left out where they say nothing.

use serde::Deserialize;

use super::record::Record;

/// Stored bytes that are no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a twinboot that this one does not understand.
    #[error("record has schema {found}, this twinboot reads {}", Record::SCHEMA)]
    Schema {
        /// The schema found.
        found: u64,
    },
    /// Not a record at all.
    #[error("record is damaged")]
    Damaged(#[source] serde_json::Error),
}

impl Record {
    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record has string keys and finite numbers only")
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`RecordError`] if another schema or nothing sensible is found.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Head {
            schema: u64,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(RecordError::Damaged)?;
        if head.schema != u64::from(Self::SCHEMA) {
            return Err(RecordError::Schema { found: head.schema });
        }
        serde_json::from_slice(bytes).map_err(RecordError::Damaged)
    }
}
