//! The thread that requests tokens and renews them.

use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};

use super::super::ConnectSpec;
use super::exchange::{Exchange, Failure};
use super::token::{AccessToken, Issued, Moment};
use super::{TokenSource, aws, entra, google};
use crate::config::CloudIdentity;
use crate::record::Journal;
use crate::support::secret::Masks;
use crate::support::threads::{Deadline, Thread, Threads, block_on_this_thread, fault};
use crate::support::{Backoff, Live, OutageNotice};

/// The first and the longest pause between attempts.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The shortest time between two tokens, however often one is refused or its end comes.
const MIN_PAUSE: Duration = Duration::from_secs(1);

/// The interval of looks at the clock of the wall, which goes on while the machine sleeps.
const LOOK: Duration = Duration::from_secs(15);

/// The longest attempt, with all of its requests.
const ATTEMPT: Duration = Duration::from_secs(30);

/// The time that the end waits for the thread.
const PATIENCE: Duration = Duration::from_secs(1);

/// The identities in use by the names of their upstreams, and counts of renewals.
#[derive(Debug)]
pub struct IdentityStates {
    used: Live<Vec<(Arc<str>, Arc<TokenSource>)>>,
    renewed: AtomicU64,
    failed: AtomicU64,
    /// The first tokens are there, or the first requests for them have failed.
    has_begun: AtomicBool,
    /// Its errors must not show the tokens.
    journal: Journal,
}

impl IdentityStates {
    fn new(journal: Journal) -> Self {
        Self {
            used: Live::default(),
            renewed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            has_begun: AtomicBool::new(false),
            journal,
        }
    }

    /// Masks the tokens in use in the errors of records, with the one before each.
    fn hide(&self) {
        let used = self.used.load();
        let tokens = used.iter().flat_map(|(_, source)| [&source.present, &source.earlier]);
        let tokens: Vec<_> = tokens.filter_map(|token| token.load_full()).collect();
        self.journal.hide_tokens(Masks::new(tokens.iter().map(|token| token.text.expose())));
    }

    /// The rest of the life of each upstream's token. Zero: there is none.
    pub fn rests(&self) -> Vec<(Arc<str>, Duration)> {
        let now = Moment::now();
        let used = self.used.load();
        let rest = |source: &TokenSource| source.present.load().as_ref().map(|token| token.rest(now));
        used.iter().map(|(name, source)| (Arc::clone(name), rest(source).unwrap_or_default())).collect()
    }

    /// The requests for tokens that succeeded and that failed.
    pub fn renewals(&self) -> [(&'static str, u64); 2] {
        [("renewed", self.renewed.load(Ordering::Relaxed)), ("failed", self.failed.load(Ordering::Relaxed))]
    }

    /// The upstreams whose first request for a token has not ended, at the start: later, a reload must
    /// not take a proxy out of service.
    pub fn awaited(&self) -> Vec<Arc<str>> {
        if self.has_begun.load(Ordering::Acquire) {
            return Vec::new();
        }
        let used = self.used.load();
        let is_awaited = |source: &TokenSource| !source.is_settled.load(Ordering::Acquire);
        let awaited: Vec<_> =
            used.iter().filter(|(_, source)| is_awaited(source)).map(|(name, _)| Arc::clone(name)).collect();
        if awaited.is_empty() {
            self.has_begun.store(true, Ordering::Release);
        }
        awaited
    }
}

/// All identities of the process. Dropping it ends their thread.
pub struct Identities {
    states: Arc<IdentityStates>,
    /// Those that some snapshot has.
    known: Vec<Weak<TokenSource>>,
    threads: Threads,
    thread: Option<(watch::Sender<Watched>, Thread)>,
}

/// Notices for the thread: a number that grows with each change of the identities in use.
#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    changes: u64,
    is_closed: bool,
}

impl Identities {
    /// The identities of the process with this journal.
    pub fn new(journal: &Journal) -> Self {
        let states = Arc::new(IdentityStates::new(journal.clone()));
        Self { states, known: Vec::new(), threads: journal.threads().clone(), thread: None }
    }

