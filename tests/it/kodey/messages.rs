//! What was said in a chat, as it is read.

use serde_json::{Value, json};

use super::{
    assert_error,
    chats::{chat, said, say},
    team,
};

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
async fn a_chat_of_more_than_100_messages_leads_to_the_rest() {
    let team = team().await;
    let chat = chat(&team.sk).await;
    for n in 0..51 {
        say(&team.sk, &chat, &format!("{n}")).await;
    }

    let shown = team.sk.get(&format!("/chat/{chat}")).await;

    assert_eq!(shown.body["messages"].as_array().unwrap().len(), 100);
    let cursor = shown.text("nextCursor");
    let rest = team
        .sk
        .get(&format!("/chat/{chat}/message?cursor={cursor}"))
        .await;
    let rest = rest.body["messages"].as_array().unwrap().clone();
    assert_eq!((rest.len(), &rest[0]["content"]), (2, &json!("50")));
    assert_eq!(said(&team.sk, &chat).await.len(), 102);
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
        ("include=", "include"),
    ] {
        let refused = team.sk.get(&format!("/chat/{chat}/message?{query}")).await;
        assert_error(&refused, 400, "Bad Request", Some(field));
    }
}
