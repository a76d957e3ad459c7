"""What a graph of some positions cannot show: how much came to them from others."""

import torch
from torch import Tensor

from residscope.graphs.levels import STREAM, list_patterns, read_stream
from residscope.graphs.tracer import Tracer
from residscope.running.changes import Change
from residscope.running.metrics import Metric
from residscope.running.run import read_at


def measure_elsewhere(tracer: Tracer) -> float | None:
    """Which share of the last stream's change comes from positions that are not shown.

    At the shown positions the stream changes from the first dictionary to the last by `D`. In a second pass, all that
    attention in the layers between moves from other positions to these is left out after the softmax, and everything
    that follows is computed anew, MLPs among it; then it changes by `E`. The share is `(D - E) . D / D . D`, which is 0
    where nothing came and 1 where all did; below 0 or above 1 where what came worked against the rest.

    Returns:
      None where the first or the last dictionary is not of the stream, so that nothing is added up between.
    Holds:
      0 where every position is shown; the known number where the wiring is known.
    """
    first, last = tracer.levels[0].written, tracer.levels[-1].read
    if first.kind not in STREAM or last.kind not in STREAM:
        return None
    model, positions = tracer.model, tracer.positions
    hidden = torch.ones(tracer.run.tokens.ids.shape[1], dtype=torch.bool)
    hidden[positions] = False

    def leave_out(pattern: Tensor) -> Tensor:
        return pattern.masked_fill(hidden.to(pattern.device), 0.0)

    patterns = list_patterns(model, tracer.levels)
    changes = [Change(site, positions[None], tokenwise=leave_out) for site in patterns]
    if not bool(hidden[: int(positions.max())].any()) or not changes:
        return 0.0
    reading = tracer.make_reading([last])
    base = Metric.evaluate(reading, tracer.run)
    if {*patterns} <= {*tracer.run.kept}:
        without = tracer.sweep([changes], reading, base, 0)[0]
    else:  # which take more memory than all else
        recorded = tracer.run.record({last}, changes)[last]
        without = reading.compute([read_at(recorded, last, positions[None])])[0]
    change = (base - read_stream(tracer.run, first, positions).to(base)).double()
    return float(((base - without).double() * change).sum() / change.square().sum())
