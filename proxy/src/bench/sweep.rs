//! A whole sweep: the points that are missing, one after the other, and in the end what is recommended, measured again.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use tokio::sync::watch;

use super::carrier::Carrier;
use super::envoy::{Envoy, Program};
use super::error::BenchError;
use super::grid::{Limits, Point, Proxy};
use super::journal::{Confirmation, Journal, JournalError};
use super::progress::{Progress, name};
use super::recommend::{Goal, Recommendation, recommend};
use super::result::{Conditions, Measured, Sweep};
use super::run::{Bench, warm_up};
use super::site::Site;
use super::target::Target;
use super::upstream::{Running, Service};

/// For how long a recommended setting is measured again.
const CONFIRM: Duration = Duration::from_secs(5);
/// Settings that are tried, at most, before none is confirmed.
const CANDIDATES: usize = 3;
/// From one point to the next: answers that are due, a pool that settles.
const BETWEEN: Duration = Duration::from_millis(150);
/// For a pair to be up.
const START: Duration = Duration::from_secs(1);

/// What is to be done.
pub struct Plan {
    /// What is swept, and under what circumstances.
    pub conditions: Conditions,
    /// The upstream behind our own pair.
    pub service: Service,
    /// What a setting is to achieve.
    pub goal: Goal,
    /// Where everything is written.
    pub out: PathBuf,
    /// Whether what was measured before is forgotten.
    pub fresh: bool,
    /// Somebody's URL and the Host header for it, in place of our own pair.
    pub target: Option<(Uri, Option<String>)>,
    /// To be compared with.
    pub envoy: Option<Program>,
}

/// How far it came.
pub struct Outcome {
    /// All points that are known.
    pub sweep: Sweep,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// The setting that is recommended, or why there is none. `None` if it was stopped before.
    pub recommended: Option<Result<Recommendation, super::recommend::NoSetting>>,
    /// Settings that were measured again, and whether they held; only the last one can have.
    pub confirmations: Vec<Confirmation>,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// What was measured before.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// While measuring.
    #[error(transparent)]
    Bench(#[from] BenchError),
}

impl Plan {
    /// All points, in the order in which they are measured: the compared ones beside each other.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        let mut rates = self.conditions.grid.rates.clone();
        rates.sort_unstable();
        rates.dedup();
        let proxies: &[Proxy] = match self.envoy {
            Some(_) => &[Proxy::Portcullis, Proxy::Envoy],
            None => &[Proxy::Portcullis],
        };
        let mut points = Vec::new();
        for limits in self.conditions.grid.settings() {
            for rate in &rates {
                points.extend(proxies.iter().map(|proxy| Point { proxy: *proxy, limits, rate: *rate }));
            }
        }
        points
    }

    /// How long one point takes.
    #[must_use]
    pub fn each(&self) -> Duration {
        let seconds = self.seconds();
        warm_up(seconds) + seconds + BETWEEN
    }

    /// How long so many points take, and at most the confirmation after them.
    #[must_use]
    pub fn expected(&self, points: usize) -> (Duration, Duration) {
        let points = u32::try_from(points).unwrap_or(u32::MAX);
        let sweep = START + self.each().saturating_mul(points);
        let tries = u32::try_from(CANDIDATES).unwrap_or(u32::MAX);
        let confirm = (START + warm_up(CONFIRM) + CONFIRM + BETWEEN).saturating_mul(tries);
        (sweep, if self.target.is_some() { Duration::ZERO } else { confirm })
    }

    /// Does it. `tell` is given the number of points that are known already and that are missing, at the start.
    ///
    /// # Errors
    /// [`SweepError`]. What was measured until then is in the journal.
    pub fn run(
        &self,
        stop: watch::Receiver<bool>,
        tell: impl FnOnce(usize, usize),
    ) -> Result<Outcome, SweepError> {
        let (mut journal, known) = Journal::open(&self.out, &self.conditions, self.fresh)?;
        let points = self.points();
        let missing: Vec<Point> = points
            .iter()
            .filter(|point| !known.iter().any(|known| known.point == **point))
            .copied()
            .collect();
        tell(points.len() - missing.len(), missing.len());
        let mut sweep = Sweep { conditions: self.conditions.clone(), points: known };
        let upstream = match self.target {
            Some(_) => None,
            None => Some(self.upstream()?),
        };
        let bench = Bench { upstream, stop };
        if !missing.is_empty() {
            match self.measure(&bench, &missing, &mut journal, &mut sweep) {
                Err(SweepError::Bench(BenchError::Interrupted)) => return Ok(Outcome::interrupted(sweep)),
                other => other?,
            }
        }
        let recommended = recommend(&sweep, &self.goal);
        let confirmations = match &recommended {
            Ok(recommendation) if self.target.is_none() => {
                match self.confirm(&bench, recommendation, &mut journal) {
                    Err(SweepError::Bench(BenchError::Interrupted)) => {
                        return Ok(Outcome::interrupted(sweep));
                    }
                    other => other?,
                }
            }
            Ok(_) | Err(_) => Vec::new(),
        };
        Ok(Outcome { sweep, interrupted: false, recommended: Some(recommended), confirmations })
    }

