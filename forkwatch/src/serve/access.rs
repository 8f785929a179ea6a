//! Who may see what, by the way they came.
//!
//! Metrics and health are open wherever forkwatch listens, as they have always been: they name programs and units. What
//! the interface and the page tell goes further: command lines, stacks, peers of connections. On loopback nobody is asked who
//! they are. Elsewhere they must have the token, or a certificate where there is no token, and where there is neither,
//! nothing is told unless the operator says so.

use std::path::Path;

use hyper::{HeaderMap, header::AUTHORIZATION};

use super::via::Via;
use crate::input_file;

/// Longest file of a token.
const LONGEST: u64 = 4096;
/// Shortest token: 16 characters of 32 are 80 bits.
const SHORTEST: usize = 16;

/// What the operator allows on addresses that others may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// What a client must know.
    token: Option<String>,
    /// Whether nothing need be known.
    is_open: bool,
}

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read web.token_file: {0}")]
    Read(#[from] input_file::InputFileError),
    /// It is no token.
    #[error(
        "web.token_file {0} must hold one line of at least 16 printable ASCII characters without blanks, such as \
         `head -c 24 /dev/urandom | base64` makes"
    )]
    Weak(String),
}

/// Whether a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Granted,
    /// The token is missing or wrong.
    Token,
    /// There is no token to have.
    Closed,
}

impl Access {
    /// With the token of this file, if one is named.
    pub fn new(token_file: Option<&Path>, is_open: bool) -> Result<Self, TokenError> {
        let Some(path) = token_file else { return Ok(Self { token: None, is_open }) };
        let weak = || TokenError::Weak(path.display().to_string());
        let text = String::from_utf8(input_file::read(path, LONGEST)?).map_err(|_| weak())?;
        let token = text.trim();
        if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(weak());
        }
        Ok(Self { token: Some(token.to_owned()), is_open })
    }

    /// Whether a token is wanted on addresses that others may reach.
    pub const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether nothing but metrics and health is told there, but to those who have a certificate.
    pub const fn is_closed(&self) -> bool {
        self.token.is_none() && !self.is_open
    }

    /// Whether everything is told to everybody there.
    pub const fn is_wide_open(&self) -> bool {
        self.token.is_none() && self.is_open
    }

    /// Whether a request is answered that came by this way.
    pub(super) fn judge(&self, via: &Via, headers: &HeaderMap) -> Verdict {
        match (via, &self.token) {
            (Via::Loopback | Via::Local { .. }, _) => Verdict::Granted,
            (Via::Network { .. }, Some(token)) if knows(headers, token) => Verdict::Granted,
            (Via::Network { .. }, Some(_)) => Verdict::Token,
            (Via::Network { is_certified }, None) if self.is_open || *is_certified => Verdict::Granted,
            (Via::Network { .. }, None) => Verdict::Closed,
        }
    }
}

/// Whether a request bears the token: as such, or as the password of any user, which is how a browser asks for it.
fn knows(headers: &HeaderMap, token: &str) -> bool {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Some((scheme, rest)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
        return false;
    };
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return is_same(rest.as_bytes(), token.as_bytes());
    }
    let password = || {
        let decoded = base64(rest)?;
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        decoded.get(colon + 1..).map(<[u8]>::to_vec)
    };
    scheme.eq_ignore_ascii_case("basic")
        && password().is_some_and(|password| is_same(&password, token.as_bytes()))
}

/// Compares without telling by its time where they differ.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    let differs = given.iter().zip(token).fold(0, |differs, (one, other)| differs | (one ^ other));
    std::hint::black_box(differs) == 0 && given.len() == token.len()
}

/// The bytes that a text stands for (RFC 4648).
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut out) = (0_u32, 0_u32, Vec::new());
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from((bits >> count) & 0xff).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";
    const NETWORK: Via = Via::Network { is_certified: false };

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect()
    }

    fn with_token() -> Access {
        Access { token: Some(TOKEN.to_owned()), is_open: false }
    }

    #[test]
    fn only_those_from_elsewhere_must_know_the_token() {
        let none = headers(&[]);
        assert_eq!(with_token().judge(&Via::Loopback, &none), Verdict::Granted);
        assert_eq!(with_token().judge(&Via::Local { uid: 0 }, &none), Verdict::Granted);
        assert_eq!(with_token().judge(&NETWORK, &none), Verdict::Token);
        assert_eq!(Access::default().judge(&NETWORK, &none), Verdict::Closed);
        assert_eq!(Access { token: None, is_open: true }.judge(&NETWORK, &none), Verdict::Granted);
    }

    #[test]
    fn a_certificate_is_enough_where_there_is_no_token() {
        let (none, right) = (headers(&[]), headers(&["Bearer 0123456789abcdef"]));
        let certified = NETWORK.certified(true);
        assert_eq!(Access::default().judge(&certified, &none), Verdict::Granted);
        assert_eq!(with_token().judge(&certified, &none), Verdict::Token, "both were asked for");
        assert_eq!(with_token().judge(&certified, &right), Verdict::Granted);
        assert_eq!(Via::Loopback.certified(true), Via::Loopback);
    }

    #[test]
    fn the_token_is_a_bearers_or_anybodys_password() {
        let judge = |values: &[&str]| with_token().judge(&NETWORK, &headers(values));
        for right in [
            "Bearer 0123456789abcdef",
            "bearer  0123456789abcdef",
            "Basic OjAxMjM0NTY3ODlhYmNkZWY=",
            "Basic bWU6MDEyMzQ1Njc4OWFiY2RlZg==",
        ] {
            assert_eq!(judge(&[right]), Verdict::Granted, "{right}");
        }
        for wrong in [
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Bearer",
            "Bearer ",
            "Basic 0123456789abcdef",
            "Basic MDEyMzQ1Njc4OWFiY2RlZg==",
            "Digest 0123456789abcdef",
        ] {
            assert_eq!(judge(&[wrong]), Verdict::Token, "{wrong}");
        }
        assert_eq!(judge(&["Bearer 0123456789abcdef", "Bearer x"]), Verdict::Token, "which of them counts?");
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Access::new(Some(&file), false)
        };
        assert_eq!(read("0123456789abcdef\n").unwrap(), with_token());
        for weak in ["", "short", "0123456789abcde", "two words of sixteen", "0123456789abcdef\nmore"] {
            assert!(read(weak).is_err(), "{weak}");
        }
        assert!(Access::new(Some(&folder.path().join("none")), false).is_err());
    }
}
