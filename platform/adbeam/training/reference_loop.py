"""Reference loop: the same training without Ray and DeepSpeed, in plain PyTorch, same batches, loss and schedule.

It is the reference that the distributed loop must agree with, and what its overhead is measured against.
"""

from __future__ import annotations

import time

import torch

from adbeam.model import build_model
from adbeam.training.data.stream import RequestStream
from adbeam.training.job import TrainJob
from adbeam.training.list_learner import lists_of
from adbeam.training.loop import vsl_of
from adbeam.training.state.optimizer import build_optimizer, learning_rate, set_learning_rate
from adbeam.training.step_loop import seed_step
from adbeam.training.tracking.progress import Row


def train_plain(job: TrainJob, stream: RequestStream) -> tuple[torch.nn.Module, list[Row]]:
    """(the trained model, one row {"step", "loss", "seconds"} a step)."""
    torch.manual_seed(job.seed)
    model = build_model(job.model)
    job.begin(model)
    model.train()
    optimizer = build_optimizer(model, job.training)
    history, began = [], time.monotonic()
    for step, table, lists in stream.steps(0, job.total_steps):
        seed_step(job.seed, step, rank=0)
        batch = job.maker.batch(table)
        loss, _ = vsl_of(model, batch, job.objectives)
        if lists is not None:
            added, _ = lists_of(model, job.maker.candidates(lists), job.objectives)
            loss = loss + job.objectives.preference.weight * added
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if job.training.gradient_clipping:
            torch.nn.utils.clip_grad_norm_(model.parameters(), job.training.gradient_clipping)
        set_learning_rate(optimizer, learning_rate(job.training, step, (step + 1) / job.total_steps))
        optimizer.step()
        history.append({"step": step + 1.0, "loss": loss.item(), "seconds": time.monotonic() - began})
    return model, history
