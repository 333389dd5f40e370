//! Shapes on the wire that other languages rely on.

use comity_api::types::{
    Attempt, AttemptOutcome, CallEvent, CallRequest, ErrorCode, ErrorInfo, FindRequest, Overrides,
    PingRequest, QueryInput, ServeMode, ServeRequest, Source,
};
use serde_json::{Value, json};

#[test]
fn a_query_is_text_or_an_object() {
    let text: FindRequest =
        serde_json::from_value(json!({"query": "where pair = EUR/USD"})).unwrap();
    assert_eq!(text.query, QueryInput::from("where pair = EUR/USD"));
    let object: FindRequest =
        serde_json::from_value(json!({"query": {"text": "fx"}, "explain": true})).unwrap();
    assert!(matches!(object.query, QueryInput::Json(_)) && object.explain);
    for wrong in [json!({"query": 5}), json!({"query": ["a"]}), json!({})] {
        assert!(serde_json::from_value::<FindRequest>(wrong).is_err());
    }
}

#[test]
fn a_misspelt_field_is_refused() {
    for (what, refused) in [
        (
            "find",
            serde_json::from_value::<FindRequest>(json!({"query": "a", "limits": 3})).is_err(),
        ),
        (
            "call",
            serde_json::from_value::<CallRequest>(
                json!({"target": "a", "input": {}, "timeout": 3}),
            )
            .is_err(),
        ),
        ("serve", serde_json::from_value::<ServeRequest>(json!({"manifst": {}})).is_err()),
        ("overrides", serde_json::from_value::<Overrides>(json!({"nam": "a"})).is_err()),
        (
            "ping",
            serde_json::from_value::<PingRequest>(json!({"target": "a", "cuont": 3})).is_err(),
        ),
    ] {
        assert!(refused, "{what}");
    }
}

#[test]
fn a_source_names_its_kind() {
    let source: Source =
        serde_json::from_value(json!({"kind": "exec", "command": ["./run", "-x"]})).unwrap();
    assert_eq!(
        source,
        Source::Exec { command: vec!["./run".into(), "-x".into()], directory: None }
    );
    let request: ServeRequest = serde_json::from_value(
        json!({"source": {"kind": "table", "path": "/t.csv"}, "mode": "dry_run"}),
    )
    .unwrap();
    assert_eq!(request.mode, ServeMode::DryRun);
    assert_eq!(ServeRequest::default().mode, ServeMode::Publish);
}

#[test]
fn an_attempt_is_flat() {
    let attempt = Attempt {
        number: 2,
        target: "fd00::1/rates".into(),
        agent: comity_api::types::AgentName {
            agent: comity_core::Identity::from_secret_bytes(&[1; 32]).id(),
            address: "fd00::1".into(),
            handle: "1:0001.0002.0003#abcdefgh".into(),
        },
        outcome: AttemptOutcome::Failed {
            elapsed_us: 17,
            error: ErrorInfo::new(ErrorCode::Unreachable, "gone").hint("wait"),
        },
    };
    let value = serde_json::to_value(&attempt).unwrap();
    assert_eq!(value["outcome"], "failed");
    assert_eq!(value["error"]["code"], "unreachable");
    assert_eq!(value["address"], "fd00::1");
    assert_eq!(serde_json::from_value::<Attempt>(value).unwrap(), attempt);
}

#[test]
fn events_are_put_together_again() {
    let event = CallEvent::Error(ErrorInfo::new(ErrorCode::Timeout, "late"));
    assert!(event.is_last());
    let data = event.data().unwrap();
    assert!(!data.contains('\n'));
    assert_eq!(CallEvent::parse(event.name(), &data).unwrap(), Some(event.clone()));
    assert_eq!(CallEvent::parse("of a later version", "{}").unwrap(), None);
    assert!(CallEvent::parse("done", "{}").is_err());
    let tagged: Value = serde_json::to_value(&event).unwrap();
    assert_eq!(tagged["event"], "error", "the documented schema names the event");
}
