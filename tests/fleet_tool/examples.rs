//! Every example of every help, run as it stands.

use std::path::Path;

use serde_json::json;

use super::tool::{Desk, PROGRAM, ran};

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
    all.push(help);
    all
}

#[test]
fn every_example_works_when_it_is_pasted() {
    let desk = Desk::new();
    desk.hub.create_device("gateway-001", json!({"devicetype": "gateway"})).unwrap();
    desk.hub.report("gateway-001", &json!({"firmware": {"currentFwVersion": "1.0.0"}})).unwrap();
    let helps = helps(&desk, &[]);
    let mut examples = 0;
    for help in &helps {
        let lines: Vec<_> = help.lines().filter(|line| line.starts_with("  twinboot-fleet ")).collect();
        assert!(!lines.is_empty() || help.contains("\nCommands:\n"), "no example in:\n{help}");
        for line in lines {
            let mut shell = desk.shell(line.trim());
            let path = Path::new(PROGRAM).parent().unwrap();
            shell.env("PATH", format!("{}:/usr/bin:/bin", path.display()));
            let ran = ran(shell.output().unwrap());
            assert_eq!(ran.status, 0, "{line}: {ran:#?}");
            examples += 1;
        }
    }
    assert!(examples >= helps.len(), "{examples} examples in {} helps", helps.len());
}
