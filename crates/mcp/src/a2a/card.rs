//! Agent cards: where an agent is found, written anew for each side of the bridge.
//!
//! Three spellings of a card's URLs: those of the agent, which stay at its machine; [`PLACE`] and a number on the way; and
//! those of a client's local endpoint.

use axum::http::Uri;
use comity_specialist::manifest::{Manifest, Visibility};
use comity_specialist::mcp::A2aSection;
use serde_json::{Map, Value, json};

use super::{AGENT_TAG, EXTENSION, SKILL_TAG};
use crate::host::capability_name;
use crate::text::{DESCRIPTION_BYTES_MAX, TITLE_BYTES_MAX, clean, scrub};

/// Largest card that is read, in bytes.
pub const CARD_BYTES_MAX: usize = 256 << 10;
/// Most places of one agent.
pub const PLACES_MAX: usize = 8;
/// Most skills of one agent that are looked at.
pub const SKILLS_MAX: usize = 64;
/// What stands for a URL on the way, followed by its number.
pub const PLACE: &str = "comity-a2a:";
/// Path of the local place where 0.3 is translated for an agent of 1.0.
pub const SHIM_03: &str = "v03";
/// Path of the local place where 1.0 is translated for an agent of 0.3.
pub const SHIM_10: &str = "v10";
/// Longest description published, in bytes.
const PUBLISHED_BYTES_MAX: usize = 480;
/// Most tags and examples of a capability.
const TAGS_MAX: usize = 16;
const EXAMPLES_MAX: usize = 5;

/// The URLs of one agent that are relayed, each once: JSON-RPC and HTTP+JSON at the host the operator named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(Vec<Uri>);

/// The numbers of the places where JSON-RPC is spoken, and what the agent can do that the bridge has to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Natives {
    /// In version 1.0.
    pub v10: Option<usize>,
    /// In version 0.3.
    pub v03: Option<usize>,
    /// Whether the agent calls webhooks.
    pub pushes: bool,
}

impl Places {
    /// Replaces the URLs of a card by numbers. What is not relayed is taken out: other bindings, and other hosts than
    /// `home`'s, so that no card can point the relay at somebody else.
    pub fn hide(card: &mut Value, home: &Uri) -> Self {
        let mut places = Self::default();
        places.hide_more(card, home);
        places
    }

    /// The same for another card of the same agent, such as its extended one.
    pub fn hide_more(&mut self, card: &mut Value, home: &Uri) {
        rewrite(card, |url| {
            let url: Uri = url.parse().ok()?;
            if url.scheme_str() != Some("http") || url.host() != home.host() {
                return None;
            }
            let number = self.0.iter().position(|known| *known == url).or_else(|| {
                self.0.push(url);
                Some(self.0.len() - 1)
            })?;
            (number < PLACES_MAX).then(|| format!("{PLACE}{number}"))
        });
        self.0.truncate(PLACES_MAX);
    }

    /// The URI of `rest` (empty, or a path below with its query) at a place.
    #[must_use]
    pub fn uri(&self, number: usize, rest: &str) -> Option<Uri> {
        let place = self.0.get(number)?;
        if rest.is_empty() || rest == "/" {
            return Some(place.clone());
        }
        let path = rest.split('?').next().unwrap_or_default();
        let climbs = |part: &str| {
            let part = part.to_ascii_lowercase().replace("%2e", ".");
            part == "." || part == ".." || part.contains("%2f") || part.contains("%5c")
        };
        if !rest.starts_with('/') || path.split('/').any(climbs) {
            return None;
        }
        let text = place.to_string();
        let base = text.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        format!("{base}{rest}").parse().ok()
    }
}

impl Natives {
    /// Of a card whose URLs are numbers.
    #[must_use]
    pub fn of(card: &Value) -> Self {
        let is_rpc = |binding: Option<&Value>| binding.is_none_or(|binding| binding == "JSONRPC");
        let pushes = card["capabilities"]["pushNotifications"] == true;
        let mut natives = Self { pushes, ..Self::default() };
        for one in listed(card, "supportedInterfaces") {
            let number = number(&one["url"]).filter(|_| is_rpc(one.get("protocolBinding")));
            let legacy =
                one["protocolVersion"].as_str().is_some_and(|version| version.starts_with("0."));
            let slot = if legacy { &mut natives.v03 } else { &mut natives.v10 };
            *slot = slot.or(number);
        }
        let main = number(&card["url"]).filter(|_| is_rpc(card.get("preferredTransport")));
        natives.v03 = natives.v03.or(main);
        for one in listed(card, "additionalInterfaces") {
            let number = number(&one["url"]).filter(|_| is_rpc(one.get("transport")));
            natives.v03 = natives.v03.or(number);
        }
        natives
    }
}

