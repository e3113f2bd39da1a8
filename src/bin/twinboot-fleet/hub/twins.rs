//! Twins: reading and merging.

use serde_json::Value;

use twinboot::hub::sas::percent_encoded;

use super::{Call, Hub, Kind, Method};
use crate::failure::Outcome;

impl Hub {
    /// A device's twin.
    ///
    /// # Errors
    /// If there is none, or the hub does not answer.
    pub(crate) async fn twin(&self, device: &str) -> Outcome<Value> {
        self.get(&Call::new(Method::GET, Kind::TwinRead, path(device))).await
    }

    /// Merges into a device's twin, null takes away; the twin after it. `etag` is what it must have, `*` is any.
    ///
    /// # Errors
    /// If there is none, it changed in the meantime, or it would break a limit.
    pub(crate) async fn merge_twin(&self, device: &str, patch: Value, etag: &str) -> Outcome<Value> {
        let etag = if etag == "*" { "*".to_owned() } else { format!("\"{etag}\"") };
        let call = Call::new(Method::PATCH, Kind::TwinWrite, path(device)).body(patch.clone());
        // The same merge again changes nothing; if it hangs on the etag, it is refused.
        self.put(&call.header("if-match", etag).repeatable(), &patch).await
    }
}

fn path(device: &str) -> String {
    format!("/twins/{}", percent_encoded(device))
}
