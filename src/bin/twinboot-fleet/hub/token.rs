//! The token of each request: made of the key, used for most of an hour, never shown.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use twinboot::hub::sas::Token;
use zeroize::Zeroizing;

use crate::connection::ServiceString;

/// Seconds that a token is good for.
const LIFETIME: u64 = 3600;
/// One that ends sooner than this is not used any more: the hub's clock may be another.
const MARGIN: u64 = 600;

/// Makes tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    service: ServiceString,
    kept: Mutex<Option<(Token, u64)>>,
}

impl Tokens {
    pub(super) fn new(service: ServiceString) -> Self {
        Self { service, kept: Mutex::new(None) }
    }

    /// One that is good for a while. Empty if the key does not sign, which one in memory always does.
    pub(super) fn now(&self) -> Zeroizing<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.at(now)
    }

    fn at(&self, now: u64) -> Zeroizing<String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back is no reason to keep one that the hub may refuse as too far ahead.
        let is_good = |expiry: u64| expiry > now + MARGIN && expiry <= now + LIFETIME;
        if !kept.as_ref().is_some_and(|(_, expiry)| is_good(*expiry)) {
            let ServiceString { hub, policy, key } = &self.service;
            let expiry = now + LIFETIME;
            *kept = Token::new(&hub.host, expiry, key, Some(policy)).ok().map(|token| (token, expiry));
        }
        Zeroizing::new(kept.as_ref().map_or_else(String::new, |(token, _)| token.expose().to_owned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_kept_for_most_of_its_life_and_then_renewed() {
        let key = "z0ucH16zHeuepB9W+qdXtovpyri3P0YyKd8XA2vfoT4=";
        let string = format!("HostName=h.example:8443;SharedAccessKeyName=service;SharedAccessKey={key}");
        let tokens = Tokens::new(string.parse().unwrap());
        let first = tokens.at(1_000_000);
        assert!(first.starts_with("SharedAccessSignature sr=h.example&sig="), "{first:?}");
        assert!(first.ends_with("&se=1003600&skn=service"));
        assert_eq!(tokens.at(1_002_999), first);
        assert!(tokens.at(1_003_000).contains("&se=1006600&"));
        assert!(tokens.at(5).contains("&se=3605&"), "the clock was set back");
        assert!(!format!("{tokens:?}").contains("sig="));
    }
}