fn listed<'c>(card: &'c Value, name: &str) -> impl Iterator<Item = &'c Value> {
    card[name].as_array().into_iter().flatten()
}

/// The number that stands for a URL.
fn number(url: &Value) -> Option<usize> {
    let number = url.as_str()?.strip_prefix(PLACE)?.parse().ok()?;
    (number < PLACES_MAX).then_some(number)
}

/// Writes the URLs of a card anew, and takes out those that `write` has no word for.
fn rewrite(card: &mut Value, mut write: impl FnMut(&str) -> Option<String>) {
    let relayed = |binding: Option<&Value>| match binding.and_then(Value::as_str) {
        None => true,
        Some(binding) => matches!(binding, "JSONRPC" | "HTTP+JSON"),
    };
    let Some(card) = card.as_object_mut() else { return };
    for (list, binding) in
        [("supportedInterfaces", "protocolBinding"), ("additionalInterfaces", "transport")]
    {
        let Some(Value::Array(entries)) = card.get_mut(list) else {
            card.remove(list);
            continue;
        };
        entries.retain_mut(|entry| {
            let Some(entry) = entry.as_object_mut().filter(|entry| relayed(entry.get(binding)))
            else {
                return false;
            };
            let written = entry.get("url").and_then(Value::as_str).and_then(&mut write);
            let kept = written.is_some();
            entry.insert("url".to_owned(), Value::from(written.unwrap_or_default()));
            kept
        });
        if entries.is_empty() {
            card.remove(list);
        }
    }
    if card.contains_key("url") {
        let main = relayed(card.get("preferredTransport"));
        let written = card.get("url").and_then(Value::as_str).filter(|_| main).and_then(&mut write);
        let other = card.get("additionalInterfaces").and_then(|list| list.get(0)).cloned();
        match (written, other) {
            (Some(url), _) => {
                card.insert("url".to_owned(), Value::from(url));
            }
            (None, Some(other)) => {
                card.insert("url".to_owned(), other["url"].clone());
                card.insert("preferredTransport".to_owned(), other["transport"].clone());
            }
            (None, None) => {
                card.remove("url");
                card.remove("preferredTransport");
            }
        }
    }
}

/// Which versions' readers a card is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// 1.0 and 0.3, in one card; members of 0.3 are outside the schema of 1.0.
    Both,
    /// 1.0 alone, unless the agent itself speaks 0.3.
    Modern,
}

/// What a local endpoint adds to a card.
#[derive(Debug)]
pub(super) struct Local<'a> {
    /// URL of the agent at the endpoint, without a slash at its end.
    pub(super) base: &'a str,
    /// Where the agent speaks JSON-RPC itself.
    pub(super) natives: Natives,
    /// Which versions' readers it is for.
    pub(super) readers: Readers,
    /// Whether the endpoint demands its token.
    pub(super) secured: bool,
    /// Who is behind it, for the extension.
    pub(super) about: Map<String, Value>,
}

/// A card on the way as the card of a local endpoint: for readers of 1.0 and of 0.3.
pub(super) fn localise(card: &mut Value, local: Local<'_>) {
    scrub(card);
    let Local { base, natives, readers, secured, mut about } = local;
    rewrite(card, |url| {
        let number = number(&Value::from(url))?;
        Some(format!("{base}/{number}"))
    });
    let Some(card) = card.as_object_mut() else { return };
    if let Some(signatures) = card.remove("signatures") {
        about.insert("signatures".to_owned(), signatures);
    }
    both_versions(card, base, natives, readers);
    // The agent's own demands end at its bridge, which meets them or not; here it is the endpoint's token.
    for name in ["security", "securityRequirements", "securitySchemes"] {
        card.remove(name);
    }
    if secured {
        let mut scheme = json!({"httpAuthSecurityScheme": {"scheme": "bearer"}});
        if card.contains_key("url") {
            scheme["type"] = json!("http");
            scheme["scheme"] = json!("bearer");
            card.insert("security".to_owned(), json!([{"comity": []}]));
        }
        card.insert("securitySchemes".to_owned(), json!({ "comity": scheme }));
        card.insert("securityRequirements".to_owned(), json!([{"schemes": {"comity": {}}}]));
    }
    let capabilities = card.entry("capabilities").or_insert_with(|| json!({}));
    if !capabilities.is_object() {
        *capabilities = json!({});
    }
    let extension = json!({
        "uri": EXTENSION,
        "description": "Reached over a comity network; the parameters say who answers.",
        "params": about,
    });
    match capabilities.get_mut("extensions").and_then(Value::as_array_mut) {
        Some(list) => {
            list.retain(|one| one["uri"] != EXTENSION);
            list.push(extension);
        }
        None => capabilities["extensions"] = json!([extension]),
    }
}

