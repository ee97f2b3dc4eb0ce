//! What was said in a chat, as it is read.

use std::time::Duration;

use parlance::{
    domain::{
        Log, LogId, Timestamp, UserId,
        message::{Content, Draft, Role, Seq, Tail},
    },
    store::Stores,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Team, assert_error,
    chats::{chat, say},
    team,
};
use crate::support::{Client, settings};

/// Has `count` messages said in a new chat: each is its number, and at least `bytes` long.
pub async fn long_chat(team: &Team, count: u64, bytes: usize) -> String {
    let chat = chat(&team.sk).await;
    let stores = Stores::new(&team.tenant.world.dynamodb, &settings().tables, false);
    let log = LogId {
        tenant: team.id.parse().unwrap(),
        log: Log::Chat(chat.parse().unwrap()),
    };
    for n in 1..=count {
        let draft = Draft {
            log,
            author: UserId::parse("userId", "ann").unwrap(),
            role: Some(Role::User),
            in_reply_to: None,
            content: Content::parse(format!("{n:0bytes$}")).unwrap(),
            meta: None,
            created_at: Timestamp::from_micros(0),
            seed: u128::from(n),
        };
        let deadline = Instant::now() + Duration::from_mins(1);
        let tail = Tail {
            seq: Seq::new(n - 1),
            ..Tail::EMPTY
        };
        let sent = stores.messages.append(&draft, tail, deadline).await;
        assert_eq!(sent.unwrap().seq, Seq::new(n));
    }
    chat
}

/// The numbers of the messages of each page from `path` on.
async fn pages(client: &Client, path: &str) -> Vec<Vec<u64>> {
    let (mut pages, mut next) = (Vec::new(), Some(path.to_owned()));
    while let Some(path) = next {
        let page = client.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.raw);
        let messages = page.body["messages"].as_array().unwrap().iter();
        let number = |message: &Value| message["content"].as_str().unwrap().parse().unwrap();
        pages.push(messages.map(number).collect());
        next = page.next();
        let linked = next.as_ref().and_then(|link| link.split("cursor=").nth(1));
        assert_eq!(page.body["nextCursor"].as_str(), linked);
    }
    pages
}

#[tokio::test]
async fn messages_are_listed_in_their_order_as_the_seed_shows_them() {
    let team = team().await;
    let chat = chat(&team.pk).await;
    let answer = say(&team.pk, &chat, "Hello!").await;

    let listed = team.pk.get(&format!("/chat/{chat}/message")).await;

    let question = &listed.body["messages"][0];
    assert!(question["id"].as_str().unwrap().starts_with("msg_"));
    listed.assert(
        200,
        json!({ "messages": [
            {
                "id": question["id"],
                "content": "Hello!",
                "role": "user",
                "createdAt": question["createdAt"],
            },
            {
                "id": answer.text("id"),
                "content": "[echo] You said: Hello!",
                "role": "assistant",
                "createdAt": answer.text("createdAt"),
            },
        ] }),
    );
}

#[tokio::test]
async fn a_chat_is_shown_with_its_messages() {
    let team = team().await;
    let chat = chat(&team.pk).await;
    say(&team.pk, &chat, "Hello!").await;

    let shown = team.pk.get(&format!("/chat/{chat}")).await;
    let listed = team.pk.get(&format!("/chat/{chat}/message")).await;

    assert_eq!(shown.body["messages"], listed.body["messages"]);
}

#[tokio::test]
async fn what_a_message_answers_and_how_is_shown_to_who_asks() {
    let team = team().await;
    let chat = chat(&team.pk).await;
    say(&team.pk, &chat, "Hello!").await;
    for path in [format!("/chat/{chat}"), format!("/chat/{chat}/message")] {
        let shown = team.sk.get(&format!("{path}?include=meta")).await;
        let (question, answer) = (&shown.body["messages"][0], &shown.body["messages"][1]);
        assert_eq!(answer["inReplyTo"], question["id"]);
        assert_eq!(answer["agentVersion"], 1);
        assert_eq!(answer["meta"]["provider"], "echo");
        assert_eq!(question.get("inReplyTo"), None);
        assert_eq!(question.get("meta"), None);
    }
}

