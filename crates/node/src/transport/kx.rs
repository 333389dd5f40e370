//! The key exchange of a link: X25519, or X25519MLKEM768 with peers that can do it too.
//!
//! X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem) runs ML-KEM-768 (FIPS 203) beside X25519, and the secrets of the link hang on both: whoever records
//! packets today and owns a quantum computer one day reads nothing, and should ML-KEM or its implementation turn out to be weak, X25519 is still
//! there. The provider of rustls that this transport uses has no ML-KEM; a key exchange is a hundred lines, so it is put in front of the provider's
//! own, and no second library of cryptography comes along.
//!
//! The client sends both shares in its first flight, so a peer without the hybrid costs no round trip. Signatures are not affected: who the peer
//! is is proved by Ed25519.

use ml_kem::kem::{Ciphertext, Decapsulate as _, Encapsulate as _, Generate as _, KeyExport as _};
use ml_kem::{DecapsulationKey, EncapsulationKey, MlKem768};
use rustls::crypto::ring::{self, kx_group::X25519};
use rustls::crypto::{
    ActiveKeyExchange, CompletedKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup,
};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved, ProtocolVersion};

/// Bytes of an encapsulation key of ML-KEM-768 (FIPS 203, table 3): the client's share, less that of X25519 behind it.
const ENCAPSULATION_KEY_LEN: usize = 1184;
/// Bytes of a ciphertext (ibid.): the server's share, less that of X25519 behind it.
const CIPHERTEXT_LEN: usize = 1088;
/// Bytes of a share of X25519 (RFC 7748).
const X25519_LEN: usize = 32;

/// Which key exchanges a transport offers and takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyExchange {
    /// X25519MLKEM768 first, X25519 with peers that have nothing else. The first flight of a handshake is two packets then, and noq 1.4 does not hear a
    /// peer that refuses the protocol in answer to two: such a dial ends with its time-out.
    Hybrid,
    /// X25519 alone: smaller handshakes, which whoever records them may read once there are quantum computers.
    #[default]
    Classical,
}

/// What TLS is done with.
pub(super) fn provider(key_exchange: KeyExchange) -> CryptoProvider {
    let kx_groups: Vec<&'static dyn SupportedKxGroup> = match key_exchange {
        KeyExchange::Hybrid => vec![&Hybrid, X25519],
        KeyExchange::Classical => vec![X25519],
    };
    CryptoProvider { kx_groups, ..ring::default_provider() }
}

/// What a peer sent is no share.
const INVALID: Error = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);

/// The two parts of a share of which the first is so long.
fn split(share: &[u8], lattice_len: usize) -> Result<(&[u8], &[u8]), Error> {
    let parts = share.split_at_checked(lattice_len);
    parts.filter(|(_, classical)| classical.len() == X25519_LEN).ok_or(INVALID)
}

/// The secrets one behind the other, that of ML-KEM first (draft-ietf-tls-ecdhe-mlkem, section 3.3). Wiped when dropped.
fn both(lattice: &[u8], classical: &SharedSecret) -> SharedSecret {
    SharedSecret::from([lattice, classical.secret_bytes()].concat())
}

#[derive(Debug)]
struct Hybrid;

