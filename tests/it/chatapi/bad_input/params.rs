//! Parameters of a query, and ids in a path, that break their rules.

use super::{stage, written};

#[tokio::test]
async fn a_bad_parameter_of_a_list_is_named() {
    let stage = stage().await;
    let bad_limit = [
        "0",
        "-1",
        "abc",
        "1000000000",
        "101",
        "",
        "+5",
        "%2B5",
        "1e2",
        "5.0",
        "%205",
        "0x5",
        "٣",
        "null",
    ];
    let mut cases: Vec<(String, &str)> = bad_limit
        .iter()
        .map(|limit| (format!("limit={limit}"), "limit"))
        .collect();
    for offset in ["-1", "1001", "abc", "", "1e2", "99999999999999999999"] {
        cases.push((format!("offset={offset}"), "offset"));
    }
    cases.push(("limit=1&limit=1".to_owned(), "limit"));
    cases.push(("offset=1&offset=2".to_owned(), "offset"));
    let with_cursors = |cursors: &[&str]| {
        let cursors = cursors
            .iter()
            .map(|cursor| (format!("cursor={cursor}"), "cursor"));
        cases.iter().cloned().chain(cursors).collect::<Vec<_>>()
    };
    // Not base64url; not UTF-8; NUL; a space. A list of members goes on after any user id.
    let members = with_cursors(&["", "x", "!!", "%25", "__8", "AA", "=", "IA"]);
    let others = with_cursors(&[
        "",
        "x",
        "!!",
        "%25",
        "__8",
        "AA",
        "=",
        "IA",
        "e30",
        "MQ",
        "MS54",
        "OS5yb29tXzE",
    ]);
    let mut seqs = cases.clone();
    for seq in [
        "-1",
        "abc",
        "",
        "1.0",
        "+1",
        "281474976710656",
        "99999999999999999999",
    ] {
        seqs.push((format!("after_seq={seq}"), "after_seq"));
        seqs.push((format!("before_seq={seq}"), "before_seq"));
    }
    seqs.push(("after_seq=1&after_seq=2".to_owned(), "after_seq"));
    let lists = [
        ("/rooms", &others),
        ("/rooms/{room}/members", &members),
        ("/subscriptions", &others),
        ("/webhooks", &others),
        ("/admin/tenants", &others),
        ("/rooms/{room}/messages", &seqs),
    ];
    for (route, cases) in lists {
        for (query, field) in cases {
            let path = format!("{}?{query}", stage.path(route));
            let answer = stage.client(route).get(&path).await;
            assert_eq!(
                (answer.status, answer.body["error"]["field"].as_str()),
                (400, Some(*field)),
                "{path}: {}",
                answer.raw
            );
            answer.assert_error(400, "VALIDATION_ERROR", Some(field));
        }
    }
}

#[tokio::test]
async fn a_bad_user_id_is_refused_where_a_member_is_deleted() {
    let stage = stage().await;
    let before = written(&stage.tenant.world).await;
    let client = stage.client("/rooms");
    let members = stage.path("/rooms/{room}/members");
    client
        .delete(&members)
        .await
        .assert_error(400, "VALIDATION_ERROR", Some("user_id"));
    for bad in [
        "%20",
        "a%20b",
        "%00",
        "%0a",
        "%F0%9F%98%80",
        "%ff",
        &"x".repeat(129),
    ] {
        let by_query = client.delete(&format!("{members}?user_id={bad}")).await;
        by_query.assert_error(400, "VALIDATION_ERROR", Some("user_id"));
        let by_path = client.delete(&format!("{members}/{bad}")).await;
        assert!(
            [400, 404].contains(&by_path.status),
            "{bad}: {}",
            by_path.raw
        );
        assert_eq!(by_path.body["success"], false, "{bad}: {}", by_path.raw);
    }
    let empty = client.delete(&format!("{members}?user_id=")).await;
    empty.assert_error(400, "VALIDATION_ERROR", Some("user_id"));
    let twice = client
        .delete(&format!("{members}?user_id=bob&user_id=alice"))
        .await;
    twice.assert_error(400, "VALIDATION_ERROR", Some("user_id"));
    assert_eq!(written(&stage.tenant.world).await, before);
}
