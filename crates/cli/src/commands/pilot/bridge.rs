//! Between the networks: comity capabilities on Pilot ports, Pilot services as comity capabilities.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use comity_api::Client;
use comity_api::types::{CallRequest, ErrorCode, ErrorInfo, ServeMode, ServeRequest};
use comity_pilot_net::Handler;
use comity_pilot_net::control::{Ask, NodeView, Offers};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::{BringArgs, DIRECTORY, RelayArgs, talk};
use crate::args::millis;
use crate::context::Context;
use crate::{progress, render};

/// Makes what answers Pilot requests: each is a call by the node of this home, whose socket this is.
pub(super) fn offers(socket: PathBuf) -> Offers {
    Arc::new(move |capability: String| -> Handler {
        let socket = socket.clone();
        Arc::new(move |_node, request: Vec<u8>| {
            let (socket, capability) = (socket.clone(), capability.clone());
            Box::pin(async move {
                let answer = call(&socket, &capability, &request).await;
                let answer = answer.unwrap_or_else(
                    |info| json!({"error": {"code": info.code, "message": info.message}}),
                );
                answer.to_string().into_bytes()
            })
        })
    })
}

/// The request as the capability's input; its output, with the receipt that proves it.
async fn call(socket: &Path, capability: &str, request: &[u8]) -> Result<Value, ErrorInfo> {
    let input: Value = serde_json::from_slice(request)
        .map_err(|error| ErrorInfo::new(ErrorCode::BadInput, format!("no JSON: {error}")))?;
    let client = Client::connect(socket).await.map_err(|error| error.info())?;
    let request = CallRequest::new(capability, input);
    let response = client.call(&request).await.map_err(|error| error.info())?;
    serde_json::to_value(response)
        .map_err(|error| ErrorInfo::new(ErrorCode::Internal, error.to_string()))
}

pub(super) async fn bring(args: BringArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let home = context.home.join(DIRECTORY);
    let found = talk::ask_one(&home, &Ask::Find { target: args.node.clone() }).await?;
    let found: NodeView = serde_json::from_value(found)?;
    if !found.trusted {
        let text = format!("node {} and this one do not trust each other", found.node);
        return Err(ErrorInfo::new(ErrorCode::Refused, text)
            .hint("ask for it: comity pilot handshake NODE")
            .into());
    }
    let exe = std::env::current_exe()?;
    let command = [
        exe.to_string_lossy().into_owned(),
        "--home".to_owned(),
        context.home.to_string_lossy().into_owned(),
        "pilot".to_owned(),
        "relay".to_owned(),
        // The number, not the name: a name can move to another node.
        found.node.to_string(),
        "--port".to_owned(),
        args.port.to_string(),
        "--timeout".to_owned(),
        format!("{}ms", millis(args.timeout)),
    ];
    let mut manifest = Map::from_iter([
        ("name".to_owned(), json!(args.name)),
        ("description".to_owned(), json!(args.description)),
        ("visibility".to_owned(), json!(if args.public { "public" } else { "private" })),
        (
            "attributes".to_owned(),
            json!({"via": "pilot", "pilot-node": found.address, "pilot-key": found.public_key}),
        ),
        ("tags".to_owned(), json!(["via-pilot"])),
        ("exec".to_owned(), json!({"command": command})),
    ]);
    for (key, values) in [("examples", &args.example), ("classes", &args.class)] {
        if !values.is_empty() {
            manifest.insert(key.to_owned(), json!(values));
        }
    }
    if let Some(path) = &args.input_schema {
        manifest.insert("input_schema".to_owned(), json!(std::path::absolute(path)?));
    }
    let request = ServeRequest {
        manifest: Some(Value::Object(manifest)),
        mode: ServeMode::Publish,
        ..ServeRequest::default()
    };
    let client = context.client().await?;
    let served = progress::during(&context.out, "publishing", client.serve(&request)).await?;
    context.out.answer(&served, render::serve::published)?;
    context.out.note(
        "its answers are signed by this node, which vouches for what the Pilot network said, not for the service itself",
    );
    Ok(ExitCode::SUCCESS)
}

/// One request a line, one answer a line, in order, until the input ends.
pub(super) async fn relay(args: RelayArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let home = context.home.join(DIRECTORY);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut out = tokio::io::stdout();
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str(&line) {
            Ok(input) => {
                let ask = Ask::Request {
                    target: args.node.clone(),
                    port: args.port,
                    input,
                    timeout_ms: millis(args.timeout),
                };
                let answer = talk::ask_one(&home, &ask).await;
                answer.unwrap_or_else(|info| talk::error_line(&info.message))
            }
            Err(error) => talk::error_line(&format!("no JSON: {error}")),
        };
        out.write_all(format!("{answer}\n").as_bytes()).await?;
        out.flush().await?;
    }
    Ok(ExitCode::SUCCESS)
}
