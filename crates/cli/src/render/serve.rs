//! Declarations: drafts with what to mend, and what was published.

use comity_api::types::{
    Class, Column, Declaration, Finding, FindingLevel, ServeMode, ServeResponse, TableSummary,
    Visibility,
};

use super::{BAD, DIM, GOOD, STRONG, UNSURE, bytes, clean, columns, count, field, table, wrapped};

/// Columns of a table that are shown one by one.
const COLUMNS_SHOWN: usize = 12;

/// What `serve --check` and the question before publishing show.
pub(crate) fn draft(response: &ServeResponse, width: usize) -> String {
    let mut text = String::new();
    if let Some(summary) = &response.table {
        text += &table_summary(summary, width);
    }
    if let Some(declared) = &response.declaration {
        text += &declaration(declared, width);
    }
    text += &findings(&response.findings, width);
    let errors =
        response.findings.iter().filter(|finding| finding.level == FindingLevel::Error).count()
            as u64;
    if errors > 0 {
        let number = count(errors, "error", "errors");
        text += &format!("{BAD}not publishable{BAD:#}: {number} to mend\n");
    } else if response.mode == ServeMode::Check {
        text += &format!("{GOOD}fine{GOOD:#}: this can be published\n");
    }
    text
}

/// What `serve` prints at the end.
pub(crate) fn published(response: &ServeResponse, width: usize) -> String {
    let mut text = findings(&response.findings, width);
    let Some(published) = &response.published else { return text };
    let name =
        response.declaration.as_ref().map(|declared| clean(&declared.name)).unwrap_or_default();
    text += &format!("{GOOD}serving{GOOD:#} {STRONG}{name}{STRONG:#}\n");
    text += &field(2, "call", &clean(&published.target), width);
    text += &field(2, "record", &published.record, width);
    let labels =
        published.groups.iter().map(|group| clean(&group.label)).collect::<Vec<_>>().join(", ");
    text += &field(2, "groups", &labels, width);
    text += &field(
        2,
        "kept by",
        &format!("{} so far", count(u64::from(published.custodians), "custodian", "custodians")),
        width,
    );
    text
}

/// Findings, each with its mend.
pub(crate) fn findings(findings: &[Finding], width: usize) -> String {
    let mut text = String::new();
    for finding in findings {
        let (style, level) = match finding.level {
            FindingLevel::Note => (DIM, "note"),
            FindingLevel::Warning => (UNSURE, "warning"),
            FindingLevel::Error => (BAD, "error"),
        };
        let field = if finding.field.is_empty() {
            String::new()
        } else {
            format!(" {}", clean(&finding.field))
        };
        let rest = " ".repeat(2 + columns(level) + 1);
        let line = format!("{style}{level}{style:#}{field}: {}", clean(&finding.message));
        text += &wrapped(&line, "  ", &rest, width);
        if !finding.fix.is_empty() {
            text += &wrapped(&clean(&finding.fix), &rest, &rest, width);
        }
    }
    text
}

/// A declaration in full.
pub(crate) fn declaration(declared: &Declaration, width: usize) -> String {
    let mut text = wrapped(
        &format!("{STRONG}{}{STRONG:#}: {}", clean(&declared.name), clean(&declared.title)),
        "",
        "  ",
        width,
    );
    if !declared.description.is_empty() {
        text += &wrapped(&clean(&declared.description), "  ", "  ", width);
    }
    for example in &declared.examples {
        text += &field(2, "example", &clean(example), width);
    }
    for class in &declared.classes {
        text += &field(2, "class", &class_line(class), width);
    }
    if !declared.tags.is_empty() {
        text += &field(2, "tags", &clean(&declared.tags.join(", ")), width);
    }
    let keys = declared.attributes.keys().map(|key| columns(key)).max().unwrap_or(0);
    for (key, value) in &declared.attributes {
        let pad = keys - columns(key) + 2;
        let first = format!("  {}{:pad$}", clean(key), "");
        let line = format!("{} {DIM}{}{DIM:#}", clean(&value.text), clean(&value.kind));
        text += &wrapped(&line, &first, &" ".repeat(keys + 4), width);
    }
    let open_to = match &declared.group {
        Some(group) => format!("members of the private group {}", clean(group)),
        None => visibility(declared.visibility).to_owned(),
    };
    text += &field(2, "open to", &open_to, width);
    let kind = match (declared.idempotent, declared.streaming) {
        (true, true) => "repeatable, streams its answers",
        (true, false) => "repeatable",
        (false, true) => "not repeatable, streams its answers",
        (false, false) => "not repeatable",
    };
    text += &field(2, "calls", kind, width);
    text += &field(2, "speaks", &declared.interface, width);
    if let Some(version) = &declared.data_version {
        text += &field(2, "version", &clean(version), width);
    }
    text
}

fn visibility(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Public => "everyone",
        Visibility::Private => "nobody without a grant",
    }
}

fn class_line(class: &Class) -> String {
    match &class.caption {
        Some(caption) => format!("{} ({})", clean(caption), clean(&class.id)),
        None => format!("{} {DIM}(a label of its own){DIM:#}", clean(&class.id)),
    }
}

fn table_summary(summary: &TableSummary, width: usize) -> String {
    let mut text = wrapped(
        &format!(
            "{}: {}, {}, {}",
            clean(&summary.path),
            summary.format,
            count(summary.rows, "row", "rows"),
            bytes(summary.bytes)
        ),
        "",
        "  ",
        width,
    );
    let rows: Vec<Vec<String>> = summary.columns.iter().take(COLUMNS_SHOWN).map(column).collect();
    text += &table(&rows);
    if let Some(more) = summary.columns.len().checked_sub(COLUMNS_SHOWN + 1) {
        text += &format!("  and {}\n", count(more as u64 + 1, "more column", "more columns"));
    }
    if let Some(coverage) = &summary.coverage {
        let resolution = summary
            .resolution
            .as_ref()
            .map_or_else(String::new, |step| format!(", one row every {step}"));
        text += &field(2, "covers", &format!("{coverage}{resolution}"), width);
    }
    text
}

fn column(column: &Column) -> Vec<String> {
    let range = match (&column.min, &column.max) {
        (Some(min), Some(max)) => format!("{} to {}", clean(min), clean(max)),
        _ => String::new(),
    };
    let values =
        column.distinct.map_or_else(String::new, |number| count(number, "value", "values"));
    let missing =
        if column.missing == 0 { String::new() } else { format!("{} missing", column.missing) };
    let remarks = [range, values, missing]
        .into_iter()
        .filter(|remark| !remark.is_empty())
        .collect::<Vec<_>>();
    vec![format!("  {}", clean(&column.name)), column.kind.clone(), remarks.join(", ")]
}
