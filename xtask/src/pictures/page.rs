//! The page of a daemon, as a browser shows it.

use std::{net::SocketAddr, path::Path};

use anyhow::Result;

use super::{browser::Browser, tools, write};

/// Where a picture is taken: its name, the address below the page, what has come when it is whole, and the size.
struct View<'a> {
    name: &'a str,
    at: &'a str,
    until: &'a str,
    size: (u32, u32),
}

/// Takes the pictures. `id` is that of the finding that is shown as a card.
pub(super) fn pictures(address: SocketAddr, id: &str, folder: &Path, place: &Path) -> Result<()> {
    let browser = Browser::start(&tools::path("chromedriver")?, &tools::path("chromium")?, folder)?;
    let (card, whole_card) = (format!("#/findings/{id}"), "document.querySelector('article .fix')");
    for view in [
        View {
            name: "page.png",
            at: "",
            until: "/^Watching every fork/.test(document.querySelector('.verdict h2')?.textContent ?? '') \
                    && document.getElementById('pulse').textContent === 'live'",
            size: (1000, 780),
        },
        View { name: "card.png", at: &card, until: whole_card, size: (1000, 780) },
    ] {
        browser.resize(view.size.0, view.size.1)?;
        browser.go(&format!("http://{address}/{}", view.at), view.until)?;
        write(&place.join(view.name), &browser.picture()?)?;
    }
    Ok(())
}
