//! Amounts of money, as whole picodollars: sums of many small costs are exact.

use std::fmt;

/// Picodollars in a dollar.
const DOLLAR: i64 = 1_000_000_000_000;
/// Digits after the point of a dollar.
const DIGITS: usize = 12;

/// An amount of US dollars, in whole picodollars (10^-12): a price of a millionth of a dollar for a million tokens is one
/// a token. It holds up to about nine million dollars; past that it stays at the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From picodollars.
    #[must_use]
    pub const fn from_picodollars(amount: i64) -> Self {
        Self(amount)
    }

    /// In picodollars.
    #[must_use]
    pub const fn picodollars(self) -> i64 {
        self.0
    }

    /// From a text such as `0.15` or `10`: dollars, with at most twelve digits after the point. `None` if it is none, is
    /// below zero, or is over what an amount holds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > DIGITS {
            return None;
        }
        let part: i64 = format!("{part:0<DIGITS$}").parse().ok()?;
        whole.parse::<i64>().ok()?.checked_mul(DOLLAR)?.checked_add(part).map(Self)
    }

    /// This for each of a million, for so many of them; rounded down to a picodollar.
    #[must_use]
    pub fn per_million(self, count: u64) -> Self {
        let amount = i128::from(self.0) * i128::from(count) / 1_000_000;
        Self(i64::try_from(amount).unwrap_or(i64::MAX))
    }

    /// So many times this.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(count.into()))
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// In dollars, for where a number is only shown.
    #[must_use]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / DOLLAR as f64
    }
}

impl std::iter::Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

/// Exact, and at least to the cent: `10.00`, `0.000135`. What [`Money::parse`] reads, if it is not below zero.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0.unsigned_abs() / DOLLAR.unsigned_abs(), self.0 % DOLLAR);
        let part = format!("{:0DIGITS$}", part.unsigned_abs());
        let cents = part.get(..2).unwrap_or_default();
        let rest = part.get(2..).unwrap_or_default().trim_end_matches('0');
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{whole}.{cents}{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_price_for_a_million_tokens_is_exact_for_one() {
        let price = Money::parse("0.15").unwrap();
        assert_eq!(price.per_million(1).picodollars(), 150_000);
        assert_eq!(price.per_million(1_000_000), price);
        // Of each of three tokens a third of a picodollar would be lost, were they priced one by one.
        assert_eq!(Money::parse("0.0375").unwrap().per_million(3).to_string(), "0.0000001125");
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for wrong in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "$1", "9999999999", "0.0000000000001"] {
            assert_eq!(Money::parse(wrong), None, "{wrong}");
        }
        for (text, shown) in [("10", "10.00"), (" 0.5 ", "0.50"), ("0.000135", "0.000135"), ("0", "0.00")] {
            assert_eq!(Money::parse(text).unwrap().to_string(), shown);
        }
        assert_eq!(Money::from_picodollars(-1_500_000_000_000).to_string(), "-1.50");
    }

    proptest! {
        #[test]
        fn an_amount_reads_as_it_is_written(amount in 0..=i64::MAX) {
            let money = Money::from_picodollars(amount);
            prop_assert_eq!(Money::parse(&money.to_string()), Some(money));
        }

        #[test]
        fn a_sum_is_that_of_its_parts(price in 0_i64..1_000_000_000, counts in prop::collection::vec(0_u64..100_000, 0..50)) {
            // Whole picodollars a token.
            let price = Money::from_picodollars(price * 1_000_000);
            let sum: Money = counts.iter().map(|count| price.per_million(*count)).sum();
            prop_assert_eq!(sum, price.per_million(counts.iter().sum()));
        }
    }
}
