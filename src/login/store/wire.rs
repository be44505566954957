//! How a sign-in is written where secrets are kept: the only place that serialises one.
//!
//! One JSON object whose `version` is read before all else. Buffers with secrets are allocated once,
//! at their final size, and wiped.

use std::{
    borrow::Cow,
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use super::error::StoreError;
use crate::{
    login::record::{Client, Record},
    secret::Secret,
};

/// Counts up when a reader of the older format would misunderstand the newer one.
pub(super) const VERSION: u64 = 1;

#[derive(Deserialize)]
pub(super) struct Versioned {
    pub(super) version: u64,
}

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    version: u64,
    issuer: Cow<'a, str>,
    resource: Option<Cow<'a, str>>,
    #[serde(borrow)]
    client: WireClient<'a>,
    token_endpoint: Cow<'a, str>,
    revocation_endpoint: Option<Cow<'a, str>>,
    scopes: Vec<Cow<'a, str>>,
    subject: Option<Cow<'a, str>>,
    email: Option<Cow<'a, str>>,
    access_token: Cow<'a, str>,
    refresh_token: Option<Cow<'a, str>>,
    #[serde(with = "seconds")]
    expires_at: Option<SystemTime>,
}

#[derive(Serialize, Deserialize)]
struct WireClient<'a> {
    id: Cow<'a, str>,
    secret: Option<Cow<'a, str>>,
    secret_in_form: bool,
    redirect_uri: Option<Cow<'a, str>>,
}

/// Times as seconds since 1970: what a platform cannot hold was never going to come.
pub(super) mod seconds {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::{Duration, SystemTime, UNIX_EPOCH};

    pub(in super::super) fn serialize<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
        let seconds = Option::<u64>::deserialize(from)?;
        Ok(seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds))))
    }
}

/// Writes `record`.
pub(super) fn encode(record: &Record) -> Zeroizing<Vec<u8>> {
    let borrowed = |text: &'_ Option<String>| text.clone().map(Cow::Owned);
    let exposed = |secret| Option::<&Secret<String>>::map(secret, |secret| Cow::Borrowed(secret.expose().as_str()));
    let wire = Wire {
        version: VERSION,
        issuer: Cow::Borrowed(&record.issuer),
        resource: borrowed(&record.resource),
        client: WireClient {
            id: Cow::Borrowed(&record.client.id),
            secret: exposed(record.client.secret.as_ref()),
            secret_in_form: record.client.secret_in_form,
            redirect_uri: borrowed(&record.client.redirect_uri),
        },
        token_endpoint: Cow::Borrowed(record.token_endpoint.as_str()),
        revocation_endpoint: record.revocation_endpoint.as_ref().map(|url| Cow::Borrowed(url.as_str())),
        scopes: record.scopes.iter().map(|scope| Cow::Borrowed(scope.as_str())).collect(),
        subject: borrowed(&record.subject),
        email: borrowed(&record.email),
        access_token: Cow::Borrowed(record.access_token.expose()),
        refresh_token: exposed(record.refresh_token.as_ref()),
        expires_at: record.expires_at,
    };
    // A buffer that grows leaves copies behind that nobody wipes: so its size is found out first.
    let mut size = Counter(0);
    serde_json::to_writer(&mut size, &wire).expect("text and numbers are JSON");
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.0));
    serde_json::to_writer(&mut *bytes, &wire).expect("text and numbers are JSON");
    bytes
}

/// Reads what [`encode`] wrote; `what` names it in errors.
pub(super) fn decode(bytes: &[u8], what: &str) -> Result<Record, StoreError> {
    // serde_json's messages can quote what they stumbled over, and that may be a token.
    let damaged = |reason: &str| StoreError::Damaged {
        what: what.to_owned(),
        reason: reason.to_owned(),
        remedy: StoreError::SIGN_IN,
    };
    let Versioned { version } = serde_json::from_slice(bytes).map_err(|_| damaged("it is not a sign-in"))?;
    if version != VERSION {
        return Err(StoreError::Newer { what: what.to_owned(), found: version });
    }
    let wire: Wire<'_> = serde_json::from_slice(bytes).map_err(|_| damaged("it is incomplete"))?;
    let url = |text: &str| Url::parse(text).map_err(|_| damaged("an endpoint is not a URL"));
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    Ok(Record {
        token_endpoint: url(&wire.token_endpoint)?,
        revocation_endpoint: wire.revocation_endpoint.as_deref().map(url).transpose()?,
        issuer: wire.issuer.into_owned(),
        resource: owned(wire.resource),
        client: Client {
            id: wire.client.id.into_owned(),
            secret: owned(wire.client.secret).map(Secret::new),
            secret_in_form: wire.client.secret_in_form,
            redirect_uri: owned(wire.client.redirect_uri),
        },
        scopes: wire.scopes.into_iter().map(Cow::into_owned).collect(),
        subject: owned(wire.subject),
        email: owned(wire.email),
        access_token: Secret::new(wire.access_token.into_owned()),
        refresh_token: owned(wire.refresh_token).map(Secret::new),
        expires_at: wire.expires_at,
    })
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::store::tests::{full_record, record};

    #[test]
    fn what_is_written_is_read() {
        for record in [record("plain"), full_record("say \"hi\"\\\u{7f}é\n")] {
            let bytes = encode(&record);
            assert_eq!(bytes.capacity(), bytes.len(), "a buffer that grows leaves copies");
            let back = decode(&bytes, "x").expect("a sign-in");
            assert_eq!(encode(&back), bytes);
            assert_eq!(back.access_token.expose(), record.access_token.expose());
            assert_eq!(back.expires_at, record.expires_at);
        }
    }

    #[test]
    fn times_beyond_all_calendars_mean_no_end() {
        let mut record = record("t");
        record.expires_at = Some(UNIX_EPOCH + Duration::from_secs(77));
        let text = String::from_utf8(encode(&record).to_vec()).expect("JSON");
        let huge = text.replace("\"expires_at\":77", "\"expires_at\":18446744073709551615");
        assert_ne!(text, huge);
        assert_eq!(decode(huge.as_bytes(), "x").expect("a sign-in").expires_at, None);
    }

    #[test]
    fn errors_quote_no_secret() {
        let good = String::from_utf8(encode(&record("CANARY")).to_vec()).expect("JSON");
        let cases = [
            good.replace("\"version\":1", "\"version\":7"),
            good.replace("\"access_token\":\"CANARY\"", "\"access_token\":{\"CANARY\":1}"),
            good.replace("\"token_endpoint\":\"", "\"token_endpoint\":\"CANARY "),
            good[..good.len() - 3].to_owned(),
            "CANARY".to_owned(),
            String::new(),
        ];
        let mut said = String::new();
        for case in cases {
            let error = decode(case.as_bytes(), "the sign-in").expect_err(&case);
            assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
            said += &format!("{error}\n");
        }
        insta::assert_snapshot!(said, @"
        cannot read the sign-in: its format 7 was written by a newer version of this program; update it
        cannot read the sign-in: it is incomplete; sign in again
        cannot read the sign-in: an endpoint is not a URL; sign in again
        cannot read the sign-in: it is not a sign-in; sign in again
        cannot read the sign-in: it is not a sign-in; sign in again
        cannot read the sign-in: it is not a sign-in; sign in again
        ");
    }
}
