//! `/configurations`: automatic device configurations.

use serde_json::Value;

use super::{Reply, Request, unknown};
use crate::configurations::test_queries;
use crate::error::{Code, Error};
use crate::policies::Right;
use crate::shared::Shared;

const LIST_LIMIT: usize = 100;

pub(super) fn route(shared: &Shared, request: &Request, rest: &[&str]) -> Result<Reply, Error> {
    let reads = matches!(request.method.as_str(), "GET" | "POST");
    request.authorize(shared, if reads { Right::RegistryRead } else { Right::RegistryWrite })?;
    match (request.method.as_str(), rest) {
        ("GET", []) => {
            let top = request.top(LIST_LIMIT)?;
            let all = shared.read(|hub| {
                let some = hub.configurations.values().take(top);
                some.map(|found| hub.configuration_document(found)).collect()
            });
            Ok(Reply::ok(Value::Array(all)))
        }
        ("POST", ["testQueries"]) => Ok(Reply::ok(test_queries(&request.body))),
        ("GET", [id]) => {
            let document = shared.read(|hub| hub.configuration(id));
            if document.is_null() {
                return Err(Error::new(
                    Code::ConfigurationNotFound,
                    format!("there is no configuration {id}"),
                ));
            }
            Ok(Reply::tagged(document))
        }
        ("PUT", [id]) => {
            let document = shared.with(|hub| hub.put_configuration(id, &request.body, request.if_match()))?;
            Ok(Reply::tagged(document))
        }
        ("DELETE", [id]) => {
            shared.with(|hub| hub.delete_configuration(id, request.if_match()))?;
            Ok(Reply::nothing())
        }
        _ => Err(unknown(request)),
    }
}

/// `POST /devices/{id}/applyConfigurationContent`: the content of one device, which must be a gateway for modules.
pub(super) fn apply(shared: &Shared, request: &Request, id: &str) -> Result<Reply, Error> {
    shared.with(|hub| hub.apply_content(id, &request.body))?;
    Ok(Reply::nothing())
}
