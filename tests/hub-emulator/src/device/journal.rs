//! What happened to a device, in order, and waiting for what is to happen.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::loader::Slot;
use super::secrets::Secrets;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When.
    pub at: SystemTime,
    /// What.
    pub what: Happening,
}

/// What can happen to a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// The machine gets power.
    PowerOn,
    /// The bootloader has something to say.
    Loader(String),
    /// What was chosen does not boot; the machine resets.
    Hung(Slot),
    /// A system runs, of this version.
    Booted(Slot, String),
    /// A line of the daemon's.
    Said(String),
    /// The daemon's status, as its control socket told it.
    Status(Value),
    /// The daemon wants the machine to reboot.
    RebootRequested,
    /// The daemon was asked to end, and did, after this time.
    Stopped(Duration),
    /// The daemon was killed and the machine has no power.
    PowerCut,
    /// The daemon ended, though nobody asked it to; or the machine does not boot any more.
    Broken(String),
}

/// What a failed wait or check has to say; shown to people as it is. No [`std::error::Error`], so that every one of
/// those becomes one by `?`.
pub struct Failure(pub String);

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// A check's outcome.
pub type Checked<T = ()> = Result<T, Failure>;

/// Everything that happened, and who waits for more.
#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: Mutex<Entries>,
    /// How many are kept; all if none.
    keep: Option<usize>,
    changed: Condvar,
    listeners: Mutex<Vec<Sender<Entry>>>,
    secrets: Secrets,
    /// A secret was said.
    leaked: AtomicBool,
}

#[derive(Debug, Default)]
struct Entries {
    kept: Vec<Entry>,
    /// How many older ones there were.
    forgotten: usize,
}

impl Entries {
    fn len(&self) -> usize {
        self.forgotten + self.kept.len()
    }

    /// Those from number `from` on, as far as they are kept.
    fn since(&self, from: usize) -> &[Entry] {
        self.kept.get(from.saturating_sub(self.forgotten)..).unwrap_or_default()
    }
}

impl Journal {
    /// A journal that forgets all but so many entries, and breaks the device if one has any of `secrets` in it.
    pub(super) fn keeping(keep: Option<usize>, secrets: Secrets) -> Self {
        Self { keep, secrets, ..Self::default() }
    }

    /// Adds what happened now.
    pub(super) fn add(&self, what: Happening) {
        let leak = match &what {
            Happening::Said(line) => self.secrets.in_text(line),
            Happening::Status(status) => self.secrets.in_text(&status.to_string()),
            Happening::PowerOn
            | Happening::Loader(_)
            | Happening::Hung(_)
            | Happening::Booted(..)
            | Happening::RebootRequested
            | Happening::Stopped(_)
            | Happening::PowerCut
            | Happening::Broken(_) => None,
        };
        self.enter(what);
        if let Some(secret) = leak {
            self.leaked.store(true, Ordering::Relaxed);
            self.enter(Happening::Broken(format!("the daemon tells a secret: {secret}")));
        }
    }

    /// Whether the daemon told a secret.
    pub(super) fn leaked(&self) -> bool {
        self.leaked.load(Ordering::Relaxed)
    }

    fn enter(&self, what: Happening) {
        let entry = Entry { at: SystemTime::now(), what };
        let mut entries = self.lock();
        // Within the lock, so that listeners see the journal's order.
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.send(entry.clone()).is_ok());
        entries.kept.push(entry);
        // Now and then, rather than move all for each.
        if let Some(keep) = self.keep.filter(|keep| entries.kept.len() > 2 * keep) {
            let old = entries.kept.len() - keep;
            entries.kept.drain(..old);
            entries.forgotten += old;
        }
        drop(entries);
        self.changed.notify_all();
    }

    /// All that is still to come.
    pub(super) fn listen(&self) -> Receiver<Entry> {
        let (sender, receiver) = channel();
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Everything from entry number `from` on.
    pub(super) fn since(&self, from: usize) -> Vec<Entry> {
        self.lock().since(from).to_vec()
    }

    /// Waits until something that happened since entry number `from` is what `wanted` looks for.
    pub(super) fn wait<T>(
        &self,
        what: &str,
        from: usize,
        limit: Duration,
        mut wanted: impl FnMut(&Happening) -> Option<T>,
    ) -> Checked<T> {
        let deadline = Instant::now() + limit;
        let mut seen = from;
        let mut entries = self.lock();
        loop {
            for entry in entries.since(seen) {
                if let Some(found) = wanted(&entry.what) {
                    return Ok(found);
                }
                if let Happening::Broken(why) = &entry.what {
                    return Err(Failure(format!("waiting for {what}: {why}\n{}", tail(&entries.kept))));
                }
            }
            seen = entries.len().max(from);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure(format!("waited {limit:?} for {what}\n{}", tail(&entries.kept))));
            }
            entries = self.changed.wait_timeout(entries, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The end of the journal, for messages.
    pub(super) fn tail(&self) -> String {
        tail(&self.lock().kept)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tail(entries: &[Entry]) -> String {
    const LINES: usize = 40;
    let lines: Vec<_> = entries
        .iter()
        .filter(|entry| !matches!(entry.what, Happening::Status(_)))
        .map(|entry| format!("  {:?}", entry.what))
        .collect();
    let last = entries.iter().rev().find(|entry| matches!(entry.what, Happening::Status(_)));
    let status = last.map(|entry| format!("\n  {:?}", entry.what)).unwrap_or_default();
    format!("the device's journal ends:\n{}{status}", lines[lines.len().saturating_sub(LINES)..].join("\n"))
}
