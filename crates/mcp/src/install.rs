//! The entry for this node in the configuration of MCP clients: shown as a difference first, written on request, removed
//! again. Nothing else in a file is touched.

use std::io::Write as _;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};

use comity_api::types::{ErrorCode, ErrorInfo};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Lines of context around a change.
const CONTEXT: usize = 3;

/// A client whose configuration is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum App {
    /// Claude Code, `~/.claude.json`.
    ClaudeCode,
    /// Claude Desktop, `claude_desktop_config.json`.
    ClaudeDesktop,
    /// Cursor, `~/.cursor/mcp.json`.
    Cursor,
    /// VS Code, `mcp.json` of the user's profile.
    VsCode,
    /// Gemini CLI, `~/.gemini/settings.json`.
    Gemini,
    /// Codex, `~/.codex/config.toml`.
    Codex,
    /// Windsurf, `~/.codeium/windsurf/mcp_config.json`.
    Windsurf,
}

impl App {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ClaudeCode,
        Self::ClaudeDesktop,
        Self::Cursor,
        Self::VsCode,
        Self::Gemini,
        Self::Codex,
        Self::Windsurf,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::ClaudeDesktop => "claude-desktop",
            Self::Cursor => "cursor",
            Self::VsCode => "vscode",
            Self::Gemini => "gemini",
            Self::Codex => "codex",
            Self::Windsurf => "windsurf",
        }
    }

    /// The app of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|app| app.name() == name)
    }

    /// Its configuration file for the user whose home directory is `user`; `config` is `$XDG_CONFIG_HOME`.
    #[must_use]
    pub fn file(self, user: &Path, config: Option<&Path>, macos: bool) -> PathBuf {
        let config = match config {
            _ if macos => user.join("Library/Application Support"),
            Some(config) if config.is_absolute() => config.to_owned(),
            _ => user.join(".config"),
        };
        match self {
            Self::ClaudeCode => user.join(".claude.json"),
            Self::ClaudeDesktop => config.join("Claude/claude_desktop_config.json"),
            Self::Cursor => user.join(".cursor/mcp.json"),
            Self::VsCode => config.join("Code/User/mcp.json"),
            Self::Gemini => user.join(".gemini/settings.json"),
            Self::Codex => user.join(".codex/config.toml"),
            Self::Windsurf => user.join(".codeium/windsurf/mcp_config.json"),
        }
    }

    /// The member of the file that holds the servers.
    const fn member(self) -> &'static str {
        match self {
            Self::VsCode => "servers",
            Self::Codex => "mcp_servers",
            Self::ClaudeCode
            | Self::ClaudeDesktop
            | Self::Cursor
            | Self::Gemini
            | Self::Windsurf => "mcpServers",
        }
    }
}

/// A program and its arguments, started by the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the server in the client.
    pub name: String,
    /// Absolute path of the program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// A change of one file that has not been made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The file.
    pub file: PathBuf,
    before: String,
    after: String,
}

impl Change {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.before == self.after
    }

    /// The change as a unified difference (as `diff -u` writes it).
    #[must_use]
    pub fn diff(&self) -> String {
        let old: Vec<&str> = self.before.lines().collect();
        let new: Vec<&str> = self.after.lines().collect();
        let same_start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
        let left = old.len().min(new.len()) - same_start;
        let same_end =
            old.iter().rev().zip(new.iter().rev()).take(left).take_while(|(a, b)| a == b).count();
        let from = same_start.saturating_sub(CONTEXT);
        let tail = same_end.min(CONTEXT);
        let (old_end, new_end) = (old.len() - same_end, new.len() - same_end);
        let mut out = format!("--- {0}\n+++ {0}\n", self.file.display());
        out += &format!(
            "@@ -{},{} +{},{} @@\n",
            from + 1,
            old_end + tail - from,
            from + 1,
            new_end + tail - from
        );
        let mut lines = |sign: char, lines: &[&str]| {
            for line in lines {
                out.push(sign);
                out.push_str(line);
                out.push('\n');
            }
        };
        lines(' ', &old[from..same_start]);
        lines('-', &old[same_start..old_end]);
        lines('+', &new[same_start..new_end]);
        lines(' ', &old[old_end..old_end + tail]);
        out
    }

    /// Writes the file, whole or not at all, with the permissions it had.
    ///
    /// # Errors
    /// `storage` when it cannot be written, or was changed by somebody else since it was read.
    pub fn apply(&self) -> Result<(), ErrorInfo> {
        let failed = |error: &dyn std::fmt::Display| {
            ErrorInfo::new(
                ErrorCode::Storage,
                format!("cannot write {}: {error}", self.file.display()),
            )
        };
        if read(&self.file)? != self.before {
            return Err(failed(&"it changed in the meantime").hint("look at the change again"));
        }
        // A link stays a link: what it points to is replaced.
        let file = std::fs::canonicalize(&self.file).unwrap_or_else(|_| self.file.clone());
        let directory = file.parent().unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        let mut temporary =
            tempfile::NamedTempFile::new_in(directory).map_err(|error| failed(&error))?;
        temporary.write_all(self.after.as_bytes()).map_err(|error| failed(&error))?;
        if let Ok(found) = std::fs::metadata(&file) {
            std::fs::set_permissions(temporary.path(), found.permissions())
                .map_err(|error| failed(&error))?;
        }
        temporary.persist(&file).map_err(|error| failed(&error.error))?;
        Ok(())
    }
}

