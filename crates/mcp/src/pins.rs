//! Capabilities that are tools of their own: which, and what was known of them when last looked at.
//!
//! They are kept in `HOME/mcp-pins.json`, so that a starting MCP server can list its tools before it has asked anybody.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use comity_api::Client;
use comity_api::types::{Declaration, ErrorCode, ErrorInfo, FindRequest, Match, QueryInput};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text::{DESCRIPTION_BYTES_MAX, TITLE_BYTES_MAX, clean};

/// Most pinned capabilities: clients stop reading long tool lists, and each costs the model context.
pub const PINS_MAX: usize = 30;
/// Longest tool name; the common limit of model APIs.
pub const TOOL_NAME_MAX: usize = 64;
/// Largest file of pins that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Name of the file below the node's home.
pub const PINS_FILE: &str = "mcp-pins.json";

/// One pinned capability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    /// Name of the tool, `[A-Za-z0-9_-]`, unique.
    pub name: String,
    /// What was asked for: `ADDRESS/CAPABILITY`, or a query whose best match it is.
    pub query: String,
    /// The private group it was found in, by the name it has here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `ADDRESS/CAPABILITY` that is called.
    pub target: String,
    /// Handle of the agent behind it.
    pub handle: String,
    /// Its title, cleaned.
    pub title: String,
    /// Its description, cleaned.
    pub description: String,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// JSON Schema of the request as declared.
    #[serde(default)]
    pub input_schema: Value,
    /// JSON Schema of the answer as declared.
    #[serde(default)]
    pub output_schema: Value,
    /// Whether calling twice does no more than calling once.
    #[serde(default)]
    pub idempotent: bool,
}

impl Pin {
    fn learn(&mut self, handle: &str, declaration: &Declaration) {
        self.handle = clean(handle, TITLE_BYTES_MAX);
        self.title = clean(&declaration.title, TITLE_BYTES_MAX);
        self.description = clean(&declaration.description, DESCRIPTION_BYTES_MAX);
        self.tags = declaration.tags.iter().map(|tag| clean(tag, TITLE_BYTES_MAX)).collect();
        self.input_schema = declaration.input_schema.clone();
        self.output_schema = declaration.output_schema.clone();
        self.idempotent = declaration.idempotent;
    }
}

/// The pins of one home, shared by everything that lists or calls them.
#[derive(Debug)]
pub struct Pins {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pins: Vec<Pin>,
    read_at: Option<SystemTime>,
}

impl Pins {
    /// The pins of the node that lives in `home`; none when there is no file yet.
    ///
    /// # Errors
    /// `storage` when the file is there and cannot be read.
    pub fn open(home: &Path) -> Result<Self, ErrorInfo> {
        let pins = Self { path: home.join(PINS_FILE), state: Mutex::default() };
        pins.reload()?;
        Ok(pins)
    }

    /// All pins, in the order they were made.
    #[must_use]
    pub fn all(&self) -> Vec<Pin> {
        self.lock().pins.clone()
    }

