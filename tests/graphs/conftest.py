"""The bundled model and its dictionaries, in float64."""

from dataclasses import replace

import pytest

import residscope as rs

PROMPT = "Lily had a red ball. She"


def double(dictionary: rs.SparseAutoencoder) -> rs.SparseAutoencoder:
    names = ("encoder", "decoder", "encoder_bias", "decoder_bias")
    wide = replace(dictionary, **{name: getattr(dictionary, name).double() for name in names})
    if wide.threshold is not None:
        wide = replace(wide, threshold=wide.threshold.double())
    return wide.loaded_from(dictionary.source)


@pytest.fixture(scope="session")
def wide() -> rs.Model:
    return rs.load("demo", dtype="float64")


@pytest.fixture(scope="session")
def dictionaries() -> dict[str, rs.SparseAutoencoder]:
    """The jumprelu one stands for the top-k one of layer 2, so that both kinds are there."""
    found = {site: double(one) for site, one in rs.demo.dictionaries.items()}
    return {**found, "resid_pre.2": double(rs.load_dictionary("demo/resid_pre.2-jumprelu"))}


@pytest.fixture(scope="session")
def graph(wide: rs.Model, dictionaries: dict[str, rs.SparseAutoencoder]) -> rs.Graph:
    """Every edge of the last position, with errors, tokens and outputs."""
    return rs.causal_graph(
        wide,
        PROMPT,
        dictionaries,
        share=1.0,
        paths="any",
        errors=True,
        tokens=True,
        outputs=[rs.loss(), rs.logit(" had")],
    )
