"""What is known of a run whose model no test needs."""

from pathlib import Path

from kerasrnn.tasks import run_folder
from kerasrnn.tasks.catalog import TASKS
from kerasrnn.tasks.measuring import Known


def known_of(name: str, run, tokenizers=(None,), model=None) -> Known:
    task = TASKS[name]
    job = run_folder.read_job(run, task.job, task.settings)
    return Known(job.settings, (), list(tokenizers), job, Path(run), model)
