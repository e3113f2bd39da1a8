//! The journal's catalog as roff: each kind of entry with its id, and what it means to an operator.

use anyhow::{Context as _, Result, ensure};
use twinboot::events::catalog;

use crate::prose::{bold, paragraph};

/// Every kind of entry, in the order of the ids in the code.
///
/// # Errors
///
/// The catalog does not explain just the ids that the code has.
pub(crate) fn list(text: &str) -> Result<String> {
    let explained: Vec<_> = text.split("\n-- ").skip(1).collect();
    ensure!(explained.len() == catalog::ALL.len(), "the catalog explains {} entries", explained.len());
    let mut roff = String::new();
    for (name, id) in catalog::ALL {
        let body = explained.iter().find_map(|it| it.strip_prefix(*id)?.strip_prefix("\nSubject: "));
        let body = body.with_context(|| format!("the catalog does not explain {name}"))?;
        let (subject, advice) =
            body.split_once("\nDefined-By: twinboot\n\n").context("Defined-By is missing")?;
        let (subject, advice) = (paragraph(subject), paragraph(&advice.trim_end().replace('\n', " ")));
        roff.push_str(&format!(".TP\n{} \\- {subject}\nMESSAGE_ID={id}\n.br\n{advice}\n", bold(name)));
    }
    Ok(roff)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::list;

    #[test]
    fn an_entry_that_is_not_explained_is_an_error() {
        let text = include_str!("../../twinboot.catalog");
        list(text).unwrap();
        let other = text.replace("Subject: An update waits", "Summary: An update waits");
        assert_eq!(list(&other).unwrap_err().to_string(), "the catalog does not explain GATE_WAITING");
        let (fewer, _) = text.rsplit_once("\n-- ").unwrap();
        assert!(list(fewer).is_err());
    }
}
