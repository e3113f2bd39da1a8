//! Starting an emulator and holding it: the thread it runs in, and the handle for tests and the demo. Not the
//! listening, which is `server`.

mod identities;
mod traffic;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::error::{Code, Error};
use crate::events::{Event, Events};
use crate::faults::{Fault, Faults};
use crate::hub::{Hub, Snapshot};
use crate::images::Images;
use crate::jobs;
use crate::limits::Limits;
use crate::policies::Policies;
use crate::provisioning::ID_SCOPE;
use crate::registry::Scheme;
use crate::server::{Server, listen};
use crate::shared::{Place, Shared};
use crate::store::{self, Keeper};
use crate::throttle::{Throttle, Tier};
use crate::tls::Authority;

/// How an emulator shall be.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on. The loopback address of IPv4 brings that of IPv6 along where there is one.
    pub bind: IpAddr,
    /// Where to write the CA's certificate.
    pub ca_file: Option<PathBuf>,
    /// How far others' clocks may be off before their tokens are refused.
    pub clock_skew: Duration,
    /// How often configurations are evaluated; zero is at every change. At creation it is always at once.
    pub configuration_period: Duration,
    /// Most configurations; the real hub allows 100, a free one 10.
    pub configuration_limit: usize,
    /// The host name in connection strings.
    pub host: String,
    /// The port for REST and images; 0 picks a free one.
    pub https_port: u16,
    /// The id scope of the provisioning service.
    pub id_scope: String,
    /// Most jobs at once; none is no limit. The real hub allows 1, 5 or 10.
    pub job_limit: Option<usize>,
    /// Devices that a job takes on per second; none is all at once. The real hub does 10 or more.
    pub job_rate: Option<f64>,
    /// The port for devices; 0 picks a free one.
    pub mqtt_port: u16,
    /// Names of this hub besides localhost and the loopback addresses: in the server certificate, which is for
    /// *.azure-devices.net as well, and in the user names of devices.
    pub names: Vec<String>,
    /// The key of the policy iothubowner, in base64; none makes one.
    pub owner_key: Option<String>,
    /// A directory in which to keep everything over the emulator's end: identities, keys, twins, sessions, messages,
    /// configurations, jobs, enrolments and the certificate authority. With the same ports, a restart is then to
    /// clients no more than a lost connection. None keeps nothing.
    pub state: Option<PathBuf>,
    /// Whose rates of requests to keep to, with 429 for more; none is no limit. The other limits are options of their
    /// own.
    pub throttle: Option<Tier>,
}

impl Default for Options {
    /// For tests: free ports on the loopback address.
    fn default() -> Options {
        Options {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ca_file: None,
            clock_skew: Duration::from_secs(300),
            configuration_period: Duration::ZERO,
            configuration_limit: 100,
            host: "localhost".to_owned(),
            https_port: 0,
            id_scope: ID_SCOPE.to_owned(),
            job_limit: None,
            job_rate: None,
            mqtt_port: 0,
            names: Vec::new(),
            owner_key: None,
            state: None,
            throttle: None,
        }
    }
}

/// A running emulator. Dropping it ends it and every connection.
#[derive(Debug)]
pub struct Emulator {
    shared: Arc<Shared>,
    ca_pem: String,
    host: String,
    https_port: u16,
    mqtt_port: u16,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Dropped after the thread has ended, so that the last change is kept too.
    keeper: Option<Keeper>,
}

