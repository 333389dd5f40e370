//! Traces that this agent committed to: kept here with their secrets, disclosed step by step by a private capability, so that grants, the policy,
//! receipts and the audit log apply to a disclosure as to any call.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use comity_api::types::{
    ErrorCode, ErrorInfo, TraceCommitRequest, TraceDiscloseRequest, TraceDisclosure, TraceView,
    Traces,
};
use comity_capability::record::{Capability, Visibility};
use comity_core::canonical::{self, Version};
use comity_core::{Hash, Time};
use comity_specialist::function::Function;
use comity_specialist::{Answer, SpecialistError};
use comity_trust::Pattern;
use comity_trust::evidence::{MAX_STEP_BYTES, MAX_STEPS, Trace};
use comity_trust::log::{Event, short_text};
use data_encoding::BASE64;
use minicbor::bytes::ByteVec;
use rand::RngExt as _;
use zeroize::Zeroizing;

use super::shelf::{Item, Source};
use crate::access::AccessError;
use crate::node::Node;
use crate::registry::Served;
use crate::storage::{Change, Storage, StorageError, Table};

/// The private capability that discloses.
pub(crate) const CAPABILITY: &str = "attest.trace";
/// Traces that are kept.
const KEPT_MAX: usize = 4096;
/// Steps that one answer discloses: each brings its way to the root along.
const DISCLOSED_MAX: usize = 64;
/// Bytes of steps in one answer.
const DISCLOSED_BYTES_MAX: usize = 4 << 20;

/// What is known of a trace without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Head {
    #[n(0)]
    version: Version<1>,
    #[n(1)]
    steps: u32,
    #[n(2)]
    at_ms: u64,
}

comity_core::impl_canonical!(Head);

/// The trace, as it is stored: its secret, then its steps.
#[derive(minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct Body {
    #[cbor(n(0), with = "minicbor::bytes")]
    secret: [u8; 32],
    #[n(1)]
    steps: Vec<ByteVec>,
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct TraceBook {
    storage: Storage,
    heads: Arc<RwLock<BTreeMap<Hash, Head>>>,
}

fn damaged() -> AccessError {
    AccessError::Damaged { what: "its traces" }
}

impl TraceBook {
    pub(crate) fn open(storage: &Storage) -> Result<Self, AccessError> {
        let mut heads = BTreeMap::new();
        for (key, row) in storage.read_all(Table::Traces, KEPT_MAX)? {
            let root = <[u8; 32]>::try_from(key).map_err(|_| damaged())?;
            let head = canonical::decode_minicbor(&row).map_err(|_| damaged())?;
            heads.insert(Hash(root), head);
        }
        Ok(Self { storage: storage.clone(), heads: Arc::new(RwLock::new(heads)) })
    }

    fn all(&self) -> Vec<(Hash, Head)> {
        let heads = self.heads.read().unwrap_or_else(PoisonError::into_inner);
        heads.iter().map(|(root, head)| (*root, *head)).collect()
    }

    /// Keeps a trace under its root, on disk before it returns; false if there is no room.
    async fn keep(
        &self,
        secret: &Zeroizing<[u8; 32]>,
        steps: Vec<Vec<u8>>,
        root: Hash,
        at: Time,
    ) -> Result<bool, StorageError> {
        let count = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        let head = Head { version: Version, steps: count, at_ms: at.as_millis() };
        if self.all().len() >= KEPT_MAX {
            return Ok(false);
        }
        let steps = steps.into_iter().map(ByteVec::from).collect();
        let body = Zeroizing::new(canonical::encode_minicbor(&Body { secret: **secret, steps }));
        let key = root.as_bytes().to_vec();
        let put = |table, value| Change::Put { table, key: key.clone(), value };
        let rows = vec![
            put(Table::TraceSteps, body.to_vec()),
            put(Table::Traces, canonical::encode_minicbor(&head)),
        ];
        self.storage.commit(rows).await?;
        self.heads.write().unwrap_or_else(PoisonError::into_inner).insert(root, head);
        Ok(true)
    }

    /// Steps of a trace, with what proves them.
    fn disclose(&self, root: &str, steps: &[u32]) -> Result<TraceDisclosure, String> {
        let root: Hash =
            root.trim().parse().map_err(|_| format!("`{root}` is no root of a trace"))?;
        if steps.is_empty() || steps.len() > DISCLOSED_MAX {
            return Err(format!(
                "{} steps, and 1 to {DISCLOSED_MAX} are disclosed at a time",
                steps.len()
            ));
        }
        let read = self.storage.read(Table::TraceSteps, root.as_bytes());
        let row = read.ok().flatten().ok_or_else(|| format!("there is no trace {root}"))?;
        let body: Body = minicbor::decode(&row).map_err(|_| "the trace is damaged".to_owned())?;
        let trace = Trace::new(body.secret, body.steps.into_iter().map(Vec::from).collect())
            .map_err(|error| error.to_string())?;
        let (mut disclosures, mut length) = (Vec::new(), 0);
        for step in steps {
            let disclosed = trace.disclose(*step).map_err(|error| error.to_string())?;
            length += disclosed.step.len();
            if length > DISCLOSED_BYTES_MAX {
                return Err(format!(
                    "these steps have more than {DISCLOSED_BYTES_MAX} bytes: ask for fewer"
                ));
            }
            disclosures.push(BASE64.encode(&disclosed.to_bytes()));
        }
        Ok(TraceDisclosure { root: root.to_string(), disclosures })
    }
}

