//! The identity registry: creating, changing, deleting devices and modules, one by one and many at once. Not the
//! fields of one (`registry`).

use serde_json::{Map, Value, json};

use super::{Hub, twins};
use crate::error::{Code, Error};
use crate::events::EventKind;
use crate::registry::{Device, Standing, check_etag, check_raw_etag};

/// Most modules of one device.
const MODULE_LIMIT: usize = 50;
/// Most identities in one bulk request.
const BULK_LIMIT: usize = 100;

impl Hub {
    /// A device, or a module by `device/module`.
    pub(crate) fn find(&self, key: &str) -> Option<&Device> {
        if key.contains('/') { self.modules.get(key) } else { self.devices.get(key) }
    }

    pub(crate) fn find_mut(&mut self, key: &str) -> Option<&mut Device> {
        if key.contains('/') { self.modules.get_mut(key) } else { self.devices.get_mut(key) }
    }

    /// As `find`, but absence is the hub's error.
    pub(crate) fn device(&self, key: &str) -> Result<&Device, Error> {
        self.find(key).ok_or_else(|| Error::no_device(key))
    }

    pub(crate) fn device_mut(&mut self, key: &str) -> Result<&mut Device, Error> {
        self.find_mut(key).ok_or_else(|| Error::no_device(key))
    }

    /// Puts an identity in the place of its older self, if there is one.
    pub(super) fn store(&mut self, device: Device) {
        let key = device.key();
        let all = if device.module.is_some() { &mut self.modules } else { &mut self.devices };
        all.insert(key, device);
    }