impl Emulator {
    /// Starts an emulator in a thread of its own. When this returns, it listens.
    ///
    /// # Errors
    /// If a port cannot be had or the CA file cannot be written.
    pub fn start(options: Options) -> io::Result<Emulator> {
        let saved = options.state.as_deref().map(store::load).transpose()?.flatten();
        let (authority, saved) = match saved {
            Some(saved) => (saved.authority, Some(saved.hub)),
            None => (Authority::generate().map_err(io::Error::other)?, None),
        };
        let identity = authority.identity(&options.names).map_err(io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mqtt = listen(options.bind, options.mqtt_port)?;
        let https = listen(options.bind, options.https_port)?;
        // Not before the ports are ours: the file may be that of an emulator which has them.
        if let Some(path) = &options.ca_file {
            std::fs::write(path, &identity.ca_pem).map_err(|error| at(path, error))?;
        }
        let (mqtt_port, https_port) = (mqtt[0].local_addr()?.port(), https[0].local_addr()?.port());
        let shared = Arc::new(share(&options, saved, mqtt_port, https_port));
        let keeper = match &options.state {
            Some(directory) => Some(Keeper::start(directory.clone(), authority, Arc::clone(&shared))?),
            None => None,
        };
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let server = Server {
            shared: Arc::clone(&shared),
            acceptor: TlsAcceptor::from(identity.server),
            host: options.host.clone(),
        };
        let period = options.configuration_period;
        let thread = std::thread::Builder::new().name("hub-emulator".to_owned()).spawn(move || {
            runtime.block_on(async move {
                server.listen(mqtt, https);
                server.evaluate_every(period);
                tokio::spawn(jobs::drive(Arc::clone(&server.shared)));
                // Either the handle asks for it or it was dropped.
                let _ = stopped.await;
            });
        })?;
        let (stop, thread) = (Some(stop), Some(thread));
        let ca_pem = identity.ca_pem;
        Ok(Emulator {
            shared,
            ca_pem,
            host: options.host,
            https_port,
            mqtt_port,
            runtime: handle,
            stop,
            thread,
            keeper,
        })
    }

    /// The port for devices.
    pub fn mqtt_port(&self) -> u16 {
        self.mqtt_port
    }

    /// The port for REST and images.
    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// The certificate that clients must trust, in PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Creates a device with these tags (null for none) and returns its connection string. The host in it has no
    /// port, as in a real one.
    ///
    /// # Errors
    /// If there is one by this id, or it cannot be one, or the tags cannot be.
    pub fn create_device(&self, id: &str, tags: Value) -> Result<String, Error> {
        self.create_device_with_key(id, None, tags)
    }

    /// The same with a primary key of the caller's choice, in base64.
    ///
    /// # Errors
    /// As for [`create_device`](Self::create_device), or if the key cannot be one.
    pub fn create_device_with_key(&self, id: &str, key: Option<&str>, tags: Value) -> Result<String, Error> {
        let keys = json!({"primaryKey": key.unwrap_or_default(), "secondaryKey": ""});
        self.shared.with(|hub| {
            hub.put_identity(id, &json!({"authentication": {"type": "sas", "symmetricKey": keys}}), None)?;
            hub.update_twin(id, &json!({ "tags": tags }), false, None)
        })?;
        self.device_connection_string(id)
    }

    /// The connection string of a device.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn device_connection_string(&self, id: &str) -> Result<String, Error> {
        let authentication =
            self.shared.read(|hub| hub.device(id).map(|device| device.authentication.clone()))?;
        Ok(match authentication.scheme {
            Scheme::Sas => {
                format!("HostName={};DeviceId={id};SharedAccessKey={}", self.host, authentication.keys[0])
            }
            Scheme::SelfSigned | Scheme::CertificateAuthority | Scheme::None => {
                format!("HostName={};DeviceId={id};x509=true", self.host)
            }
        })
    }

    /// The service connection string with all rights. The host in it has no port.
    pub fn service_connection_string(&self) -> String {
        self.policy_connection_string("iothubowner").unwrap_or_default()
    }

    /// The connection string of a policy: `iothubowner`, `service`, `device`, `registryRead`, `registryReadWrite`.
    pub fn policy_connection_string(&self, policy: &str) -> Option<String> {
        let key = self.shared.read(|hub| hub.policies.key(policy).map(str::to_owned))?;
        Some(format!("HostName={};SharedAccessKeyName={policy};SharedAccessKey={key}", self.host))
    }

    /// The twin as the service sees it; null if there is no such device.
    pub fn twin(&self, id: &str) -> Value {
        self.shared.read(|hub| hub.twin(id))
    }

    /// Puts a whole new document in the place of the desired properties; the twin after it.
    ///
    /// # Errors
    /// If there is no such device or the document breaks a limit.
    pub fn set_desired(&self, id: &str, desired: Value) -> Result<Value, Error> {
        self.shared.with(|hub| hub.update_twin(id, &json!({"properties": {"desired": desired}}), true, None))
    }

    /// Merges into a twin: `{"tags": …, "properties": {"desired": …}}`, null deletes; the twin after it.
    ///
    /// # Errors
    /// If there is no such device or the result breaks a limit.
    pub fn patch_twin(&self, id: &str, patch: Value) -> Result<Value, Error> {
        self.shared.with(|hub| hub.update_twin(id, &patch, false, None))
    }

