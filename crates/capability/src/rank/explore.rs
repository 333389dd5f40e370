//! The exploration share: some places go to candidates nobody has experience with.

use comity_core::Hash;

use super::{Ranked, lot};

/// Share of the places on average, in percent. High enough that a newcomer in a group of tens is tried within days, low enough that nine
/// places of ten go by score.
pub const EXPLORATION_PERCENT: usize = 10;

/// The first `k` of `ordered`, some of the last places given to candidates of `unproven` that would not be among them.
///
/// The first place always goes by score. A fraction of a place is drawn for with `seed`.
pub(super) fn select(
    mut ordered: Vec<Ranked>,
    k: usize,
    seed: &[u8; 32],
    unproven: impl Fn(&Ranked) -> bool,
) -> Vec<Ranked> {
    if ordered.len() <= k {
        return ordered;
    }
    let mut newcomers = ordered.split_off(k);
    newcomers.retain(|ranked| unproven(ranked));
    newcomers.sort_by_key(|ranked| (lot(seed, &ranked.agent), ranked.index));
    // Newcomers that have a place by their score use up the share.
    let seated = ordered.iter().filter(|ranked| unproven(ranked)).count();
    let free = places(k, seed).saturating_sub(seated).min(newcomers.len()).min(k.saturating_sub(1));
    // Proven candidates give way, from the last place up.
    ordered.truncate(k - free);
    ordered.extend(
        newcomers.into_iter().take(free).map(|ranked| Ranked { exploratory: true, ..ranked }),
    );
    ordered
}

/// How many places of `k` are for exploration: the share, its fraction rounded up with that probability.
fn places(k: usize, seed: &[u8; 32]) -> usize {
    let hundredths = k * EXPLORATION_PERCENT;
    let draw = Hash::derive("comity/rank/explore/v1", &[seed]);
    let [first, second, ..] = *draw.as_bytes();
    let draw = usize::from(first) * 256 + usize::from(second);
    hundredths / 100 + usize::from(draw * 100 < (hundredths % 100) * 65_536)
}
