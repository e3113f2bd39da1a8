//! Where lines go: to the journal with all their fields, or to standard error as plain sentences.

use std::fmt;
use std::io;
use std::os::fd::AsFd as _;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

use crate::model::LogLevel;

/// The name in front of our lines in the journal.
const IDENTIFIER: &str = "twinboot";

/// Starts writing lines: to the journal if `journal` and it answers, else to standard error. `verbose` adds the
/// adapters' debug lines. To be called once, first thing; a second call changes nothing.
pub fn init(journal: bool, verbose: bool) -> Verbosity {
    let registry = tracing_subscriber::registry();
    let (filter, handle) = reload::Layer::new(ours(if verbose { LogLevel::Debug } else { LogLevel::Info }));
    let layer = journal.then(tracing_journald::layer).and_then(Result::ok);
    // Already started is the one error there is, and the lines are being written then.
    let _ = match layer {
        Some(layer) => registry.with(to_journal(layer).with_filter(filter)).try_init(),
        None => registry.with(to_lines(io::stderr).with_filter(filter)).try_init(),
    };
    Verbosity(Some(handle))
}

/// Changes how much is written, while it is being written. The default one changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Verbosity(Option<reload::Handle<Targets, Registry>>);

impl Verbosity {
    /// From now on write what is as bad as `level`, or worse.
    pub fn set(&self, level: LogLevel) {
        if let Some(handle) = &self.0 {
            // It fails only if nothing is written any more.
            let _ = handle.reload(ours(level));
        }
    }
}

/// Whether our standard error is a stream to the journal (`$JOURNAL_STREAM`, systemd.exec(5)).
pub fn journal_is_connected() -> bool {
    let Ok(stderr) = rustix::fs::fstat(io::stderr().as_fd()) else { return false };
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    stream == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}

/// Only our own lines: an HTTP library's debug lines hold whole addresses, and so their tokens.
fn ours(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_target(IDENTIFIER, level)
}

/// Fields without a prefix, or `MESSAGE_ID` would not be one; levels as syslog has them.
fn to_journal(layer: tracing_journald::Layer) -> tracing_journald::Layer {
    let priorities =
        PriorityMappings { info: Priority::Informational, debug: Priority::Debug, ..PriorityMappings::new() };
    layer.with_field_prefix(None).with_syslog_identifier(IDENTIFIER.into()).with_priority_mappings(priorities)
}

/// A line that cannot be written is lost. Saying so on standard error would panic when that is what is broken.
pub(super) fn to_lines<S, W>(writer: W) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer().event_format(Plain).with_writer(writer).log_internal_errors(false)
}

/// `time level: message name=value`: the level only where it matters, and the journal's own fields (in capitals) not
/// at all, since the message says them in words.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        SystemTime.format_time(&mut writer)?;
        writer.write_str(match *event.metadata().level() {
            Level::ERROR => " error: ",
            Level::WARN => " warning: ",
            Level::INFO => " ",
            Level::DEBUG | Level::TRACE => " debug: ",
        })?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        writeln!(writer, "{}{}", fields.message, fields.others)
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Fields {
    fn add(&mut self, field: &Field, value: String) {
        let value = super::Line(&value).to_string();
        match field.name() {
            "message" => self.message = value,
            name if name.bytes().any(|b| b.is_ascii_lowercase()) => {
                self.others.push_str(&format!(" {name}={value}"));
            }
            _ => {}
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}
