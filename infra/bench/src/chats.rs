//! What an answer of an agent costs beside its model: a provider in this process answers at once.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::Outcome;
use crate::figures::{Figures, median, millis};
use crate::load::drive;
use crate::report::line;
use crate::world::World;

/// Keys, so that the budget of none is used up: a thousand requests a minute each. A tenant has at most 100.
const KEYS: usize = 45;
/// Numbers of connections, each with a chat of its own.
const CONNECTIONS: [usize; 2] = [1, 16];
/// Measured for so long, in so many rounds.
const TIME: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
/// How long a model thinks whose first word is waited for.
const THINKS: Duration = Duration::from_millis(200);
/// How often it is asked, straight and through us in turns.
const TURNS: usize = 50;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// How the words of an answer come.
const WORDS: [&str; 8] = [
    "The ", "quick ", "brown ", "fox ", "jumps ", "over ", "the ", "dog.",
];

/// Prints all of it.
pub(crate) async fn answer(runner: &Path) -> Outcome<()> {
    let at_once = provider(Duration::ZERO).await?;
    let thinking = provider(THINKS).await?;
    let world = Arc::new(World::with(runner, &["--model-targets", "any"]).await?);
    let quick = Team::new(&world, at_once).await?;
    line("| answered sends | answers/s | p50 ms | p99 ms | CPU ms |");
    line("|---|---:|---:|---:|---:|");
    for connections in CONNECTIONS {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push(quick.sends(&world, connections).await?);
        }
        let Figures {
            per_second,
            p50,
            p99,
            cpu,
        } = Figures::median(&rounds);
        line(&format!(
            "| {connections} at once, each in its chat | {per_second:.0} | {p50:.2} | {p99:.1} | {cpu:.2} |"
        ));
    }
    line("");
    line("| first word, ms | straight | through us | ratio |");
    line("|---|---:|---:|---:|");
    // Of a tenant's keys for one provider the first is taken, so the other model is another tenant's.
    let other = World::with(runner, &["--model-targets", "any"]).await?;
    let slow = Team::new(&other, thinking).await?;
    let models = [
        ("of a model that answers at once", &quick, &*world, at_once),
        ("of one that thinks for 200 ms", &slow, &other, thinking),
    ];
    for (name, team, world, port) in models {
        let (straight, through) = team.first_words(world, port).await?;
        let ratio = through / straight;
        line(&format!(
            "| {name} | {straight:.1} | {through:.1} | {ratio:.2} |"
        ));
    }
    Ok(())
}

/// A tenant's agent of a provider, and what it is asked with.
struct Team {
    keys: Vec<String>,
    chats: Vec<String>,
}

impl Team {
    /// An agent whose provider is at `port`.
    async fn new(world: &World, port: u16) -> Outcome<Self> {
        let tenant = format!("/admin/tenants/{}", world.tenant());
        let provider_key = json!({
            "provider": "openai",
            "api_key": format!("sk-bench-{port}"),
            "base_url": format!("http://127.0.0.1:{port}/v1/"),
        });
        let path = format!("{tenant}/provider-keys");
        world.operator("POST", &path, &provider_key).await?;
        let mut keys = Vec::new();
        for number in 0..KEYS {
            let key = json!({ "kind": "secret", "name": format!("bench {port} {number}") });
            let made = world
                .operator("POST", &format!("{tenant}/api-keys"), &key)
                .await?;
            keys.push(text(&made, "api_key")?);
        }
        let agent = json!({ "name": "Bench", "provider": "openai", "model": "bench" });
        let made = world
            .ask("POST", "/agent", &header(&keys[0]), &agent)
            .await?;
        let agent = text(&made, "id")?;
        let mut chats = Vec::new();
        for _ in 0..CONNECTIONS.into_iter().max().unwrap_or(1) {
            let chat = json!({ "agentId": agent });
            let made = world.ask("POST", "/chat", &header(&keys[0]), &chat).await?;
            chats.push(text(&made, "id")?);
        }
        Ok(Self { keys, chats })
    }

