//! Which settings share a plot. More than eight curves in one cannot be told apart, and more than a few plots of the
//! same kind are not looked at: what is left out is said, and is in the table.

use std::collections::BTreeSet;

use super::super::grid::{Limits, Proxy};
use super::super::recommend::{Knee, knee};
use super::super::result::{Measured, Sweep};

/// Curves in one plot.
const CURVES: usize = 8;
/// Plots of one kind.
const GROUPS: usize = 4;

/// One of the three limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Connections,
    Pending,
    Requests,
}

impl Axis {
    pub(super) const ALL: [Self; 3] = [Self::Connections, Self::Pending, Self::Requests];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connections => "maxConnections",
            Self::Pending => "http1MaxPendingRequests",
            Self::Requests => "http2MaxRequests",
        }
    }

    pub(super) fn of(self, limits: &Limits) -> Option<u32> {
        match self {
            Self::Connections => limits.max_connections,
            Self::Pending => limits.max_pending,
            Self::Requests => limits.max_requests,
        }
    }

    /// The other two.
    pub(super) fn others(self) -> [Self; 2] {
        match self {
            Self::Connections => [Self::Pending, Self::Requests],
            Self::Pending => [Self::Connections, Self::Requests],
            Self::Requests => [Self::Connections, Self::Pending],
        }
    }
}

/// The axes by how many values were measured of each, most first.
pub(super) fn axes(sweep: &Sweep) -> [Axis; 3] {
    let mut axes = Axis::ALL;
    axes.sort_by_key(|axis| std::cmp::Reverse(values(sweep, *axis).len()));
    axes
}

/// The measured values of a limit, tight to loose.
pub(super) fn values(sweep: &Sweep, axis: Axis) -> Vec<Option<u32>> {
    let limits: BTreeSet<(u32, Option<u32>)> = settings(sweep)
        .iter()
        .map(|limits| axis.of(limits))
        .map(|value| (value.unwrap_or(u32::MAX), value))
        .collect();
    limits.into_iter().map(|(_, value)| value).collect()
}

/// Every setting that was measured, tight to loose.
pub(super) fn settings(sweep: &Sweep) -> Vec<Limits> {
    let mut settings: Vec<Limits> = sweep.points.iter().map(|measured| measured.point.limits).collect();
    settings.sort_by_key(Limits::order);
    settings.dedup();
    settings
}

/// Settings that differ in one limit only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// In what they differ.
    pub(super) axis: Axis,
    /// The settings, tight to loose.
    pub(super) settings: Vec<Limits>,
    /// How many more there are.
    pub(super) left_out: usize,
}

/// Groups of settings along the limit with the most values, and how many groups are left out. `kept` is in one.
pub(super) fn groups(sweep: &Sweep, kept: Option<&Limits>) -> (Vec<Group>, usize) {
    let [axis, ..] = axes(sweep);
    let key = |limits: &Limits| axis.others().map(|other| other.of(limits).unwrap_or(u32::MAX));
    let all = settings(sweep);
    let keys: Vec<[u32; 2]> = all.iter().map(key).collect::<BTreeSet<_>>().into_iter().collect();
    let chosen = spread(&keys, GROUPS, kept.map(key).as_ref());
    let left_out = keys.len() - chosen.len();
    let groups = chosen.into_iter().map(|chosen| {
        let members: Vec<Limits> = all.iter().copied().filter(|limits| key(limits) == chosen).collect();
        let settings = spread(&members, CURVES, kept);
        Group { axis, left_out: members.len() - settings.len(), settings }
    });
    (groups.collect(), left_out)
}

/// At most `most` of `items`, both ends among them and evenly in between; `kept` too, if it is one of them.
pub(super) fn spread<T: Clone + PartialEq>(items: &[T], most: usize, kept: Option<&T>) -> Vec<T> {
    if items.len() <= most || most < 2 {
        return items.to_vec();
    }
    let mut picks: Vec<usize> = (0..most).map(|index| index * (items.len() - 1) / (most - 1)).collect();
    let kept = kept.and_then(|kept| items.iter().position(|item| item == kept));
    if let Some(kept) = kept
        && !picks.contains(&kept)
    {
        // The nearest one between the ends gives way.
        let inner = picks.iter_mut().skip(1).take(most - 2);
        if let Some(nearest) = inner.min_by_key(|pick| pick.abs_diff(kept)) {
            *nearest = kept;
        }
    }
    picks.sort_unstable();
    picks.into_iter().filter_map(|index| items.get(index).cloned()).collect()
}

/// The points of one setting, by load.
pub(super) fn curve<'a>(sweep: &'a Sweep, proxy: Proxy, limits: &Limits) -> Vec<&'a Measured> {
    let own = |measured: &&Measured| measured.point.proxy == proxy && measured.point.limits == *limits;
    let mut points: Vec<&Measured> = sweep.points.iter().filter(own).collect();
    points.sort_by_key(|measured| measured.point.rate);
    points
}

pub(super) fn knee_of(sweep: &Sweep, proxy: Proxy, limits: &Limits) -> Knee {
    knee(&curve(sweep, proxy, limits))
}