/// Lets a card be read by 1.0 and by 0.3, the missing one through the translation.
fn both_versions(card: &mut Map<String, Value>, base: &str, natives: Natives, readers: Readers) {
    let entry = |url: &str, version: &str| json!({"url": url, "protocolBinding": "JSONRPC", "protocolVersion": version});
    let url_of = |number: usize| format!("{base}/{number}");
    let legacy = natives.v03.map(url_of).or_else(|| {
        natives.v10.filter(|_| readers == Readers::Both).map(|_| format!("{base}/{SHIM_03}"))
    });
    if !card.contains_key("supportedInterfaces") {
        let mut list = Vec::new();
        if natives.v03.is_some() {
            list.push(entry(&format!("{base}/{SHIM_10}"), "1.0"));
        }
        list.extend(legacy.as_deref().map(|url| entry(url, "0.3")));
        card.insert("supportedInterfaces".to_owned(), Value::from(list));
        if card.get("supportsAuthenticatedExtendedCard") == Some(&Value::Bool(true))
            && let Some(Value::Object(capabilities)) = card.get_mut("capabilities")
        {
            capabilities.insert("extendedAgentCard".to_owned(), Value::Bool(true));
        }
    } else if natives.v03.is_none()
        && let (Some(url), Some(Value::Array(list))) =
            (&legacy, card.get_mut("supportedInterfaces"))
    {
        list.push(entry(url, "0.3"));
    }
    if readers == Readers::Both
        && !card.contains_key("url")
        && let Some(url) = legacy
    {
        card.insert("url".to_owned(), Value::from(url));
        card.insert("preferredTransport".to_owned(), Value::from("JSONRPC"));
        let extended = card
            .get("capabilities")
            .is_some_and(|capabilities| capabilities["extendedAgentCard"] == true);
        if extended {
            card.insert("supportsAuthenticatedExtendedCard".to_owned(), Value::Bool(true));
        }
    }
    if card.contains_key("url") {
        card.entry("protocolVersion").or_insert_with(|| Value::from("0.3.0"));
        // Members that readers of 0.3 demand and 1.0 leaves out when they are empty.
        for name in ["defaultInputModes", "defaultOutputModes", "skills"] {
            card.entry(name).or_insert_with(|| json!([]));
        }
        for name in ["name", "description", "version"] {
            card.entry(name).or_insert_with(|| Value::from(""));
        }
        card.entry("capabilities").or_insert_with(|| json!({}));
        for skill in card.get_mut("skills").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Value::Object(skill) = skill {
                skill.entry("tags").or_insert_with(|| json!([]));
            }
        }
    }
}

/// The skills of a card.
pub fn skills(card: &Value) -> impl Iterator<Item = &Value> {
    listed(card, "skills").filter(|skill| skill["id"].is_string()).take(SKILLS_MAX)
}

fn texts(value: &Value, max: usize) -> impl Iterator<Item = String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(move |text| clean(text, max))
}

