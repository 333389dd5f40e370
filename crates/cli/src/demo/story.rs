//! The demo as it is told.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use comity_api::types::{CallResponse, Condition, FindResponse, Probe, ServeResponse, Verdict};
use serde::Serialize;
use serde_json::Value;

use super::cast::Specialist;
use super::rows;
use crate::process::Process;
use crate::render::{BAD, DIM, GOOD, STRONG, clean, micros};

/// Widest value printed in a row of an answer.
const CELL_CHARS_MAX: usize = 46;

/// Tells the story, or keeps silent when a program listens.
#[derive(Debug)]
pub(super) struct Story {
    aloud: bool,
    chapter: u32,
}

impl Story {
    pub(super) fn new(aloud: bool) -> Self {
        Self { aloud, chapter: 0 }
    }

    pub(super) fn title(&self, nodes: usize) {
        self.say(&format!("{STRONG}A private network of {nodes} agents on this machine{STRONG:#}"));
        self.say("Every agent is a process with a key of its own. There is no server: each knows one other and finds the rest.");
    }

    pub(super) fn started(&mut self, processes: &[Process]) {
        self.chapter("The agents come up");
        for process in processes {
            self.say(&format!(
                "   {:<11} {DIM}process {:<8}{DIM:#} {}",
                process.nick,
                process.pid(),
                process.status.agent.handle
            ));
        }
    }

    pub(super) fn served(&mut self, served: &[(&Specialist, ServeResponse)]) {
        self.chapter("Seven of them say what they can do");
        for (specialist, response) in served {
            self.say(&format!("   {:<11} {}", specialist.nick, specialist.about));
            let declaration = response.declaration.as_ref();
            let attribute = |key: &str| {
                declaration
                    .and_then(|declaration| declaration.attributes.get(key))
                    .map(|value| clean(&value.text))
            };
            let derived: Vec<String> =
                [("covers", "schema:temporalCoverage"), ("resolution", "dcat:temporalResolution")]
                    .into_iter()
                    .filter_map(|(word, key)| Some(format!("{word} {}", attribute(key)?)))
                    .collect();
            let rows = response.table.as_ref().map(|table| format!("{} rows", table.rows));
            let custodians = response
                .published
                .as_ref()
                .map(|published| format!("kept by {} custodians", published.custodians));
            let facts: Vec<String> = rows.into_iter().chain(derived).chain(custodians).collect();
            self.say(&format!("   {:<11} {DIM}{}{DIM:#}", "", facts.join(", ")));
        }
        self.say("   Time spans and resolutions were read off the tables, not typed in.");
    }

    pub(super) fn found(&mut self, found: &FindResponse, processes: &[Process]) {
        self.chapter("Somebody asks the network what it needs, not whom");
        self.say(&format!("   {STRONG}{}{STRONG:#}", clean(&found.query)));
        let search = &found.search;
        self.say(&format!(
            "   {} of {} custodians answered with {} candidates in {} ms; {} fit",
            search.custodians_answered,
            search.custodians_asked,
            search.candidates,
            search.elapsed_ms,
            found.matches.len()
        ));
        for (index, hit) in found.matches.iter().enumerate() {
            let alive = match &hit.probe {
                Some(Probe::Alive { rtt_us }) => format!("answers in {}", micros(*rtt_us)),
                Some(Probe::Declined { reason } | Probe::Unreachable { reason }) => clean(reason),
                None => "not probed".to_owned(),
            };
            self.say(&format!(
                "   {}. {STRONG}{}{STRONG:#}: {}  {DIM}score {:.2}, {} of {} custodians, {alive}{DIM:#}",
                index + 1,
                nick(processes, &hit.agent.agent.to_string()),
                clean(&hit.title),
                hit.score,
                hit.custodians.n,
                hit.custodians.of,
            ));
            for condition in &hit.conditions {
                self.condition(condition);
            }
        }
        if !found.near_misses.is_empty() {
            self.say("   Nearly:");
        }
        for miss in &found.near_misses {
            self.say(&format!(
                "    - {}: {}",
                nick(processes, &miss.agent.agent.to_string()),
                clean(&miss.capability)
            ));
            for condition in &miss.failed {
                self.condition(condition);
            }
        }
    }

    pub(super) fn answered(
        &mut self,
        input: &Value,
        response: &CallResponse,
        processes: &[Process],
    ) {
        self.chapter("It calls the best of them, directly and encrypted");
        self.say(&format!("   asks     {input}"));
        self.answer(response, processes);
        self.say("   The receipt binds producer, caller, question, answer and session; it was checked before this was printed,");
        self.say("   and once more offline, as `comity verify` does.");
    }

    pub(super) fn killed(&mut self, process: &Process) {
        self.chapter("The best one dies without a word");
        self.say(&format!(
            "   {BAD}SIGKILL{BAD:#} to process {}, {STRONG}{}{STRONG:#}",
            process.pid(),
            process.nick
        ));
        self.say("   The same question again:");
    }

