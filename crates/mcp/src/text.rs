//! Text of peers on its way to a model: capped, and without characters that are not there to be read.

use serde_json::Value;

/// Longest title shown, in bytes.
pub const TITLE_BYTES_MAX: usize = 160;
/// Longest description shown in a list, in bytes.
pub const SUMMARY_BYTES_MAX: usize = 240;
/// Longest description shown where one capability is described, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 2_000;
/// Deepest nesting of a peer's JSON that is walked; what lies deeper is cut off.
pub const DEPTH_MAX: usize = 64;

/// `text` without control characters (line ends and tabs become spaces), without characters that reorder or hide text,
/// cut at a character boundary to at most `max` bytes, its end marked when cut.
#[must_use]
pub fn clean(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        let c = match c {
            '\n' | '\r' | '\t' => ' ',
            c if is_hidden(c) => continue,
            c => c,
        };
        if out.len() + c.len_utf8() > max {
            let mut end = max.saturating_sub('…'.len_utf8()).min(out.len());
            while !out.is_char_boundary(end) {
                end -= 1;
            }
            out.truncate(end);
            out.push('…');
            break;
        }
        out.push(c);
    }
    out
}

/// Removes from every text in `value`, member names included, what is not there to be read; line ends and tabs stay.
/// Lengths stay as well, because this is an answer and not a description.
pub fn scrub(value: &mut Value) {
    scrub_at(value, 0);
}

fn scrub_at(value: &mut Value, depth: usize) {
    if depth > DEPTH_MAX {
        *value = Value::Null;
        return;
    }
    match value {
        Value::String(text) => {
            if text.chars().any(is_hidden_in_answer) {
                text.retain(|c| !is_hidden_in_answer(c));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| scrub_at(item, depth + 1)),
        Value::Object(members) => {
            if members.keys().any(|key| key.chars().any(is_hidden)) {
                let old = std::mem::take(members);
                for (mut key, member) in old {
                    key.retain(|c| !is_hidden(c));
                    members.insert(key, member);
                }
            }
            members.values_mut().for_each(|member| scrub_at(member, depth + 1));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_hidden_in_answer(c: char) -> bool {
    !matches!(c, '\n' | '\r' | '\t') && is_hidden(c)
}

/// Control characters, marks that reorder text, characters without a shape, and the tag characters by which text is
/// smuggled past readers.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_hidden_survives_and_nothing_grows() {
        assert_eq!(clean("a\u{1b}[31mb\u{202e}c\u{e0041}d\ne", 100), "a[31mbcd e");
        assert_eq!(clean("žluťoučký", 9), "žluť…");
        assert_eq!(clean("short", 5), "short");
        for max in 3..20 {
            assert!(clean("ěščřžýáíé čárka", max).len() <= max);
        }
    }

    #[test]
    fn answers_keep_their_lines_and_lose_what_is_hidden() {
        let mut value = json!({"a\u{200b}": ["x\u{7}\ny", {"b": "\u{e0049}ok"}], "n": 1.50});
        scrub(&mut value);
        assert_eq!(value, json!({"a": ["x\ny", {"b": "ok"}], "n": 1.50}));
    }

    #[test]
    fn deep_nesting_is_cut() {
        let mut deep = json!("x");
        for _ in 0..DEPTH_MAX * 2 {
            deep = json!([deep]);
        }
        scrub(&mut deep);
        let text = deep.to_string();
        assert!(text.contains("null") && text.len() < DEPTH_MAX * 4);
    }
}
