//! The health port.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{debug, info};

use super::connections::Connections;
use super::health::{self, Page};
use super::metrics;
use super::process;
use super::reporter::Reporter;
use crate::util::retry_log::RetryLog;

/// For the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// Room for the head of a request, in bytes: the least that hyper takes.
const ROOM: usize = 8192;
/// Between two attempts to open the port, and after a connection that could not be taken.
const PAUSE: Duration = Duration::from_secs(2);

/// Serves every client. A port that cannot be opened is waited for: it is no reason to leave a host without an overlay.
pub(super) async fn serve(address: SocketAddr, reporter: Reporter) -> Infallible {
    let listener = open(address).await;
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => connections.serve(visit(stream, reporter.clone())),
            Err(error) => {
                debug!(%address, err = %error, "cannot accept a connection at {address}: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn open(address: SocketAddr) -> TcpListener {
    let mut waiting = RetryLog::default();
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                info!(%address, "serving /healthz, /readyz, and /metrics on {address}");
                return listener;
            }
            Err(error) => waiting.say(&format!(
                "cannot open the health port {address}: {error}; free the port, or choose another one (-healthz-ip, -healthz-port)"
            )),
        }
        sleep(PAUSE).await;
    }
}

async fn visit(stream: TcpStream, reporter: Reporter) {
    let service = service_fn(|request| answer(request, &reporter));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(ROOM)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(err = %error, "cannot answer a client of the health port: {error}");
    }
}

async fn answer(
    request: Request<Incoming>,
    reporter: &Reporter,
) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
    let Page {
        code,
        content_type,
        body,
    } = match request.uri().path() {
        "/healthz" => health::healthz(reporter.check_alive().await),
        "/readyz" => {
            let strict = request.uri().query() == Some("strict");
            health::readyz(&reporter.findings().await.report, strict)
        }
        "/metrics" => Page::metrics(metrics::render(
            reporter.findings().await,
            process::read(),
            SystemTime::now(),
        )),
        _ => Page::not_found(),
    };
    Response::builder()
        .status(code)
        .header(CONTENT_TYPE, content_type)
        .body(Full::new(body.into()))
}
