//! Events as lines of text: `time LEVEL target: message name=value …`.
//!
//! A subscriber of its own, because this program has no spans: the registry and the formatting layer,
//! which are made for them, take three times the instructions for the one line of every request.

use std::{
    cell::Cell,
    fmt::{Debug, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::Interest,
};
use tracing_subscriber::filter::Targets;

use super::Lines;

/// Writes the events that pass its filter; whatever else asks to be a span is none.
pub(super) struct Text {
    filter: Targets,
    level: LevelFilter,
    lines: Lines,
}

impl Text {
    /// Events that `filter` lets through, of which none is above `level`, as lines into `lines`.
    pub(super) fn new(filter: Targets, level: LevelFilter, lines: Lines) -> Self {
        Self { filter, level, lines }
    }
}

impl Subscriber for Text {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // The filter looks at nothing that changes.
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.filter.would_enable(metadata.target(), metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        // Taken and not borrowed: what is shown may log, too.
        let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
        scratch.write(event, SystemTime::now(), self.lines.0.ansi);
        self.lines.0.push(scratch.line.as_bytes());
        // Only a thread that is ending has nowhere to keep it.
        let _ = SCRATCH.try_with(|kept| kept.set(scratch));
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// What one thread keeps from line to line.
#[derive(Default)]
struct Scratch {
    line: String,
    /// The second that `date` is the text of.
    second: u64,
    /// RFC 3339 in UTC without fraction and offset; empty before the first line.
    date: String,
}

impl Scratch {
    fn write(&mut self, event: &Event<'_>, now: SystemTime, ansi: bool) {
        self.line.clear();
        let (level, target) = (event.metadata().level(), event.metadata().target());
        if ansi {
            self.line.push_str(DIM);
            self.write_time(now);
            self.line.extend([PLAIN, " ", color(*level), name(*level), PLAIN, " "]);
            self.line.extend([DIM, target, PLAIN, DIM, ":", PLAIN, " "]);
        } else {
            self.write_time(now);
            self.line.extend([" ", name(*level), " ", target, ": "]);
        }
        event.record(&mut Fields { line: &mut self.line, begun: false });
    }

    /// RFC 3339 in UTC with microseconds.
    fn write_time(&mut self, now: SystemTime) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() || self.date.is_empty() {
            self.second = since.as_secs();
            self.date = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
            self.date.pop();
        }
        self.line.push_str(&self.date);
        self.line.push('.');
        push_number(&mut self.line, since.subsec_micros().into(), 6);
        self.line.push('Z');
    }
}

/// Appends `number` in decimal, with zeros before it up to `width` digits, at least one.
fn push_number(line: &mut String, mut number: u64, width: usize) {
    let mut digits = [b'0'; MAX_DIGITS];
    let mut start = MAX_DIGITS;
    while number > 0 {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let start = start.min(MAX_DIGITS - width);
    line.push_str(std::str::from_utf8(&digits[start..]).expect("digits are ASCII"));
}

/// Of the largest `u64`.
const MAX_DIGITS: usize = 20;

/// Writes an event's fields with one space between them: `name=value`, texts in quotes, the message
/// without its name.
struct Fields<'l> {
    line: &'l mut String,
    begun: bool,
}

impl Fields<'_> {
    /// Writes what comes before a field's value.
    fn begin(&mut self, field: &Field) -> &mut String {
        if std::mem::replace(&mut self.begun, true) {
            self.line.push(' ');
        }
        if field.name() != "message" {
            self.line.push_str(field.name());
            self.line.push('=');
        }
        self.line
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, text: &str) {
        let harmless = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
        // All are looked at, because that takes many bytes at a time.
        if text.bytes().fold(true, |all, byte| all & harmless(byte)) {
            let line = self.begin(field);
            line.push('"');
            line.push_str(text);
            line.push('"');
        } else {
            self.record_debug(field, &text);
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // Times, which have three places; searching for the shortest form costs more than the rest.
        const LARGEST: f64 = 1e9;
        let thousandths = value * 1000.0;
        let rounded = (thousandths + 0.5) as u32;
        if (0.0..LARGEST).contains(&thousandths) && f64::from(rounded) / 1000.0 == value && value.is_sign_positive() {
            let line = self.begin(field);
            push_number(line, (rounded / 1000).into(), 1);
            line.push('.');
            push_number(line, (rounded % 1000).into(), 3);
            let end = line.trim_end_matches('0').len();
            // One place stays, as in `5.0`.
            line.truncate(if line[..end].ends_with('.') { end + 1 } else { end });
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        push_number(self.begin(field), value, 1);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // A String takes every write.
        let _ = self.begin(field).write_fmt(format_args!("{value:?}"));
    }
}

// The colours that tracing's subscribers have.
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

fn color(level: Level) -> &'static str {
    match level {
        Level::TRACE => "\u{1b}[35m",
        Level::DEBUG => "\u{1b}[34m",
        Level::INFO => "\u{1b}[32m",
        Level::WARN => "\u{1b}[33m",
        Level::ERROR => "\u{1b}[31m",
    }
}

/// Five characters, so that targets stand below each other.
fn name(level: Level) -> &'static str {
    match level {
        Level::TRACE => "TRACE",
        Level::DEBUG => "DEBUG",
        Level::INFO => " INFO",
        Level::WARN => " WARN",
        Level::ERROR => "ERROR",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing_subscriber::{
        fmt::{self, format::Writer, time::FormatTime},
        layer::SubscriberExt as _,
    };

    use super::*;

    /// What `event` leaves in a queue.
    fn line(ansi: bool, event: impl FnOnce()) -> String {
        let lines = Lines::new(false, ansi);
        crate::telemetry::switch_on_all_events();
        let filter = Targets::new().with_default(LevelFilter::TRACE);
        tracing::subscriber::with_default(Text::new(filter, LevelFilter::TRACE, lines.clone()), event);
        let bytes = std::mem::take(&mut crate::sync::Locked::locked(&lines.0.state).lines);
        String::from_utf8(bytes).expect("UTF-8")
    }

    struct NoTime;

    impl FormatTime for NoTime {
        fn format_time(&self, out: &mut Writer<'_>) -> std::fmt::Result {
            out.write_str("TIME")
        }
    }

    /// What tracing's own subscriber makes of `event`.
    fn theirs(ansi: bool, event: impl FnOnce()) -> String {
        let lines = Lines::new(false, ansi);
        let layer = fmt::layer().with_writer(lines.clone()).with_timer(NoTime).with_ansi(ansi);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), event);
        let bytes = std::mem::take(&mut crate::sync::Locked::locked(&lines.0.state).lines);
        String::from_utf8(bytes).expect("UTF-8")
    }

    /// `line` with `TIME` for its time.
    fn timeless(line: &str) -> String {
        let start = line.find("20").expect("a year");
        let end = line.find('Z').expect("the end of the time");
        format!("{}TIME{}", &line[..start], &line[end + 1..])
    }

    #[test]
    fn lines_look_as_those_of_tracings_own_subscriber() {
        let events: [fn(); 5] = [
            || tracing::error!("an {}", "error"),
            || tracing::warn!("a warning"),
            || tracing::info!("a note"),
            || tracing::debug!("a detail"),
            || tracing::trace!("too much"),
        ];
        for event in events {
            for ansi in [false, true] {
                assert_eq!(timeless(&line(ansi, event)), theirs(ansi, event));
            }
        }
        let fields = || {
            tracing::info!(
                signed = -3,
                unsigned = u64::MAX,
                zero = 0u8,
                ten = 10u32,
                yes = true,
                huge = 1u128 << 100,
                none = None::<u64>,
                text = "a \u{fc} \"b\" \\",
                debug = ?Some("x"),
                shown = %"x y",
                "what happened"
            );
        };
        assert_eq!(timeless(&line(false, fields)), theirs(false, fields));
    }

    #[test]
    fn times_are_the_same_from_second_to_second() {
        let mut scratch = Scratch::default();
        for (seconds, nanos) in
            [(0, 0), (0, 999_999_999), (1, 1_000), (1, 10_500), (951_782_400, 7), (951_782_400, 123_456_000), (3, 0)]
        {
            let time = UNIX_EPOCH + Duration::new(seconds, nanos);
            scratch.line.clear();
            scratch.write_time(time);
            assert_eq!(scratch.line, humantime::format_rfc3339_micros(time).to_string());
        }
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        let micros = (0..20_000).chain((0..1_000_000_000).step_by(999_983)).map(|micros| f64::from(micros) / 1000.0);
        let odd = [-0.0, -1.5, 0.1 + 0.2, 1e-9, 0.0005, 0.0004, 999_999.999, 1e6, 1e9, 1e16, 1e300, 5e-324];
        let line = line(false, || {
            for value in micros.clone().chain(odd).chain([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]) {
                tracing::info!(value, as_debug = ?value);
            }
        });
        for line in line.lines() {
            let (_, fields) = line.split_once(": value=").expect("the field");
            let (ours, theirs) = fields.split_once(" as_debug=").expect("the other field");
            assert_eq!(ours, theirs);
        }
    }
}
