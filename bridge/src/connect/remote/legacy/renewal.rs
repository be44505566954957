//! A session in the place of one that the server has forgotten.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{sync::oneshot, time::timeout};
use tracing::{info, warn};

use super::{
    super::failure::Failure,
    Inner, NOTIFY_TIMEOUT, ORDER_MAX,
    session::{Session, Wish, is_lost},
};
use crate::{message::shown, sync::Locked as _};

impl Inner {
    /// A session in the place of `lost`, opened as the client has opened that one. Whoever asks for it
    /// meanwhile gets the same.
    ///
    /// It is opened in a task of its own: whoever asked may leave, and would leave a session behind that
    /// nobody knows of.
    pub(super) async fn renew(self: &Arc<Self>, lost: &Arc<Session>) -> Result<Arc<Session>, Failure> {
        let (tell, told) = oneshot::channel();
        let (inner, lost) = (Arc::clone(self), Arc::clone(lost));
        self.spawn(async move {
            let _alone = inner.renewing.lock().await;
            if !tell.is_closed() {
                // An error says that nobody waits any more.
                let _ = tell.send(inner.renewed(&lost).await);
            }
        });
        // Untold when everything ends.
        told.await.unwrap_or(Err(Failure::SessionLost))
    }

    async fn renewed(self: &Arc<Self>, lost: &Arc<Session>) -> Result<Arc<Session>, Failure> {
        match self.session() {
            Some(now) if !Arc::ptr_eq(&now, lost) => return Ok(now),
            _ => {}
        }
        lost.over.cancel();
        let said = self.opening.said();
        let initialize = said.initialize.ok_or(Failure::SessionLost)?;
        // Requests wait for it, and their time is not endless either.
        let limit = self.link.request_timeout;
        let timed_out = |_| Failure::TimedOut(limit);
        let (session, _) = timeout(limit, self.shake_hands(&initialize)).await.map_err(timed_out)??;
        let begun = timeout(limit, self.begin_anew(&session, lost, said.initialized.as_ref())).await;
        if let Err(failure) = begun.map_err(timed_out).flatten() {
            self.end(&session).await;
            return Err(failure);
        }
        let session = Arc::new(session);
        let wishes = said.wishes.len();
        let (sent, done) = oneshot::channel::<()>();
        let (inner, wished_in) = (Arc::clone(self), Arc::clone(&session));
        self.spawn(async move {
            tokio::select! {
                () = wished_in.over.cancelled() => {}
                () = inner.wish_again(&wished_in, said.wishes) => {}
            }
            drop(sent);
        });
        // An error says that it is done. What the client wishes now comes after that, as it did before.
        let _ = timeout(ORDER_MAX, done).await;
        info!(wishes, "the server had forgotten the session; opened a new one");
        *self.session.locked() = Some(Arc::clone(&session));
        if said.initialized.is_some() {
            self.listen(Arc::clone(&session));
        }
        Ok(session)
    }

    /// Says what a session begins with, if `session` can stand in the place of `lost`.
    async fn begin_anew(&self, session: &Session, lost: &Session, initialized: Option<&Bytes>) -> Result<(), Failure> {
        if !session.speaks_like(lost) {
            let text = "it speaks another protocol version than before; restart the client to begin anew";
            return Err(Failure::Protocol(text.to_owned()));
        }
        if let Some(line) = initialized {
            self.link.http.post(&session.headers(), line.clone()).await?;
        }
        Ok(())
    }

    /// Says the client's wishes again. What goes wrong is logged: the client had its answer long ago.
    async fn wish_again(&self, session: &Session, wishes: Vec<Wish>) {
        for Wish { name, line } in wishes {
            let wished = async {
                let replied = self.link.http.post_unasked(&session.headers(), line).await?;
                self.granted(replied.reply).await
            };
            let wish = shown(&name);
            match timeout(NOTIFY_TIMEOUT, wished).await {
                Ok(Ok(_)) => {}
                // The next session begins with all of them.
                Ok(Err(failure)) if is_lost(session, &failure) => return,
                Ok(Err(failure)) => {
                    warn!(wish, %failure, "the server does not grant in the new session what it has granted before");
                    if failure.is_refusal() {
                        self.opening.forget(&name);
                    }
                }
                Err(_) => warn!(wish, "the server took too long to grant what it has granted before"),
            }
        }
    }
}
