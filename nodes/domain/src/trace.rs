//! W3C Trace Context as plain data: which trace something belongs to, and which span of it is the cause.
//!
//! Nothing is recorded here, and no random number is made.

use std::fmt;
use std::str::FromStr;

/// Set where what happens is recorded; passed on as it came.
const SAMPLED: u8 = 1;

/// A place in a trace: what a `traceparent` header says. Its text has version 00 and 55 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

/// A text that is no traceparent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a traceparent of W3C Trace Context")]
pub struct Invalid;

impl TraceContext {
    /// The first span of a new trace, sampled, from random numbers. Zero, which is no id, becomes 1.
    #[must_use]
    pub fn root(trace_id: u128, span_id: u64) -> Self {
        Self { trace_id: trace_id.max(1), span_id: span_id.max(1), flags: SAMPLED }
    }

    /// A span that this one causes: the same trace and flags, its id a random number. Zero becomes 1.
    #[must_use]
    pub fn child(self, span_id: u64) -> Self {
        Self { span_id: span_id.max(1), ..self }
    }

    /// Whether what happens there is recorded.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same place, recorded or not.
    #[must_use]
    pub const fn sampled(self, yes: bool) -> Self {
        let flags = if yes { self.flags | SAMPLED } else { self.flags & !SAMPLED };
        Self { flags, ..self }
    }

    /// The id of the trace: never zero.
    #[must_use]
    pub const fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// The id of the span: never zero.
    #[must_use]
    pub const fn span_id(self) -> u64 {
        self.span_id
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = Invalid;

    /// Reads a traceparent. As the standard asks, of a version later than 00 only what 00 has is read.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (version, rest) = text.split_once('-').ok_or(Invalid)?;
        let mut parts = rest.splitn(4, '-');
        let mut part = || parts.next().ok_or(Invalid);
        let (trace, span, flags) = (part()?, part()?, part()?);
        let version = hex(version, 2)?;
        let context = Self {
            trace_id: hex(trace, 32)?,
            span_id: u64::try_from(hex(span, 16)?).map_err(|_| Invalid)?,
            flags: u8::try_from(hex(flags, 2)?).map_err(|_| Invalid)?,
        };
        let more = version == 0 && parts.next().is_some();
        let none = context.trace_id == 0 || context.span_id == 0;
        if version == 0xff || more || none { Err(Invalid) } else { Ok(context) }
    }
}

/// So many lower-case hexadecimal digits, at most 32.
fn hex(text: &str, digits: usize) -> Result<u128, Invalid> {
    let good = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if good { u128::from_str_radix(text, 16).map_err(|_| Invalid) } else { Err(Invalid) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_and_passed_on() {
        let context: TraceContext = TEXT.parse().unwrap();
        assert_eq!(context.to_string(), TEXT);
        assert_eq!(context.child(7).to_string(), "00-0af7651916cd43dd8448eb211c80319c-0000000000000007-01");
        let later = TEXT.replacen("00", "cc", 1);
        assert_eq!(later.parse(), Ok(context));
        assert_eq!(format!("{later}-what-comes").parse(), Ok(context));
    }

    #[test]
    fn what_is_not_sampled_says_so_and_keeps_its_other_flags() {
        let context: TraceContext = TEXT.replace("-01", "-03").parse().unwrap();
        assert!(context.is_sampled());
        let not = context.sampled(false);
        assert!(!not.is_sampled() && !not.child(7).is_sampled());
        assert!(not.to_string().ends_with("-02"), "{not}");
        assert_eq!(not.sampled(true), context);
    }

    #[test]
    fn what_is_none_is_refused() {
        let zero_trace = TEXT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32));
        let zero_span = TEXT.replace("b7ad6b7169203331", &"0".repeat(16));
        let (upper, ff) = (TEXT.to_uppercase(), TEXT.replacen("00", "ff", 1));
        let (more, short, plus) = (format!("{TEXT}-x"), &TEXT[..54], TEXT.replacen("-0a", "-+a", 1));
        for text in ["", "-", "00", &zero_trace, &zero_span, &upper, &ff, &more, short, &plus] {
            assert_eq!(text.parse::<TraceContext>(), Err(Invalid), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_random_numbers_it_comes_back(trace: u128, span: u64, child: u64) {
            let root = TraceContext::root(trace, span);
            prop_assert_eq!(root.to_string().parse(), Ok(root));
            let child = root.child(child);
            prop_assert_eq!(child.to_string().parse(), Ok(child));
            prop_assert_eq!(child.trace_id(), root.trace_id());
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<TraceContext>();
        }
    }

    #[test]
    fn zero_is_no_id() {
        assert_eq!(
            TraceContext::root(0, 0).child(0).to_string().parse::<TraceContext>().map(TraceContext::trace_id),
            Ok(1)
        );
    }
}
