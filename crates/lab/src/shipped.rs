//! Experiments that come with the program.

/// Names and texts of the experiments in `scenarios/`.
pub const SHIPPED: &[(&str, &str)] = &[
    ("healthy", include_str!("../../../scenarios/healthy.toml")),
    ("sizes", include_str!("../../../scenarios/sizes.toml")),
    ("directory", include_str!("../../../scenarios/directory.toml")),
    ("failures", include_str!("../../../scenarios/failures.toml")),
    ("byzantine", include_str!("../../../scenarios/byzantine.toml")),
    ("stale", include_str!("../../../scenarios/stale.toml")),
    ("mixed", include_str!("../../../scenarios/mixed.toml")),
    ("eclipse", include_str!("../../../scenarios/eclipse.toml")),
    ("churn", include_str!("../../../scenarios/churn.toml")),
    ("upkeep", include_str!("../../../scenarios/upkeep.toml")),
    ("day", include_str!("../../../scenarios/day.toml")),
    ("partition", include_str!("../../../scenarios/partition.toml")),
    ("restart", include_str!("../../../scenarios/restart.toml")),
    ("loss", include_str!("../../../scenarios/loss.toml")),
    ("stall", include_str!("../../../scenarios/stall.toml")),
    ("group", include_str!("../../../scenarios/group.toml")),
    ("baselines", include_str!("../../../scenarios/baselines.toml")),
];

/// The campaign that makes the repository's report.
pub const CAMPAIGN: &str = include_str!("../../../scenarios/campaign.toml");

/// The experiment of this name.
#[must_use]
pub fn text_of(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// Names of the simulator's presets.
#[must_use]
pub const fn presets() -> &'static [&'static str] {
    &comity_sim::PRESETS
}

/// Names that may have been meant: of shipped experiments and presets, the most alike first.
#[must_use]
pub fn suggestions(name: &str) -> Vec<String> {
    let base = name.split(':').next().unwrap_or(name).to_lowercase();
    let names = SHIPPED.iter().map(|(name, _)| *name).chain(comity_sim::PRESETS);
    let mut alike: Vec<(f64, &str)> = names
        .map(|known| {
            let part = if known.contains(&base) && base.len() > 2 { 0.9 } else { 0.0 };
            (strsim::jaro_winkler(&base, known).max(part), known)
        })
        .filter(|(likeness, _)| *likeness > 0.72)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut names: Vec<String> = Vec::new();
    for (_, known) in alike {
        if !names.iter().any(|name| name == known) && names.len() < 3 {
            names.push(known.to_owned());
        }
    }
    names
}

/// A text as part of a file's name or an anchor.
pub(crate) fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() => out.push(c.to_ascii_lowercase()),
            _ if !out.ends_with('-') && !out.is_empty() => out.push('-'),
            _ => {}
        }
    }
    out.trim_end_matches('-').to_owned()
}
