"""How each library writes its dictionaries, one file each; `READERS` tries them in turn."""

from residscope.dictionaries.formats import sae_lens

READERS = {"SAELens": (sae_lens.is_there, sae_lens.read)}
