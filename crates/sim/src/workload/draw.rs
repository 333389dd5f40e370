//! Drawing specs and questions.

use std::collections::BTreeSet;

use super::declare::RESOLUTIONS;
use super::{PAIRS_MAX, PRICES_MAX, Question, Skew, Spec, TOPICS_MAX, Workload};
use crate::random::{Ppm, Random};

const YEAR_FIRST: u16 = 2000;
const YEAR_LAST: u16 = 2025;
/// Weight of the most frequent element.
const WEIGHT_MAX: u64 = 1_000_000_000_000;
/// Words that questions use and nobody declares.
const NOISE: u64 = 50;
/// Classes and topics that stuffers claim besides their own: what digests have room for.
const STUFFED_CLASSES: usize = 3;
const STUFFED_TOPICS: usize = 12;

/// Elements that occur with different frequencies.
#[derive(Clone, Debug)]
struct Weighted {
    /// Sum of the weights up to and including each element.
    sums: Vec<u64>,
}

impl Weighted {
    fn new(count: usize, skew: Skew) -> Self {
        let weight = |rank: u64| match skew {
            Skew::Uniform => 1,
            Skew::Zipf => WEIGHT_MAX / (rank + 1),
        };
        let mut sum = 0_u64;
        let sums = (0..count.max(1) as u64).map(|rank| {
            sum += weight(rank).max(1);
            sum
        });
        Self { sums: sums.collect() }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let at = random.below(self.sums.last().copied().unwrap_or(1));
        self.sums.partition_point(|sum| *sum <= at)
    }
}

/// Draws what a workload is made of.
#[derive(Clone, Debug)]
pub struct Drawer {
    workload: Workload,
    classes: Weighted,
    pairs: Weighted,
    topics: Weighted,
    popularity: Weighted,
}

impl Drawer {
    /// For `workload`, asked for the capabilities of `publishers` publishers.
    #[must_use]
    pub fn new(workload: &Workload, publishers: usize) -> Self {
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        Self {
            classes: Weighted::new(workload.classes, workload.class_skew),
            pairs: Weighted::new(count(workload.pairs.min(PAIRS_MAX)), workload.pair_skew),
            topics: Weighted::new(count(workload.topics.min(TOPICS_MAX)), workload.pair_skew),
            popularity: Weighted::new(publishers, workload.question_skew),
            workload: workload.clone(),
        }
    }

    /// Which publisher is asked for: the more popular come first.
    pub fn popular(&self, random: &mut Random) -> usize {
        self.popularity.draw(random)
    }

    /// The specs of one publisher, the `publisher`-th. `earlier` are specs that they may be twins of.
    pub fn specs(&self, random: &mut Random, publisher: usize, earlier: &[Spec]) -> Vec<Spec> {
        let mut list: Vec<Spec> = Vec::with_capacity(self.workload.capabilities_each);
        for ordinal in 0..self.workload.capabilities_each {
            // A letter and numbers: no word of it is a search term.
            let name = format!("s-{publisher}-{ordinal}");
            let known = earlier.len() + list.len();
            let model = if random.happens(self.workload.twins) {
                let at = random.index(known);
                earlier.get(at).or_else(|| list.get(at - earlier.len())).cloned()
            } else {
                None
            };
            list.push(match model {
                Some(model) => self.twin(random, &model, name),
                None => self.draw(random, name),
            });
        }
        list
    }

    fn draw(&self, random: &mut Random, name: String) -> Spec {
        let from = YEAR_FIRST + small(random.below(15));
        let to = (from + 3 + small(random.below(10))).min(YEAR_LAST);
        let count = 1 + random.below(u64::from(self.workload.pairs_each.max(1)));
        let pairs = (0..count).map(|_| self.draw_pair(random)).collect();
        let topic = (self.workload.topics > 0).then(|| number(self.topics.draw(random)));
        let prices = self.workload.prices.min(PRICES_MAX);
        let price = (prices > 0)
            .then(|| u8::try_from(random.below(u64::from(prices))).expect("below PRICES_MAX"));
        Spec {
            name,
            class: self.draw_class(random),
            pairs,
            years: (from, to),
            resolution: random.index(RESOLUTIONS.len() - 1),
            topic,
            price,
            stuffed: None,
        }
    }

    fn draw_class(&self, random: &mut Random) -> usize {
        let head: Ppm = self.workload.head_class;
        if head == 0 {
            return self.classes.draw(random);
        }
        // The others are drawn as they would be, but for the first.
        if random.happens(head) {
            0
        } else {
            self.classes.draw(random).max(1) % self.workload.classes
        }
    }

