//! Divisions of a logarithmic axis.

/// Marks within one power of ten, the finest first. 1-2-5 is what people read with ease; a narrow range needs more.
const STEPS: [&[f64]; 3] = [&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0], &[1.0, 2.0, 5.0], &[1.0]];
/// Marks on one axis; more would overlap.
const MARKS: usize = 11;

/// A range that holds both values between marks.
pub(super) fn bounds(lowest: f64, highest: f64) -> (f64, f64) {
    let bottom = marks(&[1.0, 2.0, 5.0], lowest / 10.0, lowest).pop().unwrap_or(lowest);
    let top = marks(&[1.0, 2.0, 5.0], highest, highest * 10.0).first().copied().unwrap_or(highest * 10.0);
    (bottom, top.max(bottom * 4.0))
}

/// The marks between two values: the finest that have room.
pub(super) fn ticks(bottom: f64, top: f64) -> Vec<f64> {
    let fitting = STEPS.iter().map(|steps| marks(steps, bottom, top)).find(|marks| marks.len() <= MARKS);
    fitting.unwrap_or_else(|| {
        let tens = marks(&[1.0], bottom, top);
        let each = tens.len().div_ceil(MARKS);
        tens.into_iter().step_by(each).collect()
    })
}

/// All multiples of powers of ten by `steps` from `low` to `high`.
fn marks(steps: &[f64], low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (power(low), power(high));
    let slack = 1e-9;
    (first..=last)
        .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
        .filter(|mark| *mark >= low * (1.0 - slack) && *mark <= high * (1.0 + slack))
        .collect()
}

#[allow(clippy::cast_possible_truncation, reason = "a power of ten of a finite number is at most 308")]
fn power(value: f64) -> i32 {
    value.max(f64::MIN_POSITIVE).log10().floor() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(found: &[f64], expected: &[f64]) {
        let close = |(one, other): (&f64, &f64)| (one / other - 1.0).abs() < 1e-6;
        assert!(
            found.len() == expected.len() && found.iter().zip(expected).all(close),
            "{found:?}, not {expected:?}"
        );
    }

    #[test]
    fn an_axis_is_marked_by_1_2_and_5() {
        same(&ticks(5.0, 2000.0), &[5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]);
    }

    #[test]
    fn a_narrow_range_has_finer_marks_and_a_wide_one_powers_of_ten() {
        same(&ticks(5.0, 20.0), &[5.0, 6.0, 8.0, 10.0, 15.0, 20.0]);
        same(&ticks(0.01, 1e4), &[0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4]);
        assert!(ticks(1e-300, 1e300).len() <= MARKS);
    }

    #[test]
    fn a_range_ends_at_marks_and_is_never_empty() {
        for (values, expected) in
            [((12.0, 61.0), [10.0, 100.0]), ((10.0, 10.0), [10.0, 40.0]), ((0.7, 5.0), [0.5, 5.0])]
        {
            let (bottom, top) = bounds(values.0, values.1);
            same(&[bottom, top], &expected);
        }
    }
}
