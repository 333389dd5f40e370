//! Tickets and join addresses as people paste them: what parses prints as something that parses to the same.
#![no_main]

use comity_api::{JoinAddress, MAX_TICKET_ADDRS, MAX_TICKET_CHARS, Ticket};
use comity_fuzz::identity;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    from_addresses(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Ticket>() {
        Ok(ticket) => of_ticket(&ticket),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match text.parse::<JoinAddress>() {
        Ok(address) => {
            assert!(!address.addrs().is_empty());
            let printed = address.to_string();
            assert_eq!(
                printed.parse::<JoinAddress>().as_ref(),
                Ok(&address),
                "{printed:?} printed from {text:?}"
            );
        }
        // What is wrong is quoted, and not at full length.
        Err(error) => assert!((1..=1024).contains(&error.to_string().len()), "{error}"),
    }
});

fn of_ticket(ticket: &Ticket) {
    let printed = ticket.to_string();
    assert!(printed.len() <= MAX_TICKET_CHARS && ticket.addrs().len() <= MAX_TICKET_ADDRS);
    assert_eq!(printed.parse::<Ticket>().as_ref(), Ok(ticket));
    assert_eq!(ticket.to_qr_text().parse::<Ticket>().as_ref(), Ok(ticket));
    assert_eq!(
        serde_json::from_value::<Ticket>(serde_json::to_value(ticket).expect("a text"))
            .as_ref()
            .ok(),
        Some(ticket)
    );
    // One character changed is noticed, whichever it is.
    let at = printed.len() - 1 - ticket.addrs().len();
    let swapped = if printed.as_bytes()[at] == b'a' { "b" } else { "a" };
    let damaged = format!("{}{swapped}{}", &printed[..at], &printed[at + 1..]);
    assert!(damaged.parse::<Ticket>().is_err(), "{damaged}");
}

/// A ticket made of addresses, however many and whatever they are.
fn from_addresses(data: &[u8]) {
    let addrs = data.chunks_exact(7).map(|chunk| {
        let ip: std::net::IpAddr = if chunk[0] % 2 == 0 {
            [chunk[1], chunk[2], chunk[3], chunk[4]].into()
        } else {
            std::net::Ipv6Addr::from(u128::from_be_bytes([chunk[1]; 16]) >> (chunk[2] % 128)).into()
        };
        std::net::SocketAddr::new(ip, u16::from_be_bytes([chunk[5], chunk[6]]))
    });
    of_ticket(&Ticket::new(identity(0).id(), addrs));
}
