//! A heat map over the two limits of which most values were measured.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::super::grid::{Limits, Proxy};
use super::super::recommend::{Knee, text};
use super::super::result::{Measured, Sweep};
use super::groups::{Axis, axes, knee_of, values};
use super::numbers::{number, per_second, percent};
use super::plots::{BACK, Drawn, INK, Svg, label_font, short, svg};

const CELL: (i32, i32) = (104, 50);
const LEFT: i32 = 96;
const TOP: i32 = 26;
const BOTTOM: i32 = 62;
/// Columns that fit where two maps stand side by side.
const WIDE: i32 = 4;
/// Anchors of cividis, which reads the same with every kind of colour vision: dark is low.
const SCALE: [(f64, f64, f64); 5] = [
    (0.0, 34.0, 78.0),
    (66.0, 78.0, 108.0),
    (125.0, 124.0, 120.0),
    (187.0, 175.0, 113.0),
    (254.0, 232.0, 56.0),
];

/// What a cell's colour stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    P99,
    Refused,
}

/// One heat map, and what it shows.
pub(super) struct Heat {
    pub(super) svg: String,
    pub(super) caption: String,
    /// Too wide to stand beside another.
    pub(super) wide: bool,
}

struct Cell {
    column: i32,
    row: i32,
    value: f64,
    text: String,
    knee: Knee,
    marked: bool,
}

/// The map at one load; the third limit is as in `like`, or as loose as was measured. `None` when nothing was measured
/// at that load.
pub(super) fn heat(sweep: &Sweep, value: Value, rate: u32, like: Option<&Limits>) -> Option<Heat> {
    let [across, down, third] = axes(sweep);
    let fixed = match like {
        Some(like) => third.of(like),
        None => values(sweep, third).last().copied()?,
    };
    let (columns, rows) = (values(sweep, across), values(sweep, down));
    let at = |measured: &&Measured| {
        let point = measured.point;
        point.proxy == Proxy::Portcullis && point.rate == rate && third.of(&point.limits) == fixed
    };
    let cells: Vec<Cell> = sweep
        .points
        .iter()
        .filter(at)
        .filter_map(|measured| {
            let limits = measured.point.limits;
            let (number, text) = shown(measured, value)?;
            Some(Cell {
                column: place(&columns, across.of(&limits))?,
                row: place(&rows, down.of(&limits))?,
                value: number,
                text,
                knee: knee_of(sweep, Proxy::Portcullis, &limits),
                marked: like == Some(&limits),
            })
        })
        .collect();
    let name = match value {
        Value::P99 => "p99 latency",
        Value::Refused => "refused share",
    };
    let caption = format!(
        "{name} at {} by {} (across) and {} (down), with {} {}",
        per_second(rate),
        across.name(),
        down.name(),
        third.name(),
        text(fixed)
    );
    let (width, height) = (count(&columns), count(&rows));
    let size = (LEFT + width * CELL.0 + 10, TOP + height * CELL.1 + BOTTOM);
    let size = (u32::try_from(size.0).ok()?, u32::try_from(size.1).ok()?);
    if cells.is_empty() {
        return None;
    }
    let svg = svg(size, &format!("Heat map: {caption}"), |root| {
        headings(root, (across, &columns), (down, &rows))?;
        draw_cells(root, &cells, value)
    })?;
    // Few cells are not blown up, and many are scrolled rather than shrunk until nobody can read them.
    let sized = format!("<svg style=\"max-width:{0}px;min-width:{1}px\" ", size.0, size.0 * 3 / 4);
    Some(Heat { svg: svg.replacen("<svg ", &sized, 1), caption, wide: width > WIDE })
}

/// The number for the colour and the text of the cell.
fn shown(measured: &Measured, value: Value) -> Option<(f64, String)> {
    let (number, text) = match value {
        Value::P99 if measured.counts.succeeded == 0 => return None,
        Value::P99 => (measured.latency.p99, format!("{} ms", number(measured.latency.p99))),
        Value::Refused => (measured.refused_share(), percent(measured.refused_share())),
    };
    number.is_finite().then_some((number, text))
}

fn place(values: &[Option<u32>], value: Option<u32>) -> Option<i32> {
    i32::try_from(values.iter().position(|other| *other == value)?).ok()
}

fn count(values: &[Option<u32>]) -> i32 {
    i32::try_from(values.len()).unwrap_or(i32::MAX / 1000)
}

