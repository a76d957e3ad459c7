"""The glossary of axes. Annotations, results, docs and JSON use these names and no others."""

AXES: dict[str, str] = {
    "batch": "one text of the batch",
    "pos": "a token's position, from 0, the beginning-of-sequence token included",
    "layer": "a block, from 0",
    "head": "a query head of a layer",
    "kv_head": "a key and value head of a layer",
    "query": "the position that attends",
    "key": "the position that is attended to",
    "d_model": "an entry of the residual stream",
    "d_head": "an entry of one head's query, key, value or output",
    "d_mlp": "a hidden entry of an MLP",
    "d_vocab": "a token of the vocabulary",
    "feature": "a feature of a sparse dictionary",
    "neuron": "a hidden unit of one MLP",
    "component": "a principal component, from 0, largest variance first",
    "role": "a word's position by name",
    "edit": "a set of edits",
    "top": "a rank among the best, from 0",
}
