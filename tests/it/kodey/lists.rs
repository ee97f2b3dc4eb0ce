//! Lists of chats: newest first, by user and by type of agent, page by page.

use std::time::Duration;

use parlance::{
    domain::{AgentId, ChatId, Moment, UserId, agent::BuiltIn, chat::Chat},
    store::{Backoff, Stores},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Team, assert_error,
    chats::{chat, chat_with},
    team,
};
use crate::support::{Client, Response, settings};

/// The ids of a page, in its order.
#[track_caller]
fn ids(page: &Response) -> Vec<String> {
    assert_eq!(page.status, 200, "{}", page.raw);
    let chats = page.body["chats"].as_array().unwrap().iter();
    chats
        .map(|chat| chat["id"].as_str().unwrap().to_owned())
        .collect()
}

/// The ids of all pages from `path` on, and how many pages there are. Each page's cursor is its link's.
async fn all(client: &Client, path: &str) -> (Vec<String>, usize) {
    let (mut listed, mut pages, mut next) = (Vec::new(), 0, Some(path.to_owned()));
    while let Some(path) = next {
        let page = client.get(&path).await;
        listed.extend(ids(&page));
        pages += 1;
        next = page.next();
        let cursor = page.body["nextCursor"].as_str();
        let linked = next
            .as_ref()
            .map(|link| link.split("cursor=").nth(1).unwrap());
        assert_eq!(cursor, linked);
    }
    (listed, pages)
}

async fn of(team: &Team, user: &str, agent: &str) -> String {
    chat_with(&team.sk, json!({ "agentId": agent, "userId": user })).await
}

#[tokio::test]
async fn chats_are_listed_newest_first_as_the_seed_shows_them() {
    let team = team().await;
    let body = json!({ "agentId": "code", "userId": "ann" });
    let older = team.sk.post("/chat", &body).await;
    let newer = team.sk.post("/chat", &json!({ "agentId": "chat" })).await;

    let listed = team.sk.get("/chat").await;

    listed.assert(
        200,
        json!({ "chats": [
            {
                "id": newer.text("id"),
                "agentId": "chat",
                "createdAt": newer.text("createdAt"),
            },
            {
                "id": older.text("id"),
                "agentId": "code",
                "userId": "ann",
                "createdAt": older.text("createdAt"),
            },
        ] }),
    );
    assert_eq!(listed.next(), None);
}

#[tokio::test]
async fn a_user_and_a_type_each_leave_the_others_out() {
    let team = team().await;
    let first = of(&team, "ann", "chat").await;
    let second = of(&team, "ann", "code").await;
    let third = of(&team, "bob", "code").await;
    let fourth = chat(&team.sk).await;
    for (query, wanted) in [
        ("", vec![&fourth, &third, &second, &first]),
        ("?userId=ann", vec![&second, &first]),
        ("?agentType=code", vec![&third, &second]),
        ("?agentType=chat", vec![&fourth, &first]),
        ("?userId=ann&agentType=code", vec![&second]),
        ("?userId=bob&agentType=chat", vec![]),
        ("?userId=eve", vec![]),
        ("?agentType=none", vec![]),
    ] {
        let listed = team.sk.get(&format!("/chat{query}")).await;
        assert_eq!(ids(&listed).iter().collect::<Vec<_>>(), wanted, "{query}");
    }
}

#[tokio::test]
async fn pages_lead_through_a_list_without_a_gap_or_a_repetition() {
    let team = team().await;
    let mut made = Vec::new();
    for n in 0..7 {
        made.push(of(&team, "a&b=c", if n % 2 == 0 { "chat" } else { "code" }).await);
    }
    made.reverse();
    let of_code: Vec<_> = made.iter().skip(1).step_by(2).cloned().collect();
    for (query, wanted, pages) in [
        ("?limit=3", &made, 3),
        ("?limit=7", &made, 1),
        ("?userId=a%26b%3Dc&limit=2", &made, 4),
        ("?agentType=code&limit=2", &of_code, 2),
        ("?userId=a%26b%3Dc&agentType=code&limit=1", &of_code, 3),
    ] {
        let listed = all(&team.sk, &format!("/chat{query}")).await;
        assert_eq!(listed, (wanted.clone(), pages), "{query}");
    }
}

#[tokio::test]
async fn a_user_whose_id_looks_like_a_key_lists_its_own_chats() {
    let team = team().await;
    let odd = of(&team, "a#type#chat", "chat").await;
    let plain = of(&team, "a", "chat").await;

    assert_eq!(ids(&team.sk.get("/chat?userId=a").await), [plain]);
    assert_eq!(
        ids(&team.sk.get("/chat?userId=a%23type%23chat").await),
        [odd]
    );
    assert!(ids(&team.sk.get("/chat?agentType=chat%23").await).is_empty());
}

