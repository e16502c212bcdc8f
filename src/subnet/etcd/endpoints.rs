//! Which etcd member is asked: the one that answered last, until it fails.
//!
//! The client crate spreads requests over all endpoints and never gives a dead one up, so each member has a client of
//! its own here. A connection that failed is dropped: the next one reads the TLS files again and logs in again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions, Error as ClientError};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::client::Operation;
use super::error::{Fault, Kind, is_auth_disabled};
use super::tls::Tls;
use super::{Error, Telemetry, transport};
use crate::config::{Endpoint, Secret};

const LOGIN_LIMIT: Duration = Duration::from_secs(2);

/// All members, one of which is current.
pub(super) struct Endpoints {
    members: Vec<Member>,
    current: AtomicUsize,
    tls: Option<Tls>,
    login: Option<(String, Secret)>,
    warned_no_auth: AtomicBool,
    telemetry: Telemetry,
}

struct Member {
    address: Endpoint,
    client: Mutex<Option<Client>>,
}

/// A member by its place in the list.
pub(super) type Index = usize;

impl Endpoints {
    /// `tls` is there if any address needs it; `addresses` is not empty.
    pub(super) fn new(
        addresses: Vec<Endpoint>,
        tls: Option<Tls>,
        login: Option<(String, Secret)>,
        telemetry: Telemetry,
    ) -> Self {
        for address in &addresses {
            telemetry.resolved(&address.authority, address.ip());
        }
        let members = addresses.into_iter().map(|address| Member {
            address,
            client: Mutex::default(),
        });
        Self {
            members: members.collect(),
            current: AtomicUsize::new(0),
            tls,
            login,
            warned_no_auth: AtomicBool::new(false),
            telemetry,
        }
    }

    /// Makes another member the current one. `choose` picks a number below that of the members.
    pub(super) fn begin_with(&self, choose: impl FnOnce(u128) -> u128) {
        let members = self.members.len();
        let chosen = u128::try_from(members)
            .ok()
            .and_then(|members| usize::try_from(choose(members)).ok());
        self.current
            .store(chosen.unwrap_or_default() % members, Ordering::Relaxed);
    }

