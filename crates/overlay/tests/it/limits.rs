//! Bounds, refusals and bad input at the machine's interface.

use std::time::Duration;

use comity_capability::keys::GroupKey;
use comity_core::OverlayId;
use comity_overlay::wire::{
    ErrorCode, Known, QueryOutcome, QueryRequest, StoreEntry, StoreOutcome,
};
use comity_overlay::{
    Action, COMMANDS_MAX, Command, CommandError, Config, Failure, Outcome, Overlay, Place,
    Publication, Query, QueryStep, Reason, Reject, ReplyToken, Request, RequestId, Response,
    SEEDS_MAX, ShardId, Verifier,
};

use crate::fake::{Fake, Item, agent, contact};
use crate::net::START;

const HOUR: Duration = Duration::from_secs(3_600);

fn node() -> (Overlay, Fake) {
    (Overlay::new(Config::default(), contact(0), [1; 32], START), Fake::default())
}

fn actions(overlay: &mut Overlay) -> Vec<Action> {
    std::iter::from_fn(|| overlay.poll_action()).collect()
}

fn ask(overlay: &mut Overlay, services: &mut Fake, from: usize, request: Request) -> Response {
    overlay.request(START, services, &contact(from), ReplyToken(1), request);
    let replies = actions(overlay).into_iter().filter_map(|action| match action {
        Action::Reply { token: ReplyToken(1), response } => Some(response),
        _ => None,
    });
    let mut replies: Vec<_> = replies.collect();
    assert_eq!(replies.len(), 1, "exactly one answer");
    replies.remove(0)
}

fn failure(overlay: &mut Overlay, services: &mut Fake, command: Command) -> CommandError {
    overlay.command(START, services, command);
    let failed = actions(overlay).into_iter().find_map(|action| match action {
        Action::Done { outcome: Outcome::Failed(error), .. } => Some(error),
        _ => None,
    });
    failed.expect("the command fails at once")
}

fn store(item: &Item, label: Option<&str>) -> Request {
    let place = Place::Shard { shard: ShardId::whole(GroupKey::of("class/a")), index: 0 };
    Request::Store {
        items: vec![item.seal()],
        labels: label.into_iter().map(str::to_owned).collect(),
        entries: vec![StoreEntry { item: 0, place, label: label.map(|_| 0) }],
    }
}

fn digest(signer: usize) -> Item {
    Item::digest(agent(signer), 1, 5, START, START + HOUR)
}

#[test]
fn a_flood_is_answered_with_busy_and_others_are_served() {
    let (mut overlay, mut services) = node();
    let mut busy = 0;
    for _ in 0..300 {
        busy += usize::from(
            ask(&mut overlay, &mut services, 1, Request::Ping) == Response::Error(ErrorCode::Busy),
        );
    }
    assert_eq!(busy, 300 - 128);
    assert_eq!(ask(&mut overlay, &mut services, 2, Request::Ping), Response::Pong);
    assert_eq!(overlay.stats().requests_refused, 172);
    overlay.request(
        START + Duration::from_secs(1),
        &mut services,
        &contact(1),
        ReplyToken(1),
        Request::Ping,
    );
    assert!(
        actions(&mut overlay)
            .iter()
            .any(|action| matches!(action, Action::Reply { response: Response::Pong, .. }))
    );
}

#[test]
fn unproven_items_are_refused() {
    let (mut overlay, mut services) = node();
    let mut outcome = |request| match ask(&mut overlay, &mut services, 1, request) {
        Response::Stored { outcomes } => outcomes[0],
        other => panic!("{other:?}"),
    };
    let item = digest(1);
    let refused = |reject| StoreOutcome::Rejected(reject);
    assert_eq!(outcome(store(&item, None)), refused(Reject::Misplaced), "a digest needs its label");
    assert_eq!(
        outcome(store(&item, Some("class/b"))),
        refused(Reject::Misplaced),
        "the label of another group"
    );
    let future = Item { issued: START + Duration::from_secs(121), ..item };
    assert_eq!(outcome(store(&future, Some("class/a"))), refused(Reject::Future));
    let expired = Item { issued: START, expires: START, ..item };
    assert_eq!(outcome(store(&expired, Some("class/a"))), refused(Reject::Expired));
    let eternal = Item { expires: START + 27 * HOUR, ..item };
    assert_eq!(outcome(store(&eternal, Some("class/a"))), refused(Reject::Lifetime));
    let mut forged = store(&item, Some("class/a"));
    if let Request::Store { items, .. } = &mut forged {
        let mut bytes = items[0].to_vec();
        *bytes.last_mut().unwrap() = 0;
        items[0] = bytes.into();
    }
    assert_eq!(outcome(forged), refused(Reject::Signature));
    assert_eq!(outcome(store(&item, Some("class/a"))), StoreOutcome::Stored);
    let equivocation = Item { value: 6, ..item };
    assert_eq!(outcome(store(&equivocation, Some("class/a"))), refused(Reject::Conflict));
    assert_eq!(overlay.stats().items_rejected, 7);
    assert_eq!(overlay.custody().len(), 1);
}

