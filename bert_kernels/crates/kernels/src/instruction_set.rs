//! Which of the compiled versions of the kernels runs.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::kernel::Kernel;
use crate::simd::Portable;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum InstructionSet {
    /// What every CPU of the target has.
    Portable = 1,
    /// AVX2 with FMA.
    Avx2 = 2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512 = 3,
    /// The same with the instructions for bfloat16.
    Avx512Bf16 = 4,
}

static CHOSEN: AtomicU8 = AtomicU8::new(0);

impl InstructionSet {
    /// All, from the plainest to the widest.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
        }
    }

    /// Whether this CPU has it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => {
                Self::Avx512.is_available() && is_x86_feature_detected!("avx512bf16")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The one in use: what `choose` said, else the widest that this CPU has.
    #[must_use]
    pub fn current() -> Self {
        match CHOSEN.load(Ordering::Relaxed) {
            1 => Self::Portable,
            2 => Self::Avx2,
            3 => Self::Avx512,
            4 => Self::Avx512Bf16,
            _ => Self::ALL
                .into_iter()
                .rev()
                .find(|set| set.is_available())
                .unwrap_or(Self::Portable),
        }
    }

    /// Has all kernels of the process use this one from now on; false if this CPU lacks it.
    #[must_use]
    pub fn choose(self) -> bool {
        let available = self.is_available();
        if available {
            CHOSEN.store(self as u8, Ordering::Relaxed);
        }
        available
    }

    /// Runs one task of a kernel.
    ///
    /// # Safety
    ///
    /// This CPU has the instruction set, and the task was not started before.
    pub(crate) unsafe fn run<K: Kernel>(self, kernel: &K, task: usize, next: Option<usize>) {
        // SAFETY: as the caller promises.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => run_avx2(kernel, task, next),
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => run_avx512(kernel, task, next),
                #[cfg(target_arch = "x86_64")]
                Self::Avx512Bf16 => run_avx512bf16(kernel, task, next),
                _ => kernel.run::<Portable>(task, next),
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<K: Kernel>(kernel: &K, task: usize, next: Option<usize>) {
    // SAFETY: as the caller promises.
    unsafe { kernel.run::<Avx2>(task, next) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn run_avx512<K: Kernel>(kernel: &K, task: usize, next: Option<usize>) {
    // SAFETY: as the caller promises.
    unsafe { kernel.run::<Avx512<false>>(task, next) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn run_avx512bf16<K: Kernel>(kernel: &K, task: usize, next: Option<usize>) {
    // SAFETY: as the caller promises.
    unsafe { kernel.run::<Avx512<true>>(task, next) }
}
