//! Rows proved against the commitment of their table.

use comity_capability::rows::{Claim, PROVED_MAX};
use comity_core::Hash;
use comity_specialist::table::Table;
use serde_json::{Value, json};

use crate::common::{Files, one};

fn table(rows: usize) -> (Files, Table) {
    let mut text = "day,word,amount,open\n".to_owned();
    for n in 0..rows {
        let amount = if n % 7 == 0 { String::new() } else { format!("{n}.5") };
        text += &format!("{}-{:02}-01,w{n},{amount},true\n", 1900 + n / 12, n % 12 + 1);
    }
    let files = Files::with("table.csv", text);
    let table = files.open().unwrap();
    (files, table)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn paths(answer: &Value) -> Vec<Vec<Hash>> {
    let hashes = |path: &Value| {
        list(path).iter().map(|hash| hash.as_str().unwrap().parse().unwrap()).collect()
    };
    list(&answer["proof"]["paths"]).iter().map(hashes).collect()
}

#[tokio::test]
async fn every_row_is_proved_and_nothing_else_is() {
    for count in [1_usize, 2, 255, 256, 257, 1_000] {
        let (_files, table) = table(count);
        let commitment: Hash = table.summary().commitment.as_ref().unwrap().parse().unwrap();
        let drawn: Vec<u64> = [0, count / 3, count / 2, count - 1].map(|n| n as u64).to_vec();
        let answer = one(&table, json!({ "prove": drawn })).await.unwrap();
        let (columns, rows) = (list(&answer["columns"]), list(&answer["rows"]));
        let claim = Claim { columns, rows: count as u64, commitment: &commitment };
        let other_size = Claim { rows: count as u64 + 1, ..claim };
        let renamed = [json!("day"), json!("word"), json!("price"), json!("open")];
        let other_names = Claim { columns: &renamed, ..claim };
        for ((index, row), path) in drawn.iter().zip(rows).zip(paths(&answer)) {
            let row = list(row);
            assert!(claim.holds(*index, row, &path), "row {index} of {count}");
            assert!(!other_size.holds(*index, row, &path));
            assert!(!other_names.holds(*index, row, &path));
            assert!(
                !claim.holds(*index ^ 1, row, &path),
                "row {index} of {count} at another place"
            );
            for place in 0..row.len() {
                let mut altered = row.to_vec();
                altered[place] = json!("altered");
                assert!(!claim.holds(*index, &altered, &path));
            }
            assert!(!claim.holds(*index, &row[1..], &path));
        }
    }
}

#[tokio::test]
async fn the_commitment_is_of_the_content_and_is_found_again() {
    let (files, table) = table(300);
    let again = files.open().unwrap();
    assert_eq!(again.summary().commitment, table.summary().commitment);
    let text = std::fs::read_to_string(&files.file).unwrap().replacen("w299", "w298", 1);
    let other = Files::with("table.csv", text).open().unwrap();
    assert_ne!(other.summary().commitment, table.summary().commitment);
}

#[tokio::test]
async fn what_cannot_be_proved_is_refused() {
    let (_files, table) = table(10);
    let many: Vec<usize> = vec![0; PROVED_MAX + 1];
    for wrong in [
        json!({ "prove": [10] }),
        json!({ "prove": [] }),
        json!({ "prove": many }),
        json!({ "prove": [-1] }),
        json!({ "prove": ["0"] }),
        json!({ "prove": 0 }),
        json!({ "prove": [0], "limit": 1 }),
        json!({ "prove": [u64::MAX] }),
    ] {
        let error = one(&table, wrong.clone()).await.unwrap_err();
        assert!(
            error.to_string().contains("prove takes 1 to 16 row numbers below 10"),
            "{wrong}: {error}"
        );
    }
}
