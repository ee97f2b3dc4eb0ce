//! An HTTP/1.1 client over one plain socket: nothing is pooled, repeated or hidden.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use super::wait::LONG;

/// What came back, whole.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in small letters, and values.
    pub headers: Vec<(String, String)>,
    /// The body: a string if it is not JSON, `Null` if it is empty.
    pub body: Value,
}

impl Answer {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(it, _)| it == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body, which must have come with `status`.
    #[track_caller]
    pub fn assert(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// To `address`, such as `127.0.0.1:8080`.
    pub fn open(address: &str) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(LONG))?;
        Ok(Self(BufReader::new(socket)))
    }

    /// Sends a request and waits for the whole answer.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> io::Result<Answer> {
        self.write(&Self::request(method, path, headers, body))?;
        self.answer()
    }

    /// A request as it is written.
    pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
        head(method, path, headers, body.len()) + body
    }

    /// Sends a request without its body, and waits until the service asks for it: from then on it has
    /// the request.
    pub fn begin(&mut self, path: &str, headers: &[(&str, &str)], length: usize) -> io::Result<()> {
        let mut all = headers.to_vec();
        all.push(("expect", "100-continue"));
        self.write(&head("POST", path, &all, length))?;
        let line = self.line()?;
        assert_eq!(line, "HTTP/1.1 100 Continue");
        assert_eq!(self.line()?, "");
        Ok(())
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, text: &str) -> io::Result<()> {
        self.0.get_mut().write_all(text.as_bytes())
    }

    /// Waits for a whole answer.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: Value::Null,
        };
        let length = answer.header("content-length");
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body)?;
        if !body.is_empty() {
            answer.body = serde_json::from_slice(&body)
                .unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
        }
        Ok(answer)
    }

    /// Whether the other side says nothing more, ever.
    pub fn is_at_end(&mut self) -> bool {
        self.0.fill_buf().map_or(true, <[u8]>::is_empty)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

fn head(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n"
    );
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head + "\r\n"
}

/// Somebody who calls the API, each time over a new connection.
#[derive(Debug, Clone)]
pub struct Client {
    /// Where.
    pub address: String,
    /// The headers of every request.
    pub headers: Vec<(String, String)>,
}

impl Client {
    /// At `base_url`, with these headers on every request.
    pub fn new(base_url: &str, headers: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            address: address(base_url),
            headers: headers.iter().map(own).collect(),
        }
    }

    /// The same, as they are sent.
    pub fn headers(&self) -> Vec<(&str, &str)> {
        let headers = self.headers.iter();
        headers.map(|(name, value)| (&**name, &**value)).collect()
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "")
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &body.to_string())
    }

    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.call("PATCH", path, &body.to_string())
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut connection = Connection::open(&self.address).unwrap();
        let answer = connection.send(method, path, &self.headers(), body);
        answer.unwrap()
    }

    /// A new group of `members`, made by the caller.
    #[track_caller]
    pub fn group(&self, members: &[&str]) -> String {
        let body = serde_json::json!({ "type": "group", "members": members });
        let room = self.post("/rooms", &body).assert(201);
        room["room_id"].as_str().unwrap().to_owned()
    }

    /// Sends `content` to `room`; its seq.
    #[track_caller]
    pub fn say(&self, room: &str, content: &str) -> u64 {
        let body = serde_json::json!({ "content": content });
        let sent = self.post(&format!("/rooms/{room}/messages"), &body);
        sent.assert(200)["seq"].as_u64().unwrap()
    }

    /// The whole log of `room`, read page by page.
    #[track_caller]
    pub fn log(&self, room: &str) -> Vec<Said> {
        let mut log = Vec::new();
        loop {
            let page = self.page(room, log.len() as u64);
            let is_last = page.len() < PAGE;
            log.extend(page);
            if is_last {
                return log;
            }
        }
    }

    /// The ids of all messages of `room`.
    #[track_caller]
    pub fn ids(&self, room: &str) -> Vec<String> {
        let mut ids = Vec::new();
        loop {
            let page = self.get(&page_path(room, ids.len() as u64)).assert(200);
            let page = page.as_array().unwrap();
            let id = |message: &Value| message["message_id"].as_str().unwrap().to_owned();
            ids.extend(page.iter().map(id));
            if page.len() < PAGE {
                return ids;
            }
        }
    }

    /// A page of the log of `room`, after the seq `after`.
    #[track_caller]
    pub fn page(&self, room: &str, after: u64) -> Vec<Said> {
        said(&self.get(&page_path(room, after)).assert(200))
    }
}

const PAGE: usize = 100;

/// Asks for the messages after `after`.
pub fn page_path(room: &str, after: u64) -> String {
    format!("/rooms/{room}/messages?after_seq={after}&limit={PAGE}")
}

/// A message as it is read: its place and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub seq: u64,
    pub content: String,
}

/// The messages of a page.
pub fn said(page: &Value) -> Vec<Said> {
    let read = |message: &Value| Said {
        seq: message["seq"].as_u64().unwrap(),
        content: message["content"].as_str().unwrap().to_owned(),
    };
    page.as_array().unwrap().iter().map(read).collect()
}

/// `127.0.0.1:8080` of `http://127.0.0.1:8080`.
pub fn address(base_url: &str) -> String {
    base_url.strip_prefix("http://").unwrap().to_owned()
}
