"""What a release promises is the same wherever it is stated, and the files that hosts read are valid."""

import ast
import re
import subprocess
import sys

import pytest
import yaml

import moca_avs
from helpers import TESTS
from helpers.scripts import script_module

ROOT = TESTS.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def release():
    with script_module("tools/release_check.py", "release_check") as module:
        yield module


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_version_is_the_same_everywhere(release):
    version, notes = release.consistent_version(ROOT)
    assert version == moca_avs.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert "### Fixed" in notes
    assert "## 0.1.0" not in notes


@pytest.fixture
def release_files(tmp_path):
    """A checkout whose version is 1.2.3 everywhere."""
    (tmp_path / "src/moca_avs").mkdir(parents=True)
    (tmp_path / "src/moca_avs/__init__.py").write_text('"""x."""\n__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changes\n\n## 1.2.3 - 2030-01-02\n\n### Added\n\n- a\n\n## 1.2.2 - 2029-01-01\n"
    )
    (tmp_path / "CITATION.cff").write_text('version: 1.2.3\ndate-released: "2030-01-02"\n')
    return tmp_path


def test_one_version_passes_and_gives_the_notes_of_the_tag(release, release_files):
    version, notes = release.consistent_version(release_files)
    assert (version, notes) == ("1.2.3", "### Added\n\n- a")
    assert release.tag_commands(version, notes).splitlines() == [
        "git tag --annotate v1.2.3 --cleanup=verbatim --file=- <<'NOTES'",
        *("moca-avs 1.2.3", "", "Added", "", "- a", "NOTES", "git push origin v1.2.3"),
    ]


@pytest.mark.parametrize(
    ("path", "old", "new", "complaint"),
    [
        (
            "src/moca_avs/__init__.py",
            "1.2.3",
            "1.2.4",
            "package is 1.2.4, but the first entry of CHANGELOG.md is 1.2.3",
        ),
        ("CITATION.cff", "1.2.3", "1.2.2", "CITATION.cff says 1.2.2"),
        ("CITATION.cff", "2030", "2031", "says 2030-01-02, but CITATION.cff says 2031-01-02"),
        ("CHANGELOG.md", "- 2030-01-02", "- soon", "first entry of CHANGELOG.md is 1.2.2"),
        ("CHANGELOG.md", "### Added\n\n- a\n\n", "", "no notes for 1.2.3"),
        ("CITATION.cff", "version:", "edition:", "CITATION.cff should have a line like"),
    ],
)
def test_what_contradicts_is_named(release, release_files, path, old, new, complaint):
    file = release_files / path
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(release.ReleaseError, match=complaint):
        release.consistent_version(release_files)


def test_changes_and_other_tags_keep_a_checkout_from_being_released(release, release_files):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *words], cwd=release_files, check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    release.clean_tree(release_files, "1.2.3")
    (release_files / "new.txt").touch()
    with pytest.raises(release.ReleaseError, match=r"uncommitted changes:\n\?\? new.txt"):
        release.clean_tree(release_files, "1.2.3")
    release.clean_tree(release_files, "1.2.3", allow_dirty=True)
    git("tag", "v1.2.3")
    release.clean_tree(release_files, "1.2.3", allow_dirty=True)  # a rehearsal of what the tag names
    with pytest.raises(release.ReleaseError, match=r"tagged v1\.2\.3, but the version is 1\.2\.4"):
        release.clean_tree(release_files, "1.2.4", allow_dirty=True)
    git("add", ".")
    git("commit", "-m", "two")
    with pytest.raises(release.ReleaseError, match="exists already, at another commit"):
        release.clean_tree(release_files, "1.2.3")


def test_a_command_that_fails_is_shown_with_what_it_printed(release, tmp_path):
    with pytest.raises(release.ReleaseError, match=r"failed \(3\):\nbroken\nmend it"):
        release.run([sys.executable, "-c", "import sys; print('broken'); sys.exit(3)"], tmp_path, "mend it")


def test_the_promised_pythons_are_the_tried_ones():
    """Classifiers, the least version, nox and the hosted matrix name the same versions."""
    assigned = {
        node.targets[0].id: node.value
        for node in ast.parse(read("noxfile.py")).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    tried = list(ast.literal_eval(assigned["PYTHONS"]))
    project = read("pyproject.toml")
    assert re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project) == tried
    assert f'requires-python = ">={tried[0]}"' in project
    matrix = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]["fast"]["strategy"]["matrix"]
    assert matrix["python"] == tried
    left_out = {(one["os"], one["python"]) for one in matrix["exclude"]}
    for system in matrix["os"]:  # the ends everywhere, all versions on one system
        kept = [python for python in tried if (system, python) not in left_out]
        assert kept == tried or (kept == [tried[0], tried[-1]] and system != "ubuntu-latest")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_targets_of_make_that_workflows_run_exist(path):
    makefile = read("Makefile")
    steps = [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]
    targets = re.findall(r"make ([a-z-]+)", "\n".join(step.get("run", "") for step in steps))
    assert targets
    for target in set(targets) - ({"docs"} if not (ROOT / "mkdocs.yml").exists() else set()):
        assert f"\n{target}:" in makefile, target


def test_hooks_run_what_lint_runs():
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    lint = re.search(r"^lint:.*?\n\n", read("Makefile"), re.MULTILINE | re.DOTALL)[0]
    run = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks} - {"python"}
    assert run == set(re.findall(r"\$\(BIN\)/(\w+)", lint))


SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "vendor.github-issue-forms": sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")),
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_that_hosts_read_follow_their_schema(schema):
    """The schemas that check-jsonschema ships; no network."""
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    done = subprocess.run([*command, *map(str, SCHEMAS[schema])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_broken_workflow_is_found(tmp_path):
    pytest.importorskip("check_jsonschema")
    broken = yaml.safe_load(read(".github/workflows/ci.yml"))
    broken["jobs"]["full"]["runs_on"] = broken["jobs"]["full"].pop("runs-on")
    (tmp_path / "ci.yml").write_text(yaml.safe_dump(broken))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*command, str(tmp_path / "ci.yml")], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