#[test]
fn bad_requests_get_an_error() {
    let (mut overlay, mut services) = node();
    let query = |placement, limit, query: &[u8]| {
        let shard = ShardId::whole(GroupKey::of("class/a"));
        Request::Query(QueryRequest {
            shard,
            placement,
            query: query.into(),
            limit,
            cost_max: 10,
            exclude: Vec::new(),
            known: Known::default(),
        })
    };
    let error = |code| Response::Error(code);
    assert_eq!(
        ask(&mut overlay, &mut services, 1, query(2, 5, &[0; 8])),
        error(ErrorCode::Invalid)
    );
    assert_eq!(
        ask(&mut overlay, &mut services, 1, query(0, 0, &[0; 8])),
        error(ErrorCode::Invalid)
    );
    assert_eq!(ask(&mut overlay, &mut services, 1, query(0, 5, b"?")), error(ErrorCode::Query));
    let dangling = Request::Store {
        items: Vec::new(),
        labels: Vec::new(),
        entries: vec![StoreEntry { item: 3, place: Place::Peer, label: None }],
    };
    assert_eq!(ask(&mut overlay, &mut services, 1, dangling), error(ErrorCode::Invalid));
    overlay.set_me(Vec::new(), false);
    let target = OverlayId([0; 32]);
    assert_eq!(
        ask(&mut overlay, &mut services, 1, Request::FindNode { target, known: Known::default() }),
        error(ErrorCode::NotServing)
    );
}

#[test]
fn commands_beyond_a_bound_fail_by_name() {
    let (mut overlay, mut services) = node();
    let seeds = vec![contact(1); SEEDS_MAX + 1];
    assert!(matches!(
        failure(&mut overlay, &mut services, Command::Join { seeds }),
        CommandError::TooMany { what: "seeds", .. }
    ));
    let publish = |item: Item| Command::Publish { items: vec![item.publication(&["class/a"])] };
    assert_eq!(
        failure(&mut overlay, &mut services, publish(digest(1))),
        CommandError::ForeignItem { index: 0 }
    );
    let foreign_group = Command::Publish { items: vec![digest(0).publication(&["foreign"])] };
    let misplaced = CommandError::Item { index: 0, reject: Reject::Misplaced };
    assert_eq!(failure(&mut overlay, &mut services, foreign_group), misplaced);
    let garbage = Command::Publish { items: vec![Publication::unlabelled(vec![1].into())] };
    assert!(matches!(
        failure(&mut overlay, &mut services, garbage),
        CommandError::Item { reject: Reject::Malformed, .. }
    ));
    assert!(matches!(
        failure(&mut overlay, &mut services, Command::Publish { items: Vec::new() }),
        CommandError::Invalid(_)
    ));
    let query = Query {
        steps: vec![QueryStep { keys: vec![GroupKey::of("a")], complete: false }],
        query: b"?".to_vec(),
        want: 0,
        limit: 5,
        exclude: Vec::new(),
        fresh: false,
        secret: None,
    };
    assert!(matches!(
        failure(&mut overlay, &mut services, Command::Query(query.clone())),
        CommandError::Query(_)
    ));
    let long = Query { query: vec![0; 5_000], ..query };
    assert!(matches!(
        failure(&mut overlay, &mut services, Command::Query(long)),
        CommandError::TooMany { .. }
    ));
}

