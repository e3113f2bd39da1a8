//! `hub-emulator fleet`: simulated devices, each a real daemon with its own disk, at a hub of this process or at one
//! that runs already. What a fleet is, is the library's; here are its command line, its course and what it prints.

mod display;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use hub_emulator::fleet::{Fleet, FleetOptions, Member, RemoteHub, Sample, samples};
use hub_emulator::{Code, Emulator};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Map, Value, json};

use crate::arguments::Arguments;
use crate::signals::Signals;
use display::Display;

/// How often the fleet is looked at.
const PAUSE: Duration = Duration::from_millis(200);
/// Connection strings of more devices than this are not printed unless they are asked for.
const FEW: usize = 10;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Start simulated devices, each a real `twinboot run` with its own disk, bootloader and identity.
///
/// They are at an emulator that this starts as well, whose options come before the word `fleet`; or, with --hub, at one
/// that runs already. Ctrl-C ends all and removes their files.
#[derive(Clone, Debug, Args)]
pub(crate) struct FleetArguments {
    /// How many devices.
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..=2000))]
    count: u16,
    /// The program of the devices; otherwise `twinboot` beside this program.
    #[arg(long = "twinboot", value_name = "PROGRAM")]
    daemon: Option<PathBuf>,
    /// The service connection string of a hub that runs already (HostName=NAME:PORT;…); its CA is the file of --ca.
    #[arg(long, value_name = "CONNECTION")]
    hub: Option<String>,
    /// Devices are called NAME-001 and so on.
    #[arg(long, value_name = "NAME", default_value = "gateway")]
    prefix: String,
    /// A tag of every device; can be repeated.
    #[arg(long, value_name = "NAME=VALUE", default_value = "devicetype=chiller", value_parser = tag)]
    tag: Vec<(String, String)>,
    /// A file to be read as the last part of every device's configuration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Milliseconds between the starts of two devices.
    #[arg(long, value_name = "MILLIS", default_value_t = 50)]
    stagger: u64,
    /// Milliseconds that a reset takes.
    #[arg(long, value_name = "MILLIS", default_value_t = 500)]
    reset: u64,
    /// Once all are connected, roll out the sample image of this version (2.0.0, 3.0.0 or 4.0.0) to all, by an automatic
    /// configuration.
    #[arg(long, value_name = "VERSION", conflicts_with = "hub")]
    update: Option<String>,
    /// End when all are connected and have nothing to do; after --update, when it has ended on each.
    #[arg(long)]
    until_idle: bool,
    /// End after so many seconds; with --until-idle that is a failure.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Print the connection strings of all devices, however many.
    #[arg(long)]
    strings: bool,
    /// Print what the daemons say.
    #[arg(long)]
    verbose: bool,
}

fn tag(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it is not NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Where the devices are registered.
enum Hub {
    Here(Box<Emulator>),
    There(RemoteHub),
}

/// Runs a fleet until it is to end.
pub(crate) fn run(arguments: &Arguments, wanted: &FleetArguments) -> Outcome {
    let program = program(wanted.daemon.as_deref())?;
    allow_many_files();
    let samples = samples();
    let (hub, ca) = match &wanted.hub {
        Some(connection) => {
            let path = &arguments.ca;
            let ca = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            (Hub::There(RemoteHub::new(connection, &ca).map_err(|failure| failure.0)?), ca)
        }
        None => {
            let emulator = arguments.start()?;
            offer(&emulator, &samples);
            let ca = emulator.ca_pem().to_owned();
            (Hub::Here(Box::new(emulator)), ca)
        }
    };
    let config = match &wanted.config {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => String::new(),
    };
    let fleet = Fleet::new(FleetOptions {
        program,
        factory: samples[0].bytes.clone(),
        ca,
        config,
        slot_size: 16 << 20,
        reset: Duration::from_millis(wanted.reset),
    })
    .map_err(|failure| failure.0)?;
    let mut course = Course {
        wanted,
        hub,
        fleet,
        display: Display::new(),
        begun: Instant::now(),
        updated: None,
        told: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        println!("ready");
        loop {
            tokio::select! {
                () = signals.stop() => break Ok(()),
                () = tokio::time::sleep(course.pause()) => {}
            }
            if course.step()? {
                break Ok(());
            }
        }
    })
}

/// Puts the samples on the image server and says so.
fn offer(emulator: &Emulator, samples: &[Sample]) {
    for sample in samples {
        let url = emulator.images().put(sample.name, sample.bytes.clone());
        println!("image     {url}  {}, {}", sample.version, sample.what);
    }
}

/// A device takes half a dozen open files of this process, and the usual limit is 1024.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    // If it cannot be, it shows when a file cannot be opened.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// The program of the devices.
fn program(given: Option<&Path>) -> Outcome<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name("twinboot"),
    };
    if path.is_file() {
        return Ok(path.canonicalize()?);
    }
    Err(format!("{} is not there: build it (cargo build), or name it with --twinboot", path.display()).into())
}

struct Course<'a> {
    wanted: &'a FleetArguments,
    /// Outlived by the devices, which end first.
    fleet: Fleet,
    hub: Hub,
    display: Display,
    begun: Instant,
    /// When the update was rolled out.
    updated: Option<Instant>,
    /// That all are connected has been told.
    told: bool,
}

