//! Nothing that a daemon says may hold a secret: every line and every status of every simulated device is looked
//! through, whatever the test is about.

/// What must never be said, whoever's it is: the beginnings of keys and tokens, and what stands around private keys.
/// None of these is a part of a message of the daemon's own.
const SIGNS: [&str; 5] = ["SharedAccessKey=", "SharedAccessSignature", "?sig=", "&sig=", "PRIVATE KEY-----"];

/// The secrets of one device.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Its key, as its connection string has it and as it is in an address.
    keys: Vec<String>,
}

impl Secrets {
    /// Those of the device with this connection string.
    pub(super) fn of(connection: &str) -> Self {
        let key = connection.split(';').find_map(|part| part.trim().strip_prefix("SharedAccessKey="));
        // What stands for a key where there is none is no secret.
        let key = key.filter(|key| key.len() >= 16);
        let encoded = |key: &str| key.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        Self { keys: key.into_iter().flat_map(|key| [key.to_owned(), encoded(key)]).collect() }
    }

    /// What of them is in `text`, without repeating it.
    pub(super) fn in_text(&self, text: &str) -> Option<&'static str> {
        let key = self.keys.iter().any(|key| text.contains(key.as_str())).then_some("the device's key");
        key.or_else(|| SIGNS.into_iter().find(|sign| text.contains(sign)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tokens_are_found_in_any_text_and_nothing_else_is() {
        let secrets = Secrets::of("HostName=h;DeviceId=d;SharedAccessKey=c2Vj+mV0/GtleQ0123456789==");
        for leak in [
            "connecting with c2Vj+mV0/GtleQ0123456789== now",
            "GET /x?k=c2Vj%2BmV0%2FGtleQ0123456789%3D%3D",
            "SharedAccessSignature sr=h",
            "fetching https://h/x?sv=1&sig=abc",
            "-----BEGIN EC PRIVATE KEY-----",
        ] {
            assert!(secrets.in_text(leak).is_some(), "{leak}");
        }
        for fine in ["", "connected to the hub h", "signature of the image", "no key in SharedAccess"] {
            assert_eq!(secrets.in_text(fine), None, "{fine}");
        }
        assert_eq!(Secrets::of("HostName=h;DeviceId=d;x509=true").in_text("x509=true"), None);
    }
}
