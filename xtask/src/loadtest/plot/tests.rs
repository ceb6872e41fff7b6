//! What a chart shows.

use super::*;

fn axis(scale: Scale, values: &[f64]) -> (f64, f64, Vec<f64>) {
    let axis = Axis::of(scale, values.iter().copied());
    (axis.low, axis.high, axis.ticks())
}

#[test]
fn a_linear_axis_begins_at_zero_and_ends_at_a_round_number() {
    assert_eq!(axis(Scale::Linear, &[3.0, 87.0]), (0.0, 100.0, vec![0.0, 20.0, 40.0, 60.0, 80.0, 100.0]));
    let (low, high, ticks) = axis(Scale::Linear, &[]);
    assert_eq!((low, high, ticks.len()), (0.0, 1.0, 6));
}

#[test]
fn a_logarithmic_axis_holds_whole_powers_of_ten() {
    let (low, high, ticks) = axis(Scale::Logarithmic, &[3.0, 870.0, 0.0]);
    assert!((low - 1.0).abs() < 1e-9 && (high - 1000.0).abs() < 1e-6, "{low} {high}");
    let shown: Vec<_> = ticks.into_iter().map(number).collect();
    assert_eq!(shown, ["1", "10", "100", "1000"]);
    let (low, high, _) = axis(Scale::Logarithmic, &[10.0, 10.0]);
    assert!(high > low * 9.9, "{low} {high}");
}

#[test]
fn a_value_lies_where_its_scale_says() {
    let linear = Axis { scale: Scale::Linear, low: 0.0, high: 200.0 };
    assert!((linear.share(50.0) - 0.25).abs() < 1e-9);
    let logarithmic = Axis { scale: Scale::Logarithmic, low: 1.0, high: 1000.0 };
    assert!((logarithmic.share(10.0) - 1.0 / 3.0).abs() < 1e-9);
    // Nothing lies below the axis, zero included.
    assert!(logarithmic.share(0.0).abs() < 1e-9);
}

#[test]
fn steps_are_round() {
    assert!((step(87.0, 5.0) - 20.0).abs() < 1e-9);
    assert!((step(0.4, 5.0) - 0.1).abs() < 1e-9);
    assert_eq!((time_step(60.0), time_step(120.0), time_step(1800.0)), (5.0, 10.0, 300.0));
    assert_eq!(
        (number(0.05), number(0.5), number(2.0), number(150.0)),
        ("0.05".into(), "0.5".into(), "2".into(), "150".into())
    );
    assert_eq!((clock(0.0), clock(65.0), clock(3600.0)), ("0:00".into(), "1:05".into(), "60:00".into()));
}

#[test]
fn a_line_is_broken_where_times_are_missing() {
    let line = Line { name: "a & b".into(), points: vec![(0.5, 1.0), (1.5, 2.0), (9.5, 3.0)] };
    let bands = [Band { name: "spike".into(), begins: 2.0, ends: 4.0 }];
    let marks = [Mark { name: "b is killed".into(), at: 5.0 }];
    let chart = Chart {
        title: "memory",
        unit: "MB",
        scale: Scale::Linear,
        lines: vec![line],
        bands: &bands,
        marks: &marks,
        until: 10.0,
        step: 1.0,
    };
    let svg = chart.svg();
    let path = svg.lines().filter(|line| line.starts_with("<path class=\"line\"")).nth(1).unwrap();
    let drawn = path.split("d=\"").nth(1).unwrap();
    assert_eq!((drawn.matches('M').count(), drawn.matches('L').count()), (2, 1), "{path}");
    for text in ["a &amp; b", ">spike<", ">b is killed<", ">3 MB<", "aria-label=\"memory\""] {
        assert!(svg.contains(text), "{text} is not in\n{svg}");
    }
}
