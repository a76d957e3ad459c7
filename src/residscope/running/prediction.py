"""What a run or a sweep will take, before it is done and without the weights."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from residscope.errors import BadArgument
from residscope.running.arguments import read_memory_bytes, read_whole
from residscope.running.changes import Change
from residscope.running.memory import Allocations
from residscope.running.metrics import Metric, logit
from residscope.running.model import Model
from residscope.running.run import check_metric
from residscope.running.sweep import EditSet, Engine, draw_sets, find_budget, prepare_sets
from residscope.sites import Site
from residscope.transformer.config import Config
from residscope.transformer.loading import Loaded, choose_dtype
from residscope.transformer.placement import as_size, make_shapes
from residscope.transformer.tokens import Tokens, Untokenized


@dataclass(frozen=True)
class Memory:
    """Bytes that work takes.

    Attributes:
      weights_bytes: Of the model, tied weights once.
      kept_bytes: Of what the run keeps, and what a sweep needs of it.
      working_bytes: The most that is held for a time beside that.
    """

    weights_bytes: int
    kept_bytes: int
    working_bytes: int

    @property
    def n_bytes(self) -> int:
        """All together."""
        return self.weights_bytes + self.kept_bytes + self.working_bytes

    def __str__(self) -> str:
        weights, kept, working = map(as_size, (self.weights_bytes, self.kept_bytes, self.working_bytes))
        return f"{as_size(self.n_bytes)}: weights {weights}, kept {kept}, working {working}"


def memory(
    source: Model | Config,
    *,
    n_tokens: int,
    n_texts: int = 1,
    keep: str | Site | Iterable[str | Site] = "logits",
    edits: int | Sequence[EditSet] = 0,
    gradients: str | Site | Iterable[str | Site] = (),
    metric: Metric | None = None,
    memory_bytes: int | None = None,
    dtype: str = "float32",
) -> Memory:
    """Predict the memory of a run, of a sweep over it or of its gradients, by doing it with shapes in place of numbers.

    Args:
      source: A model; or a config, of which nothing is loaded.
      n_tokens: Length of each text, at most the model's context.
      n_texts: How many at a time.
      keep: What the run keeps.
      edits: Of a sweep over the run: sets as `Model.sweep` takes them, or how many of the costliest kind, which edit
        the first layer's stream at the first position.
      gradients: Sites whose gradients are taken of the run.
      metric: Of that sweep or those gradients; None is a logit.
      memory_bytes: Of that sweep; None does not limit it.
      dtype: Of a config's weights and activations; a model has its own.
    Raises:
      UnknownSite, BadEdit, TooLarge, BadArgument: As for runs and sweeps.
    Holds:
      Within 10% of the most that torch's tensors take while it is done. Attention counts as fused where nobody sees
      its pattern.
    """
    if not isinstance(source, (Model, Config)):
        raise BadArgument(f"{source!r} was given as a model.", "Give what rs.load gives, or an rs.Config.")
    n_ctx = (source.config if isinstance(source, Model) else source).n_ctx
    n_tokens, n_texts = read_whole("n_tokens", n_tokens, 1, n_ctx), read_whole("n_texts", n_texts, 1)
    if not isinstance(edits, Sequence) or isinstance(edits, str):
        edits = read_whole("edits", edits, hint="Give a list of sets, or how many.")
    if metric is not None:
        check_metric(metric)
    if memory_bytes is not None:
        memory_bytes = read_memory_bytes(memory_bytes)
    if isinstance(source, Model):
        model, shapes = source, source.shapes
    else:
        made = make_shapes(source, choose_dtype(dtype))
        model = shapes = Model(Loaded(made, Untokenized(source.d_vocab), None, "The model", None))
    ids = torch.zeros(n_texts, n_tokens, dtype=torch.long)
    tokens = Tokens(ids, torch.ones_like(ids, dtype=torch.bool), model.tokenizer)
    with Allocations(shapes=True) as taken:
        run = shapes.run(tokens, keep)
        kept, metric = taken.n_bytes, metric or logit(0)
        if gradients:
            found = run.gradients(metric, gradients)
            kept += sum(gradient.nbytes for gradient in found.values())
        if edits:
            if isinstance(edits, int):
                sets = [[Change(Site("resid_pre", 0), torch.zeros(n_texts, 1, dtype=torch.long), factor=0.0)]] * edits
            else:
                sets = prepare_sets(model.run(tokens), draw_sets(edits)[0])
            reading = metric.bind(shapes, tokens)
            base_values = Metric.evaluate(reading, run)
            budget = 2**62 if memory_bytes is None else find_budget(model, memory_bytes)
            on_cpu = model.device.type == "cpu"
            engine = Engine(run, sets, reading, base_values, budget, on_cpu=on_cpu)
            engine.run()
            kept = taken.n_bytes
    weights = sum(parameter.nbytes for parameter in shapes.transformer.parameters())
    return Memory(weights, kept, taken.peak_bytes - kept)
