//! The effective configuration as TOML, for `twinboot check-config`.

use super::Config;

/// Every key under its section; one that a file set has a note where, one without a value is commented out.
pub(super) fn toml(config: &Config) -> String {
    let mut text = String::new();
    let mut current = "";
    config.clone().each(&mut |key, value| {
        let (section, name) = key.rsplit_once('.').expect("every key is in a section");
        if section != current {
            let gap = if current.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}[{section}]\n"));
            current = section;
        }
        let line = value.print().map_or_else(|| format!("#{name} ="), |value| format!("{name} = {value}"));
        let note = config.origin(key).map(|origin| format!("  # {origin}")).unwrap_or_default();
        text.push_str(&format!("{line}{}\n", note.replace(char::is_control, " ")));
    });
    text
}
