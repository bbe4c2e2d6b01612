//! The serving side: answers the requests of sessions, each on its own.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use sss::{Eid, HostTag, LinkStatus, LinkWatch, Server, Stream};
use sss_files::{Refusal, Request, Status};
use tracing::{debug, info};

use super::access::Door;
use super::exchange::{Exchange, TransferError};
use super::fetch::Fetch;
use super::filter::Sieve;
use super::gather::Gather;
use super::io_pool;
use super::limits::guests::{Who, Work};
use super::limits::shares::Owner;
use super::limits::{Claim, IsGone, Limits};
use super::list::List;
use super::make::Make;
use super::quota::{self, Quota};
use super::receive::Destination;
use super::served::{Log, Serving, reason};
use super::session;
use super::store::Store;
use crate::ticket::Secret;
use crate::transfer::safe_path::Root;

/// A directory that is served.
#[derive(Clone)]
pub(crate) struct FileService {
    root: Arc<Root>,
    /// Set if files are taken.
    writable: bool,
    door: Arc<Door>,
    limits: Arc<Limits>,
    quota: Arc<Quota>,
    log: Log,
}

/// Terms on which a directory is served.
pub(crate) struct Terms {
    /// Set if files are taken.
    pub(crate) writable: bool,
    /// Bytes that there may be below it; `None`: as much as the disk holds.
    pub(crate) quota: Option<u64>,
    /// Secret that clients have to show; `None`: everybody is served.
    pub(crate) secret: Option<Secret>,
    pub(crate) log: Log,
}

/// A request that has come.
struct Arrived {
    exchange: Exchange,
    claim: Claim,
    _work: Work,
}

