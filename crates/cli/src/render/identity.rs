//! An identity in all its text forms.

use comity_api::types::AgentForms;

use super::{STRONG, field};

pub(crate) fn forms(forms: &AgentForms, width: usize) -> String {
    let mut text = String::new();
    for (label, value) in [
        ("agent", format!("{STRONG}{}{STRONG:#}", forms.agent)),
        ("address", format!("{STRONG}{}{STRONG:#}", forms.address)),
        ("handle", format!("{STRONG}{}{STRONG:#}", forms.handle)),
        ("hex", forms.hex.clone()),
        ("did", forms.did_key.clone()),
        ("peer id", forms.peer_id.clone()),
        ("", forms.peer_id_cid.clone()),
        ("onion", forms.onion.clone()),
        ("minted", format!("{} bits", forms.mint_bits)),
    ] {
        text += &field(0, label, &value, width);
    }
    text
}
