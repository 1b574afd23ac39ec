//! How long the service takes for a request.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::Rng;
use rand_distr::{Distribution, Exp1, StandardNormal};

/// Longest time for one request. Samples of the unbounded distributions are cut there.
const MAX: Duration = Duration::from_secs(60);
/// Largest sigma: at 4, one request in a thousand takes 230,000 times the median.
const MAX_SIGMA: f64 = 4.0;

/// A distribution of times.
#[derive(Debug, Clone, PartialEq)]
pub enum LatencyModel {
    /// Always the same.
    Fixed(Duration),
    /// Any time from the first to the second, each as likely.
    Uniform(Duration, Duration),
    /// Mostly short, sometimes long, without memory.
    Exponential {
        /// Arithmetic mean.
        mean: Duration,
    },
    /// A hump with a long tail, as services mostly have it.
    LogNormal {
        /// Half take no longer.
        median: Duration,
        /// Standard deviation of the logarithm: 0.5 is usual, and puts p99 at 3.2 times the median.
        sigma: f64,
    },
}

/// A text that is no latency model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoLatencyModel {
    /// Neither a time nor a model.
    #[error(
        "no latency model: {0:?}; write 10ms, fixed:10ms, uniform:5ms,15ms, exponential:10ms or lognormal:10ms,0.5"
    )]
    Unknown(String),
    /// A time that cannot be read, or is too long.
    #[error("no time of at most 60 s: {0:?}; write a number with us, ms or s, such as 500us or 2.5ms")]
    Time(String),
    /// The end of a range before its start.
    #[error("the range {0:?} ends before it starts: write the shorter time first")]
    Backwards(String),
    /// A spread that is no number, or no possible one.
    #[error("no sigma: {0:?}; write a number from 0 to 4, such as 0.5")]
    Sigma(String),
}

impl LatencyModel {
    /// The time of one request.
    pub(super) fn sample(&self, random: &mut impl Rng) -> Duration {
        let scaled = |time: Duration, factor: f64| {
            // A factor of infinity, or beyond what a duration holds, is beyond the longest time.
            Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or(MAX).min(MAX)
        };
        match self {
            Self::Fixed(time) => *time,
            Self::Uniform(shortest, longest) => random.random_range(*shortest..=*longest),
            Self::Exponential { mean } => scaled(*mean, Exp1.sample(random)),
            Self::LogNormal { median, sigma } => {
                let normal: f64 = StandardNormal.sample(random);
                scaled(*median, (sigma * normal).exp())
            }
        }
    }
}

impl FromStr for LatencyModel {
    type Err = NoLatencyModel;

    fn from_str(text: &str) -> Result<Self, NoLatencyModel> {
        let unknown = || NoLatencyModel::Unknown(text.to_owned());
        let Some((model, values)) = text.split_once(':') else {
            return time(text).map(Self::Fixed).ok_or_else(unknown);
        };
        let two = || values.split_once(',').ok_or_else(unknown);
        let time = |text: &str| time(text).ok_or_else(|| NoLatencyModel::Time(text.to_owned()));
        match model {
            "fixed" => Ok(Self::Fixed(time(values)?)),
            "uniform" => {
                let (shortest, longest) = two()?;
                let (shortest, longest) = (time(shortest)?, time(longest)?);
                let backwards = || NoLatencyModel::Backwards(values.to_owned());
                if shortest > longest { Err(backwards()) } else { Ok(Self::Uniform(shortest, longest)) }
            }
            "exponential" => Ok(Self::Exponential { mean: time(values)? }),
            "lognormal" => {
                let (median, sigma) = two()?;
                let number = sigma.parse().ok().filter(|number| (0.0..=MAX_SIGMA).contains(number));
                let sigma = number.ok_or_else(|| NoLatencyModel::Sigma(sigma.to_owned()))?;
                Ok(Self::LogNormal { median: time(median)?, sigma })
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for LatencyModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(time) => write!(f, "fixed:{}", Shown(*time)),
            Self::Uniform(shortest, longest) => write!(f, "uniform:{},{}", Shown(*shortest), Shown(*longest)),
            Self::Exponential { mean } => write!(f, "exponential:{}", Shown(*mean)),
            Self::LogNormal { median, sigma } => write!(f, "lognormal:{},{sigma}", Shown(*median)),
        }
    }
}

/// In the largest unit in which it is a whole number; nanoseconds below a microsecond are not kept.
struct Shown(Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        if micros == 0 || !micros.is_multiple_of(1000) {
            write!(f, "{micros}us")
        } else if micros.is_multiple_of(1_000_000) {
            write!(f, "{}s", micros / 1_000_000)
        } else {
            write!(f, "{}ms", micros / 1000)
        }
    }
}