impl FileService {
    /// Of a directory, with all that requests share. With a quota, it is read all over first.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn new(root: Root, terms: Terms) -> io::Result<Self> {
        let root = Arc::new(root);
        let quota = Arc::new(Quota::measure(&root, terms.quota)?);
        Ok(Self {
            root,
            writable: terms.writable,
            door: Arc::new(Door::new(terms.secret)),
            limits: Arc::new(Limits::new(io_pool::threads())),
            quota,
            log: terms.log,
        })
    }

    /// Returns whether files are taken.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Answers all who come, until the host is closed.
    pub(crate) async fn serve(self, server: Server) {
        tokio::spawn(self.limits.clone().watch());
        if self.writable {
            tokio::spawn(quota::watch(self.root.clone(), self.quota.clone()));
        }
        while let Ok((session, eid)) = server.accept().await {
            info!(%eid, tag = %HostTag::of(&eid), "session");
            tokio::spawn(self.clone().session(session, eid));
        }
    }

    async fn session(self, mut session: Stream, eid: Eid) {
        let serving = Serving::begin(eid, &session.peer(), "session");
        let link = session.peer().link();
        let watch = link.clone();
        let is_gone: IsGone = Arc::new(move || watch.status() != LinkStatus::Up);
        let who = Who::of(eid, &session.peer());
        let Some(place) = self.limits.sessions.place(who, is_gone.clone()).await else {
            let refusal = busy();
            session.reset_tree_with(refusal.status as u32, &refusal.text);
            return serving.end(None, Some(refusal), &self.log);
        };
        let owner = who.owner().in_session(place.session());
        let heard = tokio::select! {
            heard = session::hear(&mut session, eid, &self.door) => heard,
            () = place.sent_away() => Err(busy()),
        };
        if let Err(refusal) = heard {
            if refusal.status == Status::Busy {
                // It was sent away before it was answered: the client comes again (FIL-46).
                session.reset_tree_with(refusal.status as u32, &refusal.text);
            }
            return serving.end(None, Some(refusal), &self.log);
        }
        let (mut send, mut receive) = session.split();
        place.let_in();
        self.limits.pause_standing(eid, Instant::now());
        let next = || async {
            // What waits is not at hand: the transport keeps it, and its peer pays for it.
            let substream = send.accept_substream().await.ok()??;
            let claim = claim(&self.limits, owner, link.clone()).await?;
            Some((substream, claim.of_peer(is_gone.clone())))
        };
        let mut coming = Box::pin(next());
        loop {
            let (substream, claim) = tokio::select! {
                next = &mut coming => match next {
                    Some(next) => next,
                    None => break,
                },
                ended = receive.read_chunk(1) => {
                    debug!(%eid, ?ended, "the session ends");
                    break;
                }
                () = place.sent_away() => {
                    debug!(%eid, "the session gives way to another one");
                    break;
                }
            };
            let arrived = Arrived {
                exchange: Exchange::new(substream),
                claim,
                _work: place.work(),
            };
            tokio::spawn(self.clone().request(Box::new(arrived)));
            coming.set(next());
        }
        drop(coming);
        // A peer that is gone is not told.
        let _ = send.finish();
    }

    /// One request from its first byte to the arrival of the answer.
    ///
    /// There may be very many: what a step needs is kept only while it lasts, here and in what is called.
    async fn request(self, mut arrived: Box<Arrived>) {
        let Arrived { exchange, claim, .. } = &mut *arrived;
        let mut serving = Box::new(Serving::begin(claim.eid(), &exchange.peer(), "request"));
        let answer = Box::pin(self.answer(exchange, claim, &mut serving));
        let answered = tokio::select! {
            answered = answer => Some(answered),
            () = claim.given_up() => None,
        };
        // Nothing more of it can be taken back.
        claim.paused();
        let arrived = match &answered {
            Some(_) => tokio::select! {
                arrived = exchange.arrived() => Some(arrived),
                () = claim.given_up() => None,
            },
            None => None,
        };
        let result = match (answered, arrived) {
            (Some(Ok(())), Some(arrived)) => arrived.map_err(reason),
            (Some(Err(error)), _) => Err(reason(error)),
            (_, None) | (None, _) => {
                exchange.reset(&busy());
                exchange.stop(Status::Busy);
                Err(busy())
            }
        };
        serving.end(Some(exchange), result.err(), &self.log);
    }

    async fn answer(&self, exchange: &mut Exchange, claim: &Claim, serving: &mut Serving) -> Result<(), TransferError> {
        let result = match Box::pin(exchange.message(Request::decode)).await {
            Ok(request) => {
                serving.note(&request);
                self.perform(request, exchange, claim, serving).await
            }
            Err(error) => Err(error),
        };
        let refusal = match result {
            Err(TransferError::Refused(refusal) | TransferError::Disk(refusal)) => refusal,
            Err(TransferError::Protocol(what)) => Refusal::new(Status::BadRequest, what),
            other => return other,
        };
        // Whoever does not want to hear it needs not.
        let _ = Box::pin(exchange.refuse(&refusal)).await;
        Err(refusal.into())
    }

    async fn perform(
        &self,
        request: Request,
        exchange: &mut Exchange,
        claim: &Claim,
        serving: &mut Serving,
    ) -> Result<(), TransferError> {
        debug!(?request);
        let root = self.root.clone();
        if root.is_removed() {
            let text = "the directory that is served was removed: whoever runs the server has to start it again";
            return Err(Refusal::new(Status::NotFound, text).into());
        }
        match request {
            Request::List { path, depth, without } => {
                Box::pin(exchange.end()).await?;
                let sieve = io_pool::run(move || Sieve::asked_for(&without)).await?;
                let list = List {
                    root,
                    path,
                    depth,
                    sieve,
                    claim,
                };
                Box::pin(list.answer(exchange)).await
            }
            Request::Fetch { path, have } => {
                Box::pin(exchange.end()).await?;
                let fetch = Fetch { root, path, claim };
                Box::pin(fetch.answer(have, exchange)).await
            }
            Request::Gather { path, names } => {
                Box::pin(exchange.end()).await?;
                let names = Arc::new(names);
                serving.note_names(names.clone());
                let gather = Gather {
                    root,
                    path,
                    names,
                    claim,
                };
                Box::pin(gather.answer(exchange, serving)).await
            }
            Request::Store { .. } | Request::Make { .. } if !self.writable => Err(read_only().into()),
            Request::Store {
                path,
                options,
                attributes,
            } => {
                let to = Destination {
                    root,
                    path,
                    attributes,
                    options,
                    in_new_directory: false,
                };
                let store = Store {
                    to,
                    quota: self.quota.clone(),
                    claim,
                };
                Box::pin(store.answer(exchange)).await
            }
            Request::Make { path, options } => {
                let make = Make {
                    root,
                    path,
                    options,
                    quota: self.quota.clone(),
                };
                Box::pin(make.answer(exchange, claim)).await
            }
        }
    }
}

