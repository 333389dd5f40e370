//! Signatures of cards: JSON Web Signatures (RFC 7515) with Ed25519 (RFC 8037) over the canonical form (RFC 8785) of what
//! A2A 1.0 knows of a card (A2A specification, section 8.4).

use std::path::Path;

use comity_api::types::{ErrorCode, ErrorInfo};
use comity_core::Identity;
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Map, Value, json};

/// File below the node's home that holds the key of the local endpoint. It is not the node's: what it signs says no more
/// than that this endpoint wrote the card.
pub const KEY_FILE: &str = "a2a.key";

/// The key of a local endpoint.
#[derive(Debug)]
pub(super) struct CardKey {
    key: Identity,
    id: String,
}

impl CardKey {
    /// The key in `home`, made by `random` when there is none.
    pub(super) fn open(home: &Path, random: fn(&mut [u8])) -> Result<Self, ErrorInfo> {
        let text = crate::http::secret(home, KEY_FILE, random)?;
        let wrong = || {
            let text = format!("{} holds no key", home.join(KEY_FILE).display());
            ErrorInfo::new(ErrorCode::KeyFile, text).hint("remove the file to have a new one made")
        };
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| wrong())?;
        let secret: [u8; 32] = bytes.try_into().map_err(|_| wrong())?;
        Ok(Self::of(&secret))
    }

    fn of(secret: &[u8; 32]) -> Self {
        let key = Identity::from_secret_bytes(secret);
        let id = BASE64URL_NOPAD.encode(&key.id().as_bytes()[..12]);
        Self { key, id }
    }

    /// The public half, as a JSON Web Key Set.
    pub(super) fn public(&self) -> Value {
        json!({"keys": [{
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.id,
            "x": BASE64URL_NOPAD.encode(self.key.id().as_bytes()),
        }]})
    }

    /// Puts a signature into the card, in place of those it has.
    pub(super) fn sign(&self, card: &mut Map<String, Value>, keys_url: &str) {
        card.remove("signatures");
        let header =
            canonical(&json!({"alg": "EdDSA", "kid": self.id, "jku": keys_url, "typ": "JOSE"}));
        let protected = BASE64URL_NOPAD.encode(&header);
        let payload = BASE64URL_NOPAD.encode(&canonical(&known(card)));
        let signature = self.key.sign(format!("{protected}.{payload}").as_bytes());
        card.insert(
            "signatures".to_owned(),
            json!([{"protected": protected, "signature": BASE64URL_NOPAD.encode(&signature)}]),
        );
    }
}

fn canonical(value: &Value) -> Vec<u8> {
    // Only numbers that JSON cannot say would fail, and a `Value` holds none.
    serde_json_canonicalizer::to_vec(value).unwrap_or_default()
}

/// What A2A 1.0 knows of a card, members with default values left out: what is signed, because a reader of 1.0 drops the
/// rest before it verifies.
fn known(card: &Map<String, Value>) -> Value {
    const CARD: [&str; 13] = [
        "name",
        "description",
        "supportedInterfaces",
        "provider",
        "version",
        "documentationUrl",
        "capabilities",
        "securitySchemes",
        "securityRequirements",
        "defaultInputModes",
        "defaultOutputModes",
        "skills",
        "iconUrl",
    ];
    const SKILL: [&str; 8] = [
        "id",
        "name",
        "description",
        "tags",
        "examples",
        "inputModes",
        "outputModes",
        "securityRequirements",
    ];
    let mut view = only(card, &CARD);
    let within =
        |view: &mut Map<String, Value>, member: &str, names: &[&str]| match view.get_mut(member) {
            Some(Value::Object(object)) => *object = only(object, names),
            Some(Value::Array(entries)) => {
                for entry in entries {
                    if let Value::Object(object) = entry {
                        *object = only(object, names);
                    }
                }
            }
            _ => {}
        };
    within(
        &mut view,
        "supportedInterfaces",
        &["url", "protocolBinding", "tenant", "protocolVersion"],
    );
    within(&mut view, "provider", &["url", "organization"]);
    within(&mut view, "skills", &SKILL);
    within(
        &mut view,
        "capabilities",
        &["streaming", "pushNotifications", "extensions", "extendedAgentCard"],
    );
    if let Some(Value::Object(capabilities)) = view.get_mut("capabilities") {
        within(capabilities, "extensions", &["uri", "description", "required", "params"]);
        for extension in
            capabilities.get_mut("extensions").and_then(Value::as_array_mut).into_iter().flatten()
        {
            if let Value::Object(extension) = extension
                && extension.get("required") == Some(&Value::Bool(false))
            {
                extension.remove("required");
            }
        }
    }
    if let Some(Value::Object(schemes)) = view.get_mut("securitySchemes") {
        for scheme in schemes.values_mut() {
            if let Value::Object(object) = scheme {
                *object = only(object, &["httpAuthSecurityScheme"]);
            }
        }
    }
    let mut view = Value::Object(view);
    drop_empty(&mut view);
    view
}

fn only(object: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    object
        .iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Removes empty texts, lists and objects, inside first; tells whether anything is left. `Value` nests 128 deep at most
/// when it was parsed.
fn drop_empty(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| drop_empty(member));
            !members.is_empty()
        }
        Value::Array(items) => {
            items.retain_mut(drop_empty);
            !items.is_empty()
        }
        Value::String(text) => !text.is_empty(),
        Value::Null => false,
        Value::Bool(_) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use comity_core::AgentId;

    use super::*;

    #[test]
    fn a_card_is_signed_over_what_readers_of_1_0_keep() {
        let key = CardKey::of(&[7; 32]);
        let card = json!({
            "name": "ž", "url": "http://old", "protocolVersion": "0.3.0", "skills": [{"id": "a", "tags": [], "odd": 1}],
            "capabilities": {"streaming": false, "extensions": [{"uri": "u", "required": false, "params": {"n": 5.0}}]},
            "signatures": [{"protected": "x", "signature": "y"}],
        });
        let Value::Object(mut card) = card else { unreachable!() };
        key.sign(&mut card, "http://localhost/keys");
        assert_eq!(
            String::from_utf8(canonical(&known(&card))).unwrap(),
            r#"{"capabilities":{"extensions":[{"params":{"n":5},"uri":"u"}],"streaming":false},"name":"ž","skills":[{"id":"a"}]}"#
        );
        let signature = &card["signatures"][0];
        let (protected, bytes) =
            (signature["protected"].as_str().unwrap(), signature["signature"].as_str().unwrap());
        let bytes: [u8; 64] = BASE64URL_NOPAD.decode(bytes.as_bytes()).unwrap().try_into().unwrap();
        let payload = BASE64URL_NOPAD.encode(&canonical(&known(&card)));
        let public = key.public()["keys"][0]["x"].as_str().unwrap().to_owned();
        let public: [u8; 32] =
            BASE64URL_NOPAD.decode(public.as_bytes()).unwrap().try_into().unwrap();
        let public = AgentId::from_bytes(&public).unwrap();
        assert!(public.verify(format!("{protected}.{payload}").as_bytes(), &bytes).is_ok());
        assert!(public.verify(format!("{protected}.{payload}x").as_bytes(), &bytes).is_err());
    }
}
