//! From a configuration to an engine: what it is about is looked for, then everything is put together.
//!
//! What must be there, or nothing can be done at all, is in [`Ready`]; what can be done without is a [`Lack`].

use std::path::Path;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use serde_json::Value;
use twinboot::boot::{Bootloader, Unavailable};
use twinboot::config::Config;
use twinboot::control::server::Call;
use twinboot::engine::{Carried, Engine, FactoryProgram, Parts, Tools};
use twinboot::events;
use twinboot::host::Host;
use twinboot::hub::{self, Hub, Session};
use twinboot::image::Net;
use twinboot::model::{BootId, Slot, Timestamp};
use twinboot::program::Runner;
use twinboot::properties::Properties;
use twinboot::report::Waiting;
use twinboot::slots::SlotMap;
use twinboot::store::FileStore;

use crate::programs::Runners;
use crate::reach::Reach;
use crate::settings::Keys;
use crate::{loader, settings, way_out};

/// How much is written to the journal, and how to change it.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) verbosity: events::Verbosity,
    pub(crate) verbose: bool,
}

/// A configuration, and all that it is about and nothing can be done without.
pub(crate) struct Ready {
    pub(crate) config: Config,
    host: Host,
    slots: SlotMap,
    booted: Slot,
    boot: BootId,
    floor: Timestamp,
    reach: Reach,
    net: Net,
    keys: Keys,
}

/// Something that much can be done without.
pub(crate) struct Lack {
    pub(crate) what: Waiting,
    teller: Teller,
    is_healed: Box<dyn Fn() -> bool>,
}

/// Who tells of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Teller {
    /// We do, in the journal and in the status.
    Us,
    /// The engine shows it in the status by itself.
    Engine,
    /// The hub's session tells all there is to tell, and that often comes from another process.
    Session,
}

impl Lack {
    /// Whether the journal is told by us.
    pub(crate) fn is_ours_to_tell(&self) -> bool {
        self.teller != Teller::Session
    }

    /// Looks whether it is there by now.
    pub(crate) fn is_healed(&self) -> bool {
        (self.is_healed)()
    }
}

/// An engine with what belongs to it.
pub(crate) struct Assembled {
    pub(crate) engine: Engine,
    pub(crate) session: Session,
    pub(crate) lacks: Vec<Lack>,
}

/// What outlives an engine.
pub(crate) struct Inlet {
    pub(crate) control: mpsc::Receiver<Call>,
    pub(crate) status: watch::Sender<Value>,
    pub(crate) before: Option<Carried>,
    pub(crate) runners: Runners,
}

impl Ready {
    /// Looks for what `config` is about, with the network left to the process behind `net` if there is one. Changes
    /// nothing.
    pub(crate) fn look(config: Config, net: Option<&Path>) -> Result<Self, Waiting> {
        let host = Host::new(config.simulator.root.clone());
        let slots = SlotMap::new(settings::slots(&config));
        let booted = slots.booted(&settings::root(&config)).map_err(|error| Waiting {
            what: format!("no A/B slot is booted: {}", error.reason().detail),
            remedy: format!(
                "name this system's two root file systems by [slots] a and b in {}, see man twinboot.toml",
                config.path.display()
            ),
        })?;
        let keys = settings::keyring(&config);
        let boot = host.boot_id().map_err(|error| Waiting {
            what: format!("the kernel does not tell which boot this is: {}", error.reason().detail),
            remedy: "see that /proc is mounted".into(),
        })?;
        let floor = way_out::clock_floor(&config.state.directory);
        let network = Reach::new(&config, net, floor).and_then(|reach| {
            let net = reach.net(Handle::current())?;
            Ok((reach, net))
        });
        let (reach, net) = network.map_err(|error| Waiting {
            what: format!("{error:#}"),
            remedy: "see [tls] and [proxy] of the configuration".into(),
        })?;
        Ok(Self { config, host, slots, booted, boot, floor, reach, net, keys })
    }

    /// Has everything be read anew that the network side has read.
    pub(crate) async fn refresh(&self) {
        self.reach.refresh().await;
    }

    /// Puts everything together. Opens the record and looks at the bootloader, blocking.
    pub(crate) fn assemble(self, inlet: Inlet, journal: &Journal) -> Assembled {
        let mut lacks = Vec::new();
        let (bootloader, lack) = bootloader(&self.config, inlet.runners.of(&self.config));
        lacks.extend(lack);
        lacks.extend(self.other_slot());
        lacks.extend(self.root_keys());
        lacks.extend(self.open_secret());
        let (hub, session) = self.session(&mut lacks);
        let told = lacks.iter().filter(|lack| lack.teller == Teller::Us);
        let warnings = told.map(|lack| format!("{}: {}", lack.what.what, lack.what.remedy)).collect();
        let engine = self.engine(bootloader, hub, inlet, journal, warnings);
        Assembled { engine, session, lacks }
    }

