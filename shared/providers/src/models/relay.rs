//! What stands between `genai` and the network: a server in this process, for one question, that passes it on through
//! our own client.
//!
//! `genai` knows what each provider wants to hear. It neither checks addresses nor bounds what it reads, and its
//! errors quote providers. So it is connected to a socket of ours and to nothing else.
//!
//! **Invariant:** of an answer that is no success, nothing but its status and what it asks us to wait is passed on;
//! of a success whole events within bounds ([`Events`]), each of them at once.
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

use super::{
    events::{Events, TooLong},
    mend::{Mend, is_readable},
};
use crate::{
    domain::{Timestamp, model::Provider},
    outbound::{
        Client, pass_over, reason,
        wait::{LONGEST_WAIT, date, retry_after},
    },
};

/// Who we say we are.
const AGENT: &str = concat!("Parlance/", env!("CARGO_PKG_VERSION"));
/// The longest question, in bytes: more than any window of a conversation and its tools.
const LONGEST_QUESTION: usize = 4 * 1024 * 1024;
/// How much of a refusal is looked at, in bytes.
const LOOKED_AT: usize = 16 * 1024;
/// For how long a refusal is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// For how long the end of an answer is waited for that was heard.
const REST: Duration = Duration::from_millis(250);
/// The reason that Google gives for the refusal of a key, whose status is that of any bad request.
const BAD_KEY: &str = "API_KEY_INVALID";
/// The code of `OpenAI`'s 429 that no waiting ends.
const NO_QUOTA: &str = "insufficient_quota";
/// The code of Azure's 400 for words that it does not pass on to the model.
const FILTERED: &str = "content_filter";

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
        /// What is refused.
        what: Refused,
    },
    /// It is a success, and comes.
    Comes,
    /// It comes, and says that it is withheld, or a part of it.
    Withheld,
    /// It came, and all that it says was heard.
    Heard,
    /// It was a success in what nobody asked for, or became longer than it may be.
    Unreadable(&'static str),
}

/// What a provider refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// What it is asked, or it says no more.
    Request,
    /// The key.
    Key,
    /// More for the same key, until somebody pays.
    Quota,
    /// The words.
    Words,
}

/// What is known so far.
#[derive(Debug, Clone, Default)]
struct Noted(Arc<Mutex<Known>>);

#[derive(Debug, Clone, Copy, Default)]
struct Known {
    outcome: Outcome,
    /// Whether an answer began to come, whatever became of it.
    has_begun: bool,
}

impl Noted {
    fn get(&self) -> Outcome {
        self.known().outcome
    }

    fn known(&self) -> Known {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, outcome: Outcome) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.outcome = outcome;
        known.has_begun |= outcome == Outcome::Comes;
    }
}

/// Where a question goes, and what came of it.
pub(super) struct Errand<'a> {
    client: &'a Client,
    provider: Provider,
    /// Scheme and authority of the provider.
    origin: Uri,
    /// When it is gone on.
    now: Timestamp,
    noted: Noted,
}

impl fmt::Debug for Errand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand")
            .field("noted", &self.noted)
            .finish_non_exhaustive()
    }
}

/// A socket that leads to a provider, for who connects first.
#[derive(Debug)]
pub(super) struct Relay {
    listener: UnixListener,
    /// Gone from the file system once somebody has connected: a process that is killed leaves nothing there.
    place: Option<Place>,
    socket: PathBuf,
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
        let socket = place.socket();
        Ok(Self {
            listener: UnixListener::bind(&socket)?,
            place: Some(place),
            socket,
        })
    }

    /// Where it is, until somebody connects.
    pub(super) fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Runs `errand` for whoever connects, one after the other. Whoever drops this ends it, and the connection to the
    /// provider with it.
    pub(super) async fn run(mut self, errand: &Errand<'_>) -> io::Error {
        loop {
            match self.accept().await {
                Ok(stream) => errand.serve(stream).await,
                Err(error) => return error,
            }
        }
    }

    async fn accept(&mut self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept().await?;
        self.place = None;
        Ok(stream)
    }
}

impl<'a> Errand<'a> {
    pub(super) fn new(client: &'a Client, provider: Provider, origin: Uri, now: Timestamp) -> Self {
        Self {
            client,
            provider,
            origin,
            now,
            noted: Noted::default(),
        }
    }

    /// The whole answer was heard.
    pub(super) fn note_heard(&self) {
        self.noted.note(Outcome::Heard);
    }

