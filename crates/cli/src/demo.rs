//! `comity demo`: a private network of real processes on this machine, asked, called, damaged and asked again.

pub(crate) mod cast;
mod story;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use comity_api::types::{
    CallRequest, CallResponse, Exit, FindRequest, FindResponse, Match, Output, ServeResponse,
};
use comity_api::{ProofFile, types::MAX_LIMIT};
use futures_util::future::try_join_all;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use self::cast::SPECIALISTS;
use self::story::Story;
use crate::process::{Launch, Process};

/// Nodes without a capability of their own, by which the others enter.
const SEEDS: [&str; 3] = ["seed-1", "seed-2", "seed-3"];

/// The question of the demo, in the query language.
const QUESTION: &str = "structured historical fx data where pair = EUR/USD and time covers 2021..2024 \
                        and resolution <= 1d";
/// The same with a condition that nobody meets.
const TOO_FINE: &str = "structured historical fx data where pair = EUR/USD and time covers 2021..2024 and resolution <= 1m";

/// Options of the demonstration.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// Leave the network running and print how to talk to it.
    #[arg(long)]
    pub(crate) keep: bool,

    /// Print one JSON document instead of the story.
    #[arg(long)]
    pub(crate) json: bool,

    /// Number of nodes; those beyond the cast are peers without a capability.
    #[arg(long, default_value_t = 11, value_name = "N", value_parser = clap::value_parser!(u16).range(11..=200))]
    pub(crate) nodes: u16,
}

/// What the demonstration found, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    nodes: usize,
    found: FindResponse,
    answered: CallResponse,
    killed: String,
    answered_after_the_kill: CallResponse,
    nobody: FindResponse,
    other_domains: Vec<CallResponse>,
    milliseconds: Vec<(String, u128)>,
    kept: Option<String>,
}

