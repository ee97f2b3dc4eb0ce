//! What a client says.

use std::collections::BTreeMap;

use parlance::{
    app::{App, connections::MAX_HELLO_ROOMS},
    domain::{Actor, ConnectionId, Error, Moment, Once, live::Socket, message::Seq},
    http::{dialects::ChatApi, onward, read_object, same::digests, telemetry::socket::Observed},
};

use crate::wire::{AckIn, Head, HelloIn, MessageIn, Out, RoomIn};

/// What the client of connection `id` is told in answer to `text`, if anything.
pub(crate) async fn answer(
    app: &App,
    id: &ConnectionId,
    text: &str,
    moment: &Moment,
    observed: &Observed,
) -> Option<String> {
    let mut request_id = None;
    let said = admit(app, id, moment, observed).await;
    let said = match said {
        Ok((socket, actor)) => {
            let frame = Frame {
                app,
                socket: &socket,
                actor: &actor,
                moment,
            };
            frame.heard(text, &mut request_id, observed).await
        }
        Err(error) => Err(error),
    };
    let (out, error) = match said {
        Ok(out) => (out?, None),
        Err(error) => (refusal(&error, request_id), Some(error)),
    };
    // Strings and numbers: it always has a JSON form.
    let out = serde_json::to_string(&out).unwrap_or_default();
    let Some(error) = error else {
        return Some(out);
    };
    let is_over = matches!(error, Error::Unauthenticated(_));
    observed.fails_with(error);
    if !is_over {
        return Some(out);
    }
    // Whose key was ended is told so, and hung up on.
    if let Err(error) = app.dismiss(id, &out).await {
        observed.fails_with(error);
    }
    None
}

/// Whose connection it is. The frame is charged as a request.
async fn admit(
    app: &App,
    id: &ConnectionId,
    moment: &Moment,
    observed: &Observed,
) -> Result<(Socket, Actor), Error> {
    let socket = app.socket(id, moment).await?;
    let session = app.session_of(socket.key, moment).await?;
    observed.belongs_to(session.tenant);
    let (_, verdict) = app.charge(session.budget(), &onward(moment)?).await?;
    verdict?;
    let actor = app.actor(&session, socket.connection.user.clone());
    Ok((socket, actor))
}

fn refusal(error: &Error, request_id: Option<String>) -> Out {
    let body = ChatApi::wording(error);
    Out::Error {
        request_id,
        code: body.code,
        message: body.message,
        field: body.field,
        retry_after: match error {
            Error::RateLimited { retry_after } => Some(*retry_after),
            _ => None,
        },
    }
}

/// A frame of a client.
struct Frame<'a> {
    app: &'a App,
    socket: &'a Socket,
    actor: &'a Actor,
    moment: &'a Moment,
}

impl Frame<'_> {
    async fn heard(
        &self,
        text: &str,
        request_id: &mut Option<String>,
        observed: &Observed,
    ) -> Result<Option<Out>, Error> {
        let head: Result<Head, Error> = read_object(text.as_bytes());
        if !matches!(&head, Ok(head) if head.kind == "hello") {
            // Whatever it says: the client is there.
            self.app.make_ready(self.socket, self.moment).await?;
        }
        let head = head?;
        if let Some(id) = head.request_id {
            *request_id = Some(checked(id)?);
        }
        let id = request_id.clone();
        let data = head.data.as_deref().map_or(text, |data| data.get());
        let bytes = data.as_bytes();
        match head.kind.as_str() {
            "send_message" => {
                observed.says("send_message");
                self.send(bytes, id).await.map(Some)
            }
            "ack" => {
                observed.says("ack");
                self.ack(bytes, id).await.map(Some)
            }
            "typing.start" => {
                observed.says("typing.start");
                self.start_typing(bytes).await.map(|()| None)
            }
            "typing.stop" => {
                observed.says("typing.stop");
                self.stop_typing(bytes).await.map(|()| None)
            }
            "subscribe" => {
                observed.says("subscribe");
                self.subscribe(bytes, id).await.map(Some)
            }
            "hello" => {
                observed.says("hello");
                self.hello(bytes, id).await.map(Some)
            }
            "ping" => {
                observed.says("ping");
                Ok(Some(Out::Pong { request_id: id }))
            }
            _ => Err(Error::invalid(
                "type",
                "Invalid type. Must be one of: send_message, ack, typing.start, typing.stop, subscribe, hello, ping",
            )),
        }
    }

    /// A request's id makes it one message, however often it is sent.
    async fn send(&self, data: &[u8], request_id: Option<String>) -> Result<Out, Error> {
        let (room, content, meta) = read_object::<MessageIn>(data)?.parse()?;
        let once = match &request_id {
            None => None,
            Some(id) => Some(Once::parse(id, digests("send_message\n", None, data))?),
        };
        let sent = self
            .app
            .send_message(self.actor, room, content, meta, once.as_ref(), self.moment)
            .await?;
        Ok(Out::sent(request_id, &sent.value))
    }

    async fn ack(&self, data: &[u8], request_id: Option<String>) -> Result<Out, Error> {
        let (room, seq) = read_object::<AckIn>(data)?.parse()?;
        let said_by = Some(&self.socket.connection.id);
        self.app
            .ack(self.actor, room, seq, said_by, self.moment)
            .await?;
        Ok(Out::Acked {
            request_id,
            room_id: room.to_string(),
            seq: seq.get(),
            user_id: self.actor.user().to_string(),
        })
    }

    async fn start_typing(&self, data: &[u8]) -> Result<(), Error> {
        let room = read_object::<RoomIn>(data)?.parse()?;
        let connection = &self.socket.connection;
        let typing = self
            .app
            .start_typing(self.actor, connection, room, self.moment);
        typing.await
    }

    async fn stop_typing(&self, data: &[u8]) -> Result<(), Error> {
        let room = read_object::<RoomIn>(data)?.parse()?;
        let connection = &self.socket.connection;
        let typing = self
            .app
            .stop_typing(self.actor, connection, room, self.moment);
        typing.await
    }

    async fn subscribe(&self, data: &[u8], request_id: Option<String>) -> Result<Out, Error> {
        let room = read_object::<RoomIn>(data)?.parse()?;
        let online = self.app.online_in(self.actor, room, self.moment).await?;
        Ok(Out::Subscribed {
            request_id,
            room_id: room.to_string(),
            online: online.map(|users| users.iter().map(ToString::to_string).collect()),
        })
    }

    async fn hello(&self, data: &[u8], request_id: Option<String>) -> Result<Out, Error> {
        let hello: HelloIn = read_object(data)?;
        if hello.after_seq.len() > MAX_HELLO_ROOMS {
            return Err(Error::invalid(
                "after_seq",
                format!("Invalid after_seq. It names at most {MAX_HELLO_ROOMS} rooms"),
            ));
        }
        let mut after = BTreeMap::new();
        let mut refused = Vec::new();
        for (room, seq) in hello.after_seq {
            match room.parse() {
                Ok(id) => {
                    after.insert(id, Seq::new(seq));
                }
                Err(_) => refused.push(room),
            }
        }
        let greeted = self.app.hello(self.socket, after, self.moment).await?;
        refused.extend(greeted.refused.iter().map(ToString::to_string));
        Ok(Out::Greeted {
            request_id,
            rooms: greeted.rooms,
            refused,
        })
    }
}

/// A request's id, as an `Idempotency-Key` may be.
fn checked(id: String) -> Result<String, Error> {
    if Once::is_key(&id) {
        return Ok(id);
    }
    Err(Error::invalid(
        "request_id",
        "Invalid request_id. It is 1 to 255 visible ASCII characters",
    ))
}
