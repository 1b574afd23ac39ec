//! The plots of a page, with their captions and keys.

use std::fmt::Write as _;

use super::super::grid::{Limits, Proxy};
use super::super::recommend::{Goal, Quantile, text};
use super::super::result::{Measured, Sweep, millis};
use super::groups::{Group, curve, groups, knee_of, settings, spread};
use super::heat::{Value, heat};
use super::numbers::{escaped, per_second, proxy_name, short};
use super::occupancy::{SERIES, occupancy};
use super::plots::{Curve, Frame, Scale, colour, lines, marker};

/// Small plots of pools over time.
const POOLS: usize = 12;

/// One kind of plot.
struct Kind {
    title: &'static str,
    y: &'static str,
    scale: Scale,
    of: fn(&Measured) -> Option<f64>,
    quantile: Option<Quantile>,
}

const KINDS: [Kind; 5] = [
    Kind {
        title: "Throughput",
        y: "succeeded, requests/s",
        scale: Scale::Linear,
        of: throughput,
        quantile: None,
    },
    Kind { title: "Refused share", y: "refused, %", scale: Scale::Percent, of: refused, quantile: None },
    Kind {
        title: "Median latency (p50)",
        y: "p50, ms",
        scale: Scale::Log,
        of: p50,
        quantile: Some(Quantile::P50),
    },
    Kind { title: "p99 latency", y: "p99, ms", scale: Scale::Log, of: p99, quantile: Some(Quantile::P99) },
    Kind {
        title: "p99.9 latency",
        y: "p99.9, ms",
        scale: Scale::Log,
        of: p999,
        quantile: Some(Quantile::P999),
    },
];

fn throughput(measured: &Measured) -> Option<f64> {
    Some(measured.throughput())
}
fn refused(measured: &Measured) -> Option<f64> {
    Some(measured.refused_share() * 100.0)
}
fn p50(measured: &Measured) -> Option<f64> {
    latency(measured, Quantile::P50)
}
fn p99(measured: &Measured) -> Option<f64> {
    latency(measured, Quantile::P99)
}
fn p999(measured: &Measured) -> Option<f64> {
    latency(measured, Quantile::P999)
}
/// Nothing that succeeded has no latency: its zero is no measurement.
fn latency(measured: &Measured, quantile: Quantile) -> Option<f64> {
    (measured.counts.succeeded > 0).then(|| quantile.of(&measured.latency))
}

/// Everything over load.
pub(super) fn over_load(sweep: &Sweep, goal: Option<&Goal>, kept: Option<&Limits>) -> String {
    let (groups, left_out) = groups(sweep, kept);
    let compared = sweep.points.iter().any(|measured| measured.point.proxy == Proxy::Envoy);
    let mut page = String::new();
    if left_out > 0 {
        let _ = write!(
            page,
            "<p>Plotted are {} of {} combinations of the other limits, the tightest and the loosest among them; the \
             table has all.</p>",
            groups.len(),
            groups.len() + left_out
        );
    }
    for group in &groups {
        page.push_str(&one_group(sweep, goal, group, compared));
    }
    if groups.is_empty() {
        page.push_str("<p>Nothing was measured.</p>");
    }
    page
}

fn one_group(sweep: &Sweep, goal: Option<&Goal>, group: &Group, compared: bool) -> String {
    let Some(first) = group.settings.first() else { return String::new() };
    let [one, other] = group.axis.others().map(|axis| format!("{} {}", axis.name(), text(axis.of(first))));
    let heading = format!("{one}, {other}");
    let mut page = format!("<h3>{heading}</h3>{}", keys(group, compared));
    if group.left_out > 0 {
        let _ = write!(page, "<p class=\"soft\">{} more settings are in the table only.</p>", group.left_out);
    }
    page.push_str("<div class=\"plots\">");
    for kind in &KINDS {
        let bound =
            goal.and_then(|goal| goal.latency.iter().find(|bound| Some(bound.quantile) == kind.quantile));
        let frame = Frame {
            y: kind.y,
            scale: kind.scale,
            diagonal: kind.quantile.is_none() && kind.scale == Scale::Linear,
            bound: bound.map(|bound| millis(bound.below)),
        };
        let label = format!(
            "{} against offered load, one curve per {}, with {heading}",
            kind.title,
            group.axis.name()
        );
        let drawn = lines(&frame, &curves(sweep, group, kind.of), &label);
        let drawn = drawn.unwrap_or_else(|| "<p>No figures to plot.</p>".to_owned());
        let title = kind.title;
        let _ = write!(
            page,
            "<figure>{drawn}<figcaption><strong>{title}</strong> against offered load{}</figcaption></figure>",
            match frame.bound {
                Some(_) => "; dotted: the goal's bound",
                None if frame.diagonal => "; thin line: everything offered succeeds",
                None => "",
            }
        );
    }
    page.push_str("</div>");
    page
}

