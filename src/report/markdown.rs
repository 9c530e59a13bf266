//! The report as GitHub-flavoured Markdown.

use super::document::Report;
use super::page;
use crate::display::escape_markdown;

/// The whole report; figures are linked from `figures/`.
pub(super) fn markdown(report: &Report) -> String {
    let mut text = format!("# {}\n\n{}\n\n", page::title(report), escape_markdown(&report.basis()));
    text += &report.claims_table().to_markdown();
    text += "\n";
    for note in &report.notes {
        text += &format!("> {}\n\n", escape_markdown(note));
    }
    text += "## Rules\n\n";
    for claim in &report.claims {
        text += &format!("- **{}** {}", escape_markdown(&claim.id), escape_markdown(&claim.rule));
        for condition in &claim.conditions {
            let measured = format!("{}: {} ({})", condition.part.name, condition.part.interval(), condition.bound);
            text += &format!(" *{}.*", escape_markdown(&measured));
        }
        if !claim.note.is_empty() {
            text += &format!(" *Here: {}.*", escape_markdown(&claim.note));
        }
        text += "\n";
    }
    if !report.figures.is_empty() {
        text += "\n## Figures\n";
    }
    for figure in &report.figures {
        let (title, caption) = (escape_markdown(&figure.title), escape_markdown(&figure.caption));
        text += &format!("\n![{title}](figures/{}.svg)\n", figure.id);
        if !caption.is_empty() {
            text += &format!("\n*{caption}*\n");
        }
    }
    if !report.tables.is_empty() {
        text += "\n## Tables\n";
    }
    for table in &report.tables {
        text += &format!("\n{}", table.to_markdown());
    }
    text += "\n## Every number of the claims\n";
    for claim in &report.claims {
        text += &format!("\n{}", claim.numbers().to_markdown());
    }
    text += "\n## Environment and settings\n\n| | |\n| :--- | :--- |\n";
    for (name, value) in report.environment() {
        text += &format!("| {name} | {} |\n", escape_markdown(&value));
    }
    if !report.settings.is_null() {
        text += &format!("\n```json\n{:#}\n```\n", report.settings);
    }
    text
}
