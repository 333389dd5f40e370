//! What stands before an HTTP endpoint: it listens on loopback only, and a request must name a local host, come from no
//! foreign web page, and carry the token.
//!
//! A web page can make a browser send requests to a local port, also under a name of its own that it lets point here (DNS
//! rebinding). The `Origin` and `Host` checks refuse both, as the MCP transport specification demands.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use comity_api::types::{ErrorCode, ErrorInfo};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// File below the node's home that holds the token.
pub const TOKEN_FILE: &str = "mcp.token";
/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;
/// Connections open at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may take for the head of a request, or wait for one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Pause after a failed accept (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Names of this machine's loopback interface.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Who may talk to an HTTP endpoint.
#[derive(Clone)]
pub struct Guard(Arc<Rules>);

struct Rules {
    token: Option<String>,
    origins: Vec<String>,
    /// Paths that may be read without the token.
    open: fn(&str) -> bool,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("token", &self.0.token.is_some())
            .field("origins", &self.0.origins)
            .finish()
    }
}

impl Guard {
    /// Demands `token` of every request, if there is one, and lets web pages of `origins` in besides those of this
    /// machine.
    #[must_use]
    pub fn new(token: Option<String>, origins: Vec<String>) -> Self {
        Self::leaving_open(token, origins, |_| false)
    }

    /// The same, where GET requests for paths that `open` knows need no token. Host and origin are checked all the same.
    #[must_use]
    pub fn leaving_open(
        token: Option<String>,
        origins: Vec<String>,
        open: fn(&str) -> bool,
    ) -> Self {
        let origins = origins.into_iter().map(|one| one.trim_end_matches('/').to_owned()).collect();
        Self(Arc::new(Rules { token, origins, open }))
    }

    /// Why a request is refused, if it is.
    fn refusal_of(&self, request: &Request) -> Option<(StatusCode, &'static str)> {
        let open =
            request.method() == axum::http::Method::GET && (self.0.open)(request.uri().path());
        match self.refusal(request.headers()) {
            Some((StatusCode::UNAUTHORIZED, _)) if open => None,
            other => other,
        }
    }

    /// Why a request with these headers is refused, if it is.
    fn refusal(&self, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let mut hosts = headers.get_all(HOST).iter();
        match (hosts.next().and_then(text), hosts.next()) {
            (Some(host), None) if is_local(&host) => {}
            _ => {
                return Some((StatusCode::FORBIDDEN, "the Host header does not name this machine"));
            }
        }
        for origin in headers.get_all(ORIGIN) {
            let known = text(origin).is_some_and(|origin| {
                let host =
                    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
                host.is_some_and(is_local) || self.0.origins.contains(&origin)
            });
            if !known {
                return Some((StatusCode::FORBIDDEN, "requests of this web page are not taken"));
            }
        }
        let token = self.0.token.as_deref()?;
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        match given {
            Some((scheme, given))
                if scheme.eq_ignore_ascii_case("bearer") && same(given.trim(), token) =>
            {
                None
            }
            _ => Some((
                StatusCode::UNAUTHORIZED,
                "a bearer token is needed; it is in HOME/mcp.token of the node",
            )),
        }
    }
}

/// Whether an authority (`host[:port]`) is one of this machine's loopback names.
fn is_local(authority: &str) -> bool {
    LOCAL_HOSTS.iter().any(|host| {
        let Some((name, rest)) = authority.split_at_checked(host.len()) else { return false };
        if !name.eq_ignore_ascii_case(host) {
            return false;
        }
        rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
    })
}

/// Compares in a time that depends on the lengths alone.
fn same(given: &str, wanted: &str) -> bool {
    given.len() == wanted.len()
        && given.bytes().zip(wanted.bytes()).fold(0, |differences, (a, b)| differences | (a ^ b))
            == 0
}

async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.refusal_of(&request) {
        None => next.run(request).await,
        Some((status, reason)) => {
            let body = serde_json::json!({
                "jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": reason},
            });
            let mut response = Response::new(axum::body::Body::from(body.to_string()));
            *response.status_mut() = status;
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            if status == StatusCode::UNAUTHORIZED {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        }
    }
}

/// Listens on a loopback address.
///
/// # Errors
/// `bad_request` for an address that others than this machine reach, `address_in_use` when it cannot be had.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ErrorInfo> {
    if !address.ip().is_loopback() {
        let text = format!("{address} can be reached by other machines");
        return Err(ErrorInfo::new(ErrorCode::BadRequest, text).hint(
            "listen on 127.0.0.1 or [::1]; peers come in over the network, not over this port",
        ));
    }
    TcpListener::bind(address).await.map_err(|error| no_place(address, &error))
}

