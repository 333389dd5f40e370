//! What this agent serves to private groups: a record for their members, and veiled entries by which they find it.

use std::sync::Arc;

use comity_capability::keys::private_labels;
use comity_capability::record::{Digest, Record, RecordError, Tombstone};
use comity_core::{Hash, Identity, Time};
use comity_overlay::directory::pack;
use comity_overlay::{ItemKey, ItemKind, PUBLISH_ITEMS_MAX, Publication};
use tracing::{debug, warn};

use super::{BEAT_LIFE, PublishError, Published, Publisher, RECORD_LIFE};
use crate::groups::PrivateGroup;

impl Publisher {
    /// Signs what is served to `group` anew and publishes it. With `withdraw`, custodians first drop what was published to it before.
    pub(crate) async fn publish_group(
        &self,
        group: &Arc<PrivateGroup>,
        withdraw: bool,
    ) -> Result<Published, PublishError> {
        let _turn = self.turn.lock().await;
        if withdraw {
            self.retire_group_now(group).await?;
        }
        let pseudonym = self.pseudonym(group).await;
        let seq = self.next_seq().await?;
        let now = self.clock.now();
        let (sealed, items) =
            self.sign_group(group, &pseudonym, seq, now).map_err(PublishError::Record)?;
        // Members may ask for the record as soon as an entry names it.
        group.tell(|told| {
            told.listed = !items.is_empty();
            told.sealed = Some(Arc::clone(&sealed));
        });
        let mut published = Published {
            record: Some(Hash::of(&sealed)),
            issued: Some(now),
            expires: Some(now + RECORD_LIFE),
            items: Vec::new(),
        };
        for items in items.chunks(PUBLISH_ITEMS_MAX) {
            let report = self.directory.publish(items.to_vec()).await;
            published.items.extend(report.map_err(PublishError::Directory)?.items);
        }
        group.tell(|told| told.published = published.clone());
        Ok(published)
    }

    /// The same for every group that anything is served to; what fails is reported.
    pub(crate) async fn publish_groups(&self) {
        for group in self.groups.all() {
            if self.registry.of_group(group.name()).is_empty() {
                continue;
            }
            if let Err(error) = self.publish_group(&group, false).await {
                let error = crate::describe(&error);
                warn!(group = group.name(), %error, "what is served to a private group was not published");
            }
        }
    }

    /// Publishes again to the groups whose entries near their end.
    pub(super) async fn renew_groups(&self, keys: &[ItemKey]) {
        for group in self.groups.all() {
            let due = |key: &ItemKey| {
                key.kind == ItemKind::Veiled && Some(key.signer) == group.known_pseudonym()
            };
            if !keys.iter().any(due) || self.registry.of_group(group.name()).is_empty() {
                continue;
            }
            debug!(group = group.name(), "renewing what is served to a private group");
            if let Err(error) = self.publish_group(&group, false).await {
                let error = crate::describe(&error);
                warn!(group = group.name(), %error, "what is served to a private group was not renewed");
            }
        }
    }

    /// Tells custodians to drop what was published to `group`.
    pub(super) async fn retire_group_now(
        &self,
        group: &Arc<PrivateGroup>,
    ) -> Result<(), PublishError> {
        if !group.told().listed {
            return Ok(());
        }
        let pseudonym = self.pseudonym(group).await;
        let seq = self.next_seq().await?;
        let now = self.clock.now();
        let tombstone =
            Tombstone::new(seq, now, now + RECORD_LIFE, None).map_err(PublishError::Record)?;
        let item = pack(ItemKind::Tombstone, &tombstone.seal(&pseudonym));
        let tombstones = vec![Publication::unlabelled(item)];
        self.directory.retire(tombstones).await.map_err(PublishError::Directory)?;
        group.tell(|told| told.listed = false);
        Ok(())
    }

    /// The agent's pseudonym in `group`, minted on the blocking pool at first use.
    async fn pseudonym(&self, group: &Arc<PrivateGroup>) -> Arc<Identity> {
        let (group, identity, bits) =
            (Arc::clone(group), Arc::clone(&self.identity), self.mint_bits);
        let at_hand = (Arc::clone(&group), Arc::clone(&identity));
        let minted = tokio::task::spawn_blocking(move || group.pseudonym(&identity, bits)).await;
        // The pool refuses work only while the runtime ends; then it may be made here.
        minted.unwrap_or_else(|_| at_hand.0.pseudonym(&at_hand.1, bits))
    }

    /// The record of what is served to `group`, and a veiled entry for each of its capabilities under each of its labels.
    fn sign_group(
        &self,
        group: &PrivateGroup,
        pseudonym: &Identity,
        seq: u64,
        now: Time,
    ) -> Result<(Arc<[u8]>, Vec<Publication>), RecordError> {
        let mut record = Record::new(seq, now, now + RECORD_LIFE, self.next);
        record.endpoints = self.read().addrs.clone();
        let served = self.registry.of_group(group.name());
        record.capabilities = served.iter().map(|served| served.capability.clone()).collect();
        let sealed = record.seal(&self.identity)?;
        let hash = Hash::of(&sealed);
        let secret = group.secret();
        let mut items = Vec::new();
        for (ordinal, capability) in (0_u16..).zip(&record.capabilities) {
            let digest = Digest::summarise_for_members(&record, ordinal, hash)?;
            for label in private_labels(capability) {
                let entry = secret.veil(
                    &digest,
                    &self.identity,
                    pseudonym,
                    &label,
                    seq,
                    now,
                    now + BEAT_LIFE,
                )?;
                let item = pack(ItemKind::Veiled, &entry);
                items.push(Publication { item, labels: vec![secret.shard_label(&label)] });
            }
        }
        Ok((sealed.into(), items))
    }
}
