//! Debian's Chromium, driven by its `ChromeDriver` (W3C `WebDriver`).

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{metrics::free_address, provided::provided, wait::until};

/// A browser without a window. It ends when this is dropped.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts one; skips the test where there is none.
    pub fn start() -> Result<Self> {
        provided("chromium")?;
        let address = free_address()?;
        let driver = Command::new(provided("chromedriver")?)
            .arg(format!("--port={}", address.port()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start ChromeDriver")?;
        let profile = tempfile::tempdir()?;
        let arguments: Vec<String> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,900",
        ]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("--user-data-dir={}", profile.path().display())])
        .collect();
        let mut browser = Self { driver, address, session: String::new(), _profile: profile };
        until("ChromeDriver to listen", || Ok(TcpStream::connect(address).is_ok().then_some(())))?;
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let session = browser.ask("POST", "/session", &wanted)?;
        session
            .get("sessionId")
            .and_then(Value::as_str)
            .context("no session")?
            .clone_into(&mut browser.session);
        Ok(browser)
    }

    /// Goes to an address.
    pub fn go(&self, url: &str) -> Result<()> {
        self.command("url", &json!({ "url": url })).map(drop)
    }

    /// What a script gives that ends with a `return`.
    pub fn run(&self, script: &str) -> Result<Value> {
        self.command("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true.
    pub fn wait_for(&self, expression: &str) -> Result<()> {
        let script = format!("return Boolean({expression})");
        let waited = until(expression, || Ok((self.run(&script)? == Value::Bool(true)).then_some(())));
        waited.with_context(|| format!("{}", self.run("return document.body.innerText").unwrap_or_default()))
    }

    /// As wide as a phone, or wider.
    pub fn resize(&self, width: u32, height: u32) -> Result<()> {
        let parameters = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.debug("Emulation.setDeviceMetricsOverride", &parameters)
    }

    /// Prefers dark pages, or light ones.
    pub fn prefer(&self, scheme: &str) -> Result<()> {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.debug("Emulation.setEmulatedMedia", &json!({ "features": [feature] }))
    }

    /// What the browser complains of since this was asked last.
    pub fn complaints(&self) -> Result<Vec<String>> {
        let log = self.command("se/log", &json!({ "type": "browser" }))?;
        Ok(log.as_array().into_iter().flatten().map(ToString::to_string).collect())
    }

    fn debug(&self, command: &str, parameters: &Value) -> Result<()> {
        self.command("goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).map(drop)
    }

    fn command(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask("POST", &format!("/session/{}/{path}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = body.to_string();
        let mut stream = TcpStream::connect(self.address).context("ChromeDriver does not listen")?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: \
             close\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        // It keeps the connection, whatever it is asked.
        let mut stream = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let start = head.len();
            ensure!(stream.read_line(&mut head)? > 0, "{path}: the answer has no end of its head: {head}");
            let line = head.get(start..).unwrap_or_default().trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {head}\n{}", String::from_utf8_lossy(&body));
        let mut document: Value = serde_json::from_slice(&body)?;
        Ok(document.get_mut("value").map(Value::take).unwrap_or_default())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with the session, whatever went wrong.
        let _ = self.ask("DELETE", &format!("/session/{}", self.session), &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
