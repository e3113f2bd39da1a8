//! Shared access signatures: parsing, checking and, for connection strings and tests, making them. Not the keeper
//! of keys (that is `registry`). Called by `mqtt` at CONNECT and by `rest` for every request.
//!
//! Source of the form: "Control access to IoT Hub" and what the Python and Node SDKs send. The signed text is the
//! `sr` field *exactly as it stands in the token*, encoded or not, then a line feed, then `se`: some SDK parts sign
//! the encoded form and some the raw one, so decoding before checking refuses genuine tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::escape;

/// A token as received; nothing about it has been checked.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    raw_resource: String,
    raw_expiry: String,
    signature: String,
    /// The resource, decoded: `host/devices/id`.
    pub(crate) resource: String,
    /// Expiry in Unix seconds.
    pub(crate) expiry: u64,
    /// Name of the shared policy; none for a device's own key.
    pub(crate) policy: Option<String>,
}

impl Token {
    /// Reads `SharedAccessSignature sr=…&sig=…&se=…[&skn=…]`, fields in any order.
    pub(crate) fn parse(text: &str) -> Result<Token, String> {
        let fields = text
            .trim()
            .strip_prefix("SharedAccessSignature")
            .ok_or("the password is not a SharedAccessSignature")?
            .trim_start();
        let field = |name: &str| {
            fields
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
        };
        let raw_resource = field("sr").ok_or("the token has no sr")?;
        let raw_expiry = field("se").ok_or("the token has no se")?;
        let signature = escape::decode(&field("sig").ok_or("the token has no sig")?);
        let expiry = raw_expiry.parse().map_err(|_| "se is not a number of seconds".to_owned())?;
        let policy = field("skn").map(|name| escape::decode(&name)).filter(|name| !name.is_empty());
        let resource = escape::decode(&raw_resource);
        Ok(Token { raw_resource, raw_expiry, signature, resource, expiry, policy })
    }

    /// Whether this key made the signature.
    pub(crate) fn signed_by(&self, key: &str) -> bool {
        let Ok(given) = STANDARD.decode(&self.signature) else { return false };
        let Some(mac) = keyed(key, &self.raw_resource, &self.raw_expiry) else { return false };
        mac.verify_slice(&given).is_ok()
    }

    /// Whether the token's resource is `wanted` or a whole-segment prefix of it. The host is compared without
    /// regard to case, the rest with.
    pub(crate) fn covers(&self, wanted: &str) -> bool {
        let mut wanted = wanted.split('/');
        let mut host = true;
        for mine in self.resource.trim_end_matches('/').split('/') {
            let same = match wanted.next() {
                Some(theirs) if host => theirs.eq_ignore_ascii_case(mine),
                Some(theirs) => theirs == mine,
                None => false,
            };
            if !same {
                return false;
            }
            host = false;
        }
        true
    }
}

/// Makes a token the way the SDKs do: the encoded resource is signed. `key` in base64, `expiry` in Unix seconds.
/// None if the key is not base64.
pub fn sign(resource: &str, key: &str, expiry: u64, policy: Option<&str>) -> Option<String> {
    let resource = escape::encode(resource);
    let mac = keyed(key, &resource, &expiry.to_string())?;
    let signature = escape::encode(&STANDARD.encode(mac.finalize().into_bytes()));
    let policy = policy.map(|name| format!("&skn={name}")).unwrap_or_default();
    Some(format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}{policy}"))
}

/// Whether a text can be a hub's symmetric key: base64 of 16 to 64 bytes.
pub(crate) fn is_key(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|key| (16..=64).contains(&key.len()))
}

fn keyed(key: &str, resource: &str, expiry: &str) -> Option<Hmac<Sha256>> {
    let key = STANDARD.decode(key).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(resource.as_bytes());
    mac.update(b"\n");
    mac.update(expiry.as_bytes());
    Some(mac)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const KEY: &str = "z0ucH16zHeuepB9W+qdXtovpyri3P0YyKd8XA2vfoT4=";

    /// Made by azure-iot-device (Python), azure-iot-device (Node) and the provisioning clients of both.
    const GENUINE: [&str; 4] = [
        "sr=realhub.azure-devices.net%2Fdevices%2Fdev1&se=1795234546&sig=qJr8Qm7sTBexLJ8z4uEoGTpU8BQz1gFfVZSZGV1RcKU%3D",
        "sr=localhost%2Fdevices%2Fdev1&se=1795235827&sig=EVEGyTHOSI58Trwb7NqBJjvBLht14H2xi7vlmUWA5%2Bo%3D",
        "sr=0ne00000001/registrations/dev1&se=1795235827&sig=mzHxFmgUql5dheT%2FRdNHdYEKVqdvSv9Y1rwFcabD0Ow%3D",
        "sr=0ne00000001%2Fregistrations%2Fdev1&se=1795235823&sig=DzEmA6QlGoIHI2syG0tLgNbqFDszSwSSTMdqpPBN9lY%3D",
    ];

    #[test]
    fn tokens_of_the_vendors_sdks_are_accepted_and_altered_ones_are_not() {
        for fields in GENUINE {
            let token = Token::parse(&format!("SharedAccessSignature {fields}")).unwrap();
            assert!(token.signed_by(KEY), "{fields}");
            assert!(!token.signed_by(&STANDARD.encode([7; 32])), "{fields}");
            let later = fields.replacen("se=1795", "se=1796", 1);
            assert!(!Token::parse(&format!("SharedAccessSignature {later}")).unwrap().signed_by(KEY));
        }
        assert_eq!(
            sign("localhost/devices/dev1", KEY, 1_795_235_827, None).unwrap(),
            "SharedAccessSignature sr=localhost%2Fdevices%2Fdev1&sig=EVEGyTHOSI58Trwb7NqBJjvBLht14H2xi7vlmUWA5%2Bo%3D&se=1795235827"
        );
    }

    #[test]
    fn a_resource_covers_what_is_below_it_by_whole_segments() {
        let token = |resource: &str| Token::parse(&sign(resource, KEY, 1, None).unwrap()).unwrap();
        assert!(token("Hub.example").covers("hub.example/devices/dev1"));
        assert!(token("hub.example/devices").covers("hub.example/devices/dev1"));
        assert!(token("hub.example/devices/dev1").covers("hub.example/devices/dev1"));
        assert!(!token("hub.example/devices/dev").covers("hub.example/devices/dev1"));
        assert!(!token("hub.example/devices/DEV1").covers("hub.example/devices/dev1"));
        assert!(!token("hub.example/devices/dev1/modules/m").covers("hub.example/devices/dev1"));
        assert!(!token("other.example").covers("hub.example/devices/dev1"));
    }

    #[test]
    fn what_is_not_a_token_says_what_it_lacks() {
        assert!(Token::parse("secret").unwrap_err().contains("SharedAccessSignature"));
        assert!(Token::parse("SharedAccessSignature sr=a&sig=b").unwrap_err().contains("se"));
        assert!(Token::parse("SharedAccessSignature sr=a&sig=b&se=soon").unwrap_err().contains("seconds"));
    }
}