    fn upstream(&self) -> Result<Running, BenchError> {
        let started = Running::start(&self.service, (Ipv4Addr::LOCALHOST, 0).into());
        started.map_err(BenchError::io("the upstream cannot be started"))
    }

    fn measure(
        &self,
        bench: &Bench,
        missing: &[Point],
        journal: &mut Journal,
        sweep: &mut Sweep,
    ) -> Result<(), SweepError> {
        let settings = self.conditions.grid.settings();
        let ours = self.pair(bench, &settings)?;
        let theirs = match (&self.envoy, &bench.upstream) {
            (Some(program), Some(upstream)) => Some(Envoy::start(program, &settings, upstream.addr)?),
            _ => None,
        };
        let mut progress = Progress::new(missing.len(), self.each());
        for point in missing {
            let carrier: &dyn Carrier = match (point.proxy, &theirs) {
                (Proxy::Envoy, Some(envoy)) => envoy,
                (Proxy::Portcullis | Proxy::Envoy, _) => &*ours,
            };
            progress.begin(point);
            let measured = bench.measure(carrier, *point, self.seconds());
            let measured = measured.inspect_err(|_| progress.end())?;
            journal.add(&measured)?;
            progress.done(&measured);
            sweep.points.push(measured);
        }
        progress.end();
        Ok(())
    }

    /// Our own pair with these settings, or somebody's URL.
    fn pair(&self, bench: &Bench, settings: &[Limits]) -> Result<Box<dyn Carrier>, BenchError> {
        Ok(match (&self.target, &bench.upstream) {
            (None, Some(upstream)) => Box::new(Site::start(settings, upstream.addr)?),
            (Some((url, host)), _) => Box::new(Target::new(url.clone(), host.clone())),
            (None, None) => {
                return Err(BenchError::io("no upstream")(std::io::ErrorKind::NotConnected.into()));
            }
        })
    }

    /// Puts the recommended setting, and the next ones if it does not hold, into the policy of a new pair.
    fn confirm(
        &self,
        bench: &Bench,
        recommendation: &Recommendation,
        journal: &mut Journal,
    ) -> Result<Vec<Confirmation>, SweepError> {
        let from = recommendation.limits.order();
        let candidates = recommendation.candidates.iter().filter(|limits| limits.order() >= from);
        let mut confirmations = Vec::new();
        for limits in candidates.take(CANDIDATES) {
            let point = Point { proxy: Proxy::Portcullis, limits: *limits, rate: self.goal.rate };
            eprintln!("Measured again, for {} s: {}", CONFIRM.as_secs(), name(&point));
            let pair = self.pair(bench, &[*limits])?;
            let measured: Measured = bench.measure(&*pair, point, CONFIRM)?;
            let holds = self.goal.is_met_by(&measured);
            let confirmation = Confirmation { goal: self.goal.to_string(), holds, measured };
            journal.confirm(confirmation.clone())?;
            confirmations.push(confirmation);
            if holds {
                break;
            }
        }
        Ok(confirmations)
    }

    fn seconds(&self) -> Duration {
        Duration::from_secs_f64(self.conditions.seconds)
    }
}

impl Outcome {
    fn interrupted(sweep: Sweep) -> Self {
        Self { sweep, interrupted: true, recommended: None, confirmations: Vec::new() }
    }

    /// The setting that met the goal twice.
    #[must_use]
    pub fn confirmed(&self) -> Option<&Measured> {
        self.confirmations.iter().find(|one| one.holds).map(|one| &one.measured)
    }
}
