//! Whether a receipt vouches for the answer it came with.

use std::sync::Mutex;

use bytes::Bytes;
use comity_core::canonical::{Version, decode_minicbor};
use comity_core::receipt::{MAX_SIGNED_RECEIPT_LEN, Receipt, RootCache, ShortText, SignedReceipt};
use comity_core::{AgentId, Canonical as _, Hash, Sha256Digest};

use super::Distrust;
use crate::transport::locked;

/// Callers of different peers seldom wait for each other's signature checks.
const SHARDS: usize = 8;

/// What is made of a receipt again and again, made once.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Its canonical bytes, signature included.
    pub(crate) bytes: Bytes,
    /// BLAKE3 of the statement alone: the receipt's name.
    pub(crate) statement: Hash,
}

impl Written {
    pub(crate) fn of(signed: &SignedReceipt) -> Self {
        Self { bytes: signed.encode().into(), statement: Hash::of(&signed.receipt.encode()) }
    }
}

/// Roots that verified, so that one signature check serves a batch.
#[derive(Debug, Default)]
pub(super) struct Roots([Mutex<RootCache>; SHARDS]);

/// What a receipt must say.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) callee: AgentId,
    pub(super) caller: AgentId,
    pub(super) session: Hash,
    pub(super) number: u64,
    pub(super) request: Hash,
    pub(super) capability: String,
    pub(super) descriptor: Option<Hash>,
    pub(super) interface: Option<Sha256Digest>,
}

/// A [`Receipt`] whose keys are bytes. Decoding an [`AgentId`] checks that the key is sound, which costs as much as a signature; here the
/// bytes are compared with keys that were checked long ago.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct PlainReceipt {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    session: Hash,
    #[n(2)]
    number: u64,
    #[n(3)]
    caller: Hash,
    #[n(4)]
    callee: Hash,
    #[n(5)]
    capability: Hash,
    #[n(6)]
    request: Hash,
    #[n(7)]
    response: Hash,
    #[n(8)]
    status: u64,
    #[n(9)]
    started_ms: u64,
    #[n(10)]
    finished_ms: u64,
    #[n(11)]
    cost: u64,
    #[n(12)]
    evidence: Option<Hash>,
    #[n(13)]
    leaf: Option<u64>,
    #[n(14)]
    interface: Sha256Digest,
    #[n(15)]
    valid_until_ms: u64,
    #[n(16)]
    data_version: Option<ShortText>,
    #[n(17)]
    name: ShortText,
}

/// A [`SignedReceipt`] of a [`PlainReceipt`]; the same bytes.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct PlainSigned {
    #[n(0)]
    receipt: PlainReceipt,
    #[n(1)]
    index: u32,
    #[n(2)]
    path: Vec<Hash>,
    #[cbor(n(3), with = "minicbor::bytes")]
    root: Vec<u8>,
}

impl Roots {
    /// Checks everything a receipt binds; the signature last, because it costs most.
    pub(super) fn verify(
        &self,
        bytes: &[u8],
        response: Hash,
        expected: &Expected,
    ) -> Result<SignedReceipt, Distrust> {
        if bytes.len() > MAX_SIGNED_RECEIPT_LEN {
            return Err(Distrust::Unreadable(format!("{} bytes", bytes.len())));
        }
        let plain: PlainSigned =
            decode_minicbor(bytes).map_err(|error| Distrust::Unreadable(error.to_string()))?;
        expected.check(&plain.receipt, response)?;
        let signed = SignedReceipt {
            receipt: expected.named(plain.receipt),
            index: plain.index,
            path: plain.path,
            root: plain.root,
        };
        let shard = usize::from(expected.callee.as_bytes()[0]) % SHARDS;
        signed.verify_with(&mut locked(&self.0[shard])).map_err(Distrust::Signature)?;
        Ok(signed)
    }
}

impl Expected {
    fn check(&self, receipt: &PlainReceipt, response: Hash) -> Result<(), Distrust> {
        if receipt.callee.as_bytes() != self.callee.as_bytes() {
            return Err(stranger(receipt.callee, |found| Distrust::Signer { found }));
        }
        if receipt.caller.as_bytes() != self.caller.as_bytes() {
            return Err(stranger(receipt.caller, |found| Distrust::Caller { found }));
        }
        if receipt.session != self.session || receipt.number != self.number {
            return Err(Distrust::Session);
        }
        if receipt.name.as_str() != self.capability {
            return Err(Distrust::Capability { found: receipt.name.to_string() });
        }
        if self.descriptor.is_some_and(|wanted| wanted != receipt.capability) {
            return Err(Distrust::Descriptor { found: receipt.capability });
        }
        if self.interface.is_some_and(|wanted| wanted != receipt.interface) {
            return Err(Distrust::Interface { found: receipt.interface });
        }
        if receipt.status != 0 {
            return Err(Distrust::Status { found: receipt.status });
        }
        if receipt.request != self.request {
            return Err(Distrust::Request);
        }
        if receipt.response != response {
            return Err(Distrust::Response);
        }
        Ok(())
    }

    /// The receipt with the keys that [`Expected::check`] found in it.
    fn named(&self, plain: PlainReceipt) -> Receipt {
        Receipt {
            version: plain.version,
            session: plain.session,
            number: plain.number,
            caller: self.caller,
            callee: self.callee,
            capability: plain.capability,
            request: plain.request,
            response: plain.response,
            status: plain.status,
            started_ms: plain.started_ms,
            finished_ms: plain.finished_ms,
            cost: plain.cost,
            evidence: plain.evidence,
            leaf: plain.leaf,
            interface: plain.interface,
            valid_until_ms: plain.valid_until_ms,
            data_version: plain.data_version,
            name: plain.name,
        }
    }
}

fn stranger(key: Hash, named: impl FnOnce(AgentId) -> Distrust) -> Distrust {
    AgentId::from_bytes(key.as_bytes())
        .map_or_else(|error| Distrust::Unreadable(error.to_string()), named)
}
