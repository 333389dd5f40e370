//! Matching: any query on any declaration. Digest and declaration agree, whoever passes is found under the plan's keys, and
//! evaluating a shard keeps to its limits.
#![no_main]

use arbitrary::{Result, Unstructured};
use comity_capability::matching::{self, ShardLimits, evaluate_shard};
use comity_capability::query::Query;
use comity_capability::record::{Digest, Record};
use comity_core::{AgentId, Canonical, Hash};
use comity_fuzz::{NOW, identity, plausible, properties};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Cut short by the end of the input is as good as any other end.
    let _ = run(&mut Unstructured::new(data));
});

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut record = Record::new(1, NOW, NOW, Hash([0; 32]));
    let mut digests = Vec::new();
    for ordinal in 0..u.int_in_range(1..=4)? {
        record.capabilities.push(plausible::capability(u)?);
        if let Ok(digest) = Digest::summarise(&record, ordinal, Hash([1; 32])) {
            properties::of_digest(&digest, &record.capabilities[usize::from(ordinal)]);
            digests.push((ordinal, digest));
        }
    }
    for _ in 0..u.int_in_range(1..=4)? {
        let about = u.choose_index(record.capabilities.len())?;
        let Some(query) = plausible::query(u, &record.capabilities[about])? else { continue };
        properties::of_query(&query);
        for (ordinal, digest) in &digests {
            properties::of_match(&query, digest, &record.capabilities[usize::from(*ordinal)]);
        }
        let limits = ShardLimits {
            results: u.int_in_range(0..=4)?,
            near_misses: u.int_in_range(0..=4)?,
            cost: u.int_in_range(0..=400)?,
        };
        let shard: Vec<(AgentId, &Digest)> =
            (0..).zip(&digests).map(|(n, (_, digest))| (identity(n).id(), digest)).collect();
        of_shard(&query, &shard, limits);
    }
    // Whatever remains is a query and a digest straight from the network.
    let (query, digest) = u.peek_bytes(u.len()).unwrap_or_default().split_at(u.len() / 2);
    if let (Ok(query), Ok(digest)) =
        (<Query as Canonical>::decode(query), <Digest as Canonical>::decode(digest))
    {
        properties::of_evaluation(&query, &matching::evaluate(&query, &digest));
    }
    Ok(())
}

fn of_shard(query: &Query, shard: &[(AgentId, &Digest)], limits: ShardLimits) {
    let answer = evaluate_shard(query, shard.iter().copied(), limits);
    assert_eq!(
        answer,
        evaluate_shard(query, shard.iter().copied(), limits),
        "equal arguments, equal answers"
    );
    assert!(
        answer.cost <= limits.cost
            && answer.found.len() <= limits.results
            && answer.near_misses.len() <= limits.near_misses
    );
    assert_eq!(answer.exhausted, answer.evaluated < shard.len());
    for found in &answer.found {
        let evaluation = matching::evaluate(query, shard[found.index].1);
        assert!(!evaluation.refused());
        assert_eq!(evaluation.is_open(), found.open);
    }
    for miss in &answer.near_misses {
        let evaluation = matching::evaluate(query, shard[miss.index].1);
        assert!(evaluation.failed().eq(&miss.failed) && !miss.failed.is_empty());
    }
    let passing = shard
        .iter()
        .take(answer.evaluated)
        .filter(|(_, digest)| !matching::evaluate(query, digest).refused())
        .count();
    assert_eq!(answer.matching, passing);
}