#[tokio::test]
async fn pages_lead_through_a_log_from_its_first_message() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    for n in 0..4 {
        say(&team.sk, &chat, &format!("{n}")).await;
    }
    let (mut read, mut pages) = (Vec::<Value>::new(), 0);
    let mut next = Some(format!("/chat/{chat}/message?limit=3&include=meta"));
    while let Some(path) = next {
        let page = team.sk.get(&path).await;
        read.extend(page.body["messages"].as_array().unwrap().iter().cloned());
        pages += 1;
        next = page.next();
        assert_eq!(page.body.get("nextCursor").is_some(), next.is_some());
    }
    assert_eq!((read.len(), pages), (8, 3));
    let whole = team
        .sk
        .get(&format!("/chat/{chat}/message?include=meta"))
        .await;
    assert_eq!(whole.body["messages"], json!(read));
}

#[tokio::test]
async fn all_of_a_log_is_shown_to_who_sets_no_limit() {
    let team = team().await;
    let chat = long_chat(&team, 120, 1).await;
    let all: Vec<_> = (1..=120).collect();
    for path in [format!("/chat/{chat}"), format!("/chat/{chat}/message")] {
        assert_eq!(pages(&team.pk, &path).await, std::slice::from_ref(&all));
    }
}

#[tokio::test]
async fn a_log_of_more_than_1000_messages_leads_to_the_rest() {
    let team = team().await;
    let chat = long_chat(&team, 1_002, 1).await;
    let first: Vec<_> = (1..=1_000).collect();
    for path in [format!("/chat/{chat}"), format!("/chat/{chat}/message")] {
        let read = pages(&team.sk, &path).await;
        assert_eq!(read, [first.clone(), vec![1_001, 1_002]], "{path}");
    }
    let newest: Vec<_> = (3..=1_002).rev().collect();
    let read = pages(&team.sk, &format!("/chat/{chat}/message?order=desc")).await;
    assert_eq!(read, [newest, vec![2, 1]]);
}

#[tokio::test]
async fn a_log_that_is_too_heavy_for_one_answer_leads_to_the_rest() {
    let team = team().await;
    let chat = long_chat(&team, 150, 32_000).await;
    for path in [format!("/chat/{chat}"), format!("/chat/{chat}/message")] {
        let read = pages(&team.sk, &path).await;
        assert!(read.len() == 2 && read[0].len() > 100, "{}", read[0].len());
        assert_eq!(read.concat(), (1..=150).collect::<Vec<_>>());
    }
    let read = pages(&team.sk, &format!("/chat/{chat}/message?order=desc")).await;
    assert!(read.len() == 2 && read[0].len() > 100, "{}", read[0].len());
    assert_eq!(read.concat(), (1..=150).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn the_newest_messages_come_first_to_who_wants_them() {
    let team = team().await;
    let chat = long_chat(&team, 7, 1).await;
    let path = format!("/chat/{chat}/message");
    for (query, wanted) in [
        ("order=desc", vec![vec![7, 6, 5, 4, 3, 2, 1]]),
        (
            "order=desc&limit=3",
            vec![vec![7, 6, 5], vec![4, 3, 2], vec![1]],
        ),
        ("order=desc&limit=7", vec![vec![7, 6, 5, 4, 3, 2, 1]]),
        (
            "order=asc&limit=3",
            vec![vec![1, 2, 3], vec![4, 5, 6], vec![7]],
        ),
    ] {
        let read = pages(&team.sk, &format!("{path}?{query}")).await;
        assert_eq!(read, wanted, "{query}");
    }
}

#[tokio::test]
async fn a_cursor_is_a_place_from_which_a_log_is_read_either_way() {
    let team = team().await;
    let chat = long_chat(&team, 7, 1).await;
    let path = format!("/chat/{chat}/message");
    let newest = team.sk.get(&format!("{path}?order=desc&limit=3")).await;
    let cursor = newest.text("nextCursor");
    for (order, wanted) in [("asc", vec![6, 7]), ("desc", vec![4, 3, 2, 1])] {
        let read = pages(&team.sk, &format!("{path}?order={order}&cursor={cursor}")).await;
        assert_eq!(read, [wanted]);
    }
}

#[tokio::test]
async fn parameters_of_a_log_that_break_a_rule_are_named() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("cursor=!", "cursor"),
        ("cursor=YWJj", "cursor"),
        ("order=", "order"),
        ("order=newest", "order"),
        ("include=", "include"),
    ] {
        let refused = team.sk.get(&format!("/chat/{chat}/message?{query}")).await;
        assert_error(&refused, 400, "Bad Request", Some(field));
    }
}
