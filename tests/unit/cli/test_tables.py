"""Tables for terminals of any width, and for pipes."""

import contextlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from openlaunch.cli import output
from openlaunch.cli.tables import with_tabs, within, wrapped

NAMES = ("NAME", "STATUS", "CREATED", "REASON")
TEXT = "the build failed because no package of this name exists in any index that is asked"


def rows(name="digits", reason=TEXT):
    return [[name, "READY", "2026-01-01 00:00:00", reason]]


def test_a_table_that_fits_is_padded_to_its_contents():
    lines, left_out = within(80, NAMES, rows(reason="-"))
    assert lines == [
        "NAME    STATUS  CREATED              REASON",
        "digits  READY   2026-01-01 00:00:00  -",
    ]
    assert left_out == []


def test_the_last_column_is_wrapped_between_words_beside_the_others():
    lines, left_out = within(80, NAMES, rows())
    assert lines[1:3] == [
        "digits  READY   2026-01-01 00:00:00  the build failed because no package of this",
        "                                     name exists in any index that is asked",
    ]
    assert left_out == []


def test_columns_are_left_out_in_order_while_the_rest_does_not_fit():
    lines, left_out = within(80, NAMES, rows("n" * 34), ("CREATED", "STATUS"))
    assert left_out == ["CREATED"]
    assert lines[0].split() == ["NAME", "STATUS", "REASON"]


def test_a_long_word_goes_beneath_its_row_in_one_piece():
    path = "/a/path/" + "x" * 60
    lines, left_out = within(80, NAMES, rows("n" * 50, path), ("CREATED",))
    assert left_out == ["CREATED"]
    assert lines == ["NAME" + " " * 48 + "STATUS", "  REASON", "n" * 50 + "  READY", f"  {path}"]
    assert within(80, NAMES, rows("n" * 35, path), ("CREATED",))[1] == []


def test_a_table_whose_names_are_too_long_is_written_as_blocks_with_every_column():
    lines, left_out = within(80, NAMES, rows("n" * 75) * 2, ("CREATED",))
    assert left_out == []
    assert lines[:3] == ["NAME     " + "n" * 75, "STATUS   READY", "CREATED  2026-01-01 00:00:00"]
    assert lines.count("") == 1


def test_a_table_without_rows_is_its_heading():
    assert within(10, NAMES, [])[0][0].startswith("NAME")


words = st.text("ab語-/", min_size=1, max_size=30)
texts = st.lists(words, min_size=1, max_size=12).map(" ".join)


@given(st.lists(st.tuples(texts, words, texts), max_size=5), st.integers(30, 120), st.booleans())
def test_no_line_is_wider_than_the_terminal_and_no_word_is_cut(table, width, optional):
    columns = ("FIRST", "SECOND", "THIRD")
    lines, left_out = within(width, columns, table, ("SECOND",) if optional else ())
    assert not [line for line in lines if cell_len(line) > width and len(line.split()) > 2]
    shown = {word for line in lines for word in line.split()}
    kept = [row if not left_out else (row[0], row[2]) for row in table]
    words_of_cells = {word for row in kept for cell in row for word in cell.split()}
    assert words_of_cells - {"-"} <= shown  # beneath a row, a dash is left out


def test_what_is_wrapped_keeps_its_indentation():
    assert list(wrapped("    raise ValueError of some length", 20, "", "> ")) == [
        "    raise ValueError",
        "> of some length",
    ]


def test_a_pipe_gets_tabs_and_nothing_is_padded():
    assert list(with_tabs(NAMES, rows(reason="-"))) == [
        "NAME\tSTATUS\tCREATED\tREASON",
        "digits\tREADY\t2026-01-01 00:00:00\t-",
    ]


@pytest.mark.parametrize(
    ("value", "cell"), [(None, "-"), ("", "-"), ("a\n  b", "a b"), ("\x1b[2Jx", "\ufffd[2Jx"), (0, "0")]
)
def test_a_cell_is_one_line_without_control_characters(capsys, value, cell):
    output.table(("A", "B"), [("x", value)])
    assert capsys.readouterr().out == f"A\tB\nx\t{cell}\n"


HOSTILE = "\x1b]0;title\x07\x9b2J\u202egpj"
HARMLESS = "\ufffd]0;title\ufffd\ufffd2J\ufffdgpj"


def test_what_others_wrote_controls_no_terminal(capsys):
    output.fields([("reason", HOSTILE + "\nmore\u3000\u200d"), (HOSTILE, 1)])
    output.note(HOSTILE)
    printed = capsys.readouterr()
    assert HARMLESS in printed.out
    assert "more\u3000\u200d" in printed.out
    assert all(c.isprintable() or c in "\n\u3000\u200d" for c in printed.out)
    assert printed.err == HARMLESS + "\n"


def test_json_has_what_others_wrote_escaped_and_unchanged(capsys):
    output.emit({"a": HOSTILE, "b": "ü😀"}, True, lambda: None)
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"a": HOSTILE, "b": "ü😀"}
    assert all(c.isprintable() or c == "\n" for c in printed)
    assert "ü😀" in printed


def test_of_what_a_model_prints_a_terminal_gets_the_colors_alone():
    text = f"\x1b[31mred\x1b[0m 10%\r20%\n{HOSTILE}"
    assert output.as_printed(text) == text  # the output is no terminal
    controlling, terminal = os.openpty()
    with os.fdopen(terminal, "w") as file, contextlib.redirect_stdout(file):
        shown = output.as_printed(text)
    os.close(controlling)
    assert shown == f"\x1b[31mred\x1b[0m 10%\r20%\n{HARMLESS}"


def test_times_have_one_format_whatever_they_come_as(capsys):
    shown = output.when("2026-01-02T03:04:05.678901Z")
    assert shown is not None
    assert len(shown) == len("2026-01-02 03:04:05")
    output.fields(
        output.of_document({"job_id": "x", "created_at": "2026-01-02T03:04:05Z", "labels": {"a": "b"}})
    )
    assert capsys.readouterr().out == f"job id      x\ncreated at  {shown}\nlabels      a=b\n"


def test_a_duration_is_in_seconds_for_people(capsys):
    output.fields(output.of_document({"duration": "PT1M11.5S", "result": None}))
    assert capsys.readouterr().out == "duration  71.5 s\n"
