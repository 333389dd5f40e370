//! Equal inputs, equal actions.

use std::time::Duration;

use comity_overlay::{Command, Config};

use crate::fake::contact;
use crate::net::Net;

/// Everything that happens while a small network grows, publishes, loses a node and asks.
fn trace() -> Vec<String> {
    let mut net = Net::new(false);
    net.tracing = true;
    for index in 0..25 {
        net.add(Config::default());
        let seeds = if index == 0 { Vec::new() } else { vec![contact(index / 2)] };
        net.run_command(index, Command::Join { seeds });
    }
    let digest = net.digest(1, 1, 5, Duration::from_secs(7_200));
    net.publish(1, vec![digest.publication(&["class/a", "class/b"])]);
    net.kill(7);
    net.run_for(Duration::from_secs(4_000));
    net.find(20, &["class/a"], 0);
    net.trace
}

#[test]
fn two_runs_do_the_same() {
    let (first, second) = (trace(), trace());
    assert!(first.len() > 1_000);
    let differing = first.iter().zip(&second).find(|(a, b)| a != b);
    assert_eq!(differing, None);
    assert_eq!(first.len(), second.len());
}
