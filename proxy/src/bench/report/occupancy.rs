//! A pool over time: one small plot per setting.

use plotters::prelude::*;

use super::super::result::{Measured, Occupancy};
use super::numbers::{float, per_second, short};
use super::plots::{INK, colour, short as tick, svg};

/// What is drawn, as in the key: open connections, those in use, and waiting requests.
pub(super) const SERIES: [(&str, usize); 3] = [("open", 3), ("in use", 0), ("waiting requests", 5)];

/// The pool of one point over the measured time; `None` when it was not seen.
pub(super) fn occupancy(measured: &Measured) -> Option<String> {
    let moments = &measured.occupancy;
    let seconds = |moment: &Occupancy| float(moment.at) / 1000.0;
    let end = moments.iter().map(seconds).fold(0.0, f64::max).max(0.1);
    let highest = moments.iter().map(|moment| moment.connections.max(moment.waiting)).max()?;
    let [open, in_use, waiting]: [fn(&Occupancy) -> u64; 3] = [
        |moment| moment.connections,
        |moment| moment.connections.saturating_sub(moment.idle),
        |moment| moment.waiting,
    ];
    let label = format!(
        "Pool over time with limits {} at {}: at most {highest} connections or waiting requests",
        short(&measured.point.limits),
        per_second(measured.point.rate)
    );
    svg((300, 180), &label, |root| {
        let mut chart = ChartBuilder::on(root)
            .margin(6)
            .margin_right(14)
            .x_label_area_size(40)
            .y_label_area_size(44)
            .build_cartesian_2d(0.0..end, 0.0..(float(highest) * 1.1).max(1.0))?;
        chart
            .configure_mesh()
            .x_labels(4)
            .y_labels(4)
            .max_light_lines(0)
            .bold_line_style(INK.mix(0.16))
            .axis_style(INK.mix(0.6))
            .label_style(("sans-serif", 16).into_font().color(&INK))
            .x_desc("seconds")
            .x_label_formatter(&|value| tick(*value))
            .y_label_formatter(&|value| tick(*value))
            .draw()?;
        // Where all open connections are in use, the wide line shows on both sides of the narrow one.
        for ((_, look), (of, width)) in SERIES.iter().zip([(open, 6), (in_use, 2), (waiting, 2)]) {
            let points = moments.iter().map(|moment| (seconds(moment), float(of(moment))));
            chart.draw_series(LineSeries::new(points, colour(*look).stroke_width(width)))?;
        }
        Ok(())
    })
}
