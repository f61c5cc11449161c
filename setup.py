"""What pyproject.toml cannot say: the README as a package index shows it."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

# A picture or a link, of which only those to files of the source have no scheme.
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)]*)\)")


def readme(text, address):
    """The README without links that only a checkout can follow.

    A link to a file becomes one to the repository. Without a repository, its text stays alone and
    a picture is left out.

    Args:
        text: The README, in Markdown.
        address: The address of the repository, or `None`.
    """

    def replaced(match):
        picture, name, path = match.groups()
        if address is None:
            return "" if picture else name
        kind = "raw" if picture else "blob"
        return f"{picture}[{name}]({address.rstrip('/')}/{kind}/main/{path})"

    return _LINK.sub(replaced, text)


if __name__ == "__main__":
    here = Path(__file__).parent
    project = tomllib.loads((here / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    setup(
        long_description=readme(
            (here / "README.md").read_text(encoding="utf-8"),
            project.get("urls", {}).get("Source"),
        ),
        long_description_content_type="text/markdown",
    )
