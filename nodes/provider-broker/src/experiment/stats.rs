//! Whether a difference between two arms may be chance.

/// Numbers, as far as their mean and their variance go.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// How many they are.
    pub count: u64,
    /// Their mean; zero if there are none.
    pub mean: f64,
    /// The sum of the squares of their distances from it.
    squares: f64,
}

impl Moments {
    /// Those of `count` whole numbers of `unit`s with a sum and a sum of squares. The difference that is small beside what it is
    /// one of is taken in whole numbers, so that nothing of it is lost.
    pub(crate) fn of_sums(count: i64, sum: i64, squares: i64, unit: f64) -> Self {
        let Ok(n) = u64::try_from(count) else { return Self::default() };
        if n == 0 {
            return Self::default();
        }
        let (count, sum, squares) = (i128::from(count), i128::from(sum), i128::from(squares));
        // Below zero only where a sum was cut off at its limit.
        let apart = (squares * count - sum * sum).max(0) as f64 / n as f64;
        Self { count: n, mean: sum as f64 / n as f64 * unit, squares: apart * unit * unit }
    }

    /// Their sample variance; `None` of fewer than two.
    #[must_use]
    pub fn variance(&self) -> Option<f64> {
        (self.count > 1).then(|| self.squares / (self.count - 1) as f64)
    }
}

/// The two-proportion z-test, with the pooled share: how likely a difference at least this large is if both have the same
/// share of successes, 0 to 1. `None` if nothing can be said: one has no calls, or all calls of both ended alike.
pub(crate) fn proportions_differ(a: (u64, u64), b: (u64, u64)) -> Option<f64> {
    let ((hits_a, all_a), (hits_b, all_b)) = (a, b);
    if all_a == 0 || all_b == 0 {
        return None;
    }
    let (n_a, n_b) = (all_a as f64, all_b as f64);
    let pooled = (hits_a + hits_b) as f64 / (n_a + n_b);
    let error = (pooled * (1.0 - pooled) * (n_a.recip() + n_b.recip())).sqrt();
    let z = (hits_a as f64 / n_a - hits_b as f64 / n_b) / error;
    (error > 0.0).then(|| libm::erfc(z.abs() / std::f64::consts::SQRT_2))
}

/// Welch's t-test: how likely a difference of the means at least this large is if both have the same mean, 0 to 1, whatever
/// their variances are. `None` if nothing can be said: one has fewer than two numbers, or all of both are the same.
pub(crate) fn means_differ(a: &Moments, b: &Moments) -> Option<f64> {
    let (n_a, n_b) = (a.count as f64, b.count as f64);
    let (of_a, of_b) = (a.variance()? / n_a, b.variance()? / n_b);
    let both = of_a + of_b;
    if both <= 0.0 {
        return None;
    }
    let t = (a.mean - b.mean) / both.sqrt();
    // Welch and Satterthwaite.
    let freedom = both * both / (of_a * of_a / (n_a - 1.0) + of_b * of_b / (n_b - 1.0));
    Some(incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t)))
}