    /// The pin whose tool has this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Pin> {
        self.lock().pins.iter().find(|pin| pin.name == name).cloned()
    }

    /// Reads the file again when it changed; tells whether the pins are others now.
    ///
    /// # Errors
    /// `storage` when it cannot be read or understood.
    pub fn reload(&self) -> Result<bool, ErrorInfo> {
        let Ok(found) = std::fs::metadata(&self.path) else {
            let mut state = self.lock();
            let changed = !state.pins.is_empty();
            *state = State::default();
            return Ok(changed);
        };
        let modified = found.modified().ok();
        if modified.is_some() && self.lock().read_at == modified {
            return Ok(false);
        }
        if found.len() > FILE_BYTES_MAX {
            return Err(self.broken(&format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        let text =
            std::fs::read_to_string(&self.path).map_err(|error| self.broken(&error.to_string()))?;
        let mut pins: Vec<Pin> =
            serde_json::from_str(&text).map_err(|error| self.broken(&error.to_string()))?;
        pins.truncate(PINS_MAX);
        pins.retain(|pin| is_tool_name(&pin.name));
        let mut state = self.lock();
        let changed = state.pins != pins;
        *state = State { pins, read_at: modified };
        Ok(changed)
    }

    /// Adds a pin, in place of one with the same name.
    ///
    /// # Errors
    /// `too_large` when there are [`PINS_MAX`], `storage` when the file cannot be written.
    pub fn put(&self, pin: Pin) -> Result<(), ErrorInfo> {
        self.reload()?;
        let mut pins = self.all();
        match pins.iter().position(|known| known.name == pin.name) {
            Some(index) => pins[index] = pin,
            None if pins.len() >= PINS_MAX => {
                let text = format!("{PINS_MAX} capabilities are pinned, and clients read no more");
                return Err(ErrorInfo::new(ErrorCode::TooLarge, text)
                    .hint("`comity mcp unpin NAME` one of them; `discover` and `call` reach all"));
            }
            None => pins.push(pin),
        }
        self.write(pins)
    }

    /// Removes a pin by the name of its tool.
    ///
    /// # Errors
    /// `not_found` when there is none, `storage` when the file cannot be written.
    pub fn remove(&self, name: &str) -> Result<Pin, ErrorInfo> {
        self.reload()?;
        let mut pins = self.all();
        let index = pins.iter().position(|pin| pin.name == name).ok_or_else(|| {
            ErrorInfo::new(ErrorCode::NotFound, format!("no tool named {name} is pinned"))
                .hint("`comity mcp pins` lists them")
        })?;
        let pin = pins.remove(index);
        self.write(pins)?;
        Ok(pin)
    }

    /// Looks at every pin's agent again; tells whether anything that clients see has changed. Agents that cannot be
    /// asked keep what was known of them.
    pub async fn refresh(&self, client: &Client) -> bool {
        let before = self.all();
        let mut after = before.clone();
        for pin in &mut after {
            if let Ok(fresh) = resolve(client, &pin.query, pin.group.as_deref(), &pin.name).await {
                *pin = fresh;
            }
        }
        if after == before || self.all() != before {
            return false;
        }
        self.write(after).is_ok()
    }

    fn write(&self, pins: Vec<Pin>) -> Result<(), ErrorInfo> {
        let failed = |error: std::io::Error| {
            let text = format!("cannot write {}: {error}", self.path.display());
            ErrorInfo::new(ErrorCode::Storage, text).hint("make room, or mend its permissions")
        };
        let text = serde_json::to_string_pretty(&pins)
            .map_err(|error| ErrorInfo::new(ErrorCode::Internal, error.to_string()))?;
        let directory = self.path.parent().unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        file.persist(&self.path).map_err(|error| failed(error.error))?;
        let read_at = std::fs::metadata(&self.path).and_then(|found| found.modified()).ok();
        *self.lock() = State { pins, read_at };
        Ok(())
    }

    fn broken(&self, reason: &str) -> ErrorInfo {
        let text = format!("the pins in {} cannot be read: {reason}", self.path.display());
        ErrorInfo::new(ErrorCode::Storage, text).hint("mend the file, or remove it and pin again")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds what `query` (an `ADDRESS/CAPABILITY` or a query) means now and makes a pin of it. An empty `name` has one made.
///
/// # Errors
/// `no_match` when nothing fits, and whatever the node says.
pub async fn resolve(
    client: &Client,
    query: &str,
    group: Option<&str>,
    name: &str,
) -> Result<Pin, ErrorInfo> {
    let target = if is_target(query) {
        query.to_owned()
    } else {
        best_match(client, query, group).await?.target
    };
    let shown = client.show(&target).await.map_err(|error| error.info())?;
    let declaration = shown
        .capabilities
        .first()
        .ok_or_else(|| ErrorInfo::new(ErrorCode::NotFound, format!("{target} declares nothing")))?;
    let target = format!("{}/{}", shown.agent.address, declaration.name);
    let name = if name.is_empty() {
        tool_name(&shown.agent.address, &declaration.name)
    } else {
        name.to_owned()
    };
    let mut pin = Pin {
        name,
        query: query.to_owned(),
        group: group.map(str::to_owned),
        target,
        handle: String::new(),
        title: String::new(),
        description: String::new(),
        tags: Vec::new(),
        input_schema: Value::Null,
        output_schema: Value::Null,
        idempotent: false,
    };
    pin.learn(&shown.agent.handle, declaration);
    Ok(pin)
}

async fn best_match(client: &Client, query: &str, group: Option<&str>) -> Result<Match, ErrorInfo> {
    let mut request = FindRequest::new(query_input(query));
    request.limit = Some(1);
    request.group = group.map(str::to_owned);
    let found = client.find(&request).await.map_err(|error| error.info())?;
    found.matches.into_iter().next().ok_or_else(|| {
        ErrorInfo::new(ErrorCode::NoMatch, format!("nothing matches {}", clean(query, 200)))
            .hint("ask in other words, or drop a condition")
    })
}

/// Whether a text names one capability of one agent rather than asking for one.
#[must_use]
pub fn is_target(text: &str) -> bool {
    let Some((agent, name)) = text.rsplit_once('/') else { return false };
    !agent.contains(char::is_whitespace)
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b))
}

/// A query in its JSON form when it looks like one, else in its text form.
#[must_use]
pub fn query_input(text: &str) -> QueryInput {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(object)) => QueryInput::Json(object),
        _ => QueryInput::Text(text.to_owned()),
    }
}

