#![allow(clippy::unwrap_used)]

mod zones;

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A directory that stands for a machine, with these files.
fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let host = Host::new(Some(root.path().to_owned()));
    (root, host)
}

/// Written by another process: had this one the file open for writing while a neighbouring test forks, running it
/// would fail with "text file busy".
fn install_program(path: &Path, text: &str) {
    let mut writer = std::process::Command::new("/bin/sh");
    writer.args(["-c", "printf %s \"$1\" > \"$0\""]).arg(path).arg(text);
    assert!(writer.status().unwrap().success());
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn the_real_machine_knows_its_boot() {
    let host = Host::new(None);
    assert_eq!(host.boot_id().unwrap().0.len(), 36);
    assert_eq!(host.boot_id().unwrap(), host.boot_id().unwrap());
    let uptime: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((host.since_boot().as_secs_f64() - uptime).abs() < 5.0);
    assert!(host.suspended() < host.since_boot() && host.awake() <= host.since_boot());
}

#[test]
fn a_simulated_boot_began_when_its_file_says() {
    let booted = boottime().as_secs_f64() - 100.0;
    let (root, host) =
        machine(&[("proc/sys/kernel/random/boot_id", "0f1e-2d\n"), ("booted-at", &format!("{booted:.3}\n"))]);
    assert_eq!(host.boot_id().unwrap(), BootId("0f1e-2d".into()));
    let since = host.since_boot();
    assert!(since >= Duration::from_secs(99) && since < Duration::from_secs(200), "{since:?}");
    assert!(host.suspended() < Duration::from_secs(1), "this machine's sleep is not its own");
    let (now, then) = (host.wall_clock().unwrap(), host.boot_time().unwrap());
    assert!((99_000..200_000).contains(&(now.0 - then.0)));
    for damaged in ["", "soon", "-5", "NaN", "1e400"] {
        fs::write(root.path().join("booted-at"), damaged).unwrap();
        assert!(host.since_boot() < Duration::from_secs(60), "{damaged}");
    }
    fs::write(root.path().join("proc/sys/kernel/random/boot_id"), " \n").unwrap();
    assert_eq!(host.boot_id().unwrap_err().reason().failure, Failure::Internal);
}

#[test]
fn p134_a_clock_that_was_never_set_is_no_clock() {
    let floor = SystemTime::UNIX_EPOCH + Duration::from_millis(CLOCK_FLOOR.0);
    assert_eq!(CLOCK_FLOOR.to_string(), "2026-01-01T00:00:00.000Z");
    assert_eq!(plausible(floor), Some(CLOCK_FLOOR));
    assert_eq!(plausible(floor - Duration::from_millis(1)), None);
    assert_eq!(plausible(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), None);
}

#[test]
fn the_version_is_the_image_s_own_word() {
    let version = |files: &[(&str, &str)]| machine(files).1.image_version().map(|it| it.to_string());
    let etc = ("etc/os-release", "NAME=x\nIMAGE_VERSION=\"2.8.5\"\n");
    let vendor = ("usr/lib/os-release", "IMAGE_VERSION=2.8.4\n");
    assert_eq!(version(&[etc, vendor]).as_deref(), Some("2.8.5"));
    assert_eq!(version(&[vendor]).as_deref(), Some("2.8.4"));
    assert_eq!(version(&[("etc/os-release", "NAME=x\n"), vendor]), None);
    assert_eq!(version(&[("etc/os-release", "IMAGE_VERSION='two words'\n")]), None);
    assert_eq!(version(&[]), None);
}

#[test]
fn a_simulated_reboot_is_a_request_that_may_be_made_twice() {
    let (root, host) = machine(&[]);
    for argument in [None, Some("0 tryboot"), None] {
        block_on(host.reboot(argument)).unwrap();
        let request = fs::read_to_string(root.path().join("reboot-requested")).unwrap();
        assert_eq!(request, argument.unwrap_or_default());
    }
    let gone = Host::new(Some(root.path().join("gone")));
    assert_eq!(block_on(gone.reboot(None)).unwrap_err().reason().failure, Failure::RebootRefused);
}

#[test]
fn a_real_reboot_is_asked_of_systemctl_and_its_refusal_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let [systemctl, systemd_run, asked] =
        ["systemctl", "systemd-run", "asked"].map(|name| directory.path().join(name));
    // What it does beside running the rest, it does outside of our sandbox.
    let outside = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do printf '%s ' \"$1\"; shift; done >\"${0%/*}/outside\"\n\
                   shift; exec \"$@\"\n";
    install_program(&systemd_run, outside);
    let run = |script: &str, argument| {
        install_program(&systemctl, script);
        let systemctl = ["/nonexistent/systemctl", systemctl.to_str().unwrap()];
        block_on(reboot_by_systemctl(&systemctl, &[systemd_run.to_str().unwrap()], argument))
    };
    let note = format!("#!/bin/sh\nprintf '<%s>' \"$@\" > '{}'\n", asked.display());
    run(&note, None).unwrap();
    assert_eq!(fs::read_to_string(&asked).unwrap(), "<--no-block><--no-ask-password><reboot>");
    assert!(!directory.path().join("outside").exists());
    run(&note, Some("0 tryboot")).unwrap();
    let wanted = "<--no-block><--no-ask-password><reboot><--reboot-argument=0 tryboot>";
    assert_eq!(fs::read_to_string(&asked).unwrap(), wanted);
    let outside = fs::read_to_string(directory.path().join("outside")).unwrap();
    assert_eq!(outside, "--quiet --collect --wait --pipe --no-ask-password ");
    for argument in [None, Some("0 tryboot")] {
        let reason = run("#!/bin/sh\necho 'Access denied' >&2\nexit 4\n", argument).unwrap_err().reason();
        assert_eq!(reason.failure, Failure::RebootRefused);
        assert!(reason.detail.contains("exit status: 4: Access denied"), "{reason}");
    }
    let nobody = block_on(reboot_by_systemctl(&["/nonexistent/systemctl"], &[], None)).unwrap_err();
    assert_eq!(nobody.reason().failure, Failure::RebootRefused);
}

/// Runs itself again, since both the environment and core dumps are a whole process's matter.
#[test]
fn the_service_manager_is_told_and_core_dumps_are_forbidden() {
    const NAME: &str = "host::tests::the_service_manager_is_told_and_core_dumps_are_forbidden";
    const CHILD: &str = "TWINBOOT_TEST_OF_THE_SERVICE_MANAGER";
    if std::env::var_os(CHILD).is_some() {
        disable_core_dumps().unwrap();
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(service::watchdog_interval(), Some(Duration::from_secs(40)));
        service::ready();
        service::status("forged\nREADY=1");
        service::alive();
        service::stopping();
        return;
    }
    assert_eq!(service::watchdog_interval(), None);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", NAME])
        .env(CHILD, "1")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "120000000");
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    socket.set_nonblocking(true).unwrap();
    let mut told = Vec::new();
    let mut buffer = [0; 256];
    while let Ok(n) = socket.recv(&mut buffer) {
        told.push(String::from_utf8(buffer[..n].to_vec()).unwrap());
    }
    assert_eq!(told, ["READY=1\n", "STATUS=forged READY=1\n", "WATCHDOG=1\n", "STOPPING=1\n"]);
}
