//! Short names that people use for classes, and the paths they mean.

/// Folded name -> path. Sorted by name.
const ALIASES: &[(&str, &str)] = &[
    ("advisories", "technology/security/software_advisories"),
    ("ai", "technology/artificial_intelligence"),
    ("airport", "transportation/aviation/airports"),
    ("airports", "transportation/aviation/airports"),
    ("aviation", "transportation/aviation"),
    ("business", "finance_and_business"),
    ("central_bank_rates", "finance_and_business/market_data/fx_rates"),
    ("cve", "technology/security/software_advisories"),
    ("energy", "energy"),
    ("equities", "finance_and_business/market_data/equities"),
    ("exchange_rates", "finance_and_business/market_data/fx_rates"),
    ("finance", "finance_and_business"),
    ("foreign_exchange", "finance_and_business/market_data/fx_rates"),
    ("forex", "finance_and_business/market_data/fx_rates"),
    ("fx", "finance_and_business/market_data/fx_rates"),
    ("geography", "geography"),
    ("geo", "geography"),
    ("government", "government_and_public_sector"),
    ("health", "healthcare"),
    ("law", "legal"),
    ("market_data", "finance_and_business/market_data"),
    ("marketing", "marketing_and_advertising"),
    ("media", "media_and_entertainment"),
    ("places", "geography/gazetteer"),
    ("public_sector", "government_and_public_sector"),
    ("rates", "finance_and_business/market_data/fx_rates"),
    ("research", "research_and_development"),
    ("security_advisories", "technology/security/software_advisories"),
    ("sports", "sports_and_fitness"),
    ("stocks", "finance_and_business/market_data/equities"),
    ("tech", "technology"),
    ("telecom", "telecommunications"),
    ("tourism", "hospitality_and_tourism"),
    ("transport", "transportation"),
    ("vulnerabilities", "technology/security/software_advisories"),
];

/// The path an alias stands for.
pub(super) fn path_of(folded: &str) -> Option<&'static str> {
    ALIASES.iter().find(|(name, _)| *name == folded).map(|(_, path)| *path)
}

/// The aliases of a path.
pub(super) fn names_of(path: &str) -> impl Iterator<Item = &'static str> {
    ALIASES.iter().filter(move |(_, known)| *known == path).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_alias_names_a_class_of_the_tree() {
        for (name, path) in super::ALIASES {
            let id = super::super::resolve(name)
                .unwrap_or_else(|| panic!("{name} -> {path} is missing"));
            assert_eq!(super::super::by_id(&id).unwrap().path, *path);
        }
    }
}
