//! The device's key, its tokens and the tokens of storage must be seen nowhere.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::support::{Checked, Happening, Slot};
use super::{Bench, LIMIT, V2};

/// What the kernel shows of the daemon's processes to whoever may look.
fn shown_by_the_kernel(bench: &Bench) -> Checked<Vec<(&'static str, String)>> {
    let mut shown = Vec::new();
    for process in [bench.device.process(), bench.device.network_process()].into_iter().flatten() {
        for name in ["cmdline", "environ", "comm", "status", "mountinfo"] {
            let bytes = fs::read(format!("/proc/{process}/{name}"))?;
            shown.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
        // Memory is for nobody to see: it leaves no core.
        let limits = fs::read_to_string(format!("/proc/{process}/limits"))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap_or_default();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
    assert!(shown.len() >= 5, "there was no process to look at");
    Ok(shown)
}

#[test]
fn p119_no_secret_leaves_the_daemon_or_lies_about() -> Checked {
    let bench = Bench::new()?;
    let token = "sig=c2VjcmV0IHRva2Vu";
    let image = bench.publish("2.0.0", &V2);
    let mut desired = image.desired();
    desired["fwPackageURI"] = format!("{}?sv=2026&{token}", image.url).into();
    // Interrupted, refused and resumed: errors quote most.
    let images = bench.cloud.emulator.images();
    images.fault_once(&image.name, hub_emulator::FaultKind::Status { status: 503, retry_after: None });
    images.fault_once(&image.name, hub_emulator::FaultKind::DropAfter { bytes: 1 << 20 });
    bench.cloud.desire(desired.clone())?;
    bench.runs("2.0.0")?;
    bench.settled(Slot::B, &V2)?;
    assert_eq!(bench.cloud.requests(&image).len(), 3);
    let (_, shown) = bench.device.command(&["status", "--json"])?;
    // And one that fails for good, with its address in the last word.
    desired["fwVersion"] = "3.0.0".into();
    desired["fwPackageURI"] = format!("{}-none?{token}", image.url).into();
    bench.cloud.desire(desired)?;
    let failed = bench.reports("the failure", |it| it["fwUpdateStatus"] == "error")?;
    bench.device.wait_status("the failure", 0, LIMIT, |status| status["last"]["outcome"] == "failed")?;
    let shown_by_the_kernel = shown_by_the_kernel(&bench)?;
    bench.device.stop_daemon()?;

    let key = bench.cloud.key()?;
    let secrets = [key.as_str(), "c2VjcmV0IHRva2Vu", "SharedAccessSignature", "SharedAccessKey"];
    let absent = |what: &str, text: &str| {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret:?} is in {what}: {text}");
        }
    };
    absent("the command line's output", &shown);
    absent("the report", &failed.to_string());
    for (name, text) in &shown_by_the_kernel {
        absent(name, text);
    }
    let mut lines = 0;
    for entry in bench.device.since(0) {
        // With --verbose: also what the adapters write for developers.
        if let Happening::Said(line) = &entry.what {
            lines += 1;
            absent("a line of the daemon's", line);
        }
        if let Happening::Status(status) = &entry.what {
            absent("the status", &status.to_string());
        }
    }
    assert!(lines > 50, "only {lines} lines were looked at");
    let mut files = 0;
    for entry in fs::read_dir(bench.device.path("state"))? {
        let path = entry?.path();
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        files += 1;
        if text.contains(token) {
            // The record must know the address to go on after a power cut; then it is for root alone.
            assert!(
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("record")),
                "{path:?}"
            );
            assert_eq!(path.metadata()?.permissions().mode() & 0o077, 0, "{path:?}");
        }
        absent("the state directory", &text.replace(token, ""));
    }
    assert!(files >= 2, "only {files} files were looked at");
    Ok(())
}