    /// Calls a direct method and waits for the device's status and payload. Blocks: from async code, call it in
    /// `spawn_blocking`.
    ///
    /// # Errors
    /// If the device is not there, does not answer in time, or answers with something that is not JSON.
    pub fn invoke_method(
        &self,
        id: &str,
        method: &str,
        payload: Value,
        timeout: Duration,
    ) -> Result<(i64, Value), Error> {
        let (sender, receiver) = channel();
        let (shared, id, method) = (Arc::clone(&self.shared), id.to_owned(), method.to_owned());
        self.runtime.spawn(async move {
            // The caller waits as long as it takes.
            let _ = sender.send(shared.invoke(&id, &method, payload, timeout, Duration::ZERO).await);
        });
        receiver.recv().unwrap_or_else(|_| Err(Error::new(Code::ServerError, "the emulator has ended")))
    }

    /// Creates an automatic configuration from the body of the REST call, id included.
    ///
    /// # Errors
    /// If there is one by this id, or something in it cannot be.
    pub fn create_configuration(&self, body: Value) -> Result<Value, Error> {
        let id = body.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        self.shared.with(|hub| hub.put_configuration(&id, &body, None))
    }

    /// Deletes a configuration; its settings leave the devices.
    ///
    /// # Errors
    /// If there is none by this id.
    pub fn delete_configuration(&self, id: &str) -> Result<(), Error> {
        self.shared.with(|hub| hub.delete_configuration(id, None))
    }

    /// A configuration with its metrics as of now; null if there is none by this id.
    pub fn configuration(&self, id: &str) -> Value {
        self.shared.read(|hub| hub.configuration(id))
    }

    /// The image server.
    pub fn images(&self) -> Images {
        self.shared.images.clone()
    }

    /// The fault switches, for images and for devices.
    pub fn faults(&self) -> Faults {
        self.shared.faults.clone()
    }

    /// Switches a fault on, as `POST /emulator/faults` does: where it concerns connections, also for those that are
    /// there already. Its number, for [`Faults::remove`].
    pub fn throw(&self, fault: Fault) -> u64 {
        self.shared.throw(fault)
    }

    /// What happens from now on.
    pub fn events(&self) -> Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Whether the device is connected now.
    pub fn device_connected(&self, id: &str) -> bool {
        self.shared.read(|hub| hub.device_connected(id))
    }

    /// Ends the device's connection, without a word, if there is one; whether there was.
    pub fn drop_device(&self, id: &str) -> bool {
        self.shared.with(|hub| hub.cut(id, "dropped on request"))
    }

    /// Waits until the hub satisfies a condition, which is asked after every change of the hub or of the image log.
    /// Whether it did in time. Blocks: from async code, call it in `spawn_blocking`. The condition must not call the
    /// emulator; it may ask [`Images`] and [`Faults`].
    #[must_use]
    pub fn wait_for(&self, condition: impl FnMut(&Hub) -> bool, timeout: Duration) -> bool {
        self.shared.wait_for(condition, timeout)
    }

    /// Everything the hub knows, as `GET /emulator/state` shows it.
    pub fn state(&self) -> Value {
        self.shared.read(Hub::state)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been printed.
            let _ = thread.join();
        }
        drop(self.keeper.take());
    }
}

fn share(options: &Options, saved: Option<Snapshot>, mqtt_port: u16, https_port: u16) -> Shared {
    let events: Arc<Events> = Arc::default();
    let faults = Faults::new(Arc::clone(&events));
    let policies = Policies::new(options.owner_key.clone(), options.clock_skew.as_secs());
    let immediate = options.configuration_period.is_zero();
    let mut hub = Hub::new(policies, Arc::clone(&events), faults.clone(), immediate);
    if let Some(saved) = saved {
        hub.restore(saved);
    }
    hub.provisioning.id_scope.clone_from(&options.id_scope);
    hub.limits = Limits {
        configurations: options.configuration_limit,
        jobs: options.job_limit,
        job_rate: options.job_rate.filter(|rate| *rate > 0.0),
    };
    hub.throttle = options.throttle.map(Throttle::new);
    let images = Images::new(faults.clone(), format!("https://{}:{https_port}", options.host));
    let names = options.names.iter().chain([&options.host]).cloned().collect();
    let place = Place { host: options.host.clone(), mqtt_port, https_port, names };
    Shared::new(place, hub, events, faults, images)
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("writing {}: {error}", path.display()))
}
