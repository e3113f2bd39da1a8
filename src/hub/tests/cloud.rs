//! A whole hub in memory, for virtual time: everybody's twins, one connection per identity, tokens that end, its own
//! patience with silence, and faults. It is played packet by packet over a pipe, with nothing of the codec under test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncWriteExt as _, DuplexStream, WriteHalf, duplex, split};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

use super::server::{Connect, message, packet, publish};
use crate::hub::dial::{Dial, Opening, ready};
use crate::hub::{Identity, Lost, Settings};
use crate::model::Timestamp;

/// The hub's clock when it begins, in seconds since 1970.
pub(super) const EPOCH: u64 = 1_800_000_000;

/// What the hub, or the way to it, is like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Weather {
    Fine,
    /// Nobody listens.
    Refused,
    /// Connections are made, and nothing is ever said.
    Silent,
    /// CONNECT is answered with this.
    Says(u8),
    /// CONNECT is answered so late.
    Late(Duration),
    /// The subscription of this filter is refused.
    Deaf(usize),
}

/// How a twin request is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reaction {
    Normal,
    /// Nothing is done, and this is said.
    Fails(u16),
    /// It is done, and nothing is said.
    Silence,
    /// It is done, and the answer is somebody else's.
    OtherRid,
    /// It is done, and told twice.
    Twice,
    /// It is done, and then the connection is cut.
    Cut,
    /// The connection is cut before it is done.
    CutBefore,
}

/// The hub. All clones are the same one.
#[derive(Clone)]
pub(super) struct Cloud(Arc<Mutex<State>>);

pub(super) struct State {
    began: Instant,
    pub(super) weather: Weather,
    pub(super) gets: Reaction,
    pub(super) patches: Reaction,
    /// When somebody tried to connect.
    pub(super) attempts: Vec<Instant>,
    pub(super) devices: BTreeMap<String, Device>,
    serial: u64,
}

/// What the hub knows of a device.
#[derive(Default)]
pub(super) struct Device {
    desired: Map<String, Value>,
    version: u64,
    pub(super) reported: Map<String, Value>,
    link: Option<(u64, UnboundedSender<Push>)>,
    /// Every answer to a call, by request id.
    pub(super) answers: BTreeMap<String, Vec<(u16, Value)>>,
    rid: u64,
    /// How often it asked for its twin.
    pub(super) asked: u32,
    /// How often its token ended while it was connected.
    pub(super) expired: u32,
    /// How often it was given its twin.
    pub(super) ups: u32,
    /// When it sent reported patches.
    pub(super) patched: Vec<Instant>,
    /// How often it was silent for longer than it promised.
    pub(super) overslept: u32,
}

enum Push {
    Bytes(Vec<u8>),
    Close,
    /// Hold the connection and say and take nothing any more.
    Hang,
}

impl Cloud {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            began: Instant::now(),
            weather: Weather::Fine,
            gets: Reaction::Normal,
            patches: Reaction::Normal,
            attempts: Vec::new(),
            devices: BTreeMap::new(),
            serial: 0,
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The hub's clock.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp(EPOCH * 1000 + self.state().began.elapsed().as_millis() as u64)
    }

    /// The way of a device to this hub.
    pub(super) fn dial(&self, identity: Identity, settings: Settings) -> Box<dyn Dial> {
        Box::new(Wire { cloud: self.clone(), identity, settings: Arc::new(settings) })
    }

    /// Changes desired properties.
    pub(super) fn desire(&self, id: &str, mut patch: Value) {
        let mut state = self.state();
        let device = state.devices.entry(id.to_owned()).or_default();
        merge(&mut device.desired, patch.as_object().unwrap());
        device.version += 1;
        patch["$version"] = device.version.into();
        let topic = format!("$iothub/twin/PATCH/properties/desired/?$version={}", device.version);
        device.push(Push::Bytes(publish(0x30, &topic, None, patch.to_string().as_bytes())));
    }

    /// Calls a method; its request id, if the device is there.
    pub(super) fn call(&self, id: &str, method: &str, payload: &str) -> Option<String> {
        let mut state = self.state();
        let device = state.devices.get_mut(id)?;
        device.rid += 1;
        let rid = format!("{:x}", device.rid);
        let topic = format!("$iothub/methods/POST/{method}/?$rid={rid}");
        device.push(Push::Bytes(publish(0x30, &topic, None, payload.as_bytes()))).then_some(rid)
    }

    pub(super) fn reported(&self, id: &str) -> Value {
        let state = self.state();
        state.devices.get(id).map_or(Value::Null, |device| Value::Object(device.reported.clone()))
    }

    /// How often a device was given its twin.
    pub(super) fn ups(&self, id: &str) -> u32 {
        self.state().devices.get(id).map_or(0, |device| device.ups)
    }

    pub(super) fn is_connected(&self, id: &str) -> bool {
        self.state().devices.get(id).is_some_and(|device| device.link.is_some())
    }

    /// Closes the connection of a device.
    pub(super) fn drop_link(&self, id: &str) {
        if let Some(device) = self.state().devices.get_mut(id) {
            device.push(Push::Close);
        }
    }

    pub(super) fn drop_all(&self) {
        for device in self.state().devices.values_mut() {
            device.push(Push::Close);
        }
    }

    /// Lets the connection of a device hang half-open.
    pub(super) fn hang(&self, id: &str) {
        if let Some(device) = self.state().devices.get_mut(id) {
            device.push(Push::Hang);
        }
    }

    fn accept(&self) -> Result<DuplexStream, Lost> {
        let mut state = self.state();
        state.attempts.push(Instant::now());
        if state.weather == Weather::Refused {
            return Err(Lost::Unreachable { host: "hub".into(), detail: "refused".into() });
        }
        let (theirs, ours) = duplex(64 * 1024);
        drop(state);
        tokio::spawn(serve(self.clone(), ours));
        Ok(theirs)
    }
}

