//! The real tables of the repository, with answers looked up by hand.

use comity_specialist::manifest::{self, Level, Manifest, Served};
use serde_json::{Value, json};

use crate::common::{data, one, parts};

fn serve(name: &str) -> (Served, tempfile::TempDir) {
    let cache = tempfile::tempdir().unwrap();
    let manifest = Manifest::load(&data(name)).unwrap();
    assert_eq!(
        manifest::check(&manifest),
        vec![],
        "the repository's own manifests have no findings"
    );
    (manifest::open(&manifest, cache.path()).unwrap(), cache)
}

async fn rows(served: &Served, request: Value) -> Value {
    one(&served.specialist, request).await.unwrap()["rows"].clone()
}

fn attribute(served: &Served, key: &str) -> Value {
    served.declaration.capability.attributes.get(key).map_or(Value::Null, |value| value.to_json())
}

#[tokio::test]
async fn the_ecb_table_answers_exactly() {
    let (ecb, _cache) = serve("ecb-reference-rates.toml");
    let request =
        json!({ "where": { "date": "2022-03-01" }, "columns": ["date", "USD", "JPY", "INR"] });
    let answer = one(&ecb.specialist, request).await.unwrap();
    assert_eq!(
        answer,
        json!({ "columns": ["date", "USD", "JPY", "INR"], "rows": [["2022-03-01", 1.1162, 128.15, 84.5015]],
                "truncated": false, "total": 1 })
    );
    // 143, written without a fraction, stays 143.
    assert_eq!(
        rows(&ecb, json!({ "where": { "date": "2015-01-05" }, "columns": ["JPY"] }))
            .await
            .to_string(),
        "[[143]]"
    );
    let lowest = json!({ "order": "USD", "limit": 1, "columns": ["USD"] });
    assert_eq!(rows(&ecb, lowest).await, json!([[0.9565]]));
    let years =
        json!({ "where": { "date": { "from": "2021", "to": "2024" } }, "limit": 0, "count": true });
    let counted = one(&ecb.specialist, years).await.unwrap();
    let text = std::fs::read_to_string(data("ecb-reference-rates.csv")).unwrap();
    let expected = text.lines().filter(|line| ("2021"..="2024").contains(&&line[..4])).count();
    assert_eq!(counted["total"], json!(expected));
    assert_eq!(counted["truncated"], json!(true));
}

#[tokio::test]
async fn the_ecb_declaration_is_derived() {
    let (ecb, _cache) = serve("ecb-reference-rates.toml");
    let summary = ecb.summary.as_ref().unwrap();
    assert_eq!(summary.rows, 3029);
    let time = summary.time.as_ref().unwrap();
    assert_eq!((time.from.as_str(), time.to.as_str()), ("2015-01-02", "2026-10-30"));
    assert_eq!(time.resolution.as_deref(), Some("P1D"), "business days are daily data");
    assert_eq!(attribute(&ecb, "data:rows"), json!(3029));
    assert_eq!(
        ecb.declaration.capability.attributes["schema:temporalCoverage"].interval(),
        Some("2015-01-02/2026-10-30".parse().unwrap())
    );
    assert_eq!(ecb.declaration.capability.attributes["dcat:temporalResolution"].to_string(), "P1D");
    assert!(attribute(&ecb, "fin:pair").as_array().unwrap().contains(&json!("EUR/USD")));
    assert!(attribute(&ecb, "data:fields").as_array().unwrap().contains(&json!("usd")));
    assert_eq!(ecb.declaration.capability.data_version, summary.data_version);
    let page = summary.to_string();
    assert!(page.contains("3029 rows") && page.contains("2015-01-02 to 2026-10-30, P1D"), "{page}");
}