/// Rounded to microseconds.
fn time(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at_checked(digits)?;
    let scale = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    let time = Duration::try_from_secs_f64((number.parse::<f64>().ok()? * scale * 1e6).round() / 1e6).ok()?;
    (time <= MAX).then_some(time)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn model(text: &str) -> LatencyModel {
        text.parse().unwrap()
    }

    /// Of many samples, in ms: mean, median, 99th percentile, shortest, longest.
    fn drawn(text: &str) -> [f64; 5] {
        let mut random = StdRng::seed_from_u64(1);
        let model = model(text);
        let mut drawn: Vec<_> =
            (0..100_000).map(|_| model.sample(&mut random).as_secs_f64() * 1000.0).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        let mean = drawn.iter().sum::<f64>() / 100_000.0;
        [mean, drawn[50_000], drawn[99_000], drawn[0], drawn[99_999]]
    }

    fn assert_near(seen: f64, expected: f64, what: &str) {
        assert!((seen / expected - 1.0).abs() < 0.02, "{what}: {seen}, not {expected}");
    }

    #[test]
    fn times_are_distributed_as_the_model_says() {
        assert_eq!(drawn("10ms"), [10.0; 5].map(|time| drawn("10ms")[0] * time / 10.0));
        assert_near(drawn("10ms")[0], 10.0, "fixed");
        let [mean, median, p99, shortest, longest] = drawn("uniform:5ms,15ms");
        for (seen, expected) in [(mean, 10.0), (median, 10.0), (p99, 14.9), (shortest, 5.0), (longest, 15.0)]
        {
            assert_near(seen, expected, "uniform");
        }
        assert!(shortest >= 5.0 && longest <= 15.0);
        let [mean, median, p99, ..] = drawn("exponential:10ms");
        for (seen, expected) in [(mean, 10.0), (median, 10.0 * 2_f64.ln()), (p99, 10.0 * 100_f64.ln())] {
            assert_near(seen, expected, "exponential");
        }
        let [mean, median, p99, ..] = drawn("lognormal:10ms,0.5");
        // The 99th percentile of the standard normal distribution is 2.3263.
        let expected = [10.0 * (0.125_f64).exp(), 10.0, 10.0 * (0.5 * 2.3263_f64).exp()];
        for (seen, expected) in [mean, median, p99].into_iter().zip(expected) {
            assert_near(seen, expected, "lognormal");
        }
    }

    #[test]
    fn the_longest_time_is_bounded() {
        let longest = drawn("lognormal:60s,4")[4];
        assert!(longest <= 60_000.0, "{longest}");
    }

    #[test]
    fn models_are_written_as_they_are_read() {
        for (text, shown) in [
            ("10ms", "fixed:10ms"),
            ("fixed:0.5ms", "fixed:500us"),
            ("0s", "fixed:0us"),
            ("2500us", "fixed:2500us"),
            ("60s", "fixed:60s"),
            ("uniform:5ms,15ms", "uniform:5ms,15ms"),
            ("uniform:5ms,5ms", "uniform:5ms,5ms"),
            ("exponential:1s", "exponential:1s"),
            ("lognormal:10ms,0.5", "lognormal:10ms,0.5"),
        ] {
            assert_eq!(model(text).to_string(), shown);
            assert_eq!(model(shown), model(text));
        }
    }

    #[test]
    fn other_texts_are_refused_with_what_may_be_written() {
        for (text, part) in [
            ("", "write 10ms"),
            ("10", "write 10ms"),
            ("ms", "write 10ms"),
            ("-1ms", "write 10ms"),
            ("normal:10ms", "write 10ms"),
            ("uniform:10ms", "write 10ms"),
            ("61s", "write 10ms"),
            ("fixed:61s", "at most 60 s"),
            ("exponential:1.2.3ms", "at most 60 s"),
            ("exponential:10", "us, ms or s"),
            ("uniform:15ms,5ms", "shorter time first"),
            ("lognormal:10ms,x", "from 0 to 4"),
            ("lognormal:10ms,-1", "from 0 to 4"),
            ("lognormal:10ms,NaN", "from 0 to 4"),
            ("lognormal:10ms,5", "from 0 to 4"),
        ] {
            let refused = text.parse::<LatencyModel>().unwrap_err().to_string();
            assert!(refused.contains(part), "{text:?}: {refused}");
        }
    }
}
