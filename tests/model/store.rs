//! The store as one daemon reaches it: with delays and losses.

use std::sync::Arc;
use std::time::Duration;

use flanneld::subnet::etcd::store::{
    Changes, Commit, ListProgress, Owner, Seen, Sight, Store, WatchMessage, Write,
};
use flanneld::subnet::owner::MachineId;
use flanneld::subnet::{Error, Lease, LeaseEvent, LeaseId, NetworkConfig, Revision, Subnets};
use rand::RngExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::state::{Put, State, TTL, World};

/// After this a request is given up.
const LIMIT: Duration = Duration::from_secs(2);

/// How often an answer finds its host suspended.
const SUSPENDED: f64 = 0.02;

pub(crate) struct ModelStore {
    pub(crate) world: Arc<World>,
    pub(crate) host: usize,
}

/// What happens to one request.
enum Fate {
    Answered(Duration),
    RequestLost,
    AnswerLost(Duration),
    /// Given up, and carried out nevertheless.
    Late(Duration),
}

impl ModelStore {
    fn fate(&self) -> Fate {
        let mut state = self.world.state();
        let millis = Duration::from_millis(state.rng.random_range(1..50));
        if is_cut(&state, self.host) {
            return Fate::RequestLost;
        }
        match state.rng.random_range(0..100) {
            0..8 if state.faulty => Fate::RequestLost,
            8..16 if state.faulty => Fate::AnswerLost(millis * 20),
            16..22 if state.faulty => {
                Fate::Late(Duration::from_secs(state.rng.random_range(2..60)))
            }
            22..32 if state.faulty => Fate::Answered(millis * 30),
            _ => Fate::Answered(millis),
        }
    }