pub(crate) fn no_place(address: SocketAddr, error: &io::Error) -> ErrorInfo {
    ErrorInfo::new(ErrorCode::AddressInUse, format!("cannot listen on {address}: {error}"))
        .hint("choose another port; 0 lets the system choose")
}

/// Serves `router` behind `guard`. Dropping it closes the connections, and so ends what goes on in them.
pub async fn serve(listener: TcpListener, router: Router, guard: Guard) {
    let service = TowerToHyperService::new(router.layer(from_fn_with_state(guard, check)));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let accepted = tokio::select! {
            biased;
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small answers must not wait for an acknowledgement (Nagle's algorithm).
        let _ = stream.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service.clone());
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of a local client ended early");
            }
            drop(place);
        });
    }
}

/// The token of the node in `home`, made by `random` when there is none yet. The file is its owner's alone.
///
/// # Errors
/// `key_file` when the file can be read by others, or cannot be read or written.
pub fn token(home: &Path, random: impl FnOnce(&mut [u8])) -> Result<String, ErrorInfo> {
    secret(home, TOKEN_FILE, random)
}

/// The secret in `file` below `home`, 32 bytes in hexadecimal digits, made by `random` when there is none yet.
///
/// # Errors
/// As [`token`].
pub fn secret(
    home: &Path,
    file: &str,
    random: impl FnOnce(&mut [u8]),
) -> Result<String, ErrorInfo> {
    let path = home.join(file);
    let failed = |error: &dyn std::fmt::Display| {
        ErrorInfo::new(ErrorCode::KeyFile, format!("the secret in {}: {error}", path.display()))
            .hint("remove the file to have a new one made")
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let mode =
                std::fs::metadata(&path).map_err(|error| failed(&error))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(failed(&format!(
                    "has mode {:04o}, so others can read it",
                    mode & 0o7777
                )));
            }
            let token = text.trim();
            if token.len() < TOKEN_BYTES {
                return Err(failed(&"is too short to be one"));
            }
            Ok(token.to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; TOKEN_BYTES];
            random(&mut bytes);
            let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let mut options = std::fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(|error| failed(&error))?;
            io::Write::write_all(&mut file, format!("{token}\n").as_bytes())
                .map_err(|error| failed(&error))?;
            Ok(token)
        }
        Err(error) => Err(failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (axum::http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    fn status(guard: &Guard, pairs: &[(&'static str, &str)]) -> Option<u16> {
        guard.refusal(&headers(pairs)).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn foreign_hosts_and_pages_are_refused() {
        let guard = Guard::new(None, vec!["https://app.example/".to_owned()]);
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:4711", "[::1]:9", "[::1]"] {
            assert_eq!(status(&guard, &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "127.0.0.1:x",
            "",
            "::1",
            "řř",
        ] {
            let host = HeaderValue::from_bytes(host.as_bytes()).unwrap();
            let refusal = guard.refusal(&HeaderMap::from_iter([(HOST, host.clone())]));
            assert!(refusal.is_some(), "{host:?}");
        }
        assert_eq!(status(&guard, &[]), Some(403));
        for (origin, refused) in [
            ("http://localhost:3000", None),
            ("https://app.example", None),
            ("https://evil.example", Some(403)),
            ("http://localhost.evil.example", Some(403)),
            ("null", Some(403)),
            ("file://", Some(403)),
        ] {
            assert_eq!(
                status(&guard, &[("host", "localhost"), ("origin", origin)]),
                refused,
                "{origin}"
            );
        }
    }

    #[test]
    fn two_hosts_are_none() {
        let mut two = headers(&[("host", "localhost")]);
        two.append(HOST, HeaderValue::from_static("evil.example"));
        assert!(Guard::new(None, Vec::new()).refusal(&two).is_some());
    }

    #[test]
    fn the_token_is_demanded_whole() {
        let guard = Guard::new(Some("secret".to_owned()), Vec::new());
        let local = ("host", "localhost");
        assert_eq!(status(&guard, &[local, ("authorization", "Bearer secret")]), None);
        assert_eq!(status(&guard, &[local, ("authorization", "bearer secret")]), None);
        for wrong in ["Bearer secre", "Bearer secrets", "Basic secret", "secret", "Bearer "] {
            assert_eq!(status(&guard, &[local, ("authorization", wrong)]), Some(401), "{wrong}");
        }
        assert_eq!(status(&guard, &[local]), Some(401));
    }

    #[test]
    fn a_token_is_made_once_and_kept_private() {
        let home = tempfile::tempdir().unwrap();
        let made = token(home.path(), |bytes| bytes.fill(0xab)).unwrap();
        assert_eq!(made, "ab".repeat(TOKEN_BYTES));
        assert_eq!(token(home.path(), |_| panic!("there is one")).unwrap(), made);
        let path = home.path().join(TOKEN_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(token(home.path(), |_| ()).unwrap_err().code, ErrorCode::KeyFile);
    }
}
