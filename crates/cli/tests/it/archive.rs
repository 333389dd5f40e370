//! A capability with large answers: a web service on a free port that tells many long lines.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::e2e_support::{Node, World};

pub(crate) const NAME: &str = "archive";
/// A line has about as many bytes.
const LINE_BYTES: usize = 512 * 1024 - 100;

/// Answers each request with many long lines, which follow from it; slow enough for its answers to be worth telling of.
fn archive() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // Whoever asks may go away before the end.
            std::thread::spawn(move || drop(tell(&stream)));
        }
    });
    format!("http://{address}/archive")
}

fn tell(mut stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request: Value = serde_json::from_slice(&body)?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/x-ndjson\r\n\r\n",
    )?;
    for number in 0..request["lines"].as_u64().unwrap_or(1) {
        stream.write_all(answer_line(&request, number).as_bytes())?;
    }
    Ok(())
}

fn answer_line(request: &Value, number: u64) -> String {
    let word = format!("{}-{number};", request["of"].as_str().unwrap_or_default());
    let text = word.repeat(LINE_BYTES / word.len());
    format!("{}\n", json!({ "line": number, "text": text }))
}

/// The answer to a request, as `call --stream` prints it.
pub(crate) fn answer(request: &Value) -> String {
    let lines = request["lines"].as_u64().unwrap_or(1);
    (0..lines).map(|number| answer_line(request, number)).collect()
}

/// Serves it, for everybody and to be shared.
pub(crate) fn serve(world: &World, node: &Node) {
    let lines = format!(
        "name = \"{NAME}\"\ndescription = \"long texts\"\nvisibility = \"public\"\nidempotent = true\nvalid_for = \"1h\"\ndata_version = \"7\"\n[reuse]\nscope = \"public\"\ndeterminism = \"exact\"\n[http]\nurl = \"{}\"\n",
        archive()
    );
    node.ok(&["serve", "--manifest", &world.file("archive.toml", &lines), "--yes"]);
}
