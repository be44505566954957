//! Streams of a legacy server: the answer to a request, and what the server says of its own accord.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::{
    super::{
        BackOff,
        client::{Heard, Ticket},
        failure::Failure,
        sse::{Events, Place},
    },
    Inner,
    session::{Session, is_lost},
};

/// Attempts in a row to come back to an answer without hearing anything: with the waits between them,
/// about a minute.
const RESUMES_MAX: u32 = 7;
/// The longest wait of our own before somebody's answer is asked for again.
const RESUME_PAUSE_MAX: Duration = Duration::from_secs(20);
/// The longest wait before the server's own stream is opened again. It is tried for as long as the
/// program lives: a notebook sleeps for hours.
const LISTEN_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Between two openings of that stream, at least: each event makes the waits begin anew, so a server that
/// says one and closes would be asked as fast as it answers.
const LISTEN_EVERY: Duration = Duration::from_secs(1);

impl Inner {
    /// Reads the stream that answers `ticket`, through as many connections as it takes.
    pub(super) async fn follow(
        &self,
        ticket: &Ticket,
        mut events: Events,
        session: Option<&Session>,
    ) -> Result<Heard, Failure> {
        let mut place = Place::default();
        let mut back_off = BackOff::new(RESUME_PAUSE_MAX);
        loop {
            match self.read(&mut events, &mut place, Some(ticket), &mut back_off).await {
                Ok(heard @ (Heard::Result | Heard::Refusal)) => return Ok(heard),
                Ok(Heard::Other) | Err(Failure::Broken(_)) => {}
                Err(failure) => return Err(failure),
            }
            // Without a place the server could only give us something else.
            let Some(session) = session.filter(|_| place.last_id.is_some()) else { return Err(Failure::Ended) };
            events = self.resume(session, &place, &mut back_off).await?;
        }
    }

    /// Brings what comes to the client, up to the answer to `ticket` or the end of the connection.
    async fn read(
        &self,
        events: &mut Events,
        place: &mut Place,
        ticket: Option<&Ticket>,
        back_off: &mut BackOff,
    ) -> Result<Heard, Failure> {
        while let Some(data) = events.next(place).await? {
            back_off.forget();
            if data.is_empty() {
                continue;
            }
            let heard = self.link.client.hear(data, ticket).await?;
            if heard.is_answer() {
                return Ok(heard);
            }
        }
        Ok(Heard::Other)
    }

    /// Comes back to a stream: when the server has said, and after that less and less often.
    async fn resume(&self, session: &Session, place: &Place, back_off: &mut BackOff) -> Result<Events, Failure> {
        loop {
            if back_off.failures == RESUMES_MAX {
                return Err(Failure::Ended);
            }
            sleep_until(back_off.next(place.retry)).await;
            match self.link.http.get(&session.headers_at(place)).await {
                Ok(events) => return Ok(events),
                Err(failure) if is_lost(session, &failure) => return Err(Failure::SessionLost),
                Err(failure) if failure.is_passing() => debug!(%failure, "cannot resume a stream yet"),
                Err(failure @ Failure::Unauthorized(_)) => return Err(failure),
                Err(failure) => {
                    debug!(%failure, "the server resumes no stream");
                    return Err(Failure::Ended);
                }
            }
        }
    }

    /// Reads what the server says of its own accord, in a task of its own that ends with the session.
    pub(super) fn listen(self: &Arc<Self>, session: Arc<Session>) {
        if !session.is_first_to_listen() {
            return;
        }
        let inner = Arc::clone(self);
        self.spawn(async move {
            tokio::select! {
                () = session.over.cancelled() => {}
                () = inner.listen_to(&session) => {}
            }
        });
    }

    async fn listen_to(self: &Arc<Self>, session: &Arc<Session>) {
        let mut place = Place::default();
        let mut back_off = BackOff::new(LISTEN_PAUSE_MAX);
        let mut was_open = false;
        loop {
            let opened = Instant::now();
            match self.link.http.get(&session.headers_at(&place)).await {
                Ok(mut events) => {
                    was_open = true;
                    if let Err(failure) = self.read(&mut events, &mut place, None, &mut back_off).await {
                        debug!(%failure, "the server's stream broke");
                    }
                }
                // It had one before, so the address is right and the session is not.
                Err(failure) if was_open && is_lost(session, &failure) => {
                    let inner = Arc::clone(self);
                    let lost = Arc::clone(session);
                    // A task of its own, because renewing ends this one.
                    self.spawn(async move {
                        if let Err(failure) = inner.renew(&lost).await {
                            warn!(%failure, "the server has forgotten the session, and opens no other");
                        }
                    });
                    return;
                }
                // A sign-in for something else may change that.
                Err(failure @ Failure::Unauthorized(_)) => debug!(%failure, "the server's stream waits for a sign-in"),
                Err(failure) if failure.is_passing() => debug!(%failure, "cannot open the server's stream yet"),
                Err(failure) if was_open => {
                    warn!(%failure, "the server's stream cannot be opened again");
                    return;
                }
                Err(failure) => {
                    info!(%failure, "the server has no stream of its own");
                    return;
                }
            }
            sleep_until(back_off.next(place.retry).max(opened + LISTEN_EVERY)).await;
        }
    }
}
