"""Histories can be written as lines and read back."""

from __future__ import annotations

import msgspec
import pytest

from stretto.verify.history import Operation, from_lines, to_lines


def test_lines_give_the_same_operations() -> None:
    operations = [Operation(0, b"\x00\xff", 5, 9, b"result"), Operation(1, b"", 6, error="RequestTimeout"), Operation(2, b"op", 7)]
    lines = list(to_lines(operations))
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    assert list(from_lines(lines)) == operations


def test_a_line_that_is_not_an_operation_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        list(from_lines([b'{"process": "zero"}\n']))
