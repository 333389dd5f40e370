//! The report as one HTML file that needs nothing else.

use super::Block;
use crate::plot::escape;
use crate::shipped::slug;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1b1b;--faint:#5c5c5c;--ground:#fff;--rule:#dcdcdc;--soft:#f5f5f2;--good:#00693f;--bad:#b00020}\
@media screen and (prefers-color-scheme:dark){:root{--ink:#ececec;--faint:#a8a8a8;--ground:#16181c;--rule:#3a3a3a;--soft:#1f2227;--good:#4fd39a;--bad:#ff8791}}\
*{box-sizing:border-box}body{margin:0 auto;max-width:58rem;padding:2.5rem 1.2rem 5rem;background:var(--ground);color:var(--ink);\
font:16px/1.55 Charter,'Bitstream Charter','Source Serif 4',Georgia,'DejaVu Serif',serif}\
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .6rem}h2{font-size:1.35rem;margin:3rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--rule)}\
h3{font-size:1.1rem;margin:2rem 0 .4rem}p,ul{margin:.6rem 0;max-width:46rem}.lead{font-size:1.1rem;color:var(--faint)}\
a{color:inherit}nav{font-size:.92rem;margin:1.2rem 0}nav a{margin-right:.9rem;white-space:nowrap;line-height:1.9}\
figure{margin:1.6rem 0;break-inside:avoid}figure svg{width:100%;max-width:44rem;height:auto;display:block}\
figcaption{font-size:.9rem;line-height:1.45;color:var(--faint);max-width:44rem;margin-top:.3rem}figcaption b{color:var(--ink)}\
.wide{overflow-x:auto;margin:1rem 0}table{border-collapse:collapse;font:.82rem/1.4 system-ui,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif;\
font-variant-numeric:tabular-nums}th,td{padding:.3rem .7rem .3rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--rule)}\
th{font-weight:600;border-bottom:1.5px solid var(--faint)}td.n,th.n{text-align:right;white-space:nowrap}\
.met{color:var(--good);font-weight:600}.missed{color:var(--bad);font-weight:600}\
pre{background:var(--soft);padding:.6rem .8rem;overflow-x:auto;font:.82rem/1.45 ui-monospace,'DejaVu Sans Mono',Menlo,monospace}\
details{margin:.5rem 0;font-size:.92rem}summary{cursor:pointer;color:var(--faint)}\
@media print{body{max-width:none;padding:0;font-size:10.5pt}nav,details{display:none}h2{break-after:avoid}.wide{overflow:visible}\
table{font-size:8pt}tr{break-inside:avoid}pre{white-space:pre-wrap}@page{margin:18mm}}";

pub(super) fn page(title: &str, about: &str, blocks: &[Block]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n",
        title = escape(title)
    );
    if !about.is_empty() {
        out.push_str(&format!("<p class=\"lead\">{}</p>\n", escape(about.trim())));
    }
    let headings: Vec<&String> = blocks
        .iter()
        .filter_map(|block| match block {
            Block::Heading(2, text) => Some(text),
            Block::Heading(..) | Block::Paragraph(_) | Block::List(_) | Block::Code(_) => None,
            Block::Figure { .. } | Block::Table(_) | Block::Details(..) => None,
        })
        .collect();
    if headings.len() > 2 {
        let links =
            headings.iter().map(|text| format!("<a href=\"#{}\">{}</a>", slug(text), escape(text)));
        out.push_str(&format!("<nav>{}</nav>\n", links.collect::<Vec<_>>().join(" ")));
    }
    for block in blocks {
        push(&mut out, block);
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn push(out: &mut String, block: &Block) {
    match block {
        Block::Heading(level, text) => {
            out.push_str(&format!("<h{level} id=\"{}\">{}</h{level}>\n", slug(text), escape(text)));
        }
        Block::Paragraph(text) => out.push_str(&format!("<p>{}</p>\n", escape(text))),
        Block::List(items) => {
            out.push_str("<ul>\n");
            for item in items {
                out.push_str(&format!("<li>{}</li>\n", escape(item)));
            }
            out.push_str("</ul>\n");
        }
        Block::Code(text) => out.push_str(&format!("<pre>{}</pre>\n", escape(text))),
        Block::Figure { title, svg, caption, numbers, .. } => {
            out.push_str(&format!(
                "<figure>\n{svg}<figcaption><b>{}.</b> {}</figcaption>\n",
                escape(title.trim_end_matches('.')),
                escape(caption)
            ));
            if numbers.len() > 1 {
                push(
                    out,
                    &Block::Details("Numbers".to_owned(), vec![Block::Table(numbers.clone())]),
                );
            }
            out.push_str("</figure>\n");
        }
        Block::Table(rows) => table(out, rows),
        Block::Details(summary, inner) => {
            out.push_str(&format!("<details><summary>{}</summary>\n", escape(summary)));
            for block in inner {
                push(out, block);
            }
            out.push_str("</details>\n");
        }
    }
}

fn table(out: &mut String, rows: &[Vec<String>]) {
    let Some((head, rows)) = rows.split_first() else { return };
    let numeric: Vec<bool> = (0..head.len())
        .map(|column| {
            let cells =
                || rows.iter().filter_map(|row| row.get(column)).filter(|cell| *cell != "-");
            column > 0
                && cells().next().is_some()
                && cells().all(|cell| {
                    cell.len() < 28 && cell.starts_with(|c: char| c.is_ascii_digit() || c == '-')
                })
        })
        .collect();
    let class =
        |column: usize| if numeric.get(column) == Some(&true) { " class=\"n\"" } else { "" };
    out.push_str("<div class=\"wide\"><table>\n<thead><tr>");
    for (column, cell) in head.iter().enumerate() {
        out.push_str(&format!("<th{}>{}</th>", class(column), escape(cell)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let class = match cell.as_str() {
                "met" => " class=\"met\"",
                "MISSED" => " class=\"missed\"",
                _ => class(column),
            };
            out.push_str(&format!("<td{class}>{}</td>", escape(cell)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}
