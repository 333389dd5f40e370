//! Closures as specialists.

use std::time::Duration;

use comity_specialist::function::Function;
use comity_specialist::{Answer, Retry, Specialist, SpecialistError};
use serde_json::json;

use crate::common::{invocation, one, within};

#[tokio::test]
async fn a_closure_answers() {
    let echo =
        Function::new(|call| async move { Ok(Answer::One(json!({ "you said": call.request }))) });
    assert_eq!(one(&echo, json!(1)).await, Ok(json!({ "you said": 1 })));
}

#[tokio::test]
async fn a_panic_is_a_crash_of_that_call_only() {
    let fickle = Function::new(|call| {
        assert!(call.request != json!("early"), "before the future");
        async move {
            assert!(call.request != json!("late"), "inside the future");
            Ok(Answer::One(json!("fine")))
        }
    });
    for (request, words) in [("early", "before the future"), ("late", "inside the future")] {
        match one(&fickle, json!(request)).await {
            Err(SpecialistError::Crashed { what }) => assert!(what.contains(words), "{what}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(one(&fickle, json!("go on")).await, Ok(json!("fine")));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_call() {
    let slow = Function::new(|_| async move { std::future::pending().await });
    let outcome = slow.call(within(json!(null), Duration::from_millis(50))).await;
    assert_eq!(outcome.unwrap_err(), SpecialistError::Timeout { after: Duration::from_millis(50) });
    let outcome = slow.call(invocation(json!(null))).await.unwrap_err();
    assert_eq!(
        outcome,
        SpecialistError::Timeout { after: comity_specialist::function::DEFAULT_TIMEOUT }
    );
}

#[tokio::test]
async fn a_cancelled_call_drops_its_work() {
    let (entered, mut is_running) =
        tokio::sync::mpsc::channel::<tokio::sync::oneshot::Sender<()>>(1);
    let hang = Function::new(move |_| {
        let entered = entered.clone();
        async move {
            let (alive, dropped) = tokio::sync::oneshot::channel::<()>();
            let _held_while_working = dropped;
            entered.send(alive).await.unwrap();
            std::future::pending().await
        }
    });
    let call = invocation(json!(null));
    let cancel = call.cancel.clone();
    let (outcome, ()) = tokio::join!(hang.call(call), async {
        let mut alive = is_running.recv().await.unwrap();
        cancel.cancel();
        alive.closed().await;
    });
    assert_eq!(outcome.unwrap_err(), SpecialistError::Cancelled);
}

#[test]
fn every_error_has_a_code_a_retry_and_advice() {
    let all = [
        (SpecialistError::invalid("x"), "invalid-request", Retry::Never),
        (
            SpecialistError::RequestTooLarge { bytes: 2, limit: 1 },
            "request-too-large",
            Retry::Elsewhere,
        ),
        (SpecialistError::reported("a\nb"), "reported", Retry::Elsewhere),
        (SpecialistError::Timeout { after: Duration::ZERO }, "timeout", Retry::Later),
        (SpecialistError::Cancelled, "cancelled", Retry::Never),
        (SpecialistError::Busy { waiting: 1 }, "busy", Retry::Later),
        (SpecialistError::Crashed { what: "x".into() }, "crashed", Retry::Later),
        (SpecialistError::GarbageAnswer { what: "x".into() }, "garbage-answer", Retry::Elsewhere),
        (SpecialistError::AnswerTooLarge { limit: 1 }, "answer-too-large", Retry::Elsewhere),
        (SpecialistError::Unavailable { what: "x".into() }, "unavailable", Retry::Later),
    ];
    for (error, code, retry) in all {
        assert_eq!((error.code(), error.retry()), (code, retry));
        assert!(!error.to_string().contains('\n'));
    }
}