    pub(super) fn answered_again(&mut self, response: &CallResponse, processes: &[Process]) {
        self.answer(response, processes);
    }

    pub(super) fn nobody(&mut self, found: &FindResponse) {
        self.chapter("A question nobody can answer");
        self.say(&format!("   {STRONG}{}{STRONG:#}", clean(&found.query)));
        if found.matches.is_empty() {
            self.say("   none; the nearest misses:");
        }
        for miss in &found.near_misses {
            self.say(&format!("    - {}", clean(&miss.capability)));
            for condition in &miss.failed {
                self.condition(condition);
            }
        }
    }

    pub(super) fn other_domains(&mut self) {
        self.chapter("Other domains, same network");
    }

    pub(super) fn other_answer(&self, question: &str, response: &CallResponse) {
        self.say(&format!("   {STRONG}{question}{STRONG:#}"));
        self.rows(response);
    }

    pub(super) fn timings(&mut self, laps: &[(String, u128)]) {
        self.chapter("What it took");
        for (name, milliseconds) in laps {
            self.say(&format!("   {milliseconds:>6} ms  {name}"));
        }
    }

    pub(super) fn cleaned_up(&self, nodes: usize) {
        self.say(&format!("\nAll {nodes} nodes are stopped and their files removed. `comity demo --keep` leaves them running."));
    }

    pub(super) fn kept(&self, home: &str, directory: &Path, processes: &[Process]) {
        self.say(&format!(
            "\n{STRONG}The network keeps running.{STRONG:#} Talk to it as the asker:"
        ));
        self.say(&format!("   export COMITY_HOME={home}"));
        self.say("   comity status");
        self.say("   comity find 'fx data where pair = EUR/JPY' --explain");
        self.say("   comity call airports --json '{\"where\": {\"country\": \"CH\"}, \"limit\": 3}' --receipt proof.json");
        self.say("   comity verify proof.json");
        let pids: Vec<String> = processes.iter().map(|process| process.pid().to_string()).collect();
        self.say(&format!(
            "Stop it with: kill {} && rm -r {}",
            pids.join(" "),
            directory.display()
        ));
    }

    fn answer(&self, response: &CallResponse, processes: &[Process]) {
        for attempt in &response.attempts {
            if let comity_api::types::AttemptOutcome::Failed { error, .. } = &attempt.outcome {
                let who = nick(processes, &attempt.agent.agent.to_string());
                self.say(&format!("   {BAD}failed{BAD:#}   {who}: {}", clean(&error.message)));
            }
        }
        let receipt = &response.proof.receipt;
        self.say(&format!(
            "   {GOOD}answered{GOOD:#} by {STRONG}{}{STRONG:#} in {}, signed by {}",
            nick(processes, &receipt.callee),
            micros(response.summary.attempt_us),
            receipt.callee.chars().take(12).collect::<String>() + "…",
        ));
        self.rows(response);
    }

    fn rows(&self, response: &CallResponse) {
        for row in rows(&response.output) {
            let cells: Vec<String> = row.iter().map(cell).collect();
            self.say(&format!("            {}", cells.join("  ")));
        }
    }

    fn condition(&self, condition: &Condition) {
        let (style, mark) = match condition.verdict {
            Verdict::Met => (GOOD, "met  "),
            Verdict::Unmet | Verdict::Undeclared => (BAD, "fails"),
        };
        let declared = condition.declared.as_deref().map_or_else(|| "undeclared".to_owned(), clean);
        self.say(&format!(
            "      {style}{mark}{style:#} {}: {DIM}{declared}{DIM:#}",
            clean(&condition.text)
        ));
    }

    fn chapter(&mut self, title: &str) {
        self.chapter += 1;
        self.say(&format!("\n{STRONG}{}. {title}{STRONG:#}", self.chapter));
    }

    fn say(&self, line: &str) {
        if self.aloud {
            // A story nobody reads any more still ends in order.
            let _closed = writeln!(anstream::stdout().lock(), "{line}");
        }
    }
}

fn nick(processes: &[Process], agent: &str) -> String {
    let process = processes.iter().find(|process| process.status.agent.agent.to_string() == agent);
    process.map_or_else(|| agent.to_owned(), |process| process.nick.clone())
}

fn cell(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), clean);
    match text.char_indices().nth(CELL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Prints the report for programs.
pub(super) fn print_json<T: Serialize>(report: &T) -> Result<()> {
    let text =
        serde_json::to_string_pretty(report).context("the report cannot be written as JSON")?;
    print_line(&text)
}

/// Prints one line.
pub(super) fn print_line(line: &str) -> Result<()> {
    writeln!(anstream::stdout().lock(), "{line}").context("cannot write to standard output")
}
