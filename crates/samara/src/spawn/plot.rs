//! A run as a picture: forks over mappings, both on logarithmic axes.

use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::series::DashedLineSeries;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::{Kind, Line, Report};
use super::table::grouped;

/// The picture in pixels, and how much of its width is the chart.
const SIZE: (u32, u32) = (1040, 600);
const CHART_WIDTH: i32 = 780;
/// Between two lines of the legend.
const LEGEND_STEP: i32 = 24;

/// A drawing area in memory.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws `report`.
///
/// # Errors
///
/// If the library can't draw it.
pub(crate) fn svg(report: &Report) -> Result<String> {
    let mut svg = String::new();
    {
        let whole = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw(&whole, report).map_err(|error| anyhow!("cannot draw the plot: {error}"))?;
        whole
            .present()
            .map_err(|error| anyhow!("cannot draw the plot: {error}"))?;
    }
    Ok(svg)
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn draw(whole: &Area<'_>, report: &Report) -> Drawn {
    whole.fill(&WHITE)?;
    let (left, right) = whole.split_horizontally(CHART_WIDTH);
    let vmas = range(report, |point| f64::from(point.vmas));
    let forks = range(report, |point| point.forks_in_ten_seconds);
    let title = format!(
        "Forks in 10 s, each child dropped at once ({} % of its mappings touched)",
        report.touched_percent
    );
    let mut chart = ChartBuilder::on(&left)
        .margin(16)
        .caption(title, ("sans-serif", 18))
        .x_label_area_size(44)
        .y_label_area_size(84)
        .build_cartesian_2d(vmas.log_scale(), forks.log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc("mappings (VMAs)")
        .y_desc("forks in 10 s of processor time")
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15))
        .x_label_formatter(&|&vmas| grouped(vmas as u32))
        .y_label_formatter(&|&forks| grouped(forks as u32))
        .draw()?;
    for line in &report.lines {
        let (color, width) = style(line);
        let stroke = color.stroke_width(width);
        let points = line
            .points
            .iter()
            .map(|point| (f64::from(point.vmas), point.forks_in_ten_seconds));
        if is_dashed(line) {
            chart.draw_series(DashedLineSeries::new(points, 7, 5, stroke))?;
        } else {
            chart.draw_series(LineSeries::new(points.clone(), stroke))?;
            chart.draw_series(points.map(|at| Circle::new(at, 3, color.filled())))?;
        }
    }
    legend(&right, report)
}

/// The names, highest line first, each beside a piece of its line.
fn legend(area: &Area<'_>, report: &Report) -> Drawn {
    let last = |line: &Line| {
        line.points
            .last()
            .map_or(0.0, |point| point.forks_in_ten_seconds)
    };
    let mut lines: Vec<&Line> = report.lines.iter().collect();
    lines.sort_by(|one, other| last(other).total_cmp(&last(one)));
    let text = ("sans-serif", 14).into_text_style(area);
    let text = text.pos(Pos::new(HPos::Left, VPos::Center));
    let mut y = 70;
    for line in lines {
        let (color, width) = style(line);
        let piece = [(4, y), (36, y)];
        let stroke = color.stroke_width(width);
        if is_dashed(line) {
            area.draw(&DashedPathElement::new(piece, 7, 5, stroke))?;
        } else {
            area.draw(&PathElement::new(piece, stroke))?;
            area.draw(&Circle::new((20, y), 3, color.filled()))?;
        }
        area.draw_text(&name(line), &text, (44, y))?;
        y += LEGEND_STEP;
    }
    Ok(())
}

fn name(line: &Line) -> String {
    match line.kind {
        Kind::Strategy => line.name.clone(),
        Kind::Floor => "floor (only copying)".to_owned(),
        Kind::Kernel => "this kernel (a task too)".to_owned(),
        Kind::Published => format!("published {}", line.name),
    }
}

const fn is_dashed(line: &Line) -> bool {
    matches!(line.kind, Kind::Kernel | Kind::Published)
}

/// A colour and a width: colours that most colour-blind people can tell apart, and the published
/// lines in the colour of the strategy that they published. Ways that copy pages are thin.
fn style(line: &Line) -> (RGBColor, u32) {
    let of_strategy = |name: &str| match name {
        "store-each" => RGBColor(0xe6, 0x9f, 0x00),
        "bulk" => RGBColor(0x56, 0xb4, 0xe9),
        "duplicate+store" => RGBColor(0xcc, 0x79, 0xa7),
        "duplicate+replace" => RGBColor(0x00, 0x9e, 0x73),
        "duplicate-with" => RGBColor(0xd5, 0x5e, 0x00),
        _ => RGBColor(0x00, 0x72, 0xb2),
    };
    match line.kind {
        Kind::Strategy => {
            let mappings = line.name.split('/').next().unwrap_or_default();
            let is_copy = line.name.ends_with("/copy");
            (of_strategy(mappings), if is_copy { 1 } else { 2 })
        }
        Kind::Floor => (RGBColor(0x88, 0x88, 0x88), 1),
        Kind::Kernel => (BLACK, 2),
        Kind::Published => {
            let strategy = line.name.rsplit(": ").next().unwrap_or_default();
            (of_strategy(strategy), 1)
        }
    }
}

/// From below the least value to above the greatest.
fn range(report: &Report, value: impl Fn(&super::report::Point) -> f64) -> Range<f64> {
    let points = report.lines.iter().flat_map(|line| &line.points);
    let (mut least, mut most) = (f64::MAX, f64::MIN_POSITIVE);
    for value in points.map(value) {
        least = least.min(value);
        most = most.max(value);
    }
    (least.min(most) / 1.3)..(most * 1.3)
}
