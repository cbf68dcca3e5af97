//! How fast the sandbox is: `cargo bench`.
//!
//! - `cold_start_to_first_acknowledged_row`: from nothing to the first row that the database acknowledged through the service address;
//! - `acknowledged_rows`: rows through the service address, one transaction of two inserts each, on one connection and on four at once.
//!
//! Figures of one run may be compared with each other, not with those of another machine.

use std::time::Duration;

use comeback::{
    cluster::{Cluster, connect},
    deploy::Workload,
    event::RowKey,
    sandbox::{Options, Sandbox},
    scenario::TargetShape,
    workload::{DATABASE, Password, Server, Tables},
};
use divan::{Bencher, counter::ItemsCount};
use tokio::{runtime::Runtime, task::JoinSet, time::Instant};

/// The longest that the database may take to answer.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// The longest that a transaction may take.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// How many rows one sample writes.
const ROWS: u64 = 500;

fn main() {
    divan::main();
}

struct Up {
    sandbox: Sandbox,
    server: Server,
    tables: Tables,
}

async fn up() -> Up {
    let sandbox = Sandbox::start(Options::new(env!("CARGO_BIN_EXE_comeback"))).await.expect("start the sandbox");
    let cluster = Cluster::new(connect(sandbox.kubeconfig()).await.expect("a client"), Workload::target(TargetShape::Deployment));
    let password = Password::new("Bench-1-password".to_owned());
    Workload::stand_in("bench", password.clone(), []).apply(&cluster).await.expect("put up the workload");
    let service = cluster.service().await.expect("the service");
    let server =
        Server { host: service.cluster_ip, port: service.port, user: "sa".to_owned(), password, application: "comeback bench".to_owned() };
    let mut tables = Tables::new("bench", 1);
    let deadline = Instant::now() + START_DEADLINE;
    while let Err(error) = tables.create(&server, "mark", deadline).await {
        assert!(Instant::now() < deadline, "the database does not answer: {error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Up { sandbox, server, tables }
}

async fn write(server: &Server, tables: &Tables, writer: u32, from: u64, rows: u64) {
    let mut session = server.connect(DATABASE, Instant::now() + WRITE_DEADLINE).await.expect("connect");
    for seq in from..from + rows {
        tables.write(&mut session, &[RowKey { writer, seq }], Instant::now() + WRITE_DEADLINE).await.expect("an acknowledged row");
    }
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn cold_start_to_first_acknowledged_row(bencher: Bencher) {
    let runtime = Runtime::new().expect("a runtime");
    bencher.bench_local(|| {
        let up = runtime.block_on(async {
            let up = up().await;
            write(&up.server, &up.tables, 1, 0, 1).await;
            up
        });
        // Returned, so that stopping it is not counted.
        Down(Some(up), &runtime)
    });
}

struct Down<'a>(Option<Up>, &'a Runtime);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        if let Some(up) = self.0.take() {
            self.1.block_on(up.sandbox.stop());
        }
    }
}

#[divan::bench(args = [1, 4], sample_count = 10, sample_size = 1)]
fn acknowledged_rows(bencher: Bencher, writers: u32) {
    let runtime = Runtime::new().expect("a runtime");
    let up = runtime.block_on(up());
    let mut from = 0;
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        runtime.block_on(async {
            let mut all = JoinSet::new();
            for writer in 1..=writers {
                let (server, tables) = (up.server.clone(), up.tables.clone());
                all.spawn(async move { write(&server, &tables, writer, from, ROWS / u64::from(writers)).await });
            }
            all.join_all().await;
        });
        from += ROWS;
    });
    runtime.block_on(up.sandbox.stop());
}
