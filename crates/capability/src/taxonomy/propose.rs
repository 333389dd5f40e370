//! Classes that a text seems to be about, for its publisher to confirm.
//!
//! The class's own words are the question and the text is asked for them: a class is proposed when the text holds most of what its
//! caption says, or several telling words of its description. Words weigh as much as they are rare ([`crate::keys::rarity`]).

use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::alias;
use super::id::ClassKind;
use super::tree::{Class, ancestors, leaves_and_branches};
use crate::keys::{rarity, words};

/// From this score on a class is worth proposing; a name met in full and a telling word of the description reach it.
const SCORE_MIN: f64 = 0.85;
/// Different telling words that must be met: a single one, such as `place`, is in too many texts.
const WORDS_MIN: usize = 2;
/// Below this share of the best score a class is not proposed beside the best.
const BESIDE_MIN: f64 = 0.7;
/// So much rarity (in bits) of words of the description counts half as much as the whole caption.
const DESCRIPTION_HALF: f64 = 24.0;
/// Words below this rarity, in bits, tell nothing: every other tool has them.
const TELLING: f64 = 6.0;
/// Longest text that is read, in bytes.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// The words of a class.
struct Words {
    class: &'static Class,
    names: Vec<BTreeSet<String>>,
    description: BTreeSet<String>,
}

fn domains() -> &'static [Words] {
    static DOMAINS: OnceLock<Vec<Words>> = OnceLock::new();
    DOMAINS.get_or_init(|| {
        let read = |class: &'static Class| {
            let aliases = alias::names_of(class.path).map(|name| name.replace('_', " "));
            let names = std::iter::once(class.caption.to_owned()).chain(aliases);
            let names = names.map(|name| words(&name).into_iter().collect()).collect();
            let description = words(class.description).into_iter().collect();
            Words { class, names, description }
        };
        leaves_and_branches(ClassKind::Domain).map(read).collect()
    })
}

/// At most `n` domains that the text seems to be about, the best first; none when nothing speaks for any. Of a class and those
/// above it only one is proposed, the better.
pub fn propose(text: &str, n: usize) -> Vec<&'static Class> {
    let text = text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text);
    let text: BTreeSet<String> = words(text).into_iter().collect();
    let bits = |word: &String| f64::from(u32::try_from(rarity(word)).unwrap_or(u32::MAX)) / 1_024.0;
    let telling = |words: &BTreeSet<String>| -> f64 {
        words.iter().map(bits).filter(|bits| *bits >= TELLING).sum()
    };
    let score = |class: &Words| {
        let all = class.names.iter().flatten().chain(&class.description);
        let met = all.filter(|word| text.contains(*word) && bits(word) >= TELLING);
        if met.collect::<BTreeSet<_>>().len() < WORDS_MIN {
            return 0.0;
        }
        let named = class.names.iter().map(|name| {
            let (met, all) = (name & &text, telling(name));
            if all > 0.0 { telling(&met) / all } else { 0.0 }
        });
        let described = telling(&(&class.description & &text));
        named.fold(0.0, f64::max) + described / (described + DESCRIPTION_HALF)
    };
    let mut scored: Vec<(f64, &Words)> = domains().iter().map(|one| (score(one), one)).collect();
    scored.retain(|(score, _)| *score >= SCORE_MIN);
    // The deeper of equals says more.
    scored.sort_by(|(a, one), (b, other)| {
        b.total_cmp(a)
            .then(other.class.depth.cmp(&one.class.depth))
            .then(one.class.path.cmp(other.class.path))
    });
    let best = scored.first().map_or(0.0, |(score, _)| *score);
    let mut proposed: Vec<&'static Class> = Vec::new();
    for (score, one) in scored {
        let related = |known: &&&Class| {
            ancestors(&known.id).contains(&one.class.id)
                || ancestors(&one.class.id).contains(&known.id)
        };
        if proposed.len() < n
            && score >= best * BESIDE_MIN
            && !proposed.iter().any(|known| related(&known))
        {
            proposed.push(one.class);
        }
    }
    proposed
}

#[cfg(test)]
mod tests {
    use super::propose;

    fn paths(text: &str) -> Vec<&'static str> {
        propose(text, 2).into_iter().map(|class| class.path).collect()
    }

    #[test]
    fn descriptions_find_their_domain() {
        for (text, path) in [
            (
                "get-forecast. Get weather forecast for a location: latitude, longitude",
                "geography/weather",
            ),
            (
                "Exchange rates of the European Central Bank between currencies",
                "finance_and_business/market_data/fx_rates",
            ),
            (
                "flight_status: departure and arrival of an airline's flights, with schedules",
                "transportation/aviation/flights",
            ),
            ("Lists airports with their codes and elevations", "transportation/aviation/airports"),
            (
                "query_patients: patient records of a hospital, appointments, clinical telemedicine",
                "healthcare",
            ),
            ("stock prices and dividends of shares", "finance_and_business/market_data/equities"),
            (
                "Known vulnerabilities (CVE) of a software package",
                "technology/security/software_advisories",
            ),
        ] {
            let found = paths(text);
            assert!(found.iter().any(|found| found.starts_with(path)), "{text}: {found:?}");
        }
    }

    #[test]
    fn what_says_nothing_is_put_nowhere() {
        for text in [
            "",
            "echo. Echoes back the input string",
            "add. Adds two numbers",
            "read_text_file. Read the complete contents of a file from the file system as text",
            "A tool that returns a result",
            "book_table. Books a table at a place",
            "\u{202e}\u{0}🐎 ř",
        ] {
            assert_eq!(paths(text), Vec::<&str>::new(), "{text}");
        }
        // Bounded, whatever comes.
        assert!(propose(&"weather ".repeat(1 << 20), 9).len() <= 9);
    }
}
