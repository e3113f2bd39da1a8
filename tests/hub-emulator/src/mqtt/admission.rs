//! Who may come in: the decision on a CONNECT. Not the conversation that follows (`connection` for devices,
//! `registration` for those that want to become one).

use crate::certificates::Peer;
use crate::faults::FaultKind;
use crate::hub::Hub;
use crate::policies::Right;
use crate::provisioning::Credentials;
use crate::registry::Scheme;
use crate::sas::Token;
use crate::shared::Place;

use super::packet::Connect;
use super::topics::{Claim, UserName};

pub(super) const UNAVAILABLE: u8 = 3;
pub(super) const NOT_AUTHORISED: u8 = 5;

/// Whom the hub lets in. `seconds` is how long a token lasts; none is without end.
#[derive(Debug)]
pub(super) enum Admitted {
    /// A device or a module, and the model it says it is of.
    Identity { model: Option<String>, seconds: Option<u64> },
    /// Someone who wants to be registered. Whether it may is told when it asks: the service says so in its topics.
    Registrant { scope: String, credentials: Credentials, seconds: Option<u64> },
}

/// Decides on a CONNECT at `place`: whom it lets in, or the return code and the reason.
pub(super) fn admit(
    place: &Place,
    hub: &Hub,
    connect: &Connect,
    peer: &Peer,
) -> Result<Admitted, (u8, String)> {
    let id = &connect.client_id;
    if hub.faults.fires(id, &FaultKind::RefuseConnect) {
        return Err((UNAVAILABLE, "fault: server unavailable".to_owned()));
    }
    if hub.faults.fires(id, &FaultKind::RefuseAuth) {
        return Err((NOT_AUTHORISED, "fault: not authorised".to_owned()));
    }
    authenticate(place, hub, connect, peer).map_err(|why| (NOT_AUTHORISED, why))
}

fn authenticate(place: &Place, hub: &Hub, connect: &Connect, peer: &Peer) -> Result<Admitted, String> {
    let user = connect.username.as_deref().ok_or("there is no user name")?;
    if let Some(claim) = Claim::parse(user, &connect.client_id) {
        return registrant(hub, connect, peer, claim);
    }
    let user = UserName::parse(user)?;
    // A hub lets in nobody who signs for another one.
    if !place.is_called(&user.host) {
        return Err(format!("{:?} is no name of this emulator; see --name", user.host));
    }
    let key = user.key();
    if key != connect.client_id {
        return Err(format!("client id {:?} and user name {key:?} differ", connect.client_id));
    }
    let device = hub.find(&key).ok_or("there is no such device")?;
    if !device.enabled || hub.find(&user.device).is_some_and(|owner| !owner.enabled) {
        return Err("the device is disabled".to_owned());
    }
    let seconds = match device.authentication.scheme {
        Scheme::Sas => {
            let token = token(connect)?.ok_or("there is no password, and the device is one of tokens")?;
            let resource = user.resource();
            let checked = if token.policy.is_some() {
                hub.policies.check(&token, &resource, Right::DeviceConnect)
            } else {
                let [primary, secondary] = &device.authentication.keys;
                hub.policies.check_key(&token, &resource, &[primary, secondary])
            };
            checked.map_err(|error| error.message)?;
            Some(hub.policies.seconds_left(&token))
        }
        scheme @ (Scheme::SelfSigned | Scheme::CertificateAuthority | Scheme::None) => {
            if connect.password.is_some() {
                return Err("there is a password, and the device is one of certificates".to_owned());
            }
            check_certificate(hub, scheme, &device.authentication.thumbprints, &key, peer)?;
            None
        }
    };
    Ok(Admitted::Identity { model: user.model, seconds })
}

fn check_certificate(
    hub: &Hub,
    scheme: Scheme,
    known: &[Option<String>; 2],
    key: &str,
    peer: &Peer,
) -> Result<(), String> {
    let thumbprints = peer.thumbprints().ok_or("the client presented no certificate")?;
    match scheme {
        Scheme::SelfSigned => {
            if known.iter().flatten().any(|known| thumbprints.contains(known)) {
                return Ok(());
            }
            Err(format!("the certificate's thumbprint {} is neither of the device's", thumbprints[1]))
        }
        Scheme::CertificateAuthority => {
            let name = peer.common_name().unwrap_or_default();
            if name != key {
                return Err(format!("the certificate's common name is {name:?} and not {key:?}"));
            }
            hub.authorities.vouch_for(peer)
        }
        Scheme::Sas | Scheme::None => Err("the device has no means to prove itself".to_owned()),
    }
}

/// What can be seen at once is refused at once: a token that is expired or for something else, and nothing at all.
fn registrant(hub: &Hub, connect: &Connect, peer: &Peer, claim: Claim) -> Result<Admitted, String> {
    let token = token(connect)?;
    let seconds = match &token {
        Some(token) => {
            hub.policies.check_scope(token, &claim.resource()).map_err(|error| error.message)?;
            Some(hub.policies.seconds_left(token))
        }
        None if peer.thumbprints().is_none() => {
            return Err("there is neither a password nor a certificate".to_owned());
        }
        None => None,
    };
    let credentials = Credentials { token, peer: peer.clone() };
    Ok(Admitted::Registrant { scope: claim.scope, credentials, seconds })
}

fn token(connect: &Connect) -> Result<Option<Token>, String> {
    let Some(password) = connect.password.as_deref() else { return Ok(None) };
    Token::parse(std::str::from_utf8(password).map_err(|_| "the password is no text")?).map(Some)
}
