//! The report as Markdown, for the repository.

use super::{Block, FIGURES};

pub(super) fn page(title: &str, about: &str, blocks: &[Block]) -> String {
    let mut out = format!("# {title}\n\n");
    if !about.is_empty() {
        out.push_str(&format!("{}\n\n", about.trim()));
    }
    for block in blocks {
        push(&mut out, block);
    }
    out
}

fn push(out: &mut String, block: &Block) {
    match block {
        Block::Heading(level, text) => {
            out.push_str(&format!("{} {}\n\n", "#".repeat(usize::from(*level)), clean(text)));
        }
        Block::Paragraph(text) => out.push_str(&format!("{}\n\n", clean(text))),
        Block::List(items) => {
            for item in items {
                out.push_str(&format!("* {}\n", clean(item)));
            }
            out.push('\n');
        }
        Block::Code(text) => {
            // A fence longer than any inside.
            let fence = if text.contains("```") { "````" } else { "```" };
            out.push_str(&format!("{fence}text\n{}\n{fence}\n\n", text.trim_end()));
        }
        Block::Figure { file, title, caption, .. } => out.push_str(&format!(
            "![{title}]({FIGURES}/{file})\n\n**{}.** {}\n\n",
            clean(title.trim_end_matches('.')),
            clean(caption)
        )),
        Block::Table(rows) => table(out, rows),
        Block::Details(summary, inner) => {
            out.push_str(&format!("<details><summary>{}</summary>\n\n", clean(summary)));
            for block in inner {
                push(out, block);
            }
            out.push_str("</details>\n\n");
        }
    }
}

fn table(out: &mut String, rows: &[Vec<String>]) {
    let Some((head, rows)) = rows.split_first() else { return };
    let line = |cells: &[String]| {
        let cells: Vec<String> =
            cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    out.push_str(&line(head));
    out.push_str(&format!("|{}\n", "---|".repeat(head.len())));
    for row in rows {
        out.push_str(&line(row));
    }
    out.push('\n');
}

/// Text as one paragraph.
fn clean(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
