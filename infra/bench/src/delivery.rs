//! What it costs to tell people: from a send to its receipt on a socket, webhooks, and large rooms.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::Outcome;
use crate::connection::Connection;
use crate::figures::{Figures, millis};
use crate::report::line;
use crate::world::World;

/// Rooms, each with one sender and one follower.
const PAIRS: usize = 10;
/// Messages one after the other, each received before the next is sent.
const ALONE: usize = 300;
/// Sends a second, and for how long.
const RATE: u32 = 500;
const LASTS: Duration = Duration::from_secs(10);
/// Offline members of the room whose messages go out by webhook, and how many messages.
const OFFLINE: usize = 20;
const TOLD: usize = 100;
/// Members of the rooms whose fan-out is compared, and messages to each.
const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
const TO_EACH: usize = 5;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Prints all of it.
pub(crate) async fn tell(runner: &Path) -> Outcome<()> {
    let world = Arc::new(World::with(runner, &["--webhook-targets", "any"]).await?);
    line("| send to receipt on a socket | messages/s | p50 ms | p99 ms | CPU ms |");
    line("|---|---:|---:|---:|---:|");
    let (alone, steady) = live(&world).await?;
    for (name, figures) in [("one at a time", alone), ("500 a second, 10 rooms", steady)] {
        let Figures {
            per_second,
            p50,
            p99,
            cpu,
        } = figures;
        line(&format!(
            "| {name} | {per_second:.0} | {p50:.2} | {p99:.1} | {cpu:.2} |"
        ));
    }
    line("");
    line("| webhooks | a second | CPU ms each | a second of CPU |");
    line("|---:|---:|---:|---:|");
    let (rate, cpu) = webhooks(&world).await?;
    let count = OFFLINE * TOLD;
    let of_a_core = 1_000.0 / cpu;
    line(&format!(
        "| {count} | {rate:.0} | {cpu:.2} | {of_a_core:.0} |"
    ));
    line("");
    line(
        "| members of the room | send to receipt by the last, ms | CPU ms a message | CPU µs a member |",
    );
    line("|---:|---:|---:|---:|");
    let world = World::with(runner, &[]).await?;
    for size in SIZES {
        let (last, cpu) = fan_out(&world, size).await?;
        let each = cpu * 1_000.0 / f64::from(u32::try_from(size)?);
        line(&format!("| {size} | {last:.1} | {cpu:.2} | {each:.1} |"));
    }
    Ok(())
}

/// A message that came: which, and when.
type Receipt = (usize, Instant);

/// A socket of `user`, whose messages are told to `receipts`.
async fn follow(
    world: &World,
    user: &str,
    room: &str,
    receipts: mpsc::UnboundedSender<Receipt>,
) -> Outcome<()> {
    let mut request = format!("ws://127.0.0.1:{}/ws", world.server.port).into_client_request()?;
    request
        .headers_mut()
        .insert("x-api-key", world.key().parse()?);
    request.headers_mut().insert("x-user-id", user.parse()?);
    let stream = TcpStream::connect(("127.0.0.1", world.server.port)).await?;
    stream.set_nodelay(true)?;
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    let hello = json!({ "type": "hello", "data": { "after_seq": { room: 0 } } });
    socket.send(Message::text(hello.to_string())).await?;
    let greeted = timeout(PATIENCE, socket.next()).await?;
    greeted.ok_or("the socket ended")??;
    tokio::spawn(async move {
        while let Some(Ok(frame)) = socket.next().await {
            let now = Instant::now();
            let Ok(frame) = frame.to_text() else { continue };
            let frame: Value = serde_json::from_str(frame).unwrap_or_default();
            let number = frame["content"].as_str().and_then(|it| it.parse().ok());
            if let Some(number) = number
                && receipts.send((number, now)).is_err()
            {
                return;
            }
        }
    });
    Ok(())
}

