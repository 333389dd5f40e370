//! Published quotes of confidential hardware.

#[cfg(feature = "sev-snp")]
mod snp {
    use comity_attest::{SnpReports, pack};
    use comity_core::Time;
    use comity_trust::evidence::{AppraisalError, EvidenceError};

    use crate::support::{believing, present, vector};

    /// While the sample's certificate was valid: 2024-01-01.
    const THEN: Time = Time::from_secs(1_704_067_200);

    fn snp_evidence(report: &[u8], certificate: &[u8]) -> Vec<u8> {
        pack("sev-snp", report, certificate).unwrap()
    }

    fn report() -> Vec<u8> {
        data_encoding::HEXLOWER_PERMISSIVE.decode(vector("report_milan.hex").trim_ascii()).unwrap()
    }

    #[test]
    fn a_published_report_holds() {
        let blob = snp_evidence(&report(), &vector("vcek_milan.der"));
        let quote = SnpReports::default().verify(&blob, THEN).unwrap();
        assert_eq!(quote.measurement.len(), 48);
        assert!(quote.platform.starts_with("AMD SEV-SNP at VMPL"), "{}", quote.platform);
    }

    /// T28: genuine, and made for something else.
    #[test]
    fn a_report_with_other_report_data_shows_nothing() {
        let blob = snp_evidence(&report(), &vector("vcek_milan.der"));
        let believed = believing("[evidence.sev-snp]\n").unwrap();
        let refused = present(&believed, "sev-snp", &blob, THEN).unwrap_err();
        assert!(matches!(
            refused,
            EvidenceError::Refused { source: AppraisalError::Binding { .. }, .. }
        ));
    }

    #[test]
    fn every_bit_of_a_report_matters() {
        let (good, key, reports) = (report(), vector("vcek_milan.der"), SnpReports::default());
        // The signed part, its fields and what is reserved; then the signature, r and s.
        for at in (0..0x2a0).step_by(61).chain([0x2a0, 0x2a0 + 72]) {
            let mut altered = good.clone();
            altered[at] ^= 1;
            assert!(reports.verify(&snp_evidence(&altered, &key), THEN).is_err(), "byte {at}");
        }
        for at in (0..key.len()).step_by(211) {
            let mut altered = key.clone();
            altered[at] ^= 1;
            assert!(reports.verify(&snp_evidence(&good, &altered), THEN).is_err(), "byte {at}");
        }
        let late = Time::from_secs(4_000_000_000);
        let refused = reports.verify(&snp_evidence(&good, &key), late).unwrap_err();
        assert!(refused.to_string().contains("not valid now"), "{refused}");
        for blob in [vec![], vec![0xa0], snp_evidence(&good[1..], &key), snp_evidence(&good, &[])] {
            assert!(reports.verify(&blob, THEN).is_err());
        }
    }

    #[test]
    fn a_chain_given_by_file_is_checked_itself() {
        let mut reports = SnpReports::default();
        for pem in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(reports.add_chain("chain.pem", pem).is_err());
        }
    }
}

#[cfg(feature = "tdx")]
mod tdx {
    use comity_attest::{TdxQuotes, pack};
    use comity_core::Time;
    use comity_trust::evidence::{AppraisalError, EvidenceError};

    use crate::support::{believing, present, vector};

    /// While the sample's collateral was current: 2025-07-01.
    const THEN: Time = Time::from_secs(1_751_328_000);

    fn tdx_evidence(quote: &[u8], collateral: &str) -> Vec<u8> {
        pack("tdx", quote, collateral.as_bytes()).unwrap()
    }

    fn blob() -> Vec<u8> {
        let collateral = String::from_utf8(vector("tdx_quote_collateral.json")).unwrap();
        tdx_evidence(&vector("tdx_quote"), &collateral)
    }

    #[test]
    fn a_published_quote_holds_while_its_collateral_is_current() {
        let quotes = TdxQuotes::new(Default::default());
        let quote = quotes.verify(&blob(), THEN).unwrap();
        assert_eq!((quote.measurement.len(), quote.platform.as_str()), (48, "Intel TDX, UpToDate"));
        let year = std::time::Duration::from_secs(365 * 24 * 3600);
        assert!(quotes.verify(&blob(), THEN + year).is_err(), "its collateral is out of date");
        let other = TdxQuotes::with_root(Default::default(), vector("vcek_milan.der"));
        assert!(other.verify(&blob(), THEN).is_err(), "by another root");
    }

    /// T28: genuine, and made for something else.
    #[test]
    fn a_quote_with_other_report_data_shows_nothing() {
        let believed = believing("[evidence.tdx]\n").unwrap();
        let refused = present(&believed, "tdx", &blob(), THEN).unwrap_err();
        assert!(matches!(
            refused,
            EvidenceError::Refused { source: AppraisalError::Binding { .. }, .. }
        ));
    }

    #[test]
    fn every_part_of_a_quote_matters() {
        let quotes = TdxQuotes::new(Default::default());
        let (good, collateral) = (vector("tdx_quote"), vector("tdx_quote_collateral.json"));
        let collateral = String::from_utf8(collateral).unwrap();
        // Header and report; what follows is lengths and padding in part.
        for at in (0..632).step_by(53) {
            let mut altered = good.clone();
            altered[at] ^= 1;
            assert!(
                quotes.verify(&tdx_evidence(&altered, &collateral), THEN).is_err(),
                "byte {at}"
            );
        }
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for (quote, collateral) in [
            (&good[..100], collateral.as_str()),
            (&[][..], collateral.as_str()),
            (&good, "{}"),
            (&good, deep.as_str()),
            (&good, &collateral.replace("UpToDate", "Upgraded")),
            (&vec![4; 20_000], collateral.as_str()),
        ] {
            assert!(quotes.verify(&tdx_evidence(quote, collateral), THEN).is_err());
        }
    }
}

#[cfg(not(all(feature = "sev-snp", feature = "tdx")))]
#[test]
fn what_is_not_built_in_is_named() {
    #[cfg(not(feature = "tdx"))]
    let kind = "tdx";
    #[cfg(feature = "tdx")]
    let kind = "sev-snp";
    let refused = crate::support::believing(&format!("[evidence.{kind}]\n")).unwrap_err();
    assert!(refused.to_string().contains(&format!("build it with feature `{kind}`")), "{refused}");
}
