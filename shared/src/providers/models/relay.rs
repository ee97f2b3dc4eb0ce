//! What stands between `genai` and the network: a server in this process, for one question, that passes it on through
//! our own client.
//!
//! `genai` knows what each provider wants to hear. It neither checks addresses nor bounds what it reads, and its
//! errors quote providers. So it is connected to a socket of ours and to nothing else.
//!
//! **Invariant:** of an answer that is no success, nothing but its status and what it asks us to wait is passed on;
//! of a success at most [`LONGEST_ANSWER`] bytes, no event of it longer than [`LONGEST_EVENT`], each of them at once.
//! Only its provider's own word that a key is none makes a refusal one of the key.

use std::{
    convert::Infallible,
    env, fmt, fs, io,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Request, Response, Uri,
    body::{Body, Bytes, Frame, Incoming},
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::Handle,
    time::timeout,
};

use crate::{
    domain::model::Provider,
    providers::outbound::{
        Client, pass_over, reason,
        wait::{LONGEST_WAIT, date, retry_after},
    },
};

/// Who we say we are.
const AGENT: &str = concat!("Parlance/", env!("CARGO_PKG_VERSION"));
/// The longest question, in bytes: more than any window of a conversation and its tools.
const LONGEST_QUESTION: usize = 4 * 1024 * 1024;
/// The longest answer, in bytes. Providers say each token in an event of its own, of about 300 bytes: these are the
/// tokens of the longest answer that an agent may ask for.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;
/// The longest event of an answer, in bytes.
const LONGEST_EVENT: usize = 256 * 1024;
/// How much of a refusal is looked at, in bytes.
const LOOKED_AT: usize = 16 * 1024;
/// For how long a refusal is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// For how long the end of an answer is waited for that was heard.
const REST: Duration = Duration::from_millis(250);
/// The reason that Google gives for the refusal of a key, whose status is that of any bad request.
const BAD_KEY: &str = "API_KEY_INVALID";

/// What is known of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is none.
    #[default]
    None,
    /// Nobody could be reached: why.
    Unreached(&'static str),
    /// It is no success.
    Refused {
        /// Its status.
        status: u16,
        /// How long it asks us to wait.
        wait: Option<Duration>,
        /// Whether it is the key that is refused.
        is_key: bool,
    },
    /// It is a success, and comes.
    Comes,
    /// It came, and all that it says was heard.
    Heard,
    /// It was a success in what nobody asked for, or became longer than it may be.
    Unreadable(&'static str),
}

/// What is known so far.
#[derive(Debug, Clone, Default)]
struct Noted(Arc<Mutex<Outcome>>);

impl Noted {
    fn get(&self) -> Outcome {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, outcome: Outcome) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
    }
}

/// Where a question goes, and what came of it.
pub(super) struct Errand<'a> {
    client: &'a Client,
    provider: Provider,
    /// Scheme and authority of the provider.
    origin: Uri,
    noted: Noted,
}

impl fmt::Debug for Errand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand")
            .field("noted", &self.noted)
            .finish_non_exhaustive()
    }
}

/// A socket that leads to a provider, for as long as this lives.
#[derive(Debug)]
pub(super) struct Relay {
    listener: UnixListener,
    place: Place,
}

/// A folder that nobody else may enter.
#[derive(Debug)]
struct Place(PathBuf);

impl Place {
    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left is empty, and in the folder for such things.
        let _ = fs::remove_file(self.socket());
        let _ = fs::remove_dir(&self.0);
    }
}

impl Relay {
    /// A relay whose name nobody can guess who does not know `seed`.
    pub(super) fn open(seed: u128) -> io::Result<Self> {
        /// No two of this process have one name.
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let n = OPENED.fetch_add(1, Relaxed);
        let place = env::temp_dir().join(format!("parlance-{seed:032x}-{n}"));
        fs::DirBuilder::new().mode(0o700).create(&place)?;
        let place = Place(place);
        Ok(Self {
            listener: UnixListener::bind(place.socket())?,
            place,
        })
    }

    /// Where it is.
    pub(super) fn socket(&self) -> PathBuf {
        self.place.socket()
    }

