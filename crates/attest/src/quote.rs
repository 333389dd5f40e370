//! What quotes of confidential hardware have in common.

use std::collections::BTreeSet;

use comity_trust::evidence::{AppraisalError, Attackers, Claim, Fact, Presented};
use data_encoding::HEXLOWER;

use crate::statements::accepted;

/// What hardware vouches for, once its signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quote {
    /// What the code had signed: 64 bytes of its own choice.
    pub report_data: [u8; 64],
    /// Hash over the code and its initial state.
    pub measurement: Vec<u8>,
    /// Which hardware in which state, in words.
    pub platform: String,
}

/// Turns a quote into a fact: it must carry the binding of the session and the question, and a measurement that the operator accepts.
///
/// Of code that nobody named, a quote excludes nobody: whoever rents such a machine can measure code of any kind.
pub(crate) fn fact(
    kind: &str,
    by: &str,
    quote: Quote,
    accept: &BTreeSet<String>,
    presented: &Presented,
) -> Result<Vec<Fact>, AppraisalError> {
    let expected = presented.evidence.binds;
    let (bound, rest) = quote.report_data.split_at(32);
    if bound != expected.as_bytes() || rest.iter().any(|byte| *byte != 0) {
        let found = HEXLOWER.encode(&quote.report_data);
        return Err(AppraisalError::Binding { found, expected });
    }
    let measurement = HEXLOWER.encode(&quote.measurement);
    let claim = Claim::Measured { platform: quote.platform, measurement };
    accepted(kind, &claim, accept)?;
    let excludes = if accept.is_empty() { Attackers::NONE } else { Attackers::SOFTWARE };
    Ok(vec![Fact { claim, by: by.to_owned(), excludes }])
}