impl Device {
    fn push(&mut self, push: Push) -> bool {
        self.link.as_ref().is_some_and(|(_, link)| link.send(push).is_ok())
    }
}

/// Recursive merge as the hub does it, written down here once more.
fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else if let Value::Object(inner) = value {
            let place = target.entry(name.clone()).or_insert_with(|| json!({}));
            if !place.is_object() {
                *place = json!({});
            }
            merge(place.as_object_mut().unwrap(), inner);
        } else {
            target.insert(name.clone(), value.clone());
        }
    }
}

struct Wire {
    cloud: Cloud,
    identity: Identity,
    settings: Arc<Settings>,
}

impl Dial for Wire {
    fn open(&mut self, now: Timestamp) -> Opening<'_> {
        Box::pin(async move {
            let stream = self.cloud.accept()?;
            ready(stream, &self.identity, &self.settings, now).await
        })
    }

    fn device(&self) -> &str {
        &self.identity.device
    }
}

/// One connection.
async fn serve(cloud: Cloud, stream: DuplexStream) {
    let (mut reader, mut writer) = split(stream);
    let weather = cloud.state().weather;
    if weather == Weather::Silent {
        // Held until the other side has gone.
        while packet(&mut reader).await.is_some() {}
        return;
    }
    let Some((first, body)) = packet(&mut reader).await else { return };
    let connect = Connect::read(first, &body);
    let expiry: u64 = connect.password.rsplit_once("&se=").unwrap().1.parse().unwrap();
    let code = match weather {
        Weather::Says(code) => code,
        Weather::Fine | Weather::Refused | Weather::Silent | Weather::Late(_) | Weather::Deaf(_) => {
            if expiry * 1000 <= cloud.now().0 { 5 } else { 0 }
        }
    };
    if let Weather::Late(late) = weather {
        tokio::time::sleep(late).await;
    }
    if writer.write_all(&[0x20, 2, 0, code]).await.is_err() || code != 0 {
        return;
    }
    let id = connect.client;
    let (sender, pushes) = unbounded_channel();
    let (serial, ends) = {
        let mut state = cloud.state();
        state.serial += 1;
        let serial = state.serial;
        let ends = state.began + Duration::from_secs(expiry - EPOCH);
        let device = state.devices.entry(id.clone()).or_default();
        // One connection for an identity: the newest.
        device.push(Push::Close);
        device.link = Some((serial, sender));
        (serial, ends)
    };
    // Reading may not be given up in the middle of a packet.
    let (read, packets) = unbounded_channel();
    let reading = tokio::spawn(async move {
        while let Some(packet) = packet(&mut reader).await {
            if read.send(packet).is_err() {
                break;
            }
        }
    });
    let patience = Duration::from_millis(u64::from(connect.keep_alive) * 1500);
    let mut link = Link { cloud: cloud.clone(), id: id.clone(), writer, filters: 0 };
    link.run(packets, pushes, patience, ends).await;
    reading.abort();
    let mut state = cloud.state();
    let device = state.devices.get_mut(&id).unwrap();
    device.link.take_if(|(current, _)| *current == serial);
}

struct Link {
    cloud: Cloud,
    id: String,
    writer: WriteHalf<DuplexStream>,
    filters: usize,
}