    /// Runs `errand` for whoever connects, one after the other. Whoever drops this ends it, and the connection to the
    /// provider with it.
    pub(super) async fn run(&self, errand: &Errand<'_>) -> io::Error {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => errand.serve(stream).await,
                Err(error) => return error,
            }
        }
    }
}

impl<'a> Errand<'a> {
    pub(super) fn new(client: &'a Client, provider: Provider, origin: Uri) -> Self {
        Self {
            client,
            provider,
            origin,
            noted: Noted::default(),
        }
    }

    /// The whole answer was heard.
    pub(super) fn note_heard(&self) {
        self.noted.note(Outcome::Heard);
    }

    /// What is known of the answer so far.
    pub(super) fn outcome(&self) -> Outcome {
        self.noted.get()
    }

    async fn serve(&self, stream: UnixStream) {
        let service =
            service_fn(|request| async move { Ok::<_, Infallible>(self.pass(request).await) });
        let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // How it went is noted: the connection only carries it.
        let _ = served.await;
    }

    async fn pass(&self, request: Request<Incoming>) -> Response<Answer> {
        let Some(request) = self.onward(request).await else {
            return nothing(502);
        };
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            Err(error) => {
                self.noted.note(Outcome::Unreached(reason::reason(&error)));
                return nothing(502);
            }
        };
        let status = answer.status().as_u16();
        if !answer.status().is_success() {
            let wait = wait(answer.headers());
            let is_key = match status {
                // A 403 is about what a key may do: the key may well do something else.
                401 => true,
                // What others answer may quote words that somebody chose, and says nothing of the key.
                400 if self.provider == Provider::Google => is_bad_key(answer.into_body()).await,
                _ => false,
            };
            self.noted.note(Outcome::Refused {
                status,
                wait,
                is_key,
            });
            return nothing(status);
        }
        let says = |name, what: &str| says(answer.headers(), name, what);
        if !says(header::CONTENT_ENCODING, "identity") {
            self.noted
                .note(Outcome::Unreadable("its answer is compressed"));
            return nothing(502);
        }
        if !says(header::CONTENT_TYPE, "text/event-stream") {
            self.noted
                .note(Outcome::Unreadable("its answer is no stream of events"));
            return nothing(502);
        }
        self.noted.note(Outcome::Comes);
        let events = HeaderValue::from_static("text/event-stream");
        let mut response = Response::new(Answer::Comes(Bounded {
            body: Some(answer.into_body()),
            noted: self.noted.clone(),
            events: Events::default(),
        }));
        response.headers_mut().insert(header::CONTENT_TYPE, events);
        response
    }

    /// The request as the provider gets it.
    async fn onward(&self, request: Request<Incoming>) -> Option<Request<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let body = Limited::new(body, LONGEST_QUESTION).collect().await.ok()?;
        let mut uri = self.origin.clone().into_parts();
        uri.path_and_query = head.uri.into_parts().path_and_query;
        let mut onward = Request::new(Full::new(body.to_bytes()));
        *onward.method_mut() = head.method;
        *onward.uri_mut() = Uri::from_parts(uri).ok()?;
        for (name, value) in &head.headers {
            let is_ours = [
                header::HOST,
                header::CONNECTION,
                header::CONTENT_LENGTH,
                header::TRANSFER_ENCODING,
                header::ACCEPT_ENCODING,
                header::USER_AGENT,
            ]
            .contains(name);
            if !is_ours {
                let mut value = value.clone();
                // One of them is the key.
                value.set_sensitive(true);
                onward.headers_mut().insert(name.clone(), value);
            }
        }
        let agent = HeaderValue::from_static(AGENT);
        onward.headers_mut().insert(header::USER_AGENT, agent);
        Some(onward)
    }
}

/// An answer of ours, which says nothing but `status`.
fn nothing(status: u16) -> Response<Answer> {
    let mut response = Response::new(Answer::Nothing);
    if let Ok(status) = status.try_into() {
        *response.status_mut() = status;
    }
    response
}

/// Whether header `name` begins with `what`, or is not there.
fn says(headers: &HeaderMap, name: HeaderName, what: &str) -> bool {
    headers.get(name).is_none_or(|value| {
        let value = value.to_str().unwrap_or_default().trim();
        value
            .get(..what.len())
            .is_some_and(|value| value.eq_ignore_ascii_case(what))
    })
}