#[test]
fn commands_and_requests_in_flight_are_bounded() {
    let (mut overlay, mut services) = node();
    overlay.preload_peers(START, (1..100).map(contact));
    let mut refused = 0;
    for n in 0..COMMANDS_MAX + 10 {
        let mut target = [0; 32];
        target[..8].copy_from_slice(&(n as u64).to_be_bytes());
        overlay.command(START, &mut services, Command::Lookup { target: OverlayId(target) });
        let done = |action: &Action| {
            matches!(action, Action::Done { outcome: Outcome::Failed(CommandError::Busy), .. })
        };
        refused += actions(&mut overlay).iter().filter(|action| done(action)).count();
    }
    assert_eq!(refused, 10);
    assert!(overlay.stats().requests_in_flight <= comity_overlay::REQUESTS_IN_FLIGHT_MAX);
    // With nobody answering, everything ends by itself.
    let (mut done, mut last) = (0, START);
    while overlay.stats().commands > 0 {
        let (due, _) = overlay.poll_timeout().unwrap();
        assert!(due >= last && due < START + Duration::from_secs(600), "time moves on");
        last = due;
        overlay.timeout(due);
        done += actions(&mut overlay)
            .iter()
            .filter(|action| matches!(action, Action::Done { .. }))
            .count();
    }
    assert_eq!(done, COMMANDS_MAX);
    assert_eq!(overlay.stats().requests_in_flight, 0);
}

#[test]
fn strangers_cannot_answer_and_late_answers_are_ignored() {
    let (mut overlay, mut services) = node();
    overlay.command(START, &mut services, Command::Join { seeds: vec![contact(1)] });
    let sent = actions(&mut overlay).into_iter().find_map(|action| match action {
        Action::Send { id, .. } => Some(id),
        _ => None,
    });
    let id = sent.unwrap();
    let nodes = Response::Nodes { contacts: vec![contact(2)] };
    overlay.response(START, &mut services, &agent(3), id, nodes.clone());
    overlay.response(START, &mut services, &agent(1), RequestId(999), nodes.clone());
    assert!(actions(&mut overlay).is_empty() && overlay.table().is_empty());
    overlay.failed(START, id, Failure::WrongIdentity);
    overlay.response(START, &mut services, &agent(1), id, nodes);
    assert!(overlay.table().is_empty());
    let failed = actions(&mut overlay)
        .into_iter()
        .any(|action| matches!(action, Action::Done { outcome: Outcome::Failed(_), .. }));
    assert!(failed);
}

#[test]
fn an_answer_of_another_kind_is_a_failure() {
    let (mut overlay, mut services) = node();
    overlay.command(START, &mut services, Command::Join { seeds: vec![contact(1)] });
    let Some(Action::Send { id, .. }) = overlay.poll_action() else { panic!() };
    overlay.response(
        START,
        &mut services,
        &agent(1),
        id,
        Response::Stored { outcomes: Vec::new() },
    );
    let done = actions(&mut overlay);
    assert!(
        done.iter()
            .any(|action| matches!(action, Action::Done { outcome: Outcome::Failed(_), .. })),
        "{done:?}"
    );
}

#[test]
fn the_first_timeout_of_an_idle_node_is_maintenance() {
    let (mut overlay, _) = node();
    let (due, reason) = overlay.poll_timeout().unwrap();
    assert_eq!(reason, Reason::Maintenance);
    overlay.timeout(START);
    assert_eq!(overlay.poll_timeout(), Some((due, reason)), "an early call does nothing");
    overlay.timeout(due);
    assert!(overlay.poll_timeout().unwrap().0 > due);
}

#[test]
fn one_network_does_not_fill_an_answer() {
    let (mut overlay, mut services) = node();
    // Twenty-five digests from one network, three from others.
    let from = |signer: usize| {
        let network = if signer <= 25 { 1 } else { u8::try_from(signer).unwrap() };
        let addr = std::net::SocketAddr::from(([198, 51, network, 7], 4_000));
        contact(signer).with_addrs(vec![addr])
    };
    for signer in 1..=28 {
        let request = store(&digest(signer), Some("class/a"));
        overlay.request(START, &mut services, &from(signer), ReplyToken(1), request);
    }
    assert_eq!(overlay.custody().len(), 28);
    actions(&mut overlay);
    let query = QueryRequest {
        shard: ShardId::whole(GroupKey::of("class/a")),
        placement: 0,
        query: 0_u64.to_be_bytes().to_vec().into(),
        limit: 8,
        cost_max: 1_000,
        exclude: Vec::new(),
        known: Known::default(),
    };
    let response = ask(&mut overlay, &mut services, 1, Request::Query(query));
    let Response::Found { answer: QueryOutcome::Answered(answer), .. } = response else {
        panic!("{response:?}")
    };
    assert_eq!((answer.matches.len(), answer.passed), (8, 28));
    let signers: Vec<_> =
        answer.matches.iter().map(|bytes| services.verify(START, bytes).unwrap().signer).collect();
    assert!((26..=28).all(|signer| signers.contains(&agent(signer))), "{signers:?}");
}
