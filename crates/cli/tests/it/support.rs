//! Running the binary in a home of its own.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What one run left behind.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|_| panic!("no JSON: {} {}", self.stdout, self.stderr))
    }

    pub(crate) fn error_code(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.stderr)
            .unwrap_or_else(|_| panic!("no JSON error: {}", self.stderr));
        body["error"]["code"].as_str().unwrap().to_owned()
    }
}

/// Runs `comity --home HOME ARGS`.
pub(crate) fn comity(home: &Path, args: &[&str]) -> Run {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_comity"))
        .env_remove("COMITY_HOME")
        .env_remove("COMITY_LOG")
        .env("NO_COLOR", "1")
        .arg("--home")
        .arg(home)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Run {
        code: status.code().unwrap(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}
