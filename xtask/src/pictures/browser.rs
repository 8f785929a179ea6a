//! Chromium, driven by its `ChromeDriver` (W3C `WebDriver`), as far as pictures need it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::{Running, started, wait_for};

/// A browser without a window. It ends when this is dropped.
pub(super) struct Browser {
    _driver: Running,
    address: SocketAddr,
    session: String,
}

impl Browser {
    /// Starts one, with its profile in this folder.
    pub(super) fn start(driver: &Path, chromium: &Path, folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let driver = started(Command::new(driver).arg(format!("--port={}", address.port())))?;
        let profile = format!("--user-data-dir={}", folder.join("profile").display());
        let arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", &profile];
        let mut browser = Self { _driver: driver, address, session: String::new() };
        wait_for("ChromeDriver to listen", || TcpStream::connect(address).ok())?;
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments, "binary": chromium },
        } } });
        let session = browser.ask("POST", "/session", &wanted)?;
        let session = session.get("sessionId").and_then(Value::as_str).context("no session")?;
        session.clone_into(&mut browser.session);
        Ok(browser)
    }

    /// Goes to an address, and waits until an expression of its page is true.
    pub(super) fn go(&self, url: &str, until: &str) -> Result<()> {
        self.command("url", &json!({ "url": url }))?;
        let script = json!({ "script": format!("return Boolean({until})"), "args": [] });
        wait_for(until, || (self.command("execute/sync", &script).ok()? == Value::Bool(true)).then_some(()))
    }

    /// As wide as a phone, or wider.
    pub(super) fn resize(&self, width: u32, height: u32) -> Result<()> {
        let parameters = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": parameters });
        self.command("goog/cdp/execute", &command).map(drop)
    }

    /// What it shows, as PNG.
    pub(super) fn picture(&self) -> Result<Vec<u8>> {
        let picture = self.ask("GET", &format!("/session/{}/screenshot", self.session), &Value::Null)?;
        BASE64.decode(picture.as_str().context("no picture")?.as_bytes()).context("the picture is malformed")
    }

    fn command(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask("POST", &format!("/session/{}/{path}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(self.address).context("ChromeDriver does not listen")?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
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
        let _ = self.ask("DELETE", &format!("/session/{}", self.session), &Value::Null);
    }
}

/// An address that nobody listens on.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