    async fn sends(&self, world: &Arc<World>, connections: usize) -> Outcome<Figures> {
        let (keys, chats) = (self.keys.clone(), self.chats.clone());
        let request = move |user: usize, nth: u64| {
            let nth = usize::try_from(nth).unwrap_or_default();
            let key = &keys[(user + nth) % keys.len()];
            send(&chats[user], &header(key))
        };
        let (figures, _) = drive(world, Arc::new(request), connections, TIME).await?;
        Ok(figures)
    }

    /// How long the first word takes, in ms: straight from the provider at `port`, and through the runner.
    async fn first_words(&self, world: &World, port: u16) -> Outcome<(f64, f64)> {
        let (mut straight, mut through) = (Vec::new(), Vec::new());
        let body = json!({ "model": "bench", "stream": true, "messages": [] });
        let asked = post("/v1/chat/completions", "Authorization: Bearer none", &body);
        for turn in 0..TURNS {
            straight.push(millis(first_word(port, &asked).await?));
            let credentials = header(&self.keys[turn % self.keys.len()]);
            let streamed = format!("{credentials}\r\nAccept: text/event-stream");
            let request = send(&self.chats[0], &streamed);
            through.push(millis(first_word(world.server.port, &request).await?));
        }
        Ok((median(straight), median(through)))
    }
}

fn header(key: &str) -> String {
    format!("X-API-Key: {key}")
}

fn send(chat: &str, headers: &str) -> String {
    let body = json!({ "content": crate::world::CONTENT, "role": "user" });
    post(&format!("/chat/{chat}/message"), headers, &body)
}

fn post(path: &str, headers: &str, body: &Value) -> String {
    crate::world::request("POST", path, headers, body)
}

fn text(answer: &Value, field: &str) -> Outcome<String> {
    let text = answer[field].as_str();
    Ok(text.ok_or(format!("no {field} in {answer}"))?.to_owned())
}

/// From a request to the first word of its answer, over a connection of its own.
async fn first_word(port: u16, request: &str) -> Outcome<Duration> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let begun = Instant::now();
    stream.write_all(request.as_bytes()).await?;
    let mut received = Vec::new();
    let mut taken = None;
    // To the end, so that the next answer is not the second at once.
    while timeout(PATIENCE, stream.read_buf(&mut received)).await?? > 0 {
        let text = String::from_utf8_lossy(&received);
        if taken.is_none() && text.contains(WORDS[0]) {
            taken = Some(begun.elapsed());
        }
        if text.contains("event: done") || text.contains("[DONE]") {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&received);
    taken.ok_or_else(|| format!("{request}\nwas answered with\n{answer}").into())
}

/// A provider that speaks `OpenAI`'s Chat Completions, and thinks for so long before its first word. Its port.
async fn provider(thinks: Duration) -> Outcome<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever leaves is not answered.
            tokio::spawn(async move { drop(serve(stream, thinks).await) });
        }
    });
    Ok(port)
}

async fn serve(mut stream: TcpStream, thinks: Duration) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    loop {
        let request = loop {
            if let Some(length) = request_length(&received) {
                break length;
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        };
        received.drain(..request);
        sleep(thinks).await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        for word in WORDS {
            let event = json!({ "id": "1", "object": "chat.completion.chunk", "model": "bench",
                "choices": [{ "index": 0, "delta": { "content": word }, "finish_reason": null }] });
            chunk(&mut stream, &format!("data: {event}\n\n")).await?;
        }
        let end = json!({ "id": "1", "object": "chat.completion.chunk", "model": "bench",
            "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
        let usage = json!({ "id": "1", "object": "chat.completion.chunk", "model": "bench", "choices": [],
            "usage": { "prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28 } });
        chunk(
            &mut stream,
            &format!("data: {end}\n\ndata: {usage}\n\ndata: [DONE]\n\n"),
        )
        .await?;
        stream.write_all(b"0\r\n\r\n").await?;
    }
}

async fn chunk(stream: &mut TcpStream, text: &str) -> Outcome<()> {
    let framed = format!("{:x}\r\n{text}\r\n", text.len());
    Ok(stream.write_all(framed.as_bytes()).await?)
}

/// How long the first request of `received` is, once all of it is there.
fn request_length(received: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(received);
    let head = text.find("\r\n\r\n")?;
    let length = text[..head].lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().to_owned())
    });
    let end = head + 4 + length.unwrap_or_default().parse().unwrap_or(0);
    (received.len() >= end).then_some(end)
}
