//! Zone maps: no member is denied, whether added, merged or read back, and what a stranger wrote encodes to the very bytes.
#![no_main]

use arbitrary::{Result, Unstructured};
use comity_capability::matching;
use comity_capability::record::{Digest, Record};
use comity_capability::zone::{ZONE_BYTES_MAX, ZoneMap};
use comity_core::{Canonical, Hash};
use comity_fuzz::{NOW, plausible};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(zone) = ZoneMap::decode(data) {
        assert_eq!(zone.encode(), data);
    }
    // Cut short by the end of the input is as good as any other end.
    let _ = run(&mut Unstructured::new(data));
});

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let mut record = Record::new(1, NOW, NOW, Hash([0; 32]));
    let (mut digests, mut whole) = (Vec::new(), ZoneMap::new());
    let mut halves = [ZoneMap::new(), ZoneMap::new()];
    for ordinal in 0..u.int_in_range(1..=6)? {
        record.capabilities.push(plausible::capability(u)?);
        if let Ok(digest) = Digest::summarise(&record, ordinal, Hash([1; 32])) {
            whole.add(&digest);
            halves[usize::from(ordinal % 2)].add(&digest);
            digests.push(digest);
        }
    }
    let [mut merged, other] = halves;
    merged.merge(&other);
    let bytes = whole.encode();
    assert!(bytes.len() <= ZONE_BYTES_MAX);
    let read = ZoneMap::decode(&bytes).expect("what was encoded decodes");
    assert_eq!(read, whole);
    for _ in 0..u.int_in_range(1..=4)? {
        let about = u.choose_index(record.capabilities.len())?;
        let Some(query) = plausible::query(u, &record.capabilities[about])? else { continue };
        let possible = digests.iter().any(|digest| !matching::evaluate(&query, digest).refused());
        for zone in [&read, &merged] {
            assert!(zone.may_match(&query) || !possible, "{query} has an answer that the map denies");
            assert_eq!(zone.promise(&query).is_some(), zone.may_match(&query));
        }
    }
    Ok(())
}
