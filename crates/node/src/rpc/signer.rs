//! Signing receipts on a thread of its own, as many at once as are waiting.
//!
//! An Ed25519 signature takes longer than everything else about a small call. Under load the receipts that gather while one batch is
//! being signed, or in the pause after it, become the next batch. That shares the cost of a signature among them, and above all the cost of
//! checking it, which is dearer and falls to the callers. The pause grows with the batch before it, so a lone receipt is signed at once.
//!
//! A receipt that comes alone, a while after the last one, is signed where it comes from: waking another thread and being woken by it takes
//! longer than the signature.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use comity_core::receipt::{MAX_BATCH, Receipt, SignedReceipt, sign_batch};
use comity_core::{Canonical, Identity};
use tokio::sync::{mpsc, oneshot};

use super::Clock;
use crate::transport::locked;

/// Receipts waiting for the signer; whoever brings more waits.
const QUEUE_MAX: usize = 4 * MAX_BATCH;

/// The next signature waits this long for each receipt of the last one. A single small call takes longer from end to end, so whoever calls
/// one after the other never waits; from ten thousand receipts a second on, batches grow.
const PAUSE_PER_RECEIPT: Duration = Duration::from_micros(100);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_micros(500);

/// So long after the last receipt one counts as alone.
const ALONE: Duration = Duration::from_micros(300);

/// A handle to the signing thread, which ends with the last handle.
#[derive(Clone, Debug)]
pub(super) struct Signer {
    jobs: mpsc::Sender<Job>,
    here: Arc<Here>,
}

/// What signs a receipt that comes alone.
#[derive(Debug)]
struct Here {
    identity: Arc<Identity>,
    clock: Clock,
    /// When the last receipt came.
    last: Mutex<Option<Instant>>,
}

impl Here {
    /// Whether the receipt that comes now is alone.
    fn is_alone(&self) -> bool {
        let now = Instant::now();
        let last = locked(&self.last).replace(now);
        last.is_none_or(|last| now.saturating_duration_since(last) >= ALONE)
    }
}

/// A signed receipt, and its canonical bytes.
type Signed = (SignedReceipt, Bytes);

#[derive(Debug)]
struct Job {
    receipt: Receipt,
    signed: oneshot::Sender<Signed>,
}

impl Signer {
    pub(super) fn spawn(identity: Arc<Identity>, clock: Clock) -> std::io::Result<Self> {
        let (sender, jobs) = mpsc::channel(QUEUE_MAX);
        let here =
            Here { identity: Arc::clone(&identity), clock: clock.clone(), last: Mutex::default() };
        std::thread::Builder::new()
            .name("comity-sign".to_owned())
            .spawn(move || work(&identity, &clock, jobs))?;
        Ok(Self { jobs: sender, here: Arc::new(here) })
    }

    /// The signed receipt and its canonical bytes; none if the thread has died.
    pub(super) async fn sign(&self, receipt: Receipt) -> Option<Signed> {
        if self.here.is_alone() && self.jobs.capacity() == QUEUE_MAX {
            let signed = sign_batch(&self.here.identity, self.here.clock.now(), vec![receipt]);
            return signed.ok()?.pop().map(with_bytes);
        }
        let (signed, answer) = oneshot::channel();
        self.jobs.send(Job { receipt, signed }).await.ok()?;
        answer.await.ok()
    }
}

fn work(identity: &Identity, clock: &Clock, mut jobs: mpsc::Receiver<Job>) {
    let mut waiting = Vec::new();
    let mut not_before = Instant::now();
    while jobs.blocking_recv_many(&mut waiting, MAX_BATCH) > 0 {
        let pause = not_before.saturating_duration_since(Instant::now());
        if !pause.is_zero() {
            std::thread::sleep(pause);
            while waiting.len() < MAX_BATCH
                && let Ok(job) = jobs.try_recv()
            {
                waiting.push(job);
            }
        }
        let batch = u32::try_from(waiting.len()).unwrap_or(u32::MAX);
        not_before = Instant::now() + PAUSE_PER_RECEIPT.saturating_mul(batch).min(PAUSE_MAX);
        let (receipts, answers): (Vec<_>, Vec<_>) =
            waiting.drain(..).map(|job| (job.receipt, job.signed)).unzip();
        // Fails only for a receipt of another callee, which this crate never makes; its callers then learn that signing failed.
        let Ok(signed) = sign_batch(identity, clock.now(), receipts) else { continue };
        for (receipt, answer) in signed.into_iter().zip(answers) {
            // A caller that has gone needs no receipt.
            let _ = answer.send(with_bytes(receipt));
        }
    }
}

fn with_bytes(signed: SignedReceipt) -> Signed {
    let bytes = Canonical::encode(&signed).into();
    (signed, bytes)
}
