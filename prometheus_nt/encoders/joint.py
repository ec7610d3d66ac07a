"""Joint spaces: blocks of unlike origin side by side, each of length 1, weighted and named."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from prometheus_nt.domain.errors import ConfigError, DataError
from prometheus_nt.domain.record import BoolArray, FloatArray, content_hash
from prometheus_nt.encoders.scaling import unit_rows


@dataclass(frozen=True)
class Block:
    """A named part of a joint vector; `features` name its coordinates."""

    name: str
    features: tuple[str, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class JointSpace:
    """Which blocks a joint vector has, in which order, and what each of them weighs."""

    name: str
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        names = [block.name for block in self.blocks]
        if len(set(names)) < len(names):
            raise ConfigError(f"{self.name}: two blocks have one name: {', '.join(names)}")
        for block in self.blocks:
            if not block.features or block.weight <= 0.0:
                raise ConfigError(f"{self.name}.{block.name}: needs a feature and a weight above 0")

    @cached_property
    def schema_id(self) -> str:
        """The name, and a hash of the blocks' names, features and weights."""
        return f"{self.name}-{content_hash(self.blocks)}"

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The columns of each block."""
        ends = np.cumsum([len(block.features) for block in self.blocks]).tolist()
        return tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))


@dataclass(frozen=True, eq=False)
class JointVectors:
    """M vectors of one joint space.

    Attributes
    ----------
    ids : tuple of M ids
    vectors : (M, D) array
        Each block of length 1, or 0 where it is missing; weights are applied when comparing.
    known : (M, B) bool array
        Which blocks each vector has.
    """

    space: JointSpace
    ids: tuple[str, ...]
    vectors: FloatArray
    known: BoolArray

    @property
    def content_id(self) -> str:
        """The content hash of the vectors and their schema."""
        return content_hash([self.space.schema_id, self.ids, self.vectors, self.known])

    def row_of(self, entity_id: str) -> int:
        """Return the row of an id, or raise `DataError`."""
        if entity_id not in self.ids:
            raise DataError(f"{self.space.name}: has no vector of {entity_id!r}")
        return self.ids.index(entity_id)


def join(
    space: JointSpace, ids: tuple[str, ...], parts: Mapping[str, FloatArray | None]
) -> JointVectors:
    """Return the joint vectors of `ids`.

    Parameters
    ----------
    parts : mapping of block name to (M, F) array, or None
        A block that is absent or None is missing for all. One row of it is missing if a
        coordinate of it is NaN, or if all are 0: no direction can be compared.

    Raises
    ------
    DataError
        If a block is not part of the space, or has another shape than its schema.
    """
    unknown = sorted(set(parts) - {block.name for block in space.blocks})
    if unknown:
        raise DataError(f"{space.name}: no such block: {', '.join(unknown)}")
    vectors = np.zeros((len(ids), space.slices[-1].stop))
    known = np.zeros((len(ids), len(space.blocks)), dtype=bool)
    for place, (block, columns) in enumerate(zip(space.blocks, space.slices, strict=True)):
        part = parts.get(block.name)
        if part is None:
            continue
        expected = (len(ids), len(block.features))
        if part.shape != expected:
            raise DataError(
                f"{space.name}.{block.name}: expected shape {expected}, found {part.shape}"
            )
        directions = unit_rows(part)
        known[:, place] = np.isfinite(directions).all(axis=1)
        vectors[:, columns] = np.where(known[:, place, None], directions, 0.0)
    return JointVectors(space, ids, vectors, known)
