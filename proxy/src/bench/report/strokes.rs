//! Curves that lie on one another, each still to be seen.
//!
//! Settings that a load does not press behave alike, so their curves coincide, and the last one drawn would hide all
//! others. Where segments coincide they are dashed in turns, one after the other; where points do, the markers below are
//! larger.

use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;

use super::plots::{BACK, Chart, Curve, Drawn, colour, marker};

/// What is nearer than this many pixels cannot be told apart.
const NEAR: i32 = 3;
/// A dash, in pixels, and the gap after it.
const DASH: f64 = 9.0;
const GAP: f64 = 5.0;
/// By how much each marker below another one is larger, and how large it gets at most.
const LARGER: f64 = 0.5;
const LARGEST: f64 = 2.2;

/// In pixels, from the upper left.
type Pixel = (i32, i32);

/// A curve on the screen.
struct Stroke<'a> {
    curve: &'a Curve,
    /// By load: where, in the chart's values and in pixels.
    points: Vec<((f64, f64), Pixel)>,
}

impl Stroke<'_> {
    fn segments(&self) -> impl Iterator<Item = [&((f64, f64), Pixel); 2]> {
        self.points.iter().zip(self.points.iter().skip(1)).map(|(from, to)| [from, to])
    }

    fn has_segment(&self, wanted: [Pixel; 2]) -> bool {
        self.segments().any(|[from, to]| near(from.1, wanted[0]) && near(to.1, wanted[1]))
    }
}

fn near(one: Pixel, other: Pixel) -> bool {
    one.0 == other.0 && one.1.abs_diff(other.1) < NEAR.unsigned_abs()
}

/// Draws lines and then markers, so that no line crosses a marker.
pub(super) fn draw<Y>(chart: &mut Chart<'_, '_, Y>, curves: &[Curve], (bottom, top): (f64, f64)) -> Drawn
where
    Y: Ranged<ValueType = f64>,
{
    let strokes: Vec<Stroke<'_>> = curves
        .iter()
        .map(|curve| {
            let at = curve.points.iter().map(|(x, y)| (*x, y.clamp(bottom, top)));
            Stroke { curve, points: at.map(|at| (at, chart.backend_coord(&at))).collect() }
        })
        .collect();
    for (index, stroke) in strokes.iter().enumerate() {
        let alike = |other: &&Stroke<'_>| other.curve.dashed == stroke.curve.dashed;
        let before = || strokes.iter().take(index).filter(alike);
        let after = || strokes.iter().skip(index + 1).filter(alike);
        for [from, to] in stroke.segments() {
            let both = [from.1, to.1];
            let turn = before().filter(|other| other.has_segment(both)).count();
            let turns = turn + 1 + after().filter(|other| other.has_segment(both)).count();
            let length = (f64::from(to.1.0 - from.1.0), f64::from(to.1.1 - from.1.1));
            let style = colour(stroke.curve.look).stroke_width(2);
            let pieces = pieces(length, stroke.curve.dashed, (turn, turns));
            chart.draw_series(
                pieces
                    .into_iter()
                    .map(|piece| EmptyElement::at(from.0) + PathElement::new(piece.to_vec(), style)),
            )?;
        }
    }
    for (index, stroke) in strokes.iter().enumerate() {
        for (at, pixel) in &stroke.points {
            let above = strokes.iter().skip(index + 1);
            let covered = |other: &&Stroke<'_>| {
                !other.curve.dashed && other.points.iter().any(|(_, place)| near(*place, *pixel))
            };
            let shape = sized(stroke.curve, above.filter(covered).count());
            draw_marker(chart, stroke.curve, *at, shape)?;
        }
    }
    Ok(())
}

/// Ours are filled; the compared proxy's are hollow and larger, so that one of ours shows inside.
fn draw_marker<Y>(chart: &mut Chart<'_, '_, Y>, curve: &Curve, at: (f64, f64), shape: Vec<Pixel>) -> Drawn
where
    Y: Ranged<ValueType = f64>,
{
    let mut outline = shape.clone();
    outline.extend(shape.first().copied());
    let element = EmptyElement::at(at);
    if curve.dashed {
        let line = PathElement::new(outline, colour(curve.look).stroke_width(2));
        chart.draw_series([element + line])?;
    } else {
        let fill = Polygon::new(shape, colour(curve.look).filled());
        chart.draw_series([element + fill + PathElement::new(outline, BACK.stroke_width(1))])?;
    }
    if curve.knee == Some(at.0) {
        chart.draw_series([Circle::new(at, 10, super::plots::INK.stroke_width(2))])?;
    }
    Ok(())
}

/// The marker of a curve that lies below that many others at one point.
fn sized(curve: &Curve, below: usize) -> Vec<Pixel> {
    let levels = f64::from(u32::try_from(below).unwrap_or(u32::MAX));
    let factor = if curve.dashed { 1.7 } else { (1.0 + LARGER * levels).min(LARGEST) };
    marker(curve.look)
        .iter()
        .map(|(x, y)| (pixels(f64::from(*x) * factor), pixels(f64::from(*y) * factor)))
        .collect()
}

/// The parts of a segment that are drawn, from its start: all of it, or the dashes of one of several that take turns.
fn pieces((across, down): (f64, f64), dashed: bool, (turn, turns): (usize, usize)) -> Vec<[Pixel; 2]> {
    let length = across.hypot(down);
    if length <= 0.0 || (turns < 2 && !dashed) {
        return vec![[(0, 0), (pixels(across), pixels(down))]];
    }
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    let step = DASH + if dashed { GAP } else { 0.0 };
    let place = |along: f64| (pixels(across * along / length), pixels(down * along / length));
    let mut pieces = Vec::new();
    let mut start = step * count(turn);
    while start < length {
        pieces.push([place(start), place((start + DASH).min(length))]);
        start += step * count(turns.max(1));
    }
    pieces
}

#[allow(clippy::cast_possible_truncation, reason = "a cast saturates, and a plot has a few hundred pixels")]
fn pixels(value: f64) -> i32 {
    value.round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_of_its_own_is_drawn_whole() {
        assert_eq!(pieces((30.0, 40.0), false, (0, 1)), [[(0, 0), (30, 40)]]);
    }

    #[test]
    fn the_compared_proxy_is_dashed() {
        assert_eq!(pieces((25.0, 0.0), true, (0, 1)), [[(0, 0), (9, 0)], [(14, 0), (23, 0)]]);
    }

    #[test]
    fn two_that_coincide_take_turns_and_leave_nothing_out() {
        let first = pieces((30.0, 0.0), false, (0, 2));
        let second = pieces((30.0, 0.0), false, (1, 2));
        assert_eq!(first, [[(0, 0), (9, 0)], [(18, 0), (27, 0)]]);
        assert_eq!(second, [[(9, 0), (18, 0)], [(27, 0), (30, 0)]]);
    }
}
