//! Curves over load, drawn as SVG with its text as text.
//!
//! Numbers that are not finite never get here: whoever collects the points leaves them out.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontTransform;

use super::scale::{bounds, ticks};
use super::strokes;
use super::style::PALETTE;

/// Written for whatever shall have the colour of the page's text; [`finished`] replaces it.
pub(super) const INK: RGBColor = RGBColor(1, 2, 3);
/// Written for whatever shall have the colour of the page behind the plot; a rule of the page's style replaces it.
pub(super) const BACK: RGBColor = RGBColor(1, 2, 4);
const WIDTH: u32 = 560;
const HEIGHT: u32 = 330;
/// Values closer to zero than this take no room on a logarithmic axis.
const SMALLEST: f64 = 1e-3;

pub(super) type Svg<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>>;

/// One curve.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    /// Which colour and marker.
    pub(super) look: usize,
    /// Dashed: the compared proxy.
    pub(super) dashed: bool,
    /// Load and value, by load.
    pub(super) points: Vec<(f64, f64)>,
    /// The load to be marked as the knee.
    pub(super) knee: Option<f64>,
}

/// How the value axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From zero.
    Linear,
    /// By powers.
    Log,
    /// From 0 to at most 100.
    Percent,
}

/// What a plot shows beside its curves.
pub(super) struct Frame<'a> {
    /// Of the value axis, with its unit.
    pub(super) y: &'a str,
    pub(super) scale: Scale,
    /// Draws value = load, thin: what throughput would be if everything offered succeeded.
    pub(super) diagonal: bool,
    /// A bound of the goal, drawn across.
    pub(super) bound: Option<f64>,
}

/// Draws curves over offered load; `None` when there is nothing to draw.
pub(super) fn lines(frame: &Frame<'_>, curves: &[Curve], label: &str) -> Option<String> {
    let values = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    let highest_x = values().map(|(x, _)| x).fold(f64::NEG_INFINITY, f64::max);
    let highest_y = values().map(|(_, y)| y).chain(frame.bound).fold(f64::NEG_INFINITY, f64::max);
    if !highest_x.is_finite() || !highest_y.is_finite() {
        return None;
    }
    let x = 0.0..(highest_x * 1.06).max(1.0);
    svg((WIDTH, HEIGHT), label, |root| {
        let mut builder = ChartBuilder::on(root);
        builder.margin(8).margin_right(16).x_label_area_size(46).y_label_area_size(66);
        match frame.scale {
            Scale::Log => {
                let lowest = values().map(|(_, y)| y).chain(frame.bound).fold(f64::INFINITY, f64::min);
                let (bottom, top) = bounds(lowest.max(SMALLEST), highest_y.max(SMALLEST));
                let y = (bottom..top).log_scale().with_key_points(ticks(bottom, top));
                let mut chart = builder.build_cartesian_2d(x, y)?;
                mesh(&mut chart, frame, &|value| short(*value))?;
                curves_into(&mut chart, frame, curves, (bottom, top))
            }
            Scale::Linear | Scale::Percent => {
                let top = (highest_y * 1.08).max(1.0);
                let top = if frame.scale == Scale::Percent { top.min(100.0) } else { top };
                let mut chart = builder.build_cartesian_2d(x, 0.0..top)?;
                mesh(&mut chart, frame, &|value| short(*value))?;
                curves_into(&mut chart, frame, curves, (0.0, top))
            }
        }
    })
}

pub(super) type Chart<'a, 'b, Y> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<plotters::coord::types::RangedCoordf64, Y>>;