    pub fn states(&self) -> &Arc<IdentityStates> {
        &self.states
    }

    /// The source of these settings: a known one, so that an identity has one token. `origin` is
    /// the way to the endpoint of a new one, which requests nothing until it is in use.
    ///
    /// # Errors
    /// Fails if `origin` does.
    pub fn source(
        &mut self,
        settings: &CloudIdentity,
        origin: impl FnOnce() -> Result<Option<ConnectSpec>, String>,
    ) -> Result<Arc<TokenSource>, String> {
        self.known.retain(|known| known.strong_count() > 0);
        let mut known = self.known.iter().filter_map(Weak::upgrade);
        if let Some(known) = known.find(|known| known.settings == *settings) {
            return Ok(known);
        }
        let source = Arc::new(TokenSource::new(settings.clone(), origin()?.map(Arc::new)));
        self.known.push(Arc::downgrade(&source));
        Ok(source)
    }

    /// Uses the tokens of these upstreams from now on. The first ones start the thread.
    ///
    /// # Errors
    /// Fails if the system provides no thread.
    pub fn replace(&mut self, used: Vec<(Arc<str>, Arc<TokenSource>)>) -> io::Result<()> {
        let is_needed = !used.is_empty();
        if self.thread.is_some() {
            // Notes that the start is over, if it is.
            self.states.awaited();
        }
        self.states.used.replace(used);
        match &self.thread {
            Some((watched, _)) => watched.send_modify(|watched| watched.changes += 1),
            None if is_needed => {
                let (watched, seen) = watch::channel(Watched::default());
                let states = Arc::clone(&self.states);
                let thread = self.threads.spawn("identities", move || {
                    fault::strike("identities");
                    block_on_this_thread(run(Arc::clone(&states), seen.clone()))
                })?;
                self.thread = Some((watched, thread));
            }
            None => {}
        }
        Ok(())
    }
}

impl Drop for Identities {
    fn drop(&mut self) {
        if let Some((watched, thread)) = &self.thread {
            watched.send_modify(|watched| watched.is_closed = true);
            thread.wait(&Deadline::after(PATIENCE));
        }
    }
}

/// Keeps a token for each identity in use.
async fn run(states: Arc<IdentityStates>, mut watched: watch::Receiver<Watched>) {
    let mut tasks = JoinSet::new();
    let mut kept: Vec<(Arc<TokenSource>, AbortHandle)> = Vec::new();
    loop {
        let Watched { is_closed, .. } = *watched.borrow_and_update();
        if is_closed {
            return;
        }
        let used = states.used.load();
        kept.retain(|(source, task)| {
            let is_used = used.iter().any(|(_, used)| Arc::ptr_eq(used, source));
            if !is_used {
                task.abort();
            }
            is_used
        });
        for (name, source) in used.iter() {
            if !kept.iter().any(|(kept, _)| Arc::ptr_eq(kept, source)) {
                let keeping = keep(Arc::clone(name), Arc::clone(source), Arc::clone(&states));
                kept.push((Arc::clone(source), tasks.spawn_local(keeping)));
            }
        }
        tokio::select! {
            changed = watched.changed() => if changed.is_err() { return },
            Some(Err(error)) = tasks.join_next(), if !tasks.is_empty() => {
                // The thread is started again, with all of its tasks.
                if let Ok(panic) = error.try_into_panic() {
                    resume_unwind(panic);
                }
            }
        }
    }
}

