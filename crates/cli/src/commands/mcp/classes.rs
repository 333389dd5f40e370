//! Domains that tools and skills seem to be about, by what they say of themselves: for whoever publishes them to confirm.

use comity_api::types::Overrides;
use comity_capability::taxonomy;
use comity_specialist::manifest::Manifest;

use crate::render;

/// Most classes proposed for one capability.
const PROPOSED_MAX: usize = 2;
/// Tags that say how something is reached and used, and nothing of its domain.
const KINDS: [&str; 7] =
    ["mcp", "mcp-server", "a2a", "a2a-agent", "resource", "read-only", "destructive"];

/// What is proposed, one list of paths for each manifest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Proposed {
    names: Vec<String>,
    classes: Vec<Vec<String>>,
}

impl Proposed {
    /// Proposals for those that name no class. Where the user named some, there are none.
    pub(super) fn of(manifests: &[Manifest], overrides: &Overrides) -> Self {
        let classes = |manifest: &Manifest| {
            if !overrides.classes.is_empty() || !manifest.classes.is_empty() {
                return Vec::new();
            }
            let found = taxonomy::propose(&words_of(manifest), PROPOSED_MAX);
            found.into_iter().map(|class| class.path.to_owned()).collect()
        };
        Self {
            names: manifests.iter().map(|one| one.name.clone().unwrap_or_default()).collect(),
            classes: manifests.iter().map(classes).collect(),
        }
    }

    pub(super) fn put_into(&self, manifests: &mut [Manifest]) {
        for (manifest, classes) in manifests.iter_mut().zip(&self.classes) {
            manifest.classes.extend(classes.iter().cloned());
        }
    }

    /// For people; nothing when nothing is proposed.
    pub(super) fn text(&self) -> Option<String> {
        let all = self.names.iter().zip(&self.classes).filter(|(_, classes)| !classes.is_empty());
        let all: Vec<String> = all
            .map(|(name, classes)| format!("{}: {}", render::clean(name), classes.join(", ")))
            .collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// Everything that a tool says of itself in words.
fn words_of(manifest: &Manifest) -> String {
    let mut words =
        vec![manifest.name.as_deref().unwrap_or_default().replace(['-', '_', '.'], " ")];
    words.extend([&manifest.title, &manifest.description].into_iter().flatten().cloned());
    let tags = manifest.tags.iter().filter(|tag| !KINDS.contains(&tag.as_str()));
    words.extend(manifest.examples.iter().chain(tags).cloned());
    let members =
        manifest.input_schema.as_ref().and_then(|schema| schema["properties"].as_object());
    for (name, what) in members.into_iter().flatten() {
        words.push(name.replace(['-', '_', '.'], " "));
        words.extend(what["description"].as_str().map(str::to_owned));
    }
    words.join(". ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_user_named_is_left_alone_and_the_rest_is_proposed() {
        let tool = Manifest {
            name: Some("get-forecast".to_owned()),
            description: Some("Weather forecast of the coming days.".to_owned()),
            input_schema: Some(json!({"properties": {"days": {"type": "number"}}})),
            ..Manifest::default()
        };
        let plain = Manifest {
            name: Some("echo".to_owned()),
            description: Some("Echoes.".to_owned()),
            ..Manifest::default()
        };
        let mut all = vec![tool, plain];
        let proposed = Proposed::of(&all, &Overrides::default());
        assert_eq!(proposed.text().as_deref(), Some("get-forecast: geography/weather"));
        proposed.put_into(&mut all);
        assert_eq!((all[0].classes.len(), all[1].classes.len()), (1, 0));
        // What has a class gets no other.
        assert_eq!(Proposed::of(&all, &Overrides::default()).text(), None);
        all[0].classes.clear();
        let named = Overrides { classes: vec!["finance".to_owned()], ..Overrides::default() };
        assert_eq!(Proposed::of(&all, &named).text(), None);
    }
}