/// The change that adds or renews `entry`, or with `None` takes the one named `name` out.
///
/// # Errors
/// `bad_request` when the file is not what the client writes; it is then left alone.
pub fn change(
    app: App,
    file: &Path,
    name: &str,
    entry: Option<&Entry>,
) -> Result<Change, ErrorInfo> {
    let before = read(file)?;
    let after = match app {
        App::Codex => toml_with(&before, name, entry),
        App::ClaudeCode
        | App::ClaudeDesktop
        | App::Cursor
        | App::VsCode
        | App::Gemini
        | App::Windsurf => json_with(&before, app, name, entry).map_err(|reason| {
            ErrorInfo::new(
                ErrorCode::BadRequest,
                format!("{} is left alone: {reason}", file.display()),
            )
            .hint("add the entry by hand; `comity mcp install --show` prints it")
        })?,
    };
    Ok(Change { file: file.to_owned(), before, after })
}

fn read(file: &Path) -> Result<String, ErrorInfo> {
    let failed = |reason: &dyn std::fmt::Display| {
        ErrorInfo::new(ErrorCode::BadRequest, format!("cannot read {}: {reason}", file.display()))
    };
    match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(failed(&error)),
        Ok(found) if found.len() > FILE_BYTES_MAX => return Err(failed(&"it is too large")),
        Ok(_) => {}
    }
    std::fs::read_to_string(file).map_err(|error| failed(&error))
}

/// The entry as the client wants it.
#[must_use]
pub fn entry_json(app: App, entry: &Entry) -> Value {
    let mut value = json!({"command": entry.command, "args": entry.args});
    if matches!(app, App::VsCode | App::ClaudeCode)
        && let Some(object) = value.as_object_mut()
    {
        object.insert("type".to_owned(), json!("stdio"));
    }
    value
}

/// Changes the text and not the value: order, spacing and numbers of everything else stay as they are.
fn json_with(before: &str, app: App, name: &str, entry: Option<&Entry>) -> Result<String, String> {
    let new = entry.map(|entry| entry_json(app, entry));
    if before.trim().is_empty() {
        return match new {
            None => Ok(before.to_owned()),
            Some(value) => {
                pretty(&json!({app.member(): {name: value}}), "").map(|text| text + "\n")
            }
        };
    }
    let root = Object::parse(before, 0..before.len())?;
    let Some(servers) = root.value(app.member()) else {
        return match new {
            None => Ok(before.to_owned()),
            Some(value) => root.with(before, app.member(), &json!({name: value})),
        };
    };
    let servers = Object::parse(before, servers)
        .map_err(|error| format!("`{}` in it is not an object: {error}", app.member()))?;
    match (servers.value(name), new) {
        (None, None) => Ok(before.to_owned()),
        (Some(old), Some(value)) => {
            if serde_json::from_str::<Value>(&before[old.clone()]).ok().as_ref() == Some(&value) {
                return Ok(before.to_owned());
            }
            let text = pretty(&value, &servers.indent(before))?;
            Ok(format!("{}{text}{}", &before[..old.start], &before[old.end..]))
        }
        (None, Some(value)) => servers.with(before, name, &value),
        (Some(_), None) => Ok(servers.without(before, name)),
    }
}

