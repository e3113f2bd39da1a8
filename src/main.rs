//! The program `twinboot`. This is the one place where the adapters are chosen and given their settings; see the
//! library for what they are and how it turns.

#[path = "main/programs.rs"]
mod programs;
#[path = "main/way_out.rs"]
mod way_out;

use std::future::Future;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use twinboot::boot::uboot::{self, UBoot};
use twinboot::boot::{Bootloader, Unavailable};
use twinboot::config::{self, Config};
use twinboot::control::server::{self, Call, Server};
use twinboot::engine::{Engine, FactoryProgram, Health, Parts, Tools};
use twinboot::health::HubMode;
use twinboot::hooks::Hooks;
use twinboot::host::{self, Host};
use twinboot::hub::{self, Access, Hub, Session};
use twinboot::image::{self, Net};
use twinboot::model::{Artifact, Factory, Location, LogLevel, Rules};
use twinboot::properties::{self, Properties};
use twinboot::report::Dialect;
use twinboot::slots::{self, SlotMap};
use twinboot::store::FileStore;
use twinboot::{cli, events};

fn main() -> ExitCode {
    cli::main(|config, verbose| {
        let verbosity = events::init(events::journal_is_connected(), verbose);
        match daemon(&config, Journal { verbosity, verbose }) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                events::daemon_failed(&format!("{error:#}"));
                ExitCode::FAILURE
            }
        }
    })
}

/// How much is written there, and how to change it.
struct Journal {
    verbosity: events::Verbosity,
    verbose: bool,
}

