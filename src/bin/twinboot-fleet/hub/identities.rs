//! Identities of devices.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use twinboot::hub::sas::percent_encoded;

use super::{Call, Hub, Kind, Method};
use crate::failure::{Failure, Outcome};

impl Hub {
    /// Makes a device with new keys.
    ///
    /// # Errors
    /// If there is one by this id, or it cannot be one.
    pub(crate) async fn make_device(&self, device: &str) -> Outcome<Value> {
        let keys = json!({"primaryKey": "", "secondaryKey": ""});
        let body = json!({"deviceId": device, "authentication": {"type": "sas", "symmetricKey": keys}});
        self.get(&Call::new(Method::PUT, Kind::Registry, path(device)).body(body)).await
    }

    /// Deletes one.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) async fn delete_device(&self, device: &str) -> Outcome {
        let call = Call::new(Method::DELETE, Kind::Registry, path(device)).header("if-match", "*");
        self.get(&call).await.map(|_| ())
    }

    /// A device's own connection string, with its primary key. A port is left out: it is the service's.
    ///
    /// # Errors
    /// If there is no such device, or it has no key.
    pub(crate) async fn device_string(&self, device: &str) -> Outcome<Zeroizing<String>> {
        let identity = self.get(&Call::new(Method::GET, Kind::Registry, path(device))).await?;
        let key =
            identity["authentication"]["symmetricKey"]["primaryKey"].as_str().filter(|key| !key.is_empty());
        let key =
            key.ok_or_else(|| Failure::failed(format!("{device} has no key: it proves itself otherwise")))?;
        Ok(Zeroizing::new(format!("HostName={};DeviceId={device};SharedAccessKey={key}", self.host)))
    }
}

fn path(device: &str) -> String {
    format!("/devices/{}", percent_encoded(device))
}
