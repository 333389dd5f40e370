//! Signed receipts: decoding is canonical, and of everything made from a genuine receipt without the key only the
//! genuine one verifies.
#![no_main]

use arbitrary::Arbitrary;
use comity_core::canonical::Version;
use comity_core::receipt::{
    MAX_SIGNED_RECEIPT_LEN, Receipt, RootCache, ShortText, SignedReceipt, sign_batch,
};
use comity_core::{Canonical, Hash, Sha256Digest};
use comity_fuzz::{Edit, NOW, edited, identity};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// Bytes from nowhere.
    Bytes(&'a [u8]),
    /// A genuine receipt, changed on the way.
    Changed {
        batch: u8,
        which: u8,
        foreign: bool,
        status: u64,
        evidence: Option<[u8; 32]>,
        version: Option<&'a str>,
        edits: Vec<Edit>,
    },
}

fuzz_target!(|input: Input| {
    match input {
        Input::Bytes(bytes) => drop(decoded(bytes)),
        Input::Changed { batch, which, foreign, status, evidence, version, edits } => {
            let callee = identity(0);
            let receipt = |number: u64| Receipt {
                version: Version,
                session: Hash([3; 32]),
                number,
                caller: identity(1).id(),
                callee: callee.id(),
                capability: Hash([4; 32]),
                request: Hash([5; 32]),
                response: Hash([6; 32]),
                status,
                started_ms: 1,
                finished_ms: 2,
                cost: 0,
                evidence: evidence.map(Hash),
                leaf: None,
                interface: Sha256Digest([7; 32]),
                valid_until_ms: 3,
                data_version: version.and_then(|text| ShortText::try_from(text).ok()),
                name: ShortText::try_from("fx-history").expect("a short text"),
            };
            let count = u64::from(batch % 9) + 1;
            let signed = sign_batch(callee, NOW, (0..count).map(receipt).collect())
                .expect("a small batch of our own");
            let genuine: Vec<Vec<u8>> = signed.iter().map(Canonical::encode).collect();
            let at = usize::from(which) % genuine.len();
            assert!(genuine[at].len() <= MAX_SIGNED_RECEIPT_LEN);
            assert_eq!(signed[at].verify().expect("genuine").receipt, receipt(at as u64));
            // Grafting takes parts of a neighbour of the batch, or of a batch signed by somebody else.
            let donor = if foreign {
                let receipt = Receipt { callee: identity(2).id(), ..receipt(0) };
                sign_batch(identity(2), NOW, vec![receipt]).expect("one receipt")[0].encode()
            } else {
                genuine[(at + 1) % genuine.len()].clone()
            };
            let received = edited(&genuine[at], &donor, &edits);
            let Some(receipt) = decoded(&received) else { return };
            if receipt.verify().is_ok() {
                assert!(genuine.contains(&received) || received == donor, "forged: {receipt:?}");
            }
        }
    }
});

fn decoded(bytes: &[u8]) -> Option<SignedReceipt> {
    let receipt = SignedReceipt::decode(bytes).ok()?;
    assert_eq!(receipt.encode(), bytes);
    assert!(bytes.len() <= MAX_SIGNED_RECEIPT_LEN);
    let mut cache = RootCache::new();
    let alone = receipt.verify();
    assert_eq!(receipt.verify_with(&mut cache), alone);
    assert_eq!(receipt.verify_with(&mut cache), alone, "the second time from the cache");
    Some(receipt)
}
