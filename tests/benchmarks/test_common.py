"""Tables that stay tables."""

from benchmarks.common import markdown


def test_a_cell_keeps_its_bars_and_line_breaks_inside():
    assert markdown(["a", "b"], [["x|y", "one\ntwo"]]) == "| a | b |\n| --- | --- |\n| x\\|y | one<br>two |\n"
