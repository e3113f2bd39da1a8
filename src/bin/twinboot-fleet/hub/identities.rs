//! Identities of devices.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
        // Ours and not the hub's, so that a device which we made is told from one that somebody else did.
        let keys = json!({"primaryKey": key()?, "secondaryKey": key()?});
        let body = json!({"deviceId": device, "authentication": {"type": "sas", "symmetricKey": keys}});
        let call = Call::new(Method::PUT, Kind::Registry, path(device)).body(body.clone());
        self.put(&call, &body).await
    }

    /// Deletes one.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) async fn delete_device(&self, device: &str) -> Outcome {
        self.delete(Call::new(Method::DELETE, Kind::Registry, path(device))).await
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

/// A new symmetric key, as long as the hub's own.
fn key() -> Outcome<String> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(key.as_mut_slice())
        .map_err(|error| Failure::failed(format!("the kernel gives no random numbers: {error}")))?;
    Ok(STANDARD.encode(key.as_slice()))
}

fn path(device: &str) -> String {
    format!("/devices/{}", percent_encoded(device))
}
