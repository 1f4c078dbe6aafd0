//! torch's own OpenMP threads as a team: a second pool would fight with them for the cores, since
//! they go on spinning for a while after each parallel region.

use std::any::Any;
use std::ffi::{c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, OnceLock, PoisonError};

use kernels::Team;

type Region = unsafe extern "C" fn(*mut c_void);
// libgomp's ABI; LLVM's and Intel's runtimes have it too.
type Parallel = unsafe extern "C" fn(Region, *mut c_void, c_uint, c_uint);

/// Threads of the process's OpenMP runtime, or the calling one alone where there is no runtime.
pub(crate) struct OpenMp {
    pub(crate) num_threads: u32,
}

/// Whether an OpenMP runtime is loaded.
pub(crate) fn has_openmp() -> bool {
    parallel().is_some()
}

fn parallel() -> Option<Parallel> {
    static FOUND: OnceLock<Option<usize>> = OnceLock::new();
    let address = *FOUND.get_or_init(|| {
        // SAFETY: a look-up by a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr()) };
        (!found.is_null()).then_some(found as usize)
    });
    // SAFETY: a symbol of this name is this function.
    address.map(|address| unsafe { std::mem::transmute::<usize, Parallel>(address) })
}

struct Call<'a> {
    work: &'a (dyn Fn() + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

unsafe extern "C" fn enter(call: *mut c_void) {
    // SAFETY: `run` passes a call that lives until all threads have returned.
    let call = unsafe { &*call.cast::<Call<'_>>() };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(call.work)) {
        *call.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
    }
}

impl Team for OpenMp {
    fn run(&self, work: &(dyn Fn() + Sync)) {
        let Some(parallel) = parallel().filter(|_| self.num_threads > 1) else {
            return work();
        };
        let mut call = Call {
            work,
            panic: Mutex::new(None),
        };
        // SAFETY: the runtime calls `enter` on each thread and waits for all of them.
        unsafe { parallel(enter, (&raw mut call).cast(), self.num_threads, 0) };
        let panic = call
            .panic
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}
