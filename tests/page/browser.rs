//! A browser, driven through WebDriver: JSON over plain HTTP to chromedriver. Source: the WebDriver recommendation of
//! the W3C, sections 6 to 18.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The name under which WebDriver hands elements out.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser with this page.
    pub(crate) fn start(address: &str) -> Self {
        let profile = tempfile::Builder::new().prefix("twinboot-browser-").tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .args(["--port=0", "--log-level=SEVERE"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| {
                line.ok()?.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
            })
            .expect("chromedriver says its port");
        // It must not wait for somebody to read the rest.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let options = json!({"args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--window-size=1366,1100", profile,
        ]});
        let wanted = json!({"capabilities": {"alwaysMatch": {
            // The emulator's CA is new at every start.
            "acceptInsecureCerts": true,
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let made = browser.ask("POST", "/session", &wanted);
        browser.session = format!("/session/{}", made["sessionId"].as_str().unwrap());
        browser.command("POST", "/url", &json!({"url": address}));
        browser
    }

    /// Runs a script's body in the page; what it returns.
    pub(crate) fn run(&mut self, script: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Clicks as a person would: it fails if something lies above it.
    pub(crate) fn click(&mut self, selector: &str) {
        let element = self.find(selector);
        self.command("POST", &format!("/element/{element}/click"), &json!({}));
    }

    /// Types into a field, in place of what it has.
    pub(crate) fn fill(&mut self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.command("POST", &format!("/element/{element}/clear"), &json!({}));
        if !text.is_empty() {
            self.command("POST", &format!("/element/{element}/value"), &json!({"text": text}));
        }
    }

    /// Chooses an option by its value.
    pub(crate) fn choose(&mut self, selector: &str, value: &str) {
        self.click(&format!("{selector} option[value={value:?}]"));
    }

    /// Leaves a picture of the whole page in `target/run`.
    pub(crate) fn picture(&mut self, name: &str) {
        let height = self.run("return document.documentElement.scrollHeight").as_u64().unwrap();
        self.command("POST", "/window/rect", &json!({"width": 1366, "height": height + 150}));
        let image = self.command("GET", "/screenshot", &Value::Null);
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(image.as_str().unwrap()).unwrap();
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/run");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("{name}.png")), bytes).unwrap();
    }

    /// The browser had nothing to complain about: no error of a script, and nothing that the page's own policy
    /// forbade. What the emulator refused on purpose is told there too.
    pub(crate) fn quiet(&mut self) {
        let log = self.command("POST", "/se/log", &json!({"type": "browser"}));
        let severe: Vec<_> = log
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["level"] == "SEVERE" && entry["source"] != "network")
            .collect();
        assert!(severe.is_empty(), "{severe:#?}");
    }

    fn find(&mut self, selector: &str) -> String {
        let found = self.command("POST", "/element", &json!({"using": "css selector", "value": selector}));
        found[ELEMENT].as_str().unwrap_or_else(|| panic!("{selector}: {found}")).to_owned()
    }

    fn command(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let path = format!("{}{path}", self.session);
        self.ask(method, &path, body)
    }

    fn ask(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let mut answer =
            self.try_ask(method, path, body).unwrap_or_else(|why| panic!("{method} {path}: {why}"));
        assert!(answer["value"]["error"].is_null(), "{method} {path}: {answer:#}");
        answer["value"].take()
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(format!("{head}{body}").as_bytes())?;
        // By its length: the driver does not end the connection.
        let (mut stream, mut length) = (BufReader::new(stream), 0);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // Ends the browser itself.
            let _ = self.try_ask("DELETE", &self.session, &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
