"""The pages of the documentation: their blocks of code, links, headings and tables."""

import dataclasses
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOP = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]


@dataclasses.dataclass
class Block:
    page: "Page"
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.page.name}:{self.line}"


class Page:
    """One Markdown file."""

    def __init__(self, path):
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.lines = path.read_text().splitlines()
        self.blocks = []
        self.prose = []  # (line number, text) outside of blocks
        inside = None
        for number, line in enumerate(self.lines, 1):
            if line.startswith("```"):
                if inside is None:
                    inside = Block(self, number + 1, line[3:].strip(), "")
                    self.blocks.append(inside)
                else:
                    inside = None
            elif inside is not None:
                inside.text += line + "\n"
            else:
                self.prose.append((number, line))

    def anchors(self):
        """The anchors that GitHub gives to headings."""
        found = {}
        for _, line in self.prose:
            if heading := re.match(r"#{1,6} +(.*?) *#*$", line):
                text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
                slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
                count = found.get(slug, 0)
                found[slug] = count + 1
                yield f"{slug}-{count}" if count else slug

    def links(self):
        """(line number, target) of links, pictures, and `src` attributes."""
        # A link's text may be on the line before its target.
        text = "\n".join(line for _, line in self.prose)
        numbers = [number for number, _ in self.prose]
        without_code = re.sub(r"`[^`\n]*`", lambda code: " " * len(code[0]), text)
        for link in re.finditer(r"\]\(([^()\s]+(?:\([^()\s]*\)[^()\s]*)*)\)|src=\"([^\"]+)\"", without_code):
            yield numbers[text.count("\n", 0, link.start())], link[1] or link[2]

    def rows(self):
        """The first cell of each row of its tables."""
        for _, line in self.prose:
            if line.startswith("| ") and not line.startswith("|--"):
                yield re.split(r"(?<!\\)\|", line)[1]


def all_pages():
    paths = [ROOT / name for name in TOP] + sorted((ROOT / "docs").rglob("*.md"))
    return [Page(path) for path in paths]