/// Receipts of messages sent one at a time, and at a steady rate.
async fn live(world: &Arc<World>) -> Outcome<(Figures, Figures)> {
    let (told, mut receipts) = mpsc::unbounded_channel();
    let mut rooms = Vec::new();
    for pair in 0..PAIRS {
        let (sender, follower) = (format!("sender{pair}"), format!("follower{pair}"));
        let room = world.room_of(&sender, &[&sender, &follower]).await?;
        follow(world, &follower, &room, told.clone()).await?;
        rooms.push((sender, room));
    }
    let mut connection = Connection::open(world.server.port).await?;
    let mut latencies = Vec::new();
    let (before, begun) = (world.server.cpu()?, Instant::now());
    for number in 0..ALONE {
        let (sender, room) = &rooms[0];
        let sent = Instant::now();
        connection
            .exchange(&world.say(sender, room, &number.to_string()))
            .await?;
        let receipt = timeout(PATIENCE, receipts.recv()).await?;
        latencies.push(receipt.ok_or("no receipt")?.1 - sent);
    }
    let cpu = world.server.cpu()?.saturating_sub(before);
    let alone = Figures::of(latencies, cpu, begun.elapsed());

    let total = usize::try_from(RATE * u32::try_from(LASTS.as_secs())?)?;
    let next = Arc::new(AtomicUsize::new(0));
    let (begun, before) = (Instant::now(), world.server.cpu()?);
    let mut senders = JoinSet::new();
    let rooms = Arc::new(rooms);
    let (sent_at, mut sends) = mpsc::unbounded_channel();
    for _ in 0..16 {
        let (next, rooms, world) = (Arc::clone(&next), Arc::clone(&rooms), Arc::clone(world));
        let sent_at = sent_at.clone();
        let mut connection = Connection::open(world.server.port).await?;
        senders.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return Outcome::Ok(());
                }
                let turn = u32::try_from(number)?;
                sleep_until((begun + Duration::from_secs(1) * turn / RATE).into()).await;
                let (sender, room) = &rooms[number % rooms.len()];
                sent_at.send((number, Instant::now()))?;
                connection
                    .exchange(&world.say(sender, room, &number.to_string()))
                    .await?;
            }
        });
    }
    drop(sent_at);
    let mut received = vec![None; total];
    for _ in 0..total {
        let receipt = timeout(PATIENCE, receipts.recv()).await?;
        let (number, at) = receipt.ok_or("no receipt")?;
        received[number] = Some(at);
    }
    let cpu = world.server.cpu()?.saturating_sub(before);
    let time = begun.elapsed();
    while let Some(ended) = senders.join_next().await {
        ended??;
    }
    let mut latencies = Vec::new();
    while let Some((number, sent)) = sends.recv().await {
        let at = received[number].ok_or("a message was not received")?;
        latencies.push(at.saturating_duration_since(sent));
    }
    Ok((alone, Figures::of(latencies, cpu, time)))
}

/// Webhooks a second from the first send to the last receipt, and milliseconds of CPU for each.
async fn webhooks(world: &World) -> Outcome<(f64, f64)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://127.0.0.1:{}/hooks", listener.local_addr()?.port());
    let (told, mut receipts) = mpsc::unbounded_channel();
    let receiver = tokio::spawn(receive(listener, told));
    let mut connection = Connection::open(world.server.port).await?;
    let members: Vec<_> = (0..OFFLINE).map(|n| format!("offline{n}")).collect();
    let mut all: Vec<&str> = members.iter().map(String::as_str).collect();
    all.push("teller");
    let room = world.room_of("teller", &all).await?;
    let endpoint = json!({ "url": url, "events": ["message.created"] });
    connection
        .exchange(&world.request_of("teller", "POST", "/webhooks", &endpoint))
        .await?;
    let (begun, before) = (Instant::now(), world.server.cpu()?);
    for number in 0..TOLD {
        connection
            .exchange(&world.say("teller", &room, &number.to_string()))
            .await?;
    }
    for _ in 0..OFFLINE * TOLD {
        timeout(PATIENCE, receipts.recv()).await?;
    }
    let (time, cpu) = (begun.elapsed(), world.server.cpu()?.saturating_sub(before));
    receiver.abort();
    let count = f64::from(u32::try_from(OFFLINE * TOLD)?);
    Ok((count / time.as_secs_f64(), millis(cpu) / count))
}

/// Answers every request with 200 and says so.
async fn receive(listener: TcpListener, told: mpsc::UnboundedSender<()>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let told = told.clone();
        tokio::spawn(async move {
            let mut got = Vec::new();
            while let Ok(1..) = stream.read_buf(&mut got).await {
                while let Some(end) = request_end(&got) {
                    got.drain(..end);
                    if told.send(()).is_err() {
                        return;
                    }
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// Where a whole request in `got` ends.
fn request_end(got: &[u8]) -> Option<usize> {
    let head = got.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&got[..head]).ok()?.to_ascii_lowercase();
    let (_, length) = text.split_once("content-length: ")?;
    let length: usize = length.lines().next()?.trim().parse().ok()?;
    (got.len() >= head + 4 + length).then_some(head + 4 + length)
}

/// Milliseconds from a send to the receipt by the last member of a room of `size`, of whom nobody else is
/// connected; and of CPU for each message.
async fn fan_out(world: &World, size: usize) -> Outcome<(f64, f64)> {
    let members: Vec<_> = (1..size).map(|n| format!("m{n:05}")).collect();
    let mut all: Vec<&str> = members.iter().map(String::as_str).collect();
    // Pages are in the order of ids, so this one is in the last.
    let last = format!("z{size}");
    all.push(&last);
    let room = world.room_of("m00001", &all).await?;
    let (told, mut receipts) = mpsc::unbounded_channel();
    follow(world, &last, &room, told).await?;
    let mut connection = Connection::open(world.server.port).await?;
    let mut latencies = Vec::new();
    let (begun, before) = (Instant::now(), world.server.cpu()?);
    for number in 0..TO_EACH {
        let sent = Instant::now();
        connection
            .exchange(&world.say("m00001", &room, &number.to_string()))
            .await?;
        let receipt = timeout(PATIENCE, receipts.recv()).await?;
        latencies.push(receipt.ok_or("no receipt")?.1 - sent);
    }
    let cpu = world.server.cpu()?.saturating_sub(before);
    let figures = Figures::of(latencies, cpu, begun.elapsed());
    Ok((figures.p50, figures.cpu))
}
