//! MQTT 3.1.1 packets, as bytes: reading what a client may send and writing what a server may. Not sessions, not
//! topics. Called by `connection`. Source: OASIS MQTT Version 3.1.1.

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Connect(Connect),
    Publish(Publish),
    PubAck(u16),
    Subscribe { id: u16, filters: Vec<(String, u8)> },
    Unsubscribe { id: u16, filters: Vec<String> },
    PingReq,
    Disconnect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connect {
    pub(crate) client_id: String,
    pub(crate) clean_session: bool,
    /// Seconds; 0 is none.
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<(String, Vec<u8>)>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// 0 at QoS 0.
    pub(crate) id: u16,
}

/// Why bytes are no packet. The hub has one answer to all: it closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Longest packet that is read: the hub takes messages of 256 KiB, and topic and header come on top.
const LENGTH_LIMIT: usize = 300 * 1024;

/// The first packet in the buffer and how many bytes it took, or nothing if it is not all there yet.
pub(crate) fn decode(buffer: &[u8]) -> Result<Option<(Packet, usize)>, Malformed> {
    let Some((&first, rest)) = buffer.split_first() else { return Ok(None) };
    let Some((length, digits)) = remaining_length(rest)? else { return Ok(None) };
    if length > LENGTH_LIMIT {
        return Err(Malformed("the packet is too long"));
    }
    let start = 1 + digits;
    let Some(body) = buffer.get(start..start + length) else { return Ok(None) };
    let packet = body_of(first >> 4, first & 0x0F, Reader(body))?;
    Ok(Some((packet, start + length)))
}

pub(crate) fn connack(session_present: bool, code: u8) -> Vec<u8> {
    vec![0x20, 2, u8::from(session_present), code]
}

pub(crate) fn puback(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![0x40, 2, high, low]
}

/// 0x80 stands for a filter that is not granted.
pub(crate) fn suback(id: u16, granted: &[u8]) -> Vec<u8> {
    framed(0x90, &[&id.to_be_bytes(), granted])
}

pub(crate) fn unsuback(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![0xB0, 2, high, low]
}

pub(crate) fn pingresp() -> Vec<u8> {
    vec![0xD0, 0]
}

/// A message at QoS 0, which is how the hub sends everything that a twin or a method needs.
pub(crate) fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(topic.len()).unwrap_or(u16::MAX).to_be_bytes();
    framed(0x30, &[&length, topic.as_bytes(), payload])
}

/// A message at QoS 1; `again` marks one that may have been delivered before.
pub(crate) fn publish_to_acknowledge(topic: &str, payload: &[u8], id: u16, again: bool) -> Vec<u8> {
    let length = u16::try_from(topic.len()).unwrap_or(u16::MAX).to_be_bytes();
    let first = if again { 0x3A } else { 0x32 };
    framed(first, &[&length, topic.as_bytes(), &id.to_be_bytes(), payload])
}

fn framed(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = vec![first];
    loop {
        // Less than 128 by construction.
        let digit = (length % 128) as u8;
        length /= 128;
        out.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            break;
        }
    }
    out.extend(parts.concat());
    out
}

/// The length and how many bytes it was written in.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for digits in 1..=4 {
        let Some(&byte) = bytes.get(digits - 1) else { return Ok(None) };
        length |= usize::from(byte & 0x7F) << (7 * (digits - 1));
        if byte & 0x80 == 0 {
            return Ok(Some((length, digits)));
        }
    }
    Err(Malformed("the length has more than four digits"))
}

fn body_of(kind: u8, flags: u8, mut reader: Reader<'_>) -> Result<Packet, Malformed> {
    let expected_flags = match kind {
        3 => flags,
        8 | 10 => 2,
        _ => 0,
    };
    if flags != expected_flags {
        return Err(Malformed("reserved flags are set"));
    }
    let packet = match kind {
        1 => Packet::Connect(connect(&mut reader)?),
        3 => Packet::Publish(publish_body(flags, &mut reader)?),
        4 => Packet::PubAck(reader.u16()?),
        8 => Packet::Subscribe { id: reader.id()?, filters: reader.rest(|r| Ok((r.text()?, r.qos()?)))? },
        10 => Packet::Unsubscribe { id: reader.id()?, filters: reader.rest(Reader::text)? },
        12 => Packet::PingReq,
        14 => Packet::Disconnect,
        _ => return Err(Malformed("no client sends this kind of packet")),
    };
    if reader.0.is_empty() { Ok(packet) } else { Err(Malformed("bytes are left over")) }
}

