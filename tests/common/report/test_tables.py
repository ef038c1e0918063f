"""Wide tables name their columns at each cell, for telephones; narrow ones stay as they are."""

from common.report.tables import stacking

WIDE = """<p>a</p><table>
<tr><th>hospital</th><th>alone</th><th class="text">federated</th><th>gain</th></tr>
<tr><td>north</td><td>0.9</td><td class="text">0.95</td><td></td></tr>
<tr class="on"><td>south</td><td>0.8</td><td>0.9</td><td>0.1</td></tr>
</table>"""


def test_each_cell_of_a_wide_table_says_its_column():
    page = stacking(WIDE)
    assert '<table class="stacks">' in page
    assert '<tr class="headings"><th>hospital</th>' in page
    assert page.count('data-column="hospital"') == page.count('data-column="gain"') == 2
    assert '<td data-column="federated" class="text">0.95</td>' in page
    assert '<tr class="on"><td data-column="hospital">south' in page
    assert page.startswith("<p>a</p>")


def test_narrow_tables_and_those_without_headings_stay():
    for table in (
        "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>",
        "<table><tr><td>1</td><td>2</td><td>3</td><td>4</td></tr></table>",
        "<table><tr><th></th><th>a</th><th>b</th><th>c</th><td>1</td></tr></table>",
        "<p>no table</p>",
    ):
        assert stacking(table) == table


def test_a_row_that_is_longer_than_the_headings_is_not_lost():
    row = "<tr>" + "<td>x</td>" * 5 + "</tr>"
    page = stacking(f"<table><tr>{'<th>a</th>' * 4}</tr>{row}</table>")
    assert page.count("<td") == 5
    assert 'data-column=""' in page


def test_two_tables_have_their_own_columns():
    other = WIDE.replace("hospital", "round")
    page = stacking(WIDE + other)
    assert page.count('data-column="hospital"') == page.count('data-column="round"') == 2
