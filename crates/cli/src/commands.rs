//! One module per group of commands; each ends in an exit code or an error.

pub(crate) mod a2a;
pub(crate) mod attest;
pub(crate) mod audit;
pub(crate) mod call;
pub(crate) mod endorse;
pub(crate) mod find;
pub(crate) mod grant;
pub(crate) mod group;
pub(crate) mod handle;
pub(crate) mod id;
pub(crate) mod mcp;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod pilot;
pub(crate) mod policy;
pub(crate) mod receipts;
pub(crate) mod serve;
pub(crate) mod shell;
pub(crate) mod sim;
pub(crate) mod trust;

use std::process::ExitCode;

use crate::args::Command;
use crate::context::Context;
use crate::{bench, demo};

/// Runs a command.
pub(crate) async fn run(command: Command, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        Command::Id(command) => id::run(command, context),
        Command::Up(args) => node::up(args, context).await,
        Command::Down(_) => node::down(context).await,
        Command::Status(args) => node::status(&args, context).await,
        Command::Serve(args) => serve::serve(*args, context).await,
        Command::Unserve(args) => serve::unserve(&args, context).await,
        Command::Find(args) => find::find(&args, context).await,
        Command::Show(args) => find::show(&args, context).await,
        Command::Call(args) => call::call(args, context).await,
        Command::Verify(args) => call::verify(&args, context),
        Command::Audit(command) => audit::run(command, context).await,
        Command::Handle(command) => handle::run(command, context).await,
        Command::Ping(args) => network::ping(&args, context).await,
        Command::Peers(_) => network::peers(context).await,
        Command::Groups(_) => network::groups(context).await,
        Command::Group(command) => group::run(command, context).await,
        Command::Policy(command) => policy::run(command, context).await,
        Command::Trust(command) => trust::run(command, context).await,
        Command::Endorse(args) => endorse::run(*args, context).await,
        Command::Receipts(command) => receipts::receipts(command, context).await,
        Command::Results(command) => receipts::results(command, context).await,
        Command::Reputation(command) => receipts::reputation(command, context).await,
        Command::Attest(command) => Box::pin(attest::run(*command, context)).await,
        Command::Grant(command) => Box::pin(grant::run(command, context)).await,
        Command::A2a(args) => Box::pin(a2a::run(*args, context)).await,
        Command::Mcp(args) => Box::pin(mcp::run(*args, context)).await,
        Command::Pilot(command) => Box::pin(pilot::run(*command, context)).await,
        Command::Demo(mut args) => {
            args.json |= context.out.json;
            Box::pin(demo::run(args)).await
        }
        Command::Bench(args) => Box::pin(bench::run(&args, &context.out)).await,
        Command::Sim(args) => Box::pin(sim::run(*args, context)).await,
        Command::Completions(args) => shell::completions(&args, context),
        Command::Man(args) => shell::man(&args, context),
        Command::Openapi => shell::openapi(context),
    }
}
