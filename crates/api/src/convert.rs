//! From the types of the core to the texts of the API.

use comity_core::receipt::SignedReceipt;
use comity_core::text::Form;
use comity_core::{AgentId, Canonical, Position};
use data_encoding::HEXLOWER;

use crate::types::{AgentForms, AgentName, Proof, ReceiptView};

impl AgentName {
    /// The names of an agent. `position` is derived from the same key (and costs the caller's Argon2id, so that it can
    /// be cached).
    #[must_use]
    pub fn of(agent: &AgentId, position: &Position) -> Self {
        Self {
            agent: *agent,
            address: position.address().to_string(),
            handle: position.checked_handle().to_string(),
        }
    }
}

impl AgentForms {
    /// Every text form of an agent; `position` as for [`AgentName::of`].
    #[must_use]
    pub fn of(agent: &AgentId, position: &Position) -> Self {
        let AgentName { agent, address, handle } = AgentName::of(agent, position);
        Self {
            agent,
            address,
            handle,
            hex: agent.to_text(Form::Hex),
            did_key: agent.to_text(Form::DidKey),
            peer_id: agent.to_text(Form::PeerIdBase58),
            peer_id_cid: agent.to_text(Form::PeerIdCid),
            onion: agent.to_text(Form::OnionV3),
            mint_bits: position.mint_bits(),
        }
    }

    /// The short ones among them.
    #[must_use]
    pub fn name(&self) -> AgentName {
        AgentName { agent: self.agent, address: self.address.clone(), handle: self.handle.clone() }
    }
}

impl From<&SignedReceipt> for Proof {
    /// The receipt in both forms. Says nothing about whether it verifies.
    fn from(signed: &SignedReceipt) -> Self {
        Self::spelled(signed, &signed.encode())
    }
}

impl Proof {
    /// As from the receipt alone, for who has its canonical bytes already.
    #[must_use]
    pub fn spelled(signed: &SignedReceipt, bytes: &[u8]) -> Self {
        let receipt = &signed.receipt;
        Self {
            receipt_cbor: HEXLOWER.encode(bytes),
            receipt: ReceiptView {
                caller: receipt.caller.to_string(),
                callee: receipt.callee.to_string(),
                capability: receipt.name.as_str().to_owned(),
                descriptor: receipt.capability.to_string(),
                interface: receipt.interface.to_string(),
                request: receipt.request.to_string(),
                response: receipt.response.to_string(),
                status: receipt.status,
                received_at_ms: receipt.started_ms,
                answered_at_ms: receipt.finished_ms,
                valid_until_ms: receipt.valid_until_ms,
                data_version: receipt
                    .data_version
                    .as_ref()
                    .map(|version| version.as_str().to_owned()),
            },
        }
    }
}