/// How long the provider asks us to wait: `retry-after-ms`, or else `Retry-After`, which may be a time by its own clock.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    if let Some(millis) = text("retry-after-ms").and_then(|text| text.trim().parse().ok()) {
        return Some(Duration::from_millis(millis).min(Duration::from_secs(LONGEST_WAIT)));
    }
    retry_after(headers, date(headers)).map(Duration::from_secs)
}

/// Whether Google says in `body` that a key is none.
async fn is_bad_key(body: Incoming) -> bool {
    let look = async {
        let (mut body, mut read) = (body, Vec::new());
        while read.len() < LOOKED_AT
            && let Some(Ok(frame)) = body.frame().await
        {
            read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
        says_bad_key(&read)
    };
    timeout(LOOK, look).await.unwrap_or(false)
}

/// Whether `body` is an error that has the refusal of a key among its details. Its message may quote anything.
fn says_bad_key(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let details = body.pointer("/error/details").and_then(Value::as_array);
    details.is_some_and(|details| details.iter().any(|detail| detail["reason"] == BAD_KEY))
}

/// What comes back through the relay.
enum Answer {
    /// No more than a status.
    Nothing,
    /// A success.
    Comes(Bounded),
}

/// A body within bounds.
struct Bounded {
    /// There until this is dropped.
    body: Option<Incoming>,
    noted: Noted,
    events: Events,
}

/// An answer so far, which is passed on event by event: `genai` copies what it has of an event with each piece of it
/// that comes, and nobody hears a part of one.
#[derive(Debug, Default)]
struct Events {
    /// All that came, in bytes.
    all: usize,
    /// The length of the last line, which has not ended.
    line: usize,
    /// The beginning of an event, which has not ended.
    held: Vec<u8>,
}

/// An answer became longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TooLong;

impl Events {
    /// Takes what came, and gives the events that are whole with it: an empty line ends an event.
    fn add(&mut self, data: &Bytes) -> Result<Option<Bytes>, TooLong> {
        self.all += data.len();
        if self.all > LONGEST_ANSWER {
            return Err(TooLong);
        }
        // Where the last event ends that is whole, and how long the one after it is so far.
        let (mut whole, mut event) = (0, self.held.len());
        for (place, byte) in data.iter().enumerate() {
            event += 1;
            if event > LONGEST_EVENT {
                return Err(TooLong);
            }
            match byte {
                b'\n' if self.line == 0 => (whole, event) = (place + 1, 0),
                b'\n' => self.line = 0,
                b'\r' => {}
                _ => self.line += 1,
            }
        }
        if whole == 0 {
            self.held.extend_from_slice(data);
            return Ok(None);
        }
        let rest = data.slice(whole..);
        let events = if self.held.is_empty() {
            data.slice(..whole)
        } else {
            self.held.extend_from_slice(&data[..whole]);
            self.held.split_off(0).into()
        };
        self.held.extend_from_slice(&rest);
        Ok(Some(events))
    }

    /// What is there without an end, if there is anything.
    fn end(&mut self) -> Option<Bytes> {
        (!self.held.is_empty()).then(|| std::mem::take(&mut self.held).into())
    }
}

/// Who has heard the last word leaves before the answer has ended. Its end is waited for, so that the connection can be used
/// again.
impl Drop for Bounded {
    fn drop(&mut self) {
        let (Some(rest), Outcome::Heard) = (self.body.take(), self.noted.get()) else {
            return;
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ = timeout(REST, pass_over(rest)).await;
            });
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Answer::Comes(bounded) = self.get_mut() else {
            return Poll::Ready(None);
        };
        let Some(body) = bounded.body.as_mut() else {
            return Poll::Ready(None);
        };
        loop {
            let frame = match ready!(Pin::new(&mut *body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(io::Error::other(error)))),
                None => {
                    let rest = bounded.events.end();
                    return Poll::Ready(rest.map(|rest| Ok(Frame::data(rest))));
                }
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            match bounded.events.add(&data) {
                Ok(Some(events)) => return Poll::Ready(Some(Ok(Frame::data(events)))),
                Ok(None) => {}
                Err(TooLong) => {
                    let note = Outcome::Unreadable("its answer is too long");
                    bounded.noted.note(note);
                    return Poll::Ready(Some(Err(io::Error::other("too long"))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Answer::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of `pieces`.
    fn passed_on(pieces: &[&str]) -> Vec<Bytes> {
        let mut events = Events::default();
        let mut passed_on = Vec::new();
        for piece in pieces {
            let piece = Bytes::copy_from_slice(piece.as_bytes());
            passed_on.extend(events.add(&piece).unwrap());
        }
        passed_on.extend(events.end());
        passed_on
    }

    #[test]
    fn an_event_is_bounded_and_so_are_all_of_them() {
        let half = Bytes::from(vec![b'x'; LONGEST_EVENT / 2]);
        let mut events = Events::default();
        assert_eq!(events.add(&half), Ok(None));
        assert_eq!(events.add(&half), Ok(None));
        assert_eq!(events.add(&Bytes::from_static(b"x")), Err(TooLong));

        let mut events = Events::default();
        let event = Bytes::from([&half[..], b"\n\n"].concat());
        for _ in 0..LONGEST_ANSWER / event.len() {
            assert_eq!(events.add(&event), Ok(Some(event.clone())));
        }
        assert_eq!(events.add(&event), Err(TooLong));
    }

    #[test]
    fn an_event_in_many_pieces_is_passed_on_as_one() {
        for end in ["\n\n", "\r\n\r\n"] {
            let event = format!("data: {}{end}", "x".repeat(LONGEST_EVENT / 2));
            let two = event.repeat(2);
            let pieces: Vec<_> = (0..two.len()).map(|at| &two[at..=at]).collect();
            assert_eq!(passed_on(&pieces), [event.as_str(); 2], "{end:?}");
        }
    }

    #[test]
    fn events_that_are_whole_are_passed_on_as_they_come() {
        let whole = ["data: a\n\n", ": ping\n\n", "data: b\r\n\r\n"];
        assert_eq!(passed_on(&whole), whole);
        let pieces = ["data: a\n\nda", "ta: b\n", "\ndata: c\n\n", "data: d\n"];
        let events = [
            "data: a\n\n",
            "data: b\n\ndata: c\n\n",
            // The end of an answer ends what has no end.
            "data: d\n",
        ];
        assert_eq!(passed_on(&pieces), events);
    }

    #[test]
    fn a_key_is_none_only_if_the_reason_says_so() {
        let bad = [r#"{"error":{"details":[{"domain":"x"},{"reason":"API_KEY_INVALID"}]}}"#];
        let other = [
            r#"{"error":{"message":"No model API_KEY_INVALID","details":[{"reason":"BAD"}]}}"#,
            r#"{"error":{"details":"API_KEY_INVALID"}}"#,
            r#"{"details":[{"reason":"API_KEY_INVALID"}]}"#,
            "API_KEY_INVALID",
            "",
        ];
        assert!(bad.iter().all(|body| says_bad_key(body.as_bytes())));
        assert!(!other.iter().any(|body| says_bad_key(body.as_bytes())));
    }

    #[test]
    fn a_wait_is_milliseconds_or_seconds_or_a_time_by_the_providers_clock() {
        let wait_of = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            wait(&headers.collect())
        };
        let (date, at) = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let after = "Sun, 06 Nov 1994 08:49:42 GMT";
        assert_eq!(
            wait_of(&[("retry-after-ms", "1500"), ("retry-after", "9")]),
            Some(Duration::from_millis(1_500))
        );
        assert_eq!(
            wait_of(&[("retry-after", "9")]),
            Some(Duration::from_secs(9))
        );
        assert_eq!(
            wait_of(&[("retry-after", after), (date, at)]),
            Some(Duration::from_secs(5))
        );
        assert_eq!(wait_of(&[("retry-after", after)]), None);
        assert_eq!(wait_of(&[("retry-after-ms", "soon")]), None);
        assert_eq!(
            wait_of(&[("retry-after-ms", "18446744073709551615")]),
            Some(Duration::from_hours(24))
        );
    }
}
