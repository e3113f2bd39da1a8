//! The command line, and the help that is the program's manual.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use hub_emulator::{Aim, Emulator, FAULTS, Fault, Options, Tier};
use serde_json::{Map, Value, json};

use crate::fleet_command::FleetArguments;
use crate::roster;

const AFTER_HELP: &str = r#"POINTING A CLIENT AT IT
  Clients must trust the CA in the --ca file, which is new at every start without --state, and use a printed
  connection string.
    twinboot                ca_files = ["/tmp/hub-emulator-ca.pem"] under [tls] in its configuration
    Python device SDK       SSL_CERT_FILE=/tmp/hub-emulator-ca.pem
    Python service SDK      REQUESTS_CA_BUNDLE=/tmp/hub-emulator-ca.pem   (and six installed)
    Node SDKs               NODE_EXTRA_CA_CERTS=/tmp/hub-emulator-ca.pem
    curl                    --cacert /tmp/hub-emulator-ca.pem

  Which ports SDKs insist on: devices always 8883 (Node takes HostName=localhost:PORT) or, through WebSockets, 443;
  the Node service 443, the Python service 443 unless the connection string says HostName=localhost:PORT. To serve
  them all at once:
    hub-emulator --https-port 443              (as root, or after: sysctl net.ipv4.ip_unprivileged_port_start=443)

  To use a name as in Azure, on this machine: add to /etc/hosts
    127.0.0.1 myhub.azure-devices.net
  and start with
    hub-emulator --host myhub.azure-devices.net --https-port 443

  For a board on the network, with 192.168.1.10 being this machine:
    hub-emulator --bind 0.0.0.0 --host 192.168.1.10 --name 192.168.1.10 --device board-1
  Copy the CA file to the board.

