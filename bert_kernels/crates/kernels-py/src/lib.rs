//! The Python module `bert_kernels._native`: conversions only, every decision is in `kernels`.
//!
//! A tensor is handed over as (address, elements). `bert.kernels` is the one caller: it looks at
//! types, shapes and layouts, and keeps the tensors alive. Of the samples it is
//! `raybert.samples.compiled`.

mod memory;
mod samples;
mod team;

use kernels::{Affine, Bf16, Biased, Dropout, Gradients, Lookup, Saved, Shape, Step};
use pyo3::prelude::*;

use memory::{Memory, read, write};
use team::OpenMp;

/// (row key, column key, limit, scale), see `kernels::Dropout`.
type Drop = (u32, u32, i16, f32);

fn dropout(parts: Option<Drop>) -> Option<Dropout> {
    parts.map(|(row_key, column_key, limit, scale)| Dropout {
        row_key,
        column_key,
        limit,
        scale,
    })
}

/// Rows, and a float32 bias that is still to be added to them.
type Rows = (Memory, Option<Memory>);

/// Calls a generic function for the number format of activations.
macro_rules! by_format {
    ($low:expr, $E:ident => $body:expr) => {
        if $low {
            type $E = Bf16;
            $body
        } else {
            type $E = f32;
            $body
        }
    };
}

#[pymodule]
mod _native {
    use super::*;

