//! The thread pool: rayon's, `RAYON_NUM_THREADS` honoured, made anew in a forked process.

use std::sync::{Arc, Mutex};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// A pool and the process that made it: its threads don't live on in a fork.
static POOL: Mutex<Option<(u32, Arc<ThreadPool>)>> = Mutex::new(None);

/// Number of threads a batch call uses.
pub fn count() -> usize {
    let asked = std::env::var("RAYON_NUM_THREADS").ok();
    match asked.and_then(|text| text.parse().ok()) {
        Some(0) | None => std::thread::available_parallelism().map_or(1, usize::from),
        Some(threads) => threads,
    }
}

/// Runs the call in the pool; where no pool can be had, rayon's own way.
pub fn install<R: Send>(call: impl FnOnce() -> R + Send) -> R {
    match pool() {
        Some(pool) => pool.install(call),
        None => call(),
    }
}

pub(crate) fn pool() -> Option<Arc<ThreadPool>> {
    let threads = count();
    let process = std::process::id();
    let mut slot = POOL.lock().unwrap_or_else(|error| error.into_inner());
    if let Some((owner, pool)) = slot.as_ref()
        && *owner == process
        && pool.current_num_threads() == threads
    {
        return Some(Arc::clone(pool));
    }
    let built = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("tok-{number}"))
        .build();
    let pool = Arc::new(built.ok()?);
    if let Some((owner, old)) = slot.replace((process, Arc::clone(&pool)))
        && owner != process
    {
        // Its threads are not in this process: waiting for them would never end.
        std::mem::forget(old);
    }
    Some(pool)
}