/// The manifest that publishes a whole agent, found by the words of its skills; private unless said otherwise.
#[must_use]
pub fn agent_manifest(section: &A2aSection, card: &Value, name: Option<String>) -> Manifest {
    let given = card["name"].as_str().filter(|name| !name.trim().is_empty()).unwrap_or("a2a-agent");
    let mut tags = vec![SKILL_TAG.to_owned(), AGENT_TAG.to_owned()];
    let (mut examples, mut words) =
        (Vec::new(), vec![card["description"].as_str().unwrap_or_default().to_owned()]);
    for skill in skills(card) {
        words.push(format!(
            "{}: {}",
            skill["name"].as_str().unwrap_or_default(),
            skill["description"].as_str().unwrap_or_default()
        ));
        for tag in texts(&skill["tags"], 40).map(|tag| tag.to_lowercase()) {
            if tags.len() < TAGS_MAX && !tag.is_empty() && !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        examples.extend(texts(&skill["examples"], TITLE_BYTES_MAX).take(EXAMPLES_MAX));
    }
    examples.truncate(EXAMPLES_MAX);
    words.retain(|text| !text.trim().is_empty());
    Manifest {
        name: Some(name.unwrap_or_else(|| capability_name(given))),
        title: Some(clean(given, TITLE_BYTES_MAX)),
        description: Some(clean(&words.join(" "), PUBLISHED_BYTES_MAX)),
        examples,
        tags,
        visibility: Some(Visibility::Private),
        idempotent: Some(false),
        streaming: Some(true),
        a2a: Some(A2aSection { skill: None, ..section.clone() }),
        ..Manifest::default()
    }
}

/// The manifest that publishes one skill as a capability that takes and gives plain JSON.
#[must_use]
pub fn skill_manifest(section: &A2aSection, skill: &Value, name: String) -> Manifest {
    let id = skill["id"].as_str().unwrap_or_default();
    let mut tags = vec![SKILL_TAG.to_owned()];
    tags.extend(
        texts(&skill["tags"], 40).map(|tag| tag.to_lowercase()).filter(|tag| !tag.is_empty()),
    );
    tags.truncate(TAGS_MAX);
    Manifest {
        name: Some(name),
        title: Some(clean(skill["name"].as_str().unwrap_or(id), TITLE_BYTES_MAX)),
        description: Some(clean(
            skill["description"].as_str().unwrap_or_default(),
            PUBLISHED_BYTES_MAX.min(DESCRIPTION_BYTES_MAX),
        )),
        examples: texts(&skill["examples"], TITLE_BYTES_MAX).take(EXAMPLES_MAX).collect(),
        tags,
        idempotent: Some(false),
        streaming: Some(false),
        input_schema: Some(json!({
            "type": "object", "additionalProperties": false,
            "properties": {
                "text": {"type": "string", "description": "what is asked, in words"},
                "data": {"description": "what is asked, as JSON"},
                "contextId": {"type": "string", "description": "goes on with an earlier conversation"},
                "taskId": {"type": "string", "description": "goes on with a task that asked for input"},
            },
        })),
        output_schema: Some(json!({
            "type": "object",
            "properties": {
                "state": {"type": "string"}, "text": {"type": "string"}, "parts": {"type": "array"},
                "taskId": {"type": "string"}, "contextId": {"type": "string"},
            },
            "required": ["state", "text", "parts"],
        })),
        a2a: Some(A2aSection { skill: Some(id.to_owned()), ..section.clone() }),
        ..Manifest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modern() -> Value {
        json!({
            "name": "A", "description": "d", "version": "1", "capabilities": {"streaming": true},
            "supportedInterfaces": [
                {"url": "http://agent:9000/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
                {"url": "http://agent:9000/rest", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0", "tenant": "t"},
                {"url": "http://agent:9001", "protocolBinding": "GRPC", "protocolVersion": "1.0"},
                {"url": "http://elsewhere/rpc", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
            ],
            "securitySchemes": {"own": {}}, "skills": [{"id": "s", "name": "S", "description": "x"}],
        })
    }

    fn legacy() -> Value {
        json!({
            "name": "B", "description": "d", "version": "1", "protocolVersion": "0.3.0", "url": "http://agent:1/grpc",
            "preferredTransport": "GRPC", "capabilities": {}, "skills": [],
            "additionalInterfaces": [{"url": "http://agent:1/", "transport": "JSONRPC"}],
        })
    }

    fn local(card: &mut Value, natives: Natives) {
        let about = Map::from_iter([("address".to_owned(), Value::from("fd00::1"))]);
        let readers = Readers::Both;
        localise(
            card,
            Local { base: "http://localhost:1/a2a/x", natives, readers, secured: true, about },
        );
    }

    #[test]
    fn a_card_of_1_0_is_read_by_both_and_names_no_foreign_place() {
        let home: Uri = "http://agent:9000/".parse().unwrap();
        let mut card = modern();
        let places = Places::hide(&mut card, &home);
        let natives = Natives::of(&card);
        assert_eq!(natives, Natives { v10: Some(0), v03: None, pushes: false });
        assert_eq!(places.uri(1, "/tasks/1?x=y").unwrap(), "http://agent:9000/rest/tasks/1?x=y");
        assert_eq!(places.uri(0, "").unwrap(), "http://agent:9000/rpc");
        for wrong in ["tasks", "/../secret", "/a/%2E%2e/b", "/a%2f..", "/a b"] {
            assert_eq!(places.uri(1, wrong), None, "{wrong}");
        }
        assert_eq!(places.uri(2, ""), None);
        assert!(!card.to_string().contains("agent:9000"), "{card}");
        local(&mut card, natives);
        let urls: Vec<&str> =
            listed(&card, "supportedInterfaces").map(|one| one["url"].as_str().unwrap()).collect();
        let base = "http://localhost:1/a2a/x";
        assert_eq!(urls, [format!("{base}/0"), format!("{base}/1"), format!("{base}/v03")]);
        assert_eq!(
            (&card["url"], &card["protocolVersion"]),
            (&json!(format!("{base}/v03")), &json!("0.3.0"))
        );
        assert_eq!(card["skills"][0]["tags"], json!([]));
        assert_eq!(card["securitySchemes"]["comity"]["type"], "http");
        assert_eq!(card["capabilities"]["extensions"][0]["params"]["address"], "fd00::1");
    }

    #[test]
    fn a_strict_card_says_nothing_that_1_0_does_not_know() {
        let mut card = modern();
        Places::hide(&mut card, &"http://agent:9000/".parse().unwrap());
        let natives = Natives::of(&card);
        let local = Local {
            base: "http://localhost:1/a2a/x",
            natives,
            readers: Readers::Modern,
            secured: true,
            about: Map::new(),
        };
        localise(&mut card, local);
        for name in ["url", "protocolVersion", "preferredTransport", "security"] {
            assert!(card.get(name).is_none(), "{name}");
        }
        assert_eq!(listed(&card, "supportedInterfaces").count(), 2);
        let scheme = card["securitySchemes"]["comity"].as_object().unwrap();
        assert_eq!(scheme.keys().collect::<Vec<_>>(), ["httpAuthSecurityScheme"]);
    }

    #[test]
    fn a_card_of_0_3_is_read_by_both() {
        let home: Uri = "http://agent:1".parse().unwrap();
        let mut card = legacy();
        let places = Places::hide(&mut card, &home);
        assert_eq!(places.uri(0, "/").unwrap(), "http://agent:1/");
        let natives = Natives::of(&card);
        assert_eq!(natives, Natives { v10: None, v03: Some(0), pushes: false });
        local(&mut card, natives);
        assert_eq!(card["url"], "http://localhost:1/a2a/x/0");
        assert_eq!(card["preferredTransport"], "JSONRPC");
        let versions: Vec<&Value> =
            listed(&card, "supportedInterfaces").map(|one| &one["protocolVersion"]).collect();
        assert_eq!(versions, ["1.0", "0.3"]);
    }

    #[test]
    fn hostile_cards_do_no_harm() {
        let home: Uri = "http://agent/".parse().unwrap();
        for mut card in [
            json!(null),
            json!([]),
            json!({"supportedInterfaces": 3, "url": {}, "capabilities": [], "skills": "x"}),
            json!({"supportedInterfaces": [null, {"url": 1}, {"url": "comity-a2a:99"}], "url": "comity-a2a:-1"}),
            json!({"url": "http://169.254.169.254/latest", "additionalInterfaces": [{"url": "file:///etc/passwd"}]}),
        ] {
            let places = Places::hide(&mut card, &home);
            assert_eq!(places, Places::default(), "{card}");
            let natives = Natives::of(&card);
            local(&mut card, natives);
            assert!(!card.to_string().contains("169.254"), "{card}");
        }
        let many: Vec<Value> = (0..50)
            .map(|n| json!({"url": format!("http://agent/{n}"), "protocolBinding": "JSONRPC"}))
            .collect();
        let mut card = json!({ "supportedInterfaces": many });
        Places::hide(&mut card, &home);
        assert_eq!(card["supportedInterfaces"].as_array().unwrap().len(), PLACES_MAX);
    }
}
