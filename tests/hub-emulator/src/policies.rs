//! Shared access policies of the service side, and the check of a token against a key. Not devices' own keys, except
//! that the check is shared with them. Called by `mqtt` at CONNECT and by `rest`.

use std::collections::BTreeMap;

use crate::clock;
use crate::error::{Code, Error};
use crate::random;
use crate::sas::Token;

/// What a policy may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    DeviceConnect,
    RegistryRead,
    RegistryWrite,
    ServiceConnect,
}

#[derive(Clone, Debug)]
struct Policy {
    name: &'static str,
    key: String,
    /// Chosen by whoever started the emulator.
    given: bool,
    rights: &'static [Right],
}

/// The five policies that every hub is born with.
#[derive(Clone, Debug)]
pub(crate) struct Policies {
    list: Vec<Policy>,
    /// How far the clocks of others may be behind or ahead.
    skew: u64,
}

impl Policies {
    /// `owner_key` for `iothubowner`, or a fresh one.
    pub(crate) fn new(owner_key: Option<String>, skew: u64) -> Policies {
        use Right::{DeviceConnect, RegistryRead, RegistryWrite, ServiceConnect};
        let policy = |name, rights| Policy { name, key: random::key(), given: false, rights };
        let mut list = vec![
            policy("iothubowner", &[DeviceConnect, RegistryRead, RegistryWrite, ServiceConnect][..]),
            policy("service", &[ServiceConnect]),
            policy("device", &[DeviceConnect]),
            policy("registryRead", &[RegistryRead]),
            policy("registryReadWrite", &[RegistryRead, RegistryWrite]),
        ];
        if let Some(key) = owner_key {
            (list[0].key, list[0].given) = (key, true);
        }
        Policies { list, skew }
    }

    /// The key of a policy, in base64.
    pub(crate) fn key(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|policy| policy.name == name).map(|policy| policy.key.as_str())
    }

    /// All keys, by the names of their policies.
    pub(crate) fn keys(&self) -> BTreeMap<String, String> {
        self.list.iter().map(|policy| (policy.name.to_owned(), policy.key.clone())).collect()
    }

    /// Puts back the keys of an earlier start, except one that was asked for at this one.
    pub(crate) fn restore(&mut self, keys: &BTreeMap<String, String>) {
        for policy in self.list.iter_mut().filter(|policy| !policy.given) {
            if let Some(key) = keys.get(policy.name) {
                policy.key.clone_from(key);
            }
        }
    }

    /// Whether the token is signed by its policy, alive, covers the resource and has the right.
    pub(crate) fn check(&self, token: &Token, resource: &str, right: Right) -> Result<(), Error> {
        let name = token.policy.as_deref().unwrap_or_default();
        let policy = self.list.iter().find(|policy| policy.name == name);
        let policy = policy.ok_or_else(|| unauthorized(format!("there is no policy {name:?}")))?;
        self.check_key(token, resource, &[&policy.key])?;
        if policy.rights.contains(&right) {
            return Ok(());
        }
        Err(Error::new(Code::Forbidden, format!("the policy {name} does not allow {right:?}")))
    }

    /// Whether the token is signed by one of the keys, alive and covers the resource.
    pub(crate) fn check_key(&self, token: &Token, resource: &str, keys: &[&str]) -> Result<(), Error> {
        self.check_scope(token, resource)?;
        if !keys.iter().any(|key| token.signed_by(key)) {
            return Err(unauthorized("the token's signature is wrong".to_owned()));
        }
        Ok(())
    }

    /// Whether the token is alive and covers the resource, whoever signed it.
    pub(crate) fn check_scope(&self, token: &Token, resource: &str) -> Result<(), Error> {
        if !token.covers(resource) {
            return Err(unauthorized(format!(
                "the token is for {:?} and not for {resource:?}",
                token.resource
            )));
        }
        let late = clock::unix_now().saturating_sub(token.expiry);
        if late > self.skew {
            return Err(unauthorized(format!("the token expired {late} s ago")));
        }
        Ok(())
    }

    /// For how many seconds from now a token is good: till its expiry, or, if it was let in late, till the end of
    /// the tolerance.
    pub(crate) fn seconds_left(&self, token: &Token) -> u64 {
        let now = clock::unix_now();
        let end = if token.expiry > now { token.expiry } else { token.expiry.saturating_add(self.skew) };
        end.saturating_sub(now)
    }
}

fn unauthorized(message: String) -> Error {
    Error::new(Code::Unauthorized, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sas::sign;

    fn check(policies: &Policies, name: &str, late: i64, right: Right) -> Result<(), Error> {
        let expiry = clock::unix_now().checked_add_signed(-late).unwrap();
        let token = sign("hub", policies.key(name).unwrap(), expiry, Some(name)).unwrap();
        policies.check(&Token::parse(&token).unwrap(), "hub/devices/d", right)
    }

    #[test]
    fn a_policy_allows_what_it_names_until_the_token_is_too_old() {
        let policies = Policies::new(None, 60);
        assert!(check(&policies, "service", -10, Right::ServiceConnect).is_ok());
        assert!(check(&policies, "service", 50, Right::ServiceConnect).is_ok());
        let expired = check(&policies, "service", 70, Right::ServiceConnect).unwrap_err();
        assert_eq!(expired.code, Code::Unauthorized);
        let lacking = check(&policies, "service", -10, Right::RegistryWrite).unwrap_err();
        assert_eq!(lacking.code, Code::Forbidden);
        assert!(check(&policies, "iothubowner", -10, Right::RegistryWrite).is_ok());
        let forged = sign("hub", policies.key("service").unwrap(), u64::MAX, Some("iothubowner")).unwrap();
        assert!(policies.check(&Token::parse(&forged).unwrap(), "hub", Right::RegistryRead).is_err());
    }
}
