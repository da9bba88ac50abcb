"""A report read back: its elements, the text a person sees, and its figures."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

VOID = {"meta", "link", "br", "img", "hr", "input", "line", "rect", "circle", "path"}


class Page(HTMLParser):
    """Collects what a browser would: `elements` as (tag, attributes), `text` outside scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.text = ""
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if tag == "script":
            self.scripts.append((found, ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif not self.open or self.open[-1] != "style":
            self.text += data

    @property
    def words(self) -> str:
        """The visible text with single spaces."""
        return " ".join(self.text.split())

    @property
    def figures(self) -> dict[str, Any]:
        """Figure id -> its plotly JSON."""
        return {
            attributes["id"]: json.loads(text)
            for attributes, text in self.scripts
            if attributes.get("type") == "application/json"
        }

    def with_class(self, name: str) -> list[dict[str, str]]:
        """Attributes of the elements of a class."""
        return [found for _, found in self.elements if name in found.get("class", "").split()]
