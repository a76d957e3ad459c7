"""What a site holds at chosen positions of texts, as rows of one matrix."""

import torch
from jaxtyping import Float
from torch import Tensor

from residscope.directions.vectors import pick_head
from residscope.running.model import Model
from residscope.running.positions import PADDED, Positions, resolve
from residscope.running.progress import report
from residscope.running.run import read_at
from residscope.running.texts import BATCH_TOKENS, Texts
from residscope.sites import Site
from residscope.transformer.tokens import stack


def read_rows(
    model: Model, texts: Texts, site: Site, pos: Positions, head: int | None = None
) -> Float[Tensor, "row d"]:
    """Rows in float64 on the CPU, text by text.

    Args:
      model: Any.
      texts: Each is cut at the context.
      site: One that holds a vector at each position.
      pos: Of each text; None is all but position 0, whose stream is another kind of thing in most models.
      head: Of which head, where the site has heads.
    Raises:
      UnknownPosition: A text has no such position.
    """
    lists = model.corpus(texts).lists
    where = slice(1, None) if pos is None else pos
    rows = []
    size = max(1, BATCH_TOKENS // max(map(len, lists)))
    for start in range(0, len(lists), size):
        report(start, len(lists), f"reading {site}")
        tokens = stack(lists[start : start + size], model.tokenizer)
        run = model.run(tokens, keep=[site])
        at = resolve(where, tokens.n_tokens)
        rows.append(read_at(pick_head(run.raw(site), head), site, at)[0].cpu().double()[at != PADDED])
    report(len(lists), len(lists), f"reading {site}")
    return torch.cat(rows)
