//! The class tree: lookups, descent, suggestions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::alias;
use super::id::{ClassId, ClassKind};

const OASF_TABLE: &str = include_str!("../../data/oasf-1.1.1.tsv");
const COMITY_TABLE: &str = include_str!("../../data/comity-1.tsv");

/// A class of the compiled-in tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Its identifier.
    pub id: ClassId,
    /// Its path, such as `finance_and_business/capital_markets`.
    pub path: &'static str,
    /// Its name for people.
    pub caption: &'static str,
    /// What belongs to it, in a sentence or two.
    pub description: &'static str,
    /// Levels below the root, from 1.
    pub depth: usize,
}

struct Tree {
    classes: BTreeMap<ClassId, Class>,
    parent: BTreeMap<ClassId, ClassId>,
    children: BTreeMap<ClassId, Vec<ClassId>>,
    /// Paths, captions and last path segments in folded spelling, domains first.
    names: BTreeMap<String, Vec<ClassId>>,
}

fn tree() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(build)
}

fn build() -> Tree {
    let mut classes = BTreeMap::new();
    let mut at_path = BTreeMap::new();
    for (table, extension) in [(OASF_TABLE, false), (COMITY_TABLE, true)] {
        for class in table.lines().skip(1).filter_map(|line| parse_row(line, extension)) {
            at_path.insert((class.id.kind(), class.path), class.id.clone());
            classes.insert(class.id.clone(), class);
        }
    }
    let mut parent = BTreeMap::new();
    let mut children: BTreeMap<ClassId, Vec<ClassId>> = BTreeMap::new();
    let mut names: BTreeMap<String, Vec<ClassId>> = BTreeMap::new();
    // By kind, then by path, so that a name shared by a domain and a skill finds the domain first.
    for ((kind, path), id) in &at_path {
        if let Some(above) =
            path.rsplit_once('/').and_then(|(above, _)| at_path.get(&(*kind, above)))
        {
            parent.insert(id.clone(), above.clone());
            children.entry(above.clone()).or_default().push(id.clone());
        }
        let segment = path.rsplit('/').next().unwrap_or(path);
        let caption = classes.get(id).map_or("", |class: &Class| class.caption);
        for name in BTreeSet::from([fold(path), fold(segment), fold(caption)]) {
            names.entry(name).or_default().push(id.clone());
        }
    }
    Tree { classes, parent, children, names }
}

/// A row: kind, uid, path, depth, leaf, caption, description.
fn parse_row(line: &'static str, extension: bool) -> Option<Class> {
    let mut fields = line.split('\t');
    let kind = match fields.next()? {
        "domains" => ClassKind::Domain,
        "skills" => ClassKind::Skill,
        "modules" => ClassKind::Module,
        _ => return None,
    };
    let uid = fields.next()?.parse().ok()?;
    let path = fields.next()?;
    let depth = fields.next()?.parse().ok()?;
    let _leaf = fields.next()?;
    let caption = fields.next()?;
    let description = fields.next().unwrap_or("");
    let id = if extension { ClassId::Comity(kind, uid) } else { ClassId::Oasf(kind, uid) };
    Some(Class { id, path, caption, description, depth })
}

/// The spelling names are compared in: lower case letters and digits with single underscores
/// between words, `and` for `&`, slashes kept.
pub(super) fn fold(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.replace('&', " and ").chars() {
        if c == '/' {
            while out.ends_with('_') {
                out.pop();
            }
            out.push('/');
        } else if c.is_alphanumeric() {
            out.extend(c.to_lowercase());
        } else if !out.is_empty() && !out.ends_with(['_', '/']) {
            out.push('_');
        }
    }
    out.trim_end_matches('_').to_owned()
}

/// The class with this identifier, if the tree has it.
pub fn by_id(id: &ClassId) -> Option<&'static Class> {
    tree().classes.get(id)
}

