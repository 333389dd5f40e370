//! Reading manifests, and the configurations their sections mean.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    Command, ExecSection, Finding, HttpSection, Level, MAX_FILE_BYTES, Manifest, ManifestError,
    TableSection, duration, environment,
};
use crate::exec::{ExecConfig, ExecError, MAX_WORKERS};
use crate::http::HttpConfig;
use crate::schema::depth_exceeds;
use crate::table::TableConfig;

/// Deepest nesting of a manifest.
const MAX_DEPTH: usize = 64;

impl Manifest {
    /// Reads a manifest file, TOML or (by its extension) JSON. Files it names are taken relative to its directory, and
    /// schema files are read in.
    ///
    /// # Errors
    /// [`ManifestError`], with line and column for what cannot be parsed.
    pub fn load(file: &Path) -> Result<Self, ManifestError> {
        let text = read_text(file)?;
        let json = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let mut manifest = if json { Self::from_json(&text) } else { Self::from_toml(&text) }
            .map_err(|problem| ManifestError::Parse { file: file.to_owned(), problem })?;
        manifest.relative_to(file.parent().unwrap_or_else(|| Path::new("")))?;
        Ok(manifest)
    }

    /// Reads TOML text.
    ///
    /// # Errors
    /// A text with line, column and what was expected.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let mut manifest: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for value in manifest.attributes.values_mut() {
            plain_times(value);
        }
        manifest.bounded()
    }

    /// Reads JSON text.
    ///
    /// # Errors
    /// A text with line, column and what was expected.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str::<Self>(text).map_err(|error| error.to_string())?.bounded()
    }

    fn bounded(self) -> Result<Self, String> {
        let schemas = [&self.input_schema, &self.output_schema];
        let deep = schemas
            .into_iter()
            .flatten()
            .chain(self.attributes.values())
            .any(|value| depth_exceeds(value, MAX_DEPTH));
        if deep {
            return Err(format!("a value is nested deeper than {MAX_DEPTH} levels; flatten it"));
        }
        Ok(self)
    }

    /// Makes paths relative to `directory` usable from here, and replaces the names of schema files by their content.
    ///
    /// # Errors
    /// [`ManifestError`] for a schema file that cannot be read or is not JSON.
    pub fn relative_to(&mut self, directory: &Path) -> Result<(), ManifestError> {
        let place = |path: &mut PathBuf| {
            if path.is_relative() && !path.as_os_str().is_empty() {
                *path = directory.join(&*path);
            }
        };
        if let Some(table) = &mut self.table {
            place(&mut table.file);
        }
        if let Some(directory) = self.exec.as_mut().and_then(|exec| exec.directory.as_mut()) {
            place(directory);
        }
        if let Some(directory) = self.mcp.as_mut().and_then(|mcp| mcp.directory.as_mut()) {
            place(directory);
        }
        for schema in [&mut self.input_schema, &mut self.output_schema] {
            if let Some(Value::String(name)) = schema {
                let file = directory.join(&*name);
                let text = read_text(&file)?;
                let parsed: Value =
                    serde_json::from_str(&text).map_err(|error| ManifestError::Parse {
                        file: file.clone(),
                        problem: format!("not JSON: {error}"),
                    })?;
                *schema = Some(parsed);
            }
        }
        Ok(())
    }
}

/// TOML's own dates and times become their text.
fn plain_times(value: &mut Value) {
    match value {
        Value::Object(map) if map.len() == 1 => {
            if let Some(Value::String(text)) = map.get("$__toml_private_datetime") {
                *value = Value::String(text.clone());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain_times),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {}
    }
}

fn read_text(file: &Path) -> Result<String, ManifestError> {
    let read_error = |source| ManifestError::Read { file: file.to_owned(), source };
    let mut text = String::new();
    File::open(file)
        .map_err(read_error)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(read_error)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(ManifestError::TooLarge { file: file.to_owned() });
    }
    Ok(text)
}

