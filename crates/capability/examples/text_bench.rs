//! Free text: how near the search through group keys comes to one index of everything.
//!
//! ```text
//! python3 tools/bfcl/extract.py bfcl.jsonl
//! cargo run --release -p comity-capability --example text_bench -- bfcl.jsonl --pad 190000 [--texts other.tsv]
//! ```
//!
//! Every function becomes a record as a publisher of such a tool writes it: name, title from the name, description as the text,
//! names of the parameters after it. Nothing of the questions is used. The padding are other records: lines `name <tab> … <tab> text`
//! of `--texts`, such as package summaries, or else mixtures of words of the class descriptions.
//!
//! The search plans keys, asks the leaves of their groups with [`evaluate_shard`], ranks the union of what it gets by digest, reads
//! the best records and ranks these again with [`rank`]. The index ranks all records by the same formula.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for measuring, run by hand"
)]

use std::collections::{BTreeMap, BTreeSet};

use comity_capability::keys::{self, KeyFamily};
use comity_capability::matching::{ShardLimits, evaluate_shard};
use comity_capability::query::{Draft, Query};
use comity_capability::rank::{
    self, Candidate, Context, Declared, LENGTH_NORMALISATION, Signals, TERM_SATURATION,
};
use comity_capability::record::{Capability, Digest, Record, Visibility, clean};
use comity_capability::taxonomy::{self, ClassKind};
use comity_core::{AgentId, Hash, Identity, Time};
use serde_json::Value as Json;

/// Live digests of a leaf.
const LEAF_MAX: usize = 1_024;
/// Bytes after which no further group is asked, so that records can still be read within 250 KB.
const GROUP_BYTES_MAX: usize = 250_000
    - RECORDS_READ * RECORD_BYTES
    - CUSTODIANS * (ANSWER_BYTES + PER_LEAF * DIGEST_BYTES)
    - 2 * LOOKUP_BYTES;
/// Every so many questions, the order of each leaf is compared with that of the full records.
const ORDER_EVERY: usize = 50;
/// Leaves asked for one question.
const LEAVES_ASKED: usize = 16;
/// Digests that one leaf answers with.
const PER_LEAF: usize = 8;
/// Records read before the last ranking.
const RECORDS_READ: usize = 24;
/// Custodians asked for each leaf, for the estimate of bytes.
const CUSTODIANS: usize = 2;
/// Bytes of a sealed digest, of a lookup with cached neighbourhoods, of an empty answer, of a record.
const DIGEST_BYTES: usize = 440;
const LOOKUP_BYTES: usize = 5_000;
const ANSWER_BYTES: usize = 400;
const RECORD_BYTES: usize = 1_500;

struct Options {
    functions: String,
    pad: usize,
    texts: Option<String>,
    every: usize,
}

struct Question {
    query: Query,
    answers: BTreeSet<usize>,
}

fn main() {
    let options = options();
    let (functions, questions) = read(&options.functions);
    let mut capabilities = functions;
    let known = capabilities.len();
    let texts = options.texts.as_deref();
    capabilities.extend(padding(texts, options.pad));
    println!(
        "{known} functions, {} records in all, {} questions",
        capabilities.len(),
        questions.len()
    );
    let mut sizes: Vec<usize> = [0, 10_000, 90_000].map(|pad| known + pad).into();
    sizes.retain(|size| *size < capabilities.len());
    sizes.push(capabilities.len());
    let everything = Directory::new(&capabilities);
    println!(
        "records  nDCG flat, own and listed rarity  nDCG keys  share of the better   recall@10 flat/keys  reached  leaves  KB/question p50/p95/max"
    );
    for size in sizes {
        let mut sums = Sums::default();
        for question in questions.iter().step_by(options.every) {
            everything.measure(question, size, &mut sums);
        }
        sums.print(size);
    }
    let (mut kept, mut shards) = ([0.0; 3], 0);
    for question in questions.iter().step_by(ORDER_EVERY) {
        everything.order(question, &mut kept, &mut shards);
    }
    let share = |n: usize| 100.0 * kept[n] / f64::from(shards.max(1));
    println!(
        "of the ten that the full records of a leaf rank first, the leaf's first 10 / 20 / 32 hold {:.1} / {:.1} / {:.1} % ({shards} leaves of more than 32)",
        share(0),
        share(1),
        share(2)
    );
}

fn options() -> Options {
    let mut options = Options { functions: String::new(), pad: 190_000, texts: None, every: 1 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--pad" => options.pad = arguments.next().unwrap().parse().unwrap(),
            "--texts" => options.texts = arguments.next(),
            "--every" => options.every = arguments.next().unwrap().parse().unwrap(),
            _ => options.functions = argument,
        }
    }
    options
}