    /// Runs a request that may be sent twice: on the current member, then on each other one until one answers within
    /// `limit`. Also says which member it was.
    ///
    /// # Errors
    /// Every member with its cause, in one line that starts with "cannot" and `what`.
    pub(super) async fn call<T, F>(
        &self,
        what: Operation,
        limit: Duration,
        request: impl Fn(Client) -> F,
    ) -> Result<(T, Index), Error>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let first = self.current();
        let mut faults = Vec::new();
        for step in 0..self.members.len() {
            let index = (first + step) % self.members.len();
            match self.attempt(index, what, limit, &request).await {
                Ok(value) => return Ok((value, index)),
                Err(fault) if fault.is_final() => return Err(self.refusal(what, index, fault)),
                Err(fault) => faults.push((index, fault)),
            }
            self.leave(index).await;
        }
        let text = self.summarize(what, &faults);
        let hopeless = faults
            .iter()
            .all(|(_, fault)| fault.kind == Kind::Certificate);
        Err(if hopeless {
            Error::Refused(text)
        } else {
            Error::Unavailable(text)
        })
    }

    /// Runs a request that must not be sent twice, on the current member. Any fault but a refusal leaves it open
    /// whether the request was carried out: then the answer is `None`.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub(super) async fn call_once<T, F>(
        &self,
        what: Operation,
        limit: Duration,
        request: impl Fn(Client) -> F,
    ) -> Result<Option<T>, Error>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let index = self.current();
        match self.run(index, what, limit, &request).await {
            Ok((value, _)) => Ok(Some(value)),
            Err((fault, _)) if fault.is_final() => Err(self.refusal(what, index, fault)),
            Err((fault, _)) => {
                let err = self.summarize(what, &[(index, fault)]);
                debug!(
                    endpoint = %self.address(index), err,
                    "{err}; whether etcd carried it out is unknown"
                );
                self.leave(index).await;
                Ok(None)
            }
        }
    }

    /// Gives up the connection to this member; the next request goes to the one after it.
    pub(super) async fn leave(&self, index: Index) {
        let next = (index + 1) % self.members.len();
        // Fails when another program has moved on already: then that choice stands.
        let _ = self
            .current
            .compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
        self.disconnect(index).await;
    }

    async fn disconnect(&self, index: Index) {
        *self.member(index).client.lock().await = None;
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "an index is one of a member, by `fail_over` and `leave`"
    )]
    fn member(&self, index: Index) -> &Member {
        &self.members[index]
    }

    /// The member's address, for messages.
    pub(super) fn address(&self, index: Index) -> &Endpoint {
        &self.member(index).address
    }

    fn current(&self) -> Index {
        self.current.load(Ordering::Relaxed)
    }

    /// A connection that was there before may be a dead one: then a new one gets the same chance.
    async fn attempt<T, F>(
        &self,
        index: Index,
        what: Operation,
        limit: Duration,
        request: &impl Fn(Client) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        match self.run(index, what, limit, request).await {
            Ok((value, _)) => Ok(value),
            Err((fault, Age::Old))
                if matches!(fault.kind, Kind::Unavailable | Kind::Certificate) =>
            {
                self.disconnect(index).await;
                self.run(index, what, limit, request)
                    .await
                    .map(|(value, _)| value)
                    .map_err(|(fault, _)| fault)
            }
            Err((fault, _)) => Err(fault),
        }
    }

    /// One attempt, and another one where the connection that was there needs a new login.
    async fn run<T, F>(
        &self,
        index: Index,
        what: Operation,
        limit: Duration,
        request: &impl Fn(Client) -> F,
    ) -> Result<(T, Age), (Fault, Age)>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        match self.try_once(index, what, limit, request).await {
            Err((fault, Age::Old)) if fault.is_about_login() => {
                self.disconnect(index).await;
                self.try_once(index, what, limit, request).await
            }
            done => done,
        }
    }

    /// One attempt, which counts in the metrics.
    async fn try_once<T, F>(
        &self,
        index: Index,
        what: Operation,
        limit: Duration,
        request: &impl Fn(Client) -> F,
    ) -> Result<(T, Age), (Fault, Age)>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let begin = Instant::now();
        let (age, result) = match self.client(index).await {
            Ok((client, age)) => {
                let result = match timeout(limit, request(client)).await {
                    Ok(Ok(value)) => Ok(value),
                    Ok(Err(error)) => Err(self.explain_answer(index, age, &error).await),
                    Err(_) => Err(Fault::silent(limit)),
                };
                (age, result)
            }
            Err(fault) => (Age::New, Err(fault)),
        };
        let address = self.address(index).to_string();
        self.telemetry
            .asked(what.label, &address, result.is_ok(), begin.elapsed());
        match result {
            Ok(value) => Ok((value, age)),
            Err(fault) => Err((fault, age)),
        }
    }

    async fn explain_answer(&self, index: Index, age: Age, error: &ClientError) -> Fault {
        let fault = self.explain(index, Fault::from_client(error)).await;
        if age == Age::New && self.address(index).is_tls() {
            fault.perhaps_no_tls()
        } else {
            fault
        }
    }

    /// Finds out why a server hung up, where TLS may be the reason.
    async fn explain(&self, index: Index, fault: Fault) -> Fault {
        if !fault.is_hang_up() {
            return fault;
        }
        let address = self.address(index);
        match &self.tls {
            _ if !address.is_tls() => {
                if transport::speaks_tls(address).await {
                    Fault::port_speaks_tls()
                } else {
                    fault
                }
            }
            Some(tls) => match transport::tls_error(address, tls.last_config()).await {
                Some(error) => Fault::from_tls(&error),
                None => fault,
            },
            None => fault,
        }
    }

    async fn client(&self, index: Index) -> Result<(Client, Age), Fault> {
        let mut cached = self.member(index).client.lock().await;
        if let Some(client) = cached.as_ref() {
            return Ok((client.clone(), Age::Old));
        }
        match self.connect(&self.member(index).address).await {
            Ok(client) => Ok((cached.insert(client).clone(), Age::New)),
            Err(fault) => Err(self.explain(index, fault).await),
        }
    }

    async fn connect(&self, address: &Endpoint) -> Result<Client, Fault> {
        let tls = match self.tls.as_ref().filter(|_| address.is_tls()) {
            Some(tls) => Some(tls.config().await),
            None => None,
        };
        let (channel, addresses) = transport::open(address, tls).await?;
        self.telemetry
            .resolved(&address.authority, addresses.iter().map(SocketAddr::ip));
        match timeout(LOGIN_LIMIT, self.log_in(channel)).await {
            Ok(done) => done.map_err(|error| Fault::from_client(&error)),
            Err(_) => Err(Fault::silent(LOGIN_LIMIT)),
        }
    }

    async fn log_in(&self, channel: Channel) -> Result<Client, ClientError> {
        let options = ConnectOptions::new().with_require_leader(true);
        let Some((name, password)) = &self.login else {
            return Client::from_channel(channel, Some(options)).await;
        };
        let with_login = options.clone().with_user(name.as_str(), password.reveal());
        match Client::from_channel(channel.clone(), Some(with_login)).await {
            Err(error) if is_auth_disabled(&error) => {
                if !self.warned_no_auth.swap(true, Ordering::Relaxed) {
                    warn!("etcd has authentication disabled: -etcd-username is ignored");
                }
                Client::from_channel(channel, Some(options)).await
            }
            done => done,
        }
    }

    fn refusal(&self, what: Operation, index: Index, fault: Fault) -> Error {
        let is_denied = fault.kind == Kind::Denied;
        let text = self.summarize(what, &[(index, fault)]);
        if is_denied {
            Error::Denied(text)
        } else {
            Error::Refused(text)
        }
    }

    fn summarize(&self, what: Operation, faults: &[(Index, Fault)]) -> String {
        let each: Vec<String> = faults
            .iter()
            .map(|(index, fault)| format!("{}: {}", self.address(*index), fault.text))
            .collect();
        format!("cannot {}: {}", what.words, each.join("; "))
    }
}

/// Whether a connection was made for this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Old,
    New,
}