/// Runs the demonstration. Whatever ends it - success, failure, Ctrl-C, even SIGKILL - ends the nodes it started.
pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode> {
    let directory =
        TempDir::with_prefix("comity-demo-").context("cannot create a directory for the demo")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be received")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be received")?;
    let mut story = Story::new(!args.json);
    let played = tokio::select! {
        played = Box::pin(play(&args, &directory, &mut story)) => played,
        _ = interrupt.recv() => return interrupted(&args),
        _ = terminate.recv() => return interrupted(&args),
    };
    let (mut report, processes) = played?;
    if args.keep {
        let home =
            processes.last().map(|asker| asker.home.display().to_string()).unwrap_or_default();
        story.kept(&home, directory.path(), &processes);
        report.kept = Some(home);
        // The directory and the processes are the user's now.
        let _kept = directory.keep();
        processes.into_iter().for_each(Process::leave_running);
    } else {
        let nodes = processes.len();
        drop(processes);
        directory.close().context("the demo's directory could not be removed")?;
        story.cleaned_up(nodes);
    }
    if args.json {
        story::print_json(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn interrupted(args: &DemoArgs) -> Result<ExitCode> {
    if !args.json {
        story::print_line("\ninterrupted; the nodes are stopped and their files removed")?;
    }
    Ok(ExitCode::from(Exit::Interrupted.code()))
}

async fn play(
    args: &DemoArgs,
    directory: &TempDir,
    story: &mut Story,
) -> Result<(Report, Vec<Process>)> {
    let mut clock = Clock::default();
    story.title(usize::from(args.nodes));

    let mut processes = start(args, directory, story).await?;
    clock.lap("start all nodes and serve all tables");

    let asker = processes.last().context("the cast has an asker")?.client.clone();
    let mut request = FindRequest::new(QUESTION);
    request.limit = Some(MAX_LIMIT.min(10));
    let found = asker.find(&request).await.context("the search failed")?;
    clock.lap("find by capability");
    story.found(&found, &processes);
    let best = found.matches.first().context("nobody was found who can answer")?.clone();

    let input = json!({
        "where": { "date": { "from": "2022-02-28", "to": "2022-03-04" } },
        "columns": ["date", "USD"],
        "order": ["date"],
    });
    let answered = call(&asker, QUESTION, &input).await?;
    clock.lap("call the best, verified");
    story.answered(&input, &answered, &processes);

    let killed = kill(&best, &mut processes, story).await?;
    clock.start();
    let again = call(&asker, QUESTION, &input).await?;
    clock.lap("ask again after the best was killed");
    story.answered_again(&again, &processes);
    if again.proof.receipt.callee == answered.proof.receipt.callee {
        bail!("the killed specialist seems to have answered");
    }

    clock.start();
    let nobody = asker.find(&FindRequest::new(TOO_FINE)).await.context("the search failed")?;
    clock.lap("learn that nobody can, and who nearly can");
    story.nobody(&nobody);

    let other_domains = others(&asker, story).await?;
    clock.lap("two questions of other domains");
    story.timings(&clock.laps);
    let nodes = processes.len();
    let report = Report {
        nodes,
        found,
        answered,
        killed,
        answered_after_the_kill: again,
        nobody,
        other_domains,
        milliseconds: clock.laps,
        kept: None,
    };
    Ok((report, processes))
}

/// Seeds, specialists, further peers, and the asker last; everybody knows one seed and nothing else.
async fn start(args: &DemoArgs, directory: &TempDir, story: &mut Story) -> Result<Vec<Process>> {
    let launch = Launch { directory: directory.path(), network: "demo", keep: args.keep };
    let [first, others @ ..] = SEEDS;
    let seed = launch.start(first, None).await?;
    let ticket = seed.ticket();
    let mut processes = vec![seed];
    let more = usize::from(args.nodes).saturating_sub(SEEDS.len() + SPECIALISTS.len() + 1);
    let extras: Vec<String> = (1..=more).map(|number| format!("peer-{number}")).collect();
    let rest = others
        .into_iter()
        .chain(SPECIALISTS.iter().map(|specialist| specialist.nick))
        .chain(extras.iter().map(String::as_str))
        .chain(["asker"]);
    let starting = rest.map(|nick| launch.start(nick, Some(&ticket)));
    processes.extend(try_join_all(starting).await?);
    story.started(&processes);

    let serving = SPECIALISTS.iter().map(|specialist| {
        let process = processes.iter().find(|process| process.nick == specialist.nick);
        async move {
            let process = process.context("every specialist has a process")?;
            let request = specialist.prepare(&process.home)?;
            let response = process
                .client
                .serve(&request)
                .await
                .with_context(|| format!("{} could not serve its table", specialist.nick))?;
            Ok::<(&cast::Specialist, ServeResponse), anyhow::Error>((specialist, response))
        }
    });
    let served = try_join_all(serving).await?;
    story.served(&served);
    Ok(processes)
}

async fn call(asker: &comity_api::Client, target: &str, input: &Value) -> Result<CallResponse> {
    let mut request = CallRequest::new(target, input.clone());
    // What is shown is who answers now, not what is remembered.
    request.reuse.fresh = true;
    request.timeout_ms = Some(15_000);
    let response = asker.call(&request).await.context("the call failed")?;
    // The asker's node has verified it; here it is verified once more, offline, from nothing but the answer itself.
    let proof = ProofFile::new(input.clone(), response.output.clone(), response.proof.clone());
    proof.verify().context("the answer's receipt does not verify")?;
    Ok(response)
}

async fn kill(best: &Match, processes: &mut [Process], story: &mut Story) -> Result<String> {
    let process = processes
        .iter_mut()
        .find(|process| process.status.agent.agent == best.agent.agent)
        .context("the best match is none of the demo's nodes")?;
    process.kill().await?;
    story.killed(process);
    Ok(process.nick.clone())
}

/// One question for each of the other domains, answered by whoever is found.
async fn others(asker: &comity_api::Client, story: &mut Story) -> Result<Vec<CallResponse>> {
    let questions = [
        (
            "airports",
            "which airport is ZRH?",
            json!({ "where": { "iata": "ZRH" }, "columns": ["name", "city", "country", "elevation"] }),
        ),
        (
            "rust security advisories",
            "which advisories concern smallvec?",
            json!({ "where": { "package": "smallvec" }, "columns": ["id", "date", "title"], "limit": 3 }),
        ),
    ];
    let mut answers = Vec::new();
    story.other_domains();
    for (target, question, input) in questions {
        let response = call(asker, target, &input)
            .await
            .with_context(|| format!("nobody answered: {question}"))?;
        story.other_answer(question, &response);
        answers.push(response);
    }
    Ok(answers)
}

/// The rows of a table's answer, whole or in chunks.
fn rows(output: &Output) -> Vec<Vec<Value>> {
    output
        .items()
        .iter()
        .filter_map(|item| item.get("rows")?.as_array())
        .flatten()
        .filter_map(|row| row.as_array().cloned())
        .collect()
}

/// Times the steps of the story.
#[derive(Debug)]
struct Clock {
    started: Instant,
    laps: Vec<(String, u128)>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { started: Instant::now(), laps: Vec::new() }
    }
}

impl Clock {
    fn start(&mut self) {
        self.started = Instant::now();
    }

    fn lap(&mut self, name: &str) {
        self.laps.push((name.to_owned(), self.started.elapsed().as_millis()));
        self.start();
    }
}
