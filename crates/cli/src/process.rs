//! Node processes of a private network: started, asked for their tickets, killed, always cleaned up.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use comity_api::Client;
use comity_api::types::Status;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::Instant;

/// A node that does not answer its socket by then has failed to start.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at a socket that is not there yet.
const POLL: Duration = Duration::from_millis(15);

/// One node process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) nick: String,
    pub(crate) home: PathBuf,
    pub(crate) client: Client,
    pub(crate) status: Status,
    child: Child,
    /// The node ends when this closes, so that it cannot outlive this program, however that ends.
    _lifeline: Option<ChildStdin>,
}

/// How the nodes of one private network are started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch<'a> {
    /// Homes go below it.
    pub(crate) directory: &'a Path,
    /// Name of the network.
    pub(crate) network: &'a str,
    /// Whether the nodes may outlive this program.
    pub(crate) keep: bool,
}

impl Launch<'_> {
    /// Makes a key for `nick`, starts a node with it, and waits until its API answers.
    pub(crate) async fn start(&self, nick: &str, join: Option<&str>) -> Result<Process> {
        let Launch { directory, network, keep } = *self;
        let home = directory.join(nick);
        let exe = std::env::current_exe().context("cannot find the comity program itself")?;
        let made = Command::new(&exe)
            .args(["--home".as_ref(), home.as_os_str(), "id".as_ref(), "new".as_ref()])
            .args(["--mint-bits", "0"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot run `comity id new`")?;
        if !made.status.success() {
            bail!(
                "`comity id new` failed for {nick}: {}",
                String::from_utf8_lossy(&made.stderr).trim()
            );
        }
        let log = File::create(home.join("node.log")).context("cannot create a log file")?;
        let mut command = Command::new(&exe);
        command.args(["--home".as_ref(), home.as_os_str(), "up".as_ref()]);
        command.args(["--mint-bits", "0", "--listen", "127.0.0.1:0", "--network", network]);
        command.args(join.into_iter().flat_map(|ticket| ["--join", ticket]));
        command.stdout(log.try_clone()?).stderr(log).process_group(0);
        if keep {
            command.stdin(Stdio::null());
        } else {
            command.arg("--until-stdin-closes").stdin(Stdio::piped()).kill_on_drop(true);
        }
        let mut child = command.spawn().context("cannot start a node process")?;
        let lifeline = child.stdin.take();
        let (client, status) = wait_until_up(&home, nick, &mut child).await?;
        Ok(Process { nick: nick.to_owned(), home, client, status, child, _lifeline: lifeline })
    }
}

impl Process {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.status.pid
    }

    /// The ticket others join by.
    pub(crate) fn ticket(&self) -> String {
        self.status.ticket.to_string()
    }

    /// Lets the process live on after this program.
    pub(crate) fn leave_running(self) {
        // Dropping the handle leaves the process alone, because it was not started to be killed on drop.
        drop(self.child);
    }

    /// SIGKILL: no goodbye, no flushing, as when the machine goes.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.nick))
    }
}

async fn wait_until_up(home: &Path, nick: &str, child: &mut Child) -> Result<(Client, Status)> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if let Ok(client) = Client::connect(home.join("api.sock")).await
            && let Ok(status) = client.status().await
        {
            return Ok((client, status));
        }
        if let Some(exit) = child.try_wait()? {
            bail!("{nick} ended at start ({exit}): {}", last_lines(&home.join("node.log")));
        }
        if Instant::now() > deadline {
            bail!(
                "{nick} does not answer after {START_PATIENCE:?}: {}",
                last_lines(&home.join("node.log"))
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    if lines.is_empty() {
        format!("its log {} is empty", log.display())
    } else {
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}
