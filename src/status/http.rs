//! The health port. First lines and codes are flannel's; reasons follow on lines of their own.

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

use super::Connections;
use super::metrics;
use super::process;
use super::report::{Report, State};
use super::reporter::Reporter;
use super::summary::plain;
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
            Err(error) => waiting.log(&format!(
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
    let mut content_type = "text/plain; charset=utf-8";
    let Page(code, body) = match request.uri().path() {
        "/healthz" => healthz(reporter.check_alive().await),
        "/readyz" => {
            let strict = request.uri().query() == Some("strict");
            readyz(&reporter.findings().await.report, strict)
        }
        "/metrics" => {
            content_type = "text/plain; version=0.0.4; charset=utf-8";
            let findings = reporter.findings().await;
            Page(
                200,
                metrics::render(findings, process::read(), SystemTime::now()),
            )
        }
        _ => Page(404, "404 page not found\n".into()),
    };
    Response::builder()
        .status(code)
        .header(CONTENT_TYPE, content_type)
        .body(Full::new(body.into()))
}

/// Status code and body.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Page(u16, String);

/// Liveness: a daemon that waits, for etcd or for anything else, lives. Only one whose loop no longer turns does not.
fn healthz(alive: Result<(), Duration>) -> Page {
    match alive {
        Ok(()) => Page(200, "flanneld is running".into()),
        Err(age) => {
            let age = age.as_secs();
            let text = format!("flanneld is stuck: its main loop has not answered for {age} s");
            Page(503, text)
        }
    }
}

/// Readiness. A host that serves is ready also while something needs attention, except for those who are `strict`.
fn readyz(report: &Report, strict: bool) -> Page {
    let (code, line) = match report.state {
        State::Fine => (200, "flanneld is ready"),
        State::Degraded if !strict => (200, "flanneld is ready"),
        State::Degraded | State::NotReady | State::NotRunning | State::Silent => {
            (503, "flanneld is not ready yet")
        }
    };
    let mut body = line.to_owned();
    for reason in &report.reasons {
        // Words of etcd's or of the kernel's may have any form.
        body.extend(["\n", &plain(reason)]);
    }
    Page(code, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: State, reasons: &[&str]) -> Report {
        Report {
            state,
            reasons: reasons.iter().map(|&r| r.into()).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn what_flannel_says_is_said_to_the_byte() {
        let page = |code, body: &str| Page(code, body.to_owned());
        assert_eq!(healthz(Ok(())), page(200, "flanneld is running"));
        assert_eq!(
            readyz(&report(State::Fine, &[]), false),
            page(200, "flanneld is ready")
        );
        assert_eq!(
            readyz(&report(State::NotReady, &[]), false),
            page(503, "flanneld is not ready yet")
        );
    }

    #[test]
    fn reasons_follow_one_a_line() {
        let waiting = report(State::NotReady, &["waiting: no\nconfig", "and more"]);
        assert_eq!(
            readyz(&waiting, false),
            Page(
                503,
                "flanneld is not ready yet\nwaiting: no config\nand more".into()
            )
        );
        let degraded = report(State::Degraded, &["STALE"]);
        assert_eq!(
            readyz(&degraded, false),
            Page(200, "flanneld is ready\nSTALE".into())
        );
        assert_eq!(
            readyz(&degraded, true),
            Page(503, "flanneld is not ready yet\nSTALE".into())
        );
    }

    #[test]
    fn only_a_stuck_loop_is_not_alive() {
        assert_eq!(healthz(Err(Duration::from_secs(99))).0, 503);
    }
}
