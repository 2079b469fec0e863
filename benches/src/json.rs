//! Every sample as JSON, for those who want to plot or to compare two runs.

use crate::orchestrate::Table;

/// The whole run: facts, then per workload and peer the samples of each metric in run order.
pub(crate) fn document(facts: &[(&str, String)], tables: &[Table]) -> String {
    let facts = object(facts.iter().map(|(what, value)| (*what, string(value))));
    let tables = tables.iter().map(|table| {
        let peers = table.cells.iter().map(|cell| {
            let names = cell.runs.first().into_iter().flatten();
            let metrics = names.map(|metric| {
                let samples = cell.runs.iter().flatten().filter(|m| m.name == metric.name);
                let values = array(samples.map(|m| m.value.to_string()));
                let unit = string(&metric.unit);
                (metric.name.as_str(), object([("unit", unit), ("samples", values)]))
            });
            let failures = cell.failures.iter().map(|failure| string(&failure.to_string()));
            let absent = cell.absent.as_deref();
            object([
                ("peer", string(cell.peer.name())),
                ("metrics", object(metrics)),
                ("failures", array(failures)),
                ("absent", absent.map_or_else(|| "null".to_owned(), string)),
            ])
        });
        object([
            ("workload", string(table.workload.name())),
            ("procs", table.procs.to_string()),
            ("peers", array(peers)),
        ])
    });
    object([("facts", facts), ("tables", array(tables))]) + "\n"
}

fn object<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs = pairs.into_iter();
    let members: Vec<_> = pairs.map(|(key, value)| format!("{}:{value}", string(key))).collect();
    format!("{{{}}}", members.join(","))
}

fn array(values: impl IntoIterator<Item = String>) -> String {
    let values: Vec<_> = values.into_iter().collect();
    format!("[{}]", values.join(","))
}

fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Metric;
    use crate::orchestrate::Cell;
    use crate::peer::Peer;
    use crate::workload::Workload;

    #[test]
    fn samples_are_written_in_order() {
        let run = |value| vec![Metric::new("each", "ns", value)];
        let cell = Cell {
            peer: Peer::Strands,
            runs: vec![run(2.5), run(1.0)],
            failures: Vec::new(),
            absent: None,
        };
        let (workload, cells) = (Workload::Yield2, vec![cell]);
        let table = Table { workload, procs: 2, cells, distances: Vec::new(), repeated: 0 };
        let facts = [("kernel", "a \"b\"\n".to_owned())];
        let expected = r#"{"facts":{"kernel":"a \"b\"\u000a"},"tables":[{"workload":"yield_2","procs":2,"peers":[{"peer":"strands","metrics":{"each":{"unit":"ns","samples":[2.5,1]}},"failures":[],"absent":null}]}]}"#;
        assert_eq!(document(&facts, &[table]), format!("{expected}\n"));
    }
}
