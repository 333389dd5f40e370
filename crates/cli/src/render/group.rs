//! Private groups.

use comity_api::types::{PrivateGroup, PrivateGroups};

use super::{clean, count, field, table};

/// What `group show` and `group join` print.
pub(crate) fn group(group: &PrivateGroup, width: usize) -> String {
    let serves = if group.serves.is_empty() {
        "nothing".to_owned()
    } else {
        clean(&group.serves.join(", "))
    };
    field(0, "group", &clean(&group.name), width)
        + &field(0, "fingerprint", &group.fingerprint, width)
        + &field(0, "serves", &serves, width)
        + &field(
            0,
            "entries",
            &count(u64::from(group.entries), "veiled entry kept", "veiled entries kept"),
            width,
        )
}

/// What `group list` prints.
pub(crate) fn list(groups: &PrivateGroups, _width: usize) -> String {
    if groups.private_groups.is_empty() {
        return "no private groups: `comity group create NAME` makes one\n".to_owned();
    }
    let row = |group: &PrivateGroup| {
        vec![clean(&group.name), group.fingerprint.clone(), clean(&group.serves.join(", "))]
    };
    table(&groups.private_groups.iter().map(row).collect::<Vec<_>>())
}
