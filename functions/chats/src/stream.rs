//! An answer that is shown while it comes, as server-sent events.
//!
//! **Invariant:** what is stored begins with what the connection took, and is no more than that if the client left while
//! the answer came. The work is a task of its own: it sees that nobody takes pieces any more, ends the answer, and stores
//! of it what was taken. An answer that was whole by then is stored whole.

use std::{
    convert::Infallible,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use parlance::{
    app::{App, chats::send::Say},
    domain::{ChatId, Done, Error, KeyHolder, Moment, message::Message},
    http::{
        Failure,
        dialects::{Dialect, Kodey},
        telemetry::late::Late,
    },
};
use serde::Serialize;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
    time::timeout,
};

use super::wire::{Answer, Delta};

/// How long a client hears nothing: what is between us takes a quiet connection for a dead one.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The end of the work.
type End = Result<Done<Message>, Error>;

/// What is still to be shown.
struct Stream {
    chat: ChatId,
    /// The request, whose line is written when this is gone.
    late: Late,
    /// Pieces of the answer; it ends with the work. An answer is bounded, and so is this.
    pieces: UnboundedReceiver<String>,
    work: Option<JoinHandle<End>>,
    /// What is known already and not shown yet.
    first: Option<First>,
    /// How many bytes of the answer the connection took.
    taken: Arc<AtomicUsize>,
}

/// What is shown first.
enum First {
    /// A piece of the answer.
    Piece(String),
    /// Events.
    Shown(String),
}

/// Says it, and shows the answer while it comes.
///
/// # Errors
///
/// What fails before the answer begins, and soon.
pub(crate) async fn answer(
    app: App,
    holder: KeyHolder,
    say: Say,
    moment: Moment,
) -> Result<Response, Failure> {
    let chat = say.chat;
    let (hands, mut pieces) = unbounded_channel();
    let late = Late::here();
    let taken = Arc::new(AtomicUsize::new(0));
    let work = work(app, holder, say, moment, hands, Arc::clone(&taken));
    let mut work = tokio::spawn(late.clone().within(work));
    let mut replayed = false;
    // An answer that is begun is a success, whatever comes; so is one that takes longer than a quiet connection lives.
    let (first, work) = match timeout(HEARTBEAT, pieces.recv()).await {
        Ok(Some(piece)) => (First::Piece(piece), Some(work)),
        Err(_) => (First::Shown(quiet()), Some(work)),
        Ok(None) => {
            let answer = ended(&mut work).await?;
            replayed = answer.replayed;
            (First::Shown(whole(chat, answer.value)?), None)
        }
    };
    let stream = Stream {
        chat,
        late: late.clone(),
        pieces,
        work,
        first: Some(first),
        taken,
    };
    let events = stream::unfold(stream, |mut stream| {
        let late = stream.late.clone();
        late.within(async move {
            let event = stream.next().await?;
            Some((Ok::<_, Infallible>(event), stream))
        })
    });
    let mut response = Body::from_stream(events).into_response();
    response.extensions_mut().insert(late);
    let headers = response.headers_mut();
    let mut say = |name, value| headers.insert(name, HeaderValue::from_static(value));
    say(header::CONTENT_TYPE, "text/event-stream");
    say(header::CACHE_CONTROL, "no-cache, no-transform");
    if replayed {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Does the work, and hands each piece of the answer over to `hands` until nobody takes it.
async fn work(
    app: App,
    holder: KeyHolder,
    say: Say,
    moment: Moment,
    hands: UnboundedSender<String>,
    taken: Arc<AtomicUsize>,
) -> End {
    let mut heard = {
        let hands = hands.clone();
        move |piece: &str| match hands.send(piece.to_owned()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    let gone = async {
        hands.closed().await;
        // Whoever takes them is gone: it does not grow any more.
        taken.load(Relaxed)
    };
    app.say(&holder, say, &mut heard, gone, &moment).await
}

impl Stream {
    /// The next event, if there is one.
    async fn next(&mut self) -> Option<String> {
        match self.first.take() {
            Some(First::Piece(piece)) => return Some(self.take(&piece)),
            Some(First::Shown(events)) => return Some(events),
            None => {}
        }
        self.work.as_ref()?;
        match timeout(HEARTBEAT, self.pieces.recv()).await {
            Ok(Some(piece)) => Some(self.take(&piece)),
            Ok(None) => {
                let mut work = self.work.take()?;
                let shown = match ended(&mut work).await {
                    Ok(answer) => self.end(answer),
                    Err(error) => Err(error),
                };
                Some(shown.unwrap_or_else(|error| self.fail(error)))
            }
            Err(_) => Some(quiet()),
        }
    }

    /// A piece as the connection takes it.
    fn take(&self, piece: &str) -> String {
        self.taken.fetch_add(piece.len(), Relaxed);
        delta(piece).unwrap_or_else(|error| self.fail(error))
    }

    /// The dialect's body of `error`, of which no answer's status tells.
    fn fail(&self, error: Error) -> String {
        // An envelope is strings, numbers and booleans: it always has a JSON form.
        let shown = event("error", &Kodey::envelope(&error)).unwrap_or_default();
        self.late.fails_with(Kodey::status(&error), error);
        shown
    }

    /// How an answer ends that is stored.
    fn end(&self, answer: Done<Message>) -> Result<String, Error> {
        let is_shown = self.taken.load(Relaxed) > 0;
        match (answer.replayed, is_shown) {
            (false, _) => done(self.chat, answer.value),
            (true, false) => whole(self.chat, answer.value),
            // Another request's answer was stored first, and what was shown is not what is stored: the same request
            // is shown that one.
            (true, true) => Err(Error::Busy),
        }
    }
}

/// How the work ended. What a panic says is nobody's business: it may hold what was said.
async fn ended(work: &mut JoinHandle<End>) -> End {
    work.await.unwrap_or_else(|_| {
        Err(Error::internal(
            "the work on an answer did not come to its end",
        ))
    })
}

/// An answer that is shown at once.
fn whole(chat: ChatId, answer: Message) -> Result<String, Error> {
    Ok(delta(&answer.content)? + &done(chat, answer)?)
}

fn delta(content: &str) -> Result<String, Error> {
    event("delta", &Delta { content })
}

fn done(chat: ChatId, answer: Message) -> Result<String, Error> {
    event("done", &Answer::new(chat, answer))
}

/// A comment, which no client shows.
fn quiet() -> String {
    ":\n\n".to_owned()
}

fn event(name: &str, data: &impl Serialize) -> Result<String, Error> {
    // JSON has no line breaks of its own.
    let data = serde_json::to_string(data).map_err(Error::internal)?;
    Ok(format!("event: {name}\ndata: {data}\n\n"))
}
