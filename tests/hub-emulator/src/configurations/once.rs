//! Content applied once to one device, which no configuration keeps up: `applyConfigurationContent`. Called by `rest`.

use serde_json::{Map, Value, json};

use super::DESIRED;
use super::evaluation::{keys, place};
use crate::error::{Code, Error};
use crate::hub::Hub;

impl Hub {
    /// Puts the content in place: `deviceContent` on the device, `modulesContent` on its modules, which are made if
    /// they are not there. All or nothing, but for modules that were made.
    ///
    /// # Errors
    /// If the content cannot be, or is for modules and the device is no gateway.
    pub(crate) fn apply_content(&mut self, id: &str, content: &Value) -> Result<(), Error> {
        let edge = self.device(id)?.edge;
        let named = |name: &str| content.get(name).and_then(Value::as_object);
        let mut goals = Vec::new();
        if let Some(settings) = named("deviceContent") {
            goals.push((id.to_owned(), self.goal_of(id, settings)?));
        }
        if let Some(modules) = named("modulesContent") {
            if !edge {
                let why = format!("{id} is no IoT Edge gateway: capabilities.iotEdge is false");
                return Err(Error::new(Code::InvalidOperation, why));
            }
            for (module, settings) in modules {
                let settings = settings.as_object().ok_or_else(|| bad(format!("{module} is no object")))?;
                let key = format!("{id}/{module}");
                if self.find(&key).is_none() {
                    self.put_identity(&key, &json!({"managedBy": "IotEdge"}), None)?;
                }
                goals.push((key.clone(), self.goal_of(&key, settings)?));
            }
        }
        if goals.is_empty() {
            return Err(bad("neither deviceContent nor modulesContent is there".to_owned()));
        }
        for (key, goal) in goals {
            self.update_twin(&key, &json!({"properties": {"desired": goal}}), true, None)?;
        }
        Ok(())
    }

    fn goal_of(&self, key: &str, settings: &Map<String, Value>) -> Result<Map<String, Value>, Error> {
        let mut goal = self.device(key)?.desired.value().clone();
        for (path, value) in settings {
            if path != DESIRED && !path.starts_with(&format!("{DESIRED}.")) {
                return Err(bad(format!("{path} is not a path below {DESIRED}")));
            }
            place(&mut goal, &keys(path), Some(value));
        }
        Ok(goal)
    }
}

fn bad(message: String) -> Error {
    Error::new(Code::InvalidContent, message)
}
