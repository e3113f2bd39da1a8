//! Who may come in, as the command line says: devices, authorities, enrolments. Prints what they need. What an earlier
//! start has kept stays as it is.

use hub_emulator::{Code, Emulator};
use serde_json::Value;

use crate::arguments::Arguments;

/// Makes what is not there yet.
pub(crate) fn admit(emulator: &Emulator, arguments: &Arguments) -> Result<(), String> {
    for device in &arguments.device {
        let created = match &device.thumbprints {
            None => emulator.create_device_with_key(&device.id, device.key.as_deref(), device.tags.clone()),
            Some(thumbprints) => {
                let thumbprints: Vec<&str> = thumbprints.iter().map(String::as_str).collect();
                emulator.create_x509_device(&device.id, &thumbprints, device.tags.clone())
            }
        };
        let created = match created {
            Err(error) if error.code == Code::AlreadyExists => emulator.device_connection_string(&device.id),
            created => created,
        };
        let text = created.map_err(|error| format!("device {}: {error}", device.id))?;
        println!("device connection string: {text}");
    }
    for path in &arguments.client_ca {
        let named = |why: String| format!("{}: {why}", path.display());
        let pem = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        emulator.add_ca(&pem).map_err(|error| named(error.to_string()))?;
    }
    enroll(emulator, arguments)
}

fn enroll(emulator: &Emulator, arguments: &Arguments) -> Result<(), String> {
    if !(arguments.enrollment.is_empty() && arguments.enrollment_group.is_empty()) {
        println!("id scope: {}", emulator.id_scope());
    }
    let known = emulator.provisioning();
    let find = |list: &str, name: &str, body: &Value| {
        known[list].as_array().into_iter().flatten().find(|one| one[name] == body[name]).cloned()
    };
    let tell = |kind: &str, id: &Value, document: &Value| {
        let key = &document["attestation"]["symmetricKey"]["primaryKey"];
        println!("{kind} {} key: {}", id.as_str().unwrap_or_default(), key.as_str().unwrap_or_default());
    };
    for body in &arguments.enrollment {
        let made = match find("enrollments", "registrationId", body) {
            Some(known) => known,
            None => emulator.create_enrollment(body.clone()).map_err(|error| error.to_string())?,
        };
        tell("enrolment", &made["registrationId"], &made);
    }
    for body in &arguments.enrollment_group {
        let made = match find("enrollmentGroups", "enrollmentGroupId", body) {
            Some(known) => known,
            None => emulator.create_enrollment_group(body.clone()).map_err(|error| error.to_string())?,
        };
        tell("enrolment group", &made["enrollmentGroupId"], &made);
    }
    Ok(())
}
