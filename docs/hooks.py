"""What the site has besides the pages of this folder: measured results, the changelog, and names not yet on a page."""

import ast
import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def on_files(files, config):
    """Adds pages that lie elsewhere in the checkout."""
    results = sorted(RESULTS.glob("*.md"))
    for path in results:
        files.append(File.generated(config, f"results/{path.name}", content=path.read_text(encoding="utf-8")))
    rows = [f"- [{title_of(path)}]({path.name})" for path in results]
    index = "\n".join(["# Measured results", "", "Written by the programs in `benchmarks`.", "", *rows, ""])
    files.append(File.generated(config, "results/index.md", content=index))
    files.append(File.generated(config, "changelog.md", abs_src_path=str(ROOT / "CHANGELOG.md")))
    return files


def on_page_markdown(markdown, page, config, files):
    """Leads links to and from the results to their places; completes a page of the API."""
    up = "../" * page.file.src_uri.count("/")
    markdown = re.sub(r"\]\((?:\.\./)+benchmarks/results/?\)", f"]({up}results/index.md)", markdown)
    markdown = re.sub(r"\]\((?:\.\./)+benchmarks/results/", f"]({up}results/", markdown)
    if page.file.src_uri.startswith("results/"):
        markdown = markdown.replace("](../../docs/", "](../")
    room = page.meta.get("room")
    return markdown if room is None else add_missing_names(markdown, room)


def add_missing_names(markdown, room):
    """Appends each public name of a room that no `:::` line of the page has."""
    placed = re.findall(rf"^::: {re.escape(room)}\.(\w+)$", markdown, flags=re.MULTILINE)
    missing = [name for name in public_names(room) if name not in placed]
    if not missing:
        return markdown
    return "\n\n".join([markdown, "## More", *(f"::: {room}.{name}" for name in missing)])


def public_names(room):
    """The names in `__all__` of a module of the package, or its public functions; read, not imported."""
    path = ROOT.joinpath(*room.split("."))
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return ast.literal_eval(node.value)
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def title_of(path):
    """The first heading of a page."""
    return re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1]


def on_post_build(config):
    """Writes the index of the search as a script too, which a page opened from its folder may load."""
    folder = pathlib.Path(config.site_dir) / "search"
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    (folder / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")