EXAMPLES
  A device with a tag, a directory of images, and a hub on free ports:
    hub-emulator --mqtt-port 0 --https-port 0 --images ./images --device dev-1,tag.devicetype=chiller
  A message from the cloud (the SDKs' service clients send them over AMQP, port 5671, which is not here):
    curl --cacert /tmp/hub-emulator-ca.pem https://localhost:8443/emulator/devices/dev-1/messages \
      -d '{"body": "hello", "properties": {"level": "3", "flag": null}, "ttlSeconds": 60}'
  What a device has reported, then its connection cut:
    curl --cacert /tmp/hub-emulator-ca.pem https://localhost:8443/emulator/state
    curl --cacert /tmp/hub-emulator-ca.pem -X POST https://localhost:8443/emulator/devices/dev-1/drop

PROVISIONING
  The provisioning service is on the same ports: give clients this host where the SDKs' samples say
  global.azure-devices-provisioning.net, and the id scope of --id-scope. A group, from whose key those of its devices
  are derived:
    hub-emulator --enrollment-group factory
  Certificates, initial twins and policies go in through the doors, with the bodies of the service's REST API:
    PUT /emulator/enrollments/ID, PUT /emulator/enrollmentGroups/NAME (GET, DELETE too; GET /emulator/provisioning
    is all of it), PATCH /emulator/provisioning {polls, retryAfter, assignedHub},
    POST /emulator/authorities {"certificate": PEM}

THE BROWSER PAGE
  Open https://localhost:8443/ (the printed address of the service) in a browser on this machine, and accept the
  certificate or import the CA. It shows devices, twins, configurations, jobs, faults and what happens, live; it sets
  desired properties, calls methods and throws fault switches. It knows no keys.

OTHER DOORS, for programs on this machine
  GET /emulator/state     everything it knows but keys; SIGUSR1 prints the same
  GET /emulator/events    what happens, as Server-Sent Events
  GET /emulator/images    the log of the image server, with bytes sent per request"#;

const FAULTS_HELP: &str = r#"FAULTS
  With --fault, on the page, or as the body of POST /emulator/faults (one, or an array):
    curl --cacert /tmp/hub-emulator-ca.pem https://localhost:8443/emulator/faults \
      -d '{"fault": "dropAfter", "bytes": 1000000, "target": "fw.img", "times": 1, "seconds": 60}'
  "target" is an image's name, a device's id or the first part of a path of the service, by the group below; "*" (the
  default) is all. Without "times" it happens every time, without "seconds" until it is switched off. GET lists what is
  on, PUT puts others in their place, DELETE switches all off, DELETE /emulator/faults/NUMBER one."#;

/// The manual: what was written by hand, and the table of faults.
fn manual() -> String {
    let mut text = format!("{AFTER_HELP}\n\n{FAULTS_HELP}");
    for (aim, title) in
        [(Aim::Image, "Images"), (Aim::Device, "Devices"), (Aim::Service, "The service's REST API")]
    {
        text.push_str(&format!("\n  {title}:"));
        for row in FAULTS.iter().filter(|row| row.aim == aim) {
            let members: Vec<_> = row.members.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let name = format!("{} {}", row.name, members.join(" "));
            text.push_str(&format!("\n    {name:<36}  {}", row.what));
        }
    }
    text
}

/// An Azure IoT Hub for one machine: device protocol, service REST API, image server, faults on demand.
///
/// Nothing is kept on disk, and all is forgotten when it ends, unless --state says where to keep it.
#[derive(Debug, Parser)]
#[command(after_help = manual(), max_term_width = 118)]
pub(crate) struct Arguments {
    /// Address to listen on; the default listens on ::1 as well.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// Port for devices (MQTT over TLS); 0 picks a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8883)]
    mqtt_port: u16,
    /// Port for the service REST API, images and devices through WebSockets; 0 picks a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    https_port: u16,
    /// Host name in connection strings and image addresses.
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    pub(crate) host: String,
    /// A further name or address of this hub, for the server certificate and user names; can be repeated.
    #[arg(long, value_name = "HOST")]
    name: Vec<String>,
    /// Where to write the CA certificate.
    #[arg(long, value_name = "FILE", default_value = "/tmp/hub-emulator-ca.pem")]
    pub(crate) ca: PathBuf,
    /// A device to create: ID[,key=BASE64|,thumbprint=HEX|,x509][,tag.NAME=VALUE]...; can be repeated. With
    /// thumbprint (twice, if there are two) or x509 it proves itself with a certificate: that one, or one of a
    /// --client-ca with ID as its common name.
    #[arg(long, value_name = "DEVICE", value_parser = device)]
    pub(crate) device: Vec<Device>,
    /// A file with authorities, in PEM, that may sign the certificates of devices; can be repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca: Vec<PathBuf>,
    /// A device that may register with the provisioning service, by a symmetric key: ID[,key=BASE64][,hub=HOST]
    /// [,device=ID]; can be repeated.
    #[arg(long, value_name = "ENROLLMENT", value_parser = enrollment)]
    pub(crate) enrollment: Vec<Value>,
    /// A group of devices that may register, by keys derived from the group's: NAME[,key=BASE64][,hub=HOST]; can be
    /// repeated.
    #[arg(long, value_name = "GROUP", value_parser = enrollment_group)]
    pub(crate) enrollment_group: Vec<Value>,
    /// The id scope of the provisioning service.
    #[arg(long, value_name = "SCOPE", default_value = "0ne00000001")]
    id_scope: String,
    /// A directory whose files are served below /images/.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) images: Option<PathBuf>,
    /// A fault to start with, as JSON; can be repeated.
    #[arg(long, value_name = "JSON", value_parser = fault)]
    pub(crate) fault: Vec<Fault>,
    /// The key of the policy iothubowner, in base64; otherwise a new one.
    #[arg(long, value_name = "BASE64")]
    owner_key: Option<String>,
    /// Seconds between evaluations of configurations; 0 is at every change.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    configuration_period: u64,
    /// Most configurations; the real hub allows 100, a free one 10.
    #[arg(long, value_name = "NUMBER")]
    configuration_limit: Option<usize>,
    /// Most jobs at once, more are refused with 429004; the real hub allows 1, 5 or 10. Otherwise no limit.
    #[arg(long, value_name = "NUMBER")]
    job_limit: Option<usize>,
    /// Devices that a job takes on per second; the real hub does 10 and more. Otherwise all at once.
    #[arg(long, value_name = "NUMBER")]
    job_rate: Option<f64>,
    /// Answer 429 where a hub of this tier would, and take its limits: F1, S1, S2, S3.
    #[arg(long, value_name = "TIER")]
    throttle: Option<Tier>,
    /// Seconds that clients' clocks may be off.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    clock_skew: u64,
    /// A directory in which to keep everything, keys and the CA too, so that with the same ports a restart is to
    /// clients no more than a lost connection; devices of the command line that are there already stay as they are.
    #[arg(long, value_name = "DIRECTORY")]
    state: Option<PathBuf>,
    /// Print the whole state when it ends.
    #[arg(long)]
    pub(crate) state_at_exit: bool,
    /// Do not print what happens.
    #[arg(long)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// A device of the command line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Device {
    pub(crate) id: String,
    pub(crate) key: Option<String>,
    /// None is a device of tokens; empty is any certificate of a known authority.
    pub(crate) thumbprints: Option<Vec<String>>,
    pub(crate) tags: Value,
}

/// What else than an emulator alone.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Start simulated devices as well, each a real daemon.
    Fleet(FleetArguments),
}

/// The service's connection string as clients take it: a port that is not https' own goes with the host.
fn with_port(emulator: &Emulator) -> String {
    let string = emulator.service_connection_string();
    match emulator.https_port() {
        443 => string,
        port => string.replacen(';', &format!(":{port};"), 1),
    }
}

