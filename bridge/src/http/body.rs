//! A request's body: what it is announced as, and reading it within bounds.

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::{
    config::Limits,
    deadline::within,
    http::{headers, respond::Refusal},
};

/// Refuses a body that is not announced as plain JSON.
pub(super) fn check_type(headers: &HeaderMap) -> Result<(), Refusal> {
    if !headers::is_json(headers) {
        return Err(Refusal::ContentType);
    }
    if headers::is_encoded(headers) {
        return Err(Refusal::ContentEncoding);
    }
    Ok(())
}

/// Reads all of it, unless it is too long or takes too long.
pub(super) async fn read<B>(headers: &HeaderMap, body: B, limits: &Limits) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let max_bytes = limits.max_body_bytes;
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > max_bytes as u64) {
        return Err(Refusal::TooLarge { max_bytes });
    }
    match within(limits.body_timeout, Limited::new(body, max_bytes).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge { max_bytes }),
        Ok(Err(_)) => Err(Refusal::BrokenBody),
        Err(_) => Err(Refusal::TooSlow),
    }
}