/// The regularized incomplete beta function, by its continued fraction, computed as Lentz does: see Press et al., "Numerical
/// Recipes", 6.4.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // It converges fast on this side only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front =
        (libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    const LEAST: f64 = 1e-300;
    let away = |number: f64| if number.abs() < LEAST { LEAST } else { number };
    let (mut c, mut d) = (1.0, away(1.0 - (a + b) * x / (a + 1.0)).recip());
    let mut fraction = d;
    for m in 1..=300 {
        let m = f64::from(m);
        for step in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = away(1.0 + step * d).recip();
            c = away(1.0 + step / c);
            fraction *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-14 {
            break;
        }
    }
    (front * fraction / a).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By Welford, "Note on a method for calculating corrected sums of squares and products" (1962).
    fn of(numbers: &[f64]) -> Moments {
        let mut moments = Moments::default();
        for number in numbers {
            moments.count += 1;
            let distance = number - moments.mean;
            moments.mean += distance / moments.count as f64;
            moments.squares += distance * (number - moments.mean);
        }
        moments
    }

    fn near(is: Option<f64>, should: f64) {
        let is = is.unwrap();
        assert!((is - should).abs() < 1e-6 * should.max(1e-3), "{is} is not {should}");
    }

    #[test]
    fn the_quantiles_of_the_t_distribution_are_those_of_the_tables() {
        for (freedom, t) in
            [(1.0, 12.706_204_7), (5.0, 2.570_581_8), (10.0, 2.228_138_9), (30.0, 2.042_272_5)]
        {
            near(Some(incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t))), 0.05);
        }
    }

    #[test]
    fn welchs_test_gives_known_values() {
        // By Simpson's rule over the density, with 200,000 steps.
        near(
            means_differ(&of(&[1.0, 2.0, 3.0, 4.0, 5.0]), &of(&[2.0, 4.0, 6.0, 8.0, 10.0, 12.0])),
            0.049_284_338_2,
        );
        let a = of(&[17.2, 20.9, 22.6, 18.1, 21.7, 21.4, 23.5, 24.2, 14.7, 21.8]);
        let b = of(&[
            21.5, 22.8, 21.0, 23.0, 21.6, 23.6, 22.5, 20.7, 23.4, 21.8, 20.7, 21.7, 21.5, 22.5, 23.6, 21.5,
            22.5, 23.5, 21.5, 21.8,
        ]);
        near(means_differ(&a, &b), 0.148_841_696_6);
    }

    #[test]
    fn the_test_of_proportions_gives_known_values() {
        // 1.96 standard errors are five per cent; these by the error function.
        near(proportions_differ((200, 1_000), (250, 1_000)), 0.007_419_649_3);
        near(proportions_differ((35, 50), (60, 100)), 0.230_884_085_1);
        near(proportions_differ((10, 100), (10, 100)), 1.0);
    }

    #[test]
    fn where_nothing_can_be_said_nothing_is() {
        assert_eq!(proportions_differ((0, 0), (1, 2)), None);
        assert_eq!(proportions_differ((5, 5), (7, 7)), None);
        assert_eq!(means_differ(&of(&[1.0]), &of(&[1.0, 2.0])), None);
        assert_eq!(means_differ(&of(&[1.0, 1.0]), &of(&[1.0, 1.0])), None);
    }

    proptest! {
        #[test]
        fn sums_have_the_moments_of_their_numbers(numbers in prop::collection::vec(-100_000..100_000_i64, 1..60)) {
            let (sum, squares) = (numbers.iter().sum(), numbers.iter().map(|n| n * n).sum());
            let is = Moments::of_sums(numbers.len() as i64, sum, squares, 0.001);
            let should = of(&numbers.iter().map(|n| *n as f64 * 0.001).collect::<Vec<_>>());
            prop_assert_eq!(is.count, should.count);
            prop_assert!((is.mean - should.mean).abs() < 1e-9 * should.mean.abs().max(1.0));
            let (is, should) = (is.variance().unwrap_or(0.0), should.variance().unwrap_or(0.0));
            prop_assert!((is - should).abs() < 1e-9 * should.max(1.0), "{} {}", is, should);
        }

        #[test]
        fn a_chance_is_one_and_does_not_depend_on_who_is_first(
            a in (0_u64..500, 1_u64..500),
            b in (0_u64..500, 1_u64..500),
            x in prop::collection::vec(-1e3..1e3_f64, 2..30),
            y in prop::collection::vec(-1e3..1e3_f64, 2..30),
        ) {
            let (a, b) = ((a.0.min(a.1), a.1), (b.0.min(b.1), b.1));
            prop_assert_eq!(proportions_differ(a, b), proportions_differ(b, a));
            prop_assert!(proportions_differ(a, b).is_none_or(|p| (0.0..=1.0).contains(&p)));
            let (x, y) = (of(&x), of(&y));
            let (there, back) = (means_differ(&x, &y), means_differ(&y, &x));
            prop_assert!(there.is_none_or(|p| (0.0..=1.0).contains(&p)), "{:?}", there);
            prop_assert!(there.zip(back).is_none_or(|(p, q)| (p - q).abs() < 1e-9));
        }
    }
}
