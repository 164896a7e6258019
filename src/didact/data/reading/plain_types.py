"""Arrow's many ways to lay out one value, as the one that everything else reads.

Views of text and lists, and runs of equal values, hold what plain arrays hold; few functions take
them, and pyarrow 26 casts views of lists to arrays that are not valid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def plain_type(type_: pa.DataType) -> pa.DataType:  # noqa: PLR0911 - one answer for each layout
    """The plain type with the values of `type_`, inside lists and structs too."""
    is_ = pa.types
    if is_.is_string_view(type_):
        return pa.string()
    if is_.is_binary_view(type_):
        return pa.binary()
    if is_.is_run_end_encoded(type_):
        return plain_type(type_.value_type)
    if is_.is_dictionary(type_):  # room for the values of all files and batches
        return pa.dictionary(pa.int32(), plain_type(type_.value_type), ordered=type_.ordered)
    if is_.is_struct(type_):
        return pa.struct([f.with_type(plain_type(f.type)) for f in type_])
    if is_.is_map(type_):
        return pa.map_(plain_type(type_.key_type), plain_type(type_.item_type))
    if not _is_list(type_):
        return type_
    field = type_.value_field.with_type(plain_type(type_.value_type))
    if is_.is_fixed_size_list(type_):
        return pa.list_(field, type_.list_size)
    return pa.large_list(field) if _is_large(type_) else pa.list_(field)


def plain(array: pa.Array) -> pa.Array:
    """The values of an array with their plain type; the array itself where it has that."""
    type_, wanted = array.type, plain_type(array.type)
    if type_ == wanted:
        return array
    if pa.types.is_run_end_encoded(type_):
        return plain(pc.run_end_decode(array))
    if pa.types.is_struct(type_):
        fields = [plain(field) for field in array.flatten()]
        return pa.StructArray.from_arrays(fields, fields=list(wanted), mask=array.is_null())
    if _is_list(type_) and not pa.types.is_fixed_size_list(type_):
        large = _is_large(type_)
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        made: Any = pa.LargeListArray if large else pa.ListArray
        return made.from_arrays(
            pa.array(offsets, pa.int64() if large else pa.int32()),
            plain(array.flatten()),
            type=wanted,
            mask=array.is_null(),
        )
    if pa.types.is_fixed_size_list(type_) or pa.types.is_map(type_):
        return pa.array(array.to_pylist(), wanted)
    return array.cast(wanted)


def _is_list(type_: pa.DataType) -> bool:
    is_ = pa.types
    return bool(
        is_.is_list(type_)
        or is_.is_large_list(type_)
        or is_.is_fixed_size_list(type_)
        or is_.is_list_view(type_)
        or is_.is_large_list_view(type_)
    )


def _is_large(type_: pa.DataType) -> bool:
    return bool(pa.types.is_large_list(type_) or pa.types.is_large_list_view(type_))