fn mesh<'a, Y>(chart: &mut Chart<'a, '_, Y>, frame: &Frame<'_>, y: &dyn Fn(&f64) -> String) -> Drawn
where
    Y: Ranged<ValueType = f64> + plotters::coord::ranged1d::ValueFormatter<f64>,
{
    let x = |value: &f64| short(*value);
    chart
        .configure_mesh()
        .x_labels(6)
        .y_labels(6)
        .max_light_lines(0)
        .bold_line_style(INK.mix(0.16))
        .axis_style(INK.mix(0.6))
        .label_style(("sans-serif", 16).into_font().color(&INK))
        .axis_desc_style(("sans-serif", 16).into_font().color(&INK))
        .x_desc("offered load, requests/s")
        .y_desc(frame.y)
        .x_label_formatter(&x)
        .y_label_formatter(y)
        .draw()
}

fn curves_into<Y>(
    chart: &mut Chart<'_, '_, Y>,
    frame: &Frame<'_>,
    curves: &[Curve],
    (bottom, top): (f64, f64),
) -> Drawn
where
    Y: Ranged<ValueType = f64>,
{
    let right = chart.x_range().end;
    if frame.diagonal {
        let end = right.min(top);
        chart.draw_series(LineSeries::new([(0.0, 0.0), (end, end)], INK.mix(0.45)))?;
    }
    if let Some(bound) = frame.bound {
        let across = [(0.0, bound), (right, bound)];
        chart.draw_series(DashedLineSeries::new(across, 2, 4, INK.mix(0.7).stroke_width(2)))?;
    }
    strokes::draw(chart, curves, (bottom, top))
}

/// The colour of the n-th curve.
pub(super) fn colour(look: usize) -> RGBColor {
    let (red, green, blue) = PALETTE.get(look % PALETTE.len()).copied().unwrap_or((0, 114, 178));
    RGBColor(red, green, blue)
}

/// The marker of the n-th curve, around its point: shapes tell curves apart where colours do not.
pub(super) fn marker(look: usize) -> Vec<(i32, i32)> {
    match look % 8 {
        0 => vec![(-4, -2), (-2, -4), (2, -4), (4, -2), (4, 2), (2, 4), (-2, 4), (-4, 2)],
        1 => vec![(-4, -4), (4, -4), (4, 4), (-4, 4)],
        2 => vec![(0, -5), (5, 4), (-5, 4)],
        3 => vec![(0, -6), (6, 0), (0, 6), (-6, 0)],
        4 => vec![(0, 5), (5, -4), (-5, -4)],
        5 => vec![
            (-2, -5),
            (2, -5),
            (2, -2),
            (5, -2),
            (5, 2),
            (2, 2),
            (2, 5),
            (-2, 5),
            (-2, 2),
            (-5, 2),
            (-5, -2),
            (-2, -2),
        ],
        6 => vec![(-2, -6), (2, -6), (2, 6), (-2, 6)],
        _ => vec![(-6, -2), (6, -2), (6, 2), (-6, 2)],
    }
}

/// `1.5k`: labels of an axis have little room.
pub(super) fn short(value: f64) -> String {
    let trimmed = |text: String| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    match value.abs() {
        size if size >= 1e6 => format!("{}M", trimmed(format!("{:.2}", value / 1e6))),
        size if size >= 1e4 => format!("{}k", trimmed(format!("{:.1}", value / 1e3))),
        _ => trimmed(format!("{value:.3}")),
    }
}

/// An SVG element with a text alternative; `None` if it could not be drawn.
pub(super) fn svg(size: (u32, u32), label: &str, draw: impl FnOnce(&Svg<'_>) -> Drawn) -> Option<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&root).ok()?;
        root.present().ok()?;
    }
    Some(finished(&text, size, label))
}

/// Takes the page's colour for text and lines, scales with the page, and says what it shows.
fn finished(svg: &str, (width, height): (u32, u32), label: &str) -> String {
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let body = body.replace("#010203", "currentColor");
    let label = super::numbers::escaped(label);
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\" xmlns=\"http://www.w3.org/2000/svg\">\n\
         <title>{label}</title>{body}"
    )
}

/// Text at a place, in the colour of the page.
pub(super) fn label_font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().transform(FontTransform::None).color(&INK)
}
