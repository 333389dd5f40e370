//! A table larger than the memory allowed for it.

use std::io::{BufWriter, Write};
use std::process::Command;

use comity_specialist::table::{Table, TableConfig};

/// Rows of the generated file, 80 MB.
const ROWS: u32 = 400_000;
/// Peak memory allowed for the whole process: code and runtime, the engine's caches and one record.
const MAX_PEAK_KIB: u64 = 40 * 1024;
const FILE_VARIABLE: &str = "COMITY_TEST_TABLE";

/// The parent writes the file and starts this very test again as a child, whose peak memory is the import's.
#[test]
fn importing_takes_far_less_memory_than_the_file() {
    if let Some(file) = std::env::var_os(FILE_VARIABLE) {
        let cache = std::path::Path::new(&file).with_extension("cache");
        let table = Table::open(&TableConfig::new(&file), &cache).unwrap();
        assert_eq!(table.summary().rows, u64::from(ROWS));
        assert_eq!(table.summary().time.as_ref().unwrap().resolution.as_deref(), Some("PT1M"));
        println!("peak {} KiB", peak_kib());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("large.csv");
    write_table(&file);
    let size = std::fs::metadata(&file).unwrap().len();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::importing_takes_far_less_memory_than_the_file", "--nocapture"])
        .env(FILE_VARIABLE, &file)
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{output} {}", String::from_utf8_lossy(&child.stderr));
    let peak: u64 =
        output.split("peak ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(peak < MAX_PEAK_KIB, "{peak} KiB for a file of {} KiB", size / 1024);
    assert!(
        size / 1024 > MAX_PEAK_KIB + MAX_PEAK_KIB / 2,
        "the file must be much larger than the limit to show anything"
    );
}

fn write_table(file: &std::path::Path) {
    let mut out = BufWriter::new(std::fs::File::create(file).unwrap());
    writeln!(out, "time,id,price,side,note").unwrap();
    for n in 0..ROWS {
        let (day, minute) = (n / 1440, n % 1440);
        let date = jiff::civil::date(2020, 1, 1) + jiff::Span::new().days(i64::from(day));
        let side = if n % 3 == 0 { "buy" } else { "sell" };
        let note = format!("{n:0>150}");
        writeln!(
            out,
            "{date}T{:02}:{:02}:00Z,id-{n},{}.{:02},{side},n{note}",
            minute / 60,
            minute % 60,
            n % 977,
            n % 100
        )
        .unwrap();
    }
    out.flush().unwrap();
}

/// Peak resident memory of this process, KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
