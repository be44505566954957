//! The fields of an event in a text line: `name=value`, texts in quotes.
//!
//! The subscriber's own formatter styles each field and escapes each character, which together cost
//! a tenth of a request.

use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FormatFields, format::Writer},
};

/// Writes fields with one space between them; the message without its name.
pub(super) struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, out: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line { out, begun: false, written: Ok(()) };
        fields.record(&mut line);
        line.written
    }
}

struct Line<'w> {
    out: Writer<'w>,
    begun: bool,
    written: fmt::Result,
}

impl Line<'_> {
    /// Writes one field; `value` writes what comes after its name.
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.written.is_ok() {
            self.written = self.try_field(field, value);
        }
    }

    fn try_field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) -> fmt::Result {
        if std::mem::replace(&mut self.begun, true) {
            self.out.write_char(' ')?;
        }
        if field.name() != "message" {
            self.out.write_str(field.name())?;
            self.out.write_char('=')?;
        }
        value(&mut self.out)
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, text: &str) {
        let harmless = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if text.bytes().all(harmless) {
            self.field(field, |out| {
                out.write_char('"')?;
                out.write_str(text)?;
                out.write_char('"')
            });
        } else {
            self.record_debug(field, &text);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |out| write!(out, "{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.field(field, |out| out.write_fmt(format_args!("{value:?}")));
    }
}
