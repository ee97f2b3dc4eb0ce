//! The `edge` function on AWS Lambda.

use parlance::http::{
    dialects::ChatApi, edge::edge, serve::serve_router, unrouted::refusing_methods,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    let routes = refusing_methods(edge::routes());
    serve_router(|app| edge::<ChatApi>(routes, app).merge(edge::elsewhere(app))).await
}
