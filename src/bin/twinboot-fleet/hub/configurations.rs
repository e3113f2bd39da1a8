//! Automatic device configurations.

use serde_json::{Value, json};

use twinboot::hub::sas::percent_encoded;

use super::{Call, Hub, Kind, Method};
use crate::failure::{Failure, Outcome};

/// The most that a hub has.
const MOST: &str = "100";

impl Hub {
    /// A configuration; none if there is none by this id.
    ///
    /// # Errors
    /// If the hub does not answer.
    pub(crate) async fn configuration(&self, id: &str) -> Outcome<Option<Value>> {
        match self.get(&Call::new(Method::GET, Kind::Configuration, path(id))).await {
            Ok(found) => Ok(Some(found)),
            // Some names of jobs and devices cannot be those of configurations.
            Err(failure) if matches!(failure.status, Some(400 | 404)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// All of them.
    ///
    /// # Errors
    /// If the hub does not answer.
    pub(crate) async fn configurations(&self) -> Outcome<Vec<Value>> {
        let call = Call::new(Method::GET, Kind::Configuration, "/configurations").parameter("top", MOST);
        match self.get(&call).await? {
            Value::Array(all) => Ok(all),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                Err(Failure::failed("the hub's configurations are no list"))
            }
        }
    }

    /// Makes one, which must not be there yet.
    ///
    /// # Errors
    /// If it is, or something in it cannot be.
    pub(crate) async fn make_configuration(&self, id: &str, document: Value) -> Outcome<Value> {
        let call = Call::new(Method::PUT, Kind::Configuration, path(id)).body(document.clone());
        self.put(&call, &document).await
    }

    /// Changes one that has not changed since it was read: `document` has its etag.
    ///
    /// # Errors
    /// If it has changed, or something in it cannot be.
    pub(crate) async fn change_configuration(&self, id: &str, document: Value) -> Outcome<Value> {
        let etag = format!("\"{}\"", document["etag"].as_str().unwrap_or_default());
        // The rest of it the hub counts by itself, or never changes.
        let wanted = json!({
            "labels": document["labels"],
            "targetCondition": document["targetCondition"],
            "priority": document["priority"],
        });
        let call =
            Call::new(Method::PUT, Kind::Configuration, path(id)).header("if-match", etag).body(document);
        self.put(&call, &wanted).await
    }

    /// Deletes one.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) async fn delete_configuration(&self, id: &str) -> Outcome {
        self.delete(Call::new(Method::DELETE, Kind::Configuration, path(id))).await
    }
}

fn path(id: &str) -> String {
    format!("/configurations/{}", percent_encoded(id))
}
