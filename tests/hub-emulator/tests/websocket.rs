//! Devices through a WebSocket on the HTTPS port.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};
use support::websocket::{HEADERS, WebSocket, ask};
use support::*;

fn ready(emulator: &hub_emulator::Emulator, piece: usize) -> Device {
    let mut socket = WebSocket::open(emulator);
    socket.piece = piece;
    let (mut device, connack) = Device::over(Box::new(socket), "dev", &dialect(emulator, "dev"));
    assert_eq!(connack[1], 0);
    for filter in [TWIN, DESIRED, METHODS] {
        assert_eq!(device.subscribe(filter, 1), [1]);
    }
    device
}

#[test]
fn a_device_does_the_same_through_a_websocket_whatever_the_frames() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    for (round, piece) in [1, 7, usize::MAX].into_iter().enumerate() {
        let mut device = ready(&emulator, piece);
        assert_eq!(device.twin()["desired"]["round"].as_u64(), (round as u64).checked_sub(1));
        assert_eq!(
            device.report(&json!({"piece": piece.min(9)})).0.split('?').next().unwrap(),
            "$iothub/twin/res/204/"
        );
        emulator.patch_twin("dev", json!({"properties": {"desired": {"round": round}}})).unwrap();
        assert_eq!(device.json().1["round"], round);
        device.publish("devices/dev/messages/events/", &[b'x'; 1000]);
        assert_eq!(emulator.twin("dev")["properties"]["reported"]["piece"], piece.min(9));
    }
    assert!(emulator.wait_for(|hub| hub.telemetry_count("dev") == 3, PATIENCE));
}

#[test]
fn packets_share_a_frame_and_pings_of_the_websocket_are_answered() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let mut socket = WebSocket::open(&emulator);
    socket.frame(0x89, b"are you there");
    let mut device = Device::over(Box::new(socket), "dev", &dialect(&emulator, "dev")).0;
    // Two pings in one frame.
    device.stream.write_all(&[0xC0, 0, 0xC0, 0]).unwrap();
    let mut answers = [0; 4];
    device.stream.read_exact(&mut answers).unwrap();
    assert_eq!(answers, [0xD0, 0, 0xD0, 0]);
    drop(device);
    let mut socket = WebSocket::open(&emulator);
    socket.frame(0x89, b"are you there");
    socket.frame(0x88, &1000_u16.to_be_bytes());
    assert_eq!(socket.read(&mut [0]).unwrap(), 0);
    assert_eq!(socket.control, [0x8A, 0x88]);
}

#[test]
fn a_long_message_passes_and_a_text_is_the_end() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let mut device = ready(&emulator, usize::MAX);
    device.publish("devices/dev/messages/events/", &[b'x'; 250 * 1024]);
    assert!(emulator.wait_for(|hub| hub.telemetry_count("dev") == 1, PATIENCE));
    let mut socket = WebSocket::open(&emulator);
    socket.frame(0x81, b"no MQTT");
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn a_newer_connection_ends_the_older_on_either_transport() {
    let emulator = start();
    emulator.create_device("dev", Value::Null).unwrap();
    let mut plain = Device::connect(&emulator, "dev");
    let mut through = ready(&emulator, usize::MAX);
    assert!(plain.is_closed());
    let _plain = Device::connect(&emulator, "dev");
    assert!(through.is_closed());
}

#[test]
fn what_is_no_websocket_is_told_so_and_the_service_is_next_door() {
    let emulator = start();
    for (left_out, status) in [(0, 400), (1, 400), (2, 426), (3, 400), (4, 400)] {
        let headers: Vec<&str> = HEADERS
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != left_out)
            .map(|(_, line)| *line)
            .collect();
        let answer = ask(dial(&emulator, emulator.https_port()), &headers).1;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{left_out}: {answer}");
    }
    assert_eq!(owner(&emulator).get("/statistics/devices").status, 200);
}
