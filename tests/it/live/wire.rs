//! A gateway that notes what it is given, at the level of HTTP, and fails as it is told to.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::body::SdkBody;
use serde_json::Value;

/// How long a slow client reads.
const SLOW: Duration = Duration::from_millis(400);

/// What becomes of one post.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// It arrives.
    Take,
    /// It is lost, and the caller sees a time-out.
    Lose,
    /// It arrives, and the caller is answered when the client has read it: [`SLOW`] later.
    Slow,
    /// It arrives, and the caller sees a time-out.
    LoseAnswer,
    /// The caller sees a time-out; it arrives just before the `n`th post after it.
    Late(u64),
    /// There is no such connection.
    Gone,
    /// The connection takes no more.
    Busy,
}

type Plan = Box<dyn Fn(&str, u64) -> Fate + Send + Sync>;

/// The gateway.
#[derive(Clone)]
pub(crate) struct Wire(Arc<State>);

struct State {
    plan: Plan,
    posts: AtomicU64,
    frames: Mutex<HashMap<String, Vec<String>>>,
    late: Mutex<Vec<(u64, String, String)>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// Decides the fate of each post by its connection and its number, from 0.
    pub(crate) fn new(plan: impl Fn(&str, u64) -> Fate + Send + Sync + 'static) -> Self {
        Self(Arc::new(State {
            plan: Box::new(plan),
            posts: AtomicU64::new(0),
            frames: Mutex::default(),
            late: Mutex::default(),
        }))
    }

    /// Everything arrives.
    pub(crate) fn calm() -> Self {
        Self::new(|_, _| Fate::Take)
    }

    pub(crate) fn http_client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }

    /// How often something was posted.
    pub(crate) fn posts(&self) -> u64 {
        self.0.posts.load(Ordering::Relaxed)
    }

    /// What arrived at a connection, in order.
    pub(crate) fn frames(&self, id: &str) -> Vec<Value> {
        let frames = self.0.frames.lock().unwrap();
        let frames = frames.get(id).into_iter().flatten();
        frames
            .map(|frame| serde_json::from_str(frame).unwrap())
            .collect()
    }

    /// The seqs that arrived at a connection, in order.
    pub(crate) fn seqs(&self, id: &str) -> Vec<u64> {
        let frames = self.frames(id);
        frames
            .iter()
            .map(|frame| frame["seq"].as_u64().unwrap())
            .collect()
    }

    fn arrive(&self, id: &str, frame: String) {
        let mut frames = self.0.frames.lock().unwrap();
        frames.entry(id.to_owned()).or_default().push(frame);
    }

    fn post(&self, id: &str, frame: String) -> (Result<u16, ConnectorError>, Duration) {
        let number = self.0.posts.fetch_add(1, Ordering::Relaxed);
        let due: Vec<_> = {
            let mut late = self.0.late.lock().unwrap();
            let (due, rest) = std::mem::take(&mut *late)
                .into_iter()
                .partition(|(due, _, _)| *due <= number);
            *late = rest;
            due
        };
        for (_, id, frame) in due {
            self.arrive(&id, frame);
        }
        let lost = || Err(ConnectorError::timeout("injected time-out".into()));
        let fate = (self.0.plan)(id, number);
        let answer = match fate {
            Fate::Take | Fate::Slow => {
                self.arrive(id, frame);
                Ok(200)
            }
            Fate::Lose => lost(),
            Fate::LoseAnswer => {
                self.arrive(id, frame);
                lost()
            }
            Fate::Late(posts) => {
                let mut late = self.0.late.lock().unwrap();
                late.push((number + posts, id.to_owned(), frame));
                lost()
            }
            Fate::Gone => Ok(410),
            Fate::Busy => Ok(429),
        };
        let after = if matches!(fate, Fate::Slow) {
            SLOW
        } else {
            Duration::ZERO
        };
        (answer, after)
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (_, id) = request.uri().rsplit_once("/@connections/").unwrap();
        let id = percent_encoding::percent_decode_str(id)
            .decode_utf8()
            .unwrap();
        let frame = String::from_utf8(request.body().bytes().unwrap().to_vec()).unwrap();
        let mut after = Duration::ZERO;
        let status = match request.method() {
            "POST" => {
                let (status, read_after) = self.post(&id, frame);
                after = read_after;
                status
            }
            // Whether it is there is asked of the plan too, as of a post that nothing comes of.
            "GET" => Ok(match (self.0.plan)(&id, u64::MAX) {
                Fate::Gone => 410,
                _ => 200,
            }),
            _ => Ok(204),
        };
        let answer = status.map(|status| {
            let body = if status == 200 && request.method() == "GET" {
                r#"{"connectedAt":"2025-12-13T12:00:00Z","lastActiveAt":"2025-12-13T12:00:00Z"}"#
            } else {
                ""
            };
            HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))
        });
        // Others go on meanwhile.
        HttpConnectorFuture::new(async move {
            if after.is_zero() {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(after).await;
            }
            answer
        })
    }
}
