//! Shared access signature tokens: pure, time is an argument.
//!
//! Format: Microsoft's "Control access to IoT Hub with shared access signatures". The resource is signed exactly
//! as it stands in the token, so it is encoded once and used twice.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::identity::{Identity, Key};

/// A token: a secret for as long as it lives, so it is wiped when dropped and never shown.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// A token for `identity` that ends at `expiry`, in seconds since 1970.
    pub fn of_device(identity: &Identity, expiry: u64) -> Self {
        let resource = format!("{}/devices/{}", identity.host, identity.device);
        Self::sign(&percent_encoded(&resource), expiry, &identity.key)
    }

    /// Signs `resource` as it stands.
    fn sign(resource: &str, expiry: u64, key: &Key) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of any length");
        mac.update(format!("{resource}\n{expiry}").as_bytes());
        let signature = percent_encoded(&STANDARD.encode(mac.finalize().into_bytes()));
        Self(Zeroizing::new(format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}")))
    }

    /// The whole token: the password of the connection and nothing else.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// All but RFC 3986's unreserved characters as `%XX`, upper case, as the vendor's libraries send it.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes all");
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const KEY: &str = "z0ucH16zHeuepB9W+qdXtovpyri3P0YyKd8XA2vfoT4=";

    /// Made by the vendor's Python and Node libraries with this key.
    #[test]
    fn the_vendors_tokens_come_out() {
        for (resource, expiry, signature) in [
            (
                "realhub.azure-devices.net%2Fdevices%2Fdev1",
                1_795_234_546,
                "qJr8Qm7sTBexLJ8z4uEoGTpU8BQz1gFfVZSZGV1RcKU%3D",
            ),
            ("localhost%2Fdevices%2Fdev1", 1_795_235_827, "EVEGyTHOSI58Trwb7NqBJjvBLht14H2xi7vlmUWA5%2Bo%3D"),
            (
                "0ne00000001/registrations/dev1",
                1_795_235_827,
                "mzHxFmgUql5dheT%2FRdNHdYEKVqdvSv9Y1rwFcabD0Ow%3D",
            ),
            (
                "0ne00000001%2Fregistrations%2Fdev1",
                1_795_235_823,
                "DzEmA6QlGoIHI2syG0tLgNbqFDszSwSSTMdqpPBN9lY%3D",
            ),
        ] {
            let token = Token::sign(resource, expiry, &KEY.parse().unwrap());
            assert_eq!(
                token.expose(),
                format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}")
            );
        }
    }

    #[test]
    fn a_device_signs_its_own_resource_whatever_it_dials() {
        let text = format!("HostName=localhost:18883;DeviceId=dev1;GatewayHostName=gw;SharedAccessKey={KEY}");
        let token = Token::of_device(&text.parse().unwrap(), 1_795_235_827);
        assert!(
            token.expose().contains("sr=localhost%2Fdevices%2Fdev1&sig=EVEGyTHOSI58"),
            "no port, no gateway"
        );
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