    /// Whether an answer began to come: then its provider may ask for money, whatever became of it.
    pub(super) fn has_begun(&self) -> bool {
        self.noted.known().has_begun
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
            let wait = wait(answer.headers(), self.now);
            let what = match (status, self.provider) {
                // A 403 is about what a key may do: the key may well do something else.
                (401, _) => Refused::Key,
                // What others answer may quote words that somebody chose, and says nothing of the key.
                (400, Provider::Google) | (400 | 429, Provider::OpenAi) => {
                    refused(status, self.provider, &beginning(answer.into_body()).await)
                }
                _ => Refused::Request,
            };
            self.noted.note(Outcome::Refused { status, wait, what });
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
        let mut response = Response::new(Answer::Comes(Box::new(Bounded {
            body: Some(answer.into_body()),
            noted: self.noted.clone(),
            events: Events::default(),
            mend: Mend::new(self.provider),
        })));
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

/// How long the provider asks us to wait: `retry-after-ms`, or else `Retry-After`, which may be a time by its own clock, or
/// by ours, which says `now`, if it does not show its own.
fn wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    if let Some(millis) = text("retry-after-ms").and_then(|text| text.trim().parse().ok()) {
        return Some(Duration::from_millis(millis).min(Duration::from_secs(LONGEST_WAIT)));
    }
    let at = date(headers).unwrap_or(now);
    retry_after(headers, Some(at)).map(Duration::from_secs)
}

/// The beginning of `body`, or nothing if it takes too long.
async fn beginning(mut body: Incoming) -> Vec<u8> {
    let look = async {
        let mut read = Vec::new();
        while read.len() < LOOKED_AT
            && let Some(Ok(frame)) = body.frame().await
        {
            read.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
        read
    };
    timeout(LOOK, look).await.unwrap_or_default()
}

/// What `provider` refuses with `status` and `body`, by the codes of its error alone: its message may quote anything.
fn refused(status: u16, provider: Provider, body: &[u8]) -> Refused {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &body["error"];
    let says = |code: &str| error["code"] == code || error["type"] == code;
    match provider {
        Provider::Google => {
            let details = error["details"].as_array();
            let is_bad = |detail: &Value| detail["reason"] == BAD_KEY;
            if details.is_some_and(|details| details.iter().any(is_bad)) {
                return Refused::Key;
            }
        }
        Provider::OpenAi if status == 429 && says(NO_QUOTA) => return Refused::Quota,
        Provider::OpenAi if status == 400 && says(FILTERED) => return Refused::Words,
        Provider::OpenAi | Provider::Anthropic | Provider::Echo => {}
    }
    Refused::Request
}

/// What comes back through the relay.
enum Answer {
    /// No more than a status.
    Nothing,
    /// A success.
    Comes(Box<Bounded>),
}

/// A body within bounds.
struct Bounded {
    /// There until it has ended or this is dropped.
    body: Option<Incoming>,
    noted: Noted,
    events: Events,
    mend: Mend,
}

impl Bounded {
    /// `events` as they are passed on.
    fn mend(&mut self, events: Bytes) -> Bytes {
        let events = self.mend.mend(events);
        if self.mend.is_withheld() {
            self.noted.note(Outcome::Withheld);
        }
        events
    }

    /// What is passed on last, if anything is. Of an answer that said why it ended no event is that was torn: `genai` fails
    /// with one that it cannot read.
    fn end(&mut self) -> Option<Bytes> {
        let has_finished = self.mend.has_finished();
        let rest = self.events.end();
        let rest = rest.filter(|rest| !has_finished || is_readable(rest));
        let rest = rest.map(|rest| self.mend(rest));
        let end = self.mend.end().map(Bytes::from);
        match (rest, end) {
            (Some(rest), Some(end)) => Some([rest, end].concat().into()),
            (rest, end) => rest.or(end),
        }
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
                Some(Err(error)) if !bounded.mend.has_finished() => {
                    return Poll::Ready(Some(Err(io::Error::other(error))));
                }
                Some(Err(_)) | None => {
                    bounded.body = None;
                    let rest = bounded.end();
                    return Poll::Ready(rest.map(|rest| Ok(Frame::data(rest))));
                }
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            match bounded.events.add(&data) {
                Ok(Some(events)) => {
                    let events = bounded.mend(events);
                    return Poll::Ready(Some(Ok(Frame::data(events))));
                }
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

    #[tokio::test]
    async fn nothing_is_left_in_the_file_system_once_somebody_has_connected() {
        let mut relay = Relay::open(u128::from(std::process::id())).unwrap();
        let socket = relay.socket();
        let folder = socket.parent().unwrap().to_owned();
        assert!(folder.exists());
        let (_client, _server) =
            tokio::try_join!(UnixStream::connect(&socket), relay.accept()).unwrap();
        assert!(!folder.exists());
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
        let refused = |body: &str| refused(400, Provider::Google, body.as_bytes());
        assert!(bad.iter().all(|body| refused(body) == Refused::Key));
        assert!(other.iter().all(|body| refused(body) == Refused::Request));
    }

    #[test]
    fn a_quota_and_words_are_refused_by_their_codes_alone() {
        let of = |status, body: &str| refused(status, Provider::OpenAi, body.as_bytes());
        let quota = r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota"}}"#;
        let filter = r#"{"error":{"code":"content_filter","status":400}}"#;
        let quoted = r#"{"error":{"message":"insufficient_quota content_filter","code":null}}"#;
        assert_eq!(of(429, quota), Refused::Quota);
        assert_eq!(of(400, filter), Refused::Words);
        for (status, body) in [(400, quota), (429, filter), (400, quoted), (429, quoted)] {
            assert_eq!(of(status, body), Refused::Request, "{body}");
        }
    }

    #[test]
    fn a_wait_is_milliseconds_or_seconds_or_a_time_by_the_providers_clock() {
        let wait_of = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            // Ten seconds before that.
            wait(
                &headers.collect(),
                Timestamp::from_micros(784_111_772_000_000),
            )
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
        // Without a clock of its own, by ours.
        assert_eq!(
            wait_of(&[("retry-after", after)]),
            Some(Duration::from_secs(10))
        );
        assert_eq!(wait_of(&[("retry-after-ms", "soon")]), None);
        assert_eq!(
            wait_of(&[("retry-after-ms", "18446744073709551615")]),
            Some(Duration::from_hours(24))
        );
    }
}
