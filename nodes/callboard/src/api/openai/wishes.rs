//! What a caller wishes in headers, beside what it asks: that an answer of before will do, and by which key a call that is
//! sent again is known.

use super::error::Error;
use super::keys::Caller;
use crate::config::KeyHash;
use axum::http::HeaderName;
use axum::http::request::Parts;
use callboard_contracts::v1::CacheMode;
use callboard_domain::limits;

const CACHE: HeaderName = HeaderName::from_static("x-callboard-cache");
const STICKY: HeaderName = HeaderName::from_static("x-callboard-sticky");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The most characters of a caller's idempotency key, as with others who take one.
const KEY_CHARS: usize = 255;

/// What a caller wishes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) cache: CacheMode,
    /// Its idempotency key, so that it is nobody else's; empty if it sent none.
    pub(super) idempotency_key: String,
    /// Whom or what it is about, if it says so; else who it is. Empty: nobody knows.
    subject: String,
    /// Whether it said so.
    explicit: bool,
}

impl Wishes {
    /// What calls have in common that should go to the same provider: what the header says, else what the body does, else
    /// the caller.
    pub(super) fn subject(self, body: Option<String>) -> String {
        let subject = match body.filter(|body| !self.explicit && !body.is_empty()) {
            // Of two callers, the users of the same name are two.
            Some(body) if !self.subject.is_empty() => format!("{}\n{body}", self.subject),
            Some(body) => body,
            None => self.subject,
        };
        if subject.len() > limits::SUBJECT_BYTES { KeyHash::of(&subject).to_string() } else { subject }
    }
}

/// Reads what a caller wishes.
///
/// # Errors
/// Which header is wrong.
pub(super) fn read(parts: &Parts) -> Result<Wishes, Error> {
    let given = |name: &HeaderName| parts.headers.get(name).map(|value| value.to_str().map_err(|_| ()));
    let cache = match given(&CACHE) {
        None => CacheMode::Unspecified,
        Some(Ok("on")) => CacheMode::On,
        Some(Ok("off")) => CacheMode::Off,
        Some(Ok("refresh")) => CacheMode::Refresh,
        Some(_) => return Err(Error::invalid(None, "`x-callboard-cache` must be on, off or refresh")),
    };
    let idempotency_key = match given(&IDEMPOTENCY_KEY) {
        None => String::new(),
        Some(Ok(key)) if !key.is_empty() && key.len() <= KEY_CHARS => {
            // Hashed, it fits into a header whatever the caller is called, and providers do not learn who it is. The key
            // holds no line break.
            let caller = parts.extensions.get::<Caller>().map_or("", |Caller(name)| name);
            KeyHash::of(&format!("{key}\n{caller}")).to_string()
        }
        Some(_) => {
            let what = format!("`Idempotency-Key` must be 1 to {KEY_CHARS} printable ASCII characters");
            return Err(Error::invalid(None, what));
        }
    };
    let caller = parts.extensions.get::<Caller>().map_or("", |Caller(name)| name);
    let (subject, explicit) = match given(&STICKY) {
        None => (caller.to_owned(), false),
        Some(Ok(subject)) if !subject.is_empty() => (subject.to_owned(), true),
        Some(_) => {
            return Err(Error::invalid(None, "`x-callboard-sticky` must be printable ASCII characters"));
        }
    };
    Ok(Wishes { cache, idempotency_key, subject, explicit })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::Request;

    fn of(caller: Option<&str>, headers: &[(&str, &[u8])]) -> Option<(CacheMode, String)> {
        let mut request = Request::new(());
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, (*value).try_into().unwrap());
        }
        if let Some(caller) = caller {
            request.extensions_mut().insert(Caller(caller.into()));
        }
        let wishes = read(&request.into_parts().0).ok()?;
        Some((wishes.cache, wishes.idempotency_key))
    }

    #[test]
    fn a_caller_wishes_nothing_or_what_there_is() {
        assert_eq!(of(None, &[]), Some((CacheMode::Unspecified, String::new())));
        for (word, mode) in [("on", CacheMode::On), ("off", CacheMode::Off), ("refresh", CacheMode::Refresh)]
        {
            assert_eq!(of(None, &[("x-callboard-cache", word.as_bytes())]).unwrap().0, mode);
        }
        assert_eq!(of(None, &[("x-callboard-cache", b"yes")]), None);
        assert_eq!(of(None, &[("x-callboard-cache", b"\xff")]), None);
    }

    #[test]
    fn the_subject_is_the_headers_or_the_users_or_the_caller() {
        let subject = |caller: Option<&str>, header: Option<&str>, user: Option<&str>| {
            let mut request = Request::new(());
            if let Some(header) = header {
                request.headers_mut().insert(STICKY, header.parse().unwrap());
            }
            if let Some(caller) = caller {
                request.extensions_mut().insert(Caller(caller.into()));
            }
            read(&request.into_parts().0).map(|wishes| wishes.subject(user.map(Into::into))).ok()
        };
        assert_eq!(subject(None, None, None).as_deref(), Some(""));
        assert_eq!(subject(None, None, Some("anna")).as_deref(), Some("anna"));
        assert_eq!(subject(Some("team"), None, None).as_deref(), Some("team"));
        assert_eq!(subject(Some("team"), None, Some("anna")).as_deref(), Some("team\nanna"));
        assert_eq!(subject(Some("team"), Some("s"), Some("anna")).as_deref(), Some("s"));
        assert_eq!(subject(None, Some(""), None), None);
        let long = subject(None, None, Some(&"x".repeat(limits::SUBJECT_BYTES + 1))).unwrap();
        assert!(long.len() <= limits::SUBJECT_BYTES && long.starts_with("sha256:"));
    }

    #[test]
    fn an_idempotency_key_is_its_callers_alone() {
        let key = |caller, key: &[u8]| of(caller, &[("Idempotency-Key", key)]).map(|(_, key)| key);
        assert_eq!(key(Some("team-a"), b"k"), key(Some("team-a"), b"k"));
        assert_ne!(key(Some("team-a"), b"k"), key(Some("team-a"), b"l"));
        assert_ne!(key(Some("team-b"), b"k"), key(Some("team-a"), b"k"));
        assert_ne!(key(None, b"k"), key(Some("team-a"), b"k"));
        assert_eq!(key(None, b""), None);
        assert_eq!(key(None, b"\xe4"), None);
        assert!(key(None, &[b'k'; 255]).is_some() && key(None, &[b'k'; 256]).is_none());
    }
}
