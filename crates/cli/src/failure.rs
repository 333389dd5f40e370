//! The end of a command that failed: what is printed, and which exit code.

use std::io::Write;
use std::process::ExitCode;

use comity_api::ClientError;
use comity_api::types::{Attempt, AttemptOutcome, ErrorBody, ErrorCode, ErrorInfo, Finding};

use crate::context::Context;
use crate::render::{self, BAD, DIM, clean};

/// Prints an error and names its exit code.
pub(crate) fn report(context: &Context, error: &anyhow::Error) -> ExitCode {
    let info = info_of(error);
    let text = if context.out.json {
        serde_json::to_string(&ErrorBody::from(info.clone()))
            .unwrap_or_else(|_| info.message.clone())
            + "\n"
    } else {
        text(&info, context.out.width)
    };
    // Nobody is left to tell when standard error is closed.
    let _ = anstream::stderr().write_all(text.as_bytes());
    ExitCode::from(info.code.exit().code())
}

/// The error as the API states errors.
pub(crate) fn info_of(error: &anyhow::Error) -> ErrorInfo {
    for cause in error.chain() {
        if let Some(info) = cause.downcast_ref::<ErrorInfo>() {
            return info.clone();
        }
        if let Some(client) = cause.downcast_ref::<ClientError>() {
            return client.info();
        }
    }
    ErrorInfo::new(ErrorCode::Internal, format!("{error:#}"))
}

fn text(info: &ErrorInfo, width: usize) -> String {
    // Not wrapped: commands and paths in it are there to be copied.
    let mut text = format!("{BAD}error:{BAD:#} {}\n", clean(&info.message));
    let details = info.details.clone().unwrap_or_default();
    if let Ok(findings) = serde_json::from_value::<Vec<Finding>>(details.clone()) {
        text += &render::serve::findings(&findings, width);
    } else if let Ok(attempts) = serde_json::from_value::<Vec<Attempt>>(details.clone()) {
        for attempt in attempts {
            if let AttemptOutcome::Failed { error, .. } = attempt.outcome {
                let line = format!("{}: {}", clean(&attempt.target), clean(&error.message));
                text += &render::wrapped(&line, "  - ", "    ", width);
            }
        }
    } else if let Ok(texts) = serde_json::from_value::<Vec<String>>(details.clone()) {
        for one in texts {
            text += &render::wrapped(&clean(&one), "  - ", "    ", width);
        }
    } else if let serde_json::Value::Array(violations) = details {
        for one in violations {
            let path = one["path"].as_str().unwrap_or_default();
            let message = one["message"].as_str().map_or_else(|| one.to_string(), str::to_owned);
            text += &render::wrapped(
                &format!("{}: {}", clean(path), clean(&message)),
                "  - ",
                "    ",
                width,
            );
        }
    }
    if !info.hint.is_empty() {
        text += &format!("{DIM}hint:{DIM:#} {}\n", clean(&info.hint));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plain(info: &ErrorInfo) -> String {
        anstream::adapter::strip_str(&text(info, 80)).to_string()
    }

    #[test]
    fn an_error_says_what_and_what_next() {
        let info = ErrorInfo::new(ErrorCode::BadQuery, "`finerr` is no operator")
            .hint("did you mean `finer_or_equal`?");
        assert_eq!(
            plain(&info),
            "error: `finerr` is no operator\nhint: did you mean `finer_or_equal`?\n"
        );
    }

    #[test]
    fn details_are_listed_whatever_their_kind() {
        let findings = json!([{"level": "error", "field": "name", "message": "too long", "fix": "shorten it"}]);
        let violations = json!([{"path": "/pair", "message": "7 is not a string"}]);
        let addresses = json!(["fd00::1", "fd00::2"]);
        for (details, wanted) in [
            (findings, "error: m\n  error name: too long\n        shorten it\n"),
            (violations, "error: m\n  - /pair: 7 is not a string\n"),
            (addresses, "error: m\n  - fd00::1\n  - fd00::2\n"),
        ] {
            assert_eq!(plain(&ErrorInfo::new(ErrorCode::BadInput, "m").details(details)), wanted);
        }
    }

    #[test]
    fn the_innermost_named_error_decides_the_exit_code() {
        use anyhow::Context as _;
        let error = Err::<(), _>(ErrorInfo::new(ErrorCode::Timeout, "late"))
            .context("while waiting")
            .unwrap_err();
        assert_eq!(info_of(&error).code, ErrorCode::Timeout);
        let other = anyhow::anyhow!("odd").context("outer");
        assert_eq!(info_of(&other), ErrorInfo::new(ErrorCode::Internal, "outer: odd"));
    }
}
