//! Loads the tables of TPC-H into a PostgreSQL database, for the demo, tests and measurements: `cargo run
//! --example load_tpch -- DSN SCALE [TABLE…]`.

#[path = "../tests/support/tpch.rs"]
mod tpch;

use anyhow::{Context, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: load_tpch DSN SCALE [TABLE…]";
    let dsn = arguments.next().context(usage)?;
    let scale: f64 = arguments.next().context(usage)?.parse().context("SCALE is a number such as 0.1")?;
    let only: Vec<String> = arguments.collect();
    let began = std::time::Instant::now();
    tpch::load(&dsn, scale, &only).await?;
    println!("loaded TPC-H at scale {scale} in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}
