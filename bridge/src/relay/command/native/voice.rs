//! What a legacy server says of its own accord, and asks.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::timeout;

use super::{
    super::{
        Served,
        children::Child,
        listen::wants,
        out::{Out, Turn},
        session::{Asker, Outcome, Questions, Session},
    },
    Native, Seat, lock,
};
use crate::{
    backend::link::{Asked, Listener, Notice},
    relay::translate::subscriptions::Listen,
};

impl Native {
    /// Listens to a server.
    pub(super) fn seat(&self, child: Arc<Child>) -> Seat {
        let voice = Voice {
            session: Arc::clone(&self.session),
            process: child.link().process_id(),
            timeout: self.timeout,
            child: Arc::downgrade(&child),
            served: Arc::clone(&self.served),
            interest: self.served.is_shared().then(|| Arc::clone(&self.shared_interest)),
        };
        let hearing = child.ear().hear(Arc::new(voice));
        Seat { child, session: Arc::clone(&self.session), _hearing: hearing }
    }

    /// Brings a question of the server's to the client, and the answer back when it comes.
    pub(super) async fn ask(&self, child: &Arc<Child>, asked: Asked, questions: &mut Questions, out: &Out) {
        let asker = Asker { process: child.link().process_id(), id: asked.id.clone() };
        let Some((number, answered)) = questions.ask(asker) else {
            let _ = child.link().refuse(&asked, "the client leaves too many requests unanswered").await;
            return;
        };
        let message = asked.message(&number.to_string());
        let turn = out.turn_of_client();
        // A client that has lost its connection can still be asked on its stream.
        if !out.message(message.clone()).await {
            self.session.outbox.put(message);
        }
        carry_answer(&self.served, child, asked, answered, Some(turn), self.timeout);
    }
}

/// Waits for the client's answer and gives it to the server.
fn carry_answer(
    served: &Served,
    child: &Arc<Child>,
    asked: Asked,
    answered: tokio::sync::oneshot::Receiver<Outcome>,
    turn: Option<Turn>,
    patience: Duration,
) {
    let child = Arc::downgrade(child);
    served.tasks.spawn(async move {
        let outcome = answered.await;
        drop(turn);
        let Some(child) = child.upgrade() else { return };
        let told = async {
            match outcome {
                Ok(outcome) => child.link().respond(&asked.id, outcome.as_deref().map_err(|error| &**error)).await,
                Err(_) => child.link().refuse(&asked, "nobody answers this any more").await,
            }
        };
        // One that does not read its input must not be kept by who waits for that.
        let _ = timeout(patience, told).await;
    });
}

/// What a session hears of its server beside answers.
struct Voice {
    session: Arc<Session>,
    process: u32,
    timeout: Duration,
    child: std::sync::Weak<Child>,
    served: Arc<Served>,
    /// Where sessions share a server, which changes are for this one, apart from lists.
    interest: Option<Arc<Mutex<Listen>>>,
}

impl Listener for Voice {
    fn notified(&self, notice: Notice) {
        let wanted = match &self.interest {
            None => true,
            Some(_) if notice.method.ends_with("/list_changed") => true,
            Some(interest) => wants(&lock(interest), &notice),
        };
        if wanted && let Some(message) = self.session.heard(self.process, &notice) {
            self.session.outbox.put(message);
        }
    }

    fn asked(&self, asked: Asked) -> Option<Asked> {
        let Some(child) = self.child.upgrade().filter(|_| self.interest.is_none()) else { return Some(asked) };
        let asker = Asker { process: self.process, id: asked.id.clone() };
        let Some((number, answered)) = self.session.ask(Some(asker)) else { return Some(asked) };
        self.session.outbox.put(asked.message(&number.to_string()));
        carry_answer(&self.served, &child, asked, answered, None, self.timeout);
        None
    }
}