impl Course<'_> {
    /// How long until the next step.
    fn pause(&self) -> Duration {
        if self.is_complete() { PAUSE } else { PAUSE.min(Duration::from_millis(self.wanted.stagger)) }
    }

    fn is_complete(&self) -> bool {
        self.fleet.members().len() == usize::from(self.wanted.count)
    }

    /// Starts the next device, if one is missing, and sees how all are doing. Whether it is time to end.
    fn step(&mut self) -> Outcome<bool> {
        if !self.is_complete() {
            self.add()?;
        }
        let changed = self.fleet.look();
        if self.wanted.verbose {
            for (id, line) in self.fleet.take_lines() {
                self.display.line(&format!("{id}  | {line}"));
            }
        }
        self.display.show(self.fleet.members(), &changed);
        if self.is_complete()
            && !self.told
            && self.fleet.members().iter().all(|member| member.standing().connected)
        {
            self.told = true;
            self.tell_connected();
            if let Some(version) = &self.wanted.update {
                self.roll_out(version)?;
                self.updated = Some(Instant::now());
            }
        }
        if self.wanted.until_idle && self.has_come_to_rest() {
            self.tell_end();
            return Ok(true);
        }
        match self.wanted.seconds {
            Some(seconds) if self.begun.elapsed() >= Duration::from_secs(seconds) => {
                if self.wanted.until_idle {
                    return Err(format!("not all devices came to rest within {seconds} s").into());
                }
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }

    fn add(&mut self) -> Outcome {
        let number = self.fleet.members().len() + 1;
        let width = self.wanted.count.to_string().len().max(3);
        let id = format!("{}-{number:0width$}", self.wanted.prefix);
        let tags: Map<String, Value> =
            self.wanted.tag.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let tags = Value::Object(tags);
        let connection = match &self.hub {
            Hub::Here(emulator) => {
                let created = emulator.create_device(&id, tags);
                let text = match created {
                    // A hub with a memory may have it from the time before.
                    Err(error) if error.code == Code::AlreadyExists => {
                        emulator.device_connection_string(&id)?
                    }
                    created => created?,
                };
                if self.wanted.strings || usize::from(self.wanted.count) <= FEW {
                    self.display.line(&format!("device connection string: {text}"));
                }
                // A real hub has one port for everybody; the emulator has to say its own.
                text.replacen(";DeviceId=", &format!(":{};DeviceId=", emulator.mqtt_port()), 1)
            }
            Hub::There(hub) => hub.register(&id, &tags).map_err(|failure| failure.0)?,
        };
        self.fleet.add(&id, &connection).map_err(|failure| format!("{id}: {failure}").into())
    }

    fn tell_connected(&mut self) {
        let count = self.fleet.members().len();
        let took = self.begun.elapsed().as_secs_f64();
        let memory: Vec<_> = self.fleet.members().iter().filter_map(Member::memory).collect();
        let of = |what: &dyn Fn(usize) -> u64| {
            let all: Vec<u64> = (0..memory.len()).map(what).collect();
            let mean = all.iter().sum::<u64>() as f64 / all.len().max(1) as f64 / 1024.0;
            format!(
                "{mean:.1} MiB each, at most {:.1} MiB",
                all.iter().max().copied().unwrap_or(0) as f64 / 1024.0
            )
        };
        self.display.line(&format!("all {count} devices are connected after {took:.1} s"));
        let (resident, share) = (of(&|at| memory[at].resident), of(&|at| memory[at].share));
        self.display
            .line(&format!("memory of the daemons: resident {resident}; without what they share {share}"));
    }

    /// Rolls a sample out as the vendor's tutorial does: by an automatic configuration.
    fn roll_out(&mut self, version: &str) -> Outcome {
        let Hub::Here(emulator) = &self.hub else { return Ok(()) };
        let images = emulator.images().list();
        let name = format!("-{version}");
        let image = images.iter().find(|image| image.name.contains(&name));
        let image = image.ok_or_else(|| format!("there is no sample of version {version}"))?;
        let desired =
            json!({"fwVersion": version, "fwPackageURI": image.url, "fwPackageCheckValue": image.sha256});
        emulator.create_configuration(json!({
            "id": format!("firmware{}", version.replace('.', "")),
            "priority": 10,
            "targetCondition": "*",
            "content": {"deviceContent": {"properties.desired.firmware": desired}},
        }))?;
        self.display.line(&format!("{version} is rolled out"));
        Ok(())
    }

    /// Whether there is nothing to be waited for.
    fn has_come_to_rest(&self) -> bool {
        let rests = |member: &Member| {
            let standing = member.standing();
            let ended = self.wanted.update.as_ref().is_none_or(|version| standing.last.starts_with(version));
            standing.is_idle() && ended
        };
        self.is_complete() && self.told && self.fleet.members().iter().all(rests)
    }

    fn tell_end(&mut self) {
        let Some(updated) = self.updated else { return };
        let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.fleet.members() {
            *outcomes.entry(&member.standing().last).or_default() += 1;
        }
        let outcomes: Vec<_> =
            outcomes.iter().map(|(outcome, count)| format!("{count} × {outcome}")).collect();
        let took = updated.elapsed().as_secs_f64();
        self.display.line(&format!("the update has ended on all after {took:.1} s: {}", outcomes.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_a_name_and_a_value() {
        assert_eq!(tag("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(tag("a").is_err());
    }
}
