//! Random chains against a model of twenty lines: a call is allowed if every link allows it.

use comity_core::{Hash, Sha256Digest};
use comity_trust::grant::{Ask, Chain, Context, Grant};
use comity_trust::revoke::Revocations;
use comity_trust::{Level, Scope, Target};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use crate::common::{NOW, agent, secs};

const NAMES: [&str; 6] = ["a", "ab", "abc", "b", "b.c", "c"];
const PATTERNS: [&str; 8] = ["a", "a*", "ab*", "abc", "b*", "b.c", "*", "c"];
const CALLEE: u8 = 1;

#[derive(Clone, Debug)]
struct Shape {
    patterns: std::collections::BTreeSet<usize>,
    from: u64,
    life: u64,
    depth: u8,
    level: usize,
    holder: u8,
}

prop_compose! {
    fn shape()(
        patterns in btree_set(0..PATTERNS.len(), 1..4),
        from in 0u64..400,
        life in 1u64..800,
        depth in 0u8..=3,
        level in 0usize..3,
        holder in 2u8..5,
    ) -> Shape {
        Shape { patterns, from, life, depth, level, holder }
    }
}

fn grant(shape: &Shape) -> Grant {
    let scopes = shape.patterns.iter().map(|n| PATTERNS[*n].parse::<Scope>().unwrap());
    let from = NOW + secs(shape.from);
    Grant::new(agent(shape.holder).id(), scopes, from, from + secs(shape.life))
        .depth(shape.depth)
        .min_level(Level::ALL[shape.level])
}

/// Signed in order, whatever the links say.
fn chain(shapes: &[Shape]) -> Chain {
    let mut links: Vec<Vec<u8>> = Vec::new();
    let mut signer = CALLEE;
    for shape in shapes {
        let parent = links.last().map(|link| Hash::of(link));
        let grant = Grant { parent, ..grant(shape) };
        links.push(comity_core::envelope::seal(comity_core::Kind::Grant, &grant, &agent(signer)));
        signer = shape.holder;
    }
    Chain::from_links(links).unwrap()
}

fn target(name: &str) -> Target<'_> {
    Target { name, descriptor: Hash::of(b"d"), interface: Sha256Digest::of(b"i") }
}

fn decided(shapes: &[Shape], peer: u8, name: &str, level: usize, at: u64) -> bool {
    let revocations = Revocations::new(agent(CALLEE).id());
    let context = Context { level: Level::ALL[level], ..Context::at(NOW + secs(at), &revocations) };
    Chain::from_bytes(&chain(shapes).to_bytes())
        .and_then(|chain| chain.verify(&agent(CALLEE).id(), &agent(peer).id()))
        .and_then(|chain| {
            chain.permits(&Ask { target: target(name), cost: 0, arguments: None }, &context)
        })
        .is_ok()
}

fn modelled(shapes: &[Shape], peer: u8, name: &str, level: usize, at: u64) -> bool {
    let allows = |shape: &Shape| {
        shape.patterns.iter().any(|n| match PATTERNS[*n].strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => PATTERNS[*n] == name,
        }) && at + 120 >= shape.from
            && at < shape.from + shape.life + 120
            && level >= shape.level
    };
    shapes.iter().all(allows)
        && shapes.windows(2).all(|pair| pair[1].depth < pair[0].depth)
        && shapes.last().is_some_and(|last| last.holder == peer)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn chains_decide_as_the_model_does(
        shapes in vec(shape(), 1..=4),
        name in 0..NAMES.len(),
        level in 0usize..3,
        at in 0u64..1200,
        peer in 2u8..5,
        descending in any::<bool>(),
        own in any::<bool>(),
    ) {
        let mut shapes = shapes;
        if descending {
            let count = u8::try_from(shapes.len()).unwrap();
            shapes.iter_mut().zip(0u8..).for_each(|(shape, n)| shape.depth = count - 1 - n);
        }
        let peer = if own { shapes[shapes.len() - 1].holder } else { peer };
        prop_assert_eq!(
            decided(&shapes, peer, NAMES[name], level, at),
            modelled(&shapes, peer, NAMES[name], level, at)
        );
    }

    /// However a child is made, what it allows its holder its parent allows too.
    #[test]
    fn no_child_exceeds_its_parent(shapes in vec(shape(), 2..=4), name in 0..NAMES.len(), level in 0usize..3, at in 0u64..1200) {
        let mut shapes = shapes;
        let count = u8::try_from(shapes.len()).unwrap();
        shapes.iter_mut().zip(0u8..).for_each(|(shape, n)| shape.depth = count - 1 - n);
        let (parent, child) = (&shapes[..shapes.len() - 1], &shapes[..]);
        if decided(child, child[child.len() - 1].holder, NAMES[name], level, at) {
            prop_assert!(decided(parent, parent[parent.len() - 1].holder, NAMES[name], level, at));
        }
    }

    #[test]
    fn anything_at_all_is_no_chain(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(Chain::from_bytes(&bytes).and_then(|chain| chain.verify(&agent(1).id(), &agent(2).id())).is_err());
    }

    #[test]
    fn scopes_read_back(text in "[a-z0-9._-]{1,20}\\*?(@b3:[0-9a-f]{64})?(@sha256:[0-9a-f]{64})?") {
        let scope: Scope = text.parse().unwrap();
        prop_assert_eq!(scope.to_string(), text);
        prop_assert!(scope.covers(&scope) && Scope::any().covers(&scope));
    }

    /// What one pattern covers of another, it matches of every name.
    #[test]
    fn covering_is_matching(a in 0..PATTERNS.len(), b in 0..PATTERNS.len()) {
        let [a, b]: [comity_trust::Pattern; 2] = [PATTERNS[a].parse().unwrap(), PATTERNS[b].parse().unwrap()];
        if a.covers(&b) {
            prop_assert!(NAMES.iter().filter(|name| b.matches(name)).all(|name| a.matches(name)));
        }
    }
}
