//! From sections of the configuration to the settings of adapters.

use twinboot::config::{self, Config};
use twinboot::hub;

/// How the session with the hub behaves.
pub(crate) fn hub(config: &Config) -> hub::Settings {
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
