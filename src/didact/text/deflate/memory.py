"""Reads and writes of compiled kernels, of raw addresses or of arrays with checked bounds.

A kernel written against these functions compiles twice from one source. Given addresses (int64) it
is as fast as C: an array handed from function to function would cost reference counts and seven
words of arguments at every call. Given NumPy arrays it raises IndexError where the other would
read or write what is not its own, which is how tests run it. Kernels use int64 throughout, whatever
is stored. Bytes are little endian, and may be read 4 and 8 at a time at any place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic, overload

Memory = Any  # an address (int) or an array, one-dimensional and contiguous

_LONG: Final = ir.IntType(64)
_int64: Any = types.int64  # called in kernels, a conversion


def _loader(bits: int, *, signed: bool) -> Any:
    """An intrinsic that reads an integer of some bits at an address."""

    @intrinsic
    def load(_context: Any, _address: Any) -> Any:
        def build(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
            value = builder.load(pointer, align=1)
            if bits == _LONG.width:
                return value
            return builder.sext(value, _LONG) if signed else builder.zext(value, _LONG)

        return types.int64(types.int64), build

    return load


def _storer(bits: int) -> Any:
    """An intrinsic that writes the low bits of an integer at an address."""

    @intrinsic
    def store(_context: Any, _address: Any, _value: Any) -> Any:
        def build(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
            value = args[1] if bits == _LONG.width else builder.trunc(args[1], ir.IntType(bits))
            builder.store(value, pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), build

    return store


_load_u8, _load_u32 = _loader(8, signed=False), _loader(32, signed=False)
_load_i32, _load_i64 = _loader(32, signed=True), _loader(64, signed=True)
_store_u8, _store_i32, _store_i64 = _storer(8), _storer(32), _storer(64)


@intrinsic
def _trailing_zeros(_context: Any, _value: Any) -> Any:
    """Zero bits below the lowest set bit of an int64 other than 0."""

    def build(_target: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), build


trailing_zeros: Any = _trailing_zeros


def _check(memory: Any, at: int, count: int) -> None:
    if at < 0 or at + count > len(memory):
        raise IndexError("a kernel left its array")


_checked = njit(_check)


def byte(memory: Memory, at: int) -> int:
    """The byte at a place of uint8 memory."""
    _checked(memory, at, 1)
    return _int64(memory[at])


def set_byte(memory: Memory, at: int, value: int) -> None:
    """Write a byte to uint8 memory."""
    _checked(memory, at, 1)
    memory[at] = value


def bytes4(memory: Memory, at: int) -> int:
    """Four bytes of uint8 memory as an unsigned integer, the first one lowest."""
    _checked(memory, at, 4)
    value = _int64(0)
    for i in range(4):
        value |= _int64(memory[at + i]) << (8 * i)
    return value


def bytes8(memory: Memory, at: int) -> int:
    """Eight bytes of uint8 memory as the bits of an int64, the first one lowest."""
    _checked(memory, at, 8)
    value = _int64(0)
    for i in range(8):
        value |= _int64(memory[at + i]) << (8 * i)
    return value


def int32(memory: Memory, at: int) -> int:
    """An int32 of int32 memory."""
    _checked(memory, at, 1)
    return _int64(memory[at])


def set_int32(memory: Memory, at: int, value: int) -> None:
    """Write an int32."""
    _checked(memory, at, 1)
    memory[at] = value


def int64(memory: Memory, at: int) -> int:
    """An int64 of int64 memory."""
    _checked(memory, at, 1)
    return _int64(memory[at])


def set_int64(memory: Memory, at: int, value: int) -> None:
    """Write an int64."""
    _checked(memory, at, 1)
    memory[at] = value


def _reads(function: Callable[..., Any], load: Any, size: int) -> None:
    """Compile a read as a plain load where the memory is an address."""

    def of_address(memory: Memory, at: int) -> Any:
        return load(memory + size * at)

    def choose(memory: Memory, at: int) -> Any:  # noqa: ARG001 -- numba compares signatures
        return of_address if isinstance(memory, types.Integer) else function

    overload(function, inline="never")(choose)


def _writes(function: Callable[..., Any], store: Any, size: int) -> None:
    """Compile a write as a plain store where the memory is an address."""

    def of_address(memory: Memory, at: int, value: int) -> None:
        store(memory + size * at, value)

    def choose(memory: Memory, at: int, value: int) -> Any:  # noqa: ARG001
        return of_address if isinstance(memory, types.Integer) else function

    overload(function, inline="never")(choose)


_reads(byte, _load_u8, 1)
_reads(bytes4, _load_u32, 1)
_reads(bytes8, _load_i64, 1)
_reads(int32, _load_i32, 4)
_reads(int64, _load_i64, 8)
_writes(set_byte, _store_u8, 1)
_writes(set_int32, _store_i32, 4)
_writes(set_int64, _store_i64, 8)
