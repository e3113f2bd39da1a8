//! Twins in the words of Plug-and-Play: components, properties with acknowledgements, and JSON patches of them. A view of
//! `registry`'s twins, not a store. Called by `rest` for `/digitaltwins`.
//!
//! Source: "Understand IoT Plug and Play digital twins". A component is an object with `"__t": "c"`; a property that a
//! device acknowledges is reported as `{value, ac, av, ad}`.

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::registry::Device;

const MARK: &str = "__t";

/// The digital twin of a device.
pub(crate) fn document(device: &Device) -> Value {
    let (desired, reported) = (device.desired.for_service(), device.reported.for_service());
    let mut twin = level(&desired, &reported);
    for name in components(&desired).into_iter().chain(components(&reported)) {
        let (wanted, said) = (desired.get(&name), reported.get(&name));
        let mut wanted = wanted.cloned().unwrap_or_default();
        let mut said = said.cloned().unwrap_or_default();
        for (side, whole) in [(&mut wanted, &desired), (&mut said, &reported)] {
            if side.is_object() {
                side["$metadata"] = whole["$metadata"][&name].clone();
                side["$version"] = whole["$version"].clone();
            }
        }
        twin.insert(name, Value::Object(level(&wanted, &said)));
    }
    twin.insert("$dtId".to_owned(), json!(device.id));
    if let Some(metadata) = twin.get_mut("$metadata").and_then(Value::as_object_mut) {
        metadata.insert("$model".to_owned(), json!(device.model_id));
    }
    Value::Object(twin)
}

/// The names of the components of a section.
fn components(section: &Value) -> Vec<String> {
    let members = section.as_object().into_iter().flatten();
    let marked = members.filter(|(_, value)| value.get(MARK) == Some(&json!("c")));
    marked.map(|(name, _)| name.clone()).collect()
}

/// The properties of one level, and what is known about each of them.
fn level(desired: &Value, reported: &Value) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut metadata = Map::new();
    let plain = |name: &str, value: &Value| {
        !name.starts_with('$') && name != MARK && value.get(MARK) != Some(&json!("c"))
    };
    for (name, value) in reported.as_object().into_iter().flatten().filter(|(name, value)| plain(name, value))
    {
        let mut about = json!({"lastUpdateTime": reported["$metadata"][name]["$lastUpdated"]});
        let acknowledged = value.get("value").filter(|_| value.get("ac").is_some());
        if acknowledged.is_some() {
            about["ackVersion"] = value["av"].clone();
            about["ackCode"] = value["ac"].clone();
            about["ackDescription"] = value["ad"].clone();
        }
        properties.insert(name.clone(), acknowledged.unwrap_or(value).clone());
        metadata.insert(name.clone(), about);
    }
    for (name, value) in desired.as_object().into_iter().flatten().filter(|(name, value)| plain(name, value))
    {
        let about = metadata.entry(name.clone()).or_insert_with(|| json!({}));
        about["desiredValue"] = value.clone();
        about["desiredVersion"] = desired["$metadata"][name]["$lastUpdatedVersion"].clone();
    }
    properties.insert("$metadata".to_owned(), Value::Object(metadata));
    properties
}

/// A JSON patch of a digital twin as a patch of the twin: `{"properties": {"desired": …}}`.
///
/// # Errors
/// If it is no JSON patch, or reaches for something that is neither a property nor a component.
pub(crate) fn twin_patch(patch: &Value) -> Result<Value, Error> {
    let mut desired = Map::new();
    for step in patch.as_array().ok_or_else(|| Error::invalid("the body is not an array of operations"))? {
        let text = |name: &str| step.get(name).and_then(Value::as_str).unwrap_or_default();
        let value = match text("op") {
            "add" | "replace" => {
                step.get("value").cloned().ok_or_else(|| Error::invalid("an operation has no value"))?
            }
            "remove" => Value::Null,
            other => return Err(Error::invalid(format!("there is no operation {other:?} here"))),
        };
        let path: Vec<String> =
            text("path").split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
        match &path[..] {
            [name] => drop(desired.insert(name.clone(), whole(value))),
            [component, name] => {
                let inner = desired.entry(component.clone()).or_insert_with(|| json!({MARK: "c"}));
                // What an earlier operation took away or replaced by something else.
                if !inner.is_object() {
                    *inner = json!({MARK: "c"});
                }
                inner[name] = value;
            }
            _ => {
                return Err(Error::invalid(format!(
                    "{} is not /property or /component/property",
                    text("path")
                )));
            }
        }
    }
    Ok(json!({"properties": {"desired": desired}}))
}

/// A whole component is known by its `$metadata`.
fn whole(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut()
        && object.remove("$metadata").is_some()
    {
        object.insert(MARK.to_owned(), json!("c"));
    }
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn properties_carry_what_was_wanted_and_what_was_acknowledged() {
        let mut device = Device::create("d", &json!({})).unwrap();
        device.model_id = "dtmi:com:example:Thermostat;1".to_owned();
        device.desired.merge(&map(json!({"limit": 5, "t1": {"__t": "c", "target": 20}}))).unwrap();
        let said = json!({
            "limit": {"value": 5, "ac": 200, "av": 2, "ad": "done"},
            "t1": {"__t": "c", "now": 19.5, "target": {"value": 18, "ac": 202, "av": 1}},
        });
        device.reported.merge(&map(said)).unwrap();
        let twin = document(&device);
        assert_eq!((&twin["$dtId"], &twin["$metadata"]["$model"]), (&json!("d"), &json!(device.model_id)));
        assert_eq!(twin["limit"], 5);
        let about = &twin["$metadata"]["limit"];
        assert_eq!((&about["desiredValue"], &about["desiredVersion"]), (&json!(5), &json!(2)));
        assert_eq!((&about["ackCode"], &about["ackDescription"]), (&json!(200), &json!("done")));
        assert!(about["lastUpdateTime"].is_string());
        assert_eq!((&twin["t1"]["now"], &twin["t1"]["target"]), (&json!(19.5), &json!(18)));
        let about = &twin["t1"]["$metadata"]["target"];
        assert_eq!((&about["desiredValue"], &about["ackCode"]), (&json!(20), &json!(202)));
        assert!(twin["t1"].get("__t").is_none());
    }

    #[test]
    fn a_json_patch_becomes_a_twin_patch() {
        let steps = json!([
            {"op": "add", "path": "/a~1b", "value": 1},
            {"op": "replace", "path": "/t1/x", "value": 2},
            {"op": "remove", "path": "/t1/y"},
            {"op": "add", "path": "/t3", "value": 5},
            {"op": "add", "path": "/t3/z", "value": 6},
            {"op": "add", "path": "/t2", "value": {"z": 3, "$metadata": {}}},
        ]);
        let expected = json!({
            "a/b": 1,
            "t1": {"__t": "c", "x": 2, "y": null},
            "t2": {"__t": "c", "z": 3},
            "t3": {"__t": "c", "z": 6},
        });
        assert_eq!(twin_patch(&steps).unwrap()["properties"]["desired"], expected);
        for bad in [
            json!({}),
            json!([{"op": "move", "path": "/a"}]),
            json!([{"op": "add", "path": "/a"}]),
            json!([{"op": "add", "path": "/a/b/c", "value": 1}]),
            json!([{"op": "remove", "path": "a"}]),
        ] {
            assert!(twin_patch(&bad).is_err(), "{bad}");
        }
    }
}
