//! Long calls: the user's Ctrl-C and progress callback, asked now and then.

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tok::Error;

use crate::errors::raise;

/// Time between two questions: often enough for a person, seldom enough to cost nothing.
const PERIOD: Duration = Duration::from_millis(100);

/// Who is told how far a call is, and may end it by raising.
pub(crate) struct Watch {
    progress: Option<Py<PyAny>>,
    last: Option<(&'static str, Instant)>,
    raised: Option<PyErr>,
}

impl Watch {
    pub(crate) fn new(progress: Option<Py<PyAny>>) -> Self {
        Self {
            progress,
            last: None,
            raised: None,
        }
    }

    /// Runs a call without the GIL. What a question raised is raised here.
    pub(crate) fn detached<R: Send>(
        &mut self,
        py: Python<'_>,
        call: impl FnOnce(&mut Self) -> tok::Result<R> + Send,
    ) -> PyResult<R> {
        let result = py.detach(|| call(self));
        result.map_err(|error| self.raised.take().unwrap_or_else(|| raise(error)))
    }

    /// Tells `progress(stage, done, wanted)`: the first and the last of a stage, and each period.
    pub(crate) fn tick(
        &mut self,
        stage: &'static str,
        done: usize,
        wanted: Option<usize>,
    ) -> tok::Result<()> {
        let is_last = wanted == Some(done);
        let is_soon = (self.last)
            .is_some_and(|(last_stage, last)| last_stage == stage && last.elapsed() < PERIOD);
        if is_soon && !is_last {
            return Ok(());
        }
        self.last = Some((stage, Instant::now()));
        let told = Python::attach(|py| {
            py.check_signals()?;
            if let Some(progress) = &self.progress {
                progress.call1(py, (stage, done, wanted))?;
            }
            Ok(())
        });
        told.map_err(|error| {
            self.raised = Some(error);
            Error::Interrupted
        })
    }
}
