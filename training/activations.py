"""What dictionaries are trained on: activations of many sites at once, from runs of our own."""

from collections.abc import Iterable, Iterator, Sequence

from jaxtyping import Float
from torch import Tensor

import residscope as rs
from residscope.running.texts import Texts
from residscope.sites import find_sites


def read_activations(
    model: rs.Model, sites: Sequence[str], batches: Iterable[Texts]
) -> Iterator[dict[str, Float[Tensor, "token d_model"]]]:
    """What some streams hold at every token but those that begin a text, one run for each batch.

    Args:
      model: Any.
      sites: Streams, as `resid_pre.2`.
      batches: Texts that fit the context. One row of ids may hold several, each behind its beginning-of-sequence token,
        whose norm is huge there too.
    Returns:
      By the site's name; the same tokens in the same order for each.
    """
    found = find_sites(sites, model.sites)
    for batch in batches:
        run = model.run(batch, keep=found)
        counted = run.tokens.mask & (run.tokens.ids != model.tokenizer.bos_id)
        counted[:, 0] = False
        yield {str(site): run[site][counted.to(model.device)] for site in found}
