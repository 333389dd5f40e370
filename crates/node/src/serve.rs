//! Serving on request: from a manifest and flags to a published capability that survives restarts.

use std::path::{Path, PathBuf};

use comity_api::types::{
    Column, Declaration, ErrorCode, ErrorInfo, Finding, FindingLevel, Overrides, Published,
    ServeMode, ServeRequest, ServeResponse, Source, TableSummary, Visibility,
};
use comity_capability::keys;
use comity_capability::record::Capability;
use comity_specialist::manifest::{
    self, Command, ExecSection, HttpSection, Level, Manifest, OpenError,
};
use comity_specialist::table::TableError;
use tracing::{info, warn};

use crate::calls::is_public;
use crate::error::describe;
use crate::find::{declaration, label};
use crate::node::Node;
use crate::registry::Served;
use crate::storage::{Change, Table};

/// Capabilities read back at start: as many as a record can carry.
const SERVED_MAX: usize = comity_capability::record::MAX_CAPABILITIES;

impl Node {
    /// Checks, opens and, in mode `publish`, serves what `request` describes.
    ///
    /// # Errors
    /// `bad_manifest` with the findings as details when something has to be mended first.
    pub(crate) async fn serve_request(
        &self,
        request: ServeRequest,
    ) -> Result<ServeResponse, ErrorInfo> {
        let mode = request.mode;
        let manifest = assemble(request).await?;
        let mut response = ServeResponse {
            mode,
            findings: Vec::new(),
            declaration: None,
            table: None,
            published: None,
        };
        if mode == ServeMode::Check {
            response.findings = manifest::check(&manifest).iter().map(finding).collect();
            return Ok(response);
        }
        let served = match self.open(&manifest).await {
            Ok(served) => served,
            Err(OpenError::Declaration { findings }) if mode == ServeMode::DryRun => {
                response.findings = findings.iter().map(finding).collect();
                return Ok(response);
            }
            Err(error) => return Err(open_error(&error)),
        };
        if let Some(group) = &manifest.group {
            self.inner.groups.get(group)?;
        }
        let capability = served.declaration.capability.clone();
        response.findings = served.declaration.findings.iter().map(finding).collect();
        let group = manifest.group.clone();
        response.declaration = Some(Declaration { group, ..declaration(&capability) });
        response.table = served.summary.as_ref().map(|summary| table_summary(summary, &manifest));
        if mode == ServeMode::Publish {
            let source = source_text(&manifest);
            let group = manifest.group.clone();
            let ready =
                Served::new(capability.clone(), served.specialist, source, group.clone())
                    .map_err(|error| ErrorInfo::new(ErrorCode::BadManifest, describe(&error)))?;
            let _turn = self.inner.serving.lock().await;
            self.check_room(&capability)?;
            // On disk first: what is published is served again after a crash.
            let previous = self.remember(&capability.name, &manifest).await?;
            let published = match self.serve_locked(ready).await {
                Ok(published) => published,
                Err(error) => {
                    self.put_back(&capability.name, previous).await;
                    return Err(error.into());
                }
            };
            info!(capability = %capability.name, "serving");
            response.findings.extend(refusals(&published));
            response.published = Some(self.published(&capability, group.as_deref(), &published));
        }
        Ok(response)
    }

    /// Stops serving and forgets.
    pub(crate) async fn unserve_request(&self, name: &str) -> Result<bool, ErrorInfo> {
        let _turn = self.inner.serving.lock().await;
        let change = Change::Delete { table: Table::Capabilities, key: name.as_bytes().to_vec() };
        self.inner.storage.commit(vec![change]).await.map_err(storage_error)?;
        Ok(self.unserve_locked(name).await?)
    }

