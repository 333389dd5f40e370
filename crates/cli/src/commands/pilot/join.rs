//! `pilot join` and `pilot rendezvous`: the processes that stay.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use comity_api::types::{ErrorCode, ErrorInfo};
use comity_pilot_net::control::{ControlServer, StatusView};
use comity_pilot_net::{Agent, Join, RendezvousServer, ServeRendezvous};
use serde_json::json;

use super::{DIRECTORY, JoinArgs, RendezvousArgs, bridge, talk};
use crate::context::Context;
use crate::{render, signals};

fn local(path: &Path) -> impl FnOnce(io::Error) -> ErrorInfo + '_ {
    move |error| {
        let taken = error.kind() == io::ErrorKind::AddrInUse;
        let code = if taken { ErrorCode::HomeInUse } else { ErrorCode::Storage };
        ErrorInfo::new(code, format!("{}: {error}", path.display()))
    }
}

/// A capability and the port it is offered on; what follows the last colon is a port when it is a number.
fn offered(text: &str) -> (String, u16) {
    let with_port = text.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse().ok()?)));
    match with_port {
        Some((name, port)) => (name.to_owned(), port),
        None => (text.to_owned(), comity_pilot_net::DATA_PORT),
    }
}

pub(super) async fn join(args: JoinArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let home = context.home.join(DIRECTORY);
    comity_pilot_net::make_private_dir(&home).map_err(|error| talk::failed(&error))?;
    let lock = ControlServer::lock(&home).map_err(local(&home))?;
    let joined = Agent::join(Join {
        home: home.clone(),
        registry: args.registry,
        pin: args.pin,
        beacon: args.beacon,
        listen: args.listen,
        hostname: args.hostname,
        public: args.public,
    });
    let agent = joined.await.map_err(|error| talk::failed(&error))?;
    let offers = bridge::offers(context.socket());
    for offer in &args.offer {
        let (capability, port) = offered(offer);
        let handler = offers(capability.clone());
        agent.offer(&capability, port, handler).map_err(|error| talk::failed(&error))?;
    }
    let control =
        ControlServer::start(Arc::clone(&agent), &home, lock, offers).map_err(local(&home))?;
    let own = talk::own_id(context);
    let status = talk::with_own(&StatusView::of(&agent), own.as_deref())?;
    context.out.answer(&status, render::pilot::status)?;
    context.out.note("joined; `comity pilot leave` or Ctrl-C ends it");
    tokio::select! {
        asked = signals::stop_asked() => asked?,
        () = control.stopped() => {}
    }
    agent.leave().await;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn rendezvous(
    args: RendezvousArgs,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let home = context.home.join(DIRECTORY).join("rendezvous");
    comity_pilot_net::make_private_dir(&home).map_err(|error| talk::failed(&error))?;
    let _lock = ControlServer::lock(&home).map_err(local(&home))?;
    let serve = ServeRendezvous {
        home: home.clone(),
        registry: args.registry,
        beacon: args.beacon,
        told_beacon: args.told_beacon,
        tls: args.tls,
    };
    let server = RendezvousServer::start(serve).await.map_err(|error| talk::failed(&error))?;
    let started = json!({
        "registry": server.registry().to_string(),
        "beacon": server.beacon().to_string(),
        "fingerprint": server.fingerprint().map(|fingerprint| fingerprint.to_string()),
        "nodes": server.status().nodes,
    });
    context.out.answer(&started, render::pilot::rendezvous)?;
    signals::stop_asked().await?;
    let status = server.status();
    server.close().map_err(local(&home))?;
    context.out.note(&format!(
        "{} nodes, {} pairs that trust each other, {} frames relayed, {} datagrams refused",
        status.nodes, status.pairs, status.relayed, status.refused
    ));
    Ok(ExitCode::SUCCESS)
}
