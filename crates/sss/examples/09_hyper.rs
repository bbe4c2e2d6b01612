//! HTTP/1.1 over SSS, each transaction on a substream of its own: `cargo run -p libsss --example 09_hyper`.
//!
//! So a slow response holds up no other, as in HTTP/2, and each is a stream that can be ranked or reset.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, client, server};
use hyper_util::rt::TokioIo;
use sss::{Host, Server, Stream};
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

const SLOW: Duration = Duration::from_millis(500);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let alice = Host::builder().bind("127.0.0.1:0").build().await?;
    tokio::spawn(serve(alice.listen("web", "http/1.1")?));
    let bob = Host::builder().bind("127.0.0.1:0").build().await?;
    let session = bob
        .connect(alice.eid(), "web", "http/1.1")
        .hint(alice.local_addr())
        .await?;
    let session = Arc::new(session);

    let start = Instant::now();
    let mut requests = JoinSet::new();
    for path in ["/slow", "/a", "/b", "/missing"] {
        let session = Arc::clone(&session);
        requests.spawn(async move { Ok::<_, Failure>((path, post(&session, path, "a body").await?)) });
    }
    let mut last = "";
    while let Some(response) = requests.join_next().await {
        let (path, (status, body)) = response??;
        println!("{path}: {status} {body:?} after {:?}", start.elapsed());
        match path {
            "/missing" => assert_eq!(status, StatusCode::NOT_FOUND),
            _ => assert_eq!((status, body), (StatusCode::OK, format!("{path}: a body"))),
        }
        last = path;
    }
    assert_eq!(last, "/slow");

    drop(session);
    bob.close().await?;
    alice.close().await?;
    println!("ok");
    Ok(())
}

/// One transaction.
async fn post(session: &Stream, path: &str, body: &'static str) -> Result<(StatusCode, String), Failure> {
    let io = TokioIo::new(session.open_substream()?);
    let (mut sender, connection) = client::conn::http1::handshake(io).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post(path)
        .header("host", "web")
        .header("connection", "close")
        .body(Full::new(Bytes::from_static(body.as_bytes())))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.await??;
    Ok((status, String::from_utf8(body.to_vec())?))
}

async fn serve(listener: Server) {
    while let Ok((session, _eid)) = listener.accept().await {
        tokio::spawn(async move {
            // `None` when the client has let go of the session.
            while let Ok(Some(transaction)) = session.accept_substream().await {
                tokio::spawn(async move {
                    let connection = server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(transaction), service_fn(answer))
                        .await;
                    if let Err(error) = connection {
                        eprintln!("a transaction failed: {error}");
                    }
                });
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let mut response = Response::new(Full::default());
    let Ok(body) = request.into_body().collect().await else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    match path.as_str() {
        "/missing" => *response.status_mut() = StatusCode::NOT_FOUND,
        "/slow" => tokio::time::sleep(SLOW).await,
        _ => {}
    }
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    *response.body_mut() = Full::new(format!("{path}: {body}").into());
    Ok(response)
}