/// Whether a text may be the name of a tool.
#[must_use]
pub fn is_tool_name(name: &str) -> bool {
    (1..=TOOL_NAME_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The name of a capability's tool: eight digits of the agent's address, two underscores, the capability's name with
/// what tools may not be called replaced. No tool of the server itself has two underscores in its name.
fn tool_name(address: &str, capability: &str) -> String {
    let alias: String = address.chars().filter(char::is_ascii_hexdigit).skip(2).take(8).collect();
    let mut name = format!("a{alias}__");
    name.extend(
        capability.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }),
    );
    name.truncate(TOOL_NAME_MAX);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(name: &str) -> Pin {
        Pin {
            name: name.to_owned(),
            query: "q".to_owned(),
            group: None,
            target: "fd00::1/x".to_owned(),
            handle: "h".to_owned(),
            title: String::new(),
            description: String::new(),
            tags: Vec::new(),
            input_schema: Value::Null,
            output_schema: Value::Null,
            idempotent: false,
        }
    }

    #[test]
    fn names_of_tools_are_those_every_client_takes() {
        let name = tool_name("fd12:3456:789a:bcde:f012:3456:789a:bcde", "ecb.reference_rates-v1");
        assert_eq!(name, "a12345678__ecb_reference_rates-v1");
        assert!(is_tool_name(&tool_name("fd12:3456:789a::1", &"x.".repeat(64))));
        assert!(!is_tool_name("a b") && !is_tool_name("") && !is_tool_name("ř"));
    }

    #[test]
    fn a_target_is_told_from_a_query() {
        assert!(is_target("fd00::1/ecb-rates"));
        assert!(is_target("1:0001.2222.3333#abcdefgh/x"));
        assert!(!is_target("fx data where pair = EUR/USD"));
        assert!(!is_target("ecb-rates"));
    }

    #[test]
    fn pins_survive_and_are_bounded() {
        let home = tempfile::tempdir().unwrap();
        let pins = Pins::open(home.path()).unwrap();
        for index in 0..PINS_MAX {
            pins.put(pin(&format!("t{index}"))).unwrap();
        }
        assert_eq!(pins.put(pin("more")).unwrap_err().code, ErrorCode::TooLarge);
        pins.put(pin("t3")).unwrap();
        assert_eq!(pins.remove("t3").unwrap().name, "t3");
        assert_eq!(pins.remove("t3").unwrap_err().code, ErrorCode::NotFound);
        assert_eq!(Pins::open(home.path()).unwrap().all(), pins.all());
        std::fs::write(home.path().join(PINS_FILE), "not JSON").unwrap();
        assert_eq!(Pins::open(home.path()).unwrap_err().code, ErrorCode::Storage);
    }
}