fn connect(reader: &mut Reader<'_>) -> Result<Connect, Malformed> {
    if reader.text()? != "MQTT" || reader.u8()? != 4 {
        return Err(Malformed("the protocol is not MQTT 3.1.1"));
    }
    let flags = reader.u8()?;
    let on = |bit: u8| flags & bit != 0;
    if on(0x01) || (on(0x40) && !on(0x80)) {
        return Err(Malformed("the CONNECT flags contradict themselves"));
    }
    let keep_alive = reader.u16()?;
    let client_id = reader.text()?;
    let will = if on(0x04) { Some((reader.text()?, reader.binary()?.to_vec())) } else { None };
    let username = if on(0x80) { Some(reader.text()?) } else { None };
    let password = if on(0x40) { Some(reader.binary()?.to_vec()) } else { None };
    Ok(Connect { client_id, clean_session: on(0x02), keep_alive, will, username, password })
}

fn publish_body(flags: u8, reader: &mut Reader<'_>) -> Result<Publish, Malformed> {
    let qos = flags >> 1 & 3;
    if qos == 3 {
        return Err(Malformed("there is no QoS 3"));
    }
    let topic = reader.text()?;
    let id = if qos > 0 { reader.id()? } else { 0 };
    let payload = std::mem::take(&mut reader.0).to_vec();
    Ok(Publish { topic, payload, qos, retain: flags & 1 != 0, id })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed("the packet ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn id(&mut self) -> Result<u16, Malformed> {
        match self.u16()? {
            0 => Err(Malformed("a packet id is zero")),
            id => Ok(id),
        }
    }

    fn qos(&mut self) -> Result<u8, Malformed> {
        match self.u8()? {
            qos @ 0..=2 => Ok(qos),
            _ => Err(Malformed("there is no such QoS")),
        }
    }

    fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let text = std::str::from_utf8(self.binary()?).map_err(|_| Malformed("a text is not UTF-8"))?;
        if text.contains('\0') {
            return Err(Malformed("a text holds a zero"));
        }
        Ok(text.to_owned())
    }

    /// At least one item, up to the end.
    fn rest<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let mut items = vec![item(self)?];
        while !self.0.is_empty() {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// CONNECT as captured from a client library: clean=0, keep-alive 60, user name and password.
    const CONNECT: &[u8] = b"\x10\x18\x00\x04MQTT\x04\xC0\x00\x3C\x00\x04dev1\x00\x03u/d\x00\x01p";

    #[test]
    fn packets_of_clients_are_read() {
        let (packet, used) = decode(CONNECT).unwrap().unwrap();
        assert_eq!(used, CONNECT.len());
        let expected = Connect {
            client_id: "dev1".to_owned(),
            clean_session: false,
            keep_alive: 60,
            will: None,
            username: Some("u/d".to_owned()),
            password: Some(b"p".to_vec()),
        };
        assert_eq!(packet, Packet::Connect(expected));
        let subscribe = b"\x82\x0C\x00\x07\x00\x01a\x01\x00\x03b/#\x00";
        let filters = vec![("a".to_owned(), 1), ("b/#".to_owned(), 0)];
        assert_eq!(decode(subscribe).unwrap().unwrap().0, Packet::Subscribe { id: 7, filters });
        let publish = Publish { topic: "t".to_owned(), payload: b"xy".to_vec(), qos: 1, retain: true, id: 9 };
        assert_eq!(decode(b"\x33\x07\x00\x01t\x00\x09xy").unwrap().unwrap().0, Packet::Publish(publish));
        assert_eq!(decode(b"\xC0\x00\xE0\x00").unwrap().unwrap(), (Packet::PingReq, 2));
    }

    #[test]
    fn part_of_a_packet_is_waited_for_at_every_length() {
        for end in 0..CONNECT.len() {
            assert_eq!(decode(&CONNECT[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn malformed_packets_are_refused() {
        for bytes in [
            &b"\x10\x0C\x00\x04MQTT\x05\x02\x00\x3C\x00\x00"[..],
            b"\x10\x0C\x00\x04MQTT\x04\x40\x00\x3C\x00\x00",
            b"\x36\x05\x00\x01t\x00\x01",
            b"\x32\x05\x00\x01t\x00\x00",
            b"\x80\x05\x00\x07\x00\x00\x00",
            b"\x82\x02\x00\x07",
            b"\x30\x03\x00\x05t",
            b"\xC0\x01\x00",
            b"\xF0\x00",
            b"\x30\xFF\xFF\xFF\xFF\x01",
            b"\x30\xFF\xFF\xFF\x7F",
        ] {
            assert!(decode(bytes).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn long_messages_are_written_with_a_long_length() {
        let packet = publish("t", &[7; 200]);
        assert_eq!(packet[..6], [0x30, 0xCB, 0x01, 0, 1, b't']);
        assert_eq!(packet.len(), 3 + 203);
        assert_eq!(suback(7, &[0, 0x80]), [0x90, 4, 0, 7, 0, 0x80]);
        assert_eq!(publish_to_acknowledge("t", b"x", 258, false), *b"\x32\x06\x00\x01t\x01\x02x");
        assert_eq!(publish_to_acknowledge("t", b"x", 258, true)[0], 0x3A);
    }
}