    /// Serves again what was served before the restart. What cannot be opened any more is reported and kept for the next time.
    pub(crate) async fn restore_served(&self) {
        let rows = match self.inner.storage.read_all(Table::Capabilities, SERVED_MAX) {
            Ok(rows) => rows,
            Err(error) => {
                warn!(%error, "what was served before cannot be read");
                return;
            }
        };
        for (name, bytes) in rows {
            let name = String::from_utf8_lossy(&name).into_owned();
            let manifest = match serde_json::from_slice::<Manifest>(&bytes) {
                Ok(manifest) => manifest,
                Err(error) => {
                    warn!(capability = %name, %error, "a stored manifest cannot be read; serve it again");
                    continue;
                }
            };
            match self.open(&manifest).await {
                Ok(served) => {
                    let source = source_text(&manifest);
                    let group = manifest.group.clone();
                    let capability = served.declaration.capability;
                    match Served::new(capability, served.specialist, source, group) {
                        Ok(ready) => {
                            self.inner.registry.insert(ready);
                            info!(capability = %name, "serving again");
                        }
                        Err(error) => {
                            warn!(capability = %name, %error, "a stored declaration is not valid any more")
                        }
                    }
                }
                Err(error) => {
                    warn!(capability = %name, %error, "a capability of the last run cannot be served")
                }
            }
        }
    }

    /// Opens on the blocking pool: a table may take a while to import.
    async fn open(&self, manifest: &Manifest) -> Result<manifest::Served, OpenError> {
        let manifest = manifest.clone();
        let cache = self
            .inner
            .home
            .as_ref()
            .map_or_else(|| std::env::temp_dir().join("comity-tables"), |home| home.tables());
        let mcp = self.inner.mcp.clone();
        let opened = tokio::task::spawn_blocking(move || {
            manifest::open_with(&manifest, &cache, mcp.as_deref())
        });
        let opened = opened.await;
        opened.unwrap_or_else(|panic| {
            let finding = manifest::Finding {
                level: Level::Error,
                field: "source".to_owned(),
                message: format!("it could not be opened: {panic}"),
                fix: "report this as a bug, with the manifest".to_owned(),
            };
            Err(OpenError::Declaration { findings: vec![finding] })
        })
    }

    fn check_room(&self, capability: &Capability) -> Result<(), ErrorInfo> {
        let all = self.inner.registry.all();
        let others = all.iter().filter(|served| served.capability.name != capability.name).count();
        if others < SERVED_MAX {
            return Ok(());
        }
        let text =
            format!("this agent serves {others} capabilities and a record holds {SERVED_MAX}");
        Err(ErrorInfo::new(ErrorCode::TooLarge, text)
            .hint("`comity unserve NAME` one, or run a second agent with another --home"))
    }

    /// Stores `manifest` and returns the one stored before it.
    async fn remember(
        &self,
        name: &str,
        manifest: &Manifest,
    ) -> Result<Option<Vec<u8>>, ErrorInfo> {
        let value = serde_json::to_vec(manifest).map_err(|error| {
            ErrorInfo::new(ErrorCode::Internal, format!("the manifest cannot be stored: {error}"))
        })?;
        let key = name.as_bytes().to_vec();
        let previous = self.inner.storage.read(Table::Capabilities, &key).map_err(storage_error)?;
        let change = Change::Put { table: Table::Capabilities, key, value };
        self.inner.storage.commit(vec![change]).await.map_err(storage_error)?;
        Ok(previous)
    }

    /// Undoes [`Node::remember`] for a capability that could not be served after all.
    async fn put_back(&self, name: &str, previous: Option<Vec<u8>>) {
        let (table, key) = (Table::Capabilities, name.as_bytes().to_vec());
        let change = match previous {
            Some(value) => Change::Put { table, key, value },
            None => Change::Delete { table, key },
        };
        if let Err(error) = self.inner.storage.commit(vec![change]).await {
            warn!(capability = %name, %error, "what was stored before it could not be put back");
        }
    }