fn headings(root: &Svg<'_>, across: (Axis, &[Option<u32>]), down: (Axis, &[Option<u32>])) -> Drawn {
    let middle = label_font(16).pos(Pos::new(HPos::Center, VPos::Center));
    let right = label_font(16).pos(Pos::new(HPos::Right, VPos::Center));
    let left = label_font(16).pos(Pos::new(HPos::Left, VPos::Center));
    root.draw(&Text::new(format!("{} (down)", down.0.name()), (4, 12), left))?;
    let foot = TOP + count(down.1) * CELL.1;
    for (column, value) in (0..).zip(across.1) {
        root.draw(&Text::new(
            text(*value),
            (LEFT + column * CELL.0 + CELL.0 / 2, foot + 14),
            middle.clone(),
        ))?;
    }
    for (row, value) in (0..).zip(down.1) {
        root.draw(&Text::new(text(*value), (LEFT - 10, TOP + row * CELL.1 + CELL.1 / 2), right.clone()))?;
    }
    let centre = LEFT + count(across.1) * CELL.0 / 2;
    root.draw(&Text::new(across.0.name(), (centre, foot + 38), middle))
}

fn draw_cells(root: &Svg<'_>, cells: &[Cell], value: Value) -> Drawn {
    let scaled = |number: f64| match value {
        Value::P99 => number.max(1e-3).log10(),
        Value::Refused => number,
    };
    let lowest = cells.iter().map(|cell| scaled(cell.value)).fold(f64::INFINITY, f64::min);
    let highest = cells.iter().map(|cell| scaled(cell.value)).fold(f64::NEG_INFINITY, f64::max);
    let range = highest - lowest;
    for cell in cells {
        let part = if range > 0.0 { (scaled(cell.value) - lowest) / range } else { 0.0 };
        let (colour, light) = heat_colour(part);
        let (x, y) = (LEFT + cell.column * CELL.0, TOP + cell.row * CELL.1);
        let (right, bottom) = (x + CELL.0 - 3, y + CELL.1 - 3);
        root.draw(&Rectangle::new([(x, y), (right, bottom)], colour.filled()))?;
        let ink = if light { RGBColor(0, 0, 0) } else { RGBColor(255, 255, 255) };
        let font = |size: u32| {
            ("sans-serif", size).into_font().color(&ink).pos(Pos::new(HPos::Center, VPos::Center))
        };
        let middle = (x + right) / 2;
        root.draw(&Text::new(cell.text.clone(), (middle, y + 16), font(18)))?;
        root.draw(&Text::new(knee_text(cell.knee), (middle, y + 35), font(15)))?;
    }
    // Last, so that no neighbour covers it; twice, so that it shows on dark cells and on light ones.
    for cell in cells.iter().filter(|cell| cell.marked) {
        let (x, y) = (LEFT + cell.column * CELL.0, TOP + cell.row * CELL.1);
        let (right, bottom) = (x + CELL.0 - 3, y + CELL.1 - 3);
        for (out, style) in [(-1, BACK.stroke_width(3)), (2, INK.stroke_width(4))] {
            let (x, y, right, bottom) = (x - out, y - out, right + out, bottom + out);
            let corners = vec![(x, y), (right, y), (right, bottom), (x, bottom), (x, y - 2)];
            root.draw(&PathElement::new(corners, style))?;
        }
    }
    Ok(())
}

/// `knee 2k/s`.
fn knee_text(knee: Knee) -> String {
    match knee {
        Knee::Unknown => String::new(),
        Knee::Below(rate) => format!("knee <{}/s", short(f64::from(rate))),
        Knee::At(rate) => format!("knee {}/s", short(f64::from(rate))),
        Knee::Beyond(rate) => format!("knee >{}/s", short(f64::from(rate))),
    }
}

/// The colour of a part of the scale, and whether it is a light one.
fn heat_colour(part: f64) -> (RGBColor, bool) {
    let last = SCALE.len() - 1;
    let spot = part.clamp(0.0, 1.0) * 4.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 4")]
    let index = (spot as usize).min(last - 1);
    let (from, to) =
        (SCALE.get(index).copied().unwrap_or_default(), SCALE.get(index + 1).copied().unwrap_or_default());
    let rest = spot - if index == 0 { 0.0 } else { [0.0, 1.0, 2.0, 3.0].get(index).copied().unwrap_or(3.0) };
    let between = |from: f64, to: f64| from + (to - from) * rest;
    let (red, green, blue) = (between(from.0, to.0), between(from.1, to.1), between(from.2, to.2));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
    let byte = |value: f64| value.round().clamp(0.0, 255.0) as u8;
    let luminance = 0.299 * red + 0.587 * green + 0.114 * blue;
    (RGBColor(byte(red), byte(green), byte(blue)), luminance > 120.0)
}
