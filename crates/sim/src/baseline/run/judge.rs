//! Judging answers.

use super::{Answer, Directory, Pending, Runner, What, hits};
use crate::baseline::catalogue::ItemIx;

/// How many of the best are looked at.
const BEST: usize = 5;

impl<D: Directory> Runner<D> {
    pub(super) fn judge(&mut self, answer: Answer) {
        let Some(Pending { from, what }) = self.pending.remove(&answer.ask) else { return };
        match what {
            What::Query { phase, gold, asked } => {
                debug_assert!(
                    answer.found.iter().all(|item| self.catalogue.matches(*item, &asked.question)),
                    "baselines compare integers: {asked:?}"
                );
                self.judge_query(phase, from, gold, &answer);
            }
            What::Look(watch) => self.looked(watch, &answer),
            What::Lookup { .. } => {}
        }
    }

    fn judge_query(&mut self, phase: usize, from: u32, mut gold: Vec<ItemIx>, answer: &Answer) {
        let now = self.net.now();
        // What went away while the question was asked is not owed.
        gold.retain(|item| self.net.host(self.catalogue.item(*item).publisher).up);
        let wanted = match self.plan.scenario.measure.want {
            0 => gold.len(),
            want => want.min(gold.len()),
        };
        let found = gold.iter().filter(|item| answer.found.contains(item)).count();
        let recall = hits(found.min(wanted), wanted);
        // All matches of a structured question are equally good here.
        let best = hits(found.min(BEST), gold.len().min(BEST));
        let (mut gone, mut retired, mut matches) = (0, 0, 0);
        for item in &answer.found {
            let publisher = self.catalogue.item(*item).publisher;
            if publisher == from {
                continue;
            }
            matches += 1;
            let withdrawn = self.publishers.get(&publisher).is_some_and(|known| known.retired);
            retired += u64::from(withdrawn);
            gone += u64::from(!withdrawn && !self.net.host(publisher).up);
        }
        let builder = &mut self.phases[phase];
        builder.queries.add(answer.cost, recall.found == recall.wanted);
        builder.done.recall.add(recall.found, recall.wanted);
        builder.done.recall_at_5.add(best.found, best.wanted);
        let shown = builder.shown();
        shown.matches += matches;
        shown.gone += gone;
        shown.retired += retired;
        self.series.query(now, answer.cost, recall.found == recall.wanted, recall, best);
        for _ in 0..gone + retired {
            self.series.gone_shown(now);
        }
    }
}
