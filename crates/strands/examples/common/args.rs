//! The command line of the small examples: up to `N` numbers, each with a default and a range.

use std::env;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::process;

/// The numbers on the command line, defaults in place of those that are missing.
///
/// `usage` is the program's name and the names of its numbers, `"ping_pong [TRIPS]"`. A wrong
/// command line ends the process with status 2, and `--help` with 0.
pub(crate) fn numbers<const N: usize>(
    usage: &str,
    parameters: [(u64, RangeInclusive<u64>); N],
) -> [u64; N] {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        println!("Usage: {usage}");
        process::exit(0);
    }
    parse(&arguments, parameters).unwrap_or_else(|mistake| {
        eprintln!("{mistake}\nUsage: {usage}");
        process::exit(2);
    })
}

fn parse<const N: usize>(
    arguments: &[OsString],
    parameters: [(u64, RangeInclusive<u64>); N],
) -> Result<[u64; N], String> {
    if let Some(extra) = arguments.get(N) {
        return Err(format!("`{}` is too much", extra.display()));
    }
    let mut numbers = parameters.clone().map(|(default, _)| default);
    for ((argument, (_, range)), number) in arguments.iter().zip(parameters).zip(&mut numbers) {
        *number = argument
            .to_str()
            .and_then(|argument| argument.parse().ok())
            .ok_or_else(|| format!("`{}` is not a number", argument.display()))?;
        if !range.contains(number) {
            let (least, most) = (range.start(), range.end());
            return Err(format!("{number} is not within {least}..={most}"));
        }
    }
    Ok(numbers)
}