#[tokio::test]
async fn the_airports_answer_exactly() {
    let (airports, _cache) = serve("airports.toml");
    let zurich = json!({ "where": { "iata": "ZRH" } });
    assert_eq!(
        rows(&airports, zurich).await,
        json!([[
            "LSZH",
            "ZRH",
            "Zurich Airport",
            "Zurich",
            "CH",
            1416,
            47.4647,
            8.54917,
            "Europe/Zurich"
        ]])
    );
    let text = std::fs::read_to_string(data("airports.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let all: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let swiss = all.iter().filter(|row| &row[4] == "CH").count();
    let answer = one(&airports.specialist, json!({ "where": { "country": "CH" } })).await.unwrap();
    assert_eq!(answer["total"], json!(swiss));
    let highest = all
        .iter()
        .max_by(|a, b| a[5].parse::<f64>().unwrap().total_cmp(&b[5].parse().unwrap()))
        .unwrap();
    assert_eq!(
        rows(&airports, json!({ "order": "-elevation", "limit": 1, "columns": ["icao"] })).await,
        json!([[&highest[0]]])
    );
    let no_city =
        one(&airports.specialist, json!({ "where": { "city": null }, "count": true, "limit": 1 }))
            .await
            .unwrap();
    assert_eq!(no_city["total"], json!(816));
    let summary = airports.summary.as_ref().unwrap();
    let bbox = summary.bbox.unwrap();
    let lats: Vec<f64> = all.iter().map(|row| row[6].parse().unwrap()).collect();
    assert_eq!(bbox.south, lats.iter().copied().fold(f64::INFINITY, f64::min));
    assert_eq!(bbox.north, lats.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    assert!(summary.column("icao").unwrap().unique && summary.time.is_none());
    assert!(airports.declaration.capability.attributes.contains_key("schema:spatialCoverage"));
}

#[tokio::test]
async fn every_airport_comes_back_as_it_is_in_the_file() {
    let (airports, _cache) = serve("airports.toml");
    let given = parts(&airports.specialist, json!({ "limit": 100_000 })).await.unwrap();
    assert!(given.len() > 7884 / 256, "a large answer is streamed");
    let given: Vec<Value> =
        given.iter().flat_map(|part| part["rows"].as_array().unwrap().clone()).collect();
    let text = std::fs::read_to_string(data("airports.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    for (row, given) in reader.records().map(Result::unwrap).zip(&given) {
        for (field, value) in row.iter().zip(given.as_array().unwrap()) {
            let same = match value {
                Value::Null => field.is_empty(),
                Value::Number(number) => number.to_string() == without_trailing_zeros(field),
                Value::String(text) => text == field,
                _ => false,
            };
            assert!(same, "{field} came back as {value}");
        }
    }
    assert_eq!(given.len(), 7884);
}

#[tokio::test]
async fn the_advisories_answer_exactly() {
    let (advisories, _cache) = serve("rustsec-advisories.toml");
    let actix = rows(&advisories, json!({ "where": { "id": "RUSTSEC-2020-0049" } })).await;
    assert_eq!(
        actix,
        json!([[
            "RUSTSEC-2020-0049",
            "actix-codec",
            "2020-01-30",
            "Use-after-free in Framed due to lack of pinning",
            "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
            ["memory-corruption"],
            ["CVE-2020-35902", "GHSA-rqgx-hpg4-456r"],
            null,
            [">= 0.3.0-beta.1"],
            [],
            "https://github.com/actix/actix-net/issues/91"
        ]])
    );
    let memory = json!({ "where": { "categories": { "contains": "memory-corruption" } }, "count": true, "limit": 1 });
    assert_eq!(one(&advisories.specialist, memory).await.unwrap()["total"], json!(259));
    let by_alias = json!({ "where": { "aliases": { "contains": ["CVE-2020-35902"] } }, "columns": ["package"] });
    assert_eq!(rows(&advisories, by_alias).await, json!([["actix-codec"]]));
    let summary = advisories.summary.as_ref().unwrap();
    assert_eq!(summary.rows, 1049);
    assert_eq!(summary.column("categories").unwrap().values.as_ref().unwrap().len(), 10);
    assert_eq!(summary.column("informational").unwrap().nulls, 579);
    assert_eq!(summary.time.as_ref().unwrap().resolution, None, "advisories come when they come");
    assert!(
        attribute(&advisories, "code:category")
            .as_array()
            .unwrap()
            .contains(&json!("denial-of-service"))
    );
}

#[tokio::test]
async fn interfaces_of_the_real_tables_are_valid_schemas_and_fit_a_record() {
    for name in ["ecb-reference-rates.toml", "airports.toml", "rustsec-advisories.toml"] {
        let (served, _cache) = serve(name);
        let interface = &served.declaration.capability.interface;
        let input = comity_specialist::schema::Validator::new(&interface.input_schema()).unwrap();
        let output = comity_specialist::schema::Validator::new(&interface.output_schema()).unwrap();
        assert!(input.check(&json!({})).is_ok() && input.check(&json!({ "nonsense": 1 })).is_err());
        for part in parts(&served.specialist, json!({})).await.unwrap() {
            assert_eq!(output.check(&part), Ok(()), "{name}");
        }
        assert!(served.declaration.findings.iter().all(|finding| finding.level != Level::Error));
    }
}

fn without_trailing_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}
