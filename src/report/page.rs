//! The report as one HTML file that needs nothing else: figures inline, light and dark, fit for print.

use super::document::Report;
use crate::claims::{Claim, Verdict};
use crate::display::{Cell, escape_html, thousands};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1f2328; --quiet: #59636e; --page: #ffffff; --rule: #d1d9e0; --stripe: #f6f8fa;
  --holds: #00704f; --refuted: #b34700; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --quiet: #9da7b1; --page: #15191f; --rule: #3a424c; --stripe: #1c2128; --holds: #3fc79a; --refuted: #ff9c5a; }
}
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; }
.quiet, figcaption, caption { color: var(--quiet); }
.note { border-left: 3px solid var(--rule); margin: 1rem 0; padding: .1rem 0 .1rem .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .94rem; font-variant-numeric: tabular-nums; margin: 0 0 2rem; }
caption { text-align: left; padding: 0 0 .5rem; }
caption strong { color: var(--ink); margin-right: .4rem; }
th { border-bottom: 1.5px solid var(--ink); padding: .35rem .75rem .35rem 0; vertical-align: bottom; }
th[scope=row] { border-bottom: 1px solid var(--rule); padding: .45rem .75rem .45rem 0; vertical-align: top; white-space: nowrap; }
td { border-bottom: 1px solid var(--rule); padding: .45rem .75rem .45rem 0; vertical-align: top; }
td.number { white-space: nowrap; text-align: right; }
td.number div { font-size: .88rem; }
td.id { white-space: nowrap; font-weight: 600; }
details { font-size: .88rem; color: var(--quiet); margin-top: .15rem; }
summary { cursor: pointer; }
.verdict { font-weight: 600; max-width: 12rem; } .verdict div { font-weight: 400; font-size: .88rem; }
.holds { color: var(--holds); } .refuted { color: var(--refuted); } .undecided { color: var(--quiet); }
figure { margin: 0 0 2.5rem; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { font-size: .92rem; margin-top: .4rem; max-width: 48rem; }
pre { background: var(--stripe); padding: 1rem; overflow-x: auto; font-size: .85rem; border-radius: 4px; }
@media print {
  :root { --ink: #000; --quiet: #444; --page: #fff; --rule: #bbb; --stripe: #fff; --holds: #000; --refuted: #000; }
  main { max-width: none; padding: 0; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
  details:not([open]) > :not(summary) { display: block; }
}
";

/// `Recyclable tuning: profile tiny`.
pub fn title(report: &Report) -> String {
    match report.profile.as_str() {
        "" => "Recyclable tuning".to_owned(),
        profile => format!("Recyclable tuning: profile {profile}"),
    }
}

/// The whole page; `drawings` are the figures' SVGs in the report's order.
pub fn html(report: &Report, drawings: &[String]) -> String {
    let title = escape_html(&title(report));
    let mut main = format!("<h1>{title}</h1>\n<p class=\"quiet\">{}</p>\n", escape_html(&summary(report)));
    main += &claims(report);
    for note in &report.notes {
        main += &format!("<p class=\"note\">{}</p>\n", escape_html(note));
    }
    if !report.figures.is_empty() {
        main += "<h2>Figures</h2>\n";
    }
    for (figure, svg) in report.figures.iter().zip(drawings) {
        let caption = escape_html(&figure.caption);
        main += &format!("<figure>\n{}\n<figcaption>{caption}</figcaption>\n</figure>\n", inline(svg, &figure.title));
    }
    if !report.tables.is_empty() {
        main += "<h2>Tables</h2>\n";
    }
    for table in &report.tables {
        main += &format!("<div class=\"wide\">{}</div>\n", table.to_html());
    }
    main += "<h2>Environment and settings</h2>\n<table><tbody>\n";
    for (name, value) in report.environment() {
        main += &format!(
            "<tr><th scope=\"row\" style=\"text-align:left\">{name}</th><td>{}</td></tr>\n",
            escape_html(&value)
        );
    }
    main += "</tbody></table>\n";
    if !report.settings.is_null() {
        main += &format!("<pre>{}</pre>\n", escape_html(&format!("{:#}", report.settings)));
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n{main}</main>\n</body>\n</html>\n"
    )
}

/// How many claims hold, and what everything rests on.
fn summary(report: &Report) -> String {
    let count = |verdict| report.claims.iter().filter(|claim| claim.verdict == verdict).count();
    let [holds, refuted, undecided] = [Verdict::Holds, Verdict::Refuted, Verdict::Undecided].map(count);
    let run = [&report.date, &report.machine, &report.commit].map(String::as_str);
    let run = run.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" · ");
    format!(
        "Claims measured: {}; hold {holds}, refuted {refuted}, undecided {undecided}. {} {run}",
        report.claims.len(),
        report.basis()
    )
}

fn claims(report: &Report) -> String {
    let mut html = format!(
        "<h2>Claims</h2>\n<div class=\"wide\"><table>\n<caption>Measured: the mean over {} with its 95 % Student-t interval. {} \
         The rules are this project's own, fixed before the run; a claim that does not hold is a result.</caption>\n\
         <thead><tr><th scope=\"col\" style=\"text-align:left\">claim</th><th scope=\"col\" style=\"text-align:left\">statement</th>\
         <th scope=\"col\" style=\"text-align:right\">measured</th><th scope=\"col\" style=\"text-align:right\">n</th>\
         <th scope=\"col\" style=\"text-align:left\">verdict</th></tr></thead>\n<tbody>\n",
        report.unit.counted(2),
        escape_html(&report.basis())
    );
    for claim in &report.claims {
        let class = claim.verdict.to_string();
        let holm = match claim.holm {
            Some(true) => "<div class=\"quiet\">with Holm too</div>",
            Some(false) if claim.verdict == Verdict::Holds => "<div class=\"quiet\">not with Holm</div>",
            _ => "",
        };
        html += &format!(
            "<tr><td class=\"id\">{}</td><td>{}{}</td><td class=\"number\">{}<div class=\"quiet\">{}</div></td><td class=\"number\">{}</td>\
             <td class=\"verdict {class}\">{}{holm}</td></tr>\n",
            escape_html(&claim.id),
            escape_html(&claim.statement),
            details(claim),
            escape_html(&Cell::from(&claim.interval()).show(3)),
            escape_html(&claim.quantity),
            thousands(claim.n as i64),
            escape_html(&claim.outcome())
        );
    }
    html + "</tbody></table></div>\n"
}

/// Rule, note and every number, folded away.
fn details(claim: &Claim) -> String {
    let units: Vec<String> = claim.per_unit.iter().map(|value| format!("{value:.3}").replace('-', "−")).collect();
    let mut html = format!("<details><summary>rule and numbers</summary><div>{}</div>", escape_html(&claim.rule));
    if !claim.note.is_empty() {
        html += &format!("<div>Here: {}.</div>", escape_html(&claim.note));
    }
    html += &format!("<div>By {}: {}.</div>", claim.unit.counted(1), units.join(", "));
    html + &format!("<div class=\"wide\">{}</div></details>", claim.numbers().to_html())
}

/// A figure's SVG made part of the page: its ink takes the page's text colour, its white background goes.
fn inline(svg: &str, title: &str) -> String {
    let label = format!("<svg role=\"img\" aria-label=\"{}\" ", escape_html(title));
    svg.replacen("<svg ", &label, 1).replace("\"#1F2328\"", "\"currentColor\"").replacen(
        "fill=\"#FFFFFF\"",
        "fill=\"none\"",
        1,
    )
}