#[tokio::test]
async fn a_browser_that_visitors_share_must_name_a_user() {
    let team = team().await;
    let of_ann = of(&team, "ann", "chat").await;
    of(&team, "bob", "chat").await;

    let refused = team.pk.get("/chat").await;
    let listed = team.pk.get("/chat?userId=ann").await;

    assert_error(&refused, 400, "Bad Request", Some("userId"));
    assert_eq!(ids(&listed), [of_ann]);
}

#[tokio::test]
async fn a_browser_lists_all_of_a_team_that_lets_it() {
    let team = team().await;
    team.set(json!({ "publishable_list_scope": "team" })).await;
    let made = chat(&team.pk).await;
    assert_eq!(ids(&team.pk.get("/chat").await), [made]);
}

#[tokio::test]
async fn a_browser_of_one_user_lists_the_chats_of_that_user() {
    let team = team().await;
    let ann = team.browser_of("ann").await;
    let own = of(&team, "ann", "chat").await;
    of(&team, "bob", "chat").await;

    let refused = ann.get("/chat?userId=bob").await;

    assert_eq!(ids(&ann.get("/chat").await), std::slice::from_ref(&own));
    assert_eq!(ids(&ann.get("/chat?userId=ann").await), [own]);
    assert_error(&refused, 403, "Forbidden", None);
}

#[tokio::test]
async fn a_list_holds_no_chat_of_another_team() {
    let (team, other) = (team().await, team().await);
    of(&team, "ann", "chat").await;
    for query in [
        "",
        "?userId=ann",
        "?agentType=chat",
        "?userId=ann&agentType=chat",
    ] {
        let listed = other.sk.get(&format!("/chat{query}")).await;
        listed.assert(200, json!({ "chats": [] }));
    }
}

#[tokio::test]
async fn parameters_of_a_list_that_break_a_rule_are_named() {
    let team = team().await;
    let long = "t".repeat(65);
    for (query, field) in [
        ("limit=0".to_owned(), "limit"),
        ("limit=101".to_owned(), "limit"),
        ("limit=x".to_owned(), "limit"),
        ("cursor=x".to_owned(), "cursor"),
        ("cursor=".to_owned(), "cursor"),
        ("userId=".to_owned(), "userId"),
        ("userId=a&userId=b".to_owned(), "userId"),
        (format!("agentType={long}"), "agentType"),
        ("agentType=%00".to_owned(), "agentType"),
    ] {
        let refused = team.sk.get(&format!("/chat?{query}")).await;
        assert_error(&refused, 400, "Bad Request", Some(field));
    }
}

/// Makes `count` chats of `user` with an agent of type `kind`, a millisecond apart, from the `from`th on.
async fn many(team: &Team, user: &str, kind: &str, from: i64, count: i64) {
    let stores = Stores::new(&team.tenant.world.dynamodb, &settings().tables, false);
    for n in from..from + count {
        let moment = Moment::new(
            "2025-12-13T12:00:00Z".parse().unwrap(),
            Instant::now(),
            Duration::from_mins(1),
            u128::try_from(n).unwrap() << 64,
        );
        let moment = Moment {
            now: moment.now.plus_micros(n * 1_000),
            ..moment
        };
        let chat = Chat {
            id: ChatId::at(&moment),
            agent: AgentId::BuiltIn(BuiltIn::Chat),
            kind: kind.to_owned(),
            user: Some(UserId::parse("userId", user).unwrap()),
            has_metadata: false,
            created_at: moment.now,
        };
        let mut race = Backoff::until(moment.deadline, 1);
        let tenant = team.id.parse().unwrap();
        stores
            .chats
            .create(tenant, chat, None, None, &mut race)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn all_chats_are_listed_to_who_sets_no_limit_up_to_1000() {
    let team = team().await;
    many(&team, "ann", "kind", 0, 1_001).await;
    for query in ["", "?userId=ann", "?agentType=kind"] {
        let first = team.sk.get(&format!("/chat{query}")).await;
        assert_eq!(ids(&first).len(), 1_000, "{query}");
        let (listed, pages) = all(&team.sk, &format!("/chat{query}")).await;
        assert_eq!((listed.len(), pages), (1_001, 2), "{query}");
    }
}

#[tokio::test]
async fn a_page_that_would_look_at_too_many_chats_ends_and_leads_on() {
    let team = team().await;
    many(&team, "ann", "wanted", 0, 1).await;
    many(&team, "ann", "other", 1, 1_100).await;

    let first = team.sk.get("/chat?userId=ann&agentType=wanted").await;

    assert_eq!(first.body["chats"], Value::Array(Vec::new()));
    let (listed, pages) = all(&team.sk, "/chat?userId=ann&agentType=wanted").await;
    assert_eq!((listed.len(), pages), (1, 2));
}