    /// One slot is enough to run, but not to be updated.
    fn other_slot(&self) -> Option<Lack> {
        let (slots, other) = (self.slots.clone(), !self.booted);
        let error = slots.check(other).err()?;
        let what = Waiting {
            what: format!("slot {} cannot be written: {}", other.letter(), error.reason().detail),
            remedy: format!("see [slots] {} of the configuration", other.letter()),
        };
        let is_healed = Box::new(move || slots.check(other).is_ok());
        Some(Lack { what, teller: Teller::Us, is_healed })
    }

    /// Without one of its keys a device would take what it was told not to take, so it takes nothing that has to be
    /// signed; but it is there, and says so. What is on trial is judged, and sent back if it stays like that.
    fn root_keys(&self) -> Option<Lack> {
        let (what, config) = (settings::unusable(&self.keys)?, self.config.clone());
        // No keys at all is another device, not a mended one.
        let is_healed = Box::new(move || settings::has_keys(&settings::keyring(&config)));
        Some(Lack { what, teller: Teller::Us, is_healed })
    }

    /// The network side is given the secrets by systemd, which reads any file: that others can read it as well is seen
    /// from here alone. The device is not kept from its hub for that, where its owner is told of it.
    fn open_secret(&self) -> Option<Lack> {
        // This process itself refuses such a file when it reads it.
        if !self.reach.is_apart() {
            return None;
        }
        let what = way_out::exposed(&self.config)?.to_string();
        let remedy = "whoever may have read it can pass for this device until it has another key".to_owned();
        let config = self.config.clone();
        let is_healed = Box::new(move || way_out::exposed(&config).is_none());
        Some(Lack { what: Waiting { what, remedy }, teller: Teller::Us, is_healed })
    }

    /// The root keys, or what is wrong with them.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The same with the root keys that are in force.
    pub(crate) fn with_keys(self, keys: Keys) -> Self {
        Self { keys, ..self }
    }

    fn session(&self, lacks: &mut Vec<Lack>) -> (Hub, Session) {
        if !way_out::has_identity(&self.config) {
            let config = self.config.clone();
            lacks.push(Lack {
                what: Waiting {
                    what: "there is no hub, since nothing says who this device is".into(),
                    remedy: "write its connection string to the file that [hub] connection_string_file names (mode \
                             0600), or set [provisioning]"
                        .into(),
                },
                teller: Teller::Session,
                is_healed: Box::new(move || way_out::has_identity(&config)),
            });
        }
        let (hub, port) = hub::channels();
        let clock = {
            let (host, floor) = (self.host.clone(), self.floor);
            move || host.wall_clock().filter(|now| *now >= hub::CLOCK_FLOOR).unwrap_or(floor)
        };
        let vouching = settings::vouching(&self.config, &self.keys);
        (hub, self.reach.session(port, (&self.config, vouching), clock))
    }

    fn engine(
        self,
        bootloader: Box<dyn Bootloader>,
        hub: Hub,
        inlet: Inlet,
        journal: &Journal,
        warnings: Vec<String>,
    ) -> Engine {
        let Self { config, host, slots, booted, boot, net, keys, .. } = self;
        let (reached, is_reached) = watch::channel(false);
        let state = config.state.directory.clone();
        let timeout = config.factory_reset.timeout;
        let factory_program =
            config.factory_reset.program.clone().map(|path| FactoryProgram { path, timeout });
        let runner = inlet.runners.of(&config);
        let tools = Tools {
            signing: settings::signing(&config, &keys),
            bootloader,
            slots,
            host: host.clone(),
            image: settings::image(&config.download),
            net,
            health: settings::health(&config, is_reached),
            factory_program,
            runner: runner.clone(),
            hooks: settings::hooks(&config, runner.clone()),
            complaints: Vec::new(),
            state: state.clone(),
            verified: None,
        };
        let parts = Parts {
            store: Box::new(FileStore::new(state)),
            tools,
            host,
            hub: Some(hub),
            control: inlet.control,
            status: inlet.status,
            reached,
            rules: settings::rules(&config, journal.verbose),
            verbosity: journal.verbosity.clone(),
            factory: settings::factory(&config.factory_reset),
            vouching: settings::vouching(&config, &keys),
            dialects: settings::dialects(&config),
            properties: Properties::new(settings::properties(&config, runner)),
            telemetry: config.report.telemetry,
            warnings,
            before: inlet.before,
        };
        Engine::new(parts, boot, booted)
    }
}

/// A device that cannot be updated must still be reached, and say why.
fn bootloader(config: &Config, runner: Runner) -> (Box<dyn Bootloader>, Option<Lack>) {
    match loader::open_with(config, runner) {
        Ok(bootloader) => (bootloader, None),
        Err(error) => {
            let what = Waiting {
                what: format!("the bootloader cannot be asked: {}", error.reason().detail),
                remedy: loader::place(config).missing,
            };
            let config = config.clone();
            let is_healed = Box::new(move || loader::open(&config).is_ok());
            (Box::new(Unavailable::new(&error)), Some(Lack { what, teller: Teller::Engine, is_healed }))
        }
    }
}
