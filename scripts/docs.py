"""Write the generated parts of the documentation, or check that they are fresh.

python scripts/docs.py            write
python scripts/docs.py --check    exit 1 and name the stale files
"""

from __future__ import annotations

import sys
from pathlib import Path

import asyncapi
import charts

from cloud.foundation.settings import CloudSettings
from edge.foundation.settings import EdgeSettings
from protos.kit import settings

ROOT = Path(__file__).resolve().parent.parent

HEAD = """# Settings

A setting comes from its default, from a TOML file (`--config FILE`), from the environment, or from a flag: the later
override the earlier. A wrong value is refused at the start, with its name and the reason. This page is written by
`make docs` from the code.
"""


def pages() -> dict[Path, str]:
    """Every generated page by its path."""
    text = (
        f"{HEAD}\n## The cloud: `littoral`\n\n{settings.table(CloudSettings)}\n"
        f"\n## The device: `littoral-edge`\n\n{settings.table(EdgeSettings)}\n"
    )
    return {
        ROOT / "docs" / "settings.md": text,
        ROOT / "docs" / "asyncapi.yaml": asyncapi.text(),
        **{charts.FOLDER / chart / "README.md": charts.readme(chart) for chart in charts.CHARTS},
    }


def main() -> None:
    """Write or check, by the arguments."""
    if sys.argv[1:] == ["--check"]:
        stale = [str(path.relative_to(ROOT)) for path, text in pages().items() if not _is_fresh(path, text)]
        if stale:
            sys.exit(f"stale: {', '.join(stale)}. Run: make docs")
        return
    for path, text in pages().items():
        path.write_text(text)


def _is_fresh(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    main()
