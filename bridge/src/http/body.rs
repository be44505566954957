//! A request's body: what it is announced as, and reading it within bounds.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Response, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT},
    request::Parts,
};
use http_body::Frame;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::{
    config::Limits,
    deadline::within,
    http::{
        headers,
        respond::{self, Refusal},
    },
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

/// All data of `body`, which nearly always comes in one piece.
async fn whole<B: http_body::Body<Data = Bytes>>(mut body: Pin<&mut B>) -> Result<Bytes, B::Error> {
    // What is no data is a trailer.
    let data = |frame: Frame<Bytes>| frame.into_data().unwrap_or_default();
    let first = body.frame().await.transpose()?.map(data).unwrap_or_default();
    if body.is_end_stream() {
        return Ok(first);
    }
    let mut all = BytesMut::from(first);
    while let Some(frame) = body.frame().await {
        all.extend_from_slice(&data(frame?));
    }
    Ok(all.freeze())
}

/// Before `response` to a request that is refused, or answered without its body: lets what nobody has read
/// of that go by, or says that the connection ends here.
pub(super) async fn end_unread<B: http_body::Body<Data = Bytes>>(
    head: &Parts,
    body: Option<B>,
    refusal: Option<&Refusal>,
    response: &mut Response<respond::Body>,
) {
    let is_over = match body {
        // Who waits to be told to send it is not told so.
        Some(body) if head.headers.contains_key(EXPECT) => body.is_end_stream(),
        Some(body) => discard(body).await,
        // Somewhere in the middle of it nobody went on reading.
        None => !matches!(refusal, Some(Refusal::TooLarge { .. } | Refusal::TooSlow | Refusal::BrokenBody)),
    };
    // HTTP/2 ends the stream alone, and has no such field.
    if !is_over && head.version <= Version::HTTP_11 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// What is discarded of a refused body so that its connection can go on.
const DISCARDED_MAX: usize = 64 * 1024;
/// How long the rest of such a body may take: it is nearly always on its way.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Lets the rest of a body go by that nobody reads, and says whether that was all of it.
///
/// A client that sends head and body apart is often answered before its body is here. Closing the
/// connection under it, without having said so, would break its next request.
async fn discard<B: http_body::Body<Data = Bytes>>(body: B) -> bool {
    if body.is_end_stream() {
        return true;
    }
    let mut body = pin!(body);
    let discarding = async {
        let mut discarded = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            discarded += frame.data_ref().map_or(0, Bytes::len);
            if discarded > DISCARDED_MAX {
                return false;
            }
        }
        true
    };
    within(DISCARD_TIMEOUT, discarding).await.unwrap_or(false)
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
    match within(limits.body_timeout, whole(pin!(Limited::new(body, max_bytes)))).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge { max_bytes }),
        Ok(Err(_)) => Err(Refusal::BrokenBody),
        Err(_) => Err(Refusal::TooSlow),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt as _, stream};
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn read_whole<B: http_body::Body<Data = Bytes>>(body: B) -> Result<Bytes, B::Error> {
        whole(pin!(body)).now_or_never().expect("nothing waits")
    }

    #[test]
    fn a_body_is_the_same_in_one_piece_and_in_many() {
        let data = |text: &'static str| Frame::data(Bytes::from_static(text.as_bytes()));
        let trailers = || Frame::trailers(HeaderMap::new());
        let cases: [(Vec<Frame<Bytes>>, &str); 6] = [
            (vec![], ""),
            (vec![trailers()], ""),
            (vec![data("abcd")], "abcd"),
            (vec![data("ab"), data(""), data("cd")], "abcd"),
            (vec![data(""), data("a"), data("bcd"), trailers()], "abcd"),
            (vec![data("abcd"), trailers()], "abcd"),
        ];
        for (frames, expected) in cases {
            let body = StreamBody::new(stream::iter(frames.into_iter().map(Ok::<_, Infallible>)));
            assert_eq!(read_whole(Limited::new(body, 4)).expect("it fits"), expected);
        }
        assert_eq!(read_whole(Full::new(Bytes::from_static(b"abcd"))).expect("it is there"), "abcd");
    }

    #[test]
    fn all_pieces_together_are_bounded() {
        let frames = ["ab", "cd", "e"].map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from(text))));
        let body = Limited::new(StreamBody::new(stream::iter(frames)), 4);
        assert!(read_whole(body).is_err_and(|error| error.is::<LengthLimitError>()));
    }

    #[tokio::test]
    async fn a_small_rest_goes_by_and_a_large_one_does_not() {
        let frames = |size: usize, count| {
            let frame = move |_| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; size])));
            StreamBody::new(stream::iter((0..count).map(frame)))
        };
        assert!(discard(Full::new(Bytes::from_static(b"abcd"))).await);
        assert!(discard(Full::new(Bytes::new())).await);
        assert!(discard(frames(1024, 64)).await, "64 KiB");
        assert!(!discard(frames(1024, 65)).await, "more");
        let broken = StreamBody::new(stream::iter([Err::<Frame<Bytes>, _>("gone")]));
        assert!(!discard(broken).await);
    }
}
