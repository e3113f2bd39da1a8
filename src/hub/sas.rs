//! Shared access signature tokens: pure, time is an argument.
//!
//! Format: Microsoft's "Control access to IoT Hub with shared access signatures". The resource is signed exactly
//! as it stands in the token, so it is encoded once and used twice.

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::credential::Signer;

/// A token: a secret for as long as it lives, so it is wiped when dropped and never shown.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// A token for `resource` (such as `hub/devices/id`) that ends at `expiry`, in seconds since 1970. `policy` names
    /// the key where it is not the device's own.
    ///
    /// # Errors
    /// In words, if whoever keeps the key does not sign.
    pub fn new(
        resource: &str,
        expiry: u64,
        signer: &dyn Signer,
        policy: Option<&str>,
    ) -> Result<Self, String> {
        Self::sign(&percent_encoded(resource), expiry, signer, policy)
    }

    /// Signs `resource` as it stands.
    fn sign(resource: &str, expiry: u64, signer: &dyn Signer, policy: Option<&str>) -> Result<Self, String> {
        let signature = signer.sign(format!("{resource}\n{expiry}").as_bytes())?;
        let signature = percent_encoded(&STANDARD.encode(signature));
        let policy = policy.map_or(String::new(), |policy| format!("&skn={policy}"));
        Ok(Self(Zeroizing::new(format!(
            "SharedAccessSignature sr={resource}&sig={signature}&se={expiry}{policy}"
        ))))
    }

    /// The whole token: the password of a connection, or the authorization of a request, and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// All but RFC 3986's unreserved characters as `%XX`, upper case, as the vendor's libraries send it.
pub fn percent_encoded(text: &str) -> String {
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
    use super::super::credential::Key;
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
            let key: Key = KEY.parse().unwrap();
            let token = Token::sign(resource, expiry, &key, None).unwrap();
            assert_eq!(
                token.expose(),
                format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}")
            );
        }
    }

    #[test]
    fn the_resource_is_encoded_and_the_policy_named() {
        let key: Key = KEY.parse().unwrap();
        let token = Token::new("localhost/devices/dev1", 1_795_235_827, &key, None).unwrap();
        assert!(token.expose().contains("sr=localhost%2Fdevices%2Fdev1&sig=EVEGyTHOSI58"));
        assert_eq!(format!("{token:?}"), "Token(…)");
        let token = Token::new("s/registrations/d", 7, &key, Some("registration")).unwrap();
        assert!(token.expose().ends_with("&se=7&skn=registration"));
    }
}