    /// A spec like `model` that differs in one condition, so that it just fails the question made from the model.
    fn twin(&self, random: &mut Random, model: &Spec, name: String) -> Spec {
        let mut twin = Spec { name, ..model.clone() };
        match random.below(4) {
            0 => twin.class = (model.class + 1) % self.workload.classes.max(1),
            1 => twin.pairs = BTreeSet::from([self.draw_pair(random)]),
            // Twins of twins get shorter, and end at one year.
            2 if model.years.1 > model.years.0 => twin.years.1 = model.years.1 - 1,
            _ => twin.resolution = model.resolution + 1,
        }
        twin.resolution = twin.resolution.min(RESOLUTIONS.len() - 1);
        twin
    }

    /// What a stuffer declares: all that there is room for.
    #[must_use]
    pub fn stuff(&self, random: &mut Random, mut spec: Spec) -> Spec {
        let classes = (0..STUFFED_CLASSES).map(|_| self.classes.draw(random)).collect();
        let topics = if self.workload.topics > 0 { STUFFED_TOPICS } else { 0 };
        let topics = (0..topics).map(|_| number(self.topics.draw(random))).collect();
        spec.stuffed = Some((classes, topics));
        spec
    }

    fn draw_pair(&self, random: &mut Random) -> u32 {
        number(self.pairs.draw(random))
    }

    /// A question that `spec` answers, as narrow as it can be in the conditions it has.
    pub fn question(&self, random: &mut Random, spec: &Spec) -> Question {
        let pairs: Vec<_> = spec.pairs.iter().copied().collect();
        let pair = random.pick(&pairs).copied();
        let (class, years, resolution) =
            (Some(spec.class), Some(spec.years), Some(spec.resolution));
        let cheap = (self.workload.prices > 0).then_some(self.workload.prices / 2);
        let base = Question { cheap, ..Question::default() };
        if random.happens(self.workload.broad) {
            return Question { class, years, resolution, ..base };
        }
        match random.below(10) {
            0..6 => Question { class, pair, years, resolution, ..base },
            6..8 => Question { pair, years, resolution, ..base },
            8 => Question { class, pair, resolution, ..base },
            _ => Question { name: Some(spec.name.clone()), years, ..base },
        }
    }

    /// A question in free text that `spec` answers; `None` if it is about nothing.
    pub fn text(&self, random: &mut Random, spec: &Spec) -> Option<Question> {
        let noise = number(random.index(usize::try_from(NOISE).unwrap_or(1)));
        let topic = spec.topic.map(|topic| (topic, noise))?;
        Some(Question { topic: Some(topic), ..Question::default() })
    }
}

impl Workload {
    /// The specs of `publishers` nodes, one list each.
    pub fn draw_specs(&self, random: &mut Random, publishers: usize) -> Vec<Vec<Spec>> {
        let drawer = Drawer::new(self, publishers);
        let mut all: Vec<Spec> = Vec::new();
        let mut lists = Vec::new();
        for publisher in 0..publishers {
            let list = drawer.specs(random, publisher, &all);
            all.extend(list.iter().cloned());
            lists.push(list);
        }
        lists
    }

    /// A question that `spec` answers, as narrow as it can be in the conditions it has.
    pub fn draw_question(&self, random: &mut Random, spec: &Spec) -> Question {
        Drawer::new(self, 1).question(random, spec)
    }
}

fn small(number: u64) -> u16 {
    u16::try_from(number).expect("drawn below a small bound")
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("fewer elements than 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_draws_the_second_half_as_often() {
        let weighted = Weighted::new(100, Skew::Zipf);
        let mut random = Random::new(1, "test");
        let mut counts = [0_u32; 100];
        (0..100_000).for_each(|_| counts[weighted.draw(&mut random)] += 1);
        // 1 / H(100) = 19.3 %.
        assert!((18_500..20_000).contains(&counts[0]), "{}", counts[0]);
        assert!((9_000..10_300).contains(&counts[1]), "{}", counts[1]);
        assert!(counts[99] > 100, "{}", counts[99]);
    }

    #[test]
    fn twins_of_twins_still_cover_something() {
        let workload = Workload { publishers: 20_000, twins: 900_000, ..Workload::default() };
        let specs = workload.draw_specs(&mut Random::new(1, "test"), 20_000);
        let specs: Vec<_> = specs.into_iter().flatten().collect();
        assert!(specs.iter().all(|spec| spec.years.0 <= spec.years.1));
        assert!(specs.iter().any(|spec| spec.years.0 == spec.years.1), "chains are that long");
    }

    #[test]
    fn the_head_class_has_its_share() {
        let workload = Workload { head_class: 50_000, classes: 100, ..Workload::default() };
        let drawer = Drawer::new(&workload, 1);
        let mut random = Random::new(2, "test");
        let head = (0..20_000).filter(|_| drawer.draw_class(&mut random) == 0).count();
        assert!((900..1_100).contains(&head), "{head}");
    }
}