    fn published(
        &self,
        capability: &Capability,
        group: Option<&str>,
        published: &crate::Published,
    ) -> Published {
        let listed = group.is_some() || is_public(capability);
        let public = group.is_none() && is_public(capability);
        let entries = published.items.iter().filter(|item| item.key.kind.is_entry());
        let custodians = entries.map(|item| item.holders).min().unwrap_or(0);
        Published {
            target: format!("{}/{}", self.name_of(&self.id()).address, capability.name),
            record: published.record.map(|hash| hash.to_string()).unwrap_or_default(),
            groups: if public {
                keys::group_keys(capability).iter().map(label).collect()
            } else {
                Vec::new()
            },
            custodians: if listed { u32::try_from(custodians).unwrap_or(u32::MAX) } else { 0 },
        }
    }
}

/// One manifest from a file, an object, a source and flags, in rising precedence.
async fn assemble(request: ServeRequest) -> Result<Manifest, ErrorInfo> {
    let ServeRequest { manifest, manifest_path, source, overrides, mode: _ } = request;
    let mut base = Manifest::default();
    if let Some(path) = manifest_path {
        let path = PathBuf::from(path);
        require_absolute(&path)?;
        let loaded = tokio::task::spawn_blocking(move || Manifest::load(&path)).await;
        base = loaded
            .map_err(|error| ErrorInfo::new(ErrorCode::Internal, error.to_string()))?
            .map_err(|error| ErrorInfo::new(ErrorCode::BadManifest, describe(&error)))?;
    }
    if let Some(object) = manifest {
        let given = Manifest::from_json(&object.to_string())
            .map_err(|problem| ErrorInfo::new(ErrorCode::BadManifest, problem))?;
        base = base.merged(given);
    }
    let mut flags = flags(overrides);
    let call_timeout = flags.1;
    match source {
        Some(Source::Table { path }) => {
            require_absolute(Path::new(&path))?;
            flags.0.table = Manifest::for_table(path).table;
        }
        Some(Source::Exec { command, directory }) => {
            flags.0.exec = Some(ExecSection {
                command: Command::Words(command),
                env: std::collections::BTreeMap::new(),
                inherit_env: false,
                directory: directory.map(PathBuf::from),
                workers: None,
                timeout: None,
                max_answer_bytes: None,
            });
        }
        Some(Source::Http { url }) => {
            flags.0.http = Some(HttpSection { url, timeout: None, max_answer_bytes: None });
        }
        None => {}
    }
    let mut manifest = base.merged(flags.0);
    if let Some(timeout) = call_timeout {
        for slot in [
            manifest.table.as_mut().map(|section| &mut section.timeout),
            manifest.exec.as_mut().map(|section| &mut section.timeout),
            manifest.http.as_mut().map(|section| &mut section.timeout),
            manifest.mcp.as_mut().map(|section| &mut section.timeout),
            manifest.a2a.as_mut().map(|section| &mut section.timeout),
        ]
        .into_iter()
        .flatten()
        {
            *slot = Some(timeout.clone());
        }
    }
    Ok(manifest)
}

fn flags(overrides: Overrides) -> (Manifest, Option<String>) {
    let Overrides {
        name,
        title,
        description,
        examples,
        classes,
        tags,
        attributes,
        input_schema,
        output_schema,
        visibility,
        group,
        call_timeout_ms,
    } = overrides;
    let visibility = visibility.map(|visibility| match visibility {
        Visibility::Public => manifest::Visibility::Public,
        Visibility::Private => manifest::Visibility::Private,
    });
    let manifest = Manifest {
        name,
        title,
        description,
        examples,
        classes,
        tags,
        attributes,
        input_schema,
        output_schema,
        visibility,
        group,
        ..Manifest::default()
    };
    (manifest, call_timeout_ms.map(|ms| format!("PT{}.{:03}S", ms / 1000, ms % 1000)))
}

/// The daemon's working directory is not the user's: a relative path would mean another file.
fn require_absolute(path: &Path) -> Result<(), ErrorInfo> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(ErrorInfo::new(ErrorCode::BadRequest, format!("the path {} is relative", path.display()))
        .hint("give an absolute path"))
}