/// Finds a class by what people write: an identifier (`oasf1.1:domain/208`), a path, an alias
/// (`finance`, `fx`), a caption or the last part of a path, in any case and with any separators. `domain:` or
/// `skill:` before a name restricts the kind. Where a name fits several classes, domains come before skills and
/// shallower classes before deeper ones; aliases come before both.
///
/// `None` if nothing fits: then the text may still be parsed into an opaque [`ClassId`].
pub fn resolve(name: &str) -> Option<ClassId> {
    let name = name.trim();
    if let Ok(id) = name.parse::<ClassId>()
        && by_id(&id).is_some()
    {
        return Some(id);
    }
    let (kind, rest) = match name.split_once(':') {
        Some(("domain", rest)) => (Some(ClassKind::Domain), rest),
        Some(("skill", rest)) => (Some(ClassKind::Skill), rest),
        Some(("module", rest)) => (Some(ClassKind::Module), rest),
        _ => (None, name),
    };
    let folded = fold(rest);
    let path = alias::path_of(&folded).map_or(folded, str::to_owned);
    let fits = |id: &&ClassId| kind.is_none_or(|kind| id.kind() == Some(kind));
    tree()
        .names
        .get(&path)?
        .iter()
        .filter(fits)
        .min_by_key(|id| {
            let class = tree().classes.get(id);
            let exact = class.is_some_and(|class| class.path == path);
            (!exact, id.kind(), class.map(|class| class.depth))
        })
        .cloned()
}

/// The classes above, nearest first.
pub fn ancestors(id: &ClassId) -> Vec<ClassId> {
    let mut above = Vec::new();
    let mut at = id;
    while let Some(parent) = tree().parent.get(at) {
        above.push(parent.clone());
        at = parent;
    }
    above
}

/// Whether `child` is `ancestor` or lies below it. An opaque label is only under itself.
pub fn is_under(child: &ClassId, ancestor: &ClassId) -> bool {
    child == ancestor || ancestors(child).contains(ancestor)
}

/// The classes directly below, by path.
pub fn children(id: &ClassId) -> &'static [ClassId] {
    tree().children.get(id).map_or(&[], Vec::as_slice)
}

/// The class and everything below it, parents before children. Of an opaque label: itself.
pub fn descendants(id: &ClassId) -> Vec<ClassId> {
    let mut found = vec![id.clone()];
    let mut next = 0;
    while let Some(id) = found.get(next) {
        found.extend_from_slice(children(id));
        next += 1;
    }
    found
}

/// The classes of a kind that have no parent, by path.
pub fn roots(kind: ClassKind) -> Vec<ClassId> {
    let tree = tree();
    let mut roots: Vec<&Class> = tree
        .classes
        .values()
        .filter(|class| class.id.kind() == Some(kind) && !tree.parent.contains_key(&class.id))
        .collect();
    roots.sort_by_key(|class| class.path);
    roots.into_iter().map(|class| class.id.clone()).collect()
}

/// The classes of a kind that have no children, by path.
pub fn leaves(kind: ClassKind) -> Vec<&'static Class> {
    let mut leaves: Vec<&Class> = tree()
        .classes
        .values()
        .filter(|class| class.id.kind() == Some(kind) && children(&class.id).is_empty())
        .collect();
    leaves.sort_by_key(|class| class.path);
    leaves
}

/// All classes of a kind.
pub(super) fn leaves_and_branches(kind: ClassKind) -> impl Iterator<Item = &'static Class> {
    tree().classes.values().filter(move |class| class.id.kind() == Some(kind))
}

/// The category (root) of a skill; `None` for anything that is not a known skill.
pub fn skill_category(id: &ClassId) -> Option<ClassId> {
    if id.kind() != Some(ClassKind::Skill) || by_id(id).is_none() {
        return None;
    }
    Some(ancestors(id).pop().unwrap_or_else(|| id.clone()))
}

/// The `n` classes whose path, caption or last path part reads most like `name`, best first: for
/// "did you mean". Jaro-Winkler similarity of at least 0.7, ties by path.
pub fn nearest(name: &str, n: usize) -> Vec<&'static Class> {
    /// Below this the suggestion confuses more than it helps.
    const LEAST_SIMILAR: f64 = 0.7;
    /// Longer names cannot be near any path; this bounds the work.
    const MAX_COMPARED: usize = 128;
    let wanted: String = fold(name).chars().take(MAX_COMPARED).collect();
    let mut scored: BTreeMap<&ClassId, f64> = BTreeMap::new();
    for (known, ids) in &tree().names {
        let score = strsim::jaro_winkler(&wanted, known);
        for id in ids {
            let best = scored.entry(id).or_insert(0.0);
            *best = best.max(score);
        }
    }
    let mut found: Vec<(f64, &Class)> = scored
        .into_iter()
        .filter(|(_, score)| *score >= LEAST_SIMILAR)
        .filter_map(|(id, score)| Some((score, by_id(id)?)))
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.path.cmp(b.1.path)));
    found.into_iter().take(n).map(|(_, class)| class).collect()
}
