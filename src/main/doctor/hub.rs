//! The service, and whether the hub is reached: the daemon knows; if none runs, it is tried from here.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use twinboot::cli::doctor::Check;
use twinboot::config::Config;
use twinboot::control::client::{Client, Error};
use twinboot::host::Host;
use twinboot::model::Request;

use crate::settings;
use crate::way_out::{self, WayOut};

/// How long it may take to get through, name, proxy, TLS and both ways included.
const LIMIT: Duration = Duration::from_secs(90);

/// Asks the daemon; `None` if there is none.
pub(super) fn status(socket: &Path) -> Result<Value, Error> {
    let answer = Client::connect(socket)?.ask(&Request::Status)?;
    Ok(answer.status.unwrap_or_default())
}

/// What the daemon says of itself.
pub(super) fn service(status: &Result<Value, Error>) -> Check {
    const NAME: &str = "service";
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            let cause = std::error::Error::source(error).map(|it| format!(": {it}")).unwrap_or_default();
            return Check::warn(NAME, format!("{error}{cause}"), error.remedy());
        }
    };
    let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match text("/phase") {
        "waiting" => {
            Check::fail(NAME, format!("it waits: {}", text("/waiting/what")), text("/waiting/remedy"))
        }
        "idle" => Check::ok(NAME, "it runs, and nothing is under way"),
        phase => Check::ok(NAME, format!("it runs; an update is under way ({phase})")),
    }
}

/// Whether the hub is reached. Where nobody says who this device is, which is told elsewhere, there is nothing to say.
pub(super) fn hub(config: &Config, host: &Host, status: &Result<Value, Error>) -> Option<Check> {
    const NAME: &str = "hub";
    if let Ok(status) = status {
        let is_connected = status.pointer("/hub/connected").and_then(Value::as_bool);
        return Some(match is_connected {
            Some(true) => Check::ok(NAME, "the service is connected with it"),
            Some(false) => {
                let what = "the service does not reach it";
                Check::fail(NAME, what, "journalctl -u twinboot says why")
            }
            // It waits for something else.
            None => return None,
        });
    }
    if !way_out::has_identity(config) {
        return None;
    }
    Some(match reach(config, host) {
        Ok(name) => Check::ok(NAME, format!("{name} lets this device in")),
        Err(why) => {
            Check::fail(NAME, why, "the network, the name, port 8883 or 443, the proxy, the clock, the key")
        }
    })
}

/// Goes through to the hub and back. Its name, or what is in the way.
fn reach(config: &Config, host: &Host) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no connection can be tried: {error}"))?;
    let floor = way_out::clock_floor(&config.state.directory);
    let way_out = WayOut::new(config, floor).map_err(|error| format!("{error:#}"))?;
    let now = host.wall_clock().unwrap_or(floor).max(floor);
    let mut access = way_out.access(config);
    let settings = settings::hub(config);
    let tried = runtime.block_on(async { tokio::time::timeout(LIMIT, access.try_out(&settings, now)).await });
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
    match tried {
        Ok(Ok(introduction)) => Ok(format!("{}{}", introduction.hub, introduction.way)),
        Ok(Err(lost)) => Err(lost.to_string()),
        Err(_) => Err(format!("it was not reached within {} s", LIMIT.as_secs())),
    }
}
