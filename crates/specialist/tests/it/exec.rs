//! Programs as specialists: small shell scripts that behave and misbehave.

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use comity_specialist::exec::{Environment, Exec, ExecConfig, ExecError, MAX_REQUEST_BYTES};
use comity_specialist::{Specialist, SpecialistError};
use futures_util::FutureExt;
use serde_json::{Value, json};

use crate::common::{invocation, one, within};

/// Long enough that it never comes in a test.
const NEVER: Duration = Duration::from_secs(3600);

fn script(text: &str) -> ExecConfig {
    let mut config = ExecConfig::new(vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()]);
    config.first_pause = Duration::from_millis(1);
    config
}

/// Answers each line with itself; `hang` makes it hang, `die` die, and so on.
const ECHO: &str = r#"
while IFS= read -r line; do
  case $line in
    *hang*) sleep 1000000 ;;
    *die*) exit 3 ;;
    *kill*) kill -9 $$ ;;
    *garbage*) echo 'this is not JSON' ; continue ;;
    *twice*) printf '%s\n%s\n' "$line" "$line" ; continue ;;
    *report*) echo '{"error":{"message":"no such thing"}}' ; continue ;;
    *binary*) printf '\377\376\n' ; continue ;;
    *flood*) while :; do printf 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'; done ;;
  esac
  printf '%s\n' "$line"
done"#;

#[tokio::test]
async fn a_program_answers_in_order_and_keeps_running() {
    let exec = Exec::start(script(r#"n=0; while IFS= read -r line; do n=$((n+1)); printf '{"n":%s,"request":%s}\n' "$n" "$line"; done"#)).unwrap();
    for n in 1..=20 {
        let request = json!({ "text": "naïve \n \"quoted\"", "n": n });
        assert_eq!(one(&exec, request.clone()).await, Ok(json!({ "n": n, "request": request })));
    }
    assert_eq!(exec.restarts(), 0);
}

#[tokio::test]
async fn a_reported_error_is_the_callers_and_harmless() {
    let exec = Exec::start(script(ECHO)).unwrap();
    assert_eq!(one(&exec, json!("report")).await, Err(SpecialistError::reported("no such thing")));
    assert_eq!(one(&exec, json!("fine")).await, Ok(json!("fine")));
    assert_eq!(exec.restarts(), 0);
}

#[tokio::test]
async fn each_misbehaviour_has_its_name_and_leaves_the_next_call_untouched() {
    let mut config = script(ECHO);
    config.max_line_bytes = 64 * 1024;
    let exec = Exec::start(config).unwrap();
    let mut restarts = 0;
    for request in ["die", "kill", "garbage", "twice", "binary", "flood"] {
        let error = one(&exec, json!(request)).await.unwrap_err();
        match (request, &error) {
            ("die", SpecialistError::Crashed { what }) => assert!(what.contains('3'), "{what}"),
            ("kill", SpecialistError::Crashed { what }) => assert!(what.contains('9'), "{what}"),
            ("garbage" | "twice" | "binary", SpecialistError::GarbageAnswer { .. }) => {}
            ("flood", SpecialistError::AnswerTooLarge { limit }) => assert_eq!(*limit, 64 * 1024),
            other => panic!("{other:?}"),
        }
        restarts += 1;
        assert_eq!(one(&exec, json!(["after", restarts])).await, Ok(json!(["after", restarts])));
        assert_eq!(exec.restarts(), restarts);
    }
}

#[tokio::test]
async fn a_late_answer_is_never_taken_for_the_next_one() {
    let exec = Exec::start(script(ECHO)).unwrap();
    let outcome = exec.call(within(json!("hang"), Duration::from_millis(30))).await;
    assert!(matches!(outcome, Err(SpecialistError::Timeout { .. })), "{outcome:?}");
    assert_eq!(one(&exec, json!("next")).await, Ok(json!("next")));
    assert_eq!(exec.restarts(), 1);
}

#[tokio::test]
async fn a_cancelled_and_a_dropped_call_free_the_program() {
    let exec = Exec::start(script(ECHO)).unwrap();
    let call = invocation(json!("hang"));
    let cancel = call.cancel.clone();
    let mut running = exec.call(call);
    assert!((&mut running).now_or_never().is_none());
    cancel.cancel();
    assert_eq!(running.await.unwrap_err(), SpecialistError::Cancelled);
    assert_eq!(one(&exec, json!("next")).await, Ok(json!("next")));

    let mut abandoned = exec.call(invocation(json!("hang")));
    assert!((&mut abandoned).now_or_never().is_none());
    drop(abandoned);
    assert_eq!(one(&exec, json!("and on")).await, Ok(json!("and on")));
}

#[tokio::test]
async fn calls_beyond_the_queue_are_refused_as_busy() {
    let mut config = script(ECHO);
    config.max_waiting = 1;
    let exec = Exec::start(config).unwrap();
    let first = invocation(json!("hang"));
    let cancel = first.cancel.clone();
    let mut running = exec.call(first);
    assert!((&mut running).now_or_never().is_none());
    let mut waiting = exec.call(invocation(json!("second")));
    assert!((&mut waiting).now_or_never().is_none());
    assert_eq!(one(&exec, json!("third")).await, Err(SpecialistError::Busy { waiting: 1 }));
    cancel.cancel();
    let (first, second) = tokio::join!(running, waiting);
    assert_eq!(first.unwrap_err(), SpecialistError::Cancelled);
    assert!(second.is_ok(), "{second:?}");
}

#[tokio::test]
async fn copies_work_side_by_side() {
    // Each copy answers only when the other has its request too: both must run at a time.
    let directory = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| fifo(directory.path(), name));
    let text = r#"while IFS= read -r line; do
        case $line in *left*) echo x > "$A"; read -r _ < "$B";; *) read -r _ < "$A"; echo x > "$B";; esac
        printf '%s\n' "$line"
      done"#;
    let mut config = script(text);
    config.workers = 2;
    config.env = [("A".to_owned(), a), ("B".to_owned(), b)].into();
    let exec = Exec::start(config).unwrap();
    let (left, right) = tokio::join!(one(&exec, json!("left")), one(&exec, json!("right")));
    assert_eq!((left, right), (Ok(json!("left")), Ok(json!("right"))));
}

