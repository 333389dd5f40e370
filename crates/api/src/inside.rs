//! What a node and programs inside its process have to do with each other.
//!
//! An endpoint for programs of other protocols needs the local API and nothing else of a node. Where it runs inside the node, the same
//! [`Client`] reaches the API without its socket: calls as they are, everything else as the requests that would have gone over it.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use hyper::Method;

use crate::Client;
use crate::types::{CallEvent, CallRequest, EndpointRequest, ErrorInfo};

/// The local API of the node whose process this is.
pub trait Inside: fmt::Debug + Send + Sync {
    /// A request answered in one piece: status and body, as over the socket.
    fn ask(&self, method: Method, path: String, body: Bytes) -> BoxFuture<'static, (u16, Bytes)>;

    /// `POST /v1/call` as a stream of events, which ends with `done` or `error`. Dropping it cancels the call.
    fn call(
        &self,
        request: CallRequest,
    ) -> BoxFuture<'static, Result<BoxStream<'static, CallEvent>, ErrorInfo>>;
}

/// Opens endpoints inside a node.
pub trait Endpoints: fmt::Debug + Send + Sync {
    /// Listens; `node` is the node that the endpoint is in front of.
    ///
    /// # Errors
    /// The future's, when the address cannot be had or must not be.
    fn open(
        &self,
        node: Client,
        request: EndpointRequest,
    ) -> BoxFuture<'static, Result<OpenEndpoint, ErrorInfo>>;
}

/// An endpoint that listens and is served by whoever polls it.
pub struct OpenEndpoint {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Serves. Dropping it ends the endpoint and whatever goes on in it.
    pub work: BoxFuture<'static, ()>,
}

impl fmt::Debug for OpenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenEndpoint").field("listen", &self.listen).finish_non_exhaustive()
    }
}
