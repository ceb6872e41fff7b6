//! What calls cost, by the configured prices.
//!
//! A model without a price has no cost, which is not a cost of nothing. Sums are whole picodollars.

mod price;

pub use price::Price;

use callboard_domain::Money;
use callboard_domain::llm::{Cost, Usage};

/// So many bytes of text are about one token.
const BYTES_A_TOKEN: usize = 4;

/// How many tokens a text has, as far as can be told by its length.
pub(crate) fn tokens_of(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(BYTES_A_TOKEN)).unwrap_or(u32::MAX)
}

/// The price table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prices {
    list: Vec<Price>,
    version: String,
}

impl Prices {
    pub(crate) fn new(list: Vec<Price>, version: String) -> Self {
        Self { list, version }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The price of a model at a provider: of those that cover it the nearest. One for the provider is nearer than one
    /// for all, then the longer name, and a whole name than a beginning.
    pub(crate) fn of(&self, provider: &str, model: &str) -> Option<&Price> {
        self.list.iter().filter(|price| price.covers(provider, model)).max_by_key(|price| price.nearness())
    }

    /// What a call costs at a price.
    pub(crate) fn cost(&self, price: &Price, usage: Usage, images: u32) -> Cost {
        Cost { amount: price.amount(usage, images), prices_version: self.version.clone() }
    }
}

impl Price {
    /// What so much costs.
    pub(crate) fn amount(&self, usage: Usage, images: u32) -> Money {
        let tokens = |price: Option<Money>, count: u32| price.unwrap_or_default().per_million(count.into());
        let Usage { input_tokens, output_tokens, cached_input_tokens, cache_write_tokens } = usage;
        // The parts of the prompt, whatever a provider says of them, are never more than all of it.
        let cached = cached_input_tokens.min(input_tokens);
        let written = cache_write_tokens.min(input_tokens - cached);
        tokens(self.input_per_million, input_tokens - cached - written)
            .plus(tokens(self.cached_input_per_million.or(self.input_per_million), cached))
            .plus(tokens(self.cache_write_per_million.or(self.input_per_million), written))
            .plus(tokens(self.output_per_million, output_tokens))
            .plus(self.per_image.unwrap_or_default().times(images))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(model: &str, provider: Option<&str>, input: &str) -> Price {
        Price {
            model: model.into(),
            provider: provider.map(Into::into),
            input_per_million: Money::parse(input),
            ..Price::default()
        }
    }

    #[test]
    fn the_nearest_price_counts() {
        let list = vec![
            price("gpt-4o*", None, "1"),
            price("gpt-4o-mini*", None, "2"),
            price("gpt-4o-mini", None, "3"),
            price("gpt-4o-mini*", Some("azure"), "4"),
        ];
        let prices = Prices::new(list, "v".into());
        let of =
            |provider, model| prices.of(provider, model).map(|p| p.input_per_million.unwrap().to_string());
        assert_eq!(of("openai", "gpt-4o").as_deref(), Some("1.00"));
        assert_eq!(of("openai", "gpt-4o-mini-2024-07-18").as_deref(), Some("2.00"));
        assert_eq!(of("openai", "gpt-4o-mini").as_deref(), Some("3.00"));
        assert_eq!(of("azure", "gpt-4o-mini").as_deref(), Some("4.00"));
        assert_eq!(of("openai", "o3"), None);
    }

    #[test]
    fn a_cost_is_that_of_prompt_answer_and_images() {
        let price = Price {
            output_per_million: Money::parse("0.60"),
            per_image: Money::parse("0.04"),
            ..price("m", None, "0.15")
        };
        let usage = Usage::of(1_000, 500);
        assert_eq!(price.amount(usage, 0).to_string(), "0.00045");
        assert_eq!(price.amount(Usage::default(), 2).to_string(), "0.08");
    }

    #[test]
    fn what_a_provider_had_in_its_cache_has_a_price_of_its_own() {
        let usage = Usage { cached_input_tokens: 600, cache_write_tokens: 100, ..Usage::of(1_000, 0) };
        let plain = price("m", None, "1");
        assert_eq!(plain.amount(usage, 0).to_string(), "0.001", "without one it is that of the prompt");
        let cached = Price { cached_input_per_million: Money::parse("0.10"), ..plain };
        assert_eq!(cached.amount(usage, 0).to_string(), "0.00046");
        let both = Price { cache_write_per_million: Money::parse("1.25"), ..cached };
        assert_eq!(both.amount(usage, 0).to_string(), "0.000485");
        // A provider that counts more than there is.
        let odd = Usage { cached_input_tokens: 2_000, cache_write_tokens: 2_000, ..Usage::of(1_000, 0) };
        assert_eq!(both.amount(odd, 0).to_string(), "0.0001");
    }

    #[test]
    fn a_text_is_at_least_so_many_tokens() {
        assert_eq!([0, 1, 4, 5, 400].map(tokens_of), [0, 1, 1, 2, 100]);
    }
}