impl SupportedKxGroup for Hybrid {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let classical = X25519.start()?;
        let lattice = DecapsulationKey::<MlKem768>::generate_from_rng(&mut rand::rng());
        let share =
            [lattice.encapsulation_key().to_bytes().as_slice(), classical.pub_key()].concat();
        Ok(Box::new(Started { classical, lattice, share }))
    }

    fn start_and_complete(&self, peers: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let (key, classical) = split(peers, ENCAPSULATION_KEY_LEN)?;
        let key = key.try_into().map_err(|_| INVALID)?;
        // Checks that every coefficient is below the modulus (FIPS 203, section 7.2).
        let key = EncapsulationKey::<MlKem768>::new(key).map_err(|_| INVALID)?;
        let classical = X25519.start_and_complete(classical)?;
        let (ciphertext, secret) = key.encapsulate_with_rng(&mut rand::rng());
        Ok(CompletedKeyExchange {
            group: NamedGroup::X25519MLKEM768,
            pub_key: [ciphertext.as_slice(), &classical.pub_key].concat(),
            secret: both(&secret, &classical.secret),
        })
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

struct Started {
    classical: Box<dyn ActiveKeyExchange>,
    lattice: DecapsulationKey<MlKem768>,
    share: Vec<u8>,
}

impl ActiveKeyExchange for Started {
    fn complete(self: Box<Self>, peers: &[u8]) -> Result<SharedSecret, Error> {
        let (ciphertext, classical) = split(peers, CIPHERTEXT_LEN)?;
        let ciphertext: &Ciphertext<MlKem768> = ciphertext.try_into().map_err(|_| INVALID)?;
        let classical = self.classical.complete(classical)?;
        Ok(both(&self.lattice.decapsulate(ciphertext), &classical))
    }

    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        Some((self.classical.group(), self.classical.pub_key()))
    }

    fn complete_hybrid_component(self: Box<Self>, peers: &[u8]) -> Result<SharedSecret, Error> {
        self.classical.complete(peers)
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519MLKEM768
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use comity_core::Identity;
    use noq_proto::crypto::rustls::HandshakeData;

    use super::super::{Limits, Protocol, TransportConfig, endpoint};
    use super::*;
    use crate::audit::Audit;

    async fn bound(secret: u8, key_exchange: KeyExchange) -> iroh::Endpoint {
        let config = TransportConfig {
            identity: Arc::new(Identity::from_secret_bytes(&[secret; 32])),
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            limits: Limits::default(),
            key_exchange,
            audit: Audit::default(),
        };
        endpoint::bind(&config).await.unwrap()
    }

    fn group(link: &iroh::endpoint::Connection) -> Option<NamedGroup> {
        let data = link.handshake_data()?.downcast::<HandshakeData>().ok()?;
        data.negotiated_key_exchange_group
    }

    #[tokio::test]
    async fn links_are_hybrid_where_both_ends_can() {
        use KeyExchange::{Classical, Hybrid};
        for (caller, callee, wanted) in [
            (Hybrid, Hybrid, NamedGroup::X25519MLKEM768),
            (Hybrid, Classical, NamedGroup::X25519),
            (Classical, Hybrid, NamedGroup::X25519),
            (Classical, Classical, NamedGroup::X25519),
        ] {
            let (from, to) = (bound(1, caller).await, bound(2, callee).await);
            let there = iroh::EndpointAddr::new(to.id()).with_ip_addr(to.bound_sockets()[0]);
            let (made, taken) = tokio::join!(from.connect(there, Protocol::Rpc.alpn()), async {
                to.accept().await.unwrap().await
            });
            let (made, taken) = (made.unwrap(), taken.unwrap());
            assert_eq!((group(&made), group(&taken)), (Some(wanted), Some(wanted)));
        }
    }

    #[test]
    fn both_ends_have_the_secret_of_both_exchanges() {
        let started = Hybrid.start().unwrap();
        assert_eq!(started.pub_key().len(), ENCAPSULATION_KEY_LEN + X25519_LEN);
        let (name, share) = started.hybrid_component().unwrap();
        assert_eq!((name, share.len()), (NamedGroup::X25519, X25519_LEN));
        assert!(started.pub_key().ends_with(share));
        let theirs = Hybrid.start_and_complete(started.pub_key()).unwrap();
        assert_eq!(theirs.pub_key.len(), CIPHERTEXT_LEN + X25519_LEN);
        let ours = started.complete(&theirs.pub_key).unwrap();
        assert_eq!(ours.secret_bytes(), theirs.secret.secret_bytes());
        assert_eq!(ours.secret_bytes().len(), 64);
    }

    /// Whichever half somebody on the way changes, the ends do not share a secret.
    #[test]
    fn a_share_that_was_changed_gives_another_secret_or_none() {
        for at in [0, CIPHERTEXT_LEN - 1, CIPHERTEXT_LEN, CIPHERTEXT_LEN + 20] {
            let started = Hybrid.start().unwrap();
            let mut theirs = Hybrid.start_and_complete(started.pub_key()).unwrap();
            theirs.pub_key[at] ^= 1;
            let ours = started.complete(&theirs.pub_key);
            assert!(ours.is_ok_and(|ours| ours.secret_bytes() != theirs.secret.secret_bytes()));
        }
    }

    #[test]
    fn what_is_no_share_is_refused() {
        let share = Hybrid.start().unwrap().pub_key().to_vec();
        let mut above_the_modulus = share.clone();
        above_the_modulus[..3].fill(0xff);
        let mut zero_point = share.clone();
        zero_point[ENCAPSULATION_KEY_LEN..].fill(0);
        let longer = [&share[..], &[0]].concat();
        for wrong in [
            &[][..],
            &share[1..],
            &share[..share.len() - 1],
            &longer,
            &above_the_modulus,
            &zero_point,
        ] {
            assert!(Hybrid.start_and_complete(wrong).is_err());
        }
        let answer = Hybrid.start_and_complete(&share).unwrap().pub_key;
        let mut zero_point = answer.clone();
        zero_point[CIPHERTEXT_LEN..].fill(0);
        for wrong in [&[][..], &answer[1..], &share, &zero_point] {
            assert!(Hybrid.start().unwrap().complete(wrong).is_err());
        }
    }
}
