//! The eight tables of TPC-H, generated and loaded into a database.

use std::fmt::{Display, Write};
use std::pin::{Pin, pin};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;
use tokio_postgres::{Client, CopyInSink, NoTls};
use tpchgen::csv::*;
use tpchgen::generators::*;

/// A table: its name, its columns, its primary key.
struct Table(&'static str, &'static str, &'static str);

/// The largest tables come first, so that both loaders are busy until the end.
const TABLES: [Table; 8] = [
    Table(
        "lineitem",
        "l_orderkey bigint not null, l_partkey bigint not null, l_suppkey bigint not null, \
         l_linenumber integer not null, l_quantity numeric(15,2) not null, \
         l_extendedprice numeric(15,2) not null, l_discount numeric(15,2) not null, \
         l_tax numeric(15,2) not null, l_returnflag char(1) not null, l_linestatus char(1) not null, \
         l_shipdate date not null, l_commitdate date not null, l_receiptdate date not null, \
         l_shipinstruct char(25) not null, l_shipmode char(10) not null, l_comment varchar(44) not null",
        "l_orderkey, l_linenumber",
    ),
    Table(
        "orders",
        "o_orderkey bigint not null, o_custkey bigint not null, o_orderstatus char(1) not null, \
         o_totalprice numeric(15,2) not null, o_orderdate date not null, o_orderpriority char(15) not null, \
         o_clerk char(15) not null, o_shippriority integer not null, o_comment varchar(79) not null",
        "o_orderkey",
    ),
    Table(
        "partsupp",
        "ps_partkey bigint not null, ps_suppkey bigint not null, ps_availqty integer not null, \
         ps_supplycost numeric(15,2) not null, ps_comment varchar(199) not null",
        "ps_partkey, ps_suppkey",
    ),
    Table(
        "part",
        "p_partkey bigint not null, p_name varchar(55) not null, p_mfgr char(25) not null, \
         p_brand char(10) not null, p_type varchar(25) not null, p_size integer not null, \
         p_container char(10) not null, p_retailprice numeric(15,2) not null, p_comment varchar(23) not null",
        "p_partkey",
    ),
    Table(
        "customer",
        "c_custkey bigint not null, c_name varchar(25) not null, c_address varchar(40) not null, \
         c_nationkey bigint not null, c_phone char(15) not null, c_acctbal numeric(15,2) not null, \
         c_mktsegment char(10) not null, c_comment varchar(117) not null",
        "c_custkey",
    ),
    Table(
        "supplier",
        "s_suppkey bigint not null, s_name char(25) not null, s_address varchar(40) not null, \
         s_nationkey bigint not null, s_phone char(15) not null, s_acctbal numeric(15,2) not null, \
         s_comment varchar(101) not null",
        "s_suppkey",
    ),
    Table(
        "nation",
        "n_nationkey bigint not null, n_name char(25) not null, n_regionkey bigint not null, \
         n_comment varchar(152)",
        "n_nationkey",
    ),
    Table(
        "region",
        "r_regionkey bigint not null, r_name char(25) not null, r_comment varchar(152)",
        "r_regionkey",
    ),
];

/// The names of the tables.
pub(crate) fn table_names() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|t| t.0)
}

/// Creates, fills and analyzes the tables in the database of `dsn`: all eight, or those of `only`.
pub(crate) async fn load(dsn: &str, scale: f64, only: &[String]) -> Result<()> {
    if let Some(unknown) = only.iter().find(|n| !table_names().any(|t| t == *n)) {
        bail!("TPC-H has no table {unknown}");
    }
    let is_wanted = |table: &&Table| only.is_empty() || only.iter().any(|name| name == table.0);
    let wanted: Vec<&Table> = TABLES.iter().filter(is_wanted).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let loader = async || {
        let mut client = connect(dsn).await?;
        while let Some(table) = wanted.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            fill(&mut client, table, scale).await.with_context(|| format!("load {}", table.0))?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(loader(), loader())?;
    Ok(())
}

async fn connect(dsn: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.context("connect to PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}

async fn fill(client: &mut Client, Table(name, columns, key): &Table, scale: f64) -> Result<()> {
    // The table is created and filled in one transaction, so that the server writes no WAL for it and its
    // rows are frozen.
    let transaction = client.transaction().await?;
    transaction.batch_execute(&format!("CREATE TABLE {name} ({columns})")).await?;
    let copy = format!("COPY {name} FROM STDIN WITH (FORMAT csv, FREEZE)");
    let mut sink = pin!(transaction.copy_in(&copy).await?);
    let to = sink.as_mut();
    match *name {
        "lineitem" => send(to, LineItemGenerator::new(scale, 1, 1).iter().map(LineItemCsv::new)).await?,
        "orders" => send(to, OrderGenerator::new(scale, 1, 1).iter().map(OrderCsv::new)).await?,
        "partsupp" => send(to, PartSuppGenerator::new(scale, 1, 1).iter().map(PartSuppCsv::new)).await?,
        "part" => send(to, PartGenerator::new(scale, 1, 1).iter().map(PartCsv::new)).await?,
        "customer" => send(to, CustomerGenerator::new(scale, 1, 1).iter().map(CustomerCsv::new)).await?,
        "supplier" => send(to, SupplierGenerator::new(scale, 1, 1).iter().map(SupplierCsv::new)).await?,
        "nation" => send(to, NationGenerator::new(scale, 1, 1).iter().map(NationCsv::new)).await?,
        "region" => send(to, RegionGenerator::new(scale, 1, 1).iter().map(RegionCsv::new)).await?,
        other => bail!("no generator for {other}"),
    }
    sink.finish().await?;
    transaction.batch_execute(&format!("ALTER TABLE {name} ADD PRIMARY KEY ({key})")).await?;
    transaction.commit().await?;
    client.batch_execute(&format!("VACUUM ANALYZE {name}")).await?;
    Ok(())
}

async fn send(mut sink: Pin<&mut CopyInSink<Bytes>>, rows: impl Iterator<Item: Display>) -> Result<()> {
    let mut buffer = BytesMut::new();
    for row in rows {
        writeln!(buffer, "{row}")?;
        if buffer.len() > 256 << 10 {
            sink.feed(buffer.split().freeze()).await?;
        }
    }
    sink.send(buffer.freeze()).await?;
    Ok(())
}