fn bad(text: String) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::BadRequest, text)
}

impl Node {
    pub(crate) fn traces_view(&self) -> Traces {
        let mut all = self.inner.attest.traces.all();
        all.sort_by_key(|(root, head)| (std::cmp::Reverse(head.at_ms), *root));
        let view = |(root, head): (Hash, Head)| TraceView {
            root: root.to_string(),
            steps: head.steps,
            at_ms: head.at_ms,
        };
        Traces { traces: all.into_iter().map(view).collect(), capability: CAPABILITY.to_owned() }
    }

    /// Commits to a trace: it is stored, its root is in the audit log, and shown as evidence for a capability if one is named.
    pub(crate) async fn commit_trace(
        &self,
        request: TraceCommitRequest,
    ) -> Result<TraceView, ErrorInfo> {
        let capability: Option<Pattern> = request
            .capability
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error| bad(format!("{error}")))?;
        if request.steps.len() > MAX_STEPS {
            return Err(bad(format!("a trace has at most {MAX_STEPS} steps: join some")));
        }
        let decode = |step: &String| {
            let short = step.len() <= MAX_STEP_BYTES.div_ceil(3) * 4;
            let bytes = short.then(|| BASE64.decode(step.as_bytes()).ok()).flatten();
            bytes.ok_or_else(|| bad("a step is not base64, or too long".to_owned()))
        };
        let steps: Vec<Vec<u8>> = request.steps.iter().map(decode).collect::<Result<_, _>>()?;
        let secret = Zeroizing::new(rand::rng().random::<[u8; 32]>());
        let trace = Trace::new(*secret, steps.clone()).map_err(|error| bad(error.to_string()))?;
        let (root, count, now) = (trace.root(), trace.count(), self.inner.clock.now());
        let attest = &self.inner.attest;
        let stored = attest.traces.keep(&secret, steps, root, now).await;
        let stored =
            stored.map_err(|error| ErrorInfo::new(ErrorCode::Storage, crate::describe(&error)))?;
        if !stored {
            let text = format!("this node keeps {KEPT_MAX} traces, as many as it can");
            return Err(ErrorInfo::new(ErrorCode::TooLarge, text));
        }
        let (statement, kind) = (root, short_text("trace"));
        let subject = self.id().into();
        self.inner.audit.record(Event::Signed { statement, kind, subject }).await;
        if let Some(capability) = capability {
            let source = Source::Blob(trace.commitment().into());
            let item = Item::new("trace".to_owned(), capability, source, now)?;
            attest.shelf.keep(item).await?;
        }
        self.serve_traces();
        Ok(TraceView { root: root.to_string(), steps: count, at_ms: now.as_millis() })
    }

    pub(crate) fn disclose_trace(
        &self,
        request: &TraceDiscloseRequest,
    ) -> Result<TraceDisclosure, ErrorInfo> {
        self.inner.attest.traces.disclose(&request.root, &request.steps).map_err(bad)
    }

    /// Serves the capability that discloses, if there is anything to disclose. It is private: only a grant or a rule lets somebody call it.
    pub(crate) fn serve_traces(&self) {
        let registry = &self.inner.registry;
        if self.inner.attest.traces.all().is_empty() || registry.get(CAPABILITY).is_some() {
            return;
        }
        let Ok(mut capability) = Capability::new(CAPABILITY) else { return };
        capability.title = "Discloses steps of committed traces".to_owned();
        capability.text = "Input: {\"root\": \"b3:…\", \"steps\": [0, 1]}".to_owned();
        capability.visibility = Visibility::Private;
        capability.idempotent = true;
        let book = self.inner.attest.traces.clone();
        let disclose = Function::new(move |call| {
            let book = book.clone();
            async move {
                let request: TraceDiscloseRequest = serde_json::from_value(call.request)
                    .map_err(|error| invalid(error.to_string()))?;
                let disclosed = book.disclose(&request.root, &request.steps).map_err(invalid)?;
                let value = serde_json::to_value(disclosed);
                value.map(Answer::One).map_err(|error| invalid(error.to_string()))
            }
        });
        if let Ok(served) = Served::new(capability, Arc::new(disclose), "traces".to_owned(), None) {
            registry.insert(served);
        }
    }
}

fn invalid(problem: String) -> SpecialistError {
    SpecialistError::InvalidRequest { problems: vec![problem] }
}