fn curves(sweep: &Sweep, group: &Group, of: fn(&Measured) -> Option<f64>) -> Vec<Curve> {
    let mut curves = Vec::new();
    for proxy in [Proxy::Portcullis, Proxy::Envoy] {
        for (look, limits) in group.settings.iter().enumerate() {
            let measured = curve(sweep, proxy, limits);
            let point = |measured: &&Measured| Some((f64::from(measured.point.rate), of(measured)?));
            let points: Vec<(f64, f64)> =
                measured.iter().filter_map(point).filter(|(_, y)| y.is_finite()).collect();
            let ours = proxy == Proxy::Portcullis;
            let knee = knee_of(sweep, proxy, limits).rate().map(f64::from).filter(|_| ours);
            curves.push(Curve { look, dashed: proxy == Proxy::Envoy, points, knee });
        }
    }
    curves
}

fn keys(group: &Group, compared: bool) -> String {
    let mut list = String::from("<ul class=\"keys\">");
    for (look, limits) in group.settings.iter().enumerate() {
        let _ = write!(
            list,
            "<li>{} {} {}</li>",
            swatch(look, true),
            group.axis.name(),
            text(group.axis.of(limits))
        );
    }
    list.push_str(if compared {
        "<li>solid and filled: Portcullis; dashed and hollow: Envoy</li><li>ring: knee of Portcullis</li>"
    } else {
        "<li>ring: knee</li>"
    });
    list.push_str("<li>dashes of several colours: curves that coincide</li>");
    list.push_str("</ul>");
    list
}

fn swatch(look: usize, marked: bool) -> String {
    let colour = colour(look);
    let hex = format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2);
    let corners: Vec<String> = marker(look).iter().map(|(x, y)| format!("{},{}", x + 22, y + 7)).collect();
    let shape = if marked {
        format!("<polygon points=\"{}\" fill=\"{hex}\"/>", corners.join(" "))
    } else {
        String::new()
    };
    format!(
        "<svg class=\"key\" viewBox=\"0 0 44 14\" aria-hidden=\"true\"><line x1=\"0\" y1=\"7\" x2=\"44\" y2=\"7\" \
         stroke=\"{hex}\" stroke-width=\"2\"/>{shape}</svg>"
    )
}

/// The load at which settings are compared: the goal's, or else the highest.
pub(super) fn compared_rate(sweep: &Sweep, goal: Option<&Goal>) -> Option<u32> {
    let rates = || sweep.points.iter().map(|measured| measured.point.rate);
    let goals = goal.and_then(|goal| rates().filter(|rate| *rate >= goal.rate).min());
    goals.or_else(|| rates().max())
}

/// Two limits against each other.
pub(super) fn maps(sweep: &Sweep, goal: Option<&Goal>, kept: Option<&Limits>) -> String {
    let mut page = String::from("<div class=\"plots\">");
    for value in [Value::P99, Value::Refused] {
        let map = compared_rate(sweep, goal).and_then(|rate| heat(sweep, value, rate, kept));
        match map {
            Some(map) => {
                let _ = write!(
                    page,
                    "<figure{}><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Heat map\">{}</div>\
                     <figcaption>{}</figcaption></figure>",
                    if map.wide { " class=\"wide\"" } else { "" },
                    map.svg,
                    escaped(&map.caption)
                );
            }
            None => page.push_str("<p>No figures to plot.</p>"),
        }
    }
    page.push_str("</div>");
    page
}

/// Pools over time, at the compared load.
pub(super) fn pools(sweep: &Sweep, goal: Option<&Goal>, kept: Option<&Limits>) -> String {
    let Some(rate) = compared_rate(sweep, goal) else { return "<p>Nothing was measured.</p>".to_owned() };
    let all = settings(sweep);
    let shown = spread(&all, POOLS, kept);
    let mut page = String::from("<ul class=\"keys\">");
    for (name, look) in SERIES {
        let _ = write!(page, "<li>{} {name}</li>", swatch(look, false));
    }
    page.push_str("</ul>");
    if shown.len() < all.len() {
        let _ = write!(
            page,
            "<p class=\"soft\">{} of {} settings, from tight to loose.</p>",
            shown.len(),
            all.len()
        );
    }
    page.push_str("<div class=\"small\">");
    let mut seen = false;
    for limits in &shown {
        let points = sweep
            .points
            .iter()
            .filter(|measured| measured.point.limits == *limits && measured.point.rate == rate);
        for measured in points {
            if let Some(drawn) = occupancy(measured) {
                seen = true;
                let (name, limits) = (proxy_name(measured.point.proxy), short(limits));
                let _ = write!(
                    page,
                    "<figure>{drawn}<figcaption><strong>{limits}</strong> {name} at {}</figcaption></figure>",
                    per_second(rate)
                );
            }
        }
    }
    page.push_str("</div>");
    if !seen {
        page.push_str("<p>The pool could not be asked.</p>");
    }
    page
}
