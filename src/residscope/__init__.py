"""Residscope: the residual stream of transformer language models, visible, decomposable and editable."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from residscope import demo as demo
    from residscope.analyses.ablation import Ablation as Ablation
    from residscope.analyses.ablation import ablate_head as ablate_head
    from residscope.analyses.ablation import ablate_layer as ablate_layer
    from residscope.analyses.ablation import ablate_neuron as ablate_neuron
    from residscope.analyses.attention import Attention as Attention
    from residscope.analyses.attention import attention as attention
    from residscope.analyses.attribution import Attribution as Attribution
    from residscope.analyses.attribution import attribute as attribute
    from residscope.analyses.comparison import Comparison as Comparison
    from residscope.analyses.comparison import compare as compare
    from residscope.analyses.composition import Composition as Composition
    from residscope.analyses.composition import composition as composition
    from residscope.analyses.head_scores import HeadMosaic as HeadMosaic
    from residscope.analyses.head_scores import HeadScores as HeadScores
    from residscope.analyses.head_scores import head_mosaic as head_mosaic
    from residscope.analyses.head_scores import head_scores as head_scores
    from residscope.analyses.lens_vocabulary import lens_vocabulary as lens_vocabulary
    from residscope.analyses.logit_lens import LogitLens as LogitLens
    from residscope.analyses.logit_lens import logit_lens as logit_lens
    from residscope.analyses.next_tokens import NextTokens as NextTokens
    from residscope.analyses.next_tokens import next_tokens as next_tokens
    from residscope.analyses.patching import Patching as Patching
    from residscope.analyses.patching import patch as patch
    from residscope.analyses.path_patching import path_patch as path_patch
    from residscope.analyses.singular import SingularVectors as SingularVectors
    from residscope.analyses.singular import singular_vectors as singular_vectors
    from residscope.analyses.vocabulary import Vocabulary as Vocabulary
    from residscope.analyses.vocabulary import vocabulary as vocabulary
    from residscope.cards.direction import Explanation as Explanation
    from residscope.cards.direction import explain as explain
    from residscope.cards.feature import Activations as Activations
    from residscope.cards.feature import FeatureExplanation as FeatureExplanation
    from residscope.cards.feature import explain_feature as explain_feature
    from residscope.cards.feature import read_activations as read_activations
    from residscope.client import Client as Client
    from residscope.dictionaries.loading import load_dictionary as load_dictionary
    from residscope.dictionaries.sparse_autoencoder import SparseAutoencoder as SparseAutoencoder
    from residscope.direction import Direction as Direction
    from residscope.directions.algebra import orthonormalize as orthonormalize
    from residscope.directions.causal_check import CausalCheck as CausalCheck
    from residscope.directions.causal_check import causal_check as causal_check
    from residscope.directions.contrast import contrast as contrast
    from residscope.directions.file import load_direction as load_direction
    from residscope.directions.pca import Basis as Basis
    from residscope.directions.pca import pca as pca
    from residscope.directions.position_means import PositionMeans as PositionMeans
    from residscope.directions.position_means import position_means as position_means
    from residscope.directions.probe import probe as probe
    from residscope.directions.projection import Projection as Projection
    from residscope.directions.projection import project as project
    from residscope.directions.river import River as River
    from residscope.directions.river import river as river
    from residscope.directions.steering import Steering as Steering
    from residscope.directions.steering import steer as steer
    from residscope.directions.weights import head_direction as head_direction
    from residscope.directions.weights import neuron_direction as neuron_direction
    from residscope.directions.weights import position_direction as position_direction
    from residscope.directions.weights import token_direction as token_direction
    from residscope.errors import Cancelled as Cancelled
    from residscope.errors import ResidscopeError as ResidscopeError
    from residscope.graphs.causal_graph import causal_graph as causal_graph
    from residscope.graphs.feature_life import FeatureLife as FeatureLife
    from residscope.graphs.feature_life import feature_life as feature_life
    from residscope.graphs.graph import Graph as Graph
    from residscope.graphs.growth import grow_graph as grow_graph
    from residscope.graphs.intervention import Intervention as Intervention
    from residscope.graphs.intervention import intervene as intervene
    from residscope.results.result import Result as Result
    from residscope.results.result import open as open
    from residscope.running.edits import Edit as Edit
    from residscope.running.edits import ablate as ablate
    from residscope.running.edits import add as add
    from residscope.running.edits import apply as apply
    from residscope.running.edits import clamp as clamp
    from residscope.running.edits import freeze as freeze
    from residscope.running.edits import knockout as knockout
    from residscope.running.edits import noise as noise
    from residscope.running.edits import project_out as project_out
    from residscope.running.edits import replace as replace
    from residscope.running.edits import scale as scale
    from residscope.running.first_order import Estimate as Estimate
    from residscope.running.metrics import Metric as Metric
    from residscope.running.metrics import kl as kl
    from residscope.running.metrics import log_prob as log_prob
    from residscope.running.metrics import logit as logit
    from residscope.running.metrics import logit_difference as logit_difference
    from residscope.running.metrics import loss as loss
    from residscope.running.metrics import metric as metric
    from residscope.running.metrics import probability_difference as probability_difference
    from residscope.running.metrics import read as read
    from residscope.running.model import Model as Model
    from residscope.running.model import load as load
    from residscope.running.pairs import Pairs as Pairs
    from residscope.running.pairs import pairs as pairs
    from residscope.running.prediction import Memory as Memory
    from residscope.running.prediction import memory as memory
    from residscope.running.progress import progress as progress
    from residscope.running.run import Run as Run
    from residscope.running.sweep import Sweep as Sweep
    from residscope.running.wrapped import Wrapped as Wrapped
    from residscope.running.wrapped import wrap as wrap
    from residscope.sites import Site as Site
    from residscope.transformer.config import Config as Config
    from residscope.transformer.loading import plan as plan
    from residscope.transformer.placement import Plan as Plan
    from residscope.transformer.rotary import Rotary as Rotary
    from residscope.transformer.tokens import Tokens as Tokens
    from residscope.transformer.weights import Weights as Weights

__version__ = "0.1.0"

# Where each public name is. Imported on first use, so that `import residscope` imports no torch.
_PUBLIC = {
    "load": "residscope.running.model",
    "Model": "residscope.running.model",
    "Run": "residscope.running.run",
    "wrap": "residscope.running.wrapped",
    "Wrapped": "residscope.running.wrapped",
    "Tokens": "residscope.transformer.tokens",
    "plan": "residscope.transformer.loading",
    "Plan": "residscope.transformer.placement",
    "Config": "residscope.transformer.config",
    "Rotary": "residscope.transformer.rotary",
    "Weights": "residscope.transformer.weights",
    "Site": "residscope.sites",
    "Edit": "residscope.running.edits",
    "replace": "residscope.running.edits",
    "add": "residscope.running.edits",
    "scale": "residscope.running.edits",
    "noise": "residscope.running.edits",
    "ablate": "residscope.running.edits",
    "project_out": "residscope.running.edits",
    "clamp": "residscope.running.edits",
    "knockout": "residscope.running.edits",
    "freeze": "residscope.running.edits",
    "apply": "residscope.running.edits",
    "Metric": "residscope.running.metrics",
    "logit": "residscope.running.metrics",
    "logit_difference": "residscope.running.metrics",
    "log_prob": "residscope.running.metrics",
    "probability_difference": "residscope.running.metrics",
    "loss": "residscope.running.metrics",
    "kl": "residscope.running.metrics",
    "read": "residscope.running.metrics",
    "metric": "residscope.running.metrics",
    "Sweep": "residscope.running.sweep",
    "memory": "residscope.running.prediction",
    "Memory": "residscope.running.prediction",
    "Estimate": "residscope.running.first_order",
    "pca": "residscope.directions.pca",
    "Basis": "residscope.directions.pca",
    "Direction": "residscope.direction",
    "contrast": "residscope.directions.contrast",
    "explain": "residscope.cards.direction",
    "Activations": "residscope.cards.feature",
    "FeatureExplanation": "residscope.cards.feature",
    "explain_feature": "residscope.cards.feature",
    "read_activations": "residscope.cards.feature",
    "Explanation": "residscope.cards.direction",
    "causal_check": "residscope.directions.causal_check",
    "CausalCheck": "residscope.directions.causal_check",
    "probe": "residscope.directions.probe",
    "load_direction": "residscope.directions.file",
    "Client": "residscope.client",
    "token_direction": "residscope.directions.weights",
    "position_direction": "residscope.directions.weights",
    "head_direction": "residscope.directions.weights",
    "neuron_direction": "residscope.directions.weights",
    "orthonormalize": "residscope.directions.algebra",
    "steer": "residscope.directions.steering",
    "Steering": "residscope.directions.steering",
    "position_means": "residscope.directions.position_means",
    "PositionMeans": "residscope.directions.position_means",
    "project": "residscope.directions.projection",
    "Projection": "residscope.directions.projection",
    "river": "residscope.directions.river",
    "River": "residscope.directions.river",
    "pairs": "residscope.running.pairs",
    "Pairs": "residscope.running.pairs",
    "head_mosaic": "residscope.analyses.head_scores",
    "head_scores": "residscope.analyses.head_scores",
    "HeadMosaic": "residscope.analyses.head_scores",
    "HeadScores": "residscope.analyses.head_scores",
    "attribute": "residscope.analyses.attribution",
    "Attribution": "residscope.analyses.attribution",
    "attention": "residscope.analyses.attention",
    "Attention": "residscope.analyses.attention",
    "compare": "residscope.analyses.comparison",
    "Comparison": "residscope.analyses.comparison",
    "patch": "residscope.analyses.patching",
    "path_patch": "residscope.analyses.path_patching",
    "Patching": "residscope.analyses.patching",
    "ablate_head": "residscope.analyses.ablation",
    "ablate_neuron": "residscope.analyses.ablation",
    "ablate_layer": "residscope.analyses.ablation",
    "Ablation": "residscope.analyses.ablation",
    "composition": "residscope.analyses.composition",
    "Composition": "residscope.analyses.composition",
    "singular_vectors": "residscope.analyses.singular",
    "SingularVectors": "residscope.analyses.singular",
    "load_dictionary": "residscope.dictionaries.loading",
    "SparseAutoencoder": "residscope.dictionaries.sparse_autoencoder",
    "causal_graph": "residscope.graphs.causal_graph",
    "grow_graph": "residscope.graphs.growth",
    "feature_life": "residscope.graphs.feature_life",
    "FeatureLife": "residscope.graphs.feature_life",
    "Intervention": "residscope.graphs.intervention",
    "intervene": "residscope.graphs.intervention",
    "Graph": "residscope.graphs.graph",
    "vocabulary": "residscope.analyses.vocabulary",
    "Vocabulary": "residscope.analyses.vocabulary",
    "next_tokens": "residscope.analyses.next_tokens",
    "NextTokens": "residscope.analyses.next_tokens",
    "lens_vocabulary": "residscope.analyses.lens_vocabulary",
    "logit_lens": "residscope.analyses.logit_lens",
    "LogitLens": "residscope.analyses.logit_lens",
    "Result": "residscope.results.result",
    "open": "residscope.results.result",
    "progress": "residscope.running.progress",
    "Cancelled": "residscope.errors",
    "ResidscopeError": "residscope.errors",
}
__all__ = ["demo", *_PUBLIC]


if not TYPE_CHECKING:  # a checker knows the names above, and should refuse any other

    def __getattr__(name: str) -> Any:
        if name == "demo":
            return import_module("residscope.demo")
        if name not in _PUBLIC:
            raise AttributeError(f"module 'residscope' has no attribute {name!r}")
        value = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
