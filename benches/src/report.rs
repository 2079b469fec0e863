//! The Markdown: a head with the facts, a table per workload, the targets at the end.

use crate::cli::Options;
use crate::orchestrate::{Cell, Table};
use crate::peer::Peer;
use crate::workload::{OURS, OURS_ON_THREADS, Target};

pub(crate) fn print_head(facts: &[(&str, String)], options: &Options) {
    println!("# strands beside its peers\n");
    for (what, value) in facts {
        println!("- {what}: {value}");
    }
    println!(
        "- each figure: the median of {} fresh processes (minimum – maximum), the peers taking turns",
        options.reps
    );
    println!("- every figure is a cost; a ratio below 1 means that strands is ahead");
    println!("- peers on OS threads are compared with strands-threads, where that takes part");
    if options.quick {
        println!("\n**--quick: sizes too small for the figures to mean anything.**");
    }
}

pub(crate) fn print_table(table: &Table, quick: bool) {
    let Table { workload, procs, .. } = table;
    let plural = if *procs == 1 { "" } else { "s" };
    println!("\n## {}, {procs} processor{plural}\n", workload.name());
    println!("{}\n", workload.title());
    println!("{}\n", distances(table));
    println!("| peer | metric | median | min – max | strands ÷ peer | remarks |");
    println!("|---|---|--:|--:|--:|---|");
    for cell in &table.cells {
        for row in rows(table, cell, quick) {
            println!("{row}");
        }
    }
}

/// How far the processors were from each other.
fn distances(table: &Table) -> String {
    let each: Vec<String> = table.distances.iter().map(ToString::to_string).collect();
    let again = match table.repeated {
        0 => String::new(),
        1 => "; one turn was done again, as they were moved in it".to_owned(),
        n => format!("; {n} turns were done again, as they were moved in them"),
    };
    format!("between the processors, there and back, in each turn: {}{again}", each.join(", "))
}

/// Which of our rows this peer is compared with: threads with threads, where we have such a row.
fn baseline(table: &Table, peer: Peer) -> &'static str {
    let both = peer.on_threads() && table.cell(OURS_ON_THREADS).is_some();
    if both && peer != Peer::StrandsThreads { OURS_ON_THREADS } else { OURS }
}

/// The rows of one peer, one per metric, or one that says why there are none.
fn rows(table: &Table, cell: &Cell, quick: bool) -> Vec<String> {
    let name = cell.peer.name();
    let mut remarks: Vec<String> = Vec::new();
    remarks.extend(cell.peer.note(table.workload).map(str::to_owned));
    if let Some(reason) = &cell.absent {
        remarks.insert(0, reason.clone());
        return vec![row(name, "", "–", "", "", &remarks)];
    }
    if let Some(failure) = cell.failures.first() {
        let (failed, all) = (cell.failures.len(), cell.failures.len() + cell.runs.len());
        remarks.insert(0, format!("failed {failed} of {all}: {failure}"));
    }
    let Some(metrics) = cell.runs.first() else {
        return vec![row(name, "", "**fails**", "", "", &remarks)];
    };
    let mut rows = Vec::new();
    for metric in metrics {
        let Some(summary) = cell.summary(&metric.name) else {
            continue;
        };
        if !quick {
            let targets = table.workload.targets().into_iter();
            let here = targets.filter(|target| target.ours == name && target.metric == metric.name);
            remarks.extend(here.map(|target| judge(table, &target).text));
        }
        let baseline = baseline(table, cell.peer);
        let ours = table.cell(baseline).and_then(|ours| ours.summary(&metric.name));
        let ratio = match ours {
            Some(ours) if name != baseline && summary.median > 0.0 => {
                figure(ours.median / summary.median)
            }
            _ => "–".to_owned(),
        };
        let label = format!("{}, {}", metric.name, metric.unit);
        let spread = format!("{} – {}", figure(summary.min), figure(summary.max));
        rows.push(row(name, &label, &figure(summary.median), &spread, &ratio, &remarks));
        remarks.clear();
    }
    rows
}

fn row(
    name: &str,
    metric: &str,
    median: &str,
    spread: &str,
    ratio: &str,
    remarks: &[String],
) -> String {
    // A bar in a message would end the cell.
    let remarks = remarks.join("; ").replace('|', "/");
    format!("| {name} | {metric} | {median} | {spread} | {ratio} | {remarks} |")
}

struct Judgement {
    met: Option<bool>,
    text: String,
}

fn judge(table: &Table, target: &Target) -> Judgement {
    let median = |name: &str| Some(table.cell(name)?.summary(target.metric)?.median);
    let (value, goal) = match target.peer {
        None => (median(target.ours), format!("{}", target.bound)),
        Some(peer) => {
            let ratio = median(target.ours).zip(median(peer)).map(|(ours, its)| ours / its);
            (ratio, format!("{} × {peer}", target.bound))
        }
    };
    let met = value.map(|value| target.bound.admits(value));
    let shown = |value| near_limit(value, target.bound.limit());
    let verdict = match (met, value) {
        (Some(true), Some(value)) => format!("**met** ({})", shown(value)),
        (Some(false), Some(value)) => format!("**missed** ({})", shown(value)),
        _ => "no figure".to_owned(),
    };
    let text = format!("target {goal}: {verdict}");
    Judgement { met, text }
}

