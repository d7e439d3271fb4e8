"""Tables of scores in the pages equal the logs of this release, and the logs what they were taken from."""

import json
import re

import pytest

import moca_avs
from helpers import TESTS
from helpers.scripts import script_module

ROOT = TESTS.parent
LOGS = ROOT / "benchmarks/results" / moca_avs.__version__


@pytest.fixture(scope="module")
def tables():
    with script_module("tools/readme_tables.py", "readme_tables") as module:
        yield module


def log_of(name):
    return json.loads((LOGS / f"{name}.json").read_text(encoding="utf-8"))


def numbers(cell):
    """``**.94** [.88, .98]`` -> [.94, .88, .98]; None for a dash. Knows nothing of how cells are written."""
    found = [float(text.replace("−", "-")) for text in re.findall(r"−?\d*\.\d+", cell)]
    return found or None


def cells_of(text):
    """Rows of all tables in `text`, their first two lines left out: first cell -> numbers of the others."""
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [
        (row[0].strip(), [numbers(cell) for cell in row[1:]]) for row in rows if numbers("".join(row[1:]))
    ]


@pytest.mark.parametrize("name", ["real_clips", "duets", "stamps"])
def test_the_readme_says_what_is_logged(name):
    """Read back without the code that writes the tables."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    start = re.search(rf"<!-- table:start {name}\b([^>]*)-->\n", readme)
    choice = dict(word.split("=") for word in start[1].split())
    body = readme[start.end() : readme.index("<!-- table:end -->", start.end())]
    expected = []
    for table in log_of(name)["tables"]:
        rows = {row["key"]: row for row in table["rows"]}
        columns = choice["columns"].split(",") if "columns" in choice else list(table["columns"])
        chosen = [rows[key] for key in (choice["rows"].split(",") if "rows" in choice else rows)]
        expected += [(row["title"], [row["scores"][column] for column in columns]) for row in chosen]
    rounded = [(t, [v and [round(x, 2) for x in v] for v in values]) for t, values in expected]
    assert cells_of(body) == rounded


def test_every_marked_table_is_as_the_command_writes_it(tables):
    assert tables.main(["--check"]) == 0, "run `make readme-tables`"
    assert ROOT / "README.md" in tables.pages()


def test_the_log_of_stamps_is_the_report_of_the_run():
    """recipes/lite/logs/hearing.md is what hearing.py wrote; later logs hold the unrounded scores."""
    report = (ROOT / "recipes/lite/logs/hearing.md").read_text(encoding="utf-8")
    for table in log_of("stamps")["tables"]:
        section = report.split(table["head"], 1)[1].split("\n\n", 2)[1]
        logged = [(row["title"], list(row["scores"].values())) for row in table["rows"]]
        assert cells_of(section) == [
            (title, [v and [round(x, 2) for x in v] for v in values]) for title, values in logged
        ]


def test_duets_have_the_estimates_of_the_fit():
    """The other place that states them: the table that fuse.py printed into recipes/lite/README.md."""
    page = (ROOT / "recipes/lite/README.md").read_text(encoding="utf-8")
    for row in log_of("duets")["tables"][0]["rows"]:
        if row["key"] == "blind":  # by construction
            continue
        title = "all cues" if row["key"] == "lite" else f"{row['key']} alone"
        printed = next(line for line in page.splitlines() if line.startswith(f"| {title} |"))
        found = [numbers(cell) for cell in printed.strip("|").split("|")[5:8]]
        for logged, there in zip(row["scores"].values(), found, strict=True):
            assert logged[0] == there[0]
            assert logged == pytest.approx(there, abs=0.0101)


@pytest.mark.parametrize("path", sorted(LOGS.glob("*.json")), ids=lambda path: path.stem)
def test_logs_say_where_they_come_from(path):
    log = json.loads(path.read_text(encoding="utf-8"))
    assert log["provenance"]["kind"] in ("logged", "copied")
    assert {"from", "measured_with", "note"} < set(log["provenance"])
    assert all(log[name] for name in ("data", "interval", "command"))
    for table in log["tables"]:
        for row in table["rows"]:
            assert set(row["scores"]) == set(table["columns"])
            for values in filter(None, row["scores"].values()):
                assert len(values) == 1 or values[1] <= values[0] <= values[2]


def checkout(tmp_path, text):
    """A checkout of one page and one log."""
    first, second = {"a": [0.854, 0.78, 0.912], "b": [1.0]}, {"a": None, "b": [-0.034, -1.25, 0.001]}
    rows = [
        {"key": "x", "title": "X", "bold": True, "scores": first},
        {"key": "y", "title": "Y", "bold": False, "scores": second},
    ]
    log = {"tables": [{"head": "**Head**", "columns": {"a": "A", "b": "B"}, "rows": rows}]}
    (tmp_path / "benchmarks/results/9.9").mkdir(parents=True)
    (tmp_path / "benchmarks/results/9.9/some.json").write_text(json.dumps(log))
    (tmp_path / "src/moca_avs").mkdir(parents=True)
    (tmp_path / "src/moca_avs/__init__.py").write_text('__version__ = "9.9"\n')
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(text)
    return tmp_path


def test_only_what_stands_between_the_marks_is_written(tables, tmp_path, capsys):
    start = "<!-- table:start some -->"
    root = checkout(tmp_path, f"before\n{start}\nold\n<!-- table:end -->\nafter\n")
    assert tables.main(["--check"], root) == 1
    assert "old" in (root / "README.md").read_text()
    assert tables.main([], root) == 0
    assert (root / "README.md").read_text().splitlines() == [
        *("before", start, "**Head**", "", "| | A | B |", "|---|---|---|"),
        *("| X | **.85** [.78, .91] | **1.00** |", "| Y | – | −.03 [−1.25, .00] |"),
        *("<!-- table:end -->", "after"),
    ]
    assert tables.main(["--check"], root) == 0


def test_a_table_has_the_rows_and_columns_that_its_mark_chooses(tables, tmp_path):
    mark = "<!-- table:start some columns=b rows=y,x -->"
    root = checkout(tmp_path, f"{mark}\n<!-- table:end -->\n")
    tables.main([], root)
    lines = (root / "README.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("|")] == [
        *("| | B |", "|---|---|", "| Y | −.03 [−1.25, .00] |", "| X | **1.00** |"),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("<!-- table:start some -->\n", "lacks its"),
        ("<!-- table:start none -->\n<!-- table:end -->", r"no log .*none\.json"),
        ("<!-- table:start some columns=c -->\n<!-- table:end -->", "no column c; there are a, b"),
        ("<!-- table:start some rows=z -->\n<!-- table:end -->", "no row z; there are x, y"),
    ],
)
def test_marks_that_lead_nowhere_are_refused(tables, tmp_path, text, complaint):
    with pytest.raises(SystemExit, match=complaint):
        tables.main([], checkout(tmp_path, text))