/// Requests a token, and renews it ahead of its end, for as long as the identity is in use.
async fn keep(name: Arc<str>, source: Arc<TokenSource>, states: Arc<IdentityStates>) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut outage = OutageNotice::default();
    loop {
        let asked = Moment::now();
        let attempt = timeout(ATTEMPT, source.request()).await;
        let issued = attempt.unwrap_or_else(|_| Err(Failure::new("there was no token within 30 s")));
        match issued {
            Ok(issued) => {
                states.renewed.fetch_add(1, Ordering::Relaxed);
                let token = AccessToken::new(issued, asked);
                let renewal = token.renewal(fastrand::f64());
                source.put(token);
                states.hide();
                backoff.reset();
                if outage.record_success() {
                    tracing::info!(upstream = %name, "there is a token for the upstream again");
                } else {
                    tracing::debug!(upstream = %name, "there is a new token for the upstream");
                }
                source.until(renewal).await;
                sleep_until(asked.monotonic + MIN_PAUSE).await;
            }
            Err(failure) => {
                states.failed.fetch_add(1, Ordering::Relaxed);
                if outage.record_failure(failure.kind.clone()) {
                    let has_token = source.usable().is_some();
                    tracing::error!(upstream = %name, has_token, "there is no new token for the upstream: {failure}");
                }
                source.record_failure(&failure);
                let pause = backoff.take_jittered();
                sleep(failure.pause.map_or(pause, |asked| asked.max(pause))).await;
            }
        }
    }
}

impl TokenSource {
    async fn request(&self) -> Result<Issued, Failure> {
        let exchange = self.settings.endpoint().zip(self.origin.as_ref());
        let exchange = exchange.map(|(endpoint, origin)| Exchange { endpoint, origin });
        let now = Timestamp::now();
        match (&self.settings, &exchange) {
            (CloudIdentity::Aws(aws), exchange) => aws::issue(aws, exchange.as_ref(), now).await,
            (CloudIdentity::Entra(entra), Some(exchange)) => {
                entra::issue(entra, exchange, now.as_second()).await
            }
            (CloudIdentity::Google(google), Some(exchange)) => {
                google::issue(google, exchange, now.as_second()).await
            }
            (_, None) => Err(Failure::new("there is no way to the endpoint")),
        }
    }

    fn put(&self, token: AccessToken) {
        self.earlier.store(self.present.swap(Some(Arc::new(token))));
        self.failure.store(None);
        self.is_settled.store(true, Ordering::Release);
        self.issued.send_modify(|issued| *issued += 1);
    }

    fn record_failure(&self, failure: &Failure) {
        self.failure.store(Some(Arc::new(failure.reason.clone())));
        self.is_settled.store(true, Ordering::Release);
        // Requests that wait for another token than a refused one go on without.
        self.issued.send_modify(|_| {});
    }

    /// Waits until the present token has the age of its `renewal`, is refused, or has ended.
    async fn until(&self, renewal: Duration) {
        let number = *self.issued.borrow();
        loop {
            let now = Moment::now();
            let left = self.present.load().as_ref().map(|token| renewal.saturating_sub(token.age(now)));
            let left = left.unwrap_or_default();
            if left.is_zero() || self.refused.load(Ordering::Acquire) == number || self.usable().is_none() {
                return;
            }
            tokio::select! {
                () = sleep(left.min(LOOK)) => {}
                () = self.wanted.notified() => {}
            }
        }
    }
}

#[cfg(all(test, feature = "moved-clock"))]
mod tests {
    use std::path::PathBuf;

    use tokio::task::{LocalSet, spawn_local};
    use tokio::time::Instant;

    use super::*;
    use crate::config::{AwsIdentity, AwsSource, TokenEndpoint};
    use crate::llm::provider::BaseUrl;
    use crate::support::secret::Secret;

    const MINUTE: Duration = Duration::from_secs(60);

    fn source(of: AwsSource) -> Arc<TokenSource> {
        let settings = CloudIdentity::Aws(AwsIdentity { region: "us-east-1".to_owned(), source: of });
        Arc::new(TokenSource::new(settings, None))
    }

