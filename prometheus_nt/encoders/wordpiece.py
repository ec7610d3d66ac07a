"""Split text into the word pieces of an uncased BERT vocabulary.

References
----------
Devlin et al. (2019), "BERT: pre-training of deep bidirectional transformers for language
understanding", and the reference tokeniser published with it.
"""

import unicodedata
from collections.abc import Iterator, Mapping

UNKNOWN, BEGIN, END = "[UNK]", "[CLS]", "[SEP]"

LONGEST_WORD = 100
"""Characters of a word beyond which it is unknown."""

IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
"""Code points each of which is a word of its own."""

ASCII_SYMBOLS = frozenset("$+<=>^`|~")
"""Symbols that count as punctuation although Unicode says otherwise."""


def piece_ids(text: str, vocabulary: Mapping[str, int], most: int) -> list[int]:
    """Return the ids of a text's pieces between begin and end marks, `most` ids at most."""
    pieces = (piece for word in _words(text) for piece in _pieces(word, vocabulary))
    ids = [vocabulary[BEGIN]]
    for piece in pieces:
        if len(ids) == most - 1:
            break
        ids.append(vocabulary[piece])
    return [*ids, vocabulary[END]]


def _words(text: str) -> Iterator[str]:
    """Yield lower-case words without accents; punctuation and ideographs stand alone."""
    spaced = "".join(_spaced(character) for character in text)
    for word in spaced.split():
        plain = unicodedata.normalize("NFD", word.lower())
        kept = (character for character in plain if unicodedata.category(character) != "Mn")
        yield from "".join(f" {c} " if _is_punctuation(c) else c for c in kept).split()


def _spaced(character: str) -> str:
    code = ord(character)
    if character in "\t\n\r" or unicodedata.category(character) == "Zs":
        return " "
    if code in (0, 0xFFFD) or unicodedata.category(character).startswith("C"):
        return ""
    if any(first <= code <= last for first, last in IDEOGRAPHS):
        return f" {character} "
    return character


def _is_punctuation(character: str) -> bool:
    return character in ASCII_SYMBOLS or unicodedata.category(character).startswith("P")


def _pieces(word: str, vocabulary: Mapping[str, int]) -> list[str]:
    """Return the longest known pieces from the left; one unknown part makes the word unknown."""
    if len(word) > LONGEST_WORD:
        return [UNKNOWN]
    pieces: list[str] = []
    start = 0
    while start < len(word):
        prefix = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((end for end in ends if prefix + word[start:end] in vocabulary), None)
        if end is None:
            return [UNKNOWN]
        pieces.append(prefix + word[start:end])
        start = end
    return pieces
