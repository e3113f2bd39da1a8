//! Every example of every help, run as it stands.

use std::path::Path;

use hub_emulator::device::Recipe;
use serde_json::json;

use super::tool::{Desk, PROGRAM, Park, ran};

/// The helps of all commands, found by asking for them.
fn helps(desk: &Desk, command: &[&str]) -> Vec<String> {
    let help = desk.good(&[command, &["--help"]].concat());
    let commands =
        help.split_once("\nCommands:\n").map(|(_, rest)| rest.split("\n\n").next().unwrap_or_default());
    let mut all = Vec::new();
    for line in commands.unwrap_or_default().lines() {
        let name = line.split_whitespace().next().unwrap();
        all.extend(helps(desk, &[command, &[name]].concat()));
    }
    // In the order in which they are listed: what a command needs is done by those before it.
    all.insert(0, help);
    all
}

#[test]
fn every_example_works_when_it_is_pasted() {
    let mut park = Park::new(&["gateway-001"]);
    park.desk.hub.patch_twin("gateway-001", json!({"tags": {"site": "berlin"}})).unwrap();
    for version in ["2.0.0", "3.0.0"] {
        park.publish(&Recipe::good(version, 1 << 17));
    }
    let images = park.desk.hub.images().url("");
    let helps = helps(&park.desk, &[]);
    let mut examples = 0;
    for help in &helps {
        let lines: Vec<_> = help.lines().filter(|line| line.starts_with("  twinboot-fleet ")).collect();
        assert!(!lines.is_empty() || help.contains("\nCommands:\n"), "no example in:\n{help}");
        for line in lines {
            // Only the server of the images is another one, and nobody waits half a minute for the next look.
            let often = if help.contains("--every") { " --every 1s" } else { "" };
            let line = line.trim().replace("https://example.com/", &images) + often;
            let mut shell = park.desk.shell(&line);
            let path = Path::new(PROGRAM).parent().unwrap();
            shell.env("PATH", format!("{}:/usr/bin:/bin", path.display()));
            let boots = park.boots();
            let ran = ran(shell.output().unwrap());
            assert_eq!(ran.status, 0, "{line}: {ran:#?}");
            examples += 1;
            // Who asks for a reboot, or a reset that ends in one, has the answer before it begins.
            let reboots = line.contains(" reboot ") || line.contains(" factory-reset ");
            if reboots && !line.contains(" --at ") {
                park.rebooted(&boots);
            }
            park.idle();
        }
    }
    assert!(examples >= helps.len(), "{examples} examples in {} helps", helps.len());
}
