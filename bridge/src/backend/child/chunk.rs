//! Reading without a buffer that waits.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

/// How much is read at once: more than a usual message.
pub(super) const CHUNK_BYTES: usize = 8 << 10;

/// Reads what is there, at most `room` bytes of it, and gives how much it was. The buffer is on the stack:
/// a process that says nothing costs no memory for it, and a task that waits is small and quickly moved.
///
/// Cancel-safe: what was read has been taken.
pub(super) async fn read(
    pipe: &mut (impl AsyncRead + Unpin),
    room: usize,
    mut take: impl FnMut(&[u8]),
) -> io::Result<usize> {
    poll_fn(|context| {
        let mut chunk = [const { MaybeUninit::uninit() }; CHUNK_BYTES];
        let mut chunk = ReadBuf::uninit(&mut chunk[..room.min(CHUNK_BYTES)]);
        ready!(Pin::new(&mut *pipe).poll_read(context, &mut chunk))?;
        take(chunk.filled());
        Poll::Ready(Ok(chunk.filled().len()))
    })
    .await
}
