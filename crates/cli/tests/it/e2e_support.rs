//! Real nodes on loopback: each a process with a home of its own, asked over its socket, gone when the test ends.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Run, comity};

/// Longest a condition may take to come true: far more than needed, because machines are shared.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks at something that is not true yet.
const POLL: Duration = Duration::from_millis(15);

/// What every node of these tests is started with.
pub(crate) const TEST_NETWORK: [&str; 4] = ["--mint-bits", "0", "--network", "test"];

/// Waits until `look` returns something.
pub(crate) fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(POLL);
    }
}

/// A request to the API socket below `home`: status code and JSON body.
pub(crate) fn api(
    home: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> io::Result<(u16, Value)> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = raw_request(home, &[head.as_bytes(), body.as_bytes()])?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other(format!("no HTTP answer: {answer}")))?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no status line: {head}")))?;
    let body = serde_json::from_str(body).map_err(io::Error::other)?;
    Ok((status, body))
}

/// Writes bytes to the API socket and reads until the node closes the connection.
pub(crate) fn raw_request(home: &Path, parts: &[&[u8]]) -> io::Result<String> {
    let mut stream = UnixStream::connect(home.join("api.sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    for part in parts {
        // A node that refuses early closes before everything is sent; its answer is there all the same.
        if stream.write_all(part).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => {}
        Err(error) => return Err(error),
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A UDP port below those the system hands out, so that nobody takes it while its node is down.
pub(crate) fn quiet_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id() % 5_000;
    loop {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 5_000;
        let port = 21_000 + u16::try_from(offset).unwrap();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Makes an identity in `home`.
pub(crate) fn new_identity(home: &Path) -> String {
    let made = comity(home, &["id", "new", "--mint-bits", "0", "--json"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    made.json()["agent"].as_str().unwrap().to_owned()
}

/// A directory for the homes of one test.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("ce2e").tempdir().unwrap() }
    }

    pub(crate) fn home(&self, nick: &str) -> PathBuf {
        self.dir.path().join(nick)
    }

    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A node with a new identity.
    pub(crate) fn node(&self, nick: &str, args: &[&str]) -> Node {
        let home = self.home(nick);
        new_identity(&home);
        Node::start(&home, args)
    }

    /// A node that has joined the network of `seed`.
    pub(crate) fn joined(&self, nick: &str, seed: &Node) -> Node {
        let node = self.node(nick, &["--join", &seed.ticket()]);
        node.wait_joined();
        node
    }
}

/// A node process. It ends with the test process, whatever happens to that: its standard input is a pipe from here.
pub(crate) struct Node {
    pub(crate) home: PathBuf,
    child: Child,
    _lifeline: Option<ChildStdin>,
}

impl Node {
    /// Starts a node in a home with an identity and waits until it answers.
    pub(crate) fn start(home: &Path, args: &[&str]) -> Self {
        let mut node = Self::spawn(home, args);
        wait("a started node answers", || {
            if let Some(status) = node.child.try_wait().unwrap() {
                panic!("the node ended ({status}):\n{}", node.log());
            }
            api(&node.home, "GET", "/v1/status", None).ok()
        });
        node
    }

    /// Starts a node and does not wait.
    pub(crate) fn spawn(home: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_comity"));
        command.arg("--home").arg(home).args(["-v", "up"]).args(TEST_NETWORK);
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(args);
        Self::spawn_command(home, command)
    }

    /// Starts a prepared command line that ends in `comity up`.
    pub(crate) fn spawn_command(home: &Path, mut command: Command) -> Self {
        let mut log = File::options();
        let log = log.create(true).append(true).open(home.with_extension("log")).unwrap();
        command.arg("--until-stdin-closes").env_remove("COMITY_HOME").env_remove("COMITY_LOG");
        command.env("NO_COLOR", "1").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap();
        let lifeline = child.stdin.take();
        Self { home: home.to_owned(), child, _lifeline: lifeline }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.with_extension("log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs `comity` against this node.
    pub(crate) fn run<A: AsRef<str>>(&self, args: &[A]) -> Run {
        let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
        comity(&self.home, &args)
    }

    /// The same, and expects success.
    pub(crate) fn ok<A: AsRef<str>>(&self, args: &[A]) -> Run {
        let run = self.run(args);
        let line: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
        assert_eq!(run.code, 0, "{line:?}:\n{}\n{}\nlog:\n{}", run.stdout, run.stderr, self.log());
        run
    }

    /// `comity` against this node, running on its own.
    pub(crate) fn background<A: AsRef<OsStr>>(&self, args: &[A]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_comity"));
        command.arg("--home").arg(&self.home).args(args).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (code, body) = api(&self.home, "GET", path, None).unwrap();
        assert_eq!(code, 200, "{path}: {body}");
        body
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        api(&self.home, "POST", path, Some(body)).unwrap()
    }

    pub(crate) fn status(&self) -> Value {
        self.get("/v1/status")
    }

    /// A text of the status, by JSON pointer.
    pub(crate) fn status_text(&self, pointer: &str) -> String {
        self.status().pointer(pointer).unwrap().as_str().unwrap().to_owned()
    }

    pub(crate) fn agent(&self) -> String {
        self.status_text("/agent/agent")
    }

    pub(crate) fn address(&self) -> String {
        self.status_text("/agent/address")
    }

    pub(crate) fn ticket(&self) -> String {
        self.status_text("/ticket")
    }

    pub(crate) fn socket_address(&self) -> String {
        self.status_text("/reachable_at/0")
    }

    /// Names of what it serves.
    pub(crate) fn serves(&self) -> Vec<String> {
        let served = self.get("/v1/capabilities");
        let names = served["capabilities"].as_array().unwrap().iter();
        names.map(|one| one["declaration"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Targets that a query finds, best first.
    pub(crate) fn finds(&self, query: &str) -> Vec<String> {
        let (code, body) = self.post("/v1/find", &json!({ "query": query }));
        assert_eq!(code, 200, "{query}: {body}");
        let matches = body["matches"].as_array().unwrap().iter();
        matches.map(|one| one["target"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn wait_joined(&self) {
        wait("a node joins", || {
            let status = self.status();
            (status["join"]["state"] == "joined").then_some(())
        });
    }

    /// SIGKILL: no goodbye, no flushing.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// `comity down`, until the process is gone.
    pub(crate) fn down(&mut self) {
        self.ok(&["down"]);
        let status = wait("a stopped node ends", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.log());
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program for `serve --exec` that keeps a note of every request in `notes` and does what `mode` of the request says.
pub(crate) fn moody_program(world: &World, name: &str) -> (String, PathBuf) {
    let notes = world.dir.path().join(format!("{name}.notes"));
    let script = format!(
        r#"echo "pid $$" >> {notes}
while read -r line; do
  echo "$line" >> {notes}
  case "$line" in
    *'"crash"'*) exit 3 ;;
    *'"hang"'*) while kill -0 $PPID; do sleep 0.1; done ;;
    *'"cling"'*) sleep 100 ;;
    *'"garbage"'*) echo 'this is not JSON' ;;
    *'"flood"'*) head -c 6000000 /dev/zero | tr '\0' 'x'; echo ;;
    *'"chatter"'*) while echo '{{"a": 1}}'; do :; done ;;
    *'"sorry"'*) echo '{{"error": {{"message": "no rates on Sundays"}}}}' ;;
    *) echo "{{\"echo\": $line}}" ;;
  esac
done
"#,
        notes = notes.display()
    );
    let path = world.file(&format!("{name}.sh"), &script);
    (format!("/bin/sh {path}"), notes)
}

/// The requests a program noted.
pub(crate) fn notes(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| !line.starts_with("pid ")).map(str::to_owned).collect()
}

/// The process ids of all copies of a program that ever ran.
pub(crate) fn copies(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("pid ").map(str::to_owned)).collect()
}

/// Whether a process is there (POSIX `kill -0`).
pub(crate) fn alive(pid: &str) -> bool {
    let mut look = Command::new("kill");
    look.args(["-0", pid]).stderr(Stdio::null()).status().unwrap().success()
}

/// The repository's data directory.
pub(crate) fn data(file: &str) -> String {
    format!("{}/../../data/{file}", env!("CARGO_MANIFEST_DIR"))
}