fn read(path: &str) -> (Vec<Capability>, Vec<Question>) {
    let (mut functions, mut questions) = (Vec::new(), Vec::new());
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let line: Json = serde_json::from_str(line).unwrap();
        if let Some(function) = line.get("function") {
            let name = function["name"].as_str().unwrap();
            let parameters: Vec<&str> =
                function["parameters"].as_object().unwrap().keys().map(String::as_str).collect();
            let description = function["description"].as_str().unwrap();
            let text = format!("{description} Takes {}.", parameters.join(", ").replace('_', " "));
            functions.push(capability(name, &text));
        } else {
            let query = &line["query"];
            let draft = Draft {
                text: Some(clean(query["text"].as_str().unwrap(), 500)),
                ..Draft::default()
            };
            let answers = query["answers"].as_array().unwrap();
            let answers =
                answers.iter().map(|n| usize::try_from(n.as_u64().unwrap()).unwrap()).collect();
            questions.push(Question { query: draft.finish().unwrap(), answers });
        }
    }
    (functions, questions)
}

/// A tool as its publisher declares it.
fn capability(name: &str, text: &str) -> Capability {
    let mut spelled = String::new();
    let mut after_small = false;
    for c in name.chars() {
        if c.is_uppercase() && after_small {
            spelled.push(' ');
        }
        after_small = c.is_lowercase() || c.is_ascii_digit();
        spelled.push(if c.is_alphanumeric() { c } else { ' ' });
    }
    let folded: String = spelled.to_lowercase().split_whitespace().collect::<Vec<_>>().join("-");
    let folded: String =
        folded.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
    let folded = if folded.is_empty() { "tool".to_owned() } else { folded };
    let mut capability = Capability::new(&folded).unwrap();
    capability.visibility = Visibility::Public;
    capability.title = clean(&spelled, 96);
    capability.text = clean(text, 512);
    capability
}

fn padding(texts: Option<&str>, count: usize) -> Vec<Capability> {
    if let Some(path) = texts {
        let all = std::fs::read_to_string(path).unwrap();
        let rows: Vec<(&str, &str)> = all
            .lines()
            .skip(1)
            .filter_map(|line| Some((line.split('\t').next()?, line.rsplit('\t').next()?)))
            .filter(|(_, text)| text.len() > 40)
            .collect();
        // Spread over the file, which may be in some order.
        let step = (rows.len() / count.max(1)).max(1);
        return rows
            .iter()
            .step_by(step)
            .take(count)
            .map(|(name, text)| capability(name, text))
            .collect();
    }
    let classes: Vec<_> =
        [ClassKind::Domain, ClassKind::Skill].into_iter().flat_map(taxonomy::leaves).collect();
    let words: Vec<&str> =
        classes.iter().flat_map(|class| class.description.split_whitespace()).collect();
    (0..count)
        .map(|n| {
            let mut draw = n as u64;
            let mut below = |bound: usize| {
                draw = draw
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(draw >> 33).unwrap() % bound
            };
            let class = classes[below(classes.len())];
            let own: Vec<&str> = class.description.split_whitespace().collect();
            let text: Vec<&str> = (0..14)
                .map(|k| if k % 3 == 0 { words[below(words.len())] } else { own[below(own.len())] })
                .collect();
            capability(&format!("{} {}", class.caption, words[below(words.len())]), &text.join(" "))
        })
        .collect()
}

/// All records, indexed both ways.
struct Directory<'a> {
    capabilities: &'a [Capability],
    digests: Vec<Digest>,
    agents: Vec<AgentId>,
    /// Members of each term's group, in order of record.
    groups: BTreeMap<String, Vec<usize>>,
    /// Records of each word with its weight, in order of record.
    postings: BTreeMap<String, Vec<(usize, f64)>>,
    lengths: Vec<f64>,
}

