//! Tickets and join addresses: what is printed is read back, slips are caught, and nothing else is accepted.

use std::net::SocketAddr;

use comity_api::{
    JoinAddress, JoinAddressError, MAX_TICKET_ADDRS, MAX_TICKET_CHARS, Ticket, TicketError,
};
use comity_core::{AgentId, Identity};
use proptest::prelude::*;

fn agent(seed: u8) -> AgentId {
    Identity::from_secret_bytes(&[seed; 32]).id()
}

fn ticket(seed: u8, addrs: &[&str]) -> Ticket {
    Ticket::new(agent(seed), addrs.iter().map(|addr| addr.parse().unwrap()))
}

#[test]
fn the_text_is_stable() {
    let ticket = ticket(7, &["127.0.0.1:4433", "[::1]:4433"]);
    assert_eq!(ticket.to_string(), STABLE);
    assert_eq!(STABLE.parse::<Ticket>().unwrap(), ticket);
}

const STABLE: &str = "comity:uiafqihkjjwghyu4kifl55kqpmjs5rpzsvdxnlv6xz5zeqq65jurirwsfqayert7aaaacekrkiaaaaaaaaaaaaaaaaaaaaaaaaarculhvztxg";

#[test]
fn the_upper_case_of_a_qr_code_reads_the_same() {
    let ticket = ticket(1, &["192.0.2.1:9"]);
    let text = ticket.to_qr_text();
    assert!(
        text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ':'),
        "{text}"
    );
    assert_eq!(text.parse::<Ticket>().unwrap(), ticket);
}

#[test]
fn addresses_nobody_can_dial_are_left_out() {
    let ticket = ticket(1, &["0.0.0.0:1", "127.0.0.1:0", "[::]:5", "127.0.0.1:5", "127.0.0.1:5"]);
    assert_eq!(ticket.addrs(), ["127.0.0.1:5".parse().unwrap()]);
}

#[test]
fn a_ticket_of_the_largest_size_fits_its_limit() {
    let addrs = (1..=20).map(|port| {
        SocketAddr::new("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(), port)
    });
    let ticket = Ticket::new(agent(1), addrs);
    assert_eq!(ticket.addrs().len(), MAX_TICKET_ADDRS);
    assert!(ticket.to_string().len() <= MAX_TICKET_CHARS);
    assert_eq!(ticket.to_string().parse::<Ticket>().unwrap(), ticket);
}

#[test]
fn each_wrong_text_has_its_error() {
    let good = ticket(3, &["127.0.0.1:4433"]).to_string();
    let parse = |text: &str| text.parse::<Ticket>().unwrap_err();
    assert_eq!(parse("http://example.org"), TicketError::Scheme);
    assert_eq!(parse(""), TicketError::Scheme);
    assert_eq!(parse("comité"), TicketError::Scheme);
    assert_eq!(parse("comity:"), TicketError::Base32);
    assert_eq!(parse("comity:!!!!"), TicketError::Base32);
    assert_eq!(parse(&format!("comity:{}", "a".repeat(600))), TicketError::TooLong(607));
    let cut = parse(&good[..good.len() - 4]);
    assert!(matches!(cut, TicketError::Base32 | TicketError::Check), "{cut:?}");
}

#[test]
fn a_check_that_fits_does_not_excuse_the_content() {
    let seal = |payload: &[u8]| {
        let check = &comity_core::Hash::derive("comity/ticket/v1", &[payload]).0[..4];
        format!("comity:{}", data_encoding::BASE32_NOPAD.encode(&[payload, check].concat()))
    };
    let key = *agent(1).as_bytes();
    let with_addrs = |addrs: &[u8]| seal(&[&[0xa2, 0, 0x58, 32][..], &key, &[1], addrs].concat());
    let content = |text: String| matches!(text.parse::<Ticket>(), Err(TicketError::Content(_)));
    assert!(with_addrs(&[0x81, 0x46, 127, 0, 0, 1, 1, 1]).parse::<Ticket>().is_ok());
    for addrs in [
        &[0x81, 0x46, 0, 0, 0, 0, 1, 1][..], // unspecified ip
        &[0x81, 0x46, 127, 0, 0, 1, 0, 0],   // port 0
        &[0x81, 0x45, 127, 0, 0, 1, 1],      // neither IPv4 nor IPv6
        &[0x82, 0x46, 127, 0, 0, 1, 1, 1],   // fewer than announced
        &[0x82, 0x46, 127, 0, 0, 1, 1, 1, 0x46, 127, 0, 0, 1, 1, 1], // repeated
        &[0x81, 0x46, 127, 0, 0, 1, 1, 1, 0], // trailing byte
        &[0x98, 1, 0x46, 127, 0, 0, 1, 1, 1], // length not minimal
        &[0x9f, 0x46, 127, 0, 0, 1, 1, 1, 0xff], // indefinite length
        &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x40], // absurd length
    ] {
        assert!(content(with_addrs(addrs)), "{addrs:x?}");
    }
    let small_order = seal(&[&[0xa2, 0, 0x58, 32][..], &[0; 32], &[1, 0x80]].concat());
    assert!(content(small_order));
    assert!(content(seal(&[])));
}

