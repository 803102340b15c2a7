"""Docstrings of the package for the site: sections become lists, doctests become code, lazy names are found."""

import ast
import inspect
import re
import textwrap

import griffe

_LISTS = ("Args", "Call arguments", "Raises", "Attributes", "Warns")
_TEXTS = ("Returns", "Masking", "Numerics", "Files", "Reference", "Yields")
_HEADER = re.compile(rf"^({'|'.join([*_LISTS, *_TEXTS])}):$")


class PackageDocstrings(griffe.Extension):
    """Rewrites each docstring as Markdown, and makes names that `__getattr__` loads known to a static reader."""

    def on_instance(self, *, obj, **kwargs):
        """Rewrites one docstring."""
        if not obj.is_alias and obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)

    def on_package(self, *, pkg, **kwargs):
        """Leads each public name to its object: names of a table `_MODULES`, and those of a file of the same name."""
        for room in pkg.modules.values():
            modules = dict(room.modules)
            table = room.members.get("_MODULES")
            lazy = {} if table is None else ast.literal_eval(str(table.value))
            for name in room.exports or ():
                module = modules.get(lazy.get(name, name))
                if module is not None:
                    room.set_member(str(name), griffe.Alias(str(name), module.members[name], parent=room))


def as_markdown(docstring):
    """The docstring with its sections as bold headings over lists and its doctests in fences."""
    blocks, section = [], None
    for line in _fence_doctests(inspect.cleandoc(docstring)).splitlines():
        header = _HEADER.match(line)
        if header:
            section = (header[1], [])
            blocks.append(section)
        elif section is not None and (line.startswith("    ") or not line):
            section[1].append(line)
        else:
            section = None
            blocks.append(line)
    return "\n".join(block if isinstance(block, str) else _section(*block) for block in blocks)


def _section(name, lines):
    body = textwrap.dedent("\n".join(lines)).strip("\n")
    if name not in _LISTS:
        return f"\n**{name}**\n\n{body}\n"
    return f"\n**{'Arguments' if name == 'Args' else name}**\n\n{_items(body)}\n"


def _items(body):
    """`names: text`, continued on indented lines, as a list."""
    items = []
    for line in body.splitlines():
        if line and not line.startswith(" "):
            items.append([line])
        elif items:
            items[-1].append(line)
    return "\n".join(_item("\n".join(lines)) for lines in items)


def _item(text):
    first, *rest = re.sub(r",\n +(?=\*{0,2}\w+[,:\n])", ", ", text).split("\n")
    names = re.match(r"((?:\*{0,2}\w+)(?:, \*{0,2}\w+)*):", first)
    if names:
        code = ", ".join(f"`{name}`" for name in names[1].split(", "))
        first = f"{code}:{first[names.end() :]}"
    return "\n".join([f"- {first}", *(line and f"    {line.strip()}" for line in rest)])


def _fence_doctests(text):
    """Puts fences around each paragraph that begins with `>>>`."""
    paragraphs = re.split(r"\n{2,}", text)
    fenced = [f"```pycon\n{each}\n```" if each.startswith(">>>") else each for each in paragraphs]
    return "\n\n".join(re.sub(r"^(Example[^\n]*):$", r"**\1**", each) for each in fenced)