impl Link {
    async fn run(
        &mut self,
        mut packets: UnboundedReceiver<(u8, Vec<u8>)>,
        mut pushes: UnboundedReceiver<Push>,
        patience: Duration,
        ends: Instant,
    ) {
        let mut heard = Instant::now();
        let mut hangs = false;
        loop {
            tokio::select! {
                push = pushes.recv() => match push {
                    Some(Push::Bytes(bytes)) if !hangs => {
                        // Nothing but the answers to twin requests before everything is subscribed.
                        if self.filters == 3 && self.writer.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                    Some(Push::Bytes(_)) => {}
                    Some(Push::Hang) => hangs = true,
                    Some(Push::Close) | None => return,
                },
                packet = packets.recv() => {
                    let Some((first, body)) = packet else { return };
                    heard = Instant::now();
                    if !hangs && !self.take(first, &body).await {
                        return;
                    }
                }
                () = sleep_until(ends), if !hangs => {
                    self.cloud.state().devices.get_mut(&self.id).unwrap().expired += 1;
                    return;
                }
                () = sleep_until(heard + patience), if !hangs => {
                    self.cloud.state().devices.get_mut(&self.id).unwrap().overslept += 1;
                    return;
                }
            }
        }
    }

    /// `false` ends the connection.
    async fn take(&mut self, first: u8, body: &[u8]) -> bool {
        let answer = match first {
            0x82 => {
                let refused = self.cloud.state().weather == Weather::Deaf(self.filters);
                self.filters += 1;
                vec![0x90, 3, body[0], body[1], if refused { 0x80 } else { 1 }]
            }
            0xc0 => vec![0xd0, 0],
            0x40 => return true,
            0xe0 => return false,
            _ => return self.publish(first, body).await,
        };
        self.writer.write_all(&answer).await.is_ok()
    }

    async fn publish(&mut self, first: u8, body: &[u8]) -> bool {
        let (topic, payload, id) = message(first, body);
        if let Some(id) = id {
            let [high, low] = id.to_be_bytes();
            if self.writer.write_all(&[0x40, 2, high, low]).await.is_err() {
                return false;
            }
        }
        if let Some(rid) = topic.strip_prefix("$iothub/twin/GET/?$rid=") {
            assert_eq!(self.filters, 3, "the twin is asked for when everything is subscribed");
            let reaction = {
                let mut state = self.cloud.state();
                state.devices.get_mut(&self.id).unwrap().asked += 1;
                state.gets
            };
            return self.answer(reaction, rid, |device| {
                device.ups += 1;
                let mut desired = device.desired.clone();
                desired.insert("$version".into(), device.version.into());
                (200, json!({"desired": desired, "reported": device.reported}).to_string())
            });
        }
        if let Some(rid) = topic.strip_prefix("$iothub/twin/PATCH/properties/reported/?$rid=") {
            let patch: Value = serde_json::from_str(&payload).unwrap();
            let reaction = self.cloud.state().patches;
            self.cloud.state().devices.get_mut(&self.id).unwrap().patched.push(Instant::now());
            return self.answer(reaction, rid, |device| {
                merge(&mut device.reported, patch.as_object().unwrap());
                (204, String::new())
            });
        }
        let rest = topic.strip_prefix("$iothub/methods/res/").expect(&topic);
        let (status, rid) = rest.split_once("/?$rid=").unwrap();
        let answer = (status.parse().unwrap(), serde_json::from_str(&payload).unwrap_or_default());
        let mut state = self.cloud.state();
        let device = state.devices.get_mut(&self.id).unwrap();
        device.answers.entry(rid.to_owned()).or_default().push(answer);
        true
    }

    /// Carries out and answers, or not. By way of the pushes, so that nothing here waits.
    fn answer(&self, reaction: Reaction, rid: &str, act: impl FnOnce(&mut Device) -> (u16, String)) -> bool {
        let mut state = self.cloud.state();
        let device = state.devices.get_mut(&self.id).unwrap();
        let bytes = |status: u16, rid: &str, payload: &str| {
            let topic = format!("$iothub/twin/res/{status}/?$rid={rid}&$version=7");
            Push::Bytes(publish(0x30, &topic, None, payload.as_bytes()))
        };
        if let Reaction::Fails(status) = reaction {
            return device.push(bytes(status, rid, r#"{"errorCode":1,"message":"fault"}"#));
        }
        if reaction == Reaction::CutBefore {
            return false;
        }
        let (status, payload) = act(device);
        match reaction {
            Reaction::Normal => device.push(bytes(status, rid, &payload)),
            Reaction::Twice => {
                device.push(bytes(status, rid, &payload)) && device.push(bytes(status, rid, &payload))
            }
            Reaction::OtherRid => device.push(bytes(status, "somebody-elses", &payload)),
            Reaction::Silence => true,
            Reaction::Cut | Reaction::CutBefore | Reaction::Fails(_) => false,
        }
    }
}