/// Where the members of a JSON object stand in a text.
struct Object {
    span: Range<usize>,
    members: Vec<(String, Range<usize>)>,
}

impl Object {
    fn parse(text: &str, span: Range<usize>) -> Result<Self, String> {
        let slice = &text[span.clone()];
        let start = span.start + (slice.len() - slice.trim_start().len());
        let end = span.start + slice.trim_end().len();
        let Members(found) = serde_json::from_str(&text[start..end])
            .map_err(|error| format!("it is not a plain JSON object ({error})"))?;
        let offset = |raw: &RawValue| raw.get().as_ptr() as usize - text.as_ptr() as usize;
        let members =
            found.into_iter().map(|(name, raw)| (name, offset(raw)..offset(raw) + raw.get().len()));
        Ok(Self { span: start..end, members: members.collect() })
    }

    fn value(&self, name: &str) -> Option<Range<usize>> {
        self.members.iter().rev().find(|(known, _)| known == name).map(|(_, span)| span.clone())
    }

    /// What stands between the opening brace and the first name.
    fn gap<'t>(&self, text: &'t str) -> Option<&'t str> {
        let inside = &text[self.span.start + 1..self.span.end];
        let gap = &inside[..inside.len() - inside.trim_start().len()];
        (!self.members.is_empty()).then_some(gap)
    }

    /// Indentation of the members: theirs, or the object's own and two spaces.
    fn indent(&self, text: &str) -> String {
        if let Some(gap) = self.gap(text) {
            return gap.rsplit_once('\n').map_or_else(String::new, |(_, indent)| indent.to_owned());
        }
        let line = text[..self.span.start]
            .rsplit_once('\n')
            .map_or(&text[..self.span.start], |(_, line)| line);
        let own: String = line.chars().take_while(|c| *c == ' ' || *c == '\t').collect();
        own + "  "
    }

    fn with(&self, text: &str, name: &str, value: &Value) -> Result<String, String> {
        let indent = self.indent(text);
        let member = format!("{}: {}", Value::from(name), pretty(value, &indent)?);
        Ok(match (self.members.last(), self.gap(text)) {
            (Some((_, last)), Some(gap)) => {
                format!("{},{gap}{member}{}", &text[..last.end], &text[last.end..])
            }
            _ => {
                let outer = indent.strip_suffix("  ").unwrap_or_default();
                let (before, after) = (&text[..=self.span.start], &text[self.span.end - 1..]);
                format!("{before}\n{indent}{member}\n{outer}{after}")
            }
        })
    }

    fn without(&self, text: &str, name: &str) -> String {
        let Some(index) = self.members.iter().position(|(known, _)| known == name) else {
            return text.to_owned();
        };
        let value_end = self.members[index].1.end;
        let (start, end) = if index > 0 {
            (self.members[index - 1].1.end, value_end)
        } else if self.members.len() > 1 {
            let comma = text[value_end..].find(',').map_or(value_end, |at| value_end + at + 1);
            (self.span.start + 1, comma)
        } else {
            (self.span.start + 1, self.span.end - 1)
        };
        format!("{}{}", &text[..start], &text[end..])
    }
}

/// The members of an object in their order, their values as they are written.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Members<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect<'t>(PhantomData<&'t ()>);
        impl<'de: 't, 't> Visitor<'de> for Collect<'t> {
            type Value = Members<'t>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'t>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<String, &'de RawValue>()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect(PhantomData))
    }
}

/// JSON over several lines, all but the first behind `indent`.
fn pretty(value: &Value, indent: &str) -> Result<String, String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    Ok(text.replace('\n', &format!("\n{indent}")))
}