    #[pymodule_export]
    use super::samples::{
        CutChunks, DealtSamples, SampleMasking, SampleWindow, cut_documents, deal_samples,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("BERT_KERNELS_VERSION"))?;
        module.add("ROWS_PER_BLOCK", kernels::ROWS_PER_BLOCK)
    }

    /// The instruction set in use.
    #[pyfunction]
    fn instruction_set() -> &'static str {
        kernels::InstructionSet::current().name()
    }

    /// The instruction sets that this CPU has, from the plainest to the widest.
    #[pyfunction]
    fn instruction_sets() -> Vec<&'static str> {
        let all = kernels::InstructionSet::ALL.into_iter();
        all.filter(|set| set.is_available())
            .map(kernels::InstructionSet::name)
            .collect()
    }

    /// Has all kernels use this instruction set; false if there is no such, or not on this CPU.
    #[pyfunction]
    fn use_instruction_set(name: &str) -> bool {
        let mut all = kernels::InstructionSet::ALL.into_iter();
        all.find(|set| set.name() == name)
            .is_some_and(kernels::InstructionSet::choose)
    }

    /// Whether several threads can be used: an OpenMP runtime is loaded.
    #[pyfunction]
    fn has_openmp() -> bool {
        team::has_openmp()
    }

    #[pyfunction]
    fn attention_forward(
        py: Python<'_>,
        num_threads: u32,
        low: bool,
        shape: (Memory, usize, usize, usize),
        drop: Option<Drop>,
        qkv: Rows,
        context: Memory,
        log_sums: Memory,
    ) -> PyResult<()> {
        py.detach(|| {
            let team = OpenMp { num_threads };
            // SAFETY: the caller's tensors; see the module.
            unsafe {
                let log_sums = write(log_sums)?;
                by_format!(low, E => kernels::attention_forward::<E>(
                    &team, shape_of(shape)?, dropout(drop), biased(qkv)?, write(context)?, log_sums,
                ));
            }
            Ok(())
        })
    }

    #[pyfunction]
    fn attention_backward(
        py: Python<'_>,
        num_threads: u32,
        low: bool,
        shape: (Memory, usize, usize, usize),
        drop: Option<Drop>,
        qkv: Rows,
        context: Memory,
        log_sums: Memory,
        grad_context: Memory,
        grad_qkv: Memory,
    ) -> PyResult<()> {
        py.detach(|| {
            let team = OpenMp { num_threads };
            // SAFETY: the caller's tensors; see the module.
            unsafe {
                by_format!(low, E => kernels::attention_backward::<E>(
                    &team, shape_of(shape)?, dropout(drop), biased(qkv)?, read(context)?,
                    read(log_sums)?, read(grad_context)?, write(grad_qkv)?,
                ));
            }
            Ok(())
        })
    }

    #[pyfunction]
    fn dropout_add_norm_forward(
        py: Python<'_>,
        num_threads: u32,
        low: bool,
        values: Rows,
        residual: Memory,
        affine: (Memory, Memory, f32),
        drop: Option<Drop>,
        out: Memory,
        out_low: Memory,
        saved: (Memory, Memory, Memory),
    ) -> PyResult<()> {
        py.detach(|| {
            let team = OpenMp { num_threads };
            // SAFETY: the caller's tensors; see the module.
            unsafe {
                let (residual, affine) = (read(residual)?, affine_of(affine)?);
                let (out, out_low, saved) = (write(out)?, write(out_low)?, saved_of(saved)?);
                by_format!(low, E => kernels::dropout_add_norm_forward::<E>(
                    &team, biased(values)?, residual, affine, dropout(drop), out, out_low, saved,
                ));
            }
            Ok(())
        })
    }

    #[pyfunction]
    fn dropout_add_norm_backward(
        py: Python<'_>,
        num_threads: u32,
        low: bool,
        grad: Memory,
        grad_low: Memory,
        saved: (Memory, Memory, Memory),
        weight: Memory,
        drop: Option<Drop>,
        grad_residual: Memory,
        grad_values: Memory,
        partial_sums: Memory,
    ) -> PyResult<()> {
        py.detach(|| {
            let team = OpenMp { num_threads };
            // SAFETY: the caller's tensors; see the module.
            unsafe {
                let (grad, weight, saved) = (read(grad)?, read(weight)?, saved_of(saved)?);
                by_format!(low, E => {
                    let gradients = Gradients::<'_, E> {
                        residual: write(grad_residual)?,
                        values: write(grad_values)?,
                        partial_sums: write(partial_sums)?,
                    };
                    kernels::dropout_add_norm_backward::<E>(
                        &team, grad, read(grad_low)?, saved, weight, dropout(drop), gradients,
                    );
                });
            }
            Ok(())
        })
    }

    #[pyfunction]
    fn gelu_forward(
        py: Python<'_>,
        num_threads: u32,
        low: bool,
        width: usize,
        values: Rows,
        out: Memory,
    ) -> PyResult<()> {
        py.detach(|| {
            let team = OpenMp { num_threads };
            // SAFETY: the caller's tensors; see the module.
            unsafe {
                by_format!(low, E => kernels::gelu_forward::<E>(
                    &team, width, biased(values)?, write(out)?,
                ));
            }
            Ok(())
        })
    }

    #[pyfunction]
    fn gelu_backward(
        py: Python<'_>,
        num_threads: u32,
        low: bool,
        width: usize,
        values: Rows,
        grad: Memory,
        out: Memory,
        partial_sums: Memory,
    ) -> PyResult<()> {
        py.detach(|| {
            let team = OpenMp { num_threads };
            // SAFETY: the caller's tensors; see the module.
            unsafe {
                let partial_sums = write(partial_sums)?;
                by_format!(low, E => kernels::gelu_backward::<E>(
                    &team, width, biased(values)?, write(grad)?, write(out)?, partial_sums,
                ));
            }
            Ok(())
        })
    }

    #[pyfunction]
    fn cross_entropy(
        py: Python<'_>,
        num_threads: u32,
        low: bool,
        width: usize,
        logits: Memory,
        bias: Option<Memory>,
        labels: Memory,
        losses: Memory,
        correct: Memory,
    ) -> PyResult<()> {
        py.detach(|| {
            let team = OpenMp { num_threads };
            // SAFETY: the caller's tensors; see the module.
            unsafe {
                let bias = bias.map(|bias| read(bias)).transpose()?;
                let (labels, losses, correct) = (read(labels)?, write(losses)?, write(correct)?);
                by_format!(low, E => kernels::cross_entropy::<E>(
                    &team, width, write(logits)?, bias, labels, losses, correct,
                ));
            }
            Ok(())
        })
    }

    #[pyfunction]
    fn embeddings_forward(
        py: Python<'_>,
        num_threads: u32,
        lookups: [(Memory, Memory); 3],
        affine: (Memory, Memory, f32),
        out: Memory,
        saved: (Memory, Memory, Memory),
    ) -> PyResult<()> {
        py.detach(|| {
            // SAFETY: the caller's tensors; see the module.
            unsafe {
                let [word, position, segment] = lookups;
                let lookups = [lookup(word)?, lookup(position)?, lookup(segment)?];
                let team = OpenMp { num_threads };
                let (out, saved) = (write(out)?, saved_of(saved)?);
                kernels::embeddings_forward(&team, lookups, affine_of(affine)?, out, saved);
            }
            Ok(())
        })
    }

    #[pyfunction]
    fn drop(
        py: Python<'_>,
        num_threads: u32,
        width: usize,
        drop: Drop,
        values: Memory,
        out: Memory,
    ) -> PyResult<()> {
        let (row_key, column_key, limit, scale) = drop;
        let parts = Dropout {
            row_key,
            column_key,
            limit,
            scale,
        };
        py.detach(|| {
            // SAFETY: the caller's tensors; see the module.
            let (values, out) = unsafe { (read(values)?, write(out)?) };
            kernels::drop(&OpenMp { num_threads }, values, width, parts, out);
            Ok(())
        })
    }

    #[pyfunction]
    fn scatter_add(
        py: Python<'_>,
        num_threads: u32,
        ids: Memory,
        ignored: Option<i64>,
        values: Memory,
        width: usize,
        table: Memory,
    ) -> PyResult<()> {
        py.detach(|| {
            // SAFETY: the caller's tensors; see the module.
            let (ids, values, table) = unsafe { (read(ids)?, read(values)?, write(table)?) };
            kernels::scatter_add(&OpenMp { num_threads }, ids, ignored, values, width, table);
            Ok(())
        })
    }

    #[pyfunction]
    fn add_rows(
        py: Python<'_>,
        num_threads: u32,
        low: bool,
        values: Memory,
        pitch: usize,
        out: Memory,
    ) -> PyResult<()> {
        py.detach(|| {
            let team = OpenMp { num_threads };
            // SAFETY: the caller's tensors; see the module.
            unsafe {
                let out = write(out)?;
                by_format!(low, E => kernels::add_rows::<E>(&team, read(values)?, pitch, out));
            }
            Ok(())
        })
    }

    #[pyfunction]
    fn add(
        py: Python<'_>,
        num_threads: u32,
        low: bool,
        values: Memory,
        out: Memory,
    ) -> PyResult<()> {
        py.detach(|| {
            let team = OpenMp { num_threads };
            // SAFETY: the caller's tensors; see the module.
            unsafe {
                let out = write(out)?;
                by_format!(low, E => kernels::add::<E>(&team, read(values)?, out));
            }
            Ok(())
        })
    }

    #[pyfunction]
    fn round_bf16(py: Python<'_>, num_threads: u32, values: Memory, out: Memory) -> PyResult<()> {
        py.detach(|| {
            // SAFETY: the caller's tensors; see the module.
            let (values, out) = unsafe { (read(values)?, write::<Bf16>(out)?) };
            kernels::round(&OpenMp { num_threads }, values, out);
            Ok(())
        })
    }

    #[pyfunction]
    fn adamw(
        py: Python<'_>,
        num_threads: u32,
        step: (f32, f32, f32, f32, f32, u32, f32),
        gradient: Memory,
        values: Memory,
        exp_avg: Memory,
        exp_avg_sq: Memory,
    ) -> PyResult<()> {
        let (learning_rate, beta1, beta2, epsilon, weight_decay, count, gradient_factor) = step;
        let step = Step {
            learning_rate,
            beta1,
            beta2,
            epsilon,
            weight_decay,
            count,
            gradient_factor,
        };
        py.detach(|| {
            // SAFETY: the caller's tensors; see the module.
            unsafe {
                let (values, exp_avg) = (write(values)?, write(exp_avg)?);
                let team = OpenMp { num_threads };
                kernels::adamw(
                    &team,
                    step,
                    read(gradient)?,
                    values,
                    exp_avg,
                    write(exp_avg_sq)?,
                );
            }
            Ok(())
        })
    }
}

