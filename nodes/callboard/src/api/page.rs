//! Page tokens: opaque to callers, versioned, and bound to the filter they were made for.

use callboard_domain::{Code, Error, limits};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The page size of a request, or the default.
pub(super) fn size(asked: u32, default: u32) -> Result<usize, Error> {
    if asked > limits::PAGE_ITEMS {
        let message = format!("must be at most {}, not {asked}", limits::PAGE_ITEMS);
        return Err(Error::field(Code::InvalidArgument, "page_size", message));
    }
    let size = if asked == 0 { default } else { asked };
    usize::try_from(size).map_err(|_| Error::new(Code::Internal, "a page size does not fit"))
}

/// A token that goes on after `position` in the list that `filter` makes.
pub(super) fn token(filter: &impl Hash, position: &str) -> String {
    format!("1.{:016x}.{position}", hash(filter))
}

/// The position in a token. Empty text is the beginning.
pub(super) fn position<T: std::str::FromStr>(filter: &impl Hash, token: &str) -> Result<Option<T>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong = |why: &str| Err(Error::field(Code::InvalidPageToken, "page_token", why));
    let mut parts = token.splitn(3, '.');
    let (Some("1"), Some(made_for), Some(position)) = (parts.next(), parts.next(), parts.next()) else {
        return wrong("must be the next_page_token of a page before");
    };
    if made_for != format!("{:016x}", hash(filter)) {
        return wrong("was made for another filter: keep the filter from page to page");
    }
    match position.parse() {
        Ok(position) => Ok(Some(position)),
        Err(_) => wrong("must be the next_page_token of a page before"),
    }
}

// `DefaultHasher::new()` has fixed keys. A token is good for one version of the program.
fn hash(filter: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    filter.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_filter_alone() {
        let token = token(&"a", "17");
        assert_eq!(position::<u64>(&"a", &token), Ok(Some(17)));
        assert_eq!(position::<u64>(&"a", ""), Ok(None));
        for (filter, token) in [("b", token.as_str()), ("a", "x"), ("a", "1.2.3"), ("a", "1")] {
            assert_eq!(position::<u64>(&filter, token).unwrap_err().code, Code::InvalidPageToken, "{token}");
        }
    }
}
