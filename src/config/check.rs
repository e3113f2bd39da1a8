//! Bounds, and agreement between keys: what is well formed but would hurt.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::{Attestation, Backoff, Config, Problem, nearest, slots};
use crate::host::Host;
use crate::hub::credential::Key;
use crate::hub::registration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Adds to `problems` whatever is out of bounds or contradicts itself.
pub(super) fn all(config: &Config, problems: &mut Vec<Problem>) {
    let mut checks = Checks { config, problems };
    checks.times();
    checks.amounts();
    checks.names();
    checks.paths();
    checks.secrets();
    checks.identity();
}

struct Checks<'a> {
    config: &'a Config,
    problems: &'a mut Vec<Problem>,
}

impl Checks<'_> {
    fn times(&mut self) {
        let Config { hub, download, health, hooks, factory_reset, report, properties, .. } = self.config;
        // IoT Hub drops a connection after one and a half times the keep-alive, or 1767 s: more than 1177 s is never
        // honoured. Below ten seconds it is all pings.
        self.time("hub.keep_alive", hub.keep_alive, 10 * SECOND..=1177 * SECOND);
        self.time("hub.token_lifetime", hub.token_lifetime, 5 * MINUTE..=365 * DAY);
        self.backoff("hub.backoff", hub.backoff);
        self.time("download.connect_timeout", download.connect_timeout, SECOND..=10 * MINUTE);
        self.time("download.idle_timeout", download.idle_timeout, SECOND..=60 * MINUTE);
        self.time("download.time_limit", download.time_limit, MINUTE..=365 * DAY);
        self.time("download.retry_after_limit", download.retry_after_limit, Duration::ZERO..=7 * DAY);
        self.backoff("download.backoff", download.backoff);
        self.time("health.deadline", health.deadline, SECOND..=DAY);
        self.time("health.check_timeout", health.check_timeout, Duration::from_millis(1)..=DAY);
        self.time("boot.script.timeout", self.config.boot.script.timeout, SECOND..=10 * MINUTE);
        self.time("hooks.timeout", hooks.timeout, SECOND..=DAY);
        self.time("hooks.ask_again", hooks.ask_again, Duration::from_millis(100)..=DAY);
        self.time("factory_reset.timeout", factory_reset.timeout, SECOND..=DAY);
        // Whoever calls a method waits for its answer, for half a minute if nothing else was said.
        self.time("properties.timeout", properties.timeout, Duration::from_millis(100)..=5 * MINUTE);
        // The hub counts messages, and throttles who talks too much.
        self.time("report.progress_every", report.progress_every, SECOND..=DAY);
    }

    fn amounts(&mut self) {
        let Config { boot, download, .. } = self.config;
        let port = self.config.hub.websocket_port;
        self.number("hub.websocket_port", port.into(), 1..=65_535);
        // No try at all would never boot the new slot; a counter in the environment may be two digits wide.
        self.number("boot.tries", boot.tries.into(), 1..=99);
        let partitions = boot.tryboot.partitions;
        self.number("boot.tryboot.a", partitions.a.into(), 1..=127);
        self.number("boot.tryboot.b", partitions.b.into(), 1..=127);
        // A bundle may carry sixteen signatures; with none, it would be no bundle.
        self.number("trust.threshold", self.config.trust.threshold.into(), 1..=16);
        self.number("download.attempts", download.attempts.into(), 1..=100_000);
        self.number("download.redirects", download.redirects.into(), 0..=20);
        self.number("download.decoder_memory", download.decoder_memory, 1 << 20..=4 << 30);
        // A checkpoint flushes the slot: too many of them wear the flash and stall the download.
        self.number("download.checkpoint_every", download.checkpoint_every, 64 << 10..=1 << 30);
    }

    fn names(&mut self) {
        let Config { boot, report, control, .. } = self.config;
        for (key, message) in slots::problems(self.config) {
            self.problem(key, message);
        }
        let values = &boot.upgrade_available.values;
        self.differ("boot.upgrade_available.b", &values.a, &values.b, "boot.upgrade_available.a");
        let names = &boot.boot_order.names;
        self.differ("boot.boot_order.b", &names.a, &names.b, "boot.boot_order.a");
        let grub = &boot.grub.names;
        self.differ("boot.grub.b", &grub.a, &grub.b, "boot.grub.a");
        let partitions = &boot.tryboot.partitions;
        self.differ("boot.tryboot.b", &partitions.a, &partitions.b, "boot.tryboot.a");
        let [systemd_boot, efi] = [&boot.systemd_boot.entries, &boot.efi.entries];
        self.differ("boot.systemd_boot.b", &systemd_boot.a, &systemd_boot.b, "boot.systemd_boot.a");
        self.differ("boot.efi.b", &efi.a, &efi.b, "boot.efi.a");
        let script = &boot.script.names;
        self.differ("boot.script.b", &script.a, &script.b, "boot.script.a");
        for (key, text) in [
            ("boot.upgrade_available.slot_variable", &boot.upgrade_available.slot_variable),
            ("boot.upgrade_available.a", &values.a),
            ("boot.upgrade_available.b", &values.b),
            ("boot.boot_order.a", &names.a),
            ("boot.boot_order.b", &names.b),
            ("boot.grub.a", &grub.a),
            ("boot.grub.b", &grub.b),
            ("boot.systemd_boot.a", &systemd_boot.a),
            ("boot.systemd_boot.b", &systemd_boot.b),
            ("boot.efi.a", &efi.a),
            ("boot.efi.b", &efi.b),
            ("boot.script.a", &script.a),
            ("boot.script.b", &script.b),
            ("control.group", &control.group),
        ] {
            // In an environment block `=` ends a name, and BOOT_ORDER is separated by blanks.
            if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'=') {
                self.problem(key, "must be printable ASCII without blanks and '='".into());
            }
        }
        let mut seen = Vec::new();
        for dialect in &report.dialects {
            if seen.contains(&dialect) {
                self.problem("report.dialects", "names the same shape twice".into());
            }
            seen.push(dialect);
        }
        self.trust();
        self.zone();
        if self.config.factory_reset.sha256.is_some() && self.config.factory_reset.image.is_none() {
            self.problem("factory_reset.sha256", "is of no use without factory_reset.image".into());
        }
    }

    /// What a bundle is for is compared byte by byte: blanks and what cannot be seen would make a device refuse its own.
    fn trust(&mut self) {
        let trust = &self.config.trust;
        let is_name =
            |text: &String| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        const WANTED: &str = "must be 1 to 64 printable ASCII characters without blanks";
        if trust.product.as_ref().is_some_and(|product| !is_name(product)) {
            self.problem("trust.product", WANTED.into());
        }
        if !trust.compatible.iter().all(is_name) {
            self.problem("trust.compatible", format!("has a name that is none: each {WANTED}"));
        }
        if trust.compatible.iter().enumerate().any(|(at, name)| trust.compatible[..at].contains(name)) {
            self.problem("trust.compatible", "names the same twice".into());
        }
    }

    /// A window in a time zone that nobody knows would be in UTC, hours off.
    fn zone(&mut self) {
        let zone = &self.config.policy.timezone;
        let host = Host::new(self.config.simulator.root.clone());
        if host.knows(zone) {
            return;
        }
        let (zone, names) = (zone.to_string(), host.zone_names());
        let hint =
            nearest::name(&zone, &names).map(|it| format!("; did you mean {it:?}?")).unwrap_or_default();
        self.problem("policy.timezone", format!("is no time zone of this system's database: {zone:?}{hint}"));
    }

    /// A relative name would depend on where somebody happened to start us.
    fn paths(&mut self) {
        let Config { boot, health, hooks, factory_reset, properties, control, .. } = self.config;
        let Config { state, tls, simulator, .. } = self.config;
        let one = [
            ("boot.fw_env_config", &boot.fw_env_config),
            ("boot.grub.environment", &boot.grub.environment),
            ("boot.tryboot.autoboot", &boot.tryboot.autoboot),
            ("boot.script.program", &boot.script.program),
            ("health.directory", &health.directory),
            ("hooks.directory", &hooks.directory),
            ("properties.directory", &properties.directory),
            ("trust.keys", &self.config.trust.keys),
            ("control.socket", &control.socket),
            ("state.directory", &state.directory),
        ];
        let image = factory_reset.image.iter().map(|file| ("factory_reset.image", file));
        let program = factory_reset.program.iter().map(|file| ("factory_reset.program", file));
        let many = tls.ca_files.iter().map(|file| ("tls.ca_files", file));
        let simulator = simulator.root.iter().map(|root| ("simulator.root", root));
        let relative = |(_, path): &(&str, &std::path::PathBuf)| !Path::is_absolute(path);
        for (key, path) in
            one.into_iter().chain(many).chain(simulator).chain(image).chain(program).filter(relative)
        {
            self.problem(key, format!("must be an absolute file name, found {:?}", path.display()));
        }
    }

    /// A secret that was pasted in place of the name of its file would be told with that name, as what is not there.
    fn secrets(&mut self) {
        let Config { hub, provisioning, proxy, .. } = self.config;
        for (key, file) in [
            ("hub.connection_string_file", Some(&hub.connection_string_file)),
            ("hub.certificate_file", hub.certificate_file.as_ref()),
            ("hub.private_key_file", hub.private_key_file.as_ref()),
            ("provisioning.symmetric_key_file", Some(&provisioning.symmetric_key_file)),
            ("provisioning.payload_file", provisioning.payload_file.as_ref()),
            ("proxy.credentials_file", proxy.credentials_file.as_ref()),
        ] {
            if file.is_some_and(|file| is_secret(&file.to_string_lossy())) {
                let wanted = "must be the name of a file, and looks like the secret itself: write that to a file, and \
                              name it here";
                self.problem(key, wanted.into());
            }
        }
    }

    /// Who the device is, said once and wholly.
    fn identity(&mut self) {
        let Config { hub, provisioning, proxy, .. } = self.config;
        match (&hub.certificate_file, &hub.private_key_file) {
            (Some(_), None) => {
                self.problem("hub.certificate_file", "needs its key: set hub.private_key_file".into());
            }
            (None, Some(_)) => {
                self.problem(
                    "hub.private_key_file",
                    "needs its certificate: set hub.certificate_file".into(),
                );
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        let defaults = Config::default();
        let is_id = |text: &String| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if provisioning.id_scope.as_ref().is_some_and(|scope| !is_id(scope)) {
            self.problem(
                "provisioning.id_scope",
                "must be letters and digits, such as \"0ne00000001\"".into(),
            );
        }
        match (&provisioning.id_scope, &provisioning.registration_id) {
            (None, Some(_)) => {
                self.problem("provisioning.registration_id", "needs provisioning.id_scope as well".into());
            }
            (Some(_), None) => self.problem(
                "provisioning.id_scope",
                "needs provisioning.registration_id as well: an id, or \"@serial\"".into(),
            ),
            (Some(_), Some(id)) if !registration::is_known(id) => self.problem(
                "provisioning.registration_id",
                "must be at most 128 letters, digits and '-._:' and end in a letter, a digit or '-'; or \"@serial\", \
                 \"@hostname\" or \"@machine-id\""
                    .into(),
            ),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if provisioning.id_scope.is_some() {
            let is_x509 = provisioning.attestation == Attestation::X509;
            if is_x509 && hub.certificate_file.is_none() {
                self.problem(
                    "provisioning.attestation",
                    "needs the device's certificate: set hub.certificate_file and hub.private_key_file"
                        .into(),
                );
            }
            if hub.connection_string_file != defaults.hub.connection_string_file {
                self.problem(
                    "hub.connection_string_file",
                    "contradicts provisioning.id_scope: the service names the hub; remove one of them".into(),
                );
            }
        }
        if proxy.url.is_none() && (proxy.credentials_file.is_some() || !proxy.no_proxy.is_empty()) {
            let key =
                if proxy.credentials_file.is_some() { "proxy.credentials_file" } else { "proxy.no_proxy" };
            self.problem(key, "is for a proxy: set proxy.url".into());
        }
    }

    fn time(&mut self, key: &str, found: Duration, allowed: RangeInclusive<Duration>) {
        if !allowed.contains(&found) {
            let (from, to) = (allowed.start(), allowed.end());
            self.problem(key, format!("must be from {from:?} to {to:?}, found {found:?}"));
        }
    }

    fn number(&mut self, key: &str, found: u64, allowed: RangeInclusive<u64>) {
        if !allowed.contains(&found) {
            self.problem(
                key,
                format!("must be from {} to {}, found {found}", allowed.start(), allowed.end()),
            );
        }
    }

    /// Without a wait at all, a server that refuses everyone would be asked as fast as it can refuse.
    fn backoff(&mut self, key: &str, Backoff { first, last }: Backoff) {
        if first < Duration::from_millis(100) || first > last || last > DAY {
            self.problem(
                key,
                format!("must grow, from at least 100ms to at most 1d, found {first:?} and {last:?}"),
            );
        }
    }

    fn differ<T: PartialEq>(&mut self, key: &str, a: &T, b: &T, other: &str) {
        if a == b {
            self.problem(key, format!("must differ from {other}"));
        }
    }

    fn problem(&mut self, key: &str, message: String) {
        let origin = self.config.origin(key).cloned();
        self.problems.push(Problem::Value { origin, key: key.into(), message });
    }
}

/// Whether this can hardly be the name of a file: a connection string, a token, a key.
fn is_secret(text: &str) -> bool {
    let signs = ["SharedAccessKey", "SharedAccessSignature", "sig=", "-----BEGIN"];
    // Letters alone are a name, too; keys are of a length that leaves a `=` at the end.
    let is_key = text.ends_with('=') && text.parse::<Key>().is_ok();
    is_key || signs.iter().any(|sign| text.contains(sign))
}