#[tokio::test]
async fn a_program_that_dies_at_start_is_unavailable_until_it_lives() {
    let mut config = script("exit 7");
    config.first_pause = NEVER;
    config.longest_pause = NEVER;
    let exec = Exec::start(config).unwrap();
    // The first call may meet the copy before its end is noticed.
    assert!(one(&exec, json!(1)).await.is_err());
    match one(&exec, json!(2)).await {
        Err(SpecialistError::Unavailable { what }) => assert!(what.contains('7'), "{what}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn pauses_end_and_a_program_that_recovers_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let lives = directory.path().join("lives");
    let mut config = script(
        r#"echo x >> "$LIVES"; [ "$(wc -l < "$LIVES")" -ge 4 ] || exit 1; while IFS= read -r line; do printf '%s\n' "$line"; done"#,
    );
    config.env = [("LIVES".to_owned(), lives.to_str().unwrap().to_owned())].into();
    let exec = Exec::start(config).unwrap();
    let mut outcome = one(&exec, json!("hello")).await;
    // Each failed attempt is a life; it takes the fourth.
    for _ in 0..4 {
        if outcome.is_err() {
            outcome = one(&exec, json!("hello")).await;
        }
    }
    assert_eq!(outcome, Ok(json!("hello")));
    assert_eq!(exec.restarts(), 3);
}

#[tokio::test]
async fn output_that_nobody_asked_for_is_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    let greeted = fifo(directory.path(), "greeted");
    let mut config = script(&format!("exec 3> \"$GREETED\"; echo '\"hello\"'; exec 3>&-; {ECHO}"));
    config.env = [("GREETED".to_owned(), greeted.clone())].into();
    config.first_pause = NEVER;
    config.longest_pause = NEVER;
    let exec = Exec::start(config).unwrap();
    // Ends when the greeting is out, or the program was ended for it.
    tokio::task::spawn_blocking(move || std::fs::read(greeted)).await.unwrap().unwrap();
    let outcome = one(&exec, json!(1)).await;
    assert!(matches!(outcome, Err(SpecialistError::Unavailable { .. })), "{outcome:?}");
}

#[tokio::test]
async fn calls_that_wait_fail_as_soon_as_nothing_will_run_in_their_time() {
    let mut config = script(ECHO);
    config.first_pause = NEVER;
    config.longest_pause = NEVER;
    let exec = Exec::start(config).unwrap();
    let (first, second) = tokio::join!(one(&exec, json!("die")), one(&exec, json!("waits")));
    assert!(matches!(first, Err(SpecialistError::Crashed { .. })), "{first:?}");
    assert!(matches!(second, Err(SpecialistError::Unavailable { .. })), "{second:?}");
}

#[tokio::test]
async fn chatter_on_stderr_blocks_nothing() {
    let text = r#"while IFS= read -r line; do
        i=0; while [ $i -lt 2000 ]; do echo "a line of chatter that is long enough to fill any pipe before long, number $i" >&2; i=$((i+1)); done
        printf '%s\n' "$line"; done"#;
    let exec = Exec::start(script(text)).unwrap();
    assert_eq!(one(&exec, json!("quiet")).await, Ok(json!("quiet")));
}

#[tokio::test]
async fn dropping_ends_everything_the_program_started() {
    let directory = tempfile::tempdir().unwrap();
    let alive = fifo(directory.path(), "alive");
    // A grandchild that ignores the polite signal holds the pipe open as long as it lives.
    let mut config = script(
        r#"trap '' TERM; (trap '' TERM; exec sleep 1000000) > "$ALIVE" & while IFS= read -r line; do printf '%s\n' "$line"; done"#,
    );
    config.env = [("ALIVE".to_owned(), alive.clone())].into();
    let exec = Exec::start(config).unwrap();
    let mut pipe =
        tokio::task::spawn_blocking(move || std::fs::File::open(alive)).await.unwrap().unwrap();
    assert_eq!(one(&exec, json!("up")).await, Ok(json!("up")));
    drop(exec);
    let rest =
        tokio::task::spawn_blocking(move || pipe.read_to_end(&mut Vec::new())).await.unwrap();
    assert_eq!(rest.unwrap(), 0, "all writers are gone");
}

#[test]
fn a_runtime_that_ends_takes_the_program_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let alive = fifo(directory.path(), "alive");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut config = script(
        r#"exec 3> "$ALIVE"; while IFS= read -r line; do printf '%s\n' "$line"; done; sleep 1000000"#,
    );
    config.env = [("ALIVE".to_owned(), alive.clone())].into();
    let exec = runtime.block_on(async {
        let exec = Exec::start(config).unwrap();
        let opened =
            tokio::task::spawn_blocking(move || std::fs::File::open(alive)).await.unwrap().unwrap();
        (exec, opened)
    });
    let (exec, mut pipe) = exec;
    drop(runtime);
    drop(exec);
    assert_eq!(pipe.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[tokio::test]
async fn the_environment_is_clean_unless_asked_for() {
    let show = r#"while read -r _; do printf '{"own":"%s","node":"%s","path":"%s"}\n' "$OWN" "${CARGO_MANIFEST_DIR-none}" "${PATH:+set}"; done"#;
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "run by cargo");
    let mut config = script(show);
    config.env = [("OWN".to_owned(), "mine".to_owned())].into();
    let clean = Exec::start(config.clone()).unwrap();
    assert_eq!(
        one(&clean, json!(0)).await,
        Ok(json!({ "own": "mine", "node": "none", "path": "set" }))
    );
    config.environment = Environment::Inherited;
    let inherited = Exec::start(config).unwrap();
    let answer = one(&inherited, json!(0)).await.unwrap();
    assert_eq!(answer["node"], json!(env!("CARGO_MANIFEST_DIR")));
}

#[tokio::test]
async fn the_working_directory_is_the_one_given() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().canonicalize().unwrap();
    let mut config = script(r#"while read -r _; do printf '"%s"\n' "$(pwd -P)"; done"#);
    config.directory = Some(directory.path().to_owned());
    assert_eq!(
        one(&Exec::start(config).unwrap(), json!(0)).await,
        Ok(json!(real.to_str().unwrap()))
    );
}

#[tokio::test]
async fn large_requests_and_answers_pass_up_to_their_limits() {
    let exec = Exec::start(ExecConfig::new(vec!["cat".to_owned()])).unwrap();
    let large = json!("x".repeat(MAX_REQUEST_BYTES - 2));
    assert_eq!(one(&exec, large.clone()).await, Ok(large));
    let larger = json!("x".repeat(MAX_REQUEST_BYTES - 1));
    assert!(matches!(one(&exec, larger).await, Err(SpecialistError::RequestTooLarge { .. })));
}

#[tokio::test]
async fn commands_that_cannot_run_are_refused_at_the_start() {
    let missing = Exec::start(ExecConfig::new(vec!["/nonexistent/program".to_owned()]));
    assert!(matches!(missing, Err(ExecError::Start { .. })), "{missing:?}");
    assert!(matches!(Exec::start(ExecConfig::new(vec![])), Err(ExecError::Command { .. })));
    let mut config = script(ECHO);
    config.workers = 0;
    assert!(matches!(Exec::start(config), Err(ExecError::OutOfBounds { .. })));
    for wrong in ["", "   ", "echo 'open"] {
        assert!(
            matches!(ExecConfig::from_command(wrong), Err(ExecError::Command { .. })),
            "{wrong}"
        );
    }
    let split =
        ExecConfig::from_command(r#"jq -c --unbuffered '{answer: .a}' "two words""#).unwrap();
    assert_eq!(split.argv, ["jq", "-c", "--unbuffered", "{answer: .a}", "two words"]);
}

#[tokio::test]
async fn answers_with_an_error_member_among_others_are_answers() {
    let exec = Exec::start(ExecConfig::new(vec!["cat".to_owned()])).unwrap();
    for answer in [
        json!({ "error": null }),
        json!({ "error": { "message": "x" }, "rows": [] }),
        json!({ "error": "x" }),
    ] {
        assert_eq!(one(&exec, answer.clone()).await, Ok(answer));
    }
    let long = json!({ "error": { "message": "x".repeat(100_000) } });
    match one(&exec, long).await {
        Err(SpecialistError::Reported { message }) => {
            assert!(message.len() <= 1024 + '…'.len_utf8())
        }
        other => panic!("{other:?}"),
    }
}

fn fifo(directory: &Path, name: &str) -> String {
    let path = directory.join(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_value_of_every_kind_is_an_answer() {
    let exec = Exec::start(ExecConfig::new(vec!["cat".to_owned()])).unwrap();
    for value in [Value::Null, json!(true), json!(1.5), json!("text"), json!([]), json!({})] {
        assert_eq!(one(&exec, value.clone()).await, Ok(value));
    }
}
