//! Imports a table file and prints what it holds, how long that took and the peak memory.
//!
//! `cargo run --release -p comity-specialist --example import -- FILE`, or `-- --generate ROWS` to measure a generated CSV.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use comity_specialist::table::{Table, TableConfig};

#[expect(clippy::print_stdout, reason = "its purpose")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let directory = tempfile::tempdir()?;
    let file = match arguments.as_slice() {
        [flag, rows] if flag == "--generate" => {
            generate(directory.path().join("generated.csv"), rows.parse()?)?
        }
        [file] => PathBuf::from(file),
        _ => return Err("usage: import FILE | import --generate ROWS".into()),
    };
    let size = std::fs::metadata(&file)?.len();
    let started = Instant::now();
    let table = Table::open(&TableConfig::new(&file), directory.path())?;
    let took = started.elapsed();
    print!("{}", table.summary());
    let rate = table.summary().rows as f64 / took.as_secs_f64();
    println!(
        "imported in {:.2} s, {rate:.0} rows/s; file {} KiB, database {} KiB",
        took.as_secs_f64(),
        size / 1024,
        std::fs::metadata(table.database())?.len() / 1024
    );
    let started = Instant::now();
    Table::open(&TableConfig::new(&file), directory.path())?;
    println!("found again in {:.3} s", started.elapsed().as_secs_f64());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!(
        "{}",
        status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap_or("peak memory is not known on this system")
    );
    Ok(())
}

fn generate(file: PathBuf, rows: u32) -> std::io::Result<PathBuf> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(&file)?);
    writeln!(out, "time,pair,bid,ask,volume,venue")?;
    let start = jiff::Timestamp::UNIX_EPOCH;
    for n in 0..rows {
        let time = start + std::time::Duration::from_secs(u64::from(n) * 60);
        let pair = ["EUR/USD", "EUR/JPY", "GBP/USD"].get(n as usize % 3).unwrap_or(&"");
        writeln!(
            out,
            "{time},{pair},1.{:05},1.{:05},{},venue-{}",
            n % 99_991,
            (n + 7) % 99_991,
            n % 5000,
            n % 11
        )?;
    }
    out.flush()?;
    Ok(file)
}
