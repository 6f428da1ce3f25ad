//! What sealing and opening cost, for each suite, with agreements kept as a client keeps them.
//!
//! ```text
//! cargo bench -p ensync-core --bench envelope
//! ```

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

mod subject;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use subject::{KINDS, SIZES, Subject};

fn envelope(criterion: &mut Criterion) {
    for (name, options) in KINDS {
        for size in SIZES {
            let subject = Subject::new(options(), size);
            let mut group = criterion.benchmark_group(format!("{name}/{} KiB", size / 1024));
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function("seal", |bencher| bencher.iter(|| subject.seal()));
            group.bench_function("open", |bencher| bencher.iter(|| subject.open()));
            group.finish();
        }
    }
}

criterion_group!(benches, envelope);
criterion_main!(benches);