/// Takes a request of a peer to hand, when there is room for it, and as long as the peer can be reached: nobody waits
/// behind those that are gone. `None`: the peer's streams have ended.
async fn claim(limits: &Arc<Limits>, owner: Owner, mut link: LinkWatch) -> Option<Claim> {
    loop {
        while link.status() != LinkStatus::Up {
            link.changed().await?;
        }
        tokio::select! {
            claim = limits.claim(owner) => return Some(claim),
            changed = link.changed() => { changed?; }
        }
    }
}

fn busy() -> Refusal {
    Refusal::new(Status::Busy, "this server has too much to do: try again later")
}

fn read_only() -> Refusal {
    let text = "this server takes no files: whoever runs it can allow that with `sss serve --write`";
    Refusal::new(Status::ReadOnly, text)
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::*;
    use crate::transfer::limits::guests::Guests;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut context = Context::from_waker(Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// A directory that is served to so many sessions, and the host that does it.
    async fn serving(sessions: u64) -> (tempfile::TempDir, sss::Host) {
        let dir = tempfile::tempdir().unwrap();
        let terms = Terms {
            writable: false,
            quota: None,
            secret: None,
            log: Arc::new(|_| ()),
        };
        let mut service = FileService::new(Root::open(dir.path()).unwrap(), terms).unwrap();
        let mut limits = Limits::new(2);
        limits.sessions = Arc::new(Guests::new(sessions, 2.min(sessions)));
        service.limits = Arc::new(limits);
        let host = host().await;
        let files = host.listen(sss_files::SERVICE, sss_files::PROTOCOL).unwrap();
        tokio::spawn(service.serve(files));
        (dir, host)
    }

    async fn host() -> sss::Host {
        sss::Host::builder().bind("127.0.0.1:0").build().await.unwrap()
    }

    /// A session that has said nothing yet, and a request in it.
    async fn arriving(client: &sss::Host, server: &sss::Host) -> (Stream, Stream) {
        let connecting = client.connect(server.eid(), sss_files::SERVICE, sss_files::PROTOCOL);
        let session = connecting.hint(server.local_addr()).await.unwrap();
        let mut request = session.open_substream().unwrap();
        let list = Request::List {
            path: sss_files::RelPath::default(),
            depth: 0,
            without: sss_files::Patterns::default(),
        };
        request.write_all(&list.encode()).await.unwrap();
        request.finish().unwrap();
        (session, request)
    }

    /// Greets, and is answered: the session, and the request.
    async fn is_let_in((session, request): &mut (Stream, Stream)) {
        session::greet(session, None).await;
        assert_eq!(
            session.read_chunk(1).await.unwrap().as_deref(),
            Some(&[Status::Ok as u8][..])
        );
        is_answered(request).await;
    }

    async fn is_answered(request: &mut Stream) {
        let listed = request.read_to_end(1000).await.unwrap();
        assert_eq!(listed.first(), Some(&(Status::Ok as u8)));
    }

    /// Neither has heard anything, but that there is no room.
    async fn is_refused((session, request): &mut (Stream, Stream)) {
        for stream in [session, request] {
            let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_chunk(1000)).await;
            let Ok(Err(sss::ReadError::Reset { code, .. })) = ended else {
                panic!("{ended:?}");
            };
            assert_eq!(code.as_app(), Some(Status::Busy as u32));
        }
    }

    // spec: FIL-46
    #[tokio::test]
    async fn a_session_without_a_place_is_reset_with_busy_and_those_that_have_one_go_on() {
        let (_dir, server) = serving(16).await;
        let client = host().await;
        let (mut first, mut second) = (arriving(&client, &server).await, arriving(&client, &server).await);
        is_let_in(&mut first).await;
        is_let_in(&mut second).await;
        // There are two of its own, which stay: nobody gives way to it, and it need not say anything to be told so.
        let mut third = arriving(&client, &server).await;
        is_refused(&mut third).await;
        let mut later = first.0.open_substream().unwrap();
        later.write_all(&[0]).await.unwrap();
        let answered = later.read_to_end(1000).await.unwrap();
        assert_eq!(answered.first(), Some(&(Status::BadRequest as u8)));
        drop(second);
        let come_again = async {
            loop {
                let mut again = arriving(&client, &server).await;
                session::greet(&mut again.0, None).await;
                if again.0.read_chunk(1).await.is_ok() {
                    return is_answered(&mut again.1).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), come_again).await.unwrap();
    }

    // spec: FIL-46
    #[tokio::test]
    async fn a_session_that_gives_way_before_it_was_let_in_is_reset_with_busy() {
        let (_dir, server) = serving(1).await;
        let (one, other) = (host().await, host().await);
        let mut silent = arriving(&one, &server).await;
        let mut newcomer = arriving(&other, &server).await;
        is_refused(&mut silent).await;
        is_let_in(&mut newcomer).await;
    }

    /// Size of what a function returns.
    fn size<F, A, B, R>(_: F) -> usize
    where
        F: FnOnce(A, B) -> R,
    {
        size_of::<R>()
    }

    // Threat 34: those of a crowd that has gone.
    #[tokio::test]
    async fn threat_34_nobody_waits_behind_those_that_are_gone() {
        let host = || sss::Host::builder().bind("127.0.0.1:0").build();
        let (server, client) = (host().await.unwrap(), host().await.unwrap());
        let listening = server.listen("test", "1").unwrap();
        let mut stream = client
            .connect(server.eid(), "test", "1")
            .hint(server.local_addr())
            .await
            .unwrap();
        stream.write_all(b"there").await.unwrap();
        let (session, eid) = listening.accept().await.unwrap();
        let limits = Arc::new(Limits::new(2));
        let crowd = (0..100_u8).map(|n| Owner::of(Eid::from_public_key(&[n; 32]), None));
        let crowd = crowd.flat_map(|owner| std::iter::repeat_n(owner, 200));
        let claim_now = |owner| now(tokio::task::unconstrained(limits.claim(owner)));
        let taken: Vec<_> = crowd.map_while(claim_now).collect();
        let coming = tokio::spawn({
            let (limits, link) = (limits.clone(), session.peer().link());
            async move { claim(&limits, Owner::of(eid, None), link).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!coming.is_finished(), "there is no room");
        let _ = client.close_within(Duration::ZERO).await;
        let waited = tokio::time::timeout(Duration::from_secs(10), coming).await;
        assert!(!waited.expect("it waits no more").unwrap());
        drop(taken);
    }

    // Threat 34: there may be 12,288 requests.
    #[test]
    fn threat_34_a_request_that_waits_is_small() {
        let request = size(|service: FileService, arrived: Box<Arrived>| service.request(arrived));
        let fetch =
            size(|fetch: &'static Fetch<'static>, exchange: &'static mut Exchange| fetch.answer(None, exchange));
        assert!(request <= 1024 && fetch <= 1536, "{request} and {fetch} bytes");
    }
}
