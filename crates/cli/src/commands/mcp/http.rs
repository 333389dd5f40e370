//! Endpoints over HTTP: served by the node, which is quickest, or by this process where the node does not run.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use comity_api::types::{EndpointKind, EndpointRequest, ErrorCode, ErrorInfo};
use comity_api::{Client, ClientError, OpenEndpoint};
use comity_mcp::endpoint::Endpoints;
use comity_mcp::http::TOKEN_FILE;
use tokio::time::{Instant, sleep};

use super::{EndpointArgs, fill_random, interrupted};
use crate::context::Context;

/// How long a node that ends may hold on to an address that this process takes over.
const TAKE_OVER: Duration = Duration::from_secs(5);
/// Between two attempts to take it over.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves MCP until it is interrupted.
pub(super) async fn serve(
    args: EndpointArgs,
    serves: EndpointKind,
    context: &Context,
) -> anyhow::Result<ExitCode> {
    let Some(listen) = args.http else { return Ok(ExitCode::SUCCESS) };
    let EndpointArgs { origins, allow_unauthenticated: unauthenticated, .. } = args;
    let request = EndpointRequest { listen, serves, origins, unauthenticated };
    open(request, context, |listen| {
        // For programs that start this and read where it listens.
        context.out.raw(&format!("http://{listen}/mcp\n"))
    })
    .await
}

/// Serves until it is interrupted; `tell` is told once where.
pub(crate) async fn open(
    mut request: EndpointRequest,
    context: &Context,
    tell: impl Fn(SocketAddr) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    let tell = |request: &EndpointRequest| {
        tell(request.listen)?;
        if !request.unauthenticated {
            let file = context.home.join(TOKEN_FILE);
            context.out.note(&format!("the bearer token is in {}", file.display()));
        }
        anyhow::Ok(())
    };
    let in_node = match context.client().await {
        Ok(client) => client.endpoint(&request).await,
        Err(error) => Err(error),
    };
    let mut until = Instant::now();
    let mut is_told = false;
    match in_node {
        Ok(mut open) => {
            request.listen = open.opened().listen;
            tell(&request)?;
            is_told = true;
            tokio::select! {
                () = open.ended() => {}
                () = interrupted() => return Ok(ExitCode::SUCCESS),
            }
            until += TAKE_OVER;
            context.out.note("the node has ended; requests are answered from here until this ends");
        }
        Err(error) if !can_be_here(&error) => return Err(error.into()),
        // It does not run, or is of a version that opens no endpoints.
        Err(_) => {}
    }
    let open = open_here(&request, until, context).await?;
    request.listen = open.listen;
    if !is_told {
        tell(&request)?;
    }
    tokio::select! {
        () = open.work => {}
        () = interrupted() => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn can_be_here(error: &ClientError) -> bool {
    matches!(
        error.info().code,
        ErrorCode::NotRunning | ErrorCode::NoSuchRoute | ErrorCode::NotPermitted
    )
}

async fn open_here(
    request: &EndpointRequest,
    until: Instant,
    context: &Context,
) -> Result<OpenEndpoint, ErrorInfo> {
    let endpoints = Endpoints::new(&context.home, fill_random);
    loop {
        match endpoints.open(Client::at(context.socket()), request.clone()).await {
            Err(error) if error.code == ErrorCode::AddressInUse && Instant::now() < until => {
                sleep(PAUSE).await;
            }
            ended => return ended,
        }
    }
}