/// All targets in one list.
pub(crate) fn print_verdict(tables: &[Table], quick: bool) {
    if quick {
        return;
    }
    let mut lines = Vec::new();
    let mut met = 0;
    for table in tables {
        for target in table.workload.targets() {
            let judgement = judge(table, &target);
            met += usize::from(judgement.met == Some(true));
            let (name, procs) = (table.workload.name(), table.procs);
            let (ours, metric, text) = (target.ours, target.metric, judgement.text);
            lines.push(format!("- {name} ({ours}, {metric}), procs {procs}: {text}"));
        }
    }
    if !lines.is_empty() {
        println!("\n## Targets: {met} of {} met\n\n{}", lines.len(), lines.join("\n"));
    }
}

/// As `figure`, but with all its digits near the limit, where rounding would hide the verdict.
fn near_limit(value: f64, limit: f64) -> String {
    if (value - limit).abs() <= 0.01 * limit { value.to_string() } else { figure(value) }
}

/// Three significant digits, thousands separated.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 99.95 || v == 0.0 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text.as_str(), None),
    };
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match fraction {
        Some(fraction) => format!("{grouped}.{fraction}"),
        None => grouped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::Failure;
    use crate::measure::Metric;
    use crate::workload::Workload;

    fn cell(peer: Peer, values: &[f64]) -> Cell {
        let run = |&value: &f64| vec![Metric::new("each", "ns", value)];
        Cell { peer, runs: values.iter().map(run).collect(), failures: Vec::new(), absent: None }
    }

    fn table(cells: Vec<Cell>) -> Table {
        let (distances, repeated) = (Vec::new(), 0);
        Table { workload: Workload::SpawnJoin, procs: 2, cells, distances, repeated }
    }

    #[test]
    fn figures_have_three_digits() {
        let shown = [0.0, 0.1234, 1.0, 12.34, 123.4, 1234567.0].map(figure);
        assert_eq!(shown, ["0", "0.123", "1.00", "12.3", "123", "1,234,567"]);
    }

    #[test]
    fn ratios_and_targets_compare_medians() {
        let table = table(vec![
            cell(Peer::Strands, &[90.0, 100.0, 400.0]),
            cell(Peer::Go, &[190.0, 200.0, 210.0]),
            cell(Peer::Smol, &[100.0]),
        ]);
        let ours = rows(&table, &table.cells[0], false);
        let expected = "| strands | each, ns | 100 | 90.0 – 400 | – | \
             target ≤ 0.5 × go: **met** (0.5); target < 1 × smol: **missed** (1) |";
        assert_eq!(ours, [expected]);
        let go = rows(&table, &table.cells[1], false);
        assert_eq!(go, ["| go | each, ns | 200 | 190 – 210 | 0.500 |  |"]);
    }

    #[test]
    fn verdicts_near_the_limit_are_not_rounded() {
        assert_eq!(near_limit(0.3003, 0.3), "0.3003");
        assert_eq!(near_limit(0.29999, 0.3), "0.29999");
        assert_eq!(near_limit(0.31234, 0.3), "0.312");
    }

    #[test]
    fn threads_are_compared_with_our_threads() {
        let mut table = table(vec![
            cell(Peer::StrandsThreads, &[90.0]),
            cell(Peer::CrossbeamThreads, &[200.0]),
        ]);
        table.workload = Workload::Spsc;
        let ours = rows(&table, &table.cells[0], false).remove(0);
        let target = "target ≤ 0.9 × crossbeam-threads: **met** (0.450)";
        assert!(ours.ends_with(&format!("| – | {target} |")), "{ours}");
        let theirs = rows(&table, &table.cells[1], false).remove(0);
        assert!(theirs.contains("| 0.450 |"), "{theirs}");
    }

    #[test]
    fn absence_and_failure_are_rows() {
        let mut absent = cell(Peer::Go, &[]);
        absent.absent = Some("not installed".to_owned());
        let mut failing = cell(Peer::May, &[]);
        failing.failures.push(Failure::Failed("a|b".to_owned()));
        let table = table(vec![cell(Peer::Strands, &[1.0]), absent, failing]);
        let all: Vec<_> = table.cells.iter().flat_map(|cell| rows(&table, cell, false)).collect();
        assert!(all[0].contains("target ≤ 0.5 × go: no figure"), "{}", all[0]);
        assert_eq!(all[1], "| go |  | – |  |  | not installed |");
        assert_eq!(all[2], "| may |  | **fails** |  |  | failed 1 of 1: a/b |");
    }
}
