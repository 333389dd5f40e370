//! Pings, peers, groups.

use comity_api::types::{Group, Groups, Peer, Peers, PingResponse, Role, SessionState};

use super::{BAD, DIM, GOOD, STRONG, ago, bytes, clean, count, cut, field, micros, now_ms, table};

/// Columns of a group's key, enough to tell it from others.
const KEY_COLUMNS: usize = 9;

/// Columns of a group's label.
const LABEL_COLUMNS: usize = 30;

/// What `ping` prints.
pub(crate) fn ping(response: &PingResponse, width: usize) -> String {
    let mut text = format!(
        "{STRONG}{}{STRONG:#} {DIM}{}{DIM:#}\n",
        clean(&response.agent.address),
        clean(&response.agent.handle)
    );
    let connect = response
        .connect_us
        .map_or_else(|| "session was open".to_owned(), |us| format!("connected in {}", micros(us)));
    text += &field(2, "path", &format!("{}, {connect}", clean(&response.path)), width);
    for ping in &response.pings {
        let line = match (&ping.rtt_us, &ping.error) {
            (Some(rtt), _) => micros(*rtt),
            (None, Some(error)) => format!("{BAD}{}{BAD:#}", clean(&error.message)),
            (None, None) => "no answer".to_owned(),
        };
        text += &field(2, &format!("ping {}", ping.number), &line, width);
    }
    let times: Vec<u64> = response.pings.iter().filter_map(|ping| ping.rtt_us).collect();
    if let (Some(min), Some(max)) = (times.iter().min(), times.iter().max()) {
        let mean = times.iter().sum::<u64>() / times.len() as u64;
        let line = format!(
            "{} of {} answered; {} / {} / {} (min / mean / max)",
            times.len(),
            response.pings.len(),
            micros(*min),
            micros(mean),
            micros(*max)
        );
        text += &field(2, "all", &line, width);
    }
    text
}

/// What `peers` prints.
pub(crate) fn peers(peers: &Peers, _width: usize) -> String {
    peers_at(peers, now_ms())
}

pub(crate) fn peers_at(peers: &Peers, now_ms: u64) -> String {
    if peers.peers.is_empty() {
        return "no peers yet: join with `comity up --join ADDRESS`\n".to_owned();
    }
    let rows: Vec<Vec<String>> = peers.peers.iter().map(|peer| peer_row(peer, now_ms)).collect();
    let connected =
        peers.peers.iter().filter(|peer| peer.session == SessionState::Connected).count();
    format!(
        "{}{} known, {connected} connected\n",
        table(&rows),
        count(peers.peers.len() as u64, "peer", "peers")
    )
}

fn peer_row(peer: &Peer, now_ms: u64) -> Vec<String> {
    let session = match peer.session {
        SessionState::Connected => format!("{GOOD}connected{GOOD:#}"),
        SessionState::Parked => "parked".to_owned(),
        SessionState::Known => format!("{DIM}known{DIM:#}"),
    };
    let role = match peer.role {
        Role::Server => "server",
        Role::Client => "client",
        Role::Undecided => "?",
    };
    let place = peer
        .path
        .as_deref()
        .map(clean)
        .or_else(|| peer.addrs.first().map(ToString::to_string))
        .unwrap_or_else(|| "nowhere known".to_owned());
    let rtt = peer.rtt_us.map(micros).unwrap_or_default();
    let seen = peer.seen_at_ms.map(|at| ago(at, now_ms)).unwrap_or_default();
    vec![clean(&peer.agent.handle), session, role.to_owned(), rtt, place, seen]
}

/// What `groups` prints.
pub(crate) fn groups(groups: &Groups, _width: usize) -> String {
    if groups.groups.is_empty() {
        return "no groups yet: nothing is published from here and nothing is kept for others\n"
            .to_owned();
    }
    table(&groups.groups.iter().map(group_row).collect::<Vec<_>>())
}

fn group_row(group: &Group) -> Vec<String> {
    let kept = match group.digests {
        0 => String::new(),
        digests => {
            format!("{}, {}", count(u64::from(digests), "digest", "digests"), bytes(group.bytes))
        }
    };
    let own = if group.own.is_empty() {
        String::new()
    } else {
        format!("own: {}", clean(&group.own.join(", ")))
    };
    vec![
        format!("{DIM}{}{DIM:#}", cut(&group.group.key, KEY_COLUMNS)),
        format!("{STRONG}{}{STRONG:#}", cut(&group.group.label, LABEL_COLUMNS)),
        kept,
        own,
    ]
}
