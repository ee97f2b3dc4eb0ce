//! Reading a page that somebody else chose.

use std::{fmt, sync::OnceLock, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, Uri,
    body::{Bytes, Incoming},
    header::{self, HeaderName},
};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{Client, client, reason, trusted};
use crate::domain::{address::Targets, webhook::EndpointUrl};

/// Who we say we are.
const AGENT: &str = concat!("Parlance-Fetch/", env!("CARGO_PKG_VERSION"));
/// For how long an unused connection is kept.
const KEPT: Duration = Duration::from_secs(5);
/// For a name to be resolved and a connection to be made, without its TLS.
const CONNECT: Duration = Duration::from_secs(3);
/// How many redirections are followed.
const REDIRECTIONS: usize = 3;

/// Reads pages at addresses that are checked, each redirection's too.
pub struct Fetcher {
    /// Made when it is first needed: most answers read no page.
    client: OnceLock<Client>,
    targets: Targets,
    total: Duration,
    most: usize,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher")
            .field("targets", &self.targets)
            .field("total", &self.total)
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The status of the last answer.
    pub status: u16,
    /// Where it came from, after all redirections.
    pub url: String,
    /// What it says it is, if it says so: as in `Content-Type`.
    pub kind: Option<String>,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// Whether there was more.
    pub is_cut: bool,
}

/// Why nothing was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfetched {
    /// The URL, or one that it redirects to, is none, or is not allowed.
    NotAllowed,
    /// It redirects, and redirects, and redirects.
    TooManyRedirections,
    /// Nobody answered, or the answer broke off. Why, in words that are always the same.
    Failed(&'static str),
}

impl fmt::Display for Unfetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAllowed => reason::NOT_ALLOWED,
            Self::TooManyRedirections => "too many redirections",
            Self::Failed(reason) => reason,
        })
    }
}

impl Fetcher {
    /// The longest body that is read, in bytes.
    pub const MOST: usize = 256 * 1024;
    /// How long reading may take in all.
    pub const TOTAL: Duration = Duration::from_secs(5);

    /// Reads at `targets`.
    pub const fn new(targets: Targets) -> Self {
        Self {
            client: OnceLock::new(),
            targets,
            total: Self::TOTAL,
            most: Self::MOST,
        }
    }

    /// Reads `url`, within [`Fetcher::TOTAL`] and by `until`. Whatever the status is, the answer counts as read.
    pub async fn get(&self, url: &str, until: Instant) -> Result<Fetched, Unfetched> {
        let end = until.min(Instant::now() + self.total);
        match timeout_at(end, self.follow(url)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(Unfetched::Failed(reason::TIMEOUT)),
        }
    }

    async fn follow(&self, url: &str) -> Result<Fetched, Unfetched> {
        let mut next = url.to_owned();
        for _ in 0..=REDIRECTIONS {
            let url = EndpointUrl::parse(next, self.targets).map_err(|_| Unfetched::NotAllowed)?;
            let answer = self.ask(&url).await?;
            match redirection(&url, &answer) {
                Some(to) => next = to,
                None => return self.read(&url, answer).await,
            }
        }
        Err(Unfetched::TooManyRedirections)
    }

    async fn ask(&self, url: &EndpointUrl) -> Result<Response<Incoming>, Unfetched> {
        let uri: Uri = url.normal().parse().map_err(|_| Unfetched::NotAllowed)?;
        let request = Request::get(uri)
            .header(header::USER_AGENT, AGENT)
            .header(header::ACCEPT, "text/*, application/json;q=0.9, */*;q=0.1")
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Full::new(Bytes::new()))
            .map_err(|_| Unfetched::NotAllowed)?;
        let client = self
            .client
            .get_or_init(|| client(trusted(), self.targets, CONNECT, KEPT));
        let answer = client.request(request).await;
        answer.map_err(|error| match reason::reason(&error) {
            reason::NOT_ALLOWED => Unfetched::NotAllowed,
            reason => Unfetched::Failed(reason),
        })
    }

    async fn read(
        &self,
        url: &EndpointUrl,
        answer: Response<Incoming>,
    ) -> Result<Fetched, Unfetched> {
        if text(&answer, header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(Unfetched::Failed("answer is compressed"));
        }
        let kind = text(&answer, header::CONTENT_TYPE).map(ToOwned::to_owned);
        let (head, mut rest) = answer.into_parts();
        let (mut body, mut is_cut) = (Vec::new(), false);
        while !is_cut && let Some(frame) = rest.frame().await {
            let frame = frame.map_err(|_| Unfetched::Failed("answer broke off"))?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            let room = self.most - body.len();
            is_cut = data.len() > room;
            body.extend_from_slice(&data[..data.len().min(room)]);
        }
        Ok(Fetched {
            status: head.status.as_u16(),
            url: url.as_str().to_owned(),
            kind,
            body,
            is_cut,
        })
    }
}