    /// The keys of every device and of every module.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.devices.keys().chain(self.modules.keys()).cloned().collect()
    }

    /// The modules of a device.
    pub(crate) fn modules_of(&self, id: &str) -> Vec<&Device> {
        self.modules.values().filter(|module| module.id == id).collect()
    }

    pub(crate) fn standing(&self, key: &str) -> Standing {
        Standing { connected: self.device_connected(key), messages: self.message_count(key) }
    }

    pub(crate) fn identity(&self, key: &str) -> Result<Value, Error> {
        Ok(self.device(key)?.identity(self.standing(key)))
    }

    /// A PUT without If-Match creates, one with it updates.
    pub(crate) fn put_identity(
        &mut self,
        key: &str,
        body: &Value,
        if_match: Option<&str>,
    ) -> Result<Value, Error> {
        match (self.find(key), if_match) {
            (Some(_), None) => return Err(already(key)),
            (None, Some(_)) => return Err(Error::no_device(key)),
            (Some(device), Some(_)) => {
                check_etag(if_match, &device.etag())?;
                self.change(key, body)?;
            }
            (None, None) => {
                let device = self.make(key, body)?;
                self.add(device);
            }
        }
        self.identity(key)
    }

    /// A new identity, not yet in the registry.
    fn make(&self, key: &str, body: &Value) -> Result<Device, Error> {
        let Some((device, module)) = key.split_once('/') else { return Device::create(key, body) };
        self.device(device)?;
        if self.modules_of(device).len() >= MODULE_LIMIT {
            let why = format!("a device may have {MODULE_LIMIT} modules");
            return Err(Error::new(Code::TooManyModules, why));
        }
        Device::create_module(device, module, body)
    }

    fn add(&mut self, device: Device) {
        let key = device.key();
        self.store(device);
        self.events.emit(EventKind::DeviceCreated { device: key.clone() });
        self.settle(&key);
    }

    fn change(&mut self, key: &str, body: &Value) -> Result<(), Error> {
        let device = self.device_mut(key)?;
        device.update(body)?;
        if !device.enabled {
            self.cut_whole(key, "the device was disabled");
        }
        self.settle(key);
        Ok(())
    }

    /// A device takes its modules along.
    fn cut_whole(&mut self, key: &str, why: &str) {
        self.cut(key, why);
        let modules: Vec<String> = self.modules_of(key).into_iter().map(Device::key).collect();
        for module in modules {
            self.cut(&module, why);
        }
    }

    /// Deletes an identity; a device takes its modules along.
    pub(crate) fn delete_identity(&mut self, key: &str, if_match: Option<&str>) -> Result<(), Error> {
        check_etag(if_match, &self.device(key)?.etag())?;
        self.cut_whole(key, "the device was deleted");
        let mut gone: Vec<String> = self.modules_of(key).into_iter().map(Device::key).collect();
        gone.push(key.to_owned());
        for key in gone {
            self.devices.remove(&key);
            self.modules.remove(&key);
            self.forget(&key);
            self.events.emit(EventKind::DeviceDeleted { device: key });
        }
        Ok(())
    }

    /// Carries out a bulk request, each operation by itself: the body of the answer.
    ///
    /// # Errors
    /// If the request as a whole cannot be: no array, too many, one identity twice.
    pub(crate) fn bulk(&mut self, operations: &Value) -> Result<Value, Error> {
        let operations =
            operations.as_array().ok_or_else(|| Error::invalid("the body is not an array of identities"))?;
        if operations.len() > BULK_LIMIT {
            let why = format!("{} identities where {BULK_LIMIT} are allowed", operations.len());
            return Err(Error::new(Code::TooManyDevices, why));
        }
        let keys: Vec<String> = operations.iter().map(bulk_key).collect();
        if let Some(twice) = keys.iter().enumerate().find(|(at, key)| keys[..*at].contains(key)) {
            return Err(Error::new(Code::DefinedTwice, format!("{} is there twice", twice.1)));
        }
        let mut errors = Vec::new();
        for (key, operation) in keys.iter().zip(operations) {
            if let Err(error) = self.bulk_one(key, operation) {
                let mut entry = json!({
                    "deviceId": operation["id"],
                    "errorCode": error.code.name(),
                    "errorStatus": error.message,
                });
                if let Some(module) = operation.get("moduleId") {
                    entry["moduleId"] = module.clone();
                }
                errors.push(entry);
            }
        }
        Ok(json!({"isSuccessful": errors.is_empty(), "errors": errors, "warnings": []}))
    }

    fn bulk_one(&mut self, key: &str, body: &Value) -> Result<(), Error> {
        // The Node SDK writes them with a capital.
        let mode = body.get("importMode").and_then(Value::as_str).unwrap_or("createOrUpdate");
        let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let etag = text("eTag").or(text("etag"));
        let need = |etag: Option<&str>, name: &str| match etag {
            Some(etag) => Ok(etag.to_owned()),
            None => Err(Error::invalid(format!("{mode} wants {name}"))),
        };
        let exists = self.find(key).is_some();
        match mode.to_ascii_lowercase().as_str() {
            "create" if exists => Err(already(key)),
            "createorupdate" | "createorupdateifmatchetag" | "create" if !exists => {
                let mut device = self.make(key, body)?;
                twins::apply(&mut device, body, false)?;
                self.add(device);
                Ok(())
            }
            "createorupdate" => {
                self.change(key, body)?;
                self.bulk_twin(key, body, None)
            }
            "update" => self.change(key, body),
            "createorupdateifmatchetag" | "updateifmatchetag" => {
                let etag = need(etag, "eTag")?;
                check_raw_etag(Some(&etag), &self.device(key)?.etag())?;
                self.change(key, body)
            }
            "delete" => self.delete_identity(key, None),
            "deleteifmatchetag" => {
                let etag = need(etag, "eTag")?;
                check_raw_etag(Some(&etag), &self.device(key)?.etag())?;
                self.delete_identity(key, None)
            }
            "updatetwin" => self.bulk_twin(key, body, None),
            "updatetwinifmatchetag" => {
                let etag = need(text("twinETag").or(text("twinEtag")).or(etag), "twinETag")?;
                self.bulk_twin(key, body, Some(&etag))
            }
            _ => Err(Error::invalid(format!("there is no importMode {mode}"))),
        }
    }

    fn bulk_twin(&mut self, key: &str, body: &Value, etag: Option<&str>) -> Result<(), Error> {
        check_raw_etag(etag, &self.device(key)?.twin_etag())?;
        let named: Map<String, Value> = ["tags", "properties"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), body.get(name)?.clone())))
            .collect();
        if !named.is_empty() {
            self.update_twin(key, &Value::Object(named), false, None)?;
        }
        Ok(())
    }
}

fn already(key: &str) -> Error {
    match key.split_once('/') {
        Some((device, module)) => {
            Error::new(Code::ModuleAlreadyExists, format!("the device {device} has a module {module}"))
        }
        None => Error::new(Code::AlreadyExists, format!("there is a device {key}")),
    }
}

fn bulk_key(operation: &Value) -> String {
    let text = |name: &str| operation.get(name).and_then(Value::as_str).unwrap_or_default();
    match text("moduleId") {
        "" => text("id").to_owned(),
        module => format!("{}/{module}", text("id")),
    }
}
