//! Codes, HTTP statuses and exit codes stay what scripts rely on.

use comity_api::types::{ErrorBody, ErrorCode, ErrorInfo, Exit};

/// The stable table: changing a line here breaks scripts.
const TABLE: &[(&str, u16, u8)] = &[
    ("bad_request", 400, 2),
    ("no_such_route", 404, 2),
    ("too_large", 413, 2),
    ("not_permitted", 403, 9),
    ("bad_query", 400, 2),
    ("bad_input", 422, 5),
    ("bad_manifest", 422, 5),
    ("not_found", 404, 4),
    ("no_match", 404, 4),
    ("ambiguous", 409, 2),
    ("unreachable", 502, 6),
    ("wrong_peer", 502, 6),
    ("refused", 403, 6),
    ("specialist_failed", 502, 6),
    ("call_failed", 502, 6),
    ("timeout", 504, 7),
    ("cancelled", 409, 130),
    ("not_verified", 502, 8),
    ("busy", 429, 9),
    ("storage", 500, 9),
    ("key_file", 500, 9),
    ("home_in_use", 409, 9),
    ("address_in_use", 409, 9),
    ("not_running", 503, 3),
    ("shutting_down", 503, 3),
    ("internal", 500, 1),
];

#[test]
fn codes_are_stable() {
    let actual: Vec<(String, u16, u8)> = ErrorCode::ALL
        .iter()
        .map(|code| {
            let name = serde_json::to_value(code).unwrap().as_str().unwrap().to_owned();
            (name, code.http_status(), code.exit().code())
        })
        .collect();
    let wanted: Vec<(String, u16, u8)> =
        TABLE.iter().map(|(name, status, exit)| ((*name).to_owned(), *status, *exit)).collect();
    assert_eq!(actual, wanted);
}

#[test]
fn every_exit_code_is_explained_once() {
    let codes: Vec<u8> = Exit::TABLE.iter().map(|(exit, _)| exit.code()).collect();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130]);
    for code in ErrorCode::ALL {
        assert!(codes.contains(&code.exit().code()));
    }
}

#[test]
fn a_code_of_a_later_version_reads_as_internal() {
    let body: ErrorBody =
        serde_json::from_str(r#"{"error":{"code":"from_the_future","message":"m","hint":"h"}}"#)
            .unwrap();
    assert_eq!(body.error.code, ErrorCode::Internal);
    assert_eq!(body.error.message, "m");
}

#[test]
fn the_body_has_the_documented_shape() {
    let info = ErrorInfo::new(ErrorCode::BadQuery, "no such operator").hint("see the manual");
    assert_eq!(
        serde_json::to_value(ErrorBody::from(info)).unwrap(),
        serde_json::json!({"error": {"code": "bad_query", "message": "no such operator", "hint": "see the manual"}})
    );
}