/// # Safety
///
/// As `read`, for int32 offsets.
unsafe fn shape_of<'a>(parts: (Memory, usize, usize, usize)) -> PyResult<Shape<'a>> {
    let (offsets, num_heads, head_size, max_length) = parts;
    // SAFETY: as the caller promises.
    let offsets = unsafe { read(offsets)? };
    Ok(Shape {
        offsets,
        num_heads,
        head_size,
        max_length,
    })
}

/// # Safety
///
/// As `read`, for float32.
unsafe fn affine_of<'a>((weight, bias, epsilon): (Memory, Memory, f32)) -> PyResult<Affine<'a>> {
    // SAFETY: as the caller promises.
    unsafe {
        Ok(Affine {
            weight: read(weight)?,
            bias: read(bias)?,
            epsilon,
        })
    }
}

/// # Safety
///
/// As `read`, for rows in a format and a float32 bias.
unsafe fn biased<'a, E>((values, bias): Rows) -> PyResult<Biased<'a, E>> {
    // SAFETY: as the caller promises.
    unsafe {
        Ok(Biased {
            values: read(values)?,
            bias: bias.map(|bias| read(bias)).transpose()?,
        })
    }
}

/// # Safety
///
/// As `write`, for float32.
unsafe fn saved_of<'a>(parts: (Memory, Memory, Memory)) -> PyResult<Saved<'a>> {
    let (sums, means, inverse_deviations) = parts;
    // SAFETY: as the caller promises.
    unsafe {
        Ok(Saved {
            sums: write(sums)?,
            means: write(means)?,
            inverse_deviations: write(inverse_deviations)?,
        })
    }
}

/// # Safety
///
/// As `read`, for a float32 table and int64 ids.
unsafe fn lookup<'a>((table, ids): (Memory, Memory)) -> PyResult<Lookup<'a>> {
    // SAFETY: as the caller promises.
    unsafe {
        Ok(Lookup {
            table: read(table)?,
            ids: read(ids)?,
        })
    }
}