#[test]
fn join_addresses_have_two_forms() {
    let id = agent(5);
    let plain: JoinAddress = format!("{id}@127.0.0.1:4433").parse().unwrap();
    assert_eq!((plain.agent(), plain.addrs()), (id, &["127.0.0.1:4433".parse().unwrap()][..]));
    assert_eq!(plain.to_string(), format!("{id}@127.0.0.1:4433"));
    let packed: JoinAddress = ticket(5, &["127.0.0.1:4433"]).to_string().parse().unwrap();
    assert_eq!(packed, plain);
    let v6: JoinAddress = format!(" {id}@[::1]:9 ").parse().unwrap();
    assert_eq!(v6.to_string(), format!("{id}@[::1]:9"));
    let two: JoinAddress = ticket(5, &["127.0.0.1:1", "127.0.0.1:2"]).to_string().parse().unwrap();
    assert_eq!(two.to_string().parse::<JoinAddress>().unwrap(), two);
}

#[test]
fn each_wrong_join_address_has_its_error() {
    let id = agent(5);
    let parse = |text: String| text.parse::<JoinAddress>().unwrap_err();
    assert!(matches!(parse("localhost".to_owned()), JoinAddressError::Form(_)));
    assert!(matches!(parse(format!("{id}@localhost:1")), JoinAddressError::Socket(_)));
    assert!(matches!(parse(format!("{id}@127.0.0.1")), JoinAddressError::Socket(_)));
    assert!(matches!(parse("nobody@127.0.0.1:1".to_owned()), JoinAddressError::Agent { .. }));
    assert!(matches!(parse(format!("{id}@127.0.0.1:0")), JoinAddressError::NoAddress));
    assert!(matches!(parse(format!("{id}@0.0.0.0:1")), JoinAddressError::NoAddress));
    assert!(matches!(parse(ticket(5, &[]).to_string()), JoinAddressError::NoAddress));
    assert!(matches!(parse("comity:aaaa".to_owned()), JoinAddressError::Ticket(_)));
    let shown = parse(format!("{}\u{1b}[31m", "x".repeat(1000))).to_string();
    assert!(shown.len() < 300 && !shown.contains('\u{1b}'), "{shown}");
}

fn addr() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| (ip, port).into()),
        (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| (ip, port).into()),
    ]
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(seed: u8, addrs in prop::collection::vec(addr(), 0..12)) {
        let ticket = Ticket::new(agent(seed), addrs);
        let through_json: Ticket = serde_json::from_value(serde_json::to_value(&ticket).unwrap()).unwrap();
        prop_assert_eq!(&ticket.to_string().parse::<Ticket>().unwrap(), &ticket);
        prop_assert_eq!(through_json, ticket);
    }

    #[test]
    fn one_changed_character_is_caught(seed: u8, place: prop::sample::Index, to in "[a-z2-7]") {
        let text = ticket(seed, &["127.0.0.1:4433"]).to_string();
        let place = "comity:".len() + place.index(text.len() - "comity:".len());
        let changed = format!("{}{to}{}", &text[..place], &text[place + 1..]);
        if changed != text {
            prop_assert!(changed.parse::<Ticket>().is_err());
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "(comity:)?\\PC{0,80}") {
        let _ = text.parse::<Ticket>();
        let _ = text.parse::<JoinAddress>();
    }
}