fn text(answer: &Response<Incoming>, name: HeaderName) -> Option<&str> {
    answer.headers().get(name)?.to_str().ok()
}

/// Where `answer`, which came from `url`, sends its reader.
fn redirection(url: &EndpointUrl, answer: &Response<Incoming>) -> Option<String> {
    let (301 | 302 | 303 | 307 | 308) = answer.status().as_u16() else {
        return None;
    };
    let to = text(answer, header::LOCATION)?;
    let to = Url::parse(url.normal()).ok()?.join(to).ok()?;
    Some(to.into())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::JoinSet,
    };

    use super::*;

    /// Answers the requests that come with `answers`, one connection each.
    async fn serving(answers: Vec<String>) -> (String, JoinSet<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut read = Vec::new();
                while !read.ends_with(b"\r\n\r\n") {
                    read.push(stream.read_u8().await.unwrap());
                }
                // Who was told enough leaves in the middle.
                drop(stream.write_all(answer.as_bytes()).await);
            }
        });
        (base, serving)
    }

    fn answer(status: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    async fn get(answers: Vec<String>) -> (Result<Fetched, Unfetched>, String) {
        let (base, _serving) = serving(answers).await;
        let fetched = Fetcher::new(Targets::Any)
            .get(&format!("{base}/a/b"), far())
            .await;
        (fetched, base)
    }

    #[tokio::test]
    async fn a_page_is_read_with_what_it_says_it_is() {
        let page = answer("404 Not Found", "content-type: text/html\r\n", "<p>no</p>");
        let (fetched, base) = get(vec![page]).await;
        let expected = Fetched {
            status: 404,
            url: format!("{base}/a/b"),
            kind: Some("text/html".to_owned()),
            body: b"<p>no</p>".to_vec(),
            is_cut: false,
        };
        assert_eq!(fetched, Ok(expected));
    }

    #[tokio::test]
    async fn a_redirection_is_followed_from_where_it_is() {
        let to = answer("302 Found", "location: ../c?d\r\n", "");
        let (fetched, base) = get(vec![to, answer("200 OK", "", "here")]).await;
        let fetched = fetched.unwrap();
        assert_eq!(
            (fetched.url, fetched.body),
            (format!("{base}/c?d"), b"here".to_vec())
        );
    }

    #[tokio::test]
    async fn three_redirections_are_followed_and_no_fourth() {
        let to = answer("301 Moved Permanently", "location: /x\r\n", "");
        let (fetched, _) = get(vec![to; 4]).await;
        assert_eq!(fetched, Err(Unfetched::TooManyRedirections));
    }

    #[tokio::test]
    async fn of_a_long_page_the_beginning_is_read() {
        let long = answer("200 OK", "", &"x".repeat(Fetcher::MOST + 1));
        let (fetched, _) = get(vec![long]).await;
        let fetched = fetched.unwrap();
        assert!(fetched.is_cut && fetched.body.len() == Fetcher::MOST);
        let whole = answer("200 OK", "", &"x".repeat(Fetcher::MOST));
        assert!(!get(vec![whole]).await.0.unwrap().is_cut);
    }

    #[tokio::test]
    async fn what_is_compressed_is_not_read() {
        let packed = answer("200 OK", "content-encoding: gzip\r\n", "x");
        let (fetched, _) = get(vec![packed]).await;
        assert_eq!(fetched, Err(Unfetched::Failed("answer is compressed")));
    }

    #[tokio::test]
    async fn nothing_but_a_public_address_is_read_and_only_over_tls() {
        let fetcher = Fetcher::new(Targets::Public);
        for url in [
            "http://example.com/",
            "https://127.0.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://localhost/",
            "file:///etc/passwd",
            "nothing",
        ] {
            let page = fetcher.get(url, far()).await;
            assert_eq!(page, Err(Unfetched::NotAllowed), "{url}");
        }
    }

    #[tokio::test]
    async fn who_never_answers_is_left_by_then() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let soon = Instant::now() + Duration::from_millis(50);
        let fetched = Fetcher::new(Targets::Any).get(&url, soon).await;
        assert_eq!(fetched, Err(Unfetched::Failed(reason::TIMEOUT)));
    }
}