/// A table of its own at the end; comments and everything else stay as they are.
fn toml_with(before: &str, name: &str, entry: Option<&Entry>) -> String {
    let header = format!("[{}.{name}]", App::Codex.member());
    let below = format!("[{}.{name}.", App::Codex.member());
    let mut kept = Vec::new();
    let mut inside = false;
    for line in before.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            inside = trimmed == header || trimmed.starts_with(&below);
        }
        if !inside {
            kept.push(line);
        }
    }
    while kept.last().is_some_and(|line| line.trim().is_empty()) {
        kept.pop();
    }
    let mut out = kept.join("\n");
    if !out.is_empty() {
        out.push('\n');
    }
    if let Some(entry) = entry {
        if !out.is_empty() {
            out.push('\n');
        }
        // A JSON string of printable characters is a TOML basic string.
        let command = Value::from(entry.command.clone());
        let args = Value::from(entry.args.clone());
        out += &format!("{header}\ncommand = {command}\nargs = {args}\n");
    }
    if out.trim() == before.trim() { before.to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            name: "comity".to_owned(),
            command: "/bin/comity".to_owned(),
            args: vec!["mcp".to_owned()],
        }
    }

    #[test]
    fn an_entry_comes_and_goes_and_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        for app in App::ALL {
            let file = dir.path().join(app.name());
            let original = if app == App::Codex {
                "# mine\nmodel = \"x\"\n\n[mcp_servers.other]\ncommand = \"y\"\n"
            } else {
                "{\n  \"theme\": \"dark\",\n  \"zeta\": 1.50\n}\n"
            };
            std::fs::write(&file, original).unwrap();
            let added = change(app, &file, "comity", Some(&entry())).unwrap();
            assert!(
                added.diff().contains("+") && added.diff().contains("/bin/comity"),
                "{}",
                added.diff()
            );
            added.apply().unwrap();
            assert!(change(app, &file, "comity", Some(&entry())).unwrap().is_empty(), "{app:?}");
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.contains("comity") && (text.contains("dark") || text.contains("# mine")));
            change(app, &file, "comity", None).unwrap().apply().unwrap();
            assert!(change(app, &file, "comity", None).unwrap().is_empty());
            let left = std::fs::read_to_string(&file).unwrap();
            assert!(!left.contains("/bin/comity"), "{left}");
            if app == App::Codex {
                assert_eq!(left, original);
            } else {
                assert!(left.starts_with("{\n  \"theme\": \"dark\",\n  \"zeta\": 1.50,"), "{left}");
            }
        }
    }

    #[test]
    fn what_others_wrote_stays_byte_for_byte() {
        let text =
            "{\"b\":1,\n\t\"mcpServers\": {\n\t\t\"z\": {\"command\": \"y\"}\n\t},\"a\" : 1e2}";
        let with = json_with(text, App::Cursor, "comity", Some(&entry())).unwrap();
        assert!(with.starts_with("{\"b\":1,\n\t\"mcpServers\": {\n\t\t\"z\": {\"command\": \"y\"},\n\t\t\"comity\": {"), "{with}");
        assert!(with.ends_with("},\"a\" : 1e2}"), "{with}");
        assert!(serde_json::from_str::<Value>(&with).is_ok(), "{with}");
        assert_eq!(json_with(&with, App::Cursor, "comity", None).unwrap(), text);
        let first = json_with(&with, App::Cursor, "z", None).unwrap();
        assert!(
            serde_json::from_str::<Value>(&first).is_ok() && !first.contains("\"z\""),
            "{first}"
        );
        let empty =
            json_with("{\n  \"mcpServers\": {}\n}", App::Cursor, "comity", Some(&entry())).unwrap();
        assert!(
            empty.starts_with("{\n  \"mcpServers\": {\n    \"comity\": {\n      \"args\""),
            "{empty}"
        );
    }

    #[test]
    fn a_file_that_is_not_understood_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.json");
        for text in ["{ // a comment\n}", "[]", "{\"mcpServers\": 3}"] {
            std::fs::write(&file, text).unwrap();
            let error = change(App::Cursor, &file, "comity", Some(&entry())).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
    }

    #[test]
    fn a_change_by_somebody_else_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("new/mcp.json");
        let change = change(App::Cursor, &file, "comity", Some(&entry())).unwrap();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "{}").unwrap();
        assert_eq!(change.apply().unwrap_err().code, ErrorCode::Storage);
        std::fs::remove_file(&file).unwrap();
        change.apply().unwrap();
        assert!(std::fs::read_to_string(&file).unwrap().contains("mcpServers"));
    }

    #[test]
    fn files_are_where_the_clients_look() {
        let user = Path::new("/home/me");
        assert_eq!(
            App::VsCode.file(user, None, false),
            Path::new("/home/me/.config/Code/User/mcp.json")
        );
        assert_eq!(
            App::ClaudeDesktop.file(user, Some(Path::new("/x")), false),
            Path::new("/x/Claude/claude_desktop_config.json")
        );
        assert_eq!(App::named("codex"), Some(App::Codex));
    }
}
