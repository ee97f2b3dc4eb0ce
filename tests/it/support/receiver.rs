//! Somewhere webhooks are sent to, on this machine.

use std::{
    collections::BTreeMap,
    future::pending,
    net::TcpListener,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde_json::Value;

use super::deployed::serve_on;

/// A receiver of webhooks.
#[derive(Clone)]
pub struct Receiver {
    /// Where it is.
    pub url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    status: StatusCode,
    /// How many answers apart those are that are a 500.
    fails_each: Option<usize>,
    /// What an answer says besides its status.
    headers: Vec<(&'static str, String)>,
    /// How long an answer is, in bytes.
    length: usize,
    hangs: bool,
    asked: usize,
    got: Vec<Got>,
}

/// A webhook as it came.
#[derive(Debug, Clone)]
pub struct Got {
    /// Its headers, each once.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub raw: String,
    /// Its body as JSON.
    pub body: Value,
    /// What it was answered.
    pub status: u16,
}

impl Receiver {
    /// One that answers 200.
    pub fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let state = Arc::new(Mutex::new(State {
            status: StatusCode::OK,
            fails_each: None,
            headers: Vec::new(),
            length: 0,
            hangs: false,
            asked: 0,
            got: Vec::new(),
        }));
        let mine = Arc::clone(&state);
        let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| async move {
            let (hangs, answer) = mine.lock().unwrap().take(&headers, &body);
            if hangs {
                pending::<()>().await;
            }
            answer
        });
        Self {
            url: format!("{}/hooks", serve_on(listener, router)),
            state,
        }
    }

    /// Answers with `status` from now on.
    pub fn answer(&self, status: u16) {
        self.state.lock().unwrap().status = StatusCode::from_u16(status).unwrap();
    }

    /// Answers every `each`th webhook with a 500 from now on.
    pub fn fail_each(&self, each: usize) {
        self.state.lock().unwrap().fails_each = Some(each);
    }

    /// Answers with this header too from now on.
    pub fn say(&self, name: &'static str, value: &str) {
        let mut state = self.state.lock().unwrap();
        state.headers.push((name, value.to_owned()));
    }

    /// Answers with a body of `length` bytes from now on.
    pub fn talk(&self, length: usize) {
        self.state.lock().unwrap().length = length;
    }

    /// Takes what comes and answers nothing from now on.
    pub fn hang(&self) {
        self.state.lock().unwrap().hangs = true;
    }

    /// How many webhooks came, ever.
    pub fn asked(&self) -> usize {
        self.state.lock().unwrap().asked
    }

    /// What came since this was last asked.
    pub fn take(&self) -> Vec<Got> {
        std::mem::take(&mut self.state.lock().unwrap().got)
    }
}

impl State {
    /// Takes a webhook: whether there is no answer, and which.
    fn take(&mut self, headers: &HeaderMap, body: &Bytes) -> (bool, Response) {
        self.asked += 1;
        let fails = self
            .fails_each
            .is_some_and(|each| self.asked.is_multiple_of(each));
        let status = if fails {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            self.status
        };
        self.got.push(Got::new(headers, body, status));
        let mut answer = (status, vec![b'.'; self.length]).into_response();
        for (name, value) in &self.headers {
            let value = HeaderValue::from_str(value).unwrap();
            answer.headers_mut().insert(*name, value);
        }
        (self.hangs, answer)
    }
}

impl Got {
    fn new(headers: &HeaderMap, body: &Bytes, status: StatusCode) -> Self {
        let raw = String::from_utf8(body.to_vec()).unwrap();
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        Self {
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            // Who reads pages sends nothing.
            body: match raw.as_str() {
                "" => Value::Null,
                raw => serde_json::from_str(raw).unwrap(),
            },
            status: status.as_u16(),
            raw,
        }
    }
}
