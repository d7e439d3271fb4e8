"""What ``mkdocs build`` does beyond reading ``docs/``: one source for every page and every number.

- Pages that lie elsewhere in the repository (`PAGES`) are read in as they are.
- A link to any other file of the repository leads to a page that shows this file, made for it.
- Markers of `reference.expand` become tables.
- Names in code and paths in links may break after a dot or slash, and options like ``--root`` never do.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from reference import expand

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "benchmarks/RESULTS.md": "benchmarks/RESULTS.md",
    "benchmarks/TABLES.md": "benchmarks/TABLES.md",
    "benchmarks/FIVE_METHODS.md": "benchmarks/FIVE_METHODS.md",
    "recipes/lite/README.md": "recipes/lite.md",
    "recipes/lite/trials.md": "recipes/trials.md",
    "fuzz/README.md": "fuzz.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
"""File of the repository -> page of the site; what does not exist yet is left out."""
SAME = {"README.md": "index.md", "docs": "index.md"}
"""What a page of docs/ already shows."""
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?\)")
LANGUAGES = {
    ".py": "python",
    ".toml": "toml",
    ".json": "json",
    ".md": "markdown",
    ".yml": "yaml",
    ".sh": "bash",
}


def where(page: str) -> str:
    """The file of the repository that a page of the site comes from."""
    return next((file for file, uri in PAGES.items() if uri == page), f"docs/{page}")


def shown_at(file: str) -> str | None:
    """The page of the site that shows a file or folder of the repository; None where there is none."""
    if file in SAME:
        return SAME[file]
    if file in PAGES:
        return PAGES[file]
    path = ROOT / file
    if path.is_dir():
        readme = f"{file}/README.md"
        return PAGES.get(readme, f"source/{file}/files.md")
    if not path.is_file():
        return None
    return file.removeprefix("docs/") if file.startswith("docs/") else f"source/{file}.md"


def links(markdown: str, page: str) -> dict[str, str]:
    """Targets of a page's links that lie in the repository -> the file there."""
    home = posixpath.dirname(where(page))
    targets = {match[2] for match in LINK.finditer(markdown) if "://" not in match[2]}
    return {target: posixpath.normpath(posixpath.join(home, target)) for target in targets}


def source_page(file: str) -> str:
    """A page that shows a file of the repository, or lists a folder's files."""
    path = ROOT / file
    head = f"---\nsearch:\n  exclude: true\n---\n# {file}\n\n"
    if path.is_dir():
        names = sorted(one.name for one in path.iterdir() if one.is_file())
        return head + "\n".join(f"- `{name}`" for name in names) + "\n"
    language = LANGUAGES.get(path.suffix, "text")
    return f"{head}``````{language}\n{path.read_text(encoding='utf-8').rstrip()}\n``````\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere, and a page for each file that any page links to."""
    for file, uri in PAGES.items():
        if (ROOT / file).exists():
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / file)))
    wanted = {
        (file, uri)
        for page in files.documentation_pages()
        for file in links(page.content_string, page.src_uri).values()
        if (uri := shown_at(file)) is not None and uri.startswith("source/")
    }
    for file, uri in sorted(wanted):
        made = File.generated(config, uri, content=source_page(file), inclusion=InclusionLevel.NOT_IN_NAV)
        files.append(made)
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links lead to pages of the site, and put generated tables in."""
    uri = page.file.src_uri
    if uri.startswith("source/"):
        return markdown
    known = links(markdown, uri)

    def retargeted(match: re.Match[str]) -> str:
        there = shown_at(known[match[2]]) if match[2] in known else None
        if there is None:
            return match[0]
        relative = posixpath.relpath(there, posixpath.dirname(uri) or ".")
        return f"{match[1]}{relative}{match[3] or ''})"

    return expand(LINK.sub(retargeted, markdown))


def on_page_content(html: str, **_: Any) -> str:
    """Say where inline code may break: a phone's tables would otherwise cut names anywhere."""

    def breakable(match: re.Match[str]) -> str:
        words = [
            f'<span class="whole">{word}</span>'
            if word.startswith("-")
            else re.sub(r"(?<=[a-zA-Z_])[./=,](?=\w)|[0-9a-f]{16}(?=[0-9a-f])", r"\g<0><wbr>", word)
            for word in match[1].split(" ")
        ]
        return f"<code>{' '.join(words)}</code>"

    html = re.sub(r"(?<=>)[\w/]+\.py(?=</a>)", lambda path: path[0].replace("/", "/<wbr>"), html)
    return re.sub(r"<code>([^<\n]+)</code>", breakable, html)
