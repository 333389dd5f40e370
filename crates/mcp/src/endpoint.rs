//! Endpoints for MCP and A2A clients of this machine, in whatever process: the node's own, or a program's beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use comity_api::types::{EndpointKind, EndpointRequest, ErrorInfo};
use comity_api::{Client, OpenEndpoint};
use futures_util::future::BoxFuture;

use crate::a2a::card::Readers;
use crate::a2a::endpoint::{self as agents, Agents};
use crate::http::{self, Guard};
use crate::server::{self, Network, Settings};
use crate::whole::connect::{self, Remote};

/// Opens the endpoints of one node.
#[derive(Debug)]
pub struct Endpoints(Arc<Home>);

#[derive(Debug)]
struct Home {
    path: PathBuf,
    random: fn(&mut [u8]),
}

impl Endpoints {
    /// Of the node that lives in `home`.
    #[must_use]
    pub fn new(home: &Path, random: fn(&mut [u8])) -> Self {
        Self(Arc::new(Home { path: home.to_owned(), random }))
    }

    /// Listens, in front of the node that `node` reaches.
    ///
    /// # Errors
    /// `bad_request` for an address that others than this machine reach, `address_in_use` when it cannot be had, `key_file` when the
    /// token cannot be read or made, `storage` when the pins cannot be read.
    pub async fn open(
        &self,
        node: Client,
        request: EndpointRequest,
    ) -> Result<OpenEndpoint, ErrorInfo> {
        self.0.open(node, request).await
    }
}

impl comity_api::Endpoints for Endpoints {
    fn open(
        &self,
        node: Client,
        request: EndpointRequest,
    ) -> BoxFuture<'static, Result<OpenEndpoint, ErrorInfo>> {
        let home = Arc::clone(&self.0);
        Box::pin(async move { home.open(node, request).await })
    }
}

impl Home {
    async fn open(
        &self,
        node: Client,
        request: EndpointRequest,
    ) -> Result<OpenEndpoint, ErrorInfo> {
        let EndpointRequest { listen, serves, origins, unauthenticated } = request;
        let (path, random) = (&self.path, self.random);
        let network = |allow_exec: bool| Network::new(node.clone(), path, Settings { allow_exec });
        let (router, watched, following) = match serves {
            EndpointKind::Network { allow_exec } => {
                let network = network(allow_exec)?;
                (server::http::router(network.clone(), random), Some(network), None)
            }
            EndpointKind::Server { target, group } => {
                (connect::router(Remote::new(node.clone(), target, group)), None, None)
            }
            EndpointKind::Agents { group, strict } => {
                let readers = if strict { Readers::Modern } else { Readers::Both };
                let (agents, following) =
                    Agents::new(node.clone(), path, group, !unauthenticated, readers, random)?;
                (agents::router(agents), None, Some(following))
            }
            EndpointKind::All {} => {
                let network = network(false)?;
                let (agents, following) =
                    Agents::new(node.clone(), path, None, !unauthenticated, Readers::Both, random)?;
                let router = Router::new()
                    .merge(server::http::router(network.clone(), random))
                    .merge(connect::all(node.clone()))
                    .merge(agents::router(agents));
                (router, Some(network), Some(following))
            }
        };
        let token = if unauthenticated { None } else { Some(http::token(path, random)?) };
        let guard = match &following {
            Some(_) => Guard::leaving_open(token, origins, agents::is_open),
            None => Guard::new(token, origins),
        };
        let listener = http::listen(listen).await?;
        let listen = listener.local_addr().map_err(|error| http::no_place(listen, &error))?;
        let work = async move {
            let _following = following;
            let watch = async {
                match &watched {
                    Some(network) => network.watch().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = http::serve(listener, router, guard) => {}
                () = watch => {}
            }
        };
        Ok(OpenEndpoint { listen, work: Box::pin(work) })
    }
}