fn finding(finding: &manifest::Finding) -> Finding {
    Finding {
        level: match finding.level {
            Level::Error => FindingLevel::Error,
            Level::Warning => FindingLevel::Warning,
            Level::Hint => FindingLevel::Note,
        },
        field: finding.field.clone(),
        message: finding.message.clone(),
        fix: finding.fix.clone(),
    }
}

/// What custodians said against the digests of a publication, each reason once.
fn refusals(published: &crate::Published) -> Vec<Finding> {
    let digests = published.items.iter().filter(|item| item.key.kind.is_entry());
    let mut reasons: Vec<String> =
        digests.filter_map(|item| item.rejected).map(|reject| reject.to_string()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons
        .into_iter()
        .map(|reason| Finding {
            level: FindingLevel::Warning,
            field: "published".to_owned(),
            message: format!("a custodian refused to keep it: {reason}"),
            fix: "others find it only through the custodians that keep it; mend the cause and serve it again"
                .to_owned(),
        })
        .collect()
}

fn open_error(error: &OpenError) -> ErrorInfo {
    let info = ErrorInfo::new(ErrorCode::BadManifest, describe(error));
    match error {
        OpenError::Declaration { findings } => {
            let findings: Vec<Finding> = findings.iter().map(finding).collect();
            match serde_json::to_value(findings) {
                Ok(details) => info.details(details),
                Err(_) => info,
            }
        }
        // Nothing is wrong with the manifest, and to mend it would not help.
        OpenError::Table(
            TableError::DiskFull { .. } | TableError::Cache { .. } | TableError::Database { .. },
        ) => ErrorInfo { code: ErrorCode::Storage, ..info },
        OpenError::Table(_)
        | OpenError::Exec(_)
        | OpenError::Http(_)
        | OpenError::Mcp(_)
        | OpenError::Schema(_) => info,
    }
}

fn storage_error(error: crate::StorageError) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::Storage, describe(&error))
}

fn source_text(manifest: &Manifest) -> String {
    let command = |command: &Command| match command {
        Command::Line(line) => line.clone(),
        Command::Words(words) => words.join(" "),
    };
    if let Some(table) = &manifest.table {
        format!("table {}", table.file.display())
    } else if let Some(exec) = &manifest.exec {
        format!("exec {}", command(&exec.command))
    } else if let Some(http) = &manifest.http {
        format!("http {}", http.url)
    } else if let Some(mcp) = &manifest.mcp {
        let what = mcp.tool.as_deref().or(mcp.resource.as_deref()).unwrap_or("the whole server");
        let server = mcp.url.clone().unwrap_or_else(|| mcp.command.join(" "));
        format!("mcp {server}: {what}")
    } else if let Some(a2a) = &manifest.a2a {
        format!("a2a {}: {}", a2a.url, a2a.skill.as_deref().unwrap_or("the whole agent"))
    } else {
        "nothing".to_owned()
    }
}

fn table_summary(
    summary: &comity_specialist::table::TableSummary,
    manifest: &Manifest,
) -> TableSummary {
    let path = manifest
        .table
        .as_ref()
        .map_or_else(|| summary.file.clone(), |table| table.file.display().to_string());
    TableSummary {
        format: Path::new(&path)
            .extension()
            .map(|ext| ext.to_string_lossy().into_owned())
            .unwrap_or_default(),
        path,
        rows: summary.rows,
        bytes: summary.bytes,
        columns: summary
            .columns
            .iter()
            .map(|column| Column {
                name: column.name.clone(),
                kind: column.kind.name().to_owned(),
                missing: column.nulls,
                min: column.range.as_ref().map(|(min, _)| min.clone()),
                max: column.range.as_ref().map(|(_, max)| max.clone()),
                distinct: column.values.as_ref().map(|values| values.len() as u64),
                values: column.values.clone().unwrap_or_default(),
            })
            .collect(),
        coverage: summary.time.as_ref().map(|time| format!("{}/{}", time.from, time.to)),
        resolution: summary.time.as_ref().and_then(|time| time.resolution.clone()),
    }
}
