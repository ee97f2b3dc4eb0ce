//! Rooms.

use serde_json::json;

use crate::support::tenant;

#[tokio::test]
async fn a_message_to_an_unknown_room_is_not_found() {
    let tenant = tenant().await;

    let response = tenant
        .user("alice")
        .post("/rooms/room_nope/messages", &json!({ "content": "hi" }))
        .await;

    response.assert(
        404,
        json!({
            "success": false,
            "error": { "code": "NOT_FOUND", "message": "Room not found" },
        }),
    );
}
