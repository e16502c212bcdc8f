//! Opens the connection to one etcd member: name, TCP, TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::Channel;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::Uri;
use tower::{ServiceExt, service_fn};

use super::error::Fault;
use crate::config::Endpoint;
use crate::resolver;

/// For the name, and then for the connection.
const LIMIT: Duration = Duration::from_secs(2);
/// For each step of asking a server why it hangs up.
const PROBE_LIMIT: Duration = Duration::from_secs(1);
/// etcd drops clients that ping more often than every 5 s.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

type BoxError = Box<dyn std::error::Error + Send + Sync>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects to a member; over TLS if there is a configuration for it. Returns its addresses as well.
pub(super) async fn open(
    address: &Endpoint,
    tls: Option<Arc<ClientConfig>>,
) -> Result<(Channel, Vec<SocketAddr>), Fault> {
    let addresses = resolve(address).await?;
    let found = addresses.clone();
    let origin = Uri::try_from(address.to_string())
        .map_err(|_| Fault::unresolved(address.host(), "it is not a valid host name"))?;
    // Plain, since TLS is made here: tonic refuses an https address for which it is to make none.
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", address.authority))
        .map_err(|error| Fault::from_transport(&error))?
        .origin(origin)
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .keep_alive_while_idle(true);
    let is_tls = tls.is_some();
    let name = is_tls.then(|| server_name(address)).transpose()?;
    let mut http = HttpConnector::new_with_resolver(service_fn(move |_: Name| {
        std::future::ready(Ok::<_, io::Error>(addresses.clone().into_iter()))
    }));
    http.enforce_http(false);
    http.set_nodelay(true);
    // Shared by all addresses of the name: one that does not answer leaves time for the others.
    http.set_connect_timeout(Some(LIMIT));
    let connector = service_fn(move |uri: Uri| {
        let (http, tls) = (http.clone(), tls.clone().zip(name.clone()));
        async move {
            let tcp = http.oneshot(uri).await?.into_inner();
            let stream: Box<dyn Stream> = match tls {
                Some((config, name)) => {
                    Box::new(TlsConnector::from(config).connect(name, tcp).await?)
                }
                None => Box::new(tcp),
            };
            Ok::<_, BoxError>(TokioIo::new(stream))
        }
    });
    match timeout(LIMIT, endpoint.connect_with_connector(connector)).await {
        Ok(Ok(channel)) => Ok((Channel::Tonic(channel), found)),
        Ok(Err(error)) => {
            let fault = Fault::from_transport(&error);
            Err(if is_tls {
                fault.perhaps_no_tls()
            } else {
                fault
            })
        }
        Err(_) => Err(Fault::silent(LIMIT)),
    }
}

/// The TLS error of a connection of its own, if there is one. In TLS 1.3 a server judges the client's certificate after
/// the handshake, and the connection of the etcd client then reports only a broken pipe.
pub(super) async fn tls_error(address: &Endpoint, tls: Arc<ClientConfig>) -> Option<rustls::Error> {
    let answer = timeout(3 * PROBE_LIMIT, handshake(address, tls))
        .await
        .ok()?;
    answer
        .err()?
        .into_inner()?
        .downcast::<rustls::Error>()
        .ok()
        .map(|error| *error)
}

/// Connects, and reads until the server says something or hangs up.
async fn handshake(address: &Endpoint, tls: Arc<ClientConfig>) -> io::Result<()> {
    let (Ok(addresses), Ok(name)) = (resolve(address).await, server_name(address)) else {
        return Ok(());
    };
    let tcp = timeout(PROBE_LIMIT, TcpStream::connect(&*addresses)).await??;
    let mut stream = timeout(PROBE_LIMIT, TlsConnector::from(tls).connect(name, tcp)).await??;
    timeout(PROBE_LIMIT, stream.read(&mut [0])).await?.map(drop)
}

/// Whether a server answers the start of a TLS handshake as one that speaks TLS.
pub(super) async fn speaks_tls(address: &Endpoint) -> bool {
    let Ok(config) = super::tls::trusting_no_server() else {
        return false;
    };
    let error = tls_error(address, config).await;
    matches!(
        error,
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))
    )
}

fn server_name(address: &Endpoint) -> Result<ServerName<'static>, Fault> {
    let host = address.host().to_owned();
    ServerName::try_from(host)
        .map_err(|_| Fault::unresolved(address.host(), "it is not a valid host name"))
}

/// The addresses of a member.
async fn resolve(address: &Endpoint) -> Result<Vec<SocketAddr>, Fault> {
    let (host, port) = (address.host(), address.port());
    let unresolved = |why: &str| Fault::unresolved(host, why);
    match timeout(LIMIT, resolver::lookup(host, port)).await {
        Ok(Ok(found)) if found.is_empty() => Err(unresolved("it has no address")),
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(unresolved(&error.to_string())),
        Err(_) => Err(unresolved(&format!(
            "no answer from the name servers within {} s",
            LIMIT.as_secs()
        ))),
    }
}
