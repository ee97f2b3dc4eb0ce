//! One keep-alive connection that speaks as much HTTP/1.1 as the runner answers with.
//!
//! A client library would take a good part of the machine that it is to measure.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Outcome;

const HEAD_END: &[u8] = b"\r\n\r\n";
const LENGTH: &[u8] = b"\r\ncontent-length: ";

/// A connection to the runner.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(port: u16) -> Outcome<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::with_capacity(64 * 1024),
        })
    }

    /// Sends one request and gives the body of its answer.
    ///
    /// # Errors
    ///
    /// If the answer is not a success: a benchmark of failures measures nothing.
    pub(crate) async fn exchange(&mut self, request: &str) -> Outcome<&[u8]> {
        self.stream.write_all(request.as_bytes()).await?;
        self.received.clear();
        let head = loop {
            self.receive().await?;
            if let Some(at) = find(&self.received, HEAD_END) {
                break at;
            }
        };
        let body = head + HEAD_END.len();
        let end = body + length(&self.received[..head])?;
        while self.received.len() < end {
            self.receive().await?;
        }
        let status = &self.received["HTTP/1.1 ".len()..];
        if status[0] == b'2' {
            return Ok(&self.received[body..end]);
        }
        let answer = String::from_utf8_lossy(&self.received);
        Err(format!("{request}\nwas answered with\n{answer}").into())
    }

    async fn receive(&mut self) -> Outcome<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err("the runner closed the connection".into()),
            _ => Ok(()),
        }
    }
}

fn length(head: &[u8]) -> Outcome<usize> {
    let Some(at) = find(head, LENGTH) else {
        return Ok(0);
    };
    let digits = head[at + LENGTH.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let length = String::from_utf8(digits.copied().collect())?;
    Ok(length.parse()?)
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}