/// What is wrong with the section that says what answers.
pub(super) fn source_findings(manifest: &Manifest) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |field: &str, message: String, fix: &str| {
        findings.push(Finding {
            level: Level::Error,
            field: field.to_owned(),
            message,
            fix: fix.to_owned(),
        });
    };
    let sections = [
        manifest.table.is_some(),
        manifest.exec.is_some(),
        manifest.http.is_some(),
        manifest.mcp.is_some(),
        manifest.a2a.is_some(),
    ];
    match sections.into_iter().filter(|present| *present).count() {
        1 => {}
        0 => add(
            "table",
            "nothing says what answers".to_owned(),
            "add one of [table], [exec], [http], [mcp] or [a2a]",
        ),
        _ => add(
            "table",
            "several sections say what answers".to_owned(),
            "keep one of [table], [exec], [http], [mcp] and [a2a]",
        ),
    }
    let timeouts = [
        ("table.timeout", manifest.table.as_ref().and_then(|section| section.timeout.as_ref())),
        ("exec.timeout", manifest.exec.as_ref().and_then(|section| section.timeout.as_ref())),
        ("http.timeout", manifest.http.as_ref().and_then(|section| section.timeout.as_ref())),
        ("mcp.timeout", manifest.mcp.as_ref().and_then(|section| section.timeout.as_ref())),
        ("a2a.timeout", manifest.a2a.as_ref().and_then(|section| section.timeout.as_ref())),
    ];
    for (field, text) in timeouts {
        if let Some(text) = text.filter(|text| duration(text).is_none()) {
            add(
                field,
                format!("{text:?} is not a time up to a day"),
                "write it like 30s, 2m or PT1H",
            );
        }
    }
    if let Some(section) = &manifest.table {
        match std::fs::metadata(&section.file) {
            Ok(found) if found.is_file() => {}
            Ok(_) => add(
                "table.file",
                format!("{} is not a file", section.file.display()),
                "name the file itself",
            ),
            Err(error) => {
                add(
                    "table.file",
                    format!("{}: {error}", section.file.display()),
                    "correct the path, relative to the manifest",
                );
            }
        }
        if section.delimiter.is_some_and(|delimiter| {
            !delimiter.is_ascii() || ['"', '\n', '\r'].contains(&delimiter)
        }) {
            add(
                "table.delimiter",
                "it must be one ASCII character".to_owned(),
                "write it like \";\" or \"\\t\"",
            );
        }
        for (field, given) in
            [("input_schema", &manifest.input_schema), ("output_schema", &manifest.output_schema)]
        {
            if given.is_some() {
                add(
                    field,
                    "a table's interface is derived from its columns".to_owned(),
                    "remove it; describe columns in [table.describe]",
                );
            }
        }
    }
    if let Some(section) = &manifest.exec {
        if let Err(error) = exec_config(section) {
            add("exec.command", error.to_string(), "write it like [\"program\", \"argument\"]");
        }
        if section.workers.is_some_and(|workers| !(1..=MAX_WORKERS).contains(&workers)) {
            add(
                "exec.workers",
                "out of bounds".to_owned(),
                &format!("choose from 1 to {MAX_WORKERS}"),
            );
        }
    }
    if let Some(section) = &manifest.http
        && let Err(error) = crate::http::check_url(&section.url)
    {
        add("http.url", error.to_string(), "give the http:// URL of a service on this machine");
    }
    if let Some(problem) = manifest.mcp.as_ref().and_then(|section| section.problem()) {
        add(
            "mcp",
            problem.to_owned(),
            "name one: the command of a program, or the URL of a server",
        );
    }
    findings
}

pub(super) fn table_config(section: &TableSection) -> TableConfig {
    let default = TableConfig::new(&section.file);
    TableConfig {
        format: section.format,
        delimiter: section.delimiter.and_then(|delimiter| u8::try_from(delimiter).ok()),
        null_values: section.null_values.clone(),
        columns: section.columns.clone(),
        time_column: section.time_column.clone(),
        timeout: section.timeout.as_deref().and_then(duration).unwrap_or(default.timeout),
        ..default
    }
}

pub(super) fn exec_config(section: &ExecSection) -> Result<ExecConfig, ExecError> {
    let default = match &section.command {
        Command::Line(line) => ExecConfig::from_command(line)?,
        Command::Words(words) if words.first().is_some_and(|word| !word.is_empty()) => {
            ExecConfig::new(words.clone())
        }
        Command::Words(_) => return Err(ExecError::Command { command: String::new() }),
    };
    Ok(ExecConfig {
        env: section.env.clone(),
        environment: environment(section.inherit_env),
        directory: section.directory.clone(),
        workers: section.workers.unwrap_or(default.workers),
        timeout: section.timeout.as_deref().and_then(duration).unwrap_or(default.timeout),
        max_line_bytes: section.max_answer_bytes.unwrap_or(default.max_line_bytes),
        ..default
    })
}

pub(super) fn http_config(section: &HttpSection) -> HttpConfig {
    let default = HttpConfig::new(section.url.clone());
    HttpConfig {
        timeout: section.timeout.as_deref().and_then(duration).unwrap_or(default.timeout),
        max_body_bytes: section.max_answer_bytes.unwrap_or(default.max_body_bytes),
        ..default
    }
}
