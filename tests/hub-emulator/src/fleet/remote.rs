//! Registering devices at a hub that runs elsewhere, through the service's REST API. One request for a connection:
//! it is done a few times at start.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::device::{Checked, Failure};
use crate::sas::sign;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(20);
const VERSION: &str = "api-version=2021-04-12";

/// The service side of a hub.
#[derive(Clone, Debug)]
pub struct RemoteHub {
    host: String,
    port: u16,
    policy: String,
    key: String,
    tls: Arc<ClientConfig>,
    mqtt_port: u16,
}

impl RemoteHub {
    /// Takes a service connection string, whose host may have a port, and the certificate authority to trust, in PEM.
    /// Asks an emulator for the port of its devices; of another hub it is 8883.
    ///
    /// # Errors
    /// If either makes no sense. Not if the hub cannot be reached: that shows at the first device.
    pub fn new(connection: &str, ca: &str) -> Checked<RemoteHub> {
        let field = |name: &str| {
            let found =
                connection.split(';').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
            found.map(str::to_owned).ok_or_else(|| Failure(format!("the connection string has no {name}")))
        };
        let host = field("HostName")?;
        let (host, port) = match host.rsplit_once(':') {
            Some((name, port)) => (name.to_owned(), port.parse()?),
            None => (host, 443),
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(certificate.map_err(|error| Failure(format!("the CA: {error}")))?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (policy, key) = (field("SharedAccessKeyName")?, field("SharedAccessKey")?);
        let mut hub = RemoteHub { host, port, policy, key, tls: Arc::new(tls), mqtt_port: 8883 };
        let about = hub.request("GET", "/emulator", &[], &Value::Null);
        let told =
            about.ok().and_then(|(status, about)| (status == 200).then(|| about["mqttPort"].as_u64())?);
        hub.mqtt_port = told.and_then(|port| u16::try_from(port).ok()).unwrap_or(8883);
        Ok(hub)
    }

    /// Creates a device with these tags, or takes the one that is there; its connection string with the port.
    ///
    /// # Errors
    /// If the hub cannot be reached, or refuses.
    pub fn register(&self, id: &str, tags: &Value) -> Checked<String> {
        let path = format!("/devices/{id}?{VERSION}");
        let (status, mut device) = self.request("PUT", &path, &[], &json!({"deviceId": id}))?;
        if status == 409 {
            device = self.expect("GET", &path, &[], &Value::Null)?;
        } else if status != 200 {
            return Err(Failure(format!("PUT {path}: {status} {device}")));
        }
        self.expect(
            "PATCH",
            &format!("/twins/{id}?{VERSION}"),
            &[("If-Match", "\"*\"")],
            &json!({"tags": tags}),
        )?;
        let key = device.pointer("/authentication/symmetricKey/primaryKey").and_then(Value::as_str);
        let key = key.ok_or_else(|| Failure(format!("{id} has no key")))?;
        Ok(format!("HostName={}:{};DeviceId={id};SharedAccessKey={key}", self.host, self.mqtt_port))
    }

    fn expect(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Checked<Value> {
        match self.request(method, path, headers, body)? {
            (200, answer) => Ok(answer),
            (status, answer) => Err(Failure(format!("{method} {path}: {status} {answer}"))),
        }
    }

    /// One request of the service's REST API, such as `PUT /jobs/v2/one?api-version=…`: status and body, each null if
    /// there is none.
    ///
    /// # Errors
    /// If the hub cannot be reached or does not speak HTTP.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Checked<(u16, Value)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let token = sign(&self.host, &self.key, now + 3600, Some(&self.policy));
        let token = token.ok_or_else(|| Failure("the SharedAccessKey is no key".into()))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n",
            self.host,
            body.len()
        );
        headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        text.push_str("\r\n");
        text.push_str(&body);
        let at = format!("{}:{}", self.host, self.port);
        let stream = TcpStream::connect(&at).map_err(|error| Failure(format!("{at}: {error}")))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(self.host.clone())?;
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(&self.tls), name)?, stream);
        stream.write_all(text.as_bytes())?;
        let mut answer = Vec::new();
        // Ended without a close_notify, as servers do: what is missing shows when it is read.
        if let Err(error) = stream.read_to_end(&mut answer)
            && answer.is_empty()
        {
            return Err(Failure(format!("{at}: {error}")));
        }
        read(&String::from_utf8_lossy(&answer))
    }
}

/// Status and body of an answer; no body is null.
fn read(answer: &str) -> Checked<(u16, Value)> {
    let no_answer = || Failure("the hub's answer is no HTTP".into());
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_answer)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(no_answer)?;
    // A body in chunks begins with its length; JSON begins with a bracket, and the rest is one document.
    let begin = body.find(['{', '[']).unwrap_or(body.len());
    let mut documents = serde_json::Deserializer::from_str(&body[begin..]).into_iter::<Value>();
    Ok((status, documents.next().and_then(Result::ok).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_are_read_whole_or_in_chunks() {
        let plain = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"a\": 1}\n";
        assert_eq!(read(plain).unwrap(), (200, json!({"a": 1})));
        let chunked =
            "HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"a\": 1}\r\n0\r\n\r\n";
        assert_eq!(read(chunked).unwrap(), (409, json!({"a": 1})));
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n").unwrap(), (204, Value::Null));
        assert!(read("nonsense").is_err());
    }

    #[test]
    fn a_connection_string_has_what_it_needs() {
        let hub =
            RemoteHub::new("HostName=h.test:1;SharedAccessKeyName=n;SharedAccessKey=a2V5==", "").unwrap();
        assert_eq!((hub.host.as_str(), hub.port, hub.key.as_str()), ("h.test", 1, "a2V5=="));
        assert!(RemoteHub::new("HostName=h.test;SharedAccessKey=a2V5", "").is_err());
    }
}
