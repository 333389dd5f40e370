//! Answers too long for a model's context, kept for a while and read in pages as resources.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

/// Longest answer put into a tool's result whole, in bytes of JSON.
pub(super) const INLINE_BYTES_MAX: usize = 24 << 10;
/// Bytes of one page of a kept answer.
pub(super) const PAGE_BYTES: usize = 48 << 10;
/// Most kept answers; the oldest is forgotten first.
const RESULTS_MAX: usize = 64;
/// Most bytes of kept answers together; the oldest is forgotten first.
const RESULTS_BYTES_MAX: usize = 128 << 20;
/// What a kept answer's address begins with.
const SCHEME: &str = "comity-result:///";

#[derive(Debug, Default)]
pub(super) struct Results(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    results: VecDeque<Answer>,
    bytes: usize,
    next: u64,
}

/// One kept answer.
#[derive(Debug)]
struct Answer {
    id: String,
    from: String,
    text: String,
}

/// Where a kept answer can be read.
pub(super) struct Link {
    pub(super) uri: String,
    pub(super) bytes: usize,
    pub(super) pages: usize,
}

impl Results {
    /// Keeps an answer (JSON text) of `from`.
    pub(super) fn keep(&self, from: &str, text: String) -> Link {
        let mut kept = self.lock();
        kept.next += 1;
        let id = kept.next.to_string();
        let link = Link {
            uri: format!("{SCHEME}{id}?page=1"),
            bytes: text.len(),
            pages: text.len().div_ceil(PAGE_BYTES).max(1),
        };
        kept.bytes += text.len();
        kept.results.push_back(Answer { id, from: from.to_owned(), text });
        while kept.results.len() > RESULTS_MAX
            || (kept.bytes > RESULTS_BYTES_MAX && kept.results.len() > 1)
        {
            if let Some(oldest) = kept.results.pop_front() {
                kept.bytes -= oldest.text.len();
            }
        }
        link
    }

    pub(super) fn list(&self) -> Vec<Value> {
        let kept = self.lock();
        kept.results.iter().rev().map(|one| resource(&one.id, &one.from, one.text.len())).collect()
    }

    /// A page of a kept answer.
    pub(super) fn read(&self, uri: &str) -> Option<Value> {
        let rest = uri.strip_prefix(SCHEME)?;
        let (id, page) = match rest.split_once("?page=") {
            Some((id, page)) => (id, page.parse::<usize>().ok()?.checked_sub(1)?),
            None => (rest, 0),
        };
        let kept = self.lock();
        let one = kept.results.iter().find(|one| one.id == id)?;
        let start = boundary(&one.text, page.checked_mul(PAGE_BYTES)?)?;
        let end = boundary(&one.text, (page + 1) * PAGE_BYTES).unwrap_or(one.text.len());
        let last = end >= one.text.len();
        let mut meta = json!({"comity/from": one.from, "comity/bytes": one.text.len()});
        if !last {
            meta["comity/next"] = json!(format!("{SCHEME}{id}?page={}", page + 2));
        }
        let kind = if last && page == 0 { "application/json" } else { "text/plain" };
        Some(
            json!({"uri": uri, "mimeType": kind, "text": one.text.get(start..end)?, "_meta": meta}),
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The character boundary at or before `at`; none at or past the end, unless the text is empty.
fn boundary(text: &str, at: usize) -> Option<usize> {
    (at < text.len() || at == 0).then(|| text.floor_char_boundary(at))
}

/// A kept answer as a resource.
pub(super) fn resource(id: &str, from: &str, bytes: usize) -> Value {
    json!({
        "uri": format!("{SCHEME}{id}?page=1"),
        "name": format!("answer-{id}"),
        "title": "A long answer",
        "description": format!("Answer of {from}, {bytes} bytes of JSON"),
        "mimeType": "application/json",
        "size": bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_put_together_are_the_answer() {
        let results = Results::default();
        let answer = "žluť ".repeat(40_000);
        let link = results.keep("somebody", answer.clone());
        let (mut uri, mut all, mut pages) = (Some(link.uri), String::new(), 0);
        while let Some(one) = uri {
            let page = results.read(&one).unwrap();
            all.push_str(page["text"].as_str().unwrap());
            uri = page["_meta"]["comity/next"].as_str().map(str::to_owned);
            pages += 1;
        }
        assert_eq!((all, pages), (answer, link.pages));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let results = Results::default();
        for _ in 0..RESULTS_MAX + 5 {
            results.keep("x", "[]".to_owned());
        }
        assert_eq!(results.list().len(), RESULTS_MAX);
        assert!(results.read("comity-result:///1?page=1").is_none());
        assert!(results.read("comity-result:///69?page=0").is_none());
        assert!(results.read("comity-result:///69?page=99999999999999999999").is_none());
        assert!(results.read("file:///etc/passwd").is_none());
        results.keep("x", "y".repeat(RESULTS_BYTES_MAX + 1));
        assert_eq!(results.list().len(), 1);
    }
}
