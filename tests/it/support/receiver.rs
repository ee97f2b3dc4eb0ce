//! Somewhere webhooks are sent to, on this machine.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
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
            asked: 0,
            got: Vec::new(),
        }));
        let mine = Arc::clone(&state);
        let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| async move {
            let mut state = mine.lock().unwrap();
            state.asked += 1;
            let fails = state
                .fails_each
                .is_some_and(|each| state.asked.is_multiple_of(each));
            let status = if fails {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                state.status
            };
            state.got.push(Got::new(&headers, &body, status));
            status
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

    /// What came since this was last asked.
    pub fn take(&self) -> Vec<Got> {
        std::mem::take(&mut self.state.lock().unwrap().got)
    }
}

impl Got {
    fn new(headers: &HeaderMap, body: &Bytes, status: StatusCode) -> Self {
        let raw = String::from_utf8(body.to_vec()).unwrap();
        let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
        Self {
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: serde_json::from_str(&raw).unwrap(),
            status: status.as_u16(),
            raw,
        }
    }
}