/// Runs until the service manager stops it.
fn daemon(config: &Config, journal: Journal) -> anyhow::Result<()> {
    if let Err(error) = host::disable_core_dumps() {
        tracing::warn!(%error, "core dumps of this process, which holds the device's key, could not be forbidden");
    }
    events::config_loaded(&config.path, config.values_set());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(async {
        let stop = stopped()?;
        let (engine, hub) = assemble(config, journal)?;
        let session = async {
            match hub {
                Some(session) => session.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = engine.run(stop) => Ok(()),
            // The session ends only with the engine.
            () = session => Ok(()),
        }
    });
    // Dropping it would wait for ever for a work that is stuck in a slow device. Every work may be cut off anywhere.
    runtime.shutdown_background();
    ended
}

fn assemble(config: &Config, journal: Journal) -> anyhow::Result<(Engine, Option<Session>)> {
    let host = Host::new(config.simulator.root.clone());
    let root = config.simulator.root.clone().unwrap_or_else(|| "/".into());
    let slots = SlotMap::new(slots::Settings {
        a: config.slots.devices.a.clone(),
        b: config.slots.devices.b.clone(),
        allow_files: config.simulator.root.is_some(),
    });
    let booted = slots.booted(&root).context("finding out which slot this system runs from")?;
    let boot = host.boot_id().context("finding out which boot this is")?;
    let floor = way_out::clock_floor(&config.state.directory);
    let trust = way_out::trust(&config.tls, floor)?;
    let image = image_settings(&config.download);
    let proxy = way_out::proxy(&config.proxy);
    let net = Net::new(trust.clone(), proxy.clone(), &image, Handle::current());
    let net = net.context("setting up the download client")?;
    let (hub, session) = match way_out::identity(config, &root) {
        Some(source) => {
            let (hub, port) = hub::channels();
            let clock = {
                let host = host.clone();
                move || host.wall_clock().filter(|now| *now >= hub::CLOCK_FLOOR).unwrap_or(floor)
            };
            let access = Access::new(source, trust, proxy);
            (Some(hub), Some(Session::new(port, access, hub_settings(config), clock)))
        }
        None => (None, None),
    };
    let engine = engine(config, Machine { host, slots, net, image, boot, booted }, hub, journal)?;
    Ok((engine, session))
}

/// What was found out about the machine.
struct Machine {
    host: Host,
    slots: SlotMap,
    net: Net,
    image: image::Settings,
    boot: twinboot::model::BootId,
    booted: twinboot::model::Slot,
}

fn engine(config: &Config, machine: Machine, hub: Option<Hub>, journal: Journal) -> anyhow::Result<Engine> {
    let Machine { host, slots, net, image, boot, booted } = machine;
    let (reached, is_reached) = watch::channel(false);
    let (status, shown) = watch::channel(serde_json::Value::Null);
    let health = Health {
        deadline: config.health.deadline,
        directory: config.health.directory.clone(),
        timeout: config.health.check_timeout,
        hub: match config.health.hub {
            config::HubCheck::Auto => HubMode::Auto,
            config::HubCheck::Required => HubMode::Required,
            config::HubCheck::Ignored => HubMode::Ignored,
        },
        reached: is_reached,
    };
    let bootloader = bootloader(config);
    let state = config.state.directory.clone();
    let store = Box::new(FileStore::new(state.clone()));
    let timeout = config.factory_reset.timeout;
    let factory_program = config.factory_reset.program.clone().map(|path| FactoryProgram { path, timeout });
    let runner = programs::runner(config);
    let tools = Tools {
        bootloader,
        slots,
        host: host.clone(),
        image,
        net,
        health,
        factory_program,
        runner: runner.clone(),
        hooks: Hooks {
            directory: config.hooks.directory.clone(),
            timeout: config.hooks.timeout,
            ask_again: config.hooks.ask_again,
            runner: runner.clone(),
        },
        complaints: Vec::new(),
        state,
        verified: None,
    };
    let dialect = |dialect: &config::ReportDialect| match dialect {
        config::ReportDialect::Firmware => Dialect::Firmware,
        config::ReportDialect::Flat => Dialect::Flat,
        config::ReportDialect::IothubDm => Dialect::IothubDm,
        config::ReportDialect::Lwm2m => Dialect::Lwm2m,
    };
    let parts = Parts {
        store,
        tools,
        host,
        hub,
        hub_name: String::new(),
        control: control(&config.control, shown),
        status,
        reached,
        rules: rules(config, journal.verbose),
        verbosity: journal.verbosity,
        factory: factory(&config.factory_reset),
        allow_undigested: config.trust.allow_undigested,
        dialects: config.report.dialects.iter().map(dialect).collect(),
        properties: Properties::new(properties::Settings {
            root: config.simulator.root.clone().unwrap_or_else(|| "/".into()),
            state: config.state.directory.clone(),
            directory: config.properties.directory.clone(),
            timeout: config.properties.timeout,
            runner,
        }),
        telemetry: config.report.telemetry,
    };
    Ok(Engine::new(parts, boot, booted))
}

/// How to behave, as far as the hub may change it.
fn rules(config: &Config, verbose: bool) -> Rules {
    Rules {
        window: config.policy.window,
        zone: config.policy.timezone.clone(),
        consent: config.policy.consent,
        rate_limit: config.download.rate_limit,
        progress_every: config.report.progress_every,
        log_level: if verbose { LogLevel::Debug } else { LogLevel::Info },
        ..Rules::default()
    }
}

fn factory(reset: &config::FactoryReset) -> Factory {
    let image = reset.image.clone().map(|file| Artifact {
        version: None,
        location: Location::File(file),
        sha256: reset.sha256,
        size: None,
    });
    Factory { image, program: reset.program.is_some() }
}

fn bootloader(config: &Config) -> Box<dyn Bootloader> {
    let boot = &config.boot;
    let dialect = match boot.dialect {
        config::UbootDialect::UpgradeAvailable => uboot::Dialect::UpgradeAvailable {
            slot_variable: boot.upgrade_available.slot_variable.clone(),
            values: boot.upgrade_available.values.clone(),
        },
        config::UbootDialect::BootOrder => uboot::Dialect::BootOrder { names: boot.boot_order.names.clone() },
    };
    match boot.loader {
        config::Loader::Uboot => {
            // A simulated device must not contend for the lock of the machine it is simulated on.
            let lock_file = config.simulator.root.as_ref().map(|root| root.join("fw_printenv.lock"));
            let settings = uboot::Settings {
                fw_env_config: boot.fw_env_config.clone(),
                dialect,
                tries: boot.tries,
                lock_file,
            };
            match UBoot::open(settings) {
                Ok(uboot) => Box::new(uboot),
                // A device that cannot be updated must still be reached, and say why.
                Err(error) => Box::new(Unavailable::new(&error)),
            }
        }
    }
}

fn hub_settings(config: &Config) -> hub::Settings {
    hub::Settings {
        keep_alive: config.hub.keep_alive,
        transport: match config.hub.transport {
            config::Transport::Auto => hub::Transport::Auto,
            config::Transport::Mqtt => hub::Transport::Mqtt,
            config::Transport::WebSocket => hub::Transport::WebSocket,
        },
        websocket_port: u16::try_from(config.hub.websocket_port).unwrap_or(443),
        token_lifetime: config.hub.token_lifetime,
        backoff: [config.hub.backoff.first, config.hub.backoff.last],
        allow_undigested: config.trust.allow_undigested,
        take_messages: true,
        ..hub::Settings::default()
    }
}

fn image_settings(download: &config::Download) -> image::Settings {
    image::Settings {
        connect_timeout: download.connect_timeout,
        idle_timeout: download.idle_timeout,
        minimum_rate: download.minimum_rate,
        attempts: download.attempts,
        time_limit: download.time_limit,
        backoff: [download.backoff.first, download.backoff.last],
        retry_after_limit: download.retry_after_limit,
        redirects: download.redirects,
        decoder_memory: download.decoder_memory,
        checkpoint_every: download.checkpoint_every,
        data_cap: download.data_cap,
        ..image::Settings::default()
    }
}

/// Opens the control socket. Without it the device can still be updated, so failing is told and survived.
fn control(settings: &config::Control, shown: watch::Receiver<serde_json::Value>) -> mpsc::Receiver<Call> {
    let (calls, received) = mpsc::channel(8);
    let settings = server::Settings { socket: settings.socket.clone(), group: settings.group.clone() };
    tokio::spawn(async move {
        match Server::bind(&settings).await {
            Ok(server) => server.serve(calls, shown).await,
            Err(error) => {
                events::control_unavailable(&format!("{:#}", anyhow!(error)));
                // Kept open, or the engine would see a closed channel at every turn.
                calls.closed().await;
            }
        }
    });
    received
}

/// Ready when the service manager, or the person at the terminal, wants us to stop.
fn stopped() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
