"""A BERT encoder in numpy: what a small sentence model needs, and no framework.

1. `read_weights` maps the tensors of a `safetensors` file.
2. `hidden_states` embeds the pieces of one text and passes them through the layers: `_attended`,
   then `_widened`, each added to what came in and normalised.

References
----------
Vaswani et al. (2017), "Attention is all you need"; Devlin et al. (2019), "BERT: pre-training of
deep bidirectional transformers for language understanding".
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prometheus_nt.domain.errors import SourceError

Tensor = npt.NDArray[np.float32]
Weights = Mapping[str, Tensor]

NORM_EPSILON = 1e-12


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the float32 tensors of a `safetensors` file, mapped and read-only.

    Raises
    ------
    SourceError
        If the file is not one, or ends too early.
    """
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    try:
        (length,) = struct.unpack("<Q", raw[:8].tobytes())
        header = json.loads(raw[8 : 8 + length].tobytes())
        return {
            name: _tensor(raw[8 + length :], entry)
            for name, entry in header.items()
            if entry.get("dtype") == "F32"
        }
    except (ValueError, struct.error, AttributeError, KeyError) as malformed:
        problem = f"no safetensors file: {malformed}"
        raise SourceError(str(path), problem, "install the package again") from None


def hidden_states(ids: list[int], weights: Weights, layers: int, heads: int) -> Tensor:
    """Return the last layer's states of one text, (pieces, width)."""
    words = weights["embeddings.word_embeddings.weight"][ids]
    places = weights["embeddings.position_embeddings.weight"][: len(ids)]
    kind = weights["embeddings.token_type_embeddings.weight"][0]
    states = _normalised(words + places + kind, weights, "embeddings.LayerNorm")
    for layer in range(layers):
        name = f"encoder.layer.{layer}"
        attended = _attended(states, weights, f"{name}.attention", heads)
        states = _normalised(states + attended, weights, f"{name}.attention.output.LayerNorm")
        widened = _widened(states, weights, name)
        states = _normalised(states + widened, weights, f"{name}.output.LayerNorm")
    return states


def _tensor(data: npt.NDArray[np.uint8], entry: Mapping[str, list[int]]) -> Tensor:
    start, end = entry["data_offsets"]
    tensor: Tensor = data[start:end].view("<f4").reshape(entry["shape"])
    return tensor


def _attended(states: Tensor, weights: Weights, name: str, heads: int) -> Tensor:
    def headed(part: str) -> Tensor:
        linear = _linear(states, weights, f"{name}.self.{part}")
        return linear.reshape(len(states), heads, -1).transpose(1, 0, 2)

    query, key, value = headed("query"), headed("key"), headed("value")
    scores = query @ key.transpose(0, 2, 1) / np.float32(np.sqrt(query.shape[2]))
    shares = np.exp(scores - scores.max(axis=2, keepdims=True))
    shares /= shares.sum(axis=2, keepdims=True)
    mixed = (shares @ value).transpose(1, 0, 2).reshape(len(states), -1)
    return _linear(mixed, weights, f"{name}.output.dense")


def _widened(states: Tensor, weights: Weights, name: str) -> Tensor:
    wide = _gelu(_linear(states, weights, f"{name}.intermediate.dense"))
    return _linear(wide, weights, f"{name}.output.dense")


def _linear(states: Tensor, weights: Weights, name: str) -> Tensor:
    result: Tensor = states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return result


def _normalised(states: Tensor, weights: Weights, name: str) -> Tensor:
    deviation = states - states.mean(axis=1, keepdims=True)
    variance = (deviation * deviation).mean(axis=1, keepdims=True)
    standard = deviation / np.sqrt(variance + np.float32(NORM_EPSILON))
    result: Tensor = standard * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return result


def _gelu(x: Tensor) -> Tensor:
    """Return x times the normal distribution function at x.

    By formula 7.1.26 of Abramowitz and Stegun, whose error of 1.5e-7 is float32's own.
    """
    z = np.abs(x) / np.float32(np.sqrt(2.0))
    t = 1.0 / (1.0 + np.float32(0.3275911) * z)
    series = np.zeros_like(t)
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(coefficient)) * t
    error = np.sign(x) * (1.0 - series * np.exp(-z * z))
    return (0.5 * x * (1.0 + error)).astype(np.float32, copy=False)
