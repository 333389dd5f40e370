//! One end of a memory measurement in a process of its own, driven over its standard input: one JSON request a
//! line, one JSON reply a line. It ends with its input, so it never outlives its driver.
#![expect(clippy::print_stdout, reason = "replies go to stdout")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use comity_bench_path::stage::{Place, Stage};
use serde::{Deserialize, Serialize};

use crate::{
    contender::{self, After, Client, Contender, Service, Session, Target},
    sys,
};

/// One request of the driver may take this long.
const REQUEST_LIMIT_S: u64 = 120;

/// Options of the hidden subcommand `worker`.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    contender: String,
}

#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// Start that many servers, each with an identity of its own.
    Serve { count: usize },
    /// That many new clients call `target` once each.
    Visit { count: usize, target: Target, after: After },
    /// One client, made by the first such request, calls each target once.
    Call { targets: Vec<Target>, after: After },
    /// Give free memory back to the system.
    Trim,
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Serving(Vec<Target>),
    Done,
    Failed(String),
}

/// Serves a driver until standard input ends.
pub(crate) fn run(options: &Options) -> Result<()> {
    sys::raise_open_files_limit();
    let contender = contender::select(contender::all(), std::slice::from_ref(&options.contender))?
        .pop()
        .context("no contender")?;
    let mut worker = Worker {
        contender,
        services: Vec::new(),
        sessions: Vec::new(),
        clients: Vec::new(),
        caller: None,
        stage: Stage::start("worker", Place::Here)?,
    };
    for line in std::io::stdin().lock().lines() {
        let ask = serde_json::from_str(&line?).context("bad request")?;
        let reply = worker.answer(ask).unwrap_or_else(|error| Reply::Failed(format!("{error:#}")));
        println!("{}", serde_json::to_string(&reply)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Field order: what lives on the stage goes before it.
struct Worker {
    contender: Arc<dyn Contender>,
    services: Vec<Service>,
    sessions: Vec<Arc<dyn Session>>,
    clients: Vec<Arc<dyn Client>>,
    caller: Option<Arc<dyn Client>>,
    stage: Stage,
}

impl Worker {
    fn answer(&mut self, ask: Ask) -> Result<Reply> {
        let limit = Duration::from_secs(REQUEST_LIMIT_S);
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        match ask {
            Ask::Serve { count } => {
                let mut targets = Vec::new();
                for _ in 0..count {
                    let serving = self.contender.serve(here);
                    let service = self.stage.run(limit, move || serving)?;
                    targets.push(service.target.clone());
                    self.services.push(service);
                }
                Ok(Reply::Serving(targets))
            }
            Ask::Visit { count, target, after } => {
                for _ in 0..count {
                    let making = self.contender.client(here, after);
                    let target = target.clone();
                    let (client, session) = self.stage.run(limit, move || async move {
                        let client = making.await?;
                        let session = visit(&client, target, after).await?;
                        Ok((client, session))
                    })?;
                    self.clients.push(client);
                    self.sessions.extend(session);
                }
                Ok(Reply::Done)
            }
            Ask::Call { targets, after } => {
                let caller = match self.caller.clone() {
                    Some(caller) => caller,
                    None => {
                        let making = self.contender.client(here, after);
                        self.stage.run(limit, move || making)?
                    }
                };
                self.caller = Some(caller.clone());
                let sessions = self.stage.run(limit, move || async move {
                    let mut sessions = Vec::new();
                    for target in targets {
                        sessions.extend(visit(&caller, target, after).await?);
                    }
                    Ok(sessions)
                })?;
                self.sessions.extend(sessions);
                Ok(Reply::Done)
            }
            Ask::Trim => {
                sys::release_free_memory();
                Ok(Reply::Done)
            }
        }
    }
}

async fn visit(
    client: &Arc<dyn Client>,
    target: Target,
    after: After,
) -> Result<Option<Arc<dyn Session>>> {
    match after {
        After::Keep => {
            let session = client.connect(target).await?;
            session.call(0).await?;
            Ok(Some(session))
        }
        After::Park => {
            client.first_call(target).await?;
            Ok(None)
        }
    }
}

/// A worker process seen from its driver.
pub(crate) struct Remote {
    child: Child,
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

impl Remote {
    /// Starts a worker for the contender of that name.
    pub(crate) fn start(contender: &str) -> Result<Self> {
        let exe = std::env::current_exe().context("find our own executable")?;
        let mut child = Command::new(exe)
            .args(["worker", contender])
            // One arena: resident memory then follows what is in use, not how many threads allocated.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start a worker process")?;
        let requests = child.stdin.take();
        let replies = BufReader::new(child.stdout.take().context("the worker has no output")?);
        Ok(Self { child, requests, replies })
    }

    /// Starts servers there.
    pub(crate) fn serve(&mut self, count: usize) -> Result<Vec<Target>> {
        match self.ask(&Ask::Serve { count })? {
            Reply::Serving(targets) => Ok(targets),
            reply @ (Reply::Done | Reply::Failed(_)) => {
                bail!("the worker answered {reply:?} to serve")
            }
        }
    }

    /// Lets new clients there call `target`.
    pub(crate) fn visit(&mut self, count: usize, target: &Target, after: After) -> Result<()> {
        self.done(&Ask::Visit { count, target: target.clone(), after })
    }

    /// Lets the one client there call each target.
    pub(crate) fn call(&mut self, targets: &[Target], after: After) -> Result<()> {
        self.done(&Ask::Call { targets: targets.to_vec(), after })
    }

    /// Resident memory of the worker in KiB, from `/proc/PID/status`, after it gave free pages back.
    pub(crate) fn resident_kib(&mut self) -> Result<f64> {
        self.done(&Ask::Trim)?;
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().strip_suffix("kB"))
            .and_then(|kib| kib.trim().parse().ok())
            .with_context(|| format!("no VmRSS in {path}"))
    }

    fn done(&mut self, ask: &Ask) -> Result<()> {
        match self.ask(ask)? {
            Reply::Done => Ok(()),
            reply @ (Reply::Serving(_) | Reply::Failed(_)) => {
                bail!("the worker answered {reply:?}")
            }
        }
    }

    fn ask(&mut self, ask: &Ask) -> Result<Reply> {
        let requests = self.requests.as_mut().context("the worker has been stopped")?;
        writeln!(requests, "{}", serde_json::to_string(ask)?).context("the worker is gone")?;
        let mut line = String::new();
        self.replies.read_line(&mut line).context("the worker is gone")?;
        match serde_json::from_str(&line).with_context(|| format!("the worker said {line:?}"))? {
            Reply::Failed(reason) => bail!("in the worker: {reason}"),
            reply @ (Reply::Serving(_) | Reply::Done) => Ok(reply),
        }
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Its input ends; should it hang all the same, it is ended and reaped.
        drop(self.requests.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
