//! hyper and axum without tokio's runtime: a goroutine for each connection, under `curl` and `wrk`.

mod support;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use strands::context::{self, CancelHandle, Context};
use strands::net::{TcpListener, TcpStream};
use strands::sync::{Mutex, WaitGroup};
use strands::task::{self, hyper::Timer};
use support::{Scratch, succeeds, tool};
use tower::ServiceExt;

/// Accepts until it is cancelled; then has connections finish what they are at, and waits for them.
struct Served {
    addr: SocketAddr,
    cancel: CancelHandle,
    accepting: strands::JoinHandle<()>,
}

fn serve(connection: impl Fn(TcpStream, &Context) + Clone + Send + 'static) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, cancel) = context::with_cancel(&context::background());
    let accepting = strands::go(move || {
        let connections = WaitGroup::new();
        while let Ok((stream, _)) = listener.accept_ctx(&stop) {
            let (connection, stop) = (connection.clone(), stop.clone());
            connections.go(move || connection(stream, &stop));
        }
        assert!(connections.wait_timeout(support::PATIENCE), "connections end");
    });
    Served { addr, cancel, accepting }
}

impl Served {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    fn stop(self) {
        self.cancel.cancel();
        self.accepting.join().unwrap();
    }
}

/// One connection of hyper's, until it ends or is asked to.
macro_rules! run {
    ($stream:expr, $stop:expr, $service:expr) => {
        task::block_on(async {
            let served = http1::Builder::new().timer(Timer).serve_connection($stream, $service);
            let mut served = std::pin::pin!(served);
            let mut stopped = std::pin::pin!($stop.done().recv_async());
            std::future::poll_fn(|cx| {
                use std::future::Future;
                if stopped.as_mut().poll(cx).is_ready() {
                    served.as_mut().graceful_shutdown();
                    return served.as_mut().poll(cx).map(drop);
                }
                served.as_mut().poll(cx).map(drop)
            })
            .await;
        })
    };
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    // What is straight-line code may block: the goroutine waits, and nobody else.
    strands::sleep(Duration::from_micros(50));
    Ok(Response::new(Full::from([path.as_bytes(), b" ", &body].concat())))
}

fn hyper_server() -> Served {
    serve(|stream, stop| run!(stream, stop, service_fn(echo)))
}

#[test]
fn curl_is_served_by_hyper() {
    let Some(mut curl) = tool("curl") else { return };
    let server = hyper_server();
    let scratch = Scratch::new();
    let upload = scratch.0.join("upload");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(&upload, &bytes).unwrap();
    let download = scratch.0.join("download");
    let text = succeeds(
        curl.args(["--silent", "--show-error", "--fail", "--data", "hello"])
            .arg(server.url("/one"))
            .args(["--next", "--silent", "--show-error", "--fail", "--header"])
            .args(["transfer-encoding: chunked", "--data-binary"])
            .arg(format!("@{}", upload.display()))
            .arg("--output")
            .arg(&download)
            .arg(server.url("/two")),
    );
    assert_eq!(text, "/one hello");
    assert!(std::fs::read(download).unwrap() == [b"/two ", &bytes[..]].concat());
    server.stop();
}

#[test]
fn wrk_is_served_by_hyper_and_the_end_is_in_order() {
    let Some(mut wrk) = tool("wrk") else { return };
    let server = hyper_server();
    let printed = succeeds(wrk.args(["-t", "1", "-c", "64", "-d", "1s"]).arg(server.url("/")));
    assert!(!printed.contains("Non-2xx") && !printed.contains("Socket errors"), "{printed}");
    assert!(printed.contains("requests in"), "{printed}");
    server.stop();
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Entry {
    key: String,
    value: u64,
}

type Store = Arc<Mutex<HashMap<String, u64>>>;

/// Handlers of axum's, with a lock and a channel of ours.
fn router() -> Router {
    Router::new()
        .route("/", get(async || "Hello, World!"))
        .route(
            "/store",
            post(async |State(store): State<Store>, Json(entry): Json<Entry>| {
                store.lock().unwrap().insert(entry.key, entry.value);
                StatusCode::CREATED
            }),
        )
        .route(
            "/store/{key}",
            get(async |State(store): State<Store>, Path(key): Path<String>| {
                let value = store.lock().unwrap().get(&key).copied();
                value.map(|value| Json(Entry { key, value })).ok_or(StatusCode::NOT_FOUND)
            }),
        )
        .route(
            "/sum",
            get(async |Query(terms): Query<HashMap<String, u64>>| {
                // Computed by goroutines, awaited by an async handler.
                let (tx, rx) = strands::channel::bounded(0);
                for (_, term) in terms {
                    let tx = tx.clone();
                    strands::go(move || tx.send(term));
                }
                drop(tx);
                let mut sum = 0;
                while let Ok(term) = rx.recv_async().await {
                    sum += term;
                }
                sum.to_string()
            }),
        )
        .with_state(Store::default())
}

fn axum_server() -> Served {
    let router = router();
    serve(move |stream, stop| {
        let router = &router;
        let service = service_fn(async |request: Request<Incoming>| {
            let answer = router.clone().oneshot(request.map(axum::body::Body::new)).await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|never| match never {}))
        });
        run!(stream, stop, service);
    })
}

#[test]
fn curl_is_served_by_axum() {
    let Some(mut curl) = tool("curl") else { return };
    let server = axum_server();
    let text = succeeds(
        curl.args(["--silent", "--show-error", "--json", "{\"key\":\"seven\",\"value\":7}"])
            .args(["--write-out", "%{http_code} "])
            .arg(server.url("/store"))
            .args(["--next", "--silent", "--write-out", " "])
            .arg(server.url("/store/seven"))
            .args(["--next", "--silent", "--write-out", "%{http_code} "])
            .arg(server.url("/store/eight"))
            .args(["--next", "--silent"])
            .arg(server.url("/sum?a=1&b=20&c=300")),
    );
    assert_eq!(text, "201 {\"key\":\"seven\",\"value\":7} 404 321");
    server.stop();
}

#[test]
fn wrk_is_served_by_axum() {
    let Some(mut wrk) = tool("wrk") else { return };
    let server = axum_server();
    let printed = succeeds(wrk.args(["-t", "1", "-c", "64", "-d", "1s"]).arg(server.url("/")));
    assert!(!printed.contains("Non-2xx") && !printed.contains("Socket errors"), "{printed}");
    assert!(printed.contains("requests in"), "{printed}");
    server.stop();
}