impl<'a> Directory<'a> {
    fn new(capabilities: &'a [Capability]) -> Self {
        let mut directory = Self {
            capabilities,
            digests: Vec::new(),
            agents: Vec::new(),
            groups: BTreeMap::new(),
            postings: BTreeMap::new(),
            lengths: Vec::new(),
        };
        // Keys are costly to make; whose a record is matters for ties only.
        let agents: Vec<AgentId> = (0..512u16)
            .map(|n| Identity::from_secret_bytes(&Hash::of(&n.to_be_bytes()).0).id())
            .collect();
        for (n, capability) in capabilities.iter().enumerate() {
            let mut record =
                Record::new(1, Time::from_secs(1), Time::from_secs(3_600), Hash::of(b"next"));
            record.endpoints = vec!["192.0.2.7:4433".parse().unwrap()];
            record.capabilities = vec![capability.clone()];
            directory
                .digests
                .push(Digest::summarise(&record, 0, Hash::of(&n.to_be_bytes())).unwrap());
            directory.agents.push(agents[n % agents.len()]);
            for term in keys::terms(capability) {
                directory.groups.entry(term).or_default().push(n);
            }
            let (mut weights, mut length) = (BTreeMap::new(), 0.0);
            let name = (capability.name.as_str(), 2.0);
            for (field, weight) in [(capability.title.as_str(), 2.0), name, (&capability.text, 1.0)]
            {
                for word in keys::words(field) {
                    *weights.entry(word).or_insert(0.0) += weight;
                    length += weight;
                }
            }
            for (word, weight) in weights {
                directory.postings.entry(word).or_default().push((n, weight));
            }
            directory.lengths.push(length);
        }
        directory
    }

    fn measure(&self, question: &Question, size: usize, sums: &mut Sums) {
        let flat = self.flat(&question.query, size, false);
        let listed = self.flat(&question.query, size, true);
        let asked = self.through_keys(&question.query, size);
        sums.questions += 1;
        sums.flat += ndcg(&flat, &question.answers);
        sums.listed += ndcg(&listed, &question.answers);
        sums.keys += ndcg(&asked.ranked, &question.answers);
        sums.flat_recall += recall(&flat, &question.answers);
        sums.keys_recall += recall(&asked.ranked, &question.answers);
        sums.reached += recall(&asked.reached, &question.answers);
        sums.leaves += asked.leaves;
        sums.bytes.push(asked.bytes);
    }

    /// The best ten of all records, with words as rare as they are among these, or as the list has them.
    fn flat(&self, query: &Query, size: usize, listed: bool) -> Vec<usize> {
        let average = self.lengths[..size].iter().sum::<f64>() / size as f64;
        let words: BTreeSet<String> = keys::words(query.text().unwrap()).into_iter().collect();
        let mut scores: BTreeMap<usize, f64> = BTreeMap::new();
        for word in &words {
            let Some(all) = self.postings.get(word) else { continue };
            let all = &all[..all.partition_point(|(n, _)| *n < size)];
            let (count, holding) = (size as f64, all.len() as f64);
            let rarity = if listed {
                keys::rarity(word) as f64
            } else {
                (1.0 + (count - holding + 0.5) / (holding + 0.5)).ln()
            };
            for (n, tf) in all {
                let norm = TERM_SATURATION
                    * (1.0 - LENGTH_NORMALISATION
                        + LENGTH_NORMALISATION * self.lengths[*n] / average);
                *scores.entry(*n).or_insert(0.0) += rarity * tf / (tf + norm);
            }
        }
        let mut ranked: Vec<(usize, f64)> = scores.into_iter().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| tie(a.0).cmp(&tie(b.0))));
        ranked.into_iter().take(10).map(|(n, _)| n).collect()
    }
}