    /// Keeps the tokens of this source while `test` runs.
    async fn while_kept<F>(source: &Arc<TokenSource>, states: &Arc<IdentityStates>, test: F) -> F::Output
    where
        F: Future,
    {
        states.used.replace(vec![("up".into(), Arc::clone(source))]);
        let (watched, seen) = watch::channel(Watched::default());
        let local = LocalSet::new();
        let test = async {
            let running = spawn_local(run(Arc::clone(states), seen));
            let output = test.await;
            watched.send_modify(|watched| watched.is_closed = true);
            running.await.expect("the task does not panic");
            output
        };
        local.run_until(test).await
    }

    #[tokio::test(start_paused = true)]
    async fn key_is_made_again_every_hour_and_after_a_refusal() {
        let secret_key = Secret::new("s".to_owned());
        let access_key = "AKID".to_owned();
        let source = source(AwsSource::Keys { access_key, secret_key, session_token: None });
        let states = Arc::new(IdentityStates::new(Journal::new(1)));
        let test = async {
            let first = source.token(MINUTE).await.unwrap();
            sleep(53 * MINUTE).await;
            assert!(Arc::ptr_eq(&first, &source.token(MINUTE).await.unwrap()));
            sleep(14 * MINUTE).await;
            let second = source.token(MINUTE).await.unwrap();
            assert!(!Arc::ptr_eq(&first, &second), "it is made again after an hour");
            let mut revoked = AccessToken::clone(&second);
            revoked.text = Secret::new("r".to_owned());
            let late = source.instead_of(&revoked, MINUTE).await.unwrap();
            assert!(Arc::ptr_eq(&second, &late), "there is a newer one already");
            assert_eq!(states.renewals(), [("renewed", 2), ("failed", 0)]);
            // A key of the same second has the same text, and is no other one.
            let third = source.instead_of(&second, MINUTE).await;
            assert!(third.is_none_or(|third| third.text != second.text));
            assert_eq!(states.renewals(), [("renewed", 3), ("failed", 0)]);
            assert!(states.rests()[0].1 > 11 * 60 * MINUTE && states.awaited().is_empty());
        };
        while_kept(&source, &states, test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_one_after_the_other_renew_once_a_second() {
        let (access_key, secret_key) = ("AKID".to_owned(), Secret::new("s".to_owned()));
        let source = source(AwsSource::Keys { access_key, secret_key, session_token: None });
        let states = Arc::new(IdentityStates::new(Journal::new(1)));
        let test = async {
            let begun = Instant::now();
            source.token(MINUTE).await.unwrap();
            while begun.elapsed() < 10 * FIRST_PAUSE {
                source.refuse();
                sleep(MIN_PAUSE / 100).await;
            }
            let [(_, renewed), _] = states.renewals();
            assert!((9..=12).contains(&renewed), "{renewed} keys in ten seconds");
        };
        while_kept(&source, &states, test).await;
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_at_a_failing_authority_have_pauses() {
        let endpoint = TokenEndpoint {
            url: BaseUrl::parse("https://sts.example").unwrap(),
            target: "/".to_owned(),
            proxy: None,
            tls: Default::default(),
            is_machine: false,
        };
        let [role, session] = ["r", "s"].map(str::to_owned);
        let source = source(AwsSource::WebIdentity { endpoint, role, session, token_file: PathBuf::new() });
        let states = Arc::new(IdentityStates::new(Journal::new(1)));
        assert_eq!(states.awaited().len(), 0);
        let test = async {
            let begun = Instant::now();
            assert!(source.token(MINUTE).await.is_none());
            let waited = begun.elapsed();
            assert!(
                waited >= MINUTE && waited < MINUTE + FIRST_PAUSE,
                "a request waits as long as it may: {waited:?}"
            );
            assert!(states.awaited().is_empty() && states.rests()[0].1.is_zero());
            sleep(9 * MINUTE).await;
            let [_, (_, failed)] = states.renewals();
            assert!((20..=46).contains(&failed), "{failed} attempts in ten minutes");
            assert_eq!(source.reason(), "there is no way to the endpoint");
        };
        while_kept(&source, &states, test).await;
    }
}
