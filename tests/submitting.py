"""Submitting jobs to the session's cluster as a person does, from a copy of the project."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raybert.cluster import RunningCluster

ROOT = Path(__file__).parents[1]
RAY = Path(sys.executable).parent / "ray"
TRAVELS = ("platform", "models", "jobs")
TIMEOUT_S = 300


def copy_project(folder: Path) -> Path:
    """What a job is made of, to be changed as a person changes it."""
    for name in TRAVELS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".rayignore", "runtime_env.yaml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


class Submitter:
    """`ray job …` in a folder, with one storage for all nodes.

    Args:
        cluster: to submit to.
        project: the working directory that travels.
        storage: where the jobs' relative paths start.
    """

    def __init__(self, cluster: RunningCluster, project: Path, storage: Path) -> None:
        from ray.job_submission import JobSubmissionClient

        assert cluster.dashboard_url is not None
        self.project = project
        self.storage = storage
        self.url = cluster.dashboard_url
        self.client = JobSubmissionClient(self.url)
        self._environment = os.environ | cluster.environment | {"RAY_ADDRESS": self.url}

    def ray_job(self, *arguments: str) -> str:
        """What `ray job …` prints; stamps of its own log lines included."""
        done = subprocess.run(
            [str(RAY), "job", *arguments],
            cwd=self.project,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, job: str, *arguments: str) -> str:
        """The submission's id; the job goes on by itself."""
        name = f"{job}-{time.time_ns()}"
        self.ray_job(
            *("submit", "--no-wait", "--submission-id", name),
            *("--working-dir", ".", "--runtime-env", "runtime_env.yaml"),
            *("--", "python", f"jobs/{job}.py", *arguments),
            *("--cluster.storage", str(self.storage)),
        )
        return name

    def logs(self, name: str) -> str:
        return self.client.get_job_logs(name)

    def info(self, name: str) -> Any:
        return self.client.get_job_info(name)

    def wait(
        self, name: str, condition: Callable[[], bool] | None = None, every_s: float = 0.2
    ) -> str:
        """The status when the job has ended, or when the condition holds."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            status = self.client.get_job_status(name)
            if status.is_terminal() or (condition and condition()):
                return str(status.value)
            assert time.monotonic() < deadline, self.logs(name)
            time.sleep(every_s)

    def run(self, job: str, *arguments: str) -> str:
        """The logs of a job that succeeds."""
        name = self.submit(job, *arguments)
        status = self.wait(name)
        assert status == "SUCCEEDED", self.logs(name)
        return self.logs(name)

    def stop_all(self) -> None:
        for job in self.client.list_jobs():
            if job.submission_id is not None and not job.status.is_terminal():
                self.client.stop_job(job.submission_id)
                self.wait(job.submission_id)