/// Ties go by a number that has nothing to do with where a record comes from.
fn tie(n: usize) -> u64 {
    (n as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(17)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

struct Asked {
    ranked: Vec<usize>,
    reached: Vec<usize>,
    leaves: usize,
    bytes: usize,
}

impl Directory<'_> {
    fn through_keys(&self, query: &Query, size: usize) -> Asked {
        let plan = query.plan();
        let terms = plan.steps.iter().filter(|step| step.family == KeyFamily::Term);
        let terms: Vec<&str> = terms
            .flat_map(|step| &step.keys)
            .filter_map(|key| key.label.strip_prefix("term/"))
            .collect();
        let mut found: BTreeSet<usize> = BTreeSet::new();
        let (mut leaves, mut bytes) = (0, 0);
        for term in terms {
            if bytes > GROUP_BYTES_MAX {
                break;
            }
            let members = self.groups.get(term).map_or(&[][..], Vec::as_slice);
            let members = &members[..members.partition_point(|n| *n < size)];
            let depth = members.len().div_ceil(LEAF_MAX).next_power_of_two();
            // A group's first custodian says how many leaves there are.
            bytes += LOOKUP_BYTES + ANSWER_BYTES;
            if leaves + depth > LEAVES_ASKED && leaves > 0 {
                continue;
            }
            for leaf in (0..depth).take(LEAVES_ASKED - leaves) {
                if bytes > GROUP_BYTES_MAX {
                    break;
                }
                let shard: Vec<usize> = members
                    .iter()
                    .copied()
                    .filter(|n| usize::try_from(tie(*n) >> 7).unwrap() % depth == leaf)
                    .collect();
                let limits =
                    ShardLimits { results: PER_LEAF, near_misses: 0, ..ShardLimits::DEFAULT };
                let digests = shard.iter().map(|n| (self.agents[*n], &self.digests[*n]));
                let answer = evaluate_shard(query, digests, limits);
                bytes += CUSTODIANS * (ANSWER_BYTES + answer.found.len() * DIGEST_BYTES);
                bytes += if leaf > 0 { LOOKUP_BYTES } else { 0 };
                found.extend(answer.found.iter().map(|found| shard[found.index]));
            }
            leaves += depth.min(LEAVES_ASKED - leaves);
        }
        let reached: Vec<usize> = found.into_iter().collect();
        let short =
            self.rank(query, &reached, |n| Declared::Digest(&self.digests[n]), RECORDS_READ);
        bytes += short.len() * RECORD_BYTES;
        let ranked = self.rank(query, &short, |n| Declared::Capability(&self.capabilities[n]), 10);
        Asked { ranked, reached, leaves, bytes }
    }

    /// How many of the ten that full records rank first in a leaf are in the first 10, 20 and 32 that it answers with.
    fn order(&self, question: &Question, kept: &mut [f64; 3], shards: &mut u32) {
        for key in question.query.plan().keys() {
            let Some(term) = key.label.strip_prefix("term/") else { continue };
            let members = self.groups.get(term).map_or(&[][..], Vec::as_slice);
            let leaf: Vec<usize> = members.iter().copied().take(LEAF_MAX).collect();
            if leaf.len() <= 32 {
                continue;
            }
            let first = self.rank(
                &question.query,
                &leaf,
                |n| Declared::Capability(&self.capabilities[n]),
                10,
            );
            let limits = ShardLimits { results: 32, near_misses: 0, ..ShardLimits::DEFAULT };
            let digests = leaf.iter().map(|n| (self.agents[*n], &self.digests[*n]));
            let answer = evaluate_shard(&question.query, digests, limits);
            for (slot, results) in kept.iter_mut().zip([10, 20, 32]) {
                let held: BTreeSet<usize> =
                    answer.found.iter().take(results).map(|found| leaf[found.index]).collect();
                *slot +=
                    first.iter().filter(|n| held.contains(n)).count() as f64 / first.len() as f64;
            }
            *shards += 1;
        }
    }

    fn rank<'d>(
        &'d self,
        query: &Query,
        among: &[usize],
        declared: impl Fn(usize) -> Declared<'d>,
        k: usize,
    ) -> Vec<usize> {
        let candidates: Vec<Candidate<'_>> = among
            .iter()
            .map(|n| Candidate {
                agent: self.agents[*n],
                declared: declared(*n),
                signals: Signals::default(),
            })
            .collect();
        let mut draft = query.clone().into_draft();
        draft.k = u32::try_from(k).unwrap();
        let context = Context { now: Time::from_secs(2), seed: [7; 32] };
        let ranking = rank::rank(&draft.finish().unwrap(), &candidates, &context);
        ranking.results.iter().map(|ranked| among[ranked.index]).collect()
    }
}

fn ndcg(ranked: &[usize], answers: &BTreeSet<usize>) -> f64 {
    let gain = |place: usize| 1.0 / (place as f64 + 2.0).log2();
    let best: f64 = (0..answers.len().min(10)).map(gain).sum();
    let got: f64 =
        (0..).zip(ranked).filter(|(_, n)| answers.contains(n)).map(|(at, _)| gain(at)).sum();
    got / best
}

fn recall(ranked: &[usize], answers: &BTreeSet<usize>) -> f64 {
    ranked.iter().filter(|n| answers.contains(n)).count() as f64 / answers.len() as f64
}

#[derive(Default)]
struct Sums {
    questions: usize,
    flat: f64,
    listed: f64,
    keys: f64,
    flat_recall: f64,
    keys_recall: f64,
    reached: f64,
    leaves: usize,
    bytes: Vec<usize>,
}

impl Sums {
    fn print(mut self, size: usize) {
        let count = self.questions as f64;
        self.bytes.sort_unstable();
        let kb = |share: usize| self.bytes[(self.bytes.len() - 1) * share / 100] / 1_000;
        println!(
            "{size:>7}  {:>9.4} {:>9.4}  {:>9.4}  {:>5.1} %  {:.3}/{:.3}  {:.3}  {:.1}  {}/{}/{}",
            self.flat / count,
            self.listed / count,
            self.keys / count,
            100.0 * self.keys / self.flat.max(self.listed),
            self.flat_recall / count,
            self.keys_recall / count,
            self.reached / count,
            self.leaves as f64 / count,
            kb(50),
            kb(95),
            kb(100)
        );
    }
}