impl Arguments {
    /// Starts an emulator with its devices, images and faults, and prints what clients need.
    pub(crate) fn start(&self) -> Result<Emulator, String> {
        let emulator = Emulator::start(self.options()).map_err(|error| error.to_string())?;
        if let Some(directory) = &self.images {
            emulator.images().serve_directory(directory);
        }
        for fault in &self.fault {
            emulator.throw(fault.clone());
        }
        println!("devices   mqtts://{}:{}", self.host, emulator.mqtt_port());
        println!("service   https://{}:{}", self.host, emulator.https_port());
        println!("page      https://{}:{}/", self.host, emulator.https_port());
        println!("images    {}", emulator.images().url(""));
        println!("CA        {}", self.ca.display());
        println!("service connection string: {}", with_port(&emulator));
        roster::admit(&emulator, self)?;
        Ok(emulator)
    }

    pub(crate) fn options(&self) -> Options {
        let tier = self.throttle;
        Options {
            bind: self.bind,
            ca_file: Some(self.ca.clone()),
            clock_skew: Duration::from_secs(self.clock_skew),
            configuration_limit: self
                .configuration_limit
                .or(tier.map(Tier::configurations))
                .unwrap_or(Options::default().configuration_limit),
            job_limit: self.job_limit.or(tier.map(Tier::jobs)),
            job_rate: self.job_rate.or(tier.map(Tier::job_rate)),
            throttle: tier,
            configuration_period: Duration::from_secs(self.configuration_period),
            host: self.host.clone(),
            https_port: self.https_port,
            mqtt_port: self.mqtt_port,
            names: self.name.iter().chain([&self.host]).cloned().collect(),
            owner_key: self.owner_key.clone(),
            id_scope: self.id_scope.clone(),
            state: self.state.clone(),
        }
    }
}

fn device(text: &str) -> Result<Device, String> {
    let mut parts = text.split(',');
    let id = parts.next().unwrap_or_default().to_owned();
    let (mut key, mut thumbprints, mut tags) = (None, None, Map::new());
    for part in parts {
        match part.split_once('=') {
            Some(("key", value)) => key = Some(value.to_owned()),
            Some((name, value)) if name.starts_with("tag.") => {
                tags.insert(name["tag.".len()..].to_owned(), json!(value));
            }
            Some(("thumbprint", value)) => {
                thumbprints.get_or_insert_with(Vec::new).push(value.to_owned());
            }
            None if part == "x509" => drop(thumbprints.get_or_insert_with(Vec::new)),
            Some(_) | None => {
                return Err(format!("{part:?} is none of key=BASE64, thumbprint=HEX, x509, tag.NAME=VALUE"));
            }
        }
    }
    if key.is_some() && thumbprints.is_some() {
        return Err("a device has either a key or a certificate".to_owned());
    }
    Ok(Device { id, key, thumbprints, tags: Value::Object(tags) })
}

fn enrollment(text: &str) -> Result<Value, String> {
    enrolled(text, "registrationId")
}

fn enrollment_group(text: &str) -> Result<Value, String> {
    enrolled(text, "enrollmentGroupId")
}

/// The body that the service's REST API takes.
fn enrolled(text: &str, name: &str) -> Result<Value, String> {
    let mut parts = text.split(',');
    let mut body = json!({ name: parts.next().unwrap_or_default() });
    for part in parts {
        match part.split_once('=') {
            Some(("key", key)) => {
                body["attestation"] = json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": key}});
            }
            Some(("hub", host)) => body["iotHubHostName"] = json!(host),
            Some(("device", device)) if name == "registrationId" => body["deviceId"] = json!(device),
            Some(_) | None => return Err(format!("{part:?} is not key=BASE64, hub=HOST or device=ID")),
        }
    }
    Ok(body)
}

fn fault(text: &str) -> Result<Fault, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Fault::from_json(&value).map_err(|error| error.message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Arguments::command().debug_assert();
        let expected = Device {
            id: "d".to_owned(),
            key: Some("ab==".to_owned()),
            thumbprints: None,
            tags: json!({"a": "x=y"}),
        };
        assert_eq!(device("d,tag.a=x=y,key=ab=="), Ok(expected));
        assert_eq!(device("d,x509").unwrap().thumbprints, Some(Vec::new()));
        let both = device("d,thumbprint=AA,thumbprint=BB").unwrap();
        assert_eq!(both.thumbprints, Some(vec!["AA".to_owned(), "BB".to_owned()]));
        assert!(device("d,key=ab==,x509").is_err());
        let keyed = json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": "ab=="}});
        assert_eq!(
            enrollment("r,key=ab==,device=d"),
            Ok(json!({"registrationId": "r", "attestation": keyed, "deviceId": "d"}))
        );
        assert!(enrollment_group("g,device=d").is_err());
        assert!(device("d,colour=red").is_err());
    }

    #[test]
    fn the_help_names_every_fault_that_exists() {
        let manual = manual();
        for row in FAULTS {
            assert!(manual.contains(&format!("\n    {} ", row.name)), "{}", row.name);
            assert_eq!(fault(&row.example()).map(|fault| fault.kind.name()), Ok(row.name));
        }
        assert!(fault(r#"{"fault": "dropAfter"}"#).is_err());
    }
}
