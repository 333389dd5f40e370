//! Who may know of a capability and call it. One function decides, for offers, calls and records alike.

use comity_capability::record::{Capability, Visibility};
use comity_core::AgentId;

/// What is known of a request when it is decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    /// The agent this node carries.
    pub(crate) me: &'a AgentId,
    /// The private group the capability is served to.
    pub(crate) served_to: Option<&'a str>,
    /// The private group whose membership the caller proved in this session.
    pub(crate) member_of: Option<&'a str>,
    /// Grants the caller presents, unchecked; at most [`crate::rpc::GRANTS_BYTES_MAX`].
    #[expect(
        dead_code,
        reason = "the rules below let nobody in by a grant; those of a policy will"
    )]
    pub(crate) grants: Option<&'a [u8]>,
}

/// The decision, with the rule that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The caller may.
    Allowed(Rule),
    /// For this caller the capability does not exist.
    Denied,
}

/// What lets a caller in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It is the agent itself.
    Own,
    /// The capability is for everybody.
    Public,
    /// The capability is served to a group that the caller is a member of.
    Member,
}

impl Admission {
    pub(crate) const fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

/// Decides. What no rule allows is denied.
pub(crate) fn admit(caller: &AgentId, capability: &Capability, context: &Context<'_>) -> Admission {
    let Context { me, served_to, member_of, grants: _ } = context;
    if caller == *me {
        return Admission::Allowed(Rule::Own);
    }
    match served_to {
        Some(group) if *member_of == Some(*group) => Admission::Allowed(Rule::Member),
        Some(_) => Admission::Denied,
        None if capability.visibility == Visibility::Public => Admission::Allowed(Rule::Public),
        None => Admission::Denied,
    }
}

#[cfg(test)]
mod tests {
    use comity_core::Identity;

    use super::*;

    #[test]
    fn what_no_rule_allows_is_denied() {
        let agent = |seed| Identity::from_secret_bytes(&[seed; 32]).id();
        let (me, other) = (agent(1), agent(2));
        let mut capability = Capability::new("c").unwrap();
        let mut decide = |caller: &AgentId, visibility, served_to, member_of| {
            capability.visibility = visibility;
            let context = Context { me: &me, served_to, member_of, grants: None };
            admit(caller, &capability, &context)
        };
        let (public, private) = (Visibility::Public, Visibility::Private);
        assert_eq!(decide(&me, private, None, None), Admission::Allowed(Rule::Own));
        assert_eq!(decide(&other, public, None, None), Admission::Allowed(Rule::Public));
        assert_eq!(decide(&other, private, None, None), Admission::Denied);
        assert_eq!(decide(&other, private, None, Some("a")), Admission::Denied);
        assert_eq!(decide(&other, private, Some("a"), None), Admission::Denied);
        assert_eq!(decide(&other, private, Some("a"), Some("b")), Admission::Denied);
        assert_eq!(decide(&other, private, Some("a"), Some("a")), Admission::Allowed(Rule::Member));
        assert_eq!(decide(&other, public, Some("a"), None), Admission::Denied, "a group is closed");
    }
}