    /// A request. `None`: no answer.
    async fn ask<T>(&self, act: impl FnOnce(&mut State) -> T + Send + 'static) -> Option<T>
    where
        T: Send + 'static,
    {
        match self.fate() {
            Fate::Answered(delay) => {
                sleep(delay).await;
                let answer = self.world.act(act);
                self.suspend();
                return Some(answer);
            }
            Fate::RequestLost => {}
            Fate::AnswerLost(delay) => {
                sleep(delay).await;
                self.world.act(act);
            }
            Fate::Late(delay) => {
                let world = self.world.clone();
                tokio::spawn(async move {
                    sleep(delay).await;
                    world.act(act);
                });
            }
        }
        sleep(LIMIT).await;
        None
    }

    /// A host may be suspended at the worst of moments: between what it has read and what it makes of it.
    fn suspend(&self) {
        let mut state = self.world.state();
        if state.faulty && state.rng.random_bool(SUSPENDED) {
            let length = Duration::from_secs(state.rng.random_range(1..60));
            state.hosts[self.host].paused_until = Instant::now() + length;
        }
    }

    async fn answer<T>(
        &self,
        act: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
    {
        self.ask(act)
            .await
            .ok_or_else(|| Error::Unavailable("no answer".into()))
    }
}

fn is_cut(state: &State, host: usize) -> bool {
    state.hosts[host].cut_until > Instant::now()
}

impl Store for ModelStore {
    type Stream = ModelStream;
    type Page = Vec<Lease>;

    async fn config(&self) -> Result<(NetworkConfig, Revision), Error> {
        self.answer(|state| state.config.clone()).await
    }

    async fn page(&self, progress: &mut ListProgress) -> Result<Vec<Lease>, Error> {
        let since = progress.since();
        let list = move |state: &mut State| {
            let wanted = state.leases.values().filter(|lease| lease.modified > since);
            (wanted.cloned().collect(), state.revision)
        };
        let (leases, revision) = self.answer(list).await?;
        progress.turn((1, revision), None);
        Ok(leases)
    }

    fn read(&self, page: &Vec<Lease>) -> Vec<Lease> {
        page.clone()
    }

    async fn look(&self, subnets: &Subnets) -> Result<Sight, Error> {
        let subnets = *subnets;
        self.answer(move |state| {
            let seen = state
                .leases
                .get(&subnets)
                .cloned()
                .map_or(Seen::Absent, Seen::Lease);
            let record = state.owners.get(&subnets);
            let owner = record.map_or(Owner::Unrecorded, |(owner, at, _)| {
                Owner::Recorded(owner.clone(), *at)
            });
            Sight { seen, owner }
        })
        .await
    }

    async fn owners(&self) -> Result<Vec<(Subnets, MachineId)>, Error> {
        self.answer(|state| {
            state
                .owners
                .iter()
                .map(|(subnets, (owner, ..))| (*subnets, owner.clone()))
                .collect()
        })
        .await
    }

    async fn write(&self, write: &Write<'_>) -> Result<Commit, Error> {
        let put = Put {
            host: self.host,
            subnets: *write.subnets,
            attrs: write.attrs.clone(),
            lease_id: write.lease_id,
            before: write.before,
            owner: write.owner.cloned(),
            config: write.config,
            replaces: write.replaces.to_vec(),
        };
        let done = self.ask(move |state| state.put(&put)).await;
        Ok(done.flatten().unwrap_or(Commit::Unknown))
    }

    async fn create_lease_id(&self, id: LeaseId) -> Result<(), Error> {
        let is_slow = {
            let mut state = self.world.state();
            state.asked.insert(id);
            state.slow_lease_ids
        };
        let made = self.answer(move |state| {
            state
                .lease_ids
                .entry(id)
                .or_insert_with(|| Instant::now() + TTL);
        });
        match (made.await, is_slow) {
            (Ok(()), true) => Err(Error::Unavailable("no answer in time".into())),
            (made, _) => made,
        }
    }

    async fn revoke(&self, lease_id: LeaseId) -> Result<(), Error> {
        self.answer(move |state| state.revoke(lease_id)).await
    }

    async fn granted_ttl(&self, lease_id: LeaseId) -> Result<Option<Duration>, Error> {
        self.answer(move |state| state.lease_ids.contains_key(&lease_id).then_some(TTL))
            .await
    }

    async fn keep_alive(&self, lease_id: LeaseId) -> Result<bool, Error> {
        let renew = move |state: &mut State| match state.lease_ids.get_mut(&lease_id) {
            Some(end) => {
                *end = Instant::now() + TTL;
                true
            }
            None => false,
        };
        self.answer(renew).await
    }

    async fn watch(&self, from: Revision) -> Result<ModelStream, Error> {
        self.answer(|_| ()).await?;
        let (world, changed) = (self.world.clone(), self.world.changed.subscribe());
        Ok(ModelStream {
            world,
            host: self.host,
            from,
            created: false,
            changed,
        })
    }

    async fn leave(&self, _: ModelStream) {}
}

pub(crate) struct ModelStream {
    world: Arc<World>,
    host: usize,
    from: Revision,
    created: bool,
    changed: watch::Receiver<Revision>,
}

impl ModelStream {
    fn poll(&mut self) -> Option<WatchMessage> {
        self.changed.borrow_and_update();
        let state = self.world.state();
        if is_cut(&state, self.host) {
            return None;
        }
        if !std::mem::replace(&mut self.created, true) {
            return Some(WatchMessage::Created {
                cluster: 1,
                revision: state.revision,
            });
        }
        if self.from <= state.compacted {
            return Some(WatchMessage::Compacted);
        }
        let start = state.log.partition_point(|(at, _)| *at < self.from);
        let news: Vec<LeaseEvent> = state.log[start..]
            .iter()
            .map(|(_, event)| event.clone())
            .collect();
        if !news.is_empty() {
            self.from = state.revision + 1;
            return Some(WatchMessage::Changed(news, state.revision));
        }
        None
    }
}

impl Changes for ModelStream {
    async fn next(&mut self) -> Result<WatchMessage, String> {
        loop {
            if let Some(message) = self.poll() {
                return Ok(message);
            }
            // Looks again by itself: the end of a cut is no change.
            let _ = tokio::time::timeout(Duration::from_secs(5), self.changed.changed()).await;
        }
    }

    fn probe(&self) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let (world, host) = (self.world.clone(), self.host);
        async move {
            let is_away = is_cut(&world.state(), host);
            sleep(if is_away {
                LIMIT
            } else {
                Duration::from_millis(10)
            })
            .await;
            if is_away {
                Err("no answer".into())
            } else {
                Ok(())
            }
        }
    }

    fn source(&self) -> &str {
        "model"
    }
}
