//! Currency pairs.

/// Active ISO 4217 codes (2024), and a few that only appear in pairs. Used to split six letters; a pair with a
/// separator needs no code of this list.
const CODES: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN \
    BZD CAD CDF CHF CLF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF \
    GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD \
    LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR \
    PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY \
    TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XAG XAU XCD XDR XOF XPD XPF XPT YER ZAR ZMW ZWG BTC ETH CNH";

fn is_code(code: &str) -> bool {
    code.len() == 3 && CODES.split_ascii_whitespace().any(|known| known == code)
}

/// `AAA/BBB` for anything that reads as a pair; any other word in upper case.
pub(super) fn normalise(word: &str) -> String {
    let upper = word.to_uppercase();
    let parts: Vec<&str> =
        upper.split(['/', '-', '_', ' ', ':', '.']).filter(|part| !part.is_empty()).collect();
    let letters = |part: &str| part.len() == 3 && part.bytes().all(|b| b.is_ascii_uppercase());
    match parts.as_slice() {
        [base, quote] if letters(base) && letters(quote) => format!("{base}/{quote}"),
        [both] if both.len() == 6 && both.is_ascii() => {
            let (base, quote) = both.split_at(3);
            if letters(base) && letters(quote) && (is_code(base) || is_code(quote)) {
                format!("{base}/{quote}")
            } else {
                upper
            }
        }
        _ => upper,
    }
}
